//! Signatures: a variant compiled for one source.

mod compile;

use crate::sender::crypto::certificate::ChainRule;
use crate::sender::crypto::digest::{self, Algorithm, Hasher, Output, Start};
use crate::sender::crypto::jws::JwsAlgorithm;
use crate::sender::crypto::public_key::{PublicKey, Scheme};
use crate::sender::language::bound::{Bound, Gate, Gateway, Input};
use crate::sender::language::coverage::Signed;
use crate::sender::language::definition::{
    Chain, Each, Empty, First, Order, Roles, Signs, Step, Writing,
};
use crate::sender::language::shape::Shape;
use crate::sender::language::text::Text;
use crate::sender::request::callback::Message;
use crate::sender::request::encoding::{self, Plus};
use crate::sender::request::names::Slot;
use crate::sender::request::parameters::Place;

pub(in crate::sender) use compile::{
    compile, fixed, keyed, only_slot, reads_parameters, reads_secret, relate, supplied_slots,
};

/// One variant of a signature, compiled.
#[derive(Debug)]
pub(in crate::sender) struct SignatureVariant {
    /// Its place in the sender's file.
    pub(in crate::sender) index: usize,
    pub(in crate::sender) when: Gate,
    pub(in crate::sender) of: Text<Bound>,
    pub(in crate::sender) with: Chain,
    /// Where a private key signs what the chain makes.
    pub(in crate::sender) public: Option<Public>,
    /// The algorithm that the header of a token has to name.
    pub(in crate::sender) token: Option<JwsAlgorithm>,
    /// The key, to rebuild it.
    pub(in crate::sender) key: Text<Bound>,
    /// For each secret the keyed state, where the chain starts with an HMAC.
    pub(in crate::sender) keyed: Vec<Option<Hasher>>,
    pub(in crate::sender) supplied: Bound,
    /// The first variant of the file that has the same supplied signature.
    pub(in crate::sender) supplied_group: usize,
    pub(in crate::sender) writing: Writing,
    pub(in crate::sender) cut: Option<usize>,
    pub(in crate::sender) plus: Plus,
    /// An earlier variant differs only in the meaning of `+`.
    pub(in crate::sender) twin: Redundancy,
    pub(in crate::sender) sorted: Vec<Text<Bound>>,
    /// For each of `sorted` whether its size is bounded.
    pub(in crate::sender) sorted_sizes: Vec<PartSize>,
    pub(in crate::sender) pairs: Option<Pairs>,
    pub(in crate::sender) roles: Roles<Bound>,
    /// The values that the text reads, and what they prove.
    pub(in crate::sender) signed: Signed,
    /// Whether it covers the time that is checked.
    pub(in crate::sender) time: TimeCover,
    /// The parameter that the signed query or URL is cut before.
    pub(in crate::sender) cut_before: Option<Box<str>>,
    /// Other variants under which the same text could be another callback.
    pub(in crate::sender) siblings: Vec<usize>,
    /// Whether another variant takes the escapes of the same query for text.
    pub(in crate::sender) escapes: Escapes,
}

/// How the escapes of a signed query are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sender) enum Escapes {
    /// In one way.
    OneWay,
    /// Decoded by one variant and as they are by another, which is at that place.
    BothWays { other: usize },
}

/// Bytes of a nonce or time that is hashed sorted beside a sealed message. A block of the message
/// is 64 characters of base64: a part that is shorter cannot take one, or give one.
pub(in crate::sender) const SORTED_PART_BYTES_MAX: usize = 32;

/// Whether the size of a part that is hashed sorted is bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sender) enum PartSize {
    /// A nonce or a time.
    Bounded,
    /// The secret, a sealed message, or a JSON object.
    Any,
}

/// A signature that a private key makes.
#[derive(Debug)]
pub(in crate::sender) struct Public {
    pub(in crate::sender) scheme: Scheme,
    pub(in crate::sender) signs: Signs,
    pub(in crate::sender) keys: Keys,
}

/// Where the public key comes from.
#[derive(Debug)]
pub(in crate::sender) enum Keys {
    /// The sender's list, under the id that the callback names.
    List,
    /// One for each secret; `None` where the secret is none of these keys.
    Secrets(Vec<Option<PublicKey>>),
    /// Keys of the certificates in the header of a token.
    Certificates(ChainRule),
}

/// Bytes of a signature: that of an RSA key of 8192 bits.
const SIGNATURE_MAX: usize = 1024;

/// Whether a variant repeats an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sender) enum Redundancy {
    /// Not redundant.
    No,
    /// Only where a `+` came.
    OfPlus,
    /// Only where an escape came.
    OfEscapes,
}

/// The parameters that a variant signs as a list.
#[derive(Debug)]
pub(in crate::sender) struct Pairs {
    pub(in crate::sender) plan: Plan,
    pub(in crate::sender) shape: Shape,
    pub(in crate::sender) each: Each,
    pub(in crate::sender) empty: Empty,
    /// The gateway's own names, which a callback must not contain.
    pub(in crate::sender) added: Vec<Slot>,
}

/// How the list is gathered.
#[derive(Debug)]
pub(in crate::sender) enum Plan {
    /// Known names in a known order.
    Listed(Vec<Listed>),
    /// All received parameters.
    Gathered {
        places: &'static [Place],
        except: Vec<Except>,
        order: Order,
        add: Vec<(Box<[u8]>, Text<Bound>)>,
    },
}

/// One pair of a known list.
#[derive(Debug)]
pub(in crate::sender) struct Listed {
    /// Its name as the signature writes it.
    pub(in crate::sender) label: Box<[u8]>,
    /// The text before its value: separator, label and the separator of the value.
    pub(in crate::sender) lead: Box<[u8]>,
    pub(in crate::sender) value: ListedValue,
}

/// Where the value of a listed pair comes from.
#[derive(Debug)]
pub(in crate::sender) enum ListedValue {
    Parameter(Slot),
    Ours(Text<Bound>),
}

/// A name, or a pattern with `*` at its ends, that is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::sender) struct Except {
    /// The name, or the text between the stars.
    text: Vec<u8>,
    open_start: bool,
    open_end: bool,
}

impl Except {
    fn new(pattern: &str) -> Self {
        let text = pattern.trim_matches('*');
        Self {
            text: text.as_bytes().to_vec(),
            open_start: pattern.starts_with('*'),
            open_end: pattern.ends_with('*'),
        }
    }

    /// Whether `name` is left out. Patterns know no case, plain names do.
    pub(in crate::sender) fn takes(&self, name: &[u8]) -> bool {
        if !self.open_start && !self.open_end {
            return name == self.text.as_slice();
        }
        let fits = |part: &[u8]| part.eq_ignore_ascii_case(&self.text);
        let len = self.text.len();
        match (self.open_start, self.open_end) {
            (true, true) => name.windows(len.max(1)).any(fits) || len == 0,
            (true, false) => name.len() >= len && fits(&name[name.len() - len..]),
            _ => name.len() >= len && fits(&name[..len]),
        }
    }
}

/// Whether a variant covers the time that is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sender) enum TimeCover {
    /// Covered in every callback, or no time is checked.
    Always,
    /// Decided for each callback.
    ByCallback,
    /// Not covered: the time can be re-cut, so the window is only a filter.
    Never,
}

impl Public {
    /// Whether the written `supplied` of `variant` is a signature of `message` under `key`.
    pub(in crate::sender) fn is_signature(
        &self,
        variant: &SignatureVariant,
        key: &PublicKey,
        message: &[u8],
        supplied: &[u8],
    ) -> bool {
        variant.is_signature(self.scheme, key, message, supplied)
    }

    /// Whether its key is the sender's own, of a list or of certificates, and no secret.
    pub(in crate::sender) fn is_listed(&self) -> bool {
        matches!(self.keys, Keys::List | Keys::Certificates(_))
    }
}

/// The part of a chain's `output` that a private key signs.
pub(in crate::sender) fn message(signs: Signs, output: &Output) -> Message {
    match signs {
        Signs::Text | Signs::Bytes => output.bytes().into(),
        Signs::Hex => output.hex(&mut [0; 128]).into(),
    }
}

impl SignatureVariant {
    /// Whether its text reads scheme, authority and path, as the sender sees them.
    pub(in crate::sender) fn signs_url(&self) -> bool {
        self.of.spots().any(|spot| matches!(spot.input, Input::Gateway(Gateway::Url)))
    }

    /// Whether the secret separates values of its text.
    pub(in crate::sender) fn separates_by_secret(&self) -> bool {
        self.signed.layout.segments.len() > 1 || self.sorted.iter().any(reads_secret)
    }

    /// Whether the secret at `index` can be used with it.
    pub(in crate::sender) fn can_use(&self, index: usize) -> bool {
        match self.public.as_ref().map(|public| &public.keys) {
            Some(Keys::List | Keys::Certificates(_)) => return true,
            Some(Keys::Secrets(keys)) => return keys.get(index).is_some_and(Option::is_some),
            None => {}
        }
        match self.with.first {
            First::Digest(_) | First::Equal => true,
            First::Keyed(_) => self.keyed.get(index).is_some_and(Option::is_some),
        }
    }

    /// Whether it reads a parameter: then the body may have to be read first.
    pub(in crate::sender) fn reads_parameters(&self) -> bool {
        let conditions = match &self.when {
            Gate::Any(list) => list
                .iter()
                .flat_map(super::super::language::condition::Condition::spots)
                .any(|spot| matches!(spot.input, Input::Parameter { .. })),
            _ => false,
        };
        conditions
            || matches!(self.supplied.input, Input::Parameter { .. })
            || reads_parameters(&self.of)
            || self.sorted.iter().any(reads_parameters)
            || self.pairs.is_some()
    }

    /// The output of its chain for what `feed` was fed.
    pub(in crate::sender) fn finish(&self, feed: &digest::Feed<'_>) -> Output {
        chained(feed.finish(), &self.with.then)
    }

    /// Whether the written `supplied` is a signature of `message` under `key`.
    pub(in crate::sender) fn is_signature(
        &self,
        scheme: Scheme,
        key: &PublicKey,
        message: &[u8],
        supplied: &[u8],
    ) -> bool {
        let mut buffer = [0; SIGNATURE_MAX];
        let signature = self.unwritten(supplied, &mut buffer);
        signature.is_some_and(|signature| scheme.verifies(key, message, signature))
    }

    /// The decoded bytes of the written `supplied`, in `buffer`.
    fn unwritten<'b>(
        &self,
        supplied: &[u8],
        buffer: &'b mut [u8; SIGNATURE_MAX],
    ) -> Option<&'b [u8]> {
        let len = match self.writing {
            Writing::Hex => {
                let len = supplied.len() / 2;
                const_hex::decode_to_slice(supplied, buffer.get_mut(..len)?).ok()?;
                len
            }
            Writing::Base64 | Writing::Base64Url => {
                encoding::unbase64_into(supplied, buffer).ok()?
            }
            Writing::Text => return None,
        };
        buffer.get(..len)
    }

    /// Whether the written `supplied` equals `output`, in time that depends only on lengths.
    pub(in crate::sender) fn matches(&self, output: &Output, supplied: &[u8]) -> bool {
        if let Some(cut) = self.cut {
            let ours = written(output, self.writing);
            return supplied.len() == cut
                && ours.len() >= cut
                && digest::same(&ours.as_bytes()[..cut], &folded(supplied, self.writing));
        }
        let mut decoded = [0; 96];
        let ours = output.bytes();
        match self.writing {
            Writing::Hex => {
                let Some(theirs) = decoded.get_mut(..ours.len()) else { return false };
                supplied.len() == ours.len() * 2
                    && const_hex::decode_to_slice(supplied, theirs).is_ok()
                    && digest::same(ours, theirs)
            }
            Writing::Base64 | Writing::Base64Url => encoding::unbase64_into(supplied, &mut decoded)
                .is_ok_and(|len| digest::same(ours, &decoded[..len])),
            Writing::Text => digest::same(ours, Algorithm::Sha256.of(supplied).bytes()),
        }
    }
}

fn folded(supplied: &[u8], writing: Writing) -> Vec<u8> {
    match writing {
        Writing::Hex => supplied.to_ascii_lowercase(),
        _ => supplied.to_vec(),
    }
}

/// The result of a chain for its first output.
pub(in crate::sender) fn chained(first: Output, steps: &[Step]) -> Output {
    if steps.is_empty() {
        return first;
    }
    let mut output = first;
    let mut hex = [0; 128];
    let mut written: Option<usize> = None;
    for step in steps {
        match step {
            Step::Hex => written = Some(output.hex(&mut hex).len()),
            Step::Digest(algorithm) => {
                output = match written.take() {
                    Some(len) => algorithm.of(&hex[..len]),
                    None => algorithm.of(output.bytes()),
                };
            }
        }
    }
    output
}

/// An output as a supplied signature is written.
pub(in crate::sender) fn written(output: &Output, writing: Writing) -> String {
    match writing {
        // Only the digest of a text is kept: see `First::Equal`.
        Writing::Hex | Writing::Text => const_hex::encode(output.bytes()),
        Writing::Base64 => encoding::base64(output.bytes()),
        Writing::Base64Url => encoding::base64url(output.bytes()),
    }
}

/// The start of a chain under the secret at `index`; `None` if the secret cannot be used.
pub(in crate::sender) fn start<'h>(
    with: &Chain,
    keyed: &'h [Option<Hasher>],
    index: usize,
) -> Option<Start<'h>> {
    match with.first {
        First::Digest(algorithm) => Some(Start::Plain(algorithm)),
        First::Equal => Some(Start::Plain(Algorithm::Sha256)),
        First::Keyed(_) => keyed.get(index)?.as_ref().map(Start::Keyed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_left_out() {
        let takes = |pattern: &str, name: &str| Except::new(pattern).takes(name.as_bytes());
        assert!(takes("manager_name", "manager_name"));
        assert!(!takes("manager_name", "manager_name2"));
        assert!(takes("*debug_*", "Xdebug_on") && takes("*debug_*", "Debug_on"));
        assert!(!takes("*debug_*", "debug"));
        assert!(takes("sig*", "signature") && !takes("sig*", "xsig"));
        assert!(takes("*sig", "xSIG") && !takes("*sig", "sigx"));
    }
}
