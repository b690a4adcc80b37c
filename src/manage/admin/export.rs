//! Everything that the ledger keeps, page by page: what `postern export` asks a gateway for.

use http::request::Parts;
use http::{HeaderName, HeaderValue, StatusCode};

use super::{Admin, query};
use crate::ledger::{Cursor, Item, MasterKey};
use crate::manage::http::{Answered, Query, with_body};

const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// Bytes of a page, about: one event more than that.
const PAGE: usize = 1 << 20;

/// Where the next page begins; absent on the last one.
pub(crate) const NEXT: HeaderName = HeaderName::from_static("postern-next");

/// The master key that the gateway seals with, by its id.
pub(crate) const KEY: HeaderName = HeaderName::from_static("postern-key");

impl Admin {
    pub(super) async fn export(&self, head: &Parts) -> Answered {
        let query = Query::read(query(head), &["cursor"])?;
        let cursor = query
            .read_as("cursor", "the postern-next of a page", |text| text.parse::<Cursor>().ok())?;
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
