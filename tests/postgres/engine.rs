//! The engine, by itself: what every engine is held to, and races between two of them.

use postern::ledger::{Postgres, PostgresOptions, StoreClock, conformance};
use postern::sender::Secret;

use super::cluster::{Cluster, schema, shared};

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn options(cluster: &Cluster, schema: &str) -> PostgresOptions {
    let mut options = PostgresOptions::new(Secret::new(cluster.url()));
    schema.clone_into(&mut options.schema);
    options
}

async fn opened(options: PostgresOptions) -> Postgres {
    Postgres::migrate(&options, &mut |_| {}).await.unwrap();
    Postgres::open(options).await.unwrap()
}

#[test]
fn it_conforms() {
    let Some(cluster) = shared() else { return };
    let runtime = runtime();
    runtime.block_on(async {
        let handle = tokio::runtime::Handle::current();
        let suite = tokio::spawn(conformance::all(move |clock: StoreClock| {
            let options = PostgresOptions { clock, ..options(cluster, &schema()) };
            tokio::task::block_in_place(|| handle.block_on(opened(options)))
        }));
        suite.await.unwrap();
    });
}
