//! Sources of built-in senders: templates, macros, secrets, keys, and mistakes in their terms.

use super::*;

#[test]
fn a_template_is_resolved_and_says_what_is_missing() {
    let recipe = source(
        "taku",
        &format!("{TAKU}template = \"type=1&who={{user_id}}&where=<scenario_id>&ok=[effective]&t=[transaction]&e=[event_id]\""),
    )
    .unwrap();
    let came = run(&recipe, &get(&format!("/?{TAKU_QUERY}&user_id=a%26b%3D1")), 0);
    let resolved = came.resolved.unwrap();
    assert_eq!(
        resolved.template(),
        r#"{"type":"1","who":"a&b=1","where":"","ok":"","t":"tr-0001","e":"evt_test"}"#,
    );
    assert_eq!(resolved.unresolved(), ["scenario_id", "effective"]);
}

/// A whole block of padding: the sealed text is not a message, so the reason shows that it was
/// opened.
#[test]
fn a_sealed_message_with_a_whole_block_of_padding_is_opened() {
    let recipe = source(
        "wechat-push",
        "secrets = \"gatewaytoken\"\naes_key = \"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY\"\n\
         app_id = \"wx0000000000000001\"\n",
    )
    .unwrap();
    let reason = |signature: &str| {
        let request = OwnedRequest::parse(&format!(
            "POST /?timestamp=1700000003&nonce=12343&encrypt_type=aes&msg_signature={signature}\n\n\
             {{\"ToUserName\":\"gh_1\",\"Encrypt\":\"803n0Y90N3nweU1QdPoBFVRKQ3uJAVWZwFDicoRv7aTt2soTnqj8Tn4H\
             9uSLqZo6sq56bBKFTfQ1FXqZo4Xfy4vCDR3dEzKzgHCySCayVXmQt3FA1oRCm4OeuOTSmUzm\"}}"
        ));
        run(&recipe, &request.unwrap(), 1_700_000_003_000)
            .rejection
            .map(|rejection| rejection.reason)
    };
    assert_eq!(reason("9d83d4bae3472f1e9511fdaf1349ef7d2329ce55"), Some(Reason::BadBody));
    assert_eq!(reason("9d83d4bae3472f1e9511fdaf1349ef7d2329ce56"), Some(Reason::BadSignature));
}

/// No digest is computed for a signature that is a macro; the reply stays the same.
#[test]
fn a_macro_in_place_of_the_signature_is_seen_for_what_it_is() {
    let recipe = source("taku", TAKU).unwrap();
    let query = TAKU_QUERY.split("&sign=").next().unwrap();
    let came = |sign: &str| run(&recipe, &get(&format!("/?{query}&sign={sign}")), 0);
    for sign in ["{sign}", "%7Bsign%7D", "[sign]"] {
        assert_eq!(came(sign).outcome, Outcome::Test, "{sign}");
    }
    for sign in ["{other}", "{}", "%", ""] {
        assert_eq!(came(sign).rejection.unwrap().reason, Reason::BadSignature, "{sign}");
    }
    // Without the public keys, another signature cannot be judged.
    let recipe = source("admob", "").unwrap();
    let came = |supplied: &str| run(&recipe, &get(&format!("/?transaction_id=1&{supplied}")), 0);
    assert_eq!(came("signature=MEUCIQ&key_id=7").outcome, Outcome::Unavailable);
    let rejection = came("signature={signature}&key_id=7").rejection.unwrap();
    assert_eq!(rejection.reason, Reason::UnresolvedPlaceholder);
}

#[test]
fn a_player_may_be_called_pro_and_a_macro_is_no_user() {
    let recipe = source("taku", TAKU).unwrap();
    let came = run(&recipe, &get(&format!("/?{TAKU_QUERY}&user_id=%5BPRO%5D")), 0);
    assert_eq!(came.resolved.unwrap().role(Role::User), Some("[PRO]"));
    let came = run(&recipe, &get(&format!("/?{TAKU_QUERY}&user_id=%7Buser_id%7D&is_test=1")), 0);
    let resolved = came.resolved.unwrap();
    assert_eq!(resolved.role(Role::User), None);
    assert_eq!(resolved.unresolved(), ["user_id"]);
    assert!(resolved.is_test());
}

#[test]
fn an_unreplaced_macro_names_itself_where_the_signature_fails() {
    let recipe = source("levelplay", "secrets = \"k\"").unwrap();
    let came = run(
        &recipe,
        &get("/?userId=%5BUSER_ID%5D&eventId=e&rewards=1&timestamp=1&signature=00"),
        0,
    );
    let rejection = came.rejection.unwrap();
    assert_eq!(rejection.reason, Reason::UnresolvedPlaceholder);
    assert_eq!(rejection.parameter.as_deref(), Some("userId"));
}

#[test]
fn a_pinned_reward_refuses_another_amount() {
    let recipe = |table: &str| {
        let mut terms = vector_terms(TAKU);
        terms.rewards.insert("coin".to_owned(), table.to_owned());
        let catalog = Catalog::embedded().unwrap();
        Recipe::compile(catalog.get("taku").unwrap(), &terms).unwrap()
    };
    let request = get(&format!("/?{TAKU_QUERY}"));
    for same in ["10", "10.0", "10.000000"] {
        assert_eq!(run(&recipe(same), &request, 0).outcome, Outcome::Accepted, "{same}");
    }
    let rejection = run(&recipe("1"), &request, 0).rejection.unwrap();
    assert_eq!(rejection.reason, Reason::PinnedReward);
}

#[test]
fn mistakes_of_a_source_name_their_key() {
    for (sender, text, key) in [
        ("admob", "secrets = \"k\"", "secrets"),
        ("admob", "key_set_url = \"ftp://a/b\"", "key_set_url"),
        ("admob", "key_set_url = \"/keys.json\"", "key_set_url"),
        ("admob", "developer_id = \"d\"", "developer_id"),
        ("taku", "secrets = \"k\"\nkey_set_url = \"https://a/b\"", "key_set_url"),
        ("huawei", "secrets = \"a2V5\"", "developer_id"),
        ("huawei", "developer_id = \"d\"", "secrets"),
        ("huawei", "developer_id = \"d\"\nsecrets = \"*\"", "secrets"),
        ("standard-webhooks", "secrets = \"whpk_YQ==\"", "secrets"),
        ("taku", "", "secrets"),
        ("taku", "secrets = [\"a\", \"b\", \"c\", \"d\", \"e\"]", "secrets"),
        ("taku", "unsigned = true", "unsigned"),
        ("taku", "secrets = \"k\"\naes_key = \"x\"", "aes_key"),
        ("taku", "secrets = \"k\"\n[params]\nplayer = \"p\"", "params.player"),
        ("taku", "secrets = \"k\"\ntemplate = \"a={x\"", "template"),
        ("taku", "secrets = \"k\"\ntemplate = \"a=[secret]\"", "template"),
        ("taku", "secrets = \"k\"\ntemplate = \"a=[nothing]\"", "template"),
        ("taku", "secrets = \"k\"\n[reply]\naccepted = { body = \"[secret]\" }", "reply.accepted"),
        ("wechat-push", "secrets = \"k\"\naes_key = \"short\"\napp_id = \"wx\"", "aes_key"),
        ("wechat-push", &format!("secrets = \"k\"\naes_key = \"{}\"", "A".repeat(43)), "app_id"),
        ("standard-webhooks", "secrets = \"no-prefix\"", "secrets"),
        ("standard-webhooks", "secrets = [\"whsec_YWJj\", \"no-prefix\"]", "secrets[1]"),
    ] {
        let faults = source(sender, text).unwrap_err();
        assert!(faults.iter().any(|fault| fault.key == key), "{sender} {text:?}: {faults:?}");
    }
    // There is nothing to hold a pin against where the amount is not told.
    let mut terms = vector_terms("secrets = \"k\"");
    terms.rewards.insert("coin".to_owned(), "10".to_owned());
    let catalog = Catalog::embedded().unwrap();
    let faults = Recipe::compile(catalog.get("gdt").unwrap(), &terms).map(|_| ()).unwrap_err();
    assert!(faults.iter().any(|fault| fault.key == "rewards"), "{faults:?}");
    let faults = source("taku", "secrets = \"k\"\ntemplate = \"a=1&b={x\"").unwrap_err();
    assert_eq!(faults[0].column, Some(7));
}

#[test]
fn a_nul_in_a_signed_value_is_refused() {
    let recipe = source("levelplay", "secrets = \"k\"").unwrap();
    let came = run(&recipe, &get("/?userId=a%00b&eventId=e&rewards=1&timestamp=1&signature=00"), 0);
    assert_eq!(came.rejection.unwrap().reason, Reason::BadEncoding);
}

#[test]
fn a_time_where_the_signature_does_not_reach_makes_no_call_fresh() {
    let recipe = source("renaren", "secrets = 'abcdddlsajldj'").unwrap();
    let text = "POST /?param1=data1&param2=data2&manager_sign=b6dc8c433d\n\
                Content-Type: application/x-www-form-urlencoded\n\n\
                prefix=ba&report_number=R-1&time_stamp=1700000000";
    let came = run(&recipe, &OwnedRequest::parse(text).unwrap(), 1_700_000_000_000);
    let rejection = came.rejection.unwrap();
    assert_eq!(rejection.reason, Reason::MissingParameter);
    assert_eq!(rejection.parameter.as_deref(), Some("time_stamp"));
}

#[test]
fn a_header_that_came_twice_is_refused() {
    let recipe = source("yibeidiao", "secrets = 'T'\nmax_age = 'off'").unwrap();
    let supplied = const_hex::encode(
        crate::sender::crypto::digest::Algorithm::Md5.of(b"K20231114221320RAT").bytes(),
    );
    let text = format!("POST /\nkey: K\nts: 20231114221320\nseq: RA\nsign: {supplied}\n");
    let once = run(&recipe, &OwnedRequest::parse(&format!("{text}\n{{}}")).unwrap(), 0);
    assert_eq!(once.outcome, Outcome::Accepted);
    let twice = run(&recipe, &OwnedRequest::parse(&format!("{text}seq: RB\n\n{{}}")).unwrap(), 0);
    assert_eq!(twice.rejection.unwrap().reason, Reason::RepeatedParameter);
}

#[test]
fn a_right_signature_under_a_misspelt_name_is_not_shown() {
    let recipe = source("taku", "secrets = 'key-1'").unwrap();
    let signed = "trans_id=t1&placement_id=p1&adsource_id=9&reward_amount=10&reward_name=coin";
    let text = format!("{signed}&sec_key=key-1");
    let supplied = const_hex::encode(
        crate::sender::crypto::digest::Algorithm::Md5.of(text.as_bytes()).bytes(),
    );
    for name in ["Sign", "SIGN", "sign%20", "signature"] {
        let request = get(&format!("/?user_id=u1&{signed}&note=hello&{name}={supplied}"));
        let request = request.borrow();
        let mut callback = recipe.read(request, 0);
        assert!(matches!(callback.verify(), Judgement::Rejected(_)));
        let params = callback.params().get().to_owned();
        assert!(!params.contains(&supplied), "{params}");
        assert!(params.contains(r#""note":"hello""#) && params.contains(r#""***""#), "{params}");
    }
}

#[test]
fn what_a_sender_brings_of_its_secrets_is_masked() {
    let recipe = source("imur-idip", "secrets = 'tok-1'\nmax_age = 'off'").unwrap();
    let signed = "answer_id=a1&effective=0&openid=o1";
    let text = format!("{signed}&sAMSToken=tok-1");
    let supplied = const_hex::encode(
        crate::sender::crypto::digest::Algorithm::Md5.of(text.as_bytes()).bytes(),
    );
    let request = get(&format!("/?{signed}&sAMSToken=tok-1&sAMSSign={supplied}"));
    let came = run(&recipe, &request, 0);
    let params = came.params;
    assert!(!params.contains("tok-1") && params.contains(r#""sAMSToken":"***""#), "{params}");

    let settings = "secrets = 'gatewaytoken'\npay_key = 'appkey-1'\nmax_age = 'off'";
    let recipe = source("wechat-push", settings).unwrap();
    let vectors = &recipe.sender().vectors;
    let paid = vectors.iter().find(|vector| vector.about.starts_with("a payment event")).unwrap();
    let came = run(&recipe, &paid.request, 1_700_000_000_000);
    let params = came.params;
    assert!(params.contains(r#""PayEventSig":"***""#), "{params}");
}

#[test]
fn a_macro_in_an_optional_part_counts_as_absent_and_as_what_it_is() {
    let recipe = source("taku", "secrets = 'k'").unwrap();
    let base = "trans_id=t&placement_id=p&adsource_id=1&reward_amount=1&reward_name=coin&sec_key=k";
    for text in [base.to_owned(), format!("{base}&ilrd={{ilrd}}")] {
        let supplied = const_hex::encode(
            crate::sender::crypto::digest::Algorithm::Md5.of(text.as_bytes()).bytes(),
        );
        let request = get(&format!(
            "/?trans_id=t&placement_id=p&adsource_id=1&reward_amount=1&reward_name=coin\
             &ilrd=%7Bilrd%7D&sign={supplied}"
        ));
        assert_eq!(run(&recipe, &request, 0).outcome, Outcome::Accepted, "{text}");
    }
}

#[test]
fn a_message_without_a_body_is_no_event() {
    let recipe = source("wechat-push", "secrets = 'gatewaytoken'\nmax_age = 'off'").unwrap();
    let target =
        "/?signature=be4d53cdd56d183a856b22073582ac8e79219493&timestamp=1700000000&nonce=12345";
    let empty = OwnedRequest::parse(&format!("POST {target}\n\n")).unwrap();
    assert_eq!(run(&recipe, &empty, 0).rejection.unwrap().reason, Reason::MissingParameter);
}

#[test]
fn a_rule_that_anybody_can_keep_does_not_load() {
    let taku = Catalog::embedded().unwrap().get("taku").unwrap().text().to_owned();
    let faults = |text: &str| -> Vec<String> {
        let faults = Sender::parse("mine", text).err().unwrap_or_default();
        faults.iter().map(ToString::to_string).collect()
    };
    assert_eq!(faults(&taku), Vec::<String>::new());
    for cut in ["0", "7", "129"] {
        let text = taku.replace("in   = \"{sign}\"", &format!("in   = \"{{sign}}\"\ncut  = {cut}"));
        assert!(faults(&text).iter().any(|fault| fault.contains("cut")), "{cut}");
    }
    let text = taku.replace("&sec_key=[secret]", "");
    assert!(faults(&text).iter().any(|fault| fault.contains("contains no secret")), "{text}");
    let keyless = source("standard-webhooks", "secrets = 'whsec_'").unwrap_err();
    assert!(keyless.iter().any(|fault| fault.to_string().contains("fits no signature")));
}

#[test]
fn a_repeated_name_is_refused_before_anything_is_hashed() {
    let recipe = source("taku", TAKU).unwrap();
    let came = run(&recipe, &get(&format!("/?{TAKU_QUERY}&%75ser_id=a&user_id=b")), 0);
    assert_eq!(came.rejection.unwrap().reason, Reason::RepeatedParameter);
}

/// The keys that are written with an event, the identity first.
fn written_keys(resolved: &Resolved) -> Vec<Vec<u8>> {
    resolved.identities().chain(resolved.signature_keys()).map(<[u8]>::to_vec).collect()
}

#[test]
fn a_captured_call_under_a_fresh_answer_id_shares_a_key() {
    let catalog = Catalog::embedded().unwrap();
    let sender = catalog.get("imur-http").unwrap();
    let recipe = Recipe::compile(sender, &vector_terms("secrets = \"s3cr3t\"")).unwrap();
    let honest = "/?sid=64b0c0ffee00000000000001&timestamp=1700000000&uid=player-7&uid_source=demo\
        &user_type=weak_third_party&effective=true&aid=a2&sign=23bc2fff6aab542a7411a2bc5890f50f";
    let keys = |target: &str| written_keys(&run(&recipe, &get(target), 0).resolved.unwrap());
    let first = keys(honest);
    assert_eq!(first.len(), 2);
    let fresh = keys(&honest.replace("aid=a2", "aid=a3"));
    assert_ne!(first[0], fresh[0]);
    assert_eq!(first[1], fresh[1]);
    let recut = keys(&honest.replace("uid=player-7&uid_source=demo", "uid=player-7uid_sourcedemo"));
    assert_eq!(first[1], recut[1]);
}

#[test]
fn optional_parts_of_a_key_cannot_stand_in_for_each_other() {
    let recipe = source("wechat-push", "secrets = \"gatewaytoken\"").unwrap();
    let key = |body: &str| {
        let request = OwnedRequest::parse(&format!(
            "POST /?signature=be4d53cdd56d183a856b22073582ac8e79219493&timestamp=1700000000&nonce=12345\n\n{body}"
        ))
        .unwrap();
        run(&recipe, &request, 1_700_000_000_000)
            .resolved
            .unwrap()
            .identities()
            .next()
            .unwrap()
            .to_vec()
    };
    let one = key(r#"{"FromUserName":"o","CreateTime":1,"MsgType":"event","OrderId":"7"}"#);
    let other = key(r#"{"FromUserName":"o","CreateTime":1,"MsgType":"event","EventKey":"7"}"#);
    assert_ne!(one, other);
}

/// A recipe for each vector, and the vector's time.
static RECIPES: std::sync::LazyLock<Vec<(Recipe, i64)>> = std::sync::LazyLock::new(|| {
    let mut recipes = Vec::new();
    each_vector(|sender, vector, _| recipes.push((recipe(sender, vector), now(vector))));
    recipes
});

proptest::proptest! {
    #[test]
    fn any_request_is_judged_and_answered(
        query in "[ -~]{0,120}",
        body in proptest::collection::vec(proptest::num::u8::ANY, 0..120),
        post in proptest::bool::ANY,
    ) {
        let method = if post { http::Method::POST } else { http::Method::GET };
        let request = OwnedRequest {
            method,
            base: String::new(),
            target: format!("/callback/x?{query}").into_bytes(),
            headers: http::HeaderMap::new(),
            body,
        };
        for (recipe, now_ms) in RECIPES.iter() {
            assert_ne!(run(recipe, &request, *now_ms).outcome, Outcome::Accepted);
        }
    }
}

#[test]
fn a_call_cut_anew_shares_a_key_with_the_honest_one() {
    let cases = [
        (
            "levelplay",
            "secrets = \"supersecret\"",
            "/?userId=userId&eventId=eventId&rewards=10&timestamp=123123&signature=9a9232cf5155cb0226cc1cb777cd926f",
            "/?userId=userId&eventId=3eventId&rewards=10&timestamp=12312&signature=9a9232cf5155cb0226cc1cb777cd926f",
        ),
        (
            "fyber",
            "secrets = \"tok\"",
            "/?uid=u1&amount=12.5&_trans_id_=t-1&pub0=a&pub2=c&sid=b57771c3547efcc5c6cdc6adc09e9f2d8a3dea75",
            "/?uid=u1&amount=12.5&_trans_id_=t-1a&pub2=c&sid=b57771c3547efcc5c6cdc6adc09e9f2d8a3dea75",
        ),
        (
            "unity-ads",
            "secrets = \"xyzKEY\"",
            "/?productid=1234&sid=1234567890&oid=0987654321&hmac=106ed4300f91145aff6378a355fced73",
            "/?oid=0987654321%2Cproductid%3D1234&sid=1234567890&hmac=106ed4300f91145aff6378a355fced73",
        ),
    ];
    for (sender, text, honest, recut) in cases {
        let recipe = source(sender, text).unwrap();
        let keys = |target: &str| written_keys(&run(&recipe, &get(target), 0).resolved.unwrap());
        let (honest, recut) = (keys(honest), keys(recut));
        assert_ne!(honest[0], recut[0], "{sender}");
        assert_eq!(honest[1], recut[1], "{sender}");
    }
}

#[test]
fn a_template_that_cannot_be_made_refuses_nobody() {
    let text = format!("{TAKU}template = \"p={{extra_data|after:p-}}&n={{reward_name|int}}\"");
    let recipe = source("taku", &text).unwrap();
    let resolved = run(&recipe, &get(&format!("/?{TAKU_QUERY}&extra_data=x")), 0).resolved.unwrap();
    assert_eq!(resolved.template(), r#"{"p":"","n":""}"#);
    assert_eq!(resolved.unresolved(), ["extra_data", "reward_name"]);
}

#[test]
fn a_macro_beside_a_signature_is_no_probe() {
    let recipe = source("taku", TAKU).unwrap();
    let query = TAKU_QUERY.replace("sign=a88", "extra_data=%7Bextra_data%7D&sign=b88");
    let rejection = run(&recipe, &get(&format!("/?{query}")), 0).rejection.unwrap();
    assert_eq!(rejection.reason, Reason::UnresolvedPlaceholder);
    assert_eq!(rejection.parameter.as_deref(), Some("extra_data"));
}

#[test]
fn empty_and_absent_optional_parts_make_the_same_key() {
    let recipe =
        source("renaren", "secrets = \"demo-manager-key\"\nmax_age = \"off\"\nreplayable = true")
            .unwrap();
    let key = |form: &str| {
        let request = OwnedRequest::parse(&format!(
            "POST /?company_id=42&time_stamp=1700000000&prefix=leaderpro&manager_sign=86781f46ac\n\n{form}"
        ))
        .unwrap();
        run(&recipe, &request, 0).resolved.unwrap().identities().next().unwrap().to_vec()
    };
    assert_eq!(key("report_number=3"), key("report_number=3&status="));
    assert_ne!(key("report_number=3"), key("report_number=3&status=1"));
}
