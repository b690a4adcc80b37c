//! What the pages of sources, destinations, rules and addresses have in common: what was done, what
//! is wrong, who may change it.

use maud::{Markup, html};

use crate::config::{ConfigIssue, Origin, Table};
use crate::console::area::Area;
use crate::console::components::notice::{Tone, notice};
use crate::console::components::value;
use crate::console::fields::Fields;
use crate::console::lang::Lang;
use crate::console::page_error::PageError;
use crate::console::text::{Text, texts};
use crate::console::visit::Visit;
use crate::registry::{ChangeError, DocumentError};
use crate::sender::DefinitionError;

texts! {
    MADE = "It is made, and in force.", "已创建并生效。";
    SAVED = "It is changed, and in force.", "已更改并生效。";
    PAUSED = "It is paused.", "已暂停。";
    RESUMED = "It is resumed.", "已恢复。";
    DELETED = "It is deleted.", "已删除。";
    NOTHING = "Nothing was changed:", "没有任何更改：";
    NAME = "Name", "名称";
    TAKEN = "another one has the name {}", "名称 {} 已被使用";
    STALE = "Somebody changed it meanwhile. This is what it says now; repeat what you wanted.",
        "其间有人更改了它。以下是当前内容，请重新操作。";
    USED = "It is used by: {}. Take it out there first.", "正被以下来源使用：{}。请先在那里移除。";
    IN_FILE = "It stands in the configuration file. Change it there; the gateway reads the file again when it changes.",
        "它写在配置文件中，请在文件中更改；文件变化后网关会自动重新读取。";
    OF_RULE = "It belongs to a reward rule. Change it there:", "它属于一条奖励规则，请在那里更改：";
    OF_ADDRESS = "It belongs to a callback address. Change it there:", "它属于一个回调地址，请在那里更改：";
    OF_PUSH = "It belongs to a push configuration of the API of seed 002. Whoever has the app's secret changes it there.",
        "它属于推送配置接口，由持有该应用密钥的一方更改。";
    FILE = "configuration file", "配置文件";
    ADMIN = "console or admin API", "控制台或管理接口";
    RULE = "reward rule", "奖励规则";
    ADDRESS = "callback address", "回调地址";
    PUSH = "push configuration", "推送配置";
    OPEN_DELETE = "Delete…", "删除…";
}

/// The field that says which version a form is about.
const VERSION: &str = "version";

/// What a form did, as its reader is told behind it: `?done=…`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    Made,
    Saved,
    Paused,
    Resumed,
    Deleted,
}

impl Done {
    const ALL: [Self; 5] = [Self::Made, Self::Saved, Self::Paused, Self::Resumed, Self::Deleted];

    /// Its word in an address and in the log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Made => "made",
            Self::Saved => "saved",
            Self::Paused => "paused",
            Self::Resumed => "resumed",
            Self::Deleted => "deleted",
        }
    }

    const fn text(self) -> Text {
        match self {
            Self::Made => MADE,
            Self::Saved => SAVED,
            Self::Paused => PAUSED,
            Self::Resumed => RESUMED,
            Self::Deleted => DELETED,
        }
    }

    /// The page at `path`, saying so.
    pub fn at(self, path: &str) -> String {
        format!("{path}?done={}", self.as_str())
    }
}

/// What the form before this page did, if one did.
pub fn done(visit: &Visit) -> Markup {
    let word = visit.query.text("done");
    let done = Done::ALL.into_iter().find(|done| word == Some(done.as_str()));
    html! { @if let Some(done) = done { (notice(Tone::Good, done.text().of(visit.lang))) } }
}

// === What is wrong ===

/// What is wrong with a form, by the names of its fields.
#[derive(Clone, Debug, Default)]
pub struct FormErrors(Vec<FormError>);

#[derive(Clone, Debug)]
struct FormError {
    field: String,
    told: String,
    /// Whether it is told in the words of the configuration's check, which are English.
    is_checks: bool,
}

/// A form that was sent and not accepted: its errors, and what was typed.
#[derive(Clone, Copy, Debug)]
pub struct Draft<'d> {
    pub errors: &'d FormErrors,
    pub typed: Option<&'d Fields>,
}

/// What is written, in place of the version of the object that its form was made from.
#[derive(Clone, Copy, Debug)]
pub struct Edit<'e> {
    pub name: &'e str,
    pub version: u64,
    pub table: &'e Table,
}

impl FormErrors {
    /// One mistake; `field` is empty where it is about no single one.
    pub fn one(field: &str, told: impl Into<String>) -> Self {
        Self(vec![FormError { field: field.to_owned(), told: told.into(), is_checks: false }])
    }

    pub fn of_check(findings: Vec<ConfigIssue>) -> Self {
        let mistake = |ConfigIssue { key, what, remedy, .. }| {
            let told = if remedy.is_empty() { what } else { format!("{what}; {remedy}") };
            FormError { field: key, told, is_checks: true }
        };
        Self(findings.into_iter().map(mistake).collect())
    }

    /// One mistake in the words of a check.
    pub fn of_slip(field: &str, told: &str) -> Self {
        let (field, told) = (field.to_owned(), told.to_owned());
        Self(vec![FormError { field, told, is_checks: true }])
    }

    pub fn of_fault(fault: &DefinitionError) -> Self {
        let told = format!("{}; {}", fault.what, fault.remedy);
        Self(vec![FormError { field: fault.key.clone(), told, is_checks: true }])
    }

    /// What is wrong with the field called `name`, or with something in it.
    pub fn of(&self, name: &str) -> Option<&str> {
        let inside = |field: &str| {
            field
                .strip_prefix(name)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        self.0.iter().find(|mistake| inside(&mistake.field)).map(|mistake| mistake.told.as_str())
    }

    /// All of them, above the form; nothing where there are none.
    pub fn show(&self, lang: Lang) -> Markup {
        html! {
            @if !self.0.is_empty() {
                div.notice.bad.mistakes role="alert" {
                    p { (NOTHING.of(lang)) }
                    ul {
                        @for mistake in &self.0 {
                            li {
                                @if !mistake.field.is_empty() { code { (value::short(&mistake.field)) } " " }
                                span lang=[mistake.is_checks.then_some("en")] { (value::whole(&mistake.told)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Why a source or a destination was not written: what can be put right in its form, or what ends
/// the visit.
pub fn refused(lang: Lang, failed: ChangeError<DocumentError>) -> Result<FormErrors, PageError> {
    let refusal = match failed {
        ChangeError::Ledger(error) => return Err(error.into()),
        ChangeError::Refused(refusal) => refusal,
    };
    Ok(match refusal {
        DocumentError::Absent => return Err(PageError::Absent),
        DocumentError::Foreign(origin) => return Err(PageError::Bad(foreign_text(origin))),
        DocumentError::Taken(name) => FormErrors::one("name", TAKEN.fill(lang, &[&name])),
        DocumentError::Stale(_) => stale(lang),
        DocumentError::Used(sources) => {
            FormErrors::one("", USED.fill(lang, &[&sources.join(", ")]))
        }
        DocumentError::Wrong(findings) => FormErrors::of_check(findings),
    })
}

/// The same of something new called `name`: whoever has it already, another name is wanted, and
/// what was typed stays.
pub fn refused_new(
    lang: Lang,
    name: &str,
    failed: ChangeError<DocumentError>,
) -> Result<FormErrors, PageError> {
    match failed {
        ChangeError::Refused(DocumentError::Stale(_) | DocumentError::Foreign(_)) => {
            Ok(FormErrors::one("name", TAKEN.fill(lang, &[&name])))
        }
        other => refused(lang, other),
    }
}

/// That somebody else changed it meanwhile.
pub fn stale(lang: Lang) -> FormErrors {
    FormErrors::one("", STALE.of(lang))
}

/// The version that a form is about, as it goes with it.
pub fn version_field(version: u64) -> Markup {
    html! { input type="hidden" name=(VERSION) value=(version); }
}

/// That somebody else changed it meanwhile, unless `form` is about this `version`. Looked at before
/// anything else in it: what else is wrong would be told beside values that are not those of now.
pub fn stale_form(lang: Lang, form: &Fields, version: u64) -> Option<FormErrors> {
    (version_of(form) != version).then(|| stale(lang))
}

/// The version that a form is about; 0, which nothing has, where it does not say.
pub fn version_of(form: &Fields) -> u64 {
    form.text(VERSION).and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// Whether somebody else changed it meanwhile.
pub const fn is_stale(failed: &ChangeError<DocumentError>) -> bool {
    matches!(failed, ChangeError::Refused(DocumentError::Stale(_)))
}

// === Whose it is ===

/// Who says that there is one.
pub const fn origin(of: Origin) -> Text {
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

/// Why nothing is offered here, and where it is.
pub fn foreign(lang: Lang, origin: Origin) -> Markup {
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

/// A heading with the name of the thing in it.
pub fn title(area: Area, lang: Lang, name: &str) -> String {
    format!("{}: {name}", area.title().of(lang))
}

/// A form to delete something with, folded away so that nobody does it in passing.
pub fn deletion(lang: Lang, form: &Markup) -> Markup {
    html! { details { summary { (OPEN_DELETE.of(lang)) } (form) } }
}

/// The label of names.
pub const NAME_LABEL: Text = NAME;

/// Why something of another origin cannot be changed here.
pub fn not_here(origin: Origin) -> PageError {
    PageError::Bad(foreign_text(origin))
}
