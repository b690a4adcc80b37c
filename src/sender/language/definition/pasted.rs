//! Whether the query that is pasted into the sender's console can bring what the file reads.

use std::collections::BTreeSet;

use super::{Reads, Sender};
use crate::sender::language::text::{Piece, Spot, Text};

impl Sender {
    /// Parameters that a callback needs and that neither `paste` nor `appends` has, in order. None
    /// where the file has no `paste`, or where parameters come in a body as well.
    #[must_use]
    pub fn unpasted(&self) -> Vec<&str> {
        let only_query = self.reads.iter().all(|place| *place == Reads::Query);
        if self.paste.is_empty() || !only_query || self.open.is_some() {
            return Vec::new();
        }
        let mut lacking = BTreeSet::new();
        // One variant of the signature is enough, and one text of each role.
        let variants = self.variants.iter().map(|variant| {
            let texts = std::iter::once(&variant.of).chain(&variant.sorted);
            let supplied = std::iter::once(&variant.r#in);
            self.lacking(texts.flat_map(required).chain(supplied))
        });
        lacking.extend(least(variants));
        for texts in self.roles.texts.values() {
            lacking.extend(least(texts.iter().map(|text| self.lacking(required(&text.of)))));
        }
        lacking.into_iter().collect()
    }

    /// The parameters among `spots` that the sender does not send.
    fn lacking<'s>(&'s self, spots: impl Iterator<Item = &'s Spot>) -> Vec<&'s str> {
        let names = spots.filter(|spot| spot.came()).map(|spot| spot.steps().0);
        let is_sent = |name: &str| {
            self.paste.iter().any(|pasted| pasted.name == name)
                || self.appends.iter().any(|appended| appended == name)
                || self.lists.iter().any(|list| list.name == name)
        };
        names.filter(|name| !is_sent(name)).collect()
    }
}

/// The placeholders that a text cannot do without.
fn required(text: &Text) -> impl Iterator<Item = &Spot> {
    text.pieces.iter().filter_map(|piece| match piece {
        Piece::Value(spot) => Some(spot),
        Piece::Literal(_) | Piece::Optional(_) => None,
    })
}

/// The first of the shortest lists; none of none.
fn least<'s>(lists: impl Iterator<Item = Vec<&'s str>>) -> Vec<&'s str> {
    lists.min_by_key(Vec::len).unwrap_or_default()
}
