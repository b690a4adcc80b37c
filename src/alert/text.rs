//! The texts of alerts, in both languages side by side.

use std::time::Duration;

use super::board::{Notice, NoticeKind};
use super::incident::{Detail, Key, Past, Subject};
use crate::clock::{UnixMillis, rfc3339};
use crate::config::{AlertLanguage, show};
use crate::sender::Reason;

/// One sentence about a notice, without the link.
pub(super) fn sentence(notice: &Notice, language: AlertLanguage) -> String {
    let subject = subject(&notice.key, language);
    let since = stamp(notice.since_ms);
    match (language, notice.kind) {
        (AlertLanguage::English, NoticeKind::Paused) => {
            format!("Closed: {subject} was paused; nothing is delivered until it is resumed")
        }
        (AlertLanguage::Chinese, NoticeKind::Paused) => {
            format!("已关闭：{subject}已暂停，恢复前不会投递")
        }
        (AlertLanguage::English, NoticeKind::Removed) => {
            let disabled = if notice.key.source().is_some() { "disabled or " } else { "" };
            format!("Closed: {subject} is {disabled}no longer configured")
        }
        (AlertLanguage::Chinese, NoticeKind::Removed) => {
            let disabled = if notice.key.source().is_some() { "停用或已" } else { "" };
            format!("已关闭：{subject}已{disabled}从配置中移除")
        }
        (AlertLanguage::English, NoticeKind::Closed) => {
            format!("Resolved: {}{}", subject, topic_en(&notice.detail))
        }
        (AlertLanguage::Chinese, NoticeKind::Closed) => {
            format!("已恢复：{}{}", subject, topic_zh(&notice.detail))
        }
        (AlertLanguage::English, kind) => {
            let still = if kind == NoticeKind::Reminder { "Still open: " } else { "" };
            format!("{still}{subject}{} (since {since} UTC)", facts_en(&notice.detail))
        }
        (AlertLanguage::Chinese, kind) => {
            let still = if kind == NoticeKind::Reminder { "仍未恢复：" } else { "" };
            format!("{still}{subject}{}（自 {since} UTC 起）", facts_zh(&notice.detail))
        }
    }
}

/// The subject of an e-mail about these notices.
#[cfg(feature = "email")]
pub(super) fn title(notices: &[Notice], language: AlertLanguage) -> String {
    match (notices, language) {
        ([one], _) => format!("[Postern] {}", sentence(one, language)),
        (many, AlertLanguage::English) => format!("[Postern] {} alerts", many.len()),
        (many, AlertLanguage::Chinese) => format!("[Postern] {} 条告警", many.len()),
    }
}

/// A line about notices that are left out.
pub(super) fn more(count: usize, language: AlertLanguage) -> String {
    match language {
        AlertLanguage::English => format!("and {count} more"),
        AlertLanguage::Chinese => format!("另有 {count} 条"),
    }
}

fn subject(key: &Key, language: AlertLanguage) -> String {
    let english = language == AlertLanguage::English;
    match &key.subject {
        Subject::Gateway if english => String::from("Postern"),
        Subject::Gateway => String::from("Postern "),
        Subject::Source(name) if english => format!("Source {name}"),
        Subject::Source(name) => format!("来源 {name} "),
        Subject::Destination(name) if english => format!("Destination {name}"),
        Subject::Destination(name) => format!("投递目标 {name} "),
        Subject::Sender(name) if english => format!("Sender {name}"),
        Subject::Sender(name) => format!("发送方 {name} "),
        Subject::Listener(name) if english => format!("Listener {name}"),
        Subject::Listener(name) => format!("监听器 {name} "),
    }
}

/// The problem, with its numbers.
fn facts_en(detail: &Detail) -> String {
    match detail {
        Detail::Refusals { rejected, all, usual_percent, reason } => {
            let mostly = reason.as_ref().map_or(String::new(), |it| format!(", mostly for {it}"));
            let look = match Check::of(reason.as_deref()) {
                Check::Secrets => "Check its secrets and its sender file",
                Check::Callback => "`postern explain` and the link show what was sent",
            };
            format!(
                " rejected {rejected} of {all} callbacks{mostly}; usual are {usual_percent} %. {look}"
            )
        }
        Detail::Silent { usual_seconds } => format!(
            " has had no callback for longer than usual; its usual gap is {}",
            span(*usual_seconds)
        ),
        Detail::Failing { status, past } => {
            let answer = match status {
                Some(status) => format!("status {status}"),
                None => String::from("no response"),
            };
            match past {
                Past::Never => format!(" fails and has never accepted a delivery: {answer}"),
                Past::Delivered => format!(" fails: {answer}"),
            }
        }
        Detail::Breaker => String::from(": its circuit breaker is open, deliveries wait"),
        Detail::Dead { count } => format!(" has {}", many(*count, "dead letter")),
        Detail::Overdue { seconds, pending } => {
            let pending = match pending {
                1 => String::from("the only pending delivery"),
                many => format!("the oldest of {many} pending deliveries"),
            };
            format!(": {pending} is overdue by {}", span(*seconds))
        }
        Detail::Quarantine { count } => {
            let wait = if *count == 1 { "waits" } else { "wait" };
            format!(" has {} that {wait} for a decision", many(*count, "held callback"))
        }
        Detail::StoreNearlyFull { free_mib, reserve_mib } => format!(
            ": the disk of the store is nearly full: {free_mib} MiB are free, below {reserve_mib} MiB it is not ready, and load balancers send it no callbacks"
        ),
        Detail::StoreDamaged { places } => {
            format!(
                ": the store is damaged in {}; see the runbook, PosternStoreDamaged",
                many(*places, "place")
            )
        }
        Detail::StoreStopped { why } => format!(": the store accepts no callbacks: {why}"),
        Detail::StoreUnindexed { why } => format!(
            ": retention waits, because a closed segment could not be indexed: {why}; it is retried once a minute"
        ),
        Detail::Keys { seconds } => format!(
            ": its public keys could not be fetched for {}; callbacks with new keys are not accepted",
            span(*seconds)
        ),
        Detail::Certificate { expires_ms } => {
            format!(": its certificate is valid until {} UTC", stamp(*expires_ms))
        }
        Detail::Reload => {
            String::from(" did not apply the changed configuration; the log has the reason")
        }
        Detail::Archive { seconds, days } => format!(
            ": expired events have waited for the archive for {}; after {days} days they are deleted unarchived. \
             The log has the reason",
            span(*seconds)
        ),
        Detail::Test => String::from(" can send alerts to this channel: this is a test"),
    }
}

fn facts_zh(detail: &Detail) -> String {
    match detail {
        Detail::Refusals { rejected, all, usual_percent, reason } => {
            let mostly = reason.as_ref().map_or(String::new(), |it| format!("，主要原因为 {it}"));
            let look = match Check::of(reason.as_deref()) {
                Check::Secrets => "请检查密钥和发送方文件",
                Check::Callback => "请通过链接或 `postern explain` 查看收到的内容",
            };
            format!(
                "在 {all} 次回调中拒绝了 {rejected} 次{mostly}，平时为 {usual_percent} %。{look}"
            )
        }
        Detail::Silent { usual_seconds } => {
            format!("超过平时的间隔没有收到回调，平时的间隔为 {}", span(*usual_seconds))
        }
        Detail::Failing { status, past } => {
            let answer = match status {
                Some(status) => format!("状态码 {status}"),
                None => String::from("没有响应"),
            };
            match past {
                Past::Never => format!("投递失败，且从未投递成功：{answer}"),
                Past::Delivered => format!("投递失败：{answer}"),
            }
        }
        Detail::Breaker => String::from("的熔断器已打开，投递正在等待"),
        Detail::Dead { count } => format!("有 {count} 条死信"),
        Detail::Overdue { seconds, pending } => {
            format!("有 {pending} 条待投递，最早的已逾期 {}", span(*seconds))
        }
        Detail::Quarantine { count } => format!("有 {count} 条被隔离的回调等待处理"),
        Detail::StoreNearlyFull { free_mib, reserve_mib } => format!(
            "的存储磁盘即将写满：剩余 {free_mib} MiB，低于 {reserve_mib} MiB 时不再就绪，负载均衡器不会再向它转发回调"
        ),
        Detail::StoreDamaged { places } => {
            format!("的存储有 {places} 处损坏，请参阅运维手册 PosternStoreDamaged")
        }
        Detail::StoreStopped { why } => format!("的存储无法接收回调：{why}"),
        Detail::StoreUnindexed { why } => {
            format!("的过期数据暂停清理：有一个已写完的日志段未能建立索引（{why}），每分钟重试一次")
        }
        Detail::Keys { seconds } => {
            format!("的公钥集已有 {} 未能更新，使用新公钥的回调不会被接收", span(*seconds))
        }
        Detail::Certificate { expires_ms } => {
            format!("的证书有效期至 {} UTC", stamp(*expires_ms))
        }
        Detail::Reload => String::from("未能应用修改后的配置，原因见日志"),
        Detail::Archive { seconds, days } => format!(
            "的过期事件等待归档已有 {}，超过 {days} 天将不经归档直接删除，原因见日志",
            span(*seconds)
        ),
        Detail::Test => String::from("可以向此通道发送告警：这是一条测试消息"),
    }
}

/// A count with its noun.
fn many(count: u64, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

/// The end of the problem.
fn topic_en(detail: &Detail) -> &'static str {
    match detail {
        Detail::Refusals { .. } => " rejects no more callbacks than usual",
        Detail::Silent { .. } => " has had a callback again",
        Detail::Failing { .. } => " takes deliveries again",
        Detail::Breaker => ": its circuit breaker is closed",
        Detail::Dead { .. } => " has no dead letters",
        Detail::Overdue { .. } => " has no overdue deliveries",
        Detail::Quarantine { .. } => " has no held callbacks",
        Detail::StoreNearlyFull { .. } => ": the store has space again",
        Detail::StoreDamaged { .. } => ": the store is not damaged any more",
        Detail::StoreStopped { .. } => ": the store accepts callbacks again",
        Detail::StoreUnindexed { .. } => ": retention goes on",
        Detail::Keys { .. } => ": its public keys are up to date",
        Detail::Certificate { .. } => ": no certificate of it expires soon",
        Detail::Reload => " applied the configuration",
        Detail::Archive { .. } => ": expired events are archived again",
        Detail::Test => ": the test is over",
    }
}

fn topic_zh(detail: &Detail) -> &'static str {
    match detail {
        Detail::Refusals { .. } => "的拒绝比例恢复正常",
        Detail::Silent { .. } => "重新收到回调",
        Detail::Failing { .. } => "恢复投递",
        Detail::Breaker => "的熔断器已关闭",
        Detail::Dead { .. } => "已没有死信",
        Detail::Overdue { .. } => "已没有逾期的投递",
        Detail::Quarantine { .. } => "已没有被隔离的回调",
        Detail::StoreNearlyFull { .. } => "的存储空间恢复正常",
        Detail::StoreDamaged { .. } => "的存储不再损坏",
        Detail::StoreStopped { .. } => "的存储恢复接收回调",
        Detail::StoreUnindexed { .. } => "的过期数据恢复清理",
        Detail::Keys { .. } => "的公钥集已更新",
        Detail::Certificate { .. } => "已没有临近到期的证书",
        Detail::Reload => "已应用配置",
        Detail::Archive { .. } => "的过期事件恢复归档",
        Detail::Test => "的测试已结束",
    }
}

/// The thing to look at when callbacks are rejected.
enum Check {
    /// The source's configuration.
    Secrets,
    /// The callbacks themselves.
    Callback,
}

impl Check {
    fn of(reason: Option<&str>) -> Self {
        match reason.and_then(Reason::from_name) {
            None | Some(Reason::BadSignature | Reason::UnknownKey) => Self::Secrets,
            Some(_) => Self::Callback,
        }
    }
}

/// A duration in its two largest units.
fn span(seconds: u64) -> String {
    let coarse = match seconds {
        0..=119 => seconds,
        120..=7199 => seconds / 60 * 60,
        7200..=172_799 => seconds / 3600 * 3600,
        _ => seconds / 86_400 * 86_400,
    };
    show(Duration::from_secs(coarse))
}

/// `2026-01-02 03:04:05`.
fn stamp(ms: UnixMillis) -> String {
    let text = rfc3339(ms);
    text.get(..19).unwrap_or(&text).replace('T', " ")
}

#[cfg(test)]
mod tests {
    use super::super::incident::Incident;
    use super::*;
    use crate::config::AlertCondition;

    fn said(detail: Detail, kind: NoticeKind, language: AlertLanguage) -> String {
        let subject = match detail {
            Detail::Refusals { .. } => Subject::Source(String::from("ads")),
            _ => Subject::Destination(String::from("game")),
        };
        let Incident { key, since_ms, detail } =
            Incident::new(AlertCondition::Refusals, subject, 0, detail);
        sentence(&Notice { key, kind, since_ms, detail, id: String::new() }, language)
    }

    fn refused(reason: Option<&str>) -> Detail {
        let reason = reason.map(str::to_owned);
        Detail::Refusals { rejected: 9, all: 10, usual_percent: 1, reason }
    }

    #[test]
    fn rejections_are_told_with_their_main_reason() {
        let english = |reason| said(refused(reason), NoticeKind::Opened, AlertLanguage::English);
        assert_eq!(
            english(Some("bad_signature")),
            "Source ads rejected 9 of 10 callbacks, mostly for bad_signature; usual are 1 %. Check \
             its secrets and its sender file (since 1970-01-01 00:00:00 UTC)"
        );
        assert!(
            english(Some("stale")).contains("mostly for stale; usual are 1 %. `postern explain")
        );
        assert!(english(None).contains("of 10 callbacks; usual are 1 %. Check its secrets"));
        let chinese = said(refused(Some("stale")), NoticeKind::Opened, AlertLanguage::Chinese);
        assert!(chinese.contains("拒绝了 9 次，主要原因为 stale，平时为 1 %"), "{chinese}");
    }

    #[test]
    fn what_an_older_version_wrote_has_no_reason() {
        let old = r#"{"refusals":{"rejected":9,"all":10,"usual_percent":1}}"#;
        assert_eq!(serde_json::from_str::<Detail>(old).unwrap(), refused(None));
    }

    #[test]
    fn a_pause_is_no_recovery() {
        let told = |language| said(Detail::Breaker, NoticeKind::Paused, language);
        assert!(told(AlertLanguage::English).starts_with("Closed: Destination game was paused"));
        assert!(told(AlertLanguage::Chinese).starts_with("已关闭：投递目标 game 已暂停"));
    }

    #[test]
    fn a_removal_is_no_recovery() {
        let removed = |detail, language| said(detail, NoticeKind::Removed, language);
        let game = |language| removed(Detail::Breaker, language);
        let ads = |language| removed(refused(None), language);
        let (english, chinese) = (AlertLanguage::English, AlertLanguage::Chinese);
        assert_eq!(game(english), "Closed: Destination game is no longer configured");
        assert_eq!(ads(english), "Closed: Source ads is disabled or no longer configured");
        assert_eq!(game(chinese), "已关闭：投递目标 game 已从配置中移除");
        assert_eq!(ads(chinese), "已关闭：来源 ads 已停用或已从配置中移除");
    }
}
