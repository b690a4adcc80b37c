//! Sources and destinations: shown, written and removed, with versions.

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde_json::{Map, Value};

use super::Admin;
use crate::clock::rfc3339;
use crate::config::Origin;
use crate::manage::http::{Answered, ApiError, FieldError, json};
use crate::operator::View;
use crate::registry::{Actor, ChangeError, DocumentError, Managed, Precondition, RunningConfig};
use crate::sender::{Outcome, Reason};
use crate::telemetry::History;
use crate::wire::Response;

impl Admin {
    pub(super) fn list(&self, view: &View, managed: Managed) -> Answered {
        let state = self.registry.running();
        let name = format!("{}s", managed.as_str());
        let mut list = state.list(managed);
        list.retain(|one| one["name"].as_str().is_some_and(|name| view.sees_named(name)));
        for one in &mut list {
            self.add_counts(&state, managed, one);
        }
        let page = [(name, Value::Array(list)), cursor()];
        Ok(json(&Map::from_iter(page)))
    }

    pub(super) fn show(&self, view: &View, managed: Managed, name: &str) -> Answered {
        let state = self.registry.running();
        let shown = self.shown(&state, managed, name).filter(|_| view.sees_named(name));
        shown.ok_or_else(|| ApiError::absent(format!("there is no {} {name}", managed.as_str())))
    }

    pub(super) async fn put(
        &self,
        who: &Actor,
        managed: Managed,
        name: &str,
        head: &Parts,
        body: &Bytes,
    ) -> Answered {
        let precondition = precondition(&head.headers)?;
        let table: Map<String, Value> = serde_json::from_slice(body)
            .map_err(|error| ApiError::bad(format!("the body is not a JSON object: {error}")))?;
        let written = self.registry.put(who, managed, name, &table, &precondition).await;
        let written = written.map_err(|failed| told(managed, name, failed))?;
        let state = self.registry.running();
        let mut answer = self
            .shown(&state, managed, &written.name)
            .ok_or_else(|| ApiError::absent("it was deleted by another request"))?;
        if written.created {
            *answer.status_mut() = StatusCode::CREATED;
        }
        if written.created || written.name != name {
            let place = format!("/admin/v1/{}s/{}", managed.as_str(), written.name);
            put_header(&mut answer, header::LOCATION, &place);
        }
        Ok(answer)
    }

    pub(super) async fn remove(
        &self,
        who: &Actor,
        managed: Managed,
        name: &str,
        head: &Parts,
    ) -> Answered {
        let precondition = precondition(&head.headers)?;
        let removed = self.registry.remove(who, managed, name, &precondition).await;
        removed.map_err(|failed| told(managed, name, failed))?;
        let mut answer = Response::default();
        *answer.status_mut() = StatusCode::NO_CONTENT;
        Ok(answer)
    }
}

impl Admin {
    fn shown(&self, state: &RunningConfig, managed: Managed, name: &str) -> Option<Response> {
        let mut one = state.show(managed, name)?;
        self.add_counts(state, managed, &mut one);
        let mut answer = json(&one);
        if let Some(version) = state.version(managed, name) {
            put_header(&mut answer, header::ETAG, &format!("\"{}\"", version.0));
        }
        Some(answer)
    }

    /// Adds what is known of the callbacks of a source, on all gateways.
    fn add_counts(&self, state: &RunningConfig, managed: Managed, one: &mut Value) {
        let name = one.get("name").and_then(Value::as_str).unwrap_or_default();
        let Some(source) = state.config.sources.get(name) else { return };
        let (Managed::Source, Value::Object(table)) = (managed, one) else { return };
        let history = self.metrics.histories.find(&source.label());
        let history = history.as_deref();
        let last = history.and_then(History::last_ms).map(rfc3339);
        let some = |name: &'static str, count: u64| (count > 0).then(|| (name, Value::from(count)));
        let counts = Outcome::ALL.iter().filter_map(|outcome| {
            some(outcome.as_str(), history.map_or(0, |history| history.total(*outcome)))
        });
        let rejections = Reason::ALL.iter().filter_map(|reason| {
            some(reason.as_str(), history.map_or(0, |history| history.rejected(*reason)))
        });
        table.insert(String::from("last_callback_at"), last.into());
        table.insert(String::from("counts"), counts.collect());
        table.insert(String::from("rejections"), rejections.collect());
    }
}

/// Lists are pages, also those that are all on one.
fn cursor() -> (String, Value) {
    (String::from("next_cursor"), Value::Null)
}

fn put_header(answer: &mut Response, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        answer.headers_mut().insert(name, value);
    }
}

fn told(managed: Managed, name: &str, failed: ChangeError<DocumentError>) -> ApiError {
    let word = managed.as_str();
    let refusal = match failed {
        ChangeError::Ledger(error) => return error.into(),
        ChangeError::Refused(refusal) => refusal,
    };
    let conflict = |detail: String| ApiError::new(StatusCode::CONFLICT, detail);
    match refusal {
        DocumentError::Absent => ApiError::absent(format!("there is no {word} {name}")),
        DocumentError::Foreign(Origin::File) => {
            conflict(format!("the {word} {name} stands in the configuration file; change it there"))
        }
        DocumentError::Foreign(origin) => {
            let api = origin.as_str();
            conflict(format!("the {word} {name} belongs to the API {api}; change it there"))
        }
        DocumentError::Taken(other) => conflict(format!("{other} is the name of another {word}")),
        DocumentError::Used(sources) => {
            conflict(format!("the {word} {name} is used by {}", sources.join(", ")))
        }
        DocumentError::Stale(version) => {
            let now = version.map_or_else(
                || format!("there is no {word} {name}"),
                |version| format!("the {word} {name} is at version {version}"),
            );
            ApiError::new(StatusCode::PRECONDITION_FAILED, now)
        }
        DocumentError::Wrong(findings) => {
            let slips = findings.into_iter().map(|finding| FieldError {
                key: finding.key,
                detail: finding.what,
                remedy: finding.remedy,
            });
            ApiError::invalid(slips.collect())
        }
    }
}

/// The precondition of the request: `If-Match`, or `If-None-Match: *`.
fn precondition(headers: &HeaderMap) -> Result<Precondition, ApiError> {
    let (matches, none) =
        (listed(headers, &header::IF_MATCH)?, listed(headers, &header::IF_NONE_MATCH)?);
    match (matches.as_deref(), none.as_deref()) {
        (None, None) => Ok(Precondition::None),
        (Some(["*"]), None) => Ok(Precondition::Present),
        (None, Some(["*"])) => Ok(Precondition::Absent),
        (Some(tags), None) => {
            // A tag that is not ours names no version.
            let version = |tag: &&str| tag.strip_prefix('"')?.strip_suffix('"')?.parse().ok();
            Ok(Precondition::OneOf(tags.iter().filter_map(version).collect()))
        }
        _ => Err(ApiError::bad("write If-Match with the ETag that was read, or If-None-Match: *")),
    }
}

fn listed<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<Vec<&'h str>>, ApiError> {
    let mut all = Vec::new();
    for value in headers.get_all(name) {
        let text = value.to_str().map_err(|_| ApiError::bad(format!("{name} cannot be read")))?;
        all.extend(text.split(',').map(str::trim));
    }
    Ok((!all.is_empty()).then_some(all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preconditions() {
        let read = |name: &'static str, value: &str| {
            let headers = HeaderMap::from_iter([(
                HeaderName::from_static(name),
                HeaderValue::from_str(value).unwrap(),
            )]);
            precondition(&headers).map_err(|problem| problem.response().status())
        };
        assert_eq!(read("if-match", "\"7\", \"9\""), Ok(Precondition::OneOf(vec![7, 9])));
        assert_eq!(read("if-match", "*"), Ok(Precondition::Present));
        assert_eq!(read("if-match", "W/\"7\""), Ok(Precondition::OneOf(vec![])));
        assert_eq!(read("if-none-match", "*"), Ok(Precondition::Absent));
        assert_eq!(read("if-none-match", "\"7\""), Err(StatusCode::BAD_REQUEST));
        assert_eq!(precondition(&HeaderMap::new()).unwrap(), Precondition::None);
    }
}
