//! Tokens that are bound to sources: they see nothing of the others, on no path of the admin API and
//! on no page of the console. The paths come from the API's own document and the console's own
//! links, so a new one is tried as well.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use serde_json::{Value, json};

use super::backend::{Backend, status};
use super::deliver::tries;
use super::gateway::{Gateway, TAKU_SECRET, eventually, taku_for};
use super::wire::{Answer, get, send};

/// A part of each name of the other tenant, and of no name of the own one.
const THEIRS: &str = "globex";

/// As long as [`THEIRS`], and in no name.
const NO_NAME: &str = "unused";

const TOKENS: &str = r#"
[admin]
token = [
    { name = "ops", value = "ops-token-0123456789" },
    { name = "acme-read", value = "acme-read-0123456789", right = "read", sources = ["acme-*"] },
    { name = "acme-support", value = "acme-support-0123456", right = "support", sources = ["acme-*"] },
    { name = "acme-admin", value = "acme-admin-012345678", sources = ["acme-*"] },
]
"#;

const OPS: &str = "ops-token-0123456789";
const BOUND: [&str; 3] = ["acme-read-0123456789", "acme-support-0123456", "acme-admin-012345678"];

/// A gateway with two tenants, each with an accepted event that is dead at its destination, a
/// duplicate, a conflict, a callback in quarantine, and changes that were audited.
struct Shared {
    gateway: Gateway,
    _backends: [Backend; 2],
    /// Ids of the tenants: of an event, a conflict, a rejection, a replay and a release.
    ours: Vec<String>,
    theirs: Vec<String>,
}

impl Shared {
    fn start() -> Self {
        let backends = [Backend::start(), Backend::start()];
        let mut text = String::from(
            "[server]\ncallbacks = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\ndrain = \"5s\"\n",
        );
        text.push_str(TOKENS);
        for (tenant, backend) in ["acme", THEIRS].into_iter().zip(&backends) {
            backend.says(status(400));
            text.push_str(&format!(
                "[[destination]]\nname = \"{tenant}-backend\"\n{}[[source]]\nname = \"{tenant}-shop\"\n\
                 sender = \"taku\"\nreplayable = true\nsecrets = \"{TAKU_SECRET}\"\n\
                 destinations = [\"{tenant}-backend\"]\nquarantine = {{ reasons = \"all\" }}\n",
                tries(backend.at, 1)
            ));
        }
        let gateway = Gateway::start(&text);
        let mut shared =
            Self { gateway, _backends: backends, ours: Vec::new(), theirs: Vec::new() };
        shared.ours = shared.fill("acme");
        shared.theirs = shared.fill(THEIRS);
        shared
    }

    fn at(&self) -> SocketAddr {
        self.gateway.at.admin
    }

    fn ask(&self, token: &str, line: &str, body: &str) -> Answer {
        send(self.at(), line, &[("Authorization", &format!("Bearer {token}"))], body)
    }

    fn look(&self, path: &str) -> Value {
        self.ask(OPS, &format!("GET /admin/v1/{path}"), "").json()
    }

    fn fill(&self, tenant: &str) -> Vec<String> {
        let (shop, to) = (format!("{tenant}-shop"), self.gateway.at.callbacks);
        let call = |transaction: &str, amount: &str| {
            let user = format!("{tenant}-user");
            let transaction = format!("{tenant}-{transaction}");
            taku_for(&user, &transaction, amount).replace("level-end", &shop)
        };
        for (target, expected) in [
            (call("t1", "1"), 200),
            (call("t1", "1"), 200),
            (call("t1", "2"), 200),
            (call("t2", "1").replace("coin", "gold"), 0),
            (call("t3", "1").replace(&shop, &format!("{shop}x")), 404),
        ] {
            let answer = get(to, &target);
            assert!(expected == 0 || answer.status == expected, "{target}: {answer:?}");
        }
        let first = |path: &str, list: &str| -> Option<String> {
            self.look(path)[list][0]["id"].as_str().map(str::to_owned)
        };
        let source = format!("source={shop}");
        let mut ids = vec![first(&format!("events?{source}"), "events").unwrap()];
        for (path, list) in
            [("held?why=conflict&", "held"), ("rejections?held=true&", "rejections")]
        {
            let path = format!("{path}{source}");
            eventually(&path, || first(&path, list).is_some());
            ids.push(first(&path, list).unwrap());
        }
        eventually("its delivery is dead", || {
            self.look(&format!("deliveries?state=dead&destination={tenant}-backend"))["deliveries"]
                [0]
            .is_object()
        });
        for (path, order) in [
            ("replay", json!({ "source": shop, "state": "dead", "dry_run": true })),
            ("release", json!({ "source": shop, "dry_run": true })),
        ] {
            let begun = self.ask(OPS, &format!("POST /admin/v1/{path}"), &order.to_string());
            assert_eq!(begun.status, 202, "{begun:?}");
            ids.push(begun.json()["id"].as_str().unwrap().to_owned());
        }
        let path = format!("destinations/{tenant}-backend/pause");
        assert_eq!(self.ask(OPS, &format!("POST /admin/v1/{path}"), "").status, 200);
        ids
    }

    /// The lists that operators see.
    fn whole(&self) -> Vec<Value> {
        let paths =
            ["events", "held", "rejections", "deliveries?state=dead", "sources", "destinations"];
        paths.iter().map(|path| self.look(path)).collect()
    }

    /// Fails if an answer to `token` holds anything of the other tenant.
    fn says_nothing(&self, what: &str, answer: &Answer) {
        let text = format!("{}{}", answer.head, answer.body).to_ascii_lowercase();
        assert!(!text.contains(THEIRS), "{what}: {}", answer.body);
        for id in &self.theirs {
            assert!(!text.contains(id.as_str()), "{what} names {id}: {}", answer.body);
        }
    }
}

/// The id of nothing that looks like `id`.
fn unknown(id: &str) -> String {
    let (kind, digits) = id.split_once('_').unwrap();
    let other: String = digits
        .char_indices()
        .map(|(at, digit)| {
            if at + 1 < digits.len() {
                digit
            } else if digit == '0' {
                '1'
            } else {
                '0'
            }
        })
        .collect();
    format!("{kind}_{other}")
}

/// Bodies that are tried on each path that takes one. `NAME` is the name of a tenant, `EVENT` and
/// `HELD` are ids.
const BODIES: [&str; 9] = [
    "",
    "{}",
    r#"{"source":"NAME-shop"}"#,
    r#"{"source":"NAME-shop","dry_run":true}"#,
    r#"{"all":true,"dry_run":true}"#,
    r#"{"events":["EVENT"],"dry_run":true}"#,
    r#"{"source":"NAME-shop","rejection":"HELD"}"#,
    r#"{"user":"NAME-user","source":"NAME-shop"}"#,
    r#"{"source":"NAME-shop","parameters":["transaction=t","item=coin","amount=1"]}"#,
];

const QUERIES: [&str; 8] = [
    "",
    "?source=NAME-shop",
    "?state=dead",
    "?state=dead&destination=NAME-backend",
    "?destination=NAME-backend",
    "?transaction=NAME-t1",
    "?user=NAME-user",
    "?reason=unknown_path",
];

#[test]
fn no_path_of_the_admin_api_says_anything_of_another_tenant() {
    let shared = Shared::start();
    let before = shared.whole();
    let document = shared.look("openapi.json");
    let mut tried = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        let methods = item.as_object().unwrap().keys().filter(|key| *key != "parameters");
        // The order ends the gateway; that it is refused is tested below.
        for method in methods.filter(|_| path != "/admin/v1/drain") {
            for token in BOUND {
                tried += tries_of(&shared, token, &method.to_uppercase(), path);
            }
        }
    }
    assert!(tried > 1000, "{tried} requests");
    assert_eq!(shared.whole(), before, "a token changed what it does not see");
    let log = shared.look("audit?limit=1000");
    let own =
        log["audit"].as_array().unwrap().iter().filter(|entry| {
            entry["who"].as_str().is_some_and(|who| who.starts_with("token acme-"))
        });
    // The filter of an order is in the words of who gave it.
    for entry in own.filter(|entry| entry["action"] != "replayed") {
        assert!(!entry.to_string().contains(THEIRS), "{entry}");
    }
}

#[test]
fn the_audit_log_of_a_tenant_has_what_was_done_with_its_sources_alone() {
    let shared = Shared::start();
    for id in [&shared.ours[0], &shared.theirs[0]] {
        let again = shared.ask(OPS, &format!("POST /admin/v1/events/{id}/replay"), "");
        assert_eq!(again.status, 202, "{again:?}");
    }
    let order = json!({ "state": "dead" }).to_string();
    assert_eq!(shared.ask(BOUND[2], "POST /admin/v1/replay", &order).status, 202);
    let log = shared.ask(BOUND[2], "GET /admin/v1/audit", "").json();
    let entries = log["audit"].as_array().unwrap();
    let kinds: Vec<&str> = entries.iter().map(|entry| entry["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["replay", "event"], "{log}");
    assert_eq!(
        (&entries[1]["name"], &entries[1]["who"]),
        (&json!(shared.ours[0]), &json!("token ops"))
    );
    assert!(!log.to_string().contains(THEIRS), "{log}");
}

/// Tries a path with names and ids of the other tenant: each answer is that for a name or an id that
/// does not exist. Without one, nothing of the other tenant is in the answer.
fn tries_of(shared: &Shared, token: &str, method: &str, path: &str) -> usize {
    let mut tried = 0;
    let bodies = if method == "GET" || method == "DELETE" { &BODIES[..1] } else { &BODIES[..] };
    let queries = if path.contains('{') || method != "GET" { &QUERIES[..1] } else { &QUERIES[..] };
    let names = [format!("{THEIRS}-shop"), format!("{THEIRS}-backend")];
    let ids: Vec<&String> = names.iter().chain(&shared.theirs).collect();
    let ids = if path.contains('{') { &ids[..] } else { &ids[..1] };
    for id in ids {
        for (query, body) in
            queries.iter().flat_map(|query| bodies.iter().map(move |b| (*query, *b)))
        {
            let at = path.replace("{id}", id).replace("{name}", id);
            let theirs = |text: &str| {
                text.replace("NAME", THEIRS)
                    .replace("EVENT", &shared.theirs[0])
                    .replace("HELD", &shared.theirs[2])
            };
            let unused = |text: &str| {
                let mut text = text.replace(THEIRS, NO_NAME);
                for id in &shared.theirs {
                    text = text.replace(id.as_str(), &unknown(id));
                }
                text
            };
            let (line, body) = (format!("{method} {at}{}", theirs(query)), theirs(body));
            let answer = shared.ask(token, &line, &body);
            let what = format!("{line} {body}: {}", answer.status);
            let (other_line, other_body) = (unused(&line), unused(&body));
            if (&other_line, &other_body) == (&line, &body) {
                shared.says_nothing(&what, &answer);
            } else {
                let other = shared.ask(token, &other_line, &other_body);
                assert_eq!(answer.status, other.status, "{what}: {}", answer.body);
                let told = without_order(&unused(&answer.body));
                assert_eq!(told, without_order(&other.body), "{what}");
            }
            tried += 1;
        }
    }
    tried
}

/// An answer without the id and the time of a new order.
fn without_order(text: &str) -> String {
    let Ok(Value::Object(mut order)) = serde_json::from_str(text) else { return text.to_owned() };
    if order.contains_key("dry_run") {
        order.remove("id");
        order.remove("at");
    }
    Value::Object(order).to_string()
}

#[test]
#[expect(clippy::too_many_lines, reason = "one walk through all that it may do")]
fn a_bound_token_does_its_work_on_its_own_sources() {
    let shared = Shared::start();
    let [event, conflict, rejection, replay, release] = &shared.ours[..] else { panic!() };
    let [read, support, admin] = BOUND;
    let get = |path: &str| {
        let answer = shared.ask(read, &format!("GET /admin/v1/{path}"), "");
        shared.says_nothing(path, &answer);
        (answer.status, answer.json())
    };
    for (path, list) in [
        ("events", "events"),
        ("held", "held"),
        ("rejections", "rejections"),
        ("deliveries?state=dead", "deliveries"),
        ("sources", "sources"),
        ("urls", "urls"),
    ] {
        let (status, page) = get(path);
        assert_eq!(status, 200, "{path}");
        let found = page[list].as_array().unwrap().len();
        // The rejected callback waits in quarantine, and so does the conflict.
        assert_eq!(found, if path == "held" { 2 } else { 1 }, "{path}: {page}");
        assert_eq!(page["next_cursor"], Value::Null, "{path}");
    }
    assert_eq!(get(&format!("events/{event}")).0, 200);
    assert_eq!(get("sources/acme-shop").0, 200);
    assert_eq!(get("signing-key").0, 200, "the gateway's own names no destination");
    let (_, senders) = get("senders");
    let taku = senders["senders"].as_array().unwrap().iter().find(|one| one["name"] == "taku");
    assert_eq!(taku.unwrap()["sources"], json!(["acme-shop"]));
    // Orders of others are not seen, though they were for these sources.
    assert_eq!(get(&format!("replay/{replay}")).0, 404);
    assert_eq!(get(&format!("release/{release}")).0, 200, "a release is of one source");
    for path in [
        "destinations",
        "destinations/acme-backend",
        "destinations/acme-backend/status",
        "signing-key?destination=acme-backend",
        "export",
        "verify",
    ] {
        let token = if path == "export" { admin } else { read };
        let answer = shared.ask(token, &format!("GET /admin/v1/{path}"), "");
        assert_eq!(answer.status, 403, "{path}: {answer:?}");
    }
    let put = json!({ "sender": "taku", "secrets": "x" }).to_string();
    for (line, body) in [
        ("PUT /admin/v1/sources/acme-new", put.as_str()),
        ("DELETE /admin/v1/sources/acme-shop", ""),
        ("POST /admin/v1/drain", ""),
        ("POST /admin/v1/destinations/acme-backend/resume", ""),
        ("POST /admin/v1/verify", ""),
    ] {
        assert_eq!(shared.ask(admin, line, body).status, 403, "{line}");
    }
    let post = |token: &str, path: &str, body: &Value| {
        let answer = shared.ask(token, &format!("POST /admin/v1/{path}"), &body.to_string());
        shared.says_nothing(path, &answer);
        (answer.status, answer.json())
    };
    // A replay of everything is one of its sources.
    let (status, order) = post(support, "replay", &json!({ "all": true }));
    assert_eq!((status, &order["events"], &order["seen"]), (202, &json!(1), &json!(1)), "{order}");
    let id = order["id"].as_str().unwrap();
    assert_eq!(get(&format!("replay/{id}")).0, 200);
    let both = json!({ "events": [event, shared.theirs[0]], "dry_run": true });
    let (status, order) = post(support, "replay", &both);
    assert_eq!((status, &order["events"]), (202, &json!(1)), "{order}");
    let dead = json!({ "state": "dead", "dry_run": true });
    let (status, order) = post(support, "replay", &dead);
    assert_eq!((status, &order["of"]), (202, &Value::Null), "{order}");
    assert!(order["seen"].as_u64().unwrap() <= 1, "{order}");
    let question = json!({ "source": "acme-shop", "rejection": rejection });
    assert_eq!(post(read, "explain", &question).1["reason"], "bad_signature");
    let wanted = json!({ "user": "acme-user" });
    assert_eq!(post(admin, "erase", &wanted).0, 400, "of which source?");
    let held = shared.ask(admin, &format!("POST /admin/v1/held/{conflict}/drop"), "");
    assert_eq!(held.status, 200, "{held:?}");
    let wanted = json!({ "user": "acme-user", "source": "acme-shop" });
    let (status, erased) = post(admin, "erase", &wanted);
    assert_eq!((status, &erased["events"]), (200, &json!(1)), "{erased}");
    assert_eq!(shared.look("events")["events"].as_array().unwrap().len(), 1, "theirs is left");
}

#[test]
fn metrics_are_for_those_who_see_everything() {
    let shared = Shared::start();
    let at = shared.at();
    assert_eq!(get(at, "/metrics").status, 401, "a token is bound, and loopback may be shared");
    for token in BOUND {
        assert_eq!(shared.ask(token, "GET /metrics", "").status, 403);
    }
    assert!(shared.ask(OPS, "GET /metrics", "").body.contains(THEIRS));
    for path in ["/livez", "/healthz", "/readyz"] {
        assert_eq!(get(at, path).status, 200, "{path}");
    }
}

// === The console ===

/// A session at the console.
struct Session<'s> {
    shared: &'s Shared,
    cookie: String,
    /// Of the forms of this session: it is in every page, and another one in each session.
    csrf: String,
}

impl<'s> Session<'s> {
    fn open(shared: &'s Shared, token: &str) -> Self {
        let csrf = csrf(&get(shared.at(), "/console/sign-in"));
        let body = format!("csrf={csrf}&token={token}");
        let answer = send(shared.at(), "POST /console/sign-in", &[], &body);
        let cookie = answer.field("set-cookie").unwrap_or_else(|| panic!("{answer:?}"));
        let cookie = cookie.split_once(';').unwrap().0.to_owned();
        let mut session = Self { shared, cookie, csrf: String::new() };
        session.csrf = self::csrf(&session.get("/console/debug"));
        session
    }

    fn get(&self, path: &str) -> Answer {
        send(self.shared.at(), &format!("GET {path}"), &[("Cookie", &self.cookie)], "")
    }

    fn post(&self, path: &str, fields: &str) -> Answer {
        let body = format!("csrf={}&{fields}", self.csrf);
        send(self.shared.at(), &format!("POST {path}"), &[("Cookie", &self.cookie)], &body)
    }
}

fn csrf(page: &Answer) -> String {
    let (_, rest) = page.body.split_once("name=\"csrf\" value=\"").unwrap();
    rest.split_once('"').unwrap().0.to_owned()
}

/// Paths of the console that `attribute` of a page names.
fn paths(page: &Answer, attribute: &str) -> BTreeSet<String> {
    let mark = format!("{attribute}=\"/console");
    let ends = page.body.split(&mark).skip(1).filter_map(|rest| rest.split_once('"'));
    let path = |text: &str| format!("/console{}", text.replace("&amp;", "&"));
    ends.map(|(text, _)| path(text)).filter(|path| !path.contains("lang=")).collect()
}

/// Every page that the operators reach by links, and every path that a form posts to.
fn pages(ops: &Session<'_>) -> (BTreeSet<String>, BTreeSet<String>) {
    let mut known: BTreeSet<String> = ["/console".to_owned()].into();
    let mut forms = BTreeSet::new();
    let mut next: Vec<String> = known.iter().cloned().collect();
    let mut senders = 0;
    while let Some(path) = next.pop() {
        let page = ops.get(&path);
        assert!(page.status < 500, "{path}: {}", page.status);
        forms.extend(paths(&page, "action"));
        let links = [paths(&page, "href"), paths(&page, "data-live")];
        for link in links.into_iter().flatten() {
            // One sender is like the others.
            let is_sender = link.starts_with("/console/senders/");
            senders += usize::from(is_sender);
            // So are the times and the ways to follow of a list.
            let is_same_list = link.contains("span=") || link.contains("live=");
            let is_asset = link.starts_with("/console/assets/");
            let skip = is_asset || is_same_list || (is_sender && senders > 3);
            if !skip && known.insert(link.clone()) {
                next.push(link);
            }
        }
        assert!(known.len() < 1000, "{known:?}");
    }
    known.insert(String::from("/console/overview/live"));
    known.insert(String::from("/console/callbacks/live"));
    (known, forms)
}

#[test]
fn no_page_of_the_console_says_anything_of_another_tenant() {
    let shared = Shared::start();
    let ops = Session::open(&shared, OPS);
    let (all, forms) = pages(&ops);
    for (tenant, ids) in [("acme", &shared.ours), (THEIRS, &shared.theirs)] {
        for wanted in [
            format!("/console/events/{}", ids[0]),
            format!("/console/held/{}", ids[1]),
            format!("/console/refusals/{}", ids[2]),
            format!("/console/sources/{tenant}-shop"),
            format!("/console/dead-letters/replays/{}", ids[3]),
        ] {
            assert!(all.contains(&wanted), "{wanted} is linked from nowhere: {all:#?}");
        }
    }
    let before = shared.whole();
    for token in BOUND {
        let session = Session::open(&shared, token);
        let mut seen = 0;
        for path in &all {
            let answer = session.get(path);
            assert!(answer.status < 500, "{path}: {}", answer.status);
            seen += usize::from(answer.status == 200);
            judge(&shared, path, &answer, |path| session.get(path));
        }
        assert!(seen > 15, "{seen} pages of its own");
        let fields = |which: &str| {
            format!(
                "source={THEIRS}-shop&do=explain&request=/callback/{THEIRS}-shop?x=1&event={0}\
                 &which={which}&sure=yes&note=n&reason=r&q={0}&kind=dead&cause=status+400\
                 &destination={THEIRS}-backend",
                shared.theirs[0]
            )
        };
        let posted = forms.iter().filter(|path| !path.ends_with("/sign-out"));
        for (path, which) in posted.flat_map(|path| [(path, "all"), (path, "selected")]) {
            // What it does to its own is tested elsewhere.
            if path.contains("acme") || shared.ours.iter().any(|id| path.contains(id.as_str())) {
                continue;
            }
            let answer = session.post(path, &fields(which));
            assert!(answer.status < 500, "{path}: {answer:?}");
            let target = answer.field("location").unwrap_or_default();
            let body = answer.body.replace(&format!("{THEIRS}-shop?x=1"), "");
            assert!(!body.contains(&format!("{THEIRS}-user")), "{path}: {body}");
            assert!(!target.contains("done="), "{path} was done: {target}");
        }
    }
    let after = shared.whole();
    assert_eq!(after[..3], before[..3], "a session changed what it does not see");
}

/// Fails if an answer to `path` holds anything of the other tenant but what the path itself says: to
/// a path with their names, the answer is that for names that do not exist.
fn judge(shared: &Shared, path: &str, answer: &Answer, again: impl Fn(&str) -> Answer) {
    let mut other = path.replace(THEIRS, NO_NAME);
    for id in &shared.theirs {
        other = other.replace(id.as_str(), &unknown(id));
    }
    if other == path {
        return shared.says_nothing(path, answer);
    }
    let control = again(&other);
    assert_eq!(answer.status, control.status, "{path}");
    let mut told = answer.body.replace(THEIRS, NO_NAME);
    for id in &shared.theirs {
        told = told.replace(id.as_str(), &unknown(id));
    }
    let pieces = |text: &str| -> Vec<String> {
        text.split('<').filter(|part| !is_time(part)).map(str::to_owned).collect()
    };
    assert_eq!(pieces(&told), pieces(&control.body), "{path}");
}

/// Whether a piece of a page is a time, which goes on.
fn is_time(part: &str) -> bool {
    part.starts_with("time ")
}
