//! Small models and examples that the tests share.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, clippy::float_cmp, reason = "tests")]

use std::path::{Path, PathBuf};

use openledger_model::{
    Adapter, Arithmetic, Base, Config, Example, KvCache, Lane, LoraConfig, Target, Workspace, step,
};

/// A path below the root of the repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(path)
}

/// Logits of every position, `[tokens, vocab]`.
pub fn logits<A: Arithmetic>(
    base: &Base<A>,
    adapter: Option<&Adapter>,
    tokens: &[u32],
) -> Vec<f32> {
    let mut cache = KvCache::new(&base.config, tokens.len());
    let lane = Lane {
        tokens,
        cache: &mut cache,
        adapter,
        all_logits: true,
    };
    let mut out = step(base, &mut [lane], &mut Workspace::new()).unwrap();
    out.remove(0).logits
}

pub fn config(tied: bool) -> Config {
    Config {
        hidden: 48,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        head_dim: 10,
        mlp: 72,
        vocab: 91,
        context: 64,
        rope_theta: 10_000.0,
        norm_eps: 1e-5,
        tie_embeddings: tied,
        bos: Some(1),
        eos: vec![2],
        features: openledger_model::Features::default(),
    }
}

/// A random model whose weights are large enough that every part matters.
pub fn small(tied: bool) -> Base {
    let mut base = Base::random(config(tied), 3);
    base.update(|p| {
        p.iter_mut()
            .for_each(|x| *x *= if *x == 1.0 { 1.0 } else { 6.0 })
    });
    base
}

/// An adapter on all linears whose `B` is not zero.
pub fn adapter(config: &Config, rank: usize) -> Adapter {
    let lora = LoraConfig {
        rank,
        alpha: 7.0,
        dropout: 0.0,
        targets: Target::ALL.to_vec(),
        ..LoraConfig::default()
    };
    let mut adapter = Adapter::new(config, lora, 11).unwrap();
    for (i, x) in adapter.params_mut().iter_mut().enumerate() {
        *x += ((i * 37 % 101) as f32 - 50.0) * 1e-3;
    }
    adapter
}

pub fn example(len: usize, loss_from: usize) -> Example {
    Example {
        tokens: (0..len)
            .map(|i| (i * i * 7 + i * 3 + 1) as u32 % 91)
            .collect(),
        loss_from,
    }
}
