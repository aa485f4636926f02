//! Steps as they come: a bar on a terminal, lines elsewhere, or JSON.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
use openledger_finetune::StepMetrics;

use super::plan::duration;

/// Between two lines of a run that is not watched on a terminal.
const LINE_EVERY: Duration = Duration::from_secs(2);
/// Characters of the drawn curve.
const WIDTH: usize = 60;

/// Shows the steps of a run.
#[derive(Debug)]
pub(super) struct Curve {
    form: Form,
    /// Smoothed losses so far.
    smoothed: Vec<f64>,
}

#[derive(Debug)]
enum Form {
    Bar(ProgressBar),
    Lines(Option<Instant>),
    Json,
}

impl Curve {
    /// In the form that suits stderr, or as JSON lines on stdout.
    pub(super) fn new(json: bool) -> Self {
        let form = if json {
            Form::Json
        } else if std::io::stderr().is_terminal() {
            let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
            let style = "{prefix:>12.bold} [{bar:28}] {pos}/{len} {elapsed:>4} {wide_msg}";
            let style = ProgressStyle::with_template(style)
                .unwrap_or_else(|_| ProgressStyle::default_bar());
            bar.set_style(style.progress_chars("=> "));
            bar.set_prefix("train");
            Form::Bar(bar)
        } else {
            Form::Lines(None)
        };
        Self {
            form,
            smoothed: Vec::new(),
        }
    }

    /// Shows one step.
    pub(super) fn show(&mut self, step: &StepMetrics) {
        self.smoothed.truncate(step.step.saturating_sub(1) as usize);
        self.smoothed.push(step.smoothed);
        match &mut self.form {
            Form::Json => {
                if let Ok(value) = serde_json::to_value(step) {
                    super::print_event("step", value);
                }
            }
            Form::Bar(bar) => {
                bar.set_length(step.steps);
                bar.set_position(step.step);
                bar.set_message(words(step));
            }
            Form::Lines(last) => {
                let due = last.is_none_or(|last| last.elapsed() >= LINE_EVERY);
                if due || step.eval_loss.is_some() || step.step == step.steps {
                    *last = Some(Instant::now());
                    eprintln!(
                        "{:>12}  {}/{} {}",
                        "train",
                        step.step,
                        step.steps,
                        words(step)
                    );
                }
            }
        }
    }

    /// Leaves the terminal as it was, with the curve in a line.
    pub(super) fn finish(&self) {
        if let Form::Bar(bar) = &self.form {
            bar.abandon();
        }
        if !matches!(self.form, Form::Json) && self.smoothed.len() > 1 {
            eprintln!("{:>12}  {}", "loss", sparkline(&self.smoothed));
        }
    }
}

fn words(step: &StepMetrics) -> String {
    let mut text = format!(
        "loss {:.3} smoothed {:.3} lr {:.1e}, {:.0} tokens/s",
        step.loss, step.smoothed, step.learning_rate, step.tokens_per_second
    );
    if let Some(loss) = step.eval_loss {
        text.push_str(&format!(", held out {loss:.3}"));
    }
    if let Some(bytes) = step.memory_bytes {
        text.push_str(&format!(", {}", HumanBytes(bytes)));
    }
    if step.step < step.steps {
        text.push_str(&format!(", {} left", duration(step.eta_seconds)));
    }
    text
}

/// Values as a row of blocks, the highest and the lowest at the edges.
fn sparkline(values: &[f64]) -> String {
    const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let width = WIDTH.min(values.len());
    let finite = || values.iter().copied().filter(|value| value.is_finite());
    let (low, high) = (
        finite().fold(f64::MAX, f64::min),
        finite().fold(f64::MIN, f64::max),
    );
    let mut text: String = (0..width)
        .map(|at| values[at * (values.len() - 1) / (width - 1).max(1)])
        .map(|value| match (value - low) / (high - low) {
            share if share.is_finite() => BLOCKS[(share * 7.0).round() as usize],
            _ => BLOCKS[0],
        })
        .collect();
    let ends = (values.first(), values.last());
    if let (Some(first), Some(last)) = ends {
        text.push_str(&format!("  {first:.3} to {last:.3}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_falls_with_the_loss_and_survives_nan() {
        let falling: Vec<f64> = (0..200).map(|step| 4.0 - f64::from(step) * 0.01).collect();
        let line = sparkline(&falling);
        assert!(
            line.starts_with('█') && line.contains("▁  4.000 to 2.010"),
            "{line}"
        );
        assert_eq!(sparkline(&[2.0, f64::NAN]), "▁▁  2.000 to NaN");
        assert_eq!(sparkline(&[1.0]), "▁  1.000 to 1.000");
    }
}
