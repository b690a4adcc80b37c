//! The roles of a callback: which text makes each of them, its value, and whether that is covered.

use smallvec::SmallVec;

use crate::sender::acts::identity::{IdentityCover, KeyFacts, KindCover};
use crate::sender::acts::outcome::Reason;
use crate::sender::acts::resolved::{Role, Span, Texts};
use crate::sender::acts::signature::SignatureVariant;
use crate::sender::language::bound::Bound;
use crate::sender::language::definition::{RoleText, Roles, Uncovered};
use crate::sender::request::Request;
use crate::sender::request::callback::{Callback, CallbackError};
use crate::sender::request::encoding;

/// The values of the roles of a callback.
pub(super) struct RoleValues {
    pub(super) texts: Texts,
    pub(super) roles: [Option<Span>; Role::ALL.len()],
    pub(super) positions: [Option<u32>; Role::ALL.len()],
    pub(super) authenticated: SmallVec<[Role; Role::ALL.len()]>,
    pub(super) escaped: SmallVec<[Role; 1]>,
}

impl RoleValues {
    /// No values, with room for texts of that many bytes.
    pub(super) fn new(bytes: usize) -> Self {
        Self {
            texts: Texts::with_capacity(bytes),
            roles: [None; Role::ALL.len()],
            positions: [None; Role::ALL.len()],
            authenticated: SmallVec::new(),
            escaped: SmallVec::new(),
        }
    }

    fn put(&mut self, role: Role, value: &str) {
        self.roles[role as usize] = Some(self.texts.put(value));
    }

    pub(super) fn get(&self, role: Role) -> Option<&str> {
        self.roles[role as usize].map(|span| self.texts.get(span))
    }
}

/// The text that made a role's value, among the texts of its layer.
#[derive(Clone, Copy)]
struct RoleChoice<'c> {
    texts: &'c [RoleText<Bound>],
    layer: RoleLayer,
    text: &'c RoleText<Bound>,
}

/// Which layer of a sender file a role's texts are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RoleLayer {
    Variant,
    Row,
    Kind,
    File,
}

impl<'a> Callback<'a> {
    /// Finds the value of each role, and which of them the signature covers by `facts`.
    pub(super) fn find_roles(
        &self,
        facts: Option<&KeyFacts<'_>>,
        found: &mut RoleValues,
    ) -> Result<(), CallbackError> {
        // Once for all values: nearly all of them are parts of it.
        let target = str::from_utf8(self.request.target).unwrap_or_default();
        for role in Role::ALL {
            let (texts, layer) = self.role_layer(self.matched_variant(), role);
            if texts.is_empty() {
                continue;
            }
            let Some((value, text)) = self.first_made(texts)? else { continue };
            let position = self.position(&value);
            let part = position.and_then(|at| target.get(at..)?.get(..value.len()));
            match part.map_or_else(|| str::from_utf8(&value), Ok) {
                Ok(value) => {
                    found.put(role, value);
                    found.positions[role as usize] = position.and_then(|at| u32::try_from(at).ok());
                }
                // Two transactions must never have one text.
                Err(_) if matches!(role, Role::Transaction | Role::Reverses) => {
                    return Err(CallbackError::of(Reason::BadEncoding, role.as_str()));
                }
                Err(_) => {
                    let mut escaped = Vec::new();
                    encoding::percent(&value, &mut escaped);
                    found.put(role, str::from_utf8(&escaped).unwrap_or_default());
                    found.escaped.push(role);
                }
            }
            let covers = |facts| self.covers_role(facts, role, RoleChoice { texts, layer, text });
            if facts.is_some_and(covers) {
                found.authenticated.push(role);
            }
        }
        Ok(())
    }

    /// The position of `value` in target and body, joined, if it is there as it
    /// is.
    #[inline]
    fn position(&self, value: &[u8]) -> Option<usize> {
        let Request { target, body, .. } = self.request;
        let within = |whole: &[u8]| {
            let at = (value.as_ptr() as usize).checked_sub(whole.as_ptr() as usize)?;
            (at + value.len() <= whole.len()).then_some(at)
        };
        within(target).or_else(|| within(body).map(|at| target.len() + at))
    }

    fn covers_role(&self, facts: &KeyFacts<'_>, role: Role, choice: RoleChoice<'_>) -> bool {
        if role == Role::Transaction && facts.identity == IdentityCover::Repeats {
            return false;
        }
        // What would be another transaction is rejected, so that this one is what was signed.
        let rejects = self.recipe.identity.uncovered == Uncovered::Rejected;
        if role == Role::Transaction && rejects && self.recipe.identity.by.is_empty() {
            return facts.identity == IdentityCover::Covered;
        }
        let RoleChoice { texts, layer, text } = choice;
        let of_kind = matches!(layer, RoleLayer::Kind | RoleLayer::Row);
        self.covers_text(facts.coverage, texts, text)
            && (!of_kind || facts.kind == KindCover::Covered)
    }

    /// The texts of `role`: those of the variant that matched, of the row, of the kind, or of the
    /// file.
    pub(in crate::sender) fn role_texts(&self, role: Role) -> &'a [RoleText<Bound>] {
        self.role_texts_under(self.matched_variant(), role)
    }

    /// The texts of `role` as if `variant` had matched.
    pub(in crate::sender) fn role_texts_under(
        &self,
        variant: Option<&'a SignatureVariant>,
        role: Role,
    ) -> &'a [RoleText<Bound>] {
        self.role_layer(variant, role).0
    }

    fn role_layer(
        &self,
        variant: Option<&'a SignatureVariant>,
        role: Role,
    ) -> (&'a [RoleText<Bound>], RoleLayer) {
        let of = |roles: &'a Roles<Bound>, layer| Some((&**roles.texts.get(role)?, layer));
        if let Some(variant) = variant
            && let Some(found) = of(&variant.roles, RoleLayer::Variant)
        {
            return found;
        }
        if let Some(row) = self.row_here() {
            if let Some(found) = of(&row.roles, RoleLayer::Row) {
                return found;
            }
            // What identifies an event of the table is its transaction.
            if role == Role::Transaction {
                return (&row.id, RoleLayer::Row);
            }
        }
        if let Some(kind) = self.kind_here()
            && let Some(found) = of(&kind.roles, RoleLayer::Kind)
        {
            return found;
        }
        of(&self.recipe.roles, RoleLayer::File).unwrap_or((&[], RoleLayer::File))
    }
}
