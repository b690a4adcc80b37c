//! A walk through JSON that is known to be well-formed.

use std::borrow::Cow;
use std::collections::HashSet;

use smallvec::SmallVec;

use super::{Content, Entered, Tree, bad_body};
use crate::sender::request::json::Cursor;
use crate::sender::request::parameters::{self, ParameterError};

/// The place in a JSON text, and the tree that is made of it.
#[derive(Debug)]
pub(super) struct JsonWalk<'t, 'm> {
    tree: &'t mut Tree<'m>,
    cursor: Cursor<'m>,
}

impl<'t, 'm> JsonWalk<'t, 'm> {
    pub(super) fn new(tree: &'t mut Tree<'m>) -> Self {
        let cursor = Cursor::new(tree.message);
        Self { tree, cursor }
    }

    /// Reads the value that comes next into the open node.
    pub(super) fn value(&mut self) -> Result<(), ParameterError> {
        match self.cursor.peek() {
            Some(b'{') => self.object(),
            Some(b'[') => self.list(),
            _ => {
                let text = self.cursor.scalar().ok_or_else(bad_body)?;
                self.tree.set(Content::Text(text));
                Ok(())
            }
        }
    }

    fn object(&mut self) -> Result<(), ParameterError> {
        self.cursor.pass();
        let mut known = Names::default();
        loop {
            match self.cursor.peek() {
                Some(b'}') => break,
                Some(b',') => self.cursor.pass(),
                _ => {
                    let name = self.cursor.name().ok_or_else(bad_body)?;
                    if known.has(&name) {
                        return Err(parameters::repeated(&name));
                    }
                    self.cursor.pass_colon();
                    self.below(name.as_bytes())?;
                    known.add(name);
                }
            }
        }
        self.cursor.pass();
        if known.few.is_empty() {
            self.tree.set(Content::Empty);
        }
        Ok(())
    }

    fn list(&mut self) -> Result<(), ParameterError> {
        self.cursor.pass();
        let mut count = 0_usize;
        loop {
            match self.cursor.peek() {
                Some(b']') => break,
                Some(b',') => self.cursor.pass(),
                _ => {
                    self.below(count.to_string().as_bytes())?;
                    count += 1;
                }
            }
        }
        self.cursor.pass();
        if count == 0 {
            self.tree.set(Content::Empty);
        }
        Ok(())
    }

    /// Reads the value that `step` leads to.
    fn below(&mut self, step: &[u8]) -> Result<(), ParameterError> {
        match self.tree.enter(step) {
            Entered::Volatile => self.cursor.value().map(drop).ok_or_else(bad_body),
            Entered::Node => {
                self.value()?;
                self.tree.leave();
                Ok(())
            }
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
