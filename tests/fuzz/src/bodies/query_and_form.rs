//! Any bytes as a query and as a form: both are read alike, a repeated name is refused, and the
//! transaction is what a plain decoder says.

use std::sync::LazyLock;

use super::support::{Parts, check_open, open_recipe};
use postern::sender::{Recipe, Role};

static QUERY: LazyLock<Recipe> = LazyLock::new(|| open_recipe("query", None));
static FORM: LazyLock<Recipe> = LazyLock::new(|| open_recipe("form", None));

/// The decoded values of `name`, by the plainest way there is; shown as an event shows them.
fn values(text: &[u8], name: &[u8]) -> Vec<String> {
    let pairs = text.split(|byte| *byte == b'&').map(|pair| {
        let at = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
        (decode(&pair[..at]), decode(pair.get(at + 1..).unwrap_or_default()))
    });
    let found = pairs.filter(|(found, _)| found == name);
    found.map(|(_, value)| String::from_utf8_lossy(&value).into_owned()).collect()
}

fn decode(text: &[u8]) -> Vec<u8> {
    let digit = |at: usize| text.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let mut decoded = Vec::new();
    let mut at = 0;
    while at < text.len() {
        match (text[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push(u8::try_from(high * 16 + low).expect("two digits are a byte"));
                at += 2;
            }
            (b'+', ..) => decoded.push(b' '),
            (byte, ..) => decoded.push(byte),
        }
        at += 1;
    }
    decoded
}

/// Runs the target on one input.
pub fn run(data: &[u8]) {
    let form = Parts::made(b"", Some("application/x-www-form-urlencoded"), data);
    let form = check_open(&FORM, &form);
    let id = form.as_ref().and_then(|event| event.role(Role::Transaction));
    if let Some(id) = id {
        assert_eq!(values(data, b"id"), [id], "read otherwise, or repeated");
    }
    // Control characters cannot stand in a target. A body may begin with a mark of its encoding, a query has none.
    let stands_in_target = |byte: &u8| *byte != b'#' && !byte.is_ascii_control() && *byte != b' ';
    if !data.iter().all(stands_in_target) || data.first().is_some_and(|byte| !byte.is_ascii()) {
        return;
    }
    let query = check_open(&QUERY, &Parts::made(data, None, b""));
    assert_eq!(query.as_ref().and_then(|event| event.role(Role::Transaction)), id);
}
