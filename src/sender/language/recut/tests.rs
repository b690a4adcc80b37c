//! The product's procedures beside brute force that shares no code with them.

use super::chains::{ChainRules, Chains, Closedness, KnownName, NameOrder, ReceivedPair};
use super::*;
use crate::sender::language::value_shape::ValueShape;

fn shape(text: &str) -> ValueShape {
    match text {
        "" => ValueShape::free(),
        text => ValueShape::parse(text).unwrap(),
    }
}

fn literal(text: &str) -> Part {
    Part::Literal(text.as_bytes().into())
}

/// A layout of one segment: `{0}`, `{1}` … are values, `(…)` is optional, all else is literal.
fn layout(text: &str) -> Layout {
    fn parts(text: &str) -> Vec<Part> {
        let mut out = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let (part, len) = match rest.as_bytes()[0] {
                b'{' => (Part::Value(usize::from(rest.as_bytes()[1] - b'0')), 3),
                b'(' => {
                    let end = rest.find(')').unwrap();
                    (Part::Optional(parts(&rest[1..end])), end + 1)
                }
                _ => {
                    let end = rest.find(['{', '(']).unwrap_or(rest.len());
                    (literal(&rest[..end]), end)
                }
            };
            out.push(part);
            rest = &rest[len..];
        }
        out
    }
    Layout { segments: text.split('#').map(parts).collect() }
}

fn closed(text: &str, shapes: &[&str]) -> Vec<usize> {
    let layout = layout(text);
    let separators = layout.separators();
    let shapes = shapes.iter().map(|text| shape(text).between(separators)).collect::<Vec<_>>();
    let proof = layout.proof(shapes.clone(), &[]);
    (0..shapes.len()).filter(|value| proof.closed.contains(*value as u8)).collect()
}

#[test]
fn peeling_finds_what_is_closed() {
    // tapjoy, before and after its id is known to hold no colon
    assert_eq!(closed("{0}:{1}:{2}:#", &["", "", "digits"]), [2]);
    assert_eq!(closed("{0}:{1}:{2}:#", &["token", "", "digits"]), [0, 1, 2]);
    // levelplay: a time of fixed width, then values side by side
    assert_eq!(closed("{0}{1}{2}{3}#", &["digits:12", "", "", ""]), [0]);
    assert_eq!(closed("{0}{1}{2}{3}#", &["digits:12", "hex:8", "", "is:1,2"]), [0, 1, 2, 3]);
    // taku: the secret ends the name, an optional part stands alone
    assert_eq!(closed("a={0}&b={1}&c=#(&d={2})", &["token", "", ""]), [0, 1, 2]);
    // a single value
    assert_eq!(closed("#:{0}", &[""]), [0]);
    assert_eq!(closed("{0}{1}", &["digits", "letters"]), [0, 1]);
    assert_eq!(closed("{0}{1}", &["digits", ""]), Vec::<usize>::new());
    // fyber: optional parts and all behind them are left over
    assert_eq!(closed("#{0}{1}({2})({3})", &["", "decimal", "uuid", ""]), Vec::<usize>::new());
}

#[test]
fn what_touches_is_told_from_what_is_separated() {
    let separation = |text: &str| layout(text).separation(&ValueSet::default());
    assert_eq!(separation("{0}:{1}"), Separation::Separated);
    assert_eq!(separation("{0}{1}"), Separation::Touching);
    assert_eq!(separation("{0}(:{1})"), Separation::Separated);
    assert_eq!(separation("{0}({1})"), Separation::Touching);
    assert_eq!(separation("{0}#{1}"), Separation::Separated);
}

/// Every tuple of values over a small alphabet that makes `text`, by trying all cuts.
fn all_tuples(parts: &[Part], text: &[u8], shapes: &[ValueShape]) -> Vec<Vec<(usize, Vec<u8>)>> {
    let Some((part, rest)) = parts.split_first() else {
        return if text.is_empty() { vec![Vec::new()] } else { Vec::new() };
    };
    match part {
        Part::Literal(bytes) => match text.strip_prefix(&**bytes) {
            Some(behind) => all_tuples(rest, behind, shapes),
            None => Vec::new(),
        },
        Part::Value(value) => (0..=text.len())
            .filter(|end| {
                // Where nothing leaves it out, what may be absent may be empty.
                let may_be_empty = *end == 0 && shapes[*value].may_be_absent();
                may_be_empty || shapes[*value].fits(&text[..*end])
            })
            .flat_map(|end| {
                let mut all = all_tuples(rest, &text[end..], shapes);
                all.iter_mut().for_each(|tuple| tuple.push((*value, text[..end].to_vec())));
                all
            })
            .collect(),
        Part::Optional(inner) => {
            let values: Vec<usize> = inner
                .iter()
                .filter_map(|part| if let Part::Value(value) = part { Some(*value) } else { None })
                .collect();
            let mut all = Vec::new();
            if values.iter().any(|value| shapes[*value].may_be_absent()) {
                all.extend(all_tuples(rest, text, shapes));
            }
            let whole: Vec<Part> = inner.iter().chain(rest).cloned().collect();
            let taken = all_tuples(&whole, text, shapes).into_iter().filter(|tuple| {
                tuple.iter().all(|(value, bytes)| !values.contains(value) || !bytes.is_empty())
            });
            all.extend(taken);
            all
        }
        Part::List(_) => unreachable!("lists are tried in `chains`"),
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(400))]

    #[test]
    fn reading_back_agrees_with_brute_force(
        pattern in proptest::sample::select(vec![
            "{0}:{1}", "{0}{1}", "{0}(:{1})", "{0}({1})(2{2})", "x{0}::{1}:{2}", "({0})({1})",
            "{0}1{1}a{2}", "(:{0}){1}",
        ]),
        shapes in proptest::collection::vec(
            proptest::sample::select(vec!["", "digits", "letters", "token", "is:a,ab,1", "digits:1?"]), 3),
        values in proptest::collection::vec("[a1:]{0,3}", 3),
    ) {
        let layout = layout(pattern);
        let separators = layout.separators();
        let shapes: Vec<ValueShape> =
            shapes.iter().map(|text| shape(text).between(separators)).collect();
        let mut text = Vec::new();
        let mut received = vec![None; 3];
        for part in &layout.segments[0] {
            let inner = match part {
                Part::Optional(inner) => inner.clone(),
                other => vec![other.clone()],
            };
            let optional = matches!(part, Part::Optional(_));
            let absent = optional && inner.iter().any(|part| {
                matches!(part, Part::Value(value) if values[*value].is_empty())
            });
            if absent {
                continue;
            }
            for part in inner {
                match part {
                    Part::Literal(bytes) => text.extend_from_slice(&bytes),
                    Part::Value(value) => {
                        text.extend_from_slice(values[value].as_bytes());
                        received[value] = Some(values[value].clone().into_bytes());
                    }
                    _ => {}
                }
            }
        }
        let all = all_tuples(&layout.segments[0], &text, &shapes);
        let proof = layout.proof(shapes.clone(), &[]);
        let segments = [text.clone()];
        let found = proof.read_back(&Received { segments: &segments, values: &received });
        match found {
            Readback::Empty => proptest::prop_assert!(all.is_empty()),
            Readback::Closed(closed) => {
                proptest::prop_assert!(!all.is_empty());
                for (value, own) in received.iter().enumerate() {
                    let in_all = all.iter().all(|tuple| {
                        let other = tuple.iter().find(|(number, _)| *number == value);
                        other.map(|(_, bytes)| bytes) == own.as_ref()
                    });
                    proptest::prop_assert_eq!(closed.contains(value as u8), in_all, "{}", value);
                    // What peeling calls closed is closed in each text of fitting values.
                    let fits = shapes.iter().zip(&received).all(|(shape, own)| {
                        own.as_ref().map_or(shape.may_be_absent(), |own| shape.fits(own))
                    });
                    if fits && proof.closed.contains(value as u8) {
                        proptest::prop_assert!(in_all, "peeled {}", value);
                    }
                }
            }
        }
    }

    #[test]
    fn chains_agree_with_brute_force(
        pairs in proptest::collection::vec(("[abc]", "[ab=&1]{0,6}"), 1..4),
        order in proptest::sample::select(vec![NameOrder::Ascending, NameOrder::Any]),
        known in proptest::collection::vec(
            ("[abc]", proptest::sample::select(vec!["digits", "digits?", "free", "word?"])), 0..3),
    ) {
        let mut pairs: Vec<ReceivedPair> = pairs
            .into_iter()
            .map(|(name, value)| ReceivedPair { name: name.into(), value: value.into() })
            .collect();
        pairs.sort_by(|one, other| one.name.cmp(&other.name));
        pairs.dedup_by(|one, other| one.name == other.name);
        let mut known: Vec<KnownName> = known
            .into_iter()
            .map(|(name, text)| KnownName { name: name.into_bytes().into(), shape: shape(text) })
            .collect();
        known.sort_by(|one, other| one.name.cmp(&other.name));
        known.dedup_by(|one, other| one.name == other.name);
        let rules = ChainRules {
            between: b"&", within: b"=", order, empty: EmptyItems::Kept, known: &known,
        };
        let text = pairs.iter().map(|pair| {
            format!("{}={}", String::from_utf8_lossy(&pair.name), String::from_utf8_lossy(&pair.value))
        }).collect::<Vec<_>>().join("&");
        let all: Vec<Vec<ReceivedPair>> = all_lists(&text)
            .into_iter()
            .filter(|list| {
                let distinct = |at: usize| !list[..at].iter().any(|one| one.name == list[at].name);
                let ascends = list.windows(2).all(|two| two[0].name < two[1].name);
                let fits = |pair: &ReceivedPair| {
                    let shape = known.iter().find(|one| *one.name == *pair.name);
                    shape.is_none_or(|one| one.shape.fits(&pair.value))
                };
                let there = |one: &KnownName| {
                    one.shape.may_be_absent() || list.iter().any(|pair| *pair.name == *one.name)
                };
                (0..list.len()).all(distinct)
                    && (order == NameOrder::Any || ascends)
                    && list.iter().all(fits)
                    && known.iter().all(there)
            })
            .collect();
        match rules.read_back(&pairs) {
            Chains::Empty => proptest::prop_assert!(all.is_empty()),
            Chains::Closed(closedness) => {
                // Without an order the product may see more chains than there are, never fewer.
                let exact = order == NameOrder::Ascending;
                proptest::prop_assert!(!exact || !all.is_empty());
                for (pair, found) in pairs.iter().zip(closedness) {
                    let in_all = all.iter().all(|list| list.contains(pair));
                    if exact {
                        proptest::prop_assert_eq!(found == Closedness::Closed, in_all);
                    } else if found == Closedness::Closed {
                        proptest::prop_assert!(in_all);
                    }
                }
            }
        }
    }
}

/// Every way to cut `text` at `&` into pairs with an `=`.
fn all_lists(text: &str) -> Vec<Vec<ReceivedPair>> {
    let pieces: Vec<&str> = text.split('&').collect();
    let mut all = Vec::new();
    for cuts in 0..1_usize << (pieces.len() - 1) {
        let mut joined: Vec<String> = vec![pieces[0].to_owned()];
        for (at, piece) in pieces[1..].iter().enumerate() {
            if cuts >> at & 1 == 1 {
                joined.push((*piece).to_owned());
            } else if let Some(last) = joined.last_mut() {
                last.push('&');
                last.push_str(piece);
            }
        }
        let list: Option<Vec<ReceivedPair>> = joined
            .iter()
            .map(|piece| {
                let (name, value) = piece.split_once('=')?;
                let plain = !name.contains('&');
                plain.then(|| ReceivedPair { name: name.into(), value: value.into() })
            })
            .collect();
        all.extend(list);
    }
    all
}
