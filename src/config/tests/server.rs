//! The tables `[server]`, `[admin]`, `[archive]`, `[telemetry]`, `[store]` and `[egress]`.

use super::sources::taku;
use super::*;

#[test]
fn listeners_do_not_share_a_port() {
    let same = "[server]\ncallbacks = \"127.0.0.1:90\"\nadmin = \"127.0.0.1:90\"";
    assert_eq!(paper().mistakes(same), ["3 server.admin: takes the port of callbacks"]);
    let covered = "[server]\ncallbacks = \"0.0.0.0:90\"\nadmin = \"127.0.0.1:90\"";
    assert_eq!(paper().mistakes(covered).len(), 1);
    paper().config("[server]\ncallbacks = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"");
    paper().config("[server]\ncallbacks = \"127.0.0.2:90\"\nadmin = \"127.0.0.1:90\"");
}

#[test]
fn an_admin_listener_that_others_can_reach_needs_a_token() {
    let open = "[server]\nadmin = \"0.0.0.0:9090\"\n";
    let missing =
        "2 server.admin: 0.0.0.0:9090 can be reached from elsewhere, and there is no token";
    assert_eq!(paper().mistakes(open), [missing]);
    let config = paper().config(&format!("{open}[admin]\ntoken = \"0123456789abcdef\""));
    assert_eq!(config.admin.tokens[0].right, AdminRight::Admin);
    let short = format!("{open}[admin]\ntoken = \"short\"");
    let said = "admin.token: has fewer than 16 characters, which can be guessed";
    assert_eq!(paper().mistakes(&short), [format!("4 {said}")]);
    assert_eq!(paper().warnings("[admin]\ntoken = \"short\""), [said]);
    let config = paper()
        .config(&format!("{open}[admin]\ntoken = \"0123456789abcdef\"\nopen_metrics = true"));
    assert!(config.admin.open_metrics);
}

#[test]
fn tokens_have_names_and_values_of_their_own() {
    let text = "[admin]\ntoken = [\"a\", { name = \"admin\", value = \"b\" }, { name = \"c\", value = \"a\" }, { name = \"d\", value = \"d\", right = \"root\" }]";
    assert_eq!(
        paper().mistakes(text),
        [
            "2 admin.token[1]: admin is named twice",
            "2 admin.token[2]: repeats another token",
            "2 admin.token[3].right: \"root\" cannot be read",
        ]
    );
}

#[test]
fn a_token_is_bound_to_names_and_beginnings() {
    let bound = |sources: &str| {
        format!("[admin]\ntoken = [{{ name = \"a\", value = \"a\", sources = {sources} }}]")
    };
    let scope = |sources: &str| paper().config(&bound(sources)).admin.tokens[0].scope.clone();
    let some = scope("[\"acme-*\", \"level-end\"]");
    assert!(some.covers("acme-1") && some.covers("level-end"));
    assert!(!some.covers("level-end2") && !some.covers("other"));
    assert!(scope("\"acme-*\"").covers("acme-1"), "one may stand without brackets");
    for (sources, said) in [
        ("[]", "sources: is an empty list"),
        ("[\"*\"]", "sources[0]: \"*\" cannot be read"),
        ("[\"\"]", "sources[0]: \"\" cannot be read"),
        ("[\"a*b\"]", "sources[0]: \"a*b\" cannot be read"),
        ("[\"a**\"]", "sources[0]: \"a**\" cannot be read"),
    ] {
        let mistakes = paper().mistakes(&bound(sources));
        assert_eq!(mistakes, [format!("2 admin.token[0].{said}")], "{sources}");
    }
}

#[test]
fn accounts_of_a_provider_need_a_role() {
    let with = |keys: &str| {
        format!("[admin.oidc]\nissuer = \"https://a.example\"\nclient_id = \"p\"\n{keys}")
    };
    let role = "{ value = \"ops\", right = \"admin\" }";
    let oidc = paper().config(&with(&format!("roles = [{role}]"))).admin.oidc.unwrap();
    assert_eq!((&*oidc.roles_claim, &*oidc.name_claim), ("groups", "email"));
    assert!(oidc.client_secret.is_none() && oidc.roles[0].scope == SourceScope::All);
    for (keys, said) in [
        (String::new(), "1 admin.oidc.roles: is missing"),
        (String::from("roles = []"), "4 admin.oidc.roles: is an empty list"),
        (format!("roles = [{role}, {role}]"), "4 admin.oidc.roles[1]: ops has two rights"),
        (String::from("roles = [{ value = \"ops\" }]"), "4 admin.oidc.roles[0].right: is missing"),
    ] {
        let mistakes = paper().mistakes(&with(&keys));
        assert!(mistakes.len() == 1 && mistakes[0].starts_with(said), "{keys}: {mistakes:?}");
    }
    // The issuer may be plain http on this machine alone.
    let local =
        with(&format!("roles = [{role}]")).replace("https://a.example", "http://127.0.0.1:1");
    assert_eq!(paper().config(&local).admin.oidc.unwrap().issuer, "http://127.0.0.1:1");
}

#[test]
fn a_proxy_range_that_is_everybody_draws_a_remark() {
    let warnings = paper().warnings("[server]\ntrusted_proxies = \"0.0.0.0/0\"");
    let expected =
        "server.trusted_proxies: 0.0.0.0/0 believes every address that a caller makes up";
    assert_eq!(warnings, [expected]);
}

#[test]
fn an_archive_is_a_folder_or_a_bucket() {
    let of = |url: &str| format!("[archive]\nurl = {url:?}\n");
    let folder = paper().config(&of("file:///var/lib/archive")).archive;
    assert_eq!(folder, Some(ArchivePlace::Folder(PathBuf::from("/var/lib/archive"))));
    let account = paper().variable("AWS_ACCESS_KEY_ID", "a").variable("AWS_SECRET_ACCESS_KEY", "b");
    for (url, prefix) in [("s3://events", ""), ("s3://events/a/b/", "a/b")] {
        let (bucket, prefix) = (String::from("events"), prefix.to_owned());
        assert_eq!(account.config(&of(url)).archive, Some(ArchivePlace::S3 { bucket, prefix }));
        assert_eq!(account.warnings(&of(url)), [""; 0]);
    }
    let warnings = paper().warnings(&of("s3://events"));
    assert_eq!(warnings[0], "archive.url: needs AWS_ACCESS_KEY_ID, which is not set here");
    for url in [
        "",
        "archive",
        "file://archive",
        "file:///",
        "s3://",
        "s3:///a",
        "s3://a b",
        "https://a.example/",
    ] {
        let mistakes = paper().mistakes(&of(url));
        assert!(
            mistakes.len() == 1 && mistakes[0].starts_with("2 archive.url: "),
            "{url} {mistakes:?}"
        );
    }
    assert!(paper().config("").archive.is_none());
}

#[test]
fn a_share_of_the_traces_is_a_number_between_nothing_and_all() {
    let of = |keys: &str| format!("[telemetry]\notlp = \"http://127.0.0.1:4318\"\n{keys}");
    let usual = paper().config(&of("")).traces.unwrap();
    assert_eq!((&*usual.collector, usual.sample), ("http://127.0.0.1:4318", 0.01));
    for (written, expected) in [("1", 1.0), ("0.5", 0.5), ("1e-3", 0.001)] {
        let traces = paper().config(&of(&format!("sample = {written}"))).traces;
        assert_eq!(traces.map(|traces| traces.sample), Some(expected), "{written}");
    }
    for wrong in ["0", "0.0", "1.1", "-1", "nan", "inf"] {
        let expected = "3 telemetry.sample: is not a share of all traces";
        assert_eq!(paper().mistakes(&of(&format!("sample = {wrong}"))), [expected], "{wrong}");
    }
    assert_eq!(paper().mistakes(&of("sample = \"1%\"")), ["3 telemetry.sample: is a text"]);
    assert!(paper().config("").traces.is_none());
    let alone = paper().mistakes("[telemetry]\nsample = 0.1");
    assert_eq!(alone, ["2 telemetry.sample: has no otlp beside it"]);
    let path = paper().mistakes("[telemetry]\notlp = \"http://a.example/v1/traces\"");
    assert_eq!(path, ["2 telemetry.otlp: has a path, a query or a fragment"]);
}

#[test]
fn tls_files_are_looked_into() {
    let text = "[server]\ntls = { cert = \"c.pem\", key = \"k.pem\" }";
    let (cert, key) = pair();
    let config = paper().file("c.pem", cert).file("k.pem", key).config(text);
    assert_eq!(config.server.tls.unwrap().cert, Path::new("c.pem"));
    let swapped = paper().file("c.pem", key).file("k.pem", cert).mistakes(text);
    assert_eq!(
        swapped,
        [
            "2 server.tls.cert: there is no certificate in c.pem",
            "2 server.tls.key: there is no private key in k.pem",
        ]
    );
}

#[test]
fn a_certificate_belongs_to_its_key_and_is_valid_now() {
    let listeners = ["tls", "admin_tls"].map(|name| {
        let text = format!("[server]\n{name} = {{ cert = \"c.pem\", key = \"k.pem\" }}");
        (text, format!("server.{name}.cert"))
    });
    let client = "[[destination]]\nname = \"d\"\nformat = \"forward\"\nurl = \"https://h/\"\n\
                  client_key = \"k.pem\"\nclient_cert = \"c.pem\"";
    let client = [(client.to_owned(), String::from("destination[d].client_cert"))];
    let with = |(cert, key): (String, String)| paper().file("c.pem", &cert).file("k.pem", &key);
    let other = with((pair().0.clone(), certificate(|_| {}).1));
    let ended = with(certificate(|params| params.not_after = rcgen::date_time_ymd(2025, 1, 1)));
    let early = with(certificate(|params| params.not_before = rcgen::date_time_ymd(2027, 1, 1)));
    for (text, key) in listeners.into_iter().chain(client) {
        let faults = other.load(&text).map(|_| ()).unwrap_err().faults;
        assert_eq!((faults.len(), &*faults[0].key), (1, &*key), "{faults:?}");
        let what = "the key in k.pem does not belong to the certificate in c.pem";
        assert_eq!(faults[0].what, what);
        assert!(faults[0].remedy.contains("a renewal replaces both files"));
        assert_eq!(with(pair().clone()).warnings(&text), [""; 0]);
        let expired = format!("{key}: c.pem expired at 2025-01-01T00:00:00.000Z");
        assert_eq!(ended.warnings(&text), [expired]);
        let future = format!("{key}: c.pem is not valid before 2027-01-01T00:00:00.000Z");
        assert_eq!(early.warnings(&text), [future]);
    }
}

#[test]
fn one_body_fits_into_all_bodies() {
    let text = "[server.limits]\nbody = \"2MiB\"\nunverified_body = \"1MiB\"";
    assert!(paper().mistakes(text)[0].starts_with("2 server.limits.body: is more than"));
}

// ---- [store], [egress] ----

#[test]
fn transactions_outlive_events() {
    let longer = paper().config("[store]\nkeep_events = \"120d\"").store;
    assert_eq!(longer.keep_transactions, longer.keep_events);
    let of_source = |keys: &str| {
        let text =
            format!("[store]\nkeep_events = \"20d\"\nkeep_transactions = \"40d\"\n{}", taku(keys));
        paper().load(&text).map(|loaded| loaded.config.sources["s"].keep)
    };
    let day = Duration::from_secs(86_400);
    let kept = of_source("keep_events = \"1d\"\nkeep_transactions = \"30d\"").unwrap();
    assert_eq!((kept.events, kept.transactions), (Some(day), Some(30 * day)));
    assert_eq!(of_source("").unwrap(), Keep::default());
    for (keys, what) in [
        ("keep_events = \"30d\"", "is 30d, longer than store.keep_events (20d)"),
        ("keep_transactions = \"19d\"", "is 19d, less than keep_events (20d)"),
        ("keep_events = \"9d\"\nkeep_transactions = \"8d\"", "less than keep_events (9d)"),
    ] {
        let faults = of_source(keys).unwrap_err().to_string();
        assert!(faults.contains(what), "{faults}");
    }
    let shorter = paper().mistakes("[store]\nkeep_transactions = \"20d\"");
    assert!(shorter[0].starts_with("2 store.keep_transactions: is 20d, less than"), "{shorter:?}");
}

#[test]
fn a_scrub_takes_a_share_of_the_time_or_is_off() {
    let share = |text: &str| paper().load(text).unwrap().config.store.scrub;
    assert_eq!(share(""), Some(limits::SCRUB));
    assert_eq!(share("[store]\nscrub = \"off\""), None);
    let one = crate::ledger::ScrubShare::percent(1);
    assert_eq!(share("[store]\nscrub = \"1%\""), one);
    for bad in ["0%", "51%", "5", "5 %", "-1%", "on", "300%"] {
        let mistakes = paper().mistakes(&format!("[store]\nscrub = {bad:?}"));
        let wanted = format!("2 store.scrub: \"{bad}\" is not a share");
        assert!(mistakes[0].starts_with(&wanted), "{mistakes:?}");
    }
    let elsewhere = "[store]\nengine = \"postgres\"\nurl = \"postgres://h/d\"\nscrub = \"5%\"";
    let mistakes = paper().mistakes(elsewhere);
    assert!(
        mistakes.iter().any(|one| one.contains("store.scrub: belongs to engine")),
        "{mistakes:?}"
    );
}

#[test]
fn each_engine_has_its_own_keys() {
    let text = "[store]\nengine = \"postgres\"\nurl = \"env:DB\"\nrequire_replicated = true";
    let config = paper().variable("DB", "postgres://u@h/d").config(text);
    let StoreEngine::Postgres(store) = config.store.engine else {
        panic!("{:?}", config.store);
    };
    assert!(store.require_replicated);
    assert_eq!((store.schema.as_str(), store.writers, store.readers), ("postern", 4, 2));
    let wrong = paper().variable("DB", "mysql://h/d").mistakes(text);
    assert_eq!(wrong, ["3 store.url: does not begin with postgres://"]);
    let slip = "postgres://u:hidden@h/d?sslmod=require";
    let wrong = paper().variable("DB", slip).mistakes(text);
    assert!(wrong[0].contains("sslmod") && !wrong[0].contains("hidden"), "{wrong:?}");
    let names = paper().variable("DB", "postgres://u@h/d");
    let wrong = names.mistakes(&format!("{text}\nschema = \"Post; drop\"\nwriters = 0"));
    assert_eq!(wrong.len(), 2, "{wrong:?}");
    let mixed = paper().mistakes("[store]\nurl = \"postgres://h\"");
    assert_eq!(mixed, ["2 store.url: belongs to engine = \"postgres\""]);
    let bare = paper().mistakes("[store]\nengine = \"postgres\"\npath = \"x\"");
    assert_eq!(bare.len(), 2, "{bare:?}");
}

#[test]
fn who_asks_a_gateway_needs_no_address_of_its_database() {
    let text = "[store]\nengine = \"postgres\"\nurl = \"env:DB\"";
    let (paper, path) = (paper().file("postern.toml", text), Path::new("postern.toml"));
    let loaded = load_with(&paper, path, Secrets::Optional).unwrap();
    let StoreEngine::Postgres(server) = &loaded.config.store.engine else { panic!() };
    assert_eq!(server.url, None);
    assert_eq!(loaded.missing[0].key, "store.url");
    let refused = crate::server::postgres(&loaded.config.store, server).unwrap_err();
    assert!(refused.to_string().contains("store.url"), "{refused}");
    let faults = load_with(&paper, path, Secrets::Required).unwrap_err().faults;
    assert_eq!(faults[0].key, "store.url");
}

#[test]
fn paths_are_seen_from_the_folder_of_the_file() {
    let loaded = load_str(&paper(), Path::new("/etc/postern/postern.toml"), "").unwrap();
    let StoreEngine::Embedded { path } = loaded.config.store.engine else { panic!() };
    assert_eq!(path, Path::new("/etc/postern/postern-data"));
}
