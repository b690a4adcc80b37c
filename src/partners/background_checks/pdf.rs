//! A report as PDF: text in lines and pages. Its fonts are embedded, cut down to the glyphs it
//! uses. Each glyph has its character, so the text can be searched and copied.

use std::collections::BTreeMap;

use pdf_writer::types::{CidFontType, FontFlags, SystemInfo, UnicodeCmap};
use pdf_writer::{Content, Finish as _, Name, Pdf, Rect, Ref, Str, TextStr};
use subsetter::GlyphRemapper;
use ttf_parser::{Face, RawFace, Tag};

use super::fonts::{Fonts, glyph};

/// A4 in points, and its margins.
const WIDTH: f32 = 595.0;
const HEIGHT: f32 = 842.0;
const MARGIN: f32 = 56.0;

/// Sizes of text in points.
const TITLE: f32 = 20.0;
const HEADING: f32 = 13.0;
const BODY: f32 = 10.5;

/// From one line to the next, in sizes of the text.
const LEADING: f32 = 1.6;

/// Pages of a report: some hundred thousand characters.
const PAGES_MAX: usize = 100;

const CMAP: Name<'static> = Name(b"Custom");

/// A piece of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Block {
    /// The title.
    Title(String),
    /// The name of a part.
    Heading(String),
    /// Lines of text.
    Text(String),
    /// A line across the page.
    Rule,
}

/// A report that cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PdfError {
    /// A font that was read before cannot be read any more, or not be cut down.
    #[error("a font cannot be used")]
    Font,
    /// The report has too many pages.
    #[error("the report has more than {PAGES_MAX} pages")]
    Long,
}

/// A font in the making: which of its glyphs are used, and what for.
struct Used<'f> {
    face: Face<'f>,
    data: &'f [u8],
    index: u32,
    glyphs: GlyphRemapper,
    meant: BTreeMap<u16, (char, f32)>,
}

/// A character as it is set.
#[derive(Clone, Copy)]
struct Set {
    character: char,
    font: usize,
    /// The glyph in the font as it is embedded.
    glyph: u16,
    /// Its width in thousandths of the size.
    width: f32,
}

impl Block {
    /// The text.
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Title(text) | Self::Heading(text) | Self::Text(text) => text,
            Self::Rule => "",
        }
    }

    fn size(&self) -> f32 {
        match self {
            Self::Title(_) => TITLE,
            Self::Heading(_) => HEADING,
            Self::Text(_) | Self::Rule => BODY,
        }
    }
}

/// The PDF of `blocks`, which is called `title`.
pub(super) fn write(title: &str, blocks: &[Block], fonts: &Fonts) -> Result<Vec<u8>, PdfError> {
    let mut setter = Setter::new(fonts)?;
    for block in blocks {
        setter.set(block)?;
    }
    setter.finish(title)
}

// === Lines and pages ===

struct Setter<'f> {
    fonts: &'f Fonts,
    used: Vec<Used<'f>>,
    pages: Vec<Content>,
    /// From the lower edge.
    at: f32,
}

impl<'f> Setter<'f> {
    fn new(fonts: &'f Fonts) -> Result<Self, PdfError> {
        let used = fonts.0.iter().map(|font| {
            let face = font.face().ok_or(PdfError::Font)?;
            let (glyphs, meant) = (GlyphRemapper::new(), BTreeMap::new());
            Ok(Used { face, data: &font.data, index: font.index, glyphs, meant })
        });
        let used = used.collect::<Result<_, _>>()?;
        Ok(Self { fonts, used, pages: vec![Content::new()], at: HEIGHT - MARGIN })
    }

    fn set(&mut self, block: &Block) -> Result<(), PdfError> {
        let size = block.size();
        if *block == Block::Rule {
            self.advance(BODY)?;
            let y = self.at;
            self.page().set_line_width(0.5).move_to(MARGIN, y).line_to(WIDTH - MARGIN, y).stroke();
            return self.advance(BODY / 2.0);
        }
        if matches!(block, Block::Heading(_)) {
            self.advance(BODY)?;
        }
        for line in block.text().split(['\n', '\r']).filter(|line| !line.is_empty()) {
            let set: Vec<Set> = line.chars().filter_map(|c| self.character(c)).collect();
            for line in broken(&set, (WIDTH - 2.0 * MARGIN) * 1000.0 / size) {
                self.advance(size * LEADING)?;
                self.line(line, size);
            }
        }
        Ok(())
    }

    fn page(&mut self) -> &mut Content {
        if self.pages.is_empty() {
            self.pages.push(Content::new());
        }
        let last = self.pages.len() - 1;
        &mut self.pages[last]
    }

    /// Goes down the page, or on to the next one.
    fn advance(&mut self, by: f32) -> Result<(), PdfError> {
        self.at -= by;
        if self.at < MARGIN {
            if self.pages.len() == PAGES_MAX {
                return Err(PdfError::Long);
            }
            self.pages.push(Content::new());
            self.at = HEIGHT - MARGIN - by;
        }
        Ok(())
    }

    /// Notes that a character is used; what has no glyph is a control character.
    fn character(&mut self, character: char) -> Option<Set> {
        let character = if character == '\t' { ' ' } else { character };
        let font = self.fonts.of(character)?;
        let used = self.used.get_mut(font)?;
        let old = glyph(&used.face, character)?;
        let units = f32::from(used.face.units_per_em().max(1));
        let width = f32::from(used.face.glyph_hor_advance(old).unwrap_or(0)) * 1000.0 / units;
        let glyph = used.glyphs.remap(old.0);
        used.meant.entry(glyph).or_insert((character, width));
        Some(Set { character, font, glyph, width })
    }

    fn line(&mut self, line: &[Set], size: f32) {
        let at = self.at;
        let page = self.page();
        page.begin_text().next_line(MARGIN, at);
        for run in line.chunk_by(|one, next| one.font == next.font) {
            let Some(first) = run.first() else { continue };
            let bytes: Vec<u8> = run.iter().flat_map(|set| set.glyph.to_be_bytes()).collect();
            page.set_font(Name(&font_name(first.font)), size).show(Str(&bytes));
        }
        page.end_text();
    }
}

fn font_name(font: usize) -> Vec<u8> {
    format!("F{font}").into_bytes()
}

/// The lines of a text of at most `width`: broken at a space if there is one, and otherwise, as in
/// Chinese, between any two characters.
fn broken(set: &[Set], width: f32) -> Vec<&[Set]> {
    let (mut lines, mut start) = (Vec::new(), 0);
    while start < set.len() {
        let (mut sum, mut end) = (0.0, start);
        while end < set.len() && (sum + set[end].width <= width || end == start) {
            sum += set[end].width;
            end += 1;
        }
        let mut next = end;
        if end < set.len() && is_of_a_word(set[end]) && is_of_a_word(set[end - 1]) {
            let word = set[start..end].iter().rposition(|one| !is_of_a_word(*one));
            if let Some(word) = word.filter(|word| *word > 0) {
                end = start + word + 1;
                next = end;
            }
        }
        while next < set.len() && set[next].character == ' ' {
            next += 1;
        }
        lines.push(&set[start..end]);
        start = next;
    }
    lines
}

fn is_of_a_word(set: Set) -> bool {
    set.character.is_alphanumeric() && u32::from(set.character) < 0x2e80
}

// === The file ===

/// Numbers of the objects that there are once; pages and fonts come behind.
const CATALOG: i32 = 1;
const TREE: i32 = 2;
const INFO: i32 = 3;
const FIRST: i32 = 4;

/// Objects of a font, and of a page.
const OF_FONT: i32 = 5;
const OF_PAGE: i32 = 2;

impl Setter<'_> {
    fn finish(self, title: &str) -> Result<Vec<u8>, PdfError> {
        let mut pdf = Pdf::new();
        let count = |len: usize| i32::try_from(len).unwrap_or(i32::MAX);
        let fonts: Vec<i32> =
            (0..count(self.used.len())).map(|font| FIRST + OF_FONT * font).collect();
        let pages = FIRST + OF_FONT * count(self.used.len());
        let page = |at: usize| pages + OF_PAGE * count(at);
        pdf.catalog(Ref::new(CATALOG)).pages(Ref::new(TREE));
        pdf.document_info(Ref::new(INFO)).title(TextStr(title)).producer(TextStr("Postern"));
        pdf.pages(Ref::new(TREE))
            .kids((0..self.pages.len()).map(|at| Ref::new(page(at))))
            .count(count(self.pages.len()));
        for (at, content) in self.pages.into_iter().enumerate() {
            let mut written = pdf.page(Ref::new(page(at)));
            written
                .media_box(Rect::new(0.0, 0.0, WIDTH, HEIGHT))
                .parent(Ref::new(TREE))
                .contents(Ref::new(page(at) + 1));
            let mut resources = written.resources();
            let mut names = resources.fonts();
            for (font, id) in fonts.iter().enumerate() {
                names.pair(Name(&font_name(font)), Ref::new(*id));
            }
            names.finish();
            resources.finish();
            written.finish();
            pdf.stream(Ref::new(page(at) + 1), &content.finish());
        }
        for (used, id) in self.used.iter().zip(&fonts) {
            used.write(&mut pdf, *id)?;
        }
        Ok(pdf.finish())
    }
}

/// The outlines of a font's glyphs, as a PDF file holds them.
#[derive(Clone, Copy)]
enum Outlines<'f> {
    /// The table of that name.
    Cff(&'f [u8]),
    /// The whole font.
    TrueType(&'f [u8]),
}

impl Outlines<'_> {
    const fn font_type(self) -> CidFontType {
        match self {
            Self::Cff(_) => CidFontType::Type0,
            Self::TrueType(_) => CidFontType::Type2,
        }
    }
}

impl Used<'_> {
    /// The objects of the font, from `id` on: the font, its glyphs, what is said of it, its file,
    /// and the characters that its glyphs stand for.
    fn write(&self, pdf: &mut Pdf, id: i32) -> Result<(), PdfError> {
        let [font, glyphs, about, file, characters] = [0, 1, 2, 3, 4].map(|at| Ref::new(id + at));
        let cut =
            subsetter::subset(self.data, self.index, &self.glyphs).map_err(|_| PdfError::Font)?;
        let face = RawFace::parse(&cut, 0).ok();
        let cff = face.and_then(|face| face.table(Tag::from_bytes(b"CFF ")));
        let outlines = cff.map_or(Outlines::TrueType(&cut), Outlines::Cff);
        let name = format!("POSTRN+Report{id}");
        let name = Name(name.as_bytes());
        let system =
            SystemInfo { registry: Str(b"Adobe"), ordering: Str(b"Identity"), supplement: 0 };

        pdf.type0_font(font)
            .base_font(name)
            .encoding_predefined(Name(b"Identity-H"))
            .descendant_font(glyphs)
            .to_unicode(characters);
        let mut cid = pdf.cid_font(glyphs);
        cid.subtype(outlines.font_type())
            .base_font(name)
            .system_info(system)
            .font_descriptor(about)
            .default_width(0.0);
        if matches!(outlines, Outlines::TrueType(_)) {
            cid.cid_to_gid_map_predefined(Name(b"Identity"));
        }
        let mut widths = cid.widths();
        for (glyph, (_, width)) in &self.meant {
            widths.consecutive(*glyph, [*width]);
        }
        widths.finish();
        cid.finish();
        self.describe(pdf, about, file, name, outlines);
        match outlines {
            Outlines::Cff(table) => {
                let mut stream = pdf.stream(file, table);
                stream.pair(Name(b"Subtype"), Name(b"CIDFontType0C"));
            }
            Outlines::TrueType(font) => {
                let mut stream = pdf.stream(file, font);
                stream.pair(Name(b"Length1"), i32::try_from(font.len()).unwrap_or(i32::MAX));
            }
        }
        let mut map = UnicodeCmap::new(CMAP, system);
        for (glyph, (character, _)) in &self.meant {
            map.pair(*glyph, *character);
        }
        pdf.cmap(characters, &map.finish());
        Ok(())
    }

    fn describe(
        &self,
        pdf: &mut Pdf,
        about: Ref,
        file: Ref,
        name: Name<'_>,
        outlines: Outlines<'_>,
    ) {
        let units = f32::from(self.face.units_per_em().max(1));
        let scaled = |value: i16| f32::from(value) * 1000.0 / units;
        let whole = self.face.global_bounding_box();
        let [x0, y0, x1, y1] = [whole.x_min, whole.y_min, whole.x_max, whole.y_max].map(scaled);
        let mut said = pdf.font_descriptor(about);
        said.name(name)
            .flags(FontFlags::SYMBOLIC)
            .bbox(Rect::new(x0, y0, x1, y1))
            .italic_angle(0.0)
            .ascent(scaled(self.face.ascender()))
            .descent(scaled(self.face.descender()))
            .cap_height(self.face.capital_height().map_or(scaled(self.face.ascender()), scaled))
            .stem_v(80.0);
        match outlines {
            Outlines::Cff(_) => said.font_file3(file),
            Outlines::TrueType(_) => said.font_file2(file),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str) -> Vec<Set> {
        text.chars().map(|character| Set { character, font: 0, glyph: 1, width: 10.0 }).collect()
    }

    fn lines(text: &str, width: f32) -> Vec<String> {
        let set = set(text);
        let text = |line: &[Set]| line.iter().map(|set| set.character).collect::<String>();
        broken(&set, width).into_iter().map(text).collect()
    }

    #[test]
    fn lines_break_at_blanks_and_between_chinese_characters() {
        assert_eq!(lines("one two three", 80.0), ["one two ", "three"]);
        assert_eq!(lines("一二三四五六七", 30.0), ["一二三", "四五六", "七"]);
        assert_eq!(lines("abcdefghij", 40.0), ["abcd", "efgh", "ij"]);
        assert_eq!(lines("中文word", 40.0), ["中文", "word"]);
        assert_eq!(lines("x", 1.0), ["x"], "never a line of nothing");
        assert!(lines("", 10.0).is_empty());
    }
}
