//! Findings of these tests, as small cases.

use super::super::run;
use super::call::{Call, Style};
use super::model::{Fate, Gateway};
use super::world::{Dice, Scene, of_sender};
use crate::sender::language::vector::OwnedRequest;
use crate::sender::{Catalog, Outcome, Reason};

fn scene(sender: &str) -> Scene {
    let catalog = Catalog::embedded().unwrap();
    of_sender(catalog.get(sender).unwrap()).remove(0)
}

fn signed(scene: &Scene, call: &Call, variant: Option<usize>) -> OwnedRequest {
    scene.sign(call, Style::default(), &mut Dice::new(1), variant).unwrap()
}

fn with_target(request: &OwnedRequest, change: impl Fn(&str) -> String) -> OwnedRequest {
    let target = std::str::from_utf8(&request.target).unwrap();
    OwnedRequest { target: change(target).into_bytes(), ..request.clone() }
}

/// The mark in front of a query is cut off with its only parameter, and with no other.
#[test]
fn a_mark_at_the_end_of_a_signed_url_is_data() {
    let scene = scene("adgem");
    let original = signed(&scene, &Call::of(&scene.request), None);
    let marked = with_target(&original, |target| target.replace("&verifier", "?&verifier"));
    assert_eq!(run(&scene.recipe, &original, scene.now_ms).outcome, Outcome::Accepted);
    let came = run(&scene.recipe, &marked, scene.now_ms);
    assert_eq!(came.rejection.map(|rejection| rejection.reason), Some(Reason::BadSignature));
}

/// A decoded query with an empty pair has the text of another one whose value ends in `&`.
#[test]
fn a_decoded_query_has_no_empty_pair_and_no_bare_name() {
    let scene = scene("admob");
    for (user, spelled) in [("7&", "user_id=7&"), ("7&foo", "user_id=7&zoo&")] {
        let user = user.replace("foo", "zoo");
        let mut call = Call::of(&scene.request);
        call.set(b"user_id", user.as_bytes());
        let original = signed(&scene, &call, Some(0));
        assert_eq!(run(&scene.recipe, &original, scene.now_ms).outcome, Outcome::Accepted);
        let recut = with_target(&original, |target| {
            let (head, tail) = target.split_once("user_id=").unwrap();
            let supplied = tail.split_once('&').unwrap().1;
            format!("{head}{spelled}&{supplied}").replace("&&zoo", "&zoo").replace("zoo&&", "zoo&")
        });
        let came = run(&scene.recipe, &recut, scene.now_ms);
        assert_eq!(came.outcome, Outcome::Rejected, "{recut:?}");
    }
}

/// One signature of two is omitted, and the callback is repeated with both.
#[test]
fn an_omitted_signature_makes_no_new_event() {
    let scene = scene("vungle");
    let mut call = Call::of(&scene.request);
    call.set(b"txid", b"t-1");
    call.set(b"etxid", b"e-1");
    let supplied = |variant, name: &[u8]| {
        let signed = Call::of(&signed(&scene, &call, Some(variant)));
        signed.fields[signed.position(name).unwrap()].clone()
    };
    let (digest, edigest) = (supplied(0, b"digest"), supplied(1, b"edigest"));
    let with = |supplied_signatures: &[&super::call::Field]| {
        let mut call = call.clone();
        call.fields.retain(|field| !scene.is_signature_field(field));
        call.fields.extend(supplied_signatures.iter().map(|supplied| (*supplied).clone()));
        call.request(Style::default(), &mut Dice::new(1)).unwrap()
    };
    let both = with(&[&digest, &edigest]);
    for one in [with(&[&digest]), with(&[&edigest])] {
        for order in [[&one, &both], [&both, &one]] {
            let mut gateway = Gateway::new(&scene);
            assert!(matches!(gateway.take(order[0]), Fate::Event(_)));
            assert!(!matches!(gateway.take(order[1]), Fate::Event(_) | Fate::Rejected));
        }
    }
}

/// Facts that a text refutes prove nothing: neither do those that it does not.
#[test]
fn a_text_that_no_value_makes_proves_no_role() {
    let scene = scene("levelplay");
    let mut call = Call::of(&scene.request);
    for (name, value) in
        [("timestamp", "123123"), ("userId", "u"), ("eventId", "e"), ("rewards", "10")]
    {
        call.set(name.as_bytes(), value.as_bytes());
    }
    let original = signed(&scene, &call, None);
    let resolved = run(&scene.recipe, &original, scene.now_ms).resolved.unwrap();
    assert_eq!(resolved.misfits(), ["timestamp"]);
    assert!(resolved.authenticated().is_empty(), "{:?}", resolved.authenticated());
}
