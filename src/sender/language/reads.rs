//! The headers and parameters that a sender's file reads, for forwarding and renaming.

use std::collections::BTreeSet;

use http::HeaderName;

use super::bound::{Bound, Input, file_names};
use super::definition::{RoleText, Sender};
use super::recipe::Recipe;
use super::text::{Piece, Text};
use super::value_shape::Presence;
use crate::sender::acts::resolved::Role;

/// The prefix of a header placeholder's key: `[header.NAME]`.
const HEADER: &str = "header.";

impl Sender {
    /// The headers that the file reads, each once. No other header is part of the contract.
    #[must_use]
    pub fn headers(&self) -> Vec<HeaderName> {
        let added = self.variants.iter().filter_map(|variant| variant.pairs.as_ref());
        let added = added.flat_map(|pairs| &pairs.add).flat_map(|(_, text)| text.spots());
        let mut names: Vec<HeaderName> = self
            .spots()
            .chain(added)
            .filter(|spot| !spot.came())
            .filter_map(|spot| spot.key.strip_prefix(HEADER)?.parse().ok())
            .collect();
        names.extend(self.header_names.iter().map(|(_, second)| second.clone()));
        names.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
        names.dedup();
        names
    }

    /// Headers with their second names. A second name counts only if the callback has no first
    /// name.
    #[must_use]
    pub fn header_names(&self) -> &[(HeaderName, HeaderName)] {
        &self.header_names
    }

    /// Whether the file reads a parameter called `name` that is something else than the value of
    /// `role`. A role that is always just that parameter means the same.
    fn reads_apart(&self, name: &str, role: Option<Role>) -> bool {
        let is_read = || file_names(self).iter().any(|known| known == name);
        !role.is_some_and(|role| self.is_just(role, name)) && is_read()
    }

    /// Whether every text of `role`, also those of kinds and variants, is the parameter `name`.
    fn is_just(&self, role: Role, name: &str) -> bool {
        let all = std::iter::once(&self.roles)
            .chain(self.kinds.iter().map(|kind| &kind.roles))
            .chain(self.variants.iter().map(|variant| &variant.roles));
        let mut texts = all.filter_map(|roles| roles.texts.get(role)).flatten().peekable();
        texts.peek().is_some() && texts.all(|text| is_parameter(text, name))
    }
}

impl Recipe {
    /// Whether the sender's file reads a parameter that is called `name` on the wire, and that is
    /// something else than the value of `role`.
    #[must_use]
    pub fn reads_apart(&self, name: &str, role: Option<Role>) -> bool {
        let file = self.renames.iter().find(|(_, wire)| *wire == name).map(|(file, _)| file);
        match file {
            Some(file) => self.sender.reads_apart(file, role),
            // What the file calls so may have another name on the wire.
            None => !self.renames.contains_key(name) && self.sender.reads_apart(name, role),
        }
    }

    /// The names on the wire that the sender's file reads.
    #[must_use]
    pub fn parameter_names(&self) -> Vec<String> {
        let wire = |name: String| self.renames.get(&name).cloned().unwrap_or(name);
        file_names(&self.sender).into_iter().map(wire).collect()
    }

    /// Parameters on the wire that the sender signs and sends with every callback, as the shapes
    /// of its file say, and that are not among `given`: roles, names of the file or on the wire. A
    /// callback without them is one that the sender never makes. Without those that
    /// [`Self::makes_up`] names, and none where messages are sealed. Sorted.
    #[must_use]
    pub fn left_out(&self, given: &[&str]) -> Vec<String> {
        if !self.is_signed() || self.open.is_some() || given.contains(&"body") {
            return Vec::new();
        }
        let shapes = &self.sender.shapes;
        let given: Vec<String> = given.iter().map(|name| self.file_name_of(name)).collect();
        let is_given = |name: &String| {
            let within = |given: &str| given.strip_prefix(name).is_some_and(|r| r.starts_with('.'));
            given.iter().any(|given| given == name || within(given))
        };
        let all_there = shapes.together.iter().any(is_given);
        let known = file_names(&self.sender);
        let is_sent = |name: &&String| {
            let presence = shapes.of.get(*name).map(|shape| shape.presence);
            presence == Some(Presence::Required) || (all_there && shapes.together.contains(name))
        };
        let names = known.iter().filter(is_sent).filter(|name| !is_given(name));
        let wire = |name: &String| self.renames.get(name).unwrap_or(name).clone();
        let names = names.map(wire).filter(|name| !self.makes_up(name));
        names.collect::<BTreeSet<String>>().into_iter().collect()
    }

    /// The file's name of the parameter that is called `name` there or on the wire, or that is the
    /// role of that name.
    fn file_name_of(&self, name: &str) -> String {
        let role = Role::from_name(name).and_then(|role| self.sender.single_parameter(role));
        let renamed = || self.renames.iter().find(|(_, wire)| *wire == name);
        let own = role.or_else(|| renamed().map(|(own, _)| own.clone()));
        own.unwrap_or_else(|| name.to_owned())
    }

    /// The names of the pairs of the source's template.
    #[must_use]
    pub fn template_names(&self) -> Vec<&str> {
        self.template.iter().map(|(name, _)| name.as_str()).collect()
    }

    /// Whether the source's template has a pair called `name` that is not just what is known here
    /// under that name, `name=[name]`.
    #[must_use]
    pub fn makes_apart(&self, name: &str) -> bool {
        let is_same = |text: &Text<Bound>| match text.pieces.as_slice() {
            [Piece::Value(spot)] => {
                &*spot.name == name && !matches!(spot.input, Input::Parameter { .. })
            }
            _ => false,
        };
        self.template.iter().any(|(known, text)| known == name && !is_same(text))
    }
}

fn is_parameter(text: &RoleText, name: &str) -> bool {
    match text.of.pieces.as_slice() {
        [Piece::Value(spot)] => spot.came() && spot.key == name && spot.modifiers.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sender::{Catalog, LiveSecret, Secret, Terms};

    fn headers_of(sender: &str) -> Vec<String> {
        let catalog = Catalog::embedded().unwrap();
        let headers = catalog.get(sender).unwrap().headers();
        headers.iter().map(|name| name.as_str().to_owned()).collect()
    }

    #[test]
    fn header_fields_of_a_file_are_those_that_it_reads() {
        assert_eq!(headers_of("taku"), [""; 0]);
        let own = ["webhook-id", "webhook-signature", "webhook-timestamp"];
        let second = ["svix-id", "svix-signature", "svix-timestamp"];
        assert_eq!(headers_of("standard-webhooks"), [second, own].concat());
        assert!(headers_of("stripe").iter().any(|name| name == "stripe-signature"));
        assert!(headers_of("github").iter().any(|name| name == "x-hub-signature-256"));
        assert!(
            !headers_of("huawei").iter().any(|name| name == "authorization"),
            "of its key list"
        );
    }

    #[test]
    fn what_a_sender_always_signs_is_named_where_it_is_left_out() {
        let secret =
            LiveSecret { id: "1".to_owned(), value: Secret::new("key".as_bytes()), until_ms: None };
        let terms = Terms { secrets: vec![secret], ..Terms::default() };
        let catalog = Catalog::embedded().unwrap();
        let left_out = |sender: &str, given: &[&str]| {
            Recipe::compile(catalog.get(sender).unwrap(), &terms).unwrap().left_out(given)
        };
        assert_eq!(left_out("imur-http", &["sid", "aid"]), ["timestamp"]);
        let with_user = left_out("imur-http", &["sid", "aid", "user"]);
        assert_eq!(with_user, ["timestamp", "uid_source", "user_type"]);
        assert_eq!(left_out("imur-http", &["sid", "aid", "timestamp"]), [""; 0]);
        // The time is filled in.
        assert_eq!(left_out("levelplay", &["transaction", "user", "amount"]), [""; 0]);
    }

    #[test]
    fn a_parameter_that_is_the_role_is_not_read_apart() {
        let catalog = Catalog::embedded().unwrap();
        let taku = catalog.get("taku").unwrap();
        assert!(!taku.reads_apart("user", Some(Role::User)), "Taku has no parameter user");
        assert!(taku.reads_apart("user_id", Some(Role::Transaction)));
        let text = "title = \"x\"\nreads = \"query\"\n[roles]\ntransaction = \"{user}\"\nuser = \"{uid}\"\n\
                    item = \"{item}\"\n[reply]\naccepted = 200\nrejected = 400\nunavailable = 503\n\
                    [[vector]]\nabout = \"x\"\nsource = { unsigned = true }\nexpect = { outcome = \"accepted\" }\n\
                    request = \"GET /?user=t1\"\n";
        let own = Sender::parse("own", text).unwrap();
        assert!(own.reads_apart("user", Some(Role::User)));
        assert!(!own.reads_apart("item", Some(Role::Item)));
        assert!(own.reads_apart("uid", None));
    }
}
