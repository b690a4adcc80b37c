//! Background checks: fed by callbacks, turned into a report for an authorized caller.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use jiff::tz;
use md5::{Digest, Md5};
use postern::clock::now_ms;
use postern::ledger::{Embedded, EmbeddedOptions};
use serde_json::{Value, json};

use super::gateway::Gateway;
use super::wire::{get, send};

const KEY: &str = "CF6BF781AB82FEF5BFDF96B054ECEB15";
const TOKEN: &str = "FFEEDDCCBBAA99887766554433221100";
const OTHER: (&str, &str) = ("00112233445566778899AABBCCDDEEFF", "other-token");
const PATH: &str = "/open/company/record/generate-temp-report";

const CONFIG: &str = r#"
[server]
callbacks = "127.0.0.1:0"
admin = "127.0.0.1:0"
[[source]]
name = "checks"
sender = "yibeidiao"
secrets = ["FFEEDDCCBBAA99887766554433221100", "other-token"]
[manage.background_check]
companies = [
  { key = "CF6BF781AB82FEF5BFDF96B054ECEB15", token = "FFEEDDCCBBAA99887766554433221100" },
  { key = "00112233445566778899AABBCCDDEEFF", token = "other-token" },
  { key = "OFF", token = "off-token", enabled = false },
]
"#;

fn stamp(off_seconds: i64) -> String {
    let at = jiff::Timestamp::from_millisecond(now_ms() + off_seconds * 1000).unwrap();
    tz::offset(8).to_datetime(at).strftime("%Y%m%d%H%M%S").to_string()
}

fn sign(key: &str, ts: &str, seq: &str, token: &str) -> String {
    const_hex::encode_upper(Md5::digest(format!("{key}{ts}{seq}{token}")))
}

fn feed(to: SocketAddr, (key, token): (&str, &str), seq: &str, body: &Value) {
    let ts = stamp(0);
    let sign = sign(key, &ts, seq, token);
    let fields = [("key", key), ("ts", ts.as_str()), ("seq", seq), ("sign", &sign)];
    let answer = send(to, "POST /callback/checks", &fields, &body.to_string());
    assert_eq!(answer.json()["code"], "000", "{}", answer.body);
}

fn order_as(to: SocketAddr, (key, token): (&str, &str), seq: &str, query: &str) -> Value {
    let ts = stamp(0);
    let sign = sign(key, &ts, seq, token);
    let fields = [("key", key), ("ts", ts.as_str()), ("seq", seq), ("sign", &sign)];
    let answer = send(to, &format!("GET {PATH}?{query}"), &fields, "");
    assert_eq!(answer.status, 200);
    let said = answer.json();
    let names: Vec<&String> = said.as_object().unwrap().keys().collect();
    assert_eq!(names, ["code", "key", "msg", "seq", "sign", "ts"]);
    assert_eq!((&said["key"], &said["seq"]), (&json!(key), &json!(seq)));
    let own = self::sign(key, said["ts"].as_str().unwrap(), seq, token);
    let own = if said["code"] == "000" { own } else { String::new() };
    assert_eq!(
        said["sign"].as_str().unwrap().to_uppercase(),
        own,
        "only what is accepted is signed"
    );
    said
}

fn order(to: SocketAddr, seq: &str, number: &str) -> Value {
    order_as(to, (KEY, TOKEN), seq, &format!("recordNo={number}"))
}

/// Status and body of a GET.
fn fetch(to: SocketAddr, url: &str) -> (u16, Vec<u8>) {
    let (host, _) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let target = &url["http://".len() + host.len()..];
    let mut stream = TcpStream::connect(to).unwrap();
    write!(stream, "GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    let status = String::from_utf8_lossy(&answer[9..12]).parse().unwrap();
    (status, answer[end..].to_vec())
}

/// The output of a poppler tool for a file.
fn poppler(tool: &str, arguments: &[&str]) -> Vec<u8> {
    let run = Command::new(tool).args(arguments).output();
    let run = run.unwrap_or_else(|error| panic!("{tool}: {error}; run scripts/setup"));
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    run.stdout
}

fn running() -> Value {
    json!({ "recordNo": "20190415152645093983751", "person": "张三丰 (Zhang)", "status": 40, "items": [
        { "name": "学历核实", "state": 50, "conclusion": "属实：北京大学，本科", "remarks": "毕业证编号已核对，与学信网一致。" },
        { "name": "工作履历", "state": 40, "conclusion": "不应出现" },
        { "name": "犯罪记录", "state": "done", "conclusion": "未见异常", "remarks": "“无” <b>&amp;</b> \\ é" },
    ] })
}

#[test]
fn a_running_check_gives_a_report_of_what_is_done() {
    let gateway = Gateway::start(CONFIG);
    let (admin, callbacks) = (gateway.at.admin, gateway.at.callbacks);
    let number = "20190415152645093983751";
    assert_eq!(order(admin, "s0", number)["code"], "900", "nothing is known of it");
    feed(callbacks, (KEY, TOKEN), "c1", &json!({ "recordNo": number, "status": 40, "items": [] }));
    assert_eq!(order(admin, "s1", number)["code"], "900", "nothing of it is done");
    feed(callbacks, (KEY, TOKEN), "c2", &running());
    let said = order(admin, "s2", number);
    assert_eq!(said["code"], "000", "{said}");
    let url = said["msg"].as_str().unwrap();
    assert!(url.contains(".pdf?Expires=") && url.contains("&Signature="), "{url}");
    // The path without its base is the same.
    let ts = stamp(0);
    let sign = sign(KEY, &ts, "s3", TOKEN);
    let fields = [("key", KEY), ("ts", ts.as_str()), ("seq", "s3"), ("sign", &sign)];
    let line = format!("GET /record/generate-temp-report?recordNo={number}");
    assert_eq!(send(admin, &line, &fields, "").json()["code"], "000");

    let (status, pdf) = fetch(admin, url);
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&pdf));
    assert!(pdf.starts_with(b"%PDF-") && pdf.len() < 200_000, "{} bytes", pdf.len());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.pdf");
    std::fs::write(&file, &pdf).unwrap();
    let file = file.to_str().unwrap();
    let text = String::from_utf8(poppler("pdftotext", &["-layout", file, "-"])).unwrap();
    for said in [
        "背景调查临时报告",
        number,
        "张三丰 (Zhang)",
        "学历核实",
        "属实：北京大学，本科",
        "毕业证编号已核对，与学信网一致。",
        "犯罪记录",
        "未见异常",
        "“无” <b>&amp;</b> \\ é",
    ] {
        assert!(text.contains(said), "{said} in {text}");
    }
    assert!(!text.contains("工作履历") && !text.contains("不应出现"), "{text}");
    // Rendered, the page has ink where the title is, and its fonts are in the file.
    let image = folder.path().join("page");
    poppler("pdftoppm", &["-gray", "-r", "40", "-singlefile", file, image.to_str().unwrap()]);
    let image = std::fs::read(image.with_extension("pgm")).unwrap();
    let dark = image.iter().rev().take(40 * 400).filter(|pixel| **pixel < 128).count();
    let all = image.iter().filter(|pixel| **pixel < 128).count();
    assert!(all > 300 && dark == 0, "{all} dark pixels, {dark} at the foot of the page");
    let fonts = String::from_utf8(poppler("pdffonts", &[file])).unwrap();
    assert!(fonts.contains("Identity-H") && fonts.contains("yes yes yes"), "{fonts}");

    for changed in [
        url.replace(number, "20190415152645093983752"),
        url.replace("Expires=1", "Expires=2"),
        format!("{url}&a=1"),
        url.replace("Signature=", "Signature=0"),
        url.split('?').next().unwrap().to_owned(),
    ] {
        assert_eq!(fetch(admin, &changed).0, 403, "{changed}");
    }
    let fresh = order(admin, "s5", number);
    feed(callbacks, (KEY, TOKEN), "c3", &json!({ "recordNo": number, "status": 50 }));
    assert_eq!(fetch(admin, fresh["msg"].as_str().unwrap()).0, 410);
    assert_eq!(order(admin, "s4", number)["code"], "900", "it does not run any more");
}

#[test]
fn a_long_report_has_many_pages_and_no_line_beyond_the_margin() {
    let gateway = Gateway::start(CONFIG);
    let long = "这是一段很长的备注，用来检查换行与分页；plain words too. ".repeat(40);
    let items: Vec<Value> = (0..12)
        .map(|n| json!({ "name": format!("调查项 {n}"), "state": 50, "conclusion": "属实", "remarks": long }))
        .collect();
    let body = json!({ "recordNo": "R-1", "status": 40, "items": items });
    feed(gateway.at.callbacks, (KEY, TOKEN), "c1", &body);
    let said = order(gateway.at.admin, "s1", "R-1");
    let (_, pdf) = fetch(gateway.at.admin, said["msg"].as_str().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.pdf");
    std::fs::write(&file, pdf).unwrap();
    let file = file.to_str().unwrap();
    let about = String::from_utf8(poppler("pdfinfo", &[file])).unwrap();
    let pages = about.lines().find_map(|line| line.strip_prefix("Pages:")).unwrap();
    assert!(pages.trim().parse::<u32>().unwrap() > 5, "{about}");
    let boxes = String::from_utf8(poppler("pdftotext", &["-bbox", file, "-"])).unwrap();
    let edges = boxes.split("xMax=\"").skip(1).map(|rest| rest.split('"').next().unwrap());
    let widest = edges.map(|edge| edge.parse::<f32>().unwrap()).fold(0.0, f32::max);
    assert!(widest > 450.0 && widest < 595.0 - 55.0, "{widest}");
    let text = String::from_utf8(poppler("pdftotext", &["-raw", file, "-"])).unwrap();
    assert_eq!(text.matches("调查项 ").count(), 12);
}

#[test]
fn a_serial_number_is_good_for_one_call() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Embedded::open(EmbeddedOptions::new(folder.path())).unwrap();
    let gateway = Gateway::over(CONFIG, open());
    feed(gateway.at.callbacks, (KEY, TOKEN), "c1", &running());
    let number = "20190415152645093983751";
    let first = order(gateway.at.admin, "s1", number);
    assert_eq!(order(gateway.at.admin, "s1", number), first);
    assert_eq!(order(gateway.at.admin, "s1", "R-2")["code"], "902");
    assert_eq!(order(gateway.at.admin, "s2", number)["code"], "000");
    assert_eq!(
        order_as(gateway.at.admin, OTHER, "s1", "recordNo=R-2")["code"],
        "900",
        "of its own"
    );
    gateway.stop();
    let gateway = Gateway::over(CONFIG, open());
    assert_eq!(order(gateway.at.admin, "s1", number), first);
    assert_eq!(order(gateway.at.admin, "s1", "R-2")["code"], "902");
    let again = order(gateway.at.admin, "s3", number);
    assert_eq!(again["code"], "000", "the record is there too");
}

#[test]
fn a_company_sees_its_own_checks_only() {
    let gateway = Gateway::start(CONFIG);
    feed(gateway.at.callbacks, (KEY, TOKEN), "c1", &running());
    let query = "recordNo=20190415152645093983751";
    assert_eq!(order_as(gateway.at.admin, OTHER, "s1", query)["code"], "900");
    // A caller with another company's token learns nothing of this one's checks.
    let forged = json!({ "recordNo": "20190415152645093983751", "status": 50 });
    feed(gateway.at.callbacks, (KEY, OTHER.1), "c9", &forged);
    assert_eq!(order(gateway.at.admin, "s2", "20190415152645093983751")["code"], "000");
}

#[test]
fn calls_that_are_wrong_get_the_codes_of_the_document() {
    let gateway = Gateway::start(CONFIG);
    feed(gateway.at.callbacks, (KEY, TOKEN), "c1", &running());
    let admin = gateway.at.admin;
    let query = format!("GET {PATH}?recordNo=20190415152645093983751");
    let (ts, seq) = (stamp(0), "s1");
    let good = sign(KEY, &ts, seq, TOKEN);
    let code = |line: &str, fields: &[(&str, &str)]| {
        let said = send(admin, line, fields, "").json();
        (said["code"].as_str().unwrap().to_owned(), said["sign"] == "")
    };
    let unsigned = |code: &str| (code.to_owned(), true);
    let all = [("key", KEY), ("ts", ts.as_str()), ("seq", seq), ("sign", good.as_str())];
    for left_out in 0..4 {
        let mut fields = all.to_vec();
        fields.remove(left_out);
        assert_eq!(code(&query, &fields), unsigned("904"));
    }
    let twice = [all.as_slice(), &[("seq", "s2")]].concat();
    assert_eq!(code(&query, &twice), unsigned("904"));
    let with = |at: usize, value: &'static str| {
        let mut fields = all;
        fields[at].1 = value;
        fields
    };
    assert_eq!(code(&query, &with(0, "absent")), unsigned("905"));
    assert_eq!(code(&query, &with(2, "s9")), unsigned("901"));
    assert_eq!(code(&query, &with(3, "00")), unsigned("901"));
    assert_eq!(code(&query, &with(1, "20190415110900")), unsigned("901"));
    for off in [-660, 660] {
        let ts = stamp(off);
        let sign = sign(KEY, &ts, seq, TOKEN);
        let fields = [("key", KEY), ("ts", ts.as_str()), ("seq", seq), ("sign", &sign)];
        assert_eq!(code(&query, &fields), unsigned("903"));
    }
    let sign_of = |key: &str, ts: &str, token: &str| sign(key, ts, seq, token);
    let (rubbish, off) = (sign_of(KEY, "yesterday", TOKEN), sign_of("OFF", &ts, "off-token"));
    let fields = [("key", KEY), ("ts", "yesterday"), ("seq", seq), ("sign", rubbish.as_str())];
    assert_eq!(code(&query, &fields), unsigned("903"));
    let fields = [("key", "OFF"), ("ts", ts.as_str()), ("seq", seq), ("sign", off.as_str())];
    assert_eq!(code(&query, &fields), unsigned("906"));
    assert_eq!(code(&query.replace("GET", "POST"), &all), unsigned("900"));
    for query in ["", "?recordNo=", "?recordNo=..%2Fx", "?recordNo=1&recordNo=1", "?recordNo=1&a=b"]
    {
        assert_eq!(code(&format!("GET {PATH}{query}"), &all), unsigned("900"), "{query}");
    }
    // The same signature over a time without its last digit, and a serial number with it.
    let (short, longer) = ts.split_at(13);
    let longer = format!("{longer}{seq}");
    let recut = [("key", KEY), ("ts", short), ("seq", &longer), ("sign", good.as_str())];
    assert_eq!(code(&query, &recut), unsigned("903"));
    assert_eq!(
        code(&query, &all),
        ("000".to_owned(), false),
        "none of them used the serial number up"
    );
}

#[test]
fn glyphs_that_no_font_has_are_named() {
    let gateway = Gateway::start(CONFIG);
    let body = json!({ "recordNo": "R-1", "status": 40, "items": [
        { "name": "x\u{10fffd}", "state": 50 },
    ] });
    feed(gateway.at.callbacks, (KEY, TOKEN), "c1", &body);
    let said = order(gateway.at.admin, "s1", "R-1");
    assert_eq!(said["code"], "900");
    assert!(said["msg"].as_str().unwrap().contains("no font here has the glyphs"), "{said}");
}

/// The headers of a call.
struct Fields([String; 4]);

impl Fields {
    /// Signs the headers of a call.
    fn new(seq: &str) -> Self {
        let ts = stamp(0);
        let sign = sign(KEY, &ts, seq, TOKEN);
        Self([KEY.to_owned(), ts, seq.to_owned(), sign])
    }

    /// Takes an answer's headers as if they were a call's.
    fn of(answer: &Value) -> Self {
        Self(["key", "ts", "seq", "sign"].map(|name| answer[name].as_str().unwrap().to_owned()))
    }

    fn post(&self, to: SocketAddr, body: &Value) -> Value {
        self.send(to, "POST /callback/checks", &body.to_string())
    }

    fn order(&self, to: SocketAddr, number: &str) -> Value {
        self.send(to, &format!("GET {PATH}?recordNo={number}"), "")
    }

    fn send(&self, to: SocketAddr, line: &str, body: &str) -> Value {
        let names = ["key", "ts", "seq", "sign"];
        let fields: Vec<(&str, &str)> =
            names.into_iter().zip(self.0.iter().map(String::as_str)).collect();
        send(to, line, &fields, body).json()
    }
}

fn is_refusal(answer: &Value, code: &str) {
    assert_eq!((&answer["code"], &answer["sign"]), (&json!(code), &json!("")), "{answer}");
}

/// The exact sequence of an attack. A callback's headers do not order a report. Headers of an order
/// or of our answers do not pass as a callback. A restart changes neither.
#[test]
fn callbacks_orders_and_answers_have_one_space_of_serial_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Embedded::open(EmbeddedOptions::new(folder.path())).unwrap();
    let gateway = Gateway::over(CONFIG, open());
    let (mut admin, mut callbacks) = (gateway.at.admin, gateway.at.callbacks);
    let number = "20190415152645093983751";
    let forged = json!({ "recordNo": number, "status": 50 });

    let callback = Fields::new("c1");
    let answer = callback.post(callbacks, &running());
    assert_eq!(answer["code"], "000");
    let order = Fields::new("s1");
    let ordered = order.order(admin, number);
    assert_eq!(ordered["code"], "000", "{ordered}");
    let unknown = Fields::new("s2");
    is_refusal(&unknown.order(admin, "R-9"), "900");
    let answers = [Fields::of(&answer), Fields::of(&ordered)];

    let mut running_gateway = Some(gateway);
    for _ in 0..2 {
        for number in [number, "R-2"] {
            is_refusal(&callback.order(admin, number), "902");
            is_refusal(&answers[0].order(admin, number), "902");
        }
        is_refusal(&answers[1].order(admin, "R-2"), "902");
        for fields in [&order, &unknown, &answers[0], &answers[1]] {
            for body in [&forged, &json!({ "recordNo": number }), &json!({})] {
                is_refusal(&fields.post(callbacks, body), "902");
            }
        }
        // A repetition of each is answered as it was.
        assert_eq!(callback.post(callbacks, &running()), answer);
        assert_eq!(order.order(admin, number), ordered);
        running_gateway.take().unwrap().stop();
        let gateway = Gateway::over(CONFIG, open());
        (admin, callbacks) = (gateway.at.admin, gateway.at.callbacks);
        running_gateway = Some(gateway);
    }
    let events = get(admin, "/admin/v1/events?source=checks").json();
    let said: Vec<&Value> =
        events["events"].as_array().unwrap().iter().map(|event| &event["item"]).collect();
    assert_eq!(said.len(), 3, "{events}");
    assert_eq!(said.iter().filter(|item| **item == "temporary report ordered").count(), 2);
    let fresh = Fields::new("s3").order(admin, number);
    assert_eq!(fresh["code"], "000", "nothing was said of the check meanwhile: {fresh}");
}

/// An order and a callback with one signature at the same time: one of them is accepted.
#[test]
fn of_an_order_and_a_callback_at_once_one_is_taken() {
    let gateway = Gateway::start(CONFIG);
    let (admin, callbacks) = (gateway.at.admin, gateway.at.callbacks);
    feed(callbacks, (KEY, TOKEN), "c1", &running());
    let number = "20190415152645093983751";
    let forged = json!({ "recordNo": number, "status": 40, "remarks": "forged" });
    for turn in 0..20 {
        let fields = Fields::new(&format!("both-{turn}"));
        let (ordered, posted) = std::thread::scope(|scope| {
            let order = scope.spawn(|| fields.order(admin, number));
            let post = scope.spawn(|| fields.post(callbacks, &forged));
            (order.join().unwrap(), post.join().unwrap())
        });
        let codes = [&ordered["code"], &posted["code"]];
        assert!(
            codes == [&json!("000"), &json!("902")] || codes == [&json!("902"), &json!("000")],
            "{codes:?}"
        );
    }
}
