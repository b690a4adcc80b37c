//! Acts on all callbacks of an issue, with their number first and an account afterwards.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::groups::{Group, Groups, IssueKind, Key, Thing};
use super::{path_of, release};
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
use crate::intake::ReleaseProgress;
use crate::ledger::{Decision, EventId, ReplayId};
use crate::operator::{DecideError, HeldDecision, decide_held};
use crate::orders::Account;
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
    RESOLVE_OPEN = "Mark {} as resolved…", "将这 {} 个回调标记为已处理……";
    RESOLVE = "Mark {} as resolved", "将这 {} 个回调标记为已处理";
    REASON = "Reason, for the audit log", "原因（记入审计日志）";
    NOTE = "Note", "处理说明";
    OUTCOME = "Result", "结果";
    DONE = "Done", "已完成";
    ALREADY = "Decided before", "此前已决定";
    NEEDS_REASON = "Not released: never verified, so a reason is needed", "未放行：从未通过验签，须填写原因";
    FAILED = "Not done", "未完成";
    LEFT = "Left for another time", "剩余，可再次执行";
    RELEASED = "Released", "已放行";
    DUPLICATES = "Transaction already known", "交易已存在";
    DISPUTED = "Held as a dispute", "因有争议而隔离";
    REFUSED = "Refused again, still held", "再次被拒绝，仍被隔离";
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

/// The results of an act, by callback.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Decisions {
    done: u64,
    already: u64,
    needs_reason: u64,
    failed: u64,
    left: u64,
}

impl Decisions {
    const fn named(&self) -> [(&'static str, Text, u64); 5] {
        [
            (ReleaseProgress::RELEASED, DONE, self.done),
            ("already", ALREADY, self.already),
            ("needs_reason", NEEDS_REASON, self.needs_reason),
            ("failed", FAILED, self.failed),
            ("left", LEFT, self.left),
        ]
    }

    /// The numbers of the account of a release.
    pub(super) fn numbers(&self) -> BTreeMap<String, u64> {
        let seen = self.done + self.already + self.needs_reason + self.failed;
        let seen = (ReleaseProgress::SEEN, seen);
        let named = self.named().map(|(name, _, count)| (name, count));
        let all = named.into_iter().chain([seen]);
        all.map(|(name, count)| (name.to_owned(), count)).collect()
    }

    fn facts(&self) -> Vec<(Text, Markup)> {
        occurred(self.named().map(|(_, name, count)| (name, count)))
    }
}

/// The results of a release by its account, for a list of facts. It was ordered here or by the API.
pub(super) fn results(account: &Account) -> Vec<(Text, Markup)> {
    let of_api = ReleaseProgress::OTHER_NUMBERS.into_iter().zip([DUPLICATES, DISPUTED, REFUSED]);
    let of_console = Decisions::default().named().map(|(name, text, _)| {
        (name, if name == ReleaseProgress::RELEASED { RELEASED } else { text })
    });
    let all = of_console.into_iter().chain(of_api);
    occurred(all.map(|(name, text)| (text, account.number(name))))
}

/// The results that occurred, the first one in any case.
fn occurred(all: impl IntoIterator<Item = (Text, u64)>) -> Vec<(Text, Markup)> {
    let some = all.into_iter().enumerate().filter(|(at, (_, count))| *at == 0 || *count > 0);
    some.map(|(_, (name, count))| (name, html! { b { (value::count(count)) } })).collect()
}

/// Acts on the callbacks of the issue `wanted`, up to [`ACT_MAX`], and counts the results.
pub(super) async fn all(
    console: &Console,
    visit: &Visit,
    wanted: &Key,
    form: &Fields,
) -> PageResult {
    let lang = visit.lang;
    let groups = Groups::of(console, &Fields::of(&wanted.pairs())).await?;
    let group = groups.all.iter().find(|group| group.key == *wanted);
    let group = group.ok_or(super::IS_GONE)?;
    let verb = visit.rest.first().map(String::as_str);
    if verb == Some("resolve") && form.text("note").is_none() {
        let middle = html! {
            (notice(Tone::Bad, EMPTY_NOTE.of(lang)))
            p { a href=(path_of(wanted)) { (BACK.of(lang)) } }
        };
        return Ok(Reply::Invalid(OUTCOME.of(lang).to_owned(), middle));
    }
    let left = group.samples.len().saturating_sub(ACT_MAX) as u64;
    let mut decisions = Decisions { left, ..Decisions::default() };
    let mut events = Vec::new();
    let reason = form.text("reason");
    for sample in group.samples.iter().take(ACT_MAX) {
        match (&sample.thing, verb) {
            (Thing::Held(id), Some("release")) => {
                let order = HeldDecision { id: *id, decision: Decision::Release, reason };
                events.extend(decided(console, visit, order, &mut decisions).await?);
            }
            (Thing::Held(id), Some("drop")) => {
                let order = HeldDecision { id: *id, decision: Decision::Drop, reason };
                decided(console, visit, order, &mut decisions).await?;
            }
            (Thing::Event(_) | Thing::Rejection(..), Some("resolve")) => {
                let Some(subject) = sample.subject() else { continue };
                let (registry, who) = (&console.tools.registry, &visit.viewer.who);
                let note = form.text("note").unwrap_or_default();
                match registry.resolve(who, &subject, &wanted.source, note).await {
                    Ok(()) => decisions.done += 1,
                    Err(ChangeError::Refused(_)) => decisions.failed += 1,
                    Err(ChangeError::Ledger(error)) => return Err(error.into()),
                }
            }
            _ => return Err(PageError::Method),
        }
    }
    if verb == Some("release") {
        let path = release::keep(console, &wanted.source, &events, &decisions).await?;
        return Ok(Reply::Redirect(path));
    }
    Ok(Reply::Page(OUTCOME.of(lang).to_owned(), shown(visit, wanted, &decisions)))
}

/// Decides about a callback; returns the event that it is now.
async fn decided(
    console: &Console,
    visit: &Visit,
    order: HeldDecision<'_>,
    decisions: &mut Decisions,
) -> Result<Option<EventId>, PageError> {
    let (registry, handler) = (&console.tools.registry, &console.tools.callback_handler);
    match decide_held(registry, handler, &visit.viewer.who, order).await {
        Ok(mark) => {
            decisions.done += 1;
            return Ok(mark.event);
        }
        Err(DecideError::Ledger(error)) => return Err(error.into()),
        Err(DecideError::Already(_) | DecideError::Unknown) => decisions.already += 1,
        Err(DecideError::NoReason) => decisions.needs_reason += 1,
        Err(DecideError::Unreadable(_) | DecideError::Full) => decisions.failed += 1,
    }
    Ok(None)
}

fn shown(visit: &Visit, key: &Key, decisions: &Decisions) -> Markup {
    let lang = visit.lang;
    html! {
        (facts(lang, &decisions.facts()))
        p { a href=(path_of(key)) { (BACK.of(lang)) } " · " a href=(Area::Issues.path()) { (super::ALL.of(lang)) } }
    }
}
