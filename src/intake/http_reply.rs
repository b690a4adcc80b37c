//! HTTP answers of the receiving path: replies to senders, and answers to requests other than
//! callbacks.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use http_body_util::Full;

use super::route::Route;
use crate::sender::Answer;
use crate::wire::Response;

/// Room for headers that an idle connection may keep: a usual head, about 2 kB.
const KEPT_HEADERS_MAX: usize = 16;

const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");

/// The answer to a console or a monitor that asks whether the address is there, before anything is
/// sent to it. It is not counted as a callback.
#[inline]
pub(super) fn question(route: &Route, method: &Method) -> Option<Response> {
    let methods = route.source.recipe.sender().methods();
    if methods.contains(method) {
        return None;
    }
    match *method {
        Method::HEAD => Some(bare(StatusCode::OK)),
        Method::OPTIONS => {
            let mut response = bare(StatusCode::NO_CONTENT);
            let names = methods.iter().map(Method::as_str).chain(["HEAD", "OPTIONS"]);
            let allow = names.collect::<Vec<_>>().join(", ");
            response.headers_mut().insert(header::ALLOW, allow.parse().ok()?);
            Some(response)
        }
        _ => None,
    }
}

/// The map of a request's headers, for those of its answer: a connection then uses one map for all
/// requests.
#[inline]
pub(super) fn emptied(mut headers: HeaderMap) -> HeaderMap {
    if headers.capacity() > KEPT_HEADERS_MAX {
        return HeaderMap::new();
    }
    headers.clear();
    headers
}

/// The response with `answer`; its headers are put into `headers`.
#[inline]
pub(super) fn respond(answer: Answer, headers: HeaderMap) -> Response {
    let mut response = Response::new(Full::new(answer.body));
    *response.status_mut() = answer.status;
    *response.headers_mut() = headers;
    // An answer may hold what the callback said: nothing is to be made of it but what it is.
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    if let Some(content_type) = answer.content_type {
        response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    }
    for (name, value) in answer.headers {
        response.headers_mut().insert(name, value);
    }
    response
}

/// An answer in words, for a balancer.
pub(super) fn plain(status: StatusCode, text: &'static str) -> Response {
    let content_type = Some(HeaderValue::from_static("text/plain; charset=utf-8"));
    let body = Bytes::from_static(text.as_bytes());
    respond(Answer { status, content_type, headers: Box::default(), body }, HeaderMap::new())
}

/// An answer for a request that belongs to no source.
pub(super) fn bare(status: StatusCode) -> Response {
    let body = Bytes::new();
    respond(Answer { status, content_type: None, headers: Box::default(), body }, HeaderMap::new())
}
