//! Every placeholder of a sender file, and every name that it reads.

use crate::sender::language::condition::Condition;
use crate::sender::language::definition::{ListedParameters, Sender};
use crate::sender::language::text::{Spot, Text};

/// Every parameter name that the file reads, signs or pastes.
pub(in crate::sender) fn file_names(sender: &Sender) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    let mut add = |name: &str| {
        if !name.is_empty() && name != "outer" && !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    };
    for spot in sender.spots().filter(|spot| spot.came()) {
        let (first, mut rest) = spot.steps();
        match first {
            "outer" => add(rest.next().unwrap_or_default()),
            list if sender.lists.iter().any(|known| known.name == list) => {}
            name => add(name),
        }
    }
    for variant in &sender.variants {
        if let Some(ListedParameters::Names(list)) =
            variant.pairs.as_ref().map(|pairs| &pairs.which)
        {
            list.iter().for_each(|name| add(name));
        }
    }
    sender.paste.iter().for_each(|pasted| add(&pasted.name));
    names
}

impl Sender {
    /// Every placeholder of the file.
    pub(in crate::sender) fn spots(&self) -> impl Iterator<Item = &Spot> {
        let roles = std::iter::once(&self.roles)
            .chain(self.kinds.iter().map(|kind| &kind.roles))
            .chain(self.variants.iter().map(|variant| &variant.roles));
        let rows = || self.events.iter().flat_map(|events| &events.rows);
        let roles = roles.chain(rows().map(|row| &row.roles));
        let identity = &self.identity;
        let keys = identity.by.iter().chain(&identity.formerly.transaction);
        let keys = keys.chain(&identity.formerly.replay).chain(rows().flat_map(|row| &row.id));
        let keys = keys.chain(self.kinds.iter().flat_map(|kind| &kind.formerly.transaction));
        let effects = roles.clone().flat_map(|roles| &roles.effects);
        let effects: Vec<&Condition> = effects.flat_map(|rule| &rule.when).collect();
        let role_texts = roles.flat_map(|roles| roles.texts.values().flatten()).chain(keys);
        let mut texts: Vec<&Text> = role_texts.clone().map(|text| &text.of).collect();
        let mut conditions: Vec<&Condition> = role_texts.flat_map(|text| &text.when).collect();
        conditions.extend(effects);
        let also = self.kinds.iter().filter_map(|kind| kind.also.as_ref());
        let mut spots: Vec<&Spot> = Vec::new();
        for variant in self.variants.iter().chain(also) {
            texts.push(&variant.of);
            texts.extend(&variant.sorted);
            spots.push(&variant.r#in);
            conditions.extend(&variant.when);
        }
        spots.extend(self.key_set.iter().map(|set| &set.pick));
        spots.extend(self.events.iter().flat_map(|events| &events.by));
        spots.extend(&self.masked);
        conditions.extend(self.identity.repeats.iter().flat_map(|repeats| &repeats.when));
        texts.extend(self.ours.iter().map(|(_, text)| text));
        texts.extend(self.time.iter().map(|time| &time.r#in));
        texts.extend(self.known.iter().map(|(_, text)| text));
        texts.extend(self.open.iter().flat_map(|open| &open.of));
        texts.extend(self.lists.iter().map(|list| &list.of));
        texts.extend(self.replies.texts());
        texts.extend(&self.challenge.open);
        spots.extend(self.confirm.iter().map(|confirm| &confirm.url));
        conditions.extend(self.confirm.iter().flat_map(|confirm| &confirm.when));
        let asked = self.challenge.when.iter().chain(&self.test.when).chain(&self.test.flag);
        conditions.extend(asked);
        for kind in &self.kinds {
            conditions.extend(&kind.when);
            texts.extend(kind.replies.texts());
        }
        spots.extend(texts.into_iter().flat_map(Text::spots));
        spots.extend(conditions.into_iter().flat_map(Condition::spots));
        spots.into_iter()
    }
}
