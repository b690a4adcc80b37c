//! Writes one value into a query, form, JSON or XML, and leaves everything else as it is spelled.

use std::borrow::Cow;

use crate::sender::request::encoding::{self, Plus};
use crate::sender::request::json;
use crate::sender::request::xml;

/// The query of a target; empty where it has none.
pub(super) fn query(target: &[u8]) -> &[u8] {
    memchr::memchr(b'?', target).map_or(&[], |at| &target[at + 1..])
}

/// `target` with another query.
pub(super) fn with_query(target: &[u8], query: &[u8]) -> Vec<u8> {
    let path = memchr::memchr(b'?', target).map_or(target, |at| &target[..at]);
    if query.is_empty() { path.to_vec() } else { [path, b"?", query].concat() }
}

/// `pairs` (`k=v&k=v`) with the value of `name` replaced, or appended. It is percent-encoded.
pub(super) fn put_pair(pairs: &[u8], name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut written = Vec::new();
    encoding::percent(name, &mut written);
    written.push(b'=');
    encoding::percent(value, &mut written);
    let mut out = Vec::with_capacity(pairs.len() + written.len() + 1);
    let mut is_there = false;
    for pair in pairs.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
        if !out.is_empty() {
            out.push(b'&');
        }
        let key = pair.split(|byte| *byte == b'=').next().unwrap_or_default();
        if encoding::unpercented(key, Plus::Space) == name {
            is_there = true;
            out.extend_from_slice(&written);
        } else {
            out.extend_from_slice(pair);
        }
    }
    if !is_there {
        if !out.is_empty() {
            out.push(b'&');
        }
        out.extend_from_slice(&written);
    }
    out
}

/// `pairs` without those that `is_out` selects, and the selected ones, decoded.
pub(super) fn split_pairs(
    pairs: &[u8],
    is_out: impl Fn(&[u8]) -> bool,
) -> (Vec<u8>, Vec<(String, String)>) {
    let mut kept: Vec<&[u8]> = Vec::new();
    let mut out = Vec::new();
    let text = |bytes: &[u8]| {
        String::from_utf8_lossy(&encoding::unpercented(bytes, Plus::Space)).into_owned()
    };
    for pair in pairs.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
        let at = memchr::memchr(b'=', pair).unwrap_or(pair.len());
        let (name, value) = (&pair[..at], pair.get(at + 1..).unwrap_or_default());
        if is_out(&encoding::unpercented(name, Plus::Space)) {
            out.push((text(name), text(value)));
        } else {
            kept.push(pair);
        }
    }
    (kept.join(&b'&'), out)
}

/// The JSON object `object` with the member at `path` set to `text`; `None` where it is none.
pub(super) fn put_json(object: &[u8], path: &[&str], text: &str) -> Option<Vec<u8>> {
    let (first, rest) = path.split_first()?;
    if object.starts_with(b"[") {
        return put_item(object, first, rest, text);
    }
    let members = json::members(object)?;
    let known = members.iter().find(|member| member.name == *first);
    let empty: &[u8] = if rest.first() == Some(&"0") { b"[]" } else { b"{}" };
    let old = known.map_or(empty, |member| member.raw);
    let new = match rest {
        [] => encoding::json_string(text).into_bytes(),
        // A text that is JSON stays one.
        _ if old.first() == Some(&b'"') => {
            let inner = encoding::json_text(old).ok()??.into_owned();
            let inner = put_json(&inner, rest, text)?;
            encoding::json_string(std::str::from_utf8(&inner).ok()?).into_bytes()
        }
        _ => put_json(old, rest, text)?,
    };
    if let Some(member) = known {
        let start = offset(object, member.raw)?;
        let end = start + member.raw.len();
        return Some([&object[..start], &new, &object[end..]].concat());
    }
    let end = object.iter().rposition(|byte| *byte == b'}')?;
    let comma: &[u8] = if members.is_empty() { b"" } else { b"," };
    let name = encoding::json_string(first);
    Some([&object[..end], comma, name.as_bytes(), b":", &new, &object[end..]].concat())
}

/// The JSON list `list` with the item at the index `at`, or what `path` leads to in it, set to
/// `text`; a new item follows the last one.
fn put_item(list: &[u8], at: &str, path: &[&str], text: &str) -> Option<Vec<u8>> {
    let at: usize = at.parse().ok()?;
    let mut items: Vec<Vec<u8>> = json::items(list)?.into_iter().map(<[u8]>::to_vec).collect();
    if at == items.len() {
        items.push(b"{}".to_vec());
    }
    let old = items.get_mut(at)?;
    *old = match path {
        [] => encoding::json_string(text).into_bytes(),
        path => put_json(old, path, text)?,
    };
    Some([b"[", items.join(&b',').as_slice(), b"]"].concat())
}

/// The JSON object `object` without the members that `is_out` selects, and the selected ones.
pub(super) fn split_json(
    object: &[u8],
    is_out: impl Fn(&str) -> bool,
) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut sides = [Vec::new(), Vec::new()];
    for member in json::members(object)? {
        let side = &mut sides[usize::from(is_out(&member.name))];
        side.push([encoding::json_string(&member.name).as_bytes(), b":", member.raw].concat());
    }
    let [kept, out] = sides.map(|side| [b"{", side.join(&b',').as_slice(), b"}"].concat());
    Some((kept, out))
}

/// The XML document `document` with the child at `path` of its root set to `text`.
pub(super) fn put_xml(document: &[u8], path: &[&str], text: &str) -> Option<Vec<u8>> {
    let (root, end) = root_inner(document)?;
    let inner = put_child(&document[root..end], path, text)?;
    Some([&document[..root], &inner, &document[end..]].concat())
}

fn put_child(inner: &[u8], path: &[&str], text: &str) -> Option<Vec<u8>> {
    let (first, rest) = path.split_first()?;
    let old = xml::child(inner, first).ok()?;
    let new = match rest {
        [] => cdata(text),
        _ => put_child(old.unwrap_or_default(), rest, text)?,
    };
    match old.filter(|old| !old.is_empty()).and_then(|old| Some((offset(inner, old)?, old.len()))) {
        Some((start, len)) => Some([&inner[..start], &new, &inner[start + len..]].concat()),
        None => {
            let (open, close) = (format!("<{first}>"), format!("</{first}>"));
            Some([inner, open.as_bytes(), &new, close.as_bytes()].concat())
        }
    }
}

fn cdata(text: &str) -> Vec<u8> {
    format!("<![CDATA[{}]]>", text.replace("]]>", "]]]]><![CDATA[>")).into_bytes()
}

/// Where the text of the root element starts and ends.
fn root_inner(document: &[u8]) -> Option<(usize, usize)> {
    xml::children_of_root(document)?;
    let text = std::str::from_utf8(document).ok()?;
    let mut from = 0;
    // What is not behind the declaration and comments has been refused above.
    loop {
        let at = from + text[from..].find('<')?;
        let rest = &text[at..];
        if rest.starts_with("<?") {
            from = at + rest.find("?>")?;
        } else if rest.starts_with("<!--") {
            from = at + rest.find("-->")?;
        } else {
            let start = at + rest.find('>')? + 1;
            return Some((start, text.rfind("</")?.max(start)));
        }
    }
}

/// `part`'s place in `whole`, of which it is a slice.
fn offset(whole: &[u8], part: &[u8]) -> Option<usize> {
    let at = (part.as_ptr() as usize).checked_sub(whole.as_ptr() as usize)?;
    (at + part.len() <= whole.len()).then_some(at)
}

/// `pairs` as a query or form.
pub(super) fn as_pairs(pairs: &[(String, String)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in pairs {
        if !out.is_empty() {
            out.push(b'&');
        }
        encoding::percent(name.as_bytes(), &mut out);
        out.push(b'=');
        encoding::percent(value.as_bytes(), &mut out);
    }
    out
}

/// `pairs` as a JSON object of texts; a dot steps into an object.
pub(super) fn as_json(pairs: &[(String, String)]) -> Option<Vec<u8>> {
    pairs.iter().try_fold(b"{}".to_vec(), |object, (name, value)| {
        put_json(&object, &name.split('.').collect::<Vec<_>>(), value)
    })
}

/// `pairs` as an XML document; a dot steps into an element.
pub(super) fn as_xml(pairs: &[(String, String)]) -> Option<Vec<u8>> {
    pairs.iter().try_fold(b"<xml></xml>".to_vec(), |document, (name, value)| {
        put_xml(&document, &name.split('.').collect::<Vec<_>>(), value)
    })
}

/// A list with the value of `name` replaced, or appended.
pub(super) fn put_listed(
    list: &[u8],
    shape: &crate::sender::language::shape::Shape,
    name: &[u8],
    value: &[u8],
) -> Vec<u8> {
    let within = shape.within.as_deref().unwrap_or_default();
    let pair = [name, within, value].concat();
    let text = String::from_utf8_lossy(list);
    let between = String::from_utf8_lossy(&shape.between);
    let lead = [name, within].concat();
    let mut parts: Vec<Cow<'_, [u8]>> = text
        .split(&*between)
        .map(str::trim)
        .filter(|part| !part.is_empty() && !part.as_bytes().starts_with(&lead))
        .map(|part| Cow::Owned(part.as_bytes().to_vec()))
        .collect();
    parts.push(Cow::Owned(pair));
    parts.join(&shape.between[..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sender::language::shape::Shape;

    fn shown(bytes: Option<Vec<u8>>) -> String {
        bytes.map_or_else(|| "none".to_owned(), |bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn an_item_of_a_list_is_replaced_or_appended() {
        let put = |object: &[u8], name: &str, text| {
            shown(put_json(object, &name.split('.').collect::<Vec<_>>(), text))
        };
        assert_eq!(put(b"{}", "a.0.b", "x"), r#"{"a":[{"b":"x"}]}"#);
        assert_eq!(put(br#"{"a":[{"b":1},2]}"#, "a.0.c", "x"), r#"{"a":[{"b":1,"c":"x"},2]}"#);
        assert_eq!(put(br#"{"a":[1,2]}"#, "a.1", "x"), r#"{"a":[1,"x"]}"#);
        assert_eq!(put(br#"{"a":[]}"#, "a.1", "x"), "none");
        assert_eq!(put(br#"{"a":[]}"#, "a.b", "x"), "none");
    }

    #[test]
    fn a_pair_is_replaced_or_appended() {
        assert_eq!(put_pair(b"a=1&%73ign=x&b=2", b"sign", b"y z"), b"a=1&sign=y%20z&b=2");
        assert_eq!(put_pair(b"a=1", b"sign", b"+/="), b"a=1&sign=%2B%2F%3D");
        assert_eq!(put_pair(b"", b"sign", b"1"), b"sign=1");
    }

    #[test]
    fn a_member_is_replaced_or_appended_and_the_rest_stands() {
        assert_eq!(
            shown(put_json(b"{ \"a\" : 1.50 }", &["b"], "x")),
            "{ \"a\" : 1.50 ,\"b\":\"x\"}"
        );
        assert_eq!(
            shown(put_json(b"{\"a\":{\"b\":1}}", &["a", "b"], "2")),
            "{\"a\":{\"b\":\"2\"}}"
        );
        assert_eq!(shown(put_json(b"{}", &["a", "b"], "\"")), r#"{"a":{"b":"\""}}"#);
        assert_eq!(
            shown(put_json(br#"{"p":"{\"x\":1}"}"#, &["p", "y"], "2")),
            r#"{"p":"{\"x\":1,\"y\":\"2\"}"}"#
        );
        assert_eq!(shown(put_json(b"[1]", &["a"], "x")), "none");
    }

    #[test]
    fn a_child_is_replaced_or_appended() {
        let document = b"<?xml version='1.0'?><xml><a>1</a></xml>";
        assert_eq!(
            shown(put_xml(document, &["a"], "2")),
            "<?xml version='1.0'?><xml><a><![CDATA[2]]></a></xml>"
        );
        assert_eq!(
            shown(put_xml(document, &["b", "c"], "]]>")),
            "<?xml version='1.0'?><xml><a>1</a><b><c><![CDATA[]]]]><![CDATA[>]]></c></b></xml>"
        );
        assert_eq!(shown(put_xml(b"x", &["a"], "2")), "none");
    }

    #[test]
    fn lists_are_composed_in_their_shape() {
        let stripe = Shape::parse("k=v,k=v").unwrap();
        assert_eq!(put_listed(b"t=1,v1=a,v1=b", &stripe, b"v1", b"c"), b"t=1,v1=c");
        let webhooks = Shape::parse("k,v k,v").unwrap();
        assert_eq!(put_listed(b"", &webhooks, b"v1", b"AA="), b"v1,AA=");
    }

    #[test]
    fn pairs_and_members_are_taken_apart() {
        let (kept, out) = split_pairs(b"a=1&b=x+y&c", |name| name == b"b");
        assert_eq!(kept, b"a=1&c");
        assert_eq!(out, [("b".to_owned(), "x y".to_owned())]);
        let (kept, out) = split_json(br#"{"a":1, "b":[2]}"#, |name| name == "b").unwrap();
        assert_eq!(kept, br#"{"a":1}"#);
        assert_eq!(out, br#"{"b":[2]}"#);
    }
}
