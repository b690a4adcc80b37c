//! A reward rule of the demo: made over the API as Taku's own clients make one, rewarded, delivered.

use std::io;
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};
use md5::{Digest as _, Md5};
use serde_json::{Value, json};

use super::backend::Backend;
use super::script::Row;
use crate::cli::client::{AdminResponse, Client};
use crate::clock;
use crate::server::Addresses;

const PATH: &str = "/v3/advanced/reward_rule";

/// The publisher's key in `fixtures/demo/postern.toml`.
const KEY: &str = "demo-publisher-key";

/// Makes a rule whose address is the backend, and has its reward called for.
pub(super) async fn play(at: Addresses, backend: &Backend) -> io::Result<Vec<Row>> {
    let client = Client::new();
    let url = format!(
        "http://{}/rule?user={{user_id}}&trans_id={{trans_id}}&placement_id={{placement_id}}\
         &adsource_id={{adsource_id}}&reward_amount={{reward_amount}}&reward_name={{reward_name}}\
         &sign={{sign}}",
        backend.at()
    );
    let rule = json!({ "items": [{
        "rule_name": "关卡奖励", "reward_name": "coin", "reward_number": 10, "reward_url": url,
        "remark": "made by postern demo",
    }] });
    let began = clock::instant();
    let made = call(&client, at, rule.to_string()).await?;
    let answer: Value = serde_json::from_slice(&made.body).unwrap_or_default();
    let (id, key) = (&answer["items"][0]["id"], answer["items"][0]["reward_sec_key"].as_str());
    let key = key.unwrap_or_default();
    let outcome = if key.is_empty() { "refused" } else { "made" };
    let mut rows = vec![row("a rule made over the API", &made, began, outcome, "made")];
    backend.expect(key);

    let began = clock::instant();
    let target = format!("/callback/reward/{id}?{}", reward(key));
    let url = format!("http://{}{target}", at.callbacks);
    let came = client.send(&Method::GET, &url, &HeaderMap::new(), Bytes::new()).await?;
    let outcome = if came.status == http::StatusCode::OK { "accepted" } else { "refused" };
    rows.push(row("a reward under that rule", &came, began, outcome, "accepted"));
    Ok(rows)
}

/// The parameters of a reward, signed as Taku signs them.
fn reward(key: &str) -> String {
    let fixed = "trans_id=tr-rule&placement_id=b1&adsource_id=9&reward_amount=10&reward_name=coin";
    let sign = const_hex::encode(Md5::digest(format!("{fixed}&sec_key={key}")));
    format!("user_id=player-7&{fixed}&sign={sign}")
}

async fn call(client: &Client, at: Addresses, body: String) -> io::Result<AdminResponse> {
    let stamp = clock::now_ms().to_string();
    let digest = const_hex::encode_upper(Md5::digest(&body));
    let text =
        format!("POST\n{digest}\napplication/json\nX-Up-Key:{KEY}\nX-Up-Timestamp:{stamp}\n{PATH}");
    let sign = const_hex::encode_upper(Md5::digest(text));
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("x-up-key", KEY),
        ("x-up-timestamp", &stamp),
        ("x-up-signature", &sign),
        ("content-type", "application/json"),
    ] {
        headers.insert(name, HeaderValue::from_str(value).map_err(io::Error::other)?);
    }
    let url = format!("http://{}{PATH}", at.admin);
    client.send(&Method::POST, &url, &headers, Bytes::from(body)).await
}

fn row(about: &str, came: &AdminResponse, began: Instant, outcome: &str, expected: &str) -> Row {
    // The response to a new rule contains its key.
    let answer = if outcome == "made" { "its id and its key" } else { "" };
    Row {
        source: String::from("reward/1"),
        about: about.to_owned(),
        status: came.status.as_str().to_owned(),
        answer: answer.to_owned(),
        came: outcome.to_owned(),
        reason: String::from("-"),
        expected: expected.to_owned(),
        took: began.elapsed(),
    }
}
