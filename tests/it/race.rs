//! Many copies of one callback at one moment.

use std::sync::{Arc, Barrier};
use std::thread;

use super::bounds::with_form;
use super::gateway::{Gateway, PLAIN, series, taku};
use super::wire::{Answer, Wire, get_bytes, post_bytes};

fn storm(gateway: &Gateway, copies: usize, request: &str) -> Vec<Answer> {
    let start = Arc::new(Barrier::new(copies));
    let callers: Vec<_> = (0..copies)
        .map(|_| {
            let (to, start, request) =
                (gateway.at.callbacks, Arc::clone(&start), request.to_owned());
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
