//! Signatures and secrets inside of parameters: masked in their place, and nothing else is.

use serde_json::json;

use super::spellings::own_source;
use super::*;

const NOW: i64 = 1_700_000_000_000;

/// The parameters of `body`, a message in WeChat's plain mode, as its event shows them.
fn message_params(body: &str) -> serde_json::Value {
    let settings = "secrets = 'gatewaytoken'\npay_key = 'appkey-1'\nmax_age = 'off'";
    let recipe = source("wechat-push", settings).unwrap();
    let text = format!(
        "POST /?signature=be4d53cdd56d183a856b22073582ac8e79219493&timestamp=1700000000&nonce=12345\n\n{body}"
    );
    let params = run(&recipe, &OwnedRequest::parse(&text).unwrap(), NOW).params;
    serde_json::from_str(&params).unwrap_or_else(|error| panic!("{error}: {params}"))
}

/// Signatures that are also a part of the JSON around them, and a usual one.
const SUPPLIED: [&str; 7] =
    ["\"", ",", ":", "a", "\\", "", "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a6978"];

#[test]
fn a_signature_inside_is_masked_in_its_place_alone() {
    for supplied in SUPPLIED {
        let body = json!({
            "FromUserName": "o1", "CreateTime": 1, "MsgType": "text", "MsgId": 1,
            "MiniGame": { "PayEventSig": supplied, "a": "b", "list": ["a", ","] },
        });
        let shown = json!({ "PayEventSig": "***", "a": "b", "list": ["a", ","] });
        assert_eq!(message_params(&body.to_string())["MiniGame"], shown, "{supplied}");
        let body = format!(
            "<xml><FromUserName>o1</FromUserName><MsgType>text</MsgType><MsgId>1</MsgId><MiniGame>\
             <PayEventSig><![CDATA[{supplied}]]></PayEventSig><a>b</a></MiniGame></xml>"
        );
        let shown = json!({ "PayEventSig": "***", "a": "b" });
        assert_eq!(message_params(&body)["MiniGame"], shown, "{supplied}");
    }
}

#[test]
fn a_signature_that_is_not_found_in_what_is_shown_hides_all_of_it() {
    let message = |mini_game: &str| {
        let body = format!(
            "<xml><FromUserName>o1</FromUserName><MsgType>text</MsgType><MsgId>1</MsgId>\
             <MiniGame>{mini_game}</MiniGame></xml>"
        );
        message_params(&body)["MiniGame"].clone()
    };
    assert_eq!(message("x<PayEventSig>0f1e</PayEventSig>"), "***");
    assert_eq!(message("<a>1</a>"), json!({ "a": "1" }));
    let in_text = message(r#"<![CDATA[{"PayEventSig":"0f1e","a":1}]]>"#);
    assert_eq!(in_text, r#"{"PayEventSig":"***","a":1}"#);
}

#[test]
fn a_message_that_holds_its_signature_is_shown_without_it() {
    let catalog = Catalog::embedded().unwrap();
    let pss = "own; signed with PSS, for an application that has switched to it";
    let of_huawei =
        ["/subNotification/notificationSignature", "/subNotification/statusUpdateNotification"];
    let of_adyen = [
        "/notificationItems/0/NotificationRequestItem/additionalData/hmacSignature",
        "/notificationItems/0/NotificationRequestItem/pspReference",
    ];
    for (sender, about, [signature, beside]) in [
        ("huawei-iap", "own; a renewal", of_huawei),
        ("huawei-iap", pss, of_huawei),
        ("adyen", "own; a payment", of_adyen),
    ] {
        let sender = catalog.get(sender).unwrap();
        let vector = sender.vectors.iter().find(|vector| vector.about == about).unwrap();
        let recipe = recipe(sender, vector);
        let mut expected: serde_json::Value = serde_json::from_slice(&vector.request.body).unwrap();
        assert!(expected.pointer(beside).unwrap().is_string(), "{about}");
        *expected.pointer_mut(signature).unwrap() = json!("***");
        let params = run(&recipe, &vector.request, now(vector)).params;
        let params: serde_json::Value = serde_json::from_str(&params).unwrap();
        assert_eq!(params, expected, "{about}");
        // Where nothing has verified, a signature may be under another name.
        let member = signature.split('/').nth(1).unwrap();
        let params = recipe.read(vector.request.borrow(), now(vector)).params();
        let params: serde_json::Value = serde_json::from_str(params.get()).unwrap();
        assert_eq!(params[member], "***", "{about}");
    }
}

#[test]
fn a_secret_in_the_json_of_a_form_or_a_query_is_masked() {
    let secret = "8f742231b10e8888abcd99yyyzzz85a5";
    let body = "payload=%7B%22token%22%3A%22verification-token%22%2C%22user%22%3A%7B%22id%22%3A%22U+9%22%7D%2C\
                %22trigger_id%22%3A%2212.34.ab%22%7D";
    let supplied = hmac_of(secret, &format!("v0:1700000000:{body}"));
    let text = format!(
        "POST /\nContent-Type: application/x-www-form-urlencoded\n\
         X-Slack-Request-Timestamp: 1700000000\nX-Slack-Signature: v0={supplied}\n\n{body}"
    );
    let recipe = source("slack", &format!("secrets = '{secret}'")).unwrap();
    let params = run(&recipe, &OwnedRequest::parse(&text).unwrap(), NOW).params;
    let params: serde_json::Value = serde_json::from_str(&params).unwrap();
    let expected = r#"{"token":"***","user":{"id":"U 9"},"trigger_id":"12.34.ab"}"#;
    assert_eq!(params, json!({ "payload": expected }));

    let recipe = own_source(
        "[roles]\neffect = \"none\"\ntransaction = \"{id}\"\n\
         [signature]\nof = \"{id}\"\nwith = \"hmac_sha256\"\nin = \"{d.sign}\"\n",
    );
    let supplied = hmac_of("k", "1");
    for data in
        [format!("{{\"sign\":\"{supplied}\"}}"), format!("%7B%22sign%22:%22{supplied}%22%7D")]
    {
        let params = run(&recipe, &get(&format!("/?id=1&d={data}")), NOW).params;
        let params: serde_json::Value = serde_json::from_str(&params).unwrap();
        assert_eq!(params, json!({ "id": "1", "d": r#"{"sign":"***"}"# }), "{data}");
    }
}
