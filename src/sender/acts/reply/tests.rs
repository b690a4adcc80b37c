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
    match Rows::parse(&table).unwrap().get("accepted").unwrap() {
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
        let faults = Rows::parse(&table).unwrap_err();
        assert!(faults[0].key.starts_with("accepted"), "{reply}: {}", faults[0]);
    }
    let table: toml::Table = "acepted = 200".parse().unwrap();
    assert_eq!(Rows::parse(&table).unwrap_err().len(), 1);
}
