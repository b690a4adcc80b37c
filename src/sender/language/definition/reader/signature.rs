//! Signatures and seals in a sender file: variants, lists, digests, the gateway's own signature.

use std::collections::BTreeMap;

use super::Reader;
use crate::sender::crypto::digest::Algorithm;
use crate::sender::language::definition::{
    AesKey, CUT_MAX, CUT_MIN, Chain, Cipher, Countersign, Each, Empty, First, Iv, List,
    ListedParameters, Open, Order, Pairs, READINGS_MAX, SignatureVariant, Step, Writing, reads,
};
use crate::sender::language::file::{self, Many};
use crate::sender::language::modifier;
use crate::sender::language::shape::Shape;
use crate::sender::language::text::{Strictness, Text};
use crate::sender::request::encoding::Plus;

const SHAPES: &str = "show it: k=v&k=v, k=v,k=v, kvkv, vv, k,v k,v";

impl Reader {
    pub(super) fn variants(&mut self, signature: Option<file::Signature>) -> Vec<SignatureVariant> {
        let Some(mut base) = signature else { return Vec::new() };
        let others = std::mem::take(&mut base.or);
        if others.len() + 1 > READINGS_MAX {
            self.fault(
                "signature.or",
                "has too many entries",
                "write at most four variants in all",
            );
        }
        let others: Vec<_> = others.into_iter().map(|or| or.over(&base)).collect();
        let mut variants: Vec<_> = self.variant("signature", base).into_iter().collect();
        for (index, or) in others.into_iter().enumerate() {
            let key = format!("signature.or[{index}]");
            if or.why.is_none() {
                self.fault(format!("{key}.why"), "is missing", "say why this variant exists");
            }
            variants.extend(self.variant(&key, or));
        }
        variants
    }

    pub(super) fn variant(
        &mut self,
        key: &str,
        signature: file::Signature,
    ) -> Option<SignatureVariant> {
        let at = |name: &str| format!("{key}.{name}");
        let of = signature.of.as_deref().unwrap_or_default();
        if of.is_empty() {
            self.fault(at("of"), "is missing", "write the signed text");
        }
        let of = self.text(&at("of"), of, Strictness::Strict);
        self.listed_encoding(&at("of"), &of);
        let with = signature.with.map(Many::into_vec).unwrap_or_default();
        let (public, with) = self.public(&at("with"), &with);
        let supplied = signature.r#in.as_deref().unwrap_or_default();
        let supplied = self.text(&at("in"), supplied, Strictness::Strict);
        let supplied = supplied.spots().next().filter(|_| supplied.pieces.len() == 1).cloned();
        if supplied.is_none() {
            self.fault(
                at("in"),
                "is not one placeholder",
                "write the placeholder of the signature",
            );
        }
        let plus = match signature.plus.as_deref() {
            None | Some("blank") => Plus::Space,
            Some("kept") => Plus::Kept,
            Some(_) => {
                self.fault(at("plus"), "is neither", "use blank or kept");
                Plus::Space
            }
        };
        let r#as = self.writing(&at("as"), signature.r#as.as_deref());
        let is_equal = with.as_ref().is_some_and(|with| with.first == First::Equal);
        if is_equal != (r#as == Writing::Text) {
            self.fault(at("as"), "and `with` do not fit", "`equal` and `text` go together");
        }
        let key_text = signature.key.as_deref().unwrap_or("[secret]");
        let key = self.text(&at("key"), key_text, Strictness::Strict);
        if public.is_some() && (signature.cut.is_some() || reads(&of, "secret")) {
            let remedy = "sign a public text with a private key, and send the whole signature";
            self.fault(at("with"), "needs no secret text and no cut", remedy);
        }
        if public.is_none() && reads(&key, "public_key") {
            let remedy = "end `with` in ecdsa_p256, rsa_pss, rsa_pkcs1 or ed25519";
            self.fault(at("key"), "is a public key", remedy);
        }
        let variant = SignatureVariant {
            public,
            key,
            r#as,
            cut: signature.cut,
            when: self.conditions(&at("when"), signature.when),
            plus,
            roles: self.roles(&at("roles"), signature.roles),
            sorted: signature
                .sorted
                .map(Many::into_vec)
                .unwrap_or_default()
                .iter()
                .map(|text| self.text(&at("sorted"), text, Strictness::Strict))
                .collect(),
            pairs: signature.pairs.and_then(|pairs| self.pairs(&at("pairs"), pairs)),
            why: signature.why,
            token: None,
            of,
            with: with?,
            r#in: supplied?,
        };
        self.guarded(&at, &variant);
        Some(variant)
    }

    /// Checks that a list is only encoded in ways that can be undone.
    fn listed_encoding(&mut self, key: &str, of: &Text) {
        let listed = of.spots().filter(|spot| !spot.came() && spot.key == "pairs");
        for modifier in listed.flat_map(|spot| &spot.modifiers) {
            if !modifier.is_reversible() {
                let remedy = "encode a list with percent, form, hex or base64";
                self.fault(key, "changes a list in another way", remedy);
            }
        }
    }

    /// A signature has to contain something that only the sender can make.
    pub(super) fn guarded(&mut self, at: &dyn Fn(&str) -> String, variant: &SignatureVariant) {
        if variant.cut.is_some_and(|cut| !(CUT_MIN..=CUT_MAX).contains(&cut)) {
            let remedy = format!("keep {CUT_MIN} to {CUT_MAX} characters");
            self.fault(at("cut"), "leaves a guessable signature, or is longer than it", &remedy);
        }
        // A text with a mistake of its own says nothing about a secret.
        let is_faulty = self.faults.iter().any(|fault| fault.key == at("of"));
        if variant.public.is_some() || is_faulty {
            return;
        }
        let added = variant.pairs.iter().flat_map(|pairs| pairs.add.iter().map(|(_, text)| text));
        let signed = std::iter::once(&variant.of).chain(&variant.sorted).chain(added);
        let keyed = matches!(variant.with.first, First::Keyed(_))
            && variant.key.spots().any(|spot| !spot.came());
        // A setting that is compared is a secret, such as the token of an address check.
        let compared =
            variant.with.first == First::Equal && variant.of.spots().any(|spot| !spot.came());
        if !keyed && !compared && !signed.into_iter().any(|text| reads(text, "secret")) {
            let remedy = "put [secret] into the text, or use an HMAC";
            self.fault(at("of"), "contains no secret: any caller can make it", remedy);
        }
    }

    pub(super) fn pairs(&mut self, key: &str, pairs: file::Pairs) -> Option<Pairs> {
        let at = |name: &str| format!("{key}.{name}");
        let which = match pairs.which.map(Many::into_vec).unwrap_or_default().as_slice() {
            [] => {
                self.fault(at("which"), "is missing", "use names, query, form, all or pasted");
                return None;
            }
            [one] if one == "query" => ListedParameters::Query,
            [one] if one == "form" => ListedParameters::Form,
            [one] if one == "all" => ListedParameters::All,
            [one] if one == "pasted" => ListedParameters::Pasted,
            names => ListedParameters::Names(names.to_vec()),
        };
        let shape = pairs.shape.as_deref().and_then(Shape::parse);
        if shape.is_none() {
            self.fault(at("shape"), "is not an example of a list", SHAPES);
        }
        let order = self.word(
            &at("order"),
            pairs.order.as_deref(),
            &[("name", Order::Name), ("given", Order::Given), ("macro", Order::Macro)],
        );
        let each = self.each(&at("each"), pairs.each.as_deref());
        if let (Each::Escaped(stays), Some(shape)) = (each, &shape)
            && shape.separators().any(|byte| stays.contains(byte))
        {
            let remedy = "escape what separates values, or nothing says where one ends";
            self.fault(at("each"), "keeps a separator of the list", remedy);
        }
        let empty = self.word(
            &at("empty"),
            pairs.empty.as_deref(),
            &[("kept", Empty::Kept), ("dropped", Empty::Dropped)],
        );
        let add = pairs.add.unwrap_or_default();
        let add = add
            .into_iter()
            .map(|(name, text)| {
                let text = self.text(&format!("{key}.add.{name}"), &text, Strictness::Strict);
                (name, text)
            })
            .collect();
        let except = pairs.except.map(Many::into_vec).unwrap_or_default();
        Some(Pairs { which, except, add, order, shape: shape?, each, empty })
    }

    fn each(&mut self, key: &str, text: Option<&str>) -> Each {
        match text.and_then(|text| text.strip_prefix("percent:")) {
            Some(kept) => match modifier::unescaped(kept) {
                Ok(stays) => Each::Escaped(stays),
                Err(fault) => {
                    self.faults.push(fault.under(key));
                    Each::default()
                }
            },
            None => self.word(
                key,
                text,
                &[("raw", Each::Raw), ("form", Each::Form), ("percent", Each::Percent)],
            ),
        }
    }

    pub(super) fn writing(&mut self, key: &str, text: Option<&str>) -> Writing {
        self.word(
            key,
            text,
            &[
                ("hex", Writing::Hex),
                ("base64", Writing::Base64),
                ("base64url", Writing::Base64Url),
                ("text", Writing::Text),
            ],
        )
    }

    pub(in crate::sender::language::definition) fn chain(
        &mut self,
        key: &str,
        steps: &[String],
    ) -> Option<Chain> {
        let mut steps = steps.iter();
        let first = steps.next().map(String::as_str).unwrap_or_default();
        let first = match (first, first.strip_prefix("hmac_")) {
            ("equal", _) => Some(First::Equal),
            (_, Some(name)) => Algorithm::from_name(name).map(First::Keyed),
            (name, None) => Algorithm::from_name(name).map(First::Digest),
        };
        let then: Option<Vec<Step>> = steps
            .map(|step| match step.as_str() {
                "hex" => Some(Step::Hex),
                name => Algorithm::from_name(name).map(Step::Digest),
            })
            .collect();
        if first.is_none() || then.is_none() {
            let remedy = "use md5, sha1, sha256, sha512, hmac_…, hex, or equal";
            self.fault(key, "is not a chain of digests", remedy);
        }
        if first == Some(First::Equal) && then.as_ref().is_some_and(|then| !then.is_empty()) {
            self.fault(key, "continues after `equal`", "remove the rest");
        }
        Some(Chain { first: first?, then: then? })
    }

    pub(super) fn lists(&mut self, lists: BTreeMap<String, file::List>) -> Vec<List> {
        let mut known = Vec::new();
        for (name, list) in lists {
            let key = format!("lists.{name}");
            let of = self.text(&format!("{key}.of"), &list.of, Strictness::Strict);
            match Shape::parse(&list.shape).filter(|shape| shape.within.is_some()) {
                Some(shape) => known.push(List { name, of, shape }),
                None => self.fault(format!("{key}.shape"), "is not an example of a list", SHAPES),
            }
        }
        known
    }

    pub(super) fn countersign(&mut self, sign: file::Countersign) -> Option<Countersign> {
        let with = self.chain("countersign.with", &sign.with.into_vec())?;
        Some(Countersign {
            of: self.text("countersign.of", &sign.of, Strictness::Strict),
            with,
            key: sign.key.as_ref().map(|key| self.text("countersign.key", key, Strictness::Strict)),
            r#as: self.writing("countersign.as", sign.r#as.as_deref()),
        })
    }

    pub(super) fn open(&mut self, open: &file::Open) -> Option<Open> {
        let with = self.cipher(open);
        let of: Vec<Text> = open
            .of
            .to_vec()
            .iter()
            .map(|text| self.text("open.of", text, Strictness::Strict))
            .collect();
        if open.frame.is_some() && !matches!(with, Some(Cipher::Cbc { .. })) {
            self.fault("open.frame", "is of AES-CBC alone", "remove it");
        }
        if open.key.is_some() == matches!(with, Some(Cipher::None)) {
            let remedy = "name the key of the cipher; without a cipher, there is none";
            self.fault("open.key", "does not fit `with`", remedy);
        }
        let key = open.key.as_deref().unwrap_or_default();
        Some(Open {
            of,
            key: self.text("open.key", key, Strictness::Strict),
            with: with?,
            frame: open
                .frame
                .as_ref()
                .map(|frame| self.text("open.frame", frame, Strictness::Strict)),
            when: self.conditions("open.when", open.when.clone()),
            reads: match open.reads.to_vec() {
                reads if reads.is_empty() => Vec::new(),
                _ => self.reads(open.reads.clone()),
            },
        })
    }

    fn cipher(&mut self, open: &file::Open) -> Option<Cipher> {
        let key = match open.with.split_once('_') {
            Some(("aes128", _)) => AesKey::Bits128,
            _ => AesKey::Bits256,
        };
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        match open.with.as_str() {
            "aes256_cbc" | "aes128_cbc" => {
                let iv = match open.iv.as_deref() {
                    Some("front") => Some(Iv::Prefix),
                    Some("key") => Some(Iv::Key),
                    _ => None,
                };
                if iv.is_none() || open.nonce.is_some() || open.aad.is_some() {
                    self.fault("open.iv", "is neither", "use front or key, without nonce and aad");
                }
                let pad = open.pad.unwrap_or(16);
                if pad != 16 && pad != 32 {
                    self.fault("open.pad", "is not a block size", "use 16 or 32");
                }
                Some(Cipher::Cbc { key, iv: iv?, pad })
            }
            "aes256_gcm" | "aes128_gcm" => {
                if open.nonce.is_none() || open.iv.is_some() || open.pad.is_some() {
                    let remedy = "say where the nonce is, without iv and pad";
                    self.fault("open.nonce", "is missing", remedy);
                }
                let nonce = self.text("open.nonce", &text(&open.nonce), Strictness::Strict);
                let aad = self.text("open.aad", &text(&open.aad), Strictness::Strict);
                Some(Cipher::Gcm { key, nonce, aad })
            }
            "none" => {
                let has_more = [&open.iv, &open.nonce, &open.aad].iter().any(|one| one.is_some());
                if has_more || open.pad.is_some() {
                    self.fault("open.with", "is `none`, and has more", "leave of and reads");
                }
                Some(Cipher::None)
            }
            other => {
                let remedy = "use aes256_cbc, aes128_cbc, aes256_gcm, aes128_gcm or none";
                self.fault("open.with", &format!("`{other}`"), remedy);
                None
            }
        }
    }
}
