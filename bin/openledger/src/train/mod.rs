//! `openledger train`: a model tuned on a file of rows, without a network.

mod curve;
mod interrupt;
mod plan;
mod report;
mod settings;
mod watch;

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use openledger_finetune::rundir::{self, RunDir};
use openledger_finetune::{Control, Ending, METRICS_FILE, chart, metrics, train_from};
use serde_json::json;

use crate::cli::TrainArgs;
use curve::Curve;

/// Does what the flags ask: train, or look after a run of another process.
pub(crate) fn run(args: &TrainArgs) -> Result<()> {
    if let Some(run) = &args.watch {
        return watch::watch(&watch::directory(run)?, args.json);
    }
    for (run, control) in [(&args.pause, Control::Pause), (&args.stop, Control::Stop)] {
        if let Some(run) = run {
            return ask(&watch::directory(run)?, control);
        }
    }
    start(args)
}

/// Leaves a word for the process that trains in `dir`, and waits until it has obeyed.
fn ask(dir: &Path, control: Control) -> Result<()> {
    rundir::ask(dir, control)?;
    while rundir::running(dir)? {
        std::thread::sleep(watch::PATIENCE);
    }
    report::left(dir, false)
}

fn start(args: &TrainArgs) -> Result<()> {
    let interrupt = interrupt::listen()?;
    let prepared = plan::prepare(args)?;
    prepared.plan.print(args.json)?;
    prepared.plan.fits()?;
    if args.dry_run {
        return Ok(());
    }
    let out = args.out.as_deref().context("--out DIR is missing")?;
    let held = RunDir::hold(out)?;
    report::remember_command(out)?;

    let mut curve = Curve::new(args.json);
    let mut progress = |step: &_| {
        curve.show(step);
        match interrupt.asked() {
            true => Control::Pause,
            false => held.asked(),
        }
    };
    let summary = train_from(
        &prepared.base,
        &prepared.dataset,
        &prepared.recipe,
        out,
        &mut progress,
    )?;
    curve.finish();
    if summary.ending == Ending::Paused {
        return report::left(out, args.json);
    }
    let title = format!("{} on {}", prepared.plan.base, prepared.plan.data);
    let svg = chart::loss_svg(&title, &metrics::load(&out.join(METRICS_FILE))?);
    openledger_store::write_atomic(&out.join(report::CURVE_FILE), svg.as_bytes())?;
    report::finished(out, &summary, args.json)?;
    if summary.ending == Ending::Diverged {
        bail!(
            "the loss diverged after step {}; the result is that of the last good checkpoint. \
             A lower learning rate than {} usually helps: --set learning_rate=...",
            summary.steps,
            prepared.recipe.learning_rate
        );
    }
    Ok(())
}

/// One JSON object on a line of stdout.
fn print_event(event: &str, mut value: serde_json::Value) {
    if let Some(fields) = value.as_object_mut() {
        fields.insert("event".into(), json!(event));
    }
    println!("{value}");
}
