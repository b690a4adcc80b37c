//! Files, writes and imports that could cost an object made over an API.

use std::path::Path;

use bytes::Bytes;
use serde_json::{Value, json};

use super::*;
use crate::config::{ConfigIssue, Machine, load_str};
use crate::ledger::{
    BatchOptions, DocumentChange, Expect, Ledger as _, Memory, NoopObserver, StoreClock,
};

const SECRET: &str = "0123456789abcdefghijklmnopqrstuv";

/// Documents of another part: they raise the revision, and leave the head.
const PAUSE: Kind = Kind::new("pause");

fn memory() -> Memory {
    Memory::new(StoreClock::process())
}

fn file(text: &str) -> Arc<Config> {
    let loaded = load_str(&Machine, Path::new("postern.toml"), text);
    Arc::new(loaded.unwrap_or_else(|faults| panic!("{faults}")).config)
}

async fn over(engine: &Memory, text: &str) -> Registry {
    let observer = Arc::new(NoopObserver);
    let ledger = BatchedLedger::new(engine.clone(), BatchOptions::default(), observer);
    Registry::open(ledger, file(text)).await.unwrap()
}

fn who() -> Actor {
    Actor::of_token("ops")
}

async fn put(
    registry: &Registry,
    managed: Managed,
    name: &str,
    table: &Value,
) -> Result<Written, ChangeError<DocumentError>> {
    let table = table.as_object().unwrap();
    registry.put(&who(), managed, name, table, &Precondition::None).await
}

fn faults(refused: Result<Written, ChangeError<DocumentError>>) -> Vec<ConfigIssue> {
    match refused {
        Err(ChangeError::Refused(DocumentError::Wrong(faults))) => faults,
        other => panic!("{other:?}"),
    }
}

/// 1. A source is created over the API, and a file comes with another one under its secret.
/// 2. The file is not applied: each callback would be accepted by both.
/// 3. A start with that file loses neither of them, and what it runs may be reloaded.
#[tokio::test]
async fn a_file_that_shares_a_secret_with_a_source_of_the_api_is_not_applied() {
    let engine = memory();
    let registry = over(&engine, "").await;
    let source = json!({ "sender": "taku", "secrets": [SECRET] });
    put(&registry, Managed::Source, "api", &source).await.unwrap();
    let twin = format!("[[source]]\nname = \"s2\"\nsender = \"taku\"\nsecrets = \"{SECRET}\"\n");
    let refused = registry.reload(file(&twin)).await;
    let Err(ReloadError::Clash(clashes)) = refused else { panic!("{refused:?}") };
    assert_eq!(clashes.len(), 1, "{clashes:?}");
    assert!(clashes[0].starts_with("the sources api and s2 accept each other's callbacks"));
    assert!(!clashes[0].contains(SECRET));
    assert!(!registry.config().sources.contains_key("s2"));

    let started = over(&engine, &twin).await;
    assert!(["api", "s2"].iter().all(|name| started.config().sources.contains_key(*name)));
    started.reload(file(&twin)).await.unwrap();

    registry.reload(file(&twin.replace("0123", "3210"))).await.unwrap();
    assert!(registry.config().sources.contains_key("s2"));
}

#[tokio::test]
async fn a_destination_that_would_cost_a_source_is_refused() {
    let engine = memory();
    let registry = over(&engine, "").await;
    let to =
        |name: &str, mode: &str| json!({ "url": format!("https://{name}.example/"), "mode": mode });
    for name in ["d1", "d2", "d3"] {
        put(&registry, Managed::Destination, name, &to(name, "async")).await.unwrap();
    }
    let source = json!({
        "sender": "taku", "secrets": [SECRET], "destinations": ["d1", "d2"],
        "route": [{ "when": ["{reverses}"], "to": ["d3"] }],
    });
    put(&registry, Managed::Source, "bonus", &source).await.unwrap();
    put(&registry, Managed::Destination, "d1", &to("d1", "inline")).await.unwrap();
    for (name, why) in [
        ("d2", "is the second one that the sender waits for"),
        ("d3", "a verdict of a route would be late"),
    ] {
        let found = faults(put(&registry, Managed::Destination, name, &to(name, "inline")).await);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].key, "mode");
        let what = &found[0].what;
        assert!(what.starts_with("breaks the source bonus") && what.contains(why), "{what}");
    }
    put(&registry, Managed::Destination, "d1", &to("d1", "async")).await.unwrap();
    put(&registry, Managed::Destination, "d2", &to("d2", "inline")).await.unwrap();
    assert!(over(&engine, "").await.running().ignored.is_empty());
}

/// Plain http reaches only what `egress.allow` names, so without any it never would.
#[tokio::test]
async fn a_destination_that_plain_http_never_reaches_is_refused() {
    let allow = "[egress]\nallow = [\"10.0.0.0/8\"]\n";
    for (text, url, is_refused) in [
        ("", "http://game.example/", true),
        ("", "HTTP://game.example/", true),
        ("", "https://game.example/", false),
        ("", "http://8.8.8.8/", true),
        (allow, "http://game.example/", false),
        (allow, "http://8.8.8.8/", true),
    ] {
        let registry = over(&memory(), text).await;
        let written = put(&registry, Managed::Destination, "d", &json!({ "url": url })).await;
        match is_refused {
            true => assert_eq!(faults(written)[0].key, "url", "{url}"),
            false => assert!(written.is_ok(), "{url}: {written:?}"),
        }
    }
}

/// A store with a registry that is open, and the export of another store in it. The store's own head
/// is newer than that of the other one, and has smaller numbers.
async fn imported() -> (Memory, Registry) {
    let (from, to) = (memory(), memory());
    let first = over(&from, "").await;
    for _ in 0..12 {
        first.note(&who(), Action::Tried, AuditSubject::new("destination", "game")).await.unwrap();
    }
    let game = json!({ "url": "https://game.example/" });
    put(&first, Managed::Destination, "game", &game).await.unwrap();
    let second = over(&to, "").await;
    for number in 0..10 {
        second.note(&who(), Action::Changed, AuditSubject::new("pause", "shop")).await.unwrap();
        let change = DocumentChange {
            kind: PAUSE,
            id: number.to_string(),
            expect: Expect::Absent,
            body: Some(Bytes::from_static(b"{}")),
            who: String::new(),
            at_ms: 0,
        };
        to.change(&change).await.unwrap();
    }
    let shop = json!({ "url": "https://shop.example/" });
    put(&second, Managed::Destination, "shop", &shop).await.unwrap();
    let export = from.export(None, usize::MAX).await.unwrap();
    assert!(export.next.is_none());
    to.import(export.items).await.unwrap();
    (to, second)
}

async fn can_change(registry: &Registry) {
    registry.note(&who(), Action::Tried, AuditSubject::new("destination", "game")).await.unwrap();
    let game = json!({ "url": "https://new.example/" });
    assert!(!put(registry, Managed::Destination, "game", &game).await.unwrap().created);
    let (log, _) = audit_log(registry.ledger(), AuditQuery::default(), 2, |_| true).await.unwrap();
    let actions: Vec<&str> = log.iter().map(|entry| entry.action.as_str()).collect();
    assert_eq!(actions, ["changed", "tried"]);
}

#[tokio::test]
async fn a_running_gateway_can_change_what_an_import_brought() {
    let (_, registry) = imported().await;
    can_change(&registry).await;
}

#[tokio::test]
async fn a_gateway_that_starts_after_an_import_can_change_everything() {
    let (engine, _) = imported().await;
    can_change(&over(&engine, "").await).await;
}

#[tokio::test]
async fn an_import_is_followed_without_a_change_of_the_head() {
    let (_, registry) = imported().await;
    assert!(!registry.config().destinations.contains_key("game"));
    let following = registry.clone();
    let follower = tokio::spawn(async move { following.follow().await });
    let followed = async {
        while !registry.config().destinations.contains_key("game") {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), followed).await.unwrap();
    follower.abort();
}

/// 1. An audit log is full: an erasure of `ops`, then entries of a busy token.
/// 2. The next entries of the busy token replace its own, and the erasure stays.
#[tokio::test]
async fn a_busy_token_does_not_push_entries_of_others_out_of_the_audit_log() {
    let engine = memory();
    let registry = over(&engine, "").await;
    registry.note(&who(), Action::Erased, AuditSubject::new("user", "gone")).await.unwrap();
    let busy = Actor::of_token("busy");
    let subject = AuditSubject::new("replay", "1");
    registry.note(&busy, Action::Replayed, subject).await.unwrap();
    let kind = documents::AUDIT;
    let like = engine.document(kind, &format!("{:020}", 2)).await.unwrap().unwrap();
    let rest: Vec<_> = (3..=ENTRIES_MAX)
        .map(|number| DocumentChange {
            kind,
            id: format!("{number:020}"),
            expect: Expect::Absent,
            body: Some(like.body.clone()),
            who: like.who.clone(),
            at_ms: like.at_ms,
        })
        .collect();
    engine.change_all(&rest).await.unwrap();
    let registry = over(&engine, "").await;
    for _ in 0..3 {
        registry.note(&busy, Action::Replayed, subject).await.unwrap();
    }
    for _ in 0..3 {
        // More at once than are removed besides.
        let many = |_: &RunningConfig, draft: &mut Draft| {
            let facts = serde_json::Map::new();
            (0..100).for_each(|_| draft.note(Action::Replayed, subject, &facts));
            Ok::<_, ChangeError<DocumentError>>(())
        };
        registry.write(&busy, many).await.unwrap();
    }
    let most = usize::try_from(ENTRIES_MAX).unwrap();
    let (log, _) =
        audit_log(registry.ledger(), AuditQuery::default(), most + 9, |_| true).await.unwrap();
    assert!((most - audit::REMOVED_MAX..=most).contains(&log.len()), "{}", log.len());
    assert_eq!(log.last().unwrap().action, Action::Erased);
    assert_eq!(log.iter().filter(|entry| entry.who == who().as_str()).count(), 1);
}
