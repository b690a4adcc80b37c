//! Manual resolution: a note on an event or a rejected callback.

use maud::{Markup, html};

use crate::console::app::Console;
use crate::console::components::form::{self, Field};
use crate::console::components::{notice, time, value};
use crate::console::fields::Fields;
use crate::console::lang::Lang;
use crate::console::page_error::PageError;
use crate::console::reply::{PageResult, Reply};
use crate::console::text::{Text, texts};
use crate::console::visit::Visit;
use crate::registry::{
    ChangeError, NOTE_CHARACTERS_MAX, NoteError, RESOLVED_MAX, Resolution, StoredDocument, Subject,
};

texts! {
    TITLE = "Resolved manually", "人工处理";
    BADGE = "Resolved manually", "已人工处理";
    OF_EVENT = "Records that this was settled outside the gateway. Deliveries are not affected. The note is deleted with the event.",
        "记录此事已在网关之外处理。不影响投递，并随事件一同删除。";
    OF_REJECTION = "Records that this was settled outside the gateway. The note applies to the same request to the same source, byte for byte, on any gateway, and is kept as long as events are.",
        "记录此事已在网关之外处理。它对应同一来源的同一请求（逐字节相同，不限网关），保留时间与事件相同。";
    NOTE = "Note", "处理说明";
    HINT = "At most 500 characters. No secrets: everyone with a token can read it.", "最多 500 个字符。请勿填写密钥：持有令牌的人都能看到。";
    SAVE = "Mark as resolved", "标记为已处理";
    OPEN = "Mark as resolved manually…", "标记为已人工处理……";
    UNDO = "Reopen callback", "撤销标记";
    SAVED = "Marked as resolved.", "已标记为人工处理。";
    UNDONE = "Reopened.", "已撤销标记。";
    EMPTY = "Describe what was done.", "请填写处理说明。";
    TOO_LONG = "At most {} characters.", "最多 {} 个字符。";
    TOO_MANY = "{} callbacks are already marked as resolved. Reopen some first.", "已有 {} 个回调标记为已处理，请先撤销一些。";
}

/// An object with a note: the path of its page, and its subject.
#[derive(Clone, Copy, Debug)]
pub(super) struct Thing<'t> {
    pub path: &'t str,
    pub subject: &'t Subject,
}

/// The action of a form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Resolve,
    Reopen,
}

impl Verb {
    /// The verb in the last path segment, if it is one.
    pub(super) fn find(segment: &str) -> Option<Self> {
        [Self::Resolve, Self::Reopen].into_iter().find(|verb| verb.as_str() == segment)
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Resolve => "resolve",
            Self::Reopen => "reopen",
        }
    }
}

/// The badge of a resolved subject, for a list; empty if it is not resolved.
pub(super) fn badge(console: &Console, lang: Lang, subject: &Subject) -> Markup {
    mark(lang, console.tools.registry.resolution(subject).as_ref())
}

fn mark(lang: Lang, stored: Option<&StoredDocument<Resolution>>) -> Markup {
    html! { @if stored.is_some() { " " span.badge.done title="resolved" { (BADGE.of(lang)) } } }
}

/// The section of a page.
pub(super) fn section(console: &Console, visit: &Visit, thing: Thing<'_>) -> Markup {
    let done = match visit.query.text("done") {
        Some("resolved") => Some(SAVED),
        Some("reopened") => Some(UNDONE),
        _ => None,
    };
    let stored = console.tools.registry.resolution(thing.subject);
    html! {
        @if let Some(text) = done { (notice::notice(notice::Tone::Good, text.of(visit.lang))) }
        (body(visit, thing, stored.as_ref(), "", None))
    }
}

fn body(
    visit: &Visit,
    thing: Thing<'_>,
    stored: Option<&StoredDocument<Resolution>>,
    written: &str,
    error: Option<&str>,
) -> Markup {
    let lang = visit.lang;
    let action = |verb: Verb| format!("{}/{}", thing.path, verb.as_str());
    let about = match thing.subject {
        Subject::Event(_) => OF_EVENT,
        Subject::Rejection(_) => OF_REJECTION,
    };
    html! {
        section aria-labelledby="resolution" {
            h2 #resolution { (TITLE.of(lang)) (mark(lang, stored)) }
            @match stored {
                Some(stored) => {
                    p { (value::short(&stored.who)) " · " (time::time(stored.at_ms)) }
                    (value::block(&stored.value.note))
                    (form::support(visit, &action(Verb::Reopen), &html! {
                        button.quiet type="submit" { (UNDO.of(lang)) }
                    }))
                }
                None => details open[error.is_some()] {
                    summary { (OPEN.of(lang)) }
                    p.hint { (about.of(lang)) }
                    (form::support(visit, &action(Verb::Resolve), &html! {
                        (Field { value: written, hint: Some(HINT), error, ..Field::new("note", NOTE) }
                            .show_area(lang, 3))
                        button.quiet type="submit" { (SAVE.of(lang)) }
                    }))
                },
            }
        }
    }
}

/// An action on the note of a callback to `source`.
#[derive(Clone, Copy)]
pub(super) struct Order<'o> {
    pub thing: Thing<'o>,
    pub source: &'o str,
    pub verb: Verb,
}

/// Carries out `order`; the viewer has write access.
pub(super) async fn post(
    console: &Console,
    visit: &Visit,
    order: Order<'_>,
    form: &Fields,
) -> PageResult {
    let Order { thing, source, verb } = order;
    let (registry, who) = (&console.tools.registry, &visit.viewer.who);
    let to = |done: &str| Ok(Reply::Redirect(format!("{}?done={done}#resolution", thing.path)));
    if verb == Verb::Reopen {
        registry.reopen(who, thing.subject).await?;
        return to("reopened");
    }
    let note = form.text("note").unwrap_or_default();
    let error = match registry.resolve(who, thing.subject, source, note).await {
        Ok(()) => return to("resolved"),
        Err(ChangeError::Ledger(error)) => return Err(PageError::from(error)),
        Err(ChangeError::Refused(not)) => note_error(visit.lang, not),
    };
    let middle = body(visit, thing, None, note, Some(&error));
    Ok(Reply::Invalid(TITLE.of(visit.lang).to_owned(), middle))
}

fn note_error(lang: Lang, not: NoteError) -> String {
    let (text, most): (Text, usize) = match not {
        NoteError::Empty => return EMPTY.of(lang).to_owned(),
        NoteError::TooLong => (TOO_LONG, NOTE_CHARACTERS_MAX),
        NoteError::TooMany => (TOO_MANY, RESOLVED_MAX),
    };
    text.fill(lang, &[&most])
}
