//! Forms and form fields.

use maud::{Markup, html};
use serde_json::Value;

use super::time;
use crate::config::Table;
use crate::console::area::Area;
use crate::console::fields::{self, Fields};
use crate::console::lang::Lang;
use crate::console::messages;
use crate::console::sender_texts;
use crate::console::session::SignIn;
use crate::console::text::{Text, texts};
use crate::console::visit::Visit;

texts! {
    SIGN_IN = "Sign in to make changes.", "登录后可更改。";
    FILTERS = "Filters", "筛选条件";
    READ_ONLY = "Your token is read-only.", "您的令牌是只读的。";
    BOUND = "Your token is bound to its sources and changes no settings.", "您的令牌仅限部分来源，不能更改设置。";
    NOT_ADMIN = "Changes need an admin token.", "更改需要管理令牌。";
}

/// Longest list of choices; a longer one becomes a text field.
const PICKED_MAX: usize = 200;

/// The values of a form's fields: submitted, or those of a stored object.
#[derive(Debug)]
pub(crate) enum FormValues<'f> {
    Submitted(&'f Fields),
    Stored(Table),
}

impl FormValues<'_> {
    /// The values of an empty form.
    pub(crate) fn nothing() -> Self {
        Self::Stored(Table::new())
    }

    /// The text of the field `name`. Of a stored object: the value of that key, or for `a.b` that of
    /// the key `b` in its table `a`.
    pub(crate) fn text(&self, name: &str) -> String {
        let table = match self {
            Self::Submitted(form) => return form.verbatim(name).unwrap_or_default().to_owned(),
            Self::Stored(table) => table,
        };
        let inner = || name.split_once('.').and_then(|(outer, name)| table.get(outer)?.get(name));
        match table.get(name).or_else(inner) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Array(list)) => {
                let words: Vec<&str> = list.iter().filter_map(Value::as_str).collect();
                words.join(" ")
            }
            Some(Value::Bool(true)) => String::from("yes"),
            Some(Value::Number(number)) => number.to_string(),
            _ => String::new(),
        }
    }
}

/// A form that posts `fields` to `action`, with the CSRF token of the viewer.
pub(crate) fn to(visit: &Visit, action: &str, fields: &Markup) -> Markup {
    html! {
        form method="post" action=(action) {
            input type="hidden" name="csrf" value=(visit.viewer.csrf);
            (fields)
        }
    }
}

/// A form that changes something. Viewers with a read-only token see a note instead.
pub(crate) fn change(visit: &Visit, action: &str, fields: &Markup) -> Markup {
    match visit.viewer.may_change() {
        true => to(visit, action, fields),
        false if visit.viewer.entry == SignIn::Open => sign_in(visit),
        false if visit.viewer.scope.is_bound() && visit.area == Area::Sources => {
            html! { p.may-not { (BOUND.of(visit.lang)) } }
        }
        false if visit.viewer.may_support() => html! { p.may-not { (NOT_ADMIN.of(visit.lang)) } },
        false => html! { p.may-not { (READ_ONLY.of(visit.lang)) } },
    }
}

/// [`change`] for what a support token may do as well: replay events, resolve callbacks.
pub(crate) fn support(visit: &Visit, action: &str, fields: &Markup) -> Markup {
    match visit.viewer.may_support() {
        true => to(visit, action, fields),
        false if visit.viewer.entry == SignIn::Open => sign_in(visit),
        false => html! { p.may-not { (READ_ONLY.of(visit.lang)) } },
    }
}

/// A note in place of a form, for viewers without a token.
fn sign_in(visit: &Visit) -> Markup {
    let page = visit.with("", None);
    let next = fields::query(&[("next", &page)]);
    html! { p.may-not { a href={ (Area::SignIn.path()) (next) } { (SIGN_IN.of(visit.lang)) } } }
}

/// A search form: a GET with its fields in the query.
pub(crate) fn ask(action: &str, fields: &Markup) -> Markup {
    html! { form.ask method="get" action=(action) role="search" { (fields) } }
}

/// The fields `names` of a search form. The script folds them on a phone, unless one is used.
pub(crate) fn filters(visit: &Visit, names: &[&str], fields: &Markup) -> Markup {
    let is_used = visit.has_any(names);
    html! {
        details.filters open data-used[is_used] {
            summary { (FILTERS.of(visit.lang)) }
            div.fields { (fields) }
        }
    }
}

/// A form field.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field<'f> {
    /// Name in the form.
    pub name: &'f str,
    pub label: Text,
    /// Current value.
    pub value: &'f str,
    /// A name from the sender file, shown after the label.
    pub code: Option<&'f str>,
    /// Type of the HTML input: `text`, `password`, `search`, `url`, `number`, `datetime-local`.
    pub kind: &'f str,
    /// Help text.
    pub hint: Option<Text>,
    /// Help text from the sender file, in English.
    pub about: Option<&'f str>,
    /// Error of the current value.
    pub error: Option<&'f str>,
    /// Id of the list of suggested values.
    pub list: Option<&'f str>,
    /// The value that counts while the field is empty.
    pub placeholder: Option<&'f str>,
}

impl<'f> Field<'f> {
    /// An empty text field.
    pub(crate) const fn new(name: &'f str, label: Text) -> Self {
        let (value, kind) = ("", "text");
        let (code, hint, about, error, list) = (None, None, None, None, None);
        let placeholder = None;
        Self { name, label, value, code, kind, hint, about, error, list, placeholder }
    }

    pub(crate) fn show(&self, lang: Lang) -> Markup {
        let is_seconds = self.kind == "datetime-local";
        // Such a field accepts a time without a zone alone.
        let time = fields::time(self.value).filter(|_| is_seconds).map(time::second);
        let value = time.map_or_else(|| self.value.to_owned(), |time| time.replace(' ', "T"));
        html! {
            (self.around(lang, &html! {
                input id=(self.id()) name=(self.name) type=(self.kind) value=(value)
                    step=[is_seconds.then_some("1")] spellcheck="false"
                    autocomplete=(self.filled_by()) list=[self.list] placeholder=[self.placeholder]
                    aria-invalid=[self.error.map(|_| "true")]
                    aria-describedby=[self.described_by()];
            }))
        }
    }

    /// Renders a multi-line field.
    pub(crate) fn show_area(&self, lang: Lang, rows: usize) -> Markup {
        self.around(
            lang,
            &html! {
                textarea id=(self.id()) name=(self.name) rows=(rows) spellcheck="false"
                    aria-invalid=[self.error.map(|_| "true")]
                    aria-describedby=[self.described_by()] { (self.value) }
            },
        )
    }

    /// Renders a checkbox.
    pub(crate) fn show_box(&self, lang: Lang) -> Markup {
        html! {
            div.box {
                input id=(self.id()) name=(self.name) type="checkbox" value="yes"
                    checked[!self.value.is_empty()] aria-describedby=[self.described_by()];
                label for=(self.id()) {
                    (self.label.of(lang))
                    @if let Some(code) = self.code { " " code { (code) } }
                }
                @if let Some(hint) = self.hint {
                    p.hint id=(format!("{}-hint", self.id())) { (hint.of(lang)) }
                }
            }
        }
    }

    /// Renders a choice among options: value and label.
    pub(crate) fn show_choice(&self, lang: Lang, options: &[(&str, &str)]) -> Markup {
        self.around(
            lang,
            &html! {
                select id=(self.id()) name=(self.name) aria-invalid=[self.error.map(|_| "true")]
                    aria-describedby=[self.described_by()] {
                    @for (value, word) in options {
                        option value=(value) selected[*value == self.value] { (word) }
                    }
                }
            },
        )
    }

    /// Renders a choice among `names` or `any`; with too many names, a text field.
    pub(crate) fn show_pick(&self, lang: Lang, any: Text, names: &[&str]) -> Markup {
        if names.len() > PICKED_MAX {
            return self.show(lang);
        }
        let all = std::iter::once(("", any.of(lang)));
        let options: Vec<_> = all.chain(names.iter().map(|name| (*name, *name))).collect();
        self.show_choice(lang, &options)
    }

    fn around(&self, lang: Lang, control: &Markup) -> Markup {
        html! {
            div.field {
                label for=(self.id()) {
                    (self.label.of(lang))
                    @if let Some(code) = self.code { " " code { (code) } }
                }
                (control)
                @if self.hint.is_some() || self.about.is_some() {
                    p.hint id=(format!("{}-hint", self.id())) {
                        @if let Some(hint) = self.hint { (hint.of(lang)) " " }
                        @if let Some(about) = self.about {
                            @match sender_texts::translated(lang, about) {
                                Some(text) => (text),
                                None => bdi lang="en" { (about) },
                            }
                        }
                    }
                }
                @if let Some(error) = self.error {
                    p.error id=(format!("{}-error", self.id())) { (messages::text(lang, error)) }
                }
            }
        }
    }

    /// Autocomplete: browsers may fill in the sign-in token, and no other secret.
    fn filled_by(&self) -> &'static str {
        match (self.kind, self.name) {
            ("password", "token") => "current-password",
            ("password", _) => "new-password",
            _ => "off",
        }
    }

    fn id(&self) -> String {
        format!("field-{}", self.name)
    }

    fn described_by(&self) -> Option<String> {
        let hint = self.hint.is_some() || self.about.is_some();
        let hint = hint.then(|| format!("{}-hint", self.id()));
        let error = self.error.map(|_| format!("{}-error", self.id()));
        let all: Vec<String> = error.into_iter().chain(hint).collect();
        (!all.is_empty()).then(|| all.join(" "))
    }
}

/// Checkboxes of one name, one for each value.
pub(crate) fn boxes(
    lang: Lang,
    name: &str,
    legend: Text,
    values: &[&str],
    checked: &[&str],
) -> Markup {
    html! {
        fieldset.boxes {
            legend { (legend.of(lang)) }
            @for value in values {
                label {
                    input type="checkbox" name=(name) value=(value) checked[checked.contains(value)];
                    " " bdi { (value) }
                }
            }
        }
    }
}
