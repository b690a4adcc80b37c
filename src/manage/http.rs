//! Requests and responses of handlers: JSON, problem details (RFC 9457), query parameters.

use std::collections::HashMap;
use std::str::FromStr;

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};
use http_body_util::Full;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::ledger::LedgerError;
use crate::operator::AccessError;
use crate::wire::Response;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");

/// Something that cannot be done, for people and programs.
#[derive(Clone, Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    detail: String,
    header: Option<(header::HeaderName, HeaderValue)>,
    errors: Box<[FieldError]>,
}

/// One error in the input.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct FieldError {
    /// Where, dotted: `secrets[1].until`.
    pub key: String,
    /// The error.
    pub detail: String,
    /// The remedy.
    pub remedy: String,
}

#[derive(Serialize)]
struct Details<'a> {
    r#type: &'static str,
    title: &'a str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [FieldError],
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), header: None, errors: Box::default() }
    }

    /// The request makes no sense.
    pub(crate) fn bad(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// The requested object does not exist.
    pub(crate) fn absent(what: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, what)
    }

    /// The input has these errors.
    pub(crate) fn invalid(errors: Vec<FieldError>) -> Self {
        let first = errors.first();
        let detail =
            first.map_or_else(String::new, |first| format!("{} {}", first.key, first.detail));
        Self { errors: errors.into(), ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail) }
    }

    /// Another method is needed here.
    pub(crate) fn method(allowed: &[Method]) -> Self {
        let allowed = allowed.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
        let problem =
            Self::new(StatusCode::METHOD_NOT_ALLOWED, format!("only {allowed} is served"));
        match HeaderValue::from_str(&allowed) {
            Ok(value) => problem.with(header::ALLOW, value),
            Err(_) => problem,
        }
    }

    pub(crate) fn with(self, name: header::HeaderName, value: HeaderValue) -> Self {
        Self { header: Some((name, value)), ..self }
    }

    pub(crate) fn response(self) -> Response {
        let details = Details {
            r#type: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Problem"),
            status: self.status.as_u16(),
            detail: &self.detail,
            errors: &self.errors,
        };
        let mut response = with_body(self.status, PROBLEM, to_json(&details));
        if let Some((name, value)) = self.header {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

impl From<AccessError> for ApiError {
    fn from(denied: AccessError) -> Self {
        let status = match denied {
            AccessError::AnotherSite
            | AccessError::OnlyLooks
            | AccessError::OnlySupports
            | AccessError::OnlyItsSources => StatusCode::FORBIDDEN,
            AccessError::AnotherName => StatusCode::MISDIRECTED_REQUEST,
            AccessError::NoToken | AccessError::NoLocalToken | AccessError::UnknownToken => {
                StatusCode::UNAUTHORIZED
            }
        };
        let problem = Self::new(status, denied.to_string());
        match status {
            StatusCode::UNAUTHORIZED => {
                problem.with(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
            }
            _ => problem,
        }
    }
}

impl From<LedgerError> for ApiError {
    fn from(error: LedgerError) -> Self {
        match error {
            LedgerError::BadCursor => Self::bad(error.to_string()),
            other => Self::new(StatusCode::SERVICE_UNAVAILABLE, other.to_string()),
        }
    }
}

/// The result of a handler.
pub(crate) type Answered = Result<Response, ApiError>;

/// Reads the JSON object in the body of a request.
pub(crate) fn read_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    // An array would be read as the members in their order.
    if body.trim_ascii_start().first() == Some(&b'[') {
        return Err(ApiError::bad("the body is an array; write an object"));
    }
    serde_json::from_slice(body)
        .map_err(|error| ApiError::bad(format!("the body cannot be read: {error}")))
}

/// Reads the JSON in the body of a request; the default if the body is empty.
pub(crate) fn read_json_or_default<T>(body: &[u8]) -> Result<T, ApiError>
where
    T: DeserializeOwned + Default,
{
    if body.is_empty() { Ok(T::default()) } else { read_json(body) }
}

/// `value` as a JSON answer.
pub(crate) fn json(value: &impl Serialize) -> Response {
    with_body(StatusCode::OK, JSON, to_json(value))
}

/// An answer of that type.
pub(crate) fn with_body(
    status: StatusCode,
    content_type: HeaderValue,
    body: impl Into<Bytes>,
) -> Response {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, content_type);
    // Responses are for one reader and change constantly.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Some have what callers sent, which a browser must not take for a page.
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn to_json(value: &impl Serialize) -> Vec<u8> {
    // Only a map whose keys are not strings cannot be written, and there is none.
    serde_json::to_vec(value).unwrap_or_default()
}

/// Query parameters, each of which may be there once.
#[derive(Debug)]
pub(crate) struct Query(HashMap<String, String>);

impl Query {
    /// Reads `query`. Unknown names are an error: otherwise a misspelt filter would list
    /// everything.
    pub(crate) fn read(query: Option<&str>, known: &[&str]) -> Result<Self, ApiError> {
        let pairs: Vec<(String, String)> = serde_urlencoded::from_str(query.unwrap_or_default())
            .map_err(|_| ApiError::bad("the query cannot be read"))?;
        let mut map = HashMap::new();
        for (name, value) in pairs {
            if !known.contains(&name.as_str()) {
                let known = known.join(", ");
                return Err(ApiError::bad(format!(
                    "no parameter {name:?} here; there are {known}"
                )));
            }
            if map.insert(name.clone(), value).is_some() {
                return Err(ApiError::bad(format!("{name} is there twice")));
            }
        }
        Ok(Self(map))
    }

    /// The value of `name`, if it is there and not empty.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The value of `name`, read by `read`; `what` says what is expected.
    pub(crate) fn read_as<T>(
        &self,
        name: &str,
        what: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, ApiError> {
        let Some(text) = self.text(name) else { return Ok(None) };
        match read(text) {
            Some(value) => Ok(Some(value)),
            None => Err(ApiError::bad(format!("{name}: expected {what}, found {text:?}"))),
        }
    }

    /// The time `name` in milliseconds.
    pub(crate) fn time(&self, name: &str) -> Result<Option<i64>, ApiError> {
        self.text(name).map(|text| time(name, text)).transpose()
    }

    /// Where to continue: the `next_cursor` of a page.
    pub(crate) fn cursor<T: FromStr>(&self) -> Result<Option<T>, ApiError> {
        self.read_as("cursor", "the next_cursor of a page", |text| text.parse().ok())
    }

    /// How many are wanted: 100 unless said, 1000 at most.
    pub(crate) fn limit(&self) -> Result<usize, ApiError> {
        let read = |text: &str| text.parse::<usize>().ok().filter(|limit| *limit > 0);
        let limit = self.read_as("limit", "a number from 1", read)?;
        Ok(limit.unwrap_or(LIMIT).min(LIMIT_MAX))
    }
}

/// A time in milliseconds or in text form; `name` is its parameter.
pub(crate) fn time(name: &str, text: &str) -> Result<i64, ApiError> {
    let plain = text.parse().ok();
    let stamp = || text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond);
    plain.or_else(stamp).ok_or_else(|| {
        let wanted = "a time such as 2026-01-02T03:04:05Z or Unix milliseconds";
        ApiError::bad(format!("{name}: expected {wanted}, found {text:?}"))
    })
}

/// Entries of a page, unless said.
const LIMIT: usize = 100;

/// Entries of a page at most: some 2 MiB of JSON.
pub(crate) const LIMIT_MAX: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_in_a_query_is_told() {
        assert!(Query::read(Some("sorce=a"), &["source"]).is_err());
        assert!(Query::read(Some("source=a&source=b"), &["source"]).is_err());
        let query =
            Query::read(Some("limit=5000&since=2026-01-02T03:04:05.5Z"), &["limit", "since"]);
        let query = query.unwrap();
        assert_eq!(query.limit().unwrap(), 1000);
        assert_eq!(query.time("since").unwrap(), Some(1_767_323_045_500));
        let query = Query::read(Some("limit=0&since=yesterday"), &["limit", "since"]).unwrap();
        assert!(query.limit().is_err());
        assert!(query.time("since").is_err());
        assert_eq!(Query::read(None, &[]).unwrap().limit().unwrap(), 100);
    }
}
