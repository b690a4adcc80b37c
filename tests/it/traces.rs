//! Traces: what a collector receives over OTLP, read with another implementation of the protocol.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use postern::ledger::{Embedded, EmbeddedOptions};
use prost::Message as _;

use super::backend::{Backend, Say, status};
use super::deliver::{call, game, with};
use super::gateway::{Gateway, PLAIN, TAKU_SECRET, eventually, taku};
use super::wire::{ask, get};

/// The configuration, with a collector that takes that share.
fn traced(text: &str, collector: &Backend, sample: &str) -> String {
    format!("{text}\n[telemetry]\notlp = \"http://{}\"\nsample = {sample}\n", collector.at)
}

/// All spans that a collector has received.
fn spans(collector: &Backend) -> Vec<Span> {
    let got = collector.got();
    let requests = got.iter().map(|got| {
        assert!(got.line.starts_with("POST /v1/traces "), "{}", got.line);
        assert_eq!(got.header("content-type"), "application/x-protobuf");
        ExportTraceServiceRequest::decode(&*got.body).unwrap()
    });
    let resources = requests.flat_map(|request| request.resource_spans);
    resources.flat_map(|one| one.scope_spans).flat_map(|one| one.spans).collect()
}

/// The spans, once there are `count`.
fn await_spans(collector: &Backend, count: usize) -> Vec<Span> {
    eventually(&format!("{count} spans"), || spans(collector).len() >= count);
    let all = spans(collector);
    assert_eq!(all.len(), count, "{all:#?}");
    all
}

fn attributes(span: &Span) -> BTreeMap<String, String> {
    let text = |value: &Value| match value {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        other => panic!("{other:?}"),
    };
    let pair = |one: &opentelemetry_proto::tonic::common::v1::KeyValue| {
        (one.key.clone(), text(one.value.as_ref().unwrap().value.as_ref().unwrap()))
    };
    span.attributes.iter().map(pair).collect()
}

fn kind(span: &Span) -> SpanKind {
    SpanKind::try_from(span.kind).unwrap()
}

fn of_kind(spans: &[Span], wanted: SpanKind) -> Vec<&Span> {
    spans.iter().filter(|span| kind(span) == wanted).collect()
}

const CALLER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

#[test]
fn one_trace_from_the_call_to_the_answer_of_the_backend() {
    let collector = Backend::start();
    let backend = Backend::saying([status(500)]);
    let text = with(&[("game", game(backend.at))])
        .replace("drain", "public_url = \"https://callbacks.example.com\"\ndrain");
    let gateway = Gateway::start(&traced(&text, &collector, "1"));
    let head = format!("Host: a\r\ntraceparent: {CALLER}\r\n\r\n");
    let answer = ask(gateway.at.callbacks, format!("GET {} HTTP/1.1\r\n{head}", taku("t1")));
    assert_eq!(answer.status, 200);
    let got = backend.await_count(2);
    let all = await_spans(&collector, 5);

    let [call] = of_kind(&all, SpanKind::Server)[..] else { panic!("{all:#?}") };
    assert_eq!(call.name, "GET /callback/level-end");
    let of_call = attributes(call);
    let event = got[0].header("webhook-id");
    assert_eq!(event, format!("evt_{}", const_hex::encode(&call.trace_id)));
    for (key, expected) in [
        ("http.request.method", "GET"),
        ("http.route", "/callback/level-end"),
        ("url.path", "/callback/level-end"),
        ("url.scheme", "https"),
        ("server.address", "callbacks.example.com"),
        ("client.address", "127.0.0.1"),
        ("http.response.status_code", "200"),
        ("postern.outcome", "accepted"),
        ("postern.source", "level-end"),
        ("postern.sender", "taku"),
        ("postern.event", event),
    ] {
        assert_eq!(of_call.get(key).map(String::as_str), Some(expected), "{key} in {of_call:?}");
    }
    assert!(call.parent_span_id.is_empty(), "the caller has no say in the trace");
    let [link] = &call.links[..] else { panic!("{call:#?}") };
    assert_eq!(const_hex::encode(&link.trace_id), &CALLER[3..35]);
    assert_eq!(const_hex::encode(&link.span_id), &CALLER[36..52]);

    for span in &all {
        assert_eq!(span.trace_id, call.trace_id, "{}", span.name);
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano, "{span:#?}");
        assert!(span.span_id == call.span_id || span.parent_span_id == call.span_id, "{span:#?}");
        // Times are compared within one clock: a part begins after the whole.
        assert!(span.start_time_unix_nano + 1_000_000 >= call.start_time_unix_nano, "{span:#?}");
    }
    let names =
        of_kind(&all, SpanKind::Internal).iter().map(|span| &*span.name).collect::<Vec<_>>();
    assert_eq!(names, ["verify", "commit"]);

    let attempts = of_kind(&all, SpanKind::Client);
    for (attempt, got) in attempts.iter().zip(&got) {
        let ids = [&attempt.trace_id, &attempt.span_id].map(const_hex::encode);
        assert_eq!(got.header("traceparent"), format!("00-{}-{}-01", ids[0], ids[1]));
        let of = attributes(attempt);
        assert_eq!((attempt.name.as_str(), &*of["postern.destination"]), ("POST", "game"));
        assert_eq!(of["server.address"], "127.0.0.1");
        assert_eq!(of["server.port"], backend.at.port().to_string());
    }
    let [first, second] = [attributes(attempts[0]), attributes(attempts[1])];
    assert_eq!((&*first["http.response.status_code"], &*first["error.type"]), ("500", "500"));
    assert_eq!(attempts[0].status.as_ref().unwrap().code, 2);
    assert_eq!((&*second["http.response.status_code"], second.get("error.type")), ("200", None));
    assert_eq!(second["http.request.resend_count"], "1");
    assert!(attempts[1].status.is_none());
    gateway.await_metric("postern_spans_total{outcome=\"exported\"}", 5.0);
}

#[test]
fn what_is_no_new_event_has_a_trace_of_its_own() {
    let collector = Backend::start();
    let gateway = Gateway::start(&traced(PLAIN, &collector, "1"));
    let head = format!("Host: a\r\ntraceparent: {CALLER}\r\n\r\n");
    let target = taku("d1");
    let forged = target.replace("reward_amount=10", "reward_amount=11");
    for (target, expected) in [(&target, 200), (&target, 200), (&forged, 601)] {
        let answer = ask(gateway.at.callbacks, format!("GET {target} HTTP/1.1\r\n{head}"));
        assert_eq!(answer.status, expected);
    }
    let all = await_spans(&collector, 8);
    let calls = of_kind(&all, SpanKind::Server);
    let by = |outcome: &str| {
        calls.iter().find(|call| attributes(call)["postern.outcome"] == outcome).unwrap()
    };
    let (accepted, duplicate, rejected) = (by("accepted"), by("duplicate"), by("rejected"));
    assert_eq!(duplicate.links[0].trace_id, accepted.trace_id);
    assert_eq!(duplicate.links[0].span_id, accepted.span_id);
    assert_eq!(attributes(rejected)["postern.reason"], "bad_signature");
    assert!(rejected.links.is_empty(), "who is not verified is not even linked");
    let mut traces = [&accepted.trace_id, &duplicate.trace_id, &rejected.trace_id];
    traces.sort();
    assert!(traces[0] != traces[1] && traces[1] != traces[2]);
}

/// Everything that a callback, a URL or a header holds is searched for in all that was exported.
#[test]
fn nothing_secret_is_exported() {
    const NAME: &str = "s7f9c2e41d8b3a650c4e17f9c2e41d8b3";
    let collector = Backend::start();
    let backend = Backend::start();
    let open = format!(
        "[[source]]\nname = \"{NAME}\"\nsender = \"unsigned\"\nunsigned = true\n\
         params = {{ transaction = \"id\" }}\ndestinations = \"game\"\n"
    );
    let target =
        game(backend.at).replace("/rewards?k=v", "/hook/secret-of-the-path?k=secret-of-the-query");
    let target = target + "headers = { Authorization = \"secret-of-the-header\" }\n";
    let text = with(&[("game", target)]) + &open;
    let gateway = Gateway::start(&traced(&text, &collector, "1"));
    call(&gateway, "transaction-of-a-player");
    let open = format!("/callback/{NAME}?id=transaction-of-another&user_id=user-of-the-game");
    assert_eq!(get(gateway.at.callbacks, &open).status, 200);
    let signed = taku("transaction-of-a-player").rsplit_once("sign=").unwrap().1.to_owned();
    await_spans(&collector, 8);
    for got in collector.got() {
        let text = String::from_utf8_lossy(&got.body).into_owned();
        for secret in [NAME, TAKU_SECRET, &signed, "secret-of", "transaction-of", "user-of"] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
}

/// The decision and the ids follow from the event: a gateway that delivers what another one has
/// recorded, after a restart, continues the trace.
#[test]
fn another_gateway_continues_the_trace_and_samples_alike() {
    const EVENTS: usize = 24;
    let folder = tempfile::tempdir().unwrap();
    let open = || Embedded::open(EmbeddedOptions::new(folder.path().join("ledger"))).unwrap();
    let away = Backend::start();
    away.says(Say::Nothing);
    let (one, two) = (Backend::start(), Backend::start());
    let text = |at| with(&[("game", game(at))]).replace("5s", "1s");
    let gateway = Gateway::over(&traced(&text(away.at), &one, "0.5"), open());
    (0..EVENTS).for_each(|n| call(&gateway, &format!("o{n}")));
    gateway.stop();

    let backend = Backend::start();
    let gateway = Gateway::over(&traced(&text(backend.at), &two, "0.5"), open());
    let got = backend.await_count(EVENTS);
    gateway.stop();
    let roots: BTreeMap<Vec<u8>, Vec<u8>> = of_kind(&spans(&one), SpanKind::Server)
        .iter()
        .map(|span| (span.trace_id.clone(), span.span_id.clone()))
        .collect();
    assert!((1..EVENTS).contains(&roots.len()), "{} of {EVENTS} are sampled", roots.len());
    let attempts = spans(&two);
    assert_eq!(attempts.len(), roots.len());
    for attempt in &attempts {
        assert_eq!(roots.get(&attempt.trace_id), Some(&attempt.parent_span_id));
    }
    for got in got {
        let id = const_hex::decode(&got.header("webhook-id")[4..]).unwrap();
        let flag = got.header("traceparent").ends_with("-01");
        assert_eq!(flag, roots.contains_key(&id), "{}", got.header("traceparent"));
    }
}

#[test]
fn a_collector_that_fails_costs_spans_and_nothing_else() {
    let collector = Backend::start();
    collector.says(status(400));
    let gateway = Gateway::start(&traced(PLAIN, &collector, "1"));
    call(&gateway, "f1");
    gateway.await_metric("postern_spans_total{outcome=\"dropped\"}", 3.0);
    assert_eq!(collector.got().len(), 1, "it rejects the batch, and is not asked twice");

    // Without a listener it is retried, and then dropped.
    let nowhere = Backend::nowhere();
    let text = format!("{PLAIN}\n[telemetry]\notlp = \"http://{nowhere}\"\nsample = 1\n");
    let gateway = Gateway::start(&text);
    (0..20).for_each(|n| call(&gateway, &format!("f2-{n}")));
    gateway.await_metric("postern_spans_total{outcome=\"dropped\"}", 60.0);
    assert_eq!(gateway.outcomes("accepted"), 20.0);
}

#[test]
fn without_a_collector_the_backend_gets_no_trace() {
    let backend = Backend::start();
    let gateway = Gateway::start(&with(&[("game", game(backend.at))]));
    call(&gateway, "n1");
    assert_eq!(backend.await_count(1)[0].find("traceparent"), None);
}
