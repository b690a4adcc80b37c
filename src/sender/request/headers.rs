//! The headers of a request that its sender's file reads, found in one pass.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::parameters::ParameterError;
use crate::sender::acts::outcome::Reason;

/// A header with its second name, under which some callbacks have it.
type Renamed = (HeaderName, HeaderName);

/// Names that are found at once, the others when they are asked for. Files read up to three headers,
/// each under up to two names.
const AT_ONCE: usize = 6;

/// The headers that a file reads, as one request has them.
#[derive(Debug)]
pub(in crate::sender) struct ReadHeaders<'a> {
    all: &'a HeaderMap,
    /// One for each of the first names.
    found: [Found<'a>; AT_ONCE],
    names: NamesInUse,
}

/// How often a request has a header.
#[derive(Clone, Copy, Debug)]
enum Found<'a> {
    Never,
    Once(&'a HeaderValue),
    Repeatedly,
}

impl<'a> Found<'a> {
    /// With `value` besides.
    fn and(self, value: &'a HeaderValue) -> Self {
        match self {
            Self::Never => Self::Once(value),
            Self::Once(_) | Self::Repeatedly => Self::Repeatedly,
        }
    }
}

/// The names that headers with two of them have in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NamesInUse {
    /// A header came under its first name, so no second name counts: two sets of headers, one of
    /// them unsigned, never mix.
    First,
    /// None came under a first name.
    Second,
}

impl<'a> ReadHeaders<'a> {
    /// None of `all` yet.
    #[inline]
    pub(in crate::sender) fn none_of(all: &'a HeaderMap) -> Self {
        Self { all, found: [Found::Never; AT_ONCE], names: NamesInUse::First }
    }

    /// Finds those called `names`.
    pub(in crate::sender) fn find(&mut self, names: &[HeaderName], renamed: &[Renamed]) {
        if names.is_empty() {
            return;
        }
        for (name, value) in self.all {
            let mut places = names.iter().zip(&mut self.found);
            if let Some((_, place)) = places.find(|(known, _)| *known == name) {
                *place = place.and(value);
            }
        }
        let came = |(first, _): &Renamed| !matches!(self.of(names, first), Found::Never);
        if !renamed.is_empty() && !renamed.iter().any(came) {
            self.names = NamesInUse::Second;
        }
    }

    fn of(&self, names: &[HeaderName], name: &HeaderName) -> Found<'a> {
        let at = names.iter().take(AT_ONCE).position(|known| known == name);
        match at.and_then(|at| self.found.get(at)) {
            Some(found) => *found,
            None => self.all.get_all(name).iter().fold(Found::Never, Found::and),
        }
    }

    /// The name that the header `name` has in this request.
    pub(in crate::sender) fn name<'n>(
        &self,
        renamed: &'n [Renamed],
        name: &'n HeaderName,
    ) -> &'n HeaderName {
        match self.names {
            NamesInUse::First => name,
            NamesInUse::Second => {
                renamed.iter().find(|(first, _)| first == name).map_or(name, |(_, second)| second)
            }
        }
    }

    /// The value of the header that is called `name` in this request. `names` are those of
    /// [`Self::find`].
    ///
    /// # Errors
    /// `repeated_parameter` if there are two.
    pub(in crate::sender) fn value(
        &self,
        names: &[HeaderName],
        name: &HeaderName,
    ) -> Result<Option<&'a [u8]>, ParameterError> {
        match self.of(names, name) {
            Found::Never => Ok(None),
            Found::Once(value) => Ok(Some(value.as_bytes())),
            Found::Repeatedly => Err(ParameterError::new(Reason::RepeatedParameter)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_name_counts_if_no_header_has_a_first_one() {
        let name = HeaderName::from_static;
        let names = ["a", "b", "old-a", "old-b"].map(name);
        let renamed = [(name("a"), name("old-a")), (name("b"), name("old-b"))];
        let read = |lines: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in lines {
                headers.append(*name, HeaderValue::from_static(value));
            }
            let mut found = ReadHeaders::none_of(&headers);
            found.find(&names, &renamed);
            [&names[0], &names[1]].map(|asked| {
                let value = found.value(&names, found.name(&renamed, asked));
                value.map(|value| value.map(|value| String::from_utf8_lossy(value).into_owned()))
            })
        };
        let some = |value: &str| Ok(Some(value.to_owned()));
        assert_eq!(read(&[("old-a", "1"), ("x", "9"), ("old-b", "2")]), [some("1"), some("2")]);
        assert_eq!(read(&[("old-a", "1"), ("b", "2")]), [Ok(None), some("2")]);
        let repeated = Err(ParameterError::new(Reason::RepeatedParameter));
        assert_eq!(read(&[("a", "1"), ("a", "1")]), [repeated, Ok(None)]);
    }

    #[test]
    fn of_many_names_the_last_ones_are_found_too() {
        let names: Vec<HeaderName> = (0..9).map(|n| format!("h{n}").parse().unwrap()).collect();
        let mut headers = HeaderMap::new();
        for name in &names[5..] {
            headers.append(name, HeaderValue::from_static("1"));
        }
        headers.append(&names[8], HeaderValue::from_static("2"));
        let mut found = ReadHeaders::none_of(&headers);
        found.find(&names, &[]);
        let is_there = |at: usize| found.value(&names, &names[at]).map(|value| value.is_some());
        assert_eq!([0, 5, 7].map(is_there), [Ok(false), Ok(true), Ok(true)]);
        assert!(is_there(8).is_err());
    }
}
