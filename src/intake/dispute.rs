//! A callback that disputes an event that is there: held for a person, and acknowledged.
//!
//! Its first is kept and delivered. Nothing is acknowledged that is not recorded: where a bound is
//! reached, or the ledger does not answer in time, the sender gets its own "try later".

use std::time::Instant;

use super::callback_log::{CallbackRecord, cut};
use super::judging::Slot;
use super::record::VerifiedCallback;
use super::reply::{Proof, Unacknowledged};
use crate::clock;
use crate::ledger::{
    BatchedLedger, EventBody, EventId, HeldBounds, HeldId, HeldOne, HeldProof, HeldWhy, NewHeld,
};
use crate::sender::{ReplyDraft, Role};

/// Bytes of a role that are logged: longer than any real one.
const ROLE_BYTES_MAX: usize = 128;

/// The event that a callback disputes, and why.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dispute {
    pub why: HeldWhy,
    /// The existing event; `None`: there is none, and the signed text has several readings.
    pub first: Option<EventId>,
    /// When its sender stops waiting.
    pub until: Instant,
}

/// The user and the reward, on one side of a dispute.
#[derive(Debug, Default)]
struct Side {
    user: Option<String>,
    item: Option<String>,
    amount: Option<String>,
}

impl VerifiedCallback<'_, '_> {
    /// Holds it. The proof if it is held or known.
    pub(super) async fn hold(
        &self,
        slot: &mut Slot,
        ledger: &BatchedLedger,
        dispute: Dispute,
        kept: Option<&ReplyDraft>,
    ) -> Result<Proof, Unacknowledged> {
        let held = self.held(slot.as_ref(), ledger, dispute, kept).await;
        let proof = match &held {
            Some(held) => Ok(match released_as(ledger, held, dispute.until).await {
                Some(event) => Proof::of_released(held, event),
                None => Proof::of_held(held, dispute.first),
            }),
            None => Err(Unacknowledged::Unavailable),
        };
        if let Some(record) = slot {
            record.set_outcome(proof.map_or_else(Unacknowledged::outcome, |proof| proof.outcome()));
        }
        proof
    }

    async fn held(
        &self,
        record: Option<&CallbackRecord>,
        ledger: &BatchedLedger,
        dispute: Dispute,
        kept: Option<&ReplyDraft>,
    ) -> Option<HeldProof> {
        let event = self.event(kept, self.identity())?;
        let held = NewHeld::disputing(dispute.why, dispute.first, event);
        let left = dispute.until.saturating_duration_since(clock::instant());
        let holding = tokio::time::timeout(left, ledger.hold(&held, HeldBounds::default()));
        let logged = record.is_some_and(CallbackRecord::is_logged);
        match holding.await {
            Ok(Ok(Some(held))) => {
                if logged && held.is_new() {
                    self.report(ledger, dispute, held.id()).await;
                }
                Some(held)
            }
            Ok(Ok(None)) => {
                if logged {
                    let source = &*self.received.route().label;
                    let why = dispute.why.as_str();
                    tracing::warn!(
                        target: "postern::callback",
                        source, why, "not held: decide what is held of this source first"
                    );
                }
                None
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, "not held");
                None
            }
            Err(_) => None,
        }
    }

    /// One line with both sides.
    async fn report(&self, ledger: &BatchedLedger, dispute: Dispute, id: HeldId) {
        let source = &*self.received.route().label;
        let (why, held) = (dispute.why.as_str(), tracing::field::display(id));
        let role = |role| self.resolved.role(role).map(|text| cut(text, ROLE_BYTES_MAX));
        let transaction = role(Role::Transaction);
        let (user, item, amount) = (role(Role::User), role(Role::Item), role(Role::Amount));
        let there = match dispute.first {
            Some(first) => side(ledger, first).await,
            None => Side::default(),
        };
        let first = dispute.first.map(tracing::field::display);
        let Side { user: first_user, item: first_item, amount: first_amount } = there;
        tracing::warn!(
            target: "postern::callback",
            source, why, held, transaction, user, item, amount,
            first, first_user, first_item, first_amount,
            "held: it disputes an event that is there"
        );
    }
}

/// The event that a held callback became when an operator released it.
async fn released_as(ledger: &BatchedLedger, held: &HeldProof, until: Instant) -> Option<EventId> {
    if held.is_new() {
        return None;
    }
    let found = tokio::time::timeout_at(until.into(), ledger.held_one(held.id())).await;
    match found {
        Ok(Ok(Some(HeldOne::Decided(mark)))) => mark.event,
        // In doubt it is answered as a held one.
        Ok(Ok(Some(HeldOne::Waiting(_)) | None) | Err(_)) | Err(_) => None,
    }
}

/// The roles of the existing event; nothing if the event is gone.
async fn side(ledger: &BatchedLedger, first: EventId) -> Side {
    let Ok(Some(detail)) = ledger.event(first).await else { return Side::default() };
    let event = EventBody::decode(&detail.event.body).and_then(|body| body.event());
    let Ok(event) = event else { return Side::default() };
    let text = |text: Option<std::borrow::Cow<'_, str>>| {
        text.map(|text| cut(&text, ROLE_BYTES_MAX).to_owned())
    };
    Side { user: text(event.user), item: text(event.item), amount: text(event.amount) }
}
