//! Running other programs: every command is printed before it runs and its failure names it.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// A command that never reads the terminal, in `dir`. It does not see what cargo tells this program
/// about itself: build scripts that ask for it (ring's) would run again, and half the workspace
/// would be compiled anew whenever cargo is started by hand and by this program in turn.
pub(crate) fn command(dir: &Path, program: &str, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args).current_dir(dir).stdin(Stdio::null());
    let told = ["CARGO_PKG_", "CARGO_MANIFEST_"];
    for (name, _) in std::env::vars_os() {
        if told
            .iter()
            .any(|prefix| name.as_encoded_bytes().starts_with(prefix.as_bytes()))
        {
            command.env_remove(name);
        }
    }
    command
}

/// Prints the command, runs it with inherited output and fails unless it exits with 0.
pub(crate) fn execute(command: &mut Command) -> Result<()> {
    println!("$ {}", line(command));
    let status = command
        .status()
        .with_context(|| format!("could not start `{}`", line(command)))?;
    if !status.success() {
        bail!("`{}` failed: {status}", line(command));
    }
    Ok(())
}

/// Runs quietly and returns standard output; on failure the error carries standard error.
pub(crate) fn read(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("could not start `{}`", line(command)))?;
    if !output.status.success() {
        bail!(
            "`{}` failed: {}\n{}",
            line(command),
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    String::from_utf8(output.stdout)
        .with_context(|| format!("`{}` printed something that is not UTF-8", line(command)))
}

/// True when the program can be started at all (used to choose between two tools).
pub(crate) fn exists(program: &str, probe: &str) -> bool {
    Command::new(program)
        .arg(probe)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// The command as a person would type it.
pub(crate) fn line(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|a| {
        let word = a.to_string_lossy();
        if word.is_empty() || word.contains([' ', '"', '\'', '$']) {
            format!("'{}'", word.replace('\'', "'\\''"))
        } else {
            word.into_owned()
        }
    }));
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_printed_command_can_be_pasted() {
        let command = command(Path::new("."), "echo", &["plain", "two words", "it's"]);
        assert_eq!(line(&command), r"echo plain 'two words' 'it'\''s'");
    }

    #[test]
    fn a_failure_names_the_command_and_keeps_its_words() {
        let mut failing = command(Path::new("."), "sh", &["-c", "echo why >&2; exit 3"]);
        let error = format!(
            "{:#}",
            read(&mut failing).expect_err("exit 3 must be an error")
        );
        assert!(error.contains("exit 3") && error.contains("why"), "{error}");
    }

    #[test]
    fn a_missing_program_does_not_exist() {
        assert!(!exists("surely-no-such-program-anywhere", "--version"));
    }
}
