//! The house rules as code: a rule that is only written down is soon broken.
//!
//! Every rule reports all of its findings with file and line, and what to do. Warnings are
//! printed; findings fail the run.

mod documents;
mod layers;
mod source;
mod text;
mod vendored;

use anyhow::{Result, bail};

use crate::environment::Repo;

/// One broken rule.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    /// Repository-relative file.
    pub(crate) file: String,
    /// 1-based line, 0 when the whole file is meant.
    pub(crate) line: usize,
    /// What is wrong and how to put it right.
    pub(crate) message: String,
    /// A warning is shown but does not fail the run.
    pub(crate) warning: bool,
}

impl Finding {
    fn error(file: &str, line: usize, message: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            line,
            message: message.into(),
            warning: false,
        }
    }

    fn warning(file: &str, line: usize, message: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            line,
            message: message.into(),
            warning: true,
        }
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = if self.warning { "warning" } else { "error" };
        match self.line {
            0 => write!(f, "{kind}: {}: {}", self.file, self.message),
            line => write!(f, "{kind}: {}:{line}: {}", self.file, self.message),
        }
    }
}

/// Runs every rule over the checkout.
pub(crate) fn run(repo: &Repo) -> Result<()> {
    let mut findings = layers::check(repo)?;
    let tracked = repo.files()?;
    findings.extend(vendored::check(repo, &tracked)?);
    let mut files = Vec::new();
    for path in tracked {
        if let Some(text) = text::readable(repo, &path) {
            files.push((path, text));
        }
    }
    for (path, text) in &files {
        findings.extend(text::check(path, text));
        if path.ends_with(".rs") {
            findings.extend(source::check(path, text));
        }
    }
    findings.extend(documents::check(repo, &files));

    findings.sort();
    for finding in &findings {
        println!("{finding}");
    }
    let errors = findings.iter().filter(|f| !f.warning).count();
    println!(
        "tidy: {} files, {} warnings, {errors} errors",
        files.len(),
        findings.len() - errors
    );
    if errors > 0 {
        bail!("{errors} house rules are broken");
    }
    Ok(())
}
