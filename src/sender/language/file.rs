//! A sender file as it is written. `definition` makes a [`crate::sender::Sender`] of it.

use std::collections::BTreeMap;

use serde::Deserialize;

/// One value or a list of them: a list of one may be written without brackets.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, expecting = "is neither a value that this key takes, nor a list of them")]
pub(in crate::sender) enum Many<T> {
    One(T),
    List(Vec<T>),
}

impl<T> Default for Many<T> {
    fn default() -> Self {
        Self::List(Vec::new())
    }
}

impl<T> Many<T> {
    pub(in crate::sender) fn into_vec(self) -> Vec<T> {
        match self {
            Self::One(value) => vec![value],
            Self::List(values) => values,
        }
    }
}

impl<T: Clone> Many<T> {
    pub(in crate::sender) fn to_vec(&self) -> Vec<T> {
        self.clone().into_vec()
    }
}

/// A condition, or several that all have to hold.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, expecting = "is not a condition; write \"{x}\" or { all = [\"{x}\", \"{y}\"] }")]
pub(in crate::sender) enum ConditionText {
    One(String),
    All(AllOf),
}

/// `{ all = ["{a} is x", "{b} is y"] }`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::sender) struct AllOf {
    pub(in crate::sender) all: Vec<String>,
}

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::sender) struct File {
    pub(in crate::sender) title: String,
    #[serde(default)]
    pub(in crate::sender) aliases: Many<String>,
    #[serde(default)]
    pub(in crate::sender) docs: Many<String>,
    pub(in crate::sender) basis: Option<String>,
    #[serde(default)]
    pub(in crate::sender) unconfirmed: Many<String>,
    pub(in crate::sender) secret: Option<String>,
    pub(in crate::sender) weak: Option<String>,
    #[serde(default)]
    pub(in crate::sender) method: Many<String>,
    #[serde(default)]
    pub(in crate::sender) reads: Many<String>,
    pub(in crate::sender) root: Option<String>,
    pub(in crate::sender) each: Option<EventList>,
    pub(in crate::sender) paste: Option<String>,
    #[serde(default)]
    pub(in crate::sender) appends: Many<String>,
    #[serde(default)]
    pub(in crate::sender) unsigned: bool,
    #[serde(default)]
    pub(in crate::sender) from_client: Many<String>,
    #[serde(default)]
    pub(in crate::sender) masked: Many<String>,
    #[serde(default)]
    pub(in crate::sender) header_names: BTreeMap<String, String>,
    #[serde(default)]
    pub(in crate::sender) addresses: Many<String>,
    #[serde(default)]
    pub(in crate::sender) settings: toml::Table,
    #[serde(default)]
    pub(in crate::sender) lists: BTreeMap<String, List>,
    #[serde(default)]
    pub(in crate::sender) ours: BTreeMap<String, String>,
    pub(in crate::sender) roles: BTreeMap<String, Many<RoleText>>,
    #[serde(default)]
    pub(in crate::sender) shapes: toml::Table,
    #[serde(default)]
    pub(in crate::sender) identity: Identity,
    pub(in crate::sender) time: Option<Time>,
    #[serde(default)]
    pub(in crate::sender) known: BTreeMap<String, String>,
    #[serde(default)]
    pub(in crate::sender) codes: BTreeMap<String, toml::Value>,
    pub(in crate::sender) challenge: Option<Challenge>,
    pub(in crate::sender) test: Option<Test>,
    #[serde(default)]
    pub(in crate::sender) kind: Vec<Kind>,
    pub(in crate::sender) events: Option<Events>,
    #[serde(default)]
    pub(in crate::sender) event: Vec<EventRow>,
    pub(in crate::sender) open: Option<Open>,
    pub(in crate::sender) jws: Option<Jws>,
    pub(in crate::sender) key_set: Option<KeySet>,
    pub(in crate::sender) certificate: Option<Certificate>,
    pub(in crate::sender) confirm: Option<Confirm>,
    pub(in crate::sender) countersign: Option<Countersign>,
    #[serde(default)]
    pub(in crate::sender) patience: RetriesTable,
    #[serde(default)]
    pub(in crate::sender) routing: Routing,
    pub(in crate::sender) signature: Option<Signature>,
    pub(in crate::sender) reply: toml::Table,
    #[serde(default)]
    pub(in crate::sender) vector: Vec<Vector>,
}

/// `[each]`: the list whose elements are events.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::sender) struct EventList {
    pub(in crate::sender) of: String,
    pub(in crate::sender) most: Option<usize>,
}

/// `sig = { of = "[header.X]", shape = "k=v,k=v" }`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::sender) struct List {
    pub(in crate::sender) of: String,
    pub(in crate::sender) shape: String,
}

/// A role's text, perhaps only under a condition.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, expecting = "is not a text; write \"{x}\" or { of = \"{x}\", when = \"{y}\" }")]
pub(in crate::sender) enum RoleText {
    Text(String),
    When {
        of: String,
        #[serde(default)]
        when: Many<ConditionText>,
    },
}

/// `[identity]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::sender) struct Identity {
    #[serde(default)]
    pub(in crate::sender) by: Many<RoleText>,
    #[serde(default)]
    pub(in crate::sender) volatile: Many<String>,
    pub(in crate::sender) repeats: Option<Repeats>,
    pub(in crate::sender) signed: Option<bool>,
    #[serde(default)]
    pub(in crate::sender) formerly: Formerly,
}

/// The inputs of deduplication keys in earlier versions, where they differ.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::sender) struct Formerly {
    #[serde(default)]
    pub(in crate::sender) transaction: Many<RoleText>,
    #[serde(default)]
    pub(in crate::sender) replay: Many<RoleText>,
}

/// Why signatures repeat, perhaps only under a condition.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, expecting = "is not a reason; write \"why\" or { why = \"…\", when = \"{x}\" }")]
pub(in crate::sender) enum Repeats {
    Why(String),
    When {
        why: String,
        #[serde(default)]
        when: Many<ConditionText>,
    },
}

/// `[events]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::sender) struct Events {
    pub(in crate::sender) by: Many<String>,
    pub(in crate::sender) unsigned: Option<String>,
}

/// `[[event]]`: a row of the provider's table of events.
#[derive(Debug, Deserialize)]
pub(in crate::sender) struct EventRow {
    pub(in crate::sender) is: Many<String>,
    pub(in crate::sender) kind: String,
    #[serde(default)]
    pub(in crate::sender) id: Many<RoleText>,
    #[serde(default)]
    pub(in crate::sender) volatile: Many<String>,
    #[serde(flatten)]
    pub(in crate::sender) roles: BTreeMap<String, Many<RoleText>>,
}

/// `[time]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::sender) struct Time {
    pub(in crate::sender) r#in: String,
    pub(in crate::sender) r#as: String,
    pub(in crate::sender) zone: Option<String>,
    #[serde(default)]
    pub(in crate::sender) within: Many<String>,
}

/// `[challenge]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::sender) struct Challenge {
    pub(in crate::sender) when: Many<ConditionText>,
    pub(in crate::sender) open: Option<String>,
    pub(in crate::sender) signed: Option<bool>,
}

/// `[test]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::sender) struct Test {
    #[serde(default)]
    pub(in crate::sender) when: Many<ConditionText>,
    pub(in crate::sender) signed: Option<bool>,
    #[serde(default)]
    pub(in crate::sender) flag: Many<ConditionText>,
    pub(in crate::sender) unsigned: Option<String>,
}

/// `[[kind]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::sender) struct Kind {
    pub(in crate::sender) name: String,
    #[serde(default)]
    pub(in crate::sender) when: Many<ConditionText>,
    pub(in crate::sender) unsigned: Option<String>,
    pub(in crate::sender) effect: Option<String>,
    #[serde(default)]
    pub(in crate::sender) roles: BTreeMap<String, Many<RoleText>>,
    #[serde(default)]
    pub(in crate::sender) reply: toml::Table,
    pub(in crate::sender) also: Option<Signature>,
    pub(in crate::sender) test: Option<bool>,
    #[serde(default)]
    pub(in crate::sender) formerly: FormerKind,
}

/// The inputs of a kind's deduplication keys in earlier versions.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::sender) struct FormerKind {
    pub(in crate::sender) number: Option<u8>,
    #[serde(default)]
    pub(in crate::sender) transaction: Many<RoleText>,
}

/// `[open]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::sender) struct Open {
    pub(in crate::sender) of: Many<String>,
    pub(in crate::sender) with: String,
    pub(in crate::sender) key: Option<String>,
    pub(in crate::sender) iv: Option<String>,
    pub(in crate::sender) nonce: Option<String>,
    pub(in crate::sender) aad: Option<String>,
    pub(in crate::sender) pad: Option<u8>,
    pub(in crate::sender) frame: Option<String>,
    #[serde(default)]
    pub(in crate::sender) when: Many<ConditionText>,
    #[serde(default)]
    pub(in crate::sender) reads: Many<String>,
}

/// `[jws]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::sender) struct Jws {
    pub(in crate::sender) of: String,
    pub(in crate::sender) alg: Many<String>,
    pub(in crate::sender) key: String,
    pub(in crate::sender) r#as: String,
    pub(in crate::sender) typ: Option<String>,
    pub(in crate::sender) chain: Option<usize>,
    #[serde(default)]
    pub(in crate::sender) roots: Many<String>,
    #[serde(default)]
    pub(in crate::sender) oids: BTreeMap<String, String>,
    #[serde(default)]
    pub(in crate::sender) also: Many<String>,
    #[serde(default)]
    pub(in crate::sender) claims: toml::Table,
}

/// `[key_set]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::sender) struct KeySet {
    pub(in crate::sender) url: String,
    #[serde(default)]
    pub(in crate::sender) headers: BTreeMap<String, String>,
    pub(in crate::sender) form: Option<String>,
    pub(in crate::sender) entries: Option<String>,
    pub(in crate::sender) id: Option<String>,
    pub(in crate::sender) key: Option<String>,
    pub(in crate::sender) keep: Option<String>,
    pub(in crate::sender) pick: Option<String>,
}

/// `[certificate]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::sender) struct Certificate {
    pub(in crate::sender) url: String,
    pub(in crate::sender) hosts: Many<String>,
    pub(in crate::sender) path: String,
    pub(in crate::sender) subject: Option<String>,
    pub(in crate::sender) chain: String,
    #[serde(default)]
    pub(in crate::sender) roots: Many<String>,
    pub(in crate::sender) keep: Option<String>,
}

/// `[confirm]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::sender) struct Confirm {
    pub(in crate::sender) when: Many<ConditionText>,
    pub(in crate::sender) url: String,
    pub(in crate::sender) hosts: Many<String>,
    pub(in crate::sender) path: String,
}

/// `[countersign]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::sender) struct Countersign {
    pub(in crate::sender) of: String,
    pub(in crate::sender) with: Many<String>,
    pub(in crate::sender) key: Option<String>,
    pub(in crate::sender) r#as: Option<String>,
}

/// `[patience]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::sender) struct RetriesTable {
    pub(in crate::sender) timeout: Option<String>,
    pub(in crate::sender) retries: Option<Retries>,
    pub(in crate::sender) horizon: Option<String>,
    pub(in crate::sender) when: Option<String>,
}

/// A sender's retries: a count or the gaps.
#[derive(Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "is neither a number of retries nor a list of gaps; write retries = 3, or retries = [\"1m\", \"1h\"]"
)]
pub(in crate::sender) enum Retries {
    Count(u32),
    Gaps(Vec<String>),
}

/// `[routing]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::sender) struct Routing {
    pub(in crate::sender) address: Option<[String; 2]>,
    pub(in crate::sender) message: Option<[String; 2]>,
    pub(in crate::sender) precedes: Option<Precedes>,
}

/// `precedes` of `[routing]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::sender) struct Precedes {
    pub(in crate::sender) sender: String,
    pub(in crate::sender) by: String,
}

/// `[signature]`, and each `[[signature.or]]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::sender) struct Signature {
    pub(in crate::sender) why: Option<String>,
    pub(in crate::sender) of: Option<String>,
    pub(in crate::sender) with: Option<Many<String>>,
    pub(in crate::sender) key: Option<String>,
    pub(in crate::sender) r#in: Option<String>,
    pub(in crate::sender) r#as: Option<String>,
    pub(in crate::sender) cut: Option<usize>,
    #[serde(default)]
    pub(in crate::sender) when: Many<ConditionText>,
    pub(in crate::sender) plus: Option<String>,
    #[serde(default)]
    pub(in crate::sender) roles: BTreeMap<String, Many<RoleText>>,
    pub(in crate::sender) sorted: Option<Many<String>>,
    pub(in crate::sender) pairs: Option<Pairs>,
    #[serde(default)]
    pub(in crate::sender) or: Vec<Signature>,
}

/// `[signature.pairs]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::sender) struct Pairs {
    pub(in crate::sender) which: Option<Many<String>>,
    pub(in crate::sender) except: Option<Many<String>>,
    pub(in crate::sender) add: Option<BTreeMap<String, String>>,
    pub(in crate::sender) order: Option<String>,
    pub(in crate::sender) shape: Option<String>,
    pub(in crate::sender) each: Option<String>,
    pub(in crate::sender) empty: Option<String>,
}

impl Signature {
    /// This variant, with missing keys from `base`, except `when` and `roles`.
    pub(in crate::sender) fn over(self, base: &Self) -> Self {
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
pub(in crate::sender) struct Vector {
    pub(in crate::sender) about: String,
    #[serde(default)]
    pub(in crate::sender) source: toml::Table,
    #[serde(default)]
    pub(in crate::sender) keys: BTreeMap<String, String>,
    pub(in crate::sender) now: Option<toml::value::Datetime>,
    pub(in crate::sender) request: String,
    pub(in crate::sender) expect: toml::Table,
}
