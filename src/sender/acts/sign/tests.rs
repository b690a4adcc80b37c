//! Signed callbacks verify, for every sender.

use std::sync::Arc;

use super::*;
use crate::sender::language::vector::Vector;
use crate::sender::request::callback::Judgement;
use crate::sender::{Catalog, LiveSecret, Resolution, Role, Secret, Sender, Terms};

fn now(vector: &Vector) -> i64 {
    vector.now_ms.unwrap_or(1_700_000_000_000)
}

/// Every vector that verifies under a secret, with its recipe.
fn each_signed(mut check: impl FnMut(&Arc<Sender>, &Vector, &Recipe)) {
    let catalog = Catalog::embedded().unwrap();
    for sender in catalog.iter() {
        for vector in &sender.vectors {
            let recipe = Recipe::compile(sender, &vector.terms()).unwrap();
            let signed = !recipe.secrets.is_empty() && !recipe.variants.is_empty();
            if signed && matched(&recipe, &vector.request, now(vector)).is_some() {
                check(sender, vector, &recipe);
            }
        }
    }
}

/// The variant and secret that match, and the supplied signatures that came.
fn matched(recipe: &Recipe, request: &OwnedRequest, now_ms: i64) -> Option<Came> {
    let mut callback = recipe.read(request.borrow(), now_ms);
    let Judgement::Verified(verified) = callback.verify() else { return None };
    let callback = &*verified.callback;
    let found = callback.matched.clone()?;
    let variant = &recipe.variants[found.variant?];
    if variant.public.is_some() {
        return None; // made with an unknown key
    }
    // An opened message hides what stands outside of it.
    let signatures = signatures(&recipe.read(request.borrow(), now_ms), variant);
    Some(Came { variant: variant.index, secret: found.secret?, signatures })
}

struct Came {
    variant: usize,
    secret: usize,
    signatures: Vec<String>,
}

fn signatures(callback: &Callback<'_>, variant: &SignatureVariant) -> Vec<String> {
    let context =
        Context { plus: crate::sender::request::encoding::Plus::Kept, ..Context::default() };
    let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if let Input::List { list, item } = &variant.supplied.input {
        let text = callback.list_text(*list, &context).unwrap().unwrap();
        let shape = &callback.recipe.sender.lists[*list].shape;
        return shape.values(&text, item, 4).map(shown).collect();
    }
    callback
        .value(&variant.supplied, &context)
        .unwrap()
        .iter()
        .map(|signature| shown(signature))
        .collect()
}

/// The request without the supplied signature of the variant at `index`.
fn stripped(recipe: &Recipe, request: &OwnedRequest, index: usize) -> OwnedRequest {
    let variant = recipe.variants.iter().find(|variant| variant.index == index).unwrap();
    let mut bare = request.clone();
    match &variant.supplied.input {
        Input::Parameter { slot, steps, .. } if !steps.is_empty() => {
            let name = std::str::from_utf8(recipe.names.name(*slot)).unwrap();
            let path: Vec<&str> =
                [name].into_iter().chain(steps.iter().map(|step| &**step)).collect();
            bare.body = edit::put_json(&bare.body, &path, "").unwrap();
        }
        Input::Parameter { slot, .. } => {
            let name = recipe.names.name(*slot);
            let (query, _) = edit::split_pairs(edit::query(&request.target), |one| one == name);
            bare.target = edit::with_query(&request.target, &query);
            let json = edit::split_json(&request.body, |one| one.as_bytes() == name);
            bare.body = match json {
                Some((body, _)) => body,
                None => edit::split_pairs(&request.body, |one| one == name).0,
            };
        }
        Input::Header(name) => {
            bare.headers.remove(name);
        }
        Input::List { list, item } => {
            let [Piece::Value(Bound { input: Input::Header(name), .. })] =
                recipe.lists[*list].pieces.as_slice()
            else {
                panic!("a list elsewhere than in a header");
            };
            let shape = &recipe.sender.lists[*list].shape;
            let callback = recipe.read(request.borrow(), 0);
            let name = callback.header_name(name);
            let text = request.headers[name].to_str().unwrap();
            let between = std::str::from_utf8(&shape.between).unwrap();
            let item = std::str::from_utf8(item).unwrap();
            let kept: Vec<_> = text.split(between).filter(|pair| !pair.starts_with(item)).collect();
            bare.headers.insert(name.clone(), kept.join(between).parse().unwrap());
        }
        input => panic!("a signature in {input:?}"),
    }
    bare
}

#[test]
fn the_signature_of_every_vector_is_reproduced() {
    let mut made = 0;
    each_signed(|sender, vector, recipe| {
        let about = format!("{}: {}", sender.name(), vector.about);
        let came = matched(recipe, &vector.request, now(vector)).unwrap();
        let signing = Signing {
            secret: Some(came.secret),
            variant: Some(came.variant),
            ..Signing::at(now(vector))
        };
        let mut bare = stripped(recipe, &vector.request, came.variant);
        assert_ne!(bare, vector.request, "{about}");
        // A callback may have two supplied signatures.
        while let Some(other) = matched(recipe, &bare, now(vector)) {
            let without = stripped(recipe, &bare, other.variant);
            assert_ne!(bare, without, "{about}");
            bare = without;
        }
        // Absent, and there to be replaced.
        for request in [&bare, &vector.request] {
            let signed = recipe.sign(request, &signing).unwrap_or_else(|f| panic!("{about}: {f}"));
            let again = matched(recipe, &signed, now(vector));
            let again = again.unwrap_or_else(|| panic!("{about}: {signed:?}"));
            let same = came
                .signatures
                .iter()
                .any(|signature| signature.eq_ignore_ascii_case(&again.signatures[0]));
            assert!(same, "{about}: {:?}, not {:?}", again.signatures, came.signatures);
            made += 1;
        }
    });
    assert!(made >= 40, "{made} made");
}

#[test]
fn without_a_choice_the_first_variant_that_applies_is_signed() {
    each_signed(|sender, vector, recipe| {
        let came = matched(recipe, &vector.request, now(vector)).unwrap();
        if recipe.open.as_ref().is_some_and(|opener| opener.keys.len() > 1) {
            return; // it is sealed with one secret, and would be signed with another
        }
        let bare = stripped(recipe, &vector.request, came.variant);
        let signed = recipe.sign(&bare, &Signing::at(now(vector))).unwrap();
        let again = matched(recipe, &signed, now(vector));
        assert!(again.is_some(), "{}: {}: {signed:?}", sender.name(), vector.about);
    });
}

#[test]
fn a_sealed_message_is_sealed_again() {
    let mut sealed = 0;
    each_signed(|sender, vector, recipe| {
        let Some(opener) = &recipe.open else { return };
        let mut callback = recipe.read(vector.request.borrow(), now(vector));
        let Judgement::Verified(verified) = callback.verify() else { return };
        let Some(opened) = &verified.callback.opened else { return };
        if vector.expects("outcome", "challenge") {
            return;
        }
        let message = opened.message.clone();
        let name = String::from_utf8_lossy(recipe.names.name(opener.slot.unwrap())).into_owned();
        let mut plain = vector.request.clone();
        let (query, _) =
            edit::split_pairs(edit::query(&plain.target), |one| one == name.as_bytes());
        plain.target = edit::with_query(&plain.target, &query);
        plain.body = message.clone();
        plain.method = http::Method::POST;
        let secret = verified.callback.matched.as_ref().and_then(|matched| matched.secret);
        let signed = recipe.sign(&plain, &Signing { secret, ..Signing::at(now(vector)) }).unwrap();
        let mut callback = recipe.read(signed.borrow(), now(vector));
        let Judgement::Verified(verified) = callback.verify() else {
            panic!("{}: {}: {signed:?}", sender.name(), vector.about);
        };
        assert_eq!(verified.callback.opened.as_ref().unwrap().message, message);
        let xml = message.first() == Some(&b'<');
        assert_eq!(signed.body.first() == Some(&b'<'), xml, "as the message was written");
        sealed += 1;
    });
    assert!(sealed >= 3, "{sealed} sealed");
}

/// A source of `sender` as its first accepted vector has it.
fn source(sender: &Arc<Sender>) -> Recipe {
    let vector =
        sender.vectors.iter().find(|vector| vector.expects("outcome", "accepted")).unwrap();
    Recipe::compile(sender, &vector.terms()).unwrap()
}

/// A composed request: a value for each role that is one parameter, and for each required name.
fn composed(recipe: &Recipe, given: &[(&str, &str)], method: Option<http::Method>) -> OwnedRequest {
    let mut pairs: Vec<(String, String)> =
        given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let composing = Composing { method, ..Composing::to("/callback/level-end") };
    for _ in 0..3 {
        match recipe.compose(&pairs, &composing) {
            Ok(request) => return request,
            Err(fault) => {
                assert_eq!(fault.what, "is missing", "{fault}");
                pairs.extend(
                    fault.key.split(", ").map(|name| (name.to_owned(), format!("{}1", &name[..1]))),
                );
            }
        }
    }
    panic!("{}: {pairs:?}", recipe.sender.name());
}

fn transaction(recipe: &Recipe, request: &OwnedRequest, now_ms: i64) -> String {
    let mut callback = recipe.read(request.borrow(), now_ms);
    match callback.verify() {
        Judgement::Verified(mut verified) => match verified.resolve("evt") {
            Resolution::Event(resolved) => resolved.role(Role::Transaction).unwrap().to_owned(),
            other => format!("{other:?}"),
        },
        other => format!("{other:?}"),
    }
}

const NOW: i64 = 1_700_000_000_000;

#[test]
fn every_sender_can_be_composed_from_roles() {
    let catalog = Catalog::embedded().unwrap();
    for sender in catalog.iter() {
        let recipe = source(sender);
        if recipe.signable().is_err() {
            continue;
        }
        let mut given = Vec::new();
        for (role, texts) in recipe.roles.texts.iter() {
            let single = texts.iter().any(|text| {
                let came =
                    |spot: &Bound| matches!(spot.input, Input::Parameter { .. } | Input::Header(_));
                let written = |spot: &Bound| !spot.modifiers.iter().any(Modifier::is_one_way);
                text.of.spots().count() == 1
                    && text.of.spots().all(|spot| came(spot) && written(spot))
            });
            if single {
                given.push((role.as_str(), "5"));
            }
        }
        let request = composed(&recipe, &given, None);
        assert!(request.target.starts_with(b"/callback/level-end"), "{request:?}");
        let signed = recipe.sign(&request, &Signing::at(NOW)).unwrap();
        let transaction = transaction(&recipe, &signed, NOW);
        let shown = String::from_utf8_lossy(&signed.target).into_owned();
        let name = sender.name();
        println!("{name}: {transaction}: {} {shown} {:?}", signed.method, signed.headers);
        assert!(!transaction.contains("Refus"), "{name}: {transaction}: {signed:?}");
        assert!(given.iter().all(|(role, _)| *role != "transaction") || transaction.contains('5'));
    }
}

#[test]
fn a_digest_names_no_parameter_and_roles_of_kinds_do() {
    let catalog = Catalog::embedded().unwrap();
    let recipe = source(catalog.get("douyin-trade").unwrap());
    let given = [("transaction", "t-7"), ("amount", "3"), ("msg.status", "SUCCESS")];
    let request = composed(&recipe, &given, None);
    let signed = recipe.sign(&request, &Signing::at(NOW)).unwrap();
    assert_eq!(transaction(&recipe, &signed, NOW), "t-7");
}

#[test]
fn roles_of_several_parts_are_taken_apart() {
    let catalog = Catalog::embedded().unwrap();
    let recipe = source(catalog.get("imur-http").unwrap());
    let given = [("transaction", "s1:a1"), ("user", "u 1")];
    let request = composed(&recipe, &given, None);
    let signed = recipe.sign(&request, &Signing::at(NOW)).unwrap();
    assert_eq!(transaction(&recipe, &signed, NOW), "s1:a1");
    assert!(signed.target.windows(9).any(|part| part == b"uid=u%201"));
    let pairs = [("transaction".to_owned(), "only one part".to_owned())];
    let fault = recipe.compose(&pairs, &Composing::to("/callback/x")).unwrap_err();
    assert!(fault.remedy.contains("sid"), "{fault}");
}

#[test]
fn what_is_lacking_is_named_under_the_names_of_the_source() {
    let catalog = Catalog::embedded().unwrap();
    let sender = catalog.get("taku").unwrap();
    let mut terms = Terms { source: "s".into(), ..Terms::default() };
    terms.secrets.push(LiveSecret { id: "1".into(), value: Secret::new("k"), until_ms: None });
    terms.params.insert("placement_id".into(), "pid".into());
    let recipe = Recipe::compile(sender, &terms).unwrap();
    let given = [("transaction", "t"), ("amount", "1"), ("item", "coin"), ("adsource_id", "9")];
    let mut given: Vec<_> = given.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    let composing = Composing::to("/callback/s");
    let fault = recipe.compose(&given, &composing).unwrap_err();
    assert_eq!(fault.key, "pid");
    given.push(("placement_id".into(), "b5".into()));
    let request = recipe.compose(&given, &composing).unwrap();
    assert!(String::from_utf8_lossy(&request.target).contains("pid=b5"));
    given.push(("pid".into(), "b6".into()));
    assert_eq!(recipe.compose(&given, &composing).unwrap_err().what, "is given twice");
}

#[test]
fn messages_are_told_from_address_checks() {
    let catalog = Catalog::embedded().unwrap();
    let sender = catalog.get("wechat-push").unwrap();
    let vector = |about: &str| sender.vectors.iter().find(|v| v.about.contains(about)).unwrap();
    let plain = Recipe::compile(sender, &vector("plain mode").terms()).unwrap();
    let check = composed(&plain, &[("echostr", "e1")], None);
    assert_eq!(check.method, http::Method::GET);
    let signed = plain.sign(&check, &Signing::at(NOW)).unwrap();
    assert!(transaction(&plain, &signed, NOW).contains("Challenge"));
    let given = [
        ("FromUserName", "o1"),
        ("CreateTime", "1700000000"),
        ("MsgId", "7"),
        ("Event", "minigame_coin_deliver_completed"),
        ("MiniGame.Payload.OutTradeNo", "n1"),
    ];
    for about in ["plain mode", "secure mode, JSON", "a payment event"] {
        let recipe = Recipe::compile(sender, &vector(about).terms()).unwrap();
        let message = composed(&recipe, &given[..3], None);
        assert_eq!(message.method, http::Method::POST);
        let signed = recipe.sign(&message, &Signing::at(NOW)).unwrap();
        assert_eq!(transaction(&recipe, &signed, NOW), "o1:7", "{signed:?}");
    }
    let recipe = Recipe::compile(sender, &vector("a payment event").terms()).unwrap();
    let signed = recipe.sign(&composed(&recipe, &given, None), &Signing::at(NOW)).unwrap();
    assert_eq!(transaction(&recipe, &signed, NOW), "n1", "{signed:?}");
}

#[test]
fn an_ad_is_verified_by_either_method() {
    let catalog = Catalog::embedded().unwrap();
    let recipe = source(catalog.get("wechat-ad").unwrap());
    let given = [("transaction", "tx-1"), ("user", "u-1"), ("amount", "5")];
    for method in [None, Some(http::Method::GET)] {
        let signed = recipe.sign(&composed(&recipe, &given, method), &Signing::at(NOW)).unwrap();
        assert_eq!(transaction(&recipe, &signed, NOW), "tx-1", "{signed:?}");
    }
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(32))]

    #[test]
    fn any_values_are_signed_so_that_they_verify(
        user in "[^\\p{C}\\[\\]{}<>%]{1,12}",
        item in "\\PC{1,12}",
        amount in "[0-9]{1,20}(\\.[0-9]{1,6})?",
    ) {
        let catalog = Catalog::embedded().unwrap();
        for sender in catalog.iter() {
            let recipe = source(sender);
            if recipe.signable().is_err() {
                continue;
            }
            let given: Vec<_> = [(Role::User, &user), (Role::Item, &item), (Role::Amount, &amount)]
                .into_iter()
                .filter(|(role, _)| recipe.roles.texts.has(*role))
                .map(|(role, value)| (role.as_str(), value.as_str()))
                .collect();
            let request = composed(&recipe, &given, None);
            let signed = recipe.sign(&request, &Signing::at(NOW)).unwrap();
            let mut callback = recipe.read(signed.borrow(), NOW);
            let Judgement::Verified(mut verified) = callback.verify() else {
                panic!("{}: {signed:?}", sender.name());
            };
            let resolved = match verified.resolve("evt") {
                Resolution::Event(resolved) => resolved,
                // A value that no provider would send makes a text that another one made.
                Resolution::Ambiguous(resolved) if !resolved.misfits().is_empty() => resolved,
                other => panic!("{}: {other:?}: {signed:?}", sender.name()),
            };
            if recipe.roles.texts.has(Role::User) {
                proptest::prop_assert_eq!(resolved.role(Role::User), Some(user.as_str()));
            }
        }
    }
}

#[test]
fn what_a_private_key_signs_is_not_signed_here() {
    let catalog = Catalog::embedded().unwrap();
    for (name, request) in [("admob", "GET /?transaction_id=t"), ("huawei", "GET /?uniqueId=t")] {
        let recipe = source(catalog.get(name).unwrap());
        let request = OwnedRequest::parse(request).unwrap();
        let fault = recipe.sign(&request, &Signing::at(NOW)).unwrap_err();
        assert!(fault.what.contains("private key"), "{name}: {fault}");
    }
    // With both kinds of secret the shared one is used.
    let sender = catalog.get("standard-webhooks").unwrap();
    let secrets = ["whpk_I7xUkSwebpLEqGglyGfif/3FVb/71CRPF6Jqv//ull0=", "whsec_MDEyMzQ1Njc4OWFi"];
    let live = |value: &&str| LiveSecret {
        id: value[..6].to_owned(),
        value: Secret::new(*value),
        until_ms: None,
    };
    for (count, can) in [(1, false), (2, true)] {
        let secrets = secrets[..count].iter().map(live).collect();
        let recipe = Recipe::compile(sender, &Terms { secrets, ..Terms::default() }).unwrap();
        assert_eq!(recipe.signable().is_ok(), can, "{count} secrets");
        let request = OwnedRequest::parse("POST /\nwebhook-id: m1\n\n{}").unwrap();
        let signing = Signing { secret: Some(count - 1), ..Signing::at(NOW) };
        let signed = recipe.sign(&request, &signing).ok();
        assert_eq!(signed.is_some_and(|one| matched(&recipe, &one, NOW).is_some()), can);
    }
}

#[test]
fn what_cannot_be_signed_is_said() {
    let catalog = Catalog::embedded().unwrap();
    let recipe = source(catalog.get("taku").unwrap());
    let request = OwnedRequest::parse("GET /?trans_id=t").unwrap();
    let fault = recipe.sign(&request, &Signing::at(NOW)).unwrap_err();
    assert_eq!(fault.key, "placement_id");
    let none = Signing { secret: Some(3), ..Signing::at(NOW) };
    assert_eq!(recipe.sign(&request, &none).unwrap_err().key, "secrets");
}
