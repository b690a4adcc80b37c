//! The fields of a body, in each of the forms in which clients post them: a form, a form with
//! parts, JSON.

use serde_json::Value;

/// Parts of a body: there are three fields.
const PARTS_MAX: usize = 32;

/// Bytes of a boundary, as RFC 2046 has it.
const BOUNDARY_BYTES_MAX: usize = 70;

/// Fields by name, each there once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fields(Vec<(String, String)>);

impl Fields {
    /// Reads a body of that type.
    ///
    /// # Errors
    /// Why it cannot be read.
    pub(super) fn read(content_type: &str, body: &[u8]) -> Result<Self, &'static str> {
        let kind = content_type.split(';').next().unwrap_or_default().trim();
        let pairs = if kind.eq_ignore_ascii_case("multipart/form-data") {
            let boundary = boundary(content_type).ok_or("the body has no boundary")?;
            parts(&boundary, body).ok_or("the parts of the body cannot be read")?
        } else if kind.eq_ignore_ascii_case("application/json") {
            members(body).ok_or("the body is not a JSON object of strings and numbers")?
        } else {
            serde_urlencoded::from_bytes(body).map_err(|_| "the body is not a form")?
        };
        let twice = |at: usize| pairs[..at].iter().any(|(name, _)| *name == pairs[at].0);
        match (0..pairs.len()).any(twice) {
            true => Err("a field is there twice"),
            false => Ok(Self(pairs)),
        }
    }

    /// The names of all fields.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// The value of `name`, if it is there.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

fn members(body: &[u8]) -> Option<Vec<(String, String)>> {
    let Value::Object(object) = serde_json::from_slice(body).ok()? else { return None };
    let text = |value: Value| match value {
        Value::Null => Some(String::new()),
        Value::String(text) => Some(text),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    object.into_iter().map(|(name, value)| Some((name, text(value)?))).collect()
}

fn boundary(content_type: &str) -> Option<String> {
    let parameter = content_type.split(';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("boundary").then(|| value.trim().trim_matches('"'))
    })?;
    let fits = (1..=BOUNDARY_BYTES_MAX).contains(&parameter.len());
    fits.then(|| format!("--{parameter}"))
}

/// The parts between boundaries, each with a name and a text.
fn parts(boundary: &str, body: &[u8]) -> Option<Vec<(String, String)>> {
    let body = std::str::from_utf8(body).ok()?;
    let mut pieces = body.split(boundary);
    pieces.next()?;
    let mut found = Vec::new();
    for piece in pieces {
        if piece.starts_with("--") {
            return Some(found);
        }
        if found.len() == PARTS_MAX {
            return None;
        }
        let (head, value) = piece.strip_prefix("\r\n")?.split_once("\r\n\r\n")?;
        found.push((name(head)?, value.strip_suffix("\r\n")?.to_owned()));
    }
    None
}

fn name(head: &str) -> Option<String> {
    let line = head.split("\r\n").find_map(|line| {
        let (field, value) = line.split_once(':')?;
        field.eq_ignore_ascii_case("content-disposition").then_some(value)
    })?;
    line.split(';').find_map(|parameter| {
        let value = parameter.trim().strip_prefix("name=")?;
        Some(value.trim_matches('"').to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &str = "http://www.i.com/api/notify/receive?a=1&b=测";

    #[test]
    fn a_field_is_the_same_in_every_form() {
        let form = format!(
            "notify_url={}&code_number=5",
            "http%3A%2F%2Fwww.i.com%2Fapi%2Fnotify%2Freceive%3Fa%3D1%26b%3D%E6%B5%8B"
        );
        let json = serde_json::json!({ "notify_url": URL, "code_number": 5 }).to_string();
        let parts = format!(
            "--xyz\r\nContent-Disposition: form-data; name=\"notify_url\"\r\n\r\n{URL}\r\n\
             --xyz\r\ncontent-disposition: form-data; name=code_number\r\nContent-Type: text/plain\r\n\r\n5\r\n--xyz--\r\n"
        );
        for (content_type, body) in [
            ("application/x-www-form-urlencoded; charset=utf-8", form.as_str()),
            ("", &form),
            ("application/json", &json),
            ("multipart/form-data; boundary=xyz", &parts),
            ("Multipart/Form-Data; Boundary=\"xyz\"", &parts),
        ] {
            let fields = Fields::read(content_type, body.as_bytes()).unwrap();
            assert_eq!(fields.get("notify_url"), Some(URL), "{content_type}");
            assert_eq!(fields.get("code_number"), Some("5"), "{content_type}");
            assert_eq!(fields.get("report_number"), None);
        }
    }

    #[test]
    fn what_cannot_be_read_or_is_there_twice_is_refused() {
        for (content_type, body) in [
            ("application/json", "[]"),
            ("application/json", "{\"a\":{}}"),
            ("application/json", ""),
            ("multipart/form-data", "--x--"),
            ("multipart/form-data; boundary=x", "--x\r\nA: b\r\n\r\n1\r\n--x--"),
            (
                "multipart/form-data; boundary=x",
                "--x\r\nContent-Disposition: form-data; name=a\r\n\r\n1",
            ),
            ("multipart/form-data; boundary=x", "rubbish"),
            ("", "a=1&a=2"),
        ] {
            assert!(Fields::read(content_type, body.as_bytes()).is_err(), "{content_type} {body}");
        }
        assert_eq!(Fields::read("", b""), Ok(Fields::default()));
    }
}
