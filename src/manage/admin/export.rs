//! Everything that the ledger keeps, page by page: what `postern export` asks a gateway for.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::request::Parts;
use http::{HeaderName, HeaderValue, StatusCode};

use super::{Admin, query};
use crate::clock::instant;
use crate::ledger::{Cursor, Item, MasterKey};
use crate::manage::http::{Answered, Query, with_body};
use crate::registry::{Action, Actor, AuditSubject};

const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// Bytes of a page, about: one event more than that.
const PAGE: usize = 1 << 20;

/// How long the pages that one actor reads are one export for the audit log: an increment begins with a
/// cursor, as any later page does.
const ONE_EXPORT: Duration = Duration::from_secs(3600);

/// When each actor's exports were noted last. As many as there are admin tokens.
#[derive(Debug, Default)]
pub(super) struct NotedExports(Mutex<HashMap<String, Instant>>);

impl NotedExports {
    /// Whether a page that `who` reads begins another export.
    fn is_another(&self, who: &Actor, cursor: Option<&Cursor>) -> bool {
        let noted =
            self.0.lock().unwrap_or_else(PoisonError::into_inner).get(who.as_str()).copied();
        cursor.is_none() || noted.is_none_or(|at| at.elapsed() >= ONE_EXPORT)
    }

    fn note(&self, who: &Actor) {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        noted.insert(who.as_str().to_owned(), instant());
    }
}

/// Where the next page begins; absent on the last one.
pub(crate) const NEXT: HeaderName = HeaderName::from_static("postern-next");

/// The master key that the gateway seals with, by its id.
pub(crate) const KEY: HeaderName = HeaderName::from_static("postern-key");

impl Admin {
    pub(super) async fn export(&self, head: &Parts, who: &Actor) -> Answered {
        let query = Query::read(query(head), &["cursor"])?;
        let cursor = query
            .read_as("cursor", "the postern-next of a page", |text| text.parse::<Cursor>().ok())?;
        if self.exports.is_another(who, cursor.as_ref()) {
            self.registry.note(who, Action::Exported, AuditSubject::new("store", "export")).await?;
            self.exports.note(who);
        }
        let page = self.ledger.export(cursor.as_ref(), PAGE).await?;
        let mut answer = with_body(StatusCode::OK, OCTETS, Item::encode(&page.items));
        let config = self.config();
        let key = config.store.master_key.as_ref().and_then(MasterKey::of);
        let said = [
            (NEXT, page.next.map(|next| next.to_string())),
            (KEY, key.map(|key| key.id().to_string())),
        ];
        for (name, text) in said {
            if let Some(value) = text.and_then(|text| HeaderValue::try_from(text).ok()) {
                answer.headers_mut().insert(name, value);
            }
        }
        Ok(answer)
    }
}
