//! `/open/company/record/generate-temp-report`: a PDF report of the finished items of a background
//! check, at a URL that is valid for 1 min.
//!
//! Callbacks and our replies are signed by the same rule: [`serial`] separates the three. Only the
//! reply to an accepted order is signed.

mod link;
mod seen;
mod serial;

use constant_time_eq::{constant_time_eq, constant_time_eq_32};
use http::{HeaderValue, StatusCode, header};
use jiff::Timestamp;
use jiff::tz::Offset;
use md5::{Digest as _, Md5};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use tokio::sync::Semaphore;

use self::link::LinkError;
use self::serial::Serial;
use super::fonts::{self, Fonts};
use super::pdf::{self, Block};
use super::record::Record;
use super::settings::{BackgroundChecks, Company};
use crate::clock::UnixMillis;
use crate::ledger::LedgerError;
use crate::manage::failed_auth::{Guess, TooManyAttempts};
use crate::manage::http::{ApiError, json, with_body};
use crate::partners::Call;
use crate::wire::Response;

pub(in crate::partners) use link::REPORTS;

/// The largest deviation of a call's time.
const WINDOW_MS: i64 = 10 * 60 * 1000;

/// The zone of the times, and how they are written.
const ZONE: Offset = jiff::tz::offset(8);
const STAMP: &str = "%Y%m%d%H%M%S";

/// Digits of a time, no more and no fewer: the serial number behind it would lose some, or gain
/// some, under the same signature.
const STAMP_DIGITS: usize = 14;

/// Characters of a check's number, and of a serial number.
const NUMBER_MAX: usize = 64;
const SEQ_MAX: usize = 128;

/// Concurrent reports: each has a font of some megabytes in memory.
static PRINTERS: Semaphore = Semaphore::const_new(2);

/// The codes of the document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Code {
    /// Success.
    Done,
    /// An internal error, or the report does not exist.
    Internal,
    /// The signature is wrong.
    Sign,
    /// The serial number was used for something else.
    Repeated,
    /// The time is off.
    Time,
    /// A field of the call is missing.
    Fields,
    /// The company does not exist.
    NoCompany,
    /// The company may not call now.
    Unavailable,
}

/// A reply, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Envelope {
    code: String,
    key: String,
    seq: String,
    ts: String,
    sign: String,
    msg: String,
}

impl Code {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "000",
            Self::Internal => "900",
            Self::Sign => "901",
            Self::Repeated => "902",
            Self::Time => "903",
            Self::Fields => "904",
            Self::NoCompany => "905",
            Self::Unavailable => "906",
        }
    }
}

/// A call whose signature is right.
struct Signed<'c> {
    company: &'c Company,
    key: &'c str,
    seq: &'c str,
    now_ms: UnixMillis,
}

/// The reason that a report does not exist.
#[derive(Debug, thiserror::Error)]
enum ReportError {
    #[error("there is no check of that number")]
    Unknown,
    #[error("the check does not run")]
    NotRunning,
    #[error("no item of the check is done")]
    NothingDone,
    #[error(transparent)]
    Glyphs(#[from] fonts::GlyphError),
    #[error(transparent)]
    Print(#[from] pdf::PdfError),
    #[error("the ledger cannot be read")]
    Ledger(#[from] LedgerError),
    #[error("the report could not be written")]
    Broken,
}

/// Answers a call that orders a report.
pub(in crate::partners) async fn order(call: &Call<'_>, api: &BackgroundChecks) -> Response {
    let envelope = match known(call, api).await {
        Err((code, msg)) => refusal(call, code, msg),
        Ok(signed) => signed.order(call, api).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "a report could not be ordered");
            refusal(call, Code::Internal, "try again")
        }),
    };
    json(&envelope)
}

/// The reply to a rejected call. It is not signed: its receiver could use the signature for a call.
fn refusal(call: &Call<'_>, code: Code, msg: &str) -> Envelope {
    Envelope {
        code: code.as_str().to_owned(),
        key: call.header("key").unwrap_or_default().to_owned(),
        seq: call.header("seq").unwrap_or_default().to_owned(),
        ts: stamp(call.at_ms),
        sign: String::new(),
        msg: msg.to_owned(),
    }
}

/// Authenticates a call, after the delay that earlier failures demand.
async fn known<'c>(
    call: &'c Call<'_>,
    api: &'c BackgroundChecks,
) -> Result<Signed<'c>, (Code, &'static str)> {
    let guess = Guess { api: "/open/company", name: "", from: call.client };
    let too_many = (Code::Unavailable, "too many wrong signatures; wait a minute");
    let turn = call.guesses.turn(guess).await.map_err(|TooManyAttempts| too_many)?;
    match signed(call, api) {
        Err((Code::Sign | Code::NoCompany, _)) if call.guesses.was_wrong(guess, turn) => {
            Err(too_many)
        }
        Err(why) => Err(why),
        Ok(signed) => {
            call.guesses.was_right(guess, turn);
            Ok(signed)
        }
    }
}

fn signed<'c>(
    call: &'c Call<'_>,
    api: &'c BackgroundChecks,
) -> Result<Signed<'c>, (Code, &'static str)> {
    let missing = (Code::Fields, "key, ts, seq or sign is missing, or there twice");
    let field = |name| call.header(name).filter(|value| !value.is_empty()).ok_or(missing);
    let (key, ts, seq, sign) = (field("key")?, field("ts")?, field("seq")?, field("sign")?);
    if seq.len() > SEQ_MAX {
        return Err((Code::Fields, "seq is too long"));
    }
    let company = find(api, key).ok_or((Code::NoCompany, "there is no such company"))?;
    let mut given = [0; 16];
    let wrong = (Code::Sign, "sign is wrong");
    const_hex::decode_to_slice(sign, &mut given).map_err(|_| wrong)?;
    let right: [u8; 16] = digest(key, ts, seq, company);
    if !constant_time_eq(&given, &right) {
        return Err(wrong);
    }
    let off = (Code::Time, "ts is more than ten minutes off");
    let unreadable = (Code::Time, "ts is not a time such as 20190415110900");
    if ts.len() != STAMP_DIGITS || !ts.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(unreadable);
    }
    let at_ms = jiff::civil::DateTime::strptime(STAMP, ts)
        .and_then(|time| ZONE.to_timestamp(time))
        .map_err(|_| unreadable)?
        .as_millisecond();
    if call.at_ms.abs_diff(at_ms) > WINDOW_MS.unsigned_abs() {
        return Err(off);
    }
    if !company.enabled {
        return Err((Code::Unavailable, "the company is disabled"));
    }
    Ok(Signed { company, key, seq, now_ms: call.at_ms })
}

fn find<'c>(api: &'c BackgroundChecks, key: &str) -> Option<&'c Company> {
    let given = Sha256::digest(key).into();
    let mut found = None;
    for company in &api.companies {
        if constant_time_eq_32(&Sha256::digest(company.key.expose()).into(), &given) {
            found = Some(company);
        }
    }
    found
}

fn digest(key: &str, ts: &str, seq: &str, company: &Company) -> [u8; 16] {
    let parts = [key.as_bytes(), ts.as_bytes(), seq.as_bytes(), company.token.expose()];
    Md5::digest(parts.concat()).into()
}

fn stamp(at_ms: UnixMillis) -> String {
    let at = Timestamp::from_millisecond(at_ms).unwrap_or(Timestamp::UNIX_EPOCH);
    ZONE.to_datetime(at).strftime(STAMP).to_string()
}

impl Signed<'_> {
    /// A repeated call gets the same reply. Another call under its serial number is rejected.
    async fn order(
        &self,
        call: &Call<'_>,
        api: &BackgroundChecks,
    ) -> Result<Envelope, LedgerError> {
        if call.method() != http::Method::GET {
            return Ok(refusal(call, Code::Internal, "only GET is served"));
        }
        let number = match call.parameters(&["recordNo"]) {
            Ok(pairs) => number(&pairs),
            Err(why) => return Ok(refusal(call, Code::Internal, &why.to_string())),
        };
        let Some(number) = number else {
            let what = "recordNo is missing, or is not the number of a check";
            return Ok(refusal(call, Code::Internal, what));
        };
        let repeated = || refusal(call, Code::Repeated, "seq was used for another call");
        match serial::bind(call, &number).await? {
            Serial::OfThisOrder => {}
            Serial::Taken => return Ok(repeated()),
            Serial::NoSource => {
                return Ok(refusal(call, Code::Internal, &ReportError::Unknown.to_string()));
            }
        }
        let ledger = call.registry.ledger();
        let about = seen::About { key: self.key, seq: self.seq, number: &number };
        if let Some(said) = seen::find(ledger, &about).await? {
            return Ok(said.unwrap_or_else(repeated));
        }
        let envelope = match self.report(call, api, &number).await {
            Ok(url) => self.accepted(&url),
            Err(ReportError::Ledger(error)) => return Err(error),
            Err(why) => {
                if matches!(
                    why,
                    ReportError::Glyphs(_) | ReportError::Print(_) | ReportError::Broken
                ) {
                    tracing::error!(%why, "a report cannot be written");
                }
                refusal(call, Code::Internal, &why.to_string())
            }
        };
        // A concurrent call with the same serial number may have been first.
        let kept = seen::keep(ledger, &about, envelope, self.now_ms).await?;
        Ok(kept.unwrap_or_else(repeated))
    }

    async fn report(
        &self,
        call: &Call<'_>,
        api: &BackgroundChecks,
        number: &str,
    ) -> Result<String, ReportError> {
        let record =
            Record::read(call.registry.ledger(), call.config, self.company, number).await?;
        // Created once as a check: no URL is returned for a report that cannot be created.
        print(api, record, self.now_ms).await?;
        let day = &stamp(self.now_ms)[..8];
        let link = link::write(self.company, day, number, self.now_ms);
        Ok(format!("{}{link}", base(call)))
    }

    /// The reply to an accepted order. Its serial number is taken already.
    fn accepted(&self, msg: &str) -> Envelope {
        let ts = stamp(self.now_ms);
        Envelope {
            code: Code::Done.as_str().to_owned(),
            key: self.key.to_owned(),
            seq: self.seq.to_owned(),
            sign: const_hex::encode(digest(self.key, &ts, self.seq, self.company)),
            msg: msg.to_owned(),
            ts,
        }
    }
}

/// Scheme and authority of the URLs that are returned.
fn base(call: &Call<'_>) -> String {
    let server = &call.config.server;
    server.management_url.clone().unwrap_or_else(|| {
        let host = call.header("host").unwrap_or("localhost");
        format!("http://{host}")
    })
}

/// The `recordNo` of a query that has no other parameter. It has to fit into a path.
fn number(pairs: &[(String, String)]) -> Option<String> {
    let (_, number) = pairs.first()?;
    let number = number.trim_matches('"');
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let is_number = (1..=NUMBER_MAX).contains(&number.len()) && number.bytes().all(fits);
    is_number.then(|| number.to_owned())
}

/// Answers a call for a report.
pub(in crate::partners) async fn fetch(call: &Call<'_>, api: &BackgroundChecks) -> Response {
    if !matches!(call.method().as_str(), "GET" | "HEAD") {
        return ApiError::method(&[http::Method::GET]).response();
    }
    let query = std::str::from_utf8(call.query()).unwrap_or_default();
    let (company, number) = match link::read(&api.companies, call.path(), query, call.at_ms) {
        Ok(found) => found,
        Err(why) => {
            let detail = match why {
                LinkError::Changed => "this link is not as it was handed out",
                LinkError::Expired => "the minute of this link is over",
            };
            return ApiError::new(StatusCode::FORBIDDEN, detail).response();
        }
    };
    let printed = async {
        let record = Record::read(call.registry.ledger(), call.config, company, number).await?;
        print(api, record, call.at_ms).await
    };
    match printed.await {
        Ok(bytes) => {
            let kind = HeaderValue::from_static("application/pdf");
            let mut answer = with_body(StatusCode::OK, kind, bytes);
            let no_store = HeaderValue::from_static("no-store");
            answer.headers_mut().insert(header::CACHE_CONTROL, no_store);
            answer
        }
        Err(why @ (ReportError::Unknown | ReportError::NotRunning | ReportError::NothingDone)) => {
            ApiError::new(StatusCode::GONE, why.to_string()).response()
        }
        Err(why) => {
            tracing::error!(%why, "a report cannot be written");
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, why.to_string()).response()
        }
    }
}

/// The report of a check that runs and has something to report.
async fn print(
    api: &BackgroundChecks,
    record: Option<Record>,
    now_ms: UnixMillis,
) -> Result<Vec<u8>, ReportError> {
    let record = record.ok_or(ReportError::Unknown)?;
    if !record.is_running() {
        return Err(ReportError::NotRunning);
    }
    if record.finished().next().is_none() {
        return Err(ReportError::NothingDone);
    }
    let (title, blocks) = blocks(&record, now_ms);
    let configured = api.fonts.clone();
    let _place = PRINTERS.acquire().await;
    let printed = tokio::task::spawn_blocking(move || {
        let all: String = blocks.iter().map(Block::text).collect();
        let fonts = Fonts::find(&configured, &all)?;
        Ok::<_, ReportError>(pdf::write(&title, &blocks, &fonts)?)
    });
    printed.await.map_err(|_| ReportError::Broken)?
}

fn blocks(record: &Record, now_ms: UnixMillis) -> (String, Vec<Block>) {
    let title = String::from("背景调查临时报告");
    let at = Timestamp::from_millisecond(now_ms).unwrap_or(Timestamp::UNIX_EPOCH);
    let at = ZONE.to_datetime(at).strftime("%Y-%m-%d %H:%M:%S");
    let mut blocks = vec![Block::Title(title.clone())];
    blocks.push(Block::Text(format!("背调号：{}", record.number)));
    if let Some(person) = &record.person {
        blocks.push(Block::Text(format!("候选人：{person}")));
    }
    blocks.push(Block::Text(format!("生成时间：{at}（背调进行中，仅含已完成的调查项）")));
    blocks.push(Block::Rule);
    for item in record.finished() {
        blocks.push(Block::Heading(item.name.clone()));
        let conclusion = item.conclusion.as_deref().unwrap_or("—");
        blocks.push(Block::Text(format!("结论：{conclusion}")));
        if let Some(remarks) = &item.remarks {
            blocks.push(Block::Text(format!("备注：{remarks}")));
        }
    }
    (title, blocks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sender::Secret;

    /// The document's own answer, and a call of ours.
    #[test]
    fn the_published_signature_comes_out() {
        let company = |token: &str| Company {
            key: Secret::new("K"),
            token: Secret::new(token),
            enabled: true,
        };
        let own = company("FFEEDDCCBBAA99887766554433221100");
        let sign = digest("00112233445566778899AABBCCDDEEFF", "20231114221320", "S0001", &own);
        assert_eq!(const_hex::encode_upper(sign), "7FB2C8A3A4E4919BE993148A93FC13B9");
        assert_eq!(stamp(1_699_971_200_000), "20231114221320");
    }

    #[test]
    fn a_number_fits_into_a_path() {
        let number = |text: &str| number(&[(String::from("recordNo"), text.to_owned())]);
        assert_eq!(number("20190415152645093983751").as_deref(), Some("20190415152645093983751"));
        assert_eq!(number("\"R-1\"").as_deref(), Some("R-1"));
        for bad in ["", "a/b", "..", "\"\""] {
            assert_eq!(number(bad), None, "{bad}");
        }
    }
}
