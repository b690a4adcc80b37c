//! The areas of the console: a page, or a list with its detail pages. The navigation and the router
//! are built from this set.

use super::text::Text;

/// An area.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Area {
    Overview,
    /// Rejected, held and dead-lettered callbacks, grouped by cause.
    Issues,
    Callbacks,
    /// The box that takes anything, and what it found.
    Find,
    /// An event; the navigation marks the callbacks.
    Event,
    Rejection,
    DeadLetters,
    Held,
    Debug,
    Sources,
    Destinations,
    Rules,
    Addresses,
    Senders,
    Audit,
    SignIn,
    SignOut,
    /// No area has this path.
    Unknown,
}

impl Area {
    /// Areas of the navigation, in its order.
    pub(super) const IN_NAVIGATION: [Self; 12] = [
        Self::Overview,
        Self::Issues,
        Self::Callbacks,
        Self::DeadLetters,
        Self::Held,
        Self::Debug,
        Self::Sources,
        Self::Destinations,
        Self::Rules,
        Self::Addresses,
        Self::Senders,
        Self::Audit,
    ];

    /// The area of the first path segment after `/console`.
    pub(super) fn find(first: Option<&str>) -> Option<Self> {
        Some(match first {
            None | Some("overview") => Self::Overview,
            Some("issues") => Self::Issues,
            Some("callbacks") => Self::Callbacks,
            Some("find") => Self::Find,
            Some("events") => Self::Event,
            Some("refusals") => Self::Rejection,
            Some("dead-letters") => Self::DeadLetters,
            Some("held") => Self::Held,
            Some("debug") => Self::Debug,
            Some("sources") => Self::Sources,
            Some("destinations") => Self::Destinations,
            Some("rules") => Self::Rules,
            Some("addresses") => Self::Addresses,
            Some("senders") => Self::Senders,
            Some("audit") => Self::Audit,
            Some("sign-in") => Self::SignIn,
            Some("sign-out") => Self::SignOut,
            Some(_) => return None,
        })
    }

    /// The path of its first page.
    pub(super) const fn path(self) -> &'static str {
        match self {
            Self::Overview => "/console",
            Self::Issues => "/console/issues",
            Self::Callbacks => "/console/callbacks",
            Self::Find => "/console/find",
            Self::Event => "/console/events",
            Self::Rejection => "/console/refusals",
            Self::DeadLetters => "/console/dead-letters",
            Self::Held => "/console/held",
            Self::Debug => "/console/debug",
            Self::Sources => "/console/sources",
            Self::Destinations => "/console/destinations",
            Self::Rules => "/console/rules",
            Self::Addresses => "/console/addresses",
            Self::Senders => "/console/senders",
            Self::Audit => "/console/audit",
            Self::SignIn => "/console/sign-in",
            Self::SignOut => "/console/sign-out",
            Self::Unknown => "/console/nowhere",
        }
    }

    /// The title.
    pub(super) const fn title(self) -> Text {
        match self {
            Self::Overview => Text::new("Overview", "总览"),
            Self::Issues => Text::new("Issues", "待处理问题"),
            Self::Callbacks => Text::new("Callbacks", "回调记录"),
            Self::Find => Text::new("Find", "查找"),
            Self::Event => Text::new("Event", "事件"),
            Self::Rejection => Text::new("Rejection", "拒绝记录"),
            Self::DeadLetters => Text::new("Dead letters", "死信"),
            Self::Held => Text::new("Held callbacks", "隔离的回调"),
            Self::Debug => Text::new("Debug tool", "调试工具"),
            Self::Sources => Text::new("Sources", "来源"),
            Self::Destinations => Text::new("Destinations", "投递目标"),
            Self::Rules => Text::new("Reward rules", "奖励规则"),
            Self::Addresses => Text::new("Callback addresses", "回调地址"),
            Self::Senders => Text::new("Senders", "发送方"),
            Self::Audit => Text::new("Audit", "审计"),
            Self::SignIn => Text::new("Sign in", "登录"),
            Self::SignOut => Text::new("Sign out", "退出"),
            Self::Unknown => Text::new("Not found", "未找到"),
        }
    }

    /// Whether its pages leave out what a token that is bound to sources may not see. A new area does
    /// not compile before that is decided.
    pub(super) const fn knows_bound_tokens(self) -> bool {
        match self {
            Self::Overview
            | Self::Issues
            | Self::Callbacks
            | Self::Find
            | Self::Event
            | Self::Rejection
            | Self::DeadLetters
            | Self::Held
            | Self::Debug
            | Self::Sources
            | Self::Senders
            | Self::Audit
            | Self::SignIn
            | Self::SignOut
            | Self::Unknown => true,
            // Destinations are shared, and partners' objects are of no source.
            Self::Destinations | Self::Rules | Self::Addresses => false,
        }
    }

    /// The area that the navigation marks as current.
    pub(super) const fn navigation_area(self) -> Self {
        match self {
            Self::Event | Self::Rejection | Self::Find => Self::Callbacks,
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_area_of_the_navigation_is_found_at_its_path() {
        for area in
            Area::IN_NAVIGATION.into_iter().chain([Area::Event, Area::Rejection, Area::SignIn])
        {
            let first = area.path().strip_prefix("/console").unwrap().strip_prefix('/');
            assert_eq!(Area::find(first), Some(area));
        }
        assert_eq!(Area::find(Some("nonsense")), None);
    }
}
