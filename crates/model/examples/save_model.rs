//! Saves a small random model with a trained tokenizer, and what it computes, for
//! `tests/peers/transformers_load.py`.
//!
//! `cargo run -p openledger-model --example save_model -- DIRECTORY`

use std::error::Error;
use std::path::PathBuf;

use openledger_model::{Base, Config, Dtype, KvCache, Lane, Tokenizer, Workspace, step};

fn main() -> Result<(), Box<dyn Error>> {
    let directory = PathBuf::from(
        std::env::args()
            .nth(1)
            .ok_or("usage: save_model DIRECTORY")?,
    );
    let text = "A Datanet holds rows; each row has an owner, a licence and a naïve little price.";
    let tokenizer = Tokenizer::train(std::iter::repeat_n(text, 50), 300)?;
    let config = Config {
        hidden: 48,
        layers: 2,
        heads: 6,
        kv_heads: 2,
        head_dim: 8,
        mlp: 96,
        vocab: 300,
        context: 128,
        rope_theta: 500_000.0,
        norm_eps: 1e-5,
        tie_embeddings: false,
        bos: tokenizer.bos(),
        eos: tokenizer.eos().into_iter().collect(),
        features: openledger_model::Features::default(),
    };
    let mut base = Base::random(config, 5);
    base.update(|weights| weights.iter_mut().for_each(|w| *w *= 3.0));
    base.save(&directory, Dtype::Bf16)?;
    tokenizer.save(&directory)?;

    // What was rounded to bf16 is what the reader sees.
    let base = Base::load(&directory)?;
    let tokens = tokenizer.encode(text);
    let mut cache = KvCache::new(&base.config, 128);
    let lane = Lane {
        tokens: &tokens,
        cache: &mut cache,
        adapter: None,
        all_logits: false,
    };
    let logits = step(&base, &mut [lane], &mut Workspace::new())?
        .remove(0)
        .logits;
    let expected = serde_json::json!({
        "text": text, "tokens": tokens, "logits": logits,
        "bos": tokenizer.bos(), "eos": tokenizer.eos(),
    });
    std::fs::write(directory.join("expected.json"), expected.to_string())?;
    Ok(())
}
