//! One file of a hub into the cache, resumed where an earlier attempt ended, and checked.

use std::fs::File;
use std::io::IsTerminal as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use hf_hub::CacheRepo;
use hf_hub::api::Progress;
use hf_hub::api::sync::{Api, ApiError, ApiRepo};
use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
use sha2::{Digest as _, Sha256};

/// One commit of one model.
pub(super) struct Hold<'a> {
    pub(super) api: &'a Api,
    pub(super) repo: &'a ApiRepo,
    pub(super) cache: CacheRepo,
    pub(super) commit: &'a str,
}

impl Hold<'_> {
    /// Fetches `file` unless it is there.
    pub(super) fn file(
        &self,
        file: &str,
        refused: &impl Fn(ApiError) -> anyhow::Error,
    ) -> Result<()> {
        let pointer = self.cache.pointer_path(self.commit).join(file);
        if pointer.exists() {
            return Ok(());
        }
        let about = self.api.metadata(&self.repo.url(file)).map_err(refused)?;
        let (tag, size) = (about.etag(), about.size() as u64);
        // Both become names in the cache.
        let plain = |text: &str| {
            let good = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
            !text.is_empty() && text.bytes().all(good)
        };
        if about.commit_hash() != self.commit || !plain(tag) {
            bail!("the hub describes {file} in a way that is not understood (commit or etag)");
        }
        let blob = self.cache.blob_path(tag);
        let part = blob.with_extension("part");
        let mut held = length(&part);
        if held >= size {
            // Nothing would be left to ask for.
            remove(&part)?;
            held = 0;
        }
        loop {
            let bar = Bar::start(file, size, held);
            match self.repo.download_with_progress(file, bar) {
                Ok(_) => break,
                // A connection that broke after some bytes is taken up again.
                Err(_) if length(&part) > held && length(&part) < size => held = length(&part),
                Err(error) => return Err(refused(error)),
            }
        }
        let wrong = match (length(&blob), tag.len()) {
            (came, _) if came != size => Some(format!("{came} bytes came, the hub names {size}")),
            (_, 64) if digest(&blob)? != tag => Some("its SHA-256 is another one".to_owned()),
            _ => None,
        };
        if let Some(wrong) = wrong {
            remove(&pointer)?;
            remove(&blob)?;
            bail!("{file} came damaged and was removed: {wrong}; try again");
        }
        Ok(())
    }
}

/// Length of a file, 0 where there is none.
fn length(path: &Path) -> u64 {
    path.metadata().map_or(0, |about| about.len())
}

fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// SHA-256 of a file in hexadecimal: what the hub calls large files by.
fn digest(path: &Path) -> Result<String> {
    let open = || format!("cannot read {}", path.display());
    let mut file = File::open(path).with_context(open)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = std::io::Read::read(&mut file, &mut buffer).with_context(open)?;
        if count == 0 {
            break;
        }
        hasher.update(&buffer[..count]);
    }
    let digest = hasher.finalize();
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A bar on a terminal, a line elsewhere.
struct Bar(Option<ProgressBar>);

impl Bar {
    fn start(file: &str, size: u64, held: u64) -> Self {
        if !std::io::stderr().is_terminal() {
            let rest = if held > 0 { " left" } else { "" };
            eprintln!(
                "{:>12}  {file} ({}{rest})",
                "fetching",
                HumanBytes(size - held)
            );
            return Self(None);
        }
        let bar = ProgressBar::with_draw_target(Some(size), ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template(
            "{prefix:>12.bold} [{bar:28}] {bytes}/{total_bytes} {bytes_per_sec} {eta} {wide_msg}",
        );
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style.progress_chars("=> "));
        bar.set_prefix("fetching");
        bar.set_message(file.to_owned());
        Self(Some(bar))
    }
}

impl Progress for Bar {
    fn init(&mut self, size: usize, _: &str) {
        if let Some(bar) = &self.0 {
            bar.set_length(size as u64);
            bar.set_position(0);
        }
    }

    fn update(&mut self, bytes: usize) {
        if let Some(bar) = &self.0 {
            bar.inc(bytes as u64);
        }
    }

    fn finish(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish();
        }
    }
}
