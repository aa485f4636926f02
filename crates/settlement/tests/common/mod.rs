//! Random but valid epochs: two models, a few wallets, receipts that check out.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::collections::BTreeMap;

use openledger_primitives::{
    Address, B256, DEV_CHAIN_ID, RECORD_VERSION, Wei,
    records::{InferenceReceipt, Parameters, digest_u32},
};
use openledger_settlement::{
    Cumulative, EpochInput, Inference, Model, Prices, Quality, Row, Split, Threshold,
};
use proptest::prelude::*;

pub(crate) const STAKERS: Address = Address::repeat_byte(0xa1);
pub(crate) const TREASURY: Address = Address::repeat_byte(0xa2);
pub(crate) const COMMONS: Address = Address::repeat_byte(0xa3);

/// The wallet of contributor `n`.
pub(crate) fn wallet(n: u8) -> Address {
    let mut bytes = [0xc0; 20];
    bytes[19] = n;
    Address::from(bytes)
}

/// A model under the digest `id` with these rows: `(owner, cluster)`.
pub(crate) fn model(id: u8, rows: &[(u8, u32)]) -> Model {
    Model {
        adapter: B256::repeat_byte(id),
        owner: Address::repeat_byte(0xb0 ^ id),
        commons: COMMONS,
        prices: Prices {
            prompt: Wei::new(1_003),
            output: Wei::new(3_001),
        },
        split: Split::new(&Parameters::default()).expect("the default split is whole"),
        rows: rows
            .iter()
            .map(|&(n, cluster)| Row {
                owner: wallet(n),
                cluster,
            })
            .collect(),
        floor: 2_000,
        quality: Quality::Unaudited,
    }
}

/// An answer of `model`: one `(surprisal, covering row)` for each output token.
pub(crate) fn inference(
    model: &Model,
    sequence: u64,
    payer: Address,
    tokens: &[(u32, Option<u32>)],
    scores: Vec<i32>,
    decoys: Vec<i32>,
) -> Inference {
    let surprisals: Vec<u32> = tokens.iter().map(|token| token.0).collect();
    let output_tokens = u32::try_from(tokens.len()).expect("short");
    let receipt = InferenceReceipt {
        version: RECORD_VERSION,
        chainId: DEV_CHAIN_ID,
        adapter: model.adapter,
        surprisals: digest_u32(&surprisals),
        promptTokens: 11,
        outputTokens: output_tokens,
        fee: model.prices.fee(11, output_tokens).expect("small").get(),
        payer,
        operator: Address::repeat_byte(0xd0),
        sequence,
        ..InferenceReceipt::default()
    };
    let mut report = [0; 32];
    report[24..].copy_from_slice(&sequence.to_be_bytes());
    Inference {
        receipt,
        report: B256::from(report),
        surprisals,
        cover: tokens.iter().map(|token| token.1).collect(),
        scores,
        decoys,
    }
}

/// An epoch over `models` and `inferences` with empty ledgers and generous vouchers.
pub(crate) fn epoch(models: Vec<Model>, inferences: Vec<Inference>) -> EpochInput {
    let signed: BTreeMap<Address, Wei> = inferences
        .iter()
        .map(|i| (i.receipt.payer, Wei::new(u128::MAX)))
        .collect();
    EpochInput {
        chain_id: DEV_CHAIN_ID,
        epoch: 1,
        parameters: Parameters::default(),
        threshold: Threshold::default(),
        quality_floor_micro: 300_000,
        stakers: STAKERS,
        treasury: TREASURY,
        da_ref: B256::repeat_byte(0xda),
        models,
        inferences,
        signed,
        payers: Cumulative::default(),
        earners: Cumulative::default(),
    }
}

/// Rows as `(owner, cluster)`: about a quarter of them belong to an earlier row's cluster.
fn rows() -> impl Strategy<Value = Vec<(u8, u32)>> {
    proptest::collection::vec((0u8..6, any::<prop::sample::Index>(), 0u8..4), 1..9).prop_map(
        |picks| {
            let mut rows: Vec<(u8, u32)> = Vec::new();
            for (owner, earlier, copy) in picks {
                let own = u32::try_from(rows.len()).expect("few");
                let cluster = if copy == 0 && !rows.is_empty() {
                    rows[earlier.index(rows.len())].1
                } else {
                    own
                };
                rows.push((owner, cluster));
            }
            rows
        },
    )
}

/// A valid epoch of two models.
pub(crate) fn any_epoch() -> impl Strategy<Value = EpochInput> {
    let answers = proptest::collection::vec(
        (
            any::<bool>(),
            0u8..4,
            proptest::collection::vec((0u32..20_000, any::<Option<prop::sample::Index>>()), 0..12),
            proptest::collection::vec(-(1i32 << 20)..1 << 20, 12),
        ),
        0..12,
    );
    (rows(), rows(), answers, 0u128..30_000, any::<bool>()).prop_map(
        |(a, b, answers, dust_floor, audited)| {
            let mut models = vec![model(1, &a), model(2, &b)];
            if !audited {
                models[1].quality = Quality::Lds(-1);
            }
            let inferences = answers
                .into_iter()
                .zip(0u64..)
                .map(|((second, payer, tokens, scores), sequence)| {
                    let model = &models[usize::from(second)];
                    let row = |index: prop::sample::Index| {
                        u32::try_from(index.index(model.rows.len())).expect("few")
                    };
                    let tokens: Vec<_> =
                        tokens.into_iter().map(|(w, at)| (w, at.map(row))).collect();
                    let payer = Address::repeat_byte(0xe0 | payer);
                    let (scores, decoys) = scores.split_at(8);
                    inference(
                        model,
                        sequence,
                        payer,
                        &tokens,
                        scores[..model.rows.len()].to_vec(),
                        decoys.iter().map(|score| score / 16).collect(),
                    )
                })
                .collect();
            let mut input = epoch(models, inferences);
            input.parameters.dustFloor = dust_floor;
            input
        },
    )
}
