//! The decoder: weights, tokenizer, forward, hand-written backward, LoRA, KV cache, sampling.
//!
//! One definition of the Llama architecture serves three uses: pre-training
//! ([`full_gradients`]), tuning and attribution, which both need the gradient of single examples
//! ([`lora_gradients`]), and serving, where every sequence of a batch has its own adapter
//! ([`step`]). All of it is generic over the [`arithmetic`] mode, a type: [`Exact`], with the same
//! bits for any thread count, batch composition and instruction set, or [`Fast`].
//!
//! ```
//! use openledger_model::{Base, Config, KvCache, Lane, Workspace, step};
//! # fn main() -> Result<(), openledger_model::Error> {
//! let config = Config {
//!     hidden: 32, layers: 2, heads: 4, kv_heads: 2, head_dim: 8, mlp: 64, vocab: 50, context: 64,
//!     rope_theta: 10_000.0, norm_eps: 1e-5, tie_embeddings: true, bos: Some(1), eos: vec![2], features: Default::default(),
//! };
//! let base = Base::random(config, 7);
//! let mut ws = Workspace::new();
//! let mut cache = KvCache::new(&base.config, 64);
//! let lane = Lane { tokens: &[1, 5, 9], cache: &mut cache, adapter: None, all_logits: false };
//! let out = step(&base, &mut [lane], &mut ws)?;
//! assert_eq!(out[0].logits.len(), 50);
//! assert_eq!(cache.len(), 3);
//! # Ok(())
//! # }
//! ```

pub mod arithmetic;
mod attention;
mod awake;
mod base;
mod block;
mod cache;
mod config;
mod dora;
mod dropout;
mod error;
pub mod export;
mod files;
pub mod gguf;
pub mod inspect;
mod lora;
mod orthogonal;
mod peft;
mod random;
mod sample;
mod step;
pub mod template;
mod tensors;
mod tokenizer;
mod train;
mod workspace;

pub use arithmetic::{Arithmetic, Exact, Fast};
pub use base::{Base, Slot, parameter_count, random_params};
pub use cache::KvCache;
pub use config::{Activation, Architecture, Config, Features, RopeScaling};
pub use dropout::Dropout;
pub use error::Error;
pub use gguf::{Encoding, Gguf};
pub use lora::{Adapter, LoraConfig, Target};
pub use openledger_kernels::{Format, Isa};
pub use orthogonal::orthogonalize;
pub use sample::{Choice, Sampler, SamplingConfig, log_probability, surprisal_millibits, top};
pub use step::{Lane, LaneOutput, step};
pub use tensors::Dtype;
pub use tokenizer::{Decoder, Tokenizer};
pub use train::{
    Example, Gradients, Loss, full_gradients, full_gradients_pack, lora_gradients,
    lora_gradients_pack, loss,
};
pub use workspace::Workspace;
