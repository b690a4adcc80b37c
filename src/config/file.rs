//! The file as written: tables whose keys are taken one at a time.
//!
//! A reader of a section never stops at an error. It takes a key, gets a value that can be used
//! or nothing, and the error is on the list with its place. So one run shows them all.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::pass::Pass;
use super::{ConfigIssue, keys};
use crate::sender::DefinitionError;
pub use crate::sender::nearest;

/// A table of the file.
#[derive(Clone, Debug)]
pub(crate) struct Section<'a> {
    pub(crate) pass: &'a Pass<'a>,
    /// The dotted name that findings show; empty at the top.
    pub(crate) path: String,
    /// Where it is written; nowhere if it is not.
    span: Option<Range<usize>>,
    /// The parsed table; `None` if it is missing.
    table: Option<&'a DeTable<'a>>,
}

/// A value of the file.
#[derive(Clone, Debug)]
pub(crate) struct Item<'a> {
    pub(crate) pass: &'a Pass<'a>,
    pub(crate) path: String,
    pub(crate) span: Range<usize>,
    pub(crate) value: &'a DeValue<'a>,
}

/// An error in a value; the place is known where the error is noted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ValueError {
    pub(crate) what: String,
    pub(crate) remedy: String,
    cause: Cause,
}

/// The kind of an error in a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// The value is wrong.
    Wrong,
    /// The value refers to a secret that is missing.
    Missing,
}

/// A value that was read, or what is wrong with it.
pub(crate) type Read<T> = Result<T, ValueError>;

impl ValueError {
    pub(crate) fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what: what.into(), remedy: remedy.into(), cause: Cause::Wrong }
    }

    /// The same for a secret that is missing.
    pub(crate) fn missing(self) -> Self {
        Self { cause: Cause::Missing, ..self }
    }
}

// ---- Section ----

impl<'a> Section<'a> {
    /// The whole file.
    pub(crate) fn top(pass: &'a Pass<'a>, table: &'a Spanned<DeTable<'a>>) -> Self {
        Self { pass, path: String::new(), span: None, table: Some(table.get_ref()) }
    }

    /// A missing table.
    pub(crate) fn absent(pass: &'a Pass<'a>, path: &str) -> Self {
        Self { pass, path: path.to_owned(), span: None, table: None }
    }

    /// The value of `key`, if it is there.
    pub(crate) fn item(&self, key: &str) -> Option<Item<'a>> {
        let value = self.table?.get(key)?;
        let span = value.span();
        Some(Item { pass: self.pass, path: self.under(key), span, value: value.get_ref() })
    }

    /// Whether `key` is there.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.table.is_some_and(|table| table.contains_key(key))
    }

    /// The text of `key`, without a word where there is none: for checks across sections.
    pub(crate) fn peek(&self, key: &str) -> Option<&'a str> {
        self.table?.get(key)?.get_ref().as_str()
    }

    /// Whether an error was noted at `key` or inside it.
    pub(crate) fn is_faulty(&self, key: &str) -> bool {
        self.pass.is_faulty(&self.under(key))
    }

    /// All keys, each with its value.
    pub(crate) fn items(&self) -> impl Iterator<Item = (&'a str, Item<'a>)> {
        self.table.into_iter().flatten().map(|(key, value)| {
            let item = Item {
                pass: self.pass,
                path: self.under(key.get_ref()),
                span: value.span(),
                value: value.get_ref(),
            };
            (key.get_ref().as_ref(), item)
        })
    }

    /// The value of `key` as `read` reads it; nothing if it is absent or wrong.
    pub(crate) fn take<T>(&self, key: &str, read: impl FnOnce(&Item<'a>) -> Read<T>) -> Option<T> {
        let item = self.item(key)?;
        item.note(read(&item))
    }

    /// The value of `key`, or `default`.
    pub(crate) fn take_or<T>(
        &self,
        key: &str,
        default: T,
        read: impl FnOnce(&Item<'a>) -> Read<T>,
    ) -> T {
        self.take(key, read).unwrap_or(default)
    }

    /// The value of `key`, which has to be there; `example` shows what to write.
    pub(crate) fn need<T>(
        &self,
        key: &str,
        example: &str,
        read: impl FnOnce(&Item<'a>) -> Read<T>,
    ) -> Option<T> {
        if !self.has(key) {
            self.fault(key, "is missing", format!("write {key} = {example}"));
            return None;
        }
        self.take(key, read)
    }

    /// The values of the list `key`; one value may stand without brackets. Nothing if it is
    /// absent; what is wrong in it is left out.
    pub(crate) fn list<T>(&self, key: &str, read: impl Fn(&Item<'a>) -> Read<T>) -> Option<Vec<T>> {
        let items = self.item(key)?.elements();
        Some(items.iter().filter_map(|item| item.note(read(item))).collect())
    }

    /// The values of the table `key` by name. What is wrong in it is left out.
    pub(crate) fn map<T>(
        &self,
        key: &str,
        read: impl Fn(&Item<'a>) -> Read<T>,
    ) -> BTreeMap<String, T> {
        let Some(inner) = self.section(key) else { return BTreeMap::new() };
        inner
            .items()
            .filter_map(|(name, item)| Some((name.to_owned(), item.note(read(&item))?)))
            .collect()
    }

    /// The table `key`, if it is there.
    pub(crate) fn section(&self, key: &str) -> Option<Section<'a>> {
        self.take(key, |item| item.section(&format!("write [{}]", self.under(key))))
    }

    /// The tables of the list `key`, each shown by its `name` if it has one, else by its place.
    pub(crate) fn sections(&self, key: &str) -> Vec<Section<'a>> {
        let Some(item) = self.item(key) else { return Vec::new() };
        if let DeValue::Table(table) = item.value {
            let remedy = format!("write [[{}]], once for each", item.path);
            item.fault("is one table, and a list of tables is wanted", remedy);
            return vec![item.clone().named(table, &item.path)];
        }
        let whole = item.path.clone();
        let elements = item.elements().into_iter();
        elements
            .filter_map(|item| match item.value {
                DeValue::Table(table) => Some(item.clone().named(table, &whole)),
                _ => item.note(Err(item.expected("a table"))),
            })
            .collect()
    }

    /// Refuses every key that is not `known`, with the one that was probably meant.
    pub(crate) fn refuse_unknown(&self, known: &[&str]) {
        self.refuse_unknown_or(known, |_| None);
    }

    /// The same; `advise` may know better what was meant.
    pub(crate) fn refuse_unknown_or(
        &self,
        known: &[&str],
        advise: impl Fn(&str) -> Option<String>,
    ) {
        for (key, value) in self.table.into_iter().flatten() {
            let name = key.get_ref().as_ref();
            if known.contains(&name) {
                continue;
            }
            let remedy = advise(name)
                .or_else(|| nearest(name, known).map(|near| format!("did you mean {near}?")))
                .or_else(|| keys::home(name))
                .unwrap_or_else(|| format!("known here: {}", known.join(", ")));
            // The key of a table in brackets has no place of its own.
            let span = if key.span().is_empty() { value.span() } else { key.span() };
            let finding = self.finding(name, Some(&span));
            self.pass.fault(ConfigIssue {
                what: String::from("is not a known key"),
                remedy,
                ..finding
            });
        }
    }

    /// Notes an error at `key`, or at the section where there is no such key.
    pub(crate) fn fault(&self, key: &str, what: impl Into<String>, remedy: impl Into<String>) {
        let finding = self.finding(key, self.locate(key).as_ref());
        self.pass.fault(ConfigIssue { what: what.into(), remedy: remedy.into(), ..finding });
    }

    /// Notes a warning at `key`, or at the section where there is no such key.
    pub(crate) fn warning(&self, key: &str, what: impl Into<String>, remedy: impl Into<String>) {
        let finding = self.finding(key, self.locate(key).as_ref());
        self.pass.warning(ConfigIssue { what: what.into(), remedy: remedy.into(), ..finding });
    }

    /// Notes advice at `key`, or at the section where there is no such key.
    pub(crate) fn advice(&self, key: &str, what: impl Into<String>, remedy: impl Into<String>) {
        let finding = self.finding(key, self.locate(key).as_ref());
        self.pass.advice(ConfigIssue { what: what.into(), remedy: remedy.into(), ..finding });
    }

    /// Notes an error that a sender found in this section.
    pub(crate) fn sender_fault(&self, fault: &DefinitionError) {
        let (what, remedy) = (fault.what.clone(), fault.remedy.clone());
        let finding = self.finding(&fault.key, self.locate(&fault.key).as_ref());
        self.pass.fault(ConfigIssue { column: fault.column, what, remedy, ..finding });
    }

    /// Where the dotted `key` is written, or as much of it as is.
    pub(crate) fn locate(&self, key: &str) -> Option<Range<usize>> {
        let mut found = self.span.clone();
        let mut at: Option<&DeValue<'_>> = None;
        for step in key.split(['.', '[', ']']).filter(|step| !step.is_empty()) {
            let table = at.map_or(self.table, DeValue::as_table);
            let next = match (table, at.and_then(DeValue::as_array), step.parse::<usize>()) {
                (Some(table), ..) => table.get(step),
                (_, Some(list), Ok(index)) => list.get(index),
                _ => None,
            };
            let Some(next) = next else { break };
            found = Some(next.span());
            at = Some(next.get_ref());
        }
        found
    }

    /// The line of `key` in brackets, for the text of an error elsewhere.
    pub(crate) fn place(&self, key: &str) -> String {
        let line = self.locate(key).map(|span| self.pass.line(&span));
        line.map_or_else(String::new, |line| format!(" (line {line})"))
    }

    fn under(&self, key: &str) -> String {
        match (self.path.as_str(), key) {
            ("", key) => key.to_owned(),
            (path, "") => path.to_owned(),
            (path, key) => format!("{path}.{key}"),
        }
    }

    fn finding(&self, key: &str, span: Option<&Range<usize>>) -> ConfigIssue {
        ConfigIssue {
            file: self.pass.file().to_owned(),
            line: span.map(|span| self.pass.line(span)),
            key: self.under(key),
            ..ConfigIssue::default()
        }
    }
}

// ---- Item ----

impl<'a> Item<'a> {
    /// The value that `read` holds; an error is noted at this item.
    pub(crate) fn note<T>(&self, read: Read<T>) -> Option<T> {
        match read {
            Ok(value) => Some(value),
            Err(ValueError { what, remedy, cause }) => {
                let finding = self.finding(what, remedy);
                match cause {
                    Cause::Wrong => self.pass.fault(finding),
                    Cause::Missing => self.pass.missing(finding),
                }
                None
            }
        }
    }

    /// Notes an error here.
    pub(crate) fn fault(&self, what: impl Into<String>, remedy: impl Into<String>) {
        self.pass.fault(self.finding(what, remedy));
    }

    /// Notes a warning here.
    pub(crate) fn warning(&self, what: impl Into<String>, remedy: impl Into<String>) {
        self.pass.warning(self.finding(what, remedy));
    }

    /// Notes advice here.
    pub(crate) fn advice(&self, what: impl Into<String>, remedy: impl Into<String>) {
        self.pass.advice(self.finding(what, remedy));
    }

    /// Notes that the secret here is written in the file itself.
    pub(crate) fn note_in_clear(&self) {
        self.pass.note_in_clear(self.finding("", ""));
    }

    /// The text, where `wanted` says what it should be: `a duration such as "15s"`.
    pub(crate) fn text(&self, wanted: &str) -> Read<&'a str> {
        match self.value {
            DeValue::String(text) => Ok(text.as_ref()),
            _ => Err(self.expected(wanted)),
        }
    }

    /// The table, where `remedy` says how one is written.
    pub(crate) fn section(&self, remedy: &str) -> Read<Section<'a>> {
        match self.value {
            DeValue::Table(table) => Ok(Section {
                pass: self.pass,
                path: self.path.clone(),
                span: Some(self.span.clone()),
                table: Some(table),
            }),
            _ => Err(ValueError::new(format!("is {}, and a table is wanted", self.kind()), remedy)),
        }
    }

    /// The elements of a list; one value is a list of one.
    pub(crate) fn elements(self) -> Vec<Item<'a>> {
        let DeValue::Array(list) = self.value else { return vec![self] };
        let element = |(index, value): (usize, &'a Spanned<DeValue<'a>>)| Item {
            pass: self.pass,
            path: format!("{}[{index}]", self.path),
            span: value.span(),
            value: value.get_ref(),
        };
        list.iter().enumerate().map(element).collect()
    }

    /// The problem that something else was `wanted`. The value is not shown: it may be a secret.
    pub(crate) fn expected(&self, wanted: &str) -> ValueError {
        ValueError::new(format!("is {}", self.kind()), format!("write {wanted}"))
    }

    /// The same table, shown by its `name`.
    fn named(self, table: &'a DeTable<'a>, whole: &str) -> Section<'a> {
        let name = table.get("name").and_then(|name| name.get_ref().as_str());
        let path = name.map_or(self.path, |name| format!("{whole}[{name}]"));
        Section { pass: self.pass, path, span: Some(self.span), table: Some(table) }
    }

    fn kind(&self) -> &'static str {
        match self.value {
            DeValue::String(_) => "a text",
            DeValue::Integer(_) | DeValue::Float(_) => "a number",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        }
    }

    fn finding(&self, what: impl Into<String>, remedy: impl Into<String>) -> ConfigIssue {
        ConfigIssue {
            file: self.pass.file().to_owned(),
            line: Some(self.pass.line(&self.span)),
            key: self.path.clone(),
            what: what.into(),
            remedy: remedy.into(),
            ..ConfigIssue::default()
        }
    }
}

/// The line of the TOML file `text` that the dotted `key` is on.
pub(crate) fn line_of(text: &str, key: &str) -> Option<usize> {
    let table = DeTable::parse(text).ok()?;
    let pass = Pass::new(&super::Machine, Path::new(""), text);
    let span = Section::top(&pass, &table).locate(key)?;
    Some(pass.line(&span))
}
