//! Mistakes that people really made: further ones for every sender, and cases with their answer.

use std::sync::Arc;

use super::own;
use super::scene::{Scene, Slip, live};
use super::*;
use crate::sender::acts::explain::renamed;

/// Mistakes in the secret, in what is signed and on the way, made with `scene`.
pub(super) fn all(scene: &Scene) -> Vec<Slip> {
    let makers: [fn(&Scene) -> Vec<Slip>; 7] =
        [quoted, ended, twice_encoded, on_the_way, exchanged, renamed_names, elsewhere];
    let mut slips: Vec<Slip> = makers.iter().flat_map(|make| make(scene)).collect();
    slips.extend(key_as_text(scene));
    if scene.own.with == ["equal"] {
        // Whatever is sent in place of a bare secret is another writing of it.
        let bare = [MistakeKind::SecretEncoding, MistakeKind::OtherEncoding];
        slips.iter_mut().for_each(|slip| slip.or.extend(bare));
    }
    slips
}

fn quoted(scene: &Scene) -> Vec<Slip> {
    let mut slips = Vec::new();
    let secret = String::from_utf8(scene.secret.clone()).unwrap();
    for (start, end) in [("\"", "\""), ("'", "'"), ("\u{feff}", "")] {
        let theirs = format!("{start}{secret}{end}");
        if let Some(supplied) = scene.own.supplied(theirs.as_bytes()) {
            slips.push(scene.slip(MistakeKind::SecretQuoted, None, &theirs, &supplied));
        }
        if let Some(ours) = scene.with_secret(&theirs)
            && let Some(supplied) = scene.own.supplied(&scene.secret)
        {
            let about = format!("ours is {theirs:?}");
            slips.push(ours.slip(MistakeKind::SecretQuoted, None, &about, &supplied));
        }
    }
    slips
}

fn ended(scene: &Scene) -> Vec<Slip> {
    let mut slip = scene.slip(MistakeKind::EndedSecret, None, "ended", &scene.supplied);
    let old = LiveSecret { id: "old".into(), until_ms: Some(scene.now_ms), ..live(&scene.secret) };
    let mut terms = scene.terms.clone();
    terms.secrets = vec![live(b"whsec_bmV3IHNlY3JldCBvZiBvdXJz"), old];
    let Ok(recipe) = Recipe::compile(&scene.sender, &terms) else { return Vec::new() };
    slip.recipe = Arc::new(recipe);
    slip.right = String::from("the signature is right, but for the secret");
    vec![slip]
}

fn says(scene: &Scene, name: &str, text: &[u8]) -> own::Own {
    scene.changed(|own| {
        for part in own.parts.iter_mut().filter(|part| part.name.as_deref() == Some(name)) {
            part.text = text.to_vec();
        }
    })
}

fn twice_encoded(scene: &Scene) -> Vec<Slip> {
    let mut slips = Vec::new();
    for name in scene.free() {
        let Some(with) = in_query(scene, &name, "x%20y%2Fz") else { continue };
        let once = if with.own.each == "form" { "x+y%2Fz" } else { "x%20y%2Fz" };
        let twice = own::form(once.as_bytes());
        let about = "encoded twice";
        let own = says(&with, &name, &twice);
        slips.extend(with.signed(MistakeKind::EncodedTwice, Some(&name), about, &own));
    }
    slips
}

fn in_query(scene: &Scene, name: &str, raw: &str) -> Option<Scene> {
    let is_there = scene.request.target.contains(&b'=');
    scene.with_value(name, raw).filter(|_| is_there)
}

/// `+` signed, and a proxy made a space of it.
fn on_the_way(scene: &Scene) -> Vec<Slip> {
    let mut slips = Vec::new();
    for name in scene.free() {
        let Some(with) = in_query(scene, &name, "x%20y") else { continue };
        let own = says(&with, &name, &with.own.encoded(b"x+y"));
        slips.extend(with.signed(MistakeKind::PlusAsBlank, Some(&name), "on the way", &own));
    }
    slips
}

/// The value of one parameter in the place of another.
fn exchanged(scene: &Scene) -> Vec<Slip> {
    let mut slips = Vec::new();
    let named: Vec<_> = scene.own.parts.iter().filter(|part| part.name.is_some()).collect();
    for (at, part) in named.iter().enumerate() {
        let Some(other) = named.get(at + 1).or(named.first()) else { continue };
        let is_whole = |part: &own::Part| {
            let name = part.name.as_deref();
            matches!(name, Some("url" | "query" | "body" | "method" | "path"))
                || name.is_some_and(|name| scene.own.setting(name).is_some())
                || part.name.as_deref().is_some_and(|name| name.contains(['.', '[']))
        };
        let differs = part.text != other.text && !other.text.is_empty() && !part.text.is_empty();
        if !differs || is_whole(part) || is_whole(other) {
            continue;
        }
        let name = part.name.as_deref().unwrap();
        let own = says(scene, name, &other.text);
        let about = format!("{:?} in place of {name}", other.name);
        slips.extend(scene.signed(MistakeKind::OtherParameter, Some(name), &about, &own));
    }
    slips
}

/// A name of the publisher's own, where names are not signed.
fn renamed_names(scene: &Scene) -> Vec<Slip> {
    let mut slips = Vec::new();
    for part in scene.own.parts.iter().filter(|part| part.label.is_empty()) {
        let Some(name) = part.name.as_deref().filter(|_| !part.text.is_empty()) else { continue };
        let target = String::from_utf8(scene.request.target.clone()).unwrap();
        let Some(mark) = ["?", "&"].iter().find(|mark| target.contains(&format!("{mark}{name}=")))
        else {
            continue;
        };
        let renamed = target.replace(&format!("{mark}{name}="), &format!("{mark}own_{name}="));
        let mut slip = scene.slip(
            MistakeKind::RenamedParameter,
            None,
            &format!("own_{name}"),
            &scene.supplied,
        );
        slip.request.target = renamed.into_bytes();
        slip.right = String::from("the signature is right, but for the name");
        slips.push(slip);
    }
    slips
}

/// Signed for another host, or with a slash behind the path, or without it.
fn elsewhere(scene: &Scene) -> Vec<Slip> {
    let mut slips = Vec::new();
    if !scene.sender.text.contains("[url") || scene.request.base.is_empty() {
        return slips;
    }
    let mut moved = scene.slip(MistakeKind::OtherUrl, None, "another host", &scene.supplied);
    let host = scene.request.base.split_once("://").unwrap().1;
    moved.request.headers.insert("host", host.parse().unwrap());
    moved.request.base = "https://gateway.internal".into();
    moved.right = String::from("the signature is right for that host");
    slips.push(moved);
    for base in ["http://", "https://"].map(|scheme| format!("{scheme}{host}")) {
        let mut other = scene.clone();
        other.request.base = base.clone();
        if let Some(other) = other.reread().filter(|_| base != scene.request.base) {
            slips.push(scene.slip(MistakeKind::OtherUrl, None, "scheme", &other.supplied));
        }
    }
    let mut slashed = scene.clone();
    let target = String::from_utf8(scene.request.target.clone()).unwrap();
    slashed.request.target = target.replacen('?', "/?", 1).into_bytes();
    if let Some(slashed) = slashed.reread() {
        slips.push(scene.slip(MistakeKind::OtherUrl, None, "a slash", &slashed.supplied));
    }
    slips
}

fn key_as_text(scene: &Scene) -> Option<Slip> {
    let key = scene.own.key_of(&scene.secret).filter(|_| scene.own.is_keyed())?;
    let text = scene.own.text(&scene.secret);
    let supplied = scene.own.written(&own::digest(&scene.own.with, &text, &key));
    Some(scene.slip(MistakeKind::KeyAsText, None, "exchanged", &supplied))
}

// ---- cases ----

fn told(sender: &str, secret: &str, text: &str) -> Explanation {
    let recipe = Recipe::compile(&super::sender(sender), &terms(secret)).unwrap();
    explain(&recipe, &request(text).borrow(), NOW, &[])
}

fn kinds(explanation: &Explanation) -> Vec<MistakeKind> {
    explanation.mistake.iter().chain(&explanation.alternatives).map(|one| one.kind).collect()
}

fn keyed(sender: &str) -> Recipe {
    let key = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEQTmbMfZwV8s4Jrp/yZvG/3yq+5Bb5VqaJmGSb6zTo0x4+gW33ImY2qOEvky1NIRktbojGzZepizikWWgBBzlJg==";
    let mut terms = Terms { source: "admob".into(), ..Terms::default() };
    terms.keys.insert("1001".into(), key.into());
    Recipe::compile(&super::sender(sender), &terms).unwrap()
}

#[test]
fn wrong_mistakes_are_not_named() {
    let text = "GET /callback/max-all?eid=1bb0ac2f15afca0b89a5ff04983d34af78b1d1f3&amount=10&uid=u1\
                &event_token_all=ea97ecc76b923c6b81b9e76172ec09252ba0dddef793e33af2027ad8dccb10c0";
    let max = told("applovin", "max-event-key-0002", text);
    assert_eq!(kinds(&max), [MistakeKind::RenamedParameter], "{max:?}");
    let advice = max.mistake.unwrap().advice.english().to_owned();
    assert!(advice.contains("`event_id`") && advice.contains("event_id = \"eid\""), "{advice}");
    assert!(advice.contains("user_id = \"uid\""), "{advice}");

    let text = "GET /callback/pubscale?user_id=u1&value=10.5&token=ps-50&signature=1f7254327cf39d89dde32493f9184b6f";
    let pubscale = told("pubscale", "pubscale-secret", text);
    assert_eq!(kinds(&pubscale), [MistakeKind::ValueReformatted], "{pubscale:?}");
    assert_eq!(pubscale.mistake.unwrap().parameter.as_deref(), Some("value"));
}

#[test]
fn usual_mistakes_are_found() {
    let unity =
        "GET /callback/unity?oid=7007&productid=1&sid=u&hmac=bbce9ce3471c9b227d376e006fbcef76";
    assert_eq!(kinds(&told("unity-ads", "unity-secret-1", unity)), [MistakeKind::KeyAsText]);

    let tapjoy = "GET /callback/tapjoy?snuid=u1&currency=25&id=q-1&verifier=619302342ee011fbb4904b1f4b3fb465";
    for secret in ["\"tapjoy-vc-secret\"", "\u{feff}tapjoy-vc-secret", "'tapjoy-vc-secret' "] {
        let told = told("tapjoy", secret, tapjoy);
        assert_eq!(kinds(&told), [MistakeKind::SecretQuoted], "{secret}");
        assert!(told.mistake.unwrap().advice.english().starts_with("The configured secret"));
    }

    let bitlabs = |hash: &str| {
        let url = "https://cb.example.com/callback/bitlabs?uid=u1&val=1&tx=s-7&type=COMPLETE&ref=";
        told("bitlabs", "bitlabs-app-secret", &format!("GET {url}&hash={hash}"))
    };
    let slash = bitlabs("e4ba8bf335c27b9035efcddbc9006d420a362121");
    assert_eq!(kinds(&slash), [MistakeKind::OtherUrl], "{slash:?}");
    assert!(slash.mistake.unwrap().advice.english().contains("slash behind its path"));
    let alone = bitlabs("cc1a87100b647009865c0ab37da78d3479610db7");
    assert_eq!(kinds(&alone), [MistakeKind::OtherUrl], "{alone:?}");
    assert!(alone.mistake.unwrap().advice.english().contains("the query alone"));

    let ayet = "GET /callback/ayet?transaction_id=ay-4&external_identifier=u%201&currency_amount=10\n\
                X-Ayetstudios-Security-Hash: c9f21141f9a45ac6cd63495e585852c67a3ececcb4f9f38f17b42a8e723e6be5";
    let twice = told("ayet", "ayet-api-key", ayet);
    // A proxy that takes a plus sign for a space makes the same of `u+1`.
    assert_eq!(kinds(&twice), [MistakeKind::EncodedTwice, MistakeKind::PlusAsBlank], "{twice:?}");

    let cpx = "GET /callback/cpx?status=1&trans_id=cp-4&user_id=u1&amount_local=1&hash=c486004afb9e1279dfdb44a7ba814bf6";
    let other = told("cpx", "cpx-secure-hash", cpx);
    assert_eq!(kinds(&other), [MistakeKind::OtherParameter], "{other:?}");
    assert!(
        other
            .mistake
            .unwrap()
            .advice
            .english()
            .contains("`user_id` was signed in the place of `trans_id`")
    );

    let adgem = "GET https://cb.example.com/callback/adgem?player_id=u1&amount=1&transaction_id=ag-4\
                 &verifier=5c4b522a959cbfbcb5bdca4d3b2449378415664cff911f933c8a805686d1c56c";
    let left = told("adgem", "adgem-key", adgem);
    assert_eq!(kinds(&left), [MistakeKind::ExtraParameterSigned], "{left:?}");
    assert_eq!(left.mistake.unwrap().parameter.as_deref(), Some("verifier"));
}

#[test]
fn admob_is_told_what_is_missing_and_what_a_proxy_did() {
    let recipe = keyed("admob");
    let told = |text: &str| explain(&recipe, &request(text).borrow(), NOW, &[]);
    let plus = told(
        "GET /callback/admob?ad_network=5450213213286189855&ad_unit=1234567890&reward_amount=1\
         &reward_item=Reward&timestamp=1784000000000&transaction_id=0a16&user_id=user%2042\
         &signature=MEUCIEza9NtDj1SF6AZcw9cwrSjOZK9-vm3NczDnx9l43L-eAiEAqpaoua34X-Qzm64x9yXEZi4QyCzB-qbn5SXlrY63-Eo\
         &key_id=1001",
    );
    let first = plus.mistake.clone().unwrap();
    assert_eq!(
        (first.kind, first.parameter.as_deref()),
        (MistakeKind::PlusAsBlank, Some("user_id"))
    );
    assert!(
        kinds(&plus).contains(&MistakeKind::RawValues),
        "form-encoding makes the same: {plus:?}"
    );

    let bare = told(
        "GET /callback/admob?ad_network=5450213213286189855\
         &signature=MEUCIEza9NtDj1SF6AZcw9cwrSjOZK9-vm3NczDnx9l43L-eAiEAqpaoua34X-Qzm64x9yXEZi4QyCzB-qbn5SXlrY63-Eo\
         &key_id=1001",
    );
    let missing = bare.mistake.unwrap();
    assert_eq!(missing.kind, MistakeKind::MissingParameters);
    for name in ["`timestamp`", "`transaction_id`", "`ad_unit`"] {
        assert!(missing.advice.english().contains(name), "{}", missing.advice);
    }
}

#[test]
fn an_ad_unit_of_somebody_else_is_named() {
    let sender = super::sender("admob");
    let vector = sender.vectors.iter().find(|vector| vector.expects("reason", "not_ours")).unwrap();
    let recipe = Recipe::compile(&sender, &vector.terms()).unwrap();
    let told = explain(&recipe, &vector.request.borrow(), NOW, &[]);
    let mistake = told.mistake.unwrap();
    assert_eq!(mistake.kind, MistakeKind::NotListed);
    assert!(mistake.advice.english().contains("`ad_units`"), "{}", mistake.advice);
}

#[test]
fn the_address_that_was_seen_is_tried_besides_the_gateways() {
    let recipe = source("bitlabs", "bitlabs-app-secret");
    let signing = Signing { base: "https://old.example.com", ..Signing::at(NOW) };
    let unsigned =
        request("GET https://old.example.com/callback/b?uid=u&val=1&tx=t&type=COMPLETE&ref=");
    let signed = recipe.sign(&unsigned, &signing).unwrap();
    let mut at_gateway = signed.clone();
    at_gateway.base = "https://cb.example.com".into();
    let around = Around { bases: &["https://old.example.com"], ..Around::default() };
    let told = explain_under(&recipe, None, &at_gateway.borrow(), NOW, around);
    assert_eq!(kinds(&told), [MistakeKind::OtherUrl]);
    assert!(told.mistake.unwrap().advice.english().contains("https://old.example.com/callback/b"));
}

#[test]
fn names_are_exchanged_only_where_the_signature_says_so() {
    let recipe = Arc::new(source("vungle", "k1"));
    let wrong = request("GET /?user=u1&tx=tx-1&digest=00");
    let callback = recipe.read(wrong.borrow(), NOW);
    assert!(renamed::names(&callback, &mut Budget::default()).is_none());
}

#[test]
fn a_secret_that_was_not_decoded_is_to_be_decoded() {
    let text_of_key = super::own::base64(b"0123456789abcdef01234567");
    let secret = format!("whsec_{text_of_key}");
    for key in [&secret, &text_of_key] {
        let signed = b"msg_1.1700000000.{}";
        let digest = super::own::digest(&["hmac_sha256".into()], key.as_bytes(), signed);
        let signature = super::own::base64(&digest);
        let text = format!(
            "POST /\nwebhook-id: msg_1\nwebhook-timestamp: 1700000000\n\
             webhook-signature: v1,{signature}\n\n{{}}"
        );
        let told =
            explain(&source("standard-webhooks", &secret), &request(&text).borrow(), NOW, &[]);
        // No other digest besides: the rule's own was made.
        assert_eq!(kinds(&told), [MistakeKind::SecretEncoding], "{told:?}");
        let advice = told.mistake.unwrap().advice;
        assert!(advice.english().contains("base64-decode what follows `whsec_`"), "{advice}");
        assert!(advice.chinese().contains("`whsec_`"), "{}", advice.chinese());
    }
}
