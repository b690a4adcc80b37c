//! Files for one account alone: modes, the owner of a folder, and what the process leaves behind.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::Path;

use rustix::process::{DumpableBehavior, Resource, Rlimit};

/// The mode of a file: its owner reads and writes.
pub const FILE_MODE: u32 = 0o600;

/// The mode of a folder: its owner alone enters.
pub const FOLDER_MODE: u32 = 0o700;

/// Everything that others could do.
const OTHERS: u32 = 0o077;

/// Where systemd keeps the state of units with a dynamic account: root alone can enter it.
const DYNAMIC_STATE: &str = "/var/lib/private";

/// Makes everything that this process creates from now on private, also files of libraries.
/// Replaces the mask that the process was started with.
pub fn mask_new_files() {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(OTHERS));
}

/// Keeps the memory, where secrets and the master key are, out of core files and debuggers.
///
/// # Errors
/// When the system refuses it.
pub fn forbid_core_dumps() -> io::Result<()> {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::setrlimit(Resource::Core, none)?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}

/// Options that create a file which no other user can open. An existing file keeps its mode.
#[must_use]
pub fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(FILE_MODE);
    options
}

/// Creates a new file that no other user can open.
///
/// # Errors
/// When it exists, or cannot be created.
pub fn create_new(path: &Path) -> io::Result<File> {
    options().read(true).write(true).create_new(true).open(path)
}

/// Creates a file, or empties one, that no other user can open from then on.
///
/// # Errors
/// When it cannot be created, or belongs to another user.
pub fn create(path: &Path) -> io::Result<File> {
    let file = options().write(true).create(true).truncate(true).open(path)?;
    file.set_permissions(Permissions::from_mode(FILE_MODE))?;
    Ok(file)
}

/// Creates a folder that no other user can enter.
///
/// # Errors
/// When it exists, or cannot be created.
pub fn create_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(FOLDER_MODE).create(path)
}

/// Takes away what others could do with a folder and with everything in it, as far as it is this
/// account's to decide: earlier versions left that to the mask.
///
/// # Errors
/// When the folder cannot be read.
pub fn tighten(folder: &Path) -> io::Result<()> {
    close(folder, &fs::metadata(folder)?);
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // Links are left alone: what they lead to is not in the folder.
        let Ok(known) = entry.metadata() else { continue };
        if known.is_dir() {
            tighten(&entry.path())?;
        } else if known.is_file() {
            close(&entry.path(), &known);
        }
    }
    Ok(())
}

fn close(path: &Path, known: &fs::Metadata) {
    let is_ours = known.uid() == rustix::process::geteuid().as_raw();
    if is_ours && known.mode() & OTHERS != 0 {
        // A file system without modes has none to take away.
        let _ = fs::set_permissions(path, Permissions::from_mode(known.mode() & 0o7700));
    }
}

/// Whether files that this process created in the folder at `path` could be opened by its owner.
///
/// # Errors
/// A sentence with the line that does it right.
pub fn check_owner(path: &Path) -> Result<(), String> {
    let folder = path.display();
    let known = match fs::metadata(path) {
        Ok(known) => known,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Err(format!(
                "{folder} cannot be reached by this account; run this as the gateway's account, or \
                 as root"
            ));
        }
        // What is missing belongs to no other account.
        Err(_) => return Ok(()),
    };
    let (own, owner) = (rustix::process::geteuid().as_raw(), known.uid());
    let line = || format!("run: {}", line_as(owner, path));
    match own {
        _ if own == owner => Ok(()),
        0 => Err(format!(
            "{folder} belongs to {}, and this is root: the gateway could not open what it wrote; {}",
            account(owner),
            line()
        )),
        _ => match fs::read_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(format!(
                "{folder} belongs to {}, and cannot be read; {}",
                account(owner),
                line()
            )),
            // A group that the folder is shared with, as in a pod.
            _ => Ok(()),
        },
    }
}

/// This command as the `owner` of the folder at `path` runs it.
fn line_as(owner: u32, path: &Path) -> String {
    let line = line_of(std::env::args());
    // The account of a systemd unit with DynamicUser= exists only while a unit of that name runs.
    let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let unit = real.strip_prefix(DYNAMIC_STATE).ok().and_then(|inner| inner.iter().next());
    match unit.and_then(|unit| unit.to_str()) {
        Some(unit) => format!(
            "systemd-run --quiet --pipe --wait -p DynamicUser=yes -p User={unit} \
             -p StateDirectory={unit} -p EnvironmentFile=-/etc/{unit}/{unit}.env {line}"
        ),
        None => format!("sudo -u {} {line}", account(owner)),
    }
}

/// The name of an account as `sudo -u` takes it.
fn account(uid: u32) -> String {
    let known = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = known.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, _, id) = (fields.next()?, fields.next()?, fields.next()?);
        (id.parse() == Ok(uid)).then(|| name.to_owned())
    });
    name.unwrap_or_else(|| format!("'#{uid}'"))
}

/// A command line as it can be typed again. The shell opens the file of `--output`: another account
/// could not write where this one can.
fn line_of(words: impl Iterator<Item = String>) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./=:,@%+".contains(&byte);
    let quoted = |word: String| match !word.is_empty() && word.bytes().all(plain) {
        true => word,
        false => format!("'{}'", word.replace('\'', r"'\''")),
    };
    let (mut line, mut output) = (Vec::new(), None);
    let mut words = words.peekable();
    while let Some(word) = words.next() {
        let is_file = |value: &str| !value.starts_with("s3://");
        if let Some(value) = word.strip_prefix("--output=").filter(|value| is_file(value)) {
            output = Some(value.to_owned());
        } else if word == "--output" && words.peek().is_some_and(|value| is_file(value)) {
            output = words.next();
        } else {
            line.push(quoted(word));
        }
    }
    line.extend(output.map(|file| format!("> {}", quoted(file))));
    line.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn what_is_created_is_private_and_what_was_open_is_closed() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        drop(create_new(&at("new")).unwrap());
        assert_eq!(mode(&at("new")), FILE_MODE);
        create_folder(&at("inner")).unwrap();
        assert_eq!(mode(&at("inner")), FOLDER_MODE);
        fs::write(at("inner/old"), "x").unwrap();
        fs::set_permissions(at("inner/old"), Permissions::from_mode(0o644)).unwrap();
        fs::set_permissions(at("inner"), Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", at("link")).unwrap();
        tighten(folder.path()).unwrap();
        assert_eq!((mode(&at("inner")), mode(&at("inner/old"))), (FOLDER_MODE, FILE_MODE));
        assert_eq!(mode(Path::new("/etc/passwd")), 0o644);
        fs::set_permissions(at("new"), Permissions::from_mode(0o666)).unwrap();
        drop(create(&at("new")).unwrap());
        assert_eq!(mode(&at("new")), FILE_MODE);
    }

    #[test]
    fn a_folder_of_ones_own_is_fine_and_a_line_can_be_typed_again() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(check_owner(folder.path()), Ok(()));
        assert_eq!(check_owner(Path::new("/nowhere/at/all")), Ok(()));
        assert_eq!(account(0), "root");
        let of_unit = line_as(62_000, Path::new("/var/lib/private/postern/data"));
        assert!(of_unit.contains("-p User=postern -p StateDirectory=postern "), "{of_unit}");
        assert_eq!(account(4_000_000_001), "'#4000000001'");
        let words = ["postern", "verify", "--config", "a b's.toml"].map(String::from);
        assert_eq!(line_of(words.into_iter()), r"postern verify --config 'a b'\''s.toml'");
        let line = |words: &str| line_of(words.split(' ').map(String::from));
        let redirected = "postern export -c p.toml > x.export";
        assert_eq!(line("postern export --output x.export -c p.toml"), redirected);
        assert_eq!(line("postern export --output=x.export -c p.toml"), redirected);
        let upload = "postern export --output s3://backups/x.export";
        assert_eq!(line(upload), upload);
    }
}
