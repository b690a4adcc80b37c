//! Checks that find now whatever would be rejected later.

use super::*;

fn source(sender: &str, keys: &str) -> String {
    format!("[[source]]\nname = \"s\"\nsender = {sender:?}\n{keys}\n")
}

fn secret(written: &str) -> String {
    source("taku", &format!("secrets = {}", toml::Value::from(written)))
}

#[test]
fn a_variable_of_another_program_is_no_secret() {
    let expected = "4 source[s].secrets: is written like a variable of another program, and nothing \
                    replaces it";
    for written in ["${TAKU_KEY}", "$TAKU_KEY", "{$TAKU_KEY}", "{env.TAKU_KEY}", "ENV:TAKU_KEY"] {
        let faults = paper().load(&secret(written)).map(|_| ()).unwrap_err();
        assert_eq!(paper().mistakes(&secret(written)), [expected], "{written}");
        assert!(faults.to_string().contains("env:NAME") && !faults.to_string().contains(written));
    }
    // One that is really written so can be given in another way; what looks wrong is said.
    let paper = paper().variable("A", "${TAKU_KEY}").file("a", "$TAKU_KEY\n");
    let expected = "source[s].secrets: holds what another program should have replaced by a \
                    variable's value";
    for written in ["env:A", "file:a"] {
        assert_eq!(paper.warnings(&secret(written)), [expected], "{written}");
    }
}

#[test]
fn what_was_copied_along_with_a_secret_is_named() {
    let quoted = "source[s].secrets: has quotes around it";
    let blank = "source[s].secrets: has spaces or line ends around it";
    let paper = paper()
        .variable("QUOTED", "\"tapjoy-vc-secret\"")
        .file("blank", "tapjoy-vc-secret \n")
        .file("mark", "\u{feff}tapjoy-vc-secret\n")
        .file("right", "tapjoy-vc-secret\n");
    assert_eq!(paper.warnings(&secret("env:QUOTED")), [quoted]);
    assert_eq!(paper.warnings(&secret("\"tapjoy-vc-secret\"")), [quoted]);
    assert_eq!(paper.warnings(&secret("file:blank")), [blank]);
    assert_eq!(paper.warnings(&secret("' x '")), [quoted]);
    assert!(paper.warnings(&secret("file:right")).is_empty());
    for marked in ["file:mark", "\u{feff}tapjoy-vc-secret"] {
        let mistakes = paper.mistakes(&secret(marked));
        assert!(mistakes[0].contains("begins with a byte order mark"), "{mistakes:?}");
    }
    let header = "[[destination]]\nname = \"d\"\nurl = \"http://h/\"\nformat = \"forward\"\n\
                  headers = { If-Match = '\"x\"' }";
    assert!(paper.warnings(header).is_empty(), "quotes belong to this header");
}

#[test]
fn units_that_no_callback_can_hold_are_refused() {
    let units = |units: &str| source("admob", &format!("ad_units = {units:?}"));
    let whole = units("1234567890, ca-app-pub-3940256099942544/1234567891");
    let faults = paper().load(&whole).map(|_| ()).unwrap_err().faults;
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert_eq!(faults[0].key, "source[s].ad_units");
    assert_eq!(faults[0].remedy, "write only the part after the slash");
    assert!(paper().warnings(&units("1234567890,1234567891")).is_empty());
}

#[test]
fn senders_have_other_names() {
    let remedy = |name: &str| {
        let faults = paper().load(&source(name, "")).map(|_| ()).unwrap_err().faults;
        assert_eq!(faults[0].what, format!("there is no sender {name:?}"));
        faults[0].remedy.clone()
    };
    for (name, own) in [
        ("topon", "taku"),
        ("ironSource", "levelplay"),
        ("unity", "unity-ads"),
        ("max", "applovin"),
        ("csj", "pangle"),
        ("穿山甲", "pangle"),
    ] {
        let remedy = remedy(name);
        assert!(remedy.starts_with(&format!("write sender = {own:?}: ")), "{name}: {remedy}");
    }
    assert_eq!(remedy("takoo"), "did you mean taku?");
}

#[test]
fn a_name_with_dots_steps_into_a_body_and_is_refused_where_it_cannot() {
    let config = paper().config(&source(
        "unsigned",
        "unsigned = true\nallow = \"127.0.0.1\"\nparams = { transaction = \"data.id\", user = \"data.user.id\" }",
    ));
    let event = |text: &str| {
        let request = crate::sender::OwnedRequest::parse(text).unwrap();
        let mut callback = config.sources["s"].recipe.read(request.borrow(), NOW_MS);
        let crate::sender::Judgement::Verified(mut verified) = callback.verify() else {
            panic!("{text}")
        };
        match verified.resolve("evt") {
            crate::sender::Resolution::Event(event) => {
                let role = |role| event.role(role).map(str::to_owned);
                (role(crate::sender::Role::Transaction), role(crate::sender::Role::User))
            }
            other => panic!("{text}: {other:?}"),
        }
    };
    let both = (Some(String::from("t-1")), Some(String::from("u1")));
    assert_eq!(event("POST /\n\n{\"data\":{\"id\":\"t-1\",\"user\":{\"id\":\"u1\"}}}"), both);
    // In a query a dot is a part of the name.
    assert_eq!(event("GET /?data.id=t-1&data.user.id=u1"), both);

    let listed = source(
        "huawei",
        "developer_id = \"1\"\nkey = \"aaaa\"\nparams = { userId = \"data.user\" }",
    );
    let mistakes = paper().mistakes(&listed).join("\n");
    assert!(mistakes.contains("`params` looks for `userId` inside `data.user`"), "{mistakes}");
}

fn advice(paper: &Paper, text: &str) -> Vec<String> {
    let loaded = paper.load(text).unwrap_or_else(|faults| panic!("{faults}"));
    loaded.advice.iter().map(|one| format!("{}: {}", one.key, one.what)).collect()
}

#[test]
fn who_checks_a_configuration_gets_advice() {
    let none = "source: is missing: nothing is received, unless a source was created over the API";
    assert_eq!(advice(&paper(), ""), [none]);

    let clear = source("taku", "secrets = [\"aa1\", \"env:K\", { value = \"bb2\" }]");
    let expected =
        "source[s].secrets[0]: is a secret in clear, and so are source[s].secrets[2].value";
    assert_eq!(advice(&paper().variable("K", "k"), &clear), [expected]);
    assert_eq!(
        advice(&paper().variable("K", "k"), &source("taku", "secrets = \"env:K\"")),
        [""; 0]
    );
    assert_eq!(
        advice(&paper(), &source("admob", "ad_units = \"1\"")),
        [""; 0],
        "ids are not secret"
    );

    let paper = paper().variable("K", "k");
    let template = |to: &str, rest: &str| {
        let source =
            source("taku", &format!("secrets = \"env:K\"\ntemplate = \"who={{user_id}}\"\n{to}"));
        advice(&paper, &(source + rest))
    };
    let nowhere = template("", "");
    assert!(nowhere[0].starts_with("source[s].template: is resolved and recorded, and delivered"));
    let forward = "[[destination]]\nname = \"d\"\nurl = \"http://h/\"\nformat = \"forward\"\n";
    let forwarded = template("destinations = \"d\"", forward);
    assert!(forwarded[0].contains("passes on the callback as it came"), "{forwarded:?}");
    let event =
        "[[destination]]\nname = \"d\"\nurl = \"http://h/\"\nheaders = { X-Key = \"env:K\" }\n";
    assert_eq!(template("destinations = \"d\"", event), [""; 0]);
}

#[test]
fn a_range_that_is_wider_than_it_looks_is_named() {
    let paper = paper().variable("K", "k");
    let ranges = |range: &str| {
        let source = source("taku", &format!("secrets = \"env:K\"\nallow = {range:?}"));
        let text = format!(
            "[server]\ntrusted_proxies = [\"192.0.2.1\", {range:?}]\n[egress]\nallow = {range:?}\n{source}"
        );
        advice(&paper, &text)
    };
    let what = "10.0.0.5/8 is an address with a prefix, which means all of 10.0.0.0/8";
    let keys = ["server.trusted_proxies[1]", "egress.allow", "source[s].allow"];
    assert_eq!(ranges("10.0.0.5/8"), keys.map(|key| format!("{key}: {what}")));
    for plain in ["10.0.0.5", "10.0.0.5/32", "10.0.0.0/8", "fd00::/8"] {
        assert_eq!(ranges(plain), [""; 0], "{plain}");
    }
}

#[test]
fn sources_of_a_token_that_are_none_are_named() {
    let paper = paper().variable("K", "k").variable("T", "0123456789abcdef0");
    let bound = |sources: &str| {
        let token = format!("{{ name = \"a\", value = \"env:T\", sources = {sources} }}");
        let role = format!("{{ value = \"r\", right = \"read\", sources = {sources} }}");
        let admin = format!(
            "[admin]\ntoken = [\"env:K\", {token}]\n[admin.oidc]\nissuer = \"https://a.example\"\n\
             client_id = \"p\"\nroles = [{role}]\n"
        );
        advice(&paper, &(admin + &source("taku", "secrets = \"env:K\"")))
    };
    for fits in ["\"s\"", "[\"s*\"]"] {
        assert_eq!(bound(fits), [""; 0], "{fits}");
    }
    let found = bound("[\"s\", \"acme-*\"]");
    assert_eq!(found.len(), 2, "{found:?}");
    for (one, holder) in found.iter().zip(["token[1]", "oidc.roles[0]"]) {
        let expected = format!("admin.{holder}.sources[1]: fits no source of this file");
        assert!(one.starts_with(&expected), "{one}");
    }
}

#[test]
fn a_destination_of_no_source_is_named() {
    let paper = paper().variable("K", "k");
    let to = "[[destination]]\nname = \"d\"\nurl = \"http://h/\"\nformat = \"forward\"\n";
    let given = |uses: &str| {
        advice(&paper, &(source("taku", &format!("secrets = \"env:K\"\n{uses}")) + to))
    };
    let found = given("");
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].starts_with("destination[d].name: is a destination of no source"),
        "{found:?}"
    );
    for uses in ["destinations = \"d\"", "[[source.route]]\nwhen = \"{user}\"\nto = \"d\""] {
        assert_eq!(given(uses), [""; 0], "{uses}");
    }
    let alone = advice(&paper, to);
    assert!(alone.len() == 1 && alone[0].starts_with("source: is missing"), "{alone:?}");
}

#[test]
fn a_pinned_amount_that_is_not_a_decimal_is_named() {
    let paper = paper().variable("K", "k");
    let pinned = |amount: &str| {
        let rewards =
            format!("secrets = \"env:K\"\nrewards = {{ gem = \"-0.5\", coin = {amount} }}");
        advice(&paper, &source("taku", &rewards))
    };
    for decimal in ["10", "1.5", "\"010\"", "\"10.000000\""] {
        assert_eq!(pinned(decimal), [""; 0], "{decimal}");
    }
    for text in ["\"10 coins\"", "\"1e1\"", "\"\""] {
        let found = pinned(text);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("source[s].rewards.coin: is not a decimal"), "{found:?}");
    }
}

/// A delivery signed with a destination's secret would be a callback of a source that has it too.
#[test]
fn a_secret_of_source_and_destination_is_named() {
    let paper = paper().variable("S", WHSEC).variable("T", "whsec_AAECAwQFBgcICQoLDA0ODw==");
    let text = |theirs: &str| {
        format!(
            "{}[[destination]]\nname = \"d\"\nurl = \"http://h/\"\nsecret = \"env:{theirs}\"\n",
            source("standard-webhooks", "secrets = \"env:S\"\ndestinations = \"d\"")
        )
    };
    let found = advice(&paper, &text("S"));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("destination[d].secret: is a secret of the source s, too"));
    assert_eq!(advice(&paper, &text("T")), [""; 0]);
}

/// Under a former manager's key a source accepts callbacks of every company.
#[test]
fn a_source_without_a_managers_key_is_named() {
    let paper = paper().variable("M1", "manager-key-1").variable("OLD", "former-key-0");
    let text = |secrets: &str| {
        source("renaren", &format!("secrets = {secrets}"))
            + "[manage.callback_address]\nprefixes = [\"rp7\"]\n\
               managers = [{ name = \"m1\", key = \"env:M1\", companies = [42] }]\n"
    };
    for limited in ["\"env:M1\"", "[\"env:M1\", \"env:OLD\"]"] {
        assert_eq!(advice(&paper, &text(limited)), [""; 0]);
    }
    let found = advice(&paper, &text("\"env:OLD\""));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("source[s].secrets: has no manager's key"), "{found:?}");
    assert_eq!(advice(&paper, &source("renaren", "secrets = \"env:OLD\"")), [""; 0]);
}

#[test]
fn deliveries_that_no_backend_can_verify_are_named() {
    let paper = paper().variable("K", "k").variable("S", WHSEC);
    let to = |sender: &str, keys: &str, format: &str| {
        let source = source(sender, &format!("secrets = \"env:K\"\ndestinations = \"d\"\n{keys}"));
        let is_template = format.contains("template");
        let url = if is_template { "http://h/?u={user}&e={effect}" } else { "http://h/" };
        let server = "[server]\npublic_url = \"https://cb.example.com\"\n";
        let text =
            format!("{server}{source}[[destination]]\nname = \"d\"\nurl = {url:?}\n{format}\n");
        advice(&paper, &text)
    };
    let template = to("taku", "", "format = \"template\"");
    assert!(
        template[0].starts_with("destination[d].secret: is missing: nothing signs"),
        "{template:?}"
    );
    let forward = to("bitlabs", "", "format = \"forward\"");
    assert!(forward[0].contains("its sender signs the URL that it calls"), "{forward:?}");
    assert_eq!(to("taku", "", "format = \"forward\""), [""; 0], "its own signature is passed on");
    assert_eq!(to("bitlabs", "", "format = \"forward\"\nsecret = \"env:S\""), [""; 0]);
    assert_eq!(to("taku", "", "format = \"template\"\nsecret = \"env:S\""), [""; 0]);
}

#[test]
fn events_that_a_url_cannot_tell_from_a_grant_are_named() {
    let paper = paper().variable("K", "k").variable("S", WHSEC);
    let given = |sender: &str, uses: &str, url: &str| {
        let source = source(sender, &format!("secrets = \"env:K\"\n{uses}"));
        let to = format!("name = \"d\"\nurl = {url:?}\nformat = \"template\"\nsecret = \"env:S\"");
        let server = "[server]\npublic_url = \"https://cb.example.com\"\n";
        advice(&paper, &format!("{server}{source}[[destination]]\n{to}\n"))
    };
    let lead = "destination[d].url: does not say what it is called for: ";
    let own = "destinations = \"d\"";
    let routed = "[[source.route]]\nwhen = \"{user}\"\nto = \"d\"";
    for (sender, query, withheld) in [
        ("taku", "", "test events"),
        ("cpx", "", "reversals"),
        ("cpx", "&k={kind}", ""),
        ("cpx", "&r={reverses}", ""),
        ("bitlabs", "", "reversals, events without effect"),
        ("bitlabs", "&r={reverses}", "events without effect"),
        ("bitlabs", "&e=[effect]", ""),
        ("imur-idip", "&k={kind}", "events without effect"),
        ("taku", "&t={test}", ""),
        ("pangle", "", ""),
        ("github", "", ""),
    ] {
        for uses in [own, routed] {
            let found = given(sender, uses, &format!("http://h/?u={{user}}{query}"));
            let expected = match withheld {
                "" => Vec::new(),
                words => vec![format!("{lead}{words} of s are not sent to it")],
            };
            assert_eq!(found, expected, "{sender} {query}");
        }
    }
}

#[test]
fn a_path_that_protects_a_source_has_128_random_bits() {
    let open = "[[source]]\nname = \"survey-7f9c2e41d8b3a650c4e1\"\nsender = \"unsigned\"\nunsigned = true\n";
    let faults = paper().load(open).map(|_| ()).unwrap_err().faults;
    assert!(faults[0].remedy.contains("128 random bits"), "{}", faults[0].remedy);
}

#[test]
fn a_source_that_the_store_has_goes_on_as_it_is() {
    let config = paper().config("");
    for (sender, key, value) in [("taku", "secrets", "$TAKU_KEY"), ("admob", "ad_units", "a/1")] {
        let mut table = Table::new();
        table.insert("sender".into(), sender.into());
        table.insert(key.into(), value.into());
        assert!(check_source(&config, "s", &table).is_ok(), "{sender}");
        let faults = check_new_source(&config, "s", "s", &table).unwrap_err();
        assert_eq!(faults[0].key, key);
    }
}

#[test]
fn a_name_that_nothing_fills_is_named_with_the_one_that_was_meant() {
    let paper = paper().variable("K", "k").variable("S", WHSEC);
    let destination = "[[destination]]\nname = \"d\"\nformat = \"template\"\nsecret = \"env:S\"\n";
    let text = |template: &str, url: &str, when: &str| {
        source(
            "taku",
            &format!(
                "secrets = \"env:K\"\ndestinations = [\"d\"]\ntemplate = {template:?}\n\
                 [[source.route]]\nwhen = {when:?}\nto = \"e\""
            ),
        ) + destination
            + &format!(
                "url = {url:?}\n[[destination]]\nname = \"e\"\nurl = \"http://h/\"\nheaders = {{ A = \"env:K\" }}\n"
            )
    };
    let good = text(
        "a={user_id}&b=[[user]]&c={my_own}",
        "http://h/?u={user}&k=[a]&x={other}&t={test}",
        "{reverses}",
    );
    assert_eq!(advice(&paper, &good), [""; 0]);
    let bad = text("a={user_ix}&b={user}", "http://h/?u={usser}&k=[resolved.z]", "{reverse}");
    let found = advice(&paper, &bad);
    for part in [
        "source[s].template: `{user_ix}` is nothing that",
        "source[s].template: `{user}` is nothing that",
        "destination[d].url: `{usser}` is nothing that",
        "destination[d].url: `[resolved.z]` is not a pair of any source",
        "when: `{reverse}` is nothing that",
    ] {
        assert!(found.iter().any(|one| one.contains(part)), "{part}: {found:#?}");
    }
    let never = text("a={user_id}", "http://h/", "[effect] is granted");
    assert!(advice(&paper, &never).iter().any(|one| one.contains("never holds")));
}

#[test]
fn a_second_name_says_where_the_first_is_and_a_secret_counts_once() {
    let two = source("taku", "secrets = \"env:K\"") + &source("taku", "secrets = \"env:L\"");
    let paper = paper().variable("K", "secret-one").variable("L", "secret-one");
    let mistakes = paper.mistakes(&two);
    assert!(
        mistakes.iter().any(|one| one.ends_with("s is the name of another source (line 2)")),
        "{mistakes:?}"
    );
    let twice = source("taku", "secrets = [\"env:K\", \"env:L\"]");
    assert_eq!(
        paper.warnings(&twice),
        ["source[s].secrets[1]: is the same secret as the one in place 1"]
    );
}

/// A sender file whose one vector has that signature.
fn acme(signature: &str, reply: &str) -> String {
    format!(
        "title = \"Acme\"\nsecret = \"its key\"\n[roles]\neffect = \"grant\"\n\
         transaction = \"{{tx}}\"\nuser = \"{{uid}}\"\n[signature]\n\
         of = \"{{tx}}:{{uid}}:[secret]\"\nwith = \"md5\"\nin = \"{{sign}}\"\n[{reply}]\naccepted = 200\n\
         rejected = 403\nunavailable = 503\n[[vector]]\nabout = \"own\"\n\
         source = {{ secrets = \"a-key-of-acme\" }}\nrequest = \"GET /?tx=t1&uid=u1&sign={signature}\"\n\
         expect = {{ outcome = \"accepted\", transaction = \"t1\" }}\n"
    )
}

#[test]
fn a_mistake_in_a_sender_file_is_one_error_at_its_own_key() {
    let right = acme("1cf1b3cab57606b7927a0a841516054c", "reply");
    let faults = |file: &str| {
        let text = format!("senders = \"acme.toml\"\n{}", source("acme", "secrets = \"k1\""));
        let loaded = paper().file("acme.toml", file).load(&text);
        let faults = loaded.err().map(|errors| errors.faults).unwrap_or_default();
        faults.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(faults(&right), [""; 0]);
    for (from, to, expected) in [
        (
            "accepted = 200",
            "acepted = 200",
            "12: reply.acepted: is neither an outcome nor a reason; did you mean accepted?",
        ),
        (
            "rejected = 403",
            "rejected = 99",
            "13: reply.rejected.status: is not a final HTTP status",
        ),
        (
            "outcome =",
            "outcom =",
            "expect.outcom: is nothing that a vector can expect; did you mean outcome?",
        ),
        (
            "\"accepted\"",
            "\"ok\"",
            "expect.outcome: `ok` is not an outcome; known here: accepted, duplicate",
        ),
        (
            "transaction = \"t1\"",
            "authenticated = \"usr\"",
            "`usr` is neither a role nor kind or test; did you mean user?",
        ),
        (
            "in = \"{sign}\"",
            "in = \"[sign]\"",
            "`[sign]` is nothing the gateway knows; write {sign} for a parameter",
        ),
        ("[secret]", "[SECRET]", "`[SECRET]` is nothing the gateway knows; did you mean [secret]?"),
        ("secret = \"its key\"\n", "", "acme.toml: secret: is missing: the signature needs one"),
        (
            "[reply]",
            "[patience]\nretries = \"3\"\n[reply]",
            "a list of gaps; write retries = 3, or",
        ),
        (
            "\"md5\"",
            "\"sha1\"",
            "The signature was made with md5: correct the file if the request is the sender's own",
        ),
    ] {
        let wrong = right.replacen(from, to, 1);
        assert_ne!(wrong, right, "{from}");
        let found = faults(&wrong);
        assert_eq!(found.len(), 1, "{to}: {found:#?}");
        assert!(found[0].starts_with("acme.toml:") && found[0].contains(expected), "{found:#?}");
    }
}

#[test]
fn a_vector_that_fails_says_why_and_a_key_in_the_plural_is_recognised() {
    let text = "senders = \"acme.toml\"";
    let with = |file: &str| paper().file("acme.toml", file).load(text).map(|_| ()).unwrap_err();
    let failed = with(&acme("00000000000000000000000000000000", "reply")).to_string();
    assert!(failed.contains("is \"rejected\", expected \"accepted\"; the reason is bad_signature"));
    assert!(failed.contains("the file signs \"t1:u1:***\""), "{failed}");
    assert!(!failed.contains("a-key-of-acme") && failed.contains("1 error"), "{failed}");
    let plural = with(&acme("00", "replies")).to_string();
    assert!(plural.contains("`replies` is not a known key; did you mean reply?"), "{plural}");
}
