//! A disk in memory that loses unsynced writes, for tests.
//!
//! Every step that changes something is counted. At a chosen step the power fails, and every later
//! step fails; or only that step fails. After a power cut, synced data remains, and of the rest
//! what a [`Left`] selects, sector by sector.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::*;

/// A disk may write a sector or not, nothing in between.
const SECTOR: usize = 512;

/// The fault at a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ledger) enum Fault {
    /// The power fails: this step and all later ones fail.
    Cut,
    /// The step fails: no space.
    NoSpace,
    /// The step fails: an I/O error.
    Io,
    /// A write is done halfway, and fails.
    Short,
    /// A sync is slow.
    Slow,
    /// A sync fails, and the system has what it was to write for synced, as Linux does.
    LostSync,
}

/// The unsynced writes that remain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ledger) enum Left {
    /// All: a process was killed, the machine went on.
    Everything,
    /// None.
    Nothing,
    /// Some sectors and some names, selected by this number.
    Some(u64),
}

/// A disk. Clones share it.
#[derive(Clone, Default)]
pub(in crate::ledger) struct Sim(Arc<Mutex<State>>);

#[derive(Clone, Default)]
struct State {
    files: Vec<Content>,
    /// Names as programs see them, and as they are after a power cut.
    names: BTreeMap<PathBuf, usize>,
    synced_names: BTreeMap<PathBuf, usize>,
    steps: u64,
    fault: Option<(u64, Fault)>,
    dead: bool,
}

#[derive(Clone, Default)]
struct Content {
    now: Vec<u8>,
    synced: Vec<u8>,
    /// The ranges that the next sync writes.
    dirty: Vec<Range<usize>>,
}

/// The effect of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Go {
    On,
    Half,
    Lost,
}

impl State {
    /// Counts a step; an error if it fails.
    fn step(&mut self) -> io::Result<Go> {
        if self.dead {
            return Err(io::Error::other("the power is gone"));
        }
        let at = self.steps;
        self.steps += 1;
        match self.fault.filter(|(step, _)| *step == at).map(|(_, fault)| fault) {
            None => Ok(Go::On),
            Some(Fault::Cut) => {
                self.dead = true;
                Err(io::Error::other("the power is gone"))
            }
            Some(Fault::NoSpace) => Err(io::ErrorKind::StorageFull.into()),
            Some(Fault::Io) => Err(io::Error::other("I/O error (injected)")),
            Some(Fault::Short) => Ok(Go::Half),
            Some(Fault::Slow) => {
                std::thread::sleep(std::time::Duration::from_millis(3));
                Ok(Go::On)
            }
            Some(Fault::LostSync) => Ok(Go::Lost),
        }
    }
}

impl Sim {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Steps so far.
    pub(in crate::ledger) fn steps(&self) -> u64 {
        self.state().steps
    }

    /// Sets the faults, by number of the step.
    pub(in crate::ledger) fn fail_at(&self, step: u64, fault: Fault) {
        self.state().fault = Some((step, fault));
    }

    /// Cuts the power now.
    pub(in crate::ledger) fn cut(&self) {
        self.state().dead = true;
    }

    /// The disk as it is after its process was killed: unsynced writes can still be lost.
    pub(in crate::ledger) fn killed(&self) -> Self {
        let mut state = self.state().clone();
        (state.dead, state.fault) = (false, None);
        Self(Arc::new(Mutex::new(state)))
    }

    /// The disk as the next start finds it.
    pub(in crate::ledger) fn after(&self, left: Left) -> Self {
        let mut state = self.state().clone();
        (state.dead, state.fault) = (false, None);
        let mut dice = Dice(match left {
            Left::Some(seed) => seed,
            _ => 0,
        });
        if left != Left::Everything {
            let all: BTreeSet<PathBuf> =
                state.names.keys().chain(state.synced_names.keys()).cloned().collect();
            let mut names = BTreeMap::new();
            for name in all {
                let newer = left != Left::Nothing && dice.throw();
                let from = if newer { &state.names } else { &state.synced_names };
                if let Some(file) = from.get(&name) {
                    names.insert(name, *file);
                }
            }
            state.names = names;
            for file in &mut state.files {
                file.forget(left, &mut dice);
            }
        }
        state.synced_names = state.names.clone();
        for file in &mut state.files {
            file.synced = file.now.clone();
            file.dirty.clear();
        }
        Self(Arc::new(Mutex::new(state)))
    }
}

impl Content {
    fn write(&mut self, bytes: &[u8], offset: usize) {
        let (len, end) = (self.now.len(), offset + bytes.len());
        self.now.resize(len.max(end), 0);
        self.now[offset..end].copy_from_slice(bytes);
        self.dirty.push(offset.min(len)..end);
    }

    fn sync(&mut self) {
        self.synced.resize(self.now.len(), 0);
        for Range { start, end } in self.dirty.drain(..) {
            // It may have been truncated since.
            let end = end.min(self.now.len());
            let start = start.min(end);
            self.synced[start..end].copy_from_slice(&self.now[start..end]);
        }
    }

    fn forget(&mut self, left: Left, dice: &mut Dice) {
        if left == Left::Nothing {
            self.now = self.synced.clone();
            return;
        }
        let len = if dice.throw() { self.now.len() } else { self.synced.len() };
        let mut mixed = vec![0; len];
        for (at, sector) in mixed.chunks_mut(SECTOR).enumerate() {
            let from = if dice.throw() { &self.now } else { &self.synced };
            let from = from.get(at * SECTOR..).unwrap_or_default();
            let held = sector.len().min(from.len());
            sector[..held].copy_from_slice(&from[..held]);
        }
        self.now = mixed;
    }
}

struct Dice(u64);

impl Dice {
    fn throw(&mut self) -> bool {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ z >> 31) & 1 == 1
    }
}

struct SimHandle(Sim, usize);

impl Files for Sim {
    fn create(&self, path: &Path) -> io::Result<Box<dyn Handle>> {
        let mut state = self.state();
        state.step()?;
        if state.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let file = state.files.len();
        state.files.push(Content::default());
        state.names.insert(path.to_owned(), file);
        Ok(Box::new(SimHandle(self.clone(), file)))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn Handle>> {
        let file = self.state().names.get(path).copied().ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(SimHandle(self.clone(), file)))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let state = self.state();
        Ok(state.names.keys().filter(|path| path.parent() == Some(dir)).cloned().collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        let file = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.names.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        state.names.remove(path).map(|_| ()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        let inside = |path: &PathBuf| path.parent() == Some(dir);
        state.synced_names.retain(|path, _| !inside(path));
        let now: Vec<_> = state.names.iter().filter(|(path, _)| inside(path)).collect();
        let now: Vec<(PathBuf, usize)> =
            now.into_iter().map(|(path, file)| (path.clone(), *file)).collect();
        state.synced_names.extend(now);
        Ok(())
    }

    fn free(&self, _: &Path) -> io::Result<u64> {
        Ok(u64::MAX)
    }
}

impl Handle for SimHandle {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.0.state();
        let bytes = state.files[self.1].now.get(offset as usize..).unwrap_or_default();
        let filled = bytes.len().min(buffer.len());
        buffer[..filled].copy_from_slice(&bytes[..filled]);
        Ok(filled)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.0.state();
        let go = state.step()?;
        let bytes = if go == Go::Half { &bytes[..bytes.len() / 2] } else { bytes };
        state.files[self.1].write(bytes, offset as usize);
        match go {
            Go::On | Go::Lost => Ok(()),
            Go::Half => Err(io::ErrorKind::WriteZero.into()),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.0.state();
        let go = state.step()?;
        let file = &mut state.files[self.1];
        if go == Go::Lost {
            file.dirty.clear();
            return Err(io::Error::other("I/O error (injected)"));
        }
        file.sync();
        Ok(())
    }

    fn cut(&self, len: u64) -> io::Result<()> {
        let mut state = self.0.state();
        state.step()?;
        state.files[self.1].now.truncate(len as usize);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.state().files[self.1].now.len() as u64)
    }
}
