//! The loop that tuning and pre-training share: steps, curve, checkpoints, evaluations, endings.
//!
//! The one hard decision: **a run is a pure function of its inputs**. Rows are drawn by seed and
//! step, gradients are summed in a fixed order, the optimizer is elementwise; so the curve and the
//! weights have the same bits for any number of threads, and a run that was killed and resumed
//! ends in the weights that the undisturbed run would have written.

use std::path::Path;
use std::time::Instant;

use openledger_model::{Example, Slot};

use crate::checkpoint::{self, Best, Checkpoint, Identity, State};
use crate::gradients::{Accumulator, Packing};
use crate::metrics::{self, MetricsLog, Pace, StepMetrics};
use crate::optimizer::{self, AdamW, Moments, Muon, Optimizer, Segment, muon};
use crate::recipe::EarlyStopping;
use crate::schedule::Schedule;
use crate::subject::Subject;
use crate::{Control, Ending, Error, METRICS_FILE};

/// The numbers of a run that do not change.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) schedule: Schedule,
    /// Steps of one pass over the rows.
    pub(crate) epoch: f64,
    pub(crate) optimizer: Optimizer,
    pub(crate) adamw: AdamW,
    /// Trains the matrices inside the blocks in place of `adamw`; needs full moments.
    pub(crate) muon: Option<Muon>,
    /// Most rows of a step.
    pub(crate) rows: usize,
    pub(crate) packing: Packing,
    /// Largest gradient norm; 0 = no clipping.
    pub(crate) clip: f64,
    pub(crate) checkpoint_every: u64,
    pub(crate) eval_every: u64,
    pub(crate) early_stopping: Option<EarlyStopping>,
}

/// A run in progress.
pub(crate) struct Session<'a, S> {
    pub(crate) subject: S,
    pub(crate) state: State,
    plan: Plan,
    run_dir: &'a Path,
    layout: Vec<Slot>,
    segments: Vec<Segment>,
    moments: Moments,
    log: MetricsLog,
}

/// Mean held-out loss of a subject, where there are held-out rows.
pub(crate) type Evaluate<'a, S> = dyn Fn(&S) -> Result<Option<f64>, Error> + 'a;

impl<'a, S: Subject> Session<'a, S> {
    /// Goes on from the newest checkpoint in `run_dir`; without one, starts with what `before`
    /// measures.
    pub(crate) fn open(
        mut subject: S,
        plan: Plan,
        run_dir: &'a Path,
        identity: Identity,
        before: impl FnOnce(&S) -> Result<Option<f64>, Error>,
    ) -> Result<Self, Error> {
        let layout = subject.layout();
        let segments = optimizer::segments(
            layout
                .iter()
                .filter(|slot| plan.muon.is_none() || !muon::trains(slot))
                .map(|(_, offset, shape)| (*offset, shape.as_slice())),
        );
        let count = subject.parameters().len();
        let (moments, state) = match checkpoint::latest(run_dir, &identity, count)? {
            Some(Checkpoint {
                state,
                parameters,
                moments,
            }) => {
                subject.change(|values| values.copy_from_slice(&parameters));
                tracing::info!(step = state.step, "resuming from a checkpoint");
                (moments, state)
            }
            None => {
                let state = State::new(identity, before(&subject)?);
                (Moments::zeros(plan.optimizer, count, &segments), state)
            }
        };
        let log = MetricsLog::open(&run_dir.join(METRICS_FILE), state.step)?;
        Ok(Self {
            subject,
            state,
            plan,
            run_dir,
            layout,
            segments,
            moments,
            log,
        })
    }

    /// Runs the remaining steps. `batch` names the rows of the step after as many steps.
    pub(crate) fn steps<'e>(
        &mut self,
        batch: &mut dyn FnMut(u64) -> Vec<&'e Example>,
        evaluate: &Evaluate<'_, S>,
        progress: &mut dyn FnMut(&StepMetrics) -> Control,
    ) -> Result<Ending, Error> {
        let count = self.subject.parameters().len();
        let mut accumulator = Accumulator::new(count, self.plan.rows, self.plan.packing);
        let mut pace = Pace::default();
        while self.state.step < self.plan.schedule.total {
            let begun = Instant::now();
            let step = self.state.step + 1;
            let rows = batch(self.state.step);
            let learning_rate = self.plan.schedule.rate(step);
            let (batch_loss, gradients) = match accumulator.run(&self.subject, &rows, step) {
                Err(Error::Model(openledger_model::Error::Diverged { .. })) => {
                    return self.fall_back(step, f64::NAN, learning_rate);
                }
                other => other?,
            };
            let loss = batch_loss.mean();
            let norm = optimizer::norm(gradients);
            let smoothed = metrics::smooth(self.state.smoothed, loss);
            if diverged(loss, norm, smoothed, self.log.curve()) {
                return self.fall_back(step, loss, learning_rate);
            }
            let clip = self.plan.clip;
            let at = optimizer::Step {
                number: step,
                learning_rate,
                scale: if clip > 0.0 && norm > clip {
                    clip / norm
                } else {
                    1.0
                },
            };
            let (adamw, segments) = (&self.plan.adamw, &self.segments);
            let moments = &mut self.moments;
            let (muon, layout) = (self.plan.muon, &self.layout);
            let peak = self.plan.schedule.peak;
            self.subject.change(|values| {
                optimizer::update(adamw, segments, values, gradients, moments, at);
                if let (Some(muon), Moments::Full { first, .. }) = (muon, moments) {
                    let rates = (learning_rate / peak * muon.learning_rate, at.scale);
                    muon::update::<S::Arithmetic>(&muon, layout, values, gradients, first, rates);
                }
            });
            self.state.step = step;
            self.state.tokens += batch_loss.tokens;
            self.state.smoothed = Some(smoothed);
            let total = self.plan.schedule.total;
            let every = self.plan.eval_every;
            let measured = every > 0 && (step.is_multiple_of(every) || step == total);
            let eval_loss = match measured {
                true => evaluate(&self.subject)?,
                false => None,
            };
            let exhausted = self.compare(eval_loss)?;
            pace.record(begun.elapsed().as_secs_f64(), batch_loss.tokens);
            let metrics = StepMetrics {
                step,
                steps: self.plan.schedule.total,
                epoch: step as f64 / self.plan.epoch,
                loss,
                smoothed,
                eval_loss,
                perplexity: loss.exp(),
                learning_rate,
                gradient_norm: norm,
                tokens: self.state.tokens,
                tokens_per_second: pace.tokens_per_second(),
                eta_seconds: pace.eta(self.plan.schedule.total - step),
                memory_bytes: metrics::resident_bytes(),
            };
            let control = progress(&metrics);
            self.log.append(metrics)?;
            let last = step == self.plan.schedule.total || exhausted;
            let due = step.is_multiple_of(self.plan.checkpoint_every) || last;
            if due {
                let root = checkpoint::parameters_root(self.subject.parameters());
                self.state.roots.push(root);
            }
            if due || control != Control::Continue {
                self.save()?;
            }
            match control {
                Control::Pause => return Ok(Ending::Paused),
                Control::Stop => return Ok(Ending::Stopped),
                Control::Continue if exhausted => return Ok(Ending::StoppedEarly),
                Control::Continue => {}
            }
        }
        Ok(match self.exhausted() {
            // A pause after the deciding evaluation: the resumed run has nothing left to do.
            true => Ending::StoppedEarly,
            false => Ending::Completed,
        })
    }

    /// Keeps the weights if `eval_loss` is the best so far. Returns whether patience is used up.
    fn compare(&mut self, eval_loss: Option<f64>) -> Result<bool, Error> {
        let (Some(rule), Some(loss)) = (self.plan.early_stopping, eval_loss) else {
            return Ok(false);
        };
        match &mut self.state.best {
            Some(best) if loss >= best.loss - rule.min_delta => best.since += 1,
            best => {
                *best = Some(Best {
                    step: self.state.step,
                    loss,
                    since: 0,
                });
                checkpoint::save_best(self.run_dir, &self.state, self.subject.parameters())?;
            }
        }
        Ok(self.exhausted())
    }

    fn exhausted(&self) -> bool {
        match (self.plan.early_stopping, self.state.best) {
            (Some(rule), Some(best)) => best.since >= rule.patience,
            _ => false,
        }
    }

    fn save(&self) -> Result<(), Error> {
        self.log.sync()?;
        checkpoint::save(
            self.run_dir,
            &self.state,
            self.subject.parameters(),
            &self.moments,
        )
    }

    /// After a divergence: the parameters of the newest checkpoint, if there is one.
    fn fall_back(&mut self, step: u64, loss: f64, learning_rate: f64) -> Result<Ending, Error> {
        let count = self.subject.parameters().len();
        let good = checkpoint::latest(self.run_dir, &self.state.identity, count)?;
        let Some(good) = good else {
            return Err(Error::Diverged {
                step,
                loss,
                learning_rate,
            });
        };
        tracing::warn!(step, loss, kept = good.state.step, "training diverged");
        self.subject
            .change(|values| values.copy_from_slice(&good.parameters));
        self.moments = good.moments;
        self.state = good.state;
        Ok(Ending::Diverged)
    }

    /// Takes the weights that the run's ending keeps: those of the best evaluation, where the
    /// recipe asks for it and the caller did not stop the run at other ones.
    pub(crate) fn settle(&mut self, ending: Ending) -> Result<(), Error> {
        let best = self.state.best.filter(|best| best.step != self.state.step);
        if let (Ending::Completed | Ending::StoppedEarly | Ending::Diverged, Some(best)) =
            (ending, best)
        {
            let parameters = checkpoint::best(self.run_dir, &best)?;
            self.subject
                .change(|values| values.copy_from_slice(&parameters));
        }
        let kept = checkpoint::parameters_root(self.subject.parameters());
        if ending != Ending::Paused && self.state.roots.last() != Some(&kept) {
            self.state.roots.push(kept);
        }
        Ok(())
    }

    pub(crate) fn curve(&self) -> &[StepMetrics] {
        self.log.curve()
    }
}

/// Whether to give up: a loss or gradient that is not finite, or a smoothed loss far above where
/// the run began.
fn diverged(loss: f64, norm: f64, smoothed: f64, curve: &[StepMetrics]) -> bool {
    let first = curve.first().map_or(loss, |step| step.loss);
    !loss.is_finite() || !norm.is_finite() || smoothed > 1.5 * first + 0.5
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn a_loss_far_above_the_start_counts_as_diverged() {
        let curve = testing::curve(3);
        assert!(!diverged(5.0, 1.0, 7.9, &curve));
        assert!(diverged(5.0, 1.0, 8.1, &curve));
        assert!(diverged(f64::NAN, 1.0, 5.0, &curve));
        assert!(diverged(5.0, f64::INFINITY, 5.0, &curve));
    }
}
