//! The token of this machine, created at the first start and kept in a file that its owner alone can
//! read, where the command line finds it. The admin API accepts it beside the configured tokens.
//! Where none is configured, which is only on loopback, looking needs no token; what changes
//! something or reads secrets out needs this one.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::config::{AdminRight, AdminToken, SourceScope};
use crate::private;
use crate::sender::Secret;

/// Its name in the configuration's sense. The audit log says `local`, as for everything that comes
/// from this machine.
const NAME: &str = "local";

/// Random bytes of a token.
const TOKEN_BYTES: usize = 32;

/// Characters under which a file's content is not taken for a token.
const CHARACTERS_MIN: usize = 2 * TOKEN_BYTES;

/// The token of this machine, read or created when it is first asked for.
#[derive(Debug)]
pub struct LocalToken {
    file: PathBuf,
    token: OnceLock<Option<AdminToken>>,
}

impl LocalToken {
    /// The token that `file` holds, or will hold.
    #[must_use]
    pub fn new(file: &Path) -> Self {
        Self { file: file.to_owned(), token: OnceLock::new() }
    }

    /// Where it is kept.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The tokens that count where `configured` are: those, or the machine's own where there is
    /// none.
    pub fn or<'t>(&'t self, configured: &'t [AdminToken]) -> &'t [AdminToken] {
        match configured {
            [] => self.own(configured).map_or(&[], std::slice::from_ref),
            configured => configured,
        }
    }

    /// The machine's own token, beside those that are `configured`; nothing if its file cannot be
    /// created, which is a problem only where it is the only token.
    pub fn own(&self, configured: &[AdminToken]) -> Option<&AdminToken> {
        self.token.get_or_init(|| self.make(configured)).as_ref()
    }

    /// Whether `token` is this one.
    #[must_use]
    pub fn is(&self, token: &AdminToken) -> bool {
        self.token.get().and_then(Option::as_ref).is_some_and(|own| own.value == token.value)
    }

    fn make(&self, configured: &[AdminToken]) -> Option<AdminToken> {
        let made = read(&self.file).or_else(|_| create(&self.file));
        let file = self.file.display();
        match made {
            Ok(token) => Some(token),
            Err(error) if !configured.is_empty() => {
                tracing::debug!(%error, %file, "could not create the local admin token");
                None
            }
            Err(error) => {
                let remedy = "set admin.token, or make the folder writable";
                tracing::warn!(%error, %file, remedy, "could not create the local admin token");
                None
            }
        }
    }
}

/// Reads the token of a gateway's machine.
///
/// # Errors
/// When the file does not exist or cannot be read, holds no token, or could be read by others.
pub fn read(file: &Path) -> io::Result<AdminToken> {
    let invalid = |why| io::Error::new(io::ErrorKind::InvalidData, why);
    if fs::metadata(file)?.mode() & 0o077 != 0 {
        return Err(invalid("others could read the token"));
    }
    let text = fs::read_to_string(file)?;
    let token = text.trim();
    if token.len() < CHARACTERS_MIN || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(invalid("the file does not hold a token"));
    }
    Ok(of(token))
}

/// Creates a token in `file`, in place of one that does not count.
fn create(file: &Path) -> io::Result<AdminToken> {
    let mut random = [0; TOKEN_BYTES];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    let token = const_hex::encode(random);
    let folder = file.parent().unwrap_or(Path::new("."));
    if !folder.is_dir() {
        private::create_folder(folder)?;
    }
    let part = file.with_extension("part");
    let mut written = private::create(&part)?;
    writeln!(written, "{token}")?;
    written.sync_all()?;
    fs::rename(&part, file)?;
    Ok(of(&token))
}

fn of(token: &str) -> AdminToken {
    let name = NAME.to_owned();
    AdminToken {
        name,
        value: Secret::new(token),
        right: AdminRight::Admin,
        scope: SourceScope::All,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn one_is_created_kept_and_replaced_where_others_could_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("data/admin-token");
        let local = LocalToken::new(&file);
        let [token] = local.or(&[]) else { panic!("no token") };
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(file.parent().unwrap()).unwrap().mode() & 0o777, 0o700);
        assert_eq!(read(&file).unwrap().value, token.value);
        assert!(local.is(token));
        let again = LocalToken::new(&file);
        assert_eq!(again.or(&[])[0].value, token.value, "the next start has the same");

        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(read(&file).is_err());
        let other = LocalToken::new(&file);
        assert_ne!(other.or(&[])[0].value, token.value, "others may know the first");
        fs::write(&file, "short").unwrap();
        assert!(read(&file).is_err());
        let configured = [of(&"c".repeat(64))];
        assert_eq!(local.or(&configured)[0].value, configured[0].value);
        assert_eq!(local.own(&configured).unwrap().value, token.value, "the command line's");
    }
}
