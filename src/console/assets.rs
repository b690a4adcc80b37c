//! The embedded stylesheet, script and icon. Each path contains a digest of its content, so browsers
//! may cache it forever.

use std::sync::LazyLock;

use sha2::{Digest as _, Sha256};

/// A file for browsers.
#[derive(Debug)]
pub(super) struct Asset {
    pub path: String,
    pub content_type: &'static str,
    pub body: &'static str,
}

/// The stylesheet.
pub(super) static STYLE: LazyLock<Asset> = LazyLock::new(|| {
    Asset::new("css", "text/css; charset=utf-8", include_str!("assets/console.css"))
});

/// The script.
pub(super) static SCRIPT: LazyLock<Asset> = LazyLock::new(|| {
    Asset::new("js", "text/javascript; charset=utf-8", include_str!("assets/console.js"))
});

/// The icon of the browser tab.
pub(super) static ICON: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("svg", "image/svg+xml", include_str!("assets/icon.svg")));

impl Asset {
    fn new(extension: &str, content_type: &'static str, body: &'static str) -> Self {
        let digest = const_hex::encode(&Sha256::digest(body)[..8]);
        Self { path: format!("/console/assets/console.{digest}.{extension}"), content_type, body }
    }

    /// The asset at `path`.
    pub fn find(path: &str) -> Option<&'static Self> {
        [&*STYLE, &*SCRIPT, &*ICON].into_iter().find(|asset| asset.path == path)
    }
}
