//! `postern import`: takes what `postern export` wrote.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::PathBuf;

use clap::Args;

use super::client::runtime;
use super::store::{Progress, open};
use super::{ConfigFile, Exit, Screen};
use crate::ledger::{Engine, ExportError, ExportReader, Imported, Ledger as _};
use crate::server;

/// Bytes that are read at once.
const BUFFER: usize = 1 << 20;

/// Take what `postern export` wrote
#[derive(Args, Debug)]
#[command(
    long_about = "Take what `postern export` wrote, into an empty store or a used one.\n\n\
        Nothing is taken twice: what is known stays as it is, so that an import may be repeated, \
        and goes on where it was interrupted. A document is taken if it is newer than the one that \
        is there. No gateway may be working on an embedded store; those on PostgreSQL may go on. A sealed export wants the key that it \
        was sealed with, in POSTERN_MASTER_KEY or POSTERN_OLD_MASTER_KEY.",
    after_help = "Examples:\n  \
        postern import --config postern.toml postern.export\n  \
        ssh old postern export --config /etc/postern/postern.toml | postern import -"
)]
pub(super) struct Import {
    #[command(flatten)]
    config: ConfigFile,
    /// The export; - reads standard input.
    file: PathBuf,
}

impl Import {
    pub(super) fn run(&self, screen: &mut Screen<'_>) -> io::Result<Exit> {
        let loaded = match self.config.load(screen)? {
            Ok(loaded) => loaded,
            Err(exit) => return Ok(exit),
        };
        let store = &loaded.config.store;
        let (from, size): (Box<dyn Read>, u64) = if self.file.as_os_str() == "-" {
            (Box::new(io::stdin()), 0)
        } else {
            match File::open(&self.file).and_then(|file| Ok((file.metadata()?.len(), file))) {
                Ok((size, file)) => (Box::new(file), size),
                Err(error) => return screen.fail(&format!("{}: {error}", self.file.display())),
            }
        };
        let from = Counted { from: BufReader::with_capacity(BUFFER, from), count: 0 };
        let mut imported = Imported::default();
        let reader = match ExportReader::begin(from, &server::keyring(store)) {
            Ok(reader) => reader,
            Err(error) => return screen.fail(&error),
        };
        let runtime = runtime()?;
        let ledger = match open(store, &runtime) {
            Ok(ledger) => ledger,
            Err(error) => return screen.fail(&error),
        };
        let mut progress = Progress::new(screen.err, screen.err_is);
        let take = take(reader, &ledger, (&mut imported, size), &mut progress);
        let taken = runtime.block_on(take);
        progress.end();
        let Imported { taken: fresh, known } = imported;
        match taken {
            Ok(()) => {
                writeln!(screen.out, "{fresh} taken, {known} known already")?;
                Ok(Exit::Done)
            }
            Err(error) => {
                if fresh + known > 0 {
                    writeln!(screen.err, "{fresh} taken, {known} known already, and then:")?;
                }
                screen.fail(&error)
            }
        }
    }
}

async fn take(
    mut reader: ExportReader<Counted>,
    ledger: &Engine,
    (imported, size): (&mut Imported, u64),
    progress: &mut Progress<'_>,
) -> Result<(), ExportError> {
    while let Some(items) = reader.chunk()? {
        let some = ledger.import(items).await?;
        imported.taken += some.taken;
        imported.known += some.known;
        progress.tell(&|| {
            let count = imported.taken + imported.known;
            match (reader.source().count * 100).checked_div(size) {
                Some(percent) => format!("{count} items, {percent} %"),
                None => format!("{count} items"),
            }
        });
    }
    Ok(())
}

/// Counts what is read.
struct Counted {
    from: BufReader<Box<dyn Read>>,
    count: u64,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(buffer)?;
        self.count += read as u64;
        Ok(read)
    }
}
