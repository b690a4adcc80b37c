//! `postern check`: the errors of a configuration, or a summary of what it would run.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Map, Value, json};

use super::{ConfigFile, Exit, Screen, columns};
use crate::config::limits::FILE_BYTES_MAX;
use crate::config::{
    AdminRight, AdminToken, Alert, AlertCondition, ArchivePlace, Config, ConfigErrors, ConfigIssue,
    Destination, Input, Loaded, Mode, Secrets, Source, StoreEngine, load_str, load_with, show,
};

/// Check a configuration and say what it would run
#[derive(Args, Debug)]
#[command(
    long_about = "Check a configuration and say what it would run.\n\n\
        Every error is listed at once, each with its line, its key and what to do about it; \
        nothing is bound and nothing is changed. Secrets are read (env:, file:) and never shown. \
        Warnings name what would run and is probably not meant; --strict fails for them, too.",
    after_help = "Examples:\n  \
        postern check postern.toml\n  \
        postern check --env-file /etc/postern/postern.env /etc/postern/postern.toml\n  \
        postern check new.toml && mv new.toml postern.toml"
)]
pub(super) struct Check {
    #[command(flatten)]
    config: ConfigFile,
    /// Configuration file, as with --config; - reads standard input
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Treat warnings as errors.
    #[arg(long)]
    strict: bool,
}

impl Check {
    pub(super) fn run(&self, screen: &mut Screen<'_>) -> io::Result<Exit> {
        let config = self.config.or_at(self.file.as_deref());
        let path = config.path();
        let environment = config.environment();
        let loaded = match path.as_os_str() == "-" {
            true => standard_input(&*environment),
            false => load_with(&*environment, &path, Secrets::Required),
        };
        if self.config.json {
            return self.show_json(&path, &loaded, screen);
        }
        let loaded = match loaded {
            Ok(loaded) => loaded,
            Err(faults) => return screen.refuse(&faults),
        };
        screen.warn(&loaded.warnings)?;
        screen.warn(&loaded.advice)?;
        let count = loaded.warnings.len() + loaded.advice.len();
        if self.strict && count > 0 {
            let found = if count == 1 { "1 warning" } else { &format!("{count} warnings") };
            writeln!(screen.err, "{found}, and --strict treats warnings as errors")?;
            return Ok(Exit::Usage);
        }
        let found = match count {
            0 => String::from("OK"),
            1 => String::from("OK, 1 warning"),
            many => format!("OK, {many} warnings"),
        };
        writeln!(screen.out, "{}: {found}", path.display())?;
        for (title, rows) in summary(&loaded.config) {
            if !rows.is_empty() {
                let title = screen.out_paint.bold(title);
                write!(screen.out, "\n{title}\n{}", columns(&rows))?;
            }
        }
        Ok(Exit::Done)
    }
}

impl Check {
    /// The findings as one object, also where there are errors.
    fn show_json(
        &self,
        path: &Path,
        loaded: &Result<Loaded, ConfigErrors>,
        screen: &mut Screen<'_>,
    ) -> io::Result<Exit> {
        let issue = |issue: &ConfigIssue| {
            let ConfigIssue { file, line, column, key, what, remedy } = issue;
            json!({
                "file": file.display().to_string(), "line": line, "column": column, "key": key,
                "what": what, "remedy": remedy,
            })
        };
        let all = |issues: &[ConfigIssue]| issues.iter().map(issue).collect::<Vec<Value>>();
        let (errors, warnings, tables) = match loaded {
            Ok(loaded) => {
                let warnings = [all(&loaded.warnings), all(&loaded.advice)].concat();
                let table = |(title, rows): (&str, Rows)| (title.to_ascii_lowercase(), json!(rows));
                let tables: Map<_, _> = summary(&loaded.config).into_iter().map(table).collect();
                (Vec::new(), warnings, Value::from(tables))
            }
            Err(faults) => (all(&faults.faults), all(&faults.warnings), Value::Null),
        };
        let is_fine = errors.is_empty() && (!self.strict || warnings.is_empty());
        let line = json!({
            "file": path.display().to_string(), "ok": is_fine, "errors": errors,
            "warnings": warnings, "summary": tables,
        });
        writeln!(screen.out, "{line}")?;
        Ok(if is_fine { Exit::Done } else { Exit::Usage })
    }
}

/// The configuration on standard input. Its paths are seen from this folder.
fn standard_input(input: &dyn Input) -> Result<Loaded, ConfigErrors> {
    let mut text = String::new();
    match io::stdin().take(FILE_BYTES_MAX).read_to_string(&mut text) {
        Ok(_) => load_str(input, Path::new("-"), &text),
        Err(error) => {
            let what = format!("standard input cannot be read: {error}");
            let fault = ConfigIssue { what, ..ConfigIssue::default() };
            Err(ConfigErrors { faults: vec![fault], ..ConfigErrors::default() })
        }
    }
}

type Rows = Vec<Vec<String>>;

/// A summary of what a configuration would run, table by table.
fn summary(config: &Config) -> [(&'static str, Rows); 5] {
    [
        ("Listeners", listeners(config)),
        ("Sources", config.sources.values().map(|s| source(config, s)).collect()),
        ("Destinations", config.destinations.values().map(|d| destination(d)).collect()),
        ("Alerts", config.alerts.iter().map(|one| alert(one)).collect()),
        ("Store", vec![store(config)]),
    ]
}

fn listeners(config: &Config) -> Rows {
    let server = &config.server;
    let scheme = if server.tls.is_some() { "https" } else { "http" };
    let seen = server.public_url.as_deref().map(|url| format!("seen as {url}"));
    let mut rows = vec![
        vec![
            String::from("callbacks"),
            format!("{scheme}://{}", server.callbacks),
            seen.unwrap_or_default(),
        ],
        vec![
            String::from("admin"),
            format!(
                "{}://{}",
                if server.admin_tls.is_some() { "https" } else { "http" },
                server.admin
            ),
            tokens(config),
        ],
    ];
    if let Some(address) = server.management {
        let seen = server.management_url.as_deref().map(|url| format!("seen as {url}"));
        let name = String::from("management");
        rows.push(vec![name, format!("http://{address}"), seen.unwrap_or_default()]);
    }
    rows
}

fn tokens(config: &Config) -> String {
    if config.admin.tokens.is_empty() {
        return format!(
            "this machine only; changes want the token in {}",
            config.admin.token_file.display()
        );
    }
    let right = |right| match right {
        AdminRight::Admin => "admin",
        AdminRight::Support => "support",
        AdminRight::Read => "read",
    };
    let tokens = &config.admin.tokens;
    let bound = |token: &AdminToken| if token.scope.is_bound() { ", bound" } else { "" };
    let named = tokens
        .iter()
        .map(|token| format!("{} ({}{})", token.name, right(token.right), bound(token)));
    format!("tokens {}", named.collect::<Vec<_>>().join(", "))
}

fn source(config: &Config, source: &Source) -> Vec<String> {
    let base = config.server.public_url.as_deref().unwrap_or_default();
    let to = match source.destinations.as_slice() {
        [] => String::from("recorded only"),
        names => format!("to {}", names.join(", ")),
    };
    let state = if source.enabled { "" } else { "disabled" };
    vec![
        source.name.clone(),
        source.recipe.sender().name().to_owned(),
        format!("{base}{}", source.path()),
        to,
        state.to_owned(),
    ]
}

fn destination(destination: &Destination) -> Vec<String> {
    let mode = match destination.mode {
        Mode::Async => "",
        Mode::Inline { .. } => "inline",
    };
    let Destination { name, url, .. } = destination;
    vec![name.clone(), destination.format.as_str().to_owned(), url.clone(), mode.to_owned()]
}

fn alert(alert: &Alert) -> Vec<String> {
    let on = match alert.on.len() == AlertCondition::all().count() {
        true => String::from("all conditions"),
        false => alert.on.iter().map(|on| on.as_str()).collect::<Vec<_>>().join(", "),
    };
    vec![alert.name.clone(), alert.channel.as_str().to_owned(), on]
}

fn store(config: &Config) -> Vec<String> {
    let engine = match &config.store.engine {
        StoreEngine::Embedded { path } => format!("embedded in {}", path.display()),
        StoreEngine::Postgres(store) => format!("postgres, schema {}", store.schema),
    };
    let (events, transactions) = (config.store.keep_events, config.store.keep_transactions);
    let kept = format!("events {}, transactions {}", show(events), show(transactions));
    let sealing = if config.store.master_key.is_some() { "sealed" } else { "not sealed" };
    let archive = config.archive.as_ref().map(|place| match place {
        ArchivePlace::Folder(folder) => format!("archived in {}", folder.display()),
        ArchivePlace::S3 { bucket, prefix } => format!("archived in s3://{bucket}/{prefix}"),
    });
    [engine, kept, sealing.to_owned()].into_iter().chain(archive).collect()
}
