//! Kept callbacks of an engine that has them in memory, and the rules for who has room.
//!
//! A busy caller does not drive out the others. Quarantine removes nothing: a caller has room as
//! long as it has three times less than what is left for everyone. Samples make room for new ones:
//! the oldest goes, of the caller, and of its reason, with the most.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;

use super::held::REJECTED_MAX;
use super::{
    DedupeKey, HeldBounds, HeldId, HeldMark, HeldQuery, HeldRetention, HeldStats, HeldWhy,
    HoldOutcome, NewHeld, SourceId, VARIANTS_MAX,
};
use crate::clock::UnixMillis;
use crate::sender::Reason;

/// How many times the room that is left one caller may have of a quarantine: alone, three quarters.
const CALLER_SHARE: u64 = 3;

const NOTHING: HeldBounds = HeldBounds { count: 0, bytes: 0 };

/// Kept callbacks and marks. `T` is the callback, or where it is.
#[derive(Debug)]
pub(super) struct Holdings<T> {
    waiting: BTreeMap<HeldId, Waiting<T>>,
    decided: BTreeMap<HeldId, HeldMark>,
    variants: HashMap<DedupeKey, HeldId>,
    anchors: HashMap<DedupeKey, usize>,
    sums: HashMap<HeldGroup, HeldBounds>,
    /// The share of each caller in a source's quarantine.
    callers: HashMap<DedupeKey, HeldBounds>,
    samples: HashMap<SourceId, Vec<Sample>>,
}

/// Callbacks of a source that are kept for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct HeldGroup {
    pub(super) source: SourceId,
    pub(super) why: HeldWhy,
}

#[derive(Debug)]
struct Waiting<T> {
    source: SourceId,
    why: HeldWhy,
    anchor: DedupeKey,
    variant: DedupeKey,
    bytes: u64,
    reason: Option<Reason>,
    transaction: u64,
    user: Option<u64>,
    received_ms: UnixMillis,
    place: T,
}

/// A sample of what was rejected, as far as making room needs it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub id: HeldId,
    pub caller: DedupeKey,
    pub reason: Option<Reason>,
    pub bytes: u64,
}

/// Whether a caller that has `own` of a quarantine has room for `size` bytes more; `sum` is what
/// all callers have.
pub(super) fn has_room(bounds: HeldBounds, sum: HeldBounds, own: HeldBounds, size: u64) -> bool {
    let (count, bytes) = (sum.count + 1, sum.bytes.saturating_add(size));
    let left = |most: u64, all: u64| most.saturating_sub(all).saturating_mul(CALLER_SHARE);
    count <= bounds.count
        && bytes <= bounds.bytes
        // The first of a caller needs no more than the room itself.
        && (own.count == 0
            || own.count < left(bounds.count, count).max(1)
                && own.bytes.saturating_add(size) <= left(bounds.bytes, bytes))
}

/// Which samples of one source have to go. They are in the order of their ids.
pub(super) fn excess(samples: &[Sample], bounds: HeldBounds) -> Vec<HeldId> {
    let weight = |sample: &Sample| sample.bytes + bounds.bytes / bounds.count.max(1);
    let (mut count, mut bytes) = (samples.len() as u64, 0);
    // By caller and reason: what each has, and its samples, the oldest first.
    let mut groups = Groups::new();
    for sample in samples {
        let group = groups.entry((sample.caller, sample.reason)).or_default();
        group.0 += weight(sample);
        group.1.push_back(sample);
        bytes += sample.bytes;
    }
    let mut gone = Vec::new();
    while count > bounds.count || bytes > bounds.bytes {
        let Some(oldest) = oldest_of_heaviest(&mut groups) else { break };
        count -= 1;
        bytes -= oldest.bytes;
        gone.push(oldest.id);
        if let Some(group) = groups.get_mut(&(oldest.caller, oldest.reason)) {
            group.0 -= weight(oldest);
        }
    }
    gone
}

type Groups<'s> = BTreeMap<(DedupeKey, Option<Reason>), (u64, VecDeque<&'s Sample>)>;

/// Takes the oldest sample of the caller that has the most, of its reason that has the most.
fn oldest_of_heaviest<'s>(groups: &mut Groups<'s>) -> Option<&'s Sample> {
    let mut callers: BTreeMap<DedupeKey, u64> = BTreeMap::new();
    for ((caller, _), (weight, _)) in &*groups {
        *callers.entry(*caller).or_default() += weight;
    }
    let (caller, _) = callers.into_iter().max_by_key(|(caller, weight)| (*weight, *caller))?;
    let of_caller = groups.iter_mut().filter(|((of, _), _)| *of == caller);
    let heaviest = of_caller.max_by_key(|((_, reason), (weight, _))| (*weight, *reason))?;
    heaviest.1.1.pop_front()
}

/// The short hash by which a text is found.
fn short(text: &str) -> u64 {
    use sha2::Digest as _;
    let hash = sha2::Sha256::digest(text.as_bytes());
    hash.first_chunk().map_or(0, |chunk| u64::from_le_bytes(*chunk))
}

impl<T> Default for Holdings<T> {
    fn default() -> Self {
        Self {
            waiting: BTreeMap::new(),
            decided: BTreeMap::new(),
            variants: HashMap::new(),
            anchors: HashMap::new(),
            sums: HashMap::new(),
            callers: HashMap::new(),
            samples: HashMap::new(),
        }
    }
}

// === What is there ===

impl<T> Holdings<T> {
    /// Why a callback is not to be held.
    pub(super) fn judge(&self, held: &NewHeld, bounds: HeldBounds) -> Option<HoldOutcome> {
        if let Some(id) = self.variants.get(&held.variant) {
            return Some(match *id == held.id {
                true => HoldOutcome::Held(*id),
                false => HoldOutcome::Known(*id),
            });
        }
        let size = held.size() as u64;
        let group = HeldGroup { source: held.event.source.clone(), why: held.why };
        let sum = self.sums.get(&group).copied();
        let sum = sum.unwrap_or(NOTHING);
        let fits = match held.why {
            HeldWhy::Rejected => true,
            HeldWhy::Quarantine => {
                let own = self.callers.get(&held.anchor).copied().unwrap_or(NOTHING);
                has_room(bounds, sum, own, size)
            }
            HeldWhy::Ambiguous | HeldWhy::Conflict => {
                self.anchors.get(&held.anchor).is_none_or(|variants| *variants < VARIANTS_MAX)
                    && sum.count < bounds.count
                    && sum.bytes.saturating_add(size) <= bounds.bytes
            }
        };
        (!fits).then_some(HoldOutcome::Full)
    }

    /// Whether a variant is held or decided.
    pub(super) fn knows(&self, variant: &DedupeKey) -> bool {
        self.variants.contains_key(variant)
    }

    /// Where one is that waits.
    pub(super) fn waiting(&self, id: HeldId) -> Option<&T> {
        self.waiting.get(&id).map(|waiting| &waiting.place)
    }

    pub(super) fn waiting_mut(&mut self, id: HeldId) -> Option<&mut T> {
        self.waiting.get_mut(&id).map(|waiting| &mut waiting.place)
    }

    /// The latest known reason for which a waiting callback was rejected.
    pub(super) fn reason(&self, id: HeldId) -> Option<Reason> {
        self.waiting.get(&id).and_then(|waiting| waiting.reason)
    }

    /// The mark of one that is decided.
    pub(super) fn mark(&self, id: HeldId) -> Option<&HeldMark> {
        self.decided.get(&id)
    }

    /// Every mark, by id.
    #[cfg(any(test, debug_assertions))]
    pub(super) fn marks(&self) -> impl Iterator<Item = &HeldMark> {
        self.decided.values()
    }

    /// Waiting callbacks that match a query, newest first, older than `before`.
    pub(super) fn find(
        &self,
        query: &HeldQuery,
        before: Option<HeldId>,
    ) -> impl Iterator<Item = (HeldId, &T)> {
        let upper = before.map_or(Bound::Unbounded, Bound::Excluded);
        let wanted = Wanted::of(query);
        let all = self.waiting.range((Bound::Unbounded, upper)).rev();
        all.filter(move |(_, one)| wanted.is_met_by(one)).map(|(id, one)| (*id, &one.place))
    }

    /// How many wait for a person, by source.
    pub(super) fn stats(&self) -> Vec<HeldStats> {
        let mut counts: BTreeMap<&SourceId, u64> = BTreeMap::new();
        for (HeldGroup { source, why }, sum) in &self.sums {
            if *why != HeldWhy::Rejected {
                *counts.entry(source).or_default() += sum.count;
            }
        }
        let some = counts.into_iter().filter(|(_, count)| *count > 0);
        some.map(|(source, count)| HeldStats { source: source.clone(), count }).collect()
    }
}

/// A query, with what texts are found by.
struct Wanted<'q> {
    query: &'q HeldQuery,
    transaction: Option<u64>,
    user: Option<u64>,
    claims: Option<u64>,
}

impl<'q> Wanted<'q> {
    fn of(query: &'q HeldQuery) -> Self {
        let hash = |text: &Option<String>| text.as_deref().map(short);
        let (transaction, user) = (hash(&query.transaction), hash(&query.user));
        Self { query, transaction, user, claims: hash(&query.claims) }
    }

    fn is_met_by<T>(&self, one: &Waiting<T>) -> bool {
        let query = self.query;
        query.is_of(&one.source)
            && query.whys().any(|why| why == one.why)
            && query.reason.is_none_or(|reason| Some(reason) == one.reason)
            && self.transaction.is_none_or(|wanted| wanted == one.transaction)
            && self.user.is_none_or(|wanted| Some(wanted) == one.user)
            && self.claims.is_none_or(|text| text == one.transaction || Some(text) == one.user)
            && query.since_ms.is_none_or(|since| one.received_ms >= since)
            && query.until_ms.is_none_or(|until| one.received_ms < until)
    }
}

// === What changes ===

impl<T> Holdings<T> {
    /// Adds one whose variant is unknown. One that is decided already stays so. Samples may have to
    /// make room for it.
    pub(super) fn insert(&mut self, held: &NewHeld, place: T) {
        if self.decided.contains_key(&held.id) {
            return;
        }
        let bytes = held.size() as u64;
        let (source, why) = (held.event.source.clone(), held.why);
        let group = HeldGroup { source: source.clone(), why };
        add(self.sums.entry(group).or_insert(NOTHING), bytes);
        if why == HeldWhy::Quarantine {
            add(self.callers.entry(held.anchor).or_insert(NOTHING), bytes);
        }
        self.note(held.variant, why, held.anchor, held.id);
        let waiting = Waiting {
            source: source.clone(),
            why,
            anchor: held.anchor,
            variant: held.variant,
            bytes,
            reason: held.reason,
            transaction: short(&held.event.transaction),
            user: held.event.user.as_deref().map(short),
            received_ms: held.event.received_ms,
            place,
        };
        self.waiting.insert(held.id, waiting);
        if why == HeldWhy::Rejected {
            self.add_sample(&source, held, bytes);
        }
    }

    fn add_sample(&mut self, source: &SourceId, held: &NewHeld, bytes: u64) {
        let samples = self.samples.entry(source.clone()).or_default();
        let at = samples.partition_point(|sample| sample.id < held.id);
        let (id, caller, reason) = (held.id, held.anchor, held.reason);
        samples.insert(at, Sample { id, caller, reason, bytes });
        let all = samples.iter().map(|sample| sample.bytes).sum::<u64>();
        if samples.len() as u64 > REJECTED_MAX.count || all > REJECTED_MAX.bytes {
            for id in excess(samples, REJECTED_MAX) {
                self.remove(id);
            }
        }
    }

    /// Fills in what another place knows of the bounds of a callback: engines that have no memory
    /// of their own judge a batch with it.
    pub(super) fn know_sum(&mut self, of: HeldGroup, sum: HeldBounds) {
        self.sums.insert(of, sum);
    }

    pub(super) fn know_anchor(&mut self, anchor: DedupeKey, variants: usize, own: HeldBounds) {
        self.anchors.insert(anchor, variants);
        self.callers.insert(anchor, own);
    }

    pub(super) fn know_variant(&mut self, variant: DedupeKey, id: HeldId) {
        self.variants.insert(variant, id);
    }

    fn note(&mut self, variant: DedupeKey, why: HeldWhy, anchor: DedupeKey, id: HeldId) {
        let counts = matches!(why, HeldWhy::Ambiguous | HeldWhy::Conflict);
        if self.variants.insert(variant, id).is_none() && counts {
            *self.anchors.entry(anchor).or_default() += 1;
        }
    }

    /// Takes one out of all sums.
    fn take(&mut self, id: HeldId) -> Option<Waiting<T>> {
        let waiting = self.waiting.remove(&id)?;
        let group = HeldGroup { source: waiting.source.clone(), why: waiting.why };
        self.sums.get_mut(&group).into_iter().for_each(|sum| less(sum, waiting.bytes));
        if waiting.why == HeldWhy::Quarantine
            && let Some(own) = self.callers.get_mut(&waiting.anchor)
        {
            less(own, waiting.bytes);
            if own.count == 0 {
                self.callers.remove(&waiting.anchor);
            }
        }
        if let Some(samples) = self.samples.get_mut(&waiting.source)
            && waiting.why == HeldWhy::Rejected
        {
            samples.retain(|sample| sample.id != id);
        }
        Some(waiting)
    }

    /// Waiting callbacks that probably claim to be for `user`: texts are compared by their hashes.
    #[cfg(any(test, debug_assertions))]
    pub(super) fn of_user(&self, user: &str) -> Vec<HeldId> {
        let user = Some(short(user));
        self.waiting.iter().filter(|(_, one)| one.user == user).map(|(id, _)| *id).collect()
    }

    /// Removes one that waits, without a mark.
    pub(super) fn remove(&mut self, id: HeldId) {
        if let Some(waiting) = self.take(id) {
            self.variants.remove(&waiting.variant);
        }
    }

    /// Notes a decision, of one that waits or of which nothing else is left.
    pub(super) fn decide(&mut self, mark: HeldMark) {
        self.take(mark.id);
        self.note(mark.variant, mark.why, mark.anchor, mark.id);
        self.decided.insert(mark.id, mark);
    }

    /// Notes another reason for one that waits; whether that is new.
    pub(super) fn note_reason(&mut self, id: HeldId, reason: Reason) -> bool {
        let Some(waiting) = self.waiting.get_mut(&id) else { return false };
        let changes = waiting.reason != Some(reason);
        waiting.reason = Some(reason);
        changes
    }

    /// Removes rejected callbacks whose time is over, and the marks of those that were decided;
    /// answers how many that were.
    pub(super) fn expire(&mut self, now_ms: UnixMillis, policy: &HeldRetention) -> u64 {
        let old = |why: HeldWhy, source: &SourceId, received_ms: UnixMillis| {
            policy.before(now_ms, why, source).is_some_and(|before| received_ms < before)
        };
        let waiting = self.waiting.iter();
        let waiting = waiting.filter(|(_, one)| old(one.why, &one.source, one.received_ms));
        let ids: Vec<HeldId> = waiting.map(|(id, _)| *id).collect();
        ids.iter().for_each(|id| self.remove(*id));
        let variants = &mut self.variants;
        let marks = self.decided.len();
        self.decided.retain(|_, mark| {
            let goes = old(mark.why, &mark.source, mark.id.ms());
            if goes {
                variants.remove(&mark.variant);
            }
            !goes
        });
        (ids.len() + marks - self.decided.len()) as u64
    }

    /// Forgets everything of a source; answers how many that were.
    pub(super) fn forget(&mut self, source: &SourceId) -> u64 {
        let waiting = self.waiting.iter().filter(|(_, one)| one.source == *source);
        let ids: Vec<HeldId> = waiting.map(|(id, _)| *id).collect();
        for id in &ids {
            // An anchor is a key within one source.
            if let Some(one) = self.take(*id) {
                self.anchors.remove(&one.anchor);
                self.variants.remove(&one.variant);
            }
        }
        let (anchors, variants) = (&mut self.anchors, &mut self.variants);
        let marks = self.decided.len();
        self.decided.retain(|_, mark| {
            let goes = mark.source == *source;
            if goes {
                anchors.remove(&mark.anchor);
                variants.remove(&mark.variant);
            }
            !goes
        });
        self.sums.retain(|group, _| group.source != *source);
        (ids.len() + marks - self.decided.len()) as u64
    }
}

fn add(to: &mut HeldBounds, bytes: u64) {
    to.count += 1;
    to.bytes += bytes;
}

fn less(of: &mut HeldBounds, bytes: u64) {
    of.count = of.count.saturating_sub(1);
    of.bytes = of.bytes.saturating_sub(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(n: i64, caller: u8, reason: Reason, bytes: u64) -> Sample {
        let (id, caller) = (HeldId::new(n), DedupeKey([caller; 16]));
        Sample { id, caller, reason: Some(reason), bytes }
    }

    #[test]
    fn a_flood_makes_room_for_itself_only() {
        let bounds = HeldBounds { count: 10, bytes: 10_000 };
        let few = (0..3).map(|n| sample(n, 1, Reason::Stale, 100));
        let other = [sample(3, 2, Reason::NotOurs, 100)];
        let flood = (4..40).map(|n| sample(n, 2, Reason::BadSignature, 100));
        let all: Vec<Sample> = few.chain(other).chain(flood).collect();
        let gone = excess(&all, bounds);
        assert_eq!(gone.len(), 30);
        // The oldest of the flood: neither the other caller's, nor its own for another reason.
        let oldest: Vec<HeldId> = all[4..34].iter().map(|sample| sample.id).collect();
        assert_eq!(gone, oldest);
    }

    #[test]
    fn bytes_count_too() {
        let bounds = HeldBounds { count: 10, bytes: 1000 };
        let all = vec![sample(0, 1, Reason::Stale, 300), sample(1, 2, Reason::Stale, 900)];
        assert_eq!(excess(&all, bounds), [all[1].id]);
        assert_eq!(excess(&all[..1], bounds), []);
    }

    #[test]
    fn one_caller_leaves_room_for_others() {
        let bounds = HeldBounds { count: 1000, bytes: 100_000 };
        let (mut sum, mut own) = (NOTHING, NOTHING);
        let fill = |sum: &mut HeldBounds, own: &mut HeldBounds| {
            while has_room(bounds, *sum, *own, 100) {
                add(sum, 100);
                add(own, 100);
            }
        };
        fill(&mut sum, &mut own);
        assert!((74_000..=75_000).contains(&own.bytes), "{own:?}");
        let mut second = NOTHING;
        fill(&mut sum, &mut second);
        assert!(second.bytes > 18_000, "{second:?}");
        assert!(sum.bytes < bounds.bytes);
        assert!(!has_room(bounds, sum, own, 100));
    }

    #[test]
    fn what_does_not_fit_at_all_has_no_room() {
        let bounds = HeldBounds { count: 10, bytes: 100 };
        assert!(!has_room(bounds, NOTHING, NOTHING, 101));
        assert!(has_room(bounds, NOTHING, NOTHING, 100));
    }
}
