//! Mistakes in the signing of a callback: a closed set.

use serde::ser::SerializeStruct as _;
use serde::{Serialize, Serializer};

use super::advice::{Advice, phrase};

/// A mistake in the signing of a callback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Its kind.
    pub kind: MistakeKind,
    /// The parameter that it is about, where it is one.
    pub parameter: Option<String>,
    /// The change to make, and its place.
    pub advice: Advice,
    /// The text under which the signature that came is right, secrets masked, where that is known.
    pub text: Option<String>,
}

/// The usual mistakes: a closed set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MistakeKind {
    /// Values signed encoded, where the sender signs them decoded.
    RawValues,
    /// Values signed decoded, where the sender signs them encoded.
    DecodedValues,
    /// `+` signed as a space, where it is a plus sign.
    PlusAsBlank,
    /// `+` signed as a plus sign, where it is a space.
    PlusKept,
    /// White space at an end of the secret.
    SecretWhitespace,
    /// Another source's secret.
    OtherSecret,
    /// The secret decoded or not, in another case, with its prefix or without.
    SecretEncoding,
    /// Empty parameters signed, where the sender omits them.
    EmptyKept,
    /// Empty parameters omitted, where the sender signs them.
    EmptyDropped,
    /// A parameter signed that the sender does not sign.
    ExtraParameterSigned,
    /// A parameter omitted that the sender signs.
    ParameterNotSigned,
    /// The parts in another order, the secret on the other side included.
    Order,
    /// Other separators, or names where there are none, or the reverse.
    Separator,
    /// Another digest.
    OtherDigest,
    /// The signature written in another way: hex, base64, cut.
    OtherEncoding,
    /// Another sender's rule.
    OtherSender,
    /// A number, a JSON text or the case of letters rewritten.
    ValueReformatted,
    /// A sealed message that the key of the source does not open.
    SealingKey,
    /// A sealed message that ends with another id than the source's.
    SealedForAnother,
    /// A body in another format than the sender's file reads.
    ContentType,
    /// Quotes or a byte order mark around the secret.
    SecretQuoted,
    /// A secret of the source that has ended.
    EndedSecret,
    /// Values encoded twice before they were signed.
    EncodedTwice,
    /// Another parameter signed in the place of one.
    OtherParameter,
    /// Names of the publisher's own, which the source does not list in `params`.
    RenamedParameter,
    /// Another address than the one that the sender calls, or only a part of it.
    OtherUrl,
    /// The key of an HMAC and its text exchanged.
    KeyAsText,
    /// Missing parameters that the sender always sends.
    MissingParameters,
    /// A value that the source does not list as its own.
    NotListed,
    /// A changed value or a wrong secret: nothing that was tried matches.
    Unknown,
}

impl MistakeKind {
    /// Every kind, in the order of the documentation.
    pub const ALL: [Self; 30] = [
        Self::RawValues,
        Self::DecodedValues,
        Self::PlusAsBlank,
        Self::PlusKept,
        Self::SecretWhitespace,
        Self::OtherSecret,
        Self::SecretEncoding,
        Self::EmptyKept,
        Self::EmptyDropped,
        Self::ExtraParameterSigned,
        Self::ParameterNotSigned,
        Self::Order,
        Self::Separator,
        Self::OtherDigest,
        Self::OtherEncoding,
        Self::OtherSender,
        Self::ValueReformatted,
        Self::SealingKey,
        Self::SealedForAnother,
        Self::ContentType,
        Self::SecretQuoted,
        Self::EndedSecret,
        Self::EncodedTwice,
        Self::OtherParameter,
        Self::RenamedParameter,
        Self::OtherUrl,
        Self::KeyAsText,
        Self::MissingParameters,
        Self::NotListed,
        Self::Unknown,
    ];

    /// The name in the admin API: one of the closed set of its contract. A finer kind has that of
    /// the nearest, and [`Self::detail`] besides.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RawValues | Self::EncodedTwice => "raw_values",
            Self::DecodedValues => "decoded_values",
            Self::PlusAsBlank => "plus_as_blank",
            Self::PlusKept => "plus_kept",
            Self::SecretWhitespace | Self::SecretQuoted => "secret_whitespace",
            Self::OtherSecret | Self::EndedSecret => "other_secret",
            Self::SecretEncoding => "secret_encoding",
            Self::EmptyKept => "empty_kept",
            Self::EmptyDropped => "empty_dropped",
            Self::ExtraParameterSigned => "extra_parameter_signed",
            Self::ParameterNotSigned | Self::OtherParameter => "parameter_not_signed",
            Self::Order | Self::KeyAsText => "order",
            Self::Separator => "separator",
            Self::OtherDigest => "other_digest",
            Self::OtherEncoding => "other_encoding",
            Self::OtherSender => "other_sender",
            Self::ValueReformatted | Self::OtherUrl => "value_reformatted",
            Self::SealingKey
            | Self::SealedForAnother
            | Self::ContentType
            | Self::RenamedParameter
            | Self::MissingParameters
            | Self::NotListed
            | Self::Unknown => "unknown",
        }
    }

    /// The name of a kind that is finer than the closed set.
    #[must_use]
    pub const fn detail(self) -> Option<&'static str> {
        match self {
            Self::SealingKey => Some("sealing_key"),
            Self::SealedForAnother => Some("sealed_for_another"),
            Self::ContentType => Some("content_type"),
            Self::SecretQuoted => Some("secret_quoted"),
            Self::EndedSecret => Some("ended_secret"),
            Self::EncodedTwice => Some("encoded_twice"),
            Self::OtherParameter => Some("other_parameter"),
            Self::RenamedParameter => Some("renamed_parameter"),
            Self::OtherUrl => Some("other_url"),
            Self::KeyAsText => Some("key_as_text"),
            Self::MissingParameters => Some("missing_parameters"),
            Self::NotListed => Some("not_listed"),
            _ => None,
        }
    }
}

impl Serialize for MistakeKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl Serialize for Mistake {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut mistake = serializer.serialize_struct("Mistake", 4)?;
        mistake.serialize_field("kind", &self.kind)?;
        mistake.serialize_field("detail", &self.kind.detail())?;
        mistake.serialize_field("parameter", &self.parameter)?;
        mistake.serialize_field("advice", &self.advice)?;
        mistake.end()
    }
}

impl Mistake {
    pub(super) fn new(
        kind: MistakeKind,
        parameter: Option<&str>,
        advice: impl Into<Advice>,
    ) -> Self {
        Self { kind, parameter: parameter.map(str::to_owned), advice: advice.into(), text: None }
    }

    pub(super) fn unknown() -> Self {
        let advice = phrase(
            "Nothing usual explains it: a value was changed after it was signed, or the secret is \
             another one; compare both with the sender's console.",
            "常见错误都无法解释：签名后某个值被改动，或密钥不同。请与发送方后台逐一核对。",
        );
        Self::new(MistakeKind::Unknown, None, advice)
    }

    /// The search ended before everything was tried.
    pub(super) fn unfinished() -> Self {
        let advice = phrase(
            "Nothing that was tried explains it, and not everything was: the callback is too large \
             for a full search. Compare secret and values with the sender's console.",
            "已尝试的常见错误都无法解释，且因回调过大而未全部尝试：请与发送方后台核对密钥和各个值。",
        );
        Self::new(MistakeKind::Unknown, None, advice)
    }

    /// The request is too large for a search.
    pub(super) fn unsearched() -> Self {
        let advice = phrase(
            "The callback has more than 64 KiB, so the usual mistakes were not tried: compare secret \
             and values with the sender's console, or explain a smaller callback.",
            "回调超过 64 KiB，未尝试常见错误：请与发送方后台核对密钥和各个值，或换一个较小的回调诊断。",
        );
        Self::new(MistakeKind::Unknown, None, advice)
    }
}
