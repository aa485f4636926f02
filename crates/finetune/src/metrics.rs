//! Per-step metrics: what a live curve shows, what a run's record commits to.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use openledger_primitives::{B256, keccak256};
use openledger_store::write_atomic;
use serde::{Deserialize, Serialize};

use crate::Error;

/// Weight of the newest step in the smoothed loss.
const SMOOTHING: f64 = 0.1;

/// Step times the estimate of the remaining time looks back on.
const WINDOW: usize = 32;

/// One optimizer step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepMetrics {
    /// Number of the step, from 1.
    pub step: u64,
    /// Steps of the whole run.
    pub steps: u64,
    /// Passes over the training rows so far.
    pub epoch: f64,
    /// Mean loss of the step's batch before the update, nats a target token.
    pub loss: f64,
    /// Exponential moving average of the loss: `0.9 * before + 0.1 * loss`.
    pub smoothed: f64,
    /// Mean loss over the held-out rows after the update, nats a target token, where measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eval_loss: Option<f64>,
    /// `exp(loss)`.
    pub perplexity: f64,
    /// Learning rate of the step.
    pub learning_rate: f64,
    /// Euclidean norm of the gradient before clipping.
    pub gradient_norm: f64,
    /// Tokens processed so far, prompts included.
    pub tokens: u64,
    /// Tokens a second over the last steps. Depends on the machine; not part of the digest.
    pub tokens_per_second: f64,
    /// Seconds left, from the median step time of the last steps. Not part of the digest.
    pub eta_seconds: f64,
    /// Bytes of memory that the process occupies after the step, where the system tells (Linux).
    /// Not part of the digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
}

impl StepMetrics {
    /// The reproducible part, 64 bytes: step, loss, smoothed, evaluation loss (a quiet NaN where
    /// not measured), learning rate, gradient norm, tokens and epoch; integers as u64 and reals as
    /// the bits of an f64, little-endian.
    pub fn canonical_bytes(&self) -> [u8; 64] {
        let eval = self.eval_loss.map_or(0x7ff8_0000_0000_0000, f64::to_bits);
        let words = [
            self.step,
            self.loss.to_bits(),
            self.smoothed.to_bits(),
            eval,
            self.learning_rate.to_bits(),
            self.gradient_norm.to_bits(),
            self.tokens,
            self.epoch.to_bits(),
        ];
        let mut bytes = [0; 64];
        for (target, word) in bytes.chunks_exact_mut(8).zip(words) {
            target.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }
}

/// Digest of a curve: keccak256 of its steps' canonical bytes one after another.
pub fn digest(curve: &[StepMetrics]) -> B256 {
    let bytes: Vec<u8> = curve
        .iter()
        .flat_map(StepMetrics::canonical_bytes)
        .collect();
    keccak256(bytes)
}

/// The next smoothed loss.
pub(crate) fn smooth(before: Option<f64>, loss: f64) -> f64 {
    before.map_or(loss, |before| before + SMOOTHING * (loss - before))
}

/// The curve of a run, one JSON object a line.
#[derive(Debug)]
pub(crate) struct MetricsLog {
    path: PathBuf,
    file: File,
    curve: Vec<StepMetrics>,
}

impl MetricsLog {
    /// Opens the curve in `path`, keeping the steps up to `last` (what a checkpoint has seen);
    /// later lines and a torn last line are dropped, since those steps will be run again.
    pub(crate) fn open(path: &Path, last: u64) -> Result<Self, Error> {
        let curve: Vec<StepMetrics> = load(path)?
            .into_iter()
            .take_while(|step| step.step <= last)
            .collect();
        let mut text = Vec::new();
        for step in &curve {
            serde_json::to_writer(&mut text, step).expect("metrics are plain numbers");
            text.push(b'\n');
        }
        write_atomic(path, &text)?;
        let file = OpenOptions::new()
            .append(true)
            .open(path)
            .map_err(Error::io(path))?;
        Ok(Self {
            path: path.to_owned(),
            file,
            curve,
        })
    }

    pub(crate) fn append(&mut self, step: StepMetrics) -> Result<(), Error> {
        let mut line = serde_json::to_vec(&step).expect("metrics are plain numbers");
        line.push(b'\n');
        self.file.write_all(&line).map_err(Error::io(&self.path))?;
        self.curve.push(step);
        Ok(())
    }

    /// Makes everything appended so far durable.
    pub(crate) fn sync(&self) -> Result<(), Error> {
        self.file.sync_data().map_err(Error::io(&self.path))
    }

    pub(crate) fn curve(&self) -> &[StepMetrics] {
        &self.curve
    }
}

/// Reads a curve; a missing file is an empty one, a torn last line is left out.
///
/// # Errors
/// [`Error::Io`] if the file cannot be read.
pub fn load(path: &Path) -> Result<Vec<StepMetrics>, Error> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(Error::io(path)(source)),
    };
    let mut curve = Vec::new();
    for line in BufReader::new(file).lines() {
        let line = line.map_err(Error::io(path))?;
        let Ok(step) = serde_json::from_str::<StepMetrics>(&line) else {
            break;
        };
        curve.push(step);
    }
    Ok(curve)
}

/// Bytes of memory that this process occupies (its resident set), where the system tells.
pub(crate) fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    kib.checked_mul(1024)
}

/// Reads a curve while another process appends to it.
#[derive(Debug)]
pub struct Follow {
    path: PathBuf,
    /// The file that `read` bytes were read of; a resumed run replaces it.
    file: u64,
    read: u64,
    last: u64,
}

impl Follow {
    /// Follows the curve in `path`, which need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            file: 0,
            read: 0,
            last: 0,
        }
    }

    /// The steps written since the last call. Steps that a resumed run does again come again.
    ///
    /// # Errors
    /// [`Error::Io`] if the file is there and cannot be read.
    pub fn poll(&mut self) -> Result<Vec<StepMetrics>, Error> {
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(Error::io(&self.path)(source)),
        };
        let metadata = file.metadata().map_err(Error::io(&self.path))?;
        let (id, length) = (file_id(&metadata), metadata.len());
        let replaced = self.file != id || length < self.read;
        if replaced {
            (self.file, self.read) = (id, 0);
        }
        let mut text = Vec::new();
        file.seek(SeekFrom::Start(self.read))
            .and_then(|_| file.read_to_end(&mut text))
            .map_err(Error::io(&self.path))?;
        // A line without its end is still being written.
        let whole = text.iter().rposition(|byte| *byte == b'\n');
        let whole = &text[..whole.map_or(0, |end| end + 1)];
        self.read += whole.len() as u64;
        let mut steps = whole
            .split(|byte| *byte == b'\n')
            .filter_map(|line| serde_json::from_slice::<StepMetrics>(line).ok())
            .collect::<Vec<_>>();
        let end = steps.last().map_or(0, |step| step.step);
        if replaced {
            steps.retain(|step| step.step > self.last);
            self.last = end;
        } else {
            self.last = self.last.max(end);
        }
        Ok(steps)
    }
}

/// Tells a file from the one that replaced it under its name.
fn file_id(metadata: &std::fs::Metadata) -> u64 {
    #[cfg(unix)]
    {
        std::os::unix::fs::MetadataExt::ino(metadata)
    }
    #[cfg(not(unix))]
    {
        let _ = metadata;
        1
    }
}

/// Step times, for the two machine-dependent numbers.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    steps: std::collections::VecDeque<(f64, u64)>,
}

impl Pace {
    pub(crate) fn record(&mut self, seconds: f64, tokens: u64) {
        if self.steps.len() == WINDOW {
            self.steps.pop_front();
        }
        self.steps.push_back((seconds, tokens));
    }

    /// Tokens a second over the window.
    pub(crate) fn tokens_per_second(&self) -> f64 {
        let (seconds, tokens) = self
            .steps
            .iter()
            .fold((0.0, 0), |(s, t), step| (s + step.0, t + step.1));
        if seconds > 0.0 {
            tokens as f64 / seconds
        } else {
            0.0
        }
    }

    /// Seconds for `steps` more steps at the window's median pace.
    pub(crate) fn eta(&self, steps: u64) -> f64 {
        let mut times: Vec<f64> = self.steps.iter().map(|step| step.0).collect();
        times.sort_by(f64::total_cmp);
        times.get(times.len() / 2).copied().unwrap_or(0.0) * steps as f64
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::testing;

    fn numbers(steps: &[StepMetrics]) -> Vec<u64> {
        steps.iter().map(|step| step.step).collect()
    }

    #[test]
    fn a_follower_sees_every_step_once_and_repeated_ones_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        let mut follow = Follow::new(&path);
        assert!(follow.poll().unwrap().is_empty());
        let curve = testing::curve(9);
        let mut log = MetricsLog::open(&path, 0).unwrap();
        for step in &curve[..5] {
            log.append(step.clone()).unwrap();
        }
        assert_eq!(numbers(&follow.poll().unwrap()), [1, 2, 3, 4, 5]);
        assert!(follow.poll().unwrap().is_empty());
        // Half a line is not a step yet.
        let line = serde_json::to_string(&curve[5]).unwrap() + "\n";
        log.file.write_all(&line.as_bytes()[..20]).unwrap();
        assert!(follow.poll().unwrap().is_empty());
        log.file.write_all(&line.as_bytes()[20..]).unwrap();
        assert_eq!(numbers(&follow.poll().unwrap()), [6]);
        // Killed and resumed from the checkpoint of step 4.
        let mut log = MetricsLog::open(&path, 4).unwrap();
        assert!(follow.poll().unwrap().is_empty());
        for step in &curve[4..8] {
            log.append(step.clone()).unwrap();
        }
        assert_eq!(numbers(&follow.poll().unwrap()), [5, 6, 7, 8]);
        // Who comes late sees all of it.
        assert_eq!(numbers(&Follow::new(&path).poll().unwrap()).len(), 8);
    }

    #[test]
    fn memory_is_what_the_system_says() {
        if cfg!(target_os = "linux") {
            assert!(resident_bytes().unwrap() > 1 << 20);
        }
    }
}
