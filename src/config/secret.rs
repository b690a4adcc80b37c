//! Secrets: `env:NAME`, `file:PATH` or plain text, and the forms that some of them have.

use std::io;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};

use super::file::{Item, Read, ValueError};
use super::limits::DELIVERY_SECRET_BYTES_GOOD;
use super::pass::{Access, Writer};
use super::slip;
use crate::sender::Secret;

const WANTED: &str = "a text: \"env:NAME\", \"file:PATH\" or the secret itself";
const WHSEC: &str = "whsec_";

/// A secret from where the item says it is. One that is written in the configuration file itself is
/// noted, and so is one that is probably not as its owner issued it.
///
/// # Errors
/// It is missing, a reference that nothing replaces, or begins with a byte order mark.
pub(crate) fn secret(item: &Item<'_>) -> Read<Secret> {
    let secret = public(item)?;
    if !is_public_key(secret.expose()) {
        note(item);
    }
    Ok(secret)
}

/// A value that is written as secrets are and is none: an id, a public key.
///
/// # Errors
/// As [`secret`].
pub(crate) fn public(item: &Item<'_>) -> Read<Secret> {
    let value = verbatim(item)?;
    if item.pass.writer() != Writer::Store {
        refuse_mark(value.expose())?;
    }
    for what in slip::all(value.expose()) {
        item.warning(what, "remove them: they count as a part of the value");
    }
    Ok(value)
}

/// A value of which spaces and quotes may be a part: a header.
///
/// # Errors
/// It is missing, or a reference that nothing replaces.
pub(crate) fn verbatim(item: &Item<'_>) -> Read<Secret> {
    let text = item.text(WANTED)?;
    refuse_reference(item, text)?;
    let bytes = if let Some(name) = text.strip_prefix("env:") {
        from_variable(item, name)?
    } else if let Some(path) = text.strip_prefix("file:") {
        from_file(item, path)?
    } else if text.is_empty() {
        return Err(ValueError::new("is empty", format!("write {WANTED}")));
    } else if slip::is_reference(text.as_bytes()) && item.pass.writer() != Writer::Store {
        let what = "is written like a variable of another program, and nothing replaces it";
        let remedy = "write \"env:NAME\" with the name of the variable; a secret that is really \
                      written so belongs into a variable or a file";
        return Err(ValueError::new(what, remedy));
    } else {
        text.as_bytes().to_vec()
    };
    if slip::is_blank(&bytes) {
        return Err(ValueError::new(
            "is nothing but spaces or line ends",
            format!("write {WANTED}"),
        ));
    }
    if written_as(item) == Written::Elsewhere && slip::is_reference(&bytes) {
        let what = "holds what another program should have replaced by a variable's value";
        item.warning(what, "put the secret itself there");
    } else if slip::is_placeholder(&bytes) {
        let what = "is a word in place of a secret, which anyone can guess";
        item.warning(what, "put the secret itself there");
    }
    Ok(Secret::new(bytes))
}

/// Where a secret is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Written {
    /// In the operator's configuration file.
    InClear,
    /// In a variable, a file, or a request to an API.
    Elsewhere,
}

/// Notes the value at `item` where it is written in the configuration file.
pub(crate) fn note(item: &Item<'_>) {
    if written_as(item) == Written::InClear {
        item.note_in_clear();
    }
}

fn written_as(item: &Item<'_>) -> Written {
    let text = item.value.as_str().unwrap_or_default();
    let elsewhere = text.starts_with("env:") || text.starts_with("file:");
    match elsewhere || item.pass.writer() != Writer::Operator {
        true => Written::Elsewhere,
        false => Written::InClear,
    }
}

/// Whether a value is a public key, which anyone may read.
fn is_public_key(value: &[u8]) -> bool {
    value.starts_with(b"whpk_") || memchr::memmem::find(value, b" PUBLIC KEY-----").is_some()
}

fn refuse_mark(value: &[u8]) -> Read<()> {
    match slip::begins_with_mark(value) {
        true => Err(ValueError::new(
            "begins with a byte order mark, as some editors write it",
            "save it as UTF-8 without one",
        )),
        false => Ok(()),
    }
}

/// Refuses to read this machine's variables and files for a client of an API, who could have them
/// sent to a destination.
fn refuse_reference(item: &Item<'_>, text: &str) -> Read<()> {
    let refers = text.starts_with("env:") || text.starts_with("file:");
    if refers && item.pass.writer() != Writer::Operator {
        let what = "points at a variable or a file of the gateway, which an API does not read";
        return Err(ValueError::new(what, "send the secret itself"));
    }
    Ok(())
}

/// A name for the secret at `item` that reveals nothing about it: the variable, the file, or
/// nothing where it is in the configuration itself.
pub(crate) fn origin(item: &Item<'_>) -> Option<String> {
    let text = item.value.as_str()?;
    let file = || text.strip_prefix("file:").and_then(|path| Path::new(path).file_name()?.to_str());
    text.strip_prefix("env:").or_else(file).map(str::to_owned)
}

/// The key behind `whsec_`, as Standard Webhooks writes it.
pub(crate) fn webhook_secret(item: &Item<'_>) -> Read<Secret> {
    let remedy = "make one: echo \"whsec_$(openssl rand -base64 32)\"";
    let secret = secret(item)?;
    let key = std::str::from_utf8(secret.expose()).ok().and_then(|text| text.strip_prefix(WHSEC));
    let key = key.ok_or_else(|| ValueError::new("does not begin with whsec_", remedy))?;
    let bytes = STANDARD.decode(key).or_else(|_| STANDARD_NO_PAD.decode(key)).ok();
    let bytes = bytes.filter(|bytes| !bytes.is_empty());
    let bytes = bytes.ok_or_else(|| ValueError::new("is not base64 behind whsec_", remedy))?;
    if bytes.len() < DELIVERY_SECRET_BYTES_GOOD {
        let what = format!("is a key of {} bytes, which can be guessed", bytes.len());
        item.warning(what, remedy);
    }
    Ok(Secret::new(bytes))
}

fn from_variable(item: &Item<'_>, name: &str) -> Read<Vec<u8>> {
    match item.pass.variable(name) {
        Some(value) if value.is_empty() => {
            Err(ValueError::new(format!("the variable {name} is empty"), "give it a value"))
        }
        Some(value) => Ok(value),
        None => Err(ValueError::new(
            format!("the variable {name} is not set"),
            "set it, or name a file that has it with --env-file FILE",
        )
        .missing()),
    }
}

fn from_file(item: &Item<'_>, path: &str) -> Read<Vec<u8>> {
    let path = item.pass.beside(path);
    let shown = path.display();
    let contents =
        item.pass.contents(&path).map_err(|error| unreadable(&path, &error).missing())?;
    if contents.access == Access::Wide {
        item.warning(
            format!("{shown} can be read by everybody or changed by its group"),
            "chmod 640, or narrower",
        );
    }
    let mut bytes = contents.bytes;
    if bytes.ends_with(b"\n") {
        bytes.pop();
        if bytes.ends_with(b"\r") {
            bytes.pop();
        }
    }
    match bytes.is_empty() {
        true => {
            Err(ValueError::new(format!("the file {shown} is empty"), "write the secret into it"))
        }
        false => Ok(bytes),
    }
}

/// The problem that a file cannot be read.
pub(crate) fn unreadable(path: &Path, error: &io::Error) -> ValueError {
    let shown = path.display();
    match error.kind() {
        io::ErrorKind::NotFound => {
            let remedy =
                "create it; relative paths resolve against the configuration file's directory";
            ValueError::new(format!("the file {shown} is missing"), remedy)
        }
        io::ErrorKind::PermissionDenied => {
            let remedy = "let the user that the gateway runs as read it";
            ValueError::new(format!("the file {shown} may not be read"), remedy)
        }
        _ => ValueError::new(
            format!("the file {shown} cannot be read: {error}"),
            "give another file",
        ),
    }
}
