//! Pre-trains a small base model: `pretrain RECIPE.toml CORPORA RUN_DIR OUT_DIR`.
//!
//! The same as `openledger pretrain`, without the rest of the system. Interrupt it at any time;
//! the same command goes on from the last checkpoint in `RUN_DIR`.
#![allow(clippy::print_stderr, reason = "progress of a command-line tool")]

use std::path::Path;

use openledger_finetune::{Control, PretrainRecipe, pretrain};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [recipe, corpora, run_dir, out_dir] = arguments.as_slice() else {
        return Err("usage: pretrain RECIPE.toml CORPORA RUN_DIR OUT_DIR".into());
    };
    let recipe = PretrainRecipe::load(Path::new(recipe))?;
    let outcome = pretrain(
        &recipe,
        Path::new(corpora),
        Path::new(run_dir),
        Path::new(out_dir),
        &mut |step| {
            if step.step % 10 == 0 || step.eval_loss.is_some() {
                eprintln!(
                    "{}/{} loss {:.3} eval {} {:.0} tok/s eta {:.0} s",
                    step.step,
                    step.steps,
                    step.smoothed,
                    step.eval_loss
                        .map_or_else(|| "-".into(), |loss| format!("{loss:.3}")),
                    step.tokens_per_second,
                    step.eta_seconds
                );
            }
            Control::Continue
        },
    )?;
    eprintln!("{}", serde_json::to_string_pretty(&outcome)?);
    Ok(())
}
