//! `docs/commands.md`, made of the command line's own definition and held against it.

use std::fmt::Write as _;
use std::path::Path;

use clap::{Arg, Command};

/// The text before the commands.
const HEAD: &str = "\
# Commands

One binary. `postern help COMMAND` prints what stands here, `postern man DIR` writes it as manual pages, `postern completions SHELL` prints
completions. This page is made from the same definition; a test compares the two.

Three kinds of commands:

- **about a configuration**: `init`, `check`, `senders`, `url`, `sign`, `explain`. They bind nothing and change nothing.
- **about a running gateway**: `events`, `held`, `sources`, `destinations`, `deliveries`, `replay`, `release`, `audit`, `listen --remote` … They find it
  through `[server] admin` of the configuration, and send the token that it created for this machine (`admin-token` in the store's directory) or
  `[admin] token`. They need no other secret. Run them as the gateway's account or as root.
- **about the store itself**: `export`, `verify`, `erase` (these ask the running gateway, if there is one), `import`, `restore`, `rebuild`, `rekey`,
  `forget`, `migrate`. They need `[store]`, `POSTERN_MASTER_KEY` if the store is sealed, and no other secret. They change a store as the account that
  owns it.

Exit codes: 0 success, 1 failure, 64 bad usage or configuration, also a source, destination, sender or alert of a name that does not exist.
";

/// The page, from the definition of the command line.
fn page() -> String {
    let mut command = super::command();
    command.build();
    let mut text = String::from(HEAD);
    text.push_str("\n## Options of every command\n\n| option | meaning |\n|---|---|\n");
    for arg in command.get_arguments().filter(|arg| arg.is_global_set()) {
        text.push_str(&row(arg));
    }
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        section(&mut text, sub, "postern");
    }
    text
}

fn section(text: &mut String, command: &Command, parent: &str) {
    let name = format!("{parent} {}", command.get_name());
    let _ = write!(text, "\n## `{name}`\n\n");
    let about = command.get_long_about().or(command.get_about());
    let about = about.map(ToString::to_string).unwrap_or_default();
    let _ = writeln!(text, "{}", about.lines().map(str::trim).collect::<Vec<_>>().join("\n"));
    let own = command.get_arguments().filter(|arg| !arg.is_global_set() && arg.get_id() != "help");
    let rows: String = own.map(row).collect();
    if !rows.is_empty() {
        let _ = write!(text, "\n| option | meaning |\n|---|---|\n{rows}");
    }
    let subs = command.get_subcommands().filter(|sub| sub.get_name() != "help");
    let subs: String = subs
        .map(|sub| {
            let about = sub.get_about().map(ToString::to_string).unwrap_or_default();
            let values = sub.get_positionals().filter_map(Arg::get_value_names).flatten();
            let values = values.map(ToString::to_string);
            let words: Vec<String> =
                std::iter::once(sub.get_name().to_owned()).chain(values).collect();
            format!("| `{}` | {about} |\n", words.join(" "))
        })
        .collect();
    if !subs.is_empty() {
        let _ = write!(text, "\n| subcommand | what it does |\n|---|---|\n{subs}");
    }
    if let Some(examples) = command.get_after_help() {
        let examples = examples.to_string();
        let lines = examples.lines().filter(|line| line.starts_with("  "));
        let lines: Vec<String> = lines.map(|line| format!("    {}", line.trim())).collect();
        let _ = write!(text, "\n{}\n", lines.join("\n"));
    }
}

fn row(arg: &Arg) -> String {
    let value = arg.get_value_names().unwrap_or_default().join(" ");
    let long = arg.get_long().map(|long| format!("--{long}"));
    let short = arg.get_short().map(|short| format!("-{short}"));
    let takes = arg.get_action().takes_values();
    let names: Vec<String> = [short, long].into_iter().flatten().collect();
    let name = match (names.is_empty(), takes) {
        (true, _) => value,
        (false, true) => format!("{} {value}", names.join(", ")),
        (false, false) => names.join(", "),
    };
    let help = arg.get_long_help().or(arg.get_help()).map(ToString::to_string).unwrap_or_default();
    let shown: Vec<String> =
        arg.get_default_values().iter().map(|one| one.to_string_lossy().into_owned()).collect();
    let default = match (takes, shown.is_empty()) {
        (true, false) => format!(" [default: {}]", shown.join(" ")),
        _ => String::new(),
    };
    let choices: Vec<String> =
        arg.get_possible_values().iter().map(|one| one.get_name().to_owned()).collect();
    let choices = match takes && !choices.is_empty() {
        true => format!(" [{}]", choices.join(", ")),
        false => String::new(),
    };
    format!("| `{name}` | {}{default}{choices} |\n", help.replace('\n', " ").replace('|', "\\|"))
}

#[test]
fn the_page_of_commands_is_the_command_line() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/commands.md");
    let page = page();
    if std::env::var_os("POSTERN_WRITE").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page,
        "docs/commands.md has drifted: POSTERN_WRITE=1 cargo test --lib cli::reference"
    );
}
