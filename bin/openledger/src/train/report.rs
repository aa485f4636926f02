//! What a run came to, and how to go on from it.

use std::path::Path;

use anyhow::{Context as _, Result};
use openledger_finetune::{ADAPTER_DIR, Ending, METRICS_FILE, MODEL_DIR, Summary, metrics};
use serde_json::json;

/// The loss curve as a picture.
pub(super) const CURVE_FILE: &str = "curve.svg";
/// The command line that began the run, as JSON.
const COMMAND_FILE: &str = "command.json";

/// Keeps this process's command line beside the run, so that whoever finds it can go on.
pub(super) fn remember_command(out: &Path) -> Result<()> {
    let words: Vec<String> = std::env::args().collect();
    let json = serde_json::to_vec(&words)?;
    Ok(openledger_store::write_atomic(
        &out.join(COMMAND_FILE),
        &json,
    )?)
}

/// The command that goes on with the run in `dir`.
fn command(dir: &Path) -> Option<String> {
    let bytes = openledger_store::read(&dir.join(COMMAND_FILE)).ok()?;
    let words: Vec<String> = serde_json::from_slice(&bytes).ok()?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=,:+@%".contains(c);
    let quoted = words.into_iter().map(|word| match word.chars().all(plain) {
        true if !word.is_empty() => word,
        _ => format!("'{}'", word.replace('\'', r"'\''")),
    });
    Some(quoted.collect::<Vec<_>>().join(" "))
}

/// Says where a run stands that nobody trains and that has not ended.
pub(super) fn left(dir: &Path, json: bool) -> Result<()> {
    let curve = metrics::load(&dir.join(METRICS_FILE))?;
    if let Some(summary) = openledger_finetune::rundir::summary(dir)? {
        return finished(dir, &summary, json);
    }
    let (step, steps) = curve.last().map_or((0, 0), |last| (last.step, last.steps));
    let command = command(dir);
    if json {
        let ending = Ending::Paused;
        let value = json!({"ending": ending, "step": step, "steps": steps, "resume": command});
        super::print_event("end", value);
        return Ok(());
    }
    println!("paused at step {step} of {steps}; nothing is lost");
    if let Some(command) = command {
        println!("go on with: {command}");
    }
    Ok(())
}

/// Says what a run came to, where everything is, and what can be done with it.
pub(super) fn finished(dir: &Path, summary: &Summary, json: bool) -> Result<()> {
    // The method `full` leaves a model, all others an adapter.
    let (what, result) = match dir.join(MODEL_DIR) {
        model if model.is_dir() => ("model", model),
        _ => ("adapter", dir.join(ADAPTER_DIR)),
    };
    let exponent = |loss: Option<f64>| loss.map(f64::exp);
    let (before, after) = (summary.eval_before, summary.eval_after);
    if json {
        let mut value = serde_json::to_value(summary).context("the summary has no JSON form")?;
        value["perplexity_before"] = json!(exponent(before));
        value["perplexity_after"] = json!(exponent(after));
        value[what] = json!(result);
        super::print_event("end", value);
        return Ok(());
    }
    let how = match summary.ending {
        Ending::Completed => "all steps are done",
        Ending::Stopped => "stopped; the result is kept as it is",
        Ending::StoppedEarly => "the held-out loss no longer fell; the best evaluation is kept",
        Ending::Diverged => "diverged; the result is that of the last good checkpoint",
        Ending::Paused => "paused",
    };
    println!();
    println!(
        "{} steps, {how}: loss {:.3} -> {:.3} nats a token",
        summary.steps, summary.loss_first, summary.loss_last
    );
    let number = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.3}"));
    println!("{:>12}  {:>9} {:>9}", "held out", "before", "after");
    println!("{:>12}  {:>9} {:>9}", "loss", number(before), number(after));
    println!(
        "{:>12}  {:>9} {:>9}",
        "perplexity",
        number(exponent(before)),
        number(exponent(after))
    );
    println!();
    println!("{what:>12}  {}", result.display());
    println!("{:>12}  {}", "curve", dir.join(CURVE_FILE).display());
    println!("{:>12}  {}", "every step", dir.join(METRICS_FILE).display());
    println!();
    println!(
        "Look at it again:  openledger train --watch {}",
        dir.display()
    );
    if what == "adapter" {
        println!(
            "In Python:         peft.PeftModel.from_pretrained(base, {:?})",
            result.display().to_string()
        );
    }
    Ok(())
}
