//! Every vector of every sender file, and the further cases that each of them makes.

use super::callback::Judgement;
use super::vector::Vector;
use super::*;

/// What became of a request.
#[derive(Debug)]
struct Came {
    outcome: Outcome,
    refusal: Option<Refusal>,
    resolved: Option<Box<Resolved>>,
    reply: String,
}

fn run(recipe: &Recipe, request: &OwnedRequest, now_ms: i64) -> Came {
    let mut callback = recipe.read(request.borrow(), now_ms);
    let (outcome, refusal, resolved) = match callback.verify() {
        Judgement::Verified(verified) => match verified.resolve("evt_test") {
            Resolution::Event(resolved) => (Outcome::Accepted, None, Some(resolved)),
            Resolution::Challenge => (Outcome::Challenge, None, None),
            Resolution::Test => (Outcome::Test, None, None),
            Resolution::Refused(refusal) => (Outcome::Rejected, Some(refusal), None),
        },
        Judgement::Probe => (Outcome::Test, None, None),
        Judgement::Refused(refusal) => (Outcome::Rejected, Some(refusal), None),
    };
    let reason = refusal.as_ref().map(|refusal| refusal.reason);
    let reply = shown(&callback.reply(outcome, reason, &|| [7; 16]));
    Came { outcome, refusal, resolved, reply }
}

fn shown(reply: &Reply) -> String {
    match reply {
        Reply::Silence => "silence".to_owned(),
        Reply::Answer(answer) => {
            let body = String::from_utf8_lossy(&answer.body);
            format!("{} {body}", answer.status.as_u16()).trim_end().to_owned()
        }
    }
}

fn recipe(sender: &std::sync::Arc<Sender>, vector: &Vector) -> Recipe {
    Recipe::compile(sender, &vector.terms()).unwrap_or_else(|faults| {
        panic!("{}, {}: {}", sender.name(), vector.about, faults[0]);
    })
}

fn each_vector(mut check: impl FnMut(&std::sync::Arc<Sender>, &Vector, &Recipe)) {
    let catalog = Catalog::embedded().unwrap_or_else(|faults| panic!("{faults:#?}"));
    for sender in catalog.iter() {
        for vector in &sender.vectors {
            check(sender, vector, &recipe(sender, vector));
        }
    }
}

fn now(vector: &Vector) -> i64 {
    vector.now_ms.unwrap_or(1_700_000_000_000)
}

#[test]
fn every_vector_of_every_file() {
    let mut wrong = Vec::new();
    let mut count = 0;
    each_vector(|sender, vector, recipe| {
        count += 1;
        let came = run(recipe, &vector.request, now(vector));
        let refusal = came.refusal.as_ref().map(|refusal| refusal.reason.as_str());
        let mut differs = |key: &str, got: Option<&str>| {
            if let Some(expected) = vector.expected(key)
                && got != Some(expected)
            {
                wrong.push(format!(
                    "{}, {}: {key} is {got:?}, not {expected:?} ({came:?})",
                    sender.name(),
                    vector.about
                ));
            }
        };
        differs("outcome", Some(came.outcome.as_str()));
        differs("reason", refusal);
        differs("reply", Some(&came.reply));
        differs("kind", came.resolved.as_ref().and_then(|resolved| resolved.kind()));
        for role in Role::ALL {
            differs(role.as_str(), came.resolved.as_ref().and_then(|r| r.role(role)));
        }
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count >= 25, "{count} vectors");
}
