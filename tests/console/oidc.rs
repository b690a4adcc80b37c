//! Sign-in with accounts of a real OpenID provider: `oidc-provider`, which `scripts/setup` gets.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::axe::inspect;
use super::browser::{Browser, LANGUAGES};
use super::driver;
use super::gateway::{Gateway, PLAIN, taku};
use super::stage::{self, ADMIN_TOKEN, TOKENS};
use super::wire::get;

fn modules() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/oidc/node_modules")
}

/// Whether the provider is installed; says what is missing.
fn is_there() -> bool {
    if modules().join("oidc-provider").is_dir() {
        return true;
    }
    let says = "oidc-provider is missing: scripts/setup gets it";
    assert!(std::env::var_os("CI").is_none(), "{says}");
    // Not `eprintln!`, whose output is hidden if a test passes.
    let mut err = std::io::stderr();
    writeln!(err, "SKIPPED: {says}").unwrap();
    false
}

/// A provider, until this is dropped.
struct Provider {
    child: Child,
    issuer: String,
}

impl Provider {
    fn start(console: SocketAddr) -> Self {
        let port = free().port();
        let own = modules().join("../node/bin/node");
        let node = if own.is_file() { own } else { PathBuf::from("node") };
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/console/oidc_provider.mjs");
        let redirect = format!("http://{console}/console/sign-in/oidc/callback");
        let mut child = Command::new(node)
            .arg(script)
            .args([modules().as_os_str(), port.to_string().as_ref(), redirect.as_ref()])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("ready")), "the provider did not start");
        // Further output must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, issuer: format!("http://127.0.0.1:{port}") }
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn configured(issuer: &str, client: &str) -> String {
    format!(
        "{TOKENS}\n[admin.oidc]\nissuer = \"{issuer}\"\nclient_id = \"{client}\"\n\
         client_secret = \"a client secret, with: signs\"\nscopes = \"openid email groups\"\n\
         roles = [\n  {{ value = \"postern-ops\", right = \"admin\" }},\n  \
         {{ value = \"postern-desk\", right = \"support\", sources = [\"other-*\"] }},\n]\n"
    )
}

/// Signs in at the provider: its own pages for name, password and consent.
fn at_provider(browser: &Browser, name: &str) {
    browser.click("main a.button[href*='/sign-in/oidc']");
    browser.until("the provider asks for a name", |browser| browser.has("input[name=login]"));
    browser.fill("input[name=login]", name);
    browser.fill("input[name=password]", "any");
    browser.click("button[type=submit], input[type=submit]");
    browser.until("it asks for consent", |browser| {
        browser.has("form[action*=confirm] button, input[name=prompt][value=consent]")
    });
    browser.click("button[type=submit], input[type=submit]");
}

#[test]
fn a_provider_that_does_not_respond_is_asked_once_and_the_page_says_so() {
    if !driver::is_there() {
        return;
    }
    // Connections are accepted by the system, and nothing is ever sent.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    silent.set_nonblocking(true).unwrap();
    let at = silent.local_addr().unwrap();
    let config = configured(&format!("http://{at}"), "postern");
    let gateway = Gateway::start(&format!("{PLAIN}{config}"));
    let (admin, path) = (gateway.at.admin, "/console/sign-in/oidc?next=/console/audit");
    let answers: Vec<_> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..4).map(|_| scope.spawn(|| get(admin, path))).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    for answer in &answers {
        assert_eq!(answer.status, 503, "{}", answer.body);
        assert!(answer.body.contains("does not respond"), "{}", answer.body);
    }
    assert!(silent.accept().is_ok());
    assert!(silent.accept().is_err(), "four sign-ins made one connection");
    // Signing in with a token leads where the account would have led.
    let browser = Browser::open(admin, "zh-CN,zh");
    browser.go(path);
    let said = browser.text("[role=alert]");
    assert!(said.contains("无响应") && said.contains(&at.to_string()), "{said}");
    browser.complaints();
    inspect(&browser, "sign-in-provider-down-zh-CN");
    browser.fill("#field-token", ADMIN_TOKEN);
    browser.leave("main form button");
    assert_eq!(browser.path(), "/console/audit");
    // A caller may not begin any number of sign-ins.
    let statuses: Vec<u16> = (0..12).map(|_| get(admin, path).status).collect();
    assert!(statuses.contains(&429), "{statuses:?}");
}

#[test]
fn accounts_sign_in_with_the_right_and_the_sources_of_their_role() {
    if !is_there() {
        return;
    }
    let Some(gateway) = stage::guarded("") else { return };
    let provider = Provider::start(gateway.at.admin);
    let text = |issuer: &str, client: &str| format!("{}{}", PLAIN, configured(issuer, client));
    gateway.reload(&text(&provider.issuer, "postern"));
    assert_eq!(get(gateway.at.callbacks, &taku("oidc-1")).status, 200);
    for (asked, said) in LANGUAGES {
        let browser = stage::browser(&gateway, asked);
        browser.until("the configuration is active", |browser| {
            browser.go("/console/callbacks?q=oidc-1");
            browser.has("main a.button")
        });
        inspect(&browser, &format!("sign-in-with-{said}"));
        at_provider(&browser, "ops@example.com");
        browser.until("the page that was asked for", |browser| {
            browser.has(".who") && browser.path() == "/console/callbacks?q=oidc-1"
        });
        assert!(browser.text(".who").contains("oidc ops@example.com"), "{}", browser.text(".who"));
        assert!(browser.has("tbody tr"), "{}", browser.text("main"));
        let cookies = browser.cookies();
        let names: Vec<_> = cookies.iter().map(|one| one["name"].as_str().unwrap()).collect();
        assert!(
            names.contains(&"postern_session") && !names.contains(&"postern_oidc"),
            "{names:?}"
        );
        // An admin may change settings, and signs out.
        browser.go("/console/sources?new=taku");
        assert!(browser.has("#field-name"), "{}", browser.text("main"));
        browser.leave(".corner form button");
        assert_eq!(browser.path(), "/console/sign-in");
        browser.go("/console");
        assert_eq!(browser.path(), "/console/sign-in?next=%2Fconsole");
    }

    // Another account has another right, and sees its sources alone.
    let browser = stage::browser(&gateway, "en");
    browser.go("/console/callbacks");
    at_provider(&browser, "desk@example.com");
    browser.until("signed in", |browser| browser.has(".who"));
    assert!(browser.text(".who").contains("(support)"), "{}", browser.text(".who"));
    assert!(!browser.has("tbody tr"), "{}", browser.text("main"));
    // Its session ends with the configuration of its role.
    gateway.reload(&text(&provider.issuer, "another"));
    browser.until("the session is over", |browser| {
        browser.go("/console/callbacks");
        browser.path().starts_with("/console/sign-in")
    });
    gateway.reload(&text(&provider.issuer, "postern"));

    // An account without a role, an answer that was not asked for, and one that was refused.
    let browser = stage::browser(&gateway, "en");
    browser.go("/console");
    at_provider(&browser, "guest@example.com");
    browser.until("refused", |browser| browser.has("[role=alert]"));
    assert!(browser.text("[role=alert]").contains("no role"), "{}", browser.text("main"));
    browser.complaints();
    browser.go("/console/sign-in/oidc/callback?code=x&state=y");
    assert!(browser.text("[role=alert]").contains("not begun in this browser"));
    assert!(browser.cookies().iter().all(|cookie| cookie["name"] != "postern_session"));
}
