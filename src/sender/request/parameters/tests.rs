use super::*;

fn names(list: &[&str]) -> Names {
    let mut names = Names::default();
    for name in list {
        names.intern(name.as_bytes()).unwrap();
    }
    names
}

fn query(text: &str, known: &[&str]) -> Result<Vec<(String, String)>, ParameterError> {
    let names = names(known);
    let mut parameters = Parameters::new();
    parameters.read_pairs(Place::Query, text.as_bytes(), &names)?;
    let buffers = Buffers { query: text.as_bytes(), body: b"" };
    let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(parameters.iter(buffers).map(|p| (shown(p.name), shown(p.raw))).collect())
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

#[test]
fn a_query_is_split_and_left_as_it_is() {
    assert_eq!(
        query("a=1&&b&c=&d=x=y&=z&e%5B0%5D=%20", &["a"]).unwrap(),
        pairs(&[("a", "1"), ("b", ""), ("c", ""), ("d", "x=y"), ("", "z"), ("e[0]", "%20")]),
    );
    assert_eq!(query("", &[]).unwrap(), pairs(&[]));
}

#[test]
fn a_name_may_stand_once_however_it_is_escaped() {
    for text in ["a=1&a=2", "a=1&%61=1", "x=1&x=2", "x+y=1&x%20y=2"] {
        assert_eq!(query(text, &["a"]).unwrap_err().reason, Reason::RepeatedParameter, "{text}");
    }
}

#[test]
fn a_nul_is_noticed_in_each_place_and_however_it_is_written() {
    let read = |texts: &[(Place, &[u8])]| {
        let mut parameters = Parameters::new();
        for (place, text) in texts {
            parameters.read_pairs(*place, text, &Names::default()).unwrap();
        }
        (parameters.is_plain(), parameters.may_hold_nul())
    };
    let escaped: (_, &[u8]) = (Place::Query, b"a=%20");
    assert_eq!(read(&[(Place::Query, b"a=1")]), (true, false));
    assert_eq!(read(&[escaped]), (false, false));
    assert_eq!(read(&[escaped, (Place::Form, b"b=1&c=x%00")]), (false, true));
    assert_eq!(read(&[(Place::Query, b"a=%00"), (Place::Form, b"b=%20")]), (false, true));
    assert_eq!(read(&[(Place::Query, b"a=1&b=\0")]), (false, true));
}

#[test]
fn the_number_of_parameters_is_bounded() {
    let text: String = (0..=PARAMETERS_MAX).map(|i| format!("p{i}=1&")).collect();
    assert_eq!(query(&text, &[]).unwrap_err().reason, Reason::TooLarge);
}

#[test]
fn a_number_steps_into_a_list() {
    let value = || Value { place: Place::Json, raw: Cow::Borrowed(br#"[{"a":"x"},["y"],"[7]"]"#) };
    let text = |steps: &[&str]| {
        let mut value = value();
        for step in steps {
            value = value.step(step, Plus::Space).unwrap()?;
        }
        value.text(Plus::Space).unwrap().map(|text| String::from_utf8_lossy(&text).into_owned())
    };
    assert_eq!(text(&["0", "a"]).as_deref(), Some("x"));
    assert_eq!(text(&["1", "0"]).as_deref(), Some("y"));
    assert_eq!(text(&["2", "0"]).as_deref(), Some("7"), "a text that is a list");
    for steps in [&["3"][..], &["00"], &["-1"], &["+1"], &["a"], &["100"], &["0", "0"]] {
        assert_eq!(text(steps), None, "{steps:?}");
    }
}

#[test]
fn json_and_xml_are_stepped_into() {
    let plus = Plus::Space;
    let value = Value {
        place: Place::Json,
        raw: Cow::Borrowed(br#"{"P":"{\"n\":12345678901234567890}"}"#),
    };
    let inner = value.step("P", plus).unwrap().unwrap().step("n", plus).unwrap().unwrap();
    assert_eq!(inner.text(Plus::Space).unwrap().unwrap().as_ref(), b"12345678901234567890");
    let value = Value { place: Place::Xml, raw: Cow::Borrowed(b"<P><![CDATA[{\"n\":1}]]></P>") };
    let inner = value.step("P", plus).unwrap().unwrap().step("n", plus).unwrap().unwrap();
    assert_eq!(inner.text(Plus::Space).unwrap().unwrap().as_ref(), b"1");
}

#[test]
fn a_text_is_stepped_into_as_it_is_read() {
    for (raw, plus, expected) in [
        ("{\"n\":\"a+b\"}", Plus::Kept, "a+b"),
        ("{\"n\":\"a%2Bb\"}", Plus::Kept, "a+b"),
        ("{\"n\":\"a+b\"}", Plus::Space, "a b"),
        ("{\"n\":\"a%2Bb\"}", Plus::Space, "a+b"),
    ] {
        let value = Value { place: Place::Query, raw: Cow::Borrowed(raw.as_bytes()) };
        let inner = value.step("n", plus).unwrap().unwrap();
        let text = inner.text(plus).unwrap().unwrap();
        assert_eq!(text.as_ref(), expected.as_bytes(), "{raw} {plus:?}");
    }
}

proptest::proptest! {
    #[test]
    fn splitting_agrees_with_a_library(text in "[a-c=&%+0-9A-F]{0,40}") {
        if let Ok(ours) = query(&text, &["a", "b"]) {
            let theirs: Vec<(String, String)> = serde_urlencoded::from_str(&text).unwrap();
            let ours: Vec<(String, String)> = ours
                .into_iter()
                .map(|(name, raw)| {
                    let value = encoding::unpercented(raw.as_bytes(), Plus::Space);
                    (name, String::from_utf8_lossy(&value).into_owned())
                })
                .collect();
            proptest::prop_assert_eq!(ours, theirs);
        }
    }

    #[test]
    fn any_body_is_read_or_refused(body in proptest::collection::vec(proptest::num::u8::ANY, 0..80)) {
        let names = names(&["a"]);
        let _ = Parameters::new().read_json(&body, &names);
        let _ = Parameters::new().read_xml(&body, &names);
        let _ = Parameters::new().read_pairs(Place::Form, &body, &names);
    }
}
