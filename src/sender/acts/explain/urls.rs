//! Mistakes in a signed URL or query: another address, a part of it alone, or too much of it.

use http::header;

use crate::sender::acts::explain::advice::{Advice, Phrase, phrase};
use crate::sender::acts::explain::case::{Budget, Case};
use crate::sender::acts::explain::draft::{self, Draft, Field};
use crate::sender::acts::explain::{Mistake, MistakeKind};
use crate::sender::language::bound::{Gateway, Input};
use crate::sender::language::modifier::Modifier;

/// A text that was signed in place of the right one, and what the advice says of it.
struct Other {
    text: Vec<u8>,
    about: Phrase,
    /// The whole address, where there is one.
    address: Option<String>,
}

/// Another address than the one that the sender calls, or only a part of it.
pub(super) fn other(case: &Case<'_>, bases: &[&str], budget: &mut Budget) -> Option<Mistake> {
    let mut spots = case.variant.of.spots();
    let signed = spots.find_map(|spot| match spot.input {
        Input::Gateway(gateway @ (Gateway::Url | Gateway::Query)) => Some(gateway),
        _ => None,
    })?;
    match signed {
        Gateway::Url => of_url(case, bases, budget),
        _ => of_query(case, bases, budget),
    }
}

fn of_url(case: &Case<'_>, bases: &[&str], budget: &mut Budget) -> Option<Mistake> {
    let draft = &case.draft;
    let index = draft.items.iter().position(|item| item.name == "url")?;
    let field = draft.items[index].field()?;
    if let Some(mistake) = with_its_own(case, index, field, budget) {
        return Some(mistake);
    }
    for other in others(case, bases) {
        // Each has the whole URL, composed twice to be compared.
        if !budget.work(2 * other.text.len()) {
            return None;
        }
        let Some(text) = draft::modified(&other.text, &field.modifiers) else { continue };
        let changed = draft.with(index, draft.items[index].saying(text.into_owned()));
        if text_differs(draft, &changed) && case.matches(&changed, budget) {
            return Some(mistake(case, &other));
        }
    }
    None
}

fn of_query(case: &Case<'_>, bases: &[&str], budget: &mut Budget) -> Option<Mistake> {
    let callback = case.callback;
    let at = callback.request.target.len() - callback.query.len();
    let path = &callback.request.target[..at];
    let mut heads = vec![path.to_vec()];
    for base in all_bases(case, bases) {
        heads.push([base.as_bytes(), path].concat());
    }
    for head in heads {
        let mut changed = case.draft.clone();
        changed.head.splice(0..0, head.iter().copied());
        if case.matches(&changed, budget) {
            let advice = phrase(
                "More than the query was signed: sign only the part after the `?`.",
                "签名的内容不止查询串：请只对 `?` 之后的部分签名。",
            );
            return Some(Mistake::new(MistakeKind::OtherUrl, None, advice));
        }
    }
    None
}

fn text_differs(one: &Draft, other: &Draft) -> bool {
    one.written(b"") != other.written(b"")
}

/// The name of the signature, left in the text without its value: `&verifier=`.
fn with_its_own(
    case: &Case<'_>,
    index: usize,
    field: &Field,
    budget: &mut Budget,
) -> Option<Mistake> {
    let name = field.modifiers.iter().find_map(|modifier| match modifier {
        Modifier::Before(name) | Modifier::Without(name) => Some(name),
        _ => None,
    })?;
    let url = &field.raw;
    let starts = [b'?', b'&'].map(|mark| [&[mark], name.as_bytes(), b"="].concat());
    let at =
        starts.iter().find_map(|start| Some(memchr::memmem::find(url, start)? + start.len()))?;
    let end = memchr::memchr(b'&', &url[at..]).map_or(url.len(), |end| at + end);
    let emptied = [&url[..at], &url[end..]].concat();
    // Only the end is cut, and with or without the text before the value.
    let bare = url[..at - 1].to_vec();
    for text in [url[..at].to_vec(), emptied, bare] {
        let changed = case.draft.with(index, case.draft.items[index].saying(text));
        if case.matches(&changed, budget) {
            let advice = Advice::new(
                format!(
                    "`{name}` was left in the signed text without its value: omit it and its \
                     separator."
                ),
                format!("待签名字符串中留下了没有值的 `{name}`：请连同其分隔符一并去掉。"),
            );
            return Some(Mistake::new(MistakeKind::ExtraParameterSigned, Some(name), advice));
        }
    }
    None
}

/// The addresses that the URL may have had where it was signed, and its parts.
fn others(case: &Case<'_>, bases: &[&str]) -> Vec<Other> {
    let callback = case.callback;
    let at = callback.request.target.len() - callback.query.len();
    let (path, query) = callback.request.target.split_at(at);
    let (path, mark) = match path.strip_suffix(b"?") {
        Some(path) => (path, &b"?"[..]),
        None => (path, &b""[..]),
    };
    let base = callback.request.base.as_bytes();
    let part = |text, about| Other { text, about, address: None };
    let mut all = vec![
        part(query.to_vec(), phrase("the query alone", "仅有查询串")),
        part(
            [mark, query].concat(),
            phrase("the query with its `?` alone", "仅有查询串及其前面的 `?`"),
        ),
        part([path, mark, query].concat(), phrase("path and query alone", "仅有路径和查询串")),
        part([base, path].concat(), phrase("the URL without its query", "不含查询串的 URL")),
    ];
    let slashed = [path, b"/"].concat();
    let bare = path.strip_suffix(b"/").unwrap_or(path);
    let bases = std::iter::once(callback.request.base.to_owned()).chain(all_bases(case, bases));
    for base in bases {
        for (path, about) in [
            (path, phrase("the address", "地址")),
            (
                &slashed,
                phrase("the address with a slash behind its path,", "路径末尾多一个斜杠的地址"),
            ),
            (
                bare,
                phrase(
                    "the address without the slash behind its path,",
                    "路径末尾少一个斜杠的地址",
                ),
            ),
            (&b""[..], phrase("the address without its path,", "不含路径的地址")),
        ] {
            let address = Some(format!("{base}{}", String::from_utf8_lossy(path)));
            let text = [base.as_bytes(), path, mark, query].concat();
            all.push(Other { text, about, address });
        }
    }
    all
}

/// Schemes with authorities that may have been called: those that are known, those of the headers,
/// and each with the other scheme and with or without a port.
fn all_bases(case: &Case<'_>, bases: &[&str]) -> Vec<String> {
    let request = case.callback.request;
    let mut all: Vec<String> = bases.iter().map(|base| (*base).to_owned()).collect();
    let forwarded = http::HeaderName::from_static("x-forwarded-host");
    for name in [header::HOST, forwarded] {
        let host = request.headers.get(name).and_then(|host| host.to_str().ok());
        all.extend(host.map(|host| format!("https://{host}")));
    }
    all.push(request.base.to_owned());
    let mut variants = Vec::new();
    for base in all {
        let Some((_, authority)) = base.split_once("://") else { continue };
        let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
        variants.extend([
            base.clone(),
            format!("https://{authority}"),
            format!("http://{authority}"),
        ]);
        variants.extend([format!("https://{host}"), format!("http://{host}")]);
        variants.extend([format!("https://{host}:443"), format!("http://{host}:80")]);
        variants.push(authority.to_owned());
    }
    let mut once = Vec::new();
    for base in variants {
        if base != request.base && !once.contains(&base) {
            once.push(base);
        }
    }
    once
}

fn mistake(case: &Case<'_>, other: &Other) -> Mistake {
    let request = case.callback.request;
    let path = request.target.split(|byte| *byte == b'?').next().unwrap_or_default();
    let known = format!("{}{}", request.base, String::from_utf8_lossy(path));
    let address = other.address.as_ref();
    let address = address.map_or_else(String::new, |address| format!(" `{address}`"));
    let Phrase { en, zh } = other.about;
    let advice = Advice::new(
        format!(
            "What was signed is {en}{address}: the sender signs the URL that it calls, `{known}` as \
             the gateway knows it. Paste that into its console, or set server.public_url to what \
             it calls."
        ),
        format!(
            "签名的内容是{zh}{address}：发送方对它所调用的 URL 签名，网关所知的是 `{known}`。\
             请将它填入发送方的后台，或将 server.public_url 设为发送方调用的地址。"
        ),
    );
    Mistake::new(MistakeKind::OtherUrl, None, advice)
}
