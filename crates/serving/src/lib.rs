//! OpenLoRA: serves a base model and any number of LoRA adapters, together in one batch, without
//! merging any of them into the weights, and writes a receipt for every answer.
//!
//! The one hard decision: **what shares a batch changes no bit of an answer.** The model's `step`
//! gives each lane the bits it would have alone; the sampler draws by seed and position. So the
//! scheduler is free to batch as it likes, and a receipt can be checked by recomputing one request
//! alone. The price is the exact arithmetic mode's fixed summation order.
//!
//! - [`Engine`] batches continuously over lanes with different adapters, feeds prompts in chunks,
//!   bounds its queue and its caches, is fair between adapters, and frees a lane when its reader
//!   is gone.
//! - [`Adapters`] names adapters by the content root of their weights. An unknown name is an
//!   error, never an answer of the base.
//! - [`ReceiptLog`] numbers, signs and stores a receipt before the answer is acknowledged.
//! - [`Credit`] is the pure rule book of deposits and cumulative vouchers.
//!
//! ```no_run
//! use std::{path::Path, sync::Arc};
//! use openledger_model::{Base, Tokenizer, template::{Role, Template}};
//! use openledger_serving::{Engine, EngineConfig, Event, Prompt, Request};
//!
//! let dir = Path::new("bundled/base");
//! let (base, tokenizer) = (Arc::new(Base::load(dir)?), Tokenizer::load(dir)?);
//! let template = Template::for_tokenizer(&tokenizer);
//! let engine = Engine::start(base, tokenizer, template, EngineConfig::default())?;
//! engine.adapters().load("field-notes", Path::new("run/adapter"))?;
//! let question = vec![(Role::User, "What is a Datanet?".to_owned())];
//! let mut answers = engine.submit(Request::new(Some("field-notes"), Prompt::Chat(question)))?;
//! while let Some(event) = answers.events.blocking_recv() {
//!     if let Event::Done { completion, .. } = event {
//!         assert_eq!(completion.surprisals.len(), completion.output_tokens.len());
//!     }
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod credit;
mod engine;
mod error;
mod lane;
mod queue;
mod receipt;
mod registry;
mod request;
mod stop;

pub use credit::{Account, Credit, CreditError, Presented, Reservation};
pub use engine::{Answers, Engine, EngineConfig, EngineStats};
pub use error::Error;
pub use receipt::{Pricing, ReceiptLog, SignedReceipt, Terms, receipt};
pub use registry::{AdapterInfo, AdapterStats, Adapters};
pub use request::{
    Completion, Event, FinishReason, MAX_CHOICES, MAX_STOPS, MAX_TOP_LOGPROBS, Prompt, Request,
    Sampling, TokenReport,
};
