//! Coverage: the values that a signed text reads, their order, and which of them are proven.

mod closure;
mod layout;

use http::HeaderName;

use super::bound::{Bound, Gateway, Input};
use super::recipe::Recipe;
use super::recut::chains::{ChainRules, KnownName, NameOrder};
use super::recut::{self, EmptyItems, Layout, Proof, Separation, ValueSet};
use super::text::{Piece, Text};
use super::value_shape::ByteSet;
use crate::sender::acts::signature::Except;
use crate::sender::request::names::Slot;
use crate::sender::request::parameters::Place;
use crate::sender::request::unreplaced;

pub(in crate::sender) use closure::{Coverage, TextVerdict};
pub(in crate::sender) use layout::{Shaping, SignedTexts};

/// A value that a signed text reads.
#[derive(Debug)]
pub(in crate::sender) struct SignedValue {
    pub(in crate::sender) input: SignedInput,
    /// Whether two values can be signed as one.
    pub(in crate::sender) loss: Loss,
}

/// Whether a value is signed as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sender) enum Loss {
    /// None: any two values stay distinct.
    None,
    /// A part of it, or a form that several values have.
    Lossy,
}

/// A value of a signed text.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::sender) enum SignedInput {
    /// A parameter, or a member of it.
    Parameter { slot: Slot, steps: Box<[Box<str>]> },
    /// A header.
    Header(HeaderName),
    /// An item of a list in a value.
    List { list: usize, item: Box<[u8]> },
    /// The query, whole or cut at the signature.
    Query,
    /// The body.
    Body,
    /// A list of parameters that delimits itself, or is parsed again for each callback.
    Pairs { slots: Vec<Slot>, gathered: Option<Gathered> },
    /// Something that no role reads.
    Other,
}

/// The parameters of a gathered list.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::sender) struct Gathered {
    pub(in crate::sender) places: &'static [Place],
    pub(in crate::sender) except: Vec<Except>,
}

/// The values that a signed text reads, and what they prove.
#[derive(Debug)]
pub(in crate::sender) struct Signed {
    pub(in crate::sender) values: Vec<SignedValue>,
    /// The placeholders of the values, for reading them again.
    pub(in crate::sender) spots: Vec<Option<Bound>>,
    pub(in crate::sender) layout: Layout,
    /// Under all shapes of the sender file.
    pub(in crate::sender) assumed: Proof,
    /// Under confirmed shapes alone, where some are not.
    pub(in crate::sender) confirmed: Option<Proof>,
    /// Values that the provider sends all or none of.
    pub(in crate::sender) together: Box<[usize]>,
    pub(in crate::sender) separation: Separation,
    /// A list whose pairs are read back for each callback.
    pub(in crate::sender) chain: Option<Chain>,
    /// Whether every value is closed in every text of fitting values, by confirmed shapes alone.
    pub(in crate::sender) is_closed: Always,
    /// The parameters in it, where no value of it is a list of them.
    pub(in crate::sender) by_slot: Option<SlotCover>,
}

/// Parameters that a signed text covers by itself, whatever else came.
#[derive(Clone, Copy, Debug)]
pub(in crate::sender) struct SlotCover {
    /// Slots that are closed by confirmed facts, and signed without loss.
    pub(in crate::sender) closed: ByteSet,
    /// Slots in an optional part, which may have been left out.
    pub(in crate::sender) optional: ByteSet,
}

/// Whether something holds for every callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sender) enum Always {
    /// Yes.
    Yes,
    /// Each callback has to be looked at.
    ByCallback,
}

/// A list of decoded pairs.
#[derive(Debug)]
pub(in crate::sender) struct Chain {
    /// The number of its value in the text.
    pub(in crate::sender) value: usize,
    pub(in crate::sender) source: ChainSource,
    pub(in crate::sender) between: Box<[u8]>,
    pub(in crate::sender) within: Box<[u8]>,
    pub(in crate::sender) order: NameOrder,
    pub(in crate::sender) empty: EmptyItems,
    pub(in crate::sender) assumed: Vec<KnownName>,
    pub(in crate::sender) confirmed: Vec<KnownName>,
}

/// Where the pairs of a chain come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::sender) enum ChainSource {
    /// `[pairs]` of the variant.
    Pairs,
    /// The query, decoded, up to the parameter of that name.
    Query(Option<Box<str>>),
}

impl Chain {
    /// The misfit that names a list as a whole, where no single pair misfits.
    const WHOLE: &str = "query";

    /// Every name that a misfit of the list can have.
    pub(in crate::sender) fn misfit_names(&self) -> impl Iterator<Item = String> {
        let known = self.assumed.iter().map(|known| unreplaced::shown(&known.name));
        known.chain(std::iter::once(Self::WHOLE.to_owned()))
    }

    pub(in crate::sender) fn rules<'c>(&'c self, known: &'c [KnownName]) -> ChainRules<'c> {
        ChainRules {
            between: &self.between,
            within: &self.within,
            order: self.order,
            empty: self.empty,
            known,
        }
    }
}

impl SlotCover {
    /// Of `signed`, the values of the text `of`. `None` if a value is a whole query, body or list,
    /// so that what is covered depends on where a parameter came.
    fn of(signed: &Signed, of: &Text<Bound>) -> Option<Self> {
        let (mut closed, mut optional) = (ByteSet::default(), ByteSet::default());
        for (number, value) in (0..=u8::MAX).zip(&signed.values) {
            match &value.input {
                SignedInput::Query | SignedInput::Body | SignedInput::Pairs { .. } => return None,
                SignedInput::Parameter { slot, steps }
                    if steps.is_empty()
                        && value.loss == Loss::None
                        && signed.always_closed().contains(number) =>
                {
                    closed.insert(*slot);
                }
                _ => {}
            }
        }
        for piece in &of.pieces {
            let Piece::Optional(inner) = piece else { continue };
            for piece in inner {
                if let Piece::Value(Bound { input: Input::Parameter { slot, .. }, .. }) = piece {
                    optional.insert(*slot);
                }
            }
        }
        Some(Self { closed, optional })
    }
}

impl Signed {
    /// The proof that rests on confirmed shapes alone.
    pub(in crate::sender) fn confirmed(&self) -> &Proof {
        self.confirmed.as_ref().unwrap_or(&self.assumed)
    }

    /// The values that are closed for every callback whose values fit.
    pub(in crate::sender) fn always_closed(&self) -> &ValueSet {
        &self.confirmed().closed
    }

    /// Whether the parts of the text are hashed in the order of their bytes.
    pub(in crate::sender) fn is_sorted(&self) -> bool {
        self.layout.segments.iter().all(Vec::is_empty) && !self.values.is_empty()
    }

    /// Whether two texts, of which each says by itself where its values end, have the same values
    /// in the same order, so that one read as the other has the same values.
    pub(in crate::sender) fn agrees_with(&self, other: &Self) -> bool {
        let closed = |one: &Self| !one.has_open_value() && one.chain.is_none();
        let same_inputs = || {
            self.values.len() == other.values.len()
                && self
                    .values
                    .iter()
                    .zip(&other.values)
                    .all(|(one, other)| one.input == other.input && one.loss == other.loss)
        };
        let same = || self.layout.without_options() == other.layout.without_options();
        // Lists and texts that are read back for each callback agree only if they are the same.
        same_inputs() && same() && (closed(self) && closed(other) || self.layout == other.layout)
    }

    /// Whether a value is open in some text of values that fit.
    pub(in crate::sender) fn has_open_value(&self) -> bool {
        let closed = self.always_closed();
        !(0..self.values.len())
            .all(|value| u8::try_from(value).is_ok_and(|value| closed.contains(value)))
    }

    /// The numbers of the values that the value of `spot` may be in.
    pub(in crate::sender) fn places_of(&self, spot: &Bound, recipe: &Recipe) -> Vec<usize> {
        let may_be = |(_, value): &(usize, &SignedValue)| value.input.may_be(spot, recipe);
        self.values.iter().enumerate().filter(may_be).map(|(number, _)| number).collect()
    }

    /// Whether two values of that number can be signed as one.
    pub(in crate::sender) fn is_lossy(&self, value: usize) -> bool {
        self.values.get(value).is_some_and(|value| value.loss == Loss::Lossy)
    }

    /// Whether the value of that number can be another one where the text has `written`.
    pub(in crate::sender) fn merges(&self, value: usize, written: &[u8]) -> bool {
        let spot = self.spots.get(value).and_then(Option::as_ref);
        let merges = |spot: &Bound| match &*spot.modifiers {
            [modifier] => modifier.merges(written),
            _ => true,
        };
        self.is_lossy(value) && spot.is_none_or(merges)
    }

    /// The names of open values in the segment of the open value `value`, by confirmed facts.
    pub(in crate::sender) fn open_beside(&self, value: usize) -> Vec<String> {
        let segments = self.layout.segments.iter().map(|parts| recut::values_of(parts));
        let own = segments.into_iter().find(|values| values.contains(&value)).unwrap_or_default();
        self.open_of(&own, self.always_closed())
    }

    /// The names of values that are open by all facts, confirmed or not.
    pub(in crate::sender) fn open_by_all_facts(&self) -> Vec<String> {
        let all: Vec<usize> = (0..self.values.len()).collect();
        self.open_of(&all, &self.assumed.closed)
    }

    fn open_of(&self, values: &[usize], closed: &ValueSet) -> Vec<String> {
        let is_open = |value: &&usize| u8::try_from(**value).is_ok_and(|one| !closed.contains(one));
        let spot =
            |value: &usize| self.spots.get(*value)?.as_ref().map(|spot| spot.name.to_string());
        values.iter().filter(is_open).filter_map(spot).collect()
    }

    /// Whether the text reads the body.
    pub(in crate::sender) fn reads_body(&self) -> bool {
        self.values.iter().any(|value| matches!(value.input, SignedInput::Body))
    }

    /// Whether the text reads parameters whatever they are called.
    pub(in crate::sender) fn reads_any_name(&self) -> bool {
        self.values.iter().any(|value| {
            matches!(
                value.input,
                SignedInput::Query
                    | SignedInput::Body
                    | SignedInput::Pairs { gathered: Some(_), .. }
            )
        })
    }

    /// Whether the value of `spot` is read somewhere, so that it may be covered.
    pub(in crate::sender) fn may_cover(&self, spot: &Bound, recipe: &Recipe) -> bool {
        self.values.iter().any(|value| value.loss == Loss::None && value.input.may_be(spot, recipe))
    }

    /// Whether the text reads every parameter that comes in `place` under that name.
    pub(in crate::sender) fn reads_place(&self, place: Place, name: &[u8]) -> bool {
        self.values.iter().any(|value| match &value.input {
            SignedInput::Query => place == Place::Query,
            SignedInput::Body => place != Place::Query,
            SignedInput::Pairs { gathered: Some(gathered), .. } => gathered.has(place, name),
            _ => false,
        })
    }

    /// Whether the text reads the parameter in `slot`.
    pub(in crate::sender) fn reads_slot(&self, slot: Slot) -> bool {
        self.values.iter().any(|value| match &value.input {
            SignedInput::Parameter { slot: own, steps } => *own == slot && steps.is_empty(),
            SignedInput::Body => true,
            _ => false,
        })
    }

    /// Whether the value of `spot` is covered in some place that it may come in, so that a callback
    /// that has it elsewhere can be rejected.
    pub(in crate::sender) fn covers_somewhere(&self, spot: &Bound, recipe: &Recipe) -> bool {
        let whole = self.values.iter().zip(0..).any(|(value, number)| {
            let places = match &value.input {
                SignedInput::Query | SignedInput::Body => true,
                SignedInput::Pairs { gathered, .. } => gathered.is_some(),
                _ => false,
            };
            places && self.always_closed().contains(number)
        });
        self.may_cover(spot, recipe) && whole
    }

    /// Whether the value of `spot` is covered in every callback whose values fit, wherever it
    /// comes: it is required, and closed by confirmed facts.
    pub(in crate::sender) fn always_covers(&self, spot: &Bound, recipe: &Recipe) -> bool {
        let closed = self.always_closed();
        let in_text = self.values.iter().zip(0..).any(|(value, number)| {
            let is_it = match (&value.input, &spot.input) {
                (
                    SignedInput::Parameter { slot, steps },
                    Input::Parameter { slot: own, steps: into, .. },
                ) => slot == own && into.starts_with(steps),
                (SignedInput::Header(name), Input::Header(own)) => name == own,
                (SignedInput::List { list, item }, Input::List { list: own, item: also }) => {
                    list == own && item == also
                }
                (
                    SignedInput::Pairs { slots, gathered: None },
                    Input::Parameter { slot, steps, .. },
                ) => steps.is_empty() && slots.contains(slot),
                (SignedInput::Pairs { gathered: Some(gathered), .. }, Input::Parameter { .. }) => {
                    self.chain.is_none() && recipe.is_only_in(gathered.places)
                }
                (SignedInput::Query, Input::Parameter { .. }) => {
                    self.chain.is_none() && recipe.is_only_in(&[Place::Query])
                }
                (SignedInput::Body, Input::Parameter { .. }) => {
                    recipe.is_only_in(&[Place::Form, Place::Json, Place::Xml])
                }
                _ => false,
            };
            is_it && value.loss == Loss::None && closed.contains(number)
        });
        in_text || self.chain_always_covers(spot, recipe)
    }

    /// A required name of an ascending list is read back to what came, or the callback is held.
    fn chain_always_covers(&self, spot: &Bound, recipe: &Recipe) -> bool {
        let (Some(chain), Input::Parameter { slot, steps, .. }) = (&self.chain, &spot.input) else {
            return false;
        };
        let name = recipe.names.name(*slot);
        steps.is_empty()
            && chain.order == NameOrder::Ascending
            && chain.confirmed.iter().any(|known| {
                *known.name == *name && !known.shape.may_be_absent() && !known.shape.is_free()
            })
    }
}

impl SignedInput {
    /// Whether the value of `spot` may be in this one.
    fn may_be(&self, spot: &Bound, recipe: &Recipe) -> bool {
        match (self, &spot.input) {
            (Self::Parameter { slot, steps }, Input::Parameter { slot: own, steps: into, .. }) => {
                slot == own && into.starts_with(steps)
            }
            (Self::Pairs { slots, gathered }, Input::Parameter { slot, .. }) => {
                gathered.is_some() || slots.contains(slot)
            }
            (Self::Query | Self::Body, Input::Parameter { .. }) => true,
            (Self::Body, Input::Gateway(Gateway::BodySha256 | Gateway::Content)) => true,
            (Self::Header(name), Input::Header(own)) => name == own,
            (Self::List { list, item }, Input::List { list: own, item: also }) => {
                list == own && item == also
            }
            (Self::Header(name), Input::List { list, .. }) => {
                recipe.lists.get(*list).is_some_and(|of| {
                    of.spots().all(|spot| matches!(&spot.input, Input::Header(own) if own == name))
                })
            }
            _ => false,
        }
    }
}
