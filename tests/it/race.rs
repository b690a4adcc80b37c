//! Many copies of one callback at one moment.

use std::sync::{Arc, Barrier};
use std::thread;

use super::backend::Backend;
use super::bounds::with_form;
use super::deliver::{KEY, whsec};
use super::gateway::{Gateway, PLAIN, series, taku};
use super::wire::{Answer, Wire, get, get_bytes, post_bytes};

fn storm(gateway: &Gateway, copies: usize, request: &str) -> Vec<Answer> {
    storm_of(gateway, copies, &[request])
}

/// As many callers of each request, all at once.
fn storm_of(gateway: &Gateway, copies: usize, requests: &[&str]) -> Vec<Answer> {
    let start = Arc::new(Barrier::new(copies * requests.len()));
    let callers: Vec<_> = (0..copies * requests.len())
        .map(|at| {
            let request = requests[at % requests.len()].to_owned();
            let (to, start) = (gateway.at.callbacks, Arc::clone(&start));
            thread::spawn(move || {
                let mut wire = Wire::open(to);
                start.wait();
                wire.send(request);
                wire.answer().unwrap()
            })
        })
        .collect();
    callers.into_iter().map(|caller| caller.join().unwrap()).collect()
}

#[test]
fn of_64_copies_one_is_fresh_and_all_get_the_same_answer() {
    let gateway = Gateway::start(PLAIN);
    let answers = storm(&gateway, 64, &get_bytes(&taku("storm")));
    assert!(answers.iter().all(|answer| answer.status == 200 && answer.body.is_empty()));
    gateway.await_metric(&series("accepted"), 1.0);
    gateway.await_metric(&series("duplicate"), 63.0);
}

#[test]
fn a_duplicate_gets_the_answer_of_the_first_even_where_it_is_made_from_the_callback() {
    let text = format!(
        "{}[[source]]\nname = \"wx\"\nsender = \"wechat-push\"\nsecrets = \"t\"\nmax_age = \"off\"\n",
        with_form(&PLAIN.replace("sender = \"taku\"", "sender = \"form\""))
    );
    let gateway = Gateway::start(&text);
    let sign = {
        use md5::Digest as _;
        const_hex::encode(md5::Md5::digest(format!("x1{}", super::gateway::TAKU_SECRET)))
    };
    let request = post_bytes("/callback/level-end", &format!("t=x1&u=a&sign={sign}"));
    let answers = storm(&gateway, 64, &request);
    assert!(answers.iter().all(|answer| answer.status == 200 && answer.body == "took x1"));
    gateway.await_metric(&series("accepted"), 1.0);
    gateway.await_metric(&series("duplicate"), 63.0);
}

/// A callback, a variant that the sender can have signed just so, and one in another order: whichever
/// comes first, the original one is delivered once, and the variant is held.
#[test]
fn of_variants_under_one_signature_one_is_delivered() {
    let backend = Backend::start();
    let gateway = Gateway::start(&format!(
        "[server]\ncallbacks = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n\
         [[source]]\nname = \"s\"\nsender = \"tapjoy\"\nsecrets = \"SECRETKEY\"\n\
         destinations = [\"game\"]\n[[destination]]\nname = \"game\"\nurl = \"http://{}/\"\n\
         secret = \"{}\"\n",
        backend.at,
        whsec(KEY)
    ));
    let verifier = "verifier=a1c1fb18ba62c83c72834a40594c3ba2";
    let original = get_bytes(&format!("/callback/s?id=T&snuid=victim:9999&currency=5&{verifier}"));
    let reordered = get_bytes(&format!("/callback/s?{verifier}&currency=5&snuid=victim:9999&id=T"));
    let variant = get_bytes(&format!("/callback/s?id=T:victim&snuid=9999&currency=5&{verifier}"));
    let answers = storm_of(&gateway, 24, &[&original, &variant, &reordered]);
    assert!(answers.iter().all(|answer| answer.status == 200));
    let count = |outcome: &str| {
        gateway.metric(&format!("postern_callbacks_total{{outcome=\"{outcome}\",source=\"s\"}}"))
    };
    assert_eq!((count("accepted"), count("duplicate")), (1.0, 47.0));
    assert_eq!(count("ambiguous"), 24.0);
    let got = backend.await_count(1);
    assert_eq!((&got[0].json()["transaction"], got.len()), (&"T".into(), 1));
    let held = get(gateway.at.admin, "/admin/v1/held").json();
    assert_eq!(held["held"].as_array().map(Vec::len), Some(1), "one variant is held once: {held}");
}
