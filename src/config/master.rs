//! Master keys, which no configuration file holds: a backup of the file must not open a backup of
//! the store.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Input;
use crate::sender::Secret;

/// The variable with the key that the ledger and its exports are sealed with.
pub const MASTER_KEY: &str = "POSTERN_MASTER_KEY";

/// The variable with the previous key. Data sealed with it can be read, and `postern rekey`
/// re-seals the data.
pub const OLD_MASTER_KEY: &str = "POSTERN_OLD_MASTER_KEY";

/// Bytes of a master key.
pub const MASTER_KEY_BYTES: usize = 32;

/// The key in the variable `name`: 32 bytes in base64 or hex, or `file:PATH` of a file that holds
/// them so. Nothing where the variable is not set.
///
/// # Errors
/// The error, in a text that reveals nothing of the key.
pub fn master_key(input: &dyn Input, name: &str) -> Result<Option<Secret>, String> {
    let Some(value) = input.variable(name) else { return Ok(None) };
    let text = match value.strip_prefix(b"file:") {
        Some(path) => {
            let path = String::from_utf8_lossy(path).into_owned();
            let read = input.read(Path::new(&path));
            Secret::new(read.map_err(|error| format!("{path} cannot be read: {error}"))?.bytes)
        }
        None => Secret::new(value),
    };
    let text = text.expose().trim_ascii();
    let bytes = match text.len() {
        64 => const_hex::decode(text).ok(),
        _ => STANDARD.decode(text).ok(),
    };
    match bytes.map(Secret::new).filter(|key| key.expose().len() == MASTER_KEY_BYTES) {
        Some(key) => Ok(Some(key)),
        None => Err(String::from("is not 32 bytes in base64 or hex")),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io;

    use super::*;
    use crate::config::{Access, Contents};

    #[derive(Debug)]
    struct Variables(BTreeMap<&'static str, String>);

    impl Input for Variables {
        fn variable(&self, name: &str) -> Option<Vec<u8>> {
            self.0.get(name).map(|value| value.clone().into_bytes())
        }

        fn read(&self, path: &Path) -> io::Result<Contents> {
            let known = path == Path::new("/run/key");
            let bytes = "ab".repeat(32).into_bytes();
            let found = known.then_some(Contents { bytes, access: Access::Narrow });
            found.ok_or_else(|| io::ErrorKind::NotFound.into())
        }

        fn now_ms(&self) -> i64 {
            0
        }
    }

    fn key(text: &str) -> Result<Option<Secret>, String> {
        master_key(&Variables([(MASTER_KEY, text.to_owned())].into()), MASTER_KEY)
    }

    #[test]
    fn a_key_is_base64_or_hex_or_in_a_file() {
        let expected = [0xab; 32];
        let base64 = "q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s=\n";
        for text in ["ab".repeat(32).as_str(), base64, "file:/run/key"] {
            assert_eq!(key(text).unwrap().unwrap().expose(), expected, "{text}");
        }
        assert_eq!(master_key(&Variables([].into()), MASTER_KEY), Ok(None));
    }

    #[test]
    fn what_is_none_is_refused_and_not_shown() {
        for text in ["", "password", &"ab".repeat(31), &"zz".repeat(32), "file:/nowhere"] {
            let what = key(text).unwrap_err();
            assert!(text.is_empty() || !what.contains(text), "{what}");
        }
    }
}
