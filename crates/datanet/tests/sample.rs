//! The bundled sample Datanet: what it holds and what a run refuses of it.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::path::PathBuf;

use openledger_datanet::{Evidence, Ingest, Mapping, Policy, Reason, ingest_file};

fn sample() -> Ingest {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../bundled/datanet/sample.jsonl");
    let mapping = Mapping::new(["question", "answer"], "contributor");
    ingest_file(&path, &mapping, &Policy::default(), &mut |_| {}).unwrap()
}

#[test]
fn every_bad_row_is_refused_for_its_reason_and_no_good_one() {
    let ingest = sample();
    assert_eq!((ingest.lines, ingest.accepted.len()), (448, 426));
    let counts: Vec<(&str, u64)> = ingest
        .counts()
        .into_iter()
        .map(|(reason, count)| (reason.code(), count))
        .collect();
    assert_eq!(
        counts,
        [
            ("missing-column", 1),
            ("invisible-character", 1),
            ("empty-text", 1),
            ("email-address", 1),
            ("phone-number", 1),
            ("payment-card", 1),
            ("iban", 1),
            ("social-security-number", 1),
            ("too-short", 1),
            ("gibberish", 1),
            ("repetitive", 1),
            ("spam", 2),
            ("exact-duplicate", 4),
            ("near-duplicate", 3),
            ("contained-copy", 2),
        ]
    );
    let bad = ["echo-box", "loud-horn", "loose-lips", "blank-page"];
    for rejection in &ingest.rejected {
        assert!(bad.contains(&rejection.contributor.as_deref().unwrap()));
    }
    assert!(
        ingest
            .accepted
            .iter()
            .all(|row| !bad.contains(&row.contributor.as_str()))
    );
}

#[test]
fn copies_name_the_row_they_copy() {
    let ingest = sample();
    for rejection in &ingest.rejected {
        let (Evidence::Winner { row: winner, .. } | Evidence::Pasted { row: winner, .. }) =
            rejection.evidence
        else {
            continue;
        };
        let winner = &ingest.accepted[winner as usize];
        assert!(winner.line < rejection.line);
        assert_ne!(Some(&winner.contributor), rejection.contributor.as_ref());
    }
    let first = ingest
        .rejected
        .iter()
        .find(|rejection| rejection.reason == Reason::ExactDuplicate)
        .unwrap();
    let Evidence::Winner { row, .. } = first.evidence else {
        panic!("{first:?}");
    };
    assert_eq!(
        ingest.accepted[row as usize].prompt.as_deref(),
        Some("What is a rollup?")
    );
}

/// The base model is small: answers stay short and plain, and every field has enough rows.
#[test]
fn rows_suit_a_small_model() {
    let ingest = sample();
    let mut fields: BTreeMap<&str, usize> = BTreeMap::new();
    for row in &ingest.accepted {
        assert!(row.text.is_ascii() && row.prompt.as_deref().unwrap().is_ascii());
        assert!((60..=310).contains(&row.text.len()), "{row:?}");
        assert!(row.prompt.as_deref().unwrap().ends_with('?'));
        *fields.entry(row.label.as_deref().unwrap()).or_default() += 1;
    }
    assert_eq!(fields.len(), 18);
    assert_eq!(ingest.contributors().len(), 18);
    assert!(fields.values().all(|&rows| rows >= 20), "{fields:?}");
}
