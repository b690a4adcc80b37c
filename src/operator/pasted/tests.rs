use super::*;
use crate::operator::curl as printed;

fn read(text: &str) -> OwnedRequest {
    pasted(text).unwrap_or_else(|why| panic!("{text}: {why}"))
}

fn target(request: &OwnedRequest) -> String {
    String::from_utf8(request.target.clone()).unwrap()
}

#[test]
fn urls_and_requests_are_told_apart() {
    for (text, method, to, body) in [
        (" /callback/a?x=a b \n", "GET", "/callback/a?x=a b", ""),
        ("https://h:8/callback/a?x=1", "GET", "/callback/a?x=1", ""),
        ("cb.example.com/callback/a?x=1", "GET", "/callback/a?x=1", ""),
        ("<https://h/callback/a?x=1>", "GET", "/callback/a?x=1", ""),
        ("'/callback/a?x=1'", "GET", "/callback/a?x=1", ""),
        ("\u{feff}https://h?x=/y", "GET", "/?x=/y", ""),
        (
            "POST /callback/a HTTP/1.1\r\nHost: h\r\n\r\n{\"a\":\r\n1}",
            "POST",
            "/callback/a",
            "{\"a\":\n1}",
        ),
        ("POST /callback/a\nContent-Length: 2\n\n{}\n", "POST", "/callback/a", "{}"),
        ("get /callback/a HTTP/2\n", "get", "/callback/a", ""),
        ("GET /callback/a", "GET", "/callback/a", ""),
        ("GET /callback/a?b=c 403 5.2 ms - 12", "GET", "/callback/a?b=c", ""),
        ("> GET /callback/a?b=c HTTP/2\n> Host: h\n> \n< HTTP/2 403", "GET", "/callback/a?b=c", ""),
    ] {
        let request = read(text);
        assert_eq!(request.method.as_str(), method, "{text}");
        assert_eq!((target(&request), request.body.as_slice()), (to.to_owned(), body.as_bytes()));
    }
    for text in ["", "rubbish", "https://h", "GET", "curl -i 'x'", "curl", "a/b"] {
        assert!(pasted(text).is_err(), "{text:?}");
    }
    let why = pasted(&"x".repeat(10_000)).unwrap_err();
    assert!(why.len() < 200, "{why}");
}

#[test]
fn curl_commands_of_browsers_and_of_the_console_are_read() {
    let url = "https://cb.example.com/callback/tapjoy?id=1&snuid=a%20b";
    let chrome = format!(
        "curl '{url}' \\\n  -H 'accept: */*' \\\n  -H 'accept-language: en-US,en;q=0.9' \\\n  \
         --compressed --insecure"
    );
    let firefox =
        format!("curl '{url}' --compressed -H 'User-Agent: Mozilla/5.0' -H 'Accept: */*'");
    // Chrome for cmd escapes every sign, and a percent sign in front of a letter or digit twice.
    let cmd = "curl ^\"https://cb.example.com/callback/tapjoy?id=1^&snuid=a^%^20b^\" ^\n  \
               -H ^\"accept: */*^\" ^\n  --compressed";
    let old_cmd =
        "curl \"https://cb.example.com/callback/tapjoy?id=1&snuid=a\"%\"20b\" -H \"accept: */*\"";
    let ours = format!("curl -i -X GET '{url}'");
    for text in [
        &chrome,
        &firefox,
        cmd,
        old_cmd,
        &ours,
        &format!("$ curl.exe -sS \"{url}\" | jq ."),
        "curl -G https://cb.example.com/callback/tapjoy -d id=1 --data-urlencode 'snuid=a b'",
        &format!("curl --url {url} -o /dev/null -w '%{{http_code}}'"),
        &format!("curl -XGET --max-time 5 -u a:b {url}#top > out.txt 2>&1"),
    ] {
        let request = read(text);
        assert_eq!(request.method, Method::GET, "{text}");
        assert_eq!(request.base, "https://cb.example.com", "{text}");
        assert_eq!(target(&request), "/callback/tapjoy?id=1&snuid=a%20b", "{text}");
    }
    assert_eq!(read(cmd).headers["accept"], "*/*");
}

#[test]
fn bodies_of_curl_commands_are_those_that_were_sent() {
    let json = r#"{"text":"it's \"5\" %20! \n 人"}"#;
    let bash = "curl 'https://h/callback/a' -X 'POST' -H 'content-type: application/json' --data-raw \
                $'{\"text\":\"it\\'s \\\\\"5\\\\\" %20\\u0021 \\\\n 人\"}'";
    let cmd = "curl ^\"https://h/callback/a^\" ^\n  -H ^\"content-type: application/json^\" ^\n  \
               --data-raw ^\"^{^\\^\"text^\\^\":^\\^\"it's ^\\^\\^\\^\"5^\\^\\^\\^\" ^%^20^! ^\\^\\n 人^\\^\"^}^\"";
    for text in [bash, cmd] {
        let request = read(text);
        assert_eq!(request.method, Method::POST);
        assert_eq!(request.headers["content-type"], "application/json");
        assert_eq!(String::from_utf8(request.body).unwrap(), json, "{text}");
    }
    let form = read("curl https://h/callback/a -d a=1 -d 'b=2&c=3'");
    assert_eq!((form.method.as_str(), form.body.as_slice()), ("POST", &b"a=1&b=2&c=3"[..]));
    assert_eq!(form.headers["content-type"], "application/x-www-form-urlencoded");
    let bytes = read(r"curl https://h/callback/a --data-binary $'\xff\x00\101\n'");
    assert_eq!(bytes.body, b"\xff\x00A\n");
    let parts = read("curl https://h/callback/a -F a=1 -F 'b=x y'");
    let text = String::from_utf8(parts.body).unwrap();
    assert!(text.contains("name=\"b\"\r\n\r\nx y\r\n"), "{text}");
    let why = pasted("curl https://h/callback/a -d @body.json").unwrap_err();
    assert!(why.contains("body.json"), "{why}");
    assert!(pasted("curl 'https://h/callback/a").unwrap_err().contains("does not end"));
}

#[test]
fn what_the_console_prints_is_read_back() {
    for text in [
        "POST /callback/a?x=it's\nX-Sign: a'b\nContent-Type: application/json\n\n{\"a\": \"it's\"}",
        // Of these, curl would make a file, a pattern, a form, and no header.
        "POST /callback/a\nContent-Type: text/plain\n\n@/etc/passwd",
        "GET /callback/a?user=[1-9]&x={a,b}\n",
        "POST /callback/a\n\na=1\nb=2",
        "GET /callback/a?x=1\nX-Empty: \n",
    ] {
        let request = OwnedRequest::parse(text).unwrap();
        let line = printed("https://cb.example.com", &request);
        let back = read(&line);
        let base = "https://cb.example.com".into();
        assert_eq!(back, OwnedRequest { base, ..request }, "{line}");
    }
}

#[test]
fn lines_of_access_logs_are_read() {
    let to = "/callback/tapjoy?id=1&u=a%20b";
    let nginx =
        format!("1.2.3.4 - - [29/Nov/2026:08:00:00 +0000] \"GET {to} HTTP/1.1\" 403 0 \"-\" \"x\"");
    let capture = Capture::read(&nginx).unwrap();
    assert_eq!(capture.at_ms, Some(1_795_939_200_000));
    let balancer = format!(
        "https 2026-11-29T08:00:00.000000Z app/lb/1 1.2.3.4:5 10.0.0.1:80 0.0 0.0 0.0 403 403 1 2 \
         \"GET https://cb.example.com:443{to} HTTP/1.1\" \"x\" -"
    );
    let caddy = format!(
        r#"{{"level":"info","ts":1.7,"request":{{"remote_ip":"1.2.3.4","method":"GET","host":"h","uri":"{}"}}}}"#,
        to.replace('&', "\\u0026")
    );
    let cloud = format!(r#"{{"ClientRequestMethod":"GET","ClientRequestURI":"{to}"}}"#);
    let split =
        r#"{"request_method":"GET","path":"/callback/tapjoy","query_string":"id=1&u=a%20b"}"#;
    let json = format!(r#"{{"request":"GET {to} HTTP/1.1","status":403}}"#);
    for line in [&nginx, &balancer, &caddy, &cloud, split, &json] {
        let request = read(line);
        assert_eq!(target(&request), to, "{line}");
        assert_eq!(request.method, Method::GET);
    }
    let escaped = read("h \"GET /callback/a?u=\\xE4\\xBA\\xBA&q=\\x22 HTTP/1.1\" 200");
    assert_eq!(target(&escaped), "/callback/a?u=人&q=\"");
}

#[test]
fn a_query_or_a_body_alone_is_completed_by_its_source() {
    let text = "[server]\npublic_url = \"https://cb.example.com\"\n\
                [[source]]\nname = \"game\"\nsender = \"taku\"\nsecrets = \"k\"\n\
                [[source]]\nname = \"hook\"\nsender = \"github\"\nsecrets = \"k\"\n";
    let loaded = crate::config::load_str(&crate::config::Machine, std::path::Path::new(""), text);
    let config = loaded.unwrap().config;
    let (game, hook) = (&config.sources["game"], &config.sources["hook"]);
    let with_url = "a=b&u=https://h/callback/game";
    assert_eq!(Capture::read(with_url).unwrap().source_name(), None);
    let whole = Capture::read("https://h/behind/callback/gmae/?a=b").unwrap();
    assert_eq!(whole.source_name().as_deref(), Some("gmae"));
    for text in ["?trans_id=1&sign=2", "trans_id=1&sign=2", "'trans_id=1&sign=2'"] {
        let capture = Capture::read(text).unwrap();
        assert!(capture.source(&config).unwrap_err().contains("name the source"));
        assert_eq!(target(&capture.to(game)), "/callback/game?trans_id=1&sign=2");
    }
    let body = Capture::read("{\"zen\":\"x\"}").unwrap().to(hook);
    assert_eq!(
        (target(&body), body.body.as_slice()),
        ("/callback/hook".into(), &b"{\"zen\":\"x\"}"[..])
    );

    let named = |path: &str| source_at(&config, path.as_bytes()).map(|source| source.name.clone());
    for path in ["/callback/game?x=/callback/hook", "/callback/game/", "/behind/callback/game?a"] {
        assert_eq!(named(path).unwrap(), "game", "{path}");
    }
    assert!(named("/callback/gmae").unwrap_err().contains("did you mean game?"));
    assert!(named("/tapjoy?x=1").unwrap_err().contains("/callback/"));
}

#[test]
fn what_no_text_says_is_not_shown_as_one() {
    let mut request = pasted("POST /a\nContent-Type: text/xml\n\n<x/>\n").unwrap();
    let text = as_text(&request).unwrap();
    assert_eq!(pasted(&text).unwrap(), request);
    request.body = b"a\r\nb".to_vec();
    assert_eq!(as_text(&request), None);
    request.body = vec![0xff];
    assert_eq!(as_text(&request), None);
    request = OwnedRequest { method: Method::GET, body: Vec::new(), ..request };
    assert!(as_text(&request).is_some());
}

proptest::proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "(curl |GET |\"|\\{)?\\PC{0,80}") {
        let _ = Capture::read(&text);
    }
}
