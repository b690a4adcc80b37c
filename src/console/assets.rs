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
    pub(super) fn find(path: &str) -> Option<&'static Self> {
        [&*STYLE, &*SCRIPT, &*ICON].into_iter().find(|asset| asset.path == path)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Bytes that all assets may have together.
    const ASSETS_BYTES_MAX: usize = 40 * 1024;

    /// The colours of one scheme: the custom properties of the stylesheet.
    fn colours(css: &str) -> BTreeMap<&str, [u8; 3]> {
        let pairs = css.split(';').filter_map(|part| part.rsplit_once("--")?.1.split_once(": #"));
        let colour = |hex: &str| {
            let mut rgb = [0; 3];
            const_hex::decode_to_slice(hex.trim(), &mut rgb).unwrap();
            rgb
        };
        pairs.map(|(name, hex)| (name, colour(hex))).collect()
    }

    /// Relative luminance, as WCAG 2.2 defines it.
    fn luminance(rgb: [u8; 3]) -> f64 {
        let [r, g, b] = rgb.map(|part| {
            let part = f64::from(part) / 255.0;
            if part <= 0.04045 { part / 12.92 } else { ((part + 0.055) / 1.055).powf(2.4) }
        });
        0.2126 * r + 0.7152 * g + 0.0722 * b
    }

    fn contrast(one: [u8; 3], other: [u8; 3]) -> f64 {
        let (one, other) = (luminance(one), luminance(other));
        (one.max(other) + 0.05) / (one.min(other) + 0.05)
    }

    fn schemes() -> [(&'static str, BTreeMap<&'static str, [u8; 3]>); 2] {
        let (light, rest) = STYLE.body.split_once("prefers-color-scheme: dark").unwrap();
        let (dark, _) = rest.split_once("*, ::before").unwrap();
        [("light", colours(light)), ("dark", colours(dark))]
    }

    #[test]
    fn all_assets_are_small() {
        let bytes = [&*STYLE, &*SCRIPT, &*ICON].map(|asset| asset.body.len());
        let all: usize = bytes.iter().sum();
        assert!(all < ASSETS_BYTES_MAX, "{bytes:?}: {all}");
    }

    #[test]
    fn contrast_is_that_of_wcag() {
        let ratio = |one, other| (contrast(one, other) * 100.0).round() / 100.0;
        assert_eq!(ratio([0, 0, 0], [255, 255, 255]), 21.0);
        assert_eq!(ratio([0x77, 0x77, 0x77], [255, 255, 255]), 4.48);
    }

    #[test]
    fn text_has_a_contrast_of_four_and_a_half() {
        for (scheme, colours) in schemes() {
            let on = |ground: &'static str, inks: &'static [&'static str]| {
                inks.iter().map(move |ink| (*ink, ground))
            };
            const INKS: &[&str] = &["ink", "faint", "link", "good", "warn", "bad", "cool"];
            let pairs = [
                on("ground", INKS),
                on("sheet", INKS),
                on("good-ground", &["good", "ink"]),
                on("warn-ground", &["warn", "ink", "link"]),
                on("bad-ground", &["bad", "ink", "link"]),
                on("cool-ground", &["cool", "ink"]),
                on("link", &["on-link"]),
            ];
            let pairs = pairs.into_iter().flatten();
            for (ink, ground) in pairs {
                let ratio = contrast(colours[ink], colours[ground]);
                assert!(ratio >= 4.5, "{scheme}: {ink} on {ground}: {ratio:.2}");
            }
        }
    }

    #[test]
    fn bars_lines_and_edges_have_a_contrast_of_three() {
        for (scheme, colours) in schemes() {
            let drawn = |name: &&&str| {
                ["bar-", "line-p", "dot-"].iter().any(|start| name.starts_with(start))
                    || ["edge", "focus"].contains(*name)
            };
            let names: Vec<&str> = colours.keys().filter(drawn).copied().collect();
            assert!(names.len() > 14, "{names:?}");
            let wanted = |one: &str, other: &str| {
                let ratio = contrast(colours[one], colours[other]);
                assert!(ratio >= 3.0, "{scheme}: {one} beside {other}: {ratio:.2}");
            };
            for name in &names {
                wanted(name, "ground");
                wanted(name, "sheet");
            }
            let others = names.iter().filter(|name| name.starts_with("bar-"));
            for other in others.filter(|name| **name != "bar-accepted") {
                wanted("bar-accepted", other);
            }
            wanted("line-p50", "line-p99");
        }
        // Between two bars there is a line of the ground, which each of them differs from.
        assert!(STYLE.body.contains("rect { stroke: var(--sheet); stroke-width: 1px;"));
    }

    #[test]
    fn every_outcome_has_a_colour() {
        for outcome in crate::sender::Outcome::ALL {
            let name = outcome.as_str();
            assert!(
                STYLE.body.contains(&format!("rect.{name} {{ fill: var(--bar-{name}); }}")),
                "{name}"
            );
        }
    }
}
