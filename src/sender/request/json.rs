//! JSON bodies, read as slices: members keep their original bytes.

mod cursor;

use std::borrow::Cow;
use std::fmt;

use serde::Deserializer as _;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;
use smallvec::SmallVec;

use super::parameters::{self, ParameterError, Span};

pub(in crate::sender) use cursor::Cursor;

/// One member of an object.
#[derive(Debug)]
pub(in crate::sender) struct Member<'j> {
    /// Its name, decoded.
    pub(in crate::sender) name: Cow<'j, str>,
    /// Its value, as spelled.
    pub(in crate::sender) raw: &'j [u8],
}

type Members<'j> = SmallVec<[Member<'j>; 16]>;

/// The members of the object `text`; `None` if it is not a JSON object.
pub(in crate::sender) fn members(text: &[u8]) -> Option<Members<'_>> {
    let mut members = Members::new();
    let mut reader = serde_json::Deserializer::from_slice(text);
    reader.deserialize_map(MembersVisitor(&mut members)).ok()?;
    reader.end().ok()?;
    (depth(text) <= DEPTH_MAX).then_some(members)
}

/// The items of the list that `text` is, as spelled; `None` when it is not a list.
pub(in crate::sender) fn items(text: &[u8]) -> Option<Vec<&[u8]>> {
    let items: Vec<&RawValue> = serde_json::from_slice(text).ok()?;
    let items = items.into_iter().map(|item| item.get().as_bytes()).collect();
    (depth(text) <= DEPTH_MAX).then_some(items)
}

/// Whether `text` is JSON, and not too deep.
pub(super) fn is_well_formed(text: &[u8]) -> bool {
    serde_json::from_slice::<&RawValue>(text).is_ok() && depth(text) <= DEPTH_MAX
}

/// The depth of nested objects and lists: backends' parsers usually stop at about 100.
pub(in crate::sender) const DEPTH_MAX: usize = 64;

/// How deep `text`, which is JSON, goes.
fn depth(text: &[u8]) -> usize {
    let (mut depth, mut deepest, mut rest) = (0_usize, 0, text);
    while let Some((byte, behind)) = rest.split_first() {
        rest = behind;
        match byte {
            b'"' => rest = behind_string(rest),
            b'{' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// The text behind the string whose opening quote precedes `text`.
fn behind_string(mut text: &[u8]) -> &[u8] {
    while let Some(at) = memchr::memchr2(b'"', b'\\', text) {
        let step = if text[at] == b'"' { 1 } else { 2 };
        let behind = text.get(at + step..).unwrap_or_default();
        if step == 1 {
            return behind;
        }
        text = behind;
    }
    &[]
}

/// The value of the member `name` of the object that `text` is.
///
/// # Errors
/// `repeated_parameter` when there are two.
pub(in crate::sender) fn member<'j>(
    text: &'j [u8],
    name: &str,
) -> Result<Option<&'j [u8]>, ParameterError> {
    let Some(members) = members(text) else { return Ok(None) };
    let mut found = members.iter().filter(|member| member.name == name);
    let first = found.next().map(|member| member.raw);
    if found.next().is_some() { Err(parameters::repeated(name)) } else { Ok(first) }
}

/// The highest number of an item that a text can name: real lists have a few.
const INDEX_MAX: usize = 99;

/// The member `name` of an object, or the item `name`, a number from 0, of a list.
///
/// # Errors
/// `repeated_parameter` when there are two such members.
pub(in crate::sender) fn inner<'j>(
    text: &'j [u8],
    name: &str,
) -> Result<Option<&'j [u8]>, ParameterError> {
    if text.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'[') {
        return member(text, name);
    }
    let Some(index) = index_of(name) else { return Ok(None) };
    Ok(items(text).and_then(|items| items.get(index).copied()))
}

/// The number of an item, if `name` is one.
fn index_of(name: &str) -> Option<usize> {
    let is_plain = name == "0" || !name.starts_with('0');
    let digits = name.bytes().all(|byte| byte.is_ascii_digit());
    let index = name.parse::<usize>().ok().filter(|index| *index <= INDEX_MAX);
    index.filter(|_| is_plain && digits)
}

/// As [`inner`], of a value that is a part of JSON that was read before, and is not parsed again.
///
/// # Errors
/// `repeated_parameter` when there are two such members.
pub(in crate::sender) fn inner_of_read<'j>(
    text: &'j [u8],
    name: &str,
) -> Result<Option<&'j [u8]>, ParameterError> {
    let mut cursor = Cursor::new(text);
    match cursor.peek() {
        Some(b'{') => match member_at(cursor, name) {
            Some(Occurrence::Twice) => Err(parameters::repeated(name)),
            Some(Occurrence::Once(value)) => Ok(Some(value)),
            Some(Occurrence::Never) | None => Ok(None),
        },
        Some(b'[') => Ok(index_of(name).and_then(|index| item_at(cursor, index))),
        _ => Ok(None),
    }
}

/// How often an object has a member.
enum Occurrence<'j> {
    Never,
    Once(&'j [u8]),
    Twice,
}

/// The member `name` of the object at the cursor; `None` if it has a name without a text.
fn member_at<'j>(mut cursor: Cursor<'j>, name: &str) -> Option<Occurrence<'j>> {
    let mut found = Occurrence::Never;
    cursor.pass();
    loop {
        match cursor.peek()? {
            b'}' => return Some(found),
            b',' => cursor.pass(),
            _ => {
                let own = cursor.name()?;
                cursor.pass_colon();
                let value = cursor.value()?;
                if own == name {
                    found = match found {
                        Occurrence::Never => Occurrence::Once(value),
                        Occurrence::Once(_) | Occurrence::Twice => Occurrence::Twice,
                    };
                }
            }
        }
    }
}

/// The item of that number in the list at the cursor.
fn item_at<'j>(mut cursor: Cursor<'j>, index: usize) -> Option<&'j [u8]> {
    let mut before = 0;
    cursor.pass();
    loop {
        match cursor.peek()? {
            b']' => return None,
            b',' => cursor.pass(),
            _ => {
                let value = cursor.value()?;
                if before == index {
                    return Some(value);
                }
                before += 1;
            }
        }
    }
}

/// The position of `part`, a slice of `whole`.
pub(in crate::sender) fn span(whole: &[u8], part: &[u8]) -> Span {
    let start = (part.as_ptr() as usize).saturating_sub(whole.as_ptr() as usize);
    Span::new(start, start + part.len())
}

/// Adds members to these: a list that is returned would be copied at each step.
struct MembersVisitor<'m, 'j>(&'m mut Members<'j>);

impl<'j> Visitor<'j> for MembersVisitor<'_, 'j> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'j>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while let Some((Name(name), raw)) = map.next_entry::<Name<'j>, &'j RawValue>()? {
            self.0.push(Member { name, raw: raw.get().as_bytes() });
        }
        Ok(())
    }
}

/// A member's name, borrowed where it holds no escape.
#[derive(serde::Deserialize)]
#[serde(transparent)]
struct Name<'j>(#[serde(borrow)] Cow<'j, str>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_keep_their_spelling() {
        let text = br#" {"a": 1.50, "b\u0063": "x", "c": {"d": [1, 2]} } "#;
        let members = members(text).unwrap();
        let shown: Vec<_> = members
            .iter()
            .map(|member| (member.name.as_ref(), std::str::from_utf8(member.raw).unwrap()))
            .collect();
        assert_eq!(shown, [("a", "1.50"), ("bc", "\"x\""), ("c", r#"{"d": [1, 2]}"#)]);
    }

    #[test]
    fn what_is_no_object_has_no_members() {
        for text in ["[1]", "1", "", "{", "{} x", "{\"a\":}", "\u{feff}{}"] {
            assert!(members(text.as_bytes()).is_none(), "{text}");
        }
    }

    #[test]
    fn a_part_that_was_read_is_found_as_in_one_that_is_parsed() {
        for text in [
            r#"{"a": 1, "b\u0063" : "x\"}", "c": {"d": [1, {"a": 2}]}, "e":null}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"a":1,"a":2,"\ud83d":3}"#,
            r#"{ }"#,
            "[ ]",
            r#"[1 ,[2,3], {"a":"]"},"\\" , true]"#,
            r#"{"":{"a":1},"a":"é"}"#,
        ] {
            for name in ["a", "bc", "c", "e", "", "0", "1", "2", "3", "4", "5", "01", "x"] {
                let (text, raw) = (text.as_bytes(), |found: Result<Option<&[u8]>, _>| {
                    found
                        .map(|value| value.map(|value| String::from_utf8_lossy(value).into_owned()))
                });
                assert_eq!(raw(inner_of_read(text, name)), raw(inner(text, name)), "{name}");
            }
        }
    }

    #[test]
    fn a_deep_value_is_refused_and_brackets_in_texts_are_not_deep() {
        let text = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(members(text.as_bytes()).is_none());
        let text = format!("{{\"a\":\"\\\"{}\"}}", "[".repeat(1000));
        assert!(members(text.as_bytes()).is_some());
    }
}
