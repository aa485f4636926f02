//! Ctrl-C as a request: the run saves a checkpoint and returns.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result};

/// Status of a program that was ended by Ctrl-C, as shells know it.
const INTERRUPTED: i32 = 130;

/// Whether somebody wants this process to come to an end.
#[derive(Clone, Debug)]
pub(super) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Whether it was asked.
    pub(super) fn asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Listens for Ctrl-C and SIGTERM from now on. A second one ends the process at once; the last
/// checkpoint is then where the run goes on.
pub(super) fn listen() -> Result<Interrupt> {
    let flag = Interrupt(Arc::default());
    let heard = flag.clone();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .context("cannot listen for Ctrl-C")?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            loop {
                crate::dev::interrupted().await;
                if heard.0.swap(true, Ordering::Relaxed) {
                    std::process::exit(INTERRUPTED);
                }
                eprintln!("saving a checkpoint; once more ends without");
            }
        });
    });
    Ok(flag)
}
