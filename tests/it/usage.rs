//! Mistakes at the command line, and answers for programs: each command says what is wrong, ends with
//! the same code for the same mistake, and prints JSON where that is asked for.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::backend::{Backend, ok, status};
use super::deliver::{call, condition, outcomes, tries, with};
use super::gateway::{Gateway, PLAIN, TAKU_SECRET, eventually, taku};
use super::wire::{get, give_token, post};

fn postern(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_postern"));
    command.current_dir(folder).env_remove("POSTERN_CONFIG").env_remove("POSTERN_MASTER_KEY");
    command.stdin(Stdio::null());
    command
}

/// Exit code, standard output, standard error.
struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

fn run(folder: &Path, args: &[&str]) -> Ran {
    let output = postern(folder).args(args).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// Runs a command with `--json` and reads its one object.
fn json_of(folder: &Path, args: &[&str]) -> (Option<i32>, Value) {
    let Ran { code, out, err } = run(folder, &[args, &["--json"]].concat());
    let read = serde_json::from_str(&out);
    (code, read.unwrap_or_else(|error| panic!("{args:?}: {error}: {out}{err}")))
}

fn folder_with(text: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("postern.toml"), text).unwrap();
    folder
}

/// A folder with the configuration of a running gateway, and its token.
fn beside(gateway: &Gateway, text: &str) -> tempfile::TempDir {
    let admin = format!("admin = \"{}\"", gateway.at.admin);
    let folder = folder_with(&text.replace("admin = \"127.0.0.1:0\"", &admin));
    give_token(gateway.at.admin, &folder.path().join("postern-data"));
    folder
}

/// A store with one event of `level-end` and nothing that works on it.
fn with_store() -> tempfile::TempDir {
    let folder = folder_with(&format!("{PLAIN}\n[store]\npath = \"data\"\n"));
    let process = super::kill::Process::under("true", &folder.path().join("postern.toml"));
    assert_eq!(get(process.callbacks, &taku("t1")).status, 200);
    process.kill();
    folder
}

#[test]
fn commands_on_the_store_print_json() {
    let folder = with_store();
    let at = folder.path();
    let (code, verified) = json_of(at, &["verify"]);
    assert_eq!((code, &verified["whole"], &verified["events"]), (Some(0), &json!(true), &json!(1)));
    let (code, exported) = json_of(at, &["export", "--output", "x.export"]);
    assert_eq!((code, &exported["output"]), (Some(0), &json!("x.export")));
    assert!(exported["items"].as_u64().unwrap() > 0, "{exported}");
    let (code, drill) = json_of(at, &["restore", "--check", "x.export"]);
    assert_eq!((code, &drill["together"]["events"]), (Some(0), &json!(1)));
    assert_eq!(drill["exports"][0]["export"], "x.export");
    let (code, imported) = json_of(at, &["import", "x.export"]);
    assert_eq!((code, &imported["taken"]), (Some(0), &json!(0)));
    let (code, rebuilt) = json_of(at, &["rebuild"]);
    assert_eq!((code, rebuilt["segments"].is_u64()), (Some(0), true));
    let (code, forgotten) = json_of(at, &["forget", "--yes", "level-end"]);
    assert_eq!((code, forgotten["forgotten"].as_u64() > Some(0)), (Some(0), true), "{forgotten}");
}

#[test]
fn what_does_not_exist_is_not_forgotten_or_erased() {
    let folder = with_store();
    let Ran { code, err, .. } = run(folder.path(), &["forget", "--yes", "nosuch"]);
    assert_eq!(code, Some(64), "{err}");
    assert!(err.contains("there is no source \"nosuch\""), "{err}");
    let process = super::kill::Process::under("true", &folder.path().join("postern.toml"));
    let audit = get(process.admin, "/admin/v1/audit").body;
    assert!(!audit.contains("forgotten"), "{audit}");
    process.kill();
    let erase = ["erase", "--user", "u1", "--yes", "--source", "nosuch"];
    let Ran { code, err, .. } = run(folder.path(), &erase);
    assert_eq!(code, Some(64), "{err}");
    // The end of standard input is not a wrong answer.
    for args in [&["forget", "level-end"][..], &["erase", "--user", "u1"]] {
        let Ran { code, err, .. } = run(folder.path(), args);
        assert_eq!(code, Some(64), "{err}");
        assert!(err.contains("standard input has ended"), "{err}");
    }
}

#[test]
fn a_missing_file_an_unknown_reason_and_an_id_of_another_kind_are_usage_errors() {
    let folder = folder_with(PLAIN);
    let cases: [(&[&str], &str); 5] = [
        (&["import", "none.export"], "none.export: does not exist; name a file that"),
        (&["restore", "--check", "none.export"], "none.export: does not exist; name a file that"),
        (&["release", "level-end", "--reason", "bad_signatur"], "did you mean bad_signature?"),
        (&["release", "level-end", "--reason", "timeout"], "timeout cannot be held"),
        (&["explain", "--rejection", "evt_1"], "it is ref_ and 32 hexadecimal digits"),
    ];
    for (args, remedy) in cases {
        let Ran { code, err, .. } = run(folder.path(), args);
        assert_eq!(code, Some(64), "{args:?}: {err}");
        assert!(err.contains(remedy), "{args:?}: {err}");
    }
}

#[test]
fn a_command_needs_no_more_secrets_than_its_own() {
    let text = format!("{PLAIN}\n[store]\npath = \"data\"\n")
        .replace(&format!("\"{TAKU_SECRET}\""), "\"env:POSTERN_T_NOT_SET\"");
    let backend = Backend::start();
    backend.says(ok());
    let alert = format!(
        "[[alert]]\nname = \"oncall\"\nurl = \"http://{}/\"\n[[alert]]\nname = \"other\"\nurl = \
         \"http://{}/\"\nsecret = \"env:POSTERN_T_NEITHER\"\n",
        backend.at, backend.at
    );
    let folder = folder_with(&format!("{text}{alert}"));
    let Ran { code, err, .. } = run(folder.path(), &["alert", "test", "oncall"]);
    assert_eq!(code, Some(0), "{err}");
    let Ran { code, err, .. } = run(folder.path(), &["alert", "test", "other"]);
    assert_eq!(code, Some(64), "{err}");
    assert!(err.contains("POSTERN_T_NEITHER is not set"), "{err}");
    // A source without its secret has no URL to show, and that is said.
    let Ran { code, out, err } = run(folder.path(), &["url"]);
    assert_eq!((code, out.as_str()), (Some(64), ""), "{err}");
    assert!(err.contains("POSTERN_T_NOT_SET is not set"), "{err}");
    for misspelled in [
        &["sign", "levelend"][..],
        &["explain", "levelend", "a=b"],
        &["explain", "/callback/levelend?a=b"],
        &["url", "levelend"],
    ] {
        let Ran { code, err, .. } = run(folder.path(), misspelled);
        assert_eq!(code, Some(64), "{err}");
        assert!(err.ends_with("did you mean level-end?\n"), "{err}");
    }
    let Ran { code, err, .. } = run(folder.path(), &["explain", "/callback/level-end?a=b"]);
    assert_eq!(code, Some(64), "{err}");
    assert!(err.contains("POSTERN_T_NOT_SET is not set"), "{err}");
    // A query names no source, whatever its values are.
    let query = "a=b&u=https://h/callback/level-end";
    let Ran { code, err, .. } = run(folder.path(), &["explain", query]);
    assert_eq!(code, Some(64), "{err}");
    assert!(err.contains("it does not say which source it is for"), "{err}");
    let Ran { code, err, .. } = run(folder.path(), &["forget", "--yes", "level-end"]);
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("there is no ledger in"), "not a secret: {err}");
}

#[test]
fn init_knows_senders_by_their_other_names_and_marks_placeholders() {
    let folder = tempfile::tempdir().unwrap();
    let (code, made) = json_of(folder.path(), &["init", "topon"]);
    assert_eq!((code, &made["configuration"]), (Some(0), &json!("postern.toml")));
    assert_eq!(made["placeholders"], json!(["TAKU_SECRET"]));
    let toml = fs::read_to_string(folder.path().join("postern.toml")).unwrap();
    assert!(toml.contains("sender       = \"taku\""), "{toml}");
    let strict = ["check", "--strict", "--env-file", "postern.env"];
    let Ran { code, err, .. } = run(folder.path(), &strict);
    assert_eq!(code, Some(64), "{err}");
    assert!(err.contains("TAKU_SECRET: is a placeholder that `postern init` made up"), "{err}");
    let env = folder.path().join("postern.env");
    let text = fs::read_to_string(&env).unwrap();
    let (head, made_up) = text.trim_end().rsplit_once('=').unwrap();
    assert!(!err.contains(made_up), "a secret is not shown");
    fs::write(&env, format!("{head}={}\n", "a".repeat(32))).unwrap();
    let Ran { code, err, .. } = run(folder.path(), &strict);
    assert_eq!(code, Some(0), "{err}");
}

#[test]
fn check_prints_json_and_reads_standard_input() {
    let folder = folder_with("[server]\ncalbacks = 2\n");
    let (code, checked) = json_of(folder.path(), &["check", "postern.toml"]);
    assert_eq!((code, &checked["ok"]), (Some(64), &json!(false)));
    assert_eq!(checked["errors"][0]["line"], 2);
    assert_eq!(checked["errors"][0]["key"], "server.calbacks");
    fs::write(folder.path().join("postern.toml"), PLAIN).unwrap();
    let (code, checked) = json_of(folder.path(), &["check"]);
    assert_eq!((code, &checked["ok"]), (Some(0), &json!(true)));
    assert_eq!(checked["summary"]["sources"][0][0], "level-end");
    let input = fs::File::open(folder.path().join("postern.toml")).unwrap();
    let output = postern(folder.path()).args(["check", "-"]).stdin(input).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("-: OK"));
    let (_, shown) = json_of(folder.path(), &["senders", "taku"]);
    assert_eq!(shown["name"], "taku");
    assert!(shown["parts"].as_array().unwrap().iter().any(|part| part["title"] == "Replies"));
}

#[test]
fn a_pause_has_a_reason_and_a_test_closes_the_breaker() {
    let backend = Backend::start();
    backend.says(status(500));
    let text = with(&[("game", tries(backend.at, 20))]);
    let gateway = Gateway::start(&text);
    let folder = beside(&gateway, &text);
    call(&gateway, "b1");
    eventually("open", || condition(&gateway, "status")["breaker"] == "open");
    let listed = run(folder.path(), &["destinations"]);
    assert!(listed.out.contains("game  failing"), "{}", listed.out);
    let failed = condition(&gateway, "status");
    assert_eq!(failed["last_failure"]["status"], 500, "{failed}");
    assert!(failed["failures"].as_u64().unwrap() >= 10, "{failed}");
    let paused =
        run(folder.path(), &["destinations", "pause", "game", "--reason", "moving until 14:00"]);
    assert_eq!(paused.code, Some(0), "{}", paused.err);
    assert!(paused.out.contains(": moving until 14:00"), "{}", paused.out);
    assert_eq!(condition(&gateway, "status")["paused"]["reason"], "moving until 14:00");
    assert!(run(folder.path(), &["audit", "--json"]).out.contains("moving until 14:00"));
    assert!(run(folder.path(), &["destinations"]).out.contains("game  paused"));
    let wrong = post(gateway.at.admin, "/admin/v1/destinations/game/pause", r#"{"resaon":"x"}"#);
    assert_eq!(wrong.status, 400, "{}", wrong.body);

    backend.says(ok());
    let before = backend.got().len();
    let tried = run(folder.path(), &["destinations", "test", "game"]);
    assert_eq!(tried.code, Some(0), "{}{}", tried.out, tried.err);
    let event = backend.await_count(before + 1)[before].json();
    assert_eq!((&event["test"], &event["effect"]), (&json!(true), &json!("none")), "{event}");
    eventually("closed", || condition(&gateway, "status")["breaker"] == "closed");
}

#[test]
fn a_dry_run_is_not_audited_as_a_replay_and_an_unknown_event_fails() {
    let backend = Backend::start();
    backend.says(status(400));
    let text = with(&[("game", tries(backend.at, 1))]);
    let gateway = Gateway::start(&text);
    let folder = beside(&gateway, &text);
    call(&gateway, "d1");
    eventually("dead", || outcomes(&gateway, "dead") == 1.0);
    let dry = run(folder.path(), &["replay", "--all", "--dry-run"]);
    assert_eq!(dry.code, Some(0), "{}", dry.err);
    let audited = || get(gateway.at.admin, "/admin/v1/audit").json();
    assert_eq!(audited()["audit"], json!([]));
    let unknown = run(folder.path(), &["replay", "evt_01900000000070008000000000000000"]);
    assert_eq!(unknown.code, Some(1), "{}{}", unknown.out, unknown.err);
    assert!(unknown.err.contains("there is no event"), "{}", unknown.err);
    let real = run(folder.path(), &["replay", "--all"]);
    assert_eq!(real.code, Some(0), "{}", real.err);
    assert_eq!(audited()["audit"][0]["action"], "replayed");
}

#[test]
fn explain_says_where_the_gateway_would_answer_404() {
    let folder = folder_with(PLAIN);
    let explained = |path: &str| run(folder.path(), &["explain", path]);
    let good = taku("x1");
    let right = explained(&good);
    assert_eq!(right.code, Some(0), "{}{}", right.out, right.err);
    let slash = explained(&good.replace("level-end?", "level-end/?"));
    assert_eq!(slash.code, Some(1), "{}", slash.out);
    assert!(
        slash.err.contains("404") && slash.err.contains("/callback/level-end"),
        "{}",
        slash.err
    );
}

#[test]
fn sign_says_what_it_cannot_make_and_what_nothing_reads() {
    let folder = tempfile::tempdir().unwrap();
    let made = run(folder.path(), &["init", "taku", "meta", "dingtalk", "admob"]);
    assert_eq!(made.code, Some(0), "{}", made.err);
    let sign = |args: &[&str]| {
        run(folder.path(), &[&["sign", "--env-file", "postern.env"], args].concat())
    };
    let taku = ["taku", "transaction=t", "placement_id=p", "adsource_id=9", "amount=1", "item=c"];
    let extra = sign(&[&taku[..], &["nosuch=1"]].concat());
    assert_eq!(extra.code, Some(0), "{}", extra.err);
    assert!(extra.err.contains("note: taku has no nosuch"), "{}", extra.err);
    assert_eq!(sign(&taku).err, "");
    let digest = sign(&["meta", "transaction=1"]);
    assert!(digest.err.contains("is a digest of what is sent; write the body"), "{}", digest.err);
    for parts in [&["dingtalk"][..], &["dingtalk", "nonce=n1"]] {
        let sealed = sign(parts);
        assert!(
            sealed.err.starts_with("dingtalk: body: is missing: the sender encrypts its messages"),
            "{}",
            sealed.err
        );
        assert!(sealed.err.contains("key=value") && sealed.out.is_empty(), "{}", sealed.out);
        assert_eq!(sealed.code, Some(64));
    }
    let made = sign(&["dingtalk", "EventType=user_add_org"]);
    assert_eq!(made.code, Some(0), "{}", made.err);
    assert!(made.out.contains("msg_signature=") && made.out.contains("encrypt="), "{}", made.out);
    assert_eq!(digest.code, Some(64));
    // Their pages do not promise it.
    let page = |name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("docs/senders/{name}.md"));
        fs::read_to_string(path).unwrap()
    };
    assert!(page("taku").contains("`postern sign SOURCE …` makes a test callback"));
    assert!(page("admob").contains("only the sender can sign a callback"));
}

#[test]
fn the_demo_prints_its_rows_as_json() {
    let folder = tempfile::tempdir().unwrap();
    let Ran { code, out, err } = run(folder.path(), &["demo", "--once", "--json"]);
    assert_eq!(code, Some(0), "{err}");
    let rows: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let one = |outcome: &str| rows.iter().find(|row| row["outcome"] == outcome).unwrap();
    assert_eq!(one("accepted")["source"], "level-end");
    assert_eq!(one("rejected")["reason"], "bad_signature");
    assert!(err.contains("0 had an unexpected outcome"), "{err}");
}
