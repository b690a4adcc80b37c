//! Grants: what an operator makes an event of is the same event as a verified callback.

use super::own::{REPLY, own};
use super::*;
use crate::sender::crypto::digest::Algorithm;

fn identity(resolved: &Resolved) -> Vec<u8> {
    resolved.identities().next().unwrap().to_vec()
}

#[test]
fn a_grant_has_the_transaction_of_the_signature_that_is_supplied() {
    let digest = |id: &str| {
        let inner = Algorithm::Sha256.of(format!("k1:{id}").as_bytes());
        const_hex::encode(Algorithm::Sha256.of(inner.bytes()).bytes())
    };
    let (digest, edigest) = (digest("T1"), digest("ET1"));
    let right = source("vungle", "secrets = \"k1\"").unwrap();
    let wrong = source("vungle", "secrets = \"k2\"").unwrap();
    for (signatures, transaction) in [
        (format!("edigest={edigest}"), "ET1"),
        (format!("digest={digest}"), "T1"),
        (format!("edigest={edigest}&digest={digest}"), "T1"),
    ] {
        let request = get(&format!("/?user=u1&txid=T1&etxid=ET1&{signatures}"));
        let verified = run(&right, &request, 0).resolved.unwrap();
        let mut callback = wrong.read(request.borrow(), 0);
        let Ok(Granted::Event(granted)) = callback.grant("evt") else { panic!("{signatures}") };
        assert_eq!(verified.role(Role::Transaction), Some(transaction), "{signatures}");
        assert_eq!(granted.role(Role::Transaction), Some(transaction), "{signatures}");
        assert_eq!(identity(&granted), identity(&verified), "{signatures}");
        assert_eq!(granted.content(), verified.content(), "{signatures}");
        assert!(granted.authenticated().is_empty() && granted.signature_keys().next().is_none());
    }
}

#[test]
fn a_grant_has_the_identity_of_a_verified_callback() {
    let mut granted = 0;
    each_vector(|sender, vector, recipe| {
        let Some(verified) = run(recipe, &vector.request, now(vector)).resolved else { return };
        let mut callback = recipe.read(vector.request.borrow(), now(vector));
        // Nothing proves the flag of a grant: it has the keys of a marked callback.
        if let Ok(Granted::Event(event)) = callback.grant("evt")
            && !event.is_test()
        {
            let about = format!("{}: {}", sender.name(), vector.about);
            assert_eq!(identity(&event), identity(&verified), "{about}");
            granted += 1;
        }
    });
    assert!(granted > 100, "{granted}");
}

#[test]
fn what_grants_nothing_does_not_pass_for_the_grant_of_its_transaction() {
    let rules = [
        ("[{ of = \"grant\", when = \"{state} is paid\" }, \"none\"]", true),
        ("\"none\"", false),
        ("\"grant\"", false),
    ];
    for (effect, differs) in rules {
        let rest = format!(
            "secret = \"k\"\nreads = \"query\"\n[roles]\neffect = {effect}\n\
             transaction = \"{{order}}\"\nuser = \"{{user}}\"\n[signature]\n\
             of = \"{{order}}{{user}}[secret]\"\nwith = \"sha256\"\nin = \"{{sign}}\"\n{REPLY}"
        );
        let recipe = own(&rest, "source = { secrets = \"k\" }\nrequest = \"GET /\"");
        let sign = const_hex::encode(Algorithm::Sha256.of(b"o1u1k").bytes());
        let of = |state: &str| {
            let request = get(&format!("/?order=o1&user=u1&state={state}&sign={sign}"));
            run(&recipe, &request, 0).resolved.unwrap()
        };
        let (paid, other) = (of("paid"), of("pending"));
        assert_eq!(identity(&paid), identity(&other), "{effect}");
        assert_eq!(paid.content() != other.content(), differs, "{effect}");
    }
}
