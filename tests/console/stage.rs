//! Gateways for the tests, and browsers at their consoles.

use super::browser::Browser;
use super::driver;
use super::gateway::{Gateway, PLAIN};
use super::wire;

/// Tokens of the tests.
pub const ADMIN_TOKEN: &str = "ops-token-0123456789";
pub const READ_TOKEN: &str = "wall-token-0123456789";

/// Configuration with these tokens.
pub const TOKENS: &str = r#"
[admin]
token = [{ name = "ops", value = "ops-token-0123456789" }, { name = "wall", value = "wall-token-0123456789", right = "read" }]
"#;

/// A gateway without tokens, with the Taku source `level-end`, whose table is followed by `more`.
/// `None`: no browser is installed.
pub fn open(more: &str) -> Option<Gateway> {
    driver::is_there().then(|| Gateway::start(&format!("{PLAIN}{more}")))
}

/// A gateway with tokens.
pub fn guarded(more: &str) -> Option<Gateway> {
    open(&format!("{more}{TOKENS}"))
}

/// A browser at its console that reads `lang`; where no token is configured, signed in with that of
/// the machine.
pub fn browser(gateway: &Gateway, lang: &str) -> Browser {
    let browser = Browser::open(gateway.at.admin, lang);
    if let Some(token) = wire::local_token(gateway.at.admin) {
        browser.go("/console/sign-in");
        browser.fill("#field-token", &token);
        browser.leave("main form button");
    }
    browser
}

/// Signs in and is at `path` then.
pub fn sign_in(browser: &Browser, token: &str, path: &str) {
    browser.go(path);
    browser.fill("#field-token", token);
    browser.leave("main form button");
    assert_eq!(browser.path(), path, "{}", browser.text("main"));
}
