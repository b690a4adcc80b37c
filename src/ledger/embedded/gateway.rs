//! The record of the one gateway, in a file beside the journal. The journal does not have it: it
//! is replaced every few seconds, and a lost one costs a chart, not a callback.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::ledger::{GatewayRecord, GatewaySlot, LedgerError};
use crate::private;

const NAME: &str = "gateway";
const MAGIC: &[u8; 4] = b"PGW1";
/// Bytes before the content: the magic and a checksum.
const HEAD: usize = 8;

/// The record in `folder`. A file that is missing or torn is an empty record.
pub(super) fn read(folder: &Path) -> Result<GatewayRecord, LedgerError> {
    let body = match fs::read(path(folder)) {
        Ok(bytes) => checked(&bytes).unwrap_or_default(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Bytes::new(),
        Err(error) => return Err(failed(&error)),
    };
    Ok(GatewayRecord { slot: GatewaySlot(0), is_live: false, body })
}

/// Replaces the record in `folder`; there are no others.
pub(super) fn write(folder: &Path, body: &[u8]) -> Result<Vec<GatewayRecord>, LedgerError> {
    let draft = folder.join("gateway.new");
    let replace = || {
        let mut file = private::create(&draft)?;
        file.write_all(MAGIC)?;
        file.write_all(&crc32fast::hash(body).to_le_bytes())?;
        file.write_all(body)?;
        fs::rename(&draft, path(folder))
    };
    replace().map(|()| Vec::new()).map_err(|error| failed(&error))
}

fn path(folder: &Path) -> PathBuf {
    folder.join(NAME)
}

fn checked(bytes: &[u8]) -> Option<Bytes> {
    let (head, body) = bytes.split_at_checked(HEAD)?;
    let sum = crc32fast::hash(body).to_le_bytes();
    (head[..4] == *MAGIC && head[4..] == sum).then(|| Bytes::copy_from_slice(body))
}

fn failed(error: &io::Error) -> LedgerError {
    LedgerError::Unavailable(format!("the file {NAME}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_record_is_an_empty_one() {
        let folder = tempfile::tempdir().unwrap();
        let body = |folder: &Path| read(folder).unwrap().body;
        assert_eq!(body(folder.path()), "");
        write(folder.path(), b"counts").unwrap();
        assert_eq!(body(folder.path()), "counts");
        let whole = fs::read(path(folder.path())).unwrap();
        for cut in 0..whole.len() {
            fs::write(path(folder.path()), &whole[..cut]).unwrap();
            assert_eq!(body(folder.path()), "", "{cut}");
        }
    }
}
