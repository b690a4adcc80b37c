//! Which events a command is about.

use clap::Args;

/// Events by what they say and when they came; all of it has to fit.
#[derive(Args, Debug)]
pub(super) struct EventSelector {
    /// Of this source.
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// With this transaction.
    #[arg(long, value_name = "ID")]
    transaction: Option<String>,
    /// For this user.
    #[arg(long, value_name = "ID")]
    user: Option<String>,
    /// Received at this time or later, RFC 3339.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Received before this time, RFC 3339.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

impl EventSelector {
    /// The given criteria, by their names in the admin API.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let all = [
            ("source", &self.source),
            ("transaction", &self.transaction),
            ("user", &self.user),
            ("since", &self.since),
            ("until", &self.until),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?)))
    }
}
