//! Mistakes in the signing of a callback: a closed set.

use serde::Serialize;

use super::advice::{Advice, phrase};

/// A mistake in the signing of a callback.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mistake {
    /// Its kind.
    pub kind: MistakeKind,
    /// The parameter that it is about, where it is one.
    pub parameter: Option<String>,
    /// The change to make, and its place.
    pub advice: Advice,
    /// The text under which the signature that came is right, secrets masked, where that is known.
    #[serde(skip)]
    pub text: Option<String>,
}

/// The usual mistakes: a closed set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
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

    /// The name in the admin API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RawValues => "raw_values",
            Self::DecodedValues => "decoded_values",
            Self::PlusAsBlank => "plus_as_blank",
            Self::PlusKept => "plus_kept",
            Self::SecretWhitespace => "secret_whitespace",
            Self::OtherSecret => "other_secret",
            Self::SecretEncoding => "secret_encoding",
            Self::EmptyKept => "empty_kept",
            Self::EmptyDropped => "empty_dropped",
            Self::ExtraParameterSigned => "extra_parameter_signed",
            Self::ParameterNotSigned => "parameter_not_signed",
            Self::Order => "order",
            Self::Separator => "separator",
            Self::OtherDigest => "other_digest",
            Self::OtherEncoding => "other_encoding",
            Self::OtherSender => "other_sender",
            Self::ValueReformatted => "value_reformatted",
            Self::SealingKey => "sealing_key",
            Self::SealedForAnother => "sealed_for_another",
            Self::ContentType => "content_type",
            Self::SecretQuoted => "secret_quoted",
            Self::EndedSecret => "ended_secret",
            Self::EncodedTwice => "encoded_twice",
            Self::OtherParameter => "other_parameter",
            Self::RenamedParameter => "renamed_parameter",
            Self::OtherUrl => "other_url",
            Self::KeyAsText => "key_as_text",
            Self::MissingParameters => "missing_parameters",
            Self::NotListed => "not_listed",
            Self::Unknown => "unknown",
        }
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
}
