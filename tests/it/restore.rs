//! A whole export, increments, and what is restored from them, with the program itself.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::backend::Backend;
use super::gateway::{PLAIN, eventually, taku, taku_for};
use super::kill::Process;
use super::store::{KEY, Place, file, transactions};
use super::wire::{Wire, ask, get, get_bytes, post};

/// A configuration with a destination at that address.
fn with_backend(address: std::net::SocketAddr) -> String {
    format!(
        "{PLAIN}destinations = [\"game\"]\n[[destination]]\nname = \"game\"\n\
         url = \"http://{address}/\"\n"
    )
}

/// Deliveries that are done.
fn done(process: &Process) -> usize {
    let answer = get(process.admin, "/admin/v1/deliveries?limit=1000&state=done");
    answer.json()["deliveries"].as_array().unwrap().len()
}

/// Calls as Taku does: a call that is left unanswered, as on a slow machine, is repeated.
fn call(process: &Process, numbers: std::ops::Range<u32>) {
    for n in numbers {
        let answer = || {
            let mut wire = Wire::open(process.callbacks);
            wire.send(get_bytes(&taku(&format!("tr-{n}"))));
            wire.answer()
        };
        assert_eq!(std::iter::repeat_with(answer).flatten().next().unwrap().status, 200);
    }
}

#[test]
fn increments_hold_what_is_new_and_the_newest_form_of_all_is_restored() {
    let key = [("POSTERN_MASTER_KEY", KEY)];
    let nowhere = Backend::nowhere();
    let here = Place::new(&with_backend(nowhere));
    let path = |name: &str| here.path(name);
    let export = |name: &str, since: &[&PathBuf]| {
        let output = path(name);
        let mut args = vec!["export", "--output", file(&output)];
        since.iter().for_each(|one| args.extend(["--since", file(one)]));
        here.done(&key, &args);
        output.clone()
    };

    // The destination is paused, which is written in documents, and everything waits.
    let process = Process::start_with(&here.config(), &key);
    assert_eq!(post(process.admin, "/admin/v1/destinations/game/pause", "").status, 200);
    call(&process, 0..20);
    process.stop();
    let base = export("base.export", &[]);

    // The destination is resumed, which changes the deliveries, and all of them are made.
    let backend = Backend::again(nowhere);
    let process = Process::start_with(&here.config(), &key);
    assert_eq!(post(process.admin, "/admin/v1/destinations/game/resume", "").status, 200);
    call(&process, 20..30);
    backend.await_count(30);
    eventually("all are done", || done(&process) == 30);
    process.stop();
    let first = export("first.export", &[&base]);
    let process = Process::start_with(&here.config(), &key);
    call(&process, 30..35);
    backend.await_count(35);
    eventually("all are done", || done(&process) == 35);
    process.stop();
    let second = export("second.export", &[&base, &first]);
    let size = |path: &PathBuf| fs::metadata(path).unwrap().len();
    assert!(size(&second) < size(&base) / 2, "{} of {}", size(&second), size(&base));

    // The drill.
    let all = [file(&base), file(&first), file(&second)];
    let there = Place::new(&with_backend(nowhere));
    let said = there.done(&key, &[&["restore", "--check"], &all[..]].concat());
    assert!(said.contains("base.export: whole, 24 items: 4 documents, 20 events (20 d"), "{said}");
    assert!(said.contains("second.export: whole, 12 items: 7 documents, 5 events (0 d"), "{said}");
    assert!(said.contains("together: 42 items: 7 documents, 35 events (0 deliveries"), "{said}");
    assert!(!there.path("postern-data").exists(), "a drill writes nothing");

    // A broken chain is rejected before anything is written.
    let why = |args: &[&str]| there.failed(&key, &[&["restore"], args].concat());
    assert!(why(&[all[0], all[2]]).contains("does not follow"));
    assert!(why(&[all[1], all[0]]).contains("is a whole export"));
    assert!(why(&[all[1]]).contains("is an increment"));
    assert!(there.failed(&key, &["import", all[1]]).contains("is an increment"));
    assert!(why(&[all[0], all[0]]).contains("is a whole export"));
    let torn = path("torn.export");
    let bytes = fs::read(&first).unwrap();
    fs::write(&torn, &bytes[..bytes.len() - 3]).unwrap();
    assert!(why(&[all[0], file(&torn)]).contains("ends early"));
    let sealed = there.failed(&[], &["restore", all[0]]);
    assert!(sealed.contains("POSTERN_MASTER_KEY") && sealed.contains(all[0]), "{sealed}");
    let (none, output) = (path("none.export"), path("third.export"));
    let args = ["export", "--since", file(&none), "--output", file(&output)];
    let unread = here.failed(&key, &args);
    assert!(unread.starts_with(&format!("{}: ", file(&none))), "{unread}");
    assert!(!output.exists());
    assert!(!there.path("postern-data").exists());

    // Restored, twice, and known there.
    let said = there.done(&key, &[&["restore"], &all[..]].concat());
    assert!(said.contains("42 restored, 20 known already or replaced since"), "{said}");
    let said = there.done(&key, &[&["restore"], &all[..]].concat());
    assert!(said.contains("\n0 restored"), "{said}");
    let process = Process::start_with(&there.config(), &key);
    assert_eq!(transactions(&process).len(), 35);
    assert_eq!(done(&process), 35, "nothing that was delivered is delivered again");
    call(&process, 0..35);
    assert_eq!(transactions(&process).len(), 35, "a known transaction was accepted again");
    call(&process, 35..36);
    backend.await_count(36);
    process.stop();
}

/// An increment takes the name of no export that it follows, under another path of it neither.
#[test]
fn an_increment_does_not_replace_what_it_follows() {
    let here = Place::new(&with_backend(Backend::start().at));
    let (base, alias) = (here.path("base.export"), here.path("alias.export"));
    Process::start(&here.config()).stop();
    here.done(&[], &["export", "--output", file(&base)]);
    let before = fs::read(&base).unwrap();
    std::os::unix::fs::symlink(&base, &alias).unwrap();
    for output in [&base, &alias] {
        let args = ["export", "--since", file(&base), "--output", file(output)];
        let refused = here.run(&[], &args);
        assert_eq!(refused.status.code(), Some(64), "bad usage");
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(said.contains("would replace an export that it follows"), "{said}");
        assert!(fs::read(&base).unwrap() == before, "it is as it was");
    }
}

/// 1. A store with a pause is moved: the destination is paused in its new home too.
/// 2. It is resumed there, and the import is repeated: it stays so.
#[test]
fn a_destination_stays_resumed_when_an_older_export_is_imported_again() {
    let backend = Backend::start();
    let (here, there) =
        (Place::new(&with_backend(backend.at)), Place::new(&with_backend(backend.at)));
    let paths = ["pause", "resume"].map(|what| format!("/admin/v1/destinations/game/{what}"));
    let process = Process::start(&here.config());
    assert_eq!(post(process.admin, &paths[0], "").status, 200);
    process.stop();
    let export = here.path("paused.export");
    here.done(&[], &["export", "--output", file(&export)]);

    there.done(&[], &["import", file(&export)]);
    let process = Process::start(&there.config());
    let state = |process: &Process| {
        let answer = get(process.admin, "/admin/v1/destinations/game/status");
        answer.json()["state"].clone()
    };
    assert_eq!(state(&process), "paused");
    assert_eq!(post(process.admin, &paths[1], "").status, 200);
    call(&process, 0..1);
    backend.await_count(1);
    process.stop();
    there.done(&[], &["import", file(&export)]);
    let process = Process::start(&there.config());
    assert_eq!(state(&process), "active");
    call(&process, 1..2);
    backend.await_count(2);
    process.stop();
}

/// 1. A user's event and a sample of a rejected callback are in the base, and then erased.
/// 2. A new event of the user is in the increment.
/// 3. What was erased is neither counted nor restored; its transaction stays known.
#[test]
fn what_was_erased_between_the_exports_of_a_chain_is_not_restored() {
    let user = "erased-between-4c1d";
    let (here, there) = (Place::new(PLAIN), Place::new(PLAIN));
    let (base, next) = (here.path("base.export"), here.path("next.export"));
    let process = Process::start(&here.config());
    assert_eq!(get(process.callbacks, &taku_for(user, "before", "10")).status, 200);
    let forged = taku_for(user, "forged", "10").replace("coin", "gold");
    assert_eq!(get(process.callbacks, &forged).status, 601);
    let samples = |process: &Process| {
        let listed = get(process.admin, "/admin/v1/rejections").json();
        listed["rejections"].as_array().unwrap().len()
    };
    eventually("a sample", || samples(&process) == 1);
    process.stop();
    here.done(&[], &["export", "--output", file(&base)]);
    here.done(&[], &["erase", "--user", user, "--yes"]);
    let process = Process::start(&here.config());
    assert_eq!(get(process.callbacks, &taku_for(user, "since", "10")).status, 200);
    process.stop();
    here.done(&[], &["export", "--since", file(&base), "--output", file(&next)]);

    let of = |args: &[&str]| -> serde_json::Value {
        let chain = [args, &["--json", file(&base), file(&next)]].concat();
        serde_json::from_str(&there.done(&[], &chain)).unwrap()
    };
    let drill = of(&["restore", "--check"]);
    let counts = |one: &serde_json::Value| {
        ["events", "rejected", "held"].map(|name| one[name].as_u64().unwrap())
    };
    assert_eq!(counts(&drill["exports"][0]), [1, 1, 0], "{drill}");
    assert_eq!(counts(&drill["together"]), [1, 0, 0], "{drill}");
    let restored = of(&["restore"]);
    assert_eq!(restored["erased"], 2, "{restored}");
    let process = Process::start(&there.config());
    assert_eq!((transactions(&process), samples(&process)), (vec!["since".to_owned()], 0));
    assert_eq!(get(process.callbacks, &taku_for(user, "before", "10")).status, 200);
    assert_eq!(transactions(&process), ["since"], "a known transaction was accepted again");
    process.stop();
    // Nor does an older export bring it back.
    there.done(&[], &["import", file(&base)]);
    let process = Process::start(&there.config());
    assert_eq!((transactions(&process), samples(&process)), (vec!["since".to_owned()], 0));
    process.stop();
}

/// 1. Two stores have other documents under the same names: an import names them.
/// 2. A store's own export is imported into it, also after a change: nothing is named.
#[test]
fn an_import_of_another_store_names_what_it_left_out() {
    let nowhere = Backend::nowhere();
    let stores = [(); 2].map(|()| Place::new(&with_backend(nowhere)));
    for store in &stores {
        let process = Process::start(&store.config());
        assert_eq!(post(process.admin, "/admin/v1/destinations/game/pause", "").status, 200);
        process.stop();
        store.done(&[], &["export", "--output", file(&store.path("own.export"))]);
    }
    let import = |from: &Place| {
        let output = stores[1].run(&[], &["import", file(&from.path("own.export"))]);
        assert_eq!(output.status.code(), Some(0));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let said = import(&stores[1]);
    assert!(!said.contains("not imported"), "{said}");
    let said = import(&stores[0]);
    assert!(said.contains("not imported: "), "{said}");
    assert!(said.contains("audit 00000000000000000001"), "{said}");
    let process = Process::start(&stores[1].config());
    assert_eq!(post(process.admin, "/admin/v1/destinations/game/resume", "").status, 200);
    process.stop();
    let said = import(&stores[1]);
    assert!(!said.contains("not imported"), "{said}");
}

/// Unfinished exports in the folder of a place.
fn parts(place: &Place) -> usize {
    let config = place.config();
    let entries = fs::read_dir(config.parent().unwrap()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("day.") && name.ends_with(".export.part")).count()
}

#[test]
fn exports_at_a_time_have_files_of_their_own_and_leave_none_when_they_are_interrupted() {
    let here = Place::new(PLAIN);
    let gateway = Process::start(&here.config());
    // Instead of the gateway, which holds the store, they ask one that never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let admin = format!("admin = \"{}\"", silent.local_addr().unwrap());
    fs::write(here.config(), PLAIN.replace("admin = \"127.0.0.1:0\"", &admin)).unwrap();
    let output = here.path("day.export");
    let begun = ["TERM", "INT"].map(|signal| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_postern"));
        command.args(["export", "--config"]).arg(here.config()).arg("--output").arg(&output);
        (command.env_remove("POSTERN_MASTER_KEY").spawn().unwrap(), signal)
    });
    eventually("both are written", || parts(&here) == 2);
    for (mut export, signal) in begun {
        let sent = Command::new("kill").args(["-s", signal, &export.id().to_string()]).status();
        assert!(sent.unwrap().success());
        let code = if signal == "TERM" { 143 } else { 130 };
        assert_eq!(export.wait().unwrap().code(), Some(code));
    }
    assert_eq!((parts(&here), output.exists()), (0, false));
    gateway.kill();
}

// === A store that speaks S3 ===

/// Its programs, which scripts/setup installs.
const WEED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/tools/seaweedfs/bin/weed");
pub const ACCOUNT: [(&str, &str); 2] =
    [("AWS_ACCESS_KEY_ID", "backup"), ("AWS_SECRET_ACCESS_KEY", "backup-secret")];

/// SeaweedFS, until it is dropped, with a bucket `backups`.
pub struct Seaweed {
    child: Child,
    pub url: String,
    filer: std::net::SocketAddr,
    _folder: tempfile::TempDir,
}

impl Seaweed {
    /// The server, if it is installed: CI has it.
    pub fn if_there() -> Option<Self> {
        if Path::new(WEED).exists() {
            return Some(Self::start());
        }
        let says = "SeaweedFS is missing (scripts/setup)";
        assert!(std::env::var_os("CI").is_none(), "{says}");
        // Not captured as `eprintln!` is: a skipped test passes, and says so.
        let _ =
            std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("SKIPPED: {says}\n"));
        None
    }

    /// The names in a folder, which begins with its bucket.
    pub fn keys(&self, folder: &str) -> Vec<String> {
        let head = "Host: a\r\nAccept: application/json\r\n\r\n";
        let listed = ask(self.filer, format!("GET /buckets/{folder} HTTP/1.1\r\n{head}")).json();
        let entries = listed["Entries"].as_array().cloned().unwrap_or_default();
        let name = |entry: &serde_json::Value| {
            entry["FullPath"].as_str().unwrap().rsplit('/').next().unwrap().to_owned()
        };
        entries.iter().map(name).collect()
    }

    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("s3.json");
        let account = serde_json::json!({"identities": [{
            "name": "postern",
            "credentials": [{"accessKey": ACCOUNT[0].1, "secretKey": ACCOUNT[1].1}],
            "actions": ["Admin", "Read", "Write", "List"],
        }]});
        fs::write(&config, account.to_string()).unwrap();
        let [master, volume, filer, s3] = free_ports();
        let mut weed = Command::new(WEED);
        weed.arg("server").arg(format!("-dir={}", folder.path().display()));
        weed.arg(format!("-s3.config={}", config.display())).args([
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            "-filer",
            "-s3",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-master.telemetry=false",
            "-volume.max=20",
            "-master.volumeSizeLimitMB=64",
        ]);
        let ports = [("master", master), ("volume", volume), ("filer", filer), ("s3", s3)];
        weed.args(ports.map(|(name, port)| format!("-{name}.port={port}")));
        weed.stdout(Stdio::null()).stderr(Stdio::null());
        let child = weed.spawn().unwrap();
        let to = |port: u16| std::net::SocketAddr::from(([127, 0, 0, 1], port));
        let url = format!("http://127.0.0.1:{s3}");
        let seaweed = Self { child, url, filer: to(filer), _folder: folder };
        let is_made = || {
            std::net::TcpStream::connect(to(filer)).is_ok()
                && std::net::TcpStream::connect(to(s3)).is_ok()
                && (200..300).contains(&post(to(filer), "/buckets/backups/", "").status)
        };
        eventually("SeaweedFS makes a bucket", is_made);
        seaweed
    }
}

impl Drop for Seaweed {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Ports that are free, with those 10,000 above them, which SeaweedFS uses too.
fn free_ports() -> [u16; 4] {
    let mut found = Vec::new();
    while found.len() < 4 {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let low = port % 20_000 + 20_000;
        let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
        if free(low) && free(low + 10_000) && !found.contains(&low) {
            found.push(low);
        }
    }
    found.try_into().unwrap()
}

#[test]
fn exports_go_to_a_store_that_speaks_s3_and_come_back() {
    let Some(seaweed) = Seaweed::if_there() else { return };
    let here = Place::new(PLAIN);
    let process = Process::start(&here.config());
    call(&process, 0..30);
    process.stop();
    let account = [ACCOUNT[0], ACCOUNT[1], ("AWS_ENDPOINT_URL", &seaweed.url)];
    let (base, next) = ("s3://backups/postern/base.export", "s3://backups/postern/next.export");
    here.done(&account, &["export", "--output", base]);
    let process = Process::start(&here.config());
    call(&process, 30..40);
    process.stop();
    here.done(&account, &["export", "--since", base, "--output", next]);

    let there = Place::new(PLAIN);
    let said = there.done(&account, &["restore", "--check", base, next]);
    assert!(said.contains("together: 43 items: 3 documents, 40 events"), "{said}");
    let said = there.done(&account, &["restore", base, next]);
    assert!(said.contains("43 restored"), "{said}");
    let process = Process::start(&there.config());
    assert_eq!(transactions(&process).len(), 40);
    process.stop();

    // Impossible requests: no such object, a wrong secret, no account.
    let why = there.failed(&account, &["restore", "--check", "s3://backups/none.export"]);
    assert!(why.contains("s3://backups/none.export: the store answers 404"), "{why}");
    let wrong = [ACCOUNT[0], ("AWS_SECRET_ACCESS_KEY", "wrong"), account[2]];
    let why = there.failed(&wrong, &["export", "--output", "s3://backups/wrong.export"]);
    assert!(why.contains("403") && !why.contains("wrong\""), "{why}");
    let why = there.failed(&[account[2]], &["export", "--output", base]);
    assert!(why.contains("AWS_ACCESS_KEY_ID"), "{why}");
}
