//! A target reaches its sender as it was on the wire; docs/limits.md says what does not.

use md5::{Digest as _, Md5};

use super::gateway::{Gateway, PLAIN};
use super::wire::{Answer, Wire, ask, get_bytes, post_bytes};

/// A sender that signs its raw query.
fn raw_sender() -> String {
    let sender = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/raw.toml");
    let text = PLAIN.replace("\"taku\"", "\"raw\"");
    format!("senders = [{:?}]\n{text}", sender.display().to_string())
}

fn signed(query: &[u8]) -> Vec<u8> {
    let mut text = query.to_vec();
    text.extend_from_slice(super::gateway::TAKU_SECRET.as_bytes());
    let sign = const_hex::encode(Md5::digest(text));
    [b"/callback/level-end?", query, b"&sign=", sign.as_bytes()].concat()
}

fn request(target: &[u8]) -> Vec<u8> {
    [b"GET ", target, b" HTTP/1.1\r\nHost: a\r\nX: \"<>#\r\n\r\n"].concat()
}

fn get_raw(gateway: &Gateway, query: &[u8]) -> Answer {
    ask(gateway.at.callbacks, request(&signed(query)))
}

#[test]
fn what_senders_really_write_gets_through_untouched() {
    let gateway = Gateway::start(&raw_sender());
    let table: [&[u8]; 14] = [
        b"t=plain",
        b"t=%22%e4%bd%a0%E4%BD%A0%7e~",
        b"t=a+b&&x=&=y&;",
        b"t={\"k\":[1,2]}",
        b"t=<b>&x=>",
        b"t=a|b^c`d\\e",
        b"t=a'(b)*c!$,;:@/?",
        b"t=%zz%",
        "t=你好".as_bytes(),
        b"t=gbk&x=\xc4\xe3\xba\xc3",
        b"t=not-utf-8&x=\x80\xff",
        b"t=a#b",
        b"t=#",
        b"t=\"\"\"<<<>>>###",
    ];
    for query in table {
        let answer = get_raw(&gateway, query);
        assert_eq!((answer.status, answer.body.as_str()), (200, "ok"), "{}", query.escape_ascii());
    }
    // A transaction is text: bytes that are not UTF-8 are rejected, though the signature is right.
    assert_eq!(get_raw(&gateway, b"t=\xc4\xe3\xba\xc3").status, 400);
}

#[test]
fn also_on_a_connection_that_is_kept_but_not_behind_a_pipeline() {
    let gateway = Gateway::start(&raw_sender());
    let mut wire = Wire::open(gateway.at.callbacks);
    // A body that comes with its head says where the next one begins.
    wire.send(post_bytes("/callback/level-end", "x=1"));
    assert_eq!(wire.answer().unwrap().status, 400);
    for n in 0..3 {
        wire.send(request(&signed(format!("t=\"k{n}\"").as_bytes())));
        assert_eq!(wire.answer().unwrap().status, 200);
        wire.send(request(&signed(format!("t=k{n}").as_bytes())));
        assert_eq!(wire.answer().unwrap().status, 200);
    }
    // hyper has the connection by now. Nothing reads this body, so the connection ends.
    wire.send(post_bytes("/callback/level-end", "x=1"));
    let answer = wire.answer().unwrap();
    assert_eq!((answer.status, answer.field("connection").as_deref()), (400, Some("close")));
    assert!(wire.is_closed());
    let mut wire = Wire::open(gateway.at.callbacks);
    wire.send(request(&signed(b"t=plain2")));
    assert_eq!(wire.answer().unwrap().status, 200);
    wire.send(request(&signed(b"t=\"odd\"")));
    assert_eq!(wire.answer().unwrap().status, 200);

    // Behind a pipelined request it is uncertain where the next head begins: hyper's rejection stands.
    let mut wire = Wire::open(gateway.at.callbacks);
    wire.send([request(&signed(b"t=\"p1\"")), request(&signed(b"t=\"p2\""))].concat());
    assert_eq!(wire.answer().unwrap().status, 200);
    assert_eq!(wire.answer().unwrap().status, 400);
}

/// The same, and `posts`, of a sender that posts forms.
fn raw_and_form() -> String {
    let form = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/form.toml");
    let senders = format!("senders = [{:?}, ", form.display().to_string());
    let text = raw_sender().replacen("senders = [", &senders, 1);
    format!("{text}\n[[source]]\nname = \"posts\"\nsender = \"form\"\nsecrets = \"k\"\n")
}

/// A form whose other field looks like a request.
fn form(t: &str, filler: usize) -> String {
    let sign = const_hex::encode(Md5::digest(format!("{t}k")));
    format!("t={t}&x={}GET \"a\" <b> #c&sign={sign}", "a".repeat(filler))
}

/// Posts a form in two pieces, of which the second has the end of its body.
fn post_in_pieces(wire: &mut Wire, t: &str, filler: usize) -> Answer {
    let whole = post_bytes("/callback/posts", &form(t, filler));
    let (head, rest) = whole.split_at(whole.len() - 40);
    wire.send(head);
    std::thread::sleep(std::time::Duration::from_millis(20));
    wire.send(rest);
    wire.answer().unwrap()
}

fn post_in_chunks(wire: &mut Wire, t: &str) -> Answer {
    let form = form(t, 0);
    let head = "POST /callback/posts HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    wire.send(format!("{head}{:x}\r\n{form}\r\n0\r\n\r\n", form.len()));
    wire.answer().unwrap()
}

fn get_odd(wire: &mut Wire, t: &str) -> Answer {
    wire.send(request(&signed(format!("t=\"{t}\"#").as_bytes())));
    wire.answer().unwrap()
}

#[test]
fn also_behind_bodies_of_a_length_but_not_behind_chunks() {
    let gateway = Gateway::start(&raw_and_form());
    let mut wire = Wire::open(gateway.at.callbacks);
    for (n, filler) in [0, 20_000, 100, 5_000].into_iter().enumerate() {
        let answer = post_in_pieces(&mut wire, &format!("p{n}"), filler);
        assert_eq!((answer.status, answer.body), (200, format!("took p{n}")));
        assert_eq!(get_odd(&mut wire, &format!("o{n}")).status, 200, "after {filler} bytes");
    }
    assert_eq!(post_in_chunks(&mut wire, "c1").body, "took c1");
    assert_eq!(get_odd(&mut wire, "o9").status, 400);
    assert!(wire.is_closed());
}

/// Its next request may be that of another sender.
#[test]
fn a_proxy_that_sent_chunks_connects_again() {
    let trusting = "trusted_proxies = [\"127.0.0.1\"]\ndrain";
    let gateway = Gateway::start(&raw_and_form().replace("drain", trusting));
    let mut wire = Wire::open(gateway.at.callbacks);
    assert_eq!(get_odd(&mut wire, "o1").status, 200);
    let answer = post_in_pieces(&mut wire, "p1", 0);
    assert_eq!((answer.status, answer.field("connection")), (200, None));
    assert_eq!(get_odd(&mut wire, "o2").status, 200);
    let answer = post_in_chunks(&mut wire, "c1");
    assert_eq!((answer.status, answer.field("connection").as_deref()), (200, Some("close")));
    assert!(wire.is_closed());
}

#[test]
fn a_body_is_never_touched() {
    let gateway = Gateway::start(&super::bounds::with_form(&PLAIN.replace("\"taku\"", "\"form\"")));
    let body = |t: &str| {
        let sign = const_hex::encode(Md5::digest(format!("{t}{}", super::gateway::TAKU_SECRET)));
        format!("t={t}&x=GET \"a\" <b> #c&sign={sign}")
    };
    let mut wire = Wire::open(gateway.at.callbacks);
    for t in ["\"1\"", "\" \"2\" ", "<3>", "#4"] {
        let whole = post_bytes("/callback/level-end", &body(t));
        let (head, rest) = whole.split_at(whole.find("\r\n\r\n").unwrap() + 4);
        // In pieces: the body then arrives in separate reads.
        wire.send(head);
        std::thread::sleep(std::time::Duration::from_millis(20));
        wire.send(rest);
        let answer = wire.answer().unwrap();
        assert_eq!((answer.status, answer.body), (200, format!("took {t}")));
    }
}

#[test]
fn a_head_may_come_byte_by_byte() {
    let gateway = Gateway::start(&raw_sender());
    let mut wire = Wire::open(gateway.at.callbacks);
    for byte in request(&signed(b"t={\"a\":\"<b>\"}#&x=\xff")) {
        wire.send([byte]);
    }
    assert_eq!(wire.answer().unwrap().status, 200);
}

#[test]
fn an_absolute_target_is_a_path_too() {
    let gateway = Gateway::start(&raw_sender());
    let target = String::from_utf8(signed(b"t=absolute")).unwrap();
    let answer = ask(gateway.at.callbacks, get_bytes(&format!("http://a.example{target}")));
    assert_eq!(answer.status, 200);
    let odd = [b"http://a.example".as_slice(), &signed(b"t={\"a\":\"<b>\"}")].concat();
    let mut wire = Wire::open(gateway.at.callbacks);
    wire.send(request(&odd));
    assert_eq!(wire.answer().unwrap().status, 200);
}

#[test]
fn what_is_no_http_is_refused() {
    let gateway = Gateway::start(&raw_sender());
    for bytes in [
        &b"GET /callback/level-end?t=a b HTTP/1.1\r\n\r\n"[..],
        b"GET /\x01 HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\r\n\r\n",
    ] {
        let mut wire = Wire::open(gateway.at.callbacks);
        wire.send(bytes);
        assert!(wire.answer().is_none_or(|answer| answer.status == 400), "{bytes:?}");
    }
}
