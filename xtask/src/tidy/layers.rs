//! The layer table of ARCHITECTURE.md against what cargo says: the table is the rule, so the
//! document cannot drift from the code.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use serde_json::Value;

use super::Finding;
use crate::environment::{Repo, read_text};
use crate::process::{command, read};

const DOCUMENT: &str = "ARCHITECTURE.md";

/// Crates that may use the async runtime; everything else is synchronous.
const ASYNC: [&str; 7] = [
    "chain",
    "rollup",
    "serving",
    "da",
    "node",
    "studio",
    "openledger",
];

/// Crates that exist for tests and must never reach a build that users run.
const TEST_ONLY: [&str; 3] = ["proptest", "arbitrary", "insta"];

/// One row of the table.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    line: usize,
    layer: u32,
    imports: BTreeSet<String>,
}

pub(super) fn check(repo: &Repo) -> Result<Vec<Finding>> {
    let (table, mut findings) = parse(&read_text(&repo.path(DOCUMENT))?);
    let metadata = read(&mut command(
        &repo.root,
        "cargo",
        &["metadata", "--format-version", "1", "--no-deps"],
    ))?;
    let metadata: Value = serde_json::from_str(&metadata).context("cargo metadata prints JSON")?;
    let edges = edges(&metadata)?;
    findings.extend(compare(&table, &edges));
    findings.extend(dependencies(repo, &edges)?);
    Ok(findings)
}

/// Reads rows of the form ``| 1 | `model` | purpose | `kernels` |``.
fn parse(document: &str) -> (BTreeMap<String, Row>, Vec<Finding>) {
    let mut table = BTreeMap::new();
    let mut findings = Vec::new();
    for (index, line) in document.lines().enumerate() {
        let cells: Vec<&str> = line
            .trim()
            .trim_matches('|')
            .split('|')
            .map(str::trim)
            .collect();
        let [layer, name, _, imports] = cells[..] else {
            continue;
        };
        let (Ok(layer), Some(name)) = (layer.parse(), quoted(name).next()) else {
            continue;
        };
        let imports = quoted(imports).map(str::to_owned).collect();
        table.insert(
            name.to_owned(),
            Row {
                line: index + 1,
                layer,
                imports,
            },
        );
    }
    for (name, row) in &table {
        for import in &row.imports {
            let broken = match table.get(import) {
                None => format!("`{name}` may import `{import}`, which has no row"),
                Some(other) if other.layer >= row.layer => format!(
                    "`{name}` (layer {}) may not import `{import}` (layer {}): imports go down",
                    row.layer, other.layer
                ),
                Some(_) => continue,
            };
            findings.push(Finding::error(DOCUMENT, row.line, broken));
        }
    }
    (table, findings)
}

fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// Workspace crate -> workspace crates it needs outside its tests.
fn edges(metadata: &Value) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let packages = metadata["packages"]
        .as_array()
        .context("cargo metadata lists packages")?;
    let mut edges = BTreeMap::new();
    for package in packages {
        let name = package["name"].as_str().context("a package has a name")?;
        let needed = package["dependencies"]
            .as_array()
            .context("a package lists dependencies")?;
        let needed = needed
            .iter()
            .filter(|d| d["path"].is_string() && d["kind"] != "dev")
            .filter_map(|d| d["name"].as_str())
            .map(short)
            .collect();
        edges.insert(short(name), needed);
    }
    Ok(edges)
}

fn short(package: &str) -> String {
    package
        .strip_prefix("openledger-")
        .unwrap_or(package)
        .to_owned()
}

fn compare(
    table: &BTreeMap<String, Row>,
    edges: &BTreeMap<String, BTreeSet<String>>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, needed) in edges {
        let Some(row) = table.get(name) else {
            let message = format!("the layer table has no row for the crate `{name}`");
            findings.push(Finding::error(DOCUMENT, 0, message));
            continue;
        };
        for import in needed.difference(&row.imports) {
            findings.push(Finding::error(
                DOCUMENT,
                row.line,
                format!("`{name}` imports `{import}`, which its row does not allow"),
            ));
        }
    }
    for (name, row) in table.iter().filter(|(name, _)| !edges.contains_key(*name)) {
        let message = format!("the layer table has a row for `{name}`, which is no crate");
        findings.push(Finding::error(DOCUMENT, row.line, message));
    }
    findings
}

/// Rules about foreign crates, on the graph that a build for users really has.
fn dependencies(repo: &Repo, edges: &BTreeMap<String, BTreeSet<String>>) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for name in edges.keys() {
        let manifest = match name.as_str() {
            // What is never shipped.
            "xtask" | "fuzz" => continue,
            "openledger" => "bin/openledger/Cargo.toml".to_owned(),
            library => format!("crates/{library}/Cargo.toml"),
        };
        let package = package(name);
        let asynchronous = ASYNC.contains(&name.as_str());
        let mut args = vec!["tree", "-p", &package, "-e", "no-dev", "--prefix", "none"];
        args.extend(["--format", "{p}"]);
        // cargo refuses to prune what is not in the tree.
        let reached = reachable(edges, name);
        let pruned: Vec<String> = ASYNC
            .iter()
            .filter(|n| reached.contains(**n))
            .map(|n| self::package(n))
            .collect();
        if !asynchronous {
            for dependency in &pruned {
                args.extend(["--prune", dependency]);
            }
        }
        let tree = read(&mut command(&repo.root, "cargo", &args))?;
        let crates: BTreeSet<&str> = tree.lines().filter_map(|l| l.split(' ').next()).collect();
        if !asynchronous && crates.contains("tokio") {
            let message = format!(
                "`{name}` reaches tokio; only {} may (cargo tree -p {package} -e no-dev -i tokio)",
                ASYNC.join(", ")
            );
            findings.push(Finding::error(&manifest, 0, message));
        }
        for found in TEST_ONLY.iter().filter(|c| crates.contains(*c)) {
            let message = format!("`{found}` is for tests but reaches the default build");
            findings.push(Finding::error(&manifest, 0, message));
        }
    }
    Ok(findings)
}

/// Every workspace crate that `name` needs, directly or not.
fn reachable<'a>(edges: &'a BTreeMap<String, BTreeSet<String>>, name: &str) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut pending: Vec<&str> = edges
        .get(name)
        .into_iter()
        .flatten()
        .map(String::as_str)
        .collect();
    while let Some(next) = pending.pop() {
        if let Some((own, _)) = edges
            .get_key_value(next)
            .filter(|(own, _)| !reached.contains(own.as_str()))
        {
            reached.insert(own.as_str());
            pending.extend(edges[own].iter().map(String::as_str));
        }
    }
    reached
}

fn package(name: &str) -> String {
    match name {
        "openledger" | "xtask" => name.to_owned(),
        library => format!("openledger-{library}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
| layer | crate | purpose | may import |
|---|---|---|---|
| 0 | `kernels` | loops | - |
| 1 | `model` | decoder | `kernels` |
| 1 | `store` | files | - |
| 2 | `serving` | answers | `model`, `store` |
";

    fn graph(edges: &[(&str, &[&str])]) -> BTreeMap<String, BTreeSet<String>> {
        edges
            .iter()
            .map(|(n, to)| {
                (
                    (*n).to_owned(),
                    to.iter().map(|t| (*t).to_owned()).collect(),
                )
            })
            .collect()
    }

    #[test]
    fn a_graph_inside_the_table_passes() {
        let (table, findings) = parse(TABLE);
        assert!(findings.is_empty(), "{findings:?}");
        assert_eq!(table["serving"].layer, 2);
        let edges = graph(&[
            ("kernels", &[]),
            ("model", &["kernels"]),
            ("store", &[]),
            ("serving", &["store"]),
        ]);
        assert_eq!(compare(&table, &edges), vec![]);
    }

    #[test]
    fn an_edge_outside_the_table_is_named() {
        let (table, _) = parse(TABLE);
        let edges = graph(&[
            ("kernels", &[]),
            ("model", &["kernels", "store"]),
            ("store", &[]),
            ("serving", &[]),
        ]);
        let findings = compare(&table, &edges);
        assert_eq!(findings.len(), 1);
        assert!(
            findings[0].message.contains("`model` imports `store`"),
            "{}",
            findings[0]
        );
    }

    #[test]
    fn unknown_and_vanished_crates_are_named() {
        let (table, _) = parse(TABLE);
        let edges = graph(&[
            ("kernels", &[]),
            ("model", &[]),
            ("store", &[]),
            ("new", &[]),
        ]);
        let text: Vec<String> = compare(&table, &edges)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert!(
            text.iter()
                .any(|t| t.contains("no row for the crate `new`")),
            "{text:?}"
        );
        assert!(
            text.iter()
                .any(|t| t.contains("`serving`, which is no crate")),
            "{text:?}"
        );
    }

    #[test]
    fn a_table_that_points_up_or_sideways_is_refused() {
        let (_, findings) = parse("| 1 | `a` | x | `b` |\n| 1 | `b` | x | `c` |\n");
        assert_eq!(findings.len(), 2, "{findings:?}");
    }
}
