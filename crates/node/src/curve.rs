//! The curves of tuning runs in the catalogue: one entry a step.
//!
//! The trainer keeps its own file of steps, which is cut back to the last checkpoint when a killed
//! run is resumed. The catalogue follows it: what the file has and the catalogue lacks is brought
//! over when a run goes on, and steps that are done again replace what was there. So no step is
//! missing or double, wherever the process ended.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use openledger_finetune::{StepMetrics, metrics};
use openledger_store::Catalogue;

use crate::view::LossPoint;
use crate::{Node, Result};

/// A transaction waits for the disk, a small model's step does not take longer than that: steps
/// within this time share one.
const TOGETHER: Duration = Duration::from_millis(300);

fn log(run: &str) -> String {
    format!("run-metrics/{run}")
}

/// Writes the steps of one run.
#[derive(Debug)]
pub(crate) struct Journal {
    catalogue: Catalogue,
    log: String,
    /// The trainer's own file.
    file: PathBuf,
    /// Whether the catalogue agrees with the file up to where this process began.
    level: bool,
    waiting: Vec<StepMetrics>,
    written: Instant,
}

impl Journal {
    /// The journal of `run`, whose trainer appends to `file`.
    pub(crate) fn new(catalogue: Catalogue, run: &str, file: PathBuf) -> Self {
        Self {
            catalogue,
            log: log(run),
            file,
            level: false,
            waiting: Vec::new(),
            written: Instant::now(),
        }
    }

    /// Takes a step; it is durable at the latest with the first step [`TOGETHER`] later, or with
    /// [`Journal::flush`].
    pub(crate) fn record(&mut self, step: &StepMetrics) -> Result<()> {
        if !self.level {
            self.catch_up(step.step)?;
        }
        self.waiting.push(step.clone());
        if self.written.elapsed() >= TOGETHER {
            self.flush()?;
        }
        Ok(())
    }

    /// Makes everything taken so far durable.
    pub(crate) fn flush(&mut self) -> Result<()> {
        if !self.waiting.is_empty() {
            self.catalogue.write(|tx| {
                self.waiting
                    .iter()
                    .try_for_each(|step| tx.set(&self.log, step.step - 1, &point(step)))
            })?;
            self.waiting.clear();
        }
        self.written = Instant::now();
        Ok(())
    }

    /// Before the first step of this process, number `first`: earlier ones from the trainer's
    /// file, later ones are gone.
    fn catch_up(&mut self, first: u64) -> Result<()> {
        let known = self.catalogue.len(&self.log)?;
        let before = metrics::load(&self.file)?;
        self.catalogue.write(|tx| {
            tx.cut(&self.log, first - 1)?;
            before
                .iter()
                .filter(|step| step.step > known && step.step < first)
                .try_for_each(|step| tx.set(&self.log, step.step - 1, &point(step)))
        })?;
        self.level = true;
        Ok(())
    }
}

impl Node {
    /// Steps of a run after step `after`, at most `limit`, in order.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn run_points(&self, id: &str, after: u64, limit: usize) -> Result<Vec<LossPoint>> {
        let entries = self.catalogue().tail(&log(id), after, limit)?;
        Ok(entries.into_iter().map(|(_, point)| point).collect())
    }
}

/// A step as it is kept and shown.
pub(crate) fn point(step: &StepMetrics) -> LossPoint {
    LossPoint {
        step: step.step,
        steps: step.steps,
        loss: step.loss,
        smoothed: step.smoothed,
        eval: step.eval_loss,
        perplexity: step.perplexity,
        lr: step.learning_rate,
        grad_norm: step.gradient_norm,
        tokens: step.tokens,
        tokens_per_second: step.tokens_per_second,
        memory_bytes: step.memory_bytes,
        eta_seconds: step.eta_seconds,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn step(number: u64, loss: f64) -> StepMetrics {
        StepMetrics {
            step: number,
            steps: 9,
            epoch: 0.0,
            loss,
            smoothed: loss,
            eval_loss: None,
            perplexity: loss.exp(),
            learning_rate: 1e-3,
            gradient_norm: 1.0,
            tokens: number * 10,
            tokens_per_second: 1.0,
            eta_seconds: 1.0,
            memory_bytes: None,
        }
    }

    #[test]
    fn a_resumed_run_leaves_no_gap_and_no_double() {
        let dir = tempfile::tempdir().unwrap();
        let catalogue = Catalogue::open(&dir.path().join("c.redb")).unwrap();
        let file = dir.path().join("metrics.jsonl");
        let write = |steps: &[StepMetrics]| {
            let lines = steps
                .iter()
                .map(|step| serde_json::to_string(step).unwrap() + "\n");
            let text: String = lines.collect();
            openledger_store::write_atomic(&file, text.as_bytes()).unwrap();
        };
        let journal = || Journal::new(catalogue.clone(), "run-1", file.clone());
        let numbers = || {
            let points = catalogue.tail::<LossPoint>(&log("run-1"), 0, 99).unwrap();
            points
                .iter()
                .map(|(_, point)| (point.step, point.loss as u64))
                .collect::<Vec<_>>()
        };
        // Killed after five steps of which the last three had not been committed.
        let mut first = journal();
        for n in 1..=2 {
            first.record(&step(n, 1.0)).unwrap();
        }
        first.flush().unwrap();
        first.record(&step(3, 1.0)).unwrap();
        drop(first);
        assert_eq!(numbers(), [(1, 1), (2, 1)]);
        // The trainer had a checkpoint at step 4 and goes on with step 5.
        write(&[step(1, 1.0), step(2, 1.0), step(3, 1.0), step(4, 1.0)]);
        let mut second = journal();
        second.record(&step(5, 2.0)).unwrap();
        second.record(&step(6, 2.0)).unwrap();
        second.flush().unwrap();
        assert_eq!(numbers(), [(1, 1), (2, 1), (3, 1), (4, 1), (5, 2), (6, 2)]);
        // Killed again before the next checkpoint: step 5 comes a second time.
        let mut third = journal();
        third.record(&step(5, 3.0)).unwrap();
        third.flush().unwrap();
        assert_eq!(numbers(), [(1, 1), (2, 1), (3, 1), (4, 1), (5, 3)]);
    }
}
