//! The tables of `[[source]]`.

use super::*;

/// A file of one source of Taku's with these keys.
pub(super) fn taku(keys: &str) -> String {
    format!("[[source]]\nname = \"s\"\nsender = \"taku\"\nsecrets = \"k\"\n{keys}\n")
}

fn source_mistakes(keys: &str) -> Vec<String> {
    let strip = |mistake: String| mistake.replace("source[s].", "");
    paper().mistakes(&taku(keys)).into_iter().map(strip).collect()
}

#[test]
fn a_source_needs_a_name_a_sender_and_its_secret() {
    let config = paper().config(&taku(""));
    let source = &config.sources["s"];
    assert_eq!(
        (source.id.as_str(), source.enabled, source.path().as_str()),
        ("s", true, "/callback/s")
    );
    assert_eq!(source.body_bytes, limits::BODY_BYTES);
    assert_eq!(source.superseded, Superseded::Never);
    let bare = paper().mistakes("[[source]]\nname = \"s\"\nsender = \"taku\"");
    assert_eq!(bare, ["1 source[s].secrets: is missing"]);
}

#[test]
fn a_template_that_cannot_be_read_has_its_column() {
    let faults = paper().load(&taku("template = \"who={user_id\"")).map(|_| ()).unwrap_err().faults;
    assert_eq!((faults[0].line, faults[0].key.as_str()), (Some(5), "source[s].template"));
    assert_eq!(faults[0].column, Some(5));
}

#[test]
fn secrets_have_ids_that_tell_nothing_about_them() {
    let text = taku("").replace(
        "\"k\"",
        "[\"plain\", \"env:NEW\", \"file:run/old\", { value = \"env:NEW\", until = 2030-01-01T00:00:00+08:00 }]",
    );
    let paper = paper().variable("NEW", "a").file("run/old", "b");
    let config = paper.config(&text);
    let ids: Vec<_> = config.sources["s"].recipe.secret_ids().collect();
    assert_eq!(ids, ["1", "NEW", "old", "NEW-4"]);
}

#[test]
fn secrets_end() {
    let with = |until: &str| {
        taku("").replace("\"k\"", &format!("[{{ value = \"k\", id = \"a\", until = {until} }}]"))
    };
    let ended = [
        "source[s].secrets[0].until: the secret ended at 2025-01-01T00:00:00.000Z",
        "source[s].secrets: have all ended: every callback is rejected",
    ];
    assert_eq!(paper().warnings(&with("2025-01-01T00:00:00Z")), ended);
    assert!(paper().warnings(&with("\"2030-01-01T00:00:00Z\"")).is_empty());
    for local in ["2030-01-01", "2030-01-01T00:00:00", "\"soon\""] {
        let mistakes = paper().mistakes(&with(local));
        assert!(mistakes[0].ends_with("cannot be read"), "{mistakes:?}");
    }
}

#[test]
fn names_fit_into_a_path_and_ids_are_not_shared() {
    let named = |name: &str| paper().mistakes(&taku("").replace("\"s\"", &format!("{name:?}")));
    for name in ["", "a b", "a/b", "ä", "..", "a?b", &"x".repeat(129)] {
        assert_eq!(named(name).len(), 1, "{name}");
    }
    assert!(named("reward/1")[0].ends_with("belong to the reward-rule API"));
    let other = taku("").replace("\"s\"", "\"old\"").replace("\"k\"", "\"other\"");
    let renamed = taku("id = \"old\"") + &other;
    assert_eq!(
        paper().mistakes(&renamed),
        ["7 source[old].name: old is the id of the source s (line 5)"]
    );
}

#[test]
fn a_source_without_a_signature_says_so_and_is_protected() {
    let idip = |name: &str, keys: &str| {
        format!("[[source]]\nname = {name:?}\nsender = \"imur-idip\"\n{keys}\n")
    };
    let bare = paper().mistakes(&idip("s", ""));
    assert_eq!(bare, ["1 source[s].secrets: is missing"]);
    let open = paper().mistakes(&idip("s", "unsigned = true"));
    assert_eq!(open, ["4 source[s].unsigned: lets everybody send events"]);
    paper().config(&idip("s", "unsigned = true\nallow = \"203.0.113.0/24\""));
    paper().config(&idip("survey-7f9c2e41d8b3a650c4e17f9c2e41d8b3", "unsigned = true"));
    let words = paper().mistakes(&idip("the-survey-of-the-summer-campaign", "unsigned = true"));
    assert_eq!(words.len(), 1);
    let taku = taku("unsigned = true").replace("secrets = \"k\"\n", "allow = \"10.0.0.1\"\n");
    assert_eq!(paper().mistakes(&taku).len(), 1, "Taku signs");
}

#[test]
fn settings_are_secrets_that_the_sender_knows() {
    let text = "[[source]]\nname = \"s\"\nsender = \"wechat-push\"\nsecrets = \"t\"\naes_key = \"env:AES\"\napp_id = \"wx1\"";
    paper().variable("AES", AES_KEY).config(text);
    assert_eq!(paper().mistakes(text), ["5 source[s].aes_key: the variable AES is not set"]);
    let faults = paper().load(&taku("pay_key = \"x\"")).map(|_| ()).unwrap_err().faults;
    assert_eq!(faults[0].remedy, "it is a setting of the sender wechat-push");
}

#[test]
fn a_list_of_public_keys_has_a_url_that_may_be_reached() {
    let source = |url: &str| {
        format!(
            "[[source]]\nname = \"s\"\nsender = \"admob\"\nad_units = \"1\"\nkey_set_url = {url:?}"
        )
    };
    for (url, what) in [
        ("hush", "is not a URL of http or https"),
        ("https://u:hush@keys/", "has a user or a password in it"),
        ("https://169.254.169.254/keys", "points at 169.254.169.254"),
        ("http://[::ffff:169.254.1.1]/", "points at [::ffff:169.254.1.1]"),
        ("https://keys/a#hush", "not a plain URL"),
        ("https://keys/a b", "not a plain URL"),
        ("https://keys?a=1", "not a plain URL"),
    ] {
        let mistakes = paper().mistakes(&source(url));
        assert_eq!(mistakes.len(), 1, "{mistakes:?}");
        assert!(mistakes[0].contains(what) && !mistakes[0].contains("hush"), "{mistakes:?}");
    }
    for url in ["https://keys", "https://keys/a?b=%20", "http://127.0.0.1:1/", "http://localhost/"]
    {
        assert!(paper().warnings(&source(url)).is_empty(), "{url}");
    }
    assert!(paper().warnings(&source("http://keys/"))[0].contains("plain http"));
    let open = source("https://keys/").replace("ad_units = \"1\"\n", "");
    assert!(paper().warnings(&open)[0].contains("signs for all its publishers"));
}

#[test]
fn allow_may_mean_what_the_sender_publishes() {
    assert_eq!(source_mistakes("allow = \"sender\""), ["5 allow: taku publishes no addresses"]);
    let paper = paper().file(
        "own.toml",
        &format!("addresses = [\"203.0.113.0/24\"]\n{}", fixture("senders/my-sender.toml")),
    );
    let text = "senders = \"own.toml\"\n[[source]]\nname = \"s\"\nsender = \"own\"\nsecrets = \"k\"\nallow = [\"sender\", \"10.0.0.1\"]";
    let allow =
        paper.config(text).sources["s"].allow.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(allow, ["203.0.113.0/24", "10.0.0.1/32"]);
}

#[test]
fn one_inline_destination_a_source() {
    let destination = |name: &str| {
        format!(
            "[[destination]]\nname = {name:?}\nurl = \"http://h/\"\nformat = \"forward\"\nmode = \"inline\"\n"
        )
    };
    let both = taku("destinations = [\"a\", \"b\"]") + &destination("a") + &destination("b");
    let expected = "5 source[s].destinations[1]: is the second one that the sender waits for";
    assert_eq!(paper().mistakes(&both), [expected]);
}

#[test]
fn a_callback_of_several_events_has_no_one_verdict() {
    let text = "[[source]]\nname = \"s\"\nsender = \"line\"\nsecrets = \"k\"\ndestinations = [\"a\"]\n\
                [[destination]]\nname = \"a\"\nurl = \"http://h/\"\nformat = \"forward\"\nmode = \"inline\"\n";
    let found = paper().mistakes(text);
    assert!(found.len() == 1 && found[0].contains("several events in one callback"), "{found:?}");
}

#[test]
fn transactions_that_are_forgotten_too_early_are_refused() {
    let text = format!("[store]\nkeep_events = \"10s\"\nkeep_transactions = \"20s\"\n{}", taku(""));
    let found = paper().mistakes(&text);
    let expected =
        "source[s].sender: taku retries for 62s, and transactions are forgotten after 20s";
    assert!(found.len() == 1 && found[0].ends_with(expected), "{found:?}");
    // Retried for three days, fresh for a day on both sides, and ten minutes for the clocks.
    let stripe = |keep: &str| {
        format!(
            "[store]\nkeep_events = \"1d\"\nkeep_transactions = \"{keep}\"\n[[source]]\n\
             name = \"s\"\nsender = \"standard-webhooks\"\nsecrets = \"whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3\"\n\
             max_age = \"90d\"\n"
        )
    };
    let found = paper().mistakes(&stripe("90d"));
    assert!(found.len() == 1 && found[0].contains("source[s].max_age: a callback can be accepted"));
    paper().config(&stripe("400d"));
}

#[test]
fn idip_stands_before_http() {
    let text = |enabled: &str, keys: &str| {
        format!(
            "[[source]]\nname = \"idip\"\nsender = \"imur-idip\"\nsecrets = \"t\"\nenabled = {enabled}\n{keys}\n\
             [[source]]\nname = \"a\"\nsender = \"imur-http\"\nsecrets = \"t\"\n\
             [[source]]\nname = \"b\"\nsender = \"imur-http\"\nsecrets = \"u\"\n"
        )
    };
    let superseded = |text: &str| {
        let config = paper().config(text);
        ["idip", "a", "b"].map(|name| config.sources[name].superseded.clone())
    };
    let surveys = Superseded::Named {
        parameter: String::from("sid"),
        values: vec![String::from("s1"), String::from("s2")],
    };
    let never = || Superseded::Never;
    assert_eq!(superseded(&text("true", "")), [never(), never(), never()]);
    let sids = "sids = [\"s2\", \"s1\"]";
    assert_eq!(superseded(&text("true", sids)), [never(), surveys.clone(), surveys.clone()]);
    let both = format!("{sids}\nsupersedes = \"a\"");
    assert_eq!(superseded(&text("true", &both)), [never(), Superseded::Always, surveys]);
    assert_eq!(superseded(&text("false", &both)), [never(), never(), never()]);
    let itself = paper().mistakes(&text("true", "supersedes = [\"idip\", \"c\"]"));
    assert_eq!(
        itself,
        [
            "6 source[idip].supersedes[0]: idip is a source of \"imur-idip\"",
            "6 source[idip].supersedes[1]: there is no source \"c\"",
        ]
    );
}

#[test]
fn a_mistake_in_a_sender_file_is_found_in_that_file() {
    let broken =
        fixture("senders/my-sender.toml").replace("{sign}\"\n\n[reply]", "{sign\"\n\n[reply]");
    let faults =
        paper().file("own.toml", &broken).load("senders = \"own.toml\"").map(|_| ()).unwrap_err();
    let fault = &faults.faults[0];
    assert_eq!((fault.file.as_path(), fault.line), (Path::new("own.toml"), Some(17)));
    assert_eq!(fault.key, "signature.in");
}

#[test]
fn a_query_to_paste_that_cannot_bring_what_is_signed_draws_a_warning() {
    let right = fixture("senders/my-sender.toml");
    let pasted = "paste  = \"user={user}&order={order}&sign={sign}\"";
    assert!(right.contains(pasted));
    let warnings = |paste: &str| {
        let text = right.replace(pasted, paste);
        paper().file("shop.toml", &text).warnings("senders = \"shop.toml\"")
    };
    let lacking =
        |names: &str| format!("paste: lacks {names}, without which a callback is rejected");
    assert_eq!(warnings("paste = \"usr={user}&ordr={order}\""), [lacking("order, sign, user")]);
    assert_eq!(warnings("paste = \"user={user}&order={order}\""), [lacking("sign")]);
    for right in ["", pasted, "paste = \"user={user}&order={order}\"\nappends = \"sign\""] {
        assert_eq!(warnings(right), [""; 0], "{right}");
    }
}

#[test]
fn a_sender_of_a_known_name_takes_its_place() {
    let paper = paper().file("taku.toml", &fixture("senders/my-sender.toml"));
    let text = "senders = \"taku.toml\"";
    assert_eq!(paper.warnings(text), ["senders: takes the place of the sender taku"]);
    assert_eq!(paper.config(text).catalog.get("taku").unwrap().title(), "A platform of our own");
}

#[test]
fn a_recipe_of_ones_own_belongs_to_its_source() {
    let paper = paper().file("shop.toml", &fixture("senders/my-sender.toml"));
    let source = |name: &str, keys: &str| {
        format!(
            "[[source]]\nname = {name:?}\nsecrets = \"the-secret-of-{name}\"\nsender = {keys}\n"
        )
    };
    let own = "\"custom\"\nrecipe = \"shop.toml\"";
    let config = paper.config(&(source("a", own) + &source("b", own)));
    let title = |name: &str| config.sources[name].recipe.sender().title().to_owned();
    assert_eq!((title("a"), title("b")), (title("b"), "A platform of our own".to_owned()));
    assert_eq!(
        paper.mistakes(&source("a", "\"custom\"")),
        ["1 source[a].recipe: is missing: a custom sender is a file of your own"]
    );
    let taken = paper.mistakes(&source("a", "\"taku\"\nrecipe = \"shop.toml\""));
    assert_eq!(taken.len(), 1, "{taken:?}");
    assert!(taken[0].starts_with("5 source[a].recipe: "), "{taken:?}");
    let bare = format!("[[source]]\nname = \"a\"\nsender = {own}\n");
    let bare = paper.load(&bare).map(|_| ()).unwrap_err().to_string();
    assert!(bare.contains("is missing; set it to the key of its settings page"), "{bare}");
    let absent = paper.mistakes(&source("a", "\"custom\"\nrecipe = \"no.toml\""));
    assert!(absent[0].contains("no.toml"), "{absent:?}");
}

#[test]
fn a_sender_that_signs_nothing_is_written_out_and_protected() {
    let unsigned = |name: &str, keys: &str| {
        format!("[[source]]\nname = {name:?}\nsender = \"unsigned\"\n{keys}\n")
    };
    assert_eq!(paper().mistakes(&unsigned("s", "")).len(), 1);
    let open = paper().mistakes(&unsigned("s", "unsigned = true"));
    assert_eq!(open, ["4 source[s].unsigned: lets everybody send events"]);
    paper().config(&unsigned("s", "unsigned = true\nallow = \"203.0.113.0/24\""));
    paper().config(&unsigned("survey-7f9c2e41d8b3a650c4e17f9c2e41d8b3", "unsigned = true"));
    let signed = paper().mistakes(&unsigned("s", "secrets = \"k\"\nallow = \"203.0.113.0/24\""));
    assert_eq!(signed.len(), 1, "{signed:?}");
}

#[test]
fn a_signature_that_repeats_wants_an_address_list_or_consent() {
    let source = |sender: &str, keys: &str| {
        format!("[[source]]\nname = \"s\"\nsender = {sender:?}\nsecrets = \"k\"\n{keys}\n")
    };
    for sender in ["heyzap", "lootably", "torox"] {
        let mistakes = paper().mistakes(&source(sender, ""));
        assert_eq!(mistakes.len(), 1, "{mistakes:?}");
        let what = "3 source[s].sender: accepts one signature under any number of ids: ";
        assert!(mistakes[0].starts_with(what), "{mistakes:?}");
        for keys in ["replayable = true", "allow = \"203.0.113.0/24\""] {
            assert!(paper().warnings(&source(sender, keys)).is_empty(), "{sender} {keys}");
        }
    }
    let sometimes = paper().warnings(&source("imur-http", ""));
    assert_eq!(sometimes.len(), 1, "{sometimes:?}");
    assert!(sometimes[0].starts_with("source[s].sender: accepts some signatures"));
    assert!(paper().warnings(&source("tapjoy", "")).is_empty());
}

#[test]
fn two_sources_of_one_sender_do_not_share_signatures() {
    let named = |name: &str, sender: &str, keys: &str| {
        format!("[[source]]\nname = {name:?}\nsender = {sender:?}\n{keys}\n")
    };
    let taku = |name: &str, keys: &str| named(name, "taku", keys);
    let both = taku("a", "secrets = [\"k1\", \"k2\"]") + &taku("b", "secrets = \"k2\"");
    let expected = "8 source[b].secrets: shares a secret with the source a: a callback to one of them \
                    verifies for the other";
    assert_eq!(paper().mistakes(&both), [expected]);
    let one_agrees = both.replacen("\"k2\"]", "\"k2\"]\nreplayable = true", 1);
    assert_eq!(paper().mistakes(&one_agrees).len(), 1);
    let agree = one_agrees.clone() + "replayable = true\n";
    assert!(paper().warnings(&agree).is_empty());
    let apart = taku("a", "secrets = \"k1\"") + &taku("b", "secrets = \"k2\"");
    paper().config(&apart);
    paper().config(&(taku("a", "secrets = \"k\"") + &named("b", "tapjoy", "secrets = \"k\"")));
    let ads = |one: &str, other: &str| named("a", "admob", one) + &named("b", "admob", other);
    let units = |units: &str| format!("ad_units = {units:?}");
    paper().config(&ads(&units("1 2"), &units("3,4")));
    for (one, other) in [(units("1 2"), units("2 3")), (units("1"), String::new())] {
        let mistakes = paper().mistakes(&ads(&one, &other));
        assert_eq!(mistakes.len(), 1, "{mistakes:?}");
        assert!(mistakes[0].contains("shares its list of public keys"), "{mistakes:?}");
    }
    // Senders of one rule, whatever they are called and whatever their parameters are.
    for other in ["gromore", "uni-ad"] {
        let both =
            named("a", "pangle", "secrets = \"k\"") + &named(other, other, "secrets = \"k\"");
        let mistakes = paper().mistakes(&both);
        assert_eq!(mistakes.len(), 1, "{other}: {mistakes:?}");
        assert!(mistakes[0].contains("shares a secret with the source a"), "{mistakes:?}");
    }
    // The path of a source is in the URL that these sign.
    let url = |name: &str| named(name, "adgem", "secrets = \"k\"");
    let text = String::from("[server]\npublic_url = \"https://cb.example.com\"\n");
    paper().config(&(text + &url("a") + &url("b")));
}

#[test]
fn what_is_assumed_of_a_sender_can_be_confirmed() {
    let tapjoy = |keys: &str| {
        format!("[[source]]\nname = \"s\"\nsender = \"tapjoy\"\nsecrets = \"k\"\n{keys}\n")
    };
    for keys in ["confirmed = true", "confirmed = [\"id\"]", "confirmed = false"] {
        paper().config(&tapjoy(keys));
    }
    let unknown = paper().mistakes(&tapjoy("confirmed = [\"snuid\"]"));
    assert_eq!(unknown, ["5 source[s].confirmed: `snuid` has no shape"]);
    assert_eq!(source_mistakes("confirmed = true"), ["5 confirmed: has nothing to confirm"]);
}

#[test]
fn an_age_that_is_not_signed_is_said_to_protect_nothing() {
    let hyprmx = "[[source]]\nname = \"s\"\nsender = \"imur-idip\"\nsecrets = \"k\"\n";
    let warnings = paper().warnings(&format!("{hyprmx}max_age = \"10m\"\n"));
    let dated = paper().config(hyprmx).sources["s"].recipe.is_dated();
    assert_eq!(warnings.is_empty(), dated, "{warnings:?}");
    assert!(paper().warnings(&format!("{hyprmx}max_age = \"off\"\n")).is_empty());
}

#[test]
fn secrets_inside_a_text_do_not_begin_or_end_each_other() {
    let with = |sender: &str, secrets: &str| {
        format!("[[source]]\nname = \"s\"\nsender = {sender:?}\nsecrets = {secrets}\n")
    };
    for (secrets, place) in [("[\"abc\", \"abcd\"]", 1), ("[\"xabc\", \"abc\"]", 0)] {
        let mistakes = paper().mistakes(&with("taku", secrets));
        assert_eq!(mistakes.len(), 1, "{mistakes:?}");
        assert!(mistakes[0].contains(&format!("source[s].secrets[{place}]: ")), "{mistakes:?}");
        assert!(mistakes[0].ends_with("begins or ends with another secret of the source"));
        // The key of an HMAC is not part of the text.
        paper().config(&with("adiscope", secrets));
    }
    paper().config(&with("taku", "[\"abc\", \"xabcx\"]"));
}

#[test]
fn a_sender_that_signs_the_whole_url_needs_the_public_one() {
    let text = "[[source]]\nname = \"s\"\nsender = \"adgem\"\nsecrets = \"k\"\n";
    let bare = paper().mistakes(text);
    assert_eq!(bare.len(), 1, "{bare:?}");
    assert!(bare[0].contains("public_url"), "{bare:?}");
    paper().config(&format!("[server]\npublic_url = \"https://cb.example.com\"\n{text}"));
}
