//! A place in JSON that is known to be well-formed.

use std::borrow::Cow;

use crate::sender::request::parameters::Span;

/// Reads JSON that a parser has read before: it finds where values end, and checks nothing.
#[derive(Debug)]
pub(in crate::sender) struct Cursor<'j> {
    text: &'j [u8],
    at: usize,
}

impl<'j> Cursor<'j> {
    pub(in crate::sender) fn new(text: &'j [u8]) -> Self {
        Self { text, at: 0 }
    }

    /// The next byte that is not white space. The cursor stays there.
    pub(in crate::sender) fn peek(&mut self) -> Option<u8> {
        while self.text.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
        self.text.get(self.at).copied()
    }

    /// Passes one byte.
    pub(in crate::sender) fn pass(&mut self) {
        self.at += 1;
    }

    /// Passes white space and a colon.
    pub(in crate::sender) fn pass_colon(&mut self) {
        self.peek();
        self.pass();
    }

    /// The string, number or word that begins here, passed; `None` if none does.
    pub(in crate::sender) fn scalar(&mut self) -> Option<Span> {
        let from = self.at;
        let rest = self.text.get(from..)?;
        self.at += match rest.first()? {
            b'"' => string_len(rest),
            _ => rest.iter().position(|byte| ends(*byte)).unwrap_or(rest.len()),
        };
        (self.at > from).then(|| Span::new(from, self.at))
    }

    /// The member's name that begins here, decoded and passed; `None` if it has no text.
    pub(in crate::sender) fn name(&mut self) -> Option<Cow<'j, str>> {
        match self.scalar()?.of(self.text) {
            [b'"', inner @ .., b'"'] if memchr::memchr(b'\\', inner).is_none() => {
                str::from_utf8(inner).ok().map(Cow::Borrowed)
            }
            raw => serde_json::from_slice::<String>(raw).ok().map(Cow::Owned),
        }
    }

    /// The value that comes next, passed; `None` if none does.
    pub(in crate::sender) fn value(&mut self) -> Option<&'j [u8]> {
        self.peek();
        let from = self.at;
        let mut depth = 0_usize;
        loop {
            match self.peek()? {
                b'{' | b'[' => {
                    depth += 1;
                    self.pass();
                }
                b'}' | b']' => {
                    depth = depth.saturating_sub(1);
                    self.pass();
                }
                b',' | b':' => self.pass(),
                _ => {
                    self.scalar()?;
                }
            }
            if depth == 0 {
                return self.text.get(from..self.at);
            }
        }
    }
}

/// Whether a number or a word ends before `byte`.
fn ends(byte: u8) -> bool {
    byte.is_ascii_whitespace() || matches!(byte, b',' | b':' | b'{' | b'}' | b'[' | b']')
}

/// The length of the string that `text` begins with, quotes included.
fn string_len(text: &[u8]) -> usize {
    let rest = super::behind_string(text.get(1..).unwrap_or_default());
    text.len() - rest.len()
}
