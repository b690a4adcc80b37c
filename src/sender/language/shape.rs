//! How a list is written, shown by example: `k=v&k=v`, `kvkv`, `vv`, `k,v k,v`.

use crate::sender::request::encoding::{self, Sink};

/// The separators of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::sender) struct Shape {
    /// The separator of a name and its value; `None` if names are not written.
    pub(in crate::sender) within: Option<Box<[u8]>>,
    /// The separator of two pairs.
    pub(in crate::sender) between: Box<[u8]>,
}

impl Shape {
    /// Reads the example; `None` when it is none.
    pub(in crate::sender) fn parse(example: &str) -> Option<Self> {
        if let Some(rest) = example.strip_prefix('k') {
            let (within, rest) = rest.split_once('v')?;
            let (between, rest) = rest.split_once('k')?;
            let again = rest.strip_prefix(within)?;
            return (again == "v").then(|| Self::new(Some(within), between));
        }
        let between = example.strip_prefix('v')?.strip_suffix('v')?;
        (!between.contains(['k', 'v'])).then(|| Self::new(None, between))
    }

    fn new(within: Option<&str>, between: &str) -> Self {
        Self {
            within: within.map(|text| text.as_bytes().into()),
            between: between.as_bytes().into(),
        }
    }

    /// Whether neighbours have no separator between them: a value can be re-cut without a change of
    /// the whole.
    pub(in crate::sender) fn is_seamless(&self) -> bool {
        self.between.is_empty() || self.within.as_deref() == Some(b"")
    }

    /// The bytes that separate names and values.
    pub(in crate::sender) fn separators(&self) -> impl Iterator<Item = u8> {
        let within = self.within.as_deref().unwrap_or_default();
        within.iter().chain(&*self.between).copied()
    }

    /// Writes `name` so that it holds no separator.
    pub(in crate::sender) fn put_name(&self, name: &[u8], sink: &mut impl Sink) {
        let stays = |byte| byte != b'%' && self.separators().all(|separator| separator != byte);
        encoding::percent_where(name, stays, sink);
    }

    /// The values of `name` in a list written so, at most `most`.
    pub(in crate::sender) fn values<'t>(
        &'t self,
        text: &'t [u8],
        name: &'t [u8],
        most: usize,
    ) -> impl Iterator<Item = &'t [u8]> {
        let within = self.within.as_deref().unwrap_or_default();
        split(text, &self.between)
            .filter_map(move |pair| {
                let pair = pair.trim_ascii();
                let at = find(pair, within)?;
                (&pair[..at] == name).then(|| &pair[at + within.len()..])
            })
            .take(most)
    }
}

/// Where `part` starts; separators are mostly one byte, for which no searcher is built.
fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    match part {
        [byte] => memchr::memchr(*byte, text),
        _ => memchr::memmem::find(text, part),
    }
}

fn split<'t>(text: &'t [u8], between: &'t [u8]) -> impl Iterator<Item = &'t [u8]> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let now = rest?;
        match find(now, between).filter(|_| !between.is_empty()) {
            Some(at) => {
                rest = Some(&now[at + between.len()..]);
                Some(&now[..at])
            }
            None => rest.take(),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_show_their_separators() {
        let shape =
            |text| Shape::parse(text).map(|s| (s.within.map(|w| w.to_vec()), s.between.to_vec()));
        assert_eq!(shape("k=v&k=v"), Some((Some(b"=".to_vec()), b"&".to_vec())));
        assert_eq!(shape("k=v,k=v"), Some((Some(b"=".to_vec()), b",".to_vec())));
        assert_eq!(shape("kvkv"), Some((Some(vec![]), vec![])));
        assert_eq!(shape("vv"), Some((None, vec![])));
        assert_eq!(shape("k,v k,v"), Some((Some(b",".to_vec()), b" ".to_vec())));
        for none in ["", "k", "kv", "k=v&k:v", "v", "x", "k=v&k=vx"] {
            assert_eq!(shape(none), None, "{none}");
        }
    }

    #[test]
    fn lists_are_read() {
        let stripe = Shape::parse("k=v,k=v").unwrap();
        let values: Vec<_> = stripe.values(b"t=1,v1=a, v1=b,v0=c", b"v1", 4).collect();
        assert_eq!(values, [b"a", b"b"]);
        let webhooks = Shape::parse("k,v k,v").unwrap();
        let values: Vec<_> = webhooks.values(b"v1,AAA= v9,x v1,B", b"v1", 1).collect();
        assert_eq!(values, [b"AAA="]);
    }
}
