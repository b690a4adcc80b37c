//! Several signatures of one callback: without the others, none of them makes a second event.

use std::sync::Arc;

use super::super::own::{REPLY, SECRET_K, hmac_of, own};
use super::super::{get, run};
use super::model::{accept, new_event};
use super::world::secret;
use crate::ledger::{Accepted, Memory, StoreClock};
use crate::sender::crypto::digest::Algorithm;
use crate::sender::language::recipe::Terms;
use crate::sender::language::vector::OwnedRequest;
use crate::sender::{Catalog, Outcome, Recipe, Resolved, Sender};

fn digest(algorithm: Algorithm, text: &str) -> String {
    const_hex::encode(algorithm.of(text.as_bytes()).bytes())
}

fn compiled(sender: &Arc<Sender>) -> Recipe {
    let terms = Terms { secrets: vec![secret("1", "k")], ..Terms::default() };
    Recipe::compile(sender, &terms).unwrap_or_else(|faults| panic!("{faults:#?}"))
}

/// The event of a callback that is accepted.
fn resolved(recipe: &Recipe, request: &OwnedRequest) -> Box<Resolved> {
    let came = run(recipe, request, 0);
    assert_eq!(came.outcome, Outcome::Accepted, "{:?}", came.rejection);
    came.resolved.unwrap()
}

fn signatures(resolved: &Resolved) -> Vec<Vec<u8>> {
    resolved.signature_keys().map(<[u8]>::to_vec).collect()
}

/// A callback of AppLovin with both tokens, and the text of one cut again without the other.
fn applovin() -> [OwnedRequest; 2] {
    let event = digest(Algorithm::Sha1, "one");
    let idfa = "0EBE52E7-03EE-455A-B3C4-E57283966239";
    let text = ["abcdef0123456789", "5", "mydata-a", &event, idfa, "victim", "k"].concat();
    let all = digest(Algorithm::Sha256, &text);
    let token = digest(Algorithm::Sha1, &format!("{event}k"));
    let call = |custom: &str, event: &str, idfa: &str, tokens: &str| {
        get(&format!(
            "/?ad_unit_id=abcdef0123456789&amount=5&custom_data={custom}&event_id={event}\
             &idfa={idfa}&user_id=victim&event_token_all={all}{tokens}"
        ))
    };
    let (shifted, last) = (format!("a{}", &event[..39]), &event[39..]);
    [
        call("mydata-a", &event, idfa, &format!("&event_token={token}")),
        call("mydata-", &shifted, &format!("{last}{idfa}"), ""),
    ]
}

#[test]
fn a_text_that_another_signature_covers_makes_no_second_event() {
    let recipe = compiled(Catalog::embedded().unwrap().get("applovin").unwrap());
    let [both, recut] = applovin().map(|request| resolved(&recipe, &request));
    // The key of a signature is the same with and without others.
    assert_eq!(signatures(&both).len(), 1);
    assert_eq!(signatures(&both), signatures(&recut));
    let events = |first: &Resolved, second: &Resolved| {
        let ledger = Memory::new(StoreClock::manual(0));
        assert_eq!(accept(&ledger, &new_event(0, first)), Accepted::New);
        let fate = accept(&ledger, &new_event(1, second));
        assert!(matches!(fate, Accepted::Ambiguous { .. }), "{fate:?}");
        let again = accept(&ledger, &new_event(2, first));
        assert!(matches!(again, Accepted::Duplicate { .. }), "{again:?}");
    };
    events(&both, &recut);
    events(&recut, &both);
}

const BARE: &str = r#"
method = "POST"
reads  = "json"
secret = "key"

[roles]
effect      = "none"
transaction = "{id}"

[signature]
of   = "[body]"
with = "hmac_sha256"
in   = "[header.x-sign]"

[[signature.or]]
why  = "the secret itself"
of   = "[secret]"
with = "equal"
in   = "[header.x-token]"
as   = "text"
"#;

/// A bare secret is in every callback: with a key, it would hold all but the first. That is so too
/// where the signature beside it does not cover the identity, which then has its own key.
#[test]
fn a_bare_secret_beside_a_signature_has_no_key() {
    let unsigned = BARE.replace("transaction = \"{id}\"", "transaction = \"[header.x-id]\"");
    for (text, keys) in [(BARE, 0), (unsigned.as_str(), 1)] {
        let recipe = own(&format!("{text}\n{REPLY}"), SECRET_K);
        let call = |id: &str| {
            let body = format!("{{\"id\":\"{id}\"}}");
            let sign = hmac_of("k", &body);
            let head = format!("POST /\nx-token: k\nx-id: {id}\nx-sign: {sign}");
            OwnedRequest::parse(&format!("{head}\n\n{body}")).unwrap()
        };
        let ledger = Memory::new(StoreClock::manual(0));
        for (n, id) in ["1", "2", "3"].into_iter().enumerate() {
            let event = resolved(&recipe, &call(id));
            assert_eq!(signatures(&event).len(), keys, "{id}");
            assert_eq!(accept(&ledger, &new_event(n, &event)), Accepted::New);
        }
    }
}
