//! The secrets of a source: ids and expiry, never values. Rotation keeps the old secrets until they
//! expire.

use maud::{Markup, html};
use serde_json::{Value, json};

use super::{invalid, path_of, stored, write};
use crate::clock::{UnixMillis, now_ms, rfc3339};
use crate::config::{MASK, Source, Table};
use crate::console::app::Console;
use crate::console::components::form as forms;
use crate::console::components::form::Field;
use crate::console::components::table::{Caption, DataTable};
use crate::console::components::{time, value};
use crate::console::fields::{self, Fields};
use crate::console::lang::Lang;
use crate::console::pages::managed::{self, Done, Edit, FormErrors};
use crate::console::reply::PageResult;
use crate::console::text::texts;
use crate::console::visit::Visit;

texts! {
    SECRETS = "Secrets", "密钥";
    HINT = "A callback may be signed with any of these.", "回调可使用其中任意一个签名。";
    ID = "Id", "标识";
    VALUE = "Value", "值";
    ENDS = "Expires", "失效时间";
    USED = "Last used (this gateway)", "最近使用（本网关）";
    NEVER = "Never", "长期有效";
    NONE = "No secrets.", "没有密钥。";
    END = "Remove secret", "移除密钥";
    END_OPEN = "Remove…", "移除……";
    END_ONE = "Remove secret {}", "移除密钥 {}";
    END_HINT = "Callbacks signed with it are rejected from then on. This cannot be undone: the value is deleted.", "此后用它签名的回调会被拒绝。无法撤销：密钥值会被删除。";
    ROTATE = "Rotate secret", "轮换密钥";
    ROTATE_HINT = "The new secret is valid at once. The old ones stay valid until they expire, which leaves time to change the secret in the sender's console.",
        "新密钥立即生效。旧密钥在失效前仍然有效，便于您在发送方后台更换。";
    NEW = "New secret", "新密钥";
    NEW_HINT = "Not shown again, not even after a mistake in this form. Surrounding spaces are removed.", "不会再次显示，表单有误时也需重新填写。首尾空格会被去除。";
    UNTIL = "Old secrets expire (UTC)", "旧密钥失效时间（UTC）";
    DO_ROTATE = "Rotate secret", "轮换密钥";
    MISSING = "is missing", "未填写";
    NO_TIME = "must be a time in the future", "必须是将来的时间";
    LAST = "The last secret cannot be removed. Add a new one first.", "不能移除最后一个密钥，请先添加新密钥。";
}

/// Default time until the old secrets expire: one week.
const OVERLAP_MS: UnixMillis = 7 * 24 * 60 * 60 * 1000;

/// The secrets of a source, and the forms to change them.
///
/// `version` is that of the source; `None`: read-only.
pub(super) fn section(
    console: &Console,
    visit: &Visit,
    source: &Source,
    errors: &FormErrors,
    version: Option<u64>,
) -> Markup {
    let lang = visit.lang;
    let shown = list(&source.shown);
    let count = source.recipe.secret_ids().count();
    let uses = console.tools.callback_handler.secret_uses(&source.name);
    let used = |id: &str| uses.iter().find(|(known, _)| known == id).and_then(|(_, last)| *last);
    let rows: Vec<_> = source
        .recipe
        .secret_ids()
        .enumerate()
        .map(|(at, id)| {
            let secret = shown.get(at);
            let mut row = vec![value::short(id), html! { code { (MASK) } }, ends(lang, secret)];
            let used = used(id).map(|ms| time::ago(lang, ms, now_ms()));
            row.push(used.unwrap_or_else(|| value::maybe(None)));
            if let Some(version) = version.filter(|_| count > 1) {
                row.push(ending(visit, &source.name, version, id));
            }
            row
        })
        .collect();
    let mut columns = vec![ID, VALUE, ENDS, USED];
    if version.is_some() && count > 1 {
        columns.push(END);
    }
    html! {
        section aria-labelledby="secrets" {
            h2 #secrets { (SECRETS.of(lang)) }
            p.hint { (HINT.of(lang)) }
            (DataTable::new(Caption::Hidden(SECRETS.of(lang)), &columns, NONE).show(lang, &rows))
            @if let Some(version) = version.filter(|_| source.recipe.sender().secret().is_some()) {
                (rotation(visit, source, version, errors))
            }
        }
    }
}

fn ends(lang: Lang, secret: Option<&Value>) -> Markup {
    match secret.and_then(|secret| secret["until"].as_str()) {
        Some(until) => time::stored(until),
        None => html! { (NEVER.of(lang)) },
    }
}

fn ending(visit: &Visit, source: &str, version: u64, id: &str) -> Markup {
    let form = forms::to(
        visit,
        &format!("{}/end", path_of(source)),
        &html! {
            (managed::version_field(version))
            input type="hidden" name="id" value=(id);
            p.hint { (END_HINT.of(visit.lang)) }
            button.danger type="submit" aria-label={ (END.of(visit.lang)) ": " (id) } { (END_ONE.fill(visit.lang, &[&id])) }
        },
    );
    html! { details.inline { summary { (END_OPEN.of(visit.lang)) } (form) } }
}

fn rotation(visit: &Visit, source: &Source, version: u64, errors: &FormErrors) -> Markup {
    let lang = visit.lang;
    let until = rfc3339(now_ms() + OVERLAP_MS);
    let until = until.get(..19).unwrap_or(&until);
    html! {
        h3 { (ROTATE.of(lang)) }
        p.hint { (ROTATE_HINT.of(lang)) }
        (forms::to(visit, &format!("{}/rotate", path_of(&source.name)), &html! {
            (managed::version_field(version))
            (Field {
                kind: "password", hint: Some(NEW_HINT), about: source.recipe.sender().secret(),
                error: errors.of("secrets").or(errors.of("secret")), ..Field::new("secret", NEW)
            }.show(lang))
            (Field { kind: "datetime-local", value: until, error: errors.of("until"), ..Field::new("until", UNTIL) }.show(lang))
            button type="submit" { (DO_ROTATE.of(lang)) }
        }))
    }
}

/// Adds a new secret; old ones without an expiry get the one of the form.
pub(super) async fn rotate(
    console: &Console,
    visit: &Visit,
    name: &str,
    form: &Fields,
) -> PageResult {
    let (mut table, _) = stored(console, name)?;
    let now = now_ms();
    let until = form.text("until").and_then(fields::time).filter(|until| *until > now);
    let wrong = match (form.text("secret"), until) {
        (None, _) => Some(("secret", MISSING)),
        (_, None) => Some(("until", NO_TIME)),
        _ => None,
    };
    if let Some((field, what)) = wrong {
        let errors = FormErrors::one(field, what.of(visit.lang));
        return invalid(console, visit, name, &errors, None).await;
    }
    let (secret, until) = (form.text("secret").unwrap_or_default(), rfc3339(until.unwrap_or(now)));
    let old =
        list(&table).into_iter().filter(|secret| !has_ended(secret, now)).map(|mut secret| {
            if let Some(secret) = secret.as_object_mut().filter(|one| !one.contains_key("until")) {
                secret.insert(String::from("until"), json!(until));
            }
            secret
        });
    let all: Vec<Value> = std::iter::once(json!({ "value": secret })).chain(old).collect();
    table.insert(String::from("secrets"), Value::Array(all));
    let edit = Edit { name, version: managed::version_of(form), table: &table };
    write(console, visit, edit, Done::Saved, None).await
}

/// Removes one secret.
pub(super) async fn end(console: &Console, visit: &Visit, name: &str, form: &Fields) -> PageResult {
    let (mut table, _) = stored(console, name)?;
    let id = form.text("id").unwrap_or_default();
    let left: Vec<Value> = list(&table).into_iter().filter(|secret| secret["id"] != id).collect();
    if left.is_empty() {
        let errors = FormErrors::one("", LAST.of(visit.lang));
        return invalid(console, visit, name, &errors, None).await;
    }
    table.insert(String::from("secrets"), Value::Array(left));
    // With the version of the form, because the id may belong to another secret by now.
    let edit = Edit { name, version: managed::version_of(form), table: &table };
    write(console, visit, edit, Done::Saved, None).await
}

/// The secrets of a table.
fn list(table: &Table) -> Vec<Value> {
    match table.get("secrets") {
        Some(Value::Array(list)) => list.clone(),
        Some(one) => vec![one.clone()],
        None => Vec::new(),
    }
}

fn has_ended(secret: &Value, now: UnixMillis) -> bool {
    let until = secret["until"].as_str().and_then(fields::time);
    until.is_some_and(|until| until <= now)
}
