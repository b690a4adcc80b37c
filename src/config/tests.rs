//! Whole configurations.
//!
//! `fixtures/config/*.txt` are what is expected of the files beside them. Where one is to change,
//! run the test, read the difference and take what the message says.

mod client_ca;
mod found_early;
mod reload;
mod server;
mod sources;

use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use proptest::prelude::*;
use rcgen::{CertificateParams, KeyPair};

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

/// A certificate with its key, in PEM: the same for all tests.
fn pair() -> &'static (String, String) {
    static PAIR: LazyLock<(String, String)> = LazyLock::new(|| certificate(|_| {}));
    &PAIR
}

/// A certificate of its own with its key, in PEM.
fn certificate(change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
    let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
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
        .variable("OIDC_SECRET", "secret-of-the-client")
        .variable("ALERT_URL", "https://hooks.example.com/secret-of-the-hook")
        .variable("ALERT_SECRET", "secret-of-the-bot")
        .variable("ALERT_SMTP_URL", "smtp://me%40example.com:secret-of-mail@mail.example.com")
        .file("secrets/dashboards", "fedcba9876543210fedcba9876543210\n")
        .file("secrets/taku-old", "old-key\r\n")
        .file("secrets/aes-key", AES_KEY)
        .file("secrets/m1", "manager")
        .file("senders/my-sender.toml", &fixture("senders/my-sender.toml"))
        .file("tls/chain.pem", &pair().0)
        .file("tls/key.pem", &pair().1)
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
fn a_url_reads_what_is_known_here_and_no_unsigned_parameter_in_its_place() {
    let sources = "[[source]]\nname = \"s\"\nsender = \"imur-idip\"\nsecrets = \"k\"\ndestinations = \"d\"\n\
                   template = \"type=1\"\n[[source]]\nname = \"t\"\nsender = \"taku\"\nsecrets = \"l\"\ndestinations = \"d\"\n";
    let mistakes = |url: &str| {
        let destination = "[[destination]]\nname = \"d\"\nformat = \"template\"\n";
        let text = format!("{destination}url = \"http://a/?x={url}\"\n{sources}");
        let faults = paper().load(&text).map(|_| ()).err();
        faults.map(|faults| faults.faults.iter().map(ToString::to_string).collect::<String>())
    };
    for known in ["[type]", "[resolved.type]", "[effective]", "[user]", "[event_id]", "{nope}"] {
        assert_eq!(mistakes(known), None, "{known}");
    }
    let unknown = mistakes("[nope]").unwrap();
    assert!(unknown.contains("`[nope]` (column 5 of the path of d) is not a value"), "{unknown}");
    assert!(unknown.contains("{nope} for a parameter"), "{unknown}");
    for forbidden in ["secret", "body", "query", "url", "method", "header.host"] {
        let found = mistakes(&format!("[{forbidden}]")).unwrap();
        assert!(found.contains("may not be read here: only signature texts read it"), "{found}");
    }
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
    let blank = "2 admin.token: is nothing but spaces or line ends";
    assert_eq!(mistake(paper(), "   "), blank);
    assert_eq!(mistake(paper().variable("A", " \t"), "env:A"), blank);
    assert_eq!(mistake(paper().file("f", "\n \n\n"), "file:f"), blank);
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
