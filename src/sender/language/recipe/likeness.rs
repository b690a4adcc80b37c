//! Sources whose signatures are alike: a callback that verifies under the one verifies under the
//! other, whatever their senders are called.

use std::fmt::Write as _;

use super::Recipe;
use crate::sender::acts::signature::{ListedValue, Pairs, Plan, SignatureVariant};
use crate::sender::language::bound::{Bound, Gateway, Input};
use crate::sender::language::text::{Piece, Text};

impl Recipe {
    /// Whether some text is signed in the same way under both: the senders are one, or have a
    /// variant with the same literals, and a caller can choose the rest.
    pub(super) fn signs_like(&self, other: &Self) -> bool {
        if self.sender.name == other.sender.name {
            return !self.variants.iter().all(SignatureVariant::signs_url);
        }
        // The path of a source is in its URL.
        let rules = |recipe: &Self| -> Vec<String> {
            let variants = recipe.variants.iter().filter(|variant| !variant.signs_url());
            variants.map(rule).collect()
        };
        let others = rules(other);
        rules(self).iter().any(|rule| others.contains(rule))
    }
}

/// The rule of a variant without what a caller can choose: names and places of parameters, and how
/// the signature is written.
fn rule(variant: &SignatureVariant) -> String {
    let mut rule = format!("{:?} ", variant.with);
    put(&mut rule, &variant.key);
    rule.push_str(" of ");
    put(&mut rule, &variant.of);
    variant.sorted.iter().for_each(|part| {
        rule.push_str(" sorted ");
        put(&mut rule, part);
    });
    variant.pairs.iter().for_each(|pairs| put_pairs(&mut rule, pairs));
    rule
}

fn put(rule: &mut String, text: &Text<Bound>) {
    text.pieces.iter().for_each(|piece| put_piece(rule, piece));
}

fn put_piece(rule: &mut String, piece: &Piece<Bound>) {
    // Writing to a string cannot fail.
    let _ = match piece {
        Piece::Literal(bytes) => write!(rule, "{:?}", String::from_utf8_lossy(bytes)),
        Piece::Value(spot) => match spot.input {
            Input::Gateway(Gateway::Secret) => write!(rule, "[secret{:?}]", spot.modifiers),
            Input::Gateway(gateway @ (Gateway::Pairs | Gateway::Sorted)) => {
                write!(rule, "[{gateway:?}{:?}]", spot.modifiers)
            }
            _ => write!(rule, "[any]"),
        },
        // It may be there.
        Piece::Optional(inner) => {
            inner.iter().for_each(|piece| put_piece(rule, piece));
            Ok(())
        }
    };
}

fn put_pairs(rule: &mut String, pairs: &Pairs) {
    let _ = write!(rule, " pairs {:?} {:?}", pairs.shape, pairs.each);
    match &pairs.plan {
        Plan::Listed(listed) => {
            for one in listed {
                let _ = write!(rule, " {:?}", String::from_utf8_lossy(&one.label));
                if let ListedValue::Ours(text) = &one.value {
                    put(rule, text);
                }
            }
        }
        Plan::Gathered { order, add, .. } => {
            let _ = write!(rule, " {order:?}");
            for (name, text) in add {
                let _ = write!(rule, " {:?}", String::from_utf8_lossy(name));
                put(rule, text);
            }
        }
    }
}
