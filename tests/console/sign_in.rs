//! Sign-in, sign-out and sessions.

use super::axe::inspect;
use super::browser::LANGUAGES;
use super::stage::{self, ADMIN_TOKEN, READ_TOKEN, sign_in};

#[test]
fn a_token_opens_a_session_until_sign_out() {
    let Some(gateway) = stage::guarded("") else { return };
    for (asked, said) in LANGUAGES {
        let browser = stage::browser(&gateway, asked);
        browser.go("/console/senders?q=taku");
        assert_eq!(browser.path(), "/console/sign-in?next=%2Fconsole%2Fsenders%3Fq%3Dtaku");
        assert!(browser.has(&format!("html[lang={said}]")));
        inspect(&browser, &format!("sign-in-{said}"));
        browser.fill("#field-token", "nonsense");
        browser.leave("main form button");
        assert!(browser.has("#field-token[aria-invalid]"), "{}", browser.text("body"));
        assert!(browser.cookies().iter().all(|cookie| cookie["name"] != "postern_session"));
        // The browser logs the status of a rejected form.
        assert_eq!(browser.complaints().len(), 1);
        browser.fill("#field-token", ADMIN_TOKEN);
        browser.leave("main form button");
        assert_eq!(browser.path(), "/console/senders?q=taku");

        let cookies = browser.cookies();
        let session = cookies.iter().find(|cookie| cookie["name"] == "postern_session").unwrap();
        assert_eq!((&session["httpOnly"], &session["sameSite"]), (&true.into(), &"Strict".into()));
        assert_eq!((&session["path"], &session["secure"]), (&"/console".into(), &false.into()));
        browser.leave(".corner form button");
        assert_eq!(browser.path(), "/console/sign-in");
        browser.go("/console");
        assert_eq!(browser.path(), "/console/sign-in?next=%2Fconsole");
    }
    let browser = stage::browser(&gateway, "en");
    sign_in(&browser, READ_TOKEN, "/console");
    assert!(browser.text(".who").contains("token wall (read-only)"));
}
