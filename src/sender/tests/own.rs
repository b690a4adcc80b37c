//! Sender files of a test's own, and what signs their callbacks.

use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};

use super::*;

/// The replies of a file.
pub(super) const REPLY: &str = "[reply]\naccepted = 200\nrejected = 403\nunavailable = 503\n";
/// The vector of a file whose test makes its callbacks itself: the terms of its source.
pub(super) const SECRET_K: &str = "source = { secrets = \"k\" }\nrequest = \"POST /\"";

/// A file with `rest` and one vector, which is not run.
pub(super) fn own_sender(rest: &str, vector: &str) -> Result<Sender, Vec<DefinitionError>> {
    let text = format!(
        "title = \"x\"\n{rest}\n[[vector]]\nabout = \"x\"\n{vector}\n\
         expect = {{ outcome = \"accepted\" }}\n"
    );
    Sender::parse("own", &text)
}

/// The recipe of such a file, under the terms of its vector.
pub(super) fn own(rest: &str, vector: &str) -> Recipe {
    let sender = own_sender(rest, vector).unwrap_or_else(|faults| panic!("{faults:#?}"));
    let sender = Arc::new(sender);
    let terms = sender.vectors[0].terms();
    Recipe::compile(&sender, &terms).unwrap_or_else(|faults| panic!("{faults:#?}"))
}

/// The HMAC-SHA256 of `text` under `key`, in hexadecimal digits.
pub(super) fn hmac_of(key: &str, text: &str) -> String {
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(key.as_bytes()).unwrap();
    mac.update(text.as_bytes());
    const_hex::encode(mac.finalize().into_bytes())
}
