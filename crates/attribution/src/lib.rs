//! Proof of Attribution: whose data shaped an answer, as integers that anybody can recompute.
//!
//! Two methods, one report:
//!
//! - **Spans.** Output tokens that stand word for word in a training row, found with the suffix
//!   index ([`admissible`], [`cover`]).
//! - **Gradients.** Each training row's LoRA gradient, preconditioned, projected and rounded to int8
//!   ([`RowSketches`]); an answer's score for a row is the inner product of two such sketches.
//!
//! The one hard decision here: **scores that decide money are integers from the sketch on**. The
//! gradient is computed in the model's exact arithmetic, the projection is IEEE additions in
//! parameter order, and after rounding to int8 a score is an exact sum of products. So a report is
//! equal to the byte for any thread count and machine, its parts can stand in Merkle trees, and a
//! contract can recompute a single score. The price is resolution: a sketch of `k` bytes knows a
//! cosine to about `1 / sqrt(k)`.
//!
//! [`Attributor::attribute`] makes an [`Attribution`]; [`Attribution::record`] is the record that
//! settlement and chain see, [`Attribution::view`] what a reader sees, and [`verify`] recomputes
//! it all. docs/protocol/attribution.md is normative.
//!
//! ```
//! use openledger_attribution::{RowSketches, SketchSpec};
//! use openledger_model::{Adapter, Base, Config, Example, LoraConfig, Target};
//! # let config = Config {
//! #     hidden: 32, layers: 1, heads: 4, kv_heads: 2, head_dim: 8, mlp: 64, vocab: 50, context: 64,
//! #     rope_theta: 10_000.0, norm_eps: 1e-5, tie_embeddings: true, bos: Some(1), eos: vec![2], features: Default::default(),
//! # };
//! let base = Base::random(config, 7);
//! let lora = LoraConfig { rank: 4, alpha: 8.0, ..LoraConfig::default() };
//! let adapter = Adapter::new(&base.config, lora, 1)?;
//! let row = |tokens: &[u32]| Example { tokens: tokens.to_vec(), loss_from: 1 };
//! let rows = [row(&[1, 5, 9, 12]), row(&[1, 30, 31, 32])];
//!
//! let spec = SketchSpec { dimensions: 512, ..SketchSpec::default() };
//! let sketches = RowSketches::build(&base, &adapter, &rows, &[], &spec, &|_, _| {})?;
//! let query = sketches.query_sketch(&base, &adapter, &[1], &[5, 9, 12])?;
//! let scores = sketches.scores(&query)?.rows;
//! assert!(scores[0] > scores[1]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod disk;
mod error;
mod precondition;
mod projection;
mod quality;
mod report;
mod sketches;
mod spans;
mod spec;
mod verify;
mod view;

pub use error::Error;
pub use projection::{dot, score};
pub use quality::{lds, spearman};
pub use report::{Attribution, Attributor, Share, span_method};
pub use sketches::{Progress, RowSketches, Scores, sketch_leaf};
pub use spans::{PaidSpan, admissible, cover};
pub use spec::SketchSpec;
pub use verify::{Evidence, Mismatch, Opt, verify};
pub use view::{Context, Method, ScoreView, Source, SourceView, SpanView, Thresholds, View};

/// One in score units: a cosine of 1 is `1 << 20`.
pub const SCORE_ONE: i32 = 1 << 20;
