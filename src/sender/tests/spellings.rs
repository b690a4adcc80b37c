//! Texts of one signature that can be spelled in several ways: none of them makes a second event.

use super::*;

const NOW: i64 = 1_700_000_000_000;

/// A source of a file with `tables`, under the secret `k`.
pub(super) fn own_source(tables: &str) -> Recipe {
    own(
        &format!("secret = \"s\"\n{tables}\n{REPLY}"),
        "source = { secrets = \"k\" }\nrequest = \"GET /\"",
    )
}

fn identity(resolved: &Resolved) -> Vec<u8> {
    resolved.identities().next().unwrap().to_vec()
}

#[test]
fn the_elements_of_a_message_are_never_its_signed_text() {
    let settings = "secrets = 'gatewaytoken'\npay_key = 'appkey-1'\nmax_age = 'off'";
    let recipe = source("wechat-push", settings).unwrap();
    let event = "minigame_coin_deliver_completed";
    let payload = r#"{"OpenId":"victim","OutTradeNo":"REAL1","Attach":"<OutTradeNo>FAKE1</OutTradeNo><OpenId>mallory</OpenId>"}"#;
    let supplied = hmac_of("appkey-1", &format!("{event}&{payload}"));
    let came = |payload: &str| {
        let text = format!(
            "POST /?signature=be4d53cdd56d183a856b22073582ac8e79219493&timestamp=1700000000\
             &nonce=12345\nContent-Type: text/xml\n\n<xml><FromUserName>o1</FromUserName>\
             <CreateTime>1700000000</CreateTime><MsgType>event</MsgType><Event>{event}</Event>\
             <MiniGame><Payload>{payload}</Payload><PayEventSig>{supplied}</PayEventSig></MiniGame>\
             </xml>"
        );
        run(&recipe, &OwnedRequest::parse(&text).unwrap(), NOW)
    };
    let resolved = came(&format!("<![CDATA[{payload}]]>")).resolved.unwrap();
    assert_eq!(resolved.role(Role::Transaction), Some("REAL1"));
    assert_eq!(resolved.role(Role::User), Some("victim"));
    assert_eq!(came(payload).rejection.unwrap().reason, Reason::BadEncoding);
}

const RAW_PAIRS: &str = "[roles]\neffect = \"none\"\ntransaction = \"{id}\"\nitem = \"{note}\"\n\
    [signature]\nof = \"[pairs]\"\nwith = \"hmac_sha256\"\nin = \"{sign}\"\n\
    [signature.pairs]\norder = \"name\"\nshape = \"k=v&k=v\"\neach = \"raw\"\n";

#[test]
fn a_name_in_a_raw_list_holds_no_separator() {
    let recipe = own_source(&format!("{RAW_PAIRS}which = \"query\"\n"));
    let came = |query: &str, text: &str| {
        run(&recipe, &get(&format!("/?{query}&sign={}", hmac_of("k", text))), NOW)
    };
    let (two, one) = ("id=1&note=hi&status=pending", "id=1&note%3Dhi%26status=pending");
    let resolved = came(two, two).resolved.unwrap();
    assert_eq!(resolved.authenticated(), [Role::Transaction, Role::Item]);
    assert_eq!(came(one, one).outcome, Outcome::Accepted);
    for (query, text) in [(one, two), (two, one)] {
        let rejection = came(query, text).rejection.unwrap();
        assert_eq!(rejection.reason, Reason::BadSignature, "{query}");
    }
}

#[test]
fn a_value_of_json_in_a_raw_list_may_hold_a_separator() {
    let head = "method = \"POST\"\nreads = [\"query\", \"json\"]\n";
    let recipe = own_source(&format!("{head}{RAW_PAIRS}which = \"all\"\n"));
    let supplied = hmac_of("k", r#"id=1&note="x&status=paid""#);
    let text = format!("POST /?sign={supplied}\n\n{}", r#"{"id":1,"note":"x&status=paid"}"#);
    let resolved = run(&recipe, &OwnedRequest::parse(&text).unwrap(), NOW).resolved.unwrap();
    assert_eq!(resolved.role(Role::Item), Some("x&status=paid"));
    assert!(!resolved.authenticated().contains(&Role::Item), "{:?}", resolved.authenticated());
}

#[test]
fn a_member_is_read_from_the_text_that_is_signed() {
    let recipe = own_source(
        "[roles]\neffect = \"none\"\ntransaction = \"{d.id}\"\n\
         [signature]\nof = \"{d}\"\nwith = \"hmac_sha256\"\nin = \"{sign}\"\nplus = \"kept\"\n",
    );
    let supplied = hmac_of("k", r#"{"id":"a+b"}"#);
    let resolved = ["a%2Bb", "a+b"].map(|id| {
        let target = format!("/?d=%7B%22id%22:%22{id}%22%7D&sign={supplied}");
        run(&recipe, &get(&target), NOW).resolved.unwrap()
    });
    for one in &resolved {
        assert_eq!(one.role(Role::Transaction), Some("a+b"));
        assert_eq!(one.authenticated(), [Role::Transaction]);
        assert_eq!(identity(one), identity(&resolved[0]));
    }
}

#[test]
fn a_value_that_is_signed_decoded_is_one_event_in_every_spelling() {
    let file = |of: &str| {
        own_source(&format!(
            "[roles]\neffect = \"none\"\ntransaction = \"{{id}}\"\n\
             [signature]\nof = \"{of}\"\nwith = \"hmac_sha256\"\nin = \"{{sign}}\"\n"
        ))
    };
    for (of, signed, spellings) in [
        ("{id|unbase64}", "a", &["YQ==", "YQ", "YR=="][..]),
        ("{id|unhex}", "j", &["6a", "6A"][..]),
        ("{id|unpercent}", "a", &["a", "%2561"][..]),
    ] {
        let recipe = file(of);
        let mut keys = Vec::new();
        for id in spellings {
            let target = format!("/?id={id}&sign={}", hmac_of("k", signed));
            let resolved = run(&recipe, &get(&target), NOW).resolved.unwrap();
            assert!(resolved.authenticated().is_empty(), "{of} {id}");
            keys.push(resolved.signature_keys().next().unwrap().to_vec());
        }
        assert!(keys.iter().all(|key| *key == keys[0]), "{of}");
    }
    let target = format!("/?id=YQ&sign={}", hmac_of("k", "YQ"));
    let resolved = run(&file("{id}"), &get(&target), NOW).resolved.unwrap();
    assert_eq!(resolved.authenticated(), [Role::Transaction]);
    assert_eq!(resolved.signature_keys().next(), None);
}
