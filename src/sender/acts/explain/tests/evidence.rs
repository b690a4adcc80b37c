//! The evidence about a callback: never a whole signature, and the values that were changed.

use super::super::evidence;
use super::scene::scenes;
use super::*;
use crate::sender::acts::signature::SignatureVariant;
use crate::sender::language::definition::Writing;

/// Characters that stand at an end at most.
const SHOWN_MAX: usize = 4;

fn of(recipe: &Recipe, text: &str, accepted: &[(&str, &str)]) -> Evidence {
    let pairs = accepted.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let (request, accepted) = (request(text), pairs.collect::<Vec<_>>());
    evidence((recipe, None), (&request.borrow(), NOW), Around::default(), &accepted)
}

fn expected_ends(one: &Beside) -> &Ends {
    match &one.expected {
        Expected::Ends(ends) => ends,
        other => panic!("{other:?}"),
    }
}

/// Everything of a callback that is shown.
fn told(found: &Evidence) -> String {
    let all = found.signatures.iter().flat_map(|one| {
        let expected = match &one.expected {
            Expected::Ends(ends) => Some(ends),
            Expected::PrivateKey | Expected::Secret => None,
        };
        one.came.iter().chain(expected).flat_map(|ends| [ends.start.as_str(), ends.end.as_str()])
    });
    all.collect::<Vec<_>>().join("|")
}

/// A valid signature's letters and digits, turned round: as long, and another one.
fn turned(signature: &str) -> String {
    let padding = signature.len() - signature.trim_end_matches('=').len();
    let body = signature.trim_end_matches('=').chars().rev();
    body.chain(std::iter::repeat_n('=', padding)).collect()
}

#[test]
fn no_sender_has_a_whole_signature_or_a_secret_shown() {
    let (mut shown, mut hidden) = (0, 0);
    for scene in scenes() {
        let request = scene.with_signature(&turned(&scene.supplied));
        let came = (&request.borrow(), scene.now_ms);
        let found = evidence((&scene.recipe, None), came, Around::default(), &[]);
        let told = told(&found).to_ascii_lowercase();
        let right = scene.supplied.to_ascii_lowercase();
        for part in right.as_bytes().windows(SHOWN_MAX + 1) {
            let part = std::str::from_utf8(part).unwrap();
            assert!(!told.contains(part), "{}: {part} in {told}", scene.about);
        }
        let secret = String::from_utf8(scene.secret.clone()).unwrap().to_ascii_lowercase();
        assert!(!told.contains(&secret), "{}: {told}", scene.about);
        for one in &found.signatures {
            match &one.expected {
                Expected::Ends(ends) if ends.start.is_empty() => hidden += 1,
                Expected::Ends(ends) => {
                    shown += 1;
                    assert!(ends.start.len() <= SHOWN_MAX && ends.end.len() <= SHOWN_MAX);
                    let is_hex = right.bytes().all(|byte| byte.is_ascii_hexdigit());
                    let rest = right.trim_end_matches('=').len() - 2 * ends.start.len();
                    assert!(rest * if is_hex { 4 } else { 6 } >= 96, "{}: {ends:?}", scene.about);
                }
                Expected::PrivateKey | Expected::Secret => hidden += 1,
            }
        }
    }
    assert!(shown > 50 && hidden > 0, "{shown} shown, {hidden} hidden");
}

#[test]
fn a_signature_is_shown_beside_the_expected_one() {
    let recipe = source("vungle", "k1");
    let right = "f9437a7a63dde63c84b3b38f834d72e63fb4ed056cf9e06d0821c782c6041000";
    let came = |signature: &str| {
        let found = of(&recipe, &format!("GET /?user=u1&txid=tx-1&digest={signature}"), &[]);
        let [one] = found.signatures.as_slice() else { panic!("{found:?}") };
        one.clone()
    };
    let ends = |start: &str, end: &str, characters| Ends {
        start: start.to_owned(),
        end: end.to_owned(),
        characters,
    };
    let wrong = came(&right.replace("f943", "0123"));
    assert_eq!(wrong.came, Some(ends("0123", "1000", 64)));
    assert_eq!(wrong.expected, Expected::Ends(ends("f943", "1000", 64)));
    assert_eq!(wrong.secret, None, "there is one secret");
    // A short one is shown less of: what its characters hold is unknown.
    assert_eq!(came("0123456789").came, Some(ends("", "", 10)));
    assert_eq!(came(&right[..28]).came, Some(ends("f9", "4d", 28)));
}

#[test]
fn short_codes_and_secrets_are_hidden() {
    let tests = [
        (Writing::Hex, 32, 4),
        (Writing::Hex, 30, 3),
        (Writing::Hex, 24, 0),
        (Writing::Hex, 8, 0),
        (Writing::Base64, 22, 3),
        (Writing::Base64, 16, 0),
        (Writing::Base64, 43, 4),
    ];
    for (writing, len, shown) in tests {
        assert_eq!(evidence::count(&"a".repeat(len), writing), shown, "{writing:?}, {len}");
    }
    // A sender that sends the secret itself.
    let catalog = Catalog::embedded().unwrap();
    let mut tried = 0;
    for sender in catalog.iter() {
        let vector = sender.vectors.iter().find(|vector| vector.expects("outcome", "accepted"));
        let vector = vector.unwrap();
        let recipe = Recipe::compile(sender, &vector.terms()).unwrap();
        let is_secret = |one: &SignatureVariant| one.writing == Writing::Text;
        if recipe.variants.is_empty() || !recipe.variants.iter().all(is_secret) {
            continue;
        }
        let now_ms = vector.now_ms.unwrap_or(NOW);
        let request = (&vector.request.borrow(), now_ms);
        for one in evidence((&recipe, None), request, Around::default(), &[]).signatures {
            tried += 1;
            assert_eq!((&one.came, &one.expected), (&None, &Expected::Secret), "{}", sender.name());
        }
    }
    assert!(tried > 0);
    // A secret that was sent in place of a signature.
    let recipe = source("vungle", "a-secret-of-ours");
    let found = of(&recipe, "GET /?user=u1&txid=tx-1&digest=a-secret-of-ours", &[]);
    assert_eq!(found.signatures[0].came, None);
}

#[test]
fn each_secret_has_its_expected_signature() {
    let mut terms = terms("the-old-secret");
    terms.secrets.push(live(b"the-new-secret"));
    terms.secrets[1].id = "2".into();
    let recipe = Recipe::compile(&sender("vungle"), &terms).unwrap();
    let found = of(&recipe, &format!("GET /?user=u1&txid=tx-1&digest={}", "0".repeat(64)), &[]);
    let ids: Vec<_> = found.signatures.iter().map(|one| one.secret.as_deref()).collect();
    assert_eq!(ids, [Some("1"), Some("2")]);
    assert_ne!(expected_ends(&found.signatures[0]), expected_ends(&found.signatures[1]));
}

#[test]
fn changed_values_are_found_by_the_accepted_event() {
    let recipe = source("taku", "a-secret");
    let right = "GET /?user_id=u1&trans_id=t&placement_id=p&adsource_id=1&reward_amount=5\
                 &reward_name=gold%20coin";
    let signed = recipe.sign(&request(right), &Signing::at(NOW)).unwrap();
    let signed = format!("GET {}", String::from_utf8(signed.target.to_vec()).unwrap());
    let accepted = [
        ("user_id", "u1"),
        ("trans_id", "t"),
        ("reward_amount", "5"),
        ("reward_name", "gold coin"),
        ("sign", "***"),
    ];
    let one = of(&recipe, &signed.replace("reward_amount=5", "reward_amount=500"), &accepted);
    let changes = one.changes.unwrap();
    let value = |name: &str, came: &str, accepted: &str| ChangedValue {
        name: name.to_owned(),
        came: came.to_owned(),
        accepted: accepted.to_owned(),
    };
    assert_eq!(changes.values, [value("reward_amount", "500", "5")]);
    assert!(changes.text.contains("reward_amount=5&reward_name=gold coin&sec_key=***"));
    let two = signed.replace("reward_amount=5", "reward_amount=500").replace("gold%20coin", "gem");
    let changes = of(&recipe, &two, &accepted).changes.unwrap();
    let both = [value("reward_amount", "500", "5"), value("reward_name", "gem", "gold coin")];
    assert_eq!(changes.values, both);
    // Nothing is found where the signature is right, or none of these values explains it.
    assert_eq!(of(&recipe, &signed, &accepted).changes, None);
    let other = signed.replace("reward_amount=5", "reward_amount=500");
    assert_eq!(of(&recipe, &other, &[("reward_amount", "6")]).changes, None);
}

#[test]
fn the_text_that_was_signed_is_shown() {
    let recipe = source("taku", "a-secret");
    let theirs = "trans_id=t&placement_id=p&adsource_id=1&reward_amount=5&reward_name=gold%20coin\
                  &sec_key=a-secret";
    let sign = crate::sender::crypto::digest::Algorithm::Md5.of(theirs.as_bytes());
    let text = format!(
        "GET /?trans_id=t&placement_id=p&adsource_id=1&reward_amount=5&reward_name=gold%20coin\
         &sign={}",
        const_hex::encode(sign.bytes())
    );
    let said = said(&recipe, &text, &[]);
    assert_eq!(kind(&said), Some(MistakeKind::RawValues));
    let mistake = said.mistake.unwrap();
    assert_eq!(mistake.text.unwrap(), theirs.replace("a-secret", "***"));
    assert_ne!(said.signed_text.unwrap(), theirs.replace("a-secret", "***"));
}
