//! Any bytes as an export and as a chunk of one: damage is an error, and what is read is written as it was read.

use postern::ledger::{ExportReader, Item, Keyring};

/// Runs the target on one input.
pub fn run(data: &[u8]) {
    if let Ok(mut reader) = ExportReader::begin(data, &Keyring::default()) {
        let mut items = 0;
        while let Ok(Some(chunk)) = reader.chunk() {
            check(&chunk);
            items += chunk.len() as u64;
        }
        assert_eq!(reader.items(), items);
    }
    if let Ok(chunk) = Item::decode(data) {
        check(&chunk);
    }
}

fn check(items: &[Item]) {
    let written = Item::encode(items);
    assert_eq!(Item::decode(&written).as_deref(), Ok(items), "written as it was read");
}
