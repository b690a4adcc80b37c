//! A message as a tree of spans: no value is copied, and no path is written out.

mod json_walk;

use std::borrow::Cow;
use std::collections::HashMap;

use quick_xml::Reader;
use quick_xml::events::Event;

use self::json_walk::JsonWalk;
use crate::sender::acts::outcome::Reason;
use crate::sender::request::encoding::{self, Plus};
use crate::sender::request::parameters::{ParameterError, Place, Span};
use crate::sender::request::{json, xml};

/// Leaves without a text. No JSON text of a provider begins with a NUL.
const NULL: &[u8] = b"\0null";
const EMPTY: &[u8] = b"\0empty";

/// The largest message: a span of all steps, with the numbers of items, has 32 bits. Bodies are
/// much smaller.
const MESSAGE_MAX: usize = u32::MAX as usize / 16;

/// A message as a tree, in the order of its text.
#[derive(Debug)]
pub(super) struct Tree<'m> {
    message: &'m [u8],
    place: Place,
    volatile: &'m [String],
    /// The steps of all nodes, one after another.
    steps: Vec<u8>,
    nodes: Vec<Node>,
    /// The nodes from the root to the one that is read.
    open: Vec<usize>,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    /// The step that leads to it.
    step: Span,
    content: Content,
    /// The index after its last descendant.
    end: u32,
}

#[derive(Clone, Copy, Debug)]
enum Content {
    /// Other nodes, or nothing that counts.
    Nodes,
    /// An object or a list without members.
    Empty,
    /// A text, as it is spelled.
    Text(Span),
}

/// Whether a node was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entered {
    Node,
    /// No: the value changes when a provider repeats a message.
    Volatile,
}

fn bad_body() -> ParameterError {
    ParameterError::new(Reason::BadBody)
}

impl<'m> Tree<'m> {
    /// The node of the whole message.
    pub(super) const ROOT: usize = 0;

    /// Reads `message`, in the format of `place`, without the `volatile` members.
    ///
    /// # Errors
    /// See [`super::digest`].
    pub(super) fn read(
        message: &'m [u8],
        place: Place,
        volatile: &'m [String],
    ) -> Result<Self, ParameterError> {
        if message.len() > MESSAGE_MAX {
            return Err(ParameterError::new(Reason::TooLarge));
        }
        let (steps, nodes, open) = (Vec::new(), Vec::new(), Vec::new());
        let mut tree = Self { message, place, volatile, steps, nodes, open };
        tree.push(&[]);
        match place {
            Place::Json => tree.read_json()?,
            Place::Xml => tree.read_xml()?,
            Place::Query | Place::Form => tree.read_form(),
        }
        tree.leave();
        Ok(tree)
    }

    /// The step that leads to a node.
    pub(super) fn step(&self, node: usize) -> &[u8] {
        self.nodes.get(node).map_or(&[], |node| node.step.of(&self.steps))
    }

    /// The nodes right below a node.
    pub(super) fn children(&self, node: usize) -> impl Iterator<Item = usize> {
        let end = self.nodes.get(node).map_or(0, |node| node.end as usize);
        let mut next = node + 1;
        std::iter::from_fn(move || {
            let child = (next < end).then_some(next)?;
            next = self.nodes.get(child)?.end as usize;
            Some(child)
        })
    }

    /// The text of a node, if it is a leaf.
    ///
    /// # Errors
    /// `bad_body` if it cannot be decoded.
    pub(super) fn text(&self, node: usize) -> Result<Option<Cow<'m, [u8]>>, ParameterError> {
        let text = match self.nodes.get(node).map(|node| node.content) {
            None | Some(Content::Nodes) => return Ok(None),
            Some(Content::Empty) => return Ok(Some(Cow::Borrowed(EMPTY))),
            Some(Content::Text(span)) => span.of(self.message),
        };
        Ok(Some(match self.place {
            Place::Json => json_text(text),
            Place::Xml => xml::text(text).map_err(|_| bad_body())?,
            Place::Query | Place::Form => encoding::unpercented(text, Plus::Space),
        }))
    }

    fn push(&mut self, step: &[u8]) {
        let from = self.steps.len();
        self.steps.extend_from_slice(step);
        let step = Span::new(from, self.steps.len());
        self.open.push(self.nodes.len());
        self.nodes.push(Node { step, content: Content::Nodes, end: 0 });
    }

    /// Opens a node below the one that is read, unless it is volatile.
    fn enter(&mut self, step: &[u8]) -> Entered {
        self.push(step);
        if !self.is_volatile() {
            return Entered::Node;
        }
        self.open.pop();
        if let Some(node) = self.nodes.pop() {
            self.steps.truncate(node.step.start());
        }
        Entered::Volatile
    }

    fn leave(&mut self) {
        let end = u32::try_from(self.nodes.len()).unwrap_or(u32::MAX);
        if let Some(node) = self.open.pop().and_then(|at| self.nodes.get_mut(at)) {
            node.end = end;
        }
    }

    /// Sets what the node that is read holds.
    fn set(&mut self, content: Content) {
        if let Some(node) = self.open.last().and_then(|at| self.nodes.get_mut(*at)) {
            node.content = content;
        }
    }

    /// Whether the value that is read changes when a provider repeats a message.
    fn is_volatile(&self) -> bool {
        let is_here = |name: &String| {
            let mut rest = Some(name.as_bytes());
            // Step by step: a callback may have as many values as bytes, and most differ at once.
            let steps = self.open.iter().skip(1).all(|node| {
                let Some(after) = rest.and_then(|rest| rest.strip_prefix(self.step(*node))) else {
                    return false;
                };
                rest = after.strip_prefix(b".").or(after.is_empty().then_some(after));
                rest.is_some()
            });
            steps && rest.is_some_and(<[u8]>::is_empty) && !name.ends_with('.')
        };
        self.volatile.iter().any(is_here)
    }

    fn read_json(&mut self) -> Result<(), ParameterError> {
        let text = self.message.trim_ascii();
        match text.first() {
            Some(b'{' | b'[') if json::is_well_formed(text) => JsonWalk::new(self).value(),
            Some(b'{' | b'[') | None => Err(bad_body()),
            Some(_) => {
                self.set(Content::Text(json::span(self.message, text)));
                Ok(())
            }
        }
    }

    fn read_form(&mut self) {
        let pairs = self.message.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty());
        for pair in pairs {
            let equals = memchr::memchr(b'=', pair).unwrap_or(pair.len());
            let name = encoding::unpercented(&pair[..equals], Plus::Space);
            if self.enter(&name) == Entered::Node {
                let value = pair.get(equals + 1..).filter(|value| !value.is_empty());
                let span = value.map(|value| json::span(self.message, value));
                self.set(Content::Text(span.unwrap_or_default()));
                self.leave();
            }
        }
    }

    /// Reads the content of the root.
    fn read_xml(&mut self) -> Result<(), ParameterError> {
        let message = self.message;
        let children = xml::children_of_root(message).ok_or_else(bad_body)?;
        let text = str::from_utf8(message).map_err(|_| bad_body())?;
        let mut known = HashMap::new();
        for (name, inner) in children {
            let depth = self.open.len();
            if self.enter_element(name.of(message), &mut known) == Entered::Node {
                let held = match text.get(inner.start()..inner.end()) {
                    Some(text) => self.read_elements(&mut XmlWalk::new(text, inner.start()))?,
                    None => Held::Text(inner),
                };
                if let Held::Text(_) = held {
                    self.set(Content::Text(inner));
                }
            }
            self.leave_to(depth);
        }
        Ok(())
    }

    /// Reads the elements in the one that is read, up to its end.
    fn read_elements(&mut self, walk: &mut XmlWalk<'m>) -> Result<Held, ParameterError> {
        let from = walk.position();
        let mut known = HashMap::new();
        loop {
            let to = walk.position();
            let depth = self.open.len();
            match walk.reader.read_event().map_err(|_| bad_body())? {
                Event::Start(start) => {
                    match self.enter_element(walk.name(start.name().0)?, &mut known) {
                        Entered::Volatile => {
                            walk.reader.read_to_end(start.name()).map_err(|_| bad_body())?;
                        }
                        Entered::Node => {
                            walk.depth += 1;
                            if let Held::Text(text) = self.read_elements(walk)? {
                                self.set(Content::Text(text));
                            }
                        }
                    }
                }
                Event::Empty(start) => {
                    let entered = self.enter_element(walk.name(start.name().0)?, &mut known);
                    if entered == Entered::Node {
                        self.set(Content::Text(Span::default()));
                    }
                }
                Event::Eof if walk.depth > 0 => return Err(bad_body()),
                Event::End(_) | Event::Eof => {
                    walk.depth = walk.depth.saturating_sub(1);
                    let is_text = known.is_empty();
                    return Ok(if is_text { Held::Text(walk.span(from, to)) } else { Held::Nodes });
                }
                _ => {}
            }
            self.leave_to(depth);
        }
    }

    /// Opens the node of an element. A repeated one is numbered by the earlier ones of its name.
    fn enter_element<'n>(
        &mut self,
        name: &'n [u8],
        known: &mut HashMap<&'n [u8], usize>,
    ) -> Entered {
        let count = known.entry(name).or_default();
        let earlier = *count;
        *count += 1;
        match self.enter(name) {
            Entered::Node if earlier > 0 => self.enter(earlier.to_string().as_bytes()),
            entered => entered,
        }
    }

    fn leave_to(&mut self, depth: usize) {
        while self.open.len() > depth {
            self.leave();
        }
    }
}

/// The content of an element.
#[derive(Clone, Copy, Debug)]
enum Held {
    Nodes,
    Text(Span),
}

/// The place in the content of a child of an XML root.
struct XmlWalk<'m> {
    reader: Reader<&'m [u8]>,
    text: &'m str,
    /// Where the content begins in the message.
    start: usize,
    /// Elements that are open.
    depth: usize,
}

impl<'m> XmlWalk<'m> {
    fn new(text: &'m str, start: usize) -> Self {
        Self { reader: Reader::from_str(text), text, start, depth: 0 }
    }

    fn position(&self) -> usize {
        usize::try_from(self.reader.buffer_position()).unwrap_or(usize::MAX)
    }

    fn span(&self, from: usize, to: usize) -> Span {
        Span::new(self.start.saturating_add(from), self.start.saturating_add(to))
    }

    /// The name of an element, as a slice of the text that it was read from.
    fn name(&self, name: &str) -> Result<&'m [u8], ParameterError> {
        let span = json::span(self.text.as_bytes(), name.as_bytes());
        self.text.as_bytes().get(span.start()..span.end()).ok_or_else(bad_body)
    }
}

/// A JSON text decoded; what has no text, as it is spelled: lone surrogates differ in that.
fn json_text(text: &[u8]) -> Cow<'_, [u8]> {
    match encoding::json_text(text) {
        Ok(Some(Cow::Owned(value))) if str::from_utf8(&value).is_err() => Cow::Borrowed(text),
        Ok(Some(value)) => value,
        Ok(None) => Cow::Borrowed(NULL),
        Err(_) => Cow::Borrowed(text),
    }
}
