//! The fixed phrases of contracts, in both languages. The contract writes them in English; a test
//! compares this table with it.

use crate::console::text::Text;

/// The translation of a fixed phrase.
pub(super) fn phrase(english: &str) -> Option<Text> {
    PHRASES.iter().find(|known| known.0 == english).map(|known| known.1)
}

/// The Chinese text of a phrase that contains a value: the number of retries and the like.
pub(super) fn made(english: &str) -> Option<String> {
    if english == "no reply: held until the sender times out" {
        return Some(String::from("不应答：挂起，直到发送方超时"));
    }
    if let Some((count, gaps)) = english.split_once(" times, after ") {
        return Some(format!("{count} 次，间隔 {gaps}"));
    }
    if let Some(count) = english.strip_suffix(" times") {
        return Some(format!("{count} 次"));
    }
    if let Some(period) = english.strip_suffix(" in total") {
        return Some(format!("共 {period}"));
    }
    let (past, ahead) = english.strip_prefix("at most ")?.split_once(" old, ")?;
    Some(format!("最多早 {past}，晚 {}", ahead.strip_suffix(" ahead")?))
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
    "Basis" = "依据";
    "Without outside confirmation" = "未经外部证实";
    "Requests" = "请求";
    "Source settings" = "来源设置";
    "Append to the URL of the source" = "追加到来源 URL 之后";
    "Callback fields" = "回调字段";
    "Signature" = "签名";
    "With one captured callback, an attacker can" = "攻击者截获一次回调后能做到";
    "With one captured callback, an attacker cannot" = "攻击者截获一次回调后做不到";
    "Deduplication" = "去重";
    "Precautions" = "注意事项";
    "Encrypted messages" = "加密消息";
    "Time" = "时间";
    "Routing" = "路由";
    "Address checks, tests and kinds" = "地址校验、测试与类型";
    "Events" = "事件";
    "Replies" = "应答";
    "Timeout and retries" = "超时与重试";
    "Published addresses (allow = \"sender\")" = "已公布的地址（allow = \"sender\"）";
    // Column heads.
    "key" = "键";
    "meaning" = "含义";
    "role" = "字段";
    "location" = "位置";
    "covered by the signature" = "签名是否覆盖";
    "signed text" = "待签名字符串";
    "digest" = "摘要算法";
    "signature in" = "签名位置";
    "why" = "原因";
    "callback" = "回调";
    "condition" = "条件";
    "result" = "处理结果";
    "event" = "事件名";
    "kind" = "类型";
    "effect" = "奖励效果";
    "deduplicated by" = "去重依据";
    "outcome" = "结果";
    "reply" = "应答";
    // Rows.
    "confirmed by the sender's own documentation" = "已由发送方官方文档证实";
    "taken from public implementations, not from the sender" = "取自公开实现，并非发送方文档";
    "method" = "请求方法";
    "parameters in" = "参数位置";
    "no secret" = "无密钥";
    "signs with published keys" = "使用其公布的密钥签名";
    "no signature: set `allow`, or choose an unguessable source name" = "没有签名：请设置 `allow`，或使用难以猜测的来源名称";
    "yes" = "是";
    "yes; set by the app" = "是；由应用设置";
    "no: not signed" = "否：未签名";
    "no: not signed; set by the app" = "否：未签名；由应用设置";
    "cipher text" = "密文";
    "cipher" = "加密算法";
    "nonce" = "随机数（nonce）";
    "authenticated beside it" = "附加认证数据";
    "also known as" = "别名";
    "initialisation vector in" = "初始向量位置";
    "ends with" = "结尾为";
    "format" = "格式";
    "its content" = "消息内容";
    "age not checked, unless the source sets max_age" = "不检查时效，除非来源设置 max_age";
    "address check" = "地址校验";
    "test" = "测试";
    "replied to, not stored" = "仅应答，不保存";
    "replied to, not stored, signed or unsigned" = "仅应答，不保存，无论是否签名";
    "a test event, without effect" = "测试事件，不产生奖励效果";
    "an event of this kind" = "此类型的事件";
    "timeout" = "等待时间";
    "retries" = "重试";
    "retry condition" = "重试条件";
    "retry period" = "重试总时长";
    "unknown" = "未知";
    "callback address of" = "回调地址取自";
    "push configuration of" = "推送配置取自";
    // Cautions.
    "Keep the source name secret, or accept callbacks only from known addresses (`allow`)."
        = "请对来源名称保密，或只接受来自已知地址的回调（`allow`）。";
    "The signature is weak: set `weak = true`, and do not rely on it alone."
        = "签名强度不足：请设置 `weak = true`，且不要只依赖签名。";
    "Accept callbacks only over HTTPS: they contain the secret itself."
        = "请只通过 HTTPS 接受回调：回调中包含密钥本身。";
    "Accept callbacks only from the sender's addresses (`allow`), or set `replayable = true` if that is not possible."
        = "请只接受来自发送方地址的回调（`allow`）；若无法做到，请设置 `replayable = true`。";
    "Check some verified callbacks. If their values match the assumptions here, set `confirmed = true`: more roles then count as authenticated."
        = "请查看若干已通过验证的回调。若其取值与此处的假设一致，请设置 `confirmed = true`，此后会有更多字段视为已认证。";
    "Do not rely on the amount: pin it, `rewards = { coin = 10 }`."
        = "请勿信任数量：请固定其值，`rewards = { coin = 10 }`。";
    "Do not rely on the amount: decide it in the backend."
        = "请勿信任数量：请由后端决定数量。";
    "The signature covers the whole URL as called: set `server.public_url`, and let no proxy rewrite path or query."
        = "签名覆盖发送方请求的完整 URL：必须设置 `server.public_url`，且代理不得改写路径或查询。";
    "A value may hold a query of its own (`type=coins&user_id=7`, escaped): it is one value. A callback that could be read in two ways is quarantined as `ambiguous`."
        = "取值中可包含转义后的查询字符串（`type=coins&user_id=7`），它仍是一个值。可作两种解读的回调以 `ambiguous` 隔离。";
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
        let firsts = ["Requests", "Encrypted messages", "Timeout and retries", "Precautions"];
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
                english.contains("; set by the app") || english.contains(", signed or unsigned");
            assert!(written || combined || used.contains(english), "{english:?} is not used");
        }
    }
}
