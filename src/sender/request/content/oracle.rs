//! The digest as it was first written, every path in full: what stores hold was made by it.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use quick_xml::Reader;
use quick_xml::events::Event;
use sha2::{Digest as _, Sha256};

use crate::sender::acts::outcome::Reason;
use crate::sender::request::encoding::{self, Plus};
use crate::sender::request::parameters::{self, ParameterError, Place};
use crate::sender::request::{json, xml};

/// A leaf: its path, each step with its length in front, and its text.
type Leaf = (Vec<u8>, Vec<u8>);

/// The digest of `message`, in the format of `place`, without the `volatile` members.
///
/// # Errors
/// `bad_body` if it is not written so, `repeated_parameter` if a JSON member repeats.
pub(super) fn digest(
    message: &[u8],
    place: Place,
    volatile: &[String],
) -> Result<[u8; 32], ParameterError> {
    let mut leaves = Vec::new();
    let mut path = Path { steps: Vec::new(), volatile };
    match place {
        Place::Json => json_leaves(message, &mut path, &mut leaves)?,
        Place::Xml => xml_leaves(message, &mut path, &mut leaves)?,
        Place::Query | Place::Form => form_leaves(message, &mut path, &mut leaves),
    }
    leaves.sort_unstable();
    let mut hash = Sha256::new();
    for (path, text) in leaves {
        for part in [path, text] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
    }
    Ok(hash.finalize().into())
}

/// Where a walk is.
struct Path<'v> {
    steps: Vec<Vec<u8>>,
    volatile: &'v [String],
}

impl Path<'_> {
    /// Whether this value changes when a provider repeats a message.
    fn is_volatile(&self) -> bool {
        let is_here = |name: &String| {
            let mut rest = Some(name.as_bytes());
            // Step by step: a callback may have as many values as bytes, and most differ at once.
            let steps = self.steps.iter().all(|step| {
                let Some(after) = rest.and_then(|rest| rest.strip_prefix(step.as_slice())) else {
                    return false;
                };
                rest = after.strip_prefix(b".").or(after.is_empty().then_some(after));
                rest.is_some()
            });
            steps && rest.is_some_and(<[u8]>::is_empty) && !name.ends_with('.')
        };
        self.volatile.iter().any(is_here)
    }

    fn leaf(&self, text: &[u8]) -> Leaf {
        let mut path = Vec::new();
        for step in &self.steps {
            path.extend_from_slice(&(step.len() as u32).to_be_bytes());
            path.extend_from_slice(step);
        }
        (path, text.to_vec())
    }

    /// Walks one step further, unless that leads to something volatile.
    fn with<E>(
        &mut self,
        step: Vec<u8>,
        walk: impl FnOnce(&mut Self) -> Result<(), E>,
    ) -> Result<(), E> {
        self.steps.push(step);
        let result = if self.is_volatile() { Ok(()) } else { walk(self) };
        self.steps.pop();
        result
    }
}

/// Leaves without a text. No JSON text of a provider begins with a NUL.
const NULL: &[u8] = b"\0null";
const EMPTY: &[u8] = b"\0empty";

fn bad_body() -> ParameterError {
    ParameterError::new(Reason::BadBody)
}

fn json_leaves(text: &[u8], path: &mut Path<'_>, to: &mut Vec<Leaf>) -> Result<(), ParameterError> {
    let text = text.trim_ascii();
    match text.first() {
        Some(b'{') => {
            let members = json::members(text).ok_or_else(bad_body)?;
            to.extend(members.is_empty().then(|| path.leaf(EMPTY)));
            let mut known: HashSet<&str> = HashSet::with_capacity(members.len());
            for member in &members {
                if !known.insert(&member.name) {
                    return Err(parameters::repeated(&member.name));
                }
                path.with(member.name.as_bytes().to_vec(), |path| {
                    json_leaves(member.raw, path, to)
                })?;
            }
            Ok(())
        }
        Some(b'[') => {
            let items = json::items(text).ok_or_else(bad_body)?;
            to.extend(items.is_empty().then(|| path.leaf(EMPTY)));
            for (index, item) in items.iter().enumerate() {
                path.with(index.to_string().into_bytes(), |path| json_leaves(item, path, to))?;
            }
            Ok(())
        }
        Some(_) => {
            to.push(match encoding::json_text(text) {
                // A lone surrogate has no text: what is spelled tells it apart.
                Ok(Some(Cow::Owned(value))) if str::from_utf8(&value).is_err() => path.leaf(text),
                Ok(Some(value)) => path.leaf(&value),
                Ok(None) => path.leaf(NULL),
                Err(_) => path.leaf(text),
            });
            Ok(())
        }
        None => Err(bad_body()),
    }
}

/// The leaves of the root's content. A repeated element is numbered by the earlier ones of its
/// name.
fn xml_leaves(text: &[u8], path: &mut Path<'_>, to: &mut Vec<Leaf>) -> Result<(), ParameterError> {
    let children = xml::children_of_root(text).ok_or_else(bad_body)?;
    let children = children.into_iter().map(|(name, inner)| (name.of(text), inner.of(text)));
    element_leaves(&children.collect::<Vec<_>>(), path, to)
}

fn element_leaves(
    children: &[(&[u8], &[u8])],
    path: &mut Path<'_>,
    to: &mut Vec<Leaf>,
) -> Result<(), ParameterError> {
    let mut counts: HashMap<&[u8], usize> = HashMap::new();
    for (name, inner) in children {
        let count = counts.entry(name).or_default();
        let earlier = *count;
        *count += 1;
        path.with(name.to_vec(), |path| {
            let walk = |path: &mut Path<'_>, to: &mut Vec<Leaf>| match inner_elements(inner) {
                Some(inner) => element_leaves(&inner, path, to),
                None => {
                    let text = xml::text(inner).map_err(|_| bad_body())?;
                    to.push(path.leaf(&text));
                    Ok(())
                }
            };
            match earlier {
                0 => walk(path, to),
                number => path.with(number.to_string().into_bytes(), |path| walk(path, to)),
            }
        })?;
    }
    Ok(())
}

/// The elements inside an element; `None` where it holds a text.
fn inner_elements(inner: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    let text = std::str::from_utf8(inner).ok()?;
    let mut reader = Reader::from_str(text);
    let mut found = Vec::new();
    loop {
        match reader.read_event().ok()? {
            Event::Start(start) => {
                let name = named(text, start.name().0)?;
                let span = reader.read_to_end(start.name()).ok()?;
                let (from, to) = (usize::try_from(span.start), usize::try_from(span.end));
                found.push((name, inner.get(from.ok()?..to.ok()?)?));
            }
            Event::Empty(start) => found.push((named(text, start.name().0)?, &[][..])),
            Event::Eof => return (!found.is_empty()).then_some(found),
            _ => {}
        }
    }
}

/// The name of an element, as a slice of the text that it was read from.
fn named<'t>(text: &'t str, name: &str) -> Option<&'t [u8]> {
    let start = (name.as_ptr() as usize).checked_sub(text.as_ptr() as usize)?;
    text.as_bytes().get(start..start + name.len())
}

fn form_leaves(text: &[u8], path: &mut Path<'_>, to: &mut Vec<Leaf>) {
    for pair in text.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
        let equals = memchr::memchr(b'=', pair).unwrap_or(pair.len());
        let value = pair.get(equals + 1..).unwrap_or_default();
        let name = encoding::unpercented(&pair[..equals], Plus::Space).into_owned();
        let walked: Result<(), std::convert::Infallible> = path.with(name, |path| {
            to.push(path.leaf(&encoding::unpercented(value, Plus::Space)));
            Ok(())
        });
        let Ok(()) = walked;
    }
}
