//! The audit log: who changed what, and when.

use http::request::Parts;
use serde::Serialize;

use super::{Admin, query};
use crate::manage::http::{Answered, Query, json};
use crate::operator::View;
use crate::registry::{AuditQuery, Entry, audit_log};

pub(super) const PARAMETERS: [&str; 2] = ["limit", "cursor"];

#[derive(Serialize)]
struct Page {
    audit: Vec<Entry>,
    next_cursor: Option<String>,
}

impl Admin {
    pub(super) async fn audit(&self, view: &View, head: &Parts) -> Answered {
        let query = Query::read(query(head), &PARAMETERS)?;
        let limit = query.limit()?;
        let query = AuditQuery { before: query.cursor()?, ..AuditQuery::default() };
        let page = audit_log(&self.ledger, query, limit, |entry| view.sees_entry(entry)).await;
        let (audit, next) = page?;
        Ok(json(&Page { audit, next_cursor: next.map(|number| number.to_string()) }))
    }
}
