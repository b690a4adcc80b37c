//! The bodies of the fuzz targets as ordinary tests: over the first inputs (`seeds`), a few that long runs
//! found and that are kept for the branches that they reach (`kept`), and those that `make fuzz` has
//! found on this machine (`corpus`); and over simple changes of the first ones.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

#[path = "../fuzz/src/bodies/mod.rs"]
mod bodies;

/// Changed copies of each input that are tried; `FUZZ_CHANGES` has others tried, and more of them.
const CHANGES: u64 = 60;

/// First inputs that are changed: the sender files are many.
const CHANGED_MAX: usize = 50;

/// Bytes that mean something to one reader or another.
const TELLING: &[u8] = b"\0\"%&+-=?{}<>[]:;,#/\\\n\r \xff\x80019a.";

fn folder(kind: &str, target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz").join(kind).join(target)
}

/// The inputs of a folder, in the order of their names; none if it does not exist.
fn inputs(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read(&path).unwrap())).collect()
}

/// A generator of numbers, the same in every run (xorshift).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % most.max(1) as u64).unwrap()
    }
}

/// One to three changes: a byte replaced, inserted or removed, a part repeated, the end cut off.
fn changed(input: &[u8], numbers: &mut Numbers) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..=numbers.below(3) {
        let at = numbers.below(bytes.len());
        let telling = TELLING[numbers.below(TELLING.len())];
        match numbers.below(5) {
            0 if !bytes.is_empty() => bytes[at] = telling,
            1 => bytes.insert(at, telling),
            2 if !bytes.is_empty() => drop(bytes.remove(at)),
            3 => {
                let end = (at + numbers.below(16)).min(bytes.len());
                let part = bytes[at.min(end)..end].to_vec();
                bytes.splice(at..at, part);
            }
            _ => bytes.truncate(at.max(1)),
        }
    }
    bytes
}

#[expect(clippy::print_stderr, reason = "the name of the input that fails")]
fn try_all(target: &str) {
    let (_, body) = bodies::ALL.iter().find(|(name, _)| *name == target).unwrap();
    let seeds = inputs(&folder("seeds", target));
    assert!(!seeds.is_empty(), "no seed of {target}");
    let kept = inputs(&folder("kept", target));
    assert!(!kept.is_empty(), "nothing is kept of {target}");
    let found = inputs(&folder("corpus", target));
    let more = std::env::var("FUZZ_CHANGES").ok().map(|count| count.parse::<u64>().unwrap());
    let changes = more.unwrap_or(CHANGES);
    for (path, input) in seeds.iter().chain(&kept).chain(&found) {
        eprintln!("{}", path.display());
        body(input);
    }
    for (at, (path, input)) in seeds.iter().take(CHANGED_MAX).enumerate() {
        eprintln!("changes of {}", path.display());
        let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15 ^ (at as u64 + changes));
        (0..changes).for_each(|_| body(&changed(input, &mut numbers)));
    }
    body(b"");
}

macro_rules! targets {
    ($($target:ident),* $(,)?) => {
        $(
            #[test]
            fn $target() {
                try_all(stringify!($target));
            }
        )*

        #[test]
        fn every_target_is_tried_here_and_has_seeds() {
            let here = BTreeSet::from([$(stringify!($target).to_owned()),*]);
            assert_eq!(here, bodies::ALL.iter().map(|(name, _)| (*name).to_owned()).collect());
            let seeds = fs::read_dir(folder("seeds", "")).unwrap();
            let names = seeds.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            assert_eq!(here, names.collect());
        }
    };
}

targets! {
    admin_body, cursor, export_file, form_fields, head, journal_record, json_body, key_list, query_and_form,
    sender_file, simple_request, template, verify, xml_body,
}

/// The first inputs get past the first check of their body.
#[test]
fn every_seed_of_an_open_source_is_an_event() {
    use bodies::support::{Parts, check_open, open_recipe};
    let seed = |target: &str| fs::read(folder("seeds", target).join("plain")).unwrap();
    let (pairs, json, xml) = (seed("query_and_form"), seed("json_body"), seed("xml_body"));
    let template = String::from_utf8(seed("template")).unwrap();
    let form = Some("application/x-www-form-urlencoded");
    for (reads, parts) in [
        ("query", Parts::made(&pairs, None, b"")),
        ("form", Parts::made(b"", form, &pairs)),
        ("json", Parts::made(b"", Some("application/json"), &json)),
        ("xml", Parts::made(b"", Some("text/xml"), &xml)),
    ] {
        let event = check_open(&open_recipe(reads, Some(&template)), &parts);
        assert!(event.is_some(), "{reads}");
    }
}

#[test]
fn every_seed_of_the_store_is_read() {
    use postern::ledger::{ExportReader, Item, Keyring, RecordCheck, check_record};
    for (path, input) in inputs(&folder("seeds", "journal_record")) {
        assert_eq!(check_record(&input), RecordCheck::Sound, "{}", path.display());
    }
    for (path, input) in inputs(&folder("seeds", "export_file")) {
        let chunk = match ExportReader::begin(&input[..], &Keyring::default()) {
            Ok(mut reader) => reader.chunk().unwrap().unwrap_or_default(),
            Err(_) => Item::decode(&input).unwrap(),
        };
        assert!(!chunk.is_empty(), "{}", path.display());
    }
}
