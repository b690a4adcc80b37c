//! Common parts of the pages of managed objects: results, errors, origin.

use maud::{Markup, html};

use crate::config::{ConfigIssue, Origin, Table};
use crate::console::area::Area;
use crate::console::components::notice::{Tone, notice};
use crate::console::components::value;
use crate::console::fields::Fields;
use crate::console::lang::Lang;
use crate::console::messages;
use crate::console::page_error::PageError;
use crate::console::text::{Text, texts};
use crate::console::visit::Visit;
use crate::registry::{ChangeError, DocumentError};
use crate::sender::DefinitionError;

texts! {
    CREATED = "Created.", "已创建。";
    SAVED = "Saved.", "已保存。";
    PAUSED = "Paused.", "已暂停。";
    RESUMED = "Resumed.", "已恢复。";
    DELETED = "Deleted.", "已删除。";
    NOTHING = "Nothing was changed:", "未做任何更改：";
    NAME = "Name", "名称";
    TAKEN = "the name {} is already in use", "名称 {} 已被使用";
    STALE = "Another user changed this meanwhile. The current values are shown; repeat your change.",
        "其间其他用户更改了此对象。当前显示最新内容，请重新操作。";
    USED = "In use by: {}. Remove it there first.", "正被以下来源使用：{}。请先在那里移除。";
    IN_FILE = "Defined in the configuration file. Change it there; the gateway reloads the file automatically.",
        "在配置文件中定义。请在文件中更改，网关会自动重新加载。";
    OF_RULE = "Belongs to a reward rule. Change it there:", "属于一条奖励规则，请在那里更改：";
    OF_ADDRESS = "Belongs to a callback address. Change it there:", "属于一个回调地址，请在那里更改：";
    OF_PUSH = "Belongs to a push configuration. The app changes it over the push-configuration API.",
        "属于一个推送配置，由应用通过推送配置接口更改。";
    FILE = "Configuration file", "配置文件";
    ADMIN = "Console or admin API", "控制台或管理接口";
    RULE = "Reward rule", "奖励规则";
    ADDRESS = "Callback address", "回调地址";
    PUSH = "Push configuration", "推送配置";
    SOURCE = "Source", "来源";
    DESTINATION = "Destination", "投递目标";
    TITLE = "{}: {}", "{}：{}";
    OPEN_DELETE = "Delete…", "删除……";
}

/// The form field with the version of the object.
const VERSION: &str = "version";

/// The result of a form, shown after the redirect to `?done=…`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Done {
    Created,
    Saved,
    Paused,
    Resumed,
    Deleted,
}

impl Done {
    const ALL: [Self; 5] = [Self::Created, Self::Saved, Self::Paused, Self::Resumed, Self::Deleted];

    /// The value in the query.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Saved => "saved",
            Self::Paused => "paused",
            Self::Resumed => "resumed",
            Self::Deleted => "deleted",
        }
    }

    const fn text(self) -> Text {
        match self {
            Self::Created => CREATED,
            Self::Saved => SAVED,
            Self::Paused => PAUSED,
            Self::Resumed => RESUMED,
            Self::Deleted => DELETED,
        }
    }

    /// The URL of the page at `path` with this result.
    pub(super) fn at(self, path: &str) -> String {
        format!("{path}?done={}", self.as_str())
    }
}

/// The result of the form that led to this page, if any.
pub(super) fn done(visit: &Visit) -> Markup {
    let word = visit.query.text("done");
    let done = Done::ALL.into_iter().find(|done| word == Some(done.as_str()));
    html! { @if let Some(done) = done { (notice(Tone::Good, done.text().of(visit.lang))) } }
}

// === Errors ===

/// Errors of a form, by field.
#[derive(Clone, Debug, Default)]
pub(super) struct FormErrors(Vec<FormError>);

#[derive(Clone, Debug)]
struct FormError {
    field: String,
    message: String,
    /// Whether the message comes from the configuration check, in English.
    is_english: bool,
}

/// A rejected form: its errors, and the submitted values.
#[derive(Clone, Copy, Debug)]
pub(super) struct Draft<'d> {
    pub errors: &'d FormErrors,
    pub typed: Option<&'d Fields>,
}

/// A write: the new table, and the version that it replaces.
#[derive(Clone, Copy, Debug)]
pub(super) struct Edit<'e> {
    pub name: &'e str,
    pub version: u64,
    pub table: &'e Table,
}

impl FormErrors {
    /// One error; `field` is empty if it concerns the whole form.
    pub(super) fn one(field: &str, message: impl Into<String>) -> Self {
        Self(vec![FormError {
            field: field.to_owned(),
            message: message.into(),
            is_english: false,
        }])
    }

    pub(super) fn of_check(issues: Vec<ConfigIssue>) -> Self {
        let error = |ConfigIssue { key, what, remedy, .. }| {
            let message = if remedy.is_empty() { what } else { format!("{what}; {remedy}") };
            FormError { field: key, message, is_english: true }
        };
        Self(issues.into_iter().map(error).collect())
    }

    /// One error of a partner API check, in English.
    pub(super) fn of_field(field: &str, message: &str) -> Self {
        let (field, message) = (field.to_owned(), message.to_owned());
        Self(vec![FormError { field, message, is_english: true }])
    }

    pub(super) fn of_definition(error: &DefinitionError) -> Self {
        let message = format!("{}; {}", error.what, error.remedy);
        Self(vec![FormError { field: error.key.clone(), message, is_english: true }])
    }

    /// Adds the errors of `other`.
    pub(super) fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The error of the field `name`, or of a part of it.
    pub(super) fn of(&self, name: &str) -> Option<&str> {
        let inside = |field: &str| {
            field
                .strip_prefix(name)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        self.0.iter().find(|error| inside(&error.field)).map(|error| error.message.as_str())
    }

    /// All errors, for the top of the form; empty if there are none.
    pub(super) fn show(&self, lang: Lang) -> Markup {
        self.show_under(lang, NOTHING)
    }

    /// [`Self::show`] under another heading.
    pub(super) fn show_under(&self, lang: Lang, heading: Text) -> Markup {
        html! {
            @if !self.0.is_empty() {
                div.notice.bad.errors role="alert" {
                    p { (heading.of(lang)) }
                    ul {
                        @for error in &self.0 {
                            li {
                                @if !error.field.is_empty() { code { (value::short(&error.field)) } " " }
                                @if error.is_english { (messages::shown(lang, &error.message)) }
                                @else { (value::whole(&error.message)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Converts a failed write of a source or a destination: errors of the form, or of the page.
pub(super) fn write_error(
    lang: Lang,
    failed: ChangeError<DocumentError>,
) -> Result<FormErrors, PageError> {
    let error = match failed {
        ChangeError::Ledger(error) => return Err(error.into()),
        ChangeError::Refused(error) => error,
    };
    Ok(match error {
        DocumentError::Absent => return Err(PageError::Absent),
        DocumentError::Foreign(origin) => return Err(PageError::Bad(foreign_text(origin))),
        DocumentError::Taken(name) => FormErrors::one("name", TAKEN.fill(lang, &[&name])),
        DocumentError::Stale(_) => stale(lang),
        DocumentError::Used(sources) => {
            FormErrors::one("", USED.fill(lang, &[&sources.join(lang.comma())]))
        }
        DocumentError::Wrong(issues) => FormErrors::of_check(issues),
    })
}

/// Converts a failed creation: an existing object of this name is an error of the name field, and the
/// submitted values are shown again.
pub(super) fn creation_error(
    lang: Lang,
    name: &str,
    failed: ChangeError<DocumentError>,
) -> Result<FormErrors, PageError> {
    match failed {
        ChangeError::Refused(DocumentError::Stale(_) | DocumentError::Foreign(_)) => {
            Ok(FormErrors::one("name", TAKEN.fill(lang, &[&name])))
        }
        other => write_error(lang, other),
    }
}

/// The error that another user changed the object meanwhile.
pub(super) fn stale(lang: Lang) -> FormErrors {
    FormErrors::one("", STALE.of(lang))
}

/// The hidden field with the version of the object.
pub(super) fn version_field(version: u64) -> Markup {
    html! { input type="hidden" name=(VERSION) value=(version); }
}

/// The stale error, unless `form` was made from this `version`. Checked first: other errors would be
/// shown with outdated values.
pub(super) fn stale_form(lang: Lang, form: &Fields, version: u64) -> Option<FormErrors> {
    (version_of(form) != version).then(|| stale(lang))
}

/// The version that a form was made from; 0, which no object has, if the field is missing.
pub(super) fn version_of(form: &Fields) -> u64 {
    form.text(VERSION).and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// Whether another user changed the object meanwhile.
pub(super) const fn is_stale(failed: &ChangeError<DocumentError>) -> bool {
    matches!(failed, ChangeError::Refused(DocumentError::Stale(_)))
}

// === Origin ===

/// The place where an object is defined.
pub(super) const fn origin(of: Origin) -> Text {
    match of {
        Origin::File => FILE,
        Origin::Admin => ADMIN,
        Origin::RewardRule => RULE,
        Origin::CallbackAddress => ADDRESS,
        Origin::PushConfig => PUSH,
    }
}

const fn foreign_text(origin: Origin) -> Text {
    match origin {
        Origin::File | Origin::Admin => IN_FILE,
        Origin::RewardRule => OF_RULE,
        Origin::CallbackAddress => OF_ADDRESS,
        Origin::PushConfig => OF_PUSH,
    }
}

/// A note that the object is changed elsewhere, with a link.
pub(super) fn foreign(lang: Lang, origin: Origin) -> Markup {
    let area = match origin {
        Origin::File | Origin::Admin => None,
        Origin::RewardRule => Some(Area::Rules),
        Origin::CallbackAddress | Origin::PushConfig => Some(Area::Addresses),
    };
    html! {
        div.notice.plain role="note" {
            (foreign_text(origin).of(lang))
            @if let Some(area) = area { " " a href=(area.path()) { (area.title().of(lang)) } }
        }
    }
}

/// A page title with the name of the object.
pub(super) fn title(area: Area, lang: Lang, name: &str) -> String {
    let kind = match area {
        Area::Sources => SOURCE,
        Area::Destinations => DESTINATION,
        Area::Rules => RULE,
        _ => area.title(),
    };
    TITLE.fill(lang, &[&kind.of(lang), &name])
}

/// A deletion form, folded to prevent accidental use.
pub(super) fn deletion(lang: Lang, form: &Markup) -> Markup {
    html! { details { summary { (OPEN_DELETE.of(lang)) } (form) } }
}

/// The label of name fields.
pub(super) const NAME_LABEL: Text = NAME;

/// The error for a change of an object with another origin.
pub(super) fn not_here(origin: Origin) -> PageError {
    PageError::Bad(foreign_text(origin))
}
