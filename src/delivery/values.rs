//! Values of the placeholders in a delivery's URL, read from the event's JSON.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::sender::{Placeholder, SURVEY_VALUES, Written};

/// The values of one event. Each is read when a URL needs it. A number keeps the sender's spelling,
/// even if it fits no numeric type.
pub(super) struct Values<'e> {
    members: BTreeMap<String, &'e RawValue>,
    params: BTreeMap<String, &'e RawValue>,
    resolved: Pairs<'e>,
}

/// The source's template, resolved, in its own order.
#[derive(Default)]
struct Pairs<'e>(Vec<(String, &'e RawValue)>);

impl<'de: 'e, 'e> Deserialize<'de> for Pairs<'e> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(Self::default())
    }
}

impl<'de: 'e, 'e> Visitor<'de> for Pairs<'e> {
    type Value = Self;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut members: A) -> Result<Self, A::Error> {
        while let Some(pair) = members.next_entry()? {
            self.0.push(pair);
        }
        Ok(self)
    }
}

impl<'e> Values<'e> {
    /// The values of the event whose JSON is `event`; `None`: it is not an event's JSON.
    pub(super) fn read(event: &'e [u8]) -> Option<Self> {
        let members: BTreeMap<String, &RawValue> = serde_json::from_slice(event).ok()?;
        let params = members.get("params").map(|params| serde_json::from_str(params.get()));
        let resolved = members.get("resolved").map(|pairs| serde_json::from_str(pairs.get()));
        Some(Self {
            params: params.transpose().ok()?.unwrap_or_default(),
            resolved: resolved.transpose().ok()?.unwrap_or_default(),
            members,
        })
    }

    /// The value of a placeholder, if there is one.
    pub(super) fn get(&self, placeholder: Placeholder<'_>) -> Option<String> {
        match placeholder {
            Placeholder::Member("event_id") => self.members.get("id"),
            Placeholder::Member(name) => self.members.get(name),
            Placeholder::Parameter(name) => self.params.get(name),
            Placeholder::Resolved(name) => self.pair(name),
            Placeholder::Known(name) => self.pair(name).or_else(|| self.survey_value(name)),
        }
        .and_then(|value| text(value))
    }

    /// The name of a `[key]` that nothing here knows, and that the callback has as a parameter: an
    /// empty value in its place would be taken for that of the parameter.
    pub(super) fn unknown<'k>(&self, written: Written<'k>) -> Option<&'k str> {
        let Placeholder::Known(name) = Placeholder::of(written.bracket, written.key) else {
            return None;
        };
        let is_known = self.pair(name).is_some() || SURVEY_VALUES.contains(&name);
        (!is_known && self.params.contains_key(name)).then_some(name)
    }

    fn survey_value(&self, name: &str) -> Option<&&'e RawValue> {
        self.params.get(name).filter(|_| SURVEY_VALUES.contains(&name))
    }

    fn pair(&self, name: &str) -> Option<&&'e RawValue> {
        self.resolved.0.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// The source's template, resolved, as a query.
    pub(super) fn pairs(&self) -> String {
        let texts = self.resolved.0.iter().filter_map(|(name, value)| Some((name, text(value)?)));
        // Pairs of strings can always be written.
        serde_urlencoded::to_string(texts.collect::<Vec<_>>()).unwrap_or_default()
    }
}

/// A value as text: a string without its quotes, anything else as spelled.
fn text(value: &RawValue) -> Option<String> {
    match value.get() {
        "null" => None,
        quoted if quoted.starts_with('"') => serde_json::from_str(quoted).ok(),
        other => Some(other.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sender::UrlTemplate;

    fn filled(url: &str, event: &[u8]) -> String {
        let values = Values::read(event).unwrap();
        let template = UrlTemplate::parse(url).unwrap();
        template.fill(|placeholder| values.get(placeholder)).unwrap()
    }

    #[test]
    fn placeholders_find_members_parameters_and_template_values() {
        let event = br#"{"id":"evt_1","user":"u 1","source":"s","transaction":"t",
            "params":{"uid":"p&1","n":2.50,"source":"theirs"},"resolved":{"type":"1","x":null,"a":"2"}}"#;
        assert_eq!(
            filled(
                "https://a/{uid}/[event_id]?u={user}&n={n}&s=[source]&p={params.source}&t=[type](&z={zz})?&q={zz}",
                event
            ),
            "https://a/p%261/evt_1?u=u%201&n=2.50&s=s&p=theirs&t=1&q="
        );
        assert_eq!(Values::read(event).unwrap().pairs(), "type=1&a=2");
    }

    #[test]
    fn a_parameter_that_is_added_is_nothing_that_is_known_here() {
        let event = br#"{"id":"evt_1","params":{"type":"9","nope":"x","effective":"0"}}"#;
        let url = "https://a/?t=[type]&n=[nope]&e=[effective]&p={type}";
        assert_eq!(filled(url, event), "https://a/?t=&n=&e=0&p=9");
        // It is not sent with an empty value either.
        let values = Values::read(event).unwrap();
        let template = UrlTemplate::parse(url).unwrap();
        let unknown: Vec<&str> =
            template.placeholders().filter_map(|one| values.unknown(one)).collect();
        assert_eq!(unknown, ["type", "nope"]);
    }

    #[test]
    fn a_parameter_that_is_added_never_stands_for_a_role() {
        let event = br#"{"id":"evt_1","user":"u1","item":null,"amount":"10",
            "params":{"user":"attacker","item":"crown","amount":"1000000","currency":"USD","type":"9"},
            "resolved":{"type":"1"}}"#;
        assert_eq!(
            filled(
                "https://a/{user}?n={amount}&i={item}&j=[item]&c={currency}&t=[type]&e={event.user}&p={params.user}",
                event
            ),
            "https://a/u1?n=10&i=&j=&c=&t=1&e=u1&p=attacker"
        );
    }

    #[test]
    fn values_that_fit_no_numeric_type_are_forwarded() {
        let event = br#"{"id":"evt_1","params":{"n":1e999,"deep":[[["x"]]]},"resolved":{}}"#;
        assert_eq!(filled("https://a/?n={n}", event), "https://a/?n=1e999");
    }
}
