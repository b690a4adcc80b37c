//! `[archive]`: where events go before retention deletes them.

use std::path::PathBuf;

use super::ArchivePlace;
use super::file::{Item, Read, Section, ValueError};

pub(super) const KEYS: &[&str] = &["url"];

const WANTED: &str =
    "a folder such as \"file:///var/lib/postern-archive\", or \"s3://BUCKET/PREFIX\"";

/// The table `[archive]`; `None`: events are not archived.
pub(super) fn check(section: &Section<'_>) -> Option<ArchivePlace> {
    let place = section.take("url", place)?;
    if matches!(place, ArchivePlace::S3 { .. }) {
        if !cfg!(feature = "s3") {
            let what = "is a store that speaks S3, which this program was built without";
            section.fault("url", what, "build it with --features s3");
        }
        for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"] {
            if section.pass.variable(name).is_none() {
                let what = format!("needs {name}, which is not set here");
                section.warning("url", what, "set it in the environment of the gateway");
            }
        }
    }
    Some(place)
}

fn place(item: &Item<'_>) -> Read<ArchivePlace> {
    let text = item.text(WANTED)?;
    let wrong = |what: &str| ValueError::new(what, format!("write {WANTED}"));
    if let Some(path) = text.strip_prefix("file://") {
        return match path.starts_with('/') && path.len() > 1 {
            true => Ok(ArchivePlace::Folder(PathBuf::from(path))),
            false => Err(wrong("names no folder: its path is not absolute")),
        };
    }
    let Some(rest) = text.strip_prefix("s3://") else {
        return Err(wrong("has another scheme than file and s3"));
    };
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._/".contains(&byte);
    if bucket.is_empty() || !rest.bytes().all(fits) {
        return Err(wrong("names no bucket, or has characters that a URL would escape"));
    }
    let prefix = prefix.trim_matches('/').to_owned();
    Ok(ArchivePlace::S3 { bucket: bucket.to_owned(), prefix })
}
