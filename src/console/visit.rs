//! A request to a page, as the page sees it.

use super::area::Area;
use super::fields::{Fields, segment, unescape};
use super::lang::Lang;
use super::session::Viewer;

/// A request to a page, after the access checks.
#[derive(Clone, Debug)]
pub(super) struct Visit {
    pub lang: Lang,
    pub viewer: Viewer,
    pub area: Area,
    /// The path, unchanged.
    pub path: String,
    /// The path segments after the area, unescaped.
    pub rest: Vec<String>,
    pub query: Fields,
    /// The connection that the browser reports, whose TLS a proxy may terminate.
    pub connection: Connection,
}

/// The connection of a browser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Connection {
    Tls,
    Plain,
}

impl Connection {
    /// The connection to the server of `url`, or from a page of that origin.
    pub(super) fn of(url: &[u8]) -> Self {
        if url.starts_with(b"https://") { Self::Tls } else { Self::Plain }
    }

    /// The last attribute of a cookie for it: over TLS, the browser sends it over TLS alone.
    pub(super) const fn cookie_attribute(self) -> &'static str {
        match self {
            Self::Tls => "; Secure",
            Self::Plain => "",
        }
    }
}

impl Visit {
    /// The segments after the area, to match on.
    pub(super) fn rest(&self) -> Vec<&str> {
        self.rest.iter().map(String::as_str).collect()
    }

    /// The segments of a path after `/console`; `None` if one is not valid UTF-8.
    pub(super) fn segments(path: &str) -> Option<Vec<String>> {
        let rest = path.strip_prefix("/console")?;
        let rest = rest.strip_prefix('/').unwrap_or(rest);
        if rest.is_empty() {
            return Some(Vec::new());
        }
        rest.split('/').map(unescape).collect()
    }

    /// The URL of this page with one field of its query set or removed.
    pub(super) fn with(&self, name: &str, value: Option<&str>) -> String {
        format!("{}{}", self.path, self.query.with(name, value))
    }

    /// Whether the query has a value for one of `names`, as a list that is filtered has.
    pub(super) fn has_any(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.query.text(name).is_some())
    }

    /// The URL of this page in `lang`. The result of a form is not said again there.
    pub(super) fn in_language(&self, lang: Lang) -> String {
        let query = self.query.without(&["done"]);
        format!("{}{}", self.path, query.with("lang", Some(lang.tag())))
    }

    /// Takes the address of the page with `form`, which was sent to the present one: a link of the
    /// answer cannot send a form.
    pub(super) fn go_to_page_of(&mut self, form: &Fields) {
        let depth = match (self.area, self.rest.len()) {
            (Area::Addresses | Area::DeadLetters, 2..) => 2,
            (Area::DeadLetters | Area::Issues, _) => 0,
            // An object, and perhaps a verb.
            _ => 1,
        };
        let mut path = self.area.path().to_owned();
        for part in self.rest.iter().take(depth) {
            path.push('/');
            path.push_str(&segment(part));
        }
        // A name in the query, and the field of the form that has its value.
        let names: &[(&'static str, &str)] = match (self.area, self.rest.len()) {
            (Area::Debug, _) => &[("source", "source")],
            (Area::Sources, 0) => &[("new", "sender")],
            (Area::SignIn, _) => &[("next", "next")],
            (Area::Issues, _) => {
                path.push_str("/one");
                &[
                    ("kind", "kind"),
                    ("source", "source"),
                    ("destination", "destination"),
                    ("cause", "cause"),
                ]
            }
            _ => &[],
        };
        let of_form = |(name, field): &(&'static str, &str)| Some((*name, form.verbatim(field)?));
        let mut pairs: Vec<(&str, &str)> = names.iter().filter_map(of_form).collect();
        if matches!(self.area, Area::Destinations | Area::Rules) && self.rest.is_empty() {
            pairs.push(("new", "yes"));
        }
        let query = Fields::of(&pairs);
        (self.path, self.query) = (path, query);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::session::Sessions;

    fn posted(path: &str, query: &[(&str, &str)]) -> Visit {
        let mut rest = Visit::segments(path).unwrap();
        let area = Area::find(rest.first().map(String::as_str)).unwrap();
        rest.remove(0);
        Visit {
            lang: Lang::En,
            viewer: Sessions::new().unwrap().local(),
            area,
            path: path.to_owned(),
            rest,
            query: Fields::of(query),
            connection: Connection::Plain,
        }
    }

    #[test]
    fn the_languages_of_an_answer_lead_to_the_page_of_its_form() {
        for (sent_to, form, page) in [
            ("debug", "source=a+b&text=x", "debug?source=a+b&"),
            ("sources", "sender=taku&name=n", "sources?new=taku&"),
            ("sources/a%20b/rotate", "secret=s", "sources/a%20b?"),
            ("sources/a", "rate=x", "sources/a?"),
            ("destinations", "name=n", "destinations?new=yes&"),
            ("destinations/game/test", "", "destinations/game?"),
            ("rules", "", "rules?new=yes&"),
            ("addresses", "company=c", "addresses?"),
            ("addresses/c/p/clear", "", "addresses/c/p?"),
            ("events/evt_1/erase", "", "events/evt_1?"),
            ("dead-letters/replay", "event=e", "dead-letters?"),
            ("dead-letters/replays/r1/cancel", "", "dead-letters/replays/r1?"),
            ("sign-in", "token=t&next=%2Fconsole%2Fheld", "sign-in?next=%2Fconsole%2Fheld&"),
            (
                "issues/resolve",
                "kind=dead&source=s&cause=status+500&note=n",
                "issues/one?kind=dead&source=s&cause=status+500&",
            ),
        ] {
            let mut visit = posted(&format!("/console/{sent_to}"), &[]);
            visit.go_to_page_of(&Fields::read(form.as_bytes()));
            let expected = format!("/console/{page}lang=zh-CN");
            assert_eq!(visit.in_language(Lang::Zh), expected, "{sent_to}");
        }
        let done = posted("/console/sources/a", &[("done", "saved"), ("x", "1")]);
        assert_eq!(done.in_language(Lang::Zh), "/console/sources/a?x=1&lang=zh-CN");
    }
}
