//! The word that a person probably meant.

/// The one of `known` that a person who typed `word` probably meant: a slip of the pen, or the same
/// word in the plural.
#[must_use]
pub fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let word = word.to_lowercase();
    let is_number_alone = |name: &&&str| is_plural(&word, name) || is_plural(name, &word);
    if let Some(name) = known.iter().find(is_number_alone) {
        return Some(*name);
    }
    let distance = |name: &str| strsim::damerau_levenshtein(&word, name);
    let near = known.iter().map(|name| (distance(name), *name)).min()?;
    (near.0 <= ((word.len().max(near.1.len()) + 1) / 3).max(1)).then_some(near.1)
}

/// The remedy for `word`, which is none of `known`: the one that was probably meant, or all of them.
pub(in crate::sender) fn meant(word: &str, known: &[&str]) -> String {
    match nearest(word, known) {
        Some(near) => format!("did you mean {near}?"),
        None => format!("known here: {}", known.join(", ")),
    }
}

/// Whether `many` is the plural of `one`.
fn is_plural(many: &str, one: &str) -> bool {
    let of_y = || many.strip_suffix("ies").zip(one.strip_suffix('y'));
    many.strip_suffix('s') == Some(one) || of_y().is_some_and(|(many, one)| many == one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_pen_is_recognised_and_another_word_is_not() {
        let known = ["callbacks", "admin", "drain", "tls", "reply"];
        assert_eq!(nearest("calbacks", &known), Some("callbacks"));
        assert_eq!(nearest("Admin", &known), Some("admin"));
        assert_eq!(nearest("lts", &known), Some("tls"));
        assert_eq!(nearest("database", &known), None);
    }

    #[test]
    fn a_plural_is_the_same_word() {
        assert_eq!(nearest("replies", &["retry", "reply"]), Some("reply"));
        assert_eq!(nearest("Vectors", &["vector"]), Some("vector"));
        assert_eq!(nearest("event", &["even", "events"]), Some("events"));
    }
}
