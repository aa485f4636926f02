//! Small fixtures shared by the unit tests.

use openledger_model::template::Template;
use openledger_model::{Config, Tokenizer};

use crate::{Dataset, Row, StepMetrics};

/// A model of a few thousand values over a 300-token vocabulary.
pub(crate) fn config() -> Config {
    Config {
        hidden: 16,
        layers: 2,
        heads: 2,
        kv_heads: 1,
        head_dim: 8,
        mlp: 32,
        vocab: 300,
        context: 64,
        rope_theta: 10_000.0,
        norm_eps: 1e-5,
        tie_embeddings: true,
        bos: Some(0),
        eos: vec![1],
        features: openledger_model::Features::default(),
    }
}

/// A falling curve with an evaluation every ten steps.
pub(crate) fn curve(steps: u64) -> Vec<StepMetrics> {
    (1..=steps)
        .map(|step| {
            let loss = 1.0 + 4.0 / step as f64;
            StepMetrics {
                step,
                steps,
                epoch: step as f64 / 10.0,
                loss,
                smoothed: loss + 0.1,
                eval_loss: step.is_multiple_of(10).then_some(loss + 0.2),
                perplexity: loss.exp(),
                learning_rate: 1e-3,
                gradient_norm: 0.5,
                tokens: step * 100,
                tokens_per_second: 1000.0,
                eta_seconds: (steps - step) as f64,
                memory_bytes: None,
            }
        })
        .collect()
}

/// Twelve short rows.
pub(crate) fn dataset() -> Dataset {
    let text = "a row of words that people wrote down";
    let tokenizer = Tokenizer::train(std::iter::repeat_n(text, 8), 280).expect("text is enough");
    let rows: Vec<Row> = (0..12)
        .map(|id| Row::new(id, None, format!("{text} {id}")))
        .collect();
    let template = Template::leading_space();
    Dataset::from_rows(&rows, &tokenizer, &config(), 0, &template).expect("no row is empty")
}
