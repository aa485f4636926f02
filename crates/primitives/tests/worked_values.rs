//! The worked values of docs/protocol/records.md, recomputed by this crate. The same block of the
//! document is recomputed with viem in `tests/clients/check_records.mjs`, so the two meet in it.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use alloy_sol_types::SolStruct;
use openledger_primitives::records::{
    Claim, Contribution, TrainingRun, cumulative_leaf, digest_u32, domain,
};
use openledger_primitives::{Address, Record, merkle};
use serde_json::{Value, json};

fn worked_values() -> Value {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../docs/protocol/records.md"
    );
    let document = std::fs::read_to_string(path).unwrap();
    let (_, section) = document.split_once("## Worked values").unwrap();
    let (_, block) = section.split_once("```json").unwrap();
    let (block, _) = block.split_once("```").unwrap();
    serde_json::from_str(block).unwrap()
}

#[test]
fn records_document() {
    let worked = worked_values();
    let text = worked["content"]["text"].as_str().unwrap();
    let repeated = usize::try_from(worked["longContent"]["repeatedA"].as_u64().unwrap()).unwrap();

    let fields = &worked["contribution"]["fields"];
    let contribution: Contribution = serde_json::from_value(fields.clone()).unwrap();
    let contract: Address = worked["contribution"]["verifyingContract"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let signing_hash = contribution.eip712_signing_hash(&domain(contribution.chainId, contract));

    let fields = &worked["trainingRun"]["fields"];
    let run: TrainingRun = serde_json::from_value(fields.clone()).unwrap();

    let fields = &worked["claim"]["fields"];
    let claim = Claim {
        version: 2,
        chainId: fields["chainId"].as_u64().unwrap(),
        earner: fields["earner"].as_str().unwrap().parse().unwrap(),
        cumulative: fields["cumulative"].as_str().unwrap().parse().unwrap(),
        epoch: fields["epoch"].as_u64().unwrap(),
    };

    let earners = worked["earners"]["leaves"]
        .as_array()
        .unwrap()
        .iter()
        .map(|leaf| {
            let account = leaf[0].as_str().unwrap().parse().unwrap();
            cumulative_leaf(account, u128::from(leaf[1].as_u64().unwrap()))
        });
    let tokens: Vec<u32> = serde_json::from_value(worked["tokens"]["list"].clone()).unwrap();

    let computed = json!({
        "content": merkle::chunk_root(text.as_bytes()),
        "longContent": merkle::chunk_root("a".repeat(repeated).as_bytes()),
        "contribution": contribution.digest(),
        "signingHash": signing_hash,
        "trainingRun": run.digest(),
        "claim": claim.digest(),
        "earners": merkle::Tree::from_data(earners).root(),
        "tokens": digest_u32(&tokens),
    });
    let written = json!({
        "content": worked["content"]["contentRoot"],
        "longContent": worked["longContent"]["contentRoot"],
        "contribution": worked["contribution"]["digest"],
        "signingHash": worked["contribution"]["signingHash"],
        "trainingRun": worked["trainingRun"]["digest"],
        "claim": worked["claim"]["digest"],
        "earners": worked["earners"]["root"],
        "tokens": worked["tokens"]["digest"],
    });
    assert_eq!(computed, written);
}
