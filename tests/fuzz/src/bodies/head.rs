//! Any bytes as the head of a connection: however it is cut, the rewritten one is the same, and differs only in
//! odd bytes of the target that is kept.

use postern::wire::rewrite_head;

/// Headers that the parser takes: more than a gateway does.
const HEADERS_MAX: usize = 128;

/// Runs the target on one input: two places to cut, and the bytes.
pub fn run(data: &[u8]) {
    let Some(([first, second], bytes)) = data.split_first_chunk() else { return };
    let cuts = [usize::from(*first).min(bytes.len()), usize::from(*second).min(bytes.len())];
    let (mut whole, mut pieces) = (bytes.to_vec(), bytes.to_vec());
    let raw = rewrite_head(&mut whole, &[]);
    let cut = rewrite_head(&mut pieces, &[cuts[0].min(cuts[1]), cuts[0].max(cuts[1])]);
    assert_eq!((&whole, &raw), (&pieces, &cut), "it depends on how the bytes come");
    let changed: Vec<usize> = (0..bytes.len()).filter(|at| whole[*at] != bytes[*at]).collect();
    assert_eq!(whole.len(), bytes.len());
    assert!(changed.iter().all(|at| whole[*at] == b'_' && is_odd(bytes[*at])), "{changed:?}");
    if let Some(raw) = &raw {
        let at = changed[0] - raw.0.iter().position(|byte| is_odd(*byte)).expect("an odd byte");
        assert_eq!(&bytes[at..at + raw.0.len()], &raw.0[..], "the target as it came");
        assert!(changed.iter().all(|one| (at..at + raw.0.len()).contains(one)));
    }
    parsed(bytes, &whole, raw.as_ref().map(|raw| &raw.0[..]));
}

/// Compares with the parser of hyper: it reads the same target, but for the odd bytes.
fn parsed(bytes: &[u8], rewritten: &[u8], raw: Option<&[u8]>) {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let Ok(httparse::Status::Complete(length)) = request.parse(rewritten) else { return };
    let shown = request.path.expect("a complete request has one").as_bytes();
    match raw {
        Some(raw) => {
            let plain: Vec<u8> =
                raw.iter().map(|byte| if is_odd(*byte) { b'_' } else { *byte }).collect();
            assert_eq!(shown, plain);
        }
        None => assert_eq!(&bytes[..length], &rewritten[..length], "rewritten, and not kept"),
    }
}

fn is_odd(byte: u8) -> bool {
    matches!(byte, b'"' | b'<' | b'>' | b'#') || !byte.is_ascii()
}
