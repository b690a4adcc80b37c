//! A sender file as it is written. `definition` makes a [`super::Sender`] of it.

use std::collections::BTreeMap;

use serde::Deserialize;

/// One value or a list of them: a list of one may be written without brackets.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Many<T> {
    One(T),
    List(Vec<T>),
}

impl<T> Default for Many<T> {
    fn default() -> Self {
        Self::List(Vec::new())
    }
}

impl<T> Many<T> {
    pub(super) fn into_vec(self) -> Vec<T> {
        match self {
            Self::One(value) => vec![value],
            Self::List(values) => values,
        }
    }
}

impl<T: Clone> Many<T> {
    pub(super) fn to_vec(&self) -> Vec<T> {
        self.clone().into_vec()
    }
}

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) title: String,
    #[serde(default)]
    pub(super) docs: Many<String>,
    pub(super) basis: Option<String>,
    #[serde(default)]
    pub(super) unconfirmed: Many<String>,
    pub(super) secret: Option<String>,
    #[serde(default)]
    pub(super) method: Many<String>,
    #[serde(default)]
    pub(super) reads: Many<String>,
    pub(super) paste: Option<String>,
    #[serde(default)]
    pub(super) unsigned: bool,
    #[serde(default)]
    pub(super) from_client: Many<String>,
    #[serde(default)]
    pub(super) masked: Many<String>,
    #[serde(default)]
    pub(super) header_names: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) addresses: Many<String>,
    #[serde(default)]
    pub(super) settings: toml::Table,
    #[serde(default)]
    pub(super) lists: BTreeMap<String, List>,
    #[serde(default)]
    pub(super) ours: BTreeMap<String, String>,
    pub(super) roles: BTreeMap<String, Many<RoleText>>,
    #[serde(default)]
    pub(super) shapes: toml::Table,
    #[serde(default)]
    pub(super) identity: Identity,
    pub(super) time: Option<Time>,
    #[serde(default)]
    pub(super) known: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) codes: BTreeMap<String, toml::Value>,
    pub(super) challenge: Option<Challenge>,
    pub(super) test: Option<Test>,
    #[serde(default)]
    pub(super) kind: Vec<Kind>,
    pub(super) events: Option<Events>,
    #[serde(default)]
    pub(super) event: Vec<EventRow>,
    pub(super) open: Option<Open>,
    pub(super) key_set: Option<KeySet>,
    pub(super) countersign: Option<Countersign>,
    #[serde(default)]
    pub(super) patience: Patience,
    #[serde(default)]
    pub(super) routing: Routing,
    pub(super) signature: Option<Signature>,
    pub(super) reply: toml::Table,
    #[serde(default)]
    pub(super) vector: Vec<Vector>,
}

/// `sig = { of = "[header.X]", shape = "k=v,k=v" }`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct List {
    pub(super) of: String,
    pub(super) shape: String,
}

/// A role's text, perhaps only under a condition.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum RoleText {
    Text(String),
    When {
        of: String,
        #[serde(default)]
        when: Many<String>,
    },
}

/// `[identity]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Identity {
    #[serde(default)]
    pub(super) by: Many<RoleText>,
    #[serde(default)]
    pub(super) volatile: Many<String>,
    pub(super) repeats: Option<Repeats>,
    pub(super) signed: Option<bool>,
    #[serde(default)]
    pub(super) formerly: Formerly,
}

/// What versions before this form of keys made keys of, where that was something else.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Formerly {
    #[serde(default)]
    pub(super) transaction: Many<RoleText>,
    #[serde(default)]
    pub(super) replay: Many<RoleText>,
}

/// Why signatures repeat, perhaps only under a condition.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Repeats {
    Why(String),
    When {
        why: String,
        #[serde(default)]
        when: Many<String>,
    },
}

/// `[events]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Events {
    pub(super) by: Many<String>,
    pub(super) unsigned: Option<String>,
}

/// `[[event]]`: a row of the provider's table of events.
#[derive(Debug, Deserialize)]
pub(super) struct EventRow {
    pub(super) is: Many<String>,
    pub(super) kind: String,
    #[serde(default)]
    pub(super) id: Many<RoleText>,
    #[serde(default)]
    pub(super) volatile: Many<String>,
    #[serde(flatten)]
    pub(super) roles: BTreeMap<String, Many<RoleText>>,
}

/// `[time]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Time {
    pub(super) r#in: String,
    pub(super) r#as: String,
    pub(super) zone: Option<String>,
    #[serde(default)]
    pub(super) within: Many<String>,
}

/// `[challenge]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Challenge {
    pub(super) when: Many<String>,
    pub(super) open: Option<String>,
    pub(super) signed: Option<bool>,
}

/// `[test]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Test {
    #[serde(default)]
    pub(super) when: Many<String>,
    pub(super) signed: Option<bool>,
    #[serde(default)]
    pub(super) flag: Many<String>,
    pub(super) unsigned: Option<String>,
}

/// `[[kind]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Kind {
    pub(super) name: String,
    #[serde(default)]
    pub(super) when: Many<String>,
    pub(super) unsigned: Option<String>,
    pub(super) effect: Option<String>,
    #[serde(default)]
    pub(super) roles: BTreeMap<String, Many<RoleText>>,
    #[serde(default)]
    pub(super) reply: toml::Table,
    pub(super) also: Option<Signature>,
    pub(super) test: Option<bool>,
    #[serde(default)]
    pub(super) formerly: FormerKind,
}

/// What versions before this form of keys made of a kind.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FormerKind {
    pub(super) number: Option<u8>,
    #[serde(default)]
    pub(super) transaction: Many<RoleText>,
}

/// `[open]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Open {
    pub(super) of: Many<String>,
    pub(super) with: String,
    pub(super) key: String,
    pub(super) iv: String,
    pub(super) pad: Option<u8>,
    pub(super) frame: Option<String>,
    #[serde(default)]
    pub(super) when: Many<String>,
    #[serde(default)]
    pub(super) reads: Many<String>,
}

/// `[key_set]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeySet {
    pub(super) url: String,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
    pub(super) entries: String,
    pub(super) id: String,
    pub(super) key: String,
    pub(super) keep: Option<String>,
    pub(super) pick: String,
}

/// `[countersign]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Countersign {
    pub(super) of: String,
    pub(super) with: Many<String>,
    pub(super) key: Option<String>,
    pub(super) r#as: Option<String>,
}

/// `[patience]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Patience {
    pub(super) timeout: Option<String>,
    pub(super) retries: Option<Retries>,
    pub(super) horizon: Option<String>,
    pub(super) when: Option<String>,
}

/// How often a sender tries again: a count or the gaps.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Retries {
    Count(u32),
    Gaps(Vec<String>),
}

/// `[routing]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Routing {
    pub(super) address: Option<[String; 2]>,
    pub(super) message: Option<[String; 2]>,
    pub(super) precedes: Option<Precedes>,
}

/// `precedes` of `[routing]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Precedes {
    pub(super) sender: String,
    pub(super) by: String,
}

/// `[signature]`, and each `[[signature.or]]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Signature {
    pub(super) why: Option<String>,
    pub(super) of: Option<String>,
    pub(super) with: Option<Many<String>>,
    pub(super) key: Option<String>,
    pub(super) r#in: Option<String>,
    pub(super) r#as: Option<String>,
    pub(super) cut: Option<usize>,
    #[serde(default)]
    pub(super) when: Many<String>,
    pub(super) plus: Option<String>,
    #[serde(default)]
    pub(super) roles: BTreeMap<String, Many<RoleText>>,
    pub(super) sorted: Option<Many<String>>,
    pub(super) pairs: Option<Pairs>,
    #[serde(default)]
    pub(super) or: Vec<Signature>,
}

/// `[signature.pairs]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pairs {
    pub(super) which: Option<Many<String>>,
    pub(super) except: Option<Many<String>>,
    pub(super) add: Option<BTreeMap<String, String>>,
    pub(super) order: Option<String>,
    pub(super) shape: Option<String>,
    pub(super) each: Option<String>,
    pub(super) empty: Option<String>,
}

impl Signature {
    /// This reading with what it does not say taken from `base`, but for `when` and `roles`.
    pub(super) fn over(self, base: &Self) -> Self {
        let pairs = match (self.pairs, &base.pairs) {
            (Some(own), Some(base)) => Some(own.over(base)),
            (own, base) => own.or_else(|| base.clone()),
        };
        Self {
            why: self.why,
            of: self.of.or_else(|| base.of.clone()),
            with: self.with.or_else(|| base.with.clone()),
            key: self.key.or_else(|| base.key.clone()),
            r#in: self.r#in.or_else(|| base.r#in.clone()),
            r#as: self.r#as.or_else(|| base.r#as.clone()),
            cut: self.cut.or(base.cut),
            when: self.when,
            plus: self.plus.or_else(|| base.plus.clone()),
            roles: self.roles,
            sorted: self.sorted.or_else(|| base.sorted.clone()),
            pairs,
            or: Vec::new(),
        }
    }
}

impl Pairs {
    fn over(self, base: &Self) -> Self {
        Self {
            which: self.which.or_else(|| base.which.clone()),
            except: self.except.or_else(|| base.except.clone()),
            add: self.add.or_else(|| base.add.clone()),
            order: self.order.or_else(|| base.order.clone()),
            shape: self.shape.or_else(|| base.shape.clone()),
            each: self.each.or_else(|| base.each.clone()),
            empty: self.empty.or_else(|| base.empty.clone()),
        }
    }
}

/// `[[vector]]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Vector {
    pub(super) about: String,
    #[serde(default)]
    pub(super) source: toml::Table,
    #[serde(default)]
    pub(super) keys: BTreeMap<String, String>,
    pub(super) now: Option<toml::value::Datetime>,
    pub(super) request: String,
    pub(super) expect: toml::Table,
}
