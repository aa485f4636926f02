//! `openledger pretrain`: the bundled base, made again.

use anyhow::{Context as _, Result};
use indicatif::{ProgressBar, ProgressStyle};
use openledger_finetune::{Control, PretrainRecipe, evaluate_base, pretrain};

use crate::cli::PretrainArgs;

/// Pre-trains after a recipe, resuming what an earlier call left, or scores what is there.
pub(crate) fn run(args: &PretrainArgs) -> Result<()> {
    let recipe = PretrainRecipe::load(&args.recipe)?;
    if args.evaluate {
        let scores = evaluate_base(&recipe, &args.corpora, &args.out)
            .with_context(|| format!("{} cannot be scored", args.out.display()))?;
        println!("{}", serde_json::to_string_pretty(&scores)?);
        return Ok(());
    }
    let bar = ProgressBar::new(0);
    bar.set_style(
        ProgressStyle::with_template(
            "{prefix:>12.bold} [{bar:28}] {pos}/{len} {elapsed:>4} {wide_msg}",
        )
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> "),
    );
    bar.set_prefix("pretrain");
    let run_dir = args.out.join("run");
    let outcome = pretrain(&recipe, &args.corpora, &run_dir, &args.out, &mut |step| {
        bar.set_length(step.steps);
        bar.set_position(step.step);
        bar.set_message(format!(
            "loss {:.3}, {:.0} tokens/s, {:.0} s left",
            step.smoothed, step.tokens_per_second, step.eta_seconds
        ));
        Control::Continue
    })
    .with_context(|| format!("pre-training after {} stopped", args.recipe.display()))?;
    bar.finish();
    println!("{}", serde_json::to_string_pretty(&outcome)?);
    Ok(())
}
