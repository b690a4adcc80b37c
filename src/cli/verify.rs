//! `postern verify`: walks through the whole store and says what is damaged where.

use std::io;

use clap::Args;

use super::store::is_there;
use super::{ConfigFile, Exit, Screen};
use crate::ledger::Embedded;

/// Walk through the whole store and say what is damaged where
#[derive(Args, Debug)]
#[command(
    long_about = "Walk through the whole store and say what is damaged where.\n\n\
        Every record of the journal is read and its checksum compared; the index is compared with \
        the journal. Nothing of the journal is changed. No gateway may be working on the store: \
        stop it, or verify a copy. Ends with 1 where something is damaged.",
    after_help = "Example:\n  postern verify --config postern.toml"
)]
pub(super) struct Verify {
    #[command(flatten)]
    config: ConfigFile,
}

impl Verify {
    pub(super) fn run(&self, screen: &mut Screen<'_>) -> io::Result<Exit> {
        let (_, options) = match self.config.store(screen)? {
            Ok(store) => store,
            Err(exit) => return Ok(exit),
        };
        if let Err(sentence) = is_there(&options) {
            return screen.fail(&sentence);
        }
        let survey = match Embedded::verify(&options) {
            Ok(survey) => survey,
            Err(error) => return screen.fail(&error),
        };
        let exit = screen.survey(&survey)?;
        let (segments, records, events) = (survey.segments, survey.records, survey.events);
        let read = format!("{segments} segments, {records} records, {events} events");
        match survey.damage.len() {
            0 => writeln!(screen.out, "{read}: whole")?,
            count => writeln!(
                screen.out,
                "{read}, {count} places damaged; `postern export --salvage` gets out what is whole"
            )?,
        }
        Ok(exit)
    }
}
