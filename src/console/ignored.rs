//! Objects that do not run, and why, in the language of the page.

use maud::Markup;

use super::components::notice::{Tone, notice};
use super::lang::Lang;
use super::messages;
use super::text::texts;
use crate::config::ConfigIssue;
use crate::registry::{IgnoredObject, IgnoredWhy};

texts! {
    IGNORED = "Not running: {}", "未运行：{}";
    UNKNOWN = "Not running.", "未运行。";
}

/// The sentence: what does not run, and each reason with the key that it is about.
pub(super) fn sentence(lang: Lang, ignored: &IgnoredObject) -> String {
    let IgnoredObject { name, why, .. } = ignored;
    let object = format!("the {} {name}", ignored.kind_in_words());
    let said = match why {
        IgnoredWhy::InFile | IgnoredWhy::SameId(_) => ignored.to_string(),
        IgnoredWhy::Other(why) => format!("{object}: {}", messages::text(lang, why)),
        IgnoredWhy::Invalid(issues) => {
            let reasons: Vec<String> = issues.iter().map(|issue| reason(lang, issue)).collect();
            let between = match lang {
                Lang::En => "; ",
                Lang::Zh => "；",
            };
            format!("{object}: {}", reasons.join(between))
        }
    };
    IGNORED.fill(lang, &[&messages::text(lang, &said)])
}

fn reason(lang: Lang, issue: &ConfigIssue) -> String {
    format!("{}{}{}", issue.key, lang.colon(), messages::text(lang, &issue.what))
}

/// The notice on the page of an object that does not run.
pub(super) fn shown(lang: Lang, ignored: Option<&IgnoredObject>) -> Markup {
    match ignored {
        Some(ignored) => notice(Tone::Bad, &sentence(lang, ignored)),
        None => notice(Tone::Bad, UNKNOWN.of(lang)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::{DESTINATION, SOURCE};

    fn said(lang: Lang, kind: crate::ledger::Kind, why: IgnoredWhy) -> String {
        sentence(lang, &IgnoredObject { kind, name: "lost".to_owned(), why })
    }

    fn issue(key: &str, what: &str) -> ConfigIssue {
        let (key, what) = (key.to_owned(), what.to_owned());
        ConfigIssue { key, what, ..ConfigIssue::default() }
    }

    #[test]
    fn every_reason_of_an_object_is_translated_with_its_key() {
        let issues = vec![
            issue("destinations[0]", "there is no destination \"absent\""),
            issue("secrets", "is missing"),
        ];
        assert_eq!(
            said(Lang::Zh, SOURCE, IgnoredWhy::Invalid(issues.clone())),
            "未运行：来源 lost：destinations[0]：没有投递目标 \"absent\"；secrets：未填写"
        );
        assert_eq!(
            said(Lang::En, SOURCE, IgnoredWhy::Invalid(issues)),
            "Not running: the source lost: destinations[0]: there is no destination \"absent\"; \
             secrets: is missing"
        );
        assert_eq!(
            said(Lang::Zh, DESTINATION, IgnoredWhy::InFile),
            "未运行：投递目标 lost 既在配置文件中，又通过接口创建"
        );
        assert_eq!(
            said(Lang::Zh, SOURCE, IgnoredWhy::SameId("other".to_owned())),
            "未运行：来源 lost 与 other 的标识相同"
        );
    }
}
