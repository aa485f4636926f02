//! Blobs from a consensus layer that lies, forgets, or speaks an older dialect.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use openledger_derivation::{L1Block, SourceError, encode_blob};
use openledger_node::rollup::blobs::{Beacon, sidecar};
use openledger_primitives::{B256, Bytes};
use serde_json::{Value, json};

/// Answers by path, and what was asked.
#[derive(Default)]
struct Told {
    answers: BTreeMap<String, (StatusCode, Value)>,
    asked: Vec<String>,
}

type Shared = Arc<Mutex<Told>>;

async fn answer(State(told): State<Shared>, request: Request) -> axum::response::Response {
    let mut told = told.lock().unwrap();
    told.asked.push(request.uri().to_string());
    match told.answers.get(request.uri().path()) {
        Some((status, body)) => (*status, axum::Json(body.clone())).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn serve(answers: &[(&str, Value)]) -> (String, Shared) {
    let told = Shared::default();
    set(&told, answers);
    let app = Router::new().fallback(answer).with_state(told.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    (url, told)
}

fn set(told: &Shared, answers: &[(&str, Value)]) {
    let answers = answers.iter().map(|(path, body)| {
        let answer = (StatusCode::OK, json!({"data": body}));
        ((*path).to_owned(), answer)
    });
    told.lock().unwrap().answers = answers.collect();
}

async fn get(beacon: &Arc<Beacon>, hashes: &[B256]) -> Result<Vec<Bytes>, SourceError> {
    let (beacon, hashes) = (Arc::clone(beacon), hashes.to_vec());
    let block = L1Block {
        number: 7,
        timestamp: 1_124,
        ..L1Block::default()
    };
    tokio::task::spawn_blocking(move || beacon.blobs(&block, &hashes))
        .await
        .unwrap()
}

fn refusal(outcome: Result<Vec<Bytes>, SourceError>) -> String {
    match outcome {
        Err(SourceError::Unavailable(reason)) => reason,
        other => panic!("{:?}", other.map(|blobs| blobs.len())),
    }
}

/// Two blobs with their hashes.
fn blobs() -> ([Bytes; 2], [B256; 2]) {
    let blobs = [b"one".as_slice(), b"two"].map(|data| encode_blob(data).unwrap());
    let hashes: Vec<B256> = sidecar(&blobs).unwrap().versioned_hashes().collect();
    (blobs.map(Bytes::from), hashes.try_into().unwrap())
}

const BLOBS: &str = "/eth/v1/beacon/blobs/7";

#[test]
fn a_sidecar_is_what_kzg_says() {
    let data = encode_blob(b"data").unwrap();
    let sidecar = sidecar(std::slice::from_ref(&data)).unwrap();
    let settings = c_kzg::ethereum_kzg_settings(0);
    let blob = c_kzg::Blob::from_bytes(&data).unwrap();
    let (cells, _) = settings.compute_cells_and_kzg_proofs(&blob).unwrap();
    let commitment = c_kzg::Bytes48::new(sidecar.commitments[0].0);
    let proofs: Vec<_> = sidecar
        .cell_proofs
        .iter()
        .map(|proof| c_kzg::Bytes48::new(proof.0))
        .collect();
    assert_eq!(proofs.len(), cells.len());
    let indices: Vec<u64> = (0..128).collect();
    let commitments = vec![commitment; cells.len()];
    let valid = settings
        .verify_cell_kzg_proof_batch(&commitments, &indices, &*cells, &proofs)
        .unwrap();
    assert!(valid);
    // Not a blob: an element above the field's modulus, and too short.
    let mut above = data.clone();
    above[..32].fill(0xff);
    assert!(openledger_node::rollup::blobs::sidecar(&[above]).is_err());
    assert!(openledger_node::rollup::blobs::sidecar(&[data[1..].to_vec()]).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs_are_found_by_their_hash_whatever_their_order() {
    let (blobs, hashes) = blobs();
    let (url, told) = serve(&[(BLOBS, json!([blobs[1], blobs[0]]))]).await;
    let beacon = Arc::new(Beacon::new(&url));
    assert_eq!(get(&beacon, &hashes).await.unwrap(), blobs);
    let twice = [hashes[1], hashes[1]];
    let same = [blobs[1].clone(), blobs[1].clone()];
    assert_eq!(get(&beacon, &twice).await.unwrap(), same);
    let asked = told.lock().unwrap().asked.join(" ");
    assert!(
        asked.contains(&format!("versioned_hashes={},{}", hashes[0], hashes[1])),
        "{asked}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_blob_is_never_believed() {
    let (blobs, hashes) = blobs();
    let mut forged = blobs[0].to_vec();
    forged[40] ^= 1;
    let (url, told) = serve(&[(BLOBS, json!([Bytes::from(forged), blobs[1]]))]).await;
    let beacon = Arc::new(Beacon::new(&url));
    let reason = refusal(get(&beacon, &hashes).await);
    assert!(reason.contains(&hashes[0].to_string()), "{reason}");
    // What is no blob at all is not, either.
    for junk in [json!(["0x"]), json!(["0x00", "0xff"]), json!([])] {
        set(&told, &[(BLOBS, junk)]);
        refusal(get(&beacon, &hashes).await);
    }
    set(&told, &[(BLOBS, json!({"no": "list"}))]);
    refusal(get(&beacon, &hashes).await);
    // The same question is answered once the right bytes are there.
    set(&told, &[(BLOBS, json!(blobs))]);
    assert_eq!(get(&beacon, &hashes).await.unwrap(), blobs);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ethereum_node_is_asked_by_slot_and_an_older_one_for_sidecars() {
    let (blobs, hashes) = blobs();
    // Genesis at 1 000, so the block of 1 124 is in slot 10.
    let sidecars = json!([{"index": "0", "blob": blobs[0]}, {"index": "1", "blob": blobs[1]}]);
    let (url, told) = serve(&[
        ("/eth/v1/config/spec", json!({"SECONDS_PER_SLOT": "12"})),
        ("/eth/v1/beacon/genesis", json!({"genesis_time": "1000"})),
        ("/eth/v1/beacon/blob_sidecars/10", sidecars),
    ])
    .await;
    let beacon = Arc::new(Beacon::new(&url));
    assert_eq!(get(&beacon, &hashes).await.unwrap(), blobs);
    assert!(told.lock().unwrap().asked[2].starts_with("/eth/v1/beacon/blobs/10?"));
    // Nobody there, and a genesis after the block.
    let nobody = Arc::new(Beacon::new("http://127.0.0.1:9"));
    refusal(get(&nobody, &hashes).await);
    let (url, _) = serve(&[
        ("/eth/v1/config/spec", json!({"SECONDS_PER_SLOT": "0"})),
        ("/eth/v1/beacon/genesis", json!({"genesis_time": "1000"})),
    ])
    .await;
    refusal(get(&Arc::new(Beacon::new(&url)), &hashes).await);
}
