//! Missing parameters that the sender always sends.

use crate::sender::acts::explain::advice::Advice;
use crate::sender::acts::explain::{Mistake, MistakeKind};
use crate::sender::acts::signature::SignatureVariant;
use crate::sender::language::bound::Scope;
use crate::sender::request::callback::Callback;

/// Names that one sentence holds.
const NAMED_MAX: usize = 6;

/// The parameters that every callback of the sender has and this one lacks.
pub(super) fn parameters(callback: &Callback<'_>) -> Option<Mistake> {
    let recipe = callback.recipe;
    // Where a text names what it signs, the reason says what is missing.
    let is_blind = |variant: &SignatureVariant| {
        variant.signed.reads_any_name() && !variant.signed.reads_body()
    };
    if !recipe.variants.iter().any(is_blind) {
        return None;
    }
    let (parameters, buffers) = callback.side(Scope::Outer);
    let shapes = recipe.sender.shapes.of.iter();
    let needed = shapes.filter(|(_, shape)| !shape.may_be_absent());
    let lacking: Vec<&str> = needed
        .map(|(name, _)| recipe.renames.get(name).map_or(name.as_str(), String::as_str))
        .filter(|name| !name.contains('.') && parameters.find(name.as_bytes(), buffers).is_none())
        .collect();
    let named: Vec<String> = lacking.iter().map(|name| format!("`{name}`")).collect();
    let shown = named.get(..NAMED_MAX).unwrap_or(&named);
    let is_cut = named.len() > NAMED_MAX;
    let (verb, object) = if lacking.len() == 1 { ("is", "it") } else { ("are", "them") };
    let advice = Advice::new(
        format!(
            "{}{} {verb} not there, and the sender sends {object} with every callback: this one \
             was cut on the way, or made manually.",
            shown.join(", "),
            if is_cut { ", …" } else { "" }
        ),
        format!(
            "缺少 {}{}，而该发送方的每个回调都带有这些参数：此回调在途中被截断，或是手工构造的。",
            shown.join("、"),
            if is_cut { " 等" } else { "" }
        ),
    );
    let first = lacking.first()?;
    Some(Mistake::new(MistakeKind::MissingParameters, Some(first), advice))
}
