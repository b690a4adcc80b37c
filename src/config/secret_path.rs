//! Names of sources that are a protection: random, so that no attacker finds the URL, and therefore
//! as secret as a token.

use sha2::{Digest as _, Sha256};

/// Hexadecimal digits in one run that make a name unguessable: 128 bits, `openssl rand -hex 16`.
pub(super) const HEX_DIGITS: usize = 32;

/// The same in the digits of base64url: 132 bits.
pub(super) const BASE64_DIGITS: usize = 22;

/// Different digits of such a run, at least: a random run of 32 hexadecimal digits has 14 on
/// average, and fewer than eight in one of a million million cases.
const HEX_DISTINCT_MIN: usize = 8;

/// Neighbours of such a run that are equal or next to each other in the order of digits, at most:
/// of 31 pairs a random run has six on average, and more than 18 in one of a million runs.
const HEX_STEPS_SHARE: (usize, usize) = (3, 5);

/// Digits that spell a word to programmers, from eight on: a random run has one of them by chance
/// in one of ten million cases.
const HEX_WORDS: [&[u8]; 11] = [
    b"deadbeef",
    b"cafebabe",
    b"cafed00d",
    b"baadf00d",
    b"8badf00d",
    b"feedface",
    b"facefeed",
    b"deadc0de",
    b"defec8ed",
    b"c0ffeeee",
    b"badc0ffe",
];

/// Changes between capital, small, digit and sign in 22 digits of base64url, at least: random ones
/// have 13 on average, words with a number behind them have half as many.
const BASE64_CHANGES_MIN: usize = 10;

/// Digits of a name that a word may share with it: they tell no more of it than its digest does.
const SHARED_DIGITS: usize = 8;

/// Bytes of a name's digest that are shown in its place: enough to tell sources apart.
const DIGEST_BYTES: usize = 6;

/// Whether `name` holds at least 128 random bits in one run.
#[must_use]
pub fn is_secret_path(name: &str) -> bool {
    runs(name, |byte| byte.is_ascii_hexdigit()).any(is_random_hex)
        || name.as_bytes().windows(BASE64_DIGITS).any(is_random_base64)
}

/// The replacement of such a name wherever it is shown to a caller without a token.
#[must_use]
pub fn digest_of(name: &str) -> String {
    let digest = Sha256::digest(name);
    format!("secret-{}", const_hex::encode(&digest[..DIGEST_BYTES]))
}

/// `path` with each segment that could be such a name replaced by its digest.
#[must_use]
pub fn concealed(path: &str) -> String {
    let shown = |segment: &str| match is_secret_path(segment) {
        true => digest_of(segment),
        false => segment.to_owned(),
    };
    path.split('/').map(shown).collect::<Vec<_>>().join("/")
}

/// The random runs of `name`.
fn random_runs(name: &str) -> Vec<&[u8]> {
    let hex = runs(name, |byte| byte.is_ascii_hexdigit()).filter(|run| is_random_hex(run));
    let base64 = runs(name, |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    let base64 = base64.filter(|run| run.windows(BASE64_DIGITS).any(is_random_base64));
    let hex: Vec<&[u8]> = hex.collect();
    if hex.is_empty() { base64.collect() } else { hex }
}

/// `text` with a digest in place of each word that shares `SHARED_DIGITS` digits with the random
/// part of `name`, whatever their case: a mistyped name is as secret as the rest of it. `None`:
/// there are no such words.
#[must_use]
pub fn without_name(text: &[u8], name: &str) -> Option<Vec<u8>> {
    let lower = text.to_ascii_lowercase();
    let own = name.to_ascii_lowercase();
    let mut found: Vec<usize> = Vec::new();
    for run in random_runs(name) {
        let run = run.to_ascii_lowercase();
        for digits in run.windows(SHARED_DIGITS) {
            found.extend(memchr::memmem::find_iter(&lower, digits));
        }
    }
    found.extend(memchr::memmem::find_iter(&lower, own.as_bytes()));
    if found.is_empty() {
        return None;
    }
    found.sort_unstable();
    let label = digest_of(name);
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let (mut out, mut from) = (Vec::with_capacity(text.len()), 0);
    for at in found {
        if at < from {
            continue;
        }
        let before = text[from..at].iter().rev().take_while(|byte| is_word(byte)).count();
        let after = text[at..].iter().take_while(|byte| is_word(byte)).count();
        out.extend_from_slice(&text[from..at - before]);
        out.extend_from_slice(label.as_bytes());
        from = at + after;
    }
    out.extend_from_slice(&text[from..]);
    Some(out)
}

fn runs(name: &str, fits: impl Fn(u8) -> bool) -> impl Iterator<Item = &[u8]> {
    name.as_bytes().split(move |byte| !fits(*byte))
}

/// Words are not made of the letters a to f, and numbers repeat digits.
fn is_random_hex(run: &[u8]) -> bool {
    run.len() >= HEX_DIGITS
        && distinct(run) >= HEX_DISTINCT_MIN
        && run.iter().any(u8::is_ascii_digit)
        && run.iter().any(u8::is_ascii_alphabetic)
        && !is_trivial_hex(run)
}

/// Whether a run repeats itself, counts up or down, or spells a word.
fn is_trivial_hex(run: &[u8]) -> bool {
    let run = run.to_ascii_lowercase();
    let repeats = (1..=run.len() / 2).any(|period| run[period..] == run[..run.len() - period]);
    let value = |byte: &u8| char::from(*byte).to_digit(16).unwrap_or_default();
    let is_step = |pair: &[u8]| matches!(value(&pair[0]).abs_diff(value(&pair[1])), 0 | 1 | 15);
    let steps = run.windows(2).filter(|pair| is_step(pair)).count();
    let (most, of) = HEX_STEPS_SHARE;
    let counts = steps * of > (run.len() - 1) * most;
    let spells = HEX_WORDS.iter().any(|word| memchr::memmem::find(&run, word).is_some());
    repeats || counts || spells
}

fn is_random_base64(window: &[u8]) -> bool {
    let class = |byte: &u8| match byte {
        b'A'..=b'Z' => Some(0),
        b'a'..=b'z' => Some(1),
        b'0'..=b'9' => Some(2),
        b'-' | b'_' => Some(3),
        _ => None,
    };
    let classes: Option<Vec<u8>> = window.iter().map(class).collect();
    classes.is_some_and(|classes| {
        [0, 1, 2].iter().all(|class| classes.contains(class))
            && classes.windows(2).filter(|pair| pair[0] != pair[1]).count() >= BASE64_CHANGES_MIN
            && distinct(window) >= BASE64_DIGITS / 2
    })
}

fn distinct(bytes: &[u8]) -> usize {
    let mut seen = [false; 256];
    bytes.iter().for_each(|byte| seen[usize::from(*byte)] = true);
    seen.iter().filter(|seen| **seen).count()
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;

    #[test]
    fn words_and_numbers_are_no_secret() {
        for guessable in [
            "reward-callback-production-2026",
            "the-survey-of-the-summer-campaign",
            "level-end-20260101-20260630-00001",
            "Reward-Callback-Production-2026-V2",
            "00000000000000000000000000000000",
            "12345678901234567890123456789012",
            "abcdefabcdefabcdefabcdefabcdefab",
            "survey-7f9c2e41d8b3a650c4e1",
            "deadbeefdeadbeefdeadbeefdeadbeef",
            "DEADBEEF0123456789abcdefcafebabe",
            "deadbeef9f3b71c0e2d84a55aabbccdd",
            "0123456789abcdef0123456789abcdef",
            "fedcba9876543210fedcba9876543210",
            "9f3b71c0e2d84a569f3b71c0e2d84a56",
            "00112233445566778899aabbccddeeff",
            "level-end-0123456789abcdef0123456789abcdef",
            "",
        ] {
            assert!(!is_secret_path(guessable), "{guessable}");
        }
        let name = "survey-9f3b71c0e2d84a5566778899aabbccdd";
        assert!(is_secret_path(name));
        assert!(is_secret_path("9F3B71C0E2D84A5566778899AABBCCDD"));
        let shown = concealed(&format!("/callback/{name}/"));
        assert_eq!(shown, format!("/callback/{}/", digest_of(name)));
        assert_eq!(concealed("/callback/level-end"), "/callback/level-end");
    }

    #[test]
    fn what_is_nearly_such_a_name_is_not_shown_either() {
        let name = "survey-9f3b71c0e2d84a5566778899aabbccdd";
        let upper = name.to_uppercase();
        let said = format!("no {} but {name}, {upper}x or 9f3b71c0.", &name[..38]);
        let shown = without_name(said.as_bytes(), name).unwrap();
        let digest = digest_of(name);
        let expected = format!("no {digest} but {digest}, {digest} or {digest}");
        assert_eq!(String::from_utf8(shown).unwrap(), expected);
        for kept in ["survey-9f3b71c", "a survey", ""] {
            assert_eq!(without_name(kept.as_bytes(), name), None, "{kept}");
        }
        let name = "q_Zk3vT9xQ7pLw2RmA8sYdUe";
        assert!(is_secret_path(name));
        assert!(without_name(b"it is zk3vT9xQ.", name).is_some());
    }

    #[test]
    fn random_names_are() {
        let mut known = 0;
        for seed in 0..1000_u32 {
            let random: [u8; 32] = Sha256::digest(seed.to_be_bytes()).into();
            assert!(is_secret_path(&const_hex::encode(&random[..16])), "{seed}");
            known += usize::from(is_secret_path(&URL_SAFE_NO_PAD.encode(random)));
        }
        assert!(known > 990, "43 digits of base64url hold a window that is seen: {known}");
    }
}
