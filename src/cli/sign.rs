//! `postern sign`: a signed callback for any source.

use std::io;

use clap::Args;

use super::url::find;
use super::{ConfigFile, Exit, Screen};
use crate::clock;
use crate::operator::{base_of, called, curl, is_plain, listener};
use crate::sender::{Composing, DefinitionError, OwnedRequest, Signing};

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
        let base = base_of(&config.server, config.server.callbacks);
        let mut salt = [0; 16];
        getrandom::fill(&mut salt).map_err(|_| io::Error::other("no random bytes"))?;
        let now_ms = self.at_ms.unwrap_or_else(clock::now_ms);
        let signing = Signing { salt, base: &base, ..Signing::at(now_ms) };
        let signed: Result<OwnedRequest, DefinitionError> = source
            .recipe
            .signable()
            .and_then(|()| source.recipe.compose(&self.parameters, &Composing::to(&path)))
            .and_then(|request| source.recipe.sign(&request, &signing));
        match signed {
            Ok(request) => {
                let local = listener(&config.server, config.server.callbacks);
                let base = if self.local { local } else { base };
                match is_plain(&request) && !self.curl {
                    true => writeln!(screen.out, "{}", called(&base, &request))?,
                    false => writeln!(screen.out, "{}", curl(&base, &request))?,
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
