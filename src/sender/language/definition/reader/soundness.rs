//! Whether the facts of a sender file are facts about something: a shape belongs to a value that is
//! signed and that no app sets, and what identifies an event is read from the callback.

use std::collections::BTreeSet;

use super::Reader;
use crate::sender::acts::resolved::Role;
use crate::sender::language::definition::{
    First, ListedParameters, RoleText, Roles, Sender, SignatureVariant, reads,
};
use crate::sender::language::text::{Spot, Text};

impl Reader {
    /// Reports facts that cannot be facts.
    pub(super) fn sound(&mut self, sender: &Sender) {
        self.shapes_of_apps(sender);
        self.shapes_of_nothing(sender);
        self.identities_of_nothing(sender);
    }

    /// Checks that a value set by an app has no shape: the provider signs any value of the app.
    fn shapes_of_apps(&mut self, sender: &Sender) {
        let texts = sender.from_client.iter().flat_map(|role| texts_of(sender, *role));
        let names: BTreeSet<&str> =
            texts.flat_map(|text| text.of.spots()).map(|spot| spot.key.as_str()).collect();
        for name in names {
            if sender.shapes.of.get(name).is_some_and(|shape| !shape.is_free()) {
                let remedy = "omit it, or omit the role from from_client: a provider signs \
                              whatever an app sets";
                self.fault(format!("shapes.{name}"), "is the shape of what an app sets", remedy);
            }
        }
    }

    /// A shape is a proof about a signed text. Elsewhere it proves nothing.
    fn shapes_of_nothing(&mut self, sender: &Sender) {
        let variants = || {
            let of_kinds = sender.kinds.iter().filter_map(|kind| kind.also.as_ref());
            sender.variants.iter().chain(of_kinds)
        };
        if variants().any(SignatureVariant::signs_any_name) {
            return;
        }
        let mut names: BTreeSet<&str> = BTreeSet::new();
        for variant in variants() {
            names.extend(variant.signed_texts().flat_map(Text::spots).map(|s| s.key.as_str()));
            match variant.pairs.as_ref().map(|pairs| &pairs.which) {
                Some(ListedParameters::Names(own)) => names.extend(own.iter().map(String::as_str)),
                Some(ListedParameters::Pasted) => {
                    names.extend(sender.paste.iter().map(|pasted| pasted.name.as_str()));
                }
                Some(ListedParameters::Query | ListedParameters::Form | ListedParameters::All)
                | None => {}
            }
        }
        for name in sender.shapes.of.keys().filter(|name| !names.contains(name.as_str())) {
            let remedy = "omit it, or correct the name: shapes are of what `[signature]` reads";
            self.fault(format!("shapes.{name}"), "is read by no signed text", remedy);
        }
    }

    /// A value that is the same in every callback identifies none.
    fn identities_of_nothing(&mut self, sender: &Sender) {
        let by = sender.identity.by.iter().map(|text| ("identity.by", text));
        let transactions = texts_of(sender, Role::Transaction);
        let transactions = transactions.map(|text| ("roles.transaction", text));
        let rows = sender.events.iter().flat_map(|events| &events.rows);
        let ids = rows.flat_map(|row| &row.id).map(|text| ("event.id", text));
        for (key, text) in by.chain(transactions).chain(ids) {
            if !text.of.spots().any(Spot::is_of_callback) {
                let remedy = "read a value that differs from event to event";
                self.fault(key, "reads nothing of the callback", remedy);
            }
        }
    }
}

/// Every text of `role`: those of the file, of kinds, of variants and of the table of events.
fn texts_of(sender: &Sender, role: Role) -> impl Iterator<Item = &RoleText> {
    let rows = sender.events.iter().flat_map(|events| &events.rows);
    let layers = std::iter::once(&sender.roles)
        .chain(sender.kinds.iter().map(|kind| &kind.roles))
        .chain(sender.variants.iter().map(|variant| &variant.roles))
        .chain(rows.map(|row| &row.roles));
    layers.filter_map(move |roles: &Roles| roles.texts.get(role)).flatten()
}

impl SignatureVariant {
    /// Whether it is made with the source's secret: as the key, or in the signed text.
    pub(super) fn needs_secret(&self) -> bool {
        let has_key = self.public.is_some() || matches!(self.with.first, First::Keyed(_));
        (has_key && self.reads("secret")) || self.signed_texts().any(|text| reads(text, "secret"))
    }

    /// The texts that are signed, those of lists included.
    fn signed_texts(&self) -> impl Iterator<Item = &Text> {
        let added = self.pairs.iter().flat_map(|pairs| &pairs.add).map(|(_, text)| text);
        std::iter::once(&self.of).chain(&self.sorted).chain(added)
    }

    /// Whether it signs parameters of any name.
    fn signs_any_name(&self) -> bool {
        let whole = |spot: &Spot| !spot.came() && matches!(spot.key.as_str(), "query" | "url");
        let gathers = self.pairs.as_ref().map(|pairs| &pairs.which);
        let any = [ListedParameters::Query, ListedParameters::Form, ListedParameters::All];
        gathers.is_some_and(|gathers| any.contains(gathers)) || self.of.spots().any(whole)
    }
}

impl Spot {
    /// Whether its value is one of the callback, and not of the gateway or of the source.
    fn is_of_callback(&self) -> bool {
        let of_request = |key: &str| {
            key.starts_with("header.")
                || matches!(key, "content" | "body" | "body_sha256" | "query" | "url" | "signed")
        };
        self.came() || of_request(&self.key)
    }
}
