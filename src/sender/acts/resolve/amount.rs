//! Amounts: decimal texts, compared without rounding.

use smallvec::SmallVec;

use crate::sender::language::recipe::Recipe;

/// The text of an amount; usual ones stay off the heap.
type AmountText = SmallVec<[u8; 32]>;

/// An amount without redundant zeros: equal amounts become equal texts. A text that is not a
/// decimal stays as it is.
pub(in crate::sender) fn plain_amount(amount: &str) -> AmountText {
    // A whole number without a sign or a zero in front, as nearly all are.
    if let [b'1'..=b'9', rest @ ..] = amount.as_bytes()
        && rest.iter().all(u8::is_ascii_digit)
    {
        let mut text = AmountText::from_slice(amount.as_bytes());
        text.push(b'.');
        return text;
    }
    let Some((negative, whole, fraction)) = decimal(amount) else {
        return AmountText::from_slice(amount.as_bytes());
    };
    let mut text = AmountText::new();
    if negative {
        text.push(b'-');
    }
    text.extend_from_slice(whole.as_bytes());
    text.push(b'.');
    text.extend_from_slice(fraction.as_bytes());
    text
}

/// Whether two amounts are equal as decimals, without rounding: `10` equals `10.0` and `010`. Other
/// texts (`1e1`, `10 coins`) equal only themselves.
pub(super) fn same_amount(one: &str, other: &str) -> bool {
    one == other || decimal(one).is_some_and(|one| Some(one) == decimal(other))
}

impl Recipe {
    /// Items whose pinned amount is not a decimal: a callback has to have the very same text.
    pub fn rewards_by_text(&self) -> impl Iterator<Item = &str> {
        let by_text = self.rewards.iter().filter(|(_, amount)| decimal(amount).is_none());
        by_text.map(|(item, _)| item.as_str())
    }
}

/// Sign, whole and fraction of a decimal text, without redundant zeros.
fn decimal(amount: &str) -> Option<(bool, &str, &str)> {
    let (negative, digits) = match amount.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, amount.strip_prefix('+').unwrap_or(amount)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !is_number(whole) || !is_number(fraction) {
        return None;
    }
    let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
    Some((negative && !(whole.is_empty() && fraction.is_empty()), whole, fraction))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_amounts_become_equal_texts() {
        let plain = |amount| String::from_utf8(plain_amount(amount).to_vec()).unwrap();
        assert_eq!(plain("010"), "10.");
        assert_eq!(plain("10"), "10.");
        assert_eq!(plain("1x"), "1x");
        assert_eq!(plain("-0.50"), "-.5");
        assert_eq!(plain("-0.0"), ".");
        assert_eq!(plain("1e1"), "1e1");
    }

    #[test]
    fn amounts_are_compared_as_decimals() {
        assert!(same_amount("10", "10.00"));
        assert!(same_amount("0.5", "0.50"));
        assert!(!same_amount("10", "1"));
        assert!(!same_amount("10", "10.001"));
        assert!(!same_amount("10", ""));
        assert!(same_amount("10", "10.000000") && same_amount("10", "+010"));
        assert!(same_amount("0", "-0.0") && !same_amount("10", "-10"));
        assert!(!same_amount("10", "1e1") && !same_amount("10", "10.") && same_amount("x", "x"));
    }
}
