//! A background check, derived from the callbacks about it.
//!
//! Only the events are stored: a record has the latest values, and no accepted callback can be
//! missing in it.

use constant_time_eq::constant_time_eq;
use md5::{Digest as _, Md5};
use serde_json::{Map, Value};

use super::SENDER;
use super::settings::Company;
use crate::config::Config;
use crate::ledger::{BatchedLedger, EventBody, LedgerError, LogQuery, Logged, SourceId};

/// Callbacks about one check that are read, the newest: a check has some dozens.
const EVENTS_MAX: usize = 1_000;

/// Words for the state of a check that runs, and of an item that is done.
const RUNNING: [&str; 4] = ["40", "running", "进行中", "调查中"];
const DONE: [&str; 6] = ["50", "done", "finished", "completed", "已完成", "完成"];

/// A background check.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    /// Its number.
    pub number: String,
    /// The person.
    pub person: Option<String>,
    /// The latest state.
    state: Option<String>,
    /// The items, in the order of their first callbacks.
    items: Vec<Item>,
}

/// One item of a check.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Item {
    /// The item's name.
    pub name: String,
    state: Option<String>,
    /// The conclusion.
    pub conclusion: Option<String>,
    /// The remarks.
    pub remarks: Option<String>,
}

impl Record {
    /// The check with that number, as callbacks say that the company's token signed.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub(super) async fn read(
        ledger: &BatchedLedger,
        config: &Config,
        company: &Company,
        number: &str,
    ) -> Result<Option<Self>, LedgerError> {
        let mut events = Vec::new();
        let of = |name: &str| name == SENDER;
        for source in config.sources.values().filter(|one| of(one.recipe.sender().name())) {
            let id = SourceId::from(source.id.as_str());
            events.extend(about(ledger, id, number).await?);
        }
        events.sort_unstable_by_key(|event| event.id);
        let mut record = None;
        for event in &events {
            let Ok(kept) = EventBody::decode(&event.body) else { continue };
            if is_of(&kept, company)
                && let Some(told) = members(&kept)
            {
                let own = || Self { number: number.to_owned(), ..Self::default() };
                record.get_or_insert_with(own).hear(&told);
            }
        }
        Ok(record)
    }

    /// Whether it runs.
    pub(super) fn is_running(&self) -> bool {
        self.state.as_deref().is_some_and(|state| is_one_of(&RUNNING, state))
    }

    /// The items that are done.
    pub(super) fn finished(&self) -> impl Iterator<Item = &Item> {
        let done = |item: &&Item| item.state.as_deref().is_some_and(|s| is_one_of(&DONE, s));
        self.items.iter().filter(done)
    }

    /// Applies one callback. Values that it does not name stay.
    fn hear(&mut self, told: &Map<String, Value>) {
        let said = |names: &[&str]| names.iter().find_map(|name| text(told.get(*name)?));
        self.person = said(&["person", "name", "candidateName"]).or(self.person.take());
        self.state = said(&["status", "state"]).or(self.state.take());
        for item in told.get("items").and_then(Value::as_array).into_iter().flatten() {
            if let Some(item) = Item::read(item) {
                match self.items.iter_mut().find(|known| known.name == item.name) {
                    Some(known) => known.hear(item),
                    None => self.items.push(item),
                }
            }
        }
    }
}

impl Item {
    fn read(told: &Value) -> Option<Self> {
        let said = |names: &[&str]| names.iter().find_map(|name| text(told.get(*name)?));
        Some(Self {
            name: said(&["name", "item", "itemName"])?,
            state: said(&["state", "status"]),
            conclusion: said(&["conclusion", "result"]),
            remarks: said(&["remarks", "remark"]),
        })
    }

    fn hear(&mut self, newer: Self) {
        self.state = newer.state.or(self.state.take());
        self.conclusion = newer.conclusion.or(self.conclusion.take());
        self.remarks = newer.remarks.or(self.remarks.take());
    }
}

async fn about(
    ledger: &BatchedLedger,
    source: SourceId,
    number: &str,
) -> Result<Vec<Logged>, LedgerError> {
    let query =
        LogQuery { source: Some(source), user: Some(number.to_owned()), ..LogQuery::default() };
    let (mut events, mut cursor) = (Vec::new(), None);
    loop {
        let page = ledger.query(&query, cursor.as_ref(), EVENTS_MAX).await?;
        events.extend(page.events);
        cursor = page.next;
        if cursor.is_none() || events.len() >= EVENTS_MAX {
            return Ok(events);
        }
    }
}

/// Whether a callback was made under the company's key, and signed with its token: several
/// companies may have one source.
fn is_of(kept: &EventBody, company: &Company) -> bool {
    let field = |name: &str| {
        let mut all = kept.request.headers.iter().filter(|(known, _)| known.as_str() == name);
        all.next().map_or(&b""[..], |(_, value)| value.as_bytes())
    };
    let (key, sign) = (field("key"), field("sign"));
    let mut given = [0; 16];
    let right: [u8; 16] =
        Md5::digest([key, field("ts"), field("seq"), company.token.expose()].concat()).into();
    constant_time_eq(key, company.key.expose())
        && const_hex::decode_to_slice(sign, &mut given).is_ok()
        && constant_time_eq(&given, &right)
}

/// The members of the callback's JSON.
fn members(kept: &EventBody) -> Option<Map<String, Value>> {
    serde_json::from_slice(&kept.request.body).ok()
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.trim().is_empty() => Some(text.trim().to_owned()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn is_one_of(words: &[&str], word: &str) -> bool {
    words.iter().any(|known| known.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_record_is_what_its_callbacks_say_one_after_the_other() {
        let mut record = Record::default();
        let mut hear = |told: Value| record.hear(told.as_object().unwrap());
        hear(
            json!({ "person": "张三", "status": 40, "items": [{ "name": "学历", "state": 40 }, {}] }),
        );
        hear(json!({ "items": [
            { "name": "学历", "state": "50", "conclusion": "属实", "remarks": "无" },
            { "name": "工作", "state": 40 },
        ] }));
        hear(json!({ "items": [{ "name": "学历", "remarks": "再核" }] }));
        assert!(record.is_running());
        let done: Vec<&Item> = record.finished().collect();
        assert_eq!(done.len(), 1);
        assert_eq!(
            (done[0].conclusion.as_deref(), done[0].remarks.as_deref()),
            (Some("属实"), Some("再核"))
        );
        record.hear(json!({ "status": 50 }).as_object().unwrap());
        assert!(!record.is_running());
        assert_eq!(record.person.as_deref(), Some("张三"));
    }
}
