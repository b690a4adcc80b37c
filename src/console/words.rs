//! Texts for the closed sets that several pages show. A new member without its text does not compile.

use super::text::Text;
use crate::ledger::{DeliveryState, Durability, EventState, HeldWhy, Rejected};
use crate::registry::Action;
use crate::sender::{Effect, Outcome, Reason, Role};

/// The outcome of a callback.
pub(super) const fn outcome(of: Outcome) -> Text {
    match of {
        Outcome::Accepted => Text::new("Accepted", "已接受"),
        Outcome::Duplicate => Text::new("Duplicate", "重复"),
        Outcome::Conflict => Text::new("Conflict", "冲突"),
        Outcome::Ambiguous => Text::new("Ambiguous", "有歧义"),
        Outcome::Test => Text::new("Test", "测试"),
        Outcome::Challenge => Text::new("Challenge", "地址校验"),
        Outcome::Superseded => Text::new("Superseded", "已被取代"),
        Outcome::Disabled => Text::new("Disabled", "已停用"),
        Outcome::Rejected => Text::new("Rejected", "已拒绝"),
        Outcome::Unavailable => Text::new("Unavailable", "暂不可用"),
    }
}

/// The path belongs to no source.
pub(super) const UNKNOWN_PATH: Text = Text::new("Unknown path", "路径不存在");

/// The reason of a rejection.
pub(super) const fn reason(of: Reason) -> Text {
    match of {
        Reason::BadSignature => Text::new("Bad signature", "签名不符"),
        Reason::MissingParameter => Text::new("Missing parameter", "缺少参数"),
        Reason::UnresolvedPlaceholder => Text::new("Unresolved macro", "宏未替换"),
        Reason::Stale => Text::new("Stale", "已过期"),
        Reason::Future => Text::new("Time in the future", "时间超前"),
        Reason::RepeatedParameter => Text::new("Repeated parameter", "参数重复"),
        Reason::TooLarge => Text::new("Too large", "过大"),
        Reason::ForbiddenAddress => Text::new("Address not allowed", "地址不在白名单"),
        Reason::ClientCertificate => Text::new("Client certificate", "客户端证书不符"),
        Reason::UnsignedParameter => Text::new("Unsigned parameter", "参数未签名"),
        Reason::UnknownKey => Text::new("Unknown key", "未知公钥"),
        Reason::BadEncoding => Text::new("Bad encoding", "编码错误"),
        Reason::BadBody => Text::new("Bad body", "请求体错误"),
        Reason::UsedSignature => Text::new("Challenge repeated", "地址校验重复"),
        Reason::WrongMethod => Text::new("Wrong method", "请求方法错误"),
        Reason::NotOurs => Text::new("Not ours", "不属于本应用"),
        Reason::PinnedReward => Text::new("Reward differs", "奖励不符"),
        Reason::Disabled => Text::new("Disabled", "已停用"),
        Reason::Timeout => Text::new("Body timeout", "请求体超时"),
    }
}

/// The reason of a rejected request.
pub(super) const fn rejected(of: Rejected) -> Text {
    match of {
        Rejected::For(reason) => self::reason(reason),
        Rejected::UnknownPath => UNKNOWN_PATH,
    }
}

/// Why a callback is held.
pub(super) const fn held(why: HeldWhy) -> Text {
    match why {
        HeldWhy::Quarantine | HeldWhy::Rejected => Text::new("Quarantine", "隔离"),
        HeldWhy::Ambiguous => outcome(Outcome::Ambiguous),
        HeldWhy::Conflict => outcome(Outcome::Conflict),
    }
}

/// The role of a value.
pub(super) const fn role(of: Role) -> Text {
    match of {
        Role::Transaction => Text::new("Transaction", "交易号"),
        Role::User => Text::new("User", "用户"),
        Role::Item => Text::new("Item", "物品"),
        Role::Amount => Text::new("Amount", "数量"),
        Role::Currency => Text::new("Currency", "币种"),
        Role::Custom => Text::new("Custom", "透传内容"),
        Role::Reverses => Text::new("Revoked transaction", "撤销的交易"),
    }
}

/// The text of a member of events: a role, or the kind.
pub(super) fn member(name: &str) -> Option<Text> {
    match name {
        "kind" => Some(Text::new("Kind", "类型")),
        _ => Role::from_name(name).map(role),
    }
}

/// The place of a parameter in a request.
pub(super) fn place(of: &str) -> Option<Text> {
    Some(match of {
        "query" => Text::new("Query", "查询字符串"),
        "form" => Text::new("Form", "表单"),
        "json" => Text::new("JSON", "JSON"),
        "xml" => Text::new("XML", "XML"),
        _ => return None,
    })
}

/// The effect of an event.
pub(super) const fn effect(of: Effect) -> Text {
    match of {
        Effect::Grant => Text::new("Grant", "发放"),
        Effect::Revoke => Text::new("Revoke", "撤销"),
        Effect::None => Text::new("None", "无"),
    }
}

/// The state of a delivery.
pub(super) const fn delivery(of: DeliveryState) -> Text {
    match of {
        DeliveryState::Pending => Text::new("Pending", "待投递"),
        DeliveryState::Dead => Text::new("Dead", "死信"),
        DeliveryState::Done => Text::new("Done", "已完成"),
    }
}

/// The state of the deliveries of an event.
pub(super) const fn event(of: EventState) -> Text {
    match of {
        EventState::Pending => Text::new("Pending", "投递中"),
        EventState::Dead => Text::new("Dead letter", "死信"),
        EventState::Done => Text::new("Delivered", "已投递"),
    }
}

/// The durability of an acknowledged callback.
pub(super) const fn durability(of: Durability) -> Text {
    match of {
        Durability::Replicated => Text::new(
            "Replicated: survives the loss of any one machine",
            "多副本：任意一台机器丢失后数据仍在",
        ),
        Durability::Local => Text::new(
            "Local: synced to this machine's disk before the reply",
            "本机：应答前已同步到本机磁盘",
        ),
        Durability::Unsynced => Text::new("Unsynced: in memory only", "未同步：仅在内存中"),
    }
}

/// An action of the audit log.
pub(super) const fn action(of: Action) -> Text {
    match of {
        Action::Created => Text::new("Created", "新建"),
        Action::Changed => Text::new("Changed", "修改"),
        Action::Deleted => Text::new("Deleted", "删除"),
        Action::Replayed => Text::new("Replayed", "重新投递"),
        Action::Cancelled => Text::new("Cancelled", "取消"),
        Action::Tried => Text::new("Tested", "测试"),
        Action::Released => Text::new("Released", "放行"),
        Action::Dropped => Text::new("Dropped", "丢弃"),
        Action::Forgotten => Text::new("Keys forgotten", "清除去重键"),
        Action::Erased => Text::new("User erased", "抹除用户"),
        Action::Signed => Text::new("Callback signed", "签名回调"),
        Action::Exported => Text::new("Store exported", "导出数据"),
        Action::Drained => Text::new("Gateway drained", "排空网关"),
        Action::Other => Text::new("Other", "其他"),
    }
}

/// An entry of the audit log in one word: what was done to an object of that kind.
pub(super) fn did(action: Action, kind: &str) -> Text {
    match (kind, action) {
        ("pause", Action::Created) => Text::new("Paused", "暂停"),
        ("pause", Action::Deleted) => Text::new("Resumed", "恢复"),
        ("resolved", Action::Created) => Text::new("Resolved", "标记为已处理"),
        ("resolved", Action::Deleted) => Text::new("Reopened", "撤销标记"),
        ("test_callback" | "real_callback", _) => Text::new("Sent", "发送"),
        (_, action) => self::action(action),
    }
}

/// The kinds of objects in the audit log.
pub(super) const AUDITED: [&str; 14] = [
    "source",
    "destination",
    "reward_rule",
    "callback_address",
    "push_config",
    "event",
    "held",
    "keys",
    "replay",
    "release",
    "pause",
    "resolved",
    "test_callback",
    "real_callback",
];

/// The text of a kind; other versions may have written kinds that this one does not know.
pub(super) fn audited(kind: &str) -> Option<Text> {
    Some(match kind {
        "source" => Text::new("Source", "来源"),
        "destination" => Text::new("Destination", "投递目标"),
        "reward_rule" => Text::new("Reward rule", "奖励规则"),
        "callback_address" => Text::new("Callback address", "回调地址"),
        "push_config" => Text::new("Push configuration", "推送配置"),
        "event" => Text::new("Event", "事件"),
        "held" => Text::new("Held callback", "隔离的回调"),
        "keys" => Text::new("Deduplication keys", "去重键"),
        "replay" => Text::new("Replay", "重新投递任务"),
        "release" => Text::new("Release", "批量放行任务"),
        "pause" => Text::new("Pause of deliveries to", "投递暂停："),
        "resolved" => Text::new("Callback, manually", "人工处理的回调"),
        "test_callback" => Text::new("Test callback to", "测试回调，发往来源"),
        "real_callback" => Text::new("Real callback to", "真实回调，发往来源"),
        _ => return None,
    })
}

/// The text of a kind alone, without the name of an object behind it.
pub(super) fn audited_alone(kind: &str) -> Option<Text> {
    match kind {
        "pause" => Some(Text::new("Pause of deliveries", "投递暂停")),
        "resolved" => Some(Text::new("Manual resolution", "人工处理")),
        "test_callback" => Some(Text::new("Test callback", "测试回调")),
        "real_callback" => Some(Text::new("Real callback", "真实回调")),
        _ => audited(kind),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::console::lang::Lang;

    #[test]
    fn no_two_kinds_of_the_audit_log_have_one_name() {
        for lang in Lang::ALL {
            for named in [audited, audited_alone] {
                let names: BTreeSet<&str> =
                    AUDITED.iter().map(|kind| named(kind).unwrap().of(lang)).collect();
                assert_eq!(names.len(), AUDITED.len(), "{names:?}");
            }
        }
    }
}
