//! Files that are missing, and the lock that holds without its file.

use super::damage::Store;
use super::*;
use crate::ledger::{KeepKeys, SourceId};

fn refused(store: &Store) -> String {
    let error = store.open().unwrap_err();
    assert!(matches!(error, LedgerError::Corrupt(_)), "{error}");
    error.to_string()
}

fn rebuild(store: &Store, missing: Missing) -> Result<u64, LedgerError> {
    Embedded::rebuild(store.options(), missing)
}

/// Events that the store has, and how many of all are duplicates of themselves.
async fn known(store: &Store) -> (u64, usize) {
    let ledger = store.open().unwrap();
    let events = ledger.stats().await.unwrap().events;
    let (mut known, mut now) = (0, events);
    for event in &store.events {
        let again = ledger.accept(std::slice::from_ref(event)).await.unwrap();
        // Its own id is fresh whether it is known or not.
        assert_eq!(again, [Accepted::New]);
        let before = std::mem::replace(&mut now, ledger.stats().await.unwrap().events);
        known += usize::from(now == before);
    }
    (events, known)
}

#[tokio::test]
async fn a_missing_segment_is_refused_with_the_remedy_wherever_it_was() {
    let store = Store::new().await;
    let paths = segments(&store.dir);
    let last = paths.len() - 1;
    for at in [0, 1, last] {
        let hidden = store.dir.path().join("hidden");
        fs::rename(&paths[at], &hidden).unwrap();
        let error = refused(&store);
        assert!(error.contains(&format!("segments are missing: {at};")), "{error}");
        assert!(error.contains("backup") && error.contains("--salvage"), "{error}");
        // No rebuild goes on over a gap.
        assert_eq!(error.contains("--accept-missing"), at != 1, "{error}");
        let survey = Embedded::verify(&store.options()).unwrap();
        assert!(!survey.is_whole(), "{at}");
        assert!(rebuild(&store, Missing::Refuse).is_err());
        fs::rename(&hidden, &paths[at]).unwrap();
        assert_eq!(store.open().unwrap().health().await.unwrap().mended, [""; 0]);
    }
}

#[tokio::test]
async fn a_missing_journal_is_refused_beside_a_manifest_and_beside_an_index() {
    let store = Store::new().await;
    let journal = core::journal_dir(store.dir.path());
    let hidden = store.dir.path().join("hidden");
    fs::rename(&journal, &hidden).unwrap();
    assert!(Embedded::is_in(store.dir.path()));
    for _ in 0..2 {
        let error = refused(&store);
        assert!(error.contains("segments are missing: 0 to "), "{error}");
        assert!(error.contains("mount the volume"), "{error}");
        for missing in [Missing::Refuse, Missing::Accept] {
            assert!(rebuild(&store, missing).is_err(), "an empty store is not begun this way");
        }
        assert!(!Embedded::verify(&store.options()).unwrap().is_whole());
    }
    let manifest = manifest::path(store.dir.path());
    let kept = fs::read(&manifest).unwrap();
    fs::remove_file(&manifest).unwrap();
    let error = refused(&store);
    assert!(error.contains("the journal is missing"), "{error}");
    fs::write(&manifest, kept).unwrap();
    fs::remove_dir(&journal).unwrap();
    fs::rename(&hidden, &journal).unwrap();
    assert!(store.open().is_ok());
    // The remedy that the message names.
    fs::remove_dir_all(&journal).unwrap();
    fs::remove_dir_all(core::index_dir(store.dir.path())).unwrap();
    fs::remove_file(&manifest).unwrap();
    assert_eq!(store.open().unwrap().stats().await.unwrap().events, 0);
}

#[tokio::test]
async fn the_first_and_the_last_segments_can_be_given_up() {
    for at in [0, usize::MAX] {
        let store = Store::new().await;
        let paths = segments(&store.dir);
        // The last one is empty: the one before goes with it.
        let gone = if at == 0 { &paths[..1] } else { &paths[paths.len() - 2..] };
        gone.iter().for_each(|path| fs::remove_file(path).unwrap());
        assert!(rebuild(&store, Missing::Refuse).is_err());
        let left = rebuild(&store, Missing::Accept).unwrap();
        assert_eq!(left as usize, paths.len() - gone.len());
        let (events, known) = known(&store).await;
        assert!(events > 50 && events < store.events.len() as u64, "{events}");
        assert_eq!(known as u64, events);
    }
    let store = Store::new().await;
    fs::remove_file(&segments(&store.dir)[1]).unwrap();
    let error = rebuild(&store, Missing::Accept).unwrap_err().to_string();
    assert!(error.contains("segment 1 is missing") && error.contains("--salvage"), "{error}");
    assert!(manifest::path(store.dir.path()).is_file(), "nothing has changed");
}

#[tokio::test]
async fn a_store_of_a_version_before_gets_its_manifest_once() {
    let store = Store::new().await;
    let path = manifest::path(store.dir.path());
    fs::remove_file(&path).unwrap();
    let survey = Embedded::verify(&store.options()).unwrap();
    assert!(survey.is_whole() && survey.remarks.len() == 1, "{survey:?}");
    let ledger = store.open().unwrap();
    let mended = ledger.health().await.unwrap().mended;
    assert!(mended.len() == 1 && mended[0].contains("no manifest"), "{mended:?}");
    drop(ledger);
    let ledger = store.open().unwrap();
    assert_eq!(ledger.health().await.unwrap().mended, [""; 0]);
    drop(ledger);
    fs::remove_file(&segments(&store.dir)[0]).unwrap();
    assert!(refused(&store).contains("segments are missing: 0;"));
}

#[tokio::test]
async fn retention_and_a_change_of_segments_keep_the_manifest_true() {
    let store = Store::new().await;
    let ledger = store.open().unwrap();
    store.forty_days_later(&ledger).await;
    let policy = Retention {
        keep_keys: vec![KeepKeys { source: SourceId::from("s"), time: 30 * super::damage::DAY }],
        ..store.policy()
    };
    ledger.sweep(&policy, usize::MAX).await.unwrap();
    ledger.sweep(&policy, usize::MAX).await.unwrap();
    let left = segments(&store.dir);
    assert!(!left[0].ends_with("0000000000-0.journal"), "the first segment is gone");
    // A crash before the end is noted, and an end in good order.
    end_as_a_crash_does(&store.dir, ledger);
    drop(store.open().unwrap());
    drop(store.open().unwrap());
    let found = manifest::read(&Disk, store.dir.path()).unwrap().unwrap();
    let number = |path: &PathBuf| journal::parse_name(path).unwrap().0;
    assert_eq!(found.content.first, number(&left[0]));
    assert_eq!(found.content.last, number(left.last().unwrap()));
}

#[tokio::test]
async fn the_lock_is_not_lifted_by_removing_its_file() {
    let dir = TempDir::new().unwrap();
    let ledger = open_in(&dir).unwrap();
    for name in ["lock", "journal/../lock"] {
        let _ = fs::remove_file(dir.path().join(name));
        let refused = open_in(&dir).unwrap_err();
        assert!(matches!(refused, LedgerError::InUse(_)), "{refused}");
        assert!(Embedded::verify(&options(&dir, StoreClock::manual(0))).is_err());
    }
    // Nor by another name of the directory.
    let moved = dir.path().with_extension("moved");
    fs::rename(dir.path(), &moved).unwrap();
    fs::create_dir(dir.path()).unwrap();
    fs::rename(moved.join("journal"), dir.path().join("journal")).unwrap();
    let refused = open_in(&dir).unwrap_err();
    assert!(matches!(refused, LedgerError::InUse(_)), "{refused}");
    drop(ledger);
    fs::remove_dir_all(moved).unwrap();
}
