//! Positions of the separators of a query or form, found 64 bytes at a time.
//!
//! A query has a separator every dozen bytes, for which a new search at each is too
//! slow. Here each byte of a block is compared, all alike, so that the compiler does it in vectors.

/// The bytes of a block: one bit of a word for each.
const BLOCK: usize = 64;

/// The separators in one block of a query or form.
#[derive(Clone, Copy, Debug)]
pub(in crate::sender) struct Block {
    start: u32,
    /// A bit for each `&` and `=`.
    separators: u64,
    /// Whether the block has a `%`, a `+` or a NUL.
    pub(in crate::sender) escaped: bool,
}

/// The blocks of `buffer`, whose end is known to be `end`.
#[inline]
pub(in crate::sender) fn blocks(buffer: &[u8], end: u32) -> impl Iterator<Item = Block> {
    (0..end).step_by(BLOCK).map(|start| Block::at(buffer, start))
}

impl Block {
    /// The block that starts at `start`. The last one is padded with the bytes before it.
    #[inline(always)]
    fn at(buffer: &[u8], start: u32) -> Self {
        let mut short = [b' '; BLOCK];
        let from = (start as usize).min(buffer.len().saturating_sub(BLOCK));
        let bytes = buffer[from..].first_chunk().unwrap_or_else(|| {
            short[..buffer.len()].copy_from_slice(buffer);
            &short
        });
        let is_separator = bytes.map(|byte| u8::from((byte == b'&') | (byte == b'=')));
        let is_escape = bytes.map(|byte| u8::from((byte == b'%') | (byte == b'+') | (byte == 0)));
        let separators = bits(&is_separator) >> (start as usize - from);
        let (words, _) = is_escape.as_chunks::<8>();
        let any = words.iter().fold(0, |any, word| any | u64::from_le_bytes(*word));
        Self { start, separators, escaped: any != 0 }
    }

    /// The positions of its separators in the buffer.
    #[inline]
    pub(in crate::sender) fn separators(self) -> impl Iterator<Item = u32> {
        let mut left = self.separators;
        std::iter::from_fn(move || {
            let at = left.trailing_zeros();
            // There is no lowest bit in 0.
            left &= left.checked_sub(1)?;
            Some(self.start + at)
        })
    }
}

/// Gives name and value of each pair of `buffer`, whose end is known to be `end`, to `take`. Of a
/// pair without `=` the value is empty.
///
/// # Errors
/// The first one of `take`.
#[inline]
pub(in crate::sender) fn for_each_pair<E>(
    buffer: &[u8],
    end: u32,
    mut take: impl FnMut(&[u8], &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let (mut start, mut equals) = (0, None);
    let marks = blocks(buffer, end).flat_map(Block::separators).chain([end]);
    marks.map(|mark| mark as usize).try_for_each(|mark| {
        if buffer.get(mark) == Some(&b'=') {
            equals.get_or_insert(mark);
            return Ok(());
        }
        let (pair, middle) = (start..mark, equals.take().unwrap_or(mark));
        start = mark + 1;
        if pair.is_empty() {
            return Ok(());
        }
        let value = buffer.get(middle + 1..mark).unwrap_or_default();
        take(&buffer[pair.start..middle], value)
    })
}

/// One bit for each byte, which is 0 or 1. Eight of them are brought together by a product that
/// adds each of them to its own bit of the highest byte.
#[inline]
fn bits(bytes: &[u8; BLOCK]) -> u64 {
    let (words, _) = bytes.as_chunks::<8>();
    words.iter().rev().fold(0, |bits, word| {
        let gathered = u64::from_le_bytes(*word).wrapping_mul(0x0102_0408_1020_4080) >> 56;
        bits << 8 | gathered
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(buffer: &[u8]) -> (Vec<usize>, bool) {
        let blocks = || blocks(buffer, u32::try_from(buffer.len()).unwrap());
        let separators = blocks().flat_map(Block::separators).map(|at| at as usize).collect();
        (separators, blocks().any(|block| block.escaped))
    }

    #[test]
    fn separators_are_found_wherever_they_stand() {
        for len in 0..200 {
            for at in 0..len {
                let mut buffer = vec![b'x'; len];
                buffer[at] = b'&';
                assert_eq!(found(&buffer), (vec![at], false));
                buffer[at] = 0;
                assert_eq!(found(&buffer), (vec![], true));
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn pairs_are_those_of_a_plain_split(buffer in "[ab&=]{0,150}") {
            let buffer = buffer.as_bytes();
            let mut found = Vec::new();
            let end = u32::try_from(buffer.len()).unwrap();
            let _ = for_each_pair(buffer, end, |name, value| {
                found.push((name.to_vec(), value.to_vec()));
                Ok::<(), ()>(())
            });
            let pairs = buffer.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty());
            let expected: Vec<_> = pairs
                .map(|pair| {
                    let middle = memchr::memchr(b'=', pair).unwrap_or(pair.len());
                    let value = pair.get(middle + 1..).unwrap_or_default();
                    (pair[..middle].to_vec(), value.to_vec())
                })
                .collect();
            proptest::prop_assert_eq!(found, expected);
        }

        #[test]
        fn a_plain_search_finds_the_same(buffer in "[a&=%+\0]{0,200}") {
            let buffer = buffer.as_bytes();
            let separators: Vec<_> = memchr::memchr2_iter(b'&', b'=', buffer).collect();
            let escaped = memchr::memchr3(b'%', b'+', 0, buffer).is_some();
            proptest::prop_assert_eq!(found(buffer), (separators, escaped));
        }
    }
}
