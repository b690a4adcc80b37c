use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::*;

fn of(text: &str, place: Place) -> [u8; 32] {
    let volatile = ["Retry", "a.b"].map(String::from);
    digest(&Proven::in_test(), text.as_bytes(), place, &volatile).unwrap()
}

#[test]
fn the_same_json_written_otherwise_is_the_same() {
    let json = |text| of(text, Place::Json);
    let one = json(r#"{"x":"é","l":[1,{"y":"2"}]}"#);
    assert_eq!(one, json("{ \"l\" : [1, {\"y\":\"2\"}],\"Retry\":7, \"x\":\"\\u00e9\"}"));
    assert_ne!(one, json(r#"{"x":"é","l":[{"y":"2"},1]}"#));
    assert_ne!(one, json(r#"{"x":"é","l":[1,{"y":"3"}]}"#));
    assert_ne!(json(r#"{"a":{"c":"1"}}"#), json(r#"{"a.c":"1"}"#));
    assert_ne!(json(r#"{"a":null}"#), json(r#"{"a":[]}"#));
    assert_ne!(json(r#"{"a":"\ud83d"}"#), json(r#"{"a":"\ud83e"}"#));
    assert_eq!(json(r#"{"a":{"b":"1","c":"2"}}"#), json(r#"{"a":{"b":"9","c":"2"}}"#));
}

#[test]
fn the_same_xml_written_otherwise_is_the_same() {
    let xml = |text| of(text, Place::Xml);
    let one = xml("<xml><A><![CDATA[x<y]]></A><B><C>1</C><C>2</C></B></xml>");
    assert_eq!(one, xml("<xml>\n<B><C>1</C> <C>2</C></B><Retry>3</Retry><A>x&lt;y</A></xml>"));
    assert_ne!(one, xml("<xml><A>x&lt;y</A><B><C>2</C><C>1</C></B></xml>"));
    assert_ne!(one, xml("<xml><A>x&lt;y</A><B><C>1</C></B></xml>"));
}

#[test]
fn what_repeats_in_json_is_refused() {
    let of = |text: &str| digest(&Proven::in_test(), text.as_bytes(), Place::Json, &[]);
    assert_eq!(of(r#"{"a":{"x":1,"x":2}}"#).unwrap_err().reason, Reason::RepeatedParameter);
    assert!(of("{nothing").is_err());
}

#[test]
fn a_form_is_read_as_pairs() {
    assert_eq!(of("a=1&b=%20", Place::Form), of("b=+&a=1&Retry=2", Place::Form));
}

/// As the first digest made it, also of what cannot be read.
fn assert_unchanged(text: &[u8], place: Place) {
    let volatile = ["Retry", "a.b", "A.1", "b.0", "a..a"].map(String::from);
    let now = digest(&Proven::in_test(), text, place, &volatile).ok();
    let first = oracle::digest(text, place, &volatile).ok();
    assert_eq!(now, first, "{}", String::from_utf8_lossy(text));
}

#[test]
fn a_long_name_is_not_spread_over_many_values() {
    let spread = |name: usize, values: usize| {
        let (name, values) = ("n".repeat(name), "1,".repeat(values));
        let text = format!("{{\"{name}\":[{values}1]}}");
        digest(&Proven::in_test(), text.as_bytes(), Place::Json, &[]).map_err(|error| error.reason)
    };
    assert_eq!(spread(100_000, 50_000), Err(Reason::TooLarge));
    assert!(spread(10, 100_000).is_ok());
    assert!(spread(1000, 1).is_ok());
}

#[test]
fn the_edges_of_each_format_are_digested_as_before() {
    let elements = |many: usize| format!("<xml>{}</xml>", "<A>1</A>".repeat(many));
    for text in [
        elements(200),
        elements(201),
        elements(300),
        "<xml><A>2</A><A/><A><1>x</1></A><B><A><A>1</A></A>t</B></xml>".into(),
        "<xml><A>x</A><A>y</A><A><A>z</A></A></xml>".into(),
        "<xml><B>\u{feff}a&amp;</B><?p i?><C k='v'>\u{feff}</C></xml>".into(),
        format!("{}{}", "<a>".repeat(64), "</a>".repeat(64)),
        format!("{}{}", "<a>".repeat(65), "</a>".repeat(65)),
    ] {
        assert_unchanged(text.as_bytes(), Place::Xml);
    }
    for depth in [63, 64, 65] {
        let text = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert_unchanged(text.as_bytes(), Place::Json);
    }
    let members = |last: &str| {
        let members: String = (0..40).map(|n| format!("\"n{n}\":{n},")).collect();
        format!("{{{members}\"{last}\":1}}")
    };
    for last in ["n40", "n3", "n20", "n39"] {
        assert_unchanged(members(last).as_bytes(), Place::Json);
    }
    for text in ["7", " ", "{\"a\":1}x", "[1,]", "{\"\\ud83d\":1}", "{\"Retry\":{\"\\ud83d\":1}}"] {
        assert_unchanged(text.as_bytes(), Place::Json);
    }
}

fn json() -> impl Strategy<Value = String> {
    let names = ["a", "b", "Retry", "", "\\u0061", "a.b", "10", "\\ud83d", "a long name"];
    let leaves =
        ["null", "1.50", "true", "\"é\"", "\"\\u00e9\"", "\"\\ud83d\"", "\"{\\\"[\"", "{}", "[ ]"];
    select(leaves.to_vec()).prop_map(String::from).prop_recursive(5, 80, 12, move |inner| {
        let list = vec(inner.clone(), 0..13).prop_map(|items| format!("[{}]", items.join(" ,")));
        let member = (select(names.to_vec()), inner)
            .prop_map(|(name, value)| format!("\"{name}\" :\t{value}"));
        let object = vec(member, 0..5).prop_map(|all| format!("{{ {} }}", all.join(",\n")));
        prop_oneof![list, object]
    })
}

fn xml() -> impl Strategy<Value = String> {
    let names = ["A", "B", "Retry", "1", "a", "b"];
    let leaves = ["", "x", " x&lt;y", "<![CDATA[x<y]]>", "&#20154;", "&no;", "<!-- -->", "&"];
    let inner = select(leaves.to_vec()).prop_map(String::from);
    let inner = inner.prop_recursive(4, 60, 8, move |inner| {
        let element = (select(names.to_vec()), inner).prop_map(|(name, inner)| match &*inner {
            "" => format!("<{name} k='v'/>"),
            inner => format!("<{name}>{inner}</{name}>"),
        });
        vec(element, 1..9).prop_map(|all| all.join("\n"))
    });
    inner.prop_map(|inner| format!("<xml>{inner}</xml>"))
}

fn form() -> impl Strategy<Value = String> {
    let names = ["a", "b", "Retry", "%61", "a.b", ""];
    let values = ["", "=", "=1", "=2", "=%31", "=+", "=%zz"];
    let pair = (select(names.to_vec()), select(values.to_vec()));
    let pair = pair.prop_map(|(name, value)| format!("{name}{value}"));
    vec(pair, 0..9).prop_map(|all| all.join("&"))
}

proptest! {
    #[test]
    fn every_message_is_digested_as_before(
        json in json(), xml in xml(), form in form(), cut in any::<Index>(),
    ) {
        for (text, place) in [(json, Place::Json), (xml, Place::Xml), (form, Place::Form)] {
            assert_unchanged(text.as_bytes(), place);
            assert_unchanged(&text.as_bytes()[..cut.index(text.len() + 1)], place);
        }
    }
}
