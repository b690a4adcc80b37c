//! The two closed sets of the gateway: outcomes of callbacks, and reasons for a rejection.
//!
//! Each variant is used three times: in the log, as a metric label and in the sender's reply.

use std::fmt;

macro_rules! closed_set {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// Every member, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The name in logs, metric labels, replies and the admin API.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// The member with that name, if there is one.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($text => Some(Self::$variant),)+ _ => None }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

closed_set! {
    /// The outcome of a callback.
    Outcome {
        /// Verified, new, and durable.
        Accepted = "accepted",
        /// Verified, and its transaction is known.
        Duplicate = "duplicate",
        /// A known identity with another content. The first event stays, and this callback is
        /// quarantined.
        Conflict = "conflict",
        /// Signed content that is known under another identity, or that can be parsed in several
        /// ways. Quarantined.
        Ambiguous = "ambiguous",
        /// A probe or a console's test: replied to, not stored.
        Test = "test",
        /// An address check: replied to, not stored.
        Challenge = "challenge",
        /// Verified, but another source takes precedence for the same survey.
        Superseded = "superseded",
        /// The source is disabled.
        Disabled = "disabled",
        /// Rejected, for a [`Reason`].
        Rejected = "rejected",
        /// Not decided: overload, drain, or a ledger that cannot write. The sender may try again.
        Unavailable = "unavailable",
    }
}

closed_set! {
    /// The reason for a rejection.
    Reason {
        /// No variant of the signature matched under any live secret.
        BadSignature = "bad_signature",
        /// A value that the signature, the transaction or the source needs is missing.
        MissingParameter = "missing_parameter",
        /// The sender left one of its own macros in place of a value.
        UnresolvedPlaceholder = "unresolved_placeholder",
        /// Its time is further in the past than the source allows.
        Stale = "stale",
        /// Its time is further in the future than the source allows.
        Future = "future",
        /// A name occurs twice, so the signed value is unknown.
        RepeatedParameter = "repeated_parameter",
        /// A body, a target or a number of parameters over the source's bound.
        TooLarge = "too_large",
        /// The caller's address is not in the source's list.
        ForbiddenAddress = "forbidden_address",
        /// No client certificate that leads to the source's authority.
        ClientCertificate = "client_certificate",
        /// A parameter follows the signed part.
        UnsignedParameter = "unsigned_parameter",
        /// The callback names a public key that the sender does not publish.
        UnknownKey = "unknown_key",
        /// Escapes, UTF-8, base64 or a cipher text that cannot be read; a NUL in a signed value.
        BadEncoding = "bad_encoding",
        /// A body that is not what its sender sends.
        BadBody = "bad_body",
        /// A method that the sender does not use.
        WrongMethod = "wrong_method",
        /// For another app: a sealed message, or an ad that is not the source's own.
        NotOurs = "not_ours",
        /// An amount or item that differs from the source's own table.
        PinnedReward = "pinned_reward",
        /// The signature of an address check that was answered already.
        UsedSignature = "used_signature",
        /// The source, or this kind of message, is disabled.
        Disabled = "disabled",
        /// The body did not arrive in time.
        Timeout = "timeout",
    }
}

impl Reason {
    /// Whether a callback that is rejected for it was read as a whole, so that it can be kept and
    /// verified again.
    #[must_use]
    pub const fn can_be_held(self) -> bool {
        match self {
            Self::BadSignature
            | Self::MissingParameter
            | Self::UnresolvedPlaceholder
            | Self::Stale
            | Self::Future
            | Self::RepeatedParameter
            | Self::UnsignedParameter
            | Self::UnknownKey
            | Self::BadEncoding
            | Self::BadBody
            | Self::NotOurs
            | Self::PinnedReward => true,
            Self::TooLarge
            | Self::ForbiddenAddress
            | Self::ClientCertificate
            | Self::WrongMethod
            | Self::UsedSignature
            | Self::Disabled
            | Self::Timeout => false,
        }
    }
}
