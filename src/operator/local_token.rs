//! The token of this machine, created at the first start and kept in a file that its owner alone can
//! read, where the command line finds it. The admin API accepts it beside the configured tokens, from
//! this machine alone. Where none is configured, which is only on loopback, looking needs no token;
//! what changes something or reads secrets out needs this one.
//!
//! What the file holds counts, not what was written there: remove the file and start the gateway for
//! another token. Gateways that share a folder share the token.

use std::borrow::Cow;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

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

/// The token of this machine.
#[derive(Debug)]
pub struct LocalToken {
    file: PathBuf,
}

impl LocalToken {
    /// The token that `file` holds, or will hold.
    #[must_use]
    pub fn new(file: &Path) -> Self {
        Self { file: file.to_owned() }
    }

    /// Where it is kept.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The tokens that count where `configured` are: those, or the machine's own where there is
    /// none.
    #[must_use]
    pub fn or<'t>(&self, configured: &'t [AdminToken]) -> Cow<'t, [AdminToken]> {
        match configured {
            [] => Cow::Owned(self.own().into_iter().collect()),
            configured => Cow::Borrowed(configured),
        }
    }

    /// The machine's own token; `None`: its file does not exist, holds none, or could be read by
    /// others.
    #[must_use]
    pub fn own(&self) -> Option<AdminToken> {
        read(&self.file).ok()
    }

    /// Creates the token unless there is one. If it cannot be created, that is a problem only where no
    /// token is `configured`.
    pub fn ensure(&self, configured: &[AdminToken]) {
        let Err(error) = read(&self.file).map(drop).or_else(|_| create(&self.file)) else { return };
        let file = self.file.display();
        match configured {
            [] => {
                let remedy = "set admin.token, or make the folder writable";
                tracing::warn!(%error, %file, remedy, "could not create the local admin token");
            }
            _ => tracing::debug!(%error, %file, "could not create the local admin token"),
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

/// Creates a token in `file`, in place of the one that it holds.
fn create(file: &Path) -> io::Result<()> {
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
    fs::rename(&part, file)
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
    fn the_first_start_creates_one_that_its_owner_alone_can_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("data/admin-token");
        let local = LocalToken::new(&file);
        assert!(local.own().is_none() && local.or(&[]).is_empty(), "nothing has started yet");
        local.ensure(&[]);
        let first = local.own().unwrap();
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(file.parent().unwrap()).unwrap().mode() & 0o777, 0o700);
        assert_eq!(read(&file).unwrap().value, first.value, "the command line's");
        assert_eq!(local.or(&[])[0].value, first.value);
        let configured = [of(&"c".repeat(64))];
        assert_eq!(local.or(&configured)[0].value, configured[0].value);

        // Another gateway of the same folder, or the next start of this one.
        LocalToken::new(&file).ensure(&configured);
        assert_eq!(local.own().unwrap().value, first.value);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(local.own().is_none(), "others may know it");
        local.ensure(&[]);
        assert_ne!(local.own().unwrap().value, first.value);
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        fs::write(&file, "short").unwrap();
        assert!(local.own().is_none());
    }
}
