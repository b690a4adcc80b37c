//! Errors of pages, with their status and text.

use http::StatusCode;

use super::area::Area;
use super::lang::Lang;
use super::messages;
use super::text::{Text, texts};
use crate::ledger::LedgerError;
use crate::operator::AccessError;

texts! {
    NOT_FOUND = "Not found", "未找到";
    NOT_FOUND_WHY = "This page or object does not exist, or is no longer kept.", "该页面或对象不存在，或已不再保留。";
    INVALID = "Invalid request", "请求无效";
    EXPIRED = "Page expired: start at the first page.", "分页已失效，请从第一页开始。";
    FORBIDDEN = "Not allowed", "不允许";
    READ_ONLY = "Your token may not change settings. Sign in with an admin token.", "您的令牌无权更改设置，请使用管理令牌登录。";
    NOT_SIGNED_IN = "Without a token, access is read-only. Sign in first: the token is in the file admin-token in the store's directory.",
        "未使用令牌时只读。请先登录：令牌在存储目录的 admin-token 文件中。";
    STALE = "This form belongs to another session or was loaded before a restart. Nothing was changed. Go back, reload the page and repeat the change.",
        "此表单属于另一个会话，或在重启之前加载。未做任何更改。请返回并重新加载页面，然后重试。";
    OTHER_SITE = "The request came from another site. Nothing was changed.", "请求来自其他网站，未做任何更改。";
    OTHER_NAME = "This listener is reachable only as localhost, 127.0.0.1 or [::1].", "只能通过 localhost、127.0.0.1 或 [::1] 访问管理端口。";
    BOUND = "Your token is bound to its sources, and this page is about more. A token without sources in the configuration opens it.",
        "您的令牌仅限部分来源，无权查看此页面。请使用配置中未限定来源的令牌。";
    TOO_MANY = "Too many sign-in attempts from your address. Wait one minute.", "来自您的地址的登录尝试过多，请等待一分钟。";
    TOO_LARGE = "The form is larger than 1 MiB.", "表单超过 1 MiB。";
    LATE = "The form did not arrive within 10 s.", "表单未在 10 秒内到达。";
    BUSY = "Busy, try again", "繁忙，请重试";
    BUSY_WHY = "Too many forms are in flight. Nothing was changed. Try again.", "同时提交的表单过多，未做任何更改，请重试。";
    METHOD = "This action is not available here.", "此处不能执行该操作。";
    LEDGER = "The store returned an error: {}", "存储返回错误：{}";
}

/// The reason why a page is not shown.
#[derive(Clone, Debug)]
pub(super) enum PageError {
    /// No such page or object.
    Absent,
    /// An object that is no longer there; the text explains it, and `list` is where the others are.
    Gone { why: Text, list: Area },
    /// A place in a list that is not, or no longer, known.
    Expired,
    /// An invalid request; the text explains it.
    Bad(Text),
    /// An invalid request, explained by a text that is not translated.
    BadBecause(String),
    /// A change with a read-only token.
    ReadOnly,
    /// A change without a token.
    NotSignedIn,
    /// A form without the CSRF token of the viewer.
    Stale,
    /// The access check failed.
    Forbidden(AccessError),
    /// Too many sign-in attempts.
    TooMany,
    /// A form over its size limit.
    TooLarge,
    /// A form that did not arrive in time.
    Late,
    /// Too many forms in flight.
    Busy,
    /// A method that the page does not support.
    Method,
    /// The ledger failed.
    Ledger(LedgerError),
}

impl From<LedgerError> for PageError {
    fn from(error: LedgerError) -> Self {
        match error {
            LedgerError::BadCursor => Self::Expired,
            other => Self::Ledger(other),
        }
    }
}

impl PageError {
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Absent | Self::Gone { .. } => StatusCode::NOT_FOUND,
            Self::Expired | Self::Bad(_) | Self::BadBecause(_) => StatusCode::BAD_REQUEST,
            Self::ReadOnly
            | Self::NotSignedIn
            | Self::Stale
            | Self::Forbidden(AccessError::AnotherSite | AccessError::OnlyItsSources) => {
                StatusCode::FORBIDDEN
            }
            Self::Forbidden(AccessError::AnotherName) => StatusCode::MISDIRECTED_REQUEST,
            Self::Forbidden(_) => StatusCode::UNAUTHORIZED,
            Self::TooMany => StatusCode::TOO_MANY_REQUESTS,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Late => StatusCode::REQUEST_TIMEOUT,
            Self::Busy | Self::Ledger(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
        }
    }

    pub(super) fn title(&self, lang: Lang) -> &'static str {
        let title = match self {
            Self::Absent | Self::Gone { .. } => NOT_FOUND,
            Self::Expired | Self::Bad(_) | Self::BadBecause(_) | Self::TooLarge | Self::Late => {
                INVALID
            }
            Self::ReadOnly
            | Self::NotSignedIn
            | Self::Stale
            | Self::Forbidden(_)
            | Self::TooMany
            | Self::Method => FORBIDDEN,
            Self::Busy | Self::Ledger(_) => BUSY,
        };
        title.of(lang)
    }

    /// The area with the list of those of its kind that remain.
    pub(super) const fn list(&self) -> Option<Area> {
        match self {
            Self::Gone { list, .. } => Some(*list),
            _ => None,
        }
    }

    pub(super) fn why(&self, lang: Lang) -> String {
        let text = match self {
            Self::Absent => NOT_FOUND_WHY,
            Self::Expired => EXPIRED,
            Self::Bad(text) | Self::Gone { why: text, .. } => *text,
            Self::BadBecause(text) => return messages::text(lang, text),
            Self::ReadOnly => READ_ONLY,
            Self::NotSignedIn => NOT_SIGNED_IN,
            Self::Stale => STALE,
            Self::Forbidden(AccessError::AnotherName) => OTHER_NAME,
            Self::Forbidden(AccessError::OnlyItsSources) => BOUND,
            Self::Forbidden(_) => OTHER_SITE,
            Self::TooMany => TOO_MANY,
            Self::TooLarge => TOO_LARGE,
            Self::Late => LATE,
            Self::Busy => BUSY_WHY,
            Self::Method => METHOD,
            Self::Ledger(error) => {
                return LEDGER.fill(lang, &[&messages::text(lang, &error.to_string())]);
            }
        };
        text.of(lang).to_owned()
    }
}
