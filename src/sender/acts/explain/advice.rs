//! The wording of a diagnosis, in English and in Chinese.

use std::borrow::Cow;
use std::fmt;

use serde::{Serialize, Serializer};

/// A part of a sentence, in both languages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Phrase {
    pub(super) en: &'static str,
    pub(super) zh: &'static str,
}

/// A phrase in both languages.
pub(super) const fn phrase(en: &'static str, zh: &'static str) -> Phrase {
    Phrase { en, zh }
}

/// The change to make, and its place, in both languages. JSON and the command line have the
/// English text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advice {
    en: Cow<'static, str>,
    zh: Cow<'static, str>,
}

impl Advice {
    pub(super) fn new(en: impl Into<Cow<'static, str>>, zh: impl Into<Cow<'static, str>>) -> Self {
        Self { en: en.into(), zh: zh.into() }
    }

    /// The English text.
    #[must_use]
    pub fn english(&self) -> &str {
        &self.en
    }

    /// The Chinese text.
    #[must_use]
    pub fn chinese(&self) -> &str {
        &self.zh
    }

    /// The same with `change` made to each text that was written for one callback. A text of our
    /// own stays as it is.
    pub(super) fn rewritten(self, change: impl Fn(&str) -> String) -> Self {
        let text = |text: Cow<'static, str>| match text {
            Cow::Owned(made) => Cow::Owned(change(&made)),
            ours @ Cow::Borrowed(_) => ours,
        };
        Self { en: text(self.en), zh: text(self.zh) }
    }
}

impl From<Phrase> for Advice {
    fn from(phrase: Phrase) -> Self {
        Self::new(phrase.en, phrase.zh)
    }
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.en)
    }
}

impl Serialize for Advice {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.en)
    }
}
