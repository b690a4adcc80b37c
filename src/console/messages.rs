//! Sentences of the parts below the console in the language of the page: checks of the
//! configuration, errors of the store, of captured texts and of requests. They are written in English,
//! with values in them; what has no translation stays as it is.

use std::sync::LazyLock;

use maud::{Markup, html};

use super::components::value;
use super::lang::Lang;
use super::sender_texts;

/// A gap in a sentence, which a value fills.
const GAP: &str = "{}";

/// The sentences in both languages, more specific ones first.
static SENTENCES: LazyLock<Vec<Sentence>> = LazyLock::new(|| {
    let lines = include_str!("messages_zh.txt").lines();
    let pairs = lines.filter(|line| !line.starts_with("# "));
    let pairs = pairs.filter_map(|line| line.split_once(" => "));
    pairs.map(|(english, chinese)| Sentence::of(english, chinese)).collect()
});

/// A sentence: the pieces around its gaps.
struct Sentence {
    english: Vec<&'static str>,
    chinese: Vec<&'static str>,
}

impl Sentence {
    fn of(english: &'static str, chinese: &'static str) -> Self {
        Self { english: english.split(GAP).collect(), chinese: chinese.split(GAP).collect() }
    }

    /// The values in the gaps of `text`, if it is this sentence.
    fn values<'t>(&self, text: &'t str) -> Option<Vec<&'t str>> {
        let (first, pieces) = self.english.split_first()?;
        let mut rest = text.strip_prefix(first)?;
        let Some((last, pieces)) = pieces.split_last() else {
            return rest.is_empty().then(Vec::new);
        };
        let mut values = Vec::with_capacity(pieces.len() + 1);
        for piece in pieces {
            let (value, after) = rest.split_once(piece)?;
            values.push(value);
            rest = after;
        }
        values.push(rest.strip_suffix(last)?);
        Some(values)
    }

    /// The Chinese sentence with these values. A value may be a sentence itself.
    fn filled(&self, values: &[&str]) -> String {
        let mut filled = String::new();
        for (at, piece) in self.chinese.iter().enumerate() {
            filled.push_str(piece);
            if let Some(value) = values.get(at) {
                let text = sender_texts::translated(Lang::Zh, value);
                let text = chinese(value).or_else(|| text.map(str::to_owned));
                filled.push_str(text.as_deref().unwrap_or(value));
            }
        }
        filled
    }
}

fn chinese(english: &str) -> Option<String> {
    if english.is_empty() {
        return None;
    }
    let mut found = SENTENCES.iter().filter_map(|one| Some((one, one.values(english)?)));
    found.next().map(|(one, values)| one.filled(&values))
}

/// The sentence in `lang`; `None`: it has no translation, or needs none. An error may be followed by
/// its remedy, after a semicolon.
fn translated(lang: Lang, english: &str) -> Option<String> {
    if lang == Lang::En {
        return None;
    }
    // A sentence that ends in a gap would take the remedy for a part of its value.
    let splits = || {
        english.match_indices("; ").map(|(at, gap)| (&english[..at], &english[at + gap.len()..]))
    };
    let both = |(what, remedy)| Some(format!("{}；{}", chinese(what)?, chinese(remedy)?));
    if let Some(text) = splits().find_map(both).or_else(|| chinese(english)) {
        return Some(text);
    }
    let (what, remedy) = english.split_once("; ")?;
    let what = chinese(what)?;
    let remedy = chinese(remedy).unwrap_or_else(|| remedy.to_owned());
    Some(format!("{what}；{remedy}"))
}

/// The sentence in `lang`, or as it is.
pub(super) fn text(lang: Lang, english: &str) -> String {
    translated(lang, english).unwrap_or_else(|| english.to_owned())
}

/// The sentence in `lang`, with the English one beside its translation.
pub(super) fn shown(lang: Lang, english: &str) -> Markup {
    match (lang, translated(lang, english)) {
        (_, Some(text)) => html! { (value::whole(&text)) " " (detail(english)) },
        (Lang::En, None) => value::whole(english),
        (Lang::Zh, None) => html! { span lang="en" { (value::whole(english)) } },
    }
}

/// The words of the part that failed, in English, beside those of the page.
pub(super) fn detail(english: &str) -> Markup {
    html! { small.detail lang="en" { (value::whole(english)) } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sentence_has_its_gaps_in_both_languages_and_comes_first_where_it_is_meant() {
        let lines = include_str!("messages_zh.txt").lines();
        for line in lines.filter(|line| !line.starts_with("# ") && !line.is_empty()) {
            let (english, chinese) = line.split_once(" => ").unwrap_or_else(|| panic!("{line}"));
            assert_eq!(english.matches(GAP).count(), chinese.matches(GAP).count(), "{line}");
            assert!(!chinese.is_ascii(), "{line}");
        }
        for sentence in &*SENTENCES {
            let english = sentence.english.join("value");
            let first = SENTENCES.iter().find(|one| one.values(&english).is_some()).unwrap();
            assert_eq!(first.english, sentence.english, "a more general one precedes it");
        }
    }

    #[test]
    fn values_stay_and_what_is_unknown_stays_english() {
        let zh = |english: &str| translated(Lang::Zh, english);
        let name = zh("there is no destination \"gmae\"").unwrap();
        assert!(name.contains("gmae") && name.contains("投递目标"), "{name}");
        assert_eq!(zh("an error that no version of Postern knows"), None);
        assert_eq!(zh("set it to the key of a shop").unwrap(), "请填写：key of a shop");
        assert_eq!(translated(Lang::En, "is missing"), None);
        assert_eq!(
            text(Lang::Zh, "an error without a translation"),
            "an error without a translation"
        );
    }

    #[test]
    fn a_remedy_is_no_part_of_a_value() {
        let metadata = "points at 169.254.169.254, which is link-local, where clouds keep their \
                        metadata; deliveries never go there; give the backend's own address";
        assert_eq!(
            translated(Lang::Zh, metadata).unwrap(),
            "指向 169.254.169.254，为链路本地地址，云平台的元数据服务位于此处；不会向该地址投递，\
             请填写后端自己的地址"
        );
        let private = "points at 10.0.0.1, which is private; see egress.allow; deliveries never go \
                       there; give the backend's own address";
        let private = translated(Lang::Zh, private).unwrap();
        assert!(private.starts_with("指向 10.0.0.1，为内网地址，见 egress.allow；"), "{private}");
    }

    /// The errors of the fixture about what the console's forms have: sources and destinations.
    #[test]
    fn the_errors_of_the_configuration_check_are_translated() {
        let file = include_str!("../../fixtures/config/mistakes.txt");
        let mut lacking = Vec::new();
        for line in file.lines() {
            let Some((_, line)) = line.split_once(": ") else { continue };
            if !line.starts_with("source[") && !line.starts_with("destination[") {
                continue;
            }
            let (_, said) = line.split_once("]").unwrap();
            let (_, said) = said.split_once(": ").unwrap();
            // The first semicolon is before the remedy, except in a value.
            let (what, remedy) = said.split_once("; ").unwrap_or((said, ""));
            for part in [what, remedy].into_iter().filter(|part| !part.is_empty()) {
                if translated(Lang::Zh, part).is_none() {
                    lacking.push(part);
                }
            }
        }
        assert!(lacking.is_empty(), "messages_zh.txt lacks {lacking:#?}");
    }
}
