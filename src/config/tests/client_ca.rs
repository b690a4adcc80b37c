//! Authorities of client certificates.

use rcgen::{BasicConstraints, IsCa};

use super::*;

const UNREADABLE: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";

/// A certificate in PEM that ends in that year.
fn ending(ends: i32, is_ca: IsCa) -> String {
    let (cert, _) = certificate(|params| {
        params.is_ca = is_ca;
        params.not_after = rcgen::date_time_ymd(ends, 1, 20);
    });
    cert
}

pub(super) fn authority(ends: i32) -> String {
    ending(ends, IsCa::Ca(BasicConstraints::Unconstrained))
}

const TLS: &str = "[server]\ntls = { cert = \"c.pem\", key = \"k.pem\" }\n";

fn source(file: &str) -> String {
    format!("[[source]]\nname = \"s\"\nsender = \"taku\"\nsecrets = \"x\"\nclient_ca = {file:?}\n")
}

fn found(ca: &str) -> Vec<String> {
    let paper = paper().file("c.pem", &pair().0).file("k.pem", &pair().1).file("ca.pem", ca);
    let text = TLS.to_owned() + &source("ca.pem");
    match paper.load(&text) {
        Ok(loaded) => loaded.warnings.iter().map(|one| one.what.clone()).collect(),
        Err(faults) => {
            assert!(faults.faults.iter().all(|fault| fault.line == Some(7)), "{faults}");
            faults.faults.iter().map(|fault| format!("!{}", fault.what)).collect()
        }
    }
}

#[test]
fn a_file_of_authorities_is_read_and_anything_else_is_refused() {
    let good = authority(2040);
    assert_eq!(found(&good), [""; 0]);
    assert_eq!(found(&(good.clone() + &authority(2030))), [""; 0]);
    assert_eq!(found("nothing"), ["!there is no certificate in ca.pem"]);
    assert_eq!(found(UNREADABLE), ["!has a certificate that cannot be read"]);
    assert_eq!(found(&authority(2025)), ["!ca.pem expired at 2025-01-20T00:00:00.000Z"]);
    let ended = "one of its authorities expired at 2025-01-20T00:00:00.000Z";
    assert_eq!(found(&(authority(2025) + &good)), [ended]);
    let soon = "expires at 2026-01-20T00:00:00.000Z: then every callback is rejected";
    assert_eq!(found(&authority(2026)), [soon]);
    let leaf = found(&ending(2040, IsCa::NoCa));
    assert!(leaf[0].ends_with("is not an authority: the certificate issues no others"), "{leaf:?}");
    let many = good.repeat(limits::CLIENT_CA_CERTIFICATES_MAX + 1);
    assert_eq!(found(&many), ["!has 9 certificates, more than 8"]);
}

#[test]
fn without_tls_of_the_listener_no_certificate_arrives() {
    let paper = paper().file("ca.pem", &authority(2040));
    let faults = paper.load(&source("ca.pem")).map(|_| ()).unwrap_err();
    let [fault] = &faults.faults[..] else { panic!("{faults}") };
    assert!(fault.key == "source[s].client_ca" && fault.what.starts_with("needs TLS"), "{fault}");
    assert!(fault.remedy.contains("server.tls") && fault.remedy.contains("proxy"), "{fault}");
}

#[test]
fn an_authority_that_everybody_gets_certificates_from_is_warned_of() {
    let warnings = found(&fixture("public-root.pem"));
    assert!(warnings.iter().any(|what| what.contains("is a public authority")), "{warnings:?}");
}
