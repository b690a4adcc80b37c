//! All usual mistakes, made by independent code, for every sender: each must be named.

mod encodings;
mod evidence;
mod own;
mod real;
mod scene;
mod slips;
mod wire;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::clock;
use crate::sender::{Catalog, LiveSecret, OwnedRequest, Secret, Sender, Signing, Terms};
use scene::{live, scenes};

const NOW: i64 = 1_700_000_000_000;

#[derive(Default)]
struct Tally {
    right: usize,
    all: usize,
    wrong: Vec<String>,
    /// Mistakes that were named and not made.
    invented: Vec<String>,
}

impl Tally {
    /// Takes what is said of a slip.
    fn take(&mut self, scene: &scene::Scene, slip: &scene::Slip, said: &Explanation) {
        self.all += 1;
        let named: Vec<&Mistake> = said.mistake.iter().chain(&said.alternatives).collect();
        let is_right = |mistake: &&&Mistake| {
            let same = mistake.kind == slip.kind;
            let kind = same || slip.or.contains(&mistake.kind);
            let parameter = slip.parameter.is_none()
                || mistake.parameter == slip.parameter
                || !same
                // Under two variants several values can differ where under one it is a single one.
                || (scene.has_twins() && mistake.parameter.is_none());
            kind && parameter
        };
        if named.iter().any(|mistake| is_right(&mistake)) {
            self.right += 1;
            return;
        }
        let expected = (slip.kind, &slip.parameter);
        let said: Vec<_> = named.iter().map(|one| (one.kind, &one.parameter)).collect();
        let line = format!("{}: {expected:?}, said {said:?}", slip.about);
        if named.iter().any(|mistake| mistake.kind != MistakeKind::Unknown) {
            self.invented.push(line);
        } else {
            self.wrong.push(line);
        }
    }
}

/// Of a hundred mistakes, how many are named at least, for each sender.
const NAMED_MIN: usize = 95;

#[test]
fn the_usual_mistakes_of_every_sender_are_named() {
    let mut tallies: BTreeMap<String, Tally> = BTreeMap::new();
    let mut kinds: BTreeMap<MistakeKind, usize> = BTreeMap::new();
    let mut seen = Vec::new();
    for scene in scenes() {
        let another = slips::another(&scene);
        let others = [Other { source: "another", recipe: &another, keys: None }];
        let tally = tallies.entry(scene.sender.name().to_owned()).or_default();
        let is_first = !seen.contains(&(scene.sender.name().to_owned(), scene.variant));
        let real = if is_first { real::all(&scene) } else { Vec::new() };
        for slip in slips::all(&scene, &mut seen).into_iter().chain(real) {
            let explanation = explain(&slip.recipe, &slip.request.borrow(), scene.now_ms, &others);
            nothing_is_told(&explanation, &scene.secret, &slip);
            is_in_chinese(&explanation, &slip);
            if explanation.verdict == Verification::Verified {
                continue; // the sender's file accepts this one
            }
            let unreplaced = explanation.reason == Some(Reason::UnresolvedPlaceholder);
            if unreplaced && slip.kind == MistakeKind::Unknown {
                continue; // the reason says enough
            }
            *kinds.entry(slip.kind).or_default() += 1;
            tally.take(&scene, &slip, &explanation);
        }
    }
    let (mut right, mut total, mut invented) = (0, 0, Vec::new());
    for (sender, tally) in &tallies {
        println!("explained {} of {}: {sender}", tally.right, tally.all);
        tally.wrong.iter().for_each(|wrong| println!("    not found: {wrong}"));
        tally.invented.iter().for_each(|wrong| println!("    invented: {wrong}"));
        (right, total) = (right + tally.right, total + tally.all);
        invented.extend(&tally.invented);
    }
    let share = (right * 1000 / total) as f64 / 10.0;
    println!("explained {right} of {total}, {share} %; by kind {kinds:?}");
    println!("named and not made: {}", invented.len());
    let signing = Catalog::embedded().unwrap();
    // Private keys have their own tests: nothing here can sign with one.
    let signing = signing
        .iter()
        .filter(|sender| sender.variants.iter().any(|variant| variant.public.is_none()));
    let missing: Vec<_> =
        signing.map(|one| one.name()).filter(|name| !tallies.contains_key(*name)).collect();
    for (sender, tally) in &tallies {
        let enough = tally.right * 100 >= tally.all * NAMED_MIN;
        assert!(enough, "{sender}: {} of {}", tally.right, tally.all);
    }
    assert!(missing.is_empty(), "not tried: {missing:?}");
    assert!(right * 100 >= total * 98, "explained {right} of {total}");
    assert!(invented.is_empty(), "{invented:#?}");
    // `other_sender` and what is wrong with a message have tests of their own.
    assert_eq!(kinds.len(), MistakeKind::ALL.len() - 6, "{kinds:?}");
}

/// No output holds the secret, or the signature that would have been right.
fn nothing_is_told(explanation: &Explanation, secret: &[u8], slip: &scene::Slip) {
    let told = serde_json::to_string(explanation).unwrap();
    let secret = std::str::from_utf8(secret).unwrap().trim();
    assert!(!told.contains(secret), "{}: {told}", slip.about);
    let told = told.to_ascii_lowercase();
    assert!(!told.contains(&slip.right.to_ascii_lowercase()), "{}: {told}", slip.about);
}

/// Each advice is there in Chinese: it has no English word but names, algorithms and what is quoted.
fn is_in_chinese(explanation: &Explanation, slip: &scene::Slip) {
    for mistake in explanation.mistake.iter().chain(&explanation.alternatives) {
        let text = mistake.advice.chinese();
        assert!(text.contains(['。', '…']) && text.len() > 12, "{}: {text}", slip.about);
        let prose: String = text.split('`').step_by(2).collect();
        for word in ["the ", "was ", "were ", " with ", " of "] {
            assert!(!prose.contains(word), "{}: {text}", slip.about);
        }
    }
}

fn source(name: &str, secret: &str) -> Recipe {
    Recipe::compile(&sender(name), &terms(secret)).unwrap()
}

fn sender(name: &str) -> Arc<Sender> {
    Arc::clone(Catalog::embedded().unwrap().get(name).unwrap())
}

fn terms(secret: &str) -> Terms {
    Terms { source: "level-end".into(), secrets: vec![live(secret.as_bytes())], ..Terms::default() }
}

fn request(text: &str) -> OwnedRequest {
    OwnedRequest::parse(text).unwrap()
}

fn said(recipe: &Recipe, text: &str, others: &[Other<'_>]) -> Explanation {
    explain(recipe, &request(text).borrow(), NOW, others)
}

fn kind(explanation: &Explanation) -> Option<MistakeKind> {
    explanation.mistake.as_ref().map(|mistake| mistake.kind)
}

#[test]
fn it_is_the_json_of_the_interface() {
    let recipe = source("vungle", "k1");
    let right = "GET /?user=u1&txid=tx-1&digest=\
                 f9437a7a63dde63c84b3b38f834d72e63fb4ed056cf9e06d0821c782c6041000";
    let shown = |text: &str| serde_json::to_value(said(&recipe, text, &[])).unwrap();
    assert_eq!(
        shown(right),
        serde_json::json!({
            "verdict": "verified", "outcome": "accepted", "reason": null, "parameter": null,
            "advice": null, "signed_text": "***:tx-1", "reading": null, "mistake": null,
            "alternatives": [],
            "parameters": [
                { "name": "user", "in": "query", "value": "u1" },
                { "name": "txid", "in": "query", "value": "tx-1" },
                { "name": "digest", "in": "query", "value": "***" },
            ],
        }),
    );
    let wrong = shown(&right.replace("digest=f9", "digest=00"));
    assert_eq!(wrong["verdict"], "rejected");
    assert_eq!(wrong["reason"], "bad_signature");
    assert_eq!(wrong["mistake"]["kind"], "unknown");
    assert_eq!(wrong["mistake"]["detail"], serde_json::Value::Null);
    assert_eq!(wrong["mistake"]["parameter"], serde_json::Value::Null);
    for kind in MistakeKind::ALL {
        assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
    }
    let finer = Mistake::new(MistakeKind::SecretQuoted, Some("p"), advice::phrase("e", "c"));
    assert_eq!(
        serde_json::to_value(finer).unwrap(),
        serde_json::json!({
            "kind": "secret_whitespace", "detail": "secret_quoted", "parameter": "p", "advice": "e",
        }),
    );
}

/// The names that the contract of the admin API has.
const KINDS: [&str; 18] = [
    "raw_values",
    "decoded_values",
    "plus_as_blank",
    "plus_kept",
    "secret_whitespace",
    "other_secret",
    "secret_encoding",
    "empty_kept",
    "empty_dropped",
    "extra_parameter_signed",
    "parameter_not_signed",
    "order",
    "separator",
    "other_digest",
    "other_encoding",
    "other_sender",
    "value_reformatted",
    "unknown",
];

#[test]
fn kinds_are_a_closed_set_and_finer_ones_are_details() {
    let mut named: Vec<&str> = Vec::new();
    for kind in MistakeKind::ALL {
        assert!(KINDS.contains(&kind.as_str()), "{kind:?}");
        named.push(kind.detail().unwrap_or(kind.as_str()));
    }
    named.sort_unstable();
    named.dedup();
    assert_eq!(named.len(), MistakeKind::ALL.len(), "each has a name of its own");
}

#[test]
fn a_cut_signature_is_named_at_the_usual_lengths_only() {
    let recipe = source("vungle", "k1");
    let right = "f9437a7a63dde63c84b3b38f834d72e63fb4ed056cf9e06d0821c782c6041000";
    for len in 1..right.len() {
        let cut = said(&recipe, &format!("GET /?user=u1&txid=tx-1&digest={}", &right[..len]), &[]);
        let is_named = kind(&cut) == Some(MistakeKind::OtherEncoding);
        assert_eq!(is_named, [16, 20, 24, 32, 40, 48].contains(&len), "{len}: {cut:?}");
    }
}

#[test]
fn what_is_missing_or_unreplaced_is_named_by_the_reason() {
    let recipe = source("taku", "a-secret");
    let missing = said(&recipe, "GET /?trans_id=t&adsource_id=1&reward_amount=1&sign=00", &[]);
    assert_eq!(missing.reason, Some(Reason::MissingParameter));
    assert_eq!(missing.parameter.as_deref(), Some("placement_id"));
    assert_eq!(missing.mistake, None);
    assert!(missing.advice.unwrap().english().contains("`postern url SOURCE`"));
    let unreplaced = "GET /?trans_id=t&placement_id={placement_id}&adsource_id=1&reward_amount=1\
                      &reward_name=c&sign=00&is_test=0";
    for text in [unreplaced, &unreplaced.replace("is_test=0", "is_test=1")] {
        let explanation = said(&recipe, text, &[]);
        assert_eq!(explanation.reason, Some(Reason::UnresolvedPlaceholder));
        assert_eq!(explanation.parameter.as_deref(), Some("placement_id"));
        assert_eq!(explanation.mistake, None);
    }
}

#[test]
fn an_old_callback_is_told_what_else_is_wrong() {
    let recipe = source("renaren", "demo-manager-key");
    let right = "GET /?prefix=ba&report_number=R&time_stamp=1600000000";
    let signed = recipe.sign(&request(right), &Signing::at(NOW)).unwrap();
    let old = explain(&recipe, &signed.borrow(), NOW, &[]);
    assert_eq!((old.reason, old.mistake), (Some(Reason::Stale), None));
    let advice = old.advice.unwrap();
    let said = "Its time is 1157 d 9 h before it came, and ";
    assert!(advice.english().starts_with(said), "{advice}");
    assert!(advice.chinese().contains("1157 天 9 小时"), "{}", advice.chinese());
    let theirs = source("renaren", "demo-manager-key\n");
    let signed = theirs.sign(&request(right), &Signing::at(NOW)).unwrap();
    let old = explain(&recipe, &signed.borrow(), NOW, &[]);
    assert_eq!(old.reason, Some(Reason::Stale));
    assert_eq!(kind(&old), Some(MistakeKind::SecretWhitespace));
}

#[test]
fn another_sender_is_named() {
    let catalog = Catalog::embedded().unwrap();
    let mut tried = 0;
    for (ours, theirs) in catalog.iter().flat_map(|one| catalog.iter().map(move |two| (one, two))) {
        let vector = theirs.vectors.iter().find(|vector| vector.expects("outcome", "accepted"));
        let vector = vector.unwrap();
        let terms = Terms { secrets: vector.terms().secrets, ..terms("x") };
        let Ok(recipe) = Recipe::compile(ours, &terms) else { continue };
        // A source of the other sender would have its names and settings.
        let needs_params = !vector.terms().params.is_empty() || !vector.terms().settings.is_empty();
        if ours.name() == theirs.name() || vector.terms().secrets.is_empty() || needs_params {
            continue;
        }
        let Some(other) = recipe.under(theirs) else { continue };
        let now_ms = vector.now_ms.unwrap_or(NOW);
        let others = [Other { source: theirs.name(), recipe: &other, keys: None }];
        let explanation = explain(&recipe, &vector.request.borrow(), now_ms, &others);
        // A secret that is sent as it is, in a parameter of the same name, is right in both.
        let is_right =
            matches!(recipe.read(vector.request.borrow(), now_ms).verify(), Judgement::Verified(_));
        if is_right {
            continue;
        }
        tried += 1;
        let kind = kind(&explanation);
        // With the same digest and parts, a sender's rule is but a slip in another's.
        let near = explanation.reason == Some(Reason::BadSignature)
            && kind.is_some_and(|kind| kind != MistakeKind::Unknown);
        assert!(
            kind == Some(MistakeKind::OtherSender) || near,
            "{} for {}: {explanation:?}",
            theirs.name(),
            ours.name()
        );
    }
    assert!(tried > 100, "{tried}");
}

#[test]
fn a_callback_for_another_source_is_sent_there() {
    let ours = source("vungle", "secret-of-ours");
    let theirs = source("levelplay", "secret-of-theirs");
    let text = "GET /?userId=u&eventId=e1&rewards=1&timestamp=202401010000";
    let signed = theirs.sign(&request(text), &Signing::at(NOW)).unwrap();
    let others = [Other { source: "ads-ios", recipe: &theirs, keys: None }];
    let explanation = explain(&ours, &signed.borrow(), NOW, &others);
    let mistake = explanation.mistake.unwrap();
    assert_eq!(mistake.kind, MistakeKind::OtherSender);
    assert!(mistake.advice.english().contains("`ads-ios`"), "{}", mistake.advice);
}

#[test]
fn the_second_signature_is_explained_too() {
    let sender = sender("wechat-push");
    let mut terms = terms("gatewaytoken");
    let setting = |key: &str| ("pay_key".to_owned(), Secret::new(key));
    terms.settings.extend([setting("appkey-1-of-ours")]);
    let recipe = Recipe::compile(&sender, &terms).unwrap();
    let pairs: Vec<(String, String)> = [
        ("Event", "minigame_coin_deliver_completed"),
        ("MiniGame.Payload", "{\"OutTradeNo\": \"n1\"}"),
        ("timestamp", "1700000000"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    let composing = crate::sender::Composing::to("/callback/level-end");
    let unsigned = recipe.compose(&pairs, &composing).unwrap();
    let right = recipe.sign(&unsigned, &Signing::at(NOW)).unwrap();
    assert_eq!(explain(&recipe, &right.borrow(), NOW, &[]).verdict, Verification::Verified);

    terms.settings.extend([setting("appkey-1-of-ours\n")]);
    let theirs = Recipe::compile(&sender, &terms).unwrap();
    let signed = theirs.sign(&unsigned, &Signing::at(NOW)).unwrap();
    let explanation = explain(&recipe, &signed.borrow(), NOW, &[]);
    assert_eq!(explanation.parameter.as_deref(), Some("MiniGame.PayEventSig"));
    assert_eq!(kind(&explanation), Some(MistakeKind::SecretWhitespace));
    assert!(explanation.signed_text.unwrap().starts_with("minigame_coin_deliver_completed&"));

    let body = String::from_utf8(right.body.clone()).unwrap();
    let changed = body.replace(r#"{\"OutTradeNo\": \"n1\"}"#, r#"{\"OutTradeNo\":\"n1\"}"#);
    assert_ne!(changed, body);
    let signed = OwnedRequest { body: changed.into(), ..right };
    let mistake = explain(&recipe, &signed.borrow(), NOW, &[]).mistake.unwrap();
    assert_eq!(mistake.kind, MistakeKind::ValueReformatted);
    assert_eq!(mistake.parameter.as_deref(), Some("MiniGame.Payload"));
}

#[test]
fn the_body_may_have_been_signed_by_mistake() {
    let recipe = source("yibeidiao", "FFEEDDCCBBAA99887766554433221100");
    let signed = "K20231114221320S1FFEEDDCCBBAA99887766554433221100{\"a\":1}";
    let digest = own::hex(&own::digest(&["md5".into()], b"", signed.as_bytes()));
    let text =
        format!("POST /\nkey: K\nts: 20231114221320\nseq: S1\nsign: {digest}\n\n{{\"a\":1}}");
    let explanation = explain(&recipe, &request(&text).borrow(), 1_699_971_200_000, &[]);
    let mistake = explanation.mistake.unwrap();
    assert_eq!(mistake.kind, MistakeKind::ExtraParameterSigned);
    assert_eq!(mistake.parameter.as_deref(), Some("body"));
}

#[test]
fn any_live_secret_may_have_been_used_wrongly() {
    let sender = sender("vungle");
    let mut terms = terms("first-secret");
    terms.secrets.push(LiveSecret { id: "2".into(), ..live(b"second-secret") });
    terms.secrets.push(LiveSecret { until_ms: Some(NOW), ..live(b"ended-secret") });
    let recipe = Recipe::compile(&sender, &terms).unwrap();
    let with = |secret: &str| {
        let theirs = source("vungle", secret);
        let signed = theirs.sign(&request("GET /?user=u&txid=t"), &Signing::at(NOW)).unwrap();
        kind(&explain(&recipe, &signed.borrow(), NOW, &[]))
    };
    assert_eq!(with("second-secret"), None);
    assert_eq!(with("second-secret\n"), Some(MistakeKind::SecretWhitespace));
    assert_eq!(with("SECOND-SECRET"), Some(MistakeKind::SecretEncoding));
    assert_eq!(with("ended-secret\n"), Some(MistakeKind::Unknown));
}

#[test]
fn two_common_mistakes_at_once() {
    let recipe = source("imur-http", "s3cr3t-of-ours");
    // All of the query, raw, as the sender's own PHP sample has it.
    let wire = "aid=a1&effective=true&sid=s1&timestamp=1700000000&uid=a%20b";
    let text = format!("appSecrets3cr3t-of-ours{}", wire.replace(['=', '&'], ""));
    let text = text.replace("appSecrets3cr3t-of-ours", "");
    let text = text.replacen("aida1", "aida1appSecrets3cr3t-of-ours", 1);
    let digest = own::hex(&own::digest(&["md5".into()], b"", text.as_bytes()));
    let explanation = said(&recipe, &format!("GET /?{wire}&sign={digest}"), &[]);
    let mistake = explanation.mistake.unwrap();
    assert_eq!(mistake.kind, MistakeKind::RawValues);
    assert!(mistake.advice.english().contains("every parameter was signed"), "{}", mistake.advice);
}

#[test]
fn secrets_that_a_callback_brings_are_not_shown() {
    let recipe = source("taku", "cyvmwmzrqts7csphhexpqxqxxgljfisb");
    let text = "GET /?trans_id=cyvmwmzrqts7csphhexpqxqxxgljfisb&placement_id=p&adsource_id=1\
                &reward_amount=1&reward_name=xCYVMWMZRQTS7csphhexpqxqxxgljfisb&sign=00";
    let explanation = said(&recipe, text, &[]);
    let told = serde_json::to_string(&explanation).unwrap().to_ascii_lowercase();
    assert!(!told.contains("cyvmwmzrqts7"), "{told}");
    assert_eq!(
        explanation.signed_text.as_deref(),
        Some(
            "trans_id=***&placement_id=p&adsource_id=1&reward_amount=1&reward_name=x***\
             &sec_key=***"
        ),
    );
}

#[test]
fn a_secret_that_is_an_english_word_leaves_no_hole_in_our_own_sentences() {
    let recipe = source("taku", "another");
    let text = "GET /?trans_id=t&placement_id=p&adsource_id=1&reward_amount=1&reward_name=another\
                &sign=00000000000000000000000000000000";
    let explanation = said(&recipe, text, &[]);
    assert_eq!(explanation.mistake, Some(Mistake::unknown()));
    assert!(explanation.signed_text.unwrap().contains("reward_name=***&"));
}

#[test]
fn a_large_callback_is_explained_within_bounds() {
    let recipe = source("stripe", "whsec_test_of_ours");
    let mut large = request("POST /\nStripe-Signature: t=1700000000,v1=00\n\n");
    large.body = format!("{{\"id\":\"{}\"}}", "x".repeat(1 << 20)).into();
    let explanation = explain(&recipe, &large.borrow(), NOW, &[]);
    assert_eq!(explanation.mistake, Some(Mistake::unsearched()));
    assert!(explanation.signed_text.unwrap().chars().count() <= 4097);
    let recipe = source("unity-ads", "xyzKEY");
    let many: String = (0..150).map(|index| format!("p{index:03}=v{index}%20+&")).collect();
    let explanation = said(&recipe, &format!("GET /?oid=1&sid=s&{many}hmac=00"), &[]);
    assert_eq!(kind(&explanation), Some(MistakeKind::Unknown));
    // Long values: each text that is tried costs its bytes, and what was not tried is said.
    let long = "%61+".repeat(300);
    let many: String = (0..50).map(|index| format!("p{index:02}={long}&")).collect();
    let explanation = said(&recipe, &format!("GET /?oid=1&sid=s&{many}hmac=00"), &[]);
    assert_eq!(explanation.mistake, Some(Mistake::unfinished()));
}

#[test]
fn a_search_ends_with_its_time() {
    let recipe = source("taku", "a-secret");
    let right = "GET /?trans_id=t&placement_id=p&adsource_id=1&reward_amount=1&reward_name=c";
    let signed = recipe.sign(&request(right), &Signing::at(NOW)).unwrap();
    let ours = source("taku", "a-secret\n");
    let told = |deadline| {
        let around = Around { deadline, ..Around::default() };
        explain_under(&ours, None, &signed.borrow(), NOW, around).mistake
    };
    assert_eq!(told(None).map(|mistake| mistake.kind), Some(MistakeKind::SecretWhitespace));
    let over = Deadline { at: clock::instant(), clock: clock::instant };
    assert_eq!(told(Some(over)), Some(Mistake::unfinished()));
}

#[test]
fn the_text_taken_apart_is_the_text_that_is_signed() {
    for scene in scenes() {
        let callback = scene.recipe.read(scene.request.borrow(), scene.now_ms);
        let cases = Case::all(&callback);
        let budget = &mut Budget::default();
        assert!(cases.iter().any(|case| case.matches(&case.draft, budget)), "{}", scene.about);
        let text = scene.own.text(&scene.secret);
        let same = |case: &Case<'_>| case.draft.written(&scene.secret).as_ref() == Some(&text);
        assert!(cases.iter().any(same), "{}", scene.about);
    }
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(24))]

    #[test]
    fn anything_is_explained_and_tells_nothing(
        query in "[a-z_=&%+{}0-9]{0,60}",
        body in "\\PC{0,40}",
    ) {
        let catalog = Catalog::embedded().unwrap();
        for sender in catalog.iter() {
            let secret = "whsec_c2VjcmV0LW9mLW91cnM=";
            let Ok(recipe) = Recipe::compile(sender, &terms(secret)) else { continue };
            for method in ["GET", "POST"] {
                let mut request = request(&format!("{method} /?{query}"));
                request.body = body.clone().into();
                let told = explain(&recipe, &request.borrow(), NOW, &[]);
                proptest::prop_assert!(!serde_json::to_string(&told).unwrap().contains(secret));
            }
        }
    }
}

/// The vector of `sender` with that `about`, under changed settings.
fn told(sender: &str, about: &str, change: impl FnOnce(&mut Terms)) -> Option<Mistake> {
    let sender = self::sender(sender);
    let vector = sender.vectors.iter().find(|vector| vector.about == about).unwrap();
    let mut terms = vector.terms();
    change(&mut terms);
    let recipe = Recipe::compile(&sender, &terms).unwrap();
    explain(&recipe, &vector.request.borrow(), NOW, &[]).mistake
}

#[test]
fn a_message_that_does_not_open_is_told_from_one_for_another_app() {
    let key = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    for (sender, about, setting) in [
        ("wechat-push", "own; a message in secure mode", "app_id"),
        ("wecom", "del zhang", "corp_id"),
        ("dingtalk", "own; an event, answered sealed and signed", "app_key"),
    ] {
        let wrong_key = |terms: &mut Terms| {
            terms.settings.insert("aes_key".into(), Secret::new(key));
        };
        let mistake = told(sender, about, wrong_key).unwrap();
        assert_eq!(mistake.kind, MistakeKind::SealingKey, "{sender}");
        assert_eq!(mistake.parameter.as_deref(), Some("aes_key"));
        let wrong_id = |terms: &mut Terms| {
            terms.settings.insert(setting.into(), Secret::new("wx-other"));
        };
        let mistake = told(sender, about, wrong_id).unwrap();
        assert_eq!(mistake.kind, MistakeKind::SealedForAnother, "{sender}");
        assert_eq!(mistake.parameter.as_deref(), Some(setting));
    }
    let mistake = told("wecom", "GET other key", |_| {}).unwrap();
    assert_eq!(mistake.kind, MistakeKind::SealingKey);
}

#[test]
fn a_form_where_json_is_read_names_the_content_type() {
    let recipe = source("shopify", "shpss_1");
    let text = "POST /\nX-Shopify-Event-Id: d-1\n\npayload=%7B%22zen%22%3A%22x%22%7D";
    let signing = crate::sender::Signing::at(NOW);
    let signed = recipe.sign(&request(text), &signing).unwrap();
    let explanation = explain(&recipe, &signed.borrow(), NOW, &[]);
    assert_eq!(kind(&explanation), Some(MistakeKind::ContentType));
    assert!(explanation.mistake.unwrap().advice.english().contains("application/json"));
}
