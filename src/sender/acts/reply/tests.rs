use super::*;

/// Renders every text as the same value.
struct Saying(&'static str, Style);

impl RenderText<Spot> for Saying {
    fn text(&self, text: &Text) -> Option<String> {
        if text.is_literal() { Plainly.text(text) } else { Some(self.0.to_owned()) }
    }

    fn code(&self, _: &Text) -> Option<&toml::Value> {
        None
    }

    fn style(&self) -> Style {
        self.1
    }
}

fn said(reply: &str, voice: &Saying) -> String {
    let table: toml::Table = format!("accepted = {reply}").parse().unwrap();
    match Rows::parse(&table).0.get("accepted").unwrap() {
        Spec::Silence => "silence".to_owned(),
        Spec::Fixed(answer) => show(answer),
        Spec::Made(made) => show(&made.answer(voice)),
    }
}

fn show(answer: &Answer) -> String {
    let body = String::from_utf8(answer.body.to_vec()).unwrap();
    format!("{} {body}", answer.status.as_u16()).trim_end().to_owned()
}

#[test]
fn a_value_can_neither_break_nor_extend_a_tree() {
    let evil = Saying("a\"b\\</xml>]]>&c=d\n", Style::Xml);
    assert_eq!(
        said("{ json = { a = \"{x}\", n = 1, t = true } }", &evil),
        "200 {\"a\":\"a\\\"b\\\\</xml>]]>&c=d\\n\",\"n\":1,\"t\":true}",
    );
    assert_eq!(
        said("{ alike = { a = \"{x}\" } }", &evil),
        "200 <xml><a><![CDATA[a\"b\\</xml>]]]]><![CDATA[>&c=d\n]]></a></xml>",
    );
    assert_eq!(
        said("{ form = { result = 0, error_info = \"{x}\" } }", &evil),
        "200 result=0&error_info=a%22b%5C%3C%2Fxml%3E%5D%5D%3E%26c%3Dd%0A",
    );
}

#[test]
fn the_simple_forms() {
    let voice = Saying("x", Style::Json);
    assert_eq!(said("601", &voice), "601");
    assert_eq!(said("\"silence\"", &voice), "silence");
    assert_eq!(said("{ json = { isValid = true } }", &voice), "200 {\"isValid\":true}");
    assert_eq!(said("{ status = 403, body = \"no\" }", &voice), "403 no");
}

#[test]
fn mistakes_are_named() {
    for reply in ["99", "\"quiet\"", "{ jsn = {} }", "{ body = \"a\", json = {} }", "[1]"] {
        let table: toml::Table = format!("accepted = {reply}").parse().unwrap();
        let (rows, faults) = Rows::parse(&table);
        assert_eq!(faults.len(), 1, "{reply}");
        assert!(faults[0].key.starts_with("accepted"), "{reply}: {}", faults[0]);
        assert!(rows.has("accepted"), "{reply}: a reply with a mistake is not missing, too");
    }
}

#[test]
fn a_misspelled_name_is_named_with_the_one_that_was_meant() {
    for (written, meant) in [
        ("acepted = 200", "accepted"),
        ("bad_signatur = 403", "bad_signature"),
        ("accepted = { jsn = {} }", "json"),
        ("accepted = { statsu = 200 }", "status"),
    ] {
        let (_, faults) = Rows::parse(&written.parse().unwrap());
        let remedies: Vec<&str> = faults.iter().map(|fault| fault.remedy.as_str()).collect();
        assert_eq!(remedies, [format!("did you mean {meant}?")], "{written}");
    }
    let (rows, _) = Rows::parse(&"acepted = 200".parse().unwrap());
    assert!(rows.has("accepted"));
}
