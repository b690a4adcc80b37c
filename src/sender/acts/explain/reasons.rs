//! The usual cause of each reason, and the remedy: one sentence. `docs/troubleshooting.md` says more.

use crate::sender::acts::evaluate::Context;
use crate::sender::acts::explain::advice::{Advice, Phrase, phrase};
use crate::sender::acts::outcome::Reason;
use crate::sender::request::callback::Callback;

/// The advice on `reason`, the outcome of `callback`. `None` for a bad signature, of which the
/// mistake says more.
pub(super) fn advice(reason: Reason, callback: &Callback<'_>) -> Option<Advice> {
    let usual = usual(reason)?;
    let Some(off) = Deviation::of(callback) else { return Some(usual.into()) };
    match reason {
        Reason::Stale if off.ms > off.past_ms => Some(Advice::new(
            format!(
                "Its time is {} before it came, and {} are allowed. {}",
                in_english(off.ms),
                in_english(off.past_ms),
                usual.en
            ),
            format!(
                "回调的时间早于收到时间 {}，允许的上限为 {}。{}",
                in_chinese(off.ms),
                in_chinese(off.past_ms),
                usual.zh
            ),
        )),
        Reason::Future if off.ms.saturating_neg() > off.future_ms => Some(Advice::new(
            format!(
                "Its time is {} after it came, and {} are allowed. {}",
                in_english(off.ms.saturating_neg()),
                in_english(off.future_ms),
                usual.en
            ),
            format!(
                "回调的时间晚于收到时间 {}，允许的上限为 {}。{}",
                in_chinese(off.ms.saturating_neg()),
                in_chinese(off.future_ms),
                usual.zh
            ),
        )),
        _ => Some(usual.into()),
    }
}

/// The time of a callback, compared with its receipt, in milliseconds.
struct Deviation {
    /// How long before the receipt it is; negative after it.
    ms: i64,
    past_ms: i64,
    future_ms: i64,
}

impl Deviation {
    /// `None` where the callback has no time that can be read, or any time is allowed.
    fn of(callback: &Callback<'_>) -> Option<Self> {
        let time = callback.recipe.time.as_ref()?;
        let (past_ms, future_ms) = time.within?;
        let mut text = Vec::new();
        callback.put(&time.r#in, &Context::default(), &mut text).ok()?;
        let at_ms = time.stamp.read(&text, time.zone)?;
        Some(Self { ms: callback.now_ms.saturating_sub(at_ms), past_ms, future_ms })
    }
}

/// Units of a duration in milliseconds, the largest first.
const UNITS: [(i64, Phrase); 4] = [
    (24 * 60 * 60 * 1000, phrase("d", "天")),
    (60 * 60 * 1000, phrase("h", "小时")),
    (60 * 1000, phrase("min", "分钟")),
    (1000, phrase("s", "秒")),
];

/// A duration in its largest two units.
fn spelled(ms: i64, word: impl Fn(&Phrase) -> &'static str) -> String {
    let mut left = ms.max(0);
    let mut parts = Vec::new();
    for (unit, phrase) in &UNITS {
        let count = left / unit;
        left %= unit;
        if count > 0 {
            parts.push(format!("{count} {}", word(phrase)));
        } else if !parts.is_empty() {
            break;
        }
    }
    parts.truncate(2);
    match parts.is_empty() {
        true => format!("{left} {}", word(&phrase("ms", "毫秒"))),
        false => parts.join(" "),
    }
}

fn in_english(ms: i64) -> String {
    spelled(ms, |unit| unit.en)
}

fn in_chinese(ms: i64) -> String {
    spelled(ms, |unit| unit.zh)
}

fn usual(reason: Reason) -> Option<Phrase> {
    USUAL.iter().find(|(known, _)| *known == reason).map(|(_, usual)| *usual)
}

/// The advice on every reason but a bad signature.
const USUAL: [(Reason, Phrase); 18] = [
    (
        Reason::MissingParameter,
        phrase(
            "The URL in the sender's console is not that of `postern url SOURCE`: paste it again. \
             Some senders omit empty values; then the page of the sender says so.",
            "发送方后台里的地址与 `postern url 来源` 打印的不同：请重新粘贴。有的发送方会略去空值，见该发送方的页面。",
        ),
    ),
    (
        Reason::UnresolvedPlaceholder,
        phrase(
            "The sender left one of its macros in the URL: correct its spelling, or remove it if this \
             sender does not have it. Test buttons of some consoles do not expand macros.",
            "发送方没有替换宏：请更正宏的写法；该发送方没有这个宏时请删去。有的发送方后台的测试按钮不替换宏。",
        ),
    ),
    (
        Reason::Stale,
        phrase(
            "Check the gateway's clock (`timedatectl`), and whether the sender retries with the \
             first time; only then raise `max_age`.",
            "请检查网关的时钟（`timedatectl`），以及发送方重试时是否沿用第一次的时间；然后才考虑放宽 `max_age`。",
        ),
    ),
    (
        Reason::Future,
        phrase(
            "The gateway's clock is behind, or the sender's is ahead: correct it (`timedatectl`).",
            "网关的时钟慢了，或发送方的快了：请校准（`timedatectl`）。",
        ),
    ),
    (
        Reason::RepeatedParameter,
        phrase(
            "A name occurs twice: rename the one in the URL's own query that repeats a name of the \
             sender, or stop the proxy that appends it.",
            "同名参数出现两次：请改掉地址里与发送方重名的参数，或让代理不再追加。",
        ),
    ),
    (
        Reason::TooLarge,
        phrase(
            "Body, target or number of parameters is over the limit: raise `body` of the source if \
             the sender really sends that much.",
            "请求体、URL 或参数个数超过上限：发送方确实会发这么多时，请调大来源的 `body`。",
        ),
    ),
    (
        Reason::ForbiddenAddress,
        phrase(
            "The caller is not in `allow` of the source. Behind a proxy, list it in \
             `server.trusted_proxies`; otherwise compare `allow` with the sender's list.",
            "调用方不在来源的 `allow` 中。前面有代理时，请将它列入 `server.trusted_proxies`；\
             否则请与发送方公布的地址核对。",
        ),
    ),
    (
        Reason::ClientCertificate,
        phrase(
            "No valid client certificate of the source's `client_ca` came: compare it with the \
             sender's, or pass TLS through the proxy in front.",
            "没有收到来源的 `client_ca` 所签发的有效客户端证书：请与发送方核对，或让前面的代理透传 TLS。",
        ),
    ),
    (
        Reason::UnsignedParameter,
        phrase(
            "A parameter follows the signed part: stop the proxy or the tracking tool that appends \
             it, or the callback is forged.",
            "签名部分之后又多了参数：请让代理或统计工具不再追加；否则此回调是伪造的。",
        ),
    ),
    (
        Reason::UnknownKey,
        phrase(
            "The sender does not publish the key that the callback names: usually forged. Otherwise \
             look for `could not fetch public keys` in the log.",
            "发送方没有公布回调所写的公钥：多半是伪造。否则请在日志中查找 `could not fetch public keys`。",
        ),
    ),
    (
        Reason::BadEncoding,
        phrase(
            "An escape, a text, base64 or a cipher text cannot be read: have it sent as the sender's \
             page says. For a sealed message compare the AES key.",
            "百分号转义、文本、base64 或密文无法读取：请按该发送方的页面发送。加密消息请核对 AES 密钥。",
        ),
    ),
    (
        Reason::BadBody,
        phrase(
            "The body is not what this sender sends: correct its content type, and switch compression \
             off at the sender or in the proxy.",
            "请求体不是该发送方的格式：请更正内容类型，并在发送方或代理处关闭压缩。",
        ),
    ),
    (
        Reason::WrongMethod,
        phrase(
            "The sender uses another method: choose that of the sender's page in its console. A \
             browser sends GET.",
            "该发送方不用这个请求方法：请在其后台选择该发送方页面所写的方法。浏览器发送的是 GET。",
        ),
    ),
    (
        Reason::NotOurs,
        phrase(
            "It is for another publisher or app: add its id to `ad_units`, `ad_ids` or `app_id` of the \
             source if it is yours.",
            "它属于别的开发者或应用：如果属于您，请将其标识加入来源的 `ad_units`、`ad_ids` 或 `app_id`。",
        ),
    ),
    (
        Reason::PinnedReward,
        phrase(
            "Amount or item differs from `rewards` of the source: correct the table if the console \
             was changed. Otherwise a client changed the amount.",
            "数量或物品与来源的 `rewards` 不一致：发送方后台改过时请更正该表；否则是客户端改了数量。",
        ),
    ),
    (
        Reason::UsedSignature,
        phrase(
            "This address check was answered before: start a new one in the sender's console.",
            "该地址校验已应答过：请在发送方后台重新发起。",
        ),
    ),
    (
        Reason::Disabled,
        phrase(
            "The source, or this kind of message, is disabled: enable it, or remove the URL from the \
             sender's console.",
            "来源或这一类消息已停用：请启用，或从发送方后台移除该地址。",
        ),
    ),
    (
        Reason::Timeout,
        phrase(
            "The body did not arrive in time: let a proxy that streams buffer the request, or raise \
             `body_timeout`.",
            "请求体未按时收完：请让代理先缓冲请求，或调大 `body_timeout`。",
        ),
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_but_a_bad_signature_has_its_advice_in_both_languages() {
        for reason in Reason::ALL.iter().filter(|reason| **reason != Reason::BadSignature) {
            let Phrase { en, zh } = usual(*reason).unwrap();
            assert!(en.ends_with('.') && zh.ends_with('。'), "{reason}");
        }
        assert_eq!(usual(Reason::BadSignature), None);
    }

    #[test]
    fn a_duration_has_its_largest_two_units() {
        let tests = [
            (250, "250 ms", "250 毫秒"),
            (5_000, "5 s", "5 秒"),
            (300_000, "5 min", "5 分钟"),
            (5_400_000, "1 h 30 min", "1 小时 30 分钟"),
            (86_401_000, "1 d", "1 天"),
            (93_784_000, "1 d 2 h", "1 天 2 小时"),
        ];
        for (ms, en, zh) in tests {
            assert_eq!((in_english(ms).as_str(), in_chinese(ms).as_str()), (en, zh));
        }
    }
}
