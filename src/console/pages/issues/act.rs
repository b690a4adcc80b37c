//! Acts on all callbacks of an issue, with their number first and an account afterwards.

use maud::{Markup, html};

use super::groups::{Group, Groups, IssueKind, Key, Thing};
use super::path_of;
use crate::clock::now_ms;
use crate::console::app::Console;
use crate::console::area::Area;
use crate::console::components::facts::facts;
use crate::console::components::form::{self, Field};
use crate::console::components::notice::{Tone, notice};
use crate::console::components::value;
use crate::console::fields::Fields;
use crate::console::page_error::PageError;
use crate::console::reply::{PageResult, Reply};
use crate::console::text::{Text, texts};
use crate::console::visit::Visit;
use crate::ledger::{Decision, HeldId, ReplayId};
use crate::operator::{DecideError, decide_held};
use crate::registry::ChangeError;

/// Callbacks of one act: each decision costs a sync.
const ACT_MAX: usize = 200;

texts! {
    ACTIONS = "What to do", "处理方式";
    REPLAY = "Replay {} events…", "重新投递 {} 个事件……";
    REPLAY_WHAT = "After the destination is repaired. The next page asks before anything is delivered.", "修复投递目标后使用。下一页会先确认，再投递。";
    RELEASE_OPEN = "Release {} callbacks…", "放行 {} 个回调……";
    RELEASE = "Release {} callbacks", "放行 {} 个回调";
    RELEASE_WHAT = "Creates an event of each with its original time of receipt, and delivers it: the players get the rewards.", "以原接收时间为每个回调创建事件并投递：玩家会得到奖励。";
    DROP_OPEN = "Drop {} callbacks…", "丢弃 {} 个回调……";
    DROP = "Drop {} callbacks without delivery", "丢弃 {} 个回调，不投递";
    RESOLVE_OPEN = "Mark {} as resolved…", "将 {} 个标记为已处理……";
    RESOLVE = "Mark {} as resolved", "将 {} 个标记为已处理";
    REASON = "Reason, for the audit log", "原因（记入审计日志）";
    NOTE = "Note", "处理说明";
    OUTCOME = "Result", "结果";
    DONE = "Done", "已完成";
    ALREADY = "Decided before", "此前已决定";
    NEEDS_REASON = "Not released: never verified, so a reason is needed", "未放行：从未通过验签，须填写原因";
    FAILED = "Not done", "未完成";
    LEFT = "Left: at most {} at once", "剩余：每次最多 {} 个";
    BACK = "Back to the issue", "返回该问题";
    EMPTY_NOTE = "Nothing was done: describe what was done.", "未执行：请填写处理说明。";
}

/// The forms of an issue.
pub(super) fn section(visit: &Visit, group: &Group) -> Markup {
    let lang = visit.lang;
    let may = match group.key.kind {
        IssueKind::Held => visit.viewer.may_change(),
        IssueKind::Dead | IssueKind::Rejected => visit.viewer.may_support(),
    };
    if !may {
        return form::change(visit, "", &html! {});
    }
    let all = group.samples.len();
    let most = value::count(all.min(ACT_MAX) as u64);
    html! {
        section aria-labelledby="actions" {
            h2 #actions { (ACTIONS.of(lang)) }
            @match group.key.kind {
                IssueKind::Dead => { (replay(visit, group)) (resolve(visit, group, &most)) },
                IssueKind::Rejected => (resolve(visit, group, &most)),
                IssueKind::Held => {
                    (decide(visit, group, &most, Decision::Release))
                    (decide(visit, group, &most, Decision::Drop))
                },
            }
        }
    }
}

/// The key of the issue as hidden fields.
fn key(key: &Key) -> Markup {
    html! { @for (name, value) in key.pairs() { input type="hidden" name=(name) value=(value); } }
}

fn replay(visit: &Visit, group: &Group) -> Markup {
    let lang = visit.lang;
    let action = format!("{}/replay", Area::DeadLetters.path());
    let events = group.samples.iter().filter_map(|sample| match sample.thing {
        Thing::Event(id) => Some(id),
        Thing::Held(_) | Thing::Rejection(..) => None,
    });
    form::to(
        visit,
        &action,
        &html! {
            input type="hidden" name="order" value=(ReplayId::new(now_ms()));
            input type="hidden" name="which" value="selected";
            @if let Some(name) = &group.key.destination { input type="hidden" name="destination" value=(name); }
            @for id in events { input type="hidden" name="event" value=(id); }
            p.hint #replay-hint { (REPLAY_WHAT.of(lang)) }
            button type="submit" aria-describedby="replay-hint" {
                (REPLAY.fill(lang, &[&value::count(group.samples.len() as u64)]))
            }
        },
    )
}

fn resolve(visit: &Visit, group: &Group, most: &str) -> Markup {
    let lang = visit.lang;
    let action = format!("{}/resolve", Area::Issues.path());
    html! {
        details {
            summary { (RESOLVE_OPEN.fill(lang, &[&most])) }
            (form::to(visit, &action, &html! {
                (key(&group.key))
                (Field::new("note", NOTE).show_area(lang, 2))
                button type="submit" { (RESOLVE.fill(lang, &[&most])) }
            }))
        }
    }
}

fn decide(visit: &Visit, group: &Group, most: &str, decision: Decision) -> Markup {
    let lang = visit.lang;
    let (verb, open, button) = match decision {
        Decision::Release | Decision::Settle => ("release", RELEASE_OPEN, RELEASE),
        Decision::Drop => ("drop", DROP_OPEN, DROP),
    };
    let field = format!("{verb}-reason");
    html! {
        details {
            summary { (open.fill(lang, &[&most])) }
            (form::to(visit, &format!("{}/{verb}", Area::Issues.path()), &html! {
                (key(&group.key))
                @if verb == "release" { p.hint { (RELEASE_WHAT.of(lang)) } }
                div.field {
                    label for=(field) { (REASON.of(lang)) }
                    input id=(field) name="reason" autocomplete="off";
                }
                button.danger[verb == "drop"] type="submit" { (button.fill(lang, &[&most])) }
            }))
        }
    }
}

/// The result of an act, by callback.
#[derive(Default)]
struct Account {
    done: u64,
    already: u64,
    needs_reason: u64,
    failed: u64,
    left: u64,
}

/// Acts on the callbacks of the issue `wanted`, up to [`ACT_MAX`], and counts the results.
pub(super) async fn all(
    console: &Console,
    visit: &Visit,
    wanted: &Key,
    form: &Fields,
) -> PageResult {
    let lang = visit.lang;
    let query = Fields::read(
        crate::console::fields::query(&wanted.pairs()).trim_start_matches('?').as_bytes(),
    );
    let groups = Groups::of(console, &query).await?;
    let group = groups.all.iter().find(|group| group.key == *wanted);
    let group = group.ok_or(PageError::Bad(super::GONE))?;
    let verb = visit.rest.first().map(String::as_str);
    let left = group.samples.len().saturating_sub(ACT_MAX) as u64;
    let mut account = Account { left, ..Account::default() };
    if verb == Some("resolve") && form.text("note").is_none() {
        let middle = html! {
            (notice(Tone::Bad, EMPTY_NOTE.of(lang)))
            p { a href=(path_of(wanted)) { (BACK.of(lang)) } }
        };
        return Ok(Reply::Invalid(OUTCOME.of(lang).to_owned(), middle));
    }
    for sample in group.samples.iter().take(ACT_MAX) {
        match (&sample.thing, verb) {
            (Thing::Held(id), Some("release")) => {
                decided(console, visit, (*id, Decision::Release), form, &mut account).await?;
            }
            (Thing::Held(id), Some("drop")) => {
                decided(console, visit, (*id, Decision::Drop), form, &mut account).await?;
            }
            (Thing::Event(_) | Thing::Rejection(..), Some("resolve")) => {
                let Some(subject) = sample.subject() else { continue };
                let (registry, who) = (&console.tools.registry, &visit.viewer.who);
                let note = form.text("note").unwrap_or_default();
                match registry.resolve(who, &subject, &wanted.source, note).await {
                    Ok(()) => account.done += 1,
                    Err(ChangeError::Refused(_)) => account.failed += 1,
                    Err(ChangeError::Ledger(error)) => return Err(error.into()),
                }
            }
            _ => return Err(PageError::Method),
        }
    }
    Ok(Reply::Page(OUTCOME.of(lang).to_owned(), shown(visit, wanted, &account)))
}

async fn decided(
    console: &Console,
    visit: &Visit,
    order: (HeldId, Decision),
    form: &Fields,
    account: &mut Account,
) -> Result<(), PageError> {
    let registry = &console.tools.registry;
    let tools = (registry, &console.tools.gate);
    match decide_held(tools, &visit.viewer.who, order, form.text("reason")).await {
        Ok(_) => account.done += 1,
        Err(DecideError::Ledger(error)) => return Err(error.into()),
        Err(DecideError::Already(_) | DecideError::Unknown) => account.already += 1,
        Err(DecideError::NoReason) => account.needs_reason += 1,
        Err(DecideError::Unreadable(_) | DecideError::Full) => account.failed += 1,
    }
    Ok(())
}

fn shown(visit: &Visit, key: &Key, account: &Account) -> Markup {
    let lang = visit.lang;
    let counts: [(Text, u64); 4] = [
        (DONE, account.done),
        (ALREADY, account.already),
        (NEEDS_REASON, account.needs_reason),
        (FAILED, account.failed),
    ];
    let some = counts.into_iter().filter(|(name, count)| *count > 0 || *name == DONE);
    let all: Vec<(Text, Markup)> =
        some.map(|(name, count)| (name, html! { b { (value::count(count)) } })).collect();
    html! {
        (facts(lang, &all))
        @if account.left > 0 { p { (LEFT.fill(lang, &[&ACT_MAX])) ": " (value::count(account.left)) } }
        p { a href=(path_of(key)) { (BACK.of(lang)) } " · " a href=(Area::Issues.path()) { (super::ALL.of(lang)) } }
    }
}
