//! Request forms that providers, their consoles and monitors really send.

use super::gateway::{Gateway, PLAIN, taku};
use super::wire::{get, send};

/// A source called `open` that nothing signs.
fn open() -> String {
    format!(
        "{PLAIN}\n[[source]]\nname = \"open\"\nsender = \"unsigned\"\nunsigned = true\n\
         allow = \"127.0.0.1\"\nparams = {{ transaction = \"tid\", user = \"uid\" }}\n"
    )
}

#[test]
fn consoles_and_monitors_ask_whether_the_address_is_there() {
    let gateway = Gateway::start(&open());
    let to = gateway.at.callbacks;
    let head = send(to, "HEAD /callback/level-end", &[], "");
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    let options = send(to, "OPTIONS /callback/open", &[], "");
    assert_eq!(options.status, 204);
    assert_eq!(options.field("allow").as_deref(), Some("GET, POST, HEAD, OPTIONS"));
    assert_eq!(send(to, "HEAD /callback/nowhere", &[], "").status, 404);
    assert_eq!(gateway.outcomes("rejected"), 0.0, "not a callback");
    // Any other method is the sender's business.
    assert_eq!(send(to, "DELETE /callback/level-end", &[], "").status, 602);
    assert_eq!(gateway.outcomes("rejected"), 1.0);
    assert_eq!(get(to, &taku("f1")).status, 200);
}

#[test]
fn a_sender_that_asks_with_options_gets_the_headers_that_its_file_names() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("events.toml");
    let text = concat!(
        "title = \"CloudEvents\"\nsecret = \"key\"\nmethod = [\"POST\", \"OPTIONS\"]\nreads = \"json\"\n",
        "[roles]\neffect = \"none\"\ntransaction = \"{id}\"\n",
        "[signature]\nof = \"[body]\"\nwith = \"hmac_sha256\"\nin = \"[header.x-sign]\"\n",
        "[challenge]\nwhen = \"[method] is OPTIONS\"\nsigned = false\n",
        "[reply]\naccepted = 200\nrejected = 403\nunavailable = 503\n",
        "challenge = { headers = { WebHook-Allowed-Origin = \"[header.WebHook-Request-Origin]\" } }\n",
        "[[vector]]\nabout = \"own\"\nsource = { secrets = \"k\" }\nrequest = '''\n",
        "POST /\nx-sign: 9517944737cafb550065dd115b693946f64b48abd9d64e6e404794f23197dd77\n\n{\"id\":\"1\"}'''\n",
        "expect = { outcome = \"accepted\" }\n",
    );
    std::fs::write(&file, text).unwrap();
    let gateway = Gateway::start(&format!(
        "{PLAIN}\n[[source]]\nname = \"events\"\nsender = \"custom\"\nrecipe = {:?}\nsecrets = \"k\"\n",
        file.display().to_string()
    ));
    let to = gateway.at.callbacks;
    let origin = [("WebHook-Request-Origin", "eventgrid.example.net")];
    let answer = send(to, "OPTIONS /callback/events", &origin, "");
    assert_eq!((answer.status, answer.body.as_str()), (200, ""));
    assert_eq!(answer.field("webhook-allowed-origin").as_deref(), Some("eventgrid.example.net"));
    let probes = "postern_callbacks_total{outcome=\"challenge\",source=\"events\"}";
    assert_eq!(gateway.metric(probes), 1.0, "counted as a probe");
    let split = [("WebHook-Request-Origin", "a.example, b.example")];
    let answer = send(to, "OPTIONS /callback/events", &split, "");
    assert_eq!((answer.status, answer.field("webhook-allowed-origin")), (403, None));
    let events = get(gateway.at.admin, "/admin/v1/events").json();
    assert_eq!(events["events"].as_array().unwrap().len(), 0);
}

#[test]
fn arrays_multipart_and_marks_are_read_and_compressed_bodies_are_named() {
    let gateway = Gateway::start(&open());
    let to = gateway.at.callbacks;
    let json = [("Content-Type", "application/json")];
    assert_eq!(get(to, "/callback/open?tid=ar-1&uid=u&tags[]=a&tags[]=b").status, 200);
    let marked = "\u{feff}{\"tid\":\"j-5\",\"uid\":\"u\"}";
    assert_eq!(send(to, "POST /callback/open", &json, marked).status, 200);
    let multipart = [("Content-Type", "multipart/form-data; boundary=B")];
    let body = "--B\r\nContent-Disposition: form-data; name=\"tid\"\r\n\r\nm-1\r\n\
                --B\r\nContent-Disposition: form-data; name=\"uid\"\r\n\r\nu 1\r\n--B--\r\n";
    assert_eq!(send(to, "POST /callback/open", &multipart, body).status, 200);
    let gzip = [("Content-Type", "application/json"), ("Content-Encoding", "gzip")];
    assert_eq!(send(to, "POST /callback/open", &gzip, "x").status, 403);

    let events = get(gateway.at.admin, "/admin/v1/events").json();
    let rows = events["events"].as_array().unwrap();
    assert_eq!(rows.len(), 3);
    let row = |transaction: &str| {
        let mut rows = rows.iter();
        rows.find(|row| row["transaction"] == transaction).unwrap_or_else(|| panic!("{events}"))
    };
    assert_eq!((&row("m-1")["user"], &row("j-5")["user"]), (&"u 1".into(), &"u".into()));
    assert_eq!(row("ar-1")["params"]["tags[]"], serde_json::json!(["a", "b"]));
    assert_eq!(row("m-1")["params"], serde_json::json!({ "tid": "m-1", "uid": "u 1" }));
    assert_eq!(row("j-5")["delivery_state"], "done");
    let rejected = get(gateway.at.admin, "/admin/v1/rejections?source=open").json();
    let first = &rejected["rejections"][0];
    assert_eq!(
        (first["reason"].as_str(), first["parameter"].as_str()),
        (Some("bad_body"), Some("content-encoding: gzip"))
    );
}
