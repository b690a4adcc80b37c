//! XML bodies, read as slices. No document types, no entities except the five of XML.

use std::borrow::Cow;
use std::collections::BTreeMap;

use quick_xml::Reader;
use quick_xml::events::{BytesRef, Event};

use super::encoding::{self, EncodingError};
use super::parameters::{self, ParameterError, Span};

/// Elements in one another: as deep as JSON may be.
const DEPTH_MAX: usize = super::json::DEPTH_MAX;

/// Name and inner text of an element, as spans of the text it was read from.
pub(in crate::sender) type Child = (Span, Span);

/// The children of the one root element of `text`; `None` when it is no such document.
pub(in crate::sender) fn children_of_root(text: &[u8]) -> Option<Vec<Child>> {
    let text = std::str::from_utf8(text).ok()?;
    let mut reader = Reader::from_str(text);
    loop {
        match reader.read_event().ok()? {
            Event::Start(_) => {
                let (from, to) = to_end(&mut reader)?;
                at_end(&mut reader)?;
                return children(text, from, to);
            }
            Event::Empty(_) => {
                at_end(&mut reader)?;
                return Some(Vec::new());
            }
            Event::Decl(_) | Event::Comment(_) => {}
            Event::Text(blank) if blank.trim().is_empty() => {}
            _ => return None,
        }
    }
}

/// Reads on to the end of the element that has begun, and returns the place of its inner text.
/// `None` when
/// it never ends, or goes too deep.
fn to_end(reader: &mut Reader<&[u8]>) -> Option<(usize, usize)> {
    let from = usize::try_from(reader.buffer_position()).ok()?;
    let mut depth = 1_usize;
    loop {
        let to = usize::try_from(reader.buffer_position()).ok()?;
        match reader.read_event().ok()? {
            Event::Start(_) if depth == DEPTH_MAX => return None,
            Event::Start(_) => depth += 1,
            Event::End(_) if depth == 1 => return Some((from, to)),
            Event::End(_) => depth -= 1,
            Event::Eof | Event::DocType(_) => return None,
            _ => {}
        }
    }
}

/// The text inside the child `name` of an element's inner text.
///
/// # Errors
/// `repeated_parameter` when there are two.
pub(in crate::sender) fn child<'x>(
    inner: &'x [u8],
    name: &str,
) -> Result<Option<&'x [u8]>, ParameterError> {
    let Ok(text) = std::str::from_utf8(inner) else { return Ok(None) };
    let mut reader = Reader::from_str(text);
    let mut found = None;
    while let Ok(event) = reader.read_event() {
        let inner = match event {
            Event::Start(start) => {
                let hit = start.name().0 == name;
                let Ok(inner) = reader.read_to_end(start.name()) else { return Ok(None) };
                hit.then(|| bounds(&inner).and_then(|(from, to)| text.get(from..to))).flatten()
            }
            Event::Empty(start) if start.name().0 == name => Some(""),
            Event::Eof | Event::DocType(_) => break,
            _ => None,
        };
        if inner.is_some() && found.is_some() {
            return Err(parameters::repeated(name));
        }
        found = found.or(inner);
    }
    Ok(found.map(str::as_bytes))
}

/// The text of an element from its inner text: entities and CDATA decoded.
///
/// # Errors
/// [`EncodingError`] if it cannot be decoded, or holds elements. Their source does not count as a
/// text: the same bytes in CDATA are one without members, and a signature is valid for both.
pub(in crate::sender) fn text(inner: &[u8]) -> Result<Cow<'_, [u8]>, EncodingError> {
    if memchr::memchr2(b'<', b'&', inner).is_none() {
        return Ok(Cow::Borrowed(inner));
    }
    if let Some(whole) = whole_cdata(inner) {
        return Ok(Cow::Borrowed(whole));
    }
    let spelled = std::str::from_utf8(inner).map_err(|_| EncodingError)?;
    let mut reader = Reader::from_str(spelled);
    let mut out = String::with_capacity(inner.len());
    loop {
        match reader.read_event().map_err(|_| EncodingError)? {
            Event::Text(part) => out.push_str(&part),
            Event::CData(part) => out.push_str(&part),
            Event::GeneralRef(entity) => out.push(character(&entity)?),
            Event::Comment(_) => {}
            Event::Eof => return Ok(Cow::Owned(out.into_bytes())),
            _ => return Err(EncodingError),
        }
    }
}

/// The JSON object of an element that holds other elements and nothing else but white space: their
/// texts and objects by name, several of one name as a list. `None`: it is a text. What a person
/// typed is a text whatever it looks like, because its markup is escaped or in CDATA.
pub(in crate::sender) fn object(inner: &[u8]) -> Option<Vec<u8>> {
    memchr::memchr(b'<', inner)?;
    let text = std::str::from_utf8(inner).ok()?;
    let mut reader = Reader::from_str(text);
    let mut names: BTreeMap<&str, usize> = BTreeMap::new();
    let mut members: Vec<(&str, Vec<&str>)> = Vec::new();
    loop {
        let before = usize::try_from(reader.buffer_position()).ok()?;
        let (len, value) = match reader.read_event().ok()? {
            Event::Start(start) => {
                let (from, to) = bounds(&reader.read_to_end(start.name()).ok()?)?;
                (start.name().0.len(), text.get(from..to)?)
            }
            Event::Empty(start) => (start.name().0.len(), ""),
            Event::Text(blank) if blank.trim().is_empty() => continue,
            Event::Comment(_) => continue,
            Event::Eof if !members.is_empty() => break,
            _ => return None,
        };
        let name = text.get(before + 1..before + 1 + len)?;
        let at = *names.entry(name).or_insert(members.len());
        match members.get_mut(at) {
            Some((_, values)) => values.push(value),
            None => members.push((name, vec![value])),
        }
    }
    let members = members.iter().map(|(name, values)| {
        let values: Vec<Vec<u8>> = values.iter().map(|value| value_of(value.as_bytes())).collect();
        let value = match values.as_slice() {
            [one] => one.clone(),
            all => [b"[", all.join(&b',').as_slice(), b"]"].concat(),
        };
        [encoding::json_string(name).as_bytes(), b":", &value].concat()
    });
    let members: Vec<Vec<u8>> = members.collect();
    Some([b"{", members.join(&b',').as_slice(), b"}"].concat())
}

/// An element as JSON: an object, or its text; what is neither, as it is spelled.
fn value_of(inner: &[u8]) -> Vec<u8> {
    object(inner).unwrap_or_else(|| {
        let text = text(inner).unwrap_or(Cow::Borrowed(inner));
        encoding::json_string(&String::from_utf8_lossy(&text)).into_bytes()
    })
}

/// The commonest writing: one CDATA section and nothing beside it.
fn whole_cdata(inner: &[u8]) -> Option<&[u8]> {
    let inside = inner.strip_prefix(b"<![CDATA[")?.strip_suffix(b"]]>")?;
    let mut ends = memchr::memmem::find_iter(inside, b"]]>");
    ends.next().is_none().then_some(inside)
}

fn character(entity: &BytesRef<'_>) -> Result<char, EncodingError> {
    if let Some(character) = entity.resolve_char_ref().map_err(|_| EncodingError)? {
        return Ok(character);
    }
    match entity.as_ref() {
        "lt" => Ok('<'),
        "gt" => Ok('>'),
        "amp" => Ok('&'),
        "apos" => Ok('\''),
        "quot" => Ok('"'),
        _ => Err(EncodingError),
    }
}

fn children(text: &str, from: usize, to: usize) -> Option<Vec<Child>> {
    let inner = text.get(from..to)?;
    let mut reader = Reader::from_str(inner);
    let mut found = Vec::new();
    loop {
        let before = from + usize::try_from(reader.buffer_position()).ok()?;
        match reader.read_event().ok()? {
            Event::Start(start) => {
                let name = start.name().0;
                let name_at = Span::new(before + 1, before + 1 + name.len());
                let (inner_from, inner_to) = bounds(&reader.read_to_end(start.name()).ok()?)?;
                found.push((name_at, Span::new(from + inner_from, from + inner_to)));
            }
            Event::Empty(start) => {
                let name_at = Span::new(before + 1, before + 1 + start.name().0.len());
                found.push((name_at, Span::default()));
            }
            Event::DocType(_) | Event::Decl(_) => return None,
            Event::Eof => return Some(found),
            _ => {}
        }
        if found.len() > parameters::PARAMETERS_MAX {
            return Some(found);
        }
    }
}

fn bounds(span: &std::ops::Range<u64>) -> Option<(usize, usize)> {
    Some((usize::try_from(span.start).ok()?, usize::try_from(span.end).ok()?))
}

/// Only white space and comments may follow the root.
fn at_end(reader: &mut Reader<&[u8]>) -> Option<()> {
    loop {
        match reader.read_event().ok()? {
            Event::Eof => return Some(()),
            Event::Comment(_) => {}
            Event::Text(blank) if blank.trim().is_empty() => {}
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sender::request::names::Names;
    use crate::sender::request::parameters::{Buffers, Parameters};

    fn shown(document: &str) -> Option<Vec<(String, String)>> {
        let names = Names::default();
        let mut parameters = Parameters::new();
        parameters.read_xml(document.as_bytes(), &names).ok()?;
        let buffers = Buffers { query: b"", body: document.as_bytes() };
        let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Some(
            parameters
                .iter(buffers)
                .map(|p| (shown(p.name), text(p.raw).map_or("bad".into(), |t| shown(&t))))
                .collect(),
        )
    }

    fn json_of(inner: &str) -> Option<serde_json::Value> {
        object(inner.as_bytes()).map(|json| serde_json::from_slice(&json).unwrap())
    }

    #[test]
    fn elements_in_one_another_are_objects_and_what_was_typed_is_a_text() {
        use serde_json::json;
        assert_eq!(
            json_of(" <T><![CDATA[qr]]></T>\n<R>a&amp;\"b</R><E/><!-- --> "),
            Some(json!({ "T": "qr", "R": "a&\"b", "E": "" }))
        );
        assert_eq!(
            json_of("<I><Id>1</Id></I><N>2</N><I><Id>2</Id></I>"),
            Some(json!({ "I": [{ "Id": "1" }, { "Id": "2" }], "N": "2" }))
        );
        for text in [
            "",
            "a",
            "<![CDATA[<Admin>1</Admin>]]>",
            "&lt;Admin&gt;1&lt;/Admin&gt;",
            "a <b>1</b>",
            "<b>1</b> a",
            "<b>1</b><![CDATA[ ]]>",
            " ",
            "<!-- -->",
        ] {
            assert_eq!(json_of(text), None, "{text}");
        }
        let typed = json_of("<Content><![CDATA[</Content><Admin>1</Admin>]]></Content>");
        assert_eq!(typed, Some(json!({ "Content": "</Content><Admin>1</Admin>" })));
    }

    fn list(pairs: &[(&str, &str)]) -> Option<Vec<(String, String)>> {
        Some(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    #[test]
    fn children_and_their_texts() {
        assert_eq!(
            shown(
                "<?xml version=\"1.0\"?>\n<xml> <a><![CDATA[x<y]]></a><b>1 &amp; &#20154;</b>\n<c/><d k='v'>z</d></xml>\n"
            ),
            list(&[("a", "x<y"), ("b", "1 & 人"), ("c", ""), ("d", "z")]),
        );
    }

    #[test]
    fn document_types_and_unknown_entities_are_refused() {
        assert_eq!(shown("<!DOCTYPE x [<!ENTITY e \"v\">]><xml><a>&e;</a></xml>"), None);
        assert_eq!(shown("<xml><a>&e;</a></xml>"), list(&[("a", "bad")]));
    }

    #[test]
    fn what_is_no_document_is_refused() {
        for text in ["", "x", "<xml>", "<xml></a></xml>", "<a/><b/>", "<a>]]></a>x"] {
            assert_eq!(shown(text), None, "{text}");
        }
    }

    #[test]
    fn a_document_goes_so_deep_and_no_deeper() {
        let nested = |depth: usize| format!("{}{}", "<a>".repeat(depth), "</a>".repeat(depth));
        assert!(shown(&nested(DEPTH_MAX)).is_some());
        assert_eq!(shown(&nested(DEPTH_MAX + 1)), None);
        assert_eq!(shown(&nested(20_000)), None);
    }

    #[test]
    fn two_cdata_sections_are_joined() {
        assert_eq!(text(b"<![CDATA[a]]><![CDATA[b]]>").unwrap().as_ref(), b"ab");
    }

    #[test]
    fn an_element_that_holds_elements_has_no_text() {
        for inner in ["<a>1</a>", "<a/>", "{\"b\":\"<a>1</a>\"}", "x<a>1</a>", "<!-- --><a></a>"] {
            assert_eq!(text(inner.as_bytes()), Err(EncodingError), "{inner}");
        }
        for inner in ["<![CDATA[<a>1</a>]]>", "&lt;a>1&lt;/a>", "<!-- <a> -->&lt;a>1&lt;/a>"] {
            assert_eq!(text(inner.as_bytes()).unwrap().as_ref(), b"<a>1</a>", "{inner}");
        }
    }
}
