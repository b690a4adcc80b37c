//! The control of `make load-deliveries`: a hyper client that does nothing but post.
//!
//! Built as Postern's deliveries are: one pooled client and several concurrent requests, each with
//! a JSON body of an event's size and the three headers of Standard Webhooks. Nothing is read from
//! a ledger, signed or recorded. Postern's deliveries in one second of processor time are reported
//! as a share of this client's posts.

use std::{env, io};

use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::runtime;
use tokio::task::JoinSet;

/// Concurrent requests: a destination's default.
const AT_ONE_TIME: usize = 16;

/// Bytes of a body: an event of the load's source.
const BODY: usize = 480;

fn main() -> io::Result<()> {
    let mut args = env::args().skip(1);
    let (Some(url), Some(count)) = (args.next(), args.next()) else {
        return Err(io::Error::other("bare_client URL COUNT"));
    };
    let count: usize = count.parse().map_err(io::Error::other)?;
    let runtime = runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = Client::builder(TokioExecutor::new()).build_http();
        let mut posts = JoinSet::new();
        for _ in 0..AT_ONE_TIME {
            let (client, url) = (client.clone(), url.clone());
            posts.spawn(async move {
                for _ in 0..count / AT_ONE_TIME {
                    let body = Full::new(Bytes::from_static(&[b'x'; BODY]));
                    let request = Request::post(&url)
                        .header(header::CONTENT_TYPE, "application/json")
                        .header("webhook-id", "evt_00000000000000000000000000000000")
                        .header("webhook-timestamp", "1700000000")
                        .header(
                            "webhook-signature",
                            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
                        )
                        .body(body)
                        .map_err(io::Error::other)?;
                    let answer = client.request(request).await.map_err(io::Error::other)?;
                    answer.into_body().collect().await.map_err(io::Error::other)?;
                }
                Ok::<(), io::Error>(())
            });
        }
        while let Some(ended) = posts.join_next().await {
            ended.map_err(io::Error::other)??;
        }
        Ok(())
    })
}
