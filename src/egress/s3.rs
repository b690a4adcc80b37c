//! Exports and archives in a store that speaks S3.
//!
//! The endpoint and the credentials are where the tools of such stores look for them: the variables
//! `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_REGION` and
//! `AWS_ENDPOINT_URL`. An object is written in parts, and is there only once all of them are. It
//! is read from front to back, and goes on where a connection broke off.

use std::fmt;
use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use rusty_s3::actions::{
    AbortMultipartUpload, CompleteMultipartUpload, CreateMultipartUpload, DeleteObject, GetObject,
    HeadObject, S3Action, UploadPart,
};
use rusty_s3::{Bucket, Credentials, UrlStyle};
use tokio::runtime::Runtime;

use super::{Client, Guard, Trust, Trusted, error_text};

/// Bytes of a part. There may be 10,000 of them: an export has 160 GiB at most.
const PART_BYTES: usize = 16 << 20;
/// How long a signature holds: a part is sent, or an object read, within it.
const SIGNED_TIME: Duration = Duration::from_secs(3600);
/// How long a request, and a part of a body that is read, may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often a request is made that fails for a reason that may pass.
const TRIES: u32 = 5;
/// The pause after the first failure; it doubles.
const PAUSE: Duration = Duration::from_millis(500);
/// Bytes of a response that is read whole: an error, or the end of an upload.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Pieces of a body that wait to be read.
const PIECES: usize = 16;
/// The region of a store that has none.
const REGION: &str = "us-east-1";

/// `s3://BUCKET/KEY`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    bucket: String,
    key: String,
}

impl Object {
    /// The object that a text names. `None`: the text is not the address of an object.
    #[must_use]
    pub fn parse(text: &str) -> Option<Result<Self, String>> {
        let rest = text.strip_prefix("s3://")?;
        Some(match rest.split_once('/') {
            Some((bucket, key)) if !bucket.is_empty() && !key.is_empty() => {
                Ok(Self { bucket: bucket.to_owned(), key: key.to_owned() })
            }
            _ => Err(format!("{text}: names no object; write s3://BUCKET/KEY")),
        })
    }

    /// The object of that key in `bucket`.
    #[must_use]
    pub fn new(bucket: &str, key: &str) -> Self {
        Self { bucket: bucket.to_owned(), key: key.to_owned() }
    }

    /// Removes it; returns whether it was there. Blocks.
    ///
    /// # Errors
    /// When the store cannot be reached, or refuses.
    pub fn remove(&self) -> io::Result<bool> {
        let store = Store::new(self)?;
        runtime()?.block_on(async {
            match store.head().await {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
                Err(error) => Err(error),
                Ok(()) => store.delete().await.map(|()| true),
            }
        })
    }

    /// Begins to write it.
    ///
    /// # Errors
    /// When the store cannot be reached, or refuses.
    pub fn write(&self) -> io::Result<Upload> {
        let runtime = runtime()?;
        let store = Store::new(self)?;
        let id = runtime.block_on(store.begin())?;
        Ok(Upload { store, runtime, id, part: Vec::new(), tags: Vec::new(), is_whole: false })
    }

    /// Begins to read the object; returns its size too.
    ///
    /// # Errors
    /// When the store cannot be reached, or has no such object.
    pub fn read(&self) -> io::Result<(Download, u64)> {
        let store = Store::new(self)?;
        let (sender, pieces) = sync_channel(PIECES);
        let (size, sized) = sync_channel(1);
        // A thread of its own: it is read where another runtime is at work.
        std::thread::Builder::new().name("s3".to_owned()).spawn(move || match runtime() {
            Ok(runtime) => runtime.block_on(store.fetch(&sender, &size)),
            Err(error) => drop(size.send(Err(error))),
        })?;
        let size = sized.recv().map_err(|_| io::Error::other("the download broke down"))??;
        Ok((Download { pieces, rest: Bytes::new() }, size))
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.key)
    }
}

/// A bucket, an object in it, and how they are reached.
struct Store {
    bucket: Bucket,
    credentials: Credentials,
    key: String,
    client: Client,
}

/// A runtime of one's own: the callers are threads that may block.
fn runtime() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

impl Store {
    fn new(object: &Object) -> io::Result<Self> {
        let region = variable("AWS_REGION").or_else(|| variable("AWS_DEFAULT_REGION"));
        let region = region.unwrap_or_else(|| REGION.to_owned());
        // Stores of one's own rarely have a name for each bucket.
        let (endpoint, style) = match variable("AWS_ENDPOINT_URL") {
            Some(url) => (url, UrlStyle::Path),
            None => (format!("https://s3.{region}.amazonaws.com"), UrlStyle::VirtualHost),
        };
        let url = endpoint.parse().map_err(|error| {
            io::Error::other(format!("AWS_ENDPOINT_URL: {error}; write https://HOST"))
        })?;
        let bucket = Bucket::new(url, style, object.bucket.clone(), region);
        let bucket = bucket.map_err(|error| io::Error::other(format!("{object}: {error}")))?;
        let credentials = Credentials::from_env().ok_or_else(|| {
            io::Error::other("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set")
        })?;
        let guard = Guard::new(Trust::File, Vec::new());
        let client = Client::new(Trusted::default(), 1, guard);
        let client = client.map_err(|error| io::Error::other(error.to_string()))?;
        Ok(Self { bucket, credentials, key: object.key.clone(), client })
    }

    /// Sends a request until it succeeds, or fails for a reason that does not pass.
    async fn send(
        &self,
        method: Method,
        url: &str,
        body: &Bytes,
        range: Option<&str>,
    ) -> io::Result<Response<Incoming>> {
        let mut pause = PAUSE;
        let mut tries = 1;
        loop {
            let mut request = Request::builder().method(method.clone()).uri(url);
            if let Some(range) = range {
                request = request.header(header::RANGE, range);
            }
            let request = request.body(Full::new(body.clone())).map_err(io::Error::other)?;
            let answer = tokio::time::timeout(PATIENCE, self.client.send(request)).await;
            let failed = match answer {
                Ok(Ok(answer)) if answer.status().is_success() => return Ok(answer),
                Ok(Ok(answer)) if !may_pass(answer.status()) => return Err(refused(answer).await),
                Ok(Ok(answer)) => refused(answer).await,
                Ok(Err(error)) => io::Error::other(error_text(&error)),
                Err(_) => io::Error::new(io::ErrorKind::TimedOut, "no answer in time"),
            };
            if tries >= TRIES {
                return Err(failed);
            }
            tries += 1;
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }

    async fn begin(&self) -> io::Result<String> {
        let begin = CreateMultipartUpload::new(&self.bucket, Some(&self.credentials), &self.key);
        let url = begin.sign(SIGNED_TIME);
        let answer = self.send(Method::POST, url.as_str(), &Bytes::new(), None).await?;
        let said = whole(answer).await?;
        let begun = CreateMultipartUpload::parse_response(&said);
        let begun = begun.map_err(|_| io::Error::other("the store did not begin an upload"))?;
        Ok(begun.upload_id().to_owned())
    }

    /// Sends a part, and returns its tag.
    async fn put(&self, id: &str, number: u16, part: Bytes) -> io::Result<String> {
        let put = UploadPart::new(&self.bucket, Some(&self.credentials), &self.key, number, id);
        let url = put.sign(SIGNED_TIME);
        let answer = self.send(Method::PUT, url.as_str(), &part, None).await?;
        let tag = answer.headers().get(header::ETAG).and_then(|tag| tag.to_str().ok());
        let tag = tag.map(|tag| tag.trim_matches('"').to_owned());
        tag.ok_or_else(|| io::Error::other("the store answered a part without its ETag"))
    }

    /// Puts the parts together. A response that begins well may end in an error.
    async fn end(&self, id: &str, tags: &[String]) -> io::Result<()> {
        let tags = tags.iter().map(String::as_str);
        let credentials = Some(&self.credentials);
        let end = CompleteMultipartUpload::new(&self.bucket, credentials, &self.key, id, tags);
        let url = end.sign(SIGNED_TIME);
        let body = Bytes::from(end.body());
        let answer = self.send(Method::POST, url.as_str(), &body, None).await?;
        let said = whole(answer).await?;
        match said.contains("CompleteMultipartUploadResult") {
            true => Ok(()),
            false => Err(io::Error::other(format!("the store did not end the upload: {said}"))),
        }
    }

    async fn head(&self) -> io::Result<()> {
        let head = HeadObject::new(&self.bucket, Some(&self.credentials), &self.key);
        let url = head.sign(SIGNED_TIME);
        self.send(Method::HEAD, url.as_str(), &Bytes::new(), None).await.map(drop)
    }

    async fn delete(&self) -> io::Result<()> {
        let delete = DeleteObject::new(&self.bucket, Some(&self.credentials), &self.key);
        let url = delete.sign(SIGNED_TIME);
        self.send(Method::DELETE, url.as_str(), &Bytes::new(), None).await.map(drop)
    }

    async fn abort(&self, id: &str) -> io::Result<()> {
        let credentials = Some(&self.credentials);
        let abort = AbortMultipartUpload::new(&self.bucket, credentials, &self.key, id);
        let url = abort.sign(SIGNED_TIME);
        self.send(Method::DELETE, url.as_str(), &Bytes::new(), None).await.map(drop)
    }

    /// Reads the object, and hands on its size and its pieces.
    async fn fetch(&self, to: &SyncSender<io::Result<Bytes>>, size: &SyncSender<io::Result<u64>>) {
        let (mut at, mut total) = (0_u64, None);
        let mut broken = 0;
        loop {
            let mut body = match self.from(at).await {
                Ok(answer) => answer,
                Err(error) if total.is_none() => return drop(size.send(Err(error))),
                Err(error) => return drop(to.send(Err(error))),
            };
            if total.is_none() {
                let length = body.headers().get(header::CONTENT_LENGTH);
                let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
                total = Some(length.unwrap_or(u64::MAX));
                drop(size.send(Ok(length.unwrap_or(0))));
            }
            let error = loop {
                match tokio::time::timeout(PATIENCE, body.body_mut().frame()).await {
                    Ok(Some(Ok(frame))) => {
                        let Ok(piece) = frame.into_data() else { continue };
                        at += piece.len() as u64;
                        if to.send(Ok(piece)).is_err() {
                            return;
                        }
                    }
                    Ok(None) if total == Some(u64::MAX) || total == Some(at) => return,
                    Ok(None) => break io::Error::from(io::ErrorKind::UnexpectedEof),
                    Ok(Some(Err(error))) => break io::Error::other(error_text(&error)),
                    Err(_) => break io::Error::from(io::ErrorKind::TimedOut),
                }
            };
            broken += 1;
            if broken >= TRIES {
                return drop(to.send(Err(error)));
            }
        }
    }

    /// The object from byte `at` on.
    async fn from(&self, at: u64) -> io::Result<Response<Incoming>> {
        let get = GetObject::new(&self.bucket, Some(&self.credentials), &self.key);
        let url = get.sign(SIGNED_TIME);
        let range = format!("bytes={at}-");
        let range = Some(range.as_str()).filter(|_| at > 0);
        self.send(Method::GET, url.as_str(), &Bytes::new(), range).await
    }
}

fn may_pass(status: StatusCode) -> bool {
    status.is_server_error()
        || [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS].contains(&status)
}

async fn whole(answer: Response<Incoming>) -> io::Result<String> {
    let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect();
    let body = tokio::time::timeout(PATIENCE, body).await;
    let body = body.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?;
    let body = body.map_err(|error| io::Error::other(error.to_string()))?.to_bytes();
    Ok(String::from_utf8_lossy(&body).into_owned())
}

/// A response without success, with the store's message: its error holds no secret.
async fn refused(answer: Response<Incoming>) -> io::Error {
    let status = answer.status();
    let said = whole(answer).await.unwrap_or_default();
    let between = |name: &str| {
        let (_, rest) = said.split_once(&format!("<{name}>"))?;
        Some(rest.split_once('<')?.0.to_owned())
    };
    let code = between("Code").unwrap_or_default();
    let message = between("Message").unwrap_or_default();
    let kind = match status {
        StatusCode::NOT_FOUND => io::ErrorKind::NotFound,
        StatusCode::FORBIDDEN => io::ErrorKind::PermissionDenied,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, format!("the store answers {status}: {code} {message}").trim_end())
}

/// An object that is being written.
pub struct Upload {
    store: Store,
    runtime: Runtime,
    id: String,
    part: Vec<u8>,
    tags: Vec<String>,
    is_whole: bool,
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upload").finish_non_exhaustive()
    }
}

impl Upload {
    fn put(&mut self) -> io::Result<()> {
        let number = u16::try_from(self.tags.len() + 1).unwrap_or(u16::MAX);
        let part = Bytes::from(std::mem::take(&mut self.part));
        let tag = self.runtime.block_on(self.store.put(&self.id, number, part))?;
        self.tags.push(tag);
        Ok(())
    }

    /// Makes the object of what was written.
    ///
    /// # Errors
    /// When the store does not take it; nothing is there then.
    pub fn end(mut self) -> io::Result<()> {
        if !self.part.is_empty() || self.tags.is_empty() {
            self.put()?;
        }
        self.runtime.block_on(self.store.end(&self.id, &self.tags))?;
        self.is_whole = true;
        Ok(())
    }
}

impl Drop for Upload {
    /// Takes back the parts of an object that did not become whole.
    fn drop(&mut self) {
        if !self.is_whole {
            // The store's own rules delete what is left behind.
            let _ = self.runtime.block_on(self.store.abort(&self.id));
        }
    }
}

impl Write for Upload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let some = bytes.len().min(PART_BYTES - self.part.len());
        self.part.extend_from_slice(&bytes[..some]);
        if self.part.len() == PART_BYTES {
            self.put()?;
        }
        Ok(some)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An object that is being read.
#[derive(Debug)]
pub struct Download {
    pieces: Receiver<io::Result<Bytes>>,
    rest: Bytes,
}

impl Read for Download {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.pieces.recv() {
                Ok(piece) => self.rest = piece?,
                Err(_) => return Ok(0),
            }
        }
        let some = to.len().min(self.rest.len());
        to[..some].copy_from_slice(&self.rest.split_to(some));
        Ok(some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_a_bucket_and_a_key() {
        let object = Object::parse("s3://backups/postern/monday.export").unwrap().unwrap();
        assert_eq!((&object.bucket[..], &object.key[..]), ("backups", "postern/monday.export"));
        assert_eq!(object.to_string(), "s3://backups/postern/monday.export");
        assert!(Object::parse("monday.export").is_none());
        for wrong in ["s3://", "s3://backups", "s3://backups/", "s3:///key"] {
            assert!(Object::parse(wrong).unwrap().is_err(), "{wrong}");
        }
    }
}
