//! JSON texts laid out for people. Numbers, names and their order stay as they came.

/// Deepest nesting that is laid out.
const DEPTH_MAX: usize = 64;

/// Lays out a JSON object or array; `None`: the text is neither.
pub(crate) fn pretty(text: &str) -> Option<String> {
    let text = text.trim();
    if !text.starts_with(['{', '[']) || serde_json::from_str::<serde::de::IgnoredAny>(text).is_err()
    {
        return None;
    }
    let mut out = String::with_capacity(text.len() * 2);
    let (mut depth, mut characters) = (0_usize, text.chars().peekable());
    while let Some(one) = characters.next() {
        match one {
            '"' => {
                out.push('"');
                let mut is_escaped = false;
                for inner in characters.by_ref() {
                    out.push(inner);
                    match inner {
                        _ if is_escaped => is_escaped = false,
                        '\\' => is_escaped = true,
                        '"' => break,
                        _ => {}
                    }
                }
            }
            '{' | '[' => {
                out.push(one);
                while characters.next_if(char::is_ascii_whitespace).is_some() {}
                match characters.next_if(|next| matches!(next, '}' | ']')) {
                    Some(end) => out.push(end),
                    None => {
                        depth += 1;
                        line(&mut out, depth);
                    }
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut out, depth);
                out.push(one);
            }
            ',' => {
                out.push(',');
                line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            blank if blank.is_ascii_whitespace() => {}
            other => out.push(other),
        }
        if depth > DEPTH_MAX {
            return None;
        }
    }
    Some(out)
}

fn line(out: &mut String, depth: usize) {
    out.push('\n');
    out.extend(std::iter::repeat_n("  ", depth));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_laid_out_and_nothing_in_it_changes() {
        let shown = pretty(r#" {"b":1.50,"a":["x,{\"y\"}" , 2],"e":{},"n":[ ]}"#).unwrap();
        let wanted = "{\n  \"b\": 1.50,\n  \"a\": [\n    \"x,{\\\"y\\\"}\",\n    2\n  ],\n  \"e\": {},\n  \"n\": []\n}";
        assert_eq!(shown, wanted);
        for other in ["", "1", "\"a\"", "{", "[1,]", "a=1"] {
            assert_eq!(pretty(other), None, "{other}");
        }
        assert_eq!(pretty(&"[".repeat(100)), None);
    }
}
