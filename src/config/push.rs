//! `push_apps` and `push_path` of a destination: which push configurations may name it, and below
//! which path.

use super::file::{Item, Read, Section, ValueError};
use super::unit;

/// Which push configurations may name a destination, and below which path they reach it. A
/// destination that names no app is out of reach for all of them: its credentials are not theirs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PushGrant {
    /// The ids of the apps.
    pub apps: Vec<String>,
    /// The path, without a slash at its end: empty for all paths.
    pub path: String,
}

/// Why a path is not one that a push configuration may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PushPathError {
    /// The path does not begin with a slash, or no request could have it.
    #[error("is not a path such as /container-echo")]
    NotAPath,
    /// The path has a query or a fragment.
    #[error("has a query or a fragment")]
    Query,
    /// A segment is `.` or `..`, escaped or with parameters behind it: servers walk up by it.
    #[error("has a dot segment")]
    DotSegment,
    /// A slash, a backslash, a dot or a percent sign is escaped: servers and the proxies before
    /// them read such a path in different ways.
    #[error("has an escaped slash, backslash, dot or percent sign, or a backslash")]
    Escape,
    /// Two slashes stand side by side: some servers read them as one.
    #[error("has an empty segment")]
    EmptySegment,
}

/// Escapes that are read in different ways, in lower case.
const AMBIGUOUS: [&str; 4] = ["%2f", "%5c", "%2e", "%25"];

impl PushGrant {
    /// Whether that app may name the destination.
    #[must_use]
    pub fn admits(&self, app: &str) -> bool {
        self.apps.iter().any(|known| known == app)
    }

    /// Whether `path` is the granted one or lies below it, however a server reads it.
    #[must_use]
    pub fn covers(&self, path: &str) -> bool {
        let below = path.strip_prefix(self.path.as_str());
        check_push_path(path).is_ok()
            && below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

/// Whether every server reads `path` as it is written.
///
/// # Errors
/// What is wrong with it.
pub fn check_push_path(path: &str) -> Result<(), PushPathError> {
    if path.contains(['?', '#']) {
        return Err(PushPathError::Query);
    }
    let segments = path.strip_prefix('/').ok_or(PushPathError::NotAPath)?;
    http::uri::PathAndQuery::try_from(path).map_err(|_| PushPathError::NotAPath)?;
    let lower = path.to_ascii_lowercase();
    if path.contains('\\') || AMBIGUOUS.iter().any(|escape| lower.contains(escape)) {
        return Err(PushPathError::Escape);
    }
    let mut segments = segments.split('/').peekable();
    while let Some(segment) = segments.next() {
        // Some servers cut `;` and what is behind it off before they walk the path.
        let name = segment.split(';').next().unwrap_or_default();
        if matches!(name, "." | "..") {
            return Err(PushPathError::DotSegment);
        }
        if name.is_empty() && (!segment.is_empty() || segments.peek().is_some()) {
            return Err(PushPathError::EmptySegment);
        }
    }
    Ok(())
}

/// The grant in the table of a destination with that `url`.
pub(super) fn grant(section: &Section<'_>, url: Option<&str>) -> PushGrant {
    let apps = section.list("push_apps", app).unwrap_or_default();
    let path = section.take("push_path", push_path);
    if section.has("push_path") && !section.has("push_apps") {
        let remedy = "name the apps that may use it: push_apps = [\"wx…\"]";
        section.fault("push_path", "has no push_apps beside it", remedy);
    }
    let own = || url.map(path_of).unwrap_or_default().to_owned();
    let path = path.unwrap_or_else(own);
    let path = path.trim_end_matches('/').to_owned();
    let is_own = !apps.is_empty() && !section.has("push_path") && !path.is_empty();
    if is_own && let Err(why) = check_push_path(&path) {
        let remedy = "say push_path = \"/…\", the path below which they may call";
        section.fault("push_apps", format!("leads to the path of url, which {why}"), remedy);
    }
    PushGrant { apps, path }
}

/// The path of a URL as it is written; empty where it has none.
fn path_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let end = rest.find(['?', '#']).unwrap_or(rest.len());
    let rest = &rest[..end];
    rest.find('/').map_or("", |at| &rest[at..])
}

fn app(item: &Item<'_>) -> Read<String> {
    let app = unit::text(item)?;
    match is_app_id(&app) {
        true => Ok(app),
        false => Err(ValueError::new("is not the id of an app", "write an id such as \"wx…\"")),
    }
}

/// Whether a text can be the id of an app: a slash would run into the names of destinations that
/// are made for apps.
pub(super) fn is_app_id(text: &str) -> bool {
    !text.is_empty() && !text.contains('/')
}

fn push_path(item: &Item<'_>) -> Read<String> {
    let path = unit::text(item)?;
    match check_push_path(&path) {
        Ok(()) => Ok(path),
        Err(why) => Err(ValueError::new(why.to_string(), "write a plain path such as \"/wechat\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn below(path: &str) -> PushGrant {
        PushGrant { apps: vec![String::from("wx1")], path: path.to_owned() }
    }

    #[test]
    fn a_path_lies_below_another_by_whole_segments() {
        for (base, path, covered) in [
            ("", "/", true),
            ("", "/internal/admin", true),
            ("/wechat", "/wechat", true),
            ("/wechat", "/wechat/", true),
            ("/wechat", "/wechat/echo", true),
            ("/wechat", "/wechat;v=1/echo", false),
            ("/wechat", "/wechats", false),
            ("/wechat", "/", false),
            ("/wechat", "/internal/admin", false),
            ("/wechat", "/WeChat/echo", false),
            ("/wechat", "", false),
        ] {
            assert_eq!(below(base).covers(path), covered, "{base} {path}");
        }
        assert!(below("").admits("wx1"));
        assert!(!below("").admits("wx2") && !PushGrant::default().admits(""));
    }

    #[test]
    fn what_servers_read_in_different_ways_is_no_path() {
        use PushPathError::{DotSegment, EmptySegment, Escape, NotAPath, Query};
        for (path, why) in [
            ("", NotAPath),
            ("echo", NotAPath),
            ("@evil.example/", NotAPath),
            ("/a b", NotAPath),
            ("/a?b=1", Query),
            ("/a#b", Query),
            ("/wechat/..", DotSegment),
            ("/wechat/../internal", DotSegment),
            ("/wechat/./a", DotSegment),
            ("/wechat/..;x=1/internal", DotSegment),
            ("/wechat/%2e%2e/internal", Escape),
            ("/wechat/.%2E/internal", Escape),
            ("/wechat/..%2Finternal", Escape),
            ("/wechat/%2finternal", Escape),
            ("/wechat/%5c..%5cinternal", Escape),
            ("/wechat/%252e%252e/internal", Escape),
            ("/wechat//internal", EmptySegment),
            ("//internal", EmptySegment),
            ("/wechat/;/internal", EmptySegment),
        ] {
            assert_eq!(check_push_path(path), Err(why), "{path}");
            assert!(!below("/wechat").covers(path) && !below("").covers(path), "{path}");
        }
        for path in ["/", "/a", "/a/", "/a/..b/c...", "/%E4%BA%BA", "/a;v=1/b"] {
            assert_eq!(check_push_path(path), Ok(()), "{path}");
        }
    }

    #[test]
    fn the_path_of_a_url_is_what_is_written() {
        for (url, path) in [
            ("http://a", ""),
            ("http://a?x=/y", ""),
            ("https://a:1/", "/"),
            ("https://a:1/b/c?x=1#y", "/b/c"),
        ] {
            assert_eq!(path_of(url), path, "{url}");
        }
    }
}
