//! The senders that a gateway knows: the embedded files and those of its user.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

use crate::sender::{DefinitionError, Sender};

const EMBEDDED: &[(&str, &str)] = &include!(concat!(env!("OUT_DIR"), "/catalog.rs"));

/// The senders by name.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    senders: BTreeMap<String, Arc<Sender>>,
    /// The names of senders whose files have mistakes.
    broken: BTreeSet<String>,
}

impl Catalog {
    /// The senders that come with the program. Their files are read once for each process.
    ///
    /// # Errors
    /// All errors of all embedded files, with the file's name. A test keeps them out of a release.
    pub fn embedded() -> Result<Self, Vec<(String, DefinitionError)>> {
        static READ: LazyLock<Result<Catalog, Vec<(String, DefinitionError)>>> =
            LazyLock::new(Catalog::read_embedded);
        READ.clone()
    }

    fn read_embedded() -> Result<Self, Vec<(String, DefinitionError)>> {
        let mut catalog = Self::default();
        let mut faults = Vec::new();
        for (name, text) in EMBEDDED {
            if let Err(found) = catalog.add(name, text) {
                faults
                    .extend(found.into_iter().map(|fault| (format!("catalog/{name}.toml"), fault)));
            }
        }
        if faults.is_empty() { Ok(catalog) } else { Err(faults) }
    }

    /// Adds the sender written in `text` under `name`, in place of one of that name.
    ///
    /// # Errors
    /// All errors in `text`.
    pub fn add(&mut self, name: &str, text: &str) -> Result<(), Vec<DefinitionError>> {
        let sender = Sender::parse(name, text).inspect_err(|_| {
            self.broken.insert(name.to_owned());
        })?;
        self.senders.insert(name.to_owned(), Arc::new(sender));
        Ok(())
    }

    /// The sender called `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<Sender>> {
        self.senders.get(name)
    }

    /// Whether a file for a sender called `name` was to be added, and has mistakes.
    #[must_use]
    pub fn is_broken(&self, name: &str) -> bool {
        self.broken.contains(name)
    }

    /// The sender that people also call `name`: one of the `aliases` of its file. Case and
    /// signs do not count: `IronSource`, `iron-source` and `iron_source` are one word.
    #[must_use]
    pub fn also_called(&self, name: &str) -> Option<&Arc<Sender>> {
        let name = plain(name);
        let named = self.iter().find(|sender| plain(sender.name()) == name);
        let is_it =
            |sender: &&Arc<Sender>| sender.aliases().iter().any(|alias| plain(alias) == name);
        named.or_else(|| self.iter().find(is_it))
    }

    /// The senders in whose name, title or `aliases` `word` stands, whatever its case.
    pub fn mentioning<'c>(&'c self, word: &str) -> impl Iterator<Item = &'c Arc<Sender>> {
        let word = word.to_lowercase();
        let has = move |text: &str| !word.is_empty() && text.to_lowercase().contains(&word);
        self.iter().filter(move |sender| {
            has(sender.name()) || has(sender.title()) || sender.aliases().iter().any(|one| has(one))
        })
    }

    /// All senders, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Sender>> {
        self.senders.values()
    }
}

/// A name as people may write it: letters and digits in lower case.
fn plain(word: &str) -> String {
    word.chars().filter(|char| char.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn senders_are_found_by_what_people_call_them() {
        let catalog = Catalog::embedded().unwrap();
        for (called, name) in [
            ("topon", "taku"),
            ("TopOn", "taku"),
            ("ironsource", "levelplay"),
            ("unity", "unity-ads"),
            ("max", "applovin"),
            ("csj", "pangle"),
            ("穿山甲", "pangle"),
            ("google", "admob"),
            ("offertoro", "torox"),
            ("Unity Ads", "unity-ads"),
        ] {
            assert_eq!(catalog.also_called(called).unwrap().name(), name, "{called}");
        }
        assert!(catalog.also_called("unheard-of").is_none());
        let names = |word| catalog.mentioning(word).map(|one| one.name()).collect::<Vec<_>>();
        assert_eq!(names("OfferToro"), ["torox"]);
        assert!(names("ironsource").contains(&"levelplay"));
        assert_eq!(names(""), [""; 0]);
    }

    #[test]
    fn the_embedded_files_are_read_once_and_stay_as_they_are() {
        let mut one = Catalog::embedded().unwrap();
        let two = Catalog::embedded().unwrap();
        let taku = Arc::clone(two.get("taku").unwrap());
        assert!(Arc::ptr_eq(one.get("taku").unwrap(), &taku));
        // A user's own takes its place in one catalog only.
        one.add("taku", &taku.text).unwrap();
        assert!(!Arc::ptr_eq(one.get("taku").unwrap(), &taku));
        assert!(Arc::ptr_eq(Catalog::embedded().unwrap().get("taku").unwrap(), &taku));
    }

    #[test]
    fn what_is_pasted_brings_what_the_files_need() {
        for sender in Catalog::embedded().unwrap().iter() {
            assert_eq!(sender.unpasted(), [""; 0], "{}", sender.name());
        }
    }

    #[test]
    fn no_two_senders_are_called_the_same() {
        let catalog = Catalog::embedded().unwrap();
        let mut seen = std::collections::BTreeSet::new();
        for sender in catalog.iter() {
            for name in std::iter::once(sender.name()).chain(sender.aliases().iter().map(|a| &**a))
            {
                assert!(seen.insert(plain(name)), "{name} is called twice");
            }
        }
    }
}
