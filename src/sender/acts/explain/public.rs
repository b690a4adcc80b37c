//! Mistakes with signatures of private keys: written in another way, made by another scheme.

use crate::sender::acts::explain::advice::{Advice, Phrase, phrase};
use crate::sender::acts::explain::case::{Budget, Case};
use crate::sender::acts::explain::{Mistake, MistakeKind};
use crate::sender::acts::signature::Public;
use crate::sender::crypto::public_key::{PublicKey, Scheme};
use crate::sender::language::definition::Signs;
use crate::sender::request::encoding::{self, Plus};

/// The right signature, written in another way.
pub(super) fn encoding(case: &Case<'_>, budget: &mut Budget) -> Option<Mistake> {
    let public = case.variant.public.as_ref()?;
    for material in &case.materials {
        let Some((key, message)) = own(case, public, material, budget) else { continue };
        for (signature, about) in
            case.supplied_signatures.iter().flat_map(|supplied| unwritten(supplied))
        {
            let right = budget.spend_public(message.len())
                && public.scheme.verifies(&key, &message, &signature);
            if right {
                let advice = Advice::new(
                    format!("The signature is valid, but written {}.", about.en),
                    format!("签名有效，但{}。", about.zh),
                );
                return Some(Mistake::new(MistakeKind::OtherEncoding, None, advice));
            }
        }
    }
    None
}

/// The possible bytes of a supplied signature, with their encoding.
fn unwritten(supplied: &[u8]) -> Vec<(Vec<u8>, Phrase)> {
    const HEX: Phrase = phrase("in hex", "写成了十六进制");
    const BASE64: Phrase = phrase("in base64", "写成了 base64");
    let once = encoding::unpercented(supplied, Plus::Kept).into_owned();
    let plus: Vec<u8> = supplied.iter().map(|b| if *b == b' ' { b'+' } else { *b }).collect();
    let mut all = Vec::new();
    all.extend(encoding::unhex(supplied).ok().map(|bytes| (bytes, HEX)));
    all.extend(encoding::unbase64(supplied).ok().map(|bytes| (bytes, BASE64)));
    for (text, about) in [
        (once.as_slice(), phrase("percent-encoded twice", "被百分号编码了两次")),
        (&plus, phrase("with `+` turned into a space", "其中的 `+` 变成了空格")),
        (supplied.trim_ascii(), phrase("with white space around it", "首尾带有空白")),
    ] {
        let other = text != supplied;
        all.extend(encoding::unbase64(text).ok().filter(|_| other).map(|bytes| (bytes, about)));
    }
    all
}

/// The same key under another scheme, or over another form of the text.
pub(super) fn other_scheme(case: &Case<'_>, budget: &mut Budget) -> Option<Mistake> {
    let public = case.variant.public.as_ref()?;
    for material in &case.materials {
        let (text, key) = (case.draft.written(material)?, case.key(material)?);
        let Some(key) = case.public_key(public, &key) else { continue };
        for scheme in Scheme::ALL.into_iter().filter(|scheme| scheme.kind() == key.kind()) {
            for signs in [Signs::Text, Signs::Bytes, Signs::Hex] {
                let Some(message) = case.message(signs, &text, budget) else { continue };
                if case.is_signed_by(scheme, &key, &message, budget) {
                    let (made, read) = (of(signs), of(public.signs));
                    let (scheme, own) = (scheme.name(), public.scheme.name());
                    let advice = Advice::new(
                        format!(
                            "The signature was made with {scheme} {}: this signature is read as \
                             {own} {}.",
                            made.en, read.en
                        ),
                        format!(
                            "签名由 {scheme} 对{}生成，而此处应为 {own} 对{}的签名。",
                            made.zh, read.zh
                        ),
                    );
                    return Some(Mistake::new(MistakeKind::OtherDigest, None, advice));
                }
            }
        }
    }
    None
}

fn of(signs: Signs) -> Phrase {
    match signs {
        Signs::Text => phrase("of the text", "原文"),
        Signs::Bytes => phrase("of its digest", "其摘要"),
        Signs::Hex => phrase("of the hex of its digest", "其摘要的十六进制文本"),
    }
}

/// The key of the rule and what is signed by it.
fn own(
    case: &Case<'_>,
    public: &Public,
    material: &[u8],
    budget: &mut Budget,
) -> Option<(PublicKey, Vec<u8>)> {
    let (text, key) = (case.draft.written(material)?, case.key(material)?);
    let key = case.public_key(public, &key)?;
    Some((key, case.message(public.signs, &text, budget)?))
}
