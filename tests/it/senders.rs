//! Every sender of the catalog through the real gateway, driven by the files themselves: each
//! vector, and of each accepted one a repeated, a forged, a re-ordered, a re-encoded and a longer
//! callback, with the replies that the sender's console expects.
//!
//! `fixtures/senders/answers.txt` holds the gateway's reply to each. To change it, run
//! the test with `POSTERN_WRITE=1`, and read the difference.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value as Json, json};
use sha1::Sha1;
use toml::{Table, Value};

use super::backend::Backend;
use super::deliver::game;
use super::gateway::{Gateway, PLAIN, taku_for};
use super::openapi::check;
use super::wire::{Answer, ask, get};

/// Scheme and authority in the vectors of senders that sign them.
const BASE: &str = "https://callbacks.example.com";

/// A vector, and the source that it is sent to.
struct Case {
    sender: String,
    /// Its place among the vectors of its sender.
    index: usize,
    /// The gateway that it is sent to: sources of one gateway share no secret.
    place: usize,
    about: String,
    source: String,
    file: Table,
    terms: Table,
    call: Call,
    expect: Table,
}

/// A request as a vector writes it.
#[derive(Clone)]
struct Call {
    method: String,
    query: Option<String>,
    headers: Vec<(String, String)>,
    body: String,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every vector of the catalog that a gateway can be sent.
fn cases() -> Vec<Case> {
    let folder = std::fs::read_dir(root().join("src/sender/catalog")).unwrap();
    let mut files: Vec<PathBuf> = folder.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut cases: Vec<Case> = files.iter().flat_map(|path| cases_of(path)).collect();
    // What each gateway has already: names, senders and secrets.
    let mut taken: Vec<BTreeSet<String>> = Vec::new();
    for case in &mut cases {
        let secrets = match case.terms.get("secrets") {
            Some(Value::Array(all)) => all.iter().map(ToString::to_string).collect(),
            one => one.iter().map(ToString::to_string).collect::<Vec<_>>(),
        };
        let own = secrets.into_iter().chain([case.sender.clone(), case.source.clone()]);
        let own: BTreeSet<String> = own.collect();
        let free = taken.iter().position(|taken| taken.is_disjoint(&own));
        case.place = free.unwrap_or(taken.len());
        taken.resize_with(taken.len().max(case.place + 1), BTreeSet::new);
        taken[case.place].extend(own);
    }
    cases
}

fn cases_of(path: &Path) -> Vec<Case> {
    let sender = path.file_stem().unwrap().to_str().unwrap();
    let file: Table = std::fs::read_to_string(path).unwrap().parse().unwrap();
    let vectors = file["vector"].as_array().unwrap().iter().map(|one| one.as_table().unwrap());
    vectors.enumerate().filter_map(|(index, vector)| case(sender, &file, index, vector)).collect()
}

fn case(sender: &str, file: &Table, index: usize, vector: &Table) -> Option<Case> {
    let expect = vector["expect"].as_table().unwrap().clone();
    let aged = matches!(text(&expect, "reason"), "stale" | "future");
    // The vectors are years old, and public keys have tests of their own.
    if aged || vector.contains_key("keys") {
        return None;
    }
    let mut terms = vector.get("source").and_then(Value::as_table).cloned().unwrap_or_default();
    if file.contains_key("time") {
        terms.insert("max_age".into(), "off".into());
    }
    // Nothing else protects those that sign nothing, or the same thing twice.
    terms.insert("allow".into(), "127.0.0.0/8".into());
    let (call, path) = Call::parse(text(vector, "request"));
    // Signed for an address that is not ours.
    let (_, target) = text(vector, "request").split_once(' ').unwrap();
    if target.starts_with("http") && path.is_none() && text(&expect, "reason").is_empty() {
        return None;
    }
    Some(Case {
        sender: sender.to_owned(),
        index,
        place: 0,
        about: text(vector, "about").to_owned(),
        source: path.unwrap_or_else(|| format!("{sender}-{index}")),
        file: file.clone(),
        terms,
        call,
        expect,
    })
}

fn text<'t>(table: &'t Table, key: &str) -> &'t str {
    table.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// Gateways for all cases: two sources must not have one secret.
struct Gateways(Vec<Gateway>);

impl Gateways {
    fn start(cases: &[Case], start: impl Fn(&str) -> Gateway) -> Self {
        let count = cases.iter().map(|case| case.place + 1).max().unwrap_or_default();
        let of = |place| cases.iter().filter(move |case| case.place == place);
        Self((0..count).map(|place| start(&configuration(of(place)))).collect())
    }

    fn of(&self, case: &Case) -> &Gateway {
        &self.0[case.place]
    }
}

/// A configuration with a source for each case.
fn configuration<'c>(cases: impl Iterator<Item = &'c Case>) -> String {
    let mut text = format!(
        "[server]\ncallbacks = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\npublic_url = \"{BASE}\"\n"
    );
    let mut sources: BTreeMap<&str, Table> = BTreeMap::new();
    for case in cases {
        let mut source = case.terms.clone();
        source.insert("name".into(), case.source.clone().into());
        source.insert("sender".into(), case.sender.clone().into());
        if let Some(other) = sources.insert(&case.source, source.clone()) {
            assert_eq!(other, source, "{}: two sources with one name", case.source);
        }
    }
    for source in sources.values() {
        let mut whole = Table::new();
        whole.insert("source".into(), Value::Array(vec![source.clone().into()]));
        text.push_str(&toml::to_string(&whole).unwrap());
    }
    text
}

impl Call {
    /// A written request, and the source's name where the whole URL is written.
    fn parse(text: &str) -> (Self, Option<String>) {
        let (head, body) = text.split_once("\n\n").unwrap_or((text, ""));
        let mut lines = head.lines();
        let (method, target) = lines.next().unwrap().split_once(' ').unwrap();
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (target, None),
        };
        let headers = lines.filter(|line| !line.is_empty()).map(|line| {
            let (name, value) = line.split_once(':').unwrap();
            (name.trim().to_owned(), value.trim().to_owned())
        });
        let call = Self {
            method: method.to_owned(),
            query,
            headers: headers.collect(),
            body: body.into(),
        };
        let source = path.strip_prefix(BASE).and_then(|path| path.strip_prefix("/callback/"));
        (call, source.map(str::to_owned))
    }

    fn bytes(&self, source: &str) -> Vec<u8> {
        let mut head = format!("{} /callback/{source}", self.method);
        if let Some(query) = &self.query {
            let _ = write!(head, "?{query}");
        }
        head.push_str(" HTTP/1.1\r\nHost: localhost\r\n");
        for (name, value) in &self.headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        if self.method != "GET" {
            let _ = write!(head, "Content-Length: {}\r\n", self.body.len());
        }
        [head.as_bytes(), b"\r\n", self.body.as_bytes()].concat()
    }

    fn is_form(&self) -> bool {
        !self.body.is_empty() && !self.body.trim_start().starts_with(['{', '<', '['])
    }

    /// The same with its pairs changed; `None` where it has none.
    fn with_pairs(&self, change: impl Fn(Vec<String>) -> Vec<String>) -> Option<Self> {
        let changed = |text: &str| {
            let pairs: Vec<String> = text.split('&').map(str::to_owned).collect();
            change(pairs).join("&")
        };
        let mut call = self.clone();
        match &self.query {
            Some(query) => call.query = Some(changed(query)),
            None if self.is_form() => call.body = changed(&self.body),
            None => return None,
        }
        Some(call)
    }

    fn reordered(&self) -> Option<Self> {
        self.with_pairs(|mut pairs| {
            pairs.reverse();
            pairs
        })
    }

    /// The same values with unnecessary escapes; in JSON, with white space.
    fn re_encoded(&self) -> Option<Self> {
        if self.body.trim_start().starts_with('{') {
            return Some(Self { body: self.body.replacen('{', "{ ", 1), ..self.clone() });
        }
        self.with_pairs(|pairs| pairs.iter().map(|pair| escaped(pair)).collect())
    }

    fn longer(&self) -> Option<Self> {
        if self.body.trim_start().starts_with('{') {
            let body = self.body.replacen('{', "{\"zz_extra\":1,", 1);
            return Some(Self { body, ..self.clone() });
        }
        self.with_pairs(|mut pairs| {
            pairs.push("zz_extra=1".to_owned());
            pairs
        })
    }

    /// The same with the first character of each supplied signature of `case` changed.
    fn forged(&self, case: &Case) -> Self {
        let signature = case.file["signature"].as_table().unwrap();
        let others = signature.get("or").and_then(Value::as_array).into_iter().flatten();
        let tables = others.filter_map(Value::as_table).chain([signature]);
        let claims: Vec<&str> =
            tables.map(|one| text(one, "in")).filter(|c| !c.is_empty()).collect();
        claims.iter().fold(self.clone(), |call, claim| call.with_other(case, claim))
    }

    fn with_other(mut self, case: &Case, claim: &str) -> Self {
        let name = claim.trim_matches(['{', '}', '[', ']']).split('|').next().unwrap();
        let list = name.split_once('.').and_then(|(list, item)| {
            let lists = case.file.get("lists")?.as_table()?;
            Some((text(lists.get(list)?.as_table()?, "of"), item))
        });
        if let Some((of, item)) = list {
            let header = of.trim_matches(['[', ']']).strip_prefix("header.").unwrap();
            return self.in_header(case, header, &[&format!("{item}="), &format!("{item},")]);
        }
        if let Some(header) = name.strip_prefix("header.") {
            return self.in_header(case, header, &["sha256=", ""]);
        }
        let params = case.terms.get("params").and_then(Value::as_table);
        let wire = params.map_or(name, |params| match text(params, name) {
            "" => name,
            wire => wire,
        });
        let wire = wire.rsplit('.').next().unwrap(); // a member of a member
        let lead = format!("{wire}=");
        let query = self.query.take();
        self.query = query.map(|query| {
            let pairs = query.split('&').map(|pair| match pair.strip_prefix(&*lead) {
                Some(value) => format!("{lead}{}", other(value)),
                None => pair.to_owned(),
            });
            pairs.collect::<Vec<_>>().join("&")
        });
        for lead in [format!("\"{wire}\":\""), lead] {
            if let Some(at) = self.body.find(&lead).filter(|_| !self.body.is_empty()) {
                let (head, tail) = self.body.split_at(at + lead.len());
                self.body = format!("{head}{}", other(tail));
            }
        }
        self
    }

    fn in_header(mut self, case: &Case, header: &str, leads: &[&str]) -> Self {
        for (name, value) in &mut self.headers {
            let is_renamed = |wire: &Value| wire.as_str().is_some_and(|wire| wire == name);
            let renames = case.file.get("header_names").and_then(Value::as_table);
            let renamed = renames.and_then(|names| names.get(header)).is_some_and(is_renamed);
            if !name.eq_ignore_ascii_case(header) && !renamed {
                continue;
            }
            // Not every item of a list is there.
            let Some(lead) = leads.iter().find(|lead| value.contains(**lead)) else { continue };
            let parts = value.split(*lead).enumerate().map(|(index, part)| {
                if index == 0 && !lead.is_empty() { part.to_owned() } else { other(part) }
            });
            *value =
                if lead.is_empty() { other(value) } else { parts.collect::<Vec<_>>().join(lead) };
        }
        self
    }
}

/// `claim`, a supplied signature, with another first character.
fn other(claim: &str) -> String {
    let mut characters = claim.chars();
    let first = if characters.next() == Some('0') { '1' } else { '0' };
    std::iter::once(first).chain(characters).collect()
}

/// A pair whose value's first letter or digit is escaped.
fn escaped(pair: &str) -> String {
    let Some((name, value)) = pair.split_once('=') else { return pair.to_owned() };
    match value.chars().next().filter(char::is_ascii_alphanumeric) {
        Some(first) => format!("{name}=%{:02X}{}", u32::from(first), &value[1..]),
        None => pair.to_owned(),
    }
}

/// Members of a sealed reply: no two are the same.
const SEALED: [&str; 2] = ["\"encrypt\":", "\"Encrypt\":"];

fn is_sealed(reply: &str) -> bool {
    SEALED.iter().any(|name| reply.contains(name))
}

/// A reply as vectors write one, without times.
fn shown(answer: &Answer) -> String {
    let mut body = answer.body.clone();
    if is_sealed(&body) {
        return format!("{} (sealed)", answer.status);
    }
    if let Ok(Json::Object(mut object)) = serde_json::from_str(&body)
        && object.contains_key("ts")
    {
        object.insert("ts".into(), "(now)".into());
        object.insert("sign".into(), "(its digest)".into());
        body = serde_json::to_string(&object).unwrap();
    }
    format!("{} {body}", answer.status).trim_end().to_owned()
}

fn says(gateway: &Gateway, case: &Case, call: &Call) -> String {
    shown(&ask(gateway.at.callbacks, call.bytes(&case.source)))
}

fn accepted(case: &Case) -> bool {
    text(&case.expect, "outcome") == "accepted"
}

#[test]
fn every_vector_is_answered_as_it_says() {
    let cases = cases();
    let gateways = Gateways::start(&cases, Gateway::start);
    let mut asked = 0;
    for case in &cases {
        let reply = text(&case.expect, "reply");
        let depends_on_the_time = case.file.contains_key("countersign");
        if reply.is_empty() || depends_on_the_time || is_sealed(reply) {
            continue;
        }
        let answer = says(gateways.of(case), case, &case.call);
        assert_eq!(answer, reply, "{}: {}", case.sender, case.about);
        asked += 1;
    }
    assert!(asked > 100, "{asked}");
}

#[test]
fn every_sender_signed_repeated_forged_reordered_re_encoded_and_longer() {
    let cases: Vec<Case> = cases().into_iter().filter(accepted).collect();
    let gateways = Gateways::start(&cases, Gateway::start);
    let mut table = String::from(
        "# sender: vector | signed | repeated | forged | re-ordered | re-encoded | with another parameter\n",
    );
    for case in &cases {
        let asked = |call: Option<Call>| match call {
            Some(call) => says(gateways.of(case), case, &call),
            None => String::from("-"),
        };
        let signed = case.file.contains_key("signature") && !case.terms.contains_key("unsigned");
        let row = [
            asked(Some(case.call.clone())),
            asked(Some(case.call.clone())),
            asked(signed.then(|| case.call.forged(case))),
            asked(case.call.reordered()),
            asked(case.call.re_encoded()),
            asked(case.call.longer()),
        ];
        let _ = writeln!(table, "{}: {} | {}", case.sender, case.about, row.join(" | "));
        let duplicate = case.file["reply"].as_table().unwrap().contains_key("duplicate");
        assert!(duplicate || row[0] == row[1], "{}: {row:?}", case.sender);
        let is_told = !["adjoe"].contains(&case.sender.as_str());
        assert!(!signed || !is_told || row[2] != row[0], "{}: {row:?}", case.sender);
        only_one_was_taken(gateways.of(case), case);
    }
    held_against("fixtures/senders/answers.txt", &table);
}

/// A transaction is accepted once, in any spelling.
fn only_one_was_taken(gateway: &Gateway, case: &Case) {
    let of = |outcome: &str| {
        let source = &case.source;
        gateway.metric(&format!(
            "postern_callbacks_total{{outcome=\"{outcome}\",source=\"{source}\"}}"
        ))
    };
    let shared = case.source == case.sender;
    // One, or as many as one call brings.
    let events = text(&case.expect, "events").parse().unwrap_or(1.0);
    assert!(
        of("accepted") == events || shared,
        "{}: {}: {}",
        case.sender,
        case.about,
        of("accepted")
    );
    assert!(of("duplicate") >= 1.0 && of("conflict") == 0.0, "{}: {}", case.sender, case.about);
    let unsigned = case.terms.contains_key("unsigned") || !case.file.contains_key("signature");
    assert!(of("rejected") >= 1.0 || unsigned, "{}: {}", case.sender, case.about);
}

#[test]
fn what_cannot_be_recorded_is_unavailable_in_every_senders_words() {
    let cases: Vec<Case> = cases().into_iter().filter(accepted).collect();
    let gateways = Gateways::start(&cases, Gateway::without_room);
    for case in &cases {
        let row = &case.file["reply"].as_table().unwrap()["unavailable"];
        if row.as_str() == Some("silence") {
            continue; // `silence.rs` waits for one; here it would take each one's timeout
        }
        let answer = says(gateways.of(case), case, &case.call);
        let of_table = row.get("status").and_then(Value::as_integer);
        let status = row.as_integer().or(of_table).unwrap_or(200);
        assert!(answer.starts_with(&status.to_string()), "{}: {answer}", case.sender);
        assert_ne!(answer, text(&case.expect, "reply"), "{}", case.sender);
    }
}

#[test]
fn every_delivered_event_is_what_its_schema_says() {
    let mut cases: Vec<Case> = cases().into_iter().filter(accepted).collect();
    for case in &mut cases {
        case.terms.insert("destinations".into(), "game".into());
    }
    let backend = Backend::start();
    let destination = format!("\n[[destination]]\nname = \"game\"\n{}", game(backend.at));
    let gateways = Gateways::start(&cases, |text| Gateway::start(&format!("{text}{destination}")));
    let mut accepted = BTreeMap::new();
    for case in &cases {
        let gateway = gateways.of(case);
        says(gateway, case, &case.call);
        let of = format!("outcome=\"accepted\",source=\"{}\"", case.source);
        let count = gateway.metric(&format!("postern_callbacks_total{{{of}}}"));
        accepted.insert((case.index, &case.source), count);
    }
    let admin = gateways.of(&cases[0]).at.admin;
    let mut schema = get(admin, "/admin/v1/event.schema.json").json();
    // Backends ignore members that they do not know; a new one belongs into the schema.
    schema["additionalProperties"] = json!(false);
    let got = backend.await_count(accepted.values().sum::<f64>() as usize);
    assert!(got.len() > 100, "{}", got.len());
    for one in &got {
        check(&schema, &schema, &one.json(), "event");
    }
}

/// Compares with a file, which `POSTERN_WRITE=1` rewrites.
fn held_against(file: &str, text: &str) {
    let path = root().join(file);
    if std::env::var_os("POSTERN_WRITE").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    for (line, (expected, got)) in written.lines().zip(text.lines()).enumerate() {
        assert_eq!(expected, got, "{file}:{}", line + 1);
    }
    assert_eq!(written.lines().count(), text.lines().count(), "{file}");
}

/// The events of a source, oldest first.
fn events(gateway: &Gateway, source: &str) -> Vec<Json> {
    let answer = get(gateway.at.admin, &format!("/admin/v1/events?source={source}&limit=100"));
    let page: Json = serde_json::from_str(&answer.body).unwrap();
    let mut events = page["events"].as_array().unwrap().clone();
    events.reverse();
    events
}

#[test]
fn every_event_says_what_its_vector_expects() {
    let cases: Vec<Case> = cases().into_iter().filter(accepted).collect();
    let gateways = Gateways::start(&cases, Gateway::start);
    let mut reversals = 0;
    for case in &cases {
        says(gateways.of(case), case, &case.call);
        let transaction = text(&case.expect, "transaction");
        let events = events(gateways.of(case), &case.source);
        // Events of one call have one time, and are listed in any order.
        let user = text(&case.expect, "user");
        let is_first = |event: &&Json| user.is_empty() || event["user"] == user;
        let is_it = |event: &&Json| match transaction.is_empty() {
            true => is_first(event),
            false => event["transaction"] == transaction,
        };
        let event = events.iter().find(is_it);
        let Some(event) = event else { panic!("{}: {}: {events:?}", case.sender, case.about) };
        for name in ["user", "item", "amount", "currency", "kind", "reverses", "test", "effect"] {
            let Some(expected) = case.expect.get(name) else { continue };
            let got = match &event[name] {
                // A vector expects an empty kind of a callback without one.
                Json::String(kind) if name == "kind" && kind == "event" => {
                    Value::String(String::new())
                }
                Json::Null => Value::String(String::new()),
                Json::Bool(flag) => Value::Boolean(*flag),
                other => Value::String(other.as_str().unwrap().to_owned()),
            };
            assert_eq!(got, *expected, "{}: {}: {name}", case.sender, case.about);
        }
        if let Some(proven) = case.expect.get("authenticated") {
            let got = event["authenticated"].as_array().unwrap().iter();
            let got: Vec<&str> = got.map(|word| word.as_str().unwrap()).collect();
            assert_eq!(got.join(" "), proven.as_str().unwrap(), "{}: {}", case.sender, case.about);
        }
        reversals += i32::from(!event["reverses"].is_null());
    }
    assert!(reversals >= 4, "{reversals}");
}

/// A chargeback of a transaction is a separate event that names the first.
#[test]
fn a_reversal_is_linked_to_the_first() {
    let source = |name: &str| format!("[[source]]\nname = {name:?}\nsender = \"bitlabs\"\n");
    let gateway = Gateway::start(&format!(
        "[server]\ncallbacks = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\npublic_url = \"{BASE}\"\n\
         {}secrets = \"s3cret\"\n",
        source("wall")
    ));
    let signed = |query: &str| {
        let mut mac = Hmac::<Sha1>::new_from_slice(b"s3cret").unwrap();
        mac.update(format!("{BASE}/callback/wall?{query}").as_bytes());
        let claim = const_hex::encode(mac.finalize().into_bytes());
        get(gateway.at.callbacks, &format!("/callback/wall?{query}&hash={claim}")).status
    };
    assert_eq!(signed("uid=u1&tx=tx-1&val=500&raw=5.00&type=COMPLETE&ref="), 200);
    let taken_back = "uid=u1&tx=tx-2&val=-500&raw=-5.00&type=RECONCILIATION&ref=tx-1";
    assert_eq!(signed(taken_back), 200);
    assert_eq!(signed(taken_back), 200);
    let events = events(&gateway, "wall");
    assert_eq!(events.len(), 2);
    // Both may have come in one millisecond, so their order is undefined.
    let of = |transaction: &str| {
        events.iter().find(|event| event["transaction"] == transaction).unwrap()
    };
    assert_eq!(of("tx-1")["reverses"], Json::Null);
    let second = of("tx-2");
    assert_eq!((&second["kind"], &second["transaction"]), (&json!("reversal"), &json!("tx-2")));
    assert_eq!((&second["reverses"], &second["amount"]), (&json!("tx-1"), &json!("-500")));
    assert_eq!(
        second["authenticated"],
        json!(["transaction", "user", "amount", "reverses", "kind"])
    );
}

#[test]
fn a_pinned_reward_is_compared_as_a_number() {
    let pinned = PLAIN.to_owned() + "rewards = { coin = 10 }\n";
    let gateway = Gateway::start(&pinned);
    for (transaction, amount) in [("p1", "10"), ("p2", "10.0"), ("p3", "10.000000")] {
        let answer = get(gateway.at.callbacks, &taku_for("u1", transaction, amount));
        assert_eq!(answer.status, 200, "{amount}");
    }
    for (transaction, amount) in [("p4", "100"), ("p5", "1e1"), ("p6", "10.01")] {
        let answer = get(gateway.at.callbacks, &taku_for("u1", transaction, amount));
        assert_ne!(answer.status, 200, "{amount}");
    }
    let refused =
        gateway.metric("postern_rejections_total{reason=\"pinned_reward\",source=\"level-end\"}");
    assert_eq!(refused, 3.0);
    assert_eq!(events(&gateway, "level-end").len(), 3);
}
