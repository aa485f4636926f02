//! Following a run of another process through its directory.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail};
use openledger_finetune::metrics::Follow;
use openledger_finetune::{METRICS_FILE, rundir};

use super::{curve::Curve, report};

/// Between two looks.
pub(super) const PATIENCE: Duration = Duration::from_millis(150);

/// The directory of a run: a path, or the id of a run of the node in the default data directory.
pub(super) fn directory(run: &Path) -> Result<PathBuf> {
    let named = crate::dev::data_dir(None).map(|data| data.join("runs").join(run));
    let candidates = [Ok(run.to_path_buf()), named];
    let found = candidates
        .into_iter()
        .flatten()
        .find(|dir| rundir::is_run(dir));
    match found {
        Some(dir) => Ok(dir),
        None => bail!(
            "{} holds no run; give the directory that `openledger train --out` was given, or the \
             id of a run of the dev network",
            run.display()
        ),
    }
}

/// Shows the run in `dir` from its first step until nobody trains in it.
pub(super) fn watch(dir: &Path, json: bool) -> Result<()> {
    let mut steps = Follow::new(dir.join(METRICS_FILE));
    let mut curve = Curve::new(json);
    loop {
        // Asked before reading: what is written before the end is read after it.
        let running = rundir::running(dir)?;
        for step in steps.poll()? {
            curve.show(&step);
        }
        if !running {
            break;
        }
        std::thread::sleep(PATIENCE);
    }
    curve.finish();
    match rundir::summary(dir)? {
        Some(summary) => report::finished(dir, &summary, json),
        None => report::left(dir, json),
    }
}
