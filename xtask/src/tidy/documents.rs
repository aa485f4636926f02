//! Rules about documents: what they point at must exist.
//!
//! - A relative link in Markdown leads to a file.
//! - A reference such as `` `crates/x/src/a.rs::some_test` `` names a file that holds that name,
//!   so the invariants of ARCHITECTURE.md and the status table of README.md stay tied to tests.
//! - A document that any file mentions by its path from the root (docs/glossary.md) exists.
//! - The tables of measurements in README.md are those of bench/results.
//! - Every type named in docs/glossary.md is defined somewhere.

use super::Finding;
use crate::bench;
use crate::environment::Repo;

const GLOSSARY: &str = "docs/glossary.md";

pub(super) fn check(repo: &Repo, files: &[(String, String)]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in files.iter().filter(|(path, _)| path.ends_with(".md")) {
        for (index, line) in prose(text) {
            findings.extend(links(repo, path, index + 1, line));
            findings.extend(references(files, path, index + 1, line));
        }
    }
    for (path, text) in files {
        for (index, line) in text.lines().enumerate() {
            findings.extend(mentions(repo, path, index + 1, line));
        }
    }
    if let Some((_, text)) = files.iter().find(|(path, _)| path == GLOSSARY) {
        findings.extend(glossary(files, text));
    }
    if let Err(error) = bench::check_readme(repo) {
        findings.push(Finding::error("README.md", 0, format!("{error:#}")));
    }
    findings
}

/// Lines outside fenced code blocks.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter(move |(_, line)| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    })
}

fn links(repo: &Repo, path: &str, line_number: usize, line: &str) -> Vec<Finding> {
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    line.split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')').map(|(target, _)| target))
        .filter(|target| !target.contains("://") && !target.starts_with(['#', '<']))
        .filter_map(|target| {
            let file = target.split('#').next().unwrap_or(target);
            let exists = repo.path(folder).join(file).exists();
            (!exists).then(|| {
                Finding::error(
                    path,
                    line_number,
                    format!("the link leads nowhere: {target}"),
                )
            })
        })
        .collect()
}

fn mentions(repo: &Repo, path: &str, line_number: usize, line: &str) -> Vec<Finding> {
    let part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/');
    line.match_indices("docs/")
        .filter(|(start, _)| !line[..*start].ends_with(part))
        .map(|(start, _)| {
            let rest = &line[start..];
            let end = rest.find(|c| !part(c)).unwrap_or(rest.len());
            rest[..end].trim_end_matches('.')
        })
        .filter(|mention| mention.ends_with(".md") && !repo.path(mention).exists())
        .map(|mention| Finding::error(path, line_number, format!("`{mention}` does not exist")))
        .collect()
}

fn references(
    files: &[(String, String)],
    path: &str,
    line_number: usize,
    line: &str,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for quoted in line.split('`').skip(1).step_by(2) {
        let Some((file, name)) = quoted.split_once("::") else {
            continue;
        };
        let extension = file.rsplit_once('.').map(|(_, e)| e);
        if !file.contains('/') || !matches!(extension, Some("rs" | "sol" | "mjs" | "py")) {
            continue;
        }
        let problem = match files.iter().find(|(p, _)| p == file) {
            None => format!("`{quoted}` names a file that does not exist"),
            Some((_, text)) if !text.contains(name) => {
                format!("`{quoted}`: the file holds no `{name}`")
            }
            Some(_) => continue,
        };
        findings.push(Finding::error(path, line_number, problem));
    }
    findings
}

/// The third column of the glossary names a type, function or contract of ours, or `-`.
fn glossary(files: &[(String, String)], text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let cells: Vec<&str> = line
            .trim()
            .trim_matches('|')
            .split('|')
            .map(str::trim)
            .collect();
        let Some(cell) = cells.last().filter(|_| line.trim().starts_with('|')) else {
            continue;
        };
        for name in cell.split('`').skip(1).step_by(2) {
            let last = name.rsplit("::").next().unwrap_or(name);
            if !files.iter().any(|(path, text)| defines(path, text, last)) {
                let message = format!("`{name}` is defined nowhere in the code");
                findings.push(Finding::error(GLOSSARY, index + 1, message));
            }
        }
    }
    findings
}

fn defines(path: &str, text: &str, name: &str) -> bool {
    let keywords: &[&str] = match path.rsplit_once('.').map(|(_, e)| e) {
        Some("rs") => &["struct", "enum", "trait", "type", "fn", "const", "mod"],
        Some("sol") => &["struct", "enum", "contract", "interface", "library", "type"],
        _ => return false,
    };
    keywords
        .iter()
        .any(|keyword| super::source::has_word(text, &format!("{keyword} {name}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> Vec<(String, String)> {
        let rust = "pub struct Wei(u128);\nfn conserves_value() {}\n".to_owned();
        vec![("crates/a/src/lib.rs".to_owned(), rust)]
    }

    #[test]
    fn a_reference_must_name_a_file_and_something_in_it() {
        let check = |line: &str| references(&files(), "A.md", 1, line).len();
        assert_eq!(check("held by `crates/a/src/lib.rs::conserves_value`"), 0);
        assert_eq!(check("held by `crates/a/src/lib.rs::gone`"), 1);
        assert_eq!(check("held by `crates/b/src/lib.rs::conserves_value`"), 1);
        assert_eq!(
            check("a path of code such as `std::fs::write` is no reference"),
            0
        );
    }

    #[test]
    fn glossary_types_must_exist() {
        let table =
            "| term | meaning | in code |\n|---|---|---|\n| wei | unit | `Wei` |\n| x | y | - |\n";
        assert_eq!(glossary(&files(), table), vec![]);
        let found = glossary(&files(), "| gwei | unit | `a::Gwei` |\n");
        assert_eq!(found.len(), 1);
        assert_eq!(
            glossary(&files(), "| we | prefix of a name | `We` |\n").len(),
            1
        );
    }

    #[test]
    fn links_are_followed_relative_to_their_document() {
        let repo = Repo::find().expect("tests run inside the checkout");
        let check = |line: &str| links(&repo, "xtask/src/a.md", 1, line).len();
        assert_eq!(
            check("[x](main.rs) [y](../Cargo.toml#lints) [z](https://a.b/c) [w](#here)"),
            0
        );
        assert_eq!(check("[x](gone.rs)"), 1);
    }

    #[test]
    fn a_mentioned_document_must_exist() {
        let repo = Repo::find().expect("tests run inside the checkout");
        let check = |line: &str| mentions(&repo, "crates/a/src/lib.rs", 1, line).len();
        assert_eq!(
            check("//! see docs/glossary.md, docs/decisions and https://a.b/docs/x.md."),
            0
        );
        // In two parts, or the rule would find it here.
        assert_eq!(check(concat!("//! see do", "cs/gone.md.")), 1);
    }

    #[test]
    fn fenced_code_is_not_prose() {
        let lines: Vec<usize> = prose("a\n```\nb\n```\nc\n").map(|(i, _)| i).collect();
        assert_eq!(lines, [0, 4]);
    }
}
