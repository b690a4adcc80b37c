//! Facts that follow from a compiled recipe.

use http::HeaderName;
use zeroize::Zeroizing;

use super::super::keys::pick_slot;
use super::super::{Also, Kind, Masked, MaskedMember, Protection, Recipe, Terms, WhenBody};
use crate::sender::acts::reply::Rows;
use crate::sender::acts::signature::{self, SignatureVariant};
use crate::sender::crypto::key_set::KeyList;
use crate::sender::language::bound::{Bound, Gate, Gateway, Input};
use crate::sender::language::definition::{Cipher, Probes, Reads, Sender};
use crate::sender::language::text::Text;
use crate::sender::request::names::{Slot, Strangers};

/// Values of an address check that its reply repeats: the source's own reply, or the file's.
pub(super) fn echoed(own: &Rows<Bound>, of_file: &Rows<Bound>) -> Vec<Bound> {
    let rows = if own.has("challenge") { own } else { of_file };
    let spots = rows.texts_of("challenge").into_iter().flat_map(Text::spots);
    let comes = |spot: &&Bound| {
        matches!(
            spot.input,
            Input::Parameter { .. } | Input::Header(_) | Input::Gateway(Gateway::Message)
        )
    };
    spots.filter(comes).cloned().collect()
}

/// The headers that the file reads, those under second names last: few callbacks have them.
pub(super) fn headers(sender: &Sender) -> Vec<HeaderName> {
    let is_second =
        |name: &HeaderName| sender.header_names.iter().any(|(_, second)| second == name);
    let mut names = sender.headers();
    names.sort_by_key(is_second);
    names
}

/// The slots of values that no signature can cover: signatures, and the id of a key in a list.
pub(super) fn unsigned(supplied: &[Slot], list: Option<&KeyList>) -> Vec<Slot> {
    supplied.iter().copied().chain(pick_slot(list)).collect()
}

/// The places of masked values: the supplied signatures of `variants`, the second ones of `kinds`,
/// and `secrets` of the sender.
pub(super) fn masked(variants: &[SignatureVariant], kinds: &[Kind], secrets: &[Bound]) -> Masked {
    let supplied = variants.iter().chain(second_signatures(kinds)).map(|one| &one.supplied);
    let mut masked = Masked::default();
    for spot in supplied.chain(secrets) {
        let Input::Parameter { slot, steps, .. } = &spot.input else { continue };
        let member = MaskedMember { slot: *slot, steps: steps.clone() };
        if steps.is_empty() {
            masked.whole.insert(*slot);
        } else if !masked.members.contains(&member) {
            masked.members.push(member);
        }
    }
    masked
}

/// The second signatures of kinds.
fn second_signatures(kinds: &[Kind]) -> impl Iterator<Item = &SignatureVariant> {
    kinds.iter().filter_map(|kind| match &kind.also {
        Also::Signature(variant) => Some(&**variant),
        Also::None | Also::Lacking => None,
    })
}

pub(super) fn protection(sender: &Sender, terms: &Terms) -> Protection {
    if terms.unsigned || sender.variants.is_empty() {
        Protection::Unsigned
    } else {
        Protection::Signed
    }
}

/// The keys that open messages: one, or one for each secret.
pub(super) fn keys_of(
    key: &Text<Bound>,
    with: &Cipher,
    terms: &Terms,
) -> Option<Vec<Zeroizing<Vec<u8>>>> {
    let bytes = with.key_bytes().unwrap_or_default();
    let of = |secret: &[u8]| -> Option<Zeroizing<Vec<u8>>> {
        Some(Zeroizing::new(signature::fixed(key, secret)?)).filter(|key| key.len() == bytes)
    };
    if signature::reads_secret(key) {
        terms.secrets.iter().map(|secret| of(secret.value.expose())).collect()
    } else {
        Some(vec![of(&[])?])
    }
}

pub(super) fn setting_in(text: &Text) -> String {
    text.spots().next().map_or_else(|| "open".to_owned(), |spot| spot.key.clone())
}

/// Whether a name that no text reads may repeat: no signature covers it.
pub(super) fn strangers(recipe: &Recipe) -> Strangers {
    let mut variants = recipe.variants.iter().chain(second_signatures(&recipe.kinds));
    match variants.any(|variant| variant.signed.reads_any_name()) {
        true => Strangers::Once,
        false => Strangers::Repeated,
    }
}

/// Whether verification may read a parameter of the body.
pub(super) fn when_body(recipe: &Recipe) -> WhenBody {
    let bodies = recipe.sender.reads.iter().any(|place| *place != Reads::Query);
    let reads = recipe.open.is_some()
        || !recipe.require.is_empty()
        || recipe.sender.test.probes == Probes::Unsigned
        || recipe.sender.challenge.probes == Probes::Unsigned
        || recipe.time.as_ref().is_some_and(|time| signature::reads_parameters(&time.r#in))
        || matches!(recipe.challenge, Gate::Any(_))
        || pick_slot(recipe.key_list.as_ref()).is_some()
        || recipe.variants.iter().any(SignatureVariant::reads_parameters);
    if bodies && reads { WhenBody::BeforeVerification } else { WhenBody::AfterVerification }
}
