//! The usual mistakes, made on purpose.

use super::own::{self, Own, Part};
use super::scene::{Scene, Slip, live};
use crate::sender::Recipe;
use crate::sender::acts::explain::MistakeKind;
use crate::sender::language::definition::Reads;

/// Sets the text of the part called `name`.
fn say(own: &mut Own, name: &str, text: &[u8]) {
    for part in own.parts.iter_mut().filter(|part| part.name.as_deref() == Some(name)) {
        part.text = text.to_vec();
    }
}

/// A value as the list writes it.
fn in_form(scene: &Scene, text: &[u8]) -> Vec<u8> {
    scene.own.encoded(text)
}

/// Parameters of one vector whose values are rewritten.
const REWRITTEN_MAX: usize = 2;

fn values(scene: &Scene) -> Vec<Slip> {
    let mut slips = Vec::new();
    let in_query = !scene.request.target.is_empty() && scene.request.target.contains(&b'=');
    for (index, name) in scene.free().into_iter().enumerate() {
        let says = |with: &Scene, text: &[u8]| with.changed(|own| say(own, &name, text));
        let some = Some(name.as_str());
        if let Some(with) = scene.with_value(&name, "x%20y%2Fz").filter(|_| in_query) {
            let own = says(&with, b"x%20y%2Fz");
            slips.extend(with.signed(MistakeKind::RawValues, some, "raw", &own));
            // Where the rule encodes values, another encoding is another writing of the same.
            let is_encoded = scene.own.each == "form" || scene.own.each.starts_with("percent");
            let otherwise = match is_encoded {
                true => MistakeKind::ValueReformatted,
                false => MistakeKind::RawValues,
            };
            let own = says(&with, b"x+y%2Fz");
            slips.extend(with.signed(otherwise, some, "form-encoded", &own));
            if is_encoded {
                let own = says(&with, b"x y/z");
                slips.extend(with.signed(MistakeKind::DecodedValues, some, "decoded", &own));
            }
            let escaped: &[u8] = if scene.own.each == "form" { b"x+y%2fz" } else { b"x%20y%2fz" };
            // Escapes in lower case are escapes all the same.
            slips.extend(with.signed(otherwise, some, "%2f", &says(&with, escaped)));
        }
        if let Some(with) = scene.with_value(&name, "x%2520y").filter(|_| in_query) {
            let own = says(&with, &in_form(&with, b"x y"));
            slips.extend(with.signed(MistakeKind::DecodedValues, some, "decoded twice", &own));
        }
        if let Some(with) = scene.with_value(&name, "x+y").filter(|_| in_query) {
            let (kind, text) = if with.own.plus_kept {
                (MistakeKind::PlusAsBlank, b"x y")
            } else {
                (MistakeKind::PlusKept, b"x+y")
            };
            let own = says(&with, &in_form(&with, text));
            let slip = with.signed(kind, some, "x+y on the wire", &own);
            // Where both meanings have a variant, a mixture is a mistake with either.
            let twins: &[_] = if scene.has_twins() { &[MistakeKind::PlusKept] } else { &[] };
            slips.extend(slip.map(|slip| slip.or(twins)));
        }
        if let Some(with) = scene.with_value(&name, "x%2By").filter(|_| in_query) {
            let own = says(&with, &in_form(&with, b"x y"));
            slips.extend(with.signed(MistakeKind::PlusAsBlank, some, "x%2By on the wire", &own));
        }
        if index < REWRITTEN_MAX {
            slips.extend(rewritten(scene, &name));
        }
    }
    slips.extend(bodies(scene));
    if scene.own.escaped {
        let own = scene.changed(|own| own.escaped = false);
        slips.extend(scene.signed(MistakeKind::DecodedValues, None, "the list as it is", &own));
    }
    slips
}

fn rewritten(scene: &Scene, name: &str) -> Vec<Slip> {
    let mut slips = Vec::new();
    let json = "%7B%22b%22%3A%201%2C%20%22a%22%3A%22%E4%BA%BA%22%7D";
    for (wire, signed) in [
        ("10", "10.0"),
        ("10", "10.00"),
        ("3000.000000", "3000"),
        ("10.50", "10.5"),
        ("007", "7"),
        ("12345678901234567891", "12345678901234567000"),
        ("1700000000123", "1700000000"),
        ("Gold", "gold"),
        ("gold", "GOLD"),
        ("true", "1"),
        ("x%20", "x"),
        (json, "{\"b\":1,\"a\":\"人\"}"),
        (json, "{\"a\":\"人\",\"b\":1}"),
        (json, "{\"b\": 1, \"a\": \"\\u4eba\"}"),
        (json, "{\n  \"b\": 1,\n  \"a\": \"人\"\n}"),
    ] {
        let escaped = wire.contains('%') && !scene.request.target.contains(&b'=');
        let Some(with) = scene.with_value(name, wire).filter(|_| !escaped) else { continue };
        let own = with.changed(|own| say(own, name, &in_form(&with, signed.as_bytes())));
        let about = format!("{wire} as {signed}");
        slips.extend(with.signed(MistakeKind::ValueReformatted, Some(name), &about, &own));
    }
    slips
}

/// The body of senders that sign it whole.
fn bodies(scene: &Scene) -> Vec<Slip> {
    if !scene.own.parts.iter().any(|part| part.name.as_deref() == Some("body")) {
        return Vec::new();
    }
    let body = "{\"id\": \"evt_1\", \"amount\": 10.50}";
    let Some(with) = scene.with_body(body) else { return Vec::new() };
    // A line end behind the body is one behind the text as well.
    let texts = [
        "{\"id\":\"evt_1\",\"amount\":10.50}",
        "{\"amount\":10.5,\"id\":\"evt_1\"}",
        "{\n  \"id\": \"evt_1\",\n  \"amount\": 10.50\n}",
        "{\"id\": \"evt_1\", \"amount\": 10.50}\n",
    ];
    let slip = |text: &&str| {
        let own = with.changed(|own| say(own, "body", text.as_bytes()));
        let slip = with.signed(MistakeKind::ValueReformatted, Some("body"), text, &own)?;
        Some(if text.ends_with('\n') { slip.or(&[MistakeKind::Separator]) } else { slip })
    };
    texts.iter().filter_map(slip).collect()
}

fn empties(scene: &Scene) -> Vec<Slip> {
    let mut slips = Vec::new();
    let own_names: Vec<String> = scene.sender.text.split('"').map(str::to_owned).collect();
    for name in scene.free() {
        let Some(with) = scene.with_value(&name, "") else { continue };
        let some = Some(name.as_str());
        let dropped = with.own.dropped.iter().map(|(_, part)| part);
        let labelled = with.own.parts.iter().chain(dropped).any(|p| !p.label.is_empty());
        let between = with.own.parts.iter().skip(1).any(|part| !part.between.is_empty());
        // Without names or separators an empty value leaves no trace: either way the same bytes.
        if !labelled && !between {
            continue;
        }
        if with.own.empty_dropped {
            let own = kept(&with, &name).unwrap();
            slips.extend(with.signed(MistakeKind::EmptyKept, some, "empty kept", &own));
        } else if !with.own.sorted {
            let own = with.changed(|own| own.parts.retain(|part| part.name.as_deref() != some));
            slips.extend(with.signed(MistakeKind::EmptyDropped, some, "empty dropped", &own));
        }
    }
    // A documented name that did not come, sent empty.
    for name in own_names.iter().filter(|name| scene.own.empty_dropped && is_name(name)) {
        let Some(with) = scene.with_extra(name, "") else { continue };
        let Some(own) = kept(&with, name) else { continue };
        slips.extend(with.signed(MistakeKind::EmptyKept, Some(name), "empty sent and kept", &own));
    }
    slips
}

/// With an empty value that the rule omits, in its place.
fn kept(scene: &Scene, name: &str) -> Option<Own> {
    let is_it = |(_, part): &&(usize, Part)| part.name.as_deref() == Some(name);
    let (at, part) = scene.own.dropped.iter().find(is_it)?.clone();
    Some(scene.changed(|own| own.parts.insert(at, part)))
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn insert_sorted(own: &mut Own, part: Part) {
    let at = own.parts.iter().take_while(|p| p.listed && p.label < part.label).count();
    own.parts.insert(at, part);
}

fn parts(scene: &Scene) -> Vec<Slip> {
    let mut slips = Vec::new();
    for (index, part) in scene.own.parts.iter().enumerate() {
        let Some(name) = part.name.as_deref().filter(|_| !part.text.is_empty()) else { continue };
        let own = scene.changed(|own| drop(own.parts.remove(index)));
        slips.extend(scene.signed(MistakeKind::ParameterNotSigned, Some(name), "left out", &own));
    }
    let reads_query = scene.sender.reads.contains(&Reads::Query);
    for name in ["aa_extra", "zz_extra"].into_iter().filter(|_| reads_query) {
        let Some(with) = scene.with_extra(name, "e-x") else { continue };
        if with.own.parts.iter().any(|part| part.name.as_deref() == Some(name)) {
            let own =
                with.changed(|own| own.parts.retain(|part| part.name.as_deref() != Some(name)));
            slips.extend(with.signed(
                MistakeKind::ParameterNotSigned,
                Some(name),
                "a new one left out",
                &own,
            ));
            continue;
        }
        let labelled = with.own.parts.iter().find(|part| !part.label.is_empty());
        let extra = Part {
            between: with.own.parts.get(1).map(|p| p.between.clone()).unwrap_or_default(),
            label: labelled.map_or(String::new(), |_| name.to_owned()),
            within: labelled.map_or(String::new(), |part| part.within.clone()),
            name: Some(name.to_owned()),
            raw: b"e-x".to_vec(),
            decoded: b"e-x".to_vec(),
            text: b"e-x".to_vec(),
            listed: true,
            steps: Vec::new(),
        };
        let mut ways = vec![with.changed(|own| own.parts.push(extra.clone()))];
        if with.own.parts.iter().any(|part| part.listed) {
            ways.push(with.changed(|own| insert_sorted(own, extra.clone())));
        }
        for own in ways {
            slips.extend(with.signed(MistakeKind::ExtraParameterSigned, Some(name), "extra", &own));
        }
    }
    slips
}

fn orders(scene: &Scene) -> Vec<Slip> {
    let mut slips = Vec::new();
    let len = scene.own.parts.len();
    let mut add = |about: &str, own: Own| {
        slips.extend(scene.signed(MistakeKind::Order, None, about, &own));
    };
    if scene.own.sorted {
        add("as the file lists them", scene.changed(|own| own.sorted = false));
        let backwards = scene.changed(|own| {
            own.parts.sort_by(|one, other| other.text.cmp(&one.text));
            own.sorted = false;
        });
        add("sorted backwards", backwards);
        return slips;
    }
    for at in 1..len {
        add("two swapped", scene.changed(|own| own.parts.swap(at - 1, at)));
    }
    add("in reverse", scene.changed(|own| own.parts.reverse()));
    add("sorted by name", scene.changed(|own| own.parts.sort_by_key(|part| part.name.clone())));
    add("sorted by value", scene.changed(|own| own.parts.sort_by_key(|part| part.text.clone())));
    if let Some(at) = scene.own.parts.iter().position(|part| part.name.is_none()) {
        let first = scene.changed(|own| {
            let secret = own.parts.remove(at);
            own.parts.insert(0, secret);
        });
        add("the secret in front", first);
        let last = scene.changed(|own| {
            let secret = own.parts.remove(at);
            own.parts.push(secret);
        });
        add("the secret at the end", last);
        let bare = scene.changed(|own| {
            let secret = own.parts.remove(at);
            let bare = Part { label: "".into(), within: "".into(), between: "".into(), ..secret };
            own.parts.push(bare);
        });
        add("the secret on its own at the end", bare);
    }
    // A part that says what its neighbour says stands where it stood.
    slips.retain(|slip| !scene.verifies(&slip.request));
    // The last parameter that one reading signs is one too many for a reading that does not.
    if scene.has_twins() {
        slips.iter_mut().for_each(|slip| slip.or.push(MistakeKind::ExtraParameterSigned));
    }
    // Only the text before the secret is another thing then.
    let bare = "the secret on its own at the end";
    for slip in slips.iter_mut().filter(|slip| slip.about.ends_with(bare)) {
        slip.or.push(MistakeKind::Separator);
    }
    slips
}

fn separators(scene: &Scene) -> Vec<Slip> {
    let mut slips = Vec::new();
    if scene.own.parts.len() < 2 {
        return slips;
    }
    let mut add = |about: String, own: Own| {
        slips.extend(scene.signed(MistakeKind::Separator, None, &about, &own));
    };
    for between in ["", "&", ":", ",", "_", "|", "\n"] {
        add(
            format!("{between:?} between"),
            scene.changed(|own| {
                own.parts.iter_mut().for_each(|part| part.between = between.into());
            }),
        );
    }
    for within in ["", "=", ":"] {
        add(
            format!("{within:?} within"),
            scene.changed(|own| {
                let labelled = own.parts.iter_mut().filter(|part| !part.label.is_empty());
                labelled.for_each(|part| part.within = within.into());
            }),
        );
    }
    add(
        "no names".into(),
        scene.changed(|own| {
            for part in &mut own.parts {
                part.label.clear();
                part.within.clear();
            }
        }),
    );
    let between = scene.own.parts[1].between.clone();
    let between = if between.is_empty() { "&".to_owned() } else { between };
    add("one behind".into(), scene.changed(|own| own.tail.push_str(&between)));
    add("one in front".into(), scene.changed(|own| own.head.insert_str(0, &between)));
    for at in 1..scene.own.parts.len() {
        add("one missing".into(), scene.changed(|own| own.parts[at].between.clear()));
    }
    slips.retain(|slip| !scene.verifies(&slip.request));
    // A line end in front of a secret that stands last is as well its own.
    let line_end = slips.iter_mut().filter(|slip| slip.about.contains("\\n"));
    line_end.for_each(|slip| slip.or.push(MistakeKind::SecretWhitespace));
    slips
}

fn secrets(scene: &Scene) -> Vec<Slip> {
    let mut slips = Vec::new();
    let mut add = |scene: &Scene, kind, about: &str, secret: Vec<u8>| {
        // A secret that is sent as it is ends no line: a header could not hold it.
        let supplied = scene.own.supplied(&secret).filter(|text| !text.contains(['\r', '\n']));
        slips.extend(supplied.map(|supplied| scene.slip(kind, None, about, &supplied)));
    };
    let own = scene.secret.clone();
    let with = |tail: &[u8]| [&own, tail].concat();
    add(scene, MistakeKind::SecretWhitespace, "line end", with(b"\n"));
    add(scene, MistakeKind::SecretWhitespace, "CR LF", with(b"\r\n"));
    add(scene, MistakeKind::SecretWhitespace, "blank", with(b" "));
    add(scene, MistakeKind::SecretWhitespace, "blank in front", [b" ", &own[..]].concat());
    if let Some(scene) = scene.with_secret(&format!("{} ", String::from_utf8_lossy(&own))) {
        add(&scene, MistakeKind::SecretWhitespace, "ours has a space", own.clone());
    }
    let lower = own.to_ascii_lowercase();
    add(scene, MistakeKind::SecretEncoding, "lower case", lower);
    add(scene, MistakeKind::SecretEncoding, "upper case", own.to_ascii_uppercase());
    add(scene, MistakeKind::SecretEncoding, "its hex", own::hex(&own).into_bytes());
    add(scene, MistakeKind::SecretEncoding, "its base64", own::base64(&own).into_bytes());
    let md5 = own::digest(&["md5".into(), "hex".into()], b"", &own);
    add(scene, MistakeKind::SecretEncoding, "its md5", md5);
    if let Some(scene) = scene.with_secret("00112233445566778899aabbccddeeff") {
        let bytes = (0..16).map(|index| index * 0x11).collect();
        add(&scene, MistakeKind::SecretEncoding, "hex-decoded", bytes);
    }
    if let Some(scene) = scene.with_secret("c2VjcmV0LWtleS1vZi1vdXJz") {
        add(&scene, MistakeKind::SecretEncoding, "base64-decoded", b"secret-key-of-ours".to_vec());
    }
    if let Some(scene) = scene.with_secret("whsec_c2VjcmV0LWtleS1vZi1vdXJz")
        && scene.own.key == "[secret]"
    {
        add(&scene, MistakeKind::SecretEncoding, "no prefix", b"c2VjcmV0LWtleS1vZi1vdXJz".to_vec());
    }
    slips.extend(keys(scene));
    slips
}

/// The secret as it is, where the rule makes something of it: a key of an HMAC that is written with a
/// prefix, in base64 or beside something else, or a digest in the text.
fn keys(scene: &Scene) -> Vec<Slip> {
    if scene.own.parts.iter().any(|part| !part.steps.is_empty()) {
        let own = scene.changed(|own| own.parts.iter_mut().for_each(|part| part.steps.clear()));
        let slip = scene.signed(MistakeKind::SecretEncoding, None, "not digested", &own);
        return slip.into_iter().collect();
    }
    let text = scene.own.text(&scene.secret);
    if !scene.own.decodes_secret() {
        let key = &scene.secret[..];
        let supplied = scene.own.written(&own::digest(&scene.own.with, key, &text));
        let slip = scene.slip(MistakeKind::SecretEncoding, None, "the secret alone", &supplied);
        let is_made = scene.own.is_keyed() && scene.own.key != "[secret]";
        return is_made.then_some(slip).into_iter().collect();
    }
    let secret = String::from_utf8(scene.secret.clone()).unwrap();
    let bare = secret.split_once('_').map_or(secret.as_str(), |(_, rest)| rest);
    [secret.as_str(), bare]
        .iter()
        .map(|key| {
            let supplied = scene.own.written(&own::digest(&scene.own.with, key.as_bytes(), &text));
            scene.slip(MistakeKind::SecretEncoding, None, "not decoded", &supplied)
        })
        .collect()
}

fn digests(scene: &Scene) -> Vec<Slip> {
    let mut slips = Vec::new();
    let secret = &scene.secret;
    let text = scene.own.text(secret);
    let key = scene.own.key_of(secret).unwrap();
    let bare = scene.changed(|own| own.parts.retain(|part| part.name.is_some())).text(b"");
    let mut chains: Vec<Vec<&str>> = Vec::new();
    for digest in ["md5", "sha1", "sha256", "sha512"] {
        chains.extend([vec![digest], vec![digest, digest], vec![digest, "hex", digest]]);
    }
    let mut add = |about: String, digest: Vec<u8>| {
        let supplied = scene.own.written(&digest);
        slips.push(scene.slip(MistakeKind::OtherDigest, None, &about, &supplied));
    };
    let chain = |steps: &[&str]| steps.iter().map(|step| (*step).to_owned()).collect::<Vec<_>>();
    for steps in chains.iter().map(|steps| chain(steps)) {
        if scene.own.is_keyed() && steps.len() > 1 {
            continue;
        }
        if scene.own.is_keyed() {
            for (about, text) in [
                ("secret behind", [&text[..], secret].concat()),
                ("secret in front", [&secret[..], &text].concat()),
            ] {
                add(format!("{steps:?}, {about}"), own::digest(&steps, b"", &text));
            }
        } else if steps != scene.own.with {
            add(format!("{steps:?}"), own::digest(&steps, b"", &text));
        }
    }
    for hmac in ["hmac_md5", "hmac_sha1", "hmac_sha256", "hmac_sha512"].map(|one| chain(&[one])) {
        if hmac != scene.own.with {
            add(format!("{hmac:?}"), own::digest(&hmac, &key, &text));
            if !scene.own.is_keyed() {
                add(format!("{hmac:?}, no secret in it"), own::digest(&hmac, &key, &bare));
            }
        }
    }
    slips
}

fn encodings(scene: &Scene) -> Vec<Slip> {
    let digest = scene.own.digest(&scene.secret).unwrap();
    let hex = own::hex(&digest);
    let base64 = own::base64(&digest);
    let url = base64.replace('+', "-").replace('/', "_").trim_end_matches('=').to_owned();
    let mut supplied_signatures = vec![
        ("hex", hex.clone()),
        ("base64", base64.clone()),
        ("base64url", url),
        ("base64 of hex", own::base64(hex.as_bytes())),
        ("cut", hex[..hex.len() / 2].to_owned()),
        ("the middle", hex[hex.len() / 4..hex.len() * 3 / 4].to_owned()),
        ("a word in front", format!("sha256={}", scene.own.written(&digest))),
        ("quotes", format!("\"{hex}\"")),
    ];
    if scene.own.writing == "hex" {
        supplied_signatures
            .push(("upper-case base64 of hex", own::base64(hex.to_uppercase().as_bytes())));
    }
    // Quotes end a JSON text, and commas a list.
    let plain = !scene.request.body.starts_with(b"{") && !scene.own.supplied.contains("sig.");
    // Of a bare secret there is no digest to be written in another way.
    supplied_signatures
        .retain(|(about, _)| !is_bare(scene) || matches!(*about, "a word in front" | "quotes"));
    if is_bare(scene) {
        supplied_signatures.retain(|(about, _)| *about != "quotes");
        supplied_signatures.push(("quotes", format!("\"{}\"", scene.own.written(&digest))));
    }
    supplied_signatures
        .retain(|(about, _)| plain || !matches!(*about, "quotes" | "a word in front"));
    supplied_signatures
        .iter()
        .map(|(about, supplied)| scene.slip(MistakeKind::OtherEncoding, None, about, supplied))
        .collect()
}

fn unknown(scene: &Scene) -> Vec<Slip> {
    let supplied =
        scene.own.written(&own::digest(&scene.own.with, b"other", b"nothing of the kind"));
    let wrong_secret = scene.own.supplied(b"an unknown secret");
    let supplied_signatures = std::iter::once(supplied).chain(wrong_secret);
    supplied_signatures
        .map(|supplied| scene.slip(MistakeKind::Unknown, None, "no reason", &supplied))
        .collect()
}

/// The mistakes that can be made with `scene`; those independent of values only for the first
/// vector of a variant.
pub(super) fn all(scene: &Scene, seen: &mut Vec<(String, usize)>) -> Vec<Slip> {
    let mut makers: Vec<fn(&Scene) -> Vec<Slip>> = vec![values, empties, parts, orders];
    let variant = (scene.sender.name().to_owned(), scene.variant);
    if !seen.contains(&variant) {
        makers.extend([separators, secrets, digests, encodings, unknown, elsewhere]);
        seen.push(variant);
    }
    let mut slips: Vec<Slip> = makers.iter().flat_map(|make| make(scene)).collect();
    if is_bare(scene) {
        // Whatever is sent in place of a bare secret is another writing or a digest of it.
        for slip in slips.iter_mut().filter(|slip| slip.kind != MistakeKind::Unknown) {
            slip.or.extend([MistakeKind::SecretEncoding, MistakeKind::OtherEncoding]);
        }
    }
    slips
}

/// Whether the supplied signature is the secret itself.
fn is_bare(scene: &Scene) -> bool {
    scene.own.with == ["equal"]
}

/// Signed with another source's secret.
fn elsewhere(scene: &Scene) -> Vec<Slip> {
    let supplied = scene.own.supplied(b"whsec_YW5vdGhlciBzb3VyY2UncyBzZWNyZXQ=");
    supplied
        .map(|supplied| scene.slip(MistakeKind::OtherSecret, None, "", &supplied))
        .into_iter()
        .collect()
}

/// Another source of the same sender, with a secret of its own.
pub(super) fn another(scene: &Scene) -> Recipe {
    let mut terms = scene.terms.clone();
    terms.source = "another".into();
    terms.secrets = vec![live(b"whsec_YW5vdGhlciBzb3VyY2UncyBzZWNyZXQ=")];
    Recipe::compile(&scene.sender, &terms).unwrap_or_else(|_| {
        // A key that is written in hex.
        terms.secrets = vec![live(&[b'7'; 64])];
        Recipe::compile(&scene.sender, &terms).unwrap()
    })
}
