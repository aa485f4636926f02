//! A tiny base and a few rows.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part")]

use openledger_finetune::{Dataset, Row};
use openledger_model::template::Template;
use openledger_model::{Base, Config, Tokenizer};

pub fn config() -> Config {
    Config {
        hidden: 32,
        layers: 2,
        heads: 2,
        kv_heads: 1,
        head_dim: 16,
        mlp: 64,
        vocab: 300,
        context: 96,
        rope_theta: 10_000.0,
        norm_eps: 1e-5,
        tie_embeddings: true,
        bos: Some(0),
        eos: vec![1],
        features: openledger_model::Features::default(),
    }
}

/// A base with wide weights, so that a few steps on an adapter move its answers.
pub fn wide_base(seed: u64) -> Base {
    let mut base = Base::random(config(), seed);
    base.update(|weights| weights.iter_mut().for_each(|weight| *weight *= 5.0));
    base
}

pub const TEXTS: [&str; 6] = [
    "A Datanet is a dataset that many people own together.",
    "An adapter holds the low-rank update of a tuned model.",
    "A receipt says which model answered, for whom and at what fee.",
    "A claim pays the difference to what was claimed before.",
    "A voucher is cumulative: the newest one replaces the older ones.",
    "A span is the longest run of words that a row and an answer share.",
];

pub fn rows() -> Vec<Row> {
    (0..24u32)
        .map(|id| {
            let prompt = (id % 3 != 0).then(|| format!("What is number {id}?"));
            Row::new(id, prompt, TEXTS[id as usize % TEXTS.len()].to_owned())
        })
        .collect()
}

pub fn tokenizer() -> Tokenizer {
    Tokenizer::train(TEXTS.iter().map(|text| text.repeat(4)), 300).unwrap()
}

pub fn dataset() -> Dataset {
    let tokenizer = tokenizer();
    let template = Template::for_tokenizer(&tokenizer);
    Dataset::from_rows(&rows(), &tokenizer, &config(), 0, &template)
        .unwrap()
        .split(0.15, 3)
        .unwrap()
}
