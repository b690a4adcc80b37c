//! The fixed phrases of contracts, in both languages. The contract writes them in English; a test
//! compares this table with it.

use crate::console::lang::Lang;
use crate::console::sender_texts;
use crate::console::text::Text;
use crate::console::words;
use crate::sender::{Effect, Outcome, Reason};

/// The translation of a fixed phrase.
pub(super) fn phrase(english: &str) -> Option<Text> {
    PHRASES.iter().find(|known| known.0 == english).map(|known| known.1)
}

/// The Chinese text of a phrase that contains a value: the number of retries and the like.
pub(super) fn made(english: &str) -> Option<String> {
    if english == "no reply: held until the sender times out" {
        return Some(String::from("不应答：挂起，直到发送方超时"));
    }
    if let Some(secret) = english.strip_suffix(", or unsigned = true") {
        let secret = sender_texts::translated(Lang::Zh, secret).unwrap_or(secret);
        return Some(format!("{secret}，或设置 unsigned = true"));
    }
    if let Some(sender) =
        english.strip_prefix("takes precedence over ").and_then(|text| text.strip_suffix(", by"))
    {
        return Some(format!("优先于 {sender}，依据"));
    }
    let places: Option<Vec<&str>> = english
        .split(", ")
        .map(|place| words::place(place).map(|text| text.of(Lang::Zh)))
        .collect();
    if let Some(places) = places {
        return Some(places.join(Lang::Zh.comma()));
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
    if let Some((past, ahead)) =
        english.strip_prefix("at most ").and_then(|text| text.split_once(" old, "))
    {
        return Some(format!("最多早 {past}，晚 {}", ahead.strip_suffix(" ahead")?));
    }
    if let Some(both) =
        english.strip_prefix("at most ").and_then(|text| text.strip_suffix(" away, either way"))
    {
        return Some(format!("早晚均不超过 {both}"));
    }
    if let Some((url, keep)) = english
        .strip_prefix("URL of the public keys, in place of ")
        .and_then(|text| text.split_once("; cached for "))
    {
        return Some(format!(
            "公钥的 URL，代替 {url}；最多缓存 {}",
            keep.strip_suffix(" at most")?
        ));
    }
    if let Some((hosts, _)) = english
        .strip_prefix("URL of a mirror, in place of ")
        .and_then(|text| text.split_once(": the path of a certificate follows it; "))
    {
        let hosts = hosts.replace(" and ", " 与 ");
        return Some(format!(
            "镜像的 URL，代替 {hosts}：其后接证书的路径；未设置 `secrets` 时，回调给出证书地址后才会获取，并保留 24h"
        ));
    }
    if let Some((list, most)) = english
        .strip_prefix("one for each element of ")
        .and_then(|text| text.split_once(", at most "))
    {
        let list = if list == "the body" { "请求体" } else { list };
        return Some(format!("{list} 的每个元素各一个，最多 {most} 个"));
    }
    event_of_kind(english).or_else(|| covered(english)).or_else(|| attack(english))
}

/// The event of a kind: whether it reverses another one, and its effect.
fn event_of_kind(english: &str) -> Option<String> {
    let (event, effect) = match english.split_once(", effect ") {
        Some((event, effect)) => {
            let word = words::effect(Effect::from_name(effect)?).of(Lang::Zh);
            (event, format!("，奖励效果：{word}"))
        }
        None => (english, String::new()),
    };
    let event = match event.strip_prefix("a separate event that reverses ") {
        Some(reversed) => {
            let reversed = literal(reversed).unwrap_or_else(|| reversed.to_owned());
            format!("独立的事件，撤销 {reversed}")
        }
        None => phrase(event)?.of(Lang::Zh).to_owned(),
    };
    Some(format!("{event}{effect}"))
}

/// The Chinese text of the first cell of a row: of a part with roles, outcomes or reasons.
pub(super) fn member(title: &str, english: &str) -> Option<String> {
    let outcome = |name: &str| {
        let reason = || Reason::from_name(name).map(words::reason);
        let text = Outcome::from_name(name).map(words::outcome).or_else(reason);
        text.map(|text| text.of(Lang::Zh))
    };
    match title {
        "Callback fields" => words::member(english).map(|text| text.of(Lang::Zh).to_owned()),
        "Replies" => match english.split_once(", ") {
            Some((name, kind)) => outcome(name).map(|text| format!("{text}（{kind}）")),
            None => outcome(english).map(str::to_owned),
        },
        _ => None,
    }
}

/// A literal text with the words between its parts in Chinese; `None`: it has no such words.
pub(super) fn literal(english: &str) -> Option<String> {
    for (joint, chinese) in [(", else ", "，否则 "), (", or ", "，或 "), (", then ", "，然后 ")]
    {
        if english.contains(joint) {
            let one = |part: &str| literal(part).unwrap_or_else(|| part.to_owned());
            return Some(english.split(joint).map(one).collect::<Vec<_>>().join(chinese));
        }
    }
    if let Some((start, rest)) = english.split_once('‹')
        && let Some((list, end)) = rest.split_once('›')
    {
        return Some(format!("{start}‹{}›{end}", signed_list(list)));
    }
    if let Some((value, when)) = english.split_once(" (when ") {
        let when = when.strip_suffix(')')?;
        return Some(format!("{value}（有 {when} 时）"));
    }
    if let Some(reply) = english.strip_suffix(" (encrypted like the callback)") {
        let reply = literal(reply).unwrap_or_else(|| reply.to_owned());
        return Some(format!("{reply}（与回调相同方式加密）"));
    }
    if let Some(reply) = english.strip_suffix(" or the same in XML") {
        return Some(format!("{reply} 或内容相同的 XML"));
    }
    if let Some(token) = english.strip_suffix(", a JSON Web Signature") {
        return Some(format!("{token}，JSON Web Signature 格式"));
    }
    let methods: Vec<&str> = english.split(" or ").collect();
    if methods.len() > 1 && methods.iter().all(|one| one.bytes().all(|b| b.is_ascii_uppercase())) {
        return Some(methods.join(" 或 "));
    }
    let positive = english.strip_prefix("not ").unwrap_or(english);
    let is_condition = positive.starts_with(['{', '['])
        && (positive.contains(" is ") || positive.len() < english.len());
    is_condition.then(|| english.split(" and ").map(clause).collect::<Vec<_>>().join(" 且 "))
}

/// A part of a condition: whether a value is there, or is a certain one.
fn clause(english: &str) -> String {
    let (absent, is, positive) = match english.strip_prefix("not ") {
        Some(positive) => ("没有 ", "不为", positive),
        None => ("", "为", english),
    };
    match positive.split_once(" is ") {
        Some((value, word)) => format!("{value} {is} {word}"),
        None => format!("{absent}{positive}"),
    }
}

/// The description of values that are signed as a list.
fn signed_list(english: &str) -> String {
    if let Some(parts) = english.strip_prefix("sorted: ") {
        return format!("排序后：{parts}");
    }
    let mut said = String::new();
    for (at, part) in english.split(", ").enumerate() {
        if let Some(names) = part.strip_prefix("except ") {
            said.push_str(&format!("（{names} 除外）"));
            continue;
        }
        if at > 0 {
            said.push('，');
        }
        said.push_str(&signed_part(part));
    }
    said
}

fn signed_part(english: &str) -> String {
    let known = match english {
        "all of the query" => "查询字符串的全部参数",
        "all of the form" => "表单的全部参数",
        "all of query and form" => "query 与 form 的全部参数",
        "the pasted parameters" => "粘贴到 URL 的参数",
        "as given" => "按给定顺序",
        "sorted by name" => "按名称排序",
        "sorted by macro" => "按宏排序",
        "each in form encoding" => "各按表单编码",
        "empty ones omitted" => "忽略空值",
        other => {
            return match (other.strip_prefix("with "), other.strip_prefix("written as ")) {
                (Some(added), _) => format!("加上 {added}"),
                (None, Some(shape)) => format!("写作 {shape}"),
                (None, None) => other.to_owned(),
            };
        }
    };
    known.to_owned()
}

/// Whether the signature covers a role, with the reason if not.
fn covered(english: &str) -> Option<String> {
    let (plain, by_app) = match english.strip_suffix("; set by the app") {
        Some(plain) => (plain, "；由应用设置"),
        None => (english, ""),
    };
    let (answer, reason) = plain.split_once(": ")?;
    let answer = match answer {
        "no" => "否",
        "partly" => "部分",
        _ => return None,
    };
    Some(format!("{answer}：{}{by_app}", reason_of(reason)?))
}

fn reason_of(english: &str) -> Option<String> {
    let confirmed = |text: &str| {
        let names = text.strip_suffix(" is confirmed").or(text.strip_suffix(" are confirmed"))?;
        Some(listed(names))
    };
    if let Some(names) = english.strip_prefix("in all callbacks once ").and_then(confirmed) {
        return Some(format!("确认 {names} 后，所有回调均覆盖"));
    }
    if let Some(names) = english.strip_prefix("only once ").and_then(confirmed) {
        return Some(format!("仅在确认 {names} 之后"));
    }
    Some(match english {
        "nothing is signed" => String::from("没有签名"),
        "one signature is valid for several" => String::from("同一签名对多个取值都有效"),
        "not signed" => String::from("未签名"),
        "signed in a form that other values share" => {
            String::from("签名的是变换后的形式，其他取值的形式可能相同")
        }
        "not in every signature" => String::from("并非每种签名都包含"),
        "not by every signature" => String::from("并非每种签名都覆盖"),
        "can be re-cut with an adjacent value" => String::from("可与相邻的值重新切分"),
        other => match other.strip_prefix("can be re-cut with ") {
            Some(names) => format!("可与 {} 重新切分", listed(names)),
            // Why kind and test flag are not signed are texts of the sender's file.
            None => {
                let reasons = other.split("; ").map(|one| sender_texts::translated(Lang::Zh, one));
                reasons.collect::<Option<Vec<_>>>()?.join("；")
            }
        },
    })
}

/// Names in prose: "`a`, `b` and 3 others".
fn listed(english: &str) -> String {
    let (names, others) = match english.strip_suffix(" others").and_then(|t| t.rsplit_once(" and "))
    {
        Some((names, count)) => (names, format!(" 等另外 {count} 项")),
        None => (english, String::new()),
    };
    format!("{}{others}", names.replace(", ", "、").replace(" and ", " 和 "))
}

/// The abilities of an attacker, as far as they contain names.
fn attack(english: &str) -> Option<String> {
    let between = |start: &str, end: &str| english.strip_prefix(start)?.strip_suffix(end);
    let in_chinese = |why| sender_texts::translated(Lang::Zh, why).unwrap_or(why);
    if let Some(why) = english.strip_prefix("replay it under new ids, each time as a new event: ") {
        let why = in_chinese(why);
        return Some(format!("换用新的编号重放，每次都成为新事件：{why}"));
    }
    if let Some(why) = english.strip_prefix("replay some callbacks under new ids, as new events: ")
    {
        let why = in_chinese(why);
        return Some(format!("换用新的编号重放部分回调，使其成为新事件：{why}"));
    }
    let first = " if the changed callback arrives first: it is delivered, `authenticated` omits the \
                 changed fields, and the original callback is quarantined";
    if let Some(names) = between("change ", first) {
        return Some(format!(
            "若篡改后的回调先到达，则可改动 {}：它会被投递，`authenticated` 不含被改动的字段，原回调被隔离",
            listed(names)
        ));
    }
    let moved = " if that callback arrives first: it is delivered, `authenticated` omits the changed \
                 fields, and the original callback is quarantined";
    if let Some(names) = between("move characters between ", moved) {
        return Some(format!(
            "若该回调先到达，则可在 {} 之间移动字符：它会被投递，`authenticated` 不含被改动的字段，原回调被隔离",
            listed(names)
        ));
    }
    let kind = ", or one of that kind as a plain one: a separate event, without \"kind\" in \
                `authenticated`; the original callback is delivered too";
    if let Some(names) = between("send a callback as kind ", kind) {
        return Some(format!(
            "把回调改作类型 {}，或把该类型的回调改作普通回调：成为另一个事件，其 `authenticated` 不含 \"kind\"；原回调也会投递",
            listed(names)
        ));
    }
    let names = between("change ", ": covered by the signature")?;
    Some(format!("改动 {}：已被签名覆盖", listed(names)))
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
    "Without outside confirmation" = "未经平台证实";
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
    "events in one callback" = "单次回调中的事件";
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
    "timeout" = "超时";
    "retries" = "重试";
    "retry condition" = "重试条件";
    "retry period" = "重试总时长";
    "unknown" = "未知";
    "number unknown, within the retry period" = "次数未知，在重试总时长之内";
    "not accepted" = "回调未被接受";
    "never" = "从不";
    "same kind and same" = "类型相同，且以下取值相同";
    "one event per signature" = "每个签名对应一个事件";
    "several events per signature" = "一个签名可对应多个事件";
    "may differ in a repeated callback" = "重复的回调中可能不同";
    "always: the signature does not cover the identity" = "始终：签名未覆盖去重依据";
    "if the signature does not cover the identity" = "当签名未覆盖去重依据时";
    "no" = "否";
    // The attacker.
    "forge any event: nothing is signed" = "伪造任意事件：没有签名";
    "forge any other event: the callback contains the secret itself" = "伪造任意其他事件：回调中包含密钥本身";
    "mark a callback as a test: a test event, without \"test\" in `authenticated`; the original callback is delivered too"
        = "把回调标记为测试：成为测试事件，其 `authenticated` 不含 \"test\"；原回调也会投递";
    "get a callback answered as a test: it is not stored, and the original is delivered"
        = "使回调按测试应答：它不会保存，原回调会投递";
    "change the kind: covered by the signature" = "改动类型：已被签名覆盖";
    "forge another event by moving characters between values: such a callback is rejected or quarantined, and the original callback is delivered"
        = "在各个值之间移动字符以伪造另一事件：此类回调会被拒绝或隔离，原回调会投递";
    "have it counted twice: a replay is a duplicate, and later too old" = "使其计两次：重放属于重复，之后则已过期";
    "have it counted twice: a replay is a duplicate at any time" = "使其计两次：任何时候重放都属于重复";
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

    #[test]
    fn the_words_between_literal_texts_are_translated() {
        for (english, chinese) in [
            ("GET or POST", "GET 或 POST"),
            ("{a} is 1", "{a} 为 1"),
            ("{a} is 1, or {b} is x and {c}", "{a} 为 1，或 {b} 为 x 且 {c}"),
            ("not {a} is 1", "{a} 不为 1"),
            ("not {a} and {b} is x", "没有 {a} 且 {b} 为 x"),
            ("{a} (when {openid}), else {b}:{openid}", "{a}（有 {openid} 时），否则 {b}:{openid}"),
            (
                "‹all of query and form, except sAMSToken, sorted by name, written as k=v&k=v, \
                 empty ones omitted›&sAMSToken=[secret]",
                "‹query 与 form 的全部参数（sAMSToken 除外），按名称排序，写作 k=v&k=v，忽略空值›\
                 &sAMSToken=[secret]",
            ),
            ("‹sorted: [secret] {nonce}›", "‹排序后：[secret] {nonce}›"),
        ] {
            assert_eq!(literal(english).as_deref(), Some(chinese));
        }
        assert_eq!(literal("unsigned = true"), None);
        assert_eq!(made("query, form").as_deref(), Some("查询字符串、表单"));
        assert_eq!(member("Replies", "unresolved_placeholder").as_deref(), Some("宏未替换"));
        assert_eq!(member("Callback fields", "user").as_deref(), Some("用户"));
        let left = [", else ", ", or ", ", then ", " is ", " and ", "sorted by", "written as"];
        let catalog = Catalog::embedded().unwrap();
        for contract in catalog.iter().map(Contract::of) {
            let parts = contract.parts.iter().filter(|part| part.title != "Replies");
            for cell in parts.flat_map(|part| part.rows.iter().flatten()) {
                let Cell::Code(text) = cell else { continue };
                let shown = literal(text).unwrap_or_else(|| text.clone());
                let english = left.iter().find(|word| shown.contains(**word));
                assert_eq!(english, None, "{}: {shown}", contract.name);
            }
        }
    }

    #[test]
    fn what_a_signature_covers_and_an_attacker_can_do_is_translated() {
        let catalog = Catalog::embedded().unwrap();
        let translated = |english: &str| phrase(english).is_some() || made(english).is_some();
        for contract in catalog.iter().map(Contract::of) {
            for part in &contract.parts {
                let rows = part.rows.iter();
                let texts: Vec<&str> = match part.title {
                    "Callback fields" | "Address checks, tests and kinds" => {
                        rows.map(|row| row[2].text()).collect()
                    }
                    "Source settings" => {
                        let is_url = |row: &&Vec<Cell>| row[1].text().starts_with("URL of ");
                        rows.filter(is_url).map(|row| row[1].text()).collect()
                    }
                    "Deduplication"
                    | "With one captured callback, an attacker can"
                    | "With one captured callback, an attacker cannot" => {
                        rows.map(|row| row[0].text()).collect()
                    }
                    _ => continue,
                };
                for english in texts {
                    assert!(translated(english), "{}: {english:?}", contract.name);
                }
            }
        }
        assert_eq!(
            made("no: can be re-cut with `a`, `b`, `c` and 4 others; set by the app").as_deref(),
            Some("否：可与 `a`、`b`、`c` 等另外 4 项 重新切分；由应用设置")
        );
    }
}
