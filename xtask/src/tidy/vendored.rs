//! Foreign files that lie in the repository are exactly what their checksum list says, and
//! nothing lies beside them unlisted.

use anyhow::Result;

use super::Finding;
use crate::environment::{Repo, read_text};
use crate::process::{command, read};

const LIST: &str = "SHA256SUMS";

pub(super) fn check(repo: &Repo, files: &[String]) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for list in files
        .iter()
        .filter(|path| path.rsplit('/').next() == Some(LIST))
    {
        let folder = list.strip_suffix(LIST).unwrap_or_default();
        let listed = read_text(&repo.path(list))?;
        for (index, (digest, name)) in entries(&listed).enumerate() {
            let path = format!("{folder}{name}");
            let found = read(&mut command(&repo.root, "sha256sum", &["--", &path]));
            if !found.is_ok_and(|found| found.starts_with(digest)) {
                let message = format!("{name} is missing or not the file that was vendored");
                findings.push(Finding::error(list, index + 1, message));
            }
        }
        for path in files.iter().filter(|path| path.starts_with(folder)) {
            let name = &path[folder.len()..];
            let known = name == LIST || entries(&listed).any(|(_, listed)| listed == name);
            if !known && !name.starts_with("LICENSE") && !name.ends_with(".md") {
                let message = format!("{name} lies beside the vendored files but is not listed");
                findings.push(Finding::error(list, 0, message));
            }
        }
    }
    Ok(findings)
}

/// Lines of the form `<digest>  <name>`.
fn entries(list: &str) -> impl Iterator<Item = (&str, &str)> {
    list.lines()
        .filter_map(|line| line.split_once("  "))
        .map(|(d, n)| (d, n.trim_start_matches('*')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_or_unlisted_file_is_found() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let repo = Repo {
            root: dir.path().to_path_buf(),
        };
        let put = |name: &str, text: &str| {
            crate::environment::write_text(&repo.path(name), text).expect("written");
        };
        put("vendor/a.js", "one\n");
        let digest = read(&mut command(
            dir.path(),
            "sha256sum",
            &["--", "vendor/a.js"],
        ))
        .expect("sha256sum runs");
        put("vendor/SHA256SUMS", &digest.replace("vendor/", ""));
        let files = ["vendor/SHA256SUMS", "vendor/a.js"].map(str::to_owned);
        assert_eq!(check(&repo, &files).expect("read"), vec![]);
        put("vendor/a.js", "two\n");
        assert_eq!(check(&repo, &files).expect("read").len(), 1);
        let more = [&files[..], &["vendor/b.js".to_owned()]].concat();
        assert_eq!(check(&repo, &more).expect("read").len(), 2);
    }
}
