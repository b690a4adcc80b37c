//! Texts of the catalog's files in the language of the page: notes, names of secrets and settings.
//! Files of one's own have no translation, and are shown as they are written.

use std::collections::HashMap;
use std::sync::LazyLock;

use maud::{Markup, html};

use super::components::value;
use super::lang::Lang;

/// The Chinese texts by the English ones.
static CHINESE: LazyLock<HashMap<&str, &str>> = LazyLock::new(|| {
    let lines = include_str!("sender_texts_zh.txt").lines();
    lines.filter(|line| !line.starts_with("# ")).filter_map(|line| line.split_once(" = ")).collect()
});

/// The text of a file in `lang`; `None`: it has no translation.
pub(super) fn translated(lang: Lang, english: &str) -> Option<&'static str> {
    match lang {
        Lang::En => None,
        Lang::Zh => CHINESE.get(english).copied(),
    }
}

/// The text of a file, marked as English where it is in another language than the page.
pub(super) fn shown(lang: Lang, english: &str) -> Markup {
    match translated(lang, english) {
        Some(text) => value::sentence(text),
        None => html! { span lang="en" { (value::sentence(english)) } },
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::sender::Catalog;

    /// Names that are the same in every language.
    const NAMES: [&str; 2] = ["manager_key", "s2s_token"];

    #[test]
    fn every_text_of_the_catalog_has_a_translation_and_no_other() {
        let catalog = Catalog::embedded().unwrap();
        let mut texts: BTreeSet<String> = BTreeSet::new();
        for sender in catalog.iter() {
            texts.extend(sender.unconfirmed().iter().cloned());
            texts.extend(sender.secret().map(str::to_owned));
            texts.extend(sender.settings().iter().map(|(_, about)| about.clone()));
        }
        let lacking: Vec<&String> = texts
            .iter()
            .filter(|text| !NAMES.contains(&text.as_str()) && !text.is_empty())
            .filter(|text| translated(Lang::Zh, text).is_none())
            .collect();
        assert!(lacking.is_empty(), "sender_texts_zh.txt lacks {lacking:#?}");
        let files = include_dir();
        let unused: Vec<&&str> =
            CHINESE.keys().filter(|english| !files.contains(&escaped(english))).collect();
        assert!(unused.is_empty(), "no file of the catalog has {unused:#?}");
        for (english, chinese) in &*CHINESE {
            assert!(!chinese.trim().is_empty(), "{english}");
            assert_eq!(english.matches('`').count(), chinese.matches('`').count(), "{english}");
        }
    }

    /// The files of the catalog, joined.
    fn include_dir() -> String {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/sender/catalog");
        let files = std::fs::read_dir(folder).unwrap();
        files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap()).collect()
    }

    /// As TOML writes it.
    fn escaped(text: &str) -> String {
        text.replace('\\', "\\\\").replace('"', "\\\"")
    }
}
