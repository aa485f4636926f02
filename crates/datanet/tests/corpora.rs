//! Verdicts on real, openly licensed corpora, where they stand beside the checkout.
//!
//! The counts are a snapshot: a changed threshold shows here which real rows it costs. Nearly
//! everything refused is a true copy (the same story in two collections, one command's page under
//! two names); the design notes describe the corpora.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

use std::path::PathBuf;

use openledger_datanet::{Evidence, Ingest, Ledger, Mapping, Policy, Row, ingest_file};
use serde_json::json;

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

/// `text` with about `per_cent` of its words replaced by words that stand nowhere else.
fn edited(text: &str, per_cent: usize, state: &mut u64) -> String {
    let words = text.split(' ').map(|word| {
        *state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        match (*state >> 33) as usize % 100 {
            draw if draw < per_cent => format!("instead{}", *state >> 50),
            _ => word.to_owned(),
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// The first `per_cent` of the words of `source`, then the rest of `own`'s.
fn pasted(source: &str, own: &str, per_cent: usize) -> String {
    let words: Vec<&str> = source.split(' ').collect();
    let cut = words.len() * per_cent / 100;
    let rest = own.split(' ').cycle().take(words.len() - cut);
    let text: Vec<&str> = words[..cut].iter().copied().chain(rest).collect();
    text.join(" ")
}

/// How many of a hundred planted copies are refused, each naming the row that it copies.
fn recall(ledger: &Ledger, originals: &[&Row], copy: impl FnMut(&Row) -> String) -> usize {
    let mut lines = Vec::new();
    for text in originals.iter().copied().map(copy) {
        lines.extend(serde_json::to_vec(&json!({"author": "thief", "text": text})).unwrap());
        lines.push(b'\n');
    }
    let mapping = Mapping::new(["text"], "author");
    let verdicts = ledger.preview(&lines[..], &mapping, &mut |_| {}).unwrap();
    let caught = verdicts.rejected.iter().filter(|rejection| {
        let original = originals[rejection.line as usize - 1].row;
        match rejection.evidence {
            Evidence::Winner { row, .. } | Evidence::Pasted { row, .. } => {
                assert!(row < verdicts.first_row, "a copy won over its original");
                row == original
            }
            _ => false,
        }
    });
    caught.count() * 100 / originals.len()
}

/// Planted copies of every long story, judged one kind at a time against the whole collection.
#[test]
fn planted_copies_are_found() {
    let mapping = Mapping::new(["text"], "author");
    let Some(stories) = judge("children-stories/stories.jsonl", &mapping) else {
        return;
    };
    let ledger = Ledger::restore(Policy::default(), &stories.accepted).unwrap();
    let long: Vec<&Row> = stories
        .accepted
        .iter()
        .filter(|row| row.text.split(' ').count() >= 120)
        .collect();
    assert!(long.len() > 400);
    // New words of the thief's own, different for every story.
    let own = |row: &Row| {
        (0..60)
            .map(|i| format!("own{}x{i}", row.row))
            .collect::<Vec<_>>()
            .join(" ")
    };
    let mut state = 20;
    let found = [
        (
            "capital letters",
            recall(&ledger, &long, |row| row.text.to_uppercase()),
            100,
        ),
        (
            "2 % of words changed",
            recall(&ledger, &long, |row| edited(&row.text, 2, &mut state)),
            98,
        ),
        (
            "5 % of words changed",
            recall(&ledger, &long, |row| edited(&row.text, 5, &mut state)),
            97,
        ),
        (
            "10 % of words changed",
            recall(&ledger, &long, |row| edited(&row.text, 10, &mut state)),
            65,
        ),
        (
            "75 % pasted",
            recall(&ledger, &long, |row| pasted(&row.text, &own(row), 75)),
            98,
        ),
        (
            "65 % pasted",
            recall(&ledger, &long, |row| pasted(&row.text, &own(row), 65)),
            95,
        ),
    ];
    for (kind, share, least) in found {
        eprintln!("{kind}: {share} % found");
        assert!(
            share >= least,
            "{kind}: {share} % found, at least {least} % expected"
        );
    }
    // Less than the policy's share is left to the span channel, which pays the first owner.
    assert_eq!(
        recall(&ledger, &long, |row| pasted(&row.text, &own(row), 40)),
        0
    );
}
