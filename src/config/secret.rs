//! Secrets: `env:NAME`, `file:PATH` or plain text, and the forms that some of them have.

use std::io;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};

use super::file::{Item, Read, ValueError};
use super::limits::DELIVERY_SECRET_BYTES_GOOD;
use super::pass::{Access, Writer};
use crate::sender::Secret;

const WANTED: &str = "a text: \"env:NAME\", \"file:PATH\" or the secret itself";
const WHSEC: &str = "whsec_";

/// A secret from where the item says it is.
pub(crate) fn secret(item: &Item<'_>) -> Read<Secret> {
    let text = item.text(WANTED)?;
    refuse_reference(item, text)?;
    let bytes = if let Some(name) = text.strip_prefix("env:") {
        from_variable(item, name)?
    } else if let Some(path) = text.strip_prefix("file:") {
        from_file(item, path)?
    } else if text.is_empty() {
        return Err(ValueError::new("is empty", format!("write {WANTED}")));
    } else {
        text.as_bytes().to_vec()
    };
    Ok(Secret::new(bytes))
}

/// Refuses to read this machine's variables and files for a client of an API, who could have them
/// sent to a destination.
fn refuse_reference(item: &Item<'_>, text: &str) -> Read<()> {
    let refers = text.starts_with("env:") || text.starts_with("file:");
    if refers && item.pass.writer() == Writer::Remote {
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
            let remedy = "make it; the path is seen from the folder of the configuration file";
            ValueError::new(format!("the file {shown} is not there"), remedy)
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
