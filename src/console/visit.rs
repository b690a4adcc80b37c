//! One request to a page, as the page sees it.

use super::area::Area;
use super::fields::{Fields, unescaped};
use super::lang::Lang;
use super::session::Viewer;

/// One request to a page. Whoever made it may see the page, and what came as a form is theirs.
#[derive(Clone, Debug)]
pub(super) struct Visit {
    pub lang: Lang,
    pub viewer: Viewer,
    pub area: Area,
    /// The path as it came.
    pub path: String,
    /// What stands behind the area in the path, taken apart.
    pub rest: Vec<String>,
    pub query: Fields,
    /// Whether the browser came over TLS, as it says itself: TLS ends in front of this listener.
    pub came_by_tls: bool,
}

impl Visit {
    /// The segments behind the area, to match on.
    pub fn rest(&self) -> Vec<&str> {
        self.rest.iter().map(String::as_str).collect()
    }

    /// The segments of a path behind `/console`; `None` where one is no text.
    pub fn segments(path: &str) -> Option<Vec<String>> {
        let rest = path.strip_prefix("/console")?;
        let rest = rest.strip_prefix('/').unwrap_or(rest);
        if rest.is_empty() {
            return Some(Vec::new());
        }
        rest.split('/').map(unescaped).collect()
    }

    /// The same page with one field of its query set to something else, or without it.
    pub fn with(&self, name: &str, value: Option<&str>) -> String {
        format!("{}{}", self.path, self.query.with(name, value))
    }
}
