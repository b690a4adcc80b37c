//! `postern sign`: a signed callback for any source.

use std::io;

use clap::Args;
use http::Method;

use super::url::{address_of, find, listener};
use super::{ConfigFile, Exit, Screen};
use crate::clock;
use crate::sender::{Composing, Fault, OwnedRequest, Signing};

/// Make a signed callback, as the sender would
#[derive(Args, Debug)]
#[command(
    long_about = "Make a signed callback, as the sender would.\n\n\
        Prints the full signed URL, or a curl command where the sender posts. A KEY is a role \
        (transaction, user, item, amount …), one of the sender's parameters, header.NAME or body; \
        a dot steps into JSON. What the sender makes up itself (time, nonce) is filled in.",
    after_help = "Examples:\n  \
        postern sign level-end transaction=tr-1 user=u1 item=coin amount=10 placement_id=b1 adsource_id=9\n  \
        curl -i \"$(postern sign --config postern.toml --local level-end transaction=tr-1 …)\""
)]
pub(super) struct Sign {
    #[command(flatten)]
    config: ConfigFile,
    /// The source.
    source: String,
    /// Parameters, KEY=VALUE.
    #[arg(value_name = "KEY=VALUE", value_parser = pair)]
    parameters: Vec<(String, String)>,
    /// The time to say, Unix milliseconds, in place of now.
    #[arg(long, value_name = "MS")]
    at_ms: Option<i64>,
    /// A curl command, also where a URL would do.
    #[arg(long)]
    curl: bool,
    /// Call this machine's own listener in place of server.public_url; what is signed is the same.
    #[arg(long)]
    local: bool,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

impl Sign {
    pub(super) fn run(&self, screen: &mut Screen<'_>) -> io::Result<Exit> {
        let loaded = match self.config.load(screen)? {
            Ok(loaded) => loaded,
            Err(exit) => return Ok(exit),
        };
        let config = &loaded.config;
        let Some(source) = find(config, &self.source, screen)? else { return Ok(Exit::Usage) };
        let path = source.path();
        let address = address_of(config, source);
        let base = address.strip_suffix(&path).unwrap_or_default();
        let mut salt = [0; 16];
        getrandom::fill(&mut salt).map_err(|_| io::Error::other("no random bytes"))?;
        let now_ms = self.at_ms.unwrap_or_else(clock::now_ms);
        let signing = Signing { salt, base, ..Signing::at(now_ms) };
        let signed: Result<OwnedRequest, Fault> = source
            .recipe
            .signable()
            .and_then(|()| source.recipe.compose(&self.parameters, &Composing::to(&path)))
            .and_then(|request| source.recipe.sign(&request, &signing));
        match signed {
            Ok(request) => {
                let local = listener(&config.server);
                let base = if self.local { local.as_str() } else { base };
                let plain = request.method == Method::GET && request.headers.is_empty();
                match plain && !self.curl {
                    true => writeln!(screen.out, "{}", url(base, &request))?,
                    false => writeln!(screen.out, "{}", curl(base, &request))?,
                }
                Ok(Exit::Done)
            }
            Err(fault) => {
                writeln!(screen.err, "{}: {fault}", source.name)?;
                Ok(Exit::Usage)
            }
        }
    }
}

fn url(base: &str, request: &OwnedRequest) -> String {
    format!("{base}{}", String::from_utf8_lossy(&request.target))
}

fn curl(base: &str, request: &OwnedRequest) -> String {
    let mut line = format!("curl -i -X {}", request.method);
    for (name, value) in &request.headers {
        let field = format!("{name}: {}", String::from_utf8_lossy(value.as_bytes()));
        line.push_str(&format!(" -H {}", quoted(&field)));
    }
    if !request.body.is_empty() {
        line.push_str(&format!(
            " --data-binary {}",
            quoted(&String::from_utf8_lossy(&request.body))
        ));
    }
    format!("{line} {}", quoted(&url(base, request)))
}

/// In single quotes for a POSIX shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_back_what_was_quoted() {
        for text in ["", "a b", "it's", "$HOME `x` \"y\" \\", "''"] {
            let line = format!("printf %s {}", quoted(text));
            let out = std::process::Command::new("sh").args(["-c", &line]).output().unwrap();
            assert_eq!(String::from_utf8(out.stdout).unwrap(), text);
        }
    }
}
