//! The command line beside a running gateway: it needs no secret of a source, finds the gateway and
//! its token, and says so where a name is misspelled.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use super::backend::{Backend, status};
use super::deliver::{KEY, call, condition, outcomes, tries, whsec, with};
use super::gateway::{Gateway, PLAIN, TAKU_SECRET, eventually};
use super::kill::Process;
use super::wire::{get, give_token, post, send};

/// A folder with the configuration of a gateway, whose secrets are variables that are not set.
pub struct Commands {
    folder: tempfile::TempDir,
}

/// The result of a command.
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Commands {
    pub fn beside(gateway: &Gateway) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let text = with(&[("game", tries(gateway.at.admin, 1))])
            .replace("admin = \"127.0.0.1:0\"", &format!("admin = \"{}\"", gateway.at.admin))
            .replace(&format!("\"{TAKU_SECRET}\""), "\"env:POSTERN_T_NOT_SET\"")
            .replace(&format!("\"{}\"", whsec(KEY)), "\"env:POSTERN_T_NEITHER\"");
        fs::write(folder.path().join("postern.toml"), text).unwrap();
        give_token(gateway.at.admin, &folder.path().join("postern-data"));
        Self { folder }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("postern.toml")
    }

    pub fn run(&self, args: &[&str]) -> Ran {
        ran(postern(self.folder.path()).args(args))
    }

    /// Runs a command that must end well, and answers what it said.
    pub fn done(&self, args: &[&str]) -> String {
        let Ran { code, out, err } = self.run(args);
        assert_eq!(code, Some(0), "{args:?}: {out}{err}");
        out
    }
}

/// The binary, in a folder.
fn postern(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_postern"));
    command.current_dir(folder).env_remove("POSTERN_CONFIG");
    command
}

fn ran(command: &mut Command) -> Ran {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

#[test]
fn commands_need_no_secret_of_a_source_and_find_their_configuration() {
    let backend = Backend::start();
    backend.says(status(400));
    let gateway = Gateway::start(&with(&[("game", tries(backend.at, 1))]));
    call(&gateway, "c1");
    eventually("dead", || outcomes(&gateway, "dead") == 1.0);
    let commands = Commands::beside(&gateway);
    let id = backend.got()[0].header("webhook-id").to_owned();

    assert!(commands.done(&["events"]).contains(&id));
    let path = commands.path().display().to_string();
    assert!(commands.done(&["events", "-c", &path, "--since", "1h"]).contains(&id));
    assert!(commands.done(&["--config", &path, "events", "--user", "u1"]).contains(&id));
    let elsewhere = tempfile::tempdir().unwrap();
    let by_variable = ran(postern(elsewhere.path()).env("POSTERN_CONFIG", &path).arg("events"));
    assert_eq!(by_variable.code, Some(0), "{}", by_variable.err);

    let shown = commands.done(&["events", &id]);
    assert!(shown.contains("\ndeliveries\n  game") && shown.contains(" ms  400\n"), "{shown}");
    let json: Value = serde_json::from_str(&commands.done(&["--json", "events", &id])).unwrap();
    assert_eq!(json["deliveries"][0]["state"], "dead");

    let sources = commands.done(&["sources"]);
    assert!(sources.contains("level-end  taku    /callback/level-end  game"), "{sources}");
    let one = commands.done(&["sources", "level-end", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&one).unwrap()["sender"], "taku");
    let one = commands.done(&["sources", "level-end"]);
    assert!(one.lines().any(|line| line.split_whitespace().eq(["sender", "taku"])), "{one}");
    assert!(commands.done(&["destinations"]).contains("game"));
    assert!(commands.done(&["destinations", "pause", "game"]).contains("operator, by local"));
    assert_eq!(condition(&gateway, "status")["state"], "paused");
    let status = commands.done(&["destinations", "status", "game", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&status).unwrap()["dead"], 1);
    assert!(commands.done(&["destinations", "resume", "game"]).contains("active"));
    let tried = commands.run(&["destinations", "test", "game"]);
    assert_eq!(tried.code, Some(1), "400 is a failure: {}", tried.out);
    assert!(tried.out.contains("400"), "{}", tried.out);

    let dead = commands.done(&["deliveries", "--json"]);
    let dead: Value = serde_json::from_str(&dead).unwrap();
    assert_eq!((&dead["state"], &dead["last_status"]), (&json!("dead"), &json!(400)));
    let event = ["source", "transaction", "user"].map(|key| dead[key].as_str().unwrap());
    assert_eq!(event, ["level-end", "c1", "u1"]);
    let table = commands.done(&["deliveries"]);
    assert!(table.contains("last_status") && !table.contains("due_at"), "{table}");
    assert!(
        commands.done(&["deliveries", "--state", "dead", "--destination", "game"]).contains(&id)
    );
    assert!(commands.done(&["audit"]).contains("pause"));

    let dry = commands.done(&["replay", "--state", "dead", "--dry-run"]);
    assert_eq!(
        dry,
        "done (dry run: nothing is delivered): events looked at: 1 of 1, to be delivered again: 1, \
         deliveries: 1\n"
    );
    assert_eq!(backend.got().len(), 2, "the delivery and the test");
    let none = commands.done(&["replay", "--state", "dead", "--user", "u9"]);
    assert_eq!(none, "nothing matches: no delivery is made\n");
    let verified = commands.run(&["verify"]);
    assert_eq!(verified.code, Some(1));
    assert!(verified.err.contains("there is no ledger in"), "not a secret: {}", verified.err);
}

#[test]
fn a_misspelled_name_is_an_error_with_the_nearest_name() {
    let backend = Backend::start();
    let gateway = Gateway::start(&with(&[("game", tries(backend.at, 1))]));
    let commands = Commands::beside(&gateway);
    let cases: [(&[&str], i32, &str); 12] = [
        (&["held", "--source", "levle-end"], 64, "did you mean level-end?"),
        (&["held", "tr-1"], 64, "look for a transaction with --transaction"),
        (&["events", "tr-1"], 64, "look for a transaction with --transaction"),
        (&["replay", "tr-1"], 64, "look for a transaction with --transaction"),
        (&["replay", "--dry-run"], 64, "narrow with --state"),
        (&["events", "--source", "levle-end"], 64, "did you mean level-end?"),
        (&["events", "--rejected", "--source", "levle-end"], 64, "did you mean level-end?"),
        (&["replay", "--source", "levle-end", "--state", "dead"], 64, "did you mean level-end?"),
        (&["replay", "--destination", "gmae"], 64, "did you mean game?"),
        (&["destinations", "pause", "gmae"], 64, "did you mean game?"),
        (&["deliveries", "--destination", "gmae"], 64, "did you mean game?"),
        (&["url", "levle-end"], 64, "did you mean level-end?"),
    ];
    for (args, code, remedy) in cases {
        let Ran { code: ended, out, err } = commands.run(args);
        assert_eq!(ended, Some(code), "{args:?}: {out}{err}");
        assert!(err.contains(remedy), "{args:?}: {err}");
    }
    let nothing = commands.run(&["events", "--source", "level-end"]);
    assert_eq!((nothing.code, nothing.err.as_str()), (Some(0), "nothing matches\n"));
    let since = commands.run(&["events", "--since", "yesterday"]);
    assert_eq!(since.code, Some(64));
    assert!(since.err.contains("write a duration such as"), "{}", since.err);
}

#[test]
fn the_token_of_the_machine_works_beside_configured_ones() {
    let text = format!("{PLAIN}[admin]\ntoken = \"0123456789abcdef0123456789abcdef\"\n");
    let gateway = Gateway::start(&text);
    let bearer = |token: &str| format!("Bearer {token}");
    let path = gateway.folder().join("postern-data/admin-token");
    eventually("a token", || path.exists());
    let own = fs::read_to_string(path).unwrap();
    let ask = |token: &str| {
        let headers = [("authorization", bearer(token))];
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        send(gateway.at.admin, "GET /admin/v1/events", &headers, "").status
    };
    assert_eq!(ask(own.trim()), 200);
    assert_eq!(ask("0123456789abcdef0123456789abcdef"), 200);
    assert_eq!(ask("another-0123456789abcdef01234567"), 401);
    assert_eq!(get(gateway.at.admin, "/admin/v1/events").status, 401);
}

#[test]
fn sources_of_the_api_have_urls_and_signatures() {
    let gateway = Gateway::start(PLAIN);
    let table = json!({ "sender": "taku", "secrets": "a-secret-of-the-api", "replayable": true });
    let put = send(gateway.at.admin, "PUT /admin/v1/sources/bonus", &[], &table.to_string());
    assert_eq!(put.status, 201, "{}", put.body);
    let commands = Commands::beside(&gateway);
    let url = commands.done(&["url", "bonus"]);
    assert!(url.contains("/callback/bonus?") && url.contains("{trans_id}"), "{url}");
    let all = commands.done(&["url"]);
    assert!(all.contains("bonus") && all.contains("level-end"), "{all}");

    let parts = ["transaction=b1", "user=u1", "item=coin", "amount=1"];
    let more = ["placement_id=p", "adsource_id=9"];
    let signed = commands.done(&[&["sign", "--local", "bonus"][..], &parts, &more].concat());
    let path = signed.trim().split_once("/callback").map(|(_, rest)| format!("/callback{rest}"));
    let path = path.unwrap();
    assert_eq!(get(gateway.at.callbacks, &path).status, 200, "{path}");
    let json = commands.done(&[&["--json", "sign", "bonus"][..], &parts, &more].concat());
    assert!(
        serde_json::from_str::<Value>(&json).unwrap()["curl"].as_str().unwrap().contains("curl")
    );

    let verdict = commands.done(&["explain", "bonus", &path]);
    assert!(verdict.contains("verified"), "{verdict}");
    let wrong = commands.run(&["sign", "bonnus", "transaction=b1"]);
    assert_eq!(wrong.code, Some(64), "{}", wrong.err);
    assert_eq!(wrong.err, "there is no source \"bonnus\"; did you mean bonus?\n");
    // The file is ahead of the gateway until the next reload.
    let mut text = fs::read_to_string(commands.path()).unwrap();
    text.push_str("\n[[source]]\nname = \"chest\"\nsender = \"taku\"\nsecrets = \"of-chests\"\n");
    fs::write(commands.path(), text).unwrap();
    let wrong = commands.run(&["sign", "chset", "transaction=b1"]);
    assert_eq!(wrong.code, Some(64), "{}", wrong.err);
    assert!(wrong.err.ends_with("did you mean chest?\n"), "{}", wrong.err);
    let lacking = commands.run(&["sign", "bonus", "transaction=b1"]);
    assert_eq!(lacking.code, Some(64), "{}", lacking.err);
    // Without the gateway, a source of the file says which secret is missing.
    gateway.stop();
    let missing = commands.run(&["sign", "level-end", "transaction=b1"]);
    assert_eq!(missing.code, Some(64));
    assert!(missing.err.contains("the variable POSTERN_T_NOT_SET is not set"), "{}", missing.err);
    assert!(missing.err.contains("--env-file FILE"), "{}", missing.err);
}

#[test]
fn a_file_of_variables_gives_the_secrets() {
    let gateway = Gateway::start(PLAIN);
    let commands = Commands::beside(&gateway);
    let failed = commands.run(&["check"]);
    assert_eq!(failed.code, Some(64), "{}", failed.out);
    let env = commands.folder.path().join("postern.env");
    let text =
        format!("# secrets\nPOSTERN_T_NOT_SET={TAKU_SECRET}\nPOSTERN_T_NEITHER='{}'\n", whsec(KEY));
    fs::write(&env, text).unwrap();
    let env = env.display().to_string();
    let checked = commands.run(&["check", "--env-file", &env]);
    assert_eq!(checked.code, Some(0), "{}", checked.err);
    let path = commands.path().display().to_string();
    let by_name = ran(postern(Path::new("/")).args(["check", &path, "--env-file", &env]));
    assert_eq!(by_name.code, Some(0), "{}", by_name.err);
    assert!(by_name.out.starts_with(&path), "{}", by_name.out);
    fs::write(commands.folder.path().join("bad.env"), "A=1\noops\n").unwrap();
    let bad = commands.run(&["check", "--env-file", "bad.env"]);
    assert_eq!(bad.code, Some(64));
    assert!(bad.err.contains("bad.env:2: is not a variable; write NAME=VALUE"), "{}", bad.err);
    let missing = commands.run(&["check", "--env-file", "none.env"]);
    assert!(missing.err.contains("none.env: cannot be read"), "{}", missing.err);
}

#[test]
fn what_init_writes_passes_the_check_and_is_not_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| ran(postern(folder.path()).args(args));
    let Ran { code, out, err } = run(&["init", "taku", "stripe", "admob"]);
    assert_eq!((code, out.as_str()), (Some(0), "postern.toml\npostern.env\n"), "{err}");
    assert!(err.contains("TAKU_SECRET") && err.contains("postern serve"), "{err}");
    let mode = fs::metadata(folder.path().join("postern.env")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let checked = run(&["check", "--env-file", "postern.env"]);
    assert_eq!(checked.code, Some(0), "{}", checked.err);
    assert!(checked.out.contains("taku") && checked.out.contains("to backend"), "{}", checked.out);
    let toml = fs::read_to_string(folder.path().join("postern.toml")).unwrap();
    let again = run(&["init", "github"]);
    assert_eq!(again.code, Some(1));
    assert!(again.err.contains("--force"), "{}", again.err);
    assert_eq!(fs::read_to_string(folder.path().join("postern.toml")).unwrap(), toml);
    assert_eq!(run(&["init", "--force", "github"]).code, Some(0));
    let wrong = run(&["init", "-c", "other.toml", "githbu"]);
    assert_eq!(wrong.code, Some(64));
    assert!(wrong.err.contains("did you mean github?"), "{}", wrong.err);
}

/// `postern listen`, and its lines.
struct Listener {
    process: Child,
    out: BufReader<std::process::ChildStdout>,
    err: BufReader<std::process::ChildStderr>,
}

impl Listener {
    fn start(folder: &Path, args: &[&str]) -> Self {
        let mut command = postern(folder);
        command.arg("listen").args(args).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let out = BufReader::new(process.stdout.take().unwrap());
        let err = BufReader::new(process.stderr.take().unwrap());
        Self { process, out, err }
    }

    fn said(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        line
    }

    fn noted(&mut self) -> String {
        let mut line = String::new();
        self.err.read_line(&mut line).unwrap();
        line
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn listen_verifies_prints_and_forwards_what_is_delivered_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let local = Backend::start();
    let forward = format!("http://{}/hook", local.at);
    let secret = whsec(KEY);
    let args = ["--at", "127.0.0.1:0", "--secret", &secret, "--forward-to", &forward];
    let mut listener = Listener::start(folder.path(), &args);
    let line = listener.noted();
    let at = line.trim().strip_prefix("listening on http://").unwrap().trim_end_matches('/');
    let at = at.parse().unwrap();
    let gateway = Gateway::start(&with(&[("game", tries(at, 20))]));
    call(&gateway, "l1");
    let line = listener.said();
    for part in ["level-end", "grant", "l1", "user u1", "10 coin", "verified", "-> 200 in "] {
        assert!(line.contains(part), "{part}: {line}");
    }
    let got = local.await_count(1);
    assert_eq!(got[0].json()["transaction"], "l1");
    assert!(got[0].header("webhook-signature").starts_with("v1,"));
    assert_eq!(post(at, "/", "{}").status, 401);
    assert!(listener.noted().contains("rejected: webhook-id is missing"));
    local.says(status(500));
    call(&gateway, "l2");
    assert!(listener.said().contains("-> 500"), "the gateway gets the status, and retries");
    local.says(status(200));
    eventually("retried", || outcomes(&gateway, "done") == 2.0);
}

/// A destination that signs with a key of the gateway alone: the listener has no secret.
#[test]
fn listen_verifies_with_the_public_key_that_the_gateway_publishes() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = free.local_addr().unwrap();
    drop(free);
    let game = format!(
        "url = \"http://{at}/\"\nsign = \"v1a\"\n\
         retry = {{ first = \"20ms\", max = \"100ms\", attempts = 50 }}\n"
    );
    let key = "whsk_AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
    let text = with(&[("game", game)]) + &format!("[egress]\nsigning_key = \"{key}\"\n");
    let gateway = Gateway::start(&text);
    let key = get(gateway.at.admin, "/admin/v1/signing-key?destination=game").json();
    let key = key["public_keys"][0].as_str().unwrap().to_owned();
    let commands = Commands::beside(&gateway);
    let args = ["--at", &at.to_string(), "--count", "1"];
    for how in [["--secret", &key], ["--destination", "game"]] {
        let mut listener = Listener::start(commands.folder.path(), &[&args[..], &how].concat());
        assert!(listener.noted().starts_with("listening on"));
        call(&gateway, &format!("p-{}", how[0]));
        assert!(listener.said().contains("verified"), "{how:?}");
        assert_eq!(listener.process.wait().unwrap().code(), Some(0));
    }
    let stranger = format!("whpk_{}=", "A".repeat(43));
    let mut listener =
        Listener::start(commands.folder.path(), &[&args[..], &["--secret", &stranger]].concat());
    assert!(listener.noted().starts_with("listening on"));
    call(&gateway, "p-stranger");
    assert!(listener.noted().contains("rejected: no v1a signature matches"));
}

#[test]
fn listen_follows_a_gateway_that_cannot_reach_it() {
    let backend = Backend::start();
    let gateway = Gateway::start(&with(&[("game", tries(backend.at, 20))]));
    let commands = Commands::beside(&gateway);
    call(&gateway, "r0");
    let local = Backend::start();
    let forward = format!("http://{}/hook", local.at);
    let secret = whsec(KEY);
    let args =
        ["--remote", "--secret", &secret, "--forward-to", &forward, "--json", "--count", "2"];
    let mut listener =
        Listener::start(commands.folder.path(), &[&args[..], &["--source", "level-end"]].concat());
    assert!(listener.noted().starts_with("following http://"), "the gateway of the configuration");
    for n in 1..=2 {
        call(&gateway, &format!("r{n}"));
        let event: Value = serde_json::from_str(&listener.said()).unwrap();
        assert_eq!(event["transaction"], format!("r{n}"));
    }
    assert_eq!(listener.process.wait().unwrap().code(), Some(0));
    let got = local.await_count(2);
    assert_eq!(got[0].json()["transaction"], "r1");
    assert!(got[0].header("webhook-id").starts_with("evt_"));
    backend.await_count(3);

    let url = format!("http://{}", gateway.at.admin);
    let token = super::wire::local_token(gateway.at.admin).unwrap();
    let run = |token: &str, args: &[&str]| {
        let mut command = postern(commands.folder.path());
        ran(command.env("POSTERN_TOKEN", token).args(["listen", "--remote", &url]).args(args))
    };
    let past = run(&token, &["--since", "1h", "--count", "3"]);
    assert_eq!(past.code, Some(0), "{}", past.err);
    assert_eq!(past.out.lines().count(), 3, "{}", past.out);
    assert!(past.out.lines().next().unwrap().contains("r0"), "oldest first: {}", past.out);
    let denied = run("wrong-token", &["--count", "1"]);
    assert_eq!(denied.code, Some(1), "{}", denied.err);
    let typed = run(&token, &["--token", "plain"]);
    assert_eq!(typed.code, Some(64), "{}", typed.err);
}

#[test]
fn listen_goes_on_after_a_restart_of_the_gateway() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let admin = free.local_addr().unwrap();
    drop(free);
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("postern.toml");
    let text = PLAIN.replace("admin = \"127.0.0.1:0\"", &format!("admin = \"{admin}\""));
    fs::write(&config, text).unwrap();
    let process = Process::start(&config);
    let mut listener = Listener::start(folder.path(), &["--remote", "--json", "--count", "2"]);
    assert!(listener.noted().starts_with("following http://"));
    let mut comes = |process: &Process, transaction: &str| {
        assert_eq!(get(process.callbacks, &super::gateway::taku(transaction)).status, 200);
        let event: Value = serde_json::from_str(&listener.said()).unwrap();
        assert_eq!(event["transaction"], transaction);
    };
    comes(&process, "r1");
    process.kill();
    // The token of the machine is another one now.
    let data = folder.path().join("data");
    let data = if data.is_dir() { data } else { folder.path().join("postern-data") };
    fs::remove_file(data.join("admin-token")).unwrap();
    let process = Process::start(&config);
    comes(&process, "r2");
    assert_eq!(listener.process.wait().unwrap().code(), Some(0));
}

#[test]
fn listen_ends_when_its_token_is_accepted_no_longer() {
    let text = |token: &str| format!("{PLAIN}[admin]\ntoken = \"{token}\"\n");
    let first = "0123456789abcdef0123456789abcdef";
    let gateway = Gateway::start(&text(first));
    let file = gateway.folder().join("token");
    fs::write(&file, first).unwrap();
    let (url, token) = (format!("http://{}", gateway.at.admin), format!("file:{}", file.display()));
    let args = ["--remote", &url, "--token", &token];
    let mut listener = Listener::start(gateway.folder(), &args);
    assert!(listener.noted().starts_with("following http://"));
    gateway.reload(&text("another-0123456789abcdef01234567"));
    let line = listener.noted();
    assert!(line.contains(" says: ") && !line.contains("asking again"), "{line}");
    assert_eq!(listener.process.wait().unwrap().code(), Some(1));
}

#[test]
fn a_store_can_be_tried_without_delivering_anything() {
    let backend = Backend::start();
    let folder = tempfile::tempdir().unwrap();
    let text = with(&[("game", tries(backend.at, 20))]);
    fs::write(folder.path().join("postern.toml"), text).unwrap();
    let serve = |more: &[&str]| {
        let mut command = postern(folder.path());
        command.args(["serve", "--log-format", "json"]).args(more);
        let mut process = command.stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let mut lines = lines.map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
        let ready = lines.find(|line| line.to_string().contains("\"ready\"")).unwrap();
        let text = ready.to_string();
        let at = |name: &str| {
            let rest = text.split_once(&format!("\"{name}\":\"")).unwrap().1;
            rest.split_once('"').unwrap().0.parse().unwrap()
        };
        (process, at("callbacks"), at("admin"))
    };
    let (mut off, callbacks, admin) = serve(&["--no-deliveries"]);
    assert_eq!(get(callbacks, &super::gateway::taku("n1")).status, 200);
    let listed = get(admin, "/admin/v1/deliveries?state=pending").json();
    assert_eq!(listed["deliveries"][0]["attempt"], 0);
    let token = folder.path().join("postern-data/admin-token");
    super::wire::remember_token(admin, Some(token));
    let tried = post(admin, "/admin/v1/destinations/game/test", "");
    assert_eq!(tried.status, 409, "{}", tried.body);
    assert!(tried.body.contains("--no-deliveries"), "{}", tried.body);
    off.kill().unwrap();
    off.wait().unwrap();
    assert!(backend.got().is_empty());
    let (mut on, ..) = serve(&[]);
    assert_eq!(backend.await_count(1)[0].json()["transaction"], "n1");
    on.kill().unwrap();
    on.wait().unwrap();
}

#[test]
fn a_port_that_is_taken_says_what_to_do() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = taken.local_addr().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let text = PLAIN.replace("admin = \"127.0.0.1:0\"", &format!("admin = \"{at}\""));
    fs::write(folder.path().join("postern.toml"), text).unwrap();
    let Ran { code, err, .. } = ran(postern(folder.path()).arg("serve"));
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains(&format!("server.admin = {at}: Address already in use")), "{err}");
    assert!(err.contains("write another port under [server], such as admin ="), "{err}");
}

#[test]
fn completions_and_manual_pages_name_every_command() {
    let folder = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| ran(postern(folder.path()).args(args));
    let help = run(&["--help"]).out;
    for shell in ["bash", "zsh", "fish"] {
        let script = run(&["completions", shell]);
        assert_eq!(script.code, Some(0), "{}", script.err);
        for command in ["serve", "listen", "init", "destinations"] {
            assert!(help.contains(command) && script.out.contains(command), "{shell}: {command}");
        }
    }
    let checked = Command::new("bash")
        .args(["-c", "source <(cat) && complete -p postern"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .and_then(|mut bash| {
            use std::io::Write as _;
            let script = run(&["completions", "bash"]).out;
            bash.stdin.take().unwrap().write_all(script.as_bytes())?;
            bash.wait_with_output()
        });
    assert!(checked.unwrap().status.success(), "bash reads the script");
    assert_eq!(run(&["completions", "tcsh"]).code, Some(64));
    assert_eq!(run(&["man", "pages/man1"]).code, Some(0));
    let page = fs::read_to_string(folder.path().join("pages/man1/postern-listen.1")).unwrap();
    assert!(page.contains("forward\\-to"), "{page}");
    assert!(folder.path().join("pages/man1/postern.1").is_file());
    assert!(run(&["--version"]).out.starts_with("postern 0."));
}

#[test]
fn the_admin_listener_speaks_tls_and_the_command_line_knows_its_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let certificate = rcgen::generate_simple_self_signed(["postern.example".to_owned()]).unwrap();
    fs::write(folder.path().join("chain.pem"), certificate.cert.pem()).unwrap();
    fs::write(folder.path().join("key.pem"), certificate.signing_key.serialize_pem()).unwrap();
    let tls = "admin = \"127.0.0.1:0\"\nadmin_tls = { cert = \"chain.pem\", key = \"key.pem\" }";
    let text = PLAIN.replace("admin = \"127.0.0.1:0\"", tls);
    fs::write(folder.path().join("postern.toml"), &text).unwrap();
    let mut command = postern(folder.path());
    command.args(["serve", "--log-format", "json"]).stderr(Stdio::piped());
    let mut process = command.spawn().unwrap();
    let lines = BufReader::new(process.stderr.take().unwrap()).lines();
    let ready = lines.map(Result::unwrap).find(|line| line.contains("\"ready\"")).unwrap();
    let (_, rest) = ready.split_once("\"admin\":\"").unwrap();
    let at = rest.split_once('"').unwrap().0;
    fs::write(
        folder.path().join("postern.toml"),
        text.replacen("127.0.0.1:0\"\nadmin_tls", &format!("{at}\"\nadmin_tls"), 1),
    )
    .unwrap();
    let sources = ran(postern(folder.path()).arg("sources"));
    assert_eq!(sources.code, Some(0), "{}", sources.err);
    assert!(sources.out.contains("level-end"), "{}", sources.out);
    // Another certificate under the same address is not trusted.
    let other = rcgen::generate_simple_self_signed(["postern.example".to_owned()]).unwrap();
    fs::write(folder.path().join("other.pem"), other.cert.pem()).unwrap();
    let config = fs::read_to_string(folder.path().join("postern.toml")).unwrap();
    fs::write(folder.path().join("other.toml"), config.replace("chain.pem", "other.pem")).unwrap();
    let refused = ran(postern(folder.path()).args(["sources", "-c", "other.toml"]));
    assert_eq!(refused.code, Some(1), "{}", refused.out);
    assert!(refused.err.contains("no gateway answers at https://"), "{}", refused.err);
    process.kill().unwrap();
    process.wait().unwrap();
}
