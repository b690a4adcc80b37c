//! Shared code of the bodies: requests written as text, and recipes for them.
//!
//! An input is a request as in the vectors of sender files: a request line without version,
//! headers, an empty line, the body. Corpus files and crashes can be read, and pasted into a
//! vector.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use postern::ledger::{EventKeys, SourceId};
use postern::sender::{
    Judgement, Outcome, Reason, Recipe, ReplyDraft, Request, Resolution, Resolved, Sender, Terms,
};
use serde_json::value::RawValue;

/// The members of a JSON object, their values as spelled.
pub type Members = BTreeMap<String, Box<RawValue>>;

/// The time at which every request comes: that of the vectors.
pub const NOW_MS: i64 = 1_700_000_000_000;

/// A request, owned.
#[derive(Debug)]
pub struct Parts {
    method: Method,
    target: Vec<u8>,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Parts {
    /// Reads `data` as a vector's request; `None` where HTTP itself would refuse it.
    pub fn parse(data: &[u8]) -> Option<Self> {
        let (head, body) = match data.windows(2).position(|two| two == b"\n\n") {
            Some(end) => (&data[..end], &data[end + 2..]),
            None => (data, &data[data.len()..]),
        };
        let mut lines = head.split(|byte| *byte == b'\n');
        let line = lines.next()?;
        let space = line.iter().position(|byte| *byte == b' ')?;
        let target = &line[space + 1..];
        if !target.starts_with(b"/") || target.iter().any(u8::is_ascii_whitespace) {
            return None;
        }
        let mut headers = HeaderMap::new();
        for line in lines {
            let colon = line.iter().position(|byte| *byte == b':')?;
            let name = HeaderName::from_bytes(&line[..colon]).ok()?;
            headers.append(name, HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?);
        }
        Some(Self {
            method: Method::from_bytes(&line[..space]).ok()?,
            target: target.to_vec(),
            headers,
            body: body.to_vec(),
        })
    }

    /// A GET with `query`, or a POST with `body`.
    pub fn made(query: &[u8], content_type: Option<&'static str>, body: &[u8]) -> Self {
        let mut headers = HeaderMap::new();
        let method = match content_type {
            Some(text) => {
                headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static(text));
                Method::POST
            }
            None => Method::GET,
        };
        Self { method, target: [b"/?", query].concat(), headers, body: body.to_vec() }
    }

    /// The request, borrowed.
    pub fn request(&self) -> Request<'_> {
        Request {
            method: &self.method,
            target: &self.target,
            base: "https://callbacks.example.com",
            headers: &self.headers,
            body: &self.body,
        }
    }

    /// Its body.
    pub fn body(&self) -> &[u8] {
        &self.body
    }
}

/// A source that takes everything it can read, so that what comes after verification is reached.
pub fn open_recipe(reads: &str, template: Option<&str>) -> Recipe {
    let vector = match reads {
        "form" => "POST /\nContent-Type: application/x-www-form-urlencoded\n\nid=1",
        "json" => "POST /\nContent-Type: application/json\n\n{\"id\":1}",
        "xml" => "POST /\nContent-Type: text/xml\n\n<xml><id>1</id></xml>",
        _ => "GET /?id=1",
    };
    let text = format!(
        r#"
title    = "Everything"
unsigned = true
method   = ["GET", "POST"]
reads    = "{reads}"

[roles]
transaction = "{{id}}"
user        = "{{user.name}}"
custom      = "{{data}}"

[reply]
accepted    = {{ json = {{ id = "{{id}}", user = "{{user.name}}", data = "{{data}}" }} }}
rejected    = 403
unavailable = 500

[[vector]]
about   = "the least there is"
source  = {{ unsigned = true }}
request = '''
{vector}'''
expect  = {{ outcome = "accepted", transaction = "1" }}
"#
    );
    let sender = Arc::new(Sender::parse("everything", &text).expect("the sender file is right"));
    let terms = Terms { unsigned: true, template: template.map(str::to_owned), ..Terms::default() };
    Recipe::compile(&sender, &terms).expect("the source is right")
}

/// Takes a request through verification and resolution.
pub fn resolve(recipe: &Recipe, parts: &Parts) -> Option<Resolved> {
    resolve_and_show(recipe, parts).map(|(resolved, _)| resolved)
}

/// The event of a request, and its parameters as they are shown.
fn resolve_and_show(recipe: &Recipe, parts: &Parts) -> Option<(Resolved, String)> {
    let mut callback = recipe.read(parts.request(), NOW_MS);
    let resolved = match callback.verify() {
        Judgement::Verified(mut verified) => match verified.resolve("evt_fuzz") {
            Resolution::Event(resolved) => resolved,
            _ => return None,
        },
        _ => return None,
    };
    Some((*resolved, callback.shown_params().json(&parts.request())))
}

/// Makes every reply that there is; the bodies of those that are one.
pub fn replies(recipe: &Recipe, parts: &Parts) -> Vec<(Outcome, Vec<u8>)> {
    let callback = recipe.read(parts.request(), NOW_MS);
    let reply = |outcome, reason| match callback.draft_reply(outcome, reason, &|| [7; 16]) {
        ReplyDraft::Answer(answer) => Some((outcome, answer.body.to_vec())),
        ReplyDraft::Silence => None,
    };
    let outcomes = Outcome::ALL.iter().filter(|outcome| **outcome != Outcome::Rejected);
    let plain = outcomes.filter_map(|outcome| reply(*outcome, None));
    let rejected = Reason::ALL.iter().filter_map(|reason| reply(Outcome::Rejected, Some(*reason)));
    plain.chain(rejected).collect()
}

/// Checks what holds of every event of [`open_recipe`], whatever it came from.
pub fn check_open(recipe: &Recipe, parts: &Parts) -> Option<Resolved> {
    let (resolved, params) = resolve_and_show(recipe, parts)?;
    // Values stand as the sender spelled them: half a surrogate pair is replaced when an event is
    // read, and a number of any size is the sender's own.
    let object = |text: &str| serde_json::from_str::<Members>(text).map(|_| ());
    object(&params).expect("the parameters are a JSON object");
    object(resolved.template()).expect("the template is a JSON object");
    let keys = |resolved| EventKeys::of(&SourceId::from("fuzz"), resolved);
    let own = keys(&resolved);
    assert!(
        !own.identity.is_empty() || !own.signatures.is_empty(),
        "an event without a key is accepted twice"
    );
    let again = resolve(recipe, parts).expect("the same request gives the same event");
    assert_eq!(keys(&again), own);
    for (outcome, body) in replies(recipe, parts) {
        if outcome == Outcome::Accepted {
            let reply: serde_json::Map<String, serde_json::Value> =
                serde_json::from_slice(&body).expect("no value breaks the reply");
            assert!(reply.keys().all(|key| ["id", "user", "data"].contains(&key.as_str())));
        }
    }
    Some(resolved)
}
