//! A sender file, checked.

use std::time::Duration;

use super::Fault;

/// A sender: one file of the catalog, checked.
#[derive(Debug)]
pub struct Sender {
    pub(super) name: String,
    pub(super) title: String,
}

/// How long a sender waits, and how it tries again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Patience {
    /// How long it waits for an answer.
    pub timeout: Option<Duration>,
    /// How often it tries again.
    pub retries: Option<u32>,
    /// The gaps between its tries, where they are known.
    pub gaps: Vec<Duration>,
    /// From the first try to the last.
    pub horizon: Option<Duration>,
}

impl Sender {
    /// Reads and checks a sender file called `name`.
    ///
    /// # Errors
    /// Every mistake in the file, at once.
    pub fn parse(name: &str, text: &str) -> Result<Self, Vec<Fault>> {
        let _ = (name, text);
        todo!()
    }

    /// Its name: the file's, without `.toml`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its title, for people.
    #[must_use]
    pub fn title(&self) -> &str {
        &self.title
    }

    /// Links to its documentation.
    #[must_use]
    pub fn docs(&self) -> &[String] {
        todo!()
    }

    /// What nobody outside has confirmed; shown wherever the sender is.
    #[must_use]
    pub fn unconfirmed(&self) -> &[String] {
        todo!()
    }

    /// What the sender calls its secret; `None`: it has none.
    #[must_use]
    pub fn secret(&self) -> Option<&str> {
        todo!()
    }

    /// Further keys that a source of this sender may have: name and what it is.
    #[must_use]
    pub fn settings(&self) -> &[(String, String)] {
        todo!()
    }

    /// Its patience.
    #[must_use]
    pub fn patience(&self) -> &Patience {
        todo!()
    }

    /// Addresses that it publishes, for `allow = "sender"`.
    #[must_use]
    pub fn addresses(&self) -> &[String] {
        todo!()
    }

    /// The file as written, for `postern senders NAME`.
    #[must_use]
    pub fn text(&self) -> &str {
        todo!()
    }
}
