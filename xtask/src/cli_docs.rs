//! docs/cli.md, written from the program's own help texts so that the two cannot drift.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::environment::{Repo, read_text, write_text};
use crate::process::{command, execute, read};

const FILE: &str = "docs/cli.md";
const OVERRIDE: &str = "OPENLEDGER";

/// Builds the program and rewrites the file.
pub(crate) fn write(repo: &Repo) -> Result<()> {
    let text = render(&repo.root, &built_binary(repo)?)?;
    write_text(&repo.path(FILE), &text)?;
    println!("wrote {FILE}");
    Ok(())
}

/// Fails when the committed file differs from what the built program says.
pub(crate) fn check(repo: &Repo) -> Result<()> {
    let fresh = render(&repo.root, &debug_binary(repo)?)?;
    if read_text(&repo.path(FILE))? != fresh {
        bail!("{FILE} is stale; type: cargo xtask cli-docs");
    }
    Ok(())
}

/// The program, built first unless `OPENLEDGER` names one.
pub(crate) fn built_binary(repo: &Repo) -> Result<PathBuf> {
    if std::env::var_os(OVERRIDE).is_none() {
        execute(&mut command(
            &repo.root,
            "cargo",
            &["build", "-p", "openledger"],
        ))?;
    }
    debug_binary(repo)
}

/// The program as `cargo build` leaves it, or the one that `OPENLEDGER` names.
pub(crate) fn debug_binary(repo: &Repo) -> Result<PathBuf> {
    if let Some(binary) = std::env::var_os(OVERRIDE) {
        return Ok(PathBuf::from(binary));
    }
    let binary = repo.target_dir()?.join("debug/openledger");
    if !binary.is_file() {
        bail!(
            "{} is not built; type: cargo build -p openledger",
            binary.display()
        );
    }
    Ok(binary)
}

fn render(dir: &Path, binary: &Path) -> Result<String> {
    let mut text = String::from(
        "# Command line\n\nWritten by `cargo xtask cli-docs` from the program's help texts; \
         do not edit by hand.\n",
    );
    let binary = binary
        .to_str()
        .context("the target directory has a UTF-8 name")?;
    let mut pending = vec![Vec::<String>::new()];
    while let Some(path) = pending.pop() {
        let mut args: Vec<&str> = path.iter().map(String::as_str).collect();
        args.push("--help");
        // A fixed width, whatever terminal this runs in.
        let help = read(
            command(dir, binary, &args)
                .env("COLUMNS", "100")
                .env_remove("OPENLEDGER_DATA_DIR"),
        )?;
        let title = [&["openledger".to_owned()], &path[..]].concat().join(" ");
        text.push_str(&format!(
            "\n## `{title}`\n\n```text\n{}\n```\n",
            help.trim_end()
        ));
        let children = subcommands(&help);
        pending.extend(
            children
                .into_iter()
                .rev()
                .map(|c| [&path[..], &[c]].concat()),
        );
    }
    Ok(text)
}

/// Names listed under `Commands:` in a clap help text, without `help` itself.
fn subcommands(help: &str) -> Vec<String> {
    help.lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subcommands_are_read_from_the_help_text() {
        let help = "What it does\n\nUsage: x <COMMAND>\n\nCommands:\n  dev       Start\n  \
                    pretrain  Train a base\n            on text\n  help      Print\n\nOptions:\n  -h\n";
        assert_eq!(subcommands(help), ["dev", "pretrain"]);
        assert!(subcommands("Usage: x\n").is_empty());
    }
}
