//! What a sender is told.

use bytes::Bytes;
use http::StatusCode;

/// What a sender is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// An HTTP answer.
    Answer(Answer),
    /// No answer at all: the connection is held past the sender's time-out and closed, because
    /// only a time-out makes this sender try again.
    Silence,
}

/// An HTTP answer, ready to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status; senders have some of their own, such as 601.
    pub status: StatusCode,
    /// The content type; none where there is no body.
    pub content_type: Option<http::HeaderValue>,
    /// The body.
    pub body: Bytes,
}
