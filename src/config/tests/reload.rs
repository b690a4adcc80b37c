//! Settings that wait for a restart together.

use std::fs;

use super::*;

/// A gateway that runs, and the folder of its configuration.
struct Scene {
    folder: tempfile::TempDir,
    watcher: Watcher,
}

impl Scene {
    fn start(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("postern.toml");
        let ca = client_ca::authority(2040);
        for (name, text) in [("c.pem", &*pair().0), ("k.pem", &*pair().1), ("ca.pem", &*ca)] {
            fs::write(folder.path().join(name), text).unwrap();
        }
        fs::write(&path, text).unwrap();
        let loaded = load(&path).unwrap_or_else(|faults| panic!("{faults}"));
        Self { watcher: Watcher::new(Arc::new(Machine), path, loaded), folder }
    }

    fn reload(&mut self, text: &str) -> Applied {
        fs::write(self.folder.path().join("postern.toml"), text).unwrap();
        self.watcher.reload().unwrap_or_else(|faults| panic!("{faults}"))
    }
}

const TLS: &str = "[server]\ntls = { cert = \"c.pem\", key = \"k.pem\" }\n";
const CA: &str = "client_ca = \"ca.pem\"";

fn source(name: &str, keys: &str) -> String {
    format!(
        "[[source]]\nname = {name:?}\nsender = \"taku\"\nsecrets = \"secret-of-{name}\"\n{keys}\n"
    )
}

/// Certificates of callers arrive over TLS alone: who has to present one would be refused.
#[test]
fn certificates_of_callers_wait_with_the_tls_of_the_listener() {
    let mut plain = Scene::start(&source("old", "allow = \"10.0.0.0/8\""));
    let secured = TLS.to_owned() + &source("old", CA) + &source("new", CA);
    for _ in 0..2 {
        let Applied { config, waiting, .. } = plain.reload(&secured);
        assert_eq!(waiting, ["server.tls", "source[new].client_ca", "source[old].client_ca"]);
        assert!(config.sources["old"].client_ca.is_none(), "its callers go on");
        assert_eq!(config.sources["old"].allow.len(), 1, "and nothing else is let in");
        assert!(config.sources["new"].client_ca.is_some(), "it was never open");
    }
    let mut secured = Scene::start(&(TLS.to_owned() + &source("old", CA)));
    let Applied { config, waiting, .. } = secured.reload(&source("old", ""));
    assert_eq!(waiting, ["server.tls", "source[old].client_ca"]);
    assert!(config.sources["old"].client_ca.is_some());
    let Applied { config, waiting, .. } = secured.reload(&(TLS.to_owned() + &source("old", "")));
    assert!(waiting.is_empty() && config.sources["old"].client_ca.is_none());
}

/// A body over the limit of all bodies would be answered with 503.
#[test]
fn a_body_limit_waits_with_the_limit_of_all_bodies_that_it_needs() {
    let text = |body: &str, all: &str, big: &str| {
        let limits = format!("[server.limits]\nbody = {body:?}\nunverified_body = {all:?}\n");
        let big = source("big", &format!("body = {big:?}"));
        limits + &big + &source("usual", "") + &source("small", "body = \"512KiB\"")
    };
    let mut scene = Scene::start(&text("256KiB", "2MiB", "1MiB"));
    let Applied { config, waiting, .. } = scene.reload(&text("4MiB", "8MiB", "3MiB"));
    assert_eq!(waiting, ["server.limits", "server.limits.body", "source[big].body"]);
    let limits = config.server.limits;
    assert_eq!((limits.body_bytes, limits.unverified_body_bytes), (256 << 10, 2 << 20));
    let bytes =
        |config: &Config| ["big", "usual", "small"].map(|name| config.sources[name].body_bytes);
    assert_eq!(bytes(&config), [1 << 20, 256 << 10, 512 << 10]);
    // A body limit that fits applies at once, and so does a lower one.
    let Applied { config, waiting, .. } = scene.reload(&text("1MiB", "8MiB", "2MiB"));
    assert_eq!(waiting, ["server.limits"]);
    assert_eq!(bytes(&config), [2 << 20, 1 << 20, 512 << 10]);
    let Applied { config, waiting, .. } = scene.reload(&text("64KiB", "1MiB", "1MiB"));
    assert_eq!(waiting, ["server.limits"]);
    assert_eq!(bytes(&config), [1 << 20, 64 << 10, 512 << 10]);
}

#[test]
fn proxies_wait_with_the_protocol_that_they_speak_and_a_withdrawn_one_is_named() {
    let text = |protocol: &str, proxies: &str| {
        format!("[server]\n{protocol}\ntrusted_proxies = {proxies}\n")
    };
    let before = "[\"10.0.0.0/8\", \"192.0.2.1\"]";
    let mut scene = Scene::start(&text("", before));
    let on = text("proxy_protocol = true", "[\"10.0.0.0/8\", \"198.51.100.1\"]");
    let Applied { config, waiting, still_trusted } = scene.reload(&on);
    assert_eq!(waiting, ["server.proxy_protocol", "server.trusted_proxies"]);
    let shown =
        |ranges: &[ipnet::IpNet]| ranges.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(shown(&still_trusted), ["192.0.2.1/32"]);
    assert_eq!(shown(&config.server.trusted_proxies), ["10.0.0.0/8", "192.0.2.1/32"]);
    let Applied { config, waiting, still_trusted } = scene.reload(&text("", "\"198.51.100.1\""));
    assert!(waiting.is_empty() && still_trusted.is_empty());
    assert_eq!(shown(&config.server.trusted_proxies), ["198.51.100.1/32"]);
}
