//! ModelFactory: LoRA tuning of a base model on the rows of a Datanet, and pre-training of small
//! base models.
//!
//! The one hard decision: **training is a pure function**. Which rows a step sees depends on seed
//! and step alone, gradients of a batch are added in batch order, the optimizer is elementwise and
//! the model's arithmetic is exact; so the same base, rows and recipe give the same adapter, bit
//! for bit, on one thread or sixteen, undisturbed or killed and resumed. A [`Recipe`]'s digest, a
//! [`Dataset`]'s digest and the checkpoints' roots are therefore enough for anybody to check a
//! training record by doing it again. The price is a fixed summation order, which costs one pass
//! over the gradients a row.
//!
//! ```no_run
//! use std::path::Path;
//! use openledger_finetune::{Control, Dataset, Preset, Recipe, Row, train};
//! use openledger_model::{Base, Tokenizer, template::Template};
//!
//! let dir = Path::new("bundled/base");
//! let base = Base::load(dir)?;
//! let tokenizer = Tokenizer::load(dir)?;
//! let template = Template::for_tokenizer(&tokenizer);
//! let question = "What is a Datanet?".into();
//! let answer = "A community-owned dataset with a record of who added what.".into();
//! let rows = [Row::new(0, Some(question), answer)];
//! let dataset = Dataset::from_rows(&rows, &tokenizer, &base.config, 0, &template)?;
//! let recipe = Recipe::preset(Preset::Quick, &base.config, &dataset);
//! let dataset = dataset.split(recipe.eval_fraction, recipe.eval_seed)?;
//! let trained = train(&base, &dataset, &recipe, Path::new("run"), &mut |step| {
//!     tracing::info!(step.loss, step.eta_seconds);
//!     Control::Continue
//! })?;
//! assert!(trained.adapter_dir.join("adapter_model.safetensors").exists());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod answers;
mod batch;
pub mod chart;
mod checkpoint;
pub mod data;
mod dataset;
mod error;
mod estimate;
mod gradients;
pub mod metrics;
mod optimizer;
mod order;
mod pretrain;
mod recipe;
pub mod rundir;
mod schedule;
mod session;
mod settings;
mod subject;
mod train;

#[cfg(test)]
mod testing;

pub use batch::BatchGradients;
pub use checkpoint::Best;
pub use dataset::{Content, Dataset, LongRows, Row, RowExample, Turn};
pub use error::{Error, Flaws};
pub use estimate::{Estimate, estimate, estimate_from, memory, trained_parameters};
pub use metrics::StepMetrics;
pub use openledger_primitives::Mode;
pub use optimizer::{AdamW, Muon, Optimizer};
pub use pretrain::{
    PretrainRecipe, Pretrained, Shape, Source, SourceScore, evaluate_base, pretrain,
};
pub use recipe::{
    EarlyStopping, Length, Lora, Method, Preset, Quantization, Recipe, operations_per_token,
};
pub use schedule::{Decay, Schedule};
pub use train::{
    ADAPTER_DIR, Control, Ending, Lineage, METRICS_FILE, MODEL_DIR, Summary, Trained, TrainedWhole,
    train, train_from, train_whole,
};
