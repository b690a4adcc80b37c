//! `postern export`: everything that the store keeps, in one file.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{process, thread};

use clap::Args;
use serde_json::json;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use super::client::{AdminApi, runtime};
use super::place::Place;
use super::store::{Keeper, Progress, check, embedded, gateway_instead, keeper};
use super::{ConfigFile, Exit, Screen, Where};
use crate::config::{Config, StoreEngine};
use crate::ledger::{
    BatchOptions, BatchedLedger, Embedded, ExportError, ExportId, ExportReader, ExportWriter, Item,
    Keyring, KnownItems, LedgerError, NoopObserver, Survey,
};
use crate::manage::{EXPORT_KEY, EXPORT_NEXT};
use crate::private;
use crate::registry::{Action, Actor, AuditSubject, Registry};
use crate::server;

/// Bytes of a chunk, about.
const CHUNK: usize = 1 << 20;

/// Export the whole store to one file
#[derive(Args, Debug)]
#[command(
    long_about = "Export the whole store to one file, for `postern import`.\n\n\
        Documents, keys of known transactions, events, and the state of their deliveries. A running \
        gateway is asked over its admin listener and keeps working; otherwise the store is read \
        directly. Sealed if POSTERN_MASTER_KEY is set. --salvage exports the readable part of a \
        damaged store, lists the damage and exits with 1 if there is any; no gateway may be working on \
        it. --since writes an increment for `postern restore`: every \
        document, and everything new or changed. It reads the whole store, and needs about 60 bytes \
        of memory for each item of the previous exports.",
    after_help = "Examples:\n  \
        postern export --config postern.toml --output postern.export\n  \
        postern export --config postern.toml | ssh other 'cat > postern.export'\n  \
        postern export --config postern.toml --output s3://backups/postern/week.export\n  \
        postern export --config postern.toml --since week.export --output monday.export\n  \
        postern export --config postern.toml --salvage --output rescued.export"
)]
pub(super) struct Export {
    #[command(flatten)]
    config: ConfigFile,
    /// File, or s3://BUCKET/KEY, that is written when it is complete [default: standard output]
    #[arg(long, value_name = "FILE")]
    output: Option<Place>,
    /// Export the readable part of a damaged store
    #[arg(long)]
    salvage: bool,
    /// Write an increment to these exports: a whole one, then its increments in order; repeatable
    #[arg(long, value_name = "EXPORT", conflicts_with = "salvage")]
    since: Vec<Place>,
}

impl Export {
    pub(super) fn run(&self, screen: &mut Screen<'_>) -> io::Result<Exit> {
        let loaded = match self.config.load_partly(screen)? {
            Ok(loaded) => loaded,
            Err(exit) => return Ok(exit),
        };
        let config = Arc::new(loaded.config);
        let keys = server::keyring(&config.store);
        let read_by = if self.salvage { ReadBy::Command } else { ReadBy::Either };
        let export = Store { config: &config, keys, read_by };
        if let Err(error) = export.check() {
            return screen.fail(&error);
        }
        if self.output.is_none() && screen.out_is == Where::Terminal {
            writeln!(screen.err, "an export is not for reading: say --output FILE, or pipe it")?;
            return Ok(Exit::Usage);
        }
        if let Some(output) = self.output.as_ref().filter(|output| self.follows(output)) {
            writeln!(
                screen.err,
                "{output}: this increment would replace an export that it follows; name another \
                 file with --output"
            )?;
            return Ok(Exit::Usage);
        }
        // Its errors are of other files than the one that is written.
        let mut progress = Progress::new(screen.err, screen.err_is);
        let chain = self.chain(&export.keys, &mut progress);
        progress.end();
        let chain = match chain {
            Ok(chain) => chain,
            Err(error) => return screen.fail(&error),
        };
        let Some(output) = &self.output else {
            let mut progress = Progress::new(screen.err, screen.err_is);
            let written = self
                .write(BufWriter::new(&mut *screen.out), export, &chain, &mut progress)
                .map(|(_, written)| written);
            progress.end();
            return match written {
                Ok(written) => written.tell(screen),
                Err(error) => screen.fail(&error),
            };
        };
        let mut progress = Progress::new(screen.err, screen.err_is);
        let written = match output {
            Place::File(path) => self.write_file(path, export, &chain, &mut progress),
            #[cfg(feature = "s3")]
            Place::Object(object) => object.write().map_err(ExportError::from).and_then(|upload| {
                let (to, written) = self.write(upload, export, &chain, &mut progress)?;
                to.end()?;
                Ok(written)
            }),
        };
        progress.end();
        match written {
            Ok(written) if self.config.json => written.tell_json(output, screen),
            Ok(written) => written.tell(screen),
            Err(error) => screen.fail(&error),
        }
    }

    /// Whether `output` is one of the exports that this increment follows.
    fn follows(&self, output: &Place) -> bool {
        self.since.iter().any(|previous| previous.is_same(output))
    }

    /// Writes a file, which has its name once it is whole.
    fn write_file(
        &self,
        path: &Path,
        export: Store<'_>,
        chain: &Chain,
        progress: &mut Progress<'_>,
    ) -> Result<Written, ExportError> {
        let path = &behind_links(path);
        if fs::metadata(path).is_ok_and(|there| !there.is_file()) {
            return self.write_through(path, export, chain, progress);
        }
        let written = Part::create(path).map_err(ExportError::from).and_then(|(part, file)| {
            let (to, written) = self.write(BufWriter::new(file), export, chain, progress)?;
            to.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
            fs::rename(&part.path, path)?;
            sync_folder(path)?;
            Ok(written)
        });
        written.map_err(|error| at(path, error))
    }

    /// Writes to a device or a pipe: nothing takes its place.
    fn write_through(
        &self,
        path: &Path,
        export: Store<'_>,
        chain: &Chain,
        progress: &mut Progress<'_>,
    ) -> Result<Written, ExportError> {
        let written = fs::OpenOptions::new().write(true).open(path);
        let written = written.map_err(ExportError::from).and_then(|file| {
            let (mut to, written) = self.write(BufWriter::new(file), export, chain, progress)?;
            to.flush()?;
            Ok(written)
        });
        written.map_err(|error| at(path, error))
    }

    /// Writes an export to `to`.
    fn write<W: Write>(
        &self,
        to: W,
        from: Store<'_>,
        chain: &Chain,
        progress: &mut Progress<'_>,
    ) -> Result<(W, Written), ExportError> {
        let mut to = ExportWriter::begin(to, from.keys.current(), chain.follows)?;
        let mut put = |items: Vec<Item>| {
            match chain.follows {
                Some(_) => to.write(&chain.known.missing(items))?,
                None => to.write(&items)?,
            }
            progress.tell(&|| format!("{} items", to.items()));
            Ok(())
        };
        let (survey, unnoted) = match self.salvage {
            true => {
                let mut put = |items: &[Item]| put(items.to_vec());
                let options = server::embedded(&from.config.store)?;
                (Some(Embedded::salvage(&options, &mut put)?), None)
            }
            false => (None, from.read(&mut put)?),
        };
        let items = to.items();
        Ok((to.end()?, Written { items, survey, unnoted }))
    }
}

/// The file that symbolic links lead to, which may not exist yet.
fn behind_links(path: &Path) -> PathBuf {
    if let Ok(there) = fs::canonicalize(path) {
        return there;
    }
    match fs::read_link(path) {
        Ok(to) => path.parent().map_or_else(|| to.clone(), |parent| parent.join(&to)),
        Err(_) => path.to_owned(),
    }
}

/// Makes the name of a file durable. A network file system may have no way to.
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    match File::open(folder.unwrap_or(Path::new(".")))?.sync_all() {
        Err(error)
            if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) =>
        {
            Ok(())
        }
        synced => synced,
    }
}

/// The error with the file that it is about.
fn at(path: &Path, error: ExportError) -> ExportError {
    match error {
        ExportError::Io(error) => {
            let text = format!("could not write {}: {error}", path.display());
            ExportError::Io(io::Error::new(error.kind(), text))
        }
        other => other,
    }
}

/// A whole export and its increments, which an increment follows.
#[derive(Default)]
struct Chain {
    /// The last one of them.
    follows: Option<ExportId>,
    /// All their items.
    known: KnownItems,
}

impl Export {
    /// Reads the exports that an increment follows.
    fn chain(&self, keys: &Keyring, progress: &mut Progress<'_>) -> Result<Chain, ExportError> {
        let mut chain = Chain::default();
        for place in &self.since {
            let named = |error: ExportError| place.named(error);
            let (from, _) = place.read().map_err(|error| named(error.into()))?;
            let mut reader = ExportReader::begin(from, keys).map_err(named)?;
            if reader.follows() != chain.follows {
                let what = format!("{place}: does not follow the export that is named before it");
                return Err(ExportError::Damaged(what));
            }
            while let Some(items) = reader.chunk().map_err(named)? {
                chain.known.note(&items);
                progress.tell(&|| format!("{place}: {} items", reader.items()));
            }
            chain.follows = Some(reader.id());
        }
        Ok(chain)
    }
}

/// The result of an export.
struct Written {
    items: u64,
    /// The findings of a salvage.
    survey: Option<Survey>,
    /// Why the audit log has no entry about it.
    unnoted: Option<LedgerError>,
}

impl Written {
    fn warn(&self, screen: &mut Screen<'_>) -> io::Result<()> {
        match &self.unnoted {
            Some(error) => {
                writeln!(screen.err, "warning: the audit log has no entry about this: {error}")
            }
            None => Ok(()),
        }
    }

    /// Says so, beside what may be on standard output.
    fn tell(&self, screen: &mut Screen<'_>) -> io::Result<Exit> {
        self.warn(screen)?;
        let exit = match &self.survey {
            Some(survey) => screen.survey(survey)?,
            None => Exit::Done,
        };
        writeln!(screen.err, "{} items", self.items)?;
        Ok(exit)
    }

    /// The same as JSON, on standard output: the export is at `place`.
    fn tell_json(&self, place: &Place, screen: &mut Screen<'_>) -> io::Result<Exit> {
        self.warn(screen)?;
        let survey = self.survey.as_ref();
        let found = |some: fn(&Survey) -> Vec<String>| survey.map(some).unwrap_or_default();
        let damage = found(|survey| survey.damage.iter().map(ToString::to_string).collect());
        let remarks = found(|survey| survey.remarks.iter().map(ToString::to_string).collect());
        let exit = if damage.is_empty() { Exit::Done } else { Exit::Failed };
        let line = json!({
            "output": place.to_string(), "items": self.items, "damage": damage, "remarks": remarks,
        });
        writeln!(screen.out, "{line}")?;
        Ok(exit)
    }
}

/// Takes items.
type Put<'p> = &'p mut dyn FnMut(Vec<Item>) -> Result<(), ExportError>;

/// The store to export.
struct Store<'c> {
    config: &'c Arc<Config>,
    keys: Keyring,
    /// The findings of a salvage are of the files themselves.
    read_by: ReadBy,
}

/// Who may read a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReadBy {
    /// This command or the gateway.
    Either,
    /// This command.
    Command,
}

impl Store<'_> {
    /// Whether there is anything to export: nothing is begun that was not there.
    fn check(&self) -> Result<(), String> {
        let is_postgres = matches!(self.config.store.engine, StoreEngine::Postgres(_));
        if is_postgres && self.read_by == ReadBy::Either {
            return Ok(());
        }
        let found = embedded(&self.config.store).and_then(|options| check(&options));
        match (found, self.read_by) {
            (Ok(()), _) => Ok(()),
            (Err(error), ReadBy::Command) => Err(error.to_string()),
            (Err(error), ReadBy::Either) => {
                let runtime = runtime().map_err(|error| error.to_string())?;
                gateway_instead(self.config, &runtime, &error).map(drop)
            }
        }
    }

    /// Reads everything: from the gateway if one works on an embedded store, else from the store
    /// itself; returns why the audit log has no entry about it.
    fn read(self, put: Put<'_>) -> Result<Option<LedgerError>, ExportError> {
        let runtime = runtime()?;
        match keeper(self.config, &runtime) {
            Ok(Keeper::Ledger(engine)) => {
                let (options, observer) = (BatchOptions::default(), Arc::new(NoopObserver));
                let ledger = BatchedLedger::new(engine, options, observer);
                let noted = runtime.block_on(note(&ledger, Arc::clone(self.config)));
                read_from(&ledger, &runtime, put)?;
                Ok(noted.err())
            }
            Ok(Keeper::Gateway(api)) => self.ask(&api, &runtime, put).map(|()| None),
            Err(sentence) => Err(ExportError::Io(io::Error::other(sentence))),
        }
    }

    /// Asks the gateway, page by page, in the runtime that has the connection to it.
    fn ask(self, api: &AdminApi, runtime: &Runtime, put: Put<'_>) -> Result<(), ExportError> {
        let refused = |sentence: String| ExportError::Io(io::Error::other(sentence));
        let key = self.keys.current().map(|key| key.id().to_string());
        let mut path = String::from("/admin/v1/export");
        loop {
            let page = runtime.block_on(api.fetch(&path)).map_err(refused)?;
            let said = |name| page.headers.get(name).and_then(|value| value.to_str().ok());
            if said(EXPORT_KEY) != key.as_deref() {
                let sentence = "the gateway seals with another POSTERN_MASTER_KEY than is \
                                set here; name the file that has it with --env-file FILE";
                return Err(refused(sentence.to_owned()));
            }
            let items = Item::decode(&page.body);
            put(items.map_err(|_| refused("the gateway is of another version".to_owned()))?)?;
            match said(EXPORT_NEXT) {
                Some(next) => path = format!("/admin/v1/export?cursor={next}"),
                None => return Ok(()),
            }
        }
    }
}

/// Notes the export in the audit log, as a gateway does. A backup does not fail for it: a full disk
/// or a standby takes no entry, and this account can read the store without one.
async fn note(ledger: &BatchedLedger, config: Arc<Config>) -> Result<(), LedgerError> {
    let registry = Registry::open(ledger.clone(), config).await?;
    let who = Actor::new("command", "export");
    registry.note(&who, Action::Exported, AuditSubject::new("store", "export")).await
}

fn read_from(ledger: &BatchedLedger, runtime: &Runtime, put: Put<'_>) -> Result<(), ExportError> {
    let mut cursor = None;
    loop {
        let page = runtime.block_on(ledger.export(cursor.as_ref(), CHUNK))?;
        put(page.items)?;
        cursor = page.next;
        if cursor.is_none() {
            return Ok(());
        }
    }
}

/// An unfinished export, which is removed when this is dropped, or when a signal ends the command.
struct Part {
    path: PathBuf,
    /// Dropped, it ends the thread that waits for signals.
    _watched: oneshot::Sender<()>,
}

impl Part {
    /// Creates a file beside `output` that no other export writes.
    fn create(output: &Path) -> io::Result<(Self, File)> {
        let path = beside(output)?;
        let watched = watch(path.clone())?;
        let file = private::create_new(&path)?;
        Ok((Self { path, _watched: watched }, file))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // One that is complete has another name by now.
        let _ = fs::remove_file(&self.path);
    }
}

/// Removes the file at `path` when a signal asks this process to end, and ends it. Not on SIGHUP: a
/// handler would undo `nohup`.
fn watch(path: PathBuf) -> io::Result<oneshot::Sender<()>> {
    let (watched, is_done) = oneshot::channel();
    let runtime = runtime()?;
    // From here on: a signal that comes before the thread runs is not lost.
    let (mut terminate, mut interrupt) = {
        let _entered = runtime.enter();
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
    };
    let wait = move || {
        let caught = runtime.block_on(async {
            tokio::select! {
                _ = is_done => None,
                _ = terminate.recv() => Some(SignalKind::terminate()),
                _ = interrupt.recv() => Some(SignalKind::interrupt()),
            }
        });
        if let Some(caught) = caught {
            let _ = fs::remove_file(&path);
            // As a shell shows a process that a signal has ended.
            process::exit(128 + caught.as_raw_value());
        }
    };
    thread::Builder::new().name("export-signals".to_owned()).spawn(wait)?;
    Ok(watched)
}

/// A name beside `output` that no other export has: `week.1a2b3c4d.export.part`.
fn beside(output: &Path) -> io::Result<PathBuf> {
    let mut own = [0; 4];
    getrandom::fill(&mut own).map_err(|error| io::Error::other(error.to_string()))?;
    let mut name = output.file_stem().unwrap_or_default().to_owned();
    name.push(format!(".{}", const_hex::encode(own)));
    if let Some(extension) = output.extension() {
        name.push(".");
        name.push(extension);
    }
    name.push(".part");
    Ok(output.with_file_name(name))
}
