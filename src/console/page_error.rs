//! What a page cannot do, and how it says so.

use http::StatusCode;

use super::lang::Lang;
use super::text::{Text, texts};
use crate::ledger::LedgerError;
use crate::operator::AccessError;

texts! {
    ABSENT = "Not here", "这里没有";
    ABSENT_WHY = "There is no such page or thing, or it is no longer kept.", "没有这个页面或对象，或者它已不再保留。";
    BAD = "That cannot be read", "无法读取";
    REFUSED = "Not allowed", "不允许";
    ONLY_LOOKS = "Your token may look and change nothing. Sign in with an admin token to do this.",
        "您的令牌只能查看，不能更改。请使用管理令牌登录后再操作。";
    NOT_SIGNED_IN = "Without a token you may look and change nothing. Sign in first: the token is in the file admin-token in the folder of the store.",
        "未使用令牌时只能查看，不能更改。请先登录：令牌在存储目录的 admin-token 文件中。";
    STALE = "This form is from another session, or from before a restart. Go back, load the page again and repeat it. Nothing was changed.",
        "此表单来自另一个会话，或来自重启之前。请返回并重新加载页面后再操作。没有任何更改。";
    OTHER_SITE = "The request came from another site. Nothing was changed.", "该请求来自其他网站。没有任何更改。";
    OTHER_NAME = "Call this listener localhost, 127.0.0.1 or [::1].", "请使用 localhost、127.0.0.1 或 [::1] 访问此监听地址。";
    TOO_MANY = "Too many tries to sign in from your address. Wait a minute.", "您的地址登录尝试过多。请等待一分钟。";
    TOO_LARGE = "That is more than a form may send (1 MiB).", "超过了表单可发送的大小（1 MiB）。";
    LATE = "The form did not arrive in time.", "表单未及时到达。";
    BUSY = "Not now", "暂时不可用";
    BUSY_WHY = "Too much is going on at once. Try again.", "同时进行的操作过多，请重试。";
    METHOD = "That cannot be done here.", "此处不能执行该操作。";
    LEDGER = "The ledger cannot answer: {}", "账本无法应答：{}";
}

/// Why a page is not what was asked for.
#[derive(Clone, Debug)]
pub(super) enum PageError {
    /// There is nothing.
    Absent,
    /// What came makes no sense; the text says what, or who.
    Bad(Text),
    /// The same, with words that were found elsewhere (a name, the sentence of a check).
    BadBecause(String),
    /// The viewer may only look.
    OnlyLooks,
    /// The viewer looks without a token, which changes nothing.
    NotSignedIn,
    /// A form without the viewer's token.
    Stale,
    /// Not for this request.
    Denied(AccessError),
    /// Too many tries to sign in.
    TooMany,
    /// A form over its bound.
    TooLarge,
    /// A form that did not come in time.
    Late,
    /// Too many forms at one time.
    Busy,
    /// Another method is needed.
    Method,
    /// The ledger failed.
    Ledger(LedgerError),
}

impl From<LedgerError> for PageError {
    fn from(error: LedgerError) -> Self {
        match error {
            LedgerError::BadCursor => Self::BadBecause(error.to_string()),
            other => Self::Ledger(other),
        }
    }
}

impl PageError {
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Absent => StatusCode::NOT_FOUND,
            Self::Bad(_) | Self::BadBecause(_) => StatusCode::BAD_REQUEST,
            Self::OnlyLooks
            | Self::NotSignedIn
            | Self::Stale
            | Self::Denied(AccessError::AnotherSite) => StatusCode::FORBIDDEN,
            Self::Denied(AccessError::AnotherName) => StatusCode::MISDIRECTED_REQUEST,
            Self::Denied(_) => StatusCode::UNAUTHORIZED,
            Self::TooMany => StatusCode::TOO_MANY_REQUESTS,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Late => StatusCode::REQUEST_TIMEOUT,
            Self::Busy | Self::Ledger(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
        }
    }

    pub fn title(&self, lang: Lang) -> &'static str {
        let title = match self {
            Self::Absent => ABSENT,
            Self::Bad(_) | Self::BadBecause(_) | Self::TooLarge | Self::Late => BAD,
            Self::OnlyLooks
            | Self::NotSignedIn
            | Self::Stale
            | Self::Denied(_)
            | Self::TooMany
            | Self::Method => REFUSED,
            Self::Busy | Self::Ledger(_) => BUSY,
        };
        title.of(lang)
    }

    pub fn why(&self, lang: Lang) -> String {
        let text = match self {
            Self::Absent => ABSENT_WHY,
            Self::Bad(text) => *text,
            Self::BadBecause(words) => return words.clone(),
            Self::OnlyLooks => ONLY_LOOKS,
            Self::NotSignedIn => NOT_SIGNED_IN,
            Self::Stale => STALE,
            Self::Denied(AccessError::AnotherName) => OTHER_NAME,
            Self::Denied(_) => OTHER_SITE,
            Self::TooMany => TOO_MANY,
            Self::TooLarge => TOO_LARGE,
            Self::Late => LATE,
            Self::Busy => BUSY_WHY,
            Self::Method => METHOD,
            Self::Ledger(error) => return LEDGER.fill(lang, &[error]),
        };
        text.of(lang).to_owned()
    }
}
