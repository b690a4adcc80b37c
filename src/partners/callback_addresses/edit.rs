//! Changes of callback addresses, by the API and by the console.

use serde_json::json;

use super::document::{Address, CALLBACK_ADDRESS};
use crate::config::{Config, check_origin};
use crate::registry::{Actor, AuditView, ChangeError, Registry, StoredDocument, check_reach};

/// Bytes of a URL: the common limit of servers.
const URL_BYTES_MAX: usize = 8 * 1024;

/// Digits of a number of codes or reports.
const DIGITS_MAX: usize = 18;

/// A change of an address. Fields that are `None` stay.
#[derive(Clone, Debug, Default)]
pub(crate) struct Change {
    pub notify_url: Option<Option<String>>,
    pub code_number: Option<String>,
    pub report_number: Option<String>,
}

impl Change {
    fn on(self, old: Address) -> Address {
        Address {
            notify_url: self.notify_url.unwrap_or(old.notify_url),
            code_number: self.code_number.or(old.code_number),
            report_number: self.report_number.or(old.report_number),
        }
    }
}

/// The id of the address of a company for one assessment.
pub(crate) fn key(company: u64, prefix: &str) -> String {
    format!("{company}/{prefix}")
}

/// Whether a text is a number of codes or reports.
pub(crate) fn is_count(text: &str) -> bool {
    (1..=DIGITS_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The URL as it is stored; `None` if the text is empty.
///
/// # Errors
/// The reason that it cannot be called.
pub(crate) fn checked_url(config: &Config, text: &str) -> Result<Option<String>, String> {
    let text = text.trim();
    if text.is_empty() || text == "null" {
        return Ok(None);
    }
    if text.len() > URL_BYTES_MAX {
        return Err(format!("has more than {URL_BYTES_MAX} bytes"));
    }
    check_origin(text)?;
    if text.contains('#') || text.parse::<http::Uri>().is_err() {
        return Err(String::from("is not a plain URL; percent-encode it"));
    }
    check_reach(config, text)?;
    Ok(Some(text.to_owned()))
}

/// The state that an address must have before it is set.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Expected {
    /// Any state.
    Any,
    /// No URL is set.
    Unset,
    /// This version.
    Version(u64),
}

/// The address does not have the expected state.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stale;

impl Expected {
    fn holds(self, now: Option<&StoredDocument<Address>>) -> bool {
        match self {
            Self::Any => true,
            Self::Unset => now.is_none_or(|now| now.value.notify_url.is_none()),
            Self::Version(version) => now.is_some_and(|now| now.version.0 == version),
        }
    }
}

/// Applies `change` to the address called `key`.
///
/// # Errors
/// The address does not have the expected state, or the ledger cannot record the change.
pub(crate) async fn set(
    registry: &Registry,
    who: &Actor,
    key: &str,
    expected: Expected,
    change: &Change,
) -> Result<(), ChangeError<Stale>> {
    let written = registry.write(who, |state, draft| {
        let old = state.documents.addresses.get(key);
        if !expected.holds(old) {
            return Err(ChangeError::Refused(Stale));
        }
        let before = old.map(|old| Address::clone(&old.value));
        let after = change.clone().on(before.clone().unwrap_or_default());
        if before.as_ref() != Some(&after) {
            let (before, after_shown) = (before.map(|before| json!(before)), json!(after));
            let told = AuditView { before: before.as_ref(), after: Some(&after_shown) };
            draft.put(CALLBACK_ADDRESS, key, old, &after, &told)?;
        }
        Ok(())
    });
    written.await
}
