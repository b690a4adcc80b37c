//! Forms and their fields.

use maud::{Markup, html};

use crate::console::lang::Lang;
use crate::console::text::{Text, texts};
use crate::console::visit::Visit;

texts! {
    MAY_NOT = "Your token may only look.", "您的令牌只能查看。";
}

/// Names that somebody chooses from: more are no help.
const PICKED_MAX: usize = 200;

/// A form that sends `fields` to `action` with a POST, bound to the viewer.
pub fn to(visit: &Visit, action: &str, fields: &Markup) -> Markup {
    html! {
        form method="post" action=(action) {
            input type="hidden" name="csrf" value=(visit.viewer.csrf);
            (fields)
        }
    }
}

/// A form that changes something: whoever may only look is told so in its place.
pub fn change(visit: &Visit, action: &str, fields: &Markup) -> Markup {
    match visit.viewer.may_change() {
        true => to(visit, action, fields),
        false => html! { p.may-not { (MAY_NOT.of(visit.lang)) } },
    }
}

/// A form that asks: it changes nothing, and its fields are in the address.
pub fn ask(action: &str, fields: &Markup) -> Markup {
    html! { form.ask method="get" action=(action) role="search" { (fields) } }
}

/// A field of one line.
#[derive(Clone, Copy, Debug)]
pub struct Field<'f> {
    /// Its name in the form.
    pub name: &'f str,
    pub label: Text,
    /// What it says now.
    pub value: &'f str,
    /// A name that only those who wrote a sender's file know the meaning of, behind the label.
    pub code: Option<&'f str>,
    /// What it takes, as HTML calls it: `text`, `password`, `search`, `url`, `number`,
    /// `datetime-local`.
    pub kind: &'f str,
    /// What to know before it is filled.
    pub hint: Option<Text>,
    /// The same in somebody else's words, which are English.
    pub about: Option<&'f str>,
    /// What is wrong with what it says.
    pub error: Option<&'f str>,
}

impl<'f> Field<'f> {
    /// An empty field of text.
    pub const fn new(name: &'f str, label: Text) -> Self {
        let (value, kind) = ("", "text");
        Self { name, label, value, code: None, kind, hint: None, about: None, error: None }
    }

    pub fn show(&self, lang: Lang) -> Markup {
        let is_seconds = self.kind == "datetime-local";
        html! {
            (self.around(lang, &html! {
                input id=(self.id()) name=(self.name) type=(self.kind) value=(self.value)
                    step=[is_seconds.then_some("1")] spellcheck="false"
                    autocomplete=(self.filled_by())
                    aria-invalid=[self.error.map(|_| "true")]
                    aria-describedby=[self.described_by()];
            }))
        }
    }

    /// The same with many lines.
    pub fn show_area(&self, lang: Lang, rows: usize) -> Markup {
        self.around(
            lang,
            &html! {
                textarea id=(self.id()) name=(self.name) rows=(rows) spellcheck="false"
                    aria-invalid=[self.error.map(|_| "true")]
                    aria-describedby=[self.described_by()] { (self.value) }
            },
        )
    }

    /// A box to check, for what is on or off.
    pub fn show_box(&self, lang: Lang) -> Markup {
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

    /// The same as a choice: each option with the word for it.
    pub fn show_choice(&self, lang: Lang, options: &[(&str, &str)]) -> Markup {
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

    /// The same as a choice among `names`, or none of them, which is called `any`; where there are
    /// too many to choose from, a name is typed.
    pub fn show_pick(&self, lang: Lang, any: Text, names: &[&str]) -> Markup {
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
                        @if let Some(about) = self.about { bdi lang="en" { (about) } }
                    }
                }
                @if let Some(error) = self.error {
                    p.error id=(format!("{}-error", self.id())) { (error) }
                }
            }
        }
    }

    /// A browser may fill in the token that somebody signs in with, and no other secret.
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

/// Boxes of one name, each with its value; those of `checked` are.
pub fn boxes(lang: Lang, name: &str, legend: Text, values: &[&str], checked: &[&str]) -> Markup {
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
