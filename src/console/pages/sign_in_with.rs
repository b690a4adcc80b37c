//! Sign-in with an account of the OpenID provider: to the provider, and back.

use std::net::IpAddr;

use http::header;
use http::request::Parts;
use http::uri::Authority;
use maud::{Markup, html};

use super::sign_in;
use crate::clock::instant;
use crate::config::{Config, Oidc};
use crate::console::app::{Console, SessionReply};
use crate::console::area::Area;
use crate::console::components::notice::{Tone, notice};
use crate::console::fields::{cookie, query};
use crate::console::oidc::{Answer, CALLBACK, COOKIE, OidcError, ProviderError};
use crate::console::page_error::PageError;
use crate::console::reply::Reply;
use crate::console::session;
use crate::console::text::texts;
use crate::console::visit::{Connection, Visit};

texts! {
    WITH = "Sign in with {}", "使用 {} 登录";
    OR = "Or with a token:", "或使用令牌：";
    DONE = "Signed in.", "已登录。";
    CONTINUE = "Continue", "继续";
    UNKNOWN = "This sign-in was not begun in this browser, or more than ten minutes ago. Begin again.",
        "此次登录不是在本浏览器中开始的，或已超过十分钟。请重新登录。";
    REFUSED = "The provider refused the sign-in: {}", "身份提供方拒绝了登录：{}";
    NO_ROLE = "Your account has no role in this console. Ask its operators for one of the roles in admin.oidc.",
        "您的账号没有本控制台的角色。请联系管理员，授予 admin.oidc 中的某个角色。";
    NO_RESPONSE = "{} does not respond. Sign in with a token, or begin again in a few seconds.",
        "{} 无响应。请使用令牌登录，或几秒后重新开始。";
    FAILED = "The sign-in failed. The reason is in the log of the gateway.", "登录失败，原因见网关日志。";
}

/// The link to the provider, before the form for a token.
pub(crate) fn link(visit: &Visit, oidc: &Oidc, next: Option<&str>) -> Markup {
    let pairs = next.map(|next| ("next", next));
    let to = format!("{}/oidc{}", Area::SignIn.path(), query(pairs.as_slice()));
    html! {
        p { a.button href=(to) { (WITH.fill(visit.lang, &[&host(oidc)])) } }
        p { (OR.of(visit.lang)) }
    }
}

/// The host of the provider: its name for people.
fn host(oidc: &Oidc) -> &str {
    let host = oidc.issuer.split("://").nth(1).unwrap_or_default();
    host.split('/').next().unwrap_or_default()
}

/// Begins or finishes a sign-in from `from`.
pub(crate) async fn get(
    console: &Console,
    visit: &Visit,
    head: &Parts,
    from: IpAddr,
) -> Result<SessionReply, PageError> {
    let (config, sign_ins) = (console.config(), console.sign_ins());
    let oidc = config.admin.oidc.as_ref().ok_or(PageError::Absent)?;
    let redirect = redirect_uri(&config, head).ok_or(PageError::Absent)?;
    let connection = Connection::of(redirect.as_bytes());
    match visit.rest().as_slice() {
        ["oidc"] => {
            let next = sign_in::after(visit.query.text("next"));
            match sign_ins.begin(oidc, redirect, next, instant()).await {
                Ok(begun) => {
                    let cookie = binding_cookie(&begun.cookie, connection);
                    Ok(SessionReply::WithCookies(Reply::Redirect(begun.url), vec![cookie]))
                }
                Err(error) => Ok(refused(console, visit, from, &error)),
            }
        }
        ["oidc", "callback"] => {
            let text = |name| visit.query.text(name);
            let answer = Answer {
                state: text("state"),
                code: text("code"),
                issuer: text("iss"),
                error: text("error"),
            };
            let bound = cookie(&head.headers, COOKIE);
            let finished = sign_ins.finish(oidc, answer, bound, instant()).await;
            let opened = finished.and_then(|(account, next)| {
                let who = account.name.clone();
                let session = console.sessions().open_account(oidc, account, instant());
                Ok((session.ok_or(OidcError::NoRandom)?, who, next))
            });
            match opened {
                Ok((session, who, next)) => {
                    tracing::info!(target: "postern::console", client = %from, account = who, "signed in");
                    if let Some(before) = cookie(&head.headers, session::COOKIE) {
                        console.sessions().close(before);
                    }
                    Ok(arrived(visit, &session, next, connection))
                }
                Err(error) => Ok(refused(console, visit, from, &error)),
            }
        }
        _ => Err(PageError::Absent),
    }
}

fn arrived(visit: &Visit, session: &str, to: String, connection: Connection) -> SessionReply {
    let lang = visit.lang;
    let content = html! { p { (DONE.of(lang)) } p { a href=(to) { (CONTINUE.of(lang)) } } };
    let page = Reply::Page(Area::SignIn.title().of(lang).to_owned(), content);
    let cookies = vec![sign_in::session_cookie(session, connection), no_binding_cookie()];
    SessionReply::Arrived { cookies, to, page }
}

fn refused(console: &Console, visit: &Visit, from: IpAddr, error: &OidcError) -> SessionReply {
    tracing::warn!(target: "postern::console", client = %from, reason = %error, "sign-in rejected");
    let lang = visit.lang;
    let config = console.config();
    let provider = config.admin.oidc.as_ref().map(host).unwrap_or_default();
    let said = match error {
        OidcError::Unknown => UNKNOWN.of(lang).to_owned(),
        OidcError::Refused(why) => REFUSED.fill(lang, &[why]),
        OidcError::NoRole(_) => NO_ROLE.of(lang).to_owned(),
        OidcError::Provider(ProviderError::Unreached { .. }) => {
            NO_RESPONSE.fill(lang, &[&provider])
        }
        OidcError::Provider(_) | OidcError::Token(_) | OidcError::NoRandom => {
            FAILED.of(lang).to_owned()
        }
    };
    let content = html! {
        (notice(Tone::Bad, &said))
        (sign_in::page(console, visit, visit.query.text("next"), None))
    };
    let title = Area::SignIn.title().of(lang).to_owned();
    let reply = match error {
        OidcError::Provider(ProviderError::Unreached { .. }) => Reply::Unavailable(title, content),
        _ => Reply::Invalid(title, content),
    };
    SessionReply::WithCookies(reply, vec![no_binding_cookie()])
}

/// The URL to which the provider sends the browser back, as it is registered there.
fn redirect_uri(config: &Config, head: &Parts) -> Option<String> {
    let base = match &config.admin.public_url {
        Some(url) => url.clone(),
        None => {
            let host = head.headers.get(header::HOST).and_then(|host| host.to_str().ok());
            let host = host.or_else(|| head.uri.authority().map(Authority::as_str))?;
            let scheme = if config.server.admin_tls.is_some() { "https" } else { "http" };
            format!("{scheme}://{host}")
        }
    };
    Some(format!("{base}{CALLBACK}"))
}

/// The cookie that binds a sign-in to this browser. It comes back with the navigation from the
/// provider's site, so it is not strict.
fn binding_cookie(value: &str, connection: Connection) -> String {
    let secure = connection.cookie_attribute();
    format!("{COOKIE}={value}; Path=/console/sign-in; Max-Age=600; HttpOnly; SameSite=Lax{secure}")
}

fn no_binding_cookie() -> String {
    format!("{COOKIE}=; Path=/console/sign-in; Max-Age=0; HttpOnly; SameSite=Lax")
}
