//! A walk through JSON that is known to be well-formed.

use std::borrow::Cow;
use std::collections::HashSet;

use smallvec::SmallVec;

use super::{Content, Entered, Tree, bad_body};
use crate::sender::request::parameters::{self, ParameterError, Span};

/// The place in a JSON text, and the tree that is made of it.
#[derive(Debug)]
pub(super) struct JsonWalk<'t, 'm> {
    tree: &'t mut Tree<'m>,
    text: &'m [u8],
    at: usize,
}

impl<'t, 'm> JsonWalk<'t, 'm> {
    pub(super) fn new(tree: &'t mut Tree<'m>) -> Self {
        let text = tree.message;
        Self { tree, text, at: 0 }
    }

    /// Reads the value that comes next into the open node.
    pub(super) fn value(&mut self) -> Result<(), ParameterError> {
        match self.peek() {
            Some(b'{') => self.object(),
            Some(b'[') => self.list(),
            _ => {
                let text = self.scalar()?;
                self.tree.set(Content::Text(text));
                Ok(())
            }
        }
    }

    fn object(&mut self) -> Result<(), ParameterError> {
        self.at += 1;
        let mut known = Names::default();
        loop {
            match self.peek() {
                Some(b'}') => break,
                Some(b',') => self.at += 1,
                _ => {
                    let name = self.name()?;
                    if known.has(&name) {
                        return Err(parameters::repeated(&name));
                    }
                    // The colon.
                    self.peek();
                    self.at += 1;
                    self.below(name.as_bytes())?;
                    known.add(name);
                }
            }
        }
        self.at += 1;
        if known.few.is_empty() {
            self.tree.set(Content::Empty);
        }
        Ok(())
    }

    fn list(&mut self) -> Result<(), ParameterError> {
        self.at += 1;
        let mut count = 0_usize;
        loop {
            match self.peek() {
                Some(b']') => break,
                Some(b',') => self.at += 1,
                _ => {
                    self.below(count.to_string().as_bytes())?;
                    count += 1;
                }
            }
        }
        self.at += 1;
        if count == 0 {
            self.tree.set(Content::Empty);
        }
        Ok(())
    }

    /// Reads the value that `step` leads to.
    fn below(&mut self, step: &[u8]) -> Result<(), ParameterError> {
        match self.tree.enter(step) {
            Entered::Volatile => self.skip(),
            Entered::Node => {
                self.value()?;
                self.tree.leave();
                Ok(())
            }
        }
    }

    fn skip(&mut self) -> Result<(), ParameterError> {
        let mut depth = 0_usize;
        loop {
            match self.peek() {
                Some(b'{' | b'[') => {
                    depth += 1;
                    self.at += 1;
                }
                Some(b'}' | b']') => {
                    depth = depth.saturating_sub(1);
                    self.at += 1;
                }
                Some(b',' | b':') => self.at += 1,
                _ => {
                    self.scalar()?;
                }
            }
            if depth == 0 {
                return Ok(());
            }
        }
    }

    /// The next byte that is not white space.
    fn peek(&mut self) -> Option<u8> {
        while self.text.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
        self.text.get(self.at).copied()
    }

    /// The string, number or word that begins here.
    fn scalar(&mut self) -> Result<Span, ParameterError> {
        let from = self.at;
        let rest = self.text.get(from..).unwrap_or_default();
        self.at += match rest.first() {
            Some(b'"') => string_len(rest),
            _ => rest.iter().position(|byte| ends(*byte)).unwrap_or(rest.len()),
        };
        if self.at == from {
            return Err(bad_body());
        }
        Ok(Span::new(from, self.at))
    }

    /// The name that begins here, decoded.
    fn name(&mut self) -> Result<Cow<'m, str>, ParameterError> {
        let raw = self.scalar()?.of(self.text);
        match raw {
            [b'"', inner @ .., b'"'] if memchr::memchr(b'\\', inner).is_none() => {
                str::from_utf8(inner).map(Cow::Borrowed).map_err(|_| bad_body())
            }
            _ => serde_json::from_slice::<String>(raw).map(Cow::Owned).map_err(|_| bad_body()),
        }
    }
}

/// Names that are compared one by one: about as many as that is faster for than a hash.
const FEW_NAMES: usize = 16;

/// The names of an object's members.
#[derive(Default)]
struct Names<'m> {
    few: SmallVec<[Cow<'m, str>; FEW_NAMES]>,
    rest: HashSet<Cow<'m, str>>,
}

impl<'m> Names<'m> {
    fn has(&self, name: &str) -> bool {
        self.few.iter().any(|known| known == name) || self.rest.contains(name)
    }

    fn add(&mut self, name: Cow<'m, str>) {
        if self.few.len() < FEW_NAMES {
            self.few.push(name);
        } else {
            self.rest.insert(name);
        }
    }
}

/// Whether a number or a word ends before `byte`.
fn ends(byte: u8) -> bool {
    byte.is_ascii_whitespace() || matches!(byte, b',' | b':' | b'{' | b'}' | b'[' | b']')
}

/// The length of the string that `text` begins with, quotes included.
fn string_len(text: &[u8]) -> usize {
    let mut at = 1;
    while let Some(found) = text.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
        at += found;
        if text.get(at) == Some(&b'"') {
            return at + 1;
        }
        at += 2;
    }
    text.len()
}
