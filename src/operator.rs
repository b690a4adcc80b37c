//! Code shared by the admin API, the console and the command line: who may ask, how a callback is
//! shown to people without its supplied signature, where it is called, how it is delivered again,
//! and how a destination is paused and tested, and what a token that is bound to sources sees.

mod access;
mod address;
mod call;
mod erase;
mod explained;
mod held;
pub mod local_token;
mod masked;
mod pasted;
mod pause;
mod release;
mod replay;
mod signed;
mod source_names;
mod trial;
mod view;

pub use access::{
    AccessError, Admitted, Asked, Permission, Sight, check_name, check_site, check_token, conceal,
    find_token,
};
pub(crate) use address::{base_of, curl, curl_of_shown, reachable, url_of};
pub(crate) use call::{CallError, CallPurpose, Called, call};
pub use erase::{ErasedUsers, digest_of_user, erase_user};
pub(crate) use explained::{Asker, Explained, Overloaded, ToExplain, explained};
pub use held::{
    DecideError, HeldDecision, REASON_BYTES_MAX, Shown as HeldShown, decide as decide_held,
    roles as held_roles, shown as show_held,
};
pub use local_token::LocalToken;
pub use masked::{Masked, RawShown, source_of};
pub(crate) use pasted::{Capture, Misdirected, as_text, source_at};
pub use pause::{pause, resume};
pub use release::{ReleaseError, cancel_release, release_all};
pub use replay::{
    ReplayError, ReplayEventError, ReplayedEvent, cancel_replay, replay_all, replay_event,
};
pub use signed::{PasteUrl, SignedCallback};
pub use source_names::{source_id, source_name};
pub use trial::{TestDeliveryError, TestEvent, Tried, try_out};
pub use view::{SeenLedger, SeenRejections, View};
