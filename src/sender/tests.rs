//! Every vector of every sender file, and the further cases that each of them makes.

mod authenticity;
mod forms;
mod grants;
mod masked;
mod ours;
mod own;
mod probes;
mod public;
mod reversals;
mod several;
mod sources;
mod spellings;
mod tokens;
mod wechat;

use self::own::{REPLY, SECRET_K, hmac_of, own, own_sender};
use super::*;
use crate::sender::acts::parts::resolve_parts;
use crate::sender::acts::prove::shown;
use crate::sender::language::definition::Writing;
use crate::sender::language::recipe::Protection;
use crate::sender::language::vector::Vector;
use crate::sender::request::callback::Judgement;
use crate::sender::request::encoding::Plus;
use crate::sender::request::parameters::Value;

/// The result of a request.
#[derive(Debug)]
struct Came {
    outcome: Outcome,
    rejection: Option<CallbackError>,
    resolved: Option<Box<Resolved>>,
    /// The parameters of the event, as they are shown.
    params: String,
}

fn run(recipe: &Recipe, request: &OwnedRequest, now_ms: i64) -> Came {
    let mut callback = recipe.read(request.borrow(), now_ms);
    let (outcome, rejection, resolved) = match callback.verify() {
        Judgement::Verified(mut verified) => match verified.resolve("evt_test") {
            Resolution::Event(resolved) => (Outcome::Accepted, None, Some(resolved)),
            Resolution::Ambiguous(resolved) => (Outcome::Ambiguous, None, Some(resolved)),
            Resolution::Several(parts) => return run_parts(verified.callback, &parts),
            Resolution::Challenge => (Outcome::Challenge, None, None),
            Resolution::Test => (Outcome::Test, None, None),
            Resolution::Rejected(rejection) => (Outcome::Rejected, Some(rejection), None),
        },
        Judgement::Probe => (Outcome::Test, None, None),
        Judgement::Undecided => (Outcome::Unavailable, None, None),
        Judgement::Challenge => (Outcome::Challenge, None, None),
        Judgement::Rejected(rejection) => (Outcome::Rejected, Some(rejection), None),
    };
    let mut params = String::new();
    if resolved.is_some() {
        params = callback.shown_params().json(&request.borrow());
        // What is stored, and what is shown without a store.
        assert_eq!(params, callback.written_params());
    }
    Came { outcome, rejection, resolved, params }
}

/// A callback with several events counts as its first, if all of them are events.
fn run_parts(whole: &Callback<'_>, parts: &[bytes::Bytes]) -> Came {
    let mut all = resolve_parts(whole, parts, "evt_test");
    let last = all.pop();
    let first = if all.is_empty() { None } else { Some(all.swap_remove(0)) };
    let (outcome, rejection, resolved) = match (last, first) {
        (Some(Resolution::Rejected(rejection)), _) => (Outcome::Rejected, Some(rejection), None),
        (Some(_), Some(Resolution::Event(first))) | (Some(Resolution::Event(first)), None) => {
            (Outcome::Accepted, None, Some(first))
        }
        (Some(_), Some(Resolution::Ambiguous(first)))
        | (Some(Resolution::Ambiguous(first)), None) => (Outcome::Ambiguous, None, Some(first)),
        _ => (Outcome::Test, None, None),
    };
    Came { outcome, rejection, resolved, params: String::new() }
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

#[test]
fn a_granted_callback_shows_what_a_verified_one_does() {
    let mut granted = 0;
    each_vector(|sender, vector, recipe| {
        let request = vector.request.borrow();
        let came = run(recipe, &vector.request, now(vector));
        let mut callback = recipe.read(request, now(vector));
        // A part of several events is granted as one.
        if recipe.sender.each.is_none() && came.resolved.is_some() && callback.grant("evt").is_ok()
        {
            // Without a signature it is open what a plus sign stands for.
            let spaced = |params: &str| params.replace('+', " ");
            let shown = spaced(&callback.shown_params().json(&request));
            assert_eq!(shown, spaced(&came.params), "{}, {}", sender.name(), vector.about);
            granted += 1;
        }
    });
    assert!(granted > 100, "{granted}");
}

fn now(vector: &Vector) -> i64 {
    vector.now_ms.unwrap_or(1_700_000_000_000)
}

#[test]
fn every_vector_of_every_file() {
    let catalog = Catalog::embedded().unwrap_or_else(|faults| panic!("{faults:#?}"));
    let mut count = 0;
    let mut wrong = Vec::new();
    for sender in catalog.iter() {
        let faults = prove(sender).into_iter().map(|fault| fault.under(sender.name()).to_string());
        wrong.extend(faults);
        count += sender.vectors.len();
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count >= 110, "{count} vectors");
}

#[test]
fn every_file_with_a_sender_behind_it_says_what_it_rests_on() {
    let catalog = Catalog::embedded().unwrap();
    for sender in catalog.iter() {
        assert_eq!(sender.docs().is_empty(), sender.basis().is_none(), "{}", sender.name());
    }
}

#[test]
fn a_vector_that_is_not_so_is_a_fault() {
    let catalog = Catalog::embedded().unwrap();
    let text = catalog.get("taku").unwrap().text().replace("reply = \"601\"", "reply = \"602\"");
    let faults = prove(&std::sync::Arc::new(Sender::parse("mine", &text).unwrap()));
    assert_eq!(faults.len(), 1);
    assert_eq!(faults[0].key, "vector[4].expect.reply");
}

/// The supplied signature of an accepted vector, as it stands in the request.
fn signature_of(recipe: &Recipe, vector: &Vector) -> Option<Vec<u8>> {
    let mut callback = recipe.read(vector.request.borrow(), now(vector));
    let Judgement::Verified(verified) = callback.verify() else { return None };
    let callback = verified.callback;
    let variant = callback.matched_variant()?;
    let context = crate::sender::acts::evaluate::Context::default();
    let supplied = match &variant.supplied.input {
        crate::sender::language::bound::Input::Parameter { slot, steps, .. } => {
            let (parameters, buffers) = callback.side(crate::sender::language::bound::Scope::Outer);
            let whole = parameters.get(*slot, buffers)?;
            let whole = Value { place: whole.place, raw: whole.raw.into() };
            let mut steps = steps.iter();
            let raw = steps.try_fold(whole, |value, step| value.step(step, Plus::Space).ok()?)?.raw;
            raw.strip_prefix(b"\"").and_then(|raw| raw.strip_suffix(b"\"")).unwrap_or(&raw).to_vec()
        }
        crate::sender::language::bound::Input::List { list, item } => {
            let text = callback.list_text(*list, &context).ok()??;
            let output = callback.matched.as_ref()?.output?;
            let shape = &recipe.sender.lists[*list].shape;
            let mut values = shape.values(&text, item, 4);
            let key = variant.public.as_ref().map(key_of);
            let says = |value: &&[u8]| match (&variant.public, &key) {
                (Some(public), Some(key)) => {
                    let message = callback.message_of(variant, public, &mut output.clone());
                    public.is_signature(variant, key, &message.unwrap(), value)
                }
                _ => variant.matches(&output, value),
            };
            values.find(says)?.to_vec()
        }
        _ => callback.value(&variant.supplied, &context).ok()??.into_owned(),
    };
    Some(supplied)
}

/// The key of a public variant that belongs to the first secret.
fn key_of(
    public: &crate::sender::acts::signature::Public,
) -> crate::sender::crypto::public_key::PublicKey {
    match &public.keys {
        crate::sender::acts::signature::Keys::Secrets(keys) => keys[0].clone().unwrap(),
        _ => panic!("a list in a header"),
    }
}

/// Every place in the request where `part` could be changed: `change` is given each.
fn changed(request: &OwnedRequest, part: &[u8], with: &[u8]) -> Option<OwnedRequest> {
    let swap = |text: &[u8]| {
        let at = memchr::memmem::find(text, part)?;
        Some([&text[..at], with, &text[at + part.len()..]].concat())
    };
    if let Some(target) = swap(&request.target) {
        return Some(OwnedRequest { target, ..request.clone() });
    }
    if let Some(body) = swap(&request.body) {
        return Some(OwnedRequest { body, ..request.clone() });
    }
    for (name, value) in &request.headers {
        if let Some(value) = swap(value.as_bytes()) {
            let mut changed = request.clone();
            changed.headers.insert(name.clone(), http::HeaderValue::from_bytes(&value).ok()?);
            return Some(changed);
        }
    }
    None
}

fn accepted(mut check: impl FnMut(&std::sync::Arc<Sender>, &Vector, &Recipe)) {
    each_vector(|sender, vector, recipe| {
        if recipe.protection == Protection::Signed && vector.expects("outcome", "accepted") {
            check(sender, vector, recipe);
        }
    });
}

#[test]
fn every_other_byte_of_a_signature_is_rejected() {
    let mut tried = 0;
    accepted(|sender, vector, recipe| {
        let supplied = signature_of(recipe, vector).unwrap();
        let text = String::from_utf8(supplied.clone()).unwrap();
        // The last character before the padding of base64, there or not, has spare bits.
        let hex = recipe.variants.iter().any(|variant| variant.writing == Writing::Hex);
        let whole = text.trim_end_matches('=').trim_end_matches("%3D").len();
        let is_padded = whole < text.len();
        let has_spare = !hex && (is_padded || !whole.is_multiple_of(4));
        let spare = if has_spare { whole - 1 } else { text.len() };
        for at in (0..text.len()).filter(|at| *at != spare && supplied[*at] != b'=') {
            let mut wrong = supplied.clone();
            wrong[at] = if supplied[at] == b'0' { b'1' } else { b'0' };
            let request = changed(&vector.request, &supplied, &wrong).unwrap();
            let came = run(recipe, &request, now(vector));
            assert_eq!(came.outcome, Outcome::Rejected, "{}: {}", sender.name(), vector.about);
            tried += 1;
        }
        for wrong in [&supplied[1..], &[], b"%00", &[&supplied[..], b"0"].concat()] {
            let request = changed(&vector.request, &supplied, wrong).unwrap();
            let about = format!("{}: {}", sender.name(), vector.about);
            assert_eq!(run(recipe, &request, now(vector)).outcome, Outcome::Rejected, "{about}");
        }
    });
    assert!(tried > 800, "{tried}");
}

#[test]
fn a_wrong_secret_or_public_key_is_refused() {
    accepted(|sender, vector, _| {
        let mut terms = vector.terms();
        terms.keys.values_mut().for_each(|key| *key = other_key(key));
        for secret in &mut terms.secrets {
            let mut bytes = secret.value.expose().to_vec();
            let middle = bytes.len() / 2;
            bytes[middle] = if bytes[middle] == b'A' { b'B' } else { b'A' };
            secret.value = Secret::new(bytes);
        }
        let recipe = Recipe::compile(sender, &terms).unwrap();
        let came = run(&recipe, &vector.request, now(vector));
        assert_eq!(came.outcome, Outcome::Rejected, "{}: {}", sender.name(), vector.about);
    });
}

/// Another key of the same kind and in the same writing.
fn other_key(written: &str) -> String {
    let p256 = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE";
    match written.starts_with(p256) {
        true => format!(
            "{p256}axfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q=="
        ),
        false => {
            let mut key = crate::sender::crypto::public_key::tests::rsa_spki();
            key[100] ^= 4;
            crate::sender::request::encoding::base64(&key)
        }
    }
}

#[test]
fn a_secret_ends_at_its_date() {
    accepted(|sender, vector, _| {
        let mut terms = vector.terms();
        if terms.secrets.is_empty() {
            return; // a public key has no date
        }
        for secret in &mut terms.secrets {
            secret.until_ms = Some(now(vector));
        }
        let recipe = Recipe::compile(sender, &terms).unwrap();
        assert_eq!(run(&recipe, &vector.request, now(vector)).outcome, Outcome::Rejected);
        assert_eq!(run(&recipe, &vector.request, now(vector) - 1).outcome, Outcome::Accepted);
    });
}

#[test]
fn proven_roles_cannot_be_changed_and_others_can() {
    let (mut proven, mut open) = (0, 0);
    accepted(|sender, vector, recipe| {
        if recipe.open.is_some() {
            return; // what is inside cannot be changed from outside, and what is outside is not read
        }
        let came = run(recipe, &vector.request, now(vector));
        let resolved = came.resolved.unwrap();
        for role in Role::ALL {
            let Some(value) = resolved.role(role) else { continue };
            // Roles of several parts and of opened messages are not one piece of the request.
            let wire = encoded(value);
            let named = format!("={wire}");
            let Some(request) =
                changed(&vector.request, named.as_bytes(), format!("{named}7").as_bytes())
            else {
                continue;
            };
            let came = run(recipe, &request, now(vector));
            let covered = resolved.authenticated().contains(&role);
            if !resolved.recut().is_empty() {
                continue; // signed, and yet not to be relied on
            }
            let about = format!("{}: {}, {}", sender.name(), vector.about, role.as_str());
            if covered {
                proven += 1;
                assert_eq!(came.outcome, Outcome::Rejected, "{about}");
            } else if came.outcome == Outcome::Accepted {
                open += 1; // a value that can be re-cut is signed, and not covered
            }
        }
    });
    assert!(proven >= 40 && open >= 5, "{proven} proven, {open} not");
}

fn encoded(value: &str) -> String {
    let mut out = Vec::new();
    crate::sender::request::encoding::percent(value.as_bytes(), &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn a_duplicate_is_answered_like_the_first() {
    accepted(|sender, vector, recipe| {
        let mut callback = recipe.read(vector.request.borrow(), now(vector));
        assert!(matches!(callback.verify(), Judgement::Verified(_)));
        if callback.has_own_answer(Outcome::Duplicate) {
            return; // its sender wants to be told
        }
        let salt = || [7; 16];
        let first = callback.draft_reply(Outcome::Accepted, None, &salt);
        let again = callback.draft_reply(Outcome::Duplicate, None, &salt);
        assert_eq!(first, again, "{}", sender.name());
    });
}

#[test]
fn no_reply_holds_a_secret_or_signs_for_a_stranger() {
    each_vector(|sender, vector, recipe| {
        let mut callback = recipe.read(vector.request.borrow(), now(vector));
        let verified = matches!(callback.verify(), Judgement::Verified(_));
        for outcome in Outcome::ALL {
            let reasons = Reason::ALL.iter().map(|reason| Some(*reason));
            for reason in reasons.chain([None]) {
                let reply = shown(&callback.draft_reply(*outcome, reason, &|| [7; 16]));
                for secret in &recipe.secrets {
                    let secret = String::from_utf8_lossy(secret.value.expose()).into_owned();
                    // The vectors' secrets of one letter are in every text.
                    assert!(secret.len() < 4 || !reply.contains(&secret), "{}", sender.name());
                }
                if !verified {
                    assert!(!reply.contains("\"sign\":\"7"), "{}: {reply}", sender.name());
                }
            }
        }
    });
}

#[test]
fn order_escapes_and_strangers_in_a_query_change_nothing_that_is_not_signed() {
    accepted(|sender, vector, recipe| {
        let signs_order = recipe.variants.iter().any(|variant| {
            let mut inputs = variant.signed.values.iter().map(|value| &value.input);
            inputs.any(|input| {
                use crate::sender::language::coverage::SignedInput as S;
                matches!(input, S::Query | S::Pairs { gathered: Some(_), .. })
            })
        });
        if signs_order || vector.request.method != http::Method::GET {
            return;
        }
        let target = String::from_utf8_lossy(&vector.request.target).into_owned();
        let Some((path, query)) = target.split_once('?') else { return };
        let mut pairs: Vec<&str> = query.split('&').collect();
        pairs.reverse();
        let reversed = format!("{path}?{}&exch_rate_c2u=7.1", pairs.join("&"));
        let request = OwnedRequest { target: reversed.into_bytes(), ..vector.request.clone() };
        let came = run(recipe, &request, now(vector));
        assert_eq!(came.outcome, Outcome::Accepted, "{}: {}", sender.name(), vector.about);
    });
}

/// A source of `sender` with the given TOML.
fn source(sender: &str, source: &str) -> Result<Recipe, Vec<DefinitionError>> {
    let catalog = Catalog::embedded().unwrap();
    let file = crate::sender::language::file::Vector {
        about: String::new(),
        source: source.parse().unwrap(),
        keys: Default::default(),
        now: None,
        request: "GET /".to_owned(),
        expect: toml::Table::new(),
    };
    Recipe::compile(catalog.get(sender).unwrap(), &Vector::parse(file).unwrap().terms())
}

fn get(target: &str) -> OwnedRequest {
    OwnedRequest::parse(&format!("GET {target}")).unwrap()
}

fn vector_terms(text: &str) -> Terms {
    let file = crate::sender::language::file::Vector {
        about: String::new(),
        source: text.parse().unwrap(),
        keys: Default::default(),
        now: None,
        request: "GET /".to_owned(),
        expect: toml::Table::new(),
    };
    Vector::parse(file).unwrap().terms()
}

const TAKU: &str = "secrets = \"0123456789abcdefghijklmnopqrstuv\"\n";
const TAKU_QUERY: &str = "trans_id=tr-0001&placement_id=b1e2f3a4b5c6d7&adsource_id=90001\
    &reward_amount=10&reward_name=coin&sign=a88acafa514d10c31a897037694fe8b4";

/// The reply to a callback for `outcome`: to an unauthenticated caller where it is rejected.
fn told(recipe: &Recipe, vector: &Vector, outcome: Outcome, reason: Option<Reason>) -> String {
    let mut callback = recipe.read(vector.request.borrow(), now(vector));
    if reason.is_none_or(|reason| reason == Reason::PinnedReward) {
        assert!(!matches!(callback.verify(), Judgement::Rejected(_)), "{}", vector.about);
    }
    shown(&callback.draft_reply(outcome, reason, &|| [7; 16]))
}

/// The replies of a sender: outcomes and reasons with the same reply together.
fn replies_of(sender: &std::sync::Arc<Sender>) -> String {
    let of = |outcome| sender.vectors.iter().find(|vector| vector.expects("outcome", outcome));
    let accepted = of("accepted").unwrap();
    let mut rows: Vec<(String, Vec<&str>)> = Vec::new();
    let mut add = |vector, outcome: Outcome, reason: Option<Reason>| {
        let reply = told(&recipe(sender, vector), vector, outcome, reason);
        let name = reason.map_or(outcome.as_str(), Reason::as_str);
        match rows.iter_mut().find(|(known, _)| *known == reply) {
            Some((_, names)) => names.push(name),
            None => rows.push((reply, vec![name])),
        }
    };
    for outcome in [
        Outcome::Accepted,
        Outcome::Duplicate,
        Outcome::Conflict,
        Outcome::Ambiguous,
        Outcome::Test,
    ] {
        add(accepted, outcome, None);
    }
    for reason in
        [Reason::BadSignature, Reason::MissingParameter, Reason::Stale, Reason::PinnedReward]
    {
        add(accepted, Outcome::Rejected, Some(reason));
    }
    add(accepted, Outcome::Disabled, None);
    add(accepted, Outcome::Unavailable, None);
    if let Some(asks) = of("challenge") {
        add(asks, Outcome::Challenge, None);
    }
    let lines = rows.iter().map(|(reply, names)| format!("  {}: {reply}\n", names.join(", ")));
    lines.collect()
}

#[test]
fn every_sender_is_told_what_its_console_wants() {
    let file = "fixtures/senders/replies.txt";
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let catalog = Catalog::embedded().unwrap();
    let mut table = String::new();
    for sender in catalog.iter() {
        table += &format!("{}\n{}", sender.name(), replies_of(sender));
    }
    if std::env::var_os("POSTERN_WRITE").is_some() {
        std::fs::write(&path, &table).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    for (line, (expected, got)) in written.lines().zip(table.lines()).enumerate() {
        assert_eq!(expected, got, "{file}:{}; POSTERN_WRITE=1 rewrites it", line + 1);
    }
    assert_eq!(written.lines().count(), table.lines().count(), "{file}");
}

/// A sender file of which `of` is signed, with `more` before its tables and one accepted vector.
fn file_of(of: &str, more: &str) -> String {
    let signed = [("{id}", "1"), ("{user}", "u1"), ("{amount}", "5"), ("[secret]", "k")]
        .iter()
        .fold(of.to_owned(), |text, (placeholder, value)| text.replace(placeholder, value));
    let signature = digest_of(&signed);
    format!(
        "title = \"t\"\ndocs = [\"https://example.com\"]\nbasis = \"documentation\"\n\
         secret = \"s\"\n{more}\n[roles]\ntransaction = \"{{id}}\"\nuser = \"{{user}}\"\n\
         amount = \"{{amount}}\"\n\
         [signature]\nof = {of:?}\nwith = \"md5\"\nin = \"{{sign}}\"\n\
         [reply]\naccepted = 200\nrejected = 403\nunavailable = 503\n\
         [[vector]]\nabout = \"own\"\nsource = {{ secrets = \"k\" }}\n\
         request = \"GET /?id=1&user=u1&amount=5&sign={signature}\"\n\
         expect = {{ outcome = \"accepted\" }}\n"
    )
}

/// The errors of such a file.
fn errors_of(of: &str, more: &str) -> Vec<String> {
    let text = file_of(of, more);
    match Sender::parse("mine", &text) {
        Ok(sender) => prove(&std::sync::Arc::new(sender)).iter().map(ToString::to_string).collect(),
        Err(faults) => {
            faults.iter().map(|fault| format!("{}: {}", fault.key, fault.what)).collect()
        }
    }
}

fn digest_of(text: &str) -> String {
    use md5::Digest as _;
    const_hex::encode(md5::Md5::digest(text))
}

#[test]
fn facts_that_cannot_be_facts_do_not_load() {
    let of = "{id}:{user}:[secret]";
    assert_eq!(errors_of(of, "[shapes]\nid = \"digits\""), [""; 0]);
    let app = "from_client = \"user\"\n[shapes]\nuser = \"word\"";
    assert_eq!(errors_of(of, app), ["shapes.user: is the shape of what an app sets"]);
    assert_eq!(errors_of(of, &app.replace("word", "free")), [""; 0]);
    let nothing = "[shapes]\nidd = \"digits\"";
    assert_eq!(errors_of(of, nothing), ["shapes.idd: is read by no signed text"]);
    let unshaped = "[shapes]\nrefuse = [\"id\"]\ntogether = [\"user\"]";
    assert_eq!(errors_of(of, unshaped), ["shapes.id: is missing", "shapes.user: is missing"]);
    for by in ["event", "[secret]", "[now]"] {
        let found = errors_of(of, &format!("[identity]\nby = {by:?}"));
        assert_eq!(found, ["identity.by: reads nothing of the callback"], "{by}");
    }
    assert_eq!(errors_of(of, "[identity]\nby = \"{id}\""), [""; 0]);
}

#[test]
fn a_token_is_bordered_by_what_separates_values_and_by_nothing_else() {
    // The name in front of the first value begins with a `t`, and is not a separator.
    let sender = Sender::parse("mine", TOKEN).unwrap();
    assert_eq!(prove(&std::sync::Arc::new(sender)), []);
}

const TOKEN: &str = r#"
title  = "t"
secret = "s"
[roles]
transaction = "{trans}"
user        = "{user}"
[shapes]
trans = "token"
[signature]
of   = "trans={trans}&user={user}&end=[secret]"
with = "md5"
in   = "{sign}"
[reply]
accepted    = 200
rejected    = 403
unavailable = 503
[[vector]]
about   = "own"
source  = { secrets = "k" }
request = "GET /?trans=tdt&user=u1%26user%3Du2&sign=c55b0661a375a374848dbcad5ddae2d6"
expect  = { outcome = "accepted", misfits = "", authenticated = "transaction user" }
"#;
