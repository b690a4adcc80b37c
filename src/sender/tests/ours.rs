//! `[ours]`: what a callback may lack of the names of its source.

use super::*;

const NOW: i64 = 1_700_000_000_000;

/// A sender that signs `of`; every source has shops, and perhaps applications.
fn sender(of: &str) -> std::sync::Arc<Sender> {
    let rest = format!(
        r#"
method = "POST"
reads  = "json"
secret = "key"

[settings]
shops = "your shops"
apps  = "your applications"

[ours]
shops = "({{shop}})?({{partner.shop}})?"
apps  = "({{app}})?"

[roles]
effect      = "none"
transaction = "{{id}}"

[signature]
of   = "{of}"
with = "hmac_sha256"
in   = "[header.x-sign]"

{REPLY}"#
    );
    let sender = own_sender(&rest, SECRET_K).unwrap_or_else(|faults| panic!("{faults:#?}"));
    std::sync::Arc::new(sender)
}

/// The reason for which a source with these settings rejects the callback.
fn reason(of: &str, signed: &str, settings: &str, body: &str) -> Option<Reason> {
    let terms = vector_terms(&format!("secrets = \"k\"\n{settings}"));
    let recipe = Recipe::compile(&sender(of), &terms).unwrap_or_else(|all| panic!("{all:#?}"));
    let sign = hmac_of("k", signed);
    let request = OwnedRequest::parse(&format!("POST /\nx-sign: {sign}\n\n{body}")).unwrap();
    run(&recipe, &request, NOW).rejection.map(|rejection| rejection.reason)
}

#[test]
fn an_optional_name_may_be_absent_beside_another_of_the_source() {
    const BOTH: &str = "shops = \"s1 s2\"\napps = \"a1\"";
    let not_ours = Some(Reason::NotOurs);
    for (settings, body, expected) in [
        (BOTH, r#"{"id":"1","shop":"s1","app":"a1"}"#, None),
        (BOTH, r#"{"id":"1","shop":"s2"}"#, None),
        (BOTH, r#"{"id":"1","partner":{"shop":"s2"},"app":""}"#, None),
        (BOTH, r#"{"id":"1","app":"a1"}"#, None),
        (BOTH, r#"{"id":"1"}"#, not_ours),
        (BOTH, r#"{"id":"1","shop":"s1","app":"a2"}"#, not_ours),
        (BOTH, r#"{"id":"1","shop":"s3"}"#, not_ours),
        (BOTH, r#"{"id":"1","shop":"s3","app":"a1"}"#, not_ours),
        ("apps = \"a1\"", r#"{"id":"1","app":"a1"}"#, None),
        ("apps = \"a1\"", r#"{"id":"1","shop":"s1"}"#, not_ours),
    ] {
        assert_eq!(reason("[body]", body, settings, body), expected, "{settings}: {body}");
    }
}

/// Where absence is not signed, any caller can remove the name of another source.
#[test]
fn an_absent_name_that_nothing_signs_is_not_ours() {
    const BOTH: &str = "shops = \"s1\"\napps = \"a1\"";
    let of = "{id}:{shop}";
    let whole = r#"{"id":"1","shop":"s1","app":"a1"}"#;
    assert_eq!(reason(of, "1:s1", BOTH, whole), None);
    let without = r#"{"id":"1","shop":"s1"}"#;
    assert_eq!(reason(of, "1:s1", BOTH, without), Some(Reason::NotOurs));
}

/// A callback that lacks an optional name would be the own one of both sources.
#[test]
fn an_optional_name_separates_no_sources_that_share_another() {
    let recipe = |settings: &str| {
        let terms = vector_terms(&format!("secrets = \"k\"\n{settings}"));
        Recipe::compile(&sender("[body]"), &terms).unwrap_or_else(|all| panic!("{all:#?}"))
    };
    for (one, other, shared) in [
        ("shops = \"s1\"\napps = \"a1\"", "shops = \"s1\"\napps = \"a2\"", true),
        ("shops = \"s1 s2\"\napps = \"a1\"", "shops = \"s2\"\napps = \"a2\"", true),
        ("shops = \"s1\"\napps = \"a1\"", "shops = \"s2\"\napps = \"a2\"", false),
        ("shops = \"s1\"\napps = \"a1\"", "apps = \"a2\"", false),
        ("apps = \"a1\"", "apps = \"a2\"", false),
        ("apps = \"a1\"", "apps = \"a1 a2\"", true),
        ("shops = \"s1\"", "apps = \"a1\"", true),
        ("", "apps = \"a1\"", true),
    ] {
        let (one, other) = (recipe(one), recipe(other));
        let found = [one.shares_signatures(&other), other.shares_signatures(&one)];
        assert_eq!(found, [shared; 2], "{:?}, {:?}", one.ours, other.ours);
    }
}
