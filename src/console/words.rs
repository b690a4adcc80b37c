//! The words for the closed sets that several pages show. A new member does not compile before it
//! has its words.

use super::text::Text;
use crate::ledger::{DeliveryState, Durability, EventState};
use crate::registry::Action;
use crate::sender::{Effect, Outcome, Reason};

/// What became of a callback.
pub(super) const fn outcome(of: Outcome) -> Text {
    match of {
        Outcome::Accepted => Text::new("accepted", "已接受"),
        Outcome::Duplicate => Text::new("duplicate", "重复"),
        Outcome::Conflict => Text::new("conflict", "冲突"),
        Outcome::Ambiguous => Text::new("ambiguous", "有歧义"),
        Outcome::Test => Text::new("test", "测试"),
        Outcome::Challenge => Text::new("address check", "地址校验"),
        Outcome::Superseded => Text::new("superseded", "已被取代"),
        Outcome::Disabled => Text::new("switched off", "已停用"),
        Outcome::Rejected => Text::new("rejected", "已拒绝"),
        Outcome::Unavailable => Text::new("unavailable", "暂不可用"),
    }
}

/// The path belongs to no source.
pub(super) const UNKNOWN_PATH: Text = Text::new("unknown path", "路径不存在");

/// Why a callback was refused.
pub(super) const fn reason(of: Reason) -> Text {
    match of {
        Reason::BadSignature => Text::new("bad signature", "签名不符"),
        Reason::MissingParameter => Text::new("missing parameter", "缺少参数"),
        Reason::UnresolvedPlaceholder => Text::new("unreplaced macro", "宏未替换"),
        Reason::Stale => Text::new("too old", "已过期"),
        Reason::Future => Text::new("from the future", "时间在未来"),
        Reason::RepeatedParameter => Text::new("repeated parameter", "参数重复"),
        Reason::TooLarge => Text::new("too large", "过大"),
        Reason::ForbiddenAddress => Text::new("address not allowed", "地址不在白名单"),
        Reason::UnsignedParameter => Text::new("unsigned parameter", "参数未签名"),
        Reason::UnknownKey => Text::new("unknown key", "未知公钥"),
        Reason::BadEncoding => Text::new("bad encoding", "编码错误"),
        Reason::BadBody => Text::new("bad body", "请求体错误"),
        Reason::UsedSignature => Text::new("address check repeated", "地址校验重复"),
        Reason::WrongMethod => Text::new("wrong method", "请求方法错误"),
        Reason::NotOurs => Text::new("not ours", "不属于本应用"),
        Reason::PinnedReward => Text::new("reward differs", "奖励不符"),
        Reason::Disabled => Text::new("switched off", "已停用"),
        Reason::Timeout => Text::new("body came late", "请求体超时"),
    }
}

/// What an event does to the player's balance.
pub(super) const fn effect(of: Effect) -> Text {
    match of {
        Effect::Grant => Text::new("grant", "发放"),
        Effect::Revoke => Text::new("revoke", "撤销"),
        Effect::None => Text::new("none", "无"),
    }
}

/// The state of a delivery.
pub(super) const fn delivery(of: DeliveryState) -> Text {
    match of {
        DeliveryState::Pending => Text::new("pending", "待投递"),
        DeliveryState::Dead => Text::new("dead", "死信"),
        DeliveryState::Done => Text::new("done", "已完成"),
    }
}

/// How far the deliveries of an event are.
pub(super) const fn event(of: EventState) -> Text {
    match of {
        EventState::Pending => Text::new("being delivered", "投递中"),
        EventState::Dead => Text::new("dead letter", "死信"),
        EventState::Done => Text::new("nothing left to do", "无待办投递"),
    }
}

/// What an answer of the ledger survives.
pub(super) const fn durability(of: Durability) -> Text {
    match of {
        Durability::Replicated => {
            Text::new("survives the loss of any one machine", "任一机器丢失仍可保留")
        }
        Durability::Local => {
            Text::new("on this machine's disk, synced before the answer", "应答前已同步到本机磁盘")
        }
        Durability::Unsynced => Text::new("not synced: in memory only", "未同步：仅在内存中"),
    }
}

/// What was done with something.
pub(super) const fn action(of: Action) -> Text {
    match of {
        Action::Created => Text::new("created", "新建"),
        Action::Changed => Text::new("changed", "修改"),
        Action::Deleted => Text::new("deleted", "删除"),
        Action::Replayed => Text::new("replayed", "重新投递"),
        Action::Cancelled => Text::new("cancelled", "取消"),
        Action::Tried => Text::new("tried out", "测试"),
        Action::Released => Text::new("released", "放行"),
        Action::Dropped => Text::new("dropped", "丢弃"),
        Action::Forgotten => Text::new("forgotten", "清除去重键"),
        Action::Other => Text::new("something else", "其他"),
    }
}

/// The kinds of things that the audit log tells of.
pub(super) const AUDITED: [&str; 11] = [
    "source",
    "destination",
    "reward_rule",
    "callback_address",
    "push_config",
    "event",
    "held",
    "keys",
    "replay",
    "pause",
    "resolved",
];

/// The word for one of them; an older or a newer version may have told of others.
pub(super) fn audited(kind: &str) -> Option<Text> {
    Some(match kind {
        "source" => Text::new("source", "来源"),
        "destination" => Text::new("destination", "投递目标"),
        "reward_rule" => Text::new("reward rule", "奖励规则"),
        "callback_address" => Text::new("callback address", "回调地址"),
        "push_config" => Text::new("push configuration", "推送配置"),
        "event" => Text::new("event", "事件"),
        "replay" => Text::new("replay", "重新投递任务"),
        "pause" => Text::new("pause", "暂停"),
        "resolved" => Text::new("resolved by hand", "人工处理"),
        _ => return None,
    })
}
