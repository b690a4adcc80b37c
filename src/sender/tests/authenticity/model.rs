//! Feeds callbacks to verification, resolution and a ledger, and says what must not come of it.

use std::collections::BTreeMap;

use super::super::{Came, run};
use super::call::Call;
use super::world::{Facts, Scene};
use crate::ledger::{
    Accepted, EventId, EventIdentity, Incoming, Ledger as _, Memory, NewEvent, Release, SourceId,
    StoreClock,
};
use crate::sender::language::vector::OwnedRequest;
use crate::sender::{Fact, Outcome, RepeatingSignature, Resolved, Role, ShownParams};

/// A gateway of one source: its deliveries, and the outcome of each callback.
pub(super) struct Gateway<'s> {
    scene: &'s Scene,
    ledger: Memory,
    events: BTreeMap<EventId, EventFacts>,
}

/// The outcome of a callback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Event(EventId),
    Duplicate(EventId),
    Held,
    Test,
    Rejected,
}

/// The facts of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EventFacts {
    pub(super) kind: String,
    pub(super) test: bool,
    pub(super) roles: Vec<Option<String>>,
    escaped: Vec<Role>,
}

impl EventFacts {
    pub(super) fn of(resolved: &Resolved) -> Self {
        let role = |role| {
            let value = resolved.role(role)?;
            let plain = crate::sender::acts::resolve::plain_amount(value).to_vec();
            let plain = String::from_utf8(plain).unwrap();
            Some(if role == Role::Amount { plain } else { value.to_owned() })
        };
        Self {
            kind: resolved.kind().to_owned(),
            test: resolved.is_test(),
            roles: Role::ALL.into_iter().map(role).collect(),
            escaped: resolved.escaped().to_vec(),
        }
    }

    fn same_content(&self, other: &Self) -> bool {
        (&self.kind, &self.roles, &self.escaped) == (&other.kind, &other.roles, &other.escaped)
    }
}

impl<'s> Gateway<'s> {
    pub(super) fn new(scene: &'s Scene) -> Self {
        let ledger = Memory::new(StoreClock::manual(scene.now_ms));
        Self { scene, ledger, events: BTreeMap::new() }
    }

    pub(super) fn events(&self) -> impl Iterator<Item = &EventFacts> {
        self.events.values()
    }

    pub(super) fn said(&self, id: &EventId) -> &EventFacts {
        &self.events[id]
    }

    /// Takes a callback.
    pub(super) fn take(&mut self, request: &OwnedRequest) -> Fate {
        let came = run(&self.scene.recipe, request, self.scene.now_ms);
        self.record(&came)
    }

    pub(super) fn record(&mut self, came: &Came) -> Fate {
        let resolved = match (&came.resolved, came.outcome) {
            (Some(resolved), Outcome::Accepted) => resolved,
            (Some(_), _) => return Fate::Held,
            (None, Outcome::Test | Outcome::Challenge) => return Fate::Test,
            (None, _) => return Fate::Rejected,
        };
        let event = new_event(self.events.len(), resolved);
        match accept(&self.ledger, &event) {
            Accepted::New => {
                self.events.insert(event.id, EventFacts::of(resolved));
                Fate::Event(event.id)
            }
            Accepted::Duplicate { first, .. } => Fate::Duplicate(first),
            Accepted::Conflict { .. } | Accepted::Ambiguous { .. } => Fate::Held,
        }
    }
}

pub(super) fn new_event(number: usize, resolved: &Resolved) -> NewEvent {
    let source = SourceId::from("source");
    let mut id = [0; 16];
    id[8..].copy_from_slice(&(number as u64 + 1).to_be_bytes());
    let incoming = Incoming {
        id: EventId::from_bytes(id),
        source: "source",
        sender: "sender",
        received_ms: 1,
        resolved,
        params: &ShownParams::default(),
        release: Release::None,
    };
    let identity = EventIdentity::of(&source, resolved);
    NewEvent::new(&incoming, identity, bytes::Bytes::new(), smallvec::SmallVec::new())
}

/// The model answers at once.
pub(super) fn accept(ledger: &Memory, event: &NewEvent) -> Accepted {
    let mut accepted = std::pin::pin!(ledger.accept(std::slice::from_ref(event)));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match accepted.as_mut().poll(&mut context) {
        std::task::Poll::Ready(Ok(mut all)) => all.remove(0),
        other => panic!("{other:?}"),
    }
}

/// A callback under a signature that others have too.
pub(super) struct Variant {
    pub(super) request: OwnedRequest,
    pub(super) came: Came,
    /// Whether the provider can have signed it, by confirmed facts.
    pub(super) fits: bool,
}

impl Variant {
    /// `None`: its signature does not verify, or it is rejected otherwise.
    pub(super) fn of(scene: &Scene, request: OwnedRequest) -> Option<Self> {
        let came = run(&scene.recipe, &request, scene.now_ms);
        came.resolved.as_ref()?;
        let fits = scene.fits(&Call::of(&request), Facts::Confirmed);
        Some(Self { request, came, fits })
    }

    pub(super) fn resolved(&self) -> &Resolved {
        self.came.resolved.as_ref().unwrap()
    }

    fn is_event(&self) -> bool {
        self.came.outcome == Outcome::Accepted
    }
}

/// The errors in the handling of callbacks under one signature. The first is the original.
pub(super) fn wrongs(scene: &Scene, all: &[Variant]) -> Vec<String> {
    let mut wrong = Vec::new();
    authenticated_is_one(scene, all, &mut wrong);
    let orders: [Vec<usize>; 3] = [
        (0..all.len()).chain([0]).collect(),
        (1..all.len()).chain([0]).chain(1..all.len()).collect(),
        (0..all.len()).rev().chain(0..all.len()).collect(),
    ];
    for order in orders {
        one_event_for_each_state(scene, all, &order, &mut wrong);
    }
    wrong
}

/// A role that an accepted callback calls authentic has one value in all that are accepted, and in
/// all that the provider can have signed.
fn authenticated_is_one(scene: &Scene, all: &[Variant], wrong: &mut Vec<String>) {
    // A kind that nothing signs may write a role in a way of its own: `reversal:{id}`.
    let own_text = |kind: &str, role: Role| {
        let kind = scene.recipe.kinds.iter().find(|one| one.name == kind);
        kind.is_some_and(|kind| kind.roles.texts.has(role))
    };
    // Of those that say the same, one is enough.
    let mut different: Vec<(&Variant, EventFacts)> = Vec::new();
    for one in all.iter().filter(|one| one.is_event() || one.fits) {
        let said = EventFacts::of(one.resolved());
        let is_known = |(other, known): &(&Variant, EventFacts)| {
            let (own, theirs) = (one.resolved(), other.resolved());
            *known == said
                && own.authenticated() == theirs.authenticated()
                && own.covered() == theirs.covered()
                && one.is_event() == other.is_event()
        };
        if !different.iter().any(is_known) {
            different.push((one, said));
        }
    }
    for (one, said) in different.iter().filter(|(one, _)| one.is_event()) {
        for (other, others) in &different {
            for role in one.resolved().authenticated() {
                let (own, theirs) = (&said.roles[*role as usize], &others.roles[*role as usize]);
                let of_kind = own_text(&said.kind, *role) || own_text(&others.kind, *role);
                if own != theirs && (said.kind == others.kind || !of_kind) {
                    wrong.push(format!(
                        "{role:?} is authentic: {own:?}, {theirs:?}\n{}",
                        both(one, other)
                    ));
                }
            }
            let facts = one.resolved().covered();
            if facts.contains(&Fact::Kind) && said.kind != others.kind {
                wrong.push(format!("kind is authentic\n{}", both(one, other)));
            }
            if facts.contains(&Fact::Test) && said.test != others.test {
                wrong.push(format!("test is authentic\n{}", both(one, other)));
            }
        }
    }
}

/// Whether one signature of the source serves several events, by its own word.
fn repeats(scene: &Scene, all: &[Variant]) -> bool {
    match scene.recipe.repeats() {
        Some(RepeatingSignature::Always(_)) => true,
        Some(RepeatingSignature::Sometimes(_)) => all.iter().any(|one| {
            let proven = one.resolved().authenticated().contains(&Role::Transaction);
            one.resolved().signature_keys().next().is_none() && !proven
        }),
        None => scene.terms.replayable == crate::sender::Replay::Accepted,
    }
}

fn one_event_for_each_state(
    scene: &Scene,
    all: &[Variant],
    order: &[usize],
    wrong: &mut Vec<String>,
) {
    let mut gateway = Gateway::new(scene);
    let mut first_of: BTreeMap<(String, bool), usize> = BTreeMap::new();
    let mut fates: BTreeMap<usize, Fate> = BTreeMap::new();
    let repeats = repeats(scene, all);
    for &at in order {
        let fate = gateway.record(&all[at].came);
        let said = EventFacts::of(all[at].resolved());
        match &fate {
            Fate::Event(_) => {
                let state = (said.kind.clone(), said.test);
                match first_of.get(&state) {
                    Some(first) if !repeats => {
                        let text = both(&all[*first], &all[at]);
                        wrong.push(format!("two events of one signature, {order:?}\n{text}"));
                    }
                    _ => {
                        first_of.insert(state, at);
                    }
                }
            }
            Fate::Duplicate(first) if !gateway.said(first).same_content(&said) => {
                let first = gateway.said(first);
                wrong.push(format!("dropped for {first:?}\n{}", shown(&all[at])));
            }
            _ => {}
        }
        if let Some(before) = fates.get(&at) {
            let same = match (before, &fate) {
                (Fate::Event(own) | Fate::Duplicate(own), Fate::Duplicate(first)) => own == first,
                (Fate::Event(_) | Fate::Duplicate(_), _) => false,
                (Fate::Held, after) => *after == Fate::Held || repeats,
                _ => true,
            };
            if !same {
                wrong.push(format!("again: {before:?}, then {fate:?}\n{}", shown(&all[at])));
            }
        }
        fates.insert(at, fate);
    }
}

fn both(one: &Variant, other: &Variant) -> String {
    format!("{}\n{}", shown(one), shown(other))
}

pub(super) fn shown(one: &Variant) -> String {
    let resolved = one.resolved();
    format!(
        "  {:?} fits={} kind={} auth={:?} {:?} misfits={:?}\n    {}",
        one.came.outcome,
        one.fits,
        resolved.kind(),
        resolved.authenticated(),
        resolved.covered(),
        resolved.misfits(),
        written(&one.request),
    )
}

/// A request, for people.
pub(super) fn written(request: &OwnedRequest) -> String {
    let headers: Vec<String> =
        request.headers.iter().map(|(name, value)| format!("{name}: {value:?}")).collect();
    let (target, body) =
        (String::from_utf8_lossy(&request.target), String::from_utf8_lossy(&request.body));
    format!("{target} {headers:?} {body}")
}
