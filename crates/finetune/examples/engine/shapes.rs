//! The models that are measured: random weights of known shapes.

use std::path::Path;

use openledger_model::{Base, Config, Dtype, Features, parameter_count};

use crate::Fallible;

/// `(name, [hidden, layers, heads, key-value heads, mlp, vocabulary])`; heads are 64 wide.
const SHAPES: [(&str, [usize; 6]); 4] = [
    ("tiny", [256, 6, 4, 4, 704, 2048]),
    ("35m", [384, 12, 6, 2, 1024, 49_152]),
    // SmolLM2-135M and SmolLM2-360M.
    ("135m", [576, 30, 9, 3, 1536, 49_152]),
    ("360m", [960, 32, 15, 5, 2560, 49_152]),
];

fn config(name: &str) -> Fallible<Config> {
    let (_, [hidden, layers, heads, kv_heads, mlp, vocab]) = SHAPES
        .into_iter()
        .find(|(known, _)| *known == name)
        .ok_or_else(|| format!("shape={name} is none of {:?}", SHAPES.map(|(n, _)| n)))?;
    Ok(Config {
        hidden,
        layers,
        heads,
        kv_heads,
        head_dim: 64,
        mlp,
        vocab,
        context: 8192,
        rope_theta: 100_000.0,
        norm_eps: 1e-5,
        tie_embeddings: true,
        bos: Some(0),
        eos: vec![1],
        features: Features::default(),
    })
}

/// Writes a random model as a Hugging Face folder, so that every side reads the same bytes; returns
/// how many weights it has.
pub(crate) fn save(name: &str, directory: &Path) -> Fallible<usize> {
    let config = config(name)?;
    let parameters = parameter_count(&config);
    Base::random(config, 1).save(directory, Dtype::Bf16)?;
    Ok(parameters)
}
