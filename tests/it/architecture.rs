//! The table of modules in `ARCHITECTURE.md`, held against the imports of the code.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The files of an API's folder in `partners` that belong to lower modules: what the configuration
/// file says of it, and what it adds to the running configuration.
const LAYERS: [(&str, &str); 4] =
    [("settings", "config"), ("grant", "config"), ("document", "registry"), ("plan", "registry")];

/// The text that may replace a list of modules in the last column.
const ANY: &str = "every module";

/// Modules by name, each with the modules that it may use; `None` for any.
type Table = BTreeMap<String, Option<BTreeSet<String>>>;

#[test]
fn modules_use_what_the_table_of_architecture_allows() {
    let table = table();
    let used = imports();
    let mut wrong = Vec::new();
    for (module, uses) in &used {
        match table.get(module) {
            None => wrong.push(format!("{module} is missing in the table")),
            Some(None) => {}
            Some(Some(allowed)) => {
                let extra = uses.difference(allowed);
                wrong.extend(extra.map(|other| format!("{module} uses {other}: not allowed")));
                let idle = allowed.difference(uses);
                wrong.extend(idle.map(|other| format!("{module} does not use {other}: omit it")));
            }
        }
    }
    let gone = table.keys().filter(|module| !used.contains_key(*module));
    wrong.extend(gone.map(|module| format!("{module} is in the table, not in src")));
    assert!(wrong.is_empty(), "ARCHITECTURE.md, \"The modules\":\n{}", wrong.join("\n"));
}

#[test]
fn no_two_modules_use_each_other() {
    let used = imports();
    let table = table();
    // Every pass removes the modules whose imports are all removed. A circle remains.
    let mut left: BTreeSet<&str> = used.keys().map(String::as_str).collect();
    loop {
        let before = left.len();
        let free: Vec<&str> = left
            .iter()
            .copied()
            .filter(|module| used[*module].iter().all(|other| !left.contains(other.as_str())))
            .collect();
        free.iter().for_each(|module| {
            left.remove(module);
        });
        if left.len() == before {
            break;
        }
    }
    assert!(left.is_empty(), "these modules use each other in a circle: {left:?}");
    assert!(table.len() > 10, "the table was not read");
}

#[test]
fn every_file_is_declared_as_a_module() {
    let mut orphans = Vec::new();
    let mut folders = vec![root().join("src")];
    while let Some(folder) = folders.pop() {
        let parent = match folder.ends_with("src") {
            true => folder.join("lib.rs"),
            false => folder.with_extension("rs"),
        };
        let declares = fs::read_to_string(&parent).unwrap_or_default();
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            let is_rust = path.extension().is_some_and(|extension| extension == "rs");
            let is_root = matches!(name, "lib" | "main") && folder.ends_with("src");
            if is_rust && !is_root && !declares.contains(&format!("mod {name};")) {
                orphans.push(path);
            }
        }
    }
    assert!(orphans.is_empty(), "no module declares these files: {orphans:?}");
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Reads the table: `| `module` | what it is | modules that it may use |`.
fn table() -> Table {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let rows = text.lines().skip_while(|line| *line != "## The modules");
    rows.filter_map(|line| line.strip_prefix("| `"))
        .map(|row| {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            let module = cells[0].trim_end_matches('`').to_owned();
            (module, (cells[2] != ANY).then(|| in_backticks(cells[2])))
        })
        .collect()
}

fn in_backticks(cell: &str) -> BTreeSet<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The modules of `src`, each with the other modules that its code names, tests excepted.
fn imports() -> BTreeMap<String, BTreeSet<String>> {
    let src = root().join("src");
    let lib = fs::read_to_string(src.join("lib.rs")).unwrap();
    let names: BTreeSet<String> = declared(&lib).map(|(name, _)| name.to_owned()).collect();
    let mut uses: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for name in &names {
        for file in files(&src, name) {
            let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            let module = layer(name, std::iter::once(stem)).to_owned();
            uses.entry(module).or_default().extend(named(&code(&file), &names));
        }
    }
    for (name, uses) in &mut uses {
        uses.remove(name);
    }
    uses
}

/// The module that a path belongs to: the first of its names, unless it is a layer of `partners`.
fn layer<'n>(name: &'n str, mut inner: impl Iterator<Item = &'n str>) -> &'n str {
    let is_layer = |part: &str| LAYERS.iter().find(|(file, _)| *file == part);
    match inner.find_map(is_layer).filter(|_| name == "partners") {
        Some((_, module)) => module,
        None => name,
    }
}

/// A module's own file and those of the modules in it, without the ones of tests.
fn files(folder: &Path, name: &str) -> Vec<PathBuf> {
    let own = folder.join(format!("{name}.rs"));
    let inner = declared(&fs::read_to_string(&own).unwrap())
        .filter(|(_, kind)| *kind == Kind::Code)
        .flat_map(|(inner, _)| files(&folder.join(name), inner))
        .collect::<Vec<_>>();
    [vec![own], inner].concat()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Code,
    Test,
}

/// The modules that a file declares: `mod name;`.
fn declared(text: &str) -> impl Iterator<Item = (&str, Kind)> {
    let mut kind = Kind::Code;
    text.lines().filter_map(move |line| {
        if line.trim_start().starts_with("#[cfg(") && line.contains("test") {
            kind = Kind::Test;
            return None;
        }
        if line.trim_start().starts_with("#[") {
            return None;
        }
        let found = line
            .strip_suffix(';')
            .and_then(|line| line.rsplit_once("mod "))
            .filter(|(before, _)| before.is_empty() || before.starts_with("pub"))
            .map(|(_, name)| (name, kind));
        kind = Kind::Code;
        found
    })
}

/// A file's code: without comments, and without the tests at its end.
fn code(file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap();
    let tests = text.find("\n#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    let lines = text[..tests].lines().map(|line| line.split("//").next().unwrap_or(line));
    lines.collect::<Vec<_>>().join("\n")
}

/// Which of `names` the code names as `crate::name`, alone or in a list.
fn named<'t>(code: &'t str, names: &'t BTreeSet<String>) -> impl Iterator<Item = String> + 't {
    code.split("crate::").skip(1).flat_map(move |rest| {
        let list = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'));
        let starts = match list {
            Some((list, _)) => list.split(',').collect(),
            None => vec![rest],
        };
        starts.into_iter().filter_map(move |start| {
            let end = |c: char| !c.is_alphanumeric() && c != '_';
            let path = start.trim_start().split([' ', ';', ',', '(', ')', '<', '>', '{']).next();
            let mut parts = path.unwrap_or_default().split("::");
            let name = parts.next().and_then(|name| name.split(end).next()).unwrap_or_default();
            names.contains(name).then(|| layer(name, parts).to_owned())
        })
    })
}
