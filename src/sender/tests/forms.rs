//! Request forms that real providers send: repeated names, multipart, marks, compressed bodies.

use super::*;

/// A file that replies.
fn replying(rest: &str, vector: &str) -> Recipe {
    own(&format!("{rest}\n{REPLY}"), vector)
}

fn request(text: &str) -> OwnedRequest {
    OwnedRequest::parse(text).unwrap()
}

fn came(recipe: &Recipe, request: &OwnedRequest) -> Came {
    run(recipe, request, 1_700_000_000_000)
}

fn reason(came: &Came) -> (Reason, Option<&str>) {
    let rejection = came.rejection.as_ref().unwrap();
    (rejection.reason, rejection.parameter.as_deref())
}

fn open() -> Recipe {
    let source = "unsigned = true\nparams = { transaction = \"tid\", user = \"uid\" }";
    super::source("unsigned", source).unwrap()
}

#[test]
fn a_repeated_name_that_nothing_reads_refuses_nothing() {
    let call = get("/callback/open?tid=ar-1&uid=u&tags[]=a&tags[]=b%20c&x=1");
    let came = came(&open(), &call);
    assert_eq!(came.resolved.unwrap().role(Role::Transaction), Some("ar-1"));
    let params: serde_json::Value = serde_json::from_str(&came.params).unwrap();
    let expected =
        serde_json::json!({ "tid": "ar-1", "uid": "u", "tags[]": ["a", "b c"], "x": "1" });
    assert_eq!(params, expected);
    let form = request("POST /\n\ntid=ar-2&uid=u&tags[]=a&tags[]=b");
    assert_eq!(self::came(&open(), &form).outcome, Outcome::Accepted);
}

#[test]
fn a_repeated_name_that_is_read_or_signed_is_refused() {
    let twice = came(&open(), &get("/callback/open?tid=ar-1&uid=u&uid=v"));
    assert_eq!(reason(&twice), (Reason::RepeatedParameter, Some("uid")));
    let json = request("POST /\n\n{\"tid\":\"1\",\"x\":1,\"x\":2}");
    assert_eq!(reason(&came(&open(), &json)).0, Reason::RepeatedParameter);
    // Unity signs every pair, bitlabs the whole URL: whatever it is called.
    for (sender, target) in
        [("unity-ads", "/?oid=1&sid=u&x=1&x=2&hmac=00"), ("bitlabs", "/?x=1&x=2&hash=00")]
    {
        let recipe = super::source(sender, "secrets = \"k\"").unwrap();
        let twice = came(&recipe, &get(target));
        assert_eq!(reason(&twice), (Reason::RepeatedParameter, Some("x")), "{sender}");
    }
}

const REVTOO: &str = "reads = [\"query\", \"form\"]\nmethod = \"POST\"\nsecret = \"key\"\n[roles]\neffect = \"grant\"\n\
    transaction = \"{transId}\"\nuser = \"{subId}\"\namount = \"{reward}\"\n[signature]\n\
    of = \"{subId}{transId}{reward}[secret]\"\nwith = \"md5\"\nin = \"{signature}\"\n";

#[test]
fn a_multipart_form_is_a_form() {
    let vector = "source = { secrets = \"revtoo-secret\" }\n\
                  request = \"POST /?subId=u1&transId=XX-3&reward=500.00&status=1&signature=f217d164eb491471c13d6c0309a3c8f2\"";
    let recipe = replying(REVTOO, vector);
    let part = |name: &str, value: &str| {
        format!("--B\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    let parts = [
        ("subId", "u1"),
        ("transId", "XX-3"),
        ("reward", "500.00"),
        ("status", "1"),
        ("signature", "f217d164eb491471c13d6c0309a3c8f2"),
    ];
    let body: String = parts.iter().map(|(name, value)| part(name, value)).collect();
    let mut form = request("POST /callback/revtoo\nContent-Type: multipart/form-data; boundary=B");
    form.body = format!("{body}--B--\r\n").into_bytes();
    let right = came(&recipe, &form);
    assert_eq!(right.resolved.unwrap().role(Role::Transaction), Some("XX-3"));
    let params: serde_json::Value = serde_json::from_str(&right.params).unwrap();
    assert_eq!(params["reward"], "500.00");
    form.body = body.into_bytes();
    assert_eq!(reason(&came(&recipe, &form)), (Reason::BadBody, Some("multipart/form-data")));
}

#[test]
fn a_byte_order_mark_is_skipped_and_what_cannot_be_read_is_named() {
    let mut json = request("POST /callback/open\nContent-Type: application/json");
    let text = b"{\"tid\":\"j-5\",\"uid\":\"u\"}";
    json.body = [b"\xef\xbb\xbf", &text[..]].concat();
    let resolved = came(&open(), &json).resolved.unwrap();
    assert_eq!(resolved.role(Role::Transaction), Some("j-5"));
    json.body = [b"\xff\xfe".to_vec(), text.iter().flat_map(|byte| [*byte, 0]).collect()].concat();
    assert_eq!(reason(&came(&open(), &json)), (Reason::BadBody, Some("UTF-16")));
    json.body = b"\x1f\x8b\x08".to_vec();
    json.headers.insert("content-encoding", "gzip".parse().unwrap());
    let named = (Reason::BadBody, Some("content-encoding: gzip"));
    assert_eq!(reason(&came(&open(), &json)), named);
    // Also where the body is what is signed.
    let github = super::source("github", "secrets = \"k\"").unwrap();
    json.headers.insert("x-hub-signature-256", "sha256=00".parse().unwrap());
    json.headers.insert("x-github-delivery", "d".parse().unwrap());
    assert_eq!(reason(&came(&github, &json)), named);
}

#[test]
fn pairs_of_all_places_hold_the_members_of_json() {
    let rest = "reads = [\"query\", \"form\", \"json\"]\nmethod = \"POST\"\nsecret = \"key\"\n[roles]\neffect = \"grant\"\n\
        transaction = \"{trade_no}\"\namount = \"{amount}\"\n[signature]\nof = \"[pairs]\"\nwith = \"hmac_sha256\"\n\
        in = \"{sign}\"\n[signature.pairs]\nwhich = \"all\"\norder = \"given\"\nshape = \"k=v&k=v\"\n";
    let body = "{\"trade_no\":\"pl-1\",\"status\":\"paid\",\"amount\":5,\
                \"sign\":\"e087e68fa41ac4b750e26e46c71803d71f8dbf2a020c22c22ade9cd2e15738ea\"}";
    let call = format!("POST /\nContent-Type: application/json\n\n{body}");
    let vector = format!(
        "source = {{ secrets = \"payland-secret\" }}\nrequest = {}",
        toml::Value::from(call.as_str())
    );
    let recipe = replying(rest, &vector);
    let resolved = came(&recipe, &request(&call)).resolved.unwrap();
    assert_eq!(resolved.role(Role::Transaction), Some("pl-1"));
    let changed = came(&recipe, &request(&call.replace(":5", ":6")));
    assert_eq!(reason(&changed).0, Reason::BadSignature);
}
