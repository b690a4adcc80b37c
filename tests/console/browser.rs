//! A browser, used through visible elements, clicks and keys.

use std::cell::Cell;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::driver::Driver;

/// The key under which the protocol names an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// How often an element may be replaced while it is found.
const REFRESHES: usize = 5;

/// The languages of the console: `Accept-Language`, and the `lang` of pages.
pub const LANGUAGES: [(&str, &str); 2] = [("en-GB,en", "en"), ("zh-CN,zh", "zh-CN")];

/// Light or dark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Light,
    Dark,
}

/// A browser at the console of one gateway.
pub struct Browser {
    driver: Driver,
    at: SocketAddr,
    clicks: Cell<usize>,
}

impl Browser {
    /// Opens a browser that requests pages in `lang` from the admin listener `at`.
    pub fn open(at: SocketAddr, lang: &str) -> Self {
        Self { driver: Driver::start(lang), at, clicks: Cell::new(0) }
    }

    // === Navigation ===

    /// Goes to a path of the console.
    pub fn go(&self, path: &str) {
        self.driver.ask("POST", "/url", &json!({ "url": format!("http://{}{path}", self.at) }));
    }

    pub fn reload(&self) {
        self.driver.ask("POST", "/refresh", &json!({}));
    }

    /// Path and query of the page that is shown, without the result of a form: the script removes
    /// it, and pages without a script keep it.
    pub fn path(&self) -> String {
        let url = self.driver.ask("GET", "/url", &Value::Null);
        let url = url.as_str().unwrap();
        let origin = format!("http://{}", self.at);
        let path = url.strip_prefix(&origin).unwrap_or_else(|| panic!("{url} is elsewhere"));
        let Some((before, after)) = path.split_once("?done=") else { return path.to_owned() };
        let rest = after.find(['&', '#']).map_or("", |at| &after[at..]);
        format!("{before}{}", rest.replacen('&', "?", 1))
    }

    pub fn title(&self) -> String {
        self.driver.ask("GET", "/title", &Value::Null).as_str().unwrap().to_owned()
    }

    // === Reading ===

    /// The visible text of the first element that matches `css`; fails if there is none.
    pub fn text(&self, css: &str) -> String {
        self.texts(css).into_iter().next().unwrap_or_else(|| {
            panic!("nothing at {css} on {}: {}", self.path(), self.texts("body").join("\n"))
        })
    }

    /// The visible text of each element that matches `css`.
    pub fn texts(&self, css: &str) -> Vec<String> {
        let read =
            "return [...document.querySelectorAll(arguments[0])].map(one => one.innerText.trim())";
        let all = self.run(read, &json!([css]));
        all.as_array().unwrap().iter().map(|one| one.as_str().unwrap().to_owned()).collect()
    }

    pub fn has(&self, css: &str) -> bool {
        !self.texts(css).is_empty()
    }

    /// Waits until `holds` is true, one minute at most.
    pub fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        for _ in 0..1200 {
            if holds(self) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("never: {what}; {} shows {}", self.path(), self.text("body"));
    }

    // === Actions ===

    /// Clicks the element that matches `css`, which must be visible. For actions that stay on the
    /// page.
    pub fn click(&self, css: &str) {
        self.click_at("css selector", css);
    }

    /// Clicks an element that leads to another page, and waits for that page.
    pub fn leave(&self, css: &str) {
        self.leave_by(|| self.click_at("css selector", css));
    }

    /// Follows the link with exactly this text.
    pub fn follow(&self, link: &str) {
        self.leave_by(|| self.click_at("link text", link));
    }

    /// Presses the mouse on an element, and holds it.
    pub fn hold(&self, css: &str) {
        self.with("css selector", css, |element| {
            let origin = json!({ ELEMENT: element });
            let over = json!({ "type": "pointerMove", "origin": origin, "x": 0, "y": 0 });
            self.point(&json!([over, { "type": "pointerDown", "button": 0 }]))
        });
    }

    /// Releases the mouse where it is.
    pub fn release(&self) {
        self.point(&json!([{ "type": "pointerUp", "button": 0 }])).unwrap();
    }

    fn point(&self, actions: &Value) -> Result<Value, Value> {
        let mouse = json!({ "type": "pointer", "id": "mouse", "actions": actions });
        self.driver.attempt("POST", "/actions", &json!({ "actions": [mouse] }))
    }

    /// The number of clicks since the last call.
    pub fn clicks(&self) -> usize {
        self.clicks.replace(0)
    }

    fn click_at(&self, using: &str, value: &str) {
        self.clicks.set(self.clicks.get() + 1);
        self.act(using, value, "click", &json!({}));
    }

    /// Runs an action that leads to another page, and waits for that page.
    pub fn leave_by(&self, what: impl FnOnce()) {
        self.run("document.documentElement.dataset.left = 'yes'", &json!([]));
        what();
        let there = "return document.readyState === 'complete' \
                     && document.documentElement.dataset.left === undefined";
        let there = json!({ "script": there, "args": [] });
        for _ in 0..1200 {
            // Between two pages the driver returns errors.
            if self.driver.attempt("POST", "/execute/sync", &there) == Ok(Value::Bool(true)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("no page followed on {}", self.path());
    }

    /// Empties a field and types into it.
    pub fn fill(&self, css: &str, text: &str) {
        self.act("css selector", css, "clear", &json!({}));
        self.act("css selector", css, "value", &json!({ "text": text }));
    }

    /// Selects the option with that value.
    pub fn choose(&self, css: &str, value: &str) {
        self.click(&format!("{css} option[value={value:?}]"));
    }

    /// Presses a key on what has the focus; `\u{e004}` is Tab, `\u{e007}` Enter.
    pub fn press(&self, key: &str) {
        let stroke =
            json!([{ "type": "keyDown", "value": key }, { "type": "keyUp", "value": key }]);
        let keys = json!({ "type": "key", "id": "keys", "actions": stroke });
        self.driver.ask("POST", "/actions", &json!({ "actions": [keys] }));
    }

    /// Sends a command to an element.
    fn act(&self, using: &str, value: &str, command: &str, body: &Value) {
        self.with(using, value, |element| {
            self.driver.attempt("POST", &format!("/element/{element}/{command}"), body)
        });
    }

    /// Does something with an element. A refresh may replace the element between the two: it is then
    /// found again, as by the eye of a user.
    fn with(&self, using: &str, value: &str, what: impl Fn(&str) -> Result<Value, Value>) {
        for _ in 0..REFRESHES {
            match what(&self.element(using, value)) {
                Ok(_) => return,
                Err(error) if error["error"] == "stale element reference" => {}
                Err(error) => panic!("{value} on {}: {error}", self.path()),
            }
        }
        panic!("{value} on {} was replaced {REFRESHES} times", self.path());
    }

    fn element(&self, using: &str, value: &str) -> String {
        let found =
            self.driver.attempt("POST", "/element", &json!({ "using": using, "value": value }));
        let found = found.unwrap_or_else(|_| {
            panic!("nothing at {value} on {}: {}", self.path(), self.text("body"))
        });
        found[ELEMENT].as_str().unwrap().to_owned()
    }

    // === The browser itself ===

    /// Runs a script in the page; the page's policy does not hold for it.
    pub fn run(&self, script: &str, arguments: &Value) -> Value {
        self.driver.ask("POST", "/execute/sync", &json!({ "script": script, "args": arguments }))
    }

    /// Runs a script that calls its last argument when it is done.
    pub fn run_async(&self, script: &str, arguments: &Value) -> Value {
        self.driver.ask("POST", "/execute/async", &json!({ "script": script, "args": arguments }))
    }

    /// Sets the preferred colour scheme.
    pub fn prefers(&self, scheme: Scheme) {
        let value = if scheme == Scheme::Dark { "dark" } else { "light" };
        let feature = json!([{ "name": "prefers-color-scheme", "value": value }]);
        self.devtools("Emulation.setEmulatedMedia", &json!({ "features": feature }));
    }

    /// Makes the page that many pixels wide.
    pub fn width(&self, pixels: u32) {
        let size =
            json!({ "width": pixels, "height": 900, "deviceScaleFactor": 1, "mobile": false });
        self.devtools("Emulation.setDeviceMetricsOverride", &size);
    }

    /// Disables scripts of pages.
    pub fn without_scripts(&self) {
        self.devtools("Emulation.setScriptExecutionDisabled", &json!({ "value": true }));
    }

    /// Enables scripts of pages.
    pub fn with_scripts(&self) {
        self.devtools("Emulation.setScriptExecutionDisabled", &json!({ "value": false }));
    }

    /// Lets pages copy, as a user's browser does without a question.
    pub fn may_copy(&self) {
        let permissions = ["clipboardReadWrite", "clipboardSanitizedWrite"];
        self.devtools("Browser.grantPermissions", &json!({ "permissions": permissions }));
    }

    /// The text that the page copied last.
    pub fn clipboard(&self) -> String {
        let script = "const done = arguments[arguments.length - 1]; \
            navigator.clipboard.readText().then(done, error => done(String(error)));";
        self.run_async(script, &json!([])).as_str().unwrap().to_owned()
    }

    /// Shows the page as it is printed.
    pub fn on_paper(&self) {
        self.devtools("Emulation.setEmulatedMedia", &json!({ "media": "print" }));
    }

    /// Deletes all cookies: the session of the page is over.
    pub fn forget_cookies(&self) {
        self.driver.ask("DELETE", "/cookie", &Value::Null);
    }

    /// Whether the first element that matches `css` takes room on the page.
    pub fn is_visible(&self, css: &str) -> bool {
        let script = "return document.querySelector(arguments[0]).getClientRects().length > 0";
        self.run(script, &json!([css])) == true
    }

    pub fn cookies(&self) -> Vec<Value> {
        self.driver.ask("GET", "/cookie", &Value::Null).as_array().unwrap().clone()
    }

    /// Warnings and errors that the browser logged since the last call: blocked by the page's policy,
    /// not found, script errors.
    pub fn complaints(&self) -> Vec<String> {
        let all = self.driver.ask("POST", "/se/log", &json!({ "type": "browser" }));
        let all = all.as_array().unwrap().iter();
        let bad = all.filter(|entry| matches!(entry["level"].as_str(), Some("SEVERE" | "WARNING")));
        bad.map(|entry| entry["message"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Saves a screenshot of the whole page in the folder `POSTERN_SCREENSHOTS`, if that is set.
    pub fn picture(&self, name: &str) {
        let Some(folder) = std::env::var_os("POSTERN_SCREENSHOTS") else { return };
        // Without the size, the room of a scrollbar is cut off.
        let size = "return [innerWidth, document.documentElement.scrollHeight]";
        let size = self.run(size, &json!([]));
        let clip = json!({ "x": 0, "y": 0, "width": size[0], "height": size[1], "scale": 1 });
        let whole = json!({ "format": "png", "captureBeyondViewport": true, "clip": clip });
        let picture = self.devtools("Page.captureScreenshot", &whole);
        let bytes = STANDARD.decode(picture["data"].as_str().unwrap()).unwrap();
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(Path::new(&folder).join(format!("{name}.png")), bytes).unwrap();
    }

    fn devtools(&self, command: &str, parameters: &Value) -> Value {
        let ask = json!({ "cmd": command, "params": parameters });
        self.driver.ask("POST", "/goog/cdp/execute", &ask)
    }
}
