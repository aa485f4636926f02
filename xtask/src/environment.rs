//! Where things are, and how a missing tool is installed or asked for.
//!
//! Rule of the house: nothing is skipped silently. A tool that can be set up without changing
//! the machine (npm packages, a Python venv) is set up; a system package is installed when we
//! are root on Debian; otherwise the step fails with the exact command to type.

use std::path::{Path, PathBuf};
use std::{env, fs};

use anyhow::{Context, Result, bail};

use crate::process::{command, execute, exists, read};

/// The checkout this program was built from.
#[derive(Debug, Clone)]
pub(crate) struct Repo {
    pub(crate) root: PathBuf,
}

impl Repo {
    pub(crate) fn find() -> Result<Self> {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = manifest
            .parent()
            .context("xtask lies directly under the repository root")?;
        if !root.join("Cargo.lock").is_file() {
            bail!(
                "{} holds no Cargo.lock: xtask was moved after it was built; run it as `cargo xtask`",
                root.display()
            );
        }
        Ok(Self {
            root: root.to_path_buf(),
        })
    }

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// Cargo's target directory, wherever the caller's settings put it.
    pub(crate) fn target_dir(&self) -> Result<PathBuf> {
        if let Some(dir) = env::var_os("CARGO_TARGET_DIR") {
            return Ok(self.root.join(PathBuf::from(dir)));
        }
        let metadata = read(&mut command(
            &self.root,
            "cargo",
            &["metadata", "--format-version", "1", "--no-deps", "--locked"],
        ))?;
        let metadata: serde_json::Value = serde_json::from_str(&metadata)?;
        let dir = metadata["target_directory"]
            .as_str()
            .context("cargo names a target directory")?;
        Ok(PathBuf::from(dir))
    }

    /// Tracked files plus new ones that git does not ignore, relative to the root.
    pub(crate) fn files(&self) -> Result<Vec<String>> {
        let listing = read(&mut command(
            &self.root,
            "git",
            &[
                "ls-files",
                "-z",
                "--cached",
                "--others",
                "--exclude-standard",
            ],
        ))?;
        let mut files: Vec<String> = listing
            .split('\0')
            .filter(|f| !f.is_empty() && self.root.join(f).is_file())
            .map(str::to_owned)
            .collect();
        files.sort();
        files.dedup();
        Ok(files)
    }
}

/// `$XDG_CACHE_HOME/openledger` or `~/.cache/openledger`: environments that outlive a run.
pub(crate) fn cache_dir() -> Result<PathBuf> {
    let base = match env::var_os("XDG_CACHE_HOME").filter(|v| !v.is_empty()) {
        Some(dir) => PathBuf::from(dir),
        None => {
            PathBuf::from(env::var_os("HOME").context("neither XDG_CACHE_HOME nor HOME is set")?)
                .join(".cache")
        }
    };
    let dir = base.join("openledger");
    fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
    Ok(dir)
}

/// Brings `node_modules` beside `dir/package-lock.json` up to date. Does nothing when the lock
/// file has not changed since the last successful install.
pub(crate) fn npm_packages(dir: &Path) -> Result<()> {
    if !exists("npm", "--version") {
        bail!("npm is missing; type: apt-get install -y nodejs npm   (Node.js 20 or newer)");
    }
    let lock = read_text(&dir.join("package-lock.json"))?;
    let stamp = dir.join("node_modules/.openledger-lock");
    if fs::read_to_string(&stamp).is_ok_and(|seen| seen == lock) {
        return Ok(());
    }
    execute(&mut command(dir, "npm", &["ci", "--no-audit", "--no-fund"]))?;
    write_text(&stamp, &lock)
}

/// anvil out of its npm package: a peer of our chain, and a layer 1 that is not ours.
pub(crate) fn anvil(repo: &Repo) -> Result<PathBuf> {
    let dir = repo.path("bench/rollup");
    npm_packages(&dir)?;
    Ok(dir.join("node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil"))
}

/// A Python virtual environment `name` in the cache with the pinned `requirements`; returns its
/// interpreter. Does nothing when the requirements have not changed since the last install.
pub(crate) fn python_venv(name: &str, requirements: &Path) -> Result<PathBuf> {
    let wanted = read_text(requirements)?;
    let dir = cache_dir()?.join(name);
    let python = dir.join("bin/python");
    let stamp = dir.join("requirements.installed");
    if python.is_file() && fs::read_to_string(&stamp).is_ok_and(|seen| seen == wanted) {
        return Ok(python);
    }
    if !exists("python3", "--version") {
        bail!("python3 is missing; type: apt-get install -y python3 python3-venv");
    }
    let here = Path::new(".");
    if !python.is_file() {
        let target = dir.to_string_lossy();
        execute(&mut command(here, "python3", &["-m", "venv", &target])).context(
            "Python's venv module does not work here; type: apt-get install -y python3-venv",
        )?;
    }
    let requirements = requirements.to_string_lossy();
    execute(&mut command(
        here,
        &python.to_string_lossy(),
        &[
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "-r",
            &requirements,
        ],
    ))?;
    write_text(&stamp, &wanted)?;
    Ok(python)
}

/// As [`python_venv`], for the environments of gigabytes: `OPENLEDGER_PEERS_VENV` names one that
/// already holds the requirements and is used as it is.
pub(crate) fn peers_venv(name: &str, requirements: &Path) -> Result<PathBuf> {
    let Some(dir) = env::var_os("OPENLEDGER_PEERS_VENV") else {
        return python_venv(name, requirements);
    };
    let python = PathBuf::from(dir).join("bin/python");
    if !python.is_file() {
        bail!(
            "OPENLEDGER_PEERS_VENV: there is no {}; unset it, or type: python3 -m venv DIR && DIR/bin/pip install -r {}",
            python.display(),
            requirements.display()
        );
    }
    Ok(python)
}

/// The browser for the page tests; `OPENLEDGER_CHROMIUM` overrides the search.
pub(crate) fn chromium() -> Result<PathBuf> {
    if let Some(path) = env::var_os("OPENLEDGER_CHROMIUM") {
        return Ok(PathBuf::from(path));
    }
    if let Some(found) = find_chromium() {
        return Ok(found);
    }
    const INSTALL: &str = "apt-get install -y --no-install-recommends chromium";
    if !exists("apt-get", "--version") || !is_root() {
        bail!(
            "no Chromium for the page tests; type: sudo {INSTALL}   \
             (or set OPENLEDGER_CHROMIUM to a Chromium or Chrome)"
        );
    }
    let here = Path::new(".");
    execute(command(here, "apt-get", &["update", "-qq"]).env("DEBIAN_FRONTEND", "noninteractive"))?;
    execute(
        command(
            here,
            "apt-get",
            &[
                "install",
                "-y",
                "-qq",
                "--no-install-recommends",
                "chromium",
            ],
        )
        .env("DEBIAN_FRONTEND", "noninteractive"),
    )?;
    find_chromium().with_context(|| format!("`{INSTALL}` left no chromium on PATH"))
}

fn find_chromium() -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    let names = [
        "chromium",
        "chromium-browser",
        "google-chrome-stable",
        "google-chrome",
    ];
    env::split_paths(&path)
        .flat_map(|dir| names.map(|name| dir.join(name)))
        .find(|candidate| candidate.is_file())
}

fn is_root() -> bool {
    read(&mut command(Path::new("."), "id", &["-u"])).is_ok_and(|id| id.trim() == "0")
}

/// Reads a text file; the error names it.
pub(crate) fn read_text(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}

/// Writes by temporary file and rename, so that a crash leaves the old or the new content.
pub(crate) fn write_text(path: &Path, text: &str) -> Result<()> {
    let parent = path.parent().context("a file to write has a folder")?;
    fs::create_dir_all(parent).with_context(|| format!("creating {}", parent.display()))?;
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    // Rename follows: this is the atomic writer that `cargo xtask tidy` knows.
    fs::write(&temporary, text).with_context(|| format!("writing {}", path.display()))?;
    fs::rename(&temporary, path).with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repository_is_found_and_lists_its_files() {
        let repo = Repo::find().expect("tests run inside the checkout");
        let files = repo.files().expect("git lists the checkout");
        assert!(files.iter().any(|f| f == "xtask/src/environment.rs"));
        assert!(files.iter().all(|f| !f.contains("node_modules/")));
    }

    #[test]
    fn writing_replaces_the_whole_file_and_leaves_no_temporary() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let file = dir.path().join("deep/er/file.txt");
        write_text(&file, "long first content").expect("first write");
        write_text(&file, "second").expect("second write");
        assert_eq!(read_text(&file).expect("written"), "second");
        let left = fs::read_dir(file.parent().expect("has a folder"))
            .expect("listed")
            .count();
        assert_eq!(left, 1);
    }
}
