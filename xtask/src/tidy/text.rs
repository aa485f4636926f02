//! Rules about any text file: length, open ends, and paths of somebody's machine.

use super::Finding;
use super::source::{has_word, without_comments_and_strings, without_tests};
use crate::environment::Repo;

/// A source file of more lines deserves a look.
const LONG: usize = 500;
/// A source file of more lines must be split.
const TOO_LONG: usize = 800;

const TEXT: [&str; 16] = [
    "rs", "sol", "md", "toml", "json", "mjs", "js", "ts", "py", "sh", "css", "html", "yml", "yaml",
    "txt", "cfg",
];

/// The file's text when it is one that people write; data files, lock files and vendored code
/// answer to other people's rules.
pub(super) fn readable(repo: &Repo, path: &str) -> Option<String> {
    let name = path.rsplit('/').next()?;
    let extension = name.rsplit_once('.').map(|(_, e)| e);
    let script = path == ".ci/run" || name == "justfile";
    let excluded = path.contains("/vendor/")
        || name.ends_with(".min.js")
        || matches!(name, "Cargo.lock" | "package-lock.json");
    if excluded || !(script || extension.is_some_and(|e| TEXT.contains(&e))) {
        return None;
    }
    std::fs::read_to_string(repo.path(path)).ok()
}

/// Checks one file.
pub(super) fn check(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(length(path, text));
    for (index, line) in text.lines().enumerate() {
        findings.extend(open_end(path, index + 1, line));
        findings.extend(machine_path(path, index + 1, line));
    }
    findings
}

fn length(path: &str, text: &str) -> Option<Finding> {
    let lines = match path.rsplit_once('.')?.1 {
        "rs" if !path.contains("/tests/") && !path.ends_with("tests.rs") => {
            let code = without_tests(&without_comments_and_strings(text));
            // Comments count: a reader scrolls through them too. Only test modules are free.
            text.lines().count() - blanked_lines(text, &code)
        }
        "sol" if !path.ends_with(".t.sol") && !path.contains("/test/") => text.lines().count(),
        _ => return None,
    };
    if lines > TOO_LONG {
        let message =
            format!("{lines} lines without tests, more than {TOO_LONG}: split it by idea");
        return Some(Finding::error(path, 0, message));
    }
    (lines > LONG).then(|| {
        Finding::warning(
            path,
            0,
            format!("{lines} lines without tests; the target is {LONG}"),
        )
    })
}

/// Lines of `#[cfg(test)]` modules: from the first line that only the stripped code lost.
fn blanked_lines(text: &str, code: &str) -> usize {
    let plain = without_comments_and_strings(text);
    plain
        .lines()
        .zip(code.lines())
        .filter(|(before, after)| before != after)
        .count()
}

/// An open end needs an issue number, so that somebody can find out what became of it.
fn open_end(path: &str, line_number: usize, line: &str) -> Option<Finding> {
    // Spelled in two parts so that this file does not accuse itself.
    let marks = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X"),
    ];
    let mark = marks.into_iter().find(|mark| has_word(line, mark))?;
    let numbered = line.split(mark).skip(1).all(|after| {
        after.starts_with("(#") && after[2..].starts_with(|c: char| c.is_ascii_digit())
    });
    (!numbered).then(|| {
        Finding::error(
            path,
            line_number,
            format!("`{mark}` without an issue: write `{mark}(#12)`"),
        )
    })
}

fn machine_path(path: &str, line_number: usize, line: &str) -> Option<Finding> {
    let roots = [
        concat!("/wo", "rk/"),
        concat!("/ro", "ot/"),
        concat!("/ho", "me/"),
    ];
    let root = roots.into_iter().find(|root| {
        line.match_indices(root).any(|(start, _)| {
            let before = line[..start].chars().next_back();
            !before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '}' | '~'))
        })
    })?;
    Some(Finding::error(
        path,
        line_number,
        format!("`{root}...` exists on one machine only: use a path relative to the repository"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_leave_test_modules_out() {
        let code = "fn a() {}\n".repeat(490);
        let tests = format!(
            "#[cfg(test)]\nmod tests {{\n{}}}\n",
            "  fn t() {}\n".repeat(900)
        );
        assert_eq!(length("crates/x/src/a.rs", &format!("{code}{tests}")), None);
        let long = length("crates/x/src/a.rs", &code.repeat(2)).expect("980 lines is too long");
        assert!(!long.warning);
        let longish = length("contracts/src/A.sol", &"x\n".repeat(600)).expect("600 lines is long");
        assert!(longish.warning);
        assert_eq!(length("contracts/test/A.t.sol", &"x\n".repeat(900)), None);
        assert_eq!(length("notes.md", &"x\n".repeat(900)), None);
    }

    #[test]
    fn an_open_end_needs_an_issue() {
        let mark = concat!("TO", "DO");
        assert!(open_end("a.rs", 1, &format!("// {mark}: later")).is_some());
        assert!(open_end("a.rs", 1, &format!("// {mark}(#12): later")).is_none());
        assert!(open_end("a.rs", 1, &format!("// {mark}(soon)")).is_some());
        assert!(open_end("a.rs", 1, "let mastodons = 3;").is_none());
    }

    #[test]
    fn paths_of_one_machine_are_refused() {
        let root = concat!("/ro", "ot/");
        assert!(machine_path("a.md", 3, &format!("see {root}x")).is_some());
        assert!(machine_path("a.md", 3, &format!("\"{root}x\"")).is_some());
        assert!(machine_path("a.md", 3, &format!("https://example.org{root}x")).is_none());
        assert!(machine_path("a.md", 3, "docs/network/x").is_none());
    }
}
