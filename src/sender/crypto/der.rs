//! DER, as far as keys and certificates need it: definite lengths in their shortest form.

pub(super) const INTEGER: u8 = 0x02;
pub(super) const SEQUENCE: u8 = 0x30;

/// A DER element.
pub(super) fn element(tag: u8, content: &[u8]) -> Option<Vec<u8>> {
    let len = u16::try_from(content.len()).ok()?;
    let [high, low] = len.to_be_bytes();
    let head = match len {
        0..=0x7f => vec![tag, low],
        0x80..=0xff => vec![tag, 0x81, low],
        _ => vec![tag, 0x82, high, low],
    };
    Some([head.as_slice(), content].concat())
}

/// A positive INTEGER, of big-endian bytes without zeros in front.
pub(super) fn integer(bytes: &[u8]) -> Option<Vec<u8>> {
    let first = *bytes.first().filter(|first| **first != 0)?;
    let sign: &[u8] = if first >= 0x80 { &[0] } else { &[] };
    element(INTEGER, &[sign, bytes].concat())
}

/// The rest of a DER text.
pub(super) struct Der<'d>(pub(super) &'d [u8]);

impl<'d> Der<'d> {
    /// The content of the next element, which has to be a `tag` of a definite length in its
    /// shortest form.
    pub(super) fn take(&mut self, tag: u8) -> Option<&'d [u8]> {
        self.0.first().filter(|own| **own == tag)?;
        Some(self.take_any()?.1)
    }

    /// Tag and content of the next element.
    pub(super) fn take_any(&mut self) -> Option<(u8, &'d [u8])> {
        let (head, rest) = self.0.split_first_chunk::<2>()?;
        let (len, rest) = match (head[1], rest) {
            (len @ 0..=0x7f, rest) => (usize::from(len), rest),
            (0x81, [len @ 0x80..=0xff, rest @ ..]) => (usize::from(*len), rest),
            (0x82, [high @ 1..=0xff, low, rest @ ..]) => {
                (usize::from(u16::from_be_bytes([*high, *low])), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(len)?;
        self.0 = rest;
        Some((head[0], content))
    }

    /// The bytes of the next element, an INTEGER over zero in its shortest form, without the zero
    /// that keeps it positive.
    pub(super) fn take_positive(&mut self) -> Option<&'d [u8]> {
        match self.take(INTEGER)? {
            [0, rest @ ..] if rest.first().is_some_and(|first| *first >= 0x80) => Some(rest),
            bytes @ [0x01..=0x7f, ..] => Some(bytes),
            _ => None,
        }
    }
}
