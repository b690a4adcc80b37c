//! `[each]`: a callback that brings several events in a list.

use super::reader::Reader;
use super::{Reads, Root, Sender};
use crate::sender::language::file;

/// Events of one callback, unless the file says another number: more than any sender documents for
/// one call of usual size.
const MOST_DEFAULT: usize = 100;
/// The highest number that a file may say: each event is a record of its own.
const MOST_MAX: usize = 1000;

/// The list whose elements are events.
///
/// A callback with several elements is read as so many callbacks, each with a list of one. So the
/// texts of the file read element 0, `{events.0.id}`, whatever the number of elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::sender) struct EventList {
    /// The member that is the list; `None`: the body itself is.
    pub(in crate::sender) of: Option<Box<str>>,
    /// Elements that one callback may have; with more it is rejected as `too_large`.
    pub(in crate::sender) most: usize,
}

impl EventList {
    pub(super) fn read(reader: &mut Reader, each: &file::EventList, root: Root) -> Self {
        let of = Some(each.of.as_str()).filter(|of| !of.is_empty());
        if of.is_some_and(|of| of.contains('.')) {
            reader.fault("each.of", "is a path", "name a member of the body itself");
        }
        if of.is_none() != (root == Root::List) {
            let remedy = "write of = \"\" and root = \"list\" where the body is the list";
            reader.fault("each.of", "does not fit the root", remedy);
        }
        let most = each.most.unwrap_or(MOST_DEFAULT);
        if !(1..=MOST_MAX).contains(&most) {
            let remedy = format!("write a number from 1 to {MOST_MAX}");
            reader.fault("each.most", &format!("is {most}"), &remedy);
        }
        Self { of: of.map(Into::into), most }
    }

    /// Reports what does not go together with several events.
    pub(super) fn check(reader: &mut Reader, sender: &Sender) {
        if sender.each.is_none() {
            return;
        }
        if !sender.reads.contains(&Reads::Json) {
            reader.fault("each", "needs a JSON body", "write reads = \"json\"");
        }
        if sender.open.is_some() {
            reader.fault("each", "is in a sealed message", "take out [each], or [open] and [jws]");
        }
    }
}
