//! Readiness: whether a balancer should send callbacks here.

use super::Lifecycle;
use crate::config::Readiness;
use crate::ledger::BatchedLedger;

/// Why callbacks should not be sent to this gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unready {
    /// The gateway's own phase: it is starting or stopping.
    Gateway(String),
    /// Its store cannot record, possibly for every gateway on that store.
    Store(String),
}

impl Unready {
    /// The reason, for operators.
    #[must_use]
    pub fn why(&self) -> &str {
        match self {
            Self::Gateway(why) | Self::Store(why) => why,
        }
    }

    /// Whether a balancer has to remove the gateway for this reason, according to
    /// `server.readiness`.
    #[must_use]
    pub fn counts(&self, readiness: Readiness) -> bool {
        match (self, readiness) {
            (Self::Gateway(_), _) | (Self::Store(_), Readiness::Store) => true,
            (Self::Store(_), Readiness::Gateway) => false,
        }
    }
}

/// Why callbacks should not be sent to the gateway of `life` on `ledger`; `None`: it is ready.
pub async fn unready(life: &Lifecycle, ledger: &BatchedLedger) -> Option<Unready> {
    if let Some(why) = life.unready() {
        return Some(Unready::Gateway(why));
    }
    match ledger.health().await {
        Ok(health) => health.unready().map(Unready::Store),
        Err(error) => Some(Unready::Store(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_store_empties_no_balancer_where_it_is_not_to() {
        let of = |unready: Unready| {
            [Readiness::Store, Readiness::Gateway].map(|readiness| unready.counts(readiness))
        };
        assert_eq!(of(Unready::Store("full".into())), [true, false]);
        assert_eq!(of(Unready::Gateway("draining".into())), [true, true]);
    }
}
