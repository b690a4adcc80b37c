//! The console as a program sees it: who is let in, and the headers of every response. The pages
//! themselves are tested in a browser (`tests/console`).

use std::net::SocketAddr;

use super::gateway::{Gateway, PLAIN};
use super::wire::{Answer, get, send};

const TOKENS: &str = r#"
[admin]
token = [{ name = "ops", value = "ops-token-0123456789" }, { name = "wall", value = "wall-token-0123456789", right = "read" }]
"#;

fn guarded() -> Gateway {
    Gateway::start(&format!("{PLAIN}{TOKENS}"))
}

/// The token that a page's first form has to send back.
fn csrf(page: &Answer) -> String {
    let (_, rest) = page.body.split_once("name=\"csrf\" value=\"").unwrap();
    rest.split_once('"').unwrap().0.to_owned()
}

fn try_token(at: SocketAddr, token: &str, fields: &[(&str, &str)]) -> Answer {
    let csrf = csrf(&get(at, "/console/sign-in"));
    send(at, "POST /console/sign-in", fields, &format!("csrf={csrf}&token={token}"))
}

/// The session that signing in gave, as a browser sends it back.
fn session(signed_in: &Answer) -> String {
    let cookie = signed_in.field("set-cookie").unwrap_or_else(|| panic!("{signed_in:?}"));
    cookie.split_once(';').unwrap().0.to_owned()
}

fn get_with(at: SocketAddr, path: &str, cookie: &str) -> Answer {
    send(at, &format!("GET {path}"), &[("Cookie", cookie)], "")
}

#[test]
fn every_page_says_what_may_be_done_with_it() {
    let gateway = Gateway::start(PLAIN);
    let at = gateway.at.admin;
    let root = get(at, "/");
    assert_eq!((root.status, root.field("location").as_deref()), (303, Some("/console")));
    let page = get(at, "/console");
    assert_eq!(page.status, 200);
    let policy = page.field("content-security-policy").unwrap();
    for part in [
        "default-src 'none'",
        "style-src 'self'",
        "script-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    ] {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(page.field("x-content-type-options").unwrap(), "nosniff");
    assert_eq!(page.field("referrer-policy").unwrap(), "same-origin");
    assert_eq!(page.field("cache-control").unwrap(), "no-store");
    assert!(!page.body.contains("style=\"") && !page.body.contains("://"), "{}", page.body);
    for (kind, content_type) in
        [(".css", "text/css"), (".js", "text/javascript"), (".svg", "image/svg+xml")]
    {
        let path = page.body.split('"').find(|text| text.ends_with(kind)).unwrap();
        let asset = get(at, path);
        assert_eq!(asset.status, 200);
        assert!(asset.field("content-type").unwrap().starts_with(content_type));
        assert_eq!(asset.field("cache-control").unwrap(), "public, max-age=31536000, immutable");
    }
    for absent in
        ["/console/nonsense", "/console/events/evt_1", "/console/%ff", "/console/assets/x.js"]
    {
        assert_eq!(get(at, absent).status, 404, "{absent}");
    }
    assert_eq!(send(at, "PUT /console", &[], "").status, 405);
    assert_eq!(get(at, "/consolex").status, 404);
}

#[test]
fn another_name_and_another_site_get_nothing() {
    let gateway = Gateway::start(PLAIN);
    let at = gateway.at.admin;
    let rebound = super::wire::ask(at, "GET /console HTTP/1.1\r\nHost: evil.example\r\n\r\n");
    assert_eq!(rebound.status, 421);
    assert!(!rebound.body.contains("level-end") && !rebound.body.contains("csrf"));
    let embedded = [("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "no-cors")];
    assert_eq!(send(at, "GET /console", &embedded, "").status, 403);
    let followed = [
        ("Sec-Fetch-Site", "cross-site"),
        ("Sec-Fetch-Mode", "navigate"),
        ("Sec-Fetch-Dest", "document"),
    ];
    assert_eq!(send(at, "GET /console", &followed, "").status, 200, "a link may be followed");
    let mut framed = followed;
    framed[2] = ("Sec-Fetch-Dest", "iframe");
    assert_eq!(send(at, "GET /console", &framed, "").status, 403);
    assert_eq!(send(at, "POST /console/sign-out", &followed, "csrf=x").status, 403);
    assert_eq!(
        send(at, "POST /console/sign-out", &[("Origin", "http://evil.example")], "").status,
        403
    );
    let unbound = send(at, "POST /console/events/evt_1/replay", &[], "csrf=x");
    assert_eq!(unbound.status, 403, "a form that is not of this console");
}

#[test]
fn a_session_is_for_browsers_and_ends_with_its_token() {
    let gateway = guarded();
    let at = gateway.at.admin;
    let outside = get(at, "/console/callbacks?q=a");
    let to = "/console/sign-in?next=%2Fconsole%2Fcallbacks%3Fq%3Da";
    assert_eq!((outside.status, outside.field("location").as_deref()), (303, Some(to)));
    let in_vain = [("Authorization", "Bearer ops-token-0123456789")];
    assert_eq!(send(at, "GET /console", &in_vain, "").status, 303, "a bearer token opens no page");

    let plain = try_token(at, "wall-token-0123456789", &[]);
    let cookie = plain.field("set-cookie").unwrap();
    assert!(cookie.ends_with("; Path=/console; HttpOnly; SameSite=Strict"), "{cookie}");
    // TLS ends in front of this listener; the browser says that it came over it.
    let over_tls = [("Origin", "https://localhost")];
    let secure = try_token(at, "ops-token-0123456789", &over_tls);
    assert!(secure.field("set-cookie").unwrap().ends_with("; SameSite=Strict; Secure"));

    let look = session(&plain);
    let looking = [("Cookie", look.as_str())];
    let page = send(at, "GET /console", &looking, "");
    assert_eq!(page.status, 200);
    let refused =
        send(at, "POST /console/events/x/replay", &looking, &format!("csrf={}", csrf(&page)));
    assert_eq!(refused.status, 403);
    assert!(refused.body.contains("read-only"), "{}", refused.body);
    let admin = session(&secure);
    let own = send(
        at,
        "POST /console/events/x/replay",
        &[("Cookie", &admin)],
        &format!("csrf={}", csrf(&page)),
    );
    assert_eq!(own.status, 403, "a form of another session");
    assert_eq!(
        send(at, "GET /admin/v1/events", &looking, "").status,
        401,
        "no session is for the API"
    );

    gateway.reload(&format!("{PLAIN}{}", TOKENS.replace("wall-token-0", "wall-token-9")));
    super::gateway::eventually("the session has ended", || {
        send(at, "GET /console", &looking, "").status == 303
    });
    assert_eq!(send(at, "GET /console", &[("Cookie", &admin)], "").status, 200);
}

#[test]
fn whoever_signs_in_again_leaves_no_session_behind() {
    let gateway = guarded();
    let at = gateway.at.admin;
    let is_in = |cookie: &str| get_with(at, "/console", cookie).status == 200;
    let first = session(&try_token(at, "wall-token-0123456789", &[]));
    assert!(is_in(&first));
    let csrf = csrf(&get_with(at, "/console", &first));
    let form = format!("csrf={csrf}&token=ops-token-0123456789");
    let again = send(at, "POST /console/sign-in", &[("Cookie", &*first)], &form);
    let second = session(&again);
    assert!(is_in(&second) && !is_in(&first), "the one before has ended");
}

#[test]
fn whoever_guesses_has_to_be_slow() {
    let gateway = guarded();
    let at = gateway.at.admin;
    let tries: Vec<u16> =
        (0..11).map(|n| try_token(at, &format!("guess-{n}"), &[]).status).collect();
    assert_eq!(tries[..10], [422; 10]);
    assert_eq!(tries[10], 429);
    let right = try_token(at, "ops-token-0123456789", &[]);
    assert_eq!(right.status, 429, "a right guess would tell that it is one");
    let huge = send(at, "POST /console/sign-in", &[], &"x".repeat(1024 * 1024));
    assert_eq!(huge.status, 429, "no more is read of a caller that guesses");
}

#[test]
fn a_stranger_may_not_send_much() {
    let gateway = guarded();
    let huge = send(gateway.at.admin, "POST /console/sign-in", &[], &"x".repeat(8 * 1024 + 1));
    assert_eq!(huge.status, 413);
}

#[test]
fn the_language_is_asked_for_or_chosen() {
    let gateway = Gateway::start(PLAIN);
    let at = gateway.at.admin;
    let lang = |line: &str, fields: &[(&str, &str)]| {
        let page = send(at, line, fields, "");
        page.body.split_once("<html lang=\"").unwrap().1.split_once('"').unwrap().0.to_owned()
    };
    assert_eq!(lang("GET /console", &[]), "en");
    assert_eq!(lang("GET /console", &[("Accept-Language", "zh-TW, en;q=0.5")]), "zh-CN");
    let chosen = get(at, "/console/callbacks?lang=zh-CN");
    assert!(chosen.body.contains("<html lang=\"zh-CN\""));
    let cookie = session(&chosen);
    assert_eq!(cookie, "postern_lang=zh-CN");
    assert_eq!(lang("GET /console", &[("Cookie", &cookie)]), "zh-CN");
    assert_eq!(lang("GET /console?lang=en", &[("Cookie", &cookie)]), "en");
    assert_eq!(lang("GET /console?lang=fr", &[]), "en");
}
