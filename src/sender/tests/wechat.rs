//! The WeChat family: tables of events, sealed messages, address checks, and keys of earlier
//! versions.

use std::sync::Arc;

use super::*;
use crate::sender::crypto::cipher::Sealed;

const NOW: i64 = 1_700_000_000_000;

/// Events of the table of WeChat pushes that give something, some of them in one state only.
const GIVEN: &[&str] = &[
    "xpay_goods_deliver_notify",
    "xpay_coin_pay_notify",
    "minigame_deliver_goods",
    "minigame_coin_deliver_completed",
    "minigame_recharge_center_coin_deliver_completed",
    "minigame_game_pay_goods_deliver_notify",
    "minigame_h5_goods_deliver_notify",
    "minigame_deliver_h5_pay_products",
    "retail_pay_notify",
    "open_product_order_pay",
    "funds_order_pay",
    "merchant_order",
    "channels_ec_order_pay",
    "channels_ec_coupon_receive",
    "channels_ec_vip_task_award",
    "user_get_card",
    "user_pay_from_pay_cell",
    "giftcard_pay_done",
];

/// Events that take something back, some of them in one state only.
const TAKEN_BACK: &[&str] = &[
    "xpay_refund_notify",
    "minigame_pay_refund_succ_notify",
    "retail_refund_notify",
    "channels_ec_order_cancel",
    "channels_ec_aftersale_update",
    "channels_ec_present_aftersale_update",
];

/// Events that inform, or ask for a decision.
const NEITHER: &[&str] = &[
    "xpay_subscribe_signing_result_notify",
    "xpay_complaint_notify",
    "xpay_subscribe_pay_fail_notify",
    "xpay_subscribe_ios_refund_query_notify",
    "channels_ec_order_new",
    "channels_ec_order_confirm",
    "channels_ec_order_settle",
    "channels_ec_vip_score_update",
    "channels_ec_vip_join",
    "channels_ec_vip_grade_info_update",
    "user_gifting_card",
    "update_member_card",
    "giftcard_send_to_friend",
    "giftcard_user_accept",
    "card_pay_order",
    "subscribe_msg_popup_event",
    "subscribe_msg_change_event",
    "channels_ec_user_coupon_use",
    "channels_ec_user_coupon_unuse",
    "channels_ec_vip_score_exchange",
    "channels_ec_vip_close",
    "user_consume_card",
    "channels_ec_order_deliver",
    "channels_ec_order_ext_info_update",
    "submit_membercard_user_info",
    "user_authorize_invoice",
    "subscribe_msg_sent_event",
    "TEMPLATESENDJOBFINISH",
    "MASSSENDJOBFINISH",
    "wxa_media_check",
    "secvod_upload_event",
];

fn sender(name: &str) -> Arc<Sender> {
    Arc::clone(Catalog::embedded().unwrap().get(name).unwrap())
}

/// The first effect of the row of `event`; `None`: no row.
fn effect_of(sender: &Sender, event: &str) -> Option<Effect> {
    let events = sender.events.as_ref()?;
    let row = events.rows.iter().find(|row| row.is.iter().any(|name| name == event))?;
    let rules = row.roles.effects.iter().chain(&sender.kinds[row.kind].roles.effects);
    rules.map(|rule| rule.effect).next()
}

#[test]
fn every_event_of_the_tables_has_a_row_with_its_effect() {
    let (push, wecom) = (sender("wechat-push"), sender("wecom"));
    let told: &[(&Sender, &[&str], Effect)] = &[
        (&push, GIVEN, Effect::Grant),
        (&push, TAKEN_BACK, Effect::Revoke),
        (&push, NEITHER, Effect::None),
        (&wecom, &["license_pay_success", "pay_for_app_success"], Effect::Grant),
        (&wecom, &["license_refund", "refund"], Effect::Revoke),
        (&wecom, &["template_card_event", "taskcard_click", "batch_job_result"], Effect::None),
        (&wecom, &["kf_msg_or_event", "create_auth", "suite_ticket", "change_auth"], Effect::None),
        (&wecom, &["change_contact", "change_external_contact", "open_order"], Effect::None),
        (&wecom, &["change_order"], Effect::None),
        (&wecom, &["change_external_chat", "change_external_tag", "change_chain"], Effect::None),
        (&wecom, &["change_school_contact", "customer_acquisition"], Effect::None),
        (&wecom, &["sys_approval_change", "open_approval_change"], Effect::None),
    ];
    for (sender, events, effect) in told {
        for event in *events {
            assert_eq!(effect_of(sender, event), Some(*effect), "{}: {event}", sender.name());
        }
    }
    let rows = |sender: &Sender| {
        sender
            .events
            .as_ref()
            .map_or(0, |events| events.rows.iter().map(|row| row.is.len()).sum::<usize>())
    };
    assert_eq!(rows(&push), GIVEN.len() + TAKEN_BACK.len() + NEITHER.len());
}

/// A source as the first vector of `sender` with that `about` has it, and the vector.
fn scene(sender: &str, about: &str) -> (Recipe, Vector) {
    let sender = self::sender(sender);
    let vector = sender.vectors.iter().find(|vector| vector.about == about);
    let vector = vector.unwrap_or_else(|| panic!("{about}")).clone();
    (recipe(&sender, &vector), vector)
}

/// The resolved request, with the keys of earlier versions.
fn resolved(recipe: &Recipe, request: &OwnedRequest) -> Box<Resolved> {
    let mut callback = recipe.read(request.borrow(), NOW);
    callback.look_up(OlderKeys::Wanted);
    let Judgement::Verified(mut verified) = callback.verify() else { panic!("{request:?}") };
    match verified.resolve("evt_test") {
        Resolution::Event(resolved) => resolved,
        other => panic!("{other:?}"),
    }
}

fn identity(resolved: &Resolved) -> Vec<u8> {
    resolved.identities().next().unwrap().to_vec()
}

fn edited(request: &OwnedRequest, from: &str, to: &str) -> OwnedRequest {
    let body = String::from_utf8(request.body.clone()).unwrap();
    assert!(body.contains(from), "{body}");
    OwnedRequest { body: body.replace(from, to).into_bytes(), ..request.clone() }
}

#[test]
fn a_payment_is_its_order_whenever_it_is_sent() {
    let (recipe, vector) = scene("wechat-push", "xpay A");
    let first = resolved(&recipe, &vector.request);
    let later = edited(&vector.request, "\"CreateTime\":1700000000", "\"CreateTime\":1700000015");
    let later = resolved(&recipe, &later);
    assert_eq!(identity(&first), identity(&later));
    assert_eq!(first.content(), later.content());
    let other = resolved(&recipe, &scene("wechat-push", "xpay B").1.request);
    assert_ne!(identity(&first), identity(&other));
    assert!(first.signature_keys().eq(other.signature_keys()), "the body is not signed");
}

#[test]
fn the_signature_of_a_plain_payment_could_be_of_another_message() {
    for (about, proof, keys) in [
        ("plain mode", IdentityProof::None, 1),
        (
            "a payment event with its second signature; JSON asked, JSON answered",
            IdentityProof::OfKind,
            0,
        ),
        ("own; a message in secure mode", IdentityProof::Usual, 0),
        ("own; goods in secure mode: all of it is covered", IdentityProof::Usual, 0),
    ] {
        let (recipe, vector) = scene("wechat-push", about);
        let resolved = resolved(&recipe, &vector.request);
        assert_eq!(resolved.identity_proof(), proof, "{about}");
        assert_eq!(resolved.signature_keys().count(), keys, "{about}");
    }
}

#[test]
fn events_that_differ_in_any_member_are_two() {
    let about = "own; a template message, MsgID and not MsgId";
    let (recipe, vector) = scene("wechat-push", about);
    let other = edited(&vector.request, "200163840", "200163841");
    let ids = [&vector.request, &other].map(|request| identity(&resolved(&recipe, request)));
    assert_ne!(ids[0], ids[1]);
    let (recipe, zhang) = scene("wecom", "del zhang");
    let li = scene("wecom", "del li").1;
    let ids = [&zhang, &li].map(|vector| identity(&resolved(&recipe, &vector.request)));
    assert_ne!(ids[0], ids[1]);
}

/// The message of `request`, sealed with other random bytes and signed again.
fn sealed_anew(recipe: &Recipe, request: &OwnedRequest, salt: [u8; 16]) -> OwnedRequest {
    let mut callback = recipe.read(request.borrow(), NOW);
    let Judgement::Verified(verified) = callback.verify() else { panic!("{request:?}") };
    let message = verified.callback.message().to_vec();
    let plain = OwnedRequest {
        method: http::Method::POST,
        base: String::new(),
        target: b"/".to_vec(),
        headers: http::HeaderMap::new(),
        body: message,
    };
    recipe.sign(&plain, &Signing { salt, ..Signing::at(NOW + 1000) }).unwrap()
}

#[test]
fn a_repetition_that_is_sealed_anew_has_the_same_keys() {
    for (sender, about) in [
        ("wecom", "del zhang"),
        ("wechat-push", "own; a message in secure mode"),
        ("wechat-push", "own; goods in secure mode: all of it is covered"),
        ("dingtalk", "own; an event, answered sealed and signed"),
        ("feishu", "own; sealed and signed"),
    ] {
        let (recipe, vector) = scene(sender, about);
        let again = sealed_anew(&recipe, &vector.request, *b"another16randoms");
        assert_ne!(again.body, vector.request.body);
        let (first, again) = (resolved(&recipe, &vector.request), resolved(&recipe, &again));
        assert_eq!(identity(&first), identity(&again), "{sender}");
        assert_eq!(first.content(), again.content(), "{sender}");
        assert_eq!(first.signature_keys().next(), None, "{sender}: the identity is covered");
    }
}

#[test]
fn dingtalk_and_feishu_are_signed_with_a_time_and_a_nonce_of_ours() {
    for sender in ["dingtalk", "feishu"] {
        let sender = self::sender(sender);
        let recipe = recipe(&sender, &sender.vectors[0]);
        let pairs = [("uuid".to_owned(), "u1".to_owned())];
        let request = recipe.compose(&pairs, &Composing::to("/")).unwrap();
        let signed = recipe.sign(&request, &Signing::at(NOW)).unwrap();
        assert_eq!(run(&recipe, &signed, NOW).outcome, Outcome::Accepted, "{signed:?}");
    }
}

#[test]
fn the_check_of_a_suite_gets_its_random_text_back() {
    for about in
        ["suite", "published; a suite's address check, under the older name of the signature"]
    {
        let (recipe, vector) = scene("dingtalk", about);
        let mut callback = recipe.read(vector.request.borrow(), NOW);
        let Judgement::Verified(mut verified) = callback.verify() else { panic!("{about}") };
        assert!(matches!(verified.resolve("evt"), Resolution::Challenge));
        let reply = callback.draft_reply(Outcome::Challenge, None, &|| [7; 16]);
        let ReplyDraft::Answer(answer) = reply else { panic!("{reply:?}") };
        let json: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        let sealed = json["encrypt"].as_str().unwrap();
        let sealed = crate::sender::request::encoding::unbase64(sealed.as_bytes()).unwrap();
        let opener = recipe.open.as_ref().unwrap();
        assert_eq!(
            opener.open(&Sealed { text: &sealed, ..Sealed::default() }, 0).unwrap(),
            b"LPIdSnlF"
        );
    }
}

#[test]
fn only_the_cipher_text_that_is_signed_is_opened() {
    let (recipe, zhang) = scene("wecom", "del zhang");
    let bot = scene("wecom", "bot").1;
    let bot = String::from_utf8(bot.request.body).unwrap();
    let cipher = bot.split('"').nth(3).unwrap();
    let extra = format!("&encrypt={}", cipher.replace('+', "%2B"));
    let target = [&zhang.request.target[..], extra.as_bytes()].concat();
    let came = resolved(&recipe, &OwnedRequest { target, ..zhang.request.clone() });
    assert_eq!(identity(&came), identity(&resolved(&recipe, &zhang.request)));
    // Where the signed one does not open, the other is not tried in its place.
    let other = scene("wecom", "own; a message for another company").1;
    let target = [&other.request.target[..], extra.as_bytes()].concat();
    let came = run(&recipe, &OwnedRequest { target, ..other.request.clone() }, NOW);
    assert_eq!(came.rejection.unwrap().reason, Reason::NotOurs);
}

#[test]
fn an_address_check_is_opened_under_a_signature_of_its_own() {
    let (recipe, bot) = scene("wecom", "bot");
    let check = scene("wecom", "own; the address check is answered with what is sealed in it").1;
    let check = String::from_utf8(check.request.target).unwrap();
    let echo = check.split_once("&echostr=").unwrap().1;
    let body = String::from_utf8(bot.request.body).unwrap();
    let cipher = body.split('"').nth(3).unwrap().replace('+', "%2B");
    let target = String::from_utf8(bot.request.target).unwrap();
    let request = OwnedRequest {
        method: http::Method::GET,
        target: format!("{target}&encrypt={cipher}&echostr={echo}").into_bytes(),
        body: Vec::new(),
        ..OwnedRequest::parse("GET /").unwrap()
    };
    let came = run(&recipe, &request, NOW);
    assert_eq!(came.rejection.map(|rejection| rejection.reason), Some(Reason::BadSignature));
}

#[test]
fn a_nonce_of_more_than_32_bytes_is_rejected() {
    for (sender, about) in [("wecom", "del zhang"), ("dingtalk", "suite")] {
        let (recipe, vector) = scene(sender, about);
        for (len, is_right) in [(32, true), (33, false)] {
            let mut request = sealed_anew(&recipe, &vector.request, [7; 16]);
            let target = String::from_utf8(request.target.clone()).unwrap();
            let (head, tail) = target.split_once("nonce=").unwrap();
            let tail = tail.split_once('&').map_or("", |(_, tail)| tail);
            request.target = format!("{head}nonce={}&{tail}", "7".repeat(len)).into_bytes();
            let signed = recipe.sign(&request, &Signing::at(NOW));
            let is_accepted = signed.is_ok_and(|signed| {
                let outcome = run(&recipe, &signed, NOW).outcome;
                matches!(outcome, Outcome::Accepted | Outcome::Challenge)
            });
            assert_eq!(is_accepted, is_right, "{sender}, {len}");
        }
    }
}

#[test]
fn the_verification_token_of_feishu_is_masked() {
    for about in ["own; one message under an event id of its own", "own; an order in the app store"]
    {
        let (recipe, vector) = scene("feishu", about);
        let params = run(&recipe, &vector.request, NOW).params;
        assert!(!params.contains("verification-token"), "{params}");
        assert!(params.contains("\"token\":\"***\""), "{params}");
    }
}

/// A former key: form, which of the texts, the number of the kind, then each value that is there.
fn former(index: u8, kind: u8, values: &[(u8, &str)]) -> Vec<u8> {
    let mut key = vec![0, index, kind];
    for (place, value) in values {
        key.push(*place);
        key.extend(u32::try_from(value.len()).unwrap().to_be_bytes());
        key.extend(value.as_bytes());
    }
    key
}

#[test]
fn keys_of_earlier_versions_are_looked_up() {
    let payment = "a payment event with its second signature; JSON asked, JSON answered";
    let event = "minigame_coin_deliver_completed";
    let refund = "own; a refund, which names no user";
    for (sender, about, key) in [
        (
            "wechat-push",
            "plain mode",
            former(0, 0, &[(0, "o1"), (1, "1700000000"), (2, "text"), (3, "23456789012345678")]),
        ),
        ("wechat-push", "a game gift; XML asked, XML answered", former(0, 2, &[(0, "o-1")])),
        ("wechat-push", payment, former(0, 3, &[(0, "n1"), (1, event)])),
        ("wechat-push", refund, former(0, 3, &[(0, "A1"), (1, "minigame_pay_refund_succ_notify")])),
        (
            "wechat-push",
            "xpay A",
            former(
                0,
                0,
                &[
                    (0, "oOFFICIAL"),
                    (1, "1700000000"),
                    (2, "event"),
                    (4, "xpay_goods_deliver_notify"),
                ],
            ),
        ),
        (
            "wecom",
            "del zhang",
            former(
                0,
                0,
                &[
                    (0, "sys"),
                    (1, "1700000000"),
                    (2, "event"),
                    (4, "change_contact"),
                    (5, "delete_user"),
                ],
            ),
        ),
        (
            "feishu",
            "own; sealed and signed",
            former(0, 0, &[(0, "f7984f25108f8137722bb63cee927e66")]),
        ),
    ] {
        let (recipe, vector) = scene(sender, about);
        let resolved = resolved(&recipe, &vector.request);
        let mut older = resolved
            .lookups()
            .filter(|one| (one.role, one.form) == (KeyRole::Identity, KeyForm::Older));
        assert!(older.any(|one| one.key == key), "{sender}: {about}");
    }
}

#[test]
fn mistakes_in_a_table_of_events_name_their_key() {
    let edited = |sender: &str, from: &str, to: &str| -> Vec<DefinitionError> {
        let text = self::sender(sender).text().to_owned();
        assert!(text.contains(from), "{from}");
        match Sender::parse("mine", &text.replacen(from, to, 1)) {
            Ok(sender) => {
                let sender = Arc::new(sender);
                Recipe::compile(&sender, &sender.vectors[0].terms()).err().unwrap_or_default()
            }
            Err(faults) => faults,
        }
    };
    let unsigned = "unsigned = \"in plain mode the body is not signed\"\n\n[[event]]";
    for (sender, from, to, key) in [
        ("wechat-push", "by       = \"{Event}\"", "by = \"{Event}x\"", "events.by"),
        ("wechat-push", "by       = \"{Event}\"", "by = []", "events.by"),
        ("wechat-push", unsigned, "\n[[event]]", "events.by"),
        (
            "wechat-push",
            "is   = \"wxa_media_check\"",
            "is = \"merchant_order\"",
            "event[merchant_order]",
        ),
        (
            "wechat-push",
            "kind = \"coupon\"",
            "kind = \"mock\"",
            "event[channels_ec_coupon_receive].kind",
        ),
        (
            "wechat-push",
            "id   = \"{trace_id}:{Event}\"",
            "wert = \"x\"",
            "event[wxa_media_check].wert",
        ),
        ("feishu", "\"{token}\", ", "\"[secret]\", ", "masked"),
        ("feishu", "\"{token}\", ", "\"{token}x\", ", "masked"),
        ("standard-webhooks", "= \"svix-id\"", "= \"svix id\"", "header_names"),
    ] {
        let faults = edited(sender, from, to);
        assert!(faults.iter().any(|fault| fault.key == key), "{sender} {to:?}: {faults:?}");
    }
}
