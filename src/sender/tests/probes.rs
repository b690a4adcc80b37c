//! Probes without a body, and conditions that have to hold together.

use super::*;

/// The webhook handshake of CloudEvents; `reads` says when the body is read.
fn handshake(method: &str, signed: &str) -> String {
    format!(
        "method = [\"POST\", \"{method}\"]\nreads = \"json\"\nsecret = \"key\"\n\
         [roles]\neffect = \"none\"\ntransaction = \"{{id}}\"\n\
         [signature]\nof = \"{signed}\"\nwith = \"hmac_sha256\"\nin = \"[header.x-sign]\"\n\
         [challenge]\nwhen = \"[method] is {method}\"\nsigned = false\n\
         [reply]\naccepted = 200\nrejected = 403\nunavailable = 503\n\
         challenge = {{ headers = {{ WebHook-Allowed-Origin = \"[header.webhook-request-origin]\", \
         WebHook-Allowed-Rate = \"120\" }} }}\n"
    )
}

const HANDSHAKE: &str = r#"source = { secrets = "k" }
request = """POST /
Content-Type: application/json
x-sign: 00

{"id":"1"}""""#;

fn answer(recipe: &Recipe, request: &OwnedRequest) -> (u16, Vec<(String, String)>) {
    let mut callback = recipe.read(request.borrow(), 1_700_000_000_000);
    let outcome = match callback.verify() {
        Judgement::Challenge => Outcome::Challenge,
        Judgement::Rejected(_) => Outcome::Rejected,
        other => panic!("{other:?}"),
    };
    let ReplyDraft::Answer(answer) = callback.draft_reply(outcome, None, &|| [0; 16]) else {
        panic!("silence")
    };
    let text = |value: &http::HeaderValue| value.to_str().unwrap().to_owned();
    let headers = answer.headers.iter().map(|(name, value)| (name.to_string(), text(value)));
    (answer.status.as_u16(), headers.collect())
}

#[test]
fn an_options_is_answered_with_headers_of_a_closed_list() {
    for signed in ["[body]", "{id}"] {
        let recipe = own(&handshake("OPTIONS", signed), HANDSHAKE);
        let ask = |headers: &str| {
            let request = OwnedRequest::parse(&format!("OPTIONS /{headers}")).unwrap();
            answer(&recipe, &request)
        };
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let rate = pair("webhook-allowed-rate", "120");
        let origin = pair("webhook-allowed-origin", "eventgrid.example.net");
        let asked = ask("\nWebHook-Request-Origin: eventgrid.example.net");
        assert_eq!(asked, (200, vec![origin, rate.clone()]), "{signed}");
        assert_eq!(ask(""), (200, vec![rate]), "no origin was asked for");
        // One word of 128 bytes, as of any address check.
        assert_eq!(ask("\nWebHook-Request-Origin: a, b").0, 403);
        assert_eq!(ask(&format!("\nWebHook-Request-Origin: {}", "a".repeat(129))).0, 403);
    }
}

#[test]
fn what_has_no_body_is_a_probe_or_nothing() {
    let unsigned = handshake("OPTIONS", "[body]").replace("signed = false", "signed = true");
    let faults = own_sender(&unsigned, HANDSHAKE).unwrap_err();
    assert!(faults.iter().any(|fault| fault.key == "method"), "{faults:?}");
    let other = handshake("OPTIONS", "[body]").replace("WebHook-Allowed-Rate", "Set-Cookie");
    let faults = own_sender(&other, HANDSHAKE).unwrap_err();
    assert_eq!(faults[0].key, "reply.challenge.headers.Set-Cookie");
    let stored = handshake("OPTIONS", "[body]")
        .replace("accepted = 200", "accepted = { headers = { WebHook-Allowed-Rate = \"1\" } }");
    let faults = own_sender(&stored, HANDSHAKE).unwrap_err();
    assert_eq!(faults[0].key, "reply.accepted.headers");
    // The right signature of nothing makes no event of it.
    let recipe = own(&handshake("HEAD", "[body]"), HANDSHAKE);
    let signed = format!("HEAD /\nx-sign: {}", hmac_of("k", ""));
    assert_eq!(answer(&recipe, &OwnedRequest::parse(&signed).unwrap()).0, 200);
}

const STATES: &str = "reads = \"query\"\nsecret = \"key\"\n[settings]\nstrict = \"x\"\n\
    [roles]\neffect = [{ of = \"grant\", when = [\"{a} is 9\", { all = [\"{a} is 1\", \"not {b}\"] }] }, \"none\"]\n\
    transaction = \"{id}\"\n\
    [signature]\nof = \"a={a}&(b={b}&)?(c={c}&)?id={id}\"\nwith = \"hmac_sha256\"\nin = \"{sign}\"\n\
    [shapes]\na = \"digits\"\nb = \"digits?\"\nc = \"digits?\"\nid = \"digits\"\n\
    [[kind]]\nname = \"both\"\nwhen = { all = [\"{a} is 1\", \"{b} is 2\"] }\n\
    [[kind]]\nname = \"set\"\nwhen = { all = [\"[strict]\", \"{c}\"] }\n\
    [reply]\naccepted = 200\nrejected = 403\nunavailable = 503\n";

#[test]
fn all_of_several_conditions_have_to_hold() {
    let vector = "source = { secrets = \"k\" }\nrequest = \"GET /?a=1&id=1&sign=00\"";
    let recipe = own(STATES, vector);
    let strict = own(STATES, &vector.replace("\"k\"", "\"k\", strict = \"1\""));
    let came = |recipe: &Recipe, query: &str| {
        let call = get(&format!("/?{query}&sign={}", hmac_of("k", query)));
        let resolved = run(recipe, &call, 1_700_000_000_000).resolved.unwrap();
        let covers_kind = resolved.covered().contains(&Fact::Kind);
        (resolved.kind().to_owned(), resolved.effect().as_str(), covers_kind)
    };
    let plain = Resolved::PLAIN_KIND.to_owned();
    assert_eq!(came(&recipe, "a=1&b=2&id=1"), ("both".to_owned(), "none", true));
    assert_eq!(came(&recipe, "a=1&b=3&id=1"), (plain.clone(), "none", true));
    assert_eq!(came(&recipe, "a=2&b=2&id=1"), (plain.clone(), "none", true));
    // Nothing proves that an optional part was absent.
    assert_eq!(came(&recipe, "a=1&id=1"), (plain.clone(), "grant", false));
    assert_eq!(came(&recipe, "a=9&b=2&id=1"), (plain.clone(), "grant", true));
    // A condition on a setting is decided when the source is read.
    assert_eq!(came(&recipe, "a=2&c=1&id=1").0, plain);
    assert_eq!(came(&strict, "a=2&c=1&id=1").0, "set");
    assert_eq!(came(&strict, "a=2&id=1").0, plain);
}

#[test]
fn a_kind_by_several_conditions_is_covered_only_if_all_of_them_are() {
    let vector = "source = { secrets = \"k\" }\nrequest = \"GET /?a=1&id=1&sign=00\"";
    let open = STATES.replace("(b={b}&)?", "").replace("b = \"digits?\"\n", "");
    let sender = std::sync::Arc::new(own_sender(&open, vector).unwrap());
    let faults = Recipe::compile(&sender, &sender.vectors[0].terms()).unwrap_err();
    assert_eq!(faults[0].key, "kind[both].when", "{faults:?}");
    for wrong in ["{ all = [] }", "{ all = [\"{a}\"] }", "{ all = [\"{a}\", \"b\"] }"] {
        let file = STATES.replace("{ all = [\"{a} is 1\", \"{b} is 2\"] }", wrong);
        assert_eq!(own_sender(&file, vector).unwrap_err()[0].key, "kind[both].when", "{wrong}");
    }
    let nested = STATES.replace("\"{b} is 2\"] }", "{ all = [\"{b}\", \"{a}\"] }] }");
    assert!(own_sender(&nested, vector).is_err());
}
