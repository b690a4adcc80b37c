//! A bit flips in every region of every kind of file. Then the store is exported, scrubbed, swept,
//! given another key, and started again: each of these is exact or fails, and none of them succeeds
//! with less.

use std::collections::HashSet;

use super::damage::{DAY, Store, export, flip, scrub};
use super::*;
use crate::ledger::embedded::segment::{FRAME_HEAD, HEADER, RECORD_HEAD};
use crate::ledger::{ExportReader, ExportWriter, MasterKey};

/// A copy of a store, for one flip.
struct Copy<'s> {
    dir: TempDir,
    of: &'s Store,
    clock: StoreClock,
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_dir(&path, &target);
        } else {
            fs::copy(&path, target).unwrap();
        }
    }
}

impl<'s> Copy<'s> {
    fn new(of: &'s Store) -> Self {
        let dir = TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap();
        copy_dir(of.dir.path(), dir.path());
        Self { dir, of, clock: StoreClock::manual(of.clock.ms()) }
    }

    fn options(&self) -> EmbeddedOptions {
        options(&self.dir, self.clock.clone())
    }

    fn open(&self) -> Option<Embedded> {
        self.opened_with(Keyring::default())
    }

    /// The store; `None` if it is rejected with an error that names a place.
    fn opened_with(&self, keys: Keyring) -> Option<Embedded> {
        match Embedded::open(EmbeddedOptions { keys, ..self.options() }) {
            Ok(ledger) => Some(ledger),
            Err(LedgerError::Corrupt(what)) => {
                assert!(what.contains(&*self.dir.path().to_string_lossy()), "{what}");
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// Whatever is read is exact, and nothing is accepted twice. Events may be `gone` after a
    /// sweep, their keys not.
    async fn check(&self, ledger: &Embedded, gone: &HashSet<EventId>) {
        for event in &self.of.events {
            match ledger.event(event.id).await {
                Ok(Some(detail)) => {
                    assert_eq!(detail.event.body, event.body);
                    assert_eq!(detail.deliveries.len(), 1);
                }
                Ok(None) => assert!(gone.contains(&event.id), "{} is missing", event.id),
                // A damaged index is written again.
                Err(LedgerError::Unavailable(_)) => {}
                Err(error) => assert!(matches!(error, LedgerError::Corrupt(_)), "{error}"),
            }
            let mut again = conformance::event(1_000_000, &["a"]);
            again.keys.clone_from(&event.keys);
            again.fingerprint = event.fingerprint;
            match ledger.accept(&[again]).await {
                Ok(accepted) => assert!(
                    matches!(accepted[0], Accepted::Duplicate { first, .. } if first == event.id)
                ),
                Err(error) => assert!(matches!(error, LedgerError::Corrupt(_)), "{error}"),
            }
        }
        let stats = ledger.stats().await.unwrap();
        assert!(stats.events >= (self.of.events.len() - gone.len()) as u64);
    }

    /// Runs every operation on a store. `true`: no operation noticed the flip, so all results were
    /// exact.
    async fn live(&self) -> bool {
        let none = HashSet::new();
        let Some(ledger) = self.open() else { return false };
        let mut exact = match export(&ledger, 20_000).await {
            Ok(seen) => {
                assert!(self.of.events.iter().all(|event| seen.contains(&event.id)));
                true
            }
            Err(LedgerError::Corrupt(_)) => false,
            Err(error) => panic!("{error}"),
        };
        let (_, damage, _) = scrub(&ledger, 20_000).await;
        assert_eq!(exact, damage.is_empty(), "the scrub and the export disagree: {damage:?}");
        self.check(&ledger, &none).await;
        let gone = self.sweep(&ledger).await;
        exact &= gone.len() == self.of.events.len();
        self.check(&ledger, &gone).await;
        drop(ledger);
        let Some(ledger) = self.open() else { return false };
        self.check(&ledger, &gone).await;
        exact
    }

    /// Events that may be gone after a sweep: all that it says it removed.
    async fn sweep(&self, ledger: &Embedded) -> HashSet<EventId> {
        self.clock.advance(40 * DAY.as_millis() as i64);
        for n in 0..3 {
            let mut late = event((40 * DAY.as_millis() as i64 + n) as u64, &[]);
            late.body = vec![1; 60_000].into();
            ledger.accept(&[late]).await.unwrap();
        }
        if ledger.wait_until_indexed().is_err() {
            return HashSet::new();
        }
        let policy = Retention {
            now_ms: self.clock.ms(),
            keep_events: 30 * DAY,
            keep_keys: Vec::new(),
            held: crate::ledger::HeldRetention::default(),
        };
        let mut events = 0;
        while let Ok(swept) = ledger.sweep(&policy, usize::MAX).await {
            events += swept.events;
            if !swept.more {
                break;
            }
        }
        let mut gone = HashSet::new();
        for event in &self.of.events {
            if ledger.event(event.id).await == Ok(None) {
                gone.insert(event.id);
            }
        }
        assert_eq!(gone.len() as u64, events, "more are gone than were removed");
        gone
    }

    /// Another key: all of it is sealed, or the rest is readable still.
    async fn rekey(&self) {
        let keys = || Keyring::new(Some(MasterKey::new(&[1; 32])));
        let options = EmbeddedOptions { keys: keys(), ..self.options() };
        let done =
            std::thread::spawn(move || Embedded::rekey(options, &mut |_, _| {})).join().unwrap();
        if let Err(error) = &done {
            assert!(matches!(error, LedgerError::Corrupt(_)), "{error}");
        }
        if let Some(ledger) = self.opened_with(keys()) {
            self.check(&ledger, &HashSet::new()).await;
            if done.is_ok() {
                let seen = export(&ledger, 20_000).await.unwrap();
                assert!(self.of.events.iter().all(|event| seen.contains(&event.id)));
            }
        } else {
            assert!(done.is_err(), "a change of keys succeeded, and the store does not start");
        }
    }
}

/// Bytes of a segment that tell its regions apart.
fn regions(bytes: &[u8]) -> Vec<usize> {
    let header = HEADER as usize;
    let mut at: Vec<usize> = vec![0, 8, 10, 12, 16, 20, 24, 32, 40, 48, 58, 60];
    // Length, count, sequence, checksum and mark of the first frame; length, checksum, payload.
    at.extend([0, 4, 8, 16, 20].map(|offset| header + offset));
    let record = header + FRAME_HEAD;
    at.extend([0, 4, RECORD_HEAD, RECORD_HEAD + 100].map(|offset| record + offset));
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    at.extend([end / 2, end - 1, end - 30]);
    // Zeros behind the last frame, where there are any.
    at.extend([end + 16, end + 10_000]);
    at.retain(|at| *at < bytes.len());
    at
}

async fn try_flip(store: &Store, name: &Path, at: usize) -> bool {
    let copy = Copy::new(store);
    flip(&copy.dir.path().join(name), at);
    let exact = copy.live().await;
    let copy = Copy::new(store);
    flip(&copy.dir.path().join(name), at);
    copy.rekey().await;
    exact
}

/// The path of a file below the store.
fn below(store: &Store, path: &Path) -> PathBuf {
    path.strip_prefix(store.dir.path()).unwrap().to_owned()
}

#[tokio::test]
async fn in_the_journal() {
    let store = Store::with(60, 6).await;
    let paths = segments(&store.dir);
    assert!(paths.len() >= 3, "closed ones and an open one");
    let (mut exact, mut refused) = (0, 0);
    for path in [&paths[0], paths.last().unwrap()] {
        let bytes = fs::read(path).unwrap();
        for at in regions(&bytes) {
            match try_flip(&store, &below(&store, path), at).await {
                true => exact += 1,
                false => refused += 1,
            }
        }
    }
    println!("exact: {exact}, refused or noted: {refused}");
    assert!(refused > 35, "{refused}");
    assert!(exact <= 4, "only zeros and padding are covered by nothing: {exact}");
}

#[tokio::test]
async fn in_the_manifest_and_in_small_files() {
    let store = Store::with(60, 6).await;
    for slot in [0, 4096] {
        for at in [0, 8, 12, 20, 24, 28, 32, 36, 50, 60, 100] {
            assert!(try_flip(&store, Path::new("manifest"), slot + at).await, "{slot} {at}");
        }
    }
    for name in ["lock", "clock"] {
        if store.dir.path().join(name).exists() {
            assert!(try_flip(&store, Path::new(name), 0).await, "{name}");
        }
    }
}

#[tokio::test]
async fn in_the_index() {
    let store = Store::with(60, 6).await;
    let period = core::index_dir(store.dir.path()).join("period-0000000000-0");
    for entry in fs::read_dir(period).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            continue;
        }
        let bytes = fs::read(&path).unwrap();
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
        for part in 0..12 {
            let at = used * part / 12;
            if at < used {
                try_flip(&store, &below(&store, &path), at).await;
            }
        }
    }
}

#[tokio::test]
async fn in_an_export() {
    let store = Store::with(60, 6).await;
    let ledger = store.open().unwrap();
    for key in [None, Some(MasterKey::new(&[7; 32]))] {
        let keys = Keyring::new(key);
        let mut writer = ExportWriter::begin(Vec::new(), keys.current(), None).unwrap();
        let (mut cursor, mut all) = (None, Vec::new());
        loop {
            let page = ledger.export(cursor.as_ref(), 20_000).await.unwrap();
            writer.write(&page.items).unwrap();
            all.extend(page.items);
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        let file = writer.end().unwrap();
        let read = |bytes: &[u8]| -> Option<Vec<Item>> {
            let mut reader = ExportReader::begin(bytes, &keys).ok()?;
            let mut items = Vec::new();
            while let Some(chunk) = reader.chunk().ok()? {
                items.extend(chunk);
            }
            Some(items)
        };
        assert!(read(&file).as_ref() == Some(&all));
        let places =
            (0..64).chain((64..file.len()).step_by(997)).chain(file.len() - 40..file.len());
        for at in places {
            let mut damaged = file.clone();
            damaged[at] ^= 1;
            let found = read(&damaged);
            assert!(found.is_none() || found.as_ref() == Some(&all), "byte {at}");
        }
        for cut in [file.len() - 1, file.len() / 2, 100] {
            assert!(read(&file[..cut]).is_none(), "cut at {cut}");
        }
    }
}
