//! The index against a naive matcher, on disk, and in proofs.
#![allow(clippy::unwrap_used, reason = "tests")]

use openledger_suffix_index::proof::{DisorderProof, END};
use openledger_suffix_index::{Error, Index, Occurrence, Span};
use proptest::prelude::*;

fn build(docs: &[Vec<u32>], vocab: u32) -> Index {
    let docs: Vec<&[u32]> = docs.iter().map(Vec::as_slice).collect();
    Index::build(&docs, vocab).unwrap()
}

/// Every place where `pattern` stands, earliest first, by looking everywhere.
fn naive_occurrences(docs: &[Vec<u32>], pattern: &[u32]) -> Vec<Occurrence> {
    let mut found = Vec::new();
    for (doc, tokens) in docs.iter().enumerate() {
        for (pos, window) in tokens.windows(pattern.len()).enumerate() {
            if window == pattern {
                found.push(Occurrence {
                    doc: doc as u32,
                    pos: pos as u32,
                });
            }
        }
    }
    found
}

/// Maximal matches by extending every position and dropping what lies inside another.
fn naive_spans(
    docs: &[Vec<u32>],
    query: &[u32],
    min_len: usize,
) -> Vec<(u32, u32, Vec<Occurrence>)> {
    let longest: Vec<usize> = (0..query.len())
        .map(|start| {
            (1..=query.len() - start)
                .take_while(|&len| !naive_occurrences(docs, &query[start..start + len]).is_empty())
                .last()
                .unwrap_or(0)
        })
        .collect();
    (0..query.len())
        .filter(|&start| longest[start] >= min_len.max(1))
        .filter(|&start| (0..start).all(|before| before + longest[before] < start + longest[start]))
        .map(|start| {
            let pattern = &query[start..start + longest[start]];
            (
                start as u32,
                longest[start] as u32,
                naive_occurrences(docs, pattern),
            )
        })
        .collect()
}

/// Documents over a small alphabet, so that matches are long and frequent, with gaps in the ids.
fn documents() -> impl Strategy<Value = Vec<Vec<u32>>> {
    prop::collection::vec(
        prop::collection::vec((0u32..5).prop_map(|id| id * 7), 0..24),
        0..8,
    )
}

fn queries() -> impl Strategy<Value = Vec<u32>> {
    prop::collection::vec((0u32..6).prop_map(|id| id * 7), 0..20)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn spans_equal_the_naive_matcher(docs in documents(), query in queries(), min_len in 0usize..5) {
        let index = build(&docs, 29);
        let spans = index.maximal_spans(&query, min_len);
        let naive = naive_spans(&docs, &query, min_len);
        prop_assert_eq!(spans.len(), naive.len());
        for (span, (start, len, places)) in spans.iter().zip(naive) {
            prop_assert_eq!((span.start, span.len), (start, len));
            prop_assert_eq!(span.count as usize, places.len());
            prop_assert_eq!((span.first_doc, span.first_pos), (places[0].doc, places[0].pos));
            prop_assert_eq!(&index.occurrences(span, usize::MAX), &places);
            prop_assert_eq!(index.occurrences(span, 2), &places[..places.len().min(2)]);
            prop_assert_eq!(index.count(&query[span.range()]), places.len());
        }
    }

    #[test]
    fn documents_come_back(docs in documents()) {
        let index = build(&docs, 29);
        prop_assert_eq!(index.documents(), docs.len());
        prop_assert_eq!(index.tokens(), docs.iter().map(Vec::len).sum::<usize>());
        for (doc, tokens) in docs.iter().enumerate() {
            prop_assert_eq!(&index.document(doc).unwrap(), tokens);
        }
        prop_assert!(index.document(docs.len()).is_none());
        let all: Vec<u32> = docs.concat();
        for id in 0..29 {
            prop_assert_eq!(index.unigram(id) as usize, all.iter().filter(|&&t| t == id).count());
        }
    }

    #[test]
    fn every_pattern_is_proved_present_or_absent(docs in documents(), query in queries()) {
        let index = build(&docs, 29);
        let prover = index.prover();
        let commitment = prover.commitment();
        for end in 1..=query.len() {
            let pattern = &query[query.len() - end..];
            match naive_occurrences(&docs, pattern).first() {
                Some(place) => {
                    prop_assert!(prover.absence(pattern).is_err());
                    let proof = prover
                        .occurrence(place.doc, place.pos, pattern.len() as u32)
                        .unwrap();
                    prop_assert!(commitment.verify_occurrence(pattern, &proof));
                    let mut other = pattern.to_vec();
                    other[0] += 1;
                    prop_assert!(!commitment.verify_occurrence(&other, &proof));
                    let mut moved = proof.clone();
                    moved.position += 1;
                    let fits = naive_occurrences(&docs, pattern).iter().any(|p| {
                        (p.doc, p.pos) == (place.doc, place.pos + 1)
                    });
                    prop_assert_eq!(commitment.verify_occurrence(pattern, &moved), fits);
                }
                None => {
                    let proof = prover.absence(pattern).unwrap();
                    prop_assert!(commitment.verify_absence(pattern, &proof));
                    // The same neighbours prove nothing about what does stand there.
                    for doc in docs.iter().filter(|doc| !doc.is_empty()) {
                        prop_assert!(!commitment.verify_absence(&doc[..1], &proof));
                    }
                }
            }
        }
    }

    #[test]
    fn a_sorted_array_has_no_disorder(docs in documents()) {
        let index = build(&docs, 29);
        let prover = index.prover();
        for rank in 0..index.tokens() + index.documents() {
            prop_assert!(prover.disorder(rank).is_err());
        }
    }
}

// Every save waits for the disk, so fewer cases.
proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn the_file_keeps_everything(docs in documents(), query in queries()) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.sa");
        let index = build(&docs, 29);
        index.save(&path).unwrap();
        let opened = Index::open(&path).unwrap();
        prop_assert_eq!(opened.maximal_spans(&query, 1), index.maximal_spans(&query, 1));
        prop_assert_eq!(opened.root(), index.root());
        prop_assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn damage_is_noticed(docs in documents(), at: usize, bit in 0u8..8) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.sa");
        build(&docs, 29).save(&path).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        std::fs::write(&path, &bytes).unwrap();
        let refused = matches!(Index::open(&path), Err(Error::Corrupt { .. }));
        prop_assert!(refused);
        std::fs::write(&path, &bytes[..at]).unwrap();
        let refused = matches!(Index::open(&path), Err(Error::Corrupt { .. }));
        prop_assert!(refused);
    }
}

/// Numbers of a forger's choice: the verifier says no and never panics.
#[test]
fn absurd_proofs_are_refused() {
    let index = build(&[vec![1, 2, 3], vec![4, 5]], 10);
    let prover = index.prover();
    let commitment = prover.commitment();
    let occurrence = prover.occurrence(0, 0, 3).unwrap();
    let absence = prover.absence(&[2, 4]).unwrap();
    assert!(commitment.verify_absence(&[2, 4], &absence));
    for wild in [7, 8, 1 << 32, 1 << 56, u64::MAX - 1, u64::MAX] {
        let mut forged = occurrence.clone();
        forged.position = wild;
        assert!(!commitment.verify_occurrence(&[1, 2, 3], &forged));
        forged.position = 0;
        forged.text.chunks[0].index = wild;
        assert!(!commitment.verify_occurrence(&[1, 2, 3], &forged));
        for side in 0..4 {
            let mut forged = absence.clone();
            let suffix = match side {
                0 | 1 => forged.below.as_mut().unwrap(),
                _ => forged.above.as_mut().unwrap(),
            };
            match side % 2 {
                0 => suffix.rank = wild,
                _ => suffix.entry.chunks[0].index = wild,
            }
            assert!(!commitment.verify_absence(&[2, 4], &forged));
            forged.above = None;
            assert!(!commitment.verify_absence(&[2, 4], &forged));
        }
        let mut forged = absence.clone();
        forged.below.as_mut().unwrap().entry.chunks.clear();
        assert!(!commitment.verify_absence(&[2, 4], &forged));
    }
}

/// Text longer than several chunks, so that proofs have paths and slices cross chunk borders.
#[test]
fn proofs_cross_chunk_borders() {
    let docs: Vec<Vec<u32>> = (0..40u32)
        .map(|doc| (0..97).map(|at| (at * at + doc * 31) % 251).collect())
        .collect();
    let index = build(&docs, 251);
    let prover = index.prover();
    let commitment = prover.commitment();
    for (doc, tokens) in docs.iter().enumerate() {
        let proof = prover.occurrence(doc as u32, 0, 97).unwrap();
        assert!(commitment.verify_occurrence(tokens, &proof));
        let mut forged = proof.clone();
        forged.text.chunks[0].numbers[0] ^= 1;
        assert!(!commitment.verify_occurrence(tokens, &forged));
        let mut absent = tokens[10..60].to_vec();
        absent[49] = (absent[49] + 100) % 251;
        let proof = prover.absence(&absent).unwrap();
        assert!(commitment.verify_absence(&absent, &proof));
    }
    assert!(prover.occurrence(0, 90, 8).is_err());
    assert!(prover.occurrence(40, 0, 1).is_err());
    assert!(prover.absence(&[END]).is_err());
}

/// An owner who swaps two ranks of his array is refuted by the commitment that he published.
#[test]
fn a_wrong_array_is_refuted() {
    let docs = vec![vec![3, 1, 2, 3, 1, 4], vec![1, 2, 9, 9]];
    let honest = build(&docs, 10);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.sa");
    honest.save(&path).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    // Swap the last two entries of the suffix array, then seal the file again.
    let end = bytes.len() - 32;
    let (a, b) = (end - 8, end - 4);
    for k in 0..4 {
        bytes.swap(a + k, b + k);
    }
    let checksum = openledger_primitives::keccak256(&bytes[..end]);
    bytes[end..].copy_from_slice(checksum.as_slice());
    std::fs::write(&path, &bytes).unwrap();
    let forged = Index::open(&path).unwrap();
    let prover = forged.prover();
    let rank = forged.tokens() + forged.documents() - 2;
    let proof: DisorderProof = prover.disorder(rank).unwrap();
    assert!(prover.commitment().verify_disorder(&proof));
    assert!(!honest.prover().commitment().verify_disorder(&proof));
    assert!(honest.prover().disorder(rank).is_err());
}

#[test]
fn limits_are_errors() {
    assert!(matches!(
        Index::build(&[&[0, 5]], 5),
        Err(Error::TokenOutOfRange {
            document: 0,
            position: 1,
            token: 5,
            vocab: 5
        })
    ));
    let wide: Vec<u32> = (0..65_536).collect();
    assert!(matches!(
        Index::build(&[&wide], 65_536),
        Err(Error::AlphabetTooLarge { distinct: 65_536 })
    ));
    let most: Vec<u32> = (100_000..165_535).collect();
    let index = Index::build(&[&most], 200_000).unwrap();
    let spans = index.maximal_spans(&most[60_000..], 6);
    assert_eq!(
        spans,
        [Span {
            start: 0,
            len: 5_535,
            count: 1,
            first_doc: 0,
            first_pos: 60_000,
            first_rank: 60_001
        }]
    );
}

#[test]
fn nothing_in_nothing_out() {
    let index = build(&[], 10);
    assert!(index.maximal_spans(&[1, 2, 3], 1).is_empty());
    assert_eq!((index.documents(), index.tokens()), (0, 0));
    let index = build(&[vec![], vec![1], vec![]], 10);
    assert_eq!(index.maximal_spans(&[1, 1, 99], 1).len(), 2);
    assert_eq!(index.maximal_spans(&[1, 1, 99], 1)[0].first_doc, 1);
    assert!(index.maximal_spans(&[], 1).is_empty());
}

#[test]
fn surprisal_is_that_of_the_documents() {
    let index = build(&[vec![1, 1, 1, 2]], 10);
    assert_eq!(index.surprisal(1), 415);
    assert_eq!(index.surprisal(2), 2_000);
    assert_eq!(index.surprisal(3), 3_000);
    assert_eq!(index.surprisal_of(&[1, 2, 77]), 5_415);
}
