//! Values in a sender file: shapes, the time, names for templates.

use std::collections::BTreeMap;

use jiff::tz::Offset;

use super::Reader;
use crate::sender::language::definition::{Shapes, TimeRule};
use crate::sender::language::file;
use crate::sender::language::recut::chains::NameOrder;
use crate::sender::language::text::{Strictness, Text};
use crate::sender::language::time::{self, Stamp};
use crate::sender::language::value_shape::ValueShape;

impl Reader {
    pub(super) fn shapes(&mut self, written: toml::Table) -> Shapes {
        let mut shapes = Shapes::default();
        for (name, value) in written {
            let key = format!("shapes.{name}");
            match (name.as_str(), value) {
                (_, toml::Value::String(text)) => match ValueShape::parse(&text) {
                    Ok(shape) => {
                        shapes.of.insert(name, shape);
                    }
                    Err(fault) => self.faults.push(fault.under(&key)),
                },
                ("refuse", toml::Value::Array(names)) => shapes.refuse = words(&names),
                ("together", toml::Value::Array(names)) => shapes.together = words(&names),
                ("ascending", toml::Value::Boolean(true)) => shapes.order = NameOrder::Ascending,
                _ => {
                    let remedy = "write name = \"digits\", refuse = [names], together = [names] or ascending = true";
                    self.fault(key, "is not a shape", remedy);
                }
            }
        }
        for name in shapes.refuse.iter().chain(&shapes.together) {
            if !shapes.of.contains_key(name) {
                self.fault(format!("shapes.{name}"), "is missing", "give the shape of each name");
            }
        }
        shapes
    }

    pub(super) fn time(&mut self, time: &file::Time) -> Option<TimeRule> {
        let r#in = self.text("time.in", &time.r#in, Strictness::Strict);
        let stamp = Stamp::parse(&time.r#as);
        if stamp.is_none() {
            self.fault(
                "time.as",
                "is not a time format",
                "use s, ms, iso8601 or a yyyyMMddHHmmss pattern",
            );
        }
        let zone = time.zone.as_deref().map_or(Some(Offset::UTC), time::offset);
        if zone.is_none() {
            self.fault("time.zone", "is not an offset", "write it as +08:00");
        }
        let bounds: Option<Vec<i64>> =
            time.within.to_vec().iter().map(|text| time::duration_ms(text)).collect();
        let within = match bounds.as_deref() {
            Some([]) => None,
            Some([both]) => Some((*both, *both)),
            Some([past, future]) => Some((*past, *future)),
            _ => {
                self.fault("time.within", "is not an age", "write 10m, or [past, future]");
                None
            }
        };
        Some(TimeRule { r#in, stamp: stamp?, zone: zone?, within })
    }

    pub(super) fn known(&mut self, known: BTreeMap<String, String>) -> Vec<(String, Text)> {
        known
            .into_iter()
            .map(|(name, text)| {
                let text = self.text(&format!("known.{name}"), &text, Strictness::Strict);
                (name, text)
            })
            .collect()
    }
}

fn words(names: &[toml::Value]) -> Vec<String> {
    names.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect()
}
