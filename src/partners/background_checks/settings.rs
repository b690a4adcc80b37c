//! `[manage.background_check]`: the companies that may order reports, and the fonts of reports.

use std::path::PathBuf;

use crate::config::file::{Item, Read, Section, ValueError};
use crate::config::{secret, unit};
use crate::partners::settings::{need_secret, users};
use crate::sender::Secret;

/// The keys of `[manage.background_check]`.
pub(crate) const KEYS: &[&str] = &["companies", "fonts"];

/// The keys of a company.
pub(crate) const COMPANY_KEYS: &[&str] = &["key", "token", "enabled"];

/// The users of the background-check API.
#[derive(Clone, Debug)]
pub struct BackgroundChecks {
    /// The companies.
    pub companies: Vec<Company>,
    /// Fonts for reports, preferred to those of the system.
    pub fonts: Vec<PathBuf>,
}

/// A company that may order reports.
#[derive(Clone, Debug)]
pub struct Company {
    /// The key that its requests carry.
    pub key: Secret,
    /// The token that its requests are signed with.
    pub token: Secret,
    /// Whether it may order reports now.
    pub enabled: bool,
}

/// Checks `[manage.background_check]`.
pub(crate) fn check(section: &Section<'_>) -> BackgroundChecks {
    section.refuse_unknown(KEYS);
    let companies = users(section, "companies", COMPANY_KEYS, |company| {
        let (key, token) = (need_secret(company, "key"), need_secret(company, "token"));
        let enabled = company.take_or("enabled", true, unit::switch);
        Some(Company { key: key?, token: token?, enabled })
    });
    let fonts = section.list("fonts", font).unwrap_or_default();
    BackgroundChecks { companies, fonts }
}

/// The path of a font for reports.
fn font(item: &Item<'_>) -> Read<PathBuf> {
    let path = item.pass.beside(&unit::text(item)?);
    let remedy = "name a file of TrueType or OpenType fonts (.ttf, .ttc, .otf)";
    let data = std::fs::read(&path).map_err(|error| secret::unreadable(&path, &error))?;
    match ttf_parser::Face::parse(&data, 0) {
        Ok(_) => Ok(path),
        Err(_) => Err(ValueError::new(format!("{} is not a font", path.display()), remedy)),
    }
}
