//! Sign-in: exchanges a token of the admin listener for a session.

use std::net::IpAddr;

use maud::html;

use crate::clock::instant;
use crate::config::AdminToken;
use crate::console::app::{Console, SessionReply};
use crate::console::area::Area;
use crate::console::components::form::{self, Field};
use crate::console::fields::Fields;
use crate::console::pages::sign_in_with;
use crate::console::reply::{PageResult, Reply};
use crate::console::session::{COOKIE, SignIn};
use crate::console::text::texts;
use crate::console::visit::{Connection, Visit};
use crate::operator::find_token;

texts! {
    INTRODUCTION = "Sign in with a token of the admin listener (admin.token in the configuration). A read token is read-only, a support token can also replay and resolve, an admin token can change everything.",
        "请使用管理端口的令牌登录（配置中的 admin.token）。read 令牌只读，support 令牌还可重新投递和标记处理，admin 令牌可更改全部内容。";
    LOCAL = "No token is configured. Access from this machine is read-only; the token for changes is in the file admin-token in the store's directory.",
        "未配置令牌。从本机访问为只读；用于更改的令牌在存储目录的 admin-token 文件中。";
    TOKEN = "Token", "令牌";
    GO = "Sign in", "登录";
    WRONG = "Unknown token.", "令牌无效。";
}

pub(crate) fn get(console: &Console, visit: &Visit) -> PageResult {
    if visit.viewer.entry == SignIn::SignedIn {
        return Ok(Reply::Redirect(Area::Overview.path().to_owned()));
    }
    let title = Area::SignIn.title().of(visit.lang).to_owned();
    Ok(Reply::Page(title, page(console, visit, visit.query.text("next"), None)))
}

/// Handles a sign-in attempt from `from`; `before` is the session of the browser, if any.
pub(crate) fn post(
    console: &Console,
    visit: &Visit,
    form: &Fields,
    from: IpAddr,
    before: Option<&str>,
) -> SessionReply {
    let config = console.config();
    let given = form.verbatim("token").unwrap_or_default();
    let next = form.text("next");
    let tokens = console.tools.local.or(&config.admin.tokens);
    let opened = find_token(&tokens, given.trim().as_bytes())
        .and_then(|token| Some((token, console.sessions().open(token, instant())?)));
    let Some((AdminToken { name, .. }, session)) = opened else {
        tracing::warn!(target: "postern::console", client = %from, "sign-in rejected: unknown token");
        let wrong = WRONG.of(visit.lang);
        let title = Area::SignIn.title().of(visit.lang).to_owned();
        return SessionReply::Unchanged(Reply::Invalid(
            title,
            page(console, visit, next, Some(wrong)),
        ));
    };
    tracing::info!(target: "postern::console", client = %from, token = name, "signed in");
    if let Some(before) = before {
        console.sessions().close(before);
    }
    let cookie = session_cookie(&session, visit.connection);
    SessionReply::SignedIn { cookie, to: after(next).to_owned() }
}

/// The cookie of a session.
pub(crate) fn session_cookie(session: &str, connection: Connection) -> String {
    let secure = connection.cookie_attribute();
    format!("{COOKIE}={session}; Path=/console; HttpOnly; SameSite=Strict{secure}")
}

/// The path to go to after signing in: one of the console.
pub(crate) fn after(next: Option<&str>) -> &str {
    next.filter(|next| is_ours(next)).unwrap_or(Area::Overview.path())
}

/// Whether a path is one of the console: prevents redirects to other sites.
fn is_ours(path: &str) -> bool {
    let rest = path.strip_prefix("/console");
    let plain = |rest: &str| rest.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    rest.is_some_and(|rest| (rest.is_empty() || rest.starts_with(['/', '?'])) && plain(rest))
}

/// The page, with the error of the token.
pub(crate) fn page(
    console: &Console,
    visit: &Visit,
    next: Option<&str>,
    error: Option<&str>,
) -> maud::Markup {
    let config = console.config();
    let oidc = config.admin.oidc.as_ref();
    let token = Field { kind: "password", error, ..Field::new("token", TOKEN) };
    html! {
        @let is_open = visit.viewer.entry == SignIn::Open;
        p { (if is_open { LOCAL } else { INTRODUCTION }.of(visit.lang)) }
        @if let Some(oidc) = oidc { (sign_in_with::link(visit, oidc, next)) }
        (form::to(visit, Area::SignIn.path(), &html! {
            @if let Some(next) = next { input type="hidden" name="next" value=(next); }
            (token.show(visit.lang))
            button type="submit" { (GO.of(visit.lang)) }
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_console_paths_are_followed() {
        for ours in ["/console", "/console/events/evt_1", "/console?x=1", "/console/a?b=%2F"] {
            assert!(is_ours(ours), "{ours}");
        }
        for others in
            ["//evil", "/consolex", "/console\\evil", "https://evil", "/", "/console/\r\nx"]
        {
            assert!(!is_ours(others), "{others:?}");
        }
    }
}
