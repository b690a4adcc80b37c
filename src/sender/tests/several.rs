//! Several events in one callback, under a file of the test's own: tests and address checks among
//! them, and their grants.

use super::*;

const NOW: i64 = 1_700_000_000_000;

/// A source whose callbacks list events; `signed` is what the file says of its tests.
fn recipe_of_lists(signed: &str) -> Recipe {
    let rest = format!(
        r#"
method = "POST"
reads  = "json"
secret = "key"

[each]
of = "events"

[roles]
effect      = "none"
transaction = "{{events.0.id}}"

[signature]
of   = "[body]"
with = "hmac_sha256"
in   = "[header.x-sign]"

[test]
when   = "{{events.0.type}} is ping"
signed = {signed}

[challenge]
when = "{{events.0.type}} is check"

[[kind]]
name = "trial"
when = "{{events.0.type}} is trial"
test = true

{REPLY}challenge = {{ body = "{{events.0.id}}" }}
"#
    );
    own(&rest, SECRET_K)
}

/// A callback with an event of each of these types, with the ids `e0`, `e1` and so on.
fn call(secret: &str, types: &str) -> OwnedRequest {
    let event = |(n, kind): (usize, &str)| format!("{{\"id\":\"e{n}\",\"type\":\"{kind}\"}}");
    let events: Vec<String> = types.split(' ').enumerate().map(event).collect();
    let body = format!("{{\"events\":[{}]}}", events.join(","));
    let sign = hmac_of(secret, &body);
    OwnedRequest::parse(&format!("POST /\nx-sign: {sign}\n\n{body}")).unwrap()
}

#[test]
fn a_test_or_a_check_among_several_events_loses_none_of_them() {
    let recipe = recipe_of_lists("true");
    for (types, transaction) in [
        ("pay", "e0"),
        ("ping pay", "e1"),
        ("pay ping", "e0"),
        ("trial pay", "e1"),
        ("check pay", "e1"),
        ("pay check", "e0"),
        ("ping trial check pay ping", "e3"),
    ] {
        let came = run(&recipe, &call("k", types), NOW);
        assert_eq!(came.outcome, Outcome::Accepted, "{types}: {:?}", came.rejection);
        let resolved = came.resolved.unwrap();
        assert_eq!(resolved.role(Role::Transaction), Some(transaction), "{types}");
    }
    for (types, outcome) in [
        ("ping", Outcome::Test),
        ("trial", Outcome::Test),
        ("check", Outcome::Challenge),
        ("ping trial", Outcome::Test),
        ("check ping", Outcome::Test),
    ] {
        assert_eq!(run(&recipe, &call("k", types), NOW).outcome, outcome, "{types}");
    }
}

#[test]
fn a_list_that_does_not_verify_is_not_a_probe() {
    let recipe = recipe_of_lists("false");
    let outcome = |types: &str| run(&recipe, &call("another", types), NOW).outcome;
    assert_eq!(outcome("ping"), Outcome::Test);
    assert_eq!(outcome("ping pay"), Outcome::Rejected);
    assert_eq!(outcome("pay ping"), Outcome::Rejected);
}

#[test]
fn an_operator_grants_each_of_several_events() {
    let recipe = recipe_of_lists("true");
    let request = call("another", "pay pay pay");
    let mut whole = recipe.read(request.borrow(), NOW);
    let Ok(Granted::Several(bodies)) = whole.grant("evt") else { panic!("one event") };
    let mut transactions = Vec::new();
    for body in &bodies {
        let mut part = recipe.read_part(&whole, body);
        let Ok(Granted::Event(resolved)) = part.grant("evt") else { panic!("{body:?}") };
        transactions.push(resolved.role(Role::Transaction).unwrap().to_owned());
    }
    assert_eq!(transactions, ["e0", "e1", "e2"]);
}
