//! The paths of the admin listener: their methods, the permission that each needs, and whether a token
//! that is bound to sources may use them.

use std::net::IpAddr;

use http::Method;

use crate::config::{Config, SourceScope};
use crate::ledger::Decision;
use crate::operator::{AccessError, Permission};
use crate::registry::Managed;

/// Where what is managed is found, by name.
const SOURCES: &str = "/admin/v1/sources/";
const DESTINATIONS: &str = "/admin/v1/destinations/";

/// The resource that a path names.
pub(super) enum Resource<'p> {
    Metrics,
    Live,
    Alive,
    Ready,
    Drain,
    Events,
    Event(&'p str),
    Replay(&'p str),
    BeginReplay,
    Order(&'p str),
    BeginRelease,
    Release(&'p str),
    Deliveries,
    Held,
    HeldOne(&'p str),
    Decide(&'p str, Decision),
    Status(&'p str),
    Pause(&'p str),
    Resume(&'p str),
    Test(&'p str),
    Rejections,
    Senders,
    SigningKey,
    Explain,
    Urls,
    Sign,
    Erase,
    Export,
    Verify,
    All(Managed),
    One(Managed, &'p str),
    Audit,
    OpenApi,
    EventSchema,
}

/// Actions that may follow a destination's name.
const ACTIONS: &[&str] = &["status", "pause", "resume", "test"];

const LOOK: &[Method] = &[Method::GET];
const DO: &[Method] = &[Method::POST];
const BEGIN_AND_LOOK: &[Method] = &[Method::GET, Method::POST];
const WATCH: &[Method] = &[Method::GET, Method::DELETE];
const MANAGE: &[Method] = &[Method::GET, Method::PUT, Method::DELETE];

impl<'p> Resource<'p> {
    pub(super) fn find(path: &'p str) -> Option<Self> {
        let segments: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
        Some(match segments.as_slice() {
            ["metrics"] => Self::Metrics,
            ["livez"] => Self::Live,
            ["healthz"] => Self::Alive,
            ["readyz"] => Self::Ready,
            ["admin", "v1", rest @ ..] => match rest {
                ["events"] => Self::Events,
                ["events", id] => Self::Event(id),
                ["events", id, "replay"] => Self::Replay(id),
                ["replay"] => Self::BeginReplay,
                ["replay", id] => Self::Order(id),
                ["release"] => Self::BeginRelease,
                ["release", id] => Self::Release(id),
                ["deliveries"] => Self::Deliveries,
                ["held"] => Self::Held,
                ["held", id] => Self::HeldOne(id),
                ["held", id, "release"] => Self::Decide(id, Decision::Release),
                ["held", id, "drop"] => Self::Decide(id, Decision::Drop),
                ["destinations", _, .., last] if ACTIONS.contains(last) => {
                    let name = path.strip_prefix(DESTINATIONS)?.strip_suffix(last)?;
                    Self::of_destination(name.strip_suffix('/')?, last)?
                }
                ["rejections"] => Self::Rejections,
                ["senders"] => Self::Senders,
                ["signing-key"] => Self::SigningKey,
                ["explain"] => Self::Explain,
                ["urls"] => Self::Urls,
                ["sign"] => Self::Sign,
                ["erase"] => Self::Erase,
                ["export"] => Self::Export,
                ["verify"] => Self::Verify,
                ["sources"] => Self::All(Managed::Source),
                ["destinations"] => Self::All(Managed::Destination),
                // Names of the management APIs have a slash in them.
                ["sources", _] | ["sources", _, _] => {
                    Self::One(Managed::Source, path.strip_prefix(SOURCES)?)
                }
                ["destinations", ..] if rest.len() <= 4 => {
                    Self::One(Managed::Destination, path.strip_prefix(DESTINATIONS)?)
                }
                ["drain"] => Self::Drain,
                ["audit"] => Self::Audit,
                ["openapi.json"] => Self::OpenApi,
                ["event.schema.json"] => Self::EventSchema,
                _ => return None,
            },
            _ => return None,
        })
    }

    fn of_destination(name: &'p str, action: &str) -> Option<Self> {
        Some(match action {
            "status" => Self::Status(name),
            "pause" => Self::Pause(name),
            "resume" => Self::Resume(name),
            "test" => Self::Test(name),
            _ => return None,
        })
    }

    pub(super) fn methods(&self) -> &'static [Method] {
        match self {
            Self::Explain
            | Self::Sign
            | Self::Erase
            | Self::Drain
            | Self::Replay(_)
            | Self::BeginReplay
            | Self::BeginRelease
            | Self::Decide(..)
            | Self::Pause(_)
            | Self::Resume(_)
            | Self::Test(_) => DO,
            Self::Order(_) | Self::Release(_) => WATCH,
            Self::Verify => BEGIN_AND_LOOK,
            Self::One(..) => MANAGE,
            _ => LOOK,
        }
    }

    /// The permission needed at a listener.
    pub(super) fn need_at(&self, address: IpAddr, config: &Config, method: &Method) -> Permission {
        match self {
            Self::Metrics if !has_open_metrics(address, config) => Permission::Read,
            // Nothing will be done.
            _ if !self.methods().contains(method) => Permission::Read,
            _ => self.need(method),
        }
    }

    /// Refuses a token that is bound to sources where more is shown or done than is theirs.
    pub(super) fn check_scope(
        &self,
        method: &Method,
        scope: &SourceScope,
    ) -> Result<(), AccessError> {
        match !scope.is_bound() || self.knows_bound_tokens(method) {
            true => Ok(()),
            false => Err(AccessError::OnlyItsSources),
        }
    }

    /// Whether it leaves out what a bound token may not see. Every resource is named, so a new one
    /// does not compile before that is decided.
    fn knows_bound_tokens(&self, method: &Method) -> bool {
        match self {
            // Nothing of any source is in them; keys of destinations ask the view.
            Self::Live
            | Self::Alive
            | Self::Ready
            | Self::SigningKey
            | Self::OpenApi
            | Self::EventSchema
            // They ask the view.
            | Self::Events
            | Self::Event(_)
            | Self::Replay(_)
            | Self::BeginReplay
            | Self::Order(_)
            | Self::BeginRelease
            | Self::Release(_)
            | Self::Deliveries
            | Self::Held
            | Self::HeldOne(_)
            | Self::Decide(..)
            | Self::Rejections
            | Self::Senders
            | Self::Explain
            | Self::Urls
            | Self::Sign
            | Self::Erase
            | Self::All(Managed::Source)
            | Self::Audit => true,
            // Its settings are for those who know the destinations.
            Self::One(Managed::Source, _) => *method == Method::GET,
            Self::Metrics
            | Self::Drain
            | Self::Status(_)
            | Self::Pause(_)
            | Self::Resume(_)
            | Self::Test(_)
            | Self::Export
            | Self::Verify
            | Self::All(Managed::Destination)
            | Self::One(Managed::Destination, _) => false,
        }
    }

    pub(super) fn need(&self, method: &Method) -> Permission {
        match self {
            // The permission for the metrics depends on the listener.
            Self::Metrics | Self::Live | Self::Alive | Self::Ready => Permission::Nothing,
            Self::Replay(_) | Self::BeginReplay => Permission::Support,
            Self::Order(_) if *method != Method::GET => Permission::Support,
            Self::Drain
            | Self::BeginRelease
            | Self::Decide(..)
            | Self::Pause(_)
            | Self::Resume(_)
            | Self::Test(_)
            | Self::Erase
            // A signature is as good as the secret, for one callback.
            | Self::Sign
            // An export contains values that all other pages mask.
            | Self::Export => Permission::Write,
            Self::One(..) | Self::Release(_) | Self::Verify
                if *method != Method::GET =>
            {
                Permission::Write
            }
            _ => Permission::Read,
        }
    }
}

/// Whether `/metrics` needs no token: on loopback, or if the configuration says so. They name every
/// source, so on loopback they need one as soon as a token is bound to some of them.
fn has_open_metrics(address: IpAddr, config: &Config) -> bool {
    let is_shared = config.admin.tokens.iter().any(|token| token.scope.is_bound());
    config.admin.open_metrics || (address.is_loopback() && !is_shared)
}
