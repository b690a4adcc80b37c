//! The page that replaces all others until the store is open.

use http::request::Parts;
use http::{StatusCode, header};
use maud::{DOCTYPE, html};

use super::fields::Fields;
use super::lang::Lang;
use super::reply;
use super::text::texts;
use crate::wire::Response;

texts! {
    TITLE = "Postern is starting", "Postern 正在启动";
    WHY = "Current step: {}", "当前步骤：{}";
    MEANWHILE = "Callbacks wait, or get the sender's own \"try later\" reply. This page reloads automatically.",
        "回调会等待，或收到发送方约定的“请稍后重试”应答。本页面会自动刷新。";
}

/// Refresh interval, in seconds.
const AGAIN: &str = "2";

/// Renders the page in the language of the request; `why` is the current step.
pub fn starting(head: &Parts, why: &str) -> Response {
    let fields = Fields::read(head.uri.query().unwrap_or_default().as_bytes());
    let lang = Lang::of(head, &fields);
    let page = html! {
        (DOCTYPE)
        html lang=(lang.tag()) {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta http-equiv="refresh" content=(AGAIN);
                title { (TITLE.of(lang)) }
            }
            body {
                main {
                    h1 { (TITLE.of(lang)) }
                    p { (WHY.fill(lang, &[&why])) }
                    p { (MEANWHILE.of(lang)) }
                }
            }
        }
    };
    let mut response = reply::html(StatusCode::SERVICE_UNAVAILABLE, page.into_string());
    reply::add_header(&mut response, header::RETRY_AFTER, AGAIN);
    response
}
