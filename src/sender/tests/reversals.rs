//! Reversals of every sender file: a backend finds what they take back.

use std::collections::BTreeSet;

use super::*;

/// Reversals whose grant is in no vector, each with a reason.
const UNPAIRED: &[(&str, &str, &str)] = &[
    (
        "alipay",
        "own; a partial refund is an event of its own",
        "the published payment has other values; both are the trade_no",
    ),
    (
        "alipay",
        "own; a refund without refund_fee is one of the whole amount",
        "the published payment has other values; both are the trade_no",
    ),
    (
        "ayet",
        "a reversal that r- alone tells: the console has no macro for it",
        "its transaction is that of the reward behind r-",
    ),
    (
        "levelplay",
        "own; taken back under the event id of the first",
        "both have the event id, and one signature is one event",
    ),
    (
        "huawei-iap",
        "own; signed with PSS, for an application that has switched to it",
        "its purchase is known by a digest: another transaction could be granted twice",
    ),
    (
        "kuaishou-pay",
        "own; a refund",
        "its payment is known by the message: another transaction could be granted twice",
    ),
    ("paypal", "own; a refund", "the refund of a capture names the capture only in a link"),
];

/// The sender's name and a transaction.
type Named = (String, String);

#[test]
fn a_reversal_names_the_transaction_of_a_grant() {
    let mut grants: BTreeSet<Named> = BTreeSet::new();
    let mut reversals: Vec<Named> = Vec::new();
    let mut unpaired = 0;
    each_vector(|sender, vector, recipe| {
        let Some(resolved) = run(recipe, &vector.request, now(vector)).resolved else { return };
        let named = |role| (sender.name().to_owned(), resolved.role(role).unwrap_or("").to_owned());
        let is_unpaired = |(name, about, _): &(&str, &str, &str)| {
            *name == sender.name() && *about == vector.about
        };
        match resolved.effect() {
            Effect::Grant => {
                grants.insert(named(Role::Transaction));
            }
            Effect::Revoke if UNPAIRED.iter().any(is_unpaired) => unpaired += 1,
            Effect::Revoke => reversals.push(named(Role::Reverses)),
            Effect::None => {}
        }
    });
    assert_eq!(unpaired, UNPAIRED.len(), "a line of UNPAIRED is about no reversal");
    assert!(reversals.len() >= 30, "{}", reversals.len());
    let lost: Vec<_> = reversals.iter().filter(|named| !grants.contains(*named)).collect();
    assert!(lost.is_empty(), "no vector grants the transaction that these take back: {lost:#?}");
}

#[test]
fn a_vector_that_is_wrong_about_a_test_is_a_fault() {
    let catalog = Catalog::embedded().unwrap();
    let text = catalog.get("revtoo").unwrap().text();
    for (from, to) in [("test = true", "test = false"), ("test = false", "test = true")] {
        assert!(text.contains(from), "{from}");
        let edited = text.replacen(from, to, 1);
        let faults = prove(&std::sync::Arc::new(Sender::parse("mine", &edited).unwrap()));
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].key.ends_with(".expect.test"), "{faults:?}");
    }
}
