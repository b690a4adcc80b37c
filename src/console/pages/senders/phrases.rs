//! The fixed phrases of contracts, in both languages. The contract writes them in English; a test
//! compares this table with it.

use crate::console::text::Text;

/// The translation of a fixed phrase.
pub(super) fn phrase(english: &str) -> Option<Text> {
    PHRASES.iter().find(|known| known.0 == english).map(|known| known.1)
}

/// A phrase and its texts, found by the English one.
struct Phrase(&'static str, Text);

macro_rules! phrases {
    ($($en:literal = $zh:literal;)+) => {
        const PHRASES: &[Phrase] = &[$(Phrase($en, Text::new($en, $zh))),+];
    };
}

phrases! {
    // Parts.
    "What this rests on" = "依据";
    "Not confirmed by anybody outside" = "未经外部证实";
    "How it calls" = "调用方式";
    "Keys of a source" = "来源的密钥与设置";
    "Paste this behind the URL of the source" = "粘贴到来源 URL 之后";
    "What a callback says" = "回调内容";
    "Signature" = "签名";
    "With one captured call an attacker can" = "攻击者截获一次回调后能做到";
    "With one captured call an attacker cannot" = "攻击者截获一次回调后做不到";
    "What makes two calls one event" = "如何判定两次回调是同一事件";
    "Take care" = "注意";
    "Sealed messages" = "加密消息";
    "Time" = "时间";
    "Checks, tests and kinds" = "校验、测试与类型";
    "Events" = "事件";
    "Answers" = "应答";
    "Patience" = "超时与重试";
    "Published addresses (allow = \"sender\")" = "已公布的地址（allow = \"sender\"）";
    // Column heads.
    "key" = "键";
    "what it is" = "含义";
    "role" = "角色";
    "where" = "位置";
    "covered by the signature" = "签名是否覆盖";
    "signed text" = "签名原文";
    "digest" = "摘要算法";
    "found in" = "签名位置";
    "why" = "原因";
    "what" = "对象";
    "when" = "条件";
    "what comes of it" = "结果";
    "event" = "事件名";
    "kind" = "类型";
    "effect" = "影响";
    "identified by" = "去重依据";
    "outcome" = "结果";
    "answer" = "应答";
    // Rows.
    "confirmed by the sender's own documentation" = "已由发送方官方文档证实";
    "taken from public implementations, not from the sender" = "取自公开实现，并非发送方文档";
    "method" = "请求方法";
    "parameters in" = "参数位置";
    "no secret" = "无密钥";
    "it signs with keys that it publishes" = "使用其公布的密钥签名";
    "nothing is signed: give `allow`, or a name that nobody can guess" = "没有签名：请设置 `allow`，或使用无法猜到的名称";
    "yes" = "是";
    "yes; an app sets it" = "是；由应用设置";
    "no: it is not signed" = "否：未签名";
    "no: it is not signed; an app sets it" = "否：未签名；由应用设置";
    "cipher text" = "密文";
    "cipher" = "加密算法";
    "initialisation vector in" = "初始向量位置";
    "ends with" = "结尾为";
    "written in" = "格式";
    "what it says" = "消息内容";
    "its age is not checked, unless a source says max_age" = "不检查时效，除非来源设置 max_age";
    "address check" = "地址校验";
    "test" = "测试";
    "answered, never stored" = "仅应答，不保存";
    "answered, never stored, signed or not" = "仅应答，不保存，无论是否签名";
    "an event marked as a test, of no effect" = "标记为测试的事件，不产生效果";
    "an event of this kind" = "此类型的事件";
    "waits" = "等待时间";
    "tries again" = "重试";
    "because of" = "重试条件";
    "for" = "重试总时长";
    "unknown" = "未知";
    // Cautions.
    "Keep the name of the source secret, or accept calls from known addresses alone (`allow`)."
        = "请对来源名称保密，或仅接受已知地址的调用（`allow`）。";
    "Accept calls over HTTPS alone: the secret itself is in them."
        = "仅接受 HTTPS 调用：密钥本身就在其中。";
    "Accept calls from the sender's own addresses alone (`allow`), or write `replayable = true` if that cannot be."
        = "请仅接受发送方自己的地址（`allow`）；若无法做到，请设置 `replayable = true`。";
    "Look at some genuine calls. If their values are as assumed here, write `confirmed = true`: more roles count as authenticated then."
        = "请查看若干真实调用。若其取值与此处的假设一致，请设置 `confirmed = true`：届时会有更多角色视为已认证。";
    "Do not rely on the amount: pin it, `rewards = { coin = 10 }`."
        = "数量不可信：请固定其值，`rewards = { coin = 10 }`。";
    "Do not rely on the amount: decide it where the event is used."
        = "数量不可信：请在使用事件的一方决定数量。";
    "The whole URL is signed, as the sender calls it: `server.public_url` has to be set, and no proxy may rewrite path or query."
        = "签名覆盖发送方调用的完整 URL：必须设置 `server.public_url`，且代理不得改写路径或查询。";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::sender::{Catalog, Cell, Contract, Part};

    /// The fixed phrases of a part: its title and heads, its cautions, and the first words of
    /// descriptive rows.
    fn of_every_sender(part: &Part) -> Vec<String> {
        let mut all = vec![part.title.to_owned()];
        all.extend(part.head.iter().filter(|head| !head.is_empty()).map(|head| (*head).to_owned()));
        let firsts = ["How it calls", "Sealed messages", "Patience", "Take care"];
        if firsts.contains(&part.title) {
            let words = part.rows.iter().filter_map(|row| match &row[0] {
                Cell::Words(text) => Some(text.clone()),
                Cell::Code(_) => None,
            });
            all.extend(words);
        }
        all
    }

    #[test]
    fn the_phrases_are_those_of_the_catalog() {
        let catalog = Catalog::embedded().unwrap();
        let contracts: Vec<Contract> = catalog.iter().map(Contract::of).collect();
        let parts = || contracts.iter().flat_map(|contract| &contract.parts);
        for english in parts().flat_map(of_every_sender) {
            assert!(phrase(&english).is_some(), "{english:?} has no translation");
        }
        let cells = parts().flat_map(|part| part.rows.iter().flatten());
        let mut used: BTreeSet<&str> = cells.map(Cell::text).collect();
        used.extend(parts().flat_map(|part| part.head).copied());
        used.extend(parts().map(|part| part.title));
        let source = include_str!("../../../sender/acts/contract.rs").replace("\\\n", "");
        let source = source.split_whitespace().collect::<Vec<_>>().join(" ");
        for Phrase(english, _) in PHRASES {
            let written = source.contains(&english.replace('"', "\\\""));
            let combined =
                english.contains("; an app sets it") || english.contains(", signed or not");
            assert!(written || combined || used.contains(english), "{english:?} is not used");
        }
    }
}
