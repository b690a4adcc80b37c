//! Tests of the embedded engine as a whole.

use std::sync::Mutex as StdMutex;

use tempfile::TempDir;

use super::*;
use crate::ledger::conformance;

/// Small segments, so that a test meets many.
fn options(dir: &TempDir, clock: StoreClock) -> EmbeddedOptions {
    let mut options = EmbeddedOptions::new(dir.path());
    options.segment_bytes = 64 << 10;
    options.clock = clock;
    options
}

#[tokio::test]
async fn the_embedded_engine_conforms() {
    let dirs = StdMutex::new(Vec::new());
    conformance::all(|clock| {
        let dir = TempDir::new().unwrap();
        let ledger = Embedded::open(options(&dir, clock)).unwrap();
        dirs.lock().unwrap().push(dir);
        ledger
    })
    .await;
}
