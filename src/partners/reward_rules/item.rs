//! The item of a call that writes a reward rule: as it was sent, as it was checked, and its errors.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::document::RuleStatus;
use crate::config::check_origin;

/// Characters of a name, as Taku counts them.
const NAME_CHARACTERS_MAX: usize = 30;

/// Characters of a remark; Taku documents no limit.
const REMARK_CHARACTERS_MAX: usize = 1_000;

/// Bytes of a URL: the common limit of servers.
const URL_BYTES_MAX: usize = 8 * 1024;

/// The largest amount of a reward.
const NUMBER_MAX: u64 = 100_000_000;

/// The numbers of the states.
pub(crate) const STOPPED: u8 = 1;
pub(crate) const RUNNING: u8 = 3;

/// An item as it was sent. A repeated field is an error of the body.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Fields {
    pub id: Option<Value>,
    pub rule_name: Option<Value>,
    pub reward_name: Option<Value>,
    pub reward_number: Option<Value>,
    pub reward_url: Option<Value>,
    pub remark: Option<Value>,
    pub status: Option<Value>,
}

/// The checked content of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub rule_name: String,
    pub reward_name: String,
    pub reward_number: u64,
    pub reward_url: String,
    pub remark: String,
}

/// The error of one item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct FieldError {
    /// The position of the item in the call, from 0.
    pub index: usize,
    /// The field.
    #[serde(skip)]
    pub field: &'static str,
    /// The code of the error.
    pub code: u16,
    /// The message for people.
    pub msg: String,
}

/// Our own codes: Taku does not publish its codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FieldErrorCode {
    /// A field is missing.
    Missing = 1001,
    /// A field is of another type.
    Type = 1002,
    /// A text is empty.
    Empty = 1003,
    /// A text is too long.
    Long = 1004,
    /// A number is out of its range.
    Range = 1005,
    /// A URL is not valid, or must not be called.
    Url = 1006,
    /// A URL did not return a success.
    NoAnswer = 1007,
    /// The rule does not exist.
    Unknown = 1008,
    /// A rule is in the call twice.
    Twice = 1009,
    /// The number of rules exceeds the limit.
    TooMany = 1010,
}

impl FieldErrorCode {
    fn what(self) -> &'static str {
        match self {
            Self::Missing => "is missing",
            Self::Type => "is of another type",
            Self::Empty => "is empty",
            Self::Long => "is too long",
            Self::Range => "is out of its range",
            Self::Url => "cannot be called",
            Self::NoAnswer => "does not answer",
            Self::Unknown => "is that of no rule",
            Self::Twice => "is there twice",
            Self::TooMany => "there are too many rules",
        }
    }

    /// The error of `field`. Its position is set later.
    pub(crate) fn slip(self, field: &'static str) -> FieldError {
        FieldError { index: 0, field, code: self as u16, msg: format!("{field} {}", self.what()) }
    }

    /// The error of `field`, with the reason.
    pub(crate) fn because(self, field: &'static str, why: &str) -> FieldError {
        FieldError { msg: format!("{field} {}: {why}", self.what()), ..self.slip(field) }
    }

    /// The error of the item at `index`.
    pub(crate) fn at(self, index: usize) -> FieldError {
        FieldError { index, ..self.slip("id") }
    }
}

impl Fields {
    /// Checks the content of a new rule.
    pub(crate) fn new_rule(&self) -> Result<Wanted, FieldError> {
        Ok(Wanted {
            rule_name: name("rule_name", self.rule_name.as_ref())?,
            reward_name: name("reward_name", self.reward_name.as_ref())?,
            reward_number: self.number()?,
            reward_url: self.url()?,
            remark: self.remark()?,
        })
    }

    /// Checks the id, the content and the state of a changed rule.
    pub(crate) fn changed_rule(&self) -> Result<(u64, Wanted, RuleStatus), FieldError> {
        let id = number(there("id", self.id.as_ref())?).ok_or(FieldErrorCode::Type.slip("id"))?;
        let status = there("status", self.status.as_ref())?;
        let status = match number(status).ok_or(FieldErrorCode::Type.slip("status"))? {
            state if state == u64::from(STOPPED) => RuleStatus::Stopped,
            state if state == u64::from(RUNNING) => RuleStatus::Running,
            _ => return Err(FieldErrorCode::Range.because("status", "1 stops a rule, 3 runs it")),
        };
        Ok((id, self.new_rule()?, status))
    }

    fn number(&self) -> Result<u64, FieldError> {
        const FIELD: &str = "reward_number";
        match number(there(FIELD, self.reward_number.as_ref())?) {
            Some(number) if (1..=NUMBER_MAX).contains(&number) => Ok(number),
            Some(_) => {
                Err(FieldErrorCode::Range.because(FIELD, "a whole number from 1 to 100000000"))
            }
            None => Err(FieldErrorCode::Type.because(FIELD, "a whole number from 1 to 100000000")),
        }
    }

    /// The URL, byte for byte as it was sent.
    fn url(&self) -> Result<String, FieldError> {
        const FIELD: &str = "reward_url";
        let url = text(FIELD, self.reward_url.as_ref())?;
        if url.is_empty() {
            return Err(FieldErrorCode::Empty.slip(FIELD));
        }
        if url.len() > URL_BYTES_MAX {
            return Err(FieldErrorCode::Long.because(FIELD, "8192 bytes at most"));
        }
        check_origin(url).map_err(|why| FieldErrorCode::Url.because(FIELD, &why))?;
        Ok(url.to_owned())
    }

    /// A text, or a number: the document says one and shows the other.
    fn remark(&self) -> Result<String, FieldError> {
        const FIELD: &str = "remark";
        let remark = match there(FIELD, self.remark.as_ref())? {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            _ => return Err(FieldErrorCode::Type.slip(FIELD)),
        };
        match remark.chars().nth(REMARK_CHARACTERS_MAX) {
            None => Ok(remark),
            Some(_) => Err(FieldErrorCode::Long.because(FIELD, "1000 characters at most")),
        }
    }
}

/// A whole number, also one that is written as a text.
pub(crate) fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
        _ => None,
    }
}

fn there<'v>(field: &'static str, value: Option<&'v Value>) -> Result<&'v Value, FieldError> {
    value.ok_or_else(|| FieldErrorCode::Missing.slip(field))
}

fn text<'v>(field: &'static str, value: Option<&'v Value>) -> Result<&'v str, FieldError> {
    there(field, value)?.as_str().ok_or_else(|| FieldErrorCode::Type.slip(field))
}

fn name(field: &'static str, value: Option<&Value>) -> Result<String, FieldError> {
    let name = text(field, value)?;
    if name.trim().is_empty() {
        return Err(FieldErrorCode::Empty.slip(field));
    }
    match name.chars().nth(NAME_CHARACTERS_MAX) {
        None => Ok(name.to_owned()),
        Some(_) => Err(FieldErrorCode::Long.because(field, "30 characters at most")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(change: &Value) -> Result<Wanted, u16> {
        let mut item = json!({
            "rule_name": "r", "reward_name": "coin", "reward_number": 1,
            "reward_url": "https://a.example/", "remark": "",
        });
        for (key, value) in change.as_object().unwrap() {
            item[key] = value.clone();
        }
        let fields: Fields = serde_json::from_value(item).unwrap();
        fields.new_rule().map_err(|slip| slip.code)
    }

    #[test]
    fn names_are_counted_in_characters() {
        let thirty = "规".repeat(30);
        assert_eq!(read(&json!({ "rule_name": thirty })).unwrap().rule_name, thirty);
        assert_eq!(read(&json!({ "rule_name": "规".repeat(31) })), Err(1004));
        assert_eq!(read(&json!({ "reward_name": "" })), Err(1003));
        assert_eq!(read(&json!({ "reward_name": " " })), Err(1003));
        assert_eq!(read(&json!({ "reward_name": null })), Err(1001));
        assert_eq!(read(&json!({ "reward_name": 5 })), Err(1002));
    }

    #[test]
    fn numbers_may_be_texts_and_remarks_numbers() {
        assert_eq!(read(&json!({ "reward_number": "4778999" })).unwrap().reward_number, 4_778_999);
        assert_eq!(read(&json!({ "remark": 222 })).unwrap().remark, "222");
        assert_eq!(
            read(&json!({ "reward_number": 100_000_000 })).unwrap().reward_number,
            NUMBER_MAX
        );
        for (number, code) in [
            (json!(0), 1005),
            (json!(100_000_001), 1005),
            (json!(-1), 1002),
            (json!(1.5), 1002),
            (json!("+1"), 1002),
            (json!("1e3"), 1002),
            (json!([1]), 1002),
            (json!(null), 1001),
        ] {
            assert_eq!(read(&json!({ "reward_number": number })), Err(code), "{number}");
        }
    }

    #[test]
    fn an_address_needs_a_host_that_may_be_called() {
        for url in [
            "ftp://a/",
            "https://",
            "https://u:p@a/",
            "http://169.254.169.254/",
            "a",
            "https://{user_id}/",
        ] {
            assert_eq!(read(&json!({ "reward_url": url })), Err(1006), "{url}");
        }
        assert_eq!(read(&json!({ "reward_url": "" })), Err(1003));
        let long = format!("https://a/{}", "x".repeat(8192));
        assert_eq!(read(&json!({ "reward_url": long })), Err(1004));
    }
}
