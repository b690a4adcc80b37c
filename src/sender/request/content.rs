//! The digest of a message's content, independent of its spelling: [`digest`].
//!
//! Path and text of every leaf, sorted by path. The order of members, white space, escapes, CDATA
//! and sealing make no difference. Lists keep their order. Volatile members are left out.
//!
//! The message is read once, into a tree, and the hash is fed from there: no path is written out
//! for each of its leaves.

#[cfg(test)]
mod oracle;
#[cfg(test)]
mod tests;
mod tree;

use std::borrow::Cow;

use sha2::{Digest as _, Sha256};
use smallvec::SmallVec;

use self::tree::Tree;
use super::callback::Proven;
use super::parameters::{ParameterError, Place};
use crate::sender::acts::outcome::Reason;

/// Bytes that are hashed for each byte of a message. A path is hashed again for each of its leaves,
/// so a long name around many values would make gigabytes. Messages of objects need about five.
const SPREAD_MAX: usize = 256;

/// A shorter message counts as one of this size: that costs about four milliseconds.
const SPREAD_SHORT: usize = 16 * 1024;

/// The digest of `message`, in the format of `place`, without the `volatile` members. Only for a
/// proven callback: any caller could ask for the work.
///
/// # Errors
/// `bad_body` if it is not written so, `repeated_parameter` if a JSON member repeats, `too_large`
/// if its names are too long for so many values.
pub(in crate::sender) fn digest(
    _: &Proven,
    message: &[u8],
    place: Place,
    volatile: &[String],
) -> Result<[u8; 32], ParameterError> {
    let tree = Tree::read(message, place, volatile)?;
    let left = message.len().max(SPREAD_SHORT).saturating_mul(SPREAD_MAX);
    let mut spread = Spread { hash: Sha256::new(), path: Vec::new(), left };
    spread.put_nodes(&tree, &[Tree::ROOT])?;
    Ok(spread.hash.finalize().into())
}

/// Leaves on their way into the hash.
struct Spread {
    hash: Sha256,
    /// Each step to the node with its length in front.
    path: Vec<u8>,
    /// Bytes that may still be hashed.
    left: usize,
}

impl Spread {
    /// Hashes everything under one path. Several nodes have the same one if a form repeats a name,
    /// or an element is called like the number of another.
    fn put_nodes(&mut self, tree: &Tree<'_>, nodes: &[usize]) -> Result<(), ParameterError> {
        let mut texts: SmallVec<[Cow<'_, [u8]>; 1]> = SmallVec::new();
        for node in nodes {
            texts.extend(tree.text(*node)?);
        }
        texts.sort_unstable();
        for text in &texts {
            self.put_leaf(text)?;
        }
        let mut children: Vec<usize> = nodes.iter().flat_map(|node| tree.children(*node)).collect();
        // As paths with their lengths in front are sorted.
        children.sort_unstable_by(|one, other| {
            let (one, other) = (tree.step(*one), tree.step(*other));
            one.len().cmp(&other.len()).then_with(|| one.cmp(other))
        });
        for same in children.chunk_by(|one, other| tree.step(*one) == tree.step(*other)) {
            let Some(first) = same.first() else { continue };
            let (before, step) = (self.path.len(), tree.step(*first));
            self.path.extend_from_slice(&(step.len() as u32).to_be_bytes());
            self.path.extend_from_slice(step);
            self.put_nodes(tree, same)?;
            self.path.truncate(before);
        }
        Ok(())
    }

    fn put_leaf(&mut self, text: &[u8]) -> Result<(), ParameterError> {
        let parts = [self.path.as_slice(), text];
        let bytes: usize = parts.iter().map(|part| size_of::<u64>() + part.len()).sum();
        self.left = self.left.checked_sub(bytes).ok_or_else(|| ParameterError {
            reason: Reason::TooLarge,
            parameter: Some(String::from("[content]")),
        })?;
        for part in parts {
            self.hash.update((part.len() as u64).to_le_bytes());
            self.hash.update(part);
        }
        Ok(())
    }
}
