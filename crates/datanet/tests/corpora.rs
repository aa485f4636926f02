//! Verdicts on real, openly licensed corpora, where they stand beside the checkout.
//!
//! The counts are a snapshot: a changed threshold shows here which real rows it costs. Nearly
//! everything refused is a true copy (the same story in two collections, one command's page under
//! two names); the design notes describe the corpora.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

use std::path::PathBuf;

use openledger_datanet::{Ingest, Mapping, Policy, ingest_file};

/// The verdicts on a corpus, or `None`, said aloud, where the corpora are absent.
fn judge(file: &str, mapping: &Mapping) -> Option<Ingest> {
    let corpora = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpora");
    if !corpora.is_dir() {
        eprintln!("NOT TESTED: no corpora at {}", corpora.display());
        return None;
    }
    let path = corpora.join(file);
    Some(ingest_file(&path, mapping, &Policy::default(), &mut |_| {}).unwrap())
}

fn counts(ingest: &Ingest) -> Vec<(&'static str, u64)> {
    let counts = ingest.counts().into_iter();
    counts
        .map(|(reason, count)| (reason.code(), count))
        .collect()
}

#[test]
fn childrens_stories() {
    let mapping = Mapping::new(["text"], "author");
    let Some(ingest) = judge("children-stories/stories.jsonl", &mapping) else {
        return;
    };
    assert_eq!((ingest.lines, ingest.accepted.len()), (702, 676));
    assert_eq!(ingest.contributors().len(), 393);
    assert_eq!(
        counts(&ingest),
        [
            ("broken-encoding", 1),
            ("repetitive", 1),
            ("exact-duplicate", 5),
            ("near-duplicate", 10),
            ("contained-copy", 9),
        ]
    );
}

#[test]
fn shell_commands() {
    let mapping = Mapping::new(["task", "code"], "author").limited(Some(5_000));
    let Some(ingest) = judge("tldr/tldr.jsonl", &mapping) else {
        return;
    };
    assert_eq!((ingest.lines, ingest.accepted.len()), (5_000, 4_907));
    assert_eq!(ingest.contributors().len(), 409);
    assert_eq!(
        counts(&ingest),
        [
            ("phone-number", 1),
            ("exact-duplicate", 15),
            ("near-duplicate", 73),
            ("contained-copy", 4),
        ]
    );
}
