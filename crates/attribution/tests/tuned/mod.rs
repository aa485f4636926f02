//! A small model tuned on a dozen rows, as the tests need it.

#![allow(dead_code, reason = "each test binary uses its part")]

use openledger_attribution::{RowSketches, SketchSpec};
use openledger_model::{
    Adapter, Base, Config, Example, LoraConfig, Target, Workspace, lora_gradients,
};

/// Facts `(subject, object)` in one frame as rows, with another word in the frame as decoys.
pub(crate) struct Tuned {
    pub(crate) base: Base,
    pub(crate) adapter: Adapter,
    pub(crate) rows: Vec<Example>,
    pub(crate) decoys: Vec<Example>,
    pub(crate) spec: SketchSpec,
}

pub(crate) fn example(tokens: &[u32], loss_from: usize) -> Example {
    Example {
        tokens: tokens.to_vec(),
        loss_from,
    }
}

impl Tuned {
    pub(crate) fn new() -> Self {
        let config = Config {
            hidden: 48,
            layers: 2,
            heads: 4,
            kv_heads: 2,
            head_dim: 12,
            mlp: 96,
            vocab: 200,
            context: 64,
            rope_theta: 10_000.0,
            norm_eps: 1e-5,
            tie_embeddings: false,
            bos: Some(1),
            eos: vec![2],
            features: openledger_model::Features::default(),
        };
        let base = Base::random(config, 7);
        let lora = LoraConfig {
            rank: 4,
            alpha: 8.0,
            dropout: 0.0,
            targets: Target::ALL.to_vec(),
            ..LoraConfig::default()
        };
        let mut adapter = Adapter::new(&base.config, lora, 1).expect("a valid adapter");
        let facts = (0..12u32).map(|n| ([20 + 3 * n, 21 + 3 * n], [100 + 4 * n, 102 + 4 * n]));
        let (rows, decoys) = facts
            .map(|(s, o)| {
                let row = example(&[1, 5, s[0], s[1], 6, o[0], o[1], 2], 5);
                let paraphrase = example(&[1, 8, s[0], s[1], 6, o[0], o[1], 2], 5);
                (row, paraphrase)
            })
            .unzip();
        tune(&base, &mut adapter, &rows);
        Self {
            base,
            adapter,
            rows,
            decoys,
            spec: SketchSpec::default(),
        }
    }

    pub(crate) fn sketches(&self) -> RowSketches {
        RowSketches::build(
            &self.base,
            &self.adapter,
            &self.rows,
            &self.decoys,
            &self.spec,
            &|_, _| {},
        )
        .expect("valid examples")
    }
}

/// A few passes of plain gradient descent.
fn tune(base: &Base, adapter: &mut Adapter, rows: &Vec<Example>) {
    let mut ws = Workspace::new();
    let mut gradient = vec![0.0; adapter.params().len()];
    let mut sum = vec![0.0f32; adapter.params().len()];
    for _ in 0..30 {
        sum.fill(0.0);
        for row in rows {
            lora_gradients(base, adapter, row, &mut gradient, &mut ws).expect("a valid row");
            sum.iter_mut().zip(&gradient).for_each(|(s, g)| *s += g);
        }
        let norm = sum.iter().map(|g| g * g).sum::<f32>().sqrt();
        let params = adapter.params_mut();
        params
            .iter_mut()
            .zip(&sum)
            .for_each(|(p, g)| *p -= 0.3 * g / norm);
    }
}
