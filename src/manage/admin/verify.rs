//! Reading the whole store while the gateway runs: what `postern verify` asks for.

use http::StatusCode;
use serde::Serialize;

use super::Admin;
use crate::clock::rfc3339;
use crate::ledger::{Damage, ScrubPass};
use crate::manage::http::{Answered, ApiError, json};
use crate::wire::Response;

#[derive(Serialize)]
struct View<'a> {
    pass: u64,
    state: &'static str,
    began: String,
    ended: Option<String>,
    done_bytes: u64,
    total_bytes: u64,
    damage: Vec<Place<'a>>,
    remarks: &'a [String],
    error: Option<&'a str>,
}

#[derive(Serialize)]
struct Place<'a> {
    path: String,
    from: u64,
    until: u64,
    what: &'a str,
}

impl Admin {
    /// Begins to read everything now, unless that was asked for already.
    pub(super) fn begin_verify(&self) -> Answered {
        if !self.ledger.engine().has_files() {
            let detail = "the store is in PostgreSQL, which checks its own files: see \
                          data_checksums, pg_amcheck";
            return Err(ApiError::new(StatusCode::CONFLICT, detail));
        }
        let mut response = shown(&self.scrubber.begin());
        *response.status_mut() = StatusCode::ACCEPTED;
        Ok(response)
    }

    /// The pass in progress, or else the last one.
    pub(super) fn verify_progress(&self) -> Answered {
        let pass = self.scrubber.pass();
        let pass =
            pass.ok_or_else(|| ApiError::absent("the store was not read since the start"))?;
        Ok(shown(&pass))
    }
}

fn shown(pass: &ScrubPass) -> Response {
    json(&View {
        pass: pass.number,
        state: pass.state.as_str(),
        began: rfc3339(pass.began_ms),
        ended: pass.ended_ms.map(rfc3339),
        done_bytes: pass.done,
        total_bytes: pass.total,
        damage: pass.damage.iter().map(Place::of).collect(),
        remarks: &pass.remarks,
        error: pass.error.as_deref(),
    })
}

impl<'a> Place<'a> {
    fn of(damage: &'a Damage) -> Self {
        let path = damage.path.display().to_string();
        Self { path, from: damage.from, until: damage.until, what: &damage.what }
    }
}
