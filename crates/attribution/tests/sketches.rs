//! Sketches on a small model that is really tuned: same bytes everywhere, right signs, proofs.

#![allow(clippy::unwrap_used, reason = "tests")]

mod tuned;

use std::sync::atomic::{AtomicUsize, Ordering};

use openledger_attribution::{Error, RowSketches, SCORE_ONE, SketchSpec, sketch_leaf};
use openledger_model::{Adapter, Example, Workspace, lora_gradients, loss};
use openledger_primitives::merkle;
use tuned::{Tuned, example};

fn build(tuned: &Tuned, threads: usize) -> RowSketches {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .unwrap();
    pool.install(|| tuned.sketches())
}

#[test]
fn bytes_do_not_depend_on_threads() {
    let tuned = Tuned::new();
    let (one, two, five) = (build(&tuned, 1), build(&tuned, 2), build(&tuned, 5));
    assert_eq!(one, two);
    assert_eq!(one, five);
    assert_eq!(one.root(), two.root());
    assert_eq!(one.method(), two.method());
}

#[test]
fn bytes_do_not_depend_on_the_batch_a_row_is_in() {
    let tuned = Tuned::new();
    let all = tuned.sketches();
    for (row, example) in tuned.rows.iter().enumerate() {
        let alone = all.sketch(&tuned.base, &tuned.adapter, example).unwrap();
        assert_eq!(all.row(row).unwrap(), alone);
    }
    // The same rows in another order are the same sketches in that order: the preconditioner is
    // fitted on all of them.
    let reversed: Vec<Example> = tuned.rows.iter().rev().cloned().collect();
    let other = RowSketches::build(
        &tuned.base,
        &tuned.adapter,
        &reversed,
        &[],
        &tuned.spec,
        &|_, _| {},
    )
    .unwrap();
    let differing = (0..all.rows())
        .flat_map(|row| {
            all.row(row)
                .unwrap()
                .iter()
                .zip(other.row(all.rows() - 1 - row).unwrap())
        })
        .filter(|(a, b)| (i16::from(**a) - i16::from(**b)).abs() > 1)
        .count();
    assert_eq!(
        differing, 0,
        "the order of a sum may move a rounding, not a sketch"
    );
}

#[test]
fn a_row_is_most_like_itself() {
    let tuned = Tuned::new();
    let sketches = tuned.sketches();
    for (row, example) in tuned.rows.iter().enumerate() {
        let scores = sketches
            .scores(
                &sketches
                    .sketch(&tuned.base, &tuned.adapter, example)
                    .unwrap(),
            )
            .unwrap()
            .rows;
        let best = (0..scores.len()).max_by_key(|&r| scores[r]).unwrap();
        assert_eq!(best, row);
        let off = (scores[row] - SCORE_ONE).abs();
        assert!(
            off < SCORE_ONE / 100,
            "self score {} of row {row}",
            scores[row]
        );
    }
}

/// The meaning of a score: a step on a row of positive score lowers the answer's loss, a step on
/// one of negative score raises it.
#[test]
fn the_sign_says_what_training_on_the_row_does() {
    let tuned = Tuned::new();
    let sketches = tuned.sketches();
    let mut ws = Workspace::new();
    let mut gradient = vec![0.0; tuned.adapter.params().len()];
    let (mut agree, mut clear) = (0, 0);
    for decoy in &tuned.decoys {
        let at = decoy.loss_from;
        let query = sketches
            .query_sketch(
                &tuned.base,
                &tuned.adapter,
                &decoy.tokens[..at],
                &decoy.tokens[at..],
            )
            .unwrap();
        let scores = sketches.scores(&query).unwrap().rows;
        let before = loss(&tuned.base, Some(&tuned.adapter), decoy, &mut ws)
            .unwrap()
            .sum;
        for (row, &score) in scores.iter().enumerate() {
            // Beyond three standard errors of the projection.
            if score.abs() < 3 * SCORE_ONE / 45 {
                continue;
            }
            lora_gradients(
                &tuned.base,
                &tuned.adapter,
                &tuned.rows[row],
                &mut gradient,
                &mut ws,
            )
            .unwrap();
            let norm = gradient.iter().map(|g| g * g).sum::<f32>().sqrt();
            let mut stepped: Adapter = tuned.adapter.clone();
            for (p, g) in stepped.params_mut().iter_mut().zip(&gradient) {
                *p -= 0.01 * g / norm;
            }
            let after = loss(&tuned.base, Some(&stepped), decoy, &mut ws)
                .unwrap()
                .sum;
            clear += 1;
            agree += usize::from((after < before) == (score > 0));
        }
    }
    assert!(clear >= 20, "only {clear} clear scores");
    assert!(
        agree * 100 >= clear * 95,
        "{agree} of {clear} signs agree with training"
    );
}

/// A paraphrase of a row (same facts, another frame) is pulled by that row more than by the rest.
#[test]
fn a_paraphrase_is_credited_to_its_row() {
    let tuned = Tuned::new();
    let sketches = tuned.sketches();
    for row in 0..tuned.rows.len() {
        let paraphrase = &tuned.decoys[row];
        let query = sketches
            .sketch(&tuned.base, &tuned.adapter, paraphrase)
            .unwrap();
        let scores = sketches.scores(&query).unwrap().rows;
        assert!(scores[row] > 0, "row {row}: {scores:?}");
        let better = scores.iter().filter(|&&score| score > scores[row]).count();
        assert_eq!(better, 0, "row {row}: {scores:?}");
    }
}

#[test]
fn every_sketch_is_proved_under_the_root() {
    let tuned = Tuned::new();
    let sketches = tuned.sketches();
    let root = sketches.root();
    let all = sketches.rows() + sketches.decoys();
    for row in 0..all {
        let (bytes, path) = sketches.proof(row).unwrap();
        let at = row as u64;
        assert!(merkle::verify(
            root,
            merkle::leaf(&sketch_leaf(at, bytes)),
            at,
            &path
        ));
        // The index is part of the leaf: a sketch cannot be passed off as another row's.
        assert!(!merkle::verify(
            root,
            merkle::leaf(&sketch_leaf(at + 1, bytes)),
            at,
            &path
        ));
    }
    assert!(sketches.proof(all).is_none());
}

#[test]
fn progress_counts_every_gradient_once() {
    let tuned = Tuned::new();
    let (calls, last) = (AtomicUsize::new(0), AtomicUsize::new(0));
    RowSketches::build(
        &tuned.base,
        &tuned.adapter,
        &tuned.rows,
        &tuned.decoys,
        &tuned.spec,
        &|done, total| {
            calls.fetch_add(1, Ordering::Relaxed);
            last.fetch_max(done, Ordering::Relaxed);
            assert!(done <= total);
        },
    )
    .unwrap();
    let total = 2 * tuned.rows.len() + tuned.decoys.len();
    assert_eq!((calls.into_inner(), last.into_inner()), (total, total));
}

#[test]
fn what_does_not_fit_is_refused() {
    let tuned = Tuned::new();
    let sketches = tuned.sketches();
    assert!(matches!(
        sketches.scores(&[0; 3]),
        Err(Error::Dimensions {
            expected: 2048,
            found: 3
        })
    ));
    let mut lora = tuned.adapter.config.clone();
    lora.rank = 1;
    let small = Adapter::new(&tuned.base.config, lora, 1).unwrap();
    let error = sketches
        .sketch(&tuned.base, &small, &tuned.rows[0])
        .unwrap_err();
    assert!(matches!(error, Error::Parameters { .. }), "{error}");
    let bad = [example(&[1, 2, 3], 1), example(&[1, 9_999], 1)];
    let spec = SketchSpec::default();
    let error = RowSketches::build(&tuned.base, &tuned.adapter, &bad, &[], &spec, &|_, _| {})
        .unwrap_err()
        .to_string();
    assert!(error.contains("row 1: token 9999"), "{error}");
    let none = SketchSpec {
        dimensions: 0,
        ..spec
    };
    assert!(RowSketches::build(&tuned.base, &tuned.adapter, &[], &[], &none, &|_, _| {}).is_err());
}
