//! Whole configurations.
//!
//! `fixtures/config/*.txt` are what is expected of the files beside them. Where one is to change,
//! run the test, read the difference and take what the message says.

mod client_ca;
mod found_early;

use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::clock::UnixMillis;
use crate::sender::Catalog;

/// An environment, files and a clock on paper.
#[derive(Clone, Debug, Default)]
struct Paper {
    variables: BTreeMap<String, String>,
    files: BTreeMap<PathBuf, Contents>,
}

/// 2026-01-02T03:04:05Z
const NOW_MS: UnixMillis = 1_767_323_045_000;
const CERT: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
const KEY: &str = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
const AES_KEY: &str = "cG9zdGVybnBvc3Rlcm5wb3N0ZXJucG9zdGVybjEyMzQ";
const WHSK: &str = "whsk_AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
const WHSEC: &str = "whsec_bmV3IG5ldyBuZXcgbmV3IG5ldyBuZXcgbmV3";

impl Input for Paper {
    fn variable(&self, name: &str) -> Option<Vec<u8>> {
        self.variables.get(name).map(|value| value.clone().into_bytes())
    }

    fn read(&self, path: &Path) -> io::Result<Contents> {
        self.files.get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn now_ms(&self) -> UnixMillis {
        NOW_MS
    }
}

impl Paper {
    fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.into(), value.into());
        self
    }

    fn file(self, path: &str, text: &str) -> Self {
        self.file_with(path, text, Access::Narrow)
    }

    fn file_with(mut self, path: &str, text: &str, access: Access) -> Self {
        self.files.insert(path.into(), Contents { bytes: text.into(), access });
        self
    }

    fn load(&self, text: &str) -> Result<Loaded, ConfigErrors> {
        load_str(self, Path::new("postern.toml"), text)
    }

    fn config(&self, text: &str) -> Config {
        self.load(text).unwrap_or_else(|faults| panic!("{faults}")).config
    }

    /// The errors of `text`, each as `line key: what`.
    fn mistakes(&self, text: &str) -> Vec<String> {
        let faults = self.load(text).map(|_| ()).unwrap_err().faults;
        let line =
            |fault: &ConfigIssue| fault.line.map(|line| format!("{line} ")).unwrap_or_default();
        faults.iter().map(|f| format!("{}{}: {}", line(f), f.key, f.what)).collect()
    }

    fn warnings(&self, text: &str) -> Vec<String> {
        let warnings = self.load(text).unwrap_or_else(|faults| panic!("{faults}")).warnings;
        warnings.iter().map(|warning| format!("{}: {}", warning.key, warning.what)).collect()
    }
}

fn paper() -> Paper {
    Paper::default()
}

fn fixture(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/config").join(name);
    std::fs::read_to_string(path).unwrap()
}

fn assert_golden(name: &str, actual: &str) {
    let expected = fixture(name);
    if expected != actual {
        let made = std::env::temp_dir().join(name);
        std::fs::write(&made, actual).unwrap();
        panic!("fixtures/config/{name} differs from {}:\n{actual}", made.display());
    }
}

// ---- the two golden files ----

/// The variables and files that `complete.toml` needs.
fn surroundings() -> Paper {
    paper()
        .variable("POSTERN_ADMIN_TOKEN", "token-of-the-operators")
        .variable("TAKU_SEC_KEY", "new-key")
        .variable("IMUR_APP_SECRET", "app-secret")
        .variable("WECHAT_TOKEN", "gatewaytoken")
        .variable("GAME_SECRET", WHSEC)
        .variable("GATEWAY_SIGNING_KEY", WHSK)
        .variable("GAME_TOKEN", "Bearer abc")
        .variable("PUBLISHER_KEY", "publisher")
        .variable("WECHAT_APP_SECRET", "app")
        .variable("COMPANY_TOKEN", "company")
        .variable("ACME_TOKEN", "token-of-acme-0123456789")
        .variable("ALERT_URL", "https://hooks.example.com/secret-of-the-hook")
        .variable("ALERT_SECRET", "secret-of-the-bot")
        .variable("ALERT_SMTP_URL", "smtp://me%40example.com:secret-of-mail@mail.example.com")
        .file("secrets/dashboards", "fedcba9876543210fedcba9876543210\n")
        .file("secrets/taku-old", "old-key\r\n")
        .file("secrets/aes-key", AES_KEY)
        .file("secrets/m1", "manager")
        .file("senders/my-sender.toml", &fixture("senders/my-sender.toml"))
        .file("tls/chain.pem", CERT)
        .file("tls/key.pem", KEY)
        .file("tls/partner.pem", &client_ca::authority(2040))
}

#[test]
fn a_complete_file_is_read_to_the_last_key() {
    let loaded = surroundings().load(&fixture("complete.toml"));
    let loaded = loaded.unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(loaded.warnings, []);
    let Config {
        server,
        admin,
        store,
        egress,
        sources,
        destinations,
        alerts,
        traces,
        archive,
        manage,
        ..
    } = &loaded.config;
    let mut text = format!("{server:#?}\n{admin:#?}\n{store:#?}\n{egress:#?}\n");
    for source in sources.values() {
        let Source { name, id, enabled, destinations, allow, rate, body_bytes, .. } = &**source;
        let client_ca = source.client_ca.as_ref().map(|_| "client_ca");
        let ids: Vec<&str> = source.recipe.secret_ids().collect();
        let sender = source.recipe.sender().name();
        let _ = writeln!(text, "source {name} id {id} sender {sender} enabled {enabled}");
        let _ = writeln!(text, "    secrets {ids:?} to {destinations:?} allow {allow:?}");
        let _ = writeln!(
            text,
            "    rate {rate:?} body {body_bytes} {:?} {client_ca:?}",
            source.superseded
        );
    }
    let _ =
        writeln!(text, "{destinations:#?}\n{alerts:#?}\n{traces:#?}\n{archive:#?}\n{manage:#?}");
    assert_golden("complete.txt", &text);
}

#[test]
fn every_mistake_is_reported_in_one_run_on_its_own_line() {
    let text = fixture("mistakes.toml");
    let faults = paper().load(&text).map(|_| ()).unwrap_err();
    for (at, line) in text.lines().enumerate() {
        let marks =
            line.split_once("  # ").map_or("", |(_, marks)| marks.split(':').next().unwrap());
        let told = faults.faults.iter().filter(|fault| fault.line == Some(at + 1)).count();
        assert_eq!(told, marks.split_whitespace().count(), "line {}: {line}\n{faults}", at + 1);
    }
    assert_golden("mistakes.txt", &format!("{faults}\n"));
}

#[test]
fn no_finding_shows_a_secret() {
    let faults = paper().load(&fixture("mistakes.toml")).map(|_| ()).unwrap_err();
    assert!(!format!("{faults:?}").contains("plain-secret"));
    let unended = paper().load("[admin]\ntoken = \"plain-secret\n").map(|_| ()).unwrap_err();
    assert!(!format!("{unended:?}").contains("plain-secret"));
    let loaded = surroundings().load(&fixture("complete.toml")).unwrap();
    let shown = format!("{:?}", loaded.config);
    for secret in [
        "token-of-the",
        "new-key",
        "old-key",
        "written-here",
        AES_KEY,
        WHSK,
        "Bearer abc",
        "secret-of",
    ] {
        let bytes = format!("{:?}", secret.as_bytes());
        assert!(
            !shown.contains(secret) && !shown.contains(bytes.trim_end_matches(']')),
            "{secret}"
        );
    }
}

#[test]
fn the_reference_has_every_key() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let page = std::fs::read_to_string(path).unwrap();
    for (table, keys) in tables() {
        let heading = format!("`{table}`\n");
        let at = page.find(&heading).unwrap_or_else(|| panic!("no heading for {table}"));
        let body = &page[at + heading.len()..];
        let body = &body[..body.find("\n## ").unwrap_or(body.len())];
        for key in keys {
            assert!(body.contains(&format!("| `{key}` |")), "{table} {key}");
        }
    }
}

// ---- the file as a whole ----

#[test]
fn a_setting_of_a_sender_has_a_name_of_its_own() {
    for sender in Catalog::embedded().unwrap().iter() {
        for (name, _) in sender.settings() {
            assert!(!source::KEYS.contains(&name.as_str()), "{}: {name}", sender.name());
        }
    }
}

#[test]
fn an_empty_file_is_a_gateway_without_sources() {
    let config = paper().config("");
    assert_eq!(config.server.callbacks, limits::CALLBACKS.parse().unwrap());
    assert_eq!(config.server.admin, limits::ADMIN.parse().unwrap());
    assert!(config.admin.tokens.is_empty() && config.sources.is_empty());
    assert_eq!(config.store.keep_transactions, limits::KEEP_TRANSACTIONS);
}

#[test]
fn what_is_no_toml_has_its_line_and_column() {
    let faults = paper().load("[server]\ndrain = = 1\n").map(|_| ()).unwrap_err();
    assert_eq!((faults.faults[0].line, faults.faults[0].column), (Some(2), Some(9)));
    let twice = paper().mistakes("[server]\ndrain = \"1s\"\ndrain = \"2s\"\n");
    assert_eq!(twice, ["3 : is not TOML: duplicate key"]);
}

#[test]
fn a_key_of_another_table_is_sent_home() {
    let remedy = |text: &str| {
        let faults = paper().load(text).map(|_| ()).unwrap_err().faults;
        faults[0].remedy.clone()
    };
    assert_eq!(remedy("drain = \"1s\""), "it belongs under [server]");
    let above = "it belongs at the top of the file, above every table";
    assert_eq!(remedy("[server]\nsenders = []"), above);
    assert_eq!(remedy("[server]\ncalback = 1"), "did you mean callbacks?");
    assert_eq!(remedy("[egress]\nzzzz = 1"), "known here: allow, signing_key");
}

#[test]
fn a_table_that_should_be_a_list_of_tables_is_read_all_the_same() {
    let mistakes = paper().mistakes("[destination]\nname = 7\n");
    assert_eq!(
        mistakes,
        [
            "1 destination: is one table, and a list of tables is wanted",
            "1 destination.url: is missing",
            "2 destination.name: is a number",
        ]
    );
}

// ---- signatures and templates of destinations ----

#[test]
fn a_destination_says_what_it_is_signed_with() {
    let text = |egress: &str, rest: &str| {
        format!("[egress]\n{egress}\n[[destination]]\nname = \"d\"\nurl = \"http://a/\"\n{rest}\n")
    };
    let (key, secret) = (format!("signing_key = \"{WHSK}\""), format!("secret = \"{WHSEC}\""));
    let signed_with = |rest: &str| {
        let config = paper().config(&text(&key, rest));
        let to = &config.destinations["d"];
        (to.secrets.len(), to.signing_keys.len())
    };
    assert_eq!(signed_with(&secret), (1, 0));
    assert_eq!(signed_with(&format!("{secret}\nsign = [\"v1\", \"v1a\"]")), (1, 1));
    assert_eq!(signed_with("sign = \"v1a\""), (0, 1));
    assert_eq!(signed_with(&format!("{secret}\nsign = \"v1a\"")), (0, 1));
    for (egress, rest, expected) in [
        ("", "sign = \"v1a\"", "destination[d].sign: has v1a, and the gateway has no signing key"),
        (&*key, "sign = \"v1\"", "destination[d].sign: has v1, which needs a secret"),
        (&*key, "sign = []", "destination[d].sign: is an empty list"),
        ("signing_key = \"whsec_AA\"", "", "egress.signing_key: does not begin with whsk_"),
        ("signing_key = \"whsk_AAAA\"", "", "egress.signing_key: is not an Ed25519 key"),
    ] {
        let mistakes = paper().mistakes(&text(egress, rest));
        assert!(mistakes.iter().any(|one| one.contains(expected)), "{mistakes:?} {expected}");
    }
}

#[test]
fn a_signing_key_may_have_its_public_half_and_no_other() {
    let key = |public: u8| {
        use base64::Engine as _;
        use ring::signature::{Ed25519KeyPair, KeyPair as _};
        let pair = Ed25519KeyPair::from_seed_unchecked(&[1; 32]).unwrap();
        let mut bytes = [&[1; 32], pair.public_key().as_ref()].concat();
        bytes[63] ^= public;
        let key = base64::engine::general_purpose::STANDARD.encode(bytes);
        paper().load(&format!("[egress]\nsigning_key = \"whsk_{key}\"")).map(|_| ())
    };
    assert!(key(0).is_ok());
    assert!(key(1).is_err());
}

#[test]
fn a_template_that_two_values_fit_is_refused() {
    let sender = "title = \"x\"\nreads = \"query\"\nsecret = \"s\"\n[roles]\ntransaction = \"{tid}\"\n\
                  user = \"{uid}\"\nitem = \"{item}\"\ncustom = \"{user}\"\n[signature]\nof = \"{tid}[secret]\"\n\
                  with = \"md5\"\nin = \"{sign}\"\n[reply]\naccepted = 200\nrejected = 400\nunavailable = 503\n\
                  [[vector]]\nabout = \"x\"\nsource = { secrets = \"k\" }\nexpect = { outcome = \"accepted\" }\n\
                  request = \"GET /?tid=t1&uid=u&sign=104fa235d00e58802f69c076b1a4a028\"\n";
    let mistakes = |url: &str, rest: &str| {
        let text = format!(
            "senders = [\"own.toml\"]\n[[destination]]\nname = \"d\"\nformat = \"template\"\n\
             url = \"http://a/{url}\"\n[[source]]\nname = \"s\"\nsender = \"own\"\nsecrets = \"k\"\n\
             destinations = \"d\"\n{rest}\n"
        );
        let faults = paper().file("own.toml", sender).load(&text).map(|_| ());
        faults.err().map(|faults| faults.faults.iter().map(ToString::to_string).collect::<String>())
    };
    let both = mistakes("?u={user}", "").unwrap();
    for part in ["`{user}` (column 5 of the path) is ambiguous", "{event.user}", "{params.user}"] {
        assert!(both.contains(part), "{part} in {both}");
    }
    for url in
        ["?u={event.user}", "?u={params.user}", "?i={item}&t={transaction}&p={uid}", "?u=[user]"]
    {
        assert_eq!(mistakes(url, ""), None, "{url}");
    }
    // The same name on the wire, whatever the file calls it.
    assert_eq!(mistakes("?u={user}", "params = { user = \"user\", custom = \"c\" }"), None);
    assert!(mistakes("?a={amount}", "params = { custom = \"amount\" }").is_some());
    // The source's template may have a pair of that name.
    let made = mistakes("?u=[user]", "template = \"user={tid}\"").unwrap();
    for part in ["`[user]`", "{event.user}", "[resolved.user]"] {
        assert!(made.contains(part), "{part} in {made}");
    }
    assert_eq!(mistakes("?t=[transaction]", "template = \"transaction=[transaction]\""), None);
    assert_eq!(mistakes("?u=[resolved.user]", "template = \"user={tid}\""), None);
}

// ---- [server], [admin] ----

#[test]
fn listeners_do_not_share_a_port() {
    let same = "[server]\ncallbacks = \"127.0.0.1:90\"\nadmin = \"127.0.0.1:90\"";
    assert_eq!(paper().mistakes(same), ["3 server.admin: takes the port of callbacks"]);
    let covered = "[server]\ncallbacks = \"0.0.0.0:90\"\nadmin = \"127.0.0.1:90\"";
    assert_eq!(paper().mistakes(covered).len(), 1);
    paper().config("[server]\ncallbacks = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"");
    paper().config("[server]\ncallbacks = \"127.0.0.2:90\"\nadmin = \"127.0.0.1:90\"");
}

#[test]
fn an_admin_listener_that_others_can_reach_needs_a_token() {
    let open = "[server]\nadmin = \"0.0.0.0:9090\"\n";
    let missing =
        "2 server.admin: 0.0.0.0:9090 can be reached from elsewhere, and there is no token";
    assert_eq!(paper().mistakes(open), [missing]);
    let config = paper().config(&format!("{open}[admin]\ntoken = \"0123456789abcdef\""));
    assert_eq!(config.admin.tokens[0].right, AdminRight::Admin);
    let short = format!("{open}[admin]\ntoken = \"short\"");
    let said = "admin.token: has fewer than 16 characters, which can be guessed";
    assert_eq!(paper().mistakes(&short), [format!("4 {said}")]);
    assert_eq!(paper().warnings("[admin]\ntoken = \"short\""), [said]);
    let config = paper()
        .config(&format!("{open}[admin]\ntoken = \"0123456789abcdef\"\nopen_metrics = true"));
    assert!(config.admin.open_metrics);
}

#[test]
fn tokens_have_names_and_values_of_their_own() {
    let text = "[admin]\ntoken = [\"a\", { name = \"admin\", value = \"b\" }, { name = \"c\", value = \"a\" }, { name = \"d\", value = \"d\", right = \"root\" }]";
    assert_eq!(
        paper().mistakes(text),
        [
            "2 admin.token[1]: admin is named twice",
            "2 admin.token[2]: repeats another token",
            "2 admin.token[3].right: \"root\" cannot be read",
        ]
    );
}

#[test]
fn a_token_is_bound_to_names_and_beginnings() {
    let bound = |sources: &str| {
        format!("[admin]\ntoken = [{{ name = \"a\", value = \"a\", sources = {sources} }}]")
    };
    let scope = |sources: &str| paper().config(&bound(sources)).admin.tokens[0].scope.clone();
    let some = scope("[\"acme-*\", \"level-end\"]");
    assert!(some.covers("acme-1") && some.covers("level-end"));
    assert!(!some.covers("level-end2") && !some.covers("other"));
    assert!(scope("\"acme-*\"").covers("acme-1"), "one may stand without brackets");
    for (sources, said) in [
        ("[]", "sources: is an empty list"),
        ("[\"*\"]", "sources[0]: \"*\" cannot be read"),
        ("[\"\"]", "sources[0]: \"\" cannot be read"),
        ("[\"a*b\"]", "sources[0]: \"a*b\" cannot be read"),
        ("[\"a**\"]", "sources[0]: \"a**\" cannot be read"),
    ] {
        let mistakes = paper().mistakes(&bound(sources));
        assert_eq!(mistakes, [format!("2 admin.token[0].{said}")], "{sources}");
    }
}

#[test]
fn a_proxy_range_that_is_everybody_draws_a_remark() {
    let warnings = paper().warnings("[server]\ntrusted_proxies = \"0.0.0.0/0\"");
    let expected =
        "server.trusted_proxies: 0.0.0.0/0 believes every address that a caller makes up";
    assert_eq!(warnings, [expected]);
}

#[test]
fn an_archive_is_a_folder_or_a_bucket() {
    let of = |url: &str| format!("[archive]\nurl = {url:?}\n");
    let folder = paper().config(&of("file:///var/lib/archive")).archive;
    assert_eq!(folder, Some(ArchivePlace::Folder(PathBuf::from("/var/lib/archive"))));
    let account = paper().variable("AWS_ACCESS_KEY_ID", "a").variable("AWS_SECRET_ACCESS_KEY", "b");
    for (url, prefix) in [("s3://events", ""), ("s3://events/a/b/", "a/b")] {
        let (bucket, prefix) = (String::from("events"), prefix.to_owned());
        assert_eq!(account.config(&of(url)).archive, Some(ArchivePlace::S3 { bucket, prefix }));
        assert_eq!(account.warnings(&of(url)), [""; 0]);
    }
    let warnings = paper().warnings(&of("s3://events"));
    assert_eq!(warnings[0], "archive.url: needs AWS_ACCESS_KEY_ID, which is not set here");
    for url in [
        "",
        "archive",
        "file://archive",
        "file:///",
        "s3://",
        "s3:///a",
        "s3://a b",
        "https://a.example/",
    ] {
        let mistakes = paper().mistakes(&of(url));
        assert!(
            mistakes.len() == 1 && mistakes[0].starts_with("2 archive.url: "),
            "{url} {mistakes:?}"
        );
    }
    assert!(paper().config("").archive.is_none());
}

#[test]
fn a_share_of_the_traces_is_a_number_between_nothing_and_all() {
    let of = |keys: &str| format!("[telemetry]\notlp = \"http://127.0.0.1:4318\"\n{keys}");
    let usual = paper().config(&of("")).traces.unwrap();
    assert_eq!((&*usual.collector, usual.sample), ("http://127.0.0.1:4318", 0.01));
    for (written, expected) in [("1", 1.0), ("0.5", 0.5), ("1e-3", 0.001)] {
        let traces = paper().config(&of(&format!("sample = {written}"))).traces;
        assert_eq!(traces.map(|traces| traces.sample), Some(expected), "{written}");
    }
    for wrong in ["0", "0.0", "1.1", "-1", "nan", "inf"] {
        let expected = "3 telemetry.sample: is not a share of all traces";
        assert_eq!(paper().mistakes(&of(&format!("sample = {wrong}"))), [expected], "{wrong}");
    }
    assert_eq!(paper().mistakes(&of("sample = \"1%\"")), ["3 telemetry.sample: is a text"]);
    assert!(paper().config("").traces.is_none());
    let alone = paper().mistakes("[telemetry]\nsample = 0.1");
    assert_eq!(alone, ["2 telemetry.sample: has no otlp beside it"]);
    let path = paper().mistakes("[telemetry]\notlp = \"http://a.example/v1/traces\"");
    assert_eq!(path, ["2 telemetry.otlp: has a path, a query or a fragment"]);
}

#[test]
fn tls_files_are_looked_into() {
    let text = "[server]\ntls = { cert = \"c.pem\", key = \"k.pem\" }";
    let config = paper().file("c.pem", CERT).file("k.pem", KEY).config(text);
    assert_eq!(config.server.tls.unwrap().cert, Path::new("c.pem"));
    let swapped = paper().file("c.pem", KEY).file("k.pem", CERT).mistakes(text);
    assert_eq!(
        swapped,
        [
            "2 server.tls.cert: there is no certificate in c.pem",
            "2 server.tls.key: there is no private key in k.pem",
        ]
    );
}

#[test]
fn one_body_fits_into_all_bodies() {
    let text = "[server.limits]\nbody = \"2MiB\"\nunverified_body = \"1MiB\"";
    assert!(paper().mistakes(text)[0].starts_with("2 server.limits.body: is more than"));
}

// ---- [store], [egress] ----

#[test]
fn transactions_outlive_events() {
    let longer = paper().config("[store]\nkeep_events = \"120d\"").store;
    assert_eq!(longer.keep_transactions, longer.keep_events);
    let of_source = |keys: &str| {
        let text =
            format!("[store]\nkeep_events = \"20d\"\nkeep_transactions = \"40d\"\n{}", taku(keys));
        paper().load(&text).map(|loaded| loaded.config.sources["s"].keep)
    };
    let day = Duration::from_secs(86_400);
    let kept = of_source("keep_events = \"1d\"\nkeep_transactions = \"30d\"").unwrap();
    assert_eq!((kept.events, kept.transactions), (Some(day), Some(30 * day)));
    assert_eq!(of_source("").unwrap(), Keep::default());
    for (keys, what) in [
        ("keep_events = \"30d\"", "is 30d, longer than store.keep_events (20d)"),
        ("keep_transactions = \"19d\"", "is 19d, less than keep_events (20d)"),
        ("keep_events = \"9d\"\nkeep_transactions = \"8d\"", "less than keep_events (9d)"),
    ] {
        let faults = of_source(keys).unwrap_err().to_string();
        assert!(faults.contains(what), "{faults}");
    }
    let shorter = paper().mistakes("[store]\nkeep_transactions = \"20d\"");
    assert!(shorter[0].starts_with("2 store.keep_transactions: is 20d, less than"), "{shorter:?}");
}

#[test]
fn a_scrub_takes_a_share_of_the_time_or_is_off() {
    let share = |text: &str| paper().load(text).unwrap().config.store.scrub;
    assert_eq!(share(""), Some(limits::SCRUB));
    assert_eq!(share("[store]\nscrub = \"off\""), None);
    let one = crate::ledger::ScrubShare::percent(1);
    assert_eq!(share("[store]\nscrub = \"1%\""), one);
    for bad in ["0%", "51%", "5", "5 %", "-1%", "on", "300%"] {
        let mistakes = paper().mistakes(&format!("[store]\nscrub = {bad:?}"));
        let wanted = format!("2 store.scrub: \"{bad}\" is not a share");
        assert!(mistakes[0].starts_with(&wanted), "{mistakes:?}");
    }
    let elsewhere = "[store]\nengine = \"postgres\"\nurl = \"postgres://h/d\"\nscrub = \"5%\"";
    let mistakes = paper().mistakes(elsewhere);
    assert!(
        mistakes.iter().any(|one| one.contains("store.scrub: belongs to engine")),
        "{mistakes:?}"
    );
}

#[test]
fn each_engine_has_its_own_keys() {
    let text = "[store]\nengine = \"postgres\"\nurl = \"env:DB\"\nrequire_replicated = true";
    let config = paper().variable("DB", "postgres://u@h/d").config(text);
    let StoreEngine::Postgres(store) = config.store.engine else {
        panic!("{:?}", config.store);
    };
    assert!(store.require_replicated);
    assert_eq!((store.schema.as_str(), store.writers, store.readers), ("postern", 4, 2));
    let wrong = paper().variable("DB", "mysql://h/d").mistakes(text);
    assert_eq!(wrong, ["3 store.url: does not begin with postgres://"]);
    let slip = "postgres://u:hidden@h/d?sslmod=require";
    let wrong = paper().variable("DB", slip).mistakes(text);
    assert!(wrong[0].contains("sslmod") && !wrong[0].contains("hidden"), "{wrong:?}");
    let names = paper().variable("DB", "postgres://u@h/d");
    let wrong = names.mistakes(&format!("{text}\nschema = \"Post; drop\"\nwriters = 0"));
    assert_eq!(wrong.len(), 2, "{wrong:?}");
    let mixed = paper().mistakes("[store]\nurl = \"postgres://h\"");
    assert_eq!(mixed, ["2 store.url: belongs to engine = \"postgres\""]);
    let bare = paper().mistakes("[store]\nengine = \"postgres\"\npath = \"x\"");
    assert_eq!(bare.len(), 2, "{bare:?}");
}

#[test]
fn paths_are_seen_from_the_folder_of_the_file() {
    let loaded = load_str(&paper(), Path::new("/etc/postern/postern.toml"), "").unwrap();
    let StoreEngine::Embedded { path } = loaded.config.store.engine else { panic!() };
    assert_eq!(path, Path::new("/etc/postern/postern-data"));
}

// ---- secrets ----

#[test]
fn a_secret_comes_from_the_environment_a_file_or_the_text() {
    let token = |paper: Paper, text: &str| {
        let config = paper.config(&format!("[admin]\ntoken = \"{text}\""));
        config.admin.tokens[0].value.expose().to_vec()
    };
    assert_eq!(token(paper(), "plain"), b"plain");
    assert_eq!(token(paper().variable("A", "b c\n"), "env:A"), b"b c\n");
    for text in ["x", "x\n", "x\r\n"] {
        assert_eq!(token(paper().file("f", text), "file:f"), b"x", "{text:?}");
    }
    assert_eq!(token(paper().file("f", "x\n\n"), "file:f"), b"x\n");
}

#[test]
fn a_secret_that_is_not_there_names_the_variable_or_the_file() {
    let mistake = |paper: Paper, text: &str| {
        paper.mistakes(&format!("[admin]\ntoken = \"{text}\"")).remove(0)
    };
    let unset = "2 admin.token: the variable A is not set";
    assert_eq!(mistake(paper(), "env:A"), unset);
    let empty = "2 admin.token: the variable A is empty";
    assert_eq!(mistake(paper().variable("A", ""), "env:A"), empty);
    let absent = "2 admin.token: the file f is missing";
    assert_eq!(mistake(paper(), "file:f"), absent);
    let hollow = "2 admin.token: the file f is empty";
    assert_eq!(mistake(paper().file("f", "\n"), "file:f"), hollow);
    assert_eq!(mistake(paper(), ""), "2 admin.token: is empty");
}

#[test]
fn a_secret_file_that_is_open_draws_a_remark() {
    let open = paper().file_with("f", "0123456789abcdef", Access::Wide);
    let warnings = open.warnings("[admin]\ntoken = \"file:f\"");
    let expected = "admin.token: f can be read by everybody or changed by its group";
    assert_eq!(warnings, [expected]);
}

// ---- [[destination]] ----

fn destination_mistakes(keys: &str) -> Vec<String> {
    let text = format!("[[destination]]\nname = \"d\"\n{keys}\n");
    let strip = |mistake: String| mistake.replace("destination[d].", "");
    paper().mistakes(&text).into_iter().map(strip).collect()
}

#[test]
fn a_destination_has_defaults() {
    let text =
        "[[destination]]\nname = \"d\"\nurl = \"http://127.0.0.1:7000\"\nformat = \"forward\"";
    let config = paper().config(text);
    let destination = &config.destinations["d"];
    assert_eq!(destination.mode, Mode::Async);
    assert_eq!(destination.retry.attempts, limits::RETRY_ATTEMPTS);
    assert_eq!(destination.timeout, Duration::from_secs(15));
}

#[test]
fn an_event_without_a_signature_draws_a_remark() {
    let text = "[[destination]]\nname = \"d\"\nurl = \"http://127.0.0.1:7000\"";
    let expected = "destination[d].secret: is missing: events are delivered without a signature";
    assert_eq!(paper().warnings(text), [expected]);
    let weak = format!("{text}\nsecret = \"whsec_c2hvcnQ=\"");
    let expected = "destination[d].secret: is a key of 5 bytes, which can be guessed";
    assert_eq!(paper().warnings(&weak), [expected]);
}

#[test]
fn addresses_that_are_never_reached_are_refused_when_they_are_configured() {
    for host in ["169.254.169.254", "[::ffff:169.254.169.254]", "0.0.0.0", "2852039166"] {
        let mistakes = destination_mistakes(&format!("url = \"http://{host}:80/x\""));
        assert!(mistakes[0].starts_with("3 url: points at "), "{mistakes:?}");
    }
}

#[test]
fn urls_are_templates_only_where_they_are_said_to_be() {
    let plain = destination_mistakes("url = \"http://h/{user}\"");
    assert_eq!(plain, ["3 url: has a path or query that is not a plain URL"]);
    let host = destination_mistakes("url = \"http://{user}.h/\"\nformat = \"template\"");
    assert_eq!(host, ["3 url: has a placeholder in its host"]);
    let torn = destination_mistakes("url = \"http://h/{user\"\nformat = \"template\"");
    assert!(torn[0].starts_with("3 url: is not a template (column 10): "), "{torn:?}");
    assert_eq!(
        destination_mistakes("url = \"ftp://h/\""),
        ["3 url: is not a URL of http or https"]
    );
    assert_eq!(destination_mistakes("url = \"http://h/#x\""), ["3 url: has a fragment"]);
    let ca = destination_mistakes("url = \"http://h/\"\nclient_cert = \"c\"");
    assert_eq!(ca.len(), 2, "{ca:?}");
}

// ---- [[source]] ----

/// A file of one source of Taku's with these keys.
fn taku(keys: &str) -> String {
    format!("[[source]]\nname = \"s\"\nsender = \"taku\"\nsecrets = \"k\"\n{keys}\n")
}

fn source_mistakes(keys: &str) -> Vec<String> {
    let strip = |mistake: String| mistake.replace("source[s].", "");
    paper().mistakes(&taku(keys)).into_iter().map(strip).collect()
}

#[test]
fn a_source_needs_a_name_a_sender_and_its_secret() {
    let config = paper().config(&taku(""));
    let source = &config.sources["s"];
    assert_eq!(
        (source.id.as_str(), source.enabled, source.path().as_str()),
        ("s", true, "/callback/s")
    );
    assert_eq!(source.body_bytes, limits::BODY_BYTES);
    assert_eq!(source.superseded, Superseded::Never);
    let bare = paper().mistakes("[[source]]\nname = \"s\"\nsender = \"taku\"");
    assert_eq!(bare, ["1 source[s].secrets: is missing"]);
}

#[test]
fn a_template_that_cannot_be_read_has_its_column() {
    let faults = paper().load(&taku("template = \"who={user_id\"")).map(|_| ()).unwrap_err().faults;
    assert_eq!((faults[0].line, faults[0].key.as_str()), (Some(5), "source[s].template"));
    assert_eq!(faults[0].column, Some(5));
}

#[test]
fn secrets_have_ids_that_tell_nothing_about_them() {
    let text = taku("").replace(
        "\"k\"",
        "[\"plain\", \"env:NEW\", \"file:run/old\", { value = \"env:NEW\", until = 2030-01-01T00:00:00+08:00 }]",
    );
    let paper = paper().variable("NEW", "a").file("run/old", "b");
    let config = paper.config(&text);
    let ids: Vec<_> = config.sources["s"].recipe.secret_ids().collect();
    assert_eq!(ids, ["1", "NEW", "old", "NEW-4"]);
}

#[test]
fn secrets_end() {
    let with = |until: &str| {
        taku("").replace("\"k\"", &format!("[{{ value = \"k\", id = \"a\", until = {until} }}]"))
    };
    let ended = [
        "source[s].secrets[0].until: the secret ended at 2025-01-01T00:00:00.000Z",
        "source[s].secrets: have all ended: every callback is rejected",
    ];
    assert_eq!(paper().warnings(&with("2025-01-01T00:00:00Z")), ended);
    assert!(paper().warnings(&with("\"2030-01-01T00:00:00Z\"")).is_empty());
    for local in ["2030-01-01", "2030-01-01T00:00:00", "\"soon\""] {
        let mistakes = paper().mistakes(&with(local));
        assert!(mistakes[0].ends_with("cannot be read"), "{mistakes:?}");
    }
}

#[test]
fn names_fit_into_a_path_and_ids_are_not_shared() {
    let named = |name: &str| paper().mistakes(&taku("").replace("\"s\"", &format!("{name:?}")));
    for name in ["", "a b", "a/b", "ä", "..", "a?b", &"x".repeat(129)] {
        assert_eq!(named(name).len(), 1, "{name}");
    }
    assert!(named("reward/1")[0].ends_with("belong to the reward-rule API"));
    let other = taku("").replace("\"s\"", "\"old\"").replace("\"k\"", "\"other\"");
    let renamed = taku("id = \"old\"") + &other;
    assert_eq!(
        paper().mistakes(&renamed),
        ["7 source[old].name: old is the id of the source s (line 5)"]
    );
}

#[test]
fn a_source_without_a_signature_says_so_and_is_protected() {
    let idip = |name: &str, keys: &str| {
        format!("[[source]]\nname = {name:?}\nsender = \"imur-idip\"\n{keys}\n")
    };
    let bare = paper().mistakes(&idip("s", ""));
    assert_eq!(bare, ["1 source[s].secrets: is missing"]);
    let open = paper().mistakes(&idip("s", "unsigned = true"));
    assert_eq!(open, ["4 source[s].unsigned: lets everybody send events"]);
    paper().config(&idip("s", "unsigned = true\nallow = \"203.0.113.0/24\""));
    paper().config(&idip("survey-7f9c2e41d8b3a650c4e17f9c2e41d8b3", "unsigned = true"));
    let words = paper().mistakes(&idip("the-survey-of-the-summer-campaign", "unsigned = true"));
    assert_eq!(words.len(), 1);
    let taku = taku("unsigned = true").replace("secrets = \"k\"\n", "allow = \"10.0.0.1\"\n");
    assert_eq!(paper().mistakes(&taku).len(), 1, "Taku signs");
}

#[test]
fn settings_are_secrets_that_the_sender_knows() {
    let text = "[[source]]\nname = \"s\"\nsender = \"wechat-push\"\nsecrets = \"t\"\naes_key = \"env:AES\"\napp_id = \"wx1\"";
    paper().variable("AES", AES_KEY).config(text);
    assert_eq!(paper().mistakes(text), ["5 source[s].aes_key: the variable AES is not set"]);
    let faults = paper().load(&taku("pay_key = \"x\"")).map(|_| ()).unwrap_err().faults;
    assert_eq!(faults[0].remedy, "it is a setting of the sender wechat-push");
}

#[test]
fn a_list_of_public_keys_has_a_url_that_may_be_reached() {
    let source = |url: &str| {
        format!(
            "[[source]]\nname = \"s\"\nsender = \"admob\"\nad_units = \"1\"\nkey_set_url = {url:?}"
        )
    };
    for (url, what) in [
        ("hush", "is not a URL of http or https"),
        ("https://u:hush@keys/", "has a user or a password in it"),
        ("https://169.254.169.254/keys", "points at 169.254.169.254"),
        ("http://[::ffff:169.254.1.1]/", "points at [::ffff:169.254.1.1]"),
        ("https://keys/a#hush", "no plain URL"),
        ("https://keys/a b", "no plain URL"),
        ("https://keys?a=1", "no plain URL"),
    ] {
        let mistakes = paper().mistakes(&source(url));
        assert_eq!(mistakes.len(), 1, "{mistakes:?}");
        assert!(mistakes[0].contains(what) && !mistakes[0].contains("hush"), "{mistakes:?}");
    }
    for url in ["https://keys", "https://keys/a?b=%20", "http://127.0.0.1:1/", "http://localhost/"]
    {
        assert!(paper().warnings(&source(url)).is_empty(), "{url}");
    }
    assert!(paper().warnings(&source("http://keys/"))[0].contains("plain http"));
    let open = source("https://keys/").replace("ad_units = \"1\"\n", "");
    assert!(paper().warnings(&open)[0].contains("signs for all its publishers"));
}

#[test]
fn allow_may_mean_what_the_sender_publishes() {
    assert_eq!(source_mistakes("allow = \"sender\""), ["5 allow: taku publishes no addresses"]);
    let paper = paper().file(
        "own.toml",
        &format!("addresses = [\"203.0.113.0/24\"]\n{}", fixture("senders/my-sender.toml")),
    );
    let text = "senders = \"own.toml\"\n[[source]]\nname = \"s\"\nsender = \"own\"\nsecrets = \"k\"\nallow = [\"sender\", \"10.0.0.1\"]";
    let allow =
        paper.config(text).sources["s"].allow.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(allow, ["203.0.113.0/24", "10.0.0.1/32"]);
}

#[test]
fn one_inline_destination_a_source() {
    let destination = |name: &str| {
        format!(
            "[[destination]]\nname = {name:?}\nurl = \"http://h/\"\nformat = \"forward\"\nmode = \"inline\"\n"
        )
    };
    let both = taku("destinations = [\"a\", \"b\"]") + &destination("a") + &destination("b");
    let expected = "5 source[s].destinations[1]: is the second one that the sender waits for";
    assert_eq!(paper().mistakes(&both), [expected]);
}

#[test]
fn a_callback_of_several_events_has_no_one_verdict() {
    let text = "[[source]]\nname = \"s\"\nsender = \"line\"\nsecrets = \"k\"\ndestinations = [\"a\"]\n\
                [[destination]]\nname = \"a\"\nurl = \"http://h/\"\nformat = \"forward\"\nmode = \"inline\"\n";
    let found = paper().mistakes(text);
    assert!(found.len() == 1 && found[0].contains("several events in one callback"), "{found:?}");
}

#[test]
fn transactions_that_are_forgotten_too_early_are_refused() {
    let text = format!("[store]\nkeep_events = \"10s\"\nkeep_transactions = \"20s\"\n{}", taku(""));
    let found = paper().mistakes(&text);
    let expected =
        "source[s].sender: taku retries for 62s, and transactions are forgotten after 20s";
    assert!(found.len() == 1 && found[0].ends_with(expected), "{found:?}");
    // Retried for three days, fresh for a day on both sides, and ten minutes for the clocks.
    let stripe = |keep: &str| {
        format!(
            "[store]\nkeep_events = \"1d\"\nkeep_transactions = \"{keep}\"\n[[source]]\n\
             name = \"s\"\nsender = \"standard-webhooks\"\nsecrets = \"whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3\"\n\
             max_age = \"90d\"\n"
        )
    };
    let found = paper().mistakes(&stripe("90d"));
    assert!(found.len() == 1 && found[0].contains("source[s].max_age: a callback can be accepted"));
    paper().config(&stripe("400d"));
}

#[test]
fn idip_stands_before_http() {
    let text = |enabled: &str, keys: &str| {
        format!(
            "[[source]]\nname = \"idip\"\nsender = \"imur-idip\"\nsecrets = \"t\"\nenabled = {enabled}\n{keys}\n\
             [[source]]\nname = \"a\"\nsender = \"imur-http\"\nsecrets = \"t\"\n\
             [[source]]\nname = \"b\"\nsender = \"imur-http\"\nsecrets = \"u\"\n"
        )
    };
    let superseded = |text: &str| {
        let config = paper().config(text);
        ["idip", "a", "b"].map(|name| config.sources[name].superseded.clone())
    };
    let surveys = Superseded::Named {
        parameter: String::from("sid"),
        values: vec![String::from("s1"), String::from("s2")],
    };
    let never = || Superseded::Never;
    assert_eq!(superseded(&text("true", "")), [never(), never(), never()]);
    let sids = "sids = [\"s2\", \"s1\"]";
    assert_eq!(superseded(&text("true", sids)), [never(), surveys.clone(), surveys.clone()]);
    let both = format!("{sids}\nsupersedes = \"a\"");
    assert_eq!(superseded(&text("true", &both)), [never(), Superseded::Always, surveys]);
    assert_eq!(superseded(&text("false", &both)), [never(), never(), never()]);
    let itself = paper().mistakes(&text("true", "supersedes = [\"idip\", \"c\"]"));
    assert_eq!(
        itself,
        [
            "6 source[idip].supersedes[0]: idip is a source of \"imur-idip\"",
            "6 source[idip].supersedes[1]: there is no source \"c\"",
        ]
    );
}

#[test]
fn a_mistake_in_a_sender_file_is_found_in_that_file() {
    let broken =
        fixture("senders/my-sender.toml").replace("{sign}\"\n\n[reply]", "{sign\"\n\n[reply]");
    let faults =
        paper().file("own.toml", &broken).load("senders = \"own.toml\"").map(|_| ()).unwrap_err();
    let fault = &faults.faults[0];
    assert_eq!((fault.file.as_path(), fault.line), (Path::new("own.toml"), Some(17)));
    assert_eq!(fault.key, "signature.in");
}

#[test]
fn a_sender_of_a_known_name_takes_its_place() {
    let paper = paper().file("taku.toml", &fixture("senders/my-sender.toml"));
    let text = "senders = \"taku.toml\"";
    assert_eq!(paper.warnings(text), ["senders: takes the place of the sender taku"]);
    assert_eq!(paper.config(text).catalog.get("taku").unwrap().title(), "A platform of our own");
}

#[test]
fn a_recipe_of_ones_own_belongs_to_its_source() {
    let paper = paper().file("shop.toml", &fixture("senders/my-sender.toml"));
    let source = |name: &str, keys: &str| {
        format!(
            "[[source]]\nname = {name:?}\nsecrets = \"the-secret-of-{name}\"\nsender = {keys}\n"
        )
    };
    let own = "\"custom\"\nrecipe = \"shop.toml\"";
    let config = paper.config(&(source("a", own) + &source("b", own)));
    let title = |name: &str| config.sources[name].recipe.sender().title().to_owned();
    assert_eq!((title("a"), title("b")), (title("b"), "A platform of our own".to_owned()));
    assert_eq!(
        paper.mistakes(&source("a", "\"custom\"")),
        ["1 source[a].recipe: is missing: a custom sender is a file of your own"]
    );
    let taken = paper.mistakes(&source("a", "\"taku\"\nrecipe = \"shop.toml\""));
    assert_eq!(taken.len(), 1, "{taken:?}");
    assert!(taken[0].starts_with("5 source[a].recipe: "), "{taken:?}");
    let absent = paper.mistakes(&source("a", "\"custom\"\nrecipe = \"no.toml\""));
    assert!(absent[0].contains("no.toml"), "{absent:?}");
}

#[test]
fn a_sender_that_signs_nothing_is_written_out_and_protected() {
    let unsigned = |name: &str, keys: &str| {
        format!("[[source]]\nname = {name:?}\nsender = \"unsigned\"\n{keys}\n")
    };
    assert_eq!(paper().mistakes(&unsigned("s", "")).len(), 1);
    let open = paper().mistakes(&unsigned("s", "unsigned = true"));
    assert_eq!(open, ["4 source[s].unsigned: lets everybody send events"]);
    paper().config(&unsigned("s", "unsigned = true\nallow = \"203.0.113.0/24\""));
    paper().config(&unsigned("survey-7f9c2e41d8b3a650c4e17f9c2e41d8b3", "unsigned = true"));
    let signed = paper().mistakes(&unsigned("s", "secrets = \"k\"\nallow = \"203.0.113.0/24\""));
    assert_eq!(signed.len(), 1, "{signed:?}");
}

#[test]
fn a_signature_that_repeats_wants_an_address_list_or_consent() {
    let source = |sender: &str, keys: &str| {
        format!("[[source]]\nname = \"s\"\nsender = {sender:?}\nsecrets = \"k\"\n{keys}\n")
    };
    for sender in ["heyzap", "lootably", "torox"] {
        let mistakes = paper().mistakes(&source(sender, ""));
        assert_eq!(mistakes.len(), 1, "{mistakes:?}");
        let what = "3 source[s].sender: accepts one signature under any number of ids: ";
        assert!(mistakes[0].starts_with(what), "{mistakes:?}");
        for keys in ["replayable = true", "allow = \"203.0.113.0/24\""] {
            assert!(paper().warnings(&source(sender, keys)).is_empty(), "{sender} {keys}");
        }
    }
    let sometimes = paper().warnings(&source("imur-http", ""));
    assert_eq!(sometimes.len(), 1, "{sometimes:?}");
    assert!(sometimes[0].starts_with("source[s].sender: accepts some signatures"));
    assert!(paper().warnings(&source("tapjoy", "")).is_empty());
}

#[test]
fn two_sources_of_one_sender_do_not_share_signatures() {
    let named = |name: &str, sender: &str, keys: &str| {
        format!("[[source]]\nname = {name:?}\nsender = {sender:?}\n{keys}\n")
    };
    let taku = |name: &str, keys: &str| named(name, "taku", keys);
    let both = taku("a", "secrets = [\"k1\", \"k2\"]") + &taku("b", "secrets = \"k2\"");
    let expected = "8 source[b].secrets: shares a secret with the source a: a callback to one of them \
                    verifies for the other";
    assert_eq!(paper().mistakes(&both), [expected]);
    let one_agrees = both.replacen("\"k2\"]", "\"k2\"]\nreplayable = true", 1);
    assert_eq!(paper().mistakes(&one_agrees).len(), 1);
    let agree = one_agrees.clone() + "replayable = true\n";
    assert!(paper().warnings(&agree).is_empty());
    let apart = taku("a", "secrets = \"k1\"") + &taku("b", "secrets = \"k2\"");
    paper().config(&apart);
    paper().config(&(taku("a", "secrets = \"k\"") + &named("b", "tapjoy", "secrets = \"k\"")));
    let ads = |one: &str, other: &str| named("a", "admob", one) + &named("b", "admob", other);
    let units = |units: &str| format!("ad_units = {units:?}");
    paper().config(&ads(&units("1 2"), &units("3,4")));
    for (one, other) in [(units("1 2"), units("2 3")), (units("1"), String::new())] {
        let mistakes = paper().mistakes(&ads(&one, &other));
        assert_eq!(mistakes.len(), 1, "{mistakes:?}");
        assert!(mistakes[0].contains("shares its list of public keys"), "{mistakes:?}");
    }
    // Senders of one rule, whatever they are called and whatever their parameters are.
    for other in ["gromore", "uni-ad"] {
        let both =
            named("a", "pangle", "secrets = \"k\"") + &named(other, other, "secrets = \"k\"");
        let mistakes = paper().mistakes(&both);
        assert_eq!(mistakes.len(), 1, "{other}: {mistakes:?}");
        assert!(mistakes[0].contains("shares a secret with the source a"), "{mistakes:?}");
    }
    // The path of a source is in the URL that these sign.
    let url = |name: &str| named(name, "adgem", "secrets = \"k\"");
    let text = String::from("[server]\npublic_url = \"https://cb.example.com\"\n");
    paper().config(&(text + &url("a") + &url("b")));
}

#[test]
fn what_is_assumed_of_a_sender_can_be_confirmed() {
    let tapjoy = |keys: &str| {
        format!("[[source]]\nname = \"s\"\nsender = \"tapjoy\"\nsecrets = \"k\"\n{keys}\n")
    };
    for keys in ["confirmed = true", "confirmed = [\"id\"]", "confirmed = false"] {
        paper().config(&tapjoy(keys));
    }
    let unknown = paper().mistakes(&tapjoy("confirmed = [\"snuid\"]"));
    assert_eq!(unknown, ["5 source[s].confirmed: `snuid` has no shape"]);
    assert_eq!(source_mistakes("confirmed = true"), ["5 confirmed: has nothing to confirm"]);
}

#[test]
fn an_age_that_is_not_signed_is_said_to_protect_nothing() {
    let hyprmx = "[[source]]\nname = \"s\"\nsender = \"imur-idip\"\nsecrets = \"k\"\n";
    let warnings = paper().warnings(&format!("{hyprmx}max_age = \"10m\"\n"));
    let dated = paper().config(hyprmx).sources["s"].recipe.is_dated();
    assert_eq!(warnings.is_empty(), dated, "{warnings:?}");
    assert!(paper().warnings(&format!("{hyprmx}max_age = \"off\"\n")).is_empty());
}

#[test]
fn secrets_inside_a_text_do_not_begin_or_end_each_other() {
    let with = |sender: &str, secrets: &str| {
        format!("[[source]]\nname = \"s\"\nsender = {sender:?}\nsecrets = {secrets}\n")
    };
    for secrets in ["[\"abc\", \"abcd\"]", "[\"xabc\", \"abc\"]"] {
        let mistakes = paper().mistakes(&with("taku", secrets));
        assert_eq!(mistakes.len(), 1, "{mistakes:?}");
        assert!(mistakes[0].ends_with("begins or ends with another secret of the source"));
        // The key of an HMAC is not part of the text.
        paper().config(&with("adiscope", secrets));
    }
    paper().config(&with("taku", "[\"abc\", \"xabcx\"]"));
}

#[test]
fn a_sender_that_signs_the_whole_url_needs_the_public_one() {
    let text = "[[source]]\nname = \"s\"\nsender = \"adgem\"\nsecrets = \"k\"\n";
    let bare = paper().mistakes(text);
    assert_eq!(bare.len(), 1, "{bare:?}");
    assert!(bare[0].contains("public_url"), "{bare:?}");
    paper().config(&format!("[server]\npublic_url = \"https://cb.example.com\"\n{text}"));
}

// ---- never a panic ----

/// Values and tables of all kinds under names that mean something, in the wrong places.
fn scrap() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        Just("name"),
        Just("secrets"),
        Just("url"),
        Just("allow"),
        Just("token"),
        Just("retry"),
        Just("sender"),
        Just("limits"),
        Just("tls"),
        Just("reply"),
        Just("template"),
        Just("x-y"),
        Just("companies"),
        Just("until"),
        Just("value"),
        Just("headers"),
        Just("destinations"),
    ];
    let leaf = prop_oneof![
        Just(String::from("\"taku\"")),
        Just(String::from("\"env:A\"")),
        Just(String::from("7")),
        Just(String::from("[]")),
        Just(String::from("{}")),
        Just(String::from("1979-05-27")),
        Just(String::from("\"sender\"")),
        Just(String::from("\"http://[::]/{a}(\"")),
        Just(String::from("true")),
        Just(String::from("0x7fffffffffffffffff")),
        Just(String::from("nan")),
        "[a-z0-9:/.{}\\[\\]|()&=]{0,12}".prop_map(|text| format!("{text:?}")),
    ];
    let pair = (word.clone(), leaf).prop_map(|(key, value)| (key, value));
    let value = proptest::collection::vec(pair, 1..4).prop_map(|pairs| {
        let pairs: BTreeMap<_, _> = pairs.into_iter().collect();
        let pairs: Vec<String> =
            pairs.iter().map(|(key, value)| format!("{key} = {value}")).collect();
        format!("{{ {} }}", pairs.join(", "))
    });
    let list =
        proptest::collection::vec(value, 0..3).prop_map(|list| format!("[{}]", list.join(", ")));
    let table = prop_oneof![
        Just("server"),
        Just("admin"),
        Just("store"),
        Just("egress"),
        Just("source"),
        Just("destination"),
        Just("manage"),
        Just("senders"),
        Just("other"),
    ];
    proptest::collection::btree_map(table, list, 0..5).prop_map(|tables| {
        let lines: Vec<String> =
            tables.iter().map(|(key, list)| format!("{key} = {list}")).collect();
        lines.join("\n")
    })
}

proptest! {
    #[test]
    fn no_text_is_too_odd(text in "[a-z=\\[\\]{}\"'.,:0-9\\n #/]{0,200}") {
        let _ = paper().load(&text);
    }

    #[test]
    fn no_table_is_too_odd(text in scrap()) {
        let _ = paper().variable("A", "a").load(&text);
    }

    #[test]
    fn a_file_cut_anywhere_is_no_panic(at in 0_usize..4000) {
        let text = fixture("complete.toml");
        let at = (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap();
        let _ = surroundings().load(&text[..at]);
    }
}
