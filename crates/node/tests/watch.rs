//! Every role tells how it is, over HTTP, and stops when it is told to.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use common::{CHANNEL, choices, key, keys, safe, start_as, until, verifier};
use openledger_node::rollup::batching::BatcherConfig;
use openledger_node::rollup::roles::{start_batcher, start_challenger, start_proposer};
use openledger_node::rollup::watch::{Watch, Watched};
use serde_json::Value;

/// Status and body of a GET.
async fn get(url: String) -> (u16, String) {
    let asked = tokio::task::spawn_blocking(move || {
        let config = ureq::Agent::config_builder().http_status_as_error(false);
        let agent: ureq::Agent = config.build().into();
        let mut answer = agent.get(&url).call().unwrap();
        let text = answer.body_mut().read_to_string().unwrap();
        (answer.status().as_u16(), text)
    });
    asked.await.unwrap()
}

async fn watch(role: &impl Watched) -> Watch {
    let local = SocketAddr::from(([127, 0, 0, 1], 0));
    Watch::start(local, role).await.unwrap()
}

/// The numbers, after a look at the form of each line.
async fn metrics(watch: &Watch) -> BTreeMap<String, u64> {
    let (status, text) = get(format!("{}/metrics", watch.url())).await;
    assert_eq!(status, 200);
    let mut found = BTreeMap::new();
    let lines: Vec<&str> = text.lines().collect();
    for lines in lines.chunks(3) {
        let [help, kind, value] = lines else {
            panic!("{lines:?}")
        };
        let (name, value) = value.split_once(' ').unwrap();
        assert!(help.starts_with(&format!("# HELP {name} ")), "{help}");
        let expected = if name.ends_with("_total") {
            "counter"
        } else {
            "gauge"
        };
        assert_eq!(*kind, format!("# TYPE {name} {expected}"));
        assert!(
            found
                .insert(name.to_owned(), value.parse().unwrap())
                .is_none()
        );
    }
    found
}

async fn health(watch: &Watch) -> (u16, Value) {
    let (status, text) = get(format!("{}/health", watch.url())).await;
    (status, serde_json::from_str(&text).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_tell_how_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let rollup = start_as(&dir.path().join("dev"), &choices(), &keys(), CHANNEL).await;
    let node = rollup.layer2();
    let (l1, l2, da) = (rollup.layer1().url(), node.url(), rollup.da_url());
    until("the safe head", || safe(node) >= 4).await;

    let sequencer = watch(node).await;
    let told = metrics(&sequencer).await;
    assert!(told["openledger_chain_safe"] >= 4);
    assert!(told["openledger_chain_head"] >= told["openledger_chain_safe"]);
    assert!(told["openledger_l1_head"] >= told["openledger_l1_derived"]);
    assert!(told["openledger_l1_derived"] > 0);
    let (head, safe_now) = (told["openledger_chain_head"], told["openledger_chain_safe"]);
    assert!(told["openledger_chain_unsafe_blocks"] <= head.abs_diff(safe_now) + 2);
    assert_eq!(told["openledger_trouble"], 0);
    let (status, told) = health(&sequencer).await;
    assert_eq!((status, &told["status"]), (200, &Value::from("ok")));

    // A verifier that misses its data says so, and the reason.
    let home = dir.path().join("blind");
    let blind = verifier(rollup.network(), &home, &l1, "http://127.0.0.1:9").await;
    let watched = watch(&blind).await;
    until("trouble", || blind.status().heads().trouble.is_some()).await;
    let (status, told) = health(&watched).await;
    assert_eq!((status, &told["status"]), (503, &Value::from("trouble")));
    assert!(told["trouble"].as_str().unwrap().contains("unavailable"));
    let told = metrics(&watched).await;
    assert_eq!(told["openledger_trouble"], 1);
    assert_eq!(told["openledger_chain_safe"], 0);
    blind.stop().await;

    // Those that send transactions tell what that costs.
    let worker = start_proposer(rollup.network().layer1, &l1, &l2, key("rich"), 2, true);
    let proposer = worker.await.unwrap();
    let watched = watch(&proposer).await;
    until("a claim", || proposer.done().proposed > 0).await;
    let told = metrics(&watched).await;
    assert!(told["openledger_claims_total"] >= 1);
    assert!(told["openledger_claimed_block"] >= 2);
    let (gas, fee) = (
        told["openledger_claim_gas_total"],
        told["openledger_claim_fee_wei_total"],
    );
    // Gas costs more than one wei there.
    assert!(gas > 21_000 && fee > gas, "{gas} gas for {fee} wei");
    let address = watched.url();
    proposer.stop().await;
    drop(watched);
    until("silence", || {
        std::net::TcpStream::connect(address.trim_start_matches("http://")).is_err()
    })
    .await;

    let at = rollup.network().layer1;
    let worker = start_challenger(at, &l1, &l2, key("rich"), false);
    let challenger = worker.await.unwrap();
    let watched = watch(&challenger).await;
    assert_eq!(metrics(&watched).await["openledger_wrong_claims_total"], 0);
    challenger.stop().await;

    // A batcher without a sequencer has a backlog of nothing, and trouble.
    let config = BatcherConfig::default();
    let nobody = "http://127.0.0.1:9";
    let worker = start_batcher(rollup.network(), &l1, nobody, Some(da), key("rich"), config);
    let batcher = worker.await.unwrap();
    let watched = watch(&batcher).await;
    until("trouble", || batcher.done().trouble.is_some()).await;
    assert_eq!(health(&watched).await.0, 503);
    let told = metrics(&watched).await;
    assert_eq!(told["openledger_batches_total"], 0);
    assert_eq!(told["openledger_batch_backlog_blocks"], 0);
    batcher.stop().await;
    rollup.stop().await;
}
