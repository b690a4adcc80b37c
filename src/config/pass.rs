//! One pass over a configuration: what it may read, what it has read, and what it found.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::ops::Range;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::ConfigIssue;
use super::limits::FILE_BYTES_MAX;
use crate::clock::{self, UnixMillis};
use crate::sender::Secret;

/// The inputs of a configuration besides its own text. Tests feed maps.
pub trait Input: fmt::Debug + Send + Sync {
    /// The environment variable `name`.
    fn variable(&self, name: &str) -> Option<Vec<u8>>;

    /// The file at `path`.
    ///
    /// # Errors
    /// The file is missing, may not be read, or is larger than any configuration.
    fn read(&self, path: &Path) -> io::Result<Contents>;

    /// The time, for secrets that end.
    fn now_ms(&self) -> UnixMillis;

    /// Files that [`Self::variable`] reads too, in the order of their precedence.
    fn env_files(&self) -> &[PathBuf] {
        &[]
    }
}

/// A file that was read.
#[derive(Clone, Debug)]
pub struct Contents {
    /// All of it.
    pub bytes: Vec<u8>,
    /// The others that may read or change it.
    pub access: Access,
}

/// The users besides its owner that may read or change a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Only its group, which may only read.
    Narrow,
    /// Every user may read it, or its group may change it.
    Wide,
}

/// The environment, the files and the clock of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Machine;

impl Input for Machine {
    fn variable(&self, name: &str) -> Option<Vec<u8>> {
        std::env::var_os(OsStr::new(name)).map(OsStringExt::into_vec)
    }

    fn read(&self, path: &Path) -> io::Result<Contents> {
        // Opening a pipe waits for a writer, perhaps for ever.
        if !std::fs::metadata(path)?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
        }
        let file = File::open(path)?;
        let mode = file.metadata()?.permissions().mode();
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than 4 MiB"));
        }
        let access = if mode & OPEN_TO_OTHERS == 0 { Access::Narrow } else { Access::Wide };
        Ok(Contents { bytes, access })
    }

    fn now_ms(&self) -> UnixMillis {
        clock::now_ms()
    }
}

/// Write for the group; read, write and search for everybody.
const OPEN_TO_OTHERS: u32 = 0o027;

/// The files that a configuration was made of, each with the digest of what it held. A file that
/// could not be read is among them, so that its coming is a change.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Files(BTreeMap<PathBuf, Option<[u8; 32]>>);

/// Only the paths: a short secret can be found from its digest.
impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Files {
    /// Their paths.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.0.keys().map(PathBuf::as_path)
    }

    /// Adds `others`.
    pub(crate) fn add(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    /// The same files as they are now. It is their content that is compared, so that a new file
    /// put in the old one's place and a link that is turned to another folder are changes, and a
    /// touch is none.
    #[must_use]
    pub fn now(&self, input: &dyn Input) -> Self {
        Self(self.0.keys().map(|path| (path.clone(), digest(&input.read(path)))).collect())
    }
}

fn digest(read: &io::Result<Contents>) -> Option<[u8; 32]> {
    read.as_ref().ok().map(|contents| Sha256::digest(&contents.bytes).into())
}

/// The writer of what a pass goes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Writer {
    /// The operator: variables and files are read for them.
    Operator,
    /// A client of an API, for whom nothing of this machine is read.
    Remote,
    /// The same, long ago: the store has it, and it goes on as it is.
    Store,
}

/// Whether a secret may be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secrets {
    /// Every secret that the file refers to has to be there.
    Required,
    /// A source, destination or token whose secret is missing is omitted: the command verifies and
    /// delivers nothing.
    Optional,
}

/// One pass over a configuration.
#[derive(Debug)]
pub(crate) struct Pass<'a> {
    input: &'a dyn Input,
    file: PathBuf,
    writer: Writer,
    secrets: Secrets,
    /// Offsets at which lines begin.
    lines: Vec<usize>,
    read: RefCell<Files>,
    faults: RefCell<Vec<ConfigIssue>>,
    warnings: RefCell<Vec<ConfigIssue>>,
    missing: RefCell<Vec<ConfigIssue>>,
    advice: RefCell<Vec<ConfigIssue>>,
    /// The places of secrets that the file itself holds.
    in_clear: RefCell<Vec<ConfigIssue>>,
}

/// The result of a pass.
#[derive(Debug)]
pub(crate) struct ConfigIssues {
    pub(crate) files: Files,
    pub(crate) faults: Vec<ConfigIssue>,
    pub(crate) warnings: Vec<ConfigIssue>,
    /// Secrets that are missing and optional.
    pub(crate) missing: Vec<ConfigIssue>,
    pub(crate) advice: Vec<ConfigIssue>,
}

impl<'a> Pass<'a> {
    /// A pass over `text`, which is what `file` holds.
    pub(crate) fn new(input: &'a dyn Input, file: &Path, text: &str) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Self {
            input,
            file: file.to_owned(),
            writer: Writer::Operator,
            secrets: Secrets::Required,
            lines: std::iter::once(0).chain(breaks.map(|(at, _)| at + 1)).collect(),
            read: RefCell::default(),
            faults: RefCell::default(),
            warnings: RefCell::default(),
            missing: RefCell::default(),
            advice: RefCell::default(),
            in_clear: RefCell::default(),
        }
    }

    /// The same, in which secrets are as needed as `secrets` says.
    pub(crate) fn with_secrets(self, secrets: Secrets) -> Self {
        Self { secrets, ..self }
    }

    /// The same, over what another `writer` wrote.
    pub(crate) fn written_by(self, writer: Writer) -> Self {
        Self { writer, ..self }
    }

    /// Its writer.
    pub(crate) fn writer(&self) -> Writer {
        self.writer
    }

    /// Whether a secret may be missing.
    pub(crate) fn secrets(&self) -> Secrets {
        self.secrets
    }

    /// Files of variables.
    pub(crate) fn env_files(&self) -> &'a [PathBuf] {
        self.input.env_files()
    }

    /// The environment variable `name`.
    pub(crate) fn variable(&self, name: &str) -> Option<Vec<u8>> {
        self.input.variable(name)
    }

    /// The master key in the variable `name`.
    pub(crate) fn master_key(&self, name: &str) -> Result<Option<Secret>, String> {
        super::master_key(self.input, name)
    }

    /// The file at `path`, which is watched from now on.
    pub(crate) fn contents(&self, path: &Path) -> io::Result<Contents> {
        let contents = self.input.read(path);
        self.read.borrow_mut().0.insert(path.to_owned(), digest(&contents));
        contents
    }

    /// `path`, resolved against the configuration file's directory.
    pub(crate) fn beside(&self, path: &str) -> PathBuf {
        self.file.parent().unwrap_or(Path::new("")).join(path)
    }

    /// The time of the pass.
    pub(crate) fn now_ms(&self) -> UnixMillis {
        self.input.now_ms()
    }

    /// The line of the configuration file that `span` begins in.
    pub(crate) fn line(&self, span: &Range<usize>) -> usize {
        self.lines.partition_point(|start| *start <= span.start)
    }

    /// The column in its line that `span` begins at, in bytes.
    pub(crate) fn column(&self, span: &Range<usize>) -> usize {
        let line = self.line(span);
        span.start - self.lines.get(line - 1).copied().unwrap_or(0) + 1
    }

    /// The configuration file, as it was named.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// Records an error.
    pub(crate) fn fault(&self, finding: ConfigIssue) {
        self.faults.borrow_mut().push(finding);
    }

    /// Records a secret that is missing: an error unless secrets are optional.
    pub(crate) fn missing(&self, finding: ConfigIssue) {
        match self.secrets {
            Secrets::Required => self.fault(finding),
            Secrets::Optional => self.missing.borrow_mut().push(finding),
        }
    }

    /// Records a warning.
    pub(crate) fn warning(&self, finding: ConfigIssue) {
        self.warnings.borrow_mut().push(finding);
    }

    /// Records a warning for those who check the file.
    pub(crate) fn advice(&self, finding: ConfigIssue) {
        self.advice.borrow_mut().push(finding);
    }

    /// Records the place of a secret that is written in the file.
    pub(crate) fn note_in_clear(&self, place: ConfigIssue) {
        let mut places = self.in_clear.borrow_mut();
        if !places.contains(&place) {
            places.push(place);
        }
    }

    /// The places of the secrets that are written in the file.
    pub(crate) fn in_clear(&self) -> Vec<ConfigIssue> {
        self.in_clear.borrow().clone()
    }

    /// Whether an error was found at `key` or inside it, or a secret is missing there.
    pub(crate) fn is_faulty(&self, key: &str) -> bool {
        let inside = |rest: &str| rest.is_empty() || rest.starts_with(['.', '[']);
        let (faults, missing) = (self.faults.borrow(), self.missing.borrow());
        let mut all = faults.iter().chain(missing.iter());
        all.any(|fault| fault.key.strip_prefix(key).is_some_and(inside))
    }

    /// Everything found, in the order of the file.
    pub(crate) fn into_findings(self) -> ConfigIssues {
        let ordered = |found: RefCell<Vec<ConfigIssue>>| {
            let mut found = found.into_inner();
            found.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
            found
        };
        ConfigIssues {
            files: self.read.into_inner(),
            faults: ordered(self.faults),
            warnings: ordered(self.warnings),
            missing: ordered(self.missing),
            advice: ordered(self.advice),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_are_counted_from_one() {
        let pass = Pass::new(&Machine, Path::new("x.toml"), "a\nbc\n\nd");
        let places = [0, 1, 2, 3, 5, 6].map(|at| (pass.line(&(at..at)), pass.column(&(at..at))));
        assert_eq!(places, [(1, 1), (1, 2), (2, 1), (2, 2), (3, 1), (4, 1)]);
    }

    #[test]
    fn a_file_counts_as_changed_by_its_content_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, "one").unwrap();
        let pass = Pass::new(&Machine, Path::new("x.toml"), "");
        pass.contents(&path).unwrap();
        let files = pass.into_findings().files;
        std::fs::write(&path, "one").unwrap();
        assert_eq!(files.now(&Machine), files);
        std::fs::write(&path, "two").unwrap();
        assert_ne!(files.now(&Machine), files);
        std::fs::remove_file(&path).unwrap();
        assert_ne!(files.now(&Machine), files);
    }

    #[test]
    fn what_is_no_file_is_neither_waited_for_nor_read_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        for path in [&*pipe, folder.path(), Path::new("/dev/zero")] {
            let error = Machine.read(path).unwrap_err();
            assert_eq!(error.to_string(), "it is not a regular file", "{}", path.display());
        }
    }

    #[test]
    fn a_file_that_is_too_large_is_not_read_to_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("large");
        File::create(&path).unwrap().set_len(FILE_BYTES_MAX + 1).unwrap();
        assert_eq!(Machine.read(&path).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn a_file_that_everybody_may_read_is_wide() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, "one").unwrap();
        let access = |mode| {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            Machine.read(&path).unwrap().access
        };
        assert_eq!([0o600, 0o640, 0o400].map(access), [Access::Narrow; 3]);
        assert_eq!([0o644, 0o660, 0o604].map(access), [Access::Wide; 3]);
    }
}
