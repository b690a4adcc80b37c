//! Mistakes in the secret, the digest and the writing of the supplied signature.

use crate::sender::acts::explain::advice::{Advice, Phrase, phrase};
use crate::sender::acts::explain::case::{Budget, Case};
use crate::sender::acts::explain::decoding::Decoding;
use crate::sender::acts::explain::draft::{Content, Draft, Item};
use crate::sender::acts::explain::public;
use crate::sender::acts::explain::{Mistake, MistakeKind};
use crate::sender::acts::signature;
use crate::sender::crypto::digest::{self, Algorithm, Output};
use crate::sender::language::definition::{Chain, First, Step, Writing};
use crate::sender::request::encoding::{self, Plus};

/// The right digest, written in another way.
pub(super) fn encoding(case: &Case<'_>, budget: &mut Budget) -> Option<Mistake> {
    if case.variant.public.is_some() {
        // Few checks, before the others use up what may be spent.
        return public::encoding(case, budget).or_else(|| public::other_scheme(case, budget));
    }
    for material in &case.materials {
        let Some(output) = own_output(case, material, budget) else { continue };
        let says = |supplied: &[u8]| match case.variant.writing {
            Writing::Text => case.variant.matches(&output, supplied).then_some(AS_IT_IS),
            _ => plainly(&output, supplied),
        };
        if let Some(about) =
            case.supplied_signatures.iter().find_map(|supplied| written_as(says, supplied))
        {
            let (en, zh) = rule(case);
            let advice = Advice::new(
                format!("The signature is valid, but written {}: {en}", about.en),
                format!("签名有效，但{}：{zh}", about.zh),
            );
            return Some(Mistake::new(MistakeKind::OtherEncoding, None, advice));
        }
    }
    None
}

/// The rule's output for the callback under `material`.
pub(super) fn own_output(case: &Case<'_>, material: &[u8], budget: &mut Budget) -> Option<Output> {
    let text = case.draft.written(material)?;
    let key = case.key(material)?;
    case.output(&case.variant.with, &text, &key, budget)
}

/// The text of a signature that is the secret itself.
const AS_IT_IS: Phrase = phrase("as it is", "前后多了其他字符");

/// How the sender writes its signatures: in English, and in Chinese.
fn rule(case: &Case<'_>) -> (String, String) {
    let writing = match case.variant.writing {
        Writing::Hex => phrase("hex", "十六进制"),
        Writing::Base64 => phrase("base64", " base64 "),
        Writing::Base64Url => {
            phrase("base64 of the URL-safe alphabet", " URL 安全字母表的 base64 ")
        }
        Writing::Text => return ("send it as it is.".to_owned(), "请原样发送。".to_owned()),
    };
    let Phrase { en, zh } = writing;
    match case.variant.cut {
        Some(cut) => (
            format!("send the first {cut} characters of its {en}."),
            format!("请发送其{zh}的前 {cut} 个字符。"),
        ),
        None => (format!("send it whole, in {en}."), format!("请以{zh}完整发送。")),
    }
}

/// Lengths that a signature is usually cut to. No other is reported: a reader who knows the start of
/// a signature could otherwise confirm one character after the other.
const CUTS: [usize; 8] = [16, 20, 24, 32, 40, 48, 64, 80];

/// The spelling of `supplied`, by `says` once the usual additions are removed.
fn written_as(says: impl Fn(&[u8]) -> Option<Phrase>, supplied: &[u8]) -> Option<Phrase> {
    if let Some(about) = says(supplied) {
        return Some(about);
    }
    let bare = bare(supplied);
    if bare != supplied && says(bare).is_some() {
        return Some(phrase("with something in front of it or behind it", "前后多了其他字符"));
    }
    let unescaped = encoding::unpercented(bare, Plus::Kept);
    if unescaped != bare && says(&unescaped).is_some() {
        return Some(phrase("percent-encoded twice", "被百分号编码了两次"));
    }
    let plus: Vec<u8> = bare.iter().map(|b| if *b == b' ' { b'+' } else { *b }).collect();
    (plus != bare && says(&plus).is_some())
        .then_some(phrase("with `+` turned into a space", "其中的 `+` 变成了空格"))
}

fn plainly(output: &Output, supplied: &[u8]) -> Option<Phrase> {
    let bytes = output.bytes();
    let same = |text: &str| digest::same(text.as_bytes(), supplied);
    let lower = supplied.to_ascii_lowercase();
    let hex = const_hex::encode(bytes);
    if supplied.len() > hex.len() {
        let upper = hex.to_ascii_uppercase();
        return if same(&encoding::base64(hex.as_bytes())) {
            Some(phrase("as the base64 of its hex text", "写成了其十六进制文本的 base64"))
        } else {
            let about = phrase(
                "as the base64 of its hex text in upper case",
                "写成了其大写十六进制文本的 base64",
            );
            same(&encoding::base64(upper.as_bytes())).then_some(about)
        };
    }
    if supplied.len() == hex.len() {
        return digest::same(hex.as_bytes(), &lower).then_some(phrase("in hex", "写成了十六进制"));
    }
    let padded = encoding::base64(bytes);
    if same(&padded) || same(&encoding::base64url(bytes)) {
        return Some(phrase("in base64", "写成了 base64"));
    }
    if same(padded.trim_end_matches('=')) {
        return Some(phrase("in base64 without padding", "写成了无填充的 base64"));
    }
    if !CUTS.contains(&supplied.len()) {
        return None;
    }
    let middle = hex.len() / 4..hex.len() * 3 / 4;
    let parts = [&hex[..supplied.len()], &hex[hex.len() - supplied.len()..], &hex[middle]];
    if parts.iter().any(|part| digest::same(part.as_bytes(), &lower)) {
        return Some(phrase("cut to a part of its hex", "只截取了其十六进制的一部分"));
    }
    same(&padded[..supplied.len().min(padded.len())])
        .then_some(phrase("cut to a part of its base64", "只截取了其 base64 的一部分"))
}

/// A supplied signature without white space, quotes and a leading word.
fn bare(supplied: &[u8]) -> &[u8] {
    let supplied = supplied.trim_ascii();
    let supplied =
        supplied.strip_prefix(b"\"").and_then(|c| c.strip_suffix(b"\"")).unwrap_or(supplied);
    let mark = supplied.iter().position(|byte| matches!(byte, b'=' | b',' | b':' | b' '));
    match mark {
        Some(at) if at + BARE_MIN < supplied.len() && at <= WORD_MAX => {
            supplied[at + 1..].trim_ascii()
        }
        _ => supplied,
    }
}

/// Characters that follow such a word at least.
const BARE_MIN: usize = 8;

/// Characters of the word in front of a supplied signature: `sha256=`, `HMAC-SHA256 `,
/// `signature:`.
const WORD_MAX: usize = 16;

/// A changed secret, and its name in the advice.
struct Variant {
    secret: Vec<u8>,
    advice: Phrase,
}

fn variant(secret: impl Into<Vec<u8>>, advice: Phrase) -> Variant {
    Variant { secret: secret.into(), advice }
}

/// White space at an end of the secret.
pub(super) fn secret_whitespace(case: &Case<'_>, budget: &mut Budget) -> Option<Mistake> {
    if case.variant.public.is_some() {
        return None; // a public key is read whole or not at all
    }
    const SIGNED: Phrase = phrase(
        "The secret was used with white space at one of its ends: remove it where the callback is \
         signed.",
        "签名时所用的密钥首尾带有空白：请在签名的一侧去掉。",
    );
    const OURS: Phrase = phrase(
        "The configured secret has white space at one of its ends: remove it from the source's \
         `secrets`.",
        "配置的密钥首尾带有空白：请从来源的 `secrets` 中去掉。",
    );
    for material in &case.materials {
        let own: &[u8] = material;
        let mut variants = vec![variant(own.trim_ascii(), OURS)];
        for blank in ["\n", "\r\n", " ", "\t", "\r", "\0"] {
            variants.push(variant([own, blank.as_bytes()].concat(), SIGNED));
            variants.push(variant([blank.as_bytes(), own].concat(), SIGNED));
        }
        variants.push(variant([b" ", own, b" "].concat(), SIGNED));
        for one in variants {
            if one.secret != own && case.matches_under(&case.draft, &one.secret, budget) {
                return Some(Mistake::new(MistakeKind::SecretWhitespace, None, one.advice));
            }
        }
    }
    None
}

/// Quotes or a byte order mark around the secret.
pub(super) fn secret_quoted(case: &Case<'_>, budget: &mut Budget) -> Option<Mistake> {
    if case.variant.public.is_some() {
        return None; // likewise
    }
    const SIGNED: Phrase = phrase(
        "The secret was used with quotes or a byte order mark around it: remove them where the \
         callback is signed.",
        "签名时所用的密钥两端带有引号或 BOM：请在签名的一侧去掉。",
    );
    const OURS: Phrase = phrase(
        "The configured secret has quotes or a byte order mark around it: remove them where it is \
         configured.",
        "配置的密钥两端带有引号或 BOM：请在配置中去掉。",
    );
    for material in &case.materials {
        let own: &[u8] = material;
        let core = core(own);
        let mut variants = Vec::new();
        if core != own.trim_ascii() {
            variants.push(variant(core, OURS));
        }
        for (start, end) in QUOTES {
            variants.push(variant([start.as_bytes(), own, end.as_bytes()].concat(), SIGNED));
        }
        variants.push(variant([MARK, own].concat(), SIGNED));
        for one in variants {
            if one.secret != own && case.matches_under(&case.draft, &one.secret, budget) {
                return Some(Mistake::new(MistakeKind::SecretQuoted, None, one.advice));
            }
        }
    }
    None
}

/// Quotes that are copied along with a secret.
const QUOTES: [(&str, &str); 5] = [("\"", "\""), ("'", "'"), ("`", "`"), ("“", "”"), ("<", ">")];

/// The byte order mark of UTF-8.
const MARK: &[u8] = "\u{feff}".as_bytes();

/// `secret` without the spaces, quotes and marks around it.
pub(super) fn core(secret: &[u8]) -> &[u8] {
    let mut core = secret;
    loop {
        let unmarked = core.strip_prefix(MARK).unwrap_or(core);
        let bare = unmarked.strip_suffix(MARK).unwrap_or(unmarked).trim_ascii();
        let unquoted = QUOTES.iter().find_map(|(start, end)| {
            bare.strip_prefix(start.as_bytes())?.strip_suffix(end.as_bytes())
        });
        let next = unquoted.unwrap_or(bare);
        if next.len() == core.len() {
            return core;
        }
        core = next;
    }
}

/// The secret decoded where it is not, or the reverse; in another case; with its prefix or without.
pub(super) fn secret_encoding(case: &Case<'_>, budget: &mut Budget) -> Option<Mistake> {
    if case.variant.public.is_some() {
        return None; // likewise
    }
    let mistake = |advice: Advice| Mistake::new(MistakeKind::SecretEncoding, None, advice);
    for material in &case.materials {
        let variants = encodings(material);
        for one in &variants {
            if one.secret != *material && case.matches_under(&case.draft, &one.secret, budget) {
                return Some(mistake(one.advice.into()));
            }
        }
        if !case.is_keyed() {
            if bare_in_text(case).is_some_and(|draft| case.matches_under(&draft, material, budget))
            {
                return Some(mistake(BARE.into()));
            }
            continue;
        }
        // The key itself, without what the rule does to the secret.
        let whole = Variant { secret: material.to_vec(), advice: BARE };
        let Some(text) = case.draft.written(material) else { continue };
        let decoding = Decoding::of(case);
        for one in std::iter::once(&whole).chain(&variants) {
            if case.says(&text, &one.secret, budget) {
                let undecoded = decoding.filter(|decoding| decoding.leaves(material, &one.secret));
                return Some(mistake(undecoded.map_or(one.advice.into(), Decoding::advice)));
            }
        }
    }
    None
}

/// The secret in the place of what the rule makes of it.
const BARE: Phrase = phrase(
    "The secret was used as it is written: make of it what the sender does, as its page shows.",
    "密钥按原文使用：请像发送方那样先作处理，做法见该发送方的页面。",
);

/// The text with the secret as it is, where the rule signs a digest of it.
fn bare_in_text(case: &Case<'_>) -> Option<Draft> {
    let at = case.draft.secret()?;
    let item = &case.draft.items[at];
    match &item.content {
        Content::Secret(modifiers) if !modifiers.is_empty() => {
            let bare = Item { content: Content::Secret(Box::default()), ..Item::clone(item) };
            Some(case.draft.with(at, bare))
        }
        _ => None,
    }
}

fn encodings(secret: &[u8]) -> Vec<Variant> {
    const CASE: Phrase = phrase(
        "The secret was used in another case: its letters count as they are issued.",
        "密钥的大小写被改动：请按签发时的大小写使用。",
    );
    const HEX: Phrase = phrase(
        "The secret was hex-decoded first: use its text.",
        "密钥先被十六进制解码：请直接使用其文本。",
    );
    const BASE64: Phrase = phrase(
        "The secret was base64-decoded first: use its text.",
        "密钥先被 base64 解码：请直接使用其文本。",
    );
    const WRITTEN: Phrase = phrase(
        "The secret was encoded first: use it as it is issued.",
        "密钥先被编码：请按签发时的原样使用。",
    );
    const PREFIX: Phrase = phrase(
        "The secret was used without its prefix: the prefix belongs to it here.",
        "密钥缺少前缀：此处的前缀是密钥的一部分。",
    );
    const HASHED: Phrase = phrase(
        "A digest of the secret was used: use the secret itself.",
        "用的是密钥的摘要：请使用密钥本身。",
    );
    const PERCENT: Phrase = phrase(
        "The secret was percent-decoded or -encoded first: use its text.",
        "密钥先被百分号解码或编码：请直接使用其文本。",
    );
    const UNPREFIXED: Phrase = phrase(
        "The secret was base64-decoded behind its prefix: use its whole text.",
        "密钥去掉前缀后被 base64 解码：请使用其完整文本。",
    );
    let mut all = vec![
        variant(secret.to_ascii_lowercase(), CASE),
        variant(secret.to_ascii_uppercase(), CASE),
        variant(const_hex::encode(secret), WRITTEN),
        variant(const_hex::encode_upper(secret), WRITTEN),
        variant(encoding::base64(secret), WRITTEN),
        variant(encoding::base64url(secret), WRITTEN),
        variant(encoding::unpercented(secret, Plus::Kept).into_owned(), PERCENT),
        variant(encoding::unpercented(secret, Plus::Space).into_owned(), PERCENT),
    ];
    let mut percented = Vec::new();
    encoding::percent(secret, &mut percented);
    all.push(variant(percented, PERCENT));
    all.extend(encoding::unhex(secret).ok().map(|secret| variant(secret, HEX)));
    all.extend(encoding::unbase64(secret).ok().map(|secret| variant(secret, BASE64)));
    if let Some(at) = secret.iter().position(|byte| matches!(byte, b'_' | b':' | b'-')) {
        let rest = &secret[at + 1..];
        all.push(variant(rest, PREFIX));
        all.extend(encoding::unbase64(rest).ok().map(|secret| variant(secret, UNPREFIXED)));
        all.extend(encoding::unhex(rest).ok().map(|secret| variant(secret, HEX)));
    }
    for algorithm in [Algorithm::Md5, Algorithm::Sha1, Algorithm::Sha256] {
        let output = algorithm.of(secret);
        all.push(variant(const_hex::encode(output.bytes()), HASHED));
        all.push(variant(output.bytes(), HASHED));
    }
    all
}

/// Texts of which digests of digests are tried too.
const CHAINED_MAX: usize = 2;

/// The key of an HMAC and its text exchanged.
pub(super) fn key_as_text(case: &Case<'_>, budget: &mut Budget) -> Option<Mistake> {
    if case.variant.public.is_some() || !case.is_keyed() {
        return None;
    }
    for material in &case.materials {
        let (Some(text), Some(key)) = (case.draft.written(material), case.key(material)) else {
            continue;
        };
        for secret in [key.as_slice(), material] {
            for algorithm in Algorithm::ALL {
                // The text is the key here, and hashed too.
                if !budget.work(text.len()) {
                    return None;
                }
                let chain = Chain { first: First::Keyed(algorithm), ..case.variant.with.clone() };
                let Some(output) = case.output(&chain, secret, &text, budget) else { continue };
                let mut supplied = case.supplied_signatures.iter();
                if supplied.any(|one| {
                    case.variant.matches(&output, one) || plainly(&output, one).is_some()
                }) {
                    let Made { en, zh } = named(&case.variant.with);
                    let advice = Advice::new(
                        format!(
                            "The key and the text of the HMAC were exchanged: the secret is the \
                             key, and what is signed is the text, with {en}."
                        ),
                        format!(
                            "HMAC 的密钥与文本颠倒了：密钥应作 HMAC 的密钥，待签名字符串应作文本，\
                             算法为 {zh}。"
                        ),
                    );
                    return Some(Mistake::new(MistakeKind::KeyAsText, None, advice));
                }
            }
        }
    }
    None
}

/// Another digest over the same parts.
pub(super) fn other_digest(case: &Case<'_>, budget: &mut Budget) -> Option<Mistake> {
    if case.variant.public.is_some() {
        return None; // tried first
    }
    let all = chains();
    let single: Vec<Chain> = all.iter().filter(|chain| chain.then.is_empty()).cloned().collect();
    for material in &case.materials {
        for (index, (text, key)) in bases(case, material).into_iter().enumerate() {
            for chain in if index < CHAINED_MAX { &all } else { &single } {
                let keyed = matches!(chain.first, First::Keyed(_));
                let used: &[u8] = if keyed { &key } else { b"" };
                let Some(output) = case.output(chain, &text, used, budget) else { continue };
                if case.supplied_signatures.iter().any(|one| {
                    case.variant.matches(&output, one) || plainly(&output, one).is_some()
                }) {
                    let (made, own) = (named(chain), named(&case.variant.with));
                    if made.en == own.en {
                        continue; // not another digest: the text or the key is another one
                    }
                    let advice = Advice::new(
                        format!(
                            "The signature was made with {}: make it with {}.",
                            made.en, own.en
                        ),
                        format!("签名由 {} 生成：请改用 {}。", made.zh, own.zh),
                    );
                    return Some(Mistake::new(MistakeKind::OtherDigest, None, advice));
                }
            }
            if let Some(mistake) = upper_hex(case, &text, &key, budget) {
                return Some(mistake);
            }
        }
    }
    None
}

/// A digest of the hex text of another, that text in upper case.
fn upper_hex(case: &Case<'_>, text: &[u8], key: &[u8], budget: &mut Budget) -> Option<Mistake> {
    for outer in Algorithm::ALL {
        for inner in Algorithm::ALL {
            let plain = Chain { first: First::Digest(inner), then: Vec::new() };
            let output = case.output(&plain, text, key, budget)?;
            let twice = outer.of(const_hex::encode_upper(output.bytes()).as_bytes());
            if case.supplied_signatures.iter().any(|supplied| plainly(&twice, supplied).is_some()) {
                let (outer, inner) = (outer.name(), inner.name());
                let own = named(&case.variant.with);
                let advice = Advice::new(
                    format!(
                        "The signature was made with {outer} of the upper-case hex of {inner}: make \
                         it with {}.",
                        own.en
                    ),
                    format!(
                        "签名由 {inner} 的大写十六进制文本再经 {outer} 生成：请改用 {}。",
                        own.zh
                    ),
                );
                return Some(Mistake::new(MistakeKind::OtherDigest, None, advice));
            }
        }
    }
    None
}

/// The chains that programs use: a digest, an HMAC, and either of them hashed again.
fn chains() -> Vec<Chain> {
    let mut chains = Vec::new();
    let firsts = Algorithm::ALL
        .into_iter()
        .flat_map(|algorithm| [First::Digest(algorithm), First::Keyed(algorithm)]);
    for first in firsts {
        chains.push(Chain { first, then: Vec::new() });
        for again in Algorithm::ALL {
            chains.push(Chain { first, then: vec![Step::Digest(again)] });
            chains.push(Chain { first, then: vec![Step::Hex, Step::Digest(again)] });
        }
    }
    chains
}

/// A chain of digests, in both languages.
struct Made {
    en: String,
    zh: String,
}

fn named(chain: &Chain) -> Made {
    let (mut en, mut zh) = match chain.first {
        First::Digest(algorithm) => (algorithm.name().to_owned(), algorithm.name().to_owned()),
        First::Keyed(algorithm) => {
            let name = format!("hmac_{}", algorithm.name());
            (name.clone(), name)
        }
        First::Equal => ("the secret as it is".to_owned(), "密钥原文".to_owned()),
    };
    for step in &chain.then {
        match step {
            Step::Hex => {
                en.push_str(", its hex");
                zh.push_str("，取其十六进制文本");
            }
            Step::Digest(algorithm) => {
                en.push_str(&format!(", then {}", algorithm.name()));
                zh.push_str(&format!("，再经 {}", algorithm.name()));
            }
        }
    }
    Made { en, zh }
}

/// The texts, each with its key, that another digest may have been made of: as the rule has it,
/// without the secret, and with the secret at either end.
fn bases(case: &Case<'_>, material: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let draft = &case.draft;
    let mut bases = Vec::new();
    let key = if case.is_keyed() { case.key(material) } else { Some(material.to_vec()) };
    let (Some(text), Some(key)) = (draft.written(material), key) else { return bases };
    match draft.secret() {
        Some(secret) => {
            bases.extend(draft.without(secret).written(material).map(|bare| (bare, key.clone())));
            bases.insert(0, (text, key));
        }
        None => {
            let between = draft.between();
            for secret in [material, &key] {
                for mark in [&b""[..], between.as_slice(), b"&key=", b":", b"&secret="] {
                    bases.push(([&text, mark, secret].concat(), key.clone()));
                }
                for mark in [&b""[..], between.as_slice(), b":"] {
                    bases.push(([secret, mark, &text].concat(), key.clone()));
                }
                if *material == *key {
                    break;
                }
            }
            bases.insert(0, (text.clone(), material.to_vec()));
            bases.insert(0, (text, key));
        }
    }
    bases
}

/// The valid signatures of the callback, as written. Never show them.
pub(super) fn expected(case: &Case<'_>, budget: &mut Budget) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    if case.variant.public.is_some() {
        return all; // unknown without the private key
    }
    for material in &case.materials {
        let Some(output) = own_output(case, material, budget) else { continue };
        for writing in [Writing::Hex, Writing::Base64, Writing::Base64Url] {
            let written = signature::written(&output, writing);
            if let Some(cut) = case.variant.cut.filter(|_| writing == case.variant.writing) {
                all.extend(written.get(..cut).map(|cut| cut.as_bytes().to_vec()));
            }
            all.push(written.into_bytes());
        }
    }
    all
}
