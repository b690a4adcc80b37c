//! The senders that a gateway knows: the embedded files and those of its user.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::sender::{DefinitionError, Sender};

const EMBEDDED: &[(&str, &str)] = &include!(concat!(env!("OUT_DIR"), "/catalog.rs"));

/// The senders by name.
#[derive(Clone, Debug)]
pub struct Catalog(BTreeMap<String, Arc<Sender>>);

impl Catalog {
    /// The senders that come with the program.
    ///
    /// # Errors
    /// All errors of all embedded files, with the file's name. A test keeps them out of a release.
    pub fn embedded() -> Result<Self, Vec<(String, DefinitionError)>> {
        let mut catalog = Self(BTreeMap::new());
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
        let sender = Sender::parse(name, text)?;
        self.0.insert(name.to_owned(), Arc::new(sender));
        Ok(())
    }

    /// The sender called `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<Sender>> {
        self.0.get(name)
    }

    /// All senders, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Sender>> {
        self.0.values()
    }
}
