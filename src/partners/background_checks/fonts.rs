//! The fonts of this machine: which of them has a character, and how wide it is.
//!
//! A report has the languages of its items. The configured fonts come first, then the system's, and
//! of those the ones whose names indicate Chinese.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ttf_parser::{Face, GlyphId};

/// Where systems keep fonts.
const FOLDERS: [&str; 5] = [
    "/usr/share/fonts",
    "/usr/local/share/fonts",
    "/System/Library/Fonts",
    "/Library/Fonts",
    "/opt/homebrew/share/fonts",
];

/// Folders in folders that are looked through.
const DEPTH_MAX: usize = 4;

/// Files that are examined; a desktop has some hundreds.
const FILES_MAX: usize = 2_000;

/// Bytes of a font: the largest collections of Chinese fonts have a hundred megabytes.
const FILE_BYTES_MAX: u64 = 128 * 1024 * 1024;

/// Fonts of one text: Chinese, and what it lacks.
const FONTS_MAX: usize = 4;

/// Parts of names by which fonts with Chinese characters are known; the earlier the better.
const HINTS: [&str; 12] = [
    "sanscjk",
    "sans-cjk",
    "cjk",
    "wqy",
    "pingfang",
    "hei",
    "sourcehan",
    "song",
    "ming",
    "kai",
    "fangsong",
    "dejavusans",
];

/// The fonts that a text needs, in the order in which they are asked for a character.
#[derive(Debug)]
pub(super) struct Fonts(pub Vec<Font>);

/// One font of one file.
#[derive(Clone)]
pub(super) struct Font {
    pub data: Arc<Vec<u8>>,
    pub index: u32,
}

/// Characters that no font here has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no font here has the glyphs of {0:?}; install one (Debian: fonts-noto-cjk or \
     fonts-wqy-zenhei), or name one in manage.background_check.fonts"
)]
pub(super) struct GlyphError(pub String);

impl std::fmt::Debug for Font {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Font").field("bytes", &self.data.len()).finish_non_exhaustive()
    }
}

impl Font {
    /// Its tables; none if it is damaged, which was found out when it was chosen.
    pub(super) fn face(&self) -> Option<Face<'_>> {
        Face::parse(&self.data, self.index).ok()
    }

    /// Whether this character can be written with it.
    fn has(&self, character: char) -> bool {
        self.face().is_some_and(|face| glyph(&face, character).is_some())
    }
}

/// The glyph of a character, if the font has an outline for it and one for the page.
pub(super) fn glyph(face: &Face<'_>, character: char) -> Option<GlyphId> {
    face.glyph_index(character).filter(|glyph| glyph.0 != 0)
}

impl Fonts {
    /// Fonts that have every character of `text`, as few as will do. Reads files.
    ///
    /// # Errors
    /// The characters that none has.
    pub(super) fn find(configured: &[PathBuf], text: &str) -> Result<Self, GlyphError> {
        let mut missing: BTreeSet<char> = text.chars().filter(|c| !c.is_control()).collect();
        let mut chosen = Vec::new();
        let system = || FOLDERS.iter().flat_map(|folder| files(Path::new(folder), DEPTH_MAX));
        let mut found: Vec<PathBuf> = system().take(FILES_MAX).collect();
        found.sort_by_key(|path| (rank(path), path.clone()));
        for path in configured.iter().cloned().chain(found) {
            if missing.is_empty() || chosen.len() == FONTS_MAX {
                break;
            }
            let Some(font) = first_of(&path) else { continue };
            let before = missing.len();
            missing.retain(|character| !font.has(*character));
            if missing.len() < before {
                chosen.push(font);
            }
        }
        match missing.is_empty() {
            true => Ok(Self(chosen)),
            false => Err(GlyphError(missing.into_iter().collect())),
        }
    }

    /// Which font has a character.
    pub(super) fn of(&self, character: char) -> Option<usize> {
        self.0.iter().position(|font| font.has(character))
    }
}

/// The first usable font of a file.
fn first_of(path: &Path) -> Option<Font> {
    let mut data = Vec::new();
    let file = fs::File::open(path).ok()?;
    file.take(FILE_BYTES_MAX).read_to_end(&mut data).ok()?;
    let count = ttf_parser::fonts_in_collection(&data).unwrap_or(1);
    let index = (0..count).find(|index| can_be_embedded(&data, *index))?;
    Some(Font { data: Arc::new(data), index })
}

/// Whether the font has outlines, and no say against being embedded.
fn can_be_embedded(data: &[u8], index: u32) -> bool {
    let Ok(face) = Face::parse(data, index) else { return false };
    let tables = face.tables();
    let outlines = tables.glyf.is_some() || tables.cff.is_some();
    outlines && face.permissions() != Some(ttf_parser::Permissions::Restricted)
}

fn rank(path: &Path) -> usize {
    let name = path.to_string_lossy().to_lowercase();
    let hinted = HINTS.iter().position(|hint| name.contains(hint)).unwrap_or(HINTS.len());
    // Upright and of ordinary weight, where there is a choice.
    let plain = !["bold", "italic", "oblique", "black", "light", "thin", "mono", "condensed"]
        .iter()
        .any(|word| name.contains(word));
    2 * hinted + usize::from(!plain)
}

/// Font files in a folder.
fn files(folder: &Path, depth: usize) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            if depth > 0 {
                found.extend(files(&path, depth - 1));
            }
        } else if path.extension().is_some_and(|kind| {
            ["ttf", "ttc", "otf", "otc"].iter().any(|known| kind.eq_ignore_ascii_case(known))
        }) {
            found.push(path);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_font_has_is_named() {
        // A character of a private area that no font here draws.
        let GlyphError(missing) = Fonts::find(&[], "\u{10fffd}").unwrap_err();
        assert_eq!(missing, "\u{10fffd}");
        assert!(Fonts::find(&[PathBuf::from("/nowhere.ttf")], "").unwrap().0.is_empty());
    }

    #[test]
    fn chinese_and_plain_ones_come_first() {
        let rank = |name: &str| rank(Path::new(name));
        assert!(rank("/f/NotoSansCJK-Regular.ttc") < rank("/f/NotoSansCJK-Bold.ttc"));
        assert!(rank("/f/NotoSansCJK-Bold.ttc") < rank("/f/wqy-zenhei.ttc"));
        assert!(rank("/f/wqy-zenhei.ttc") < rank("/f/DejaVuSans.ttf"));
        assert!(rank("/f/DejaVuSans.ttf") < rank("/f/Other.ttf"));
    }
}
