//! The quality of the scores on the frozen W1-S world: do they predict retraining?
//!
//! Needs the benchmark export beside the repository (`../shared/bench/attribution/w1s`). The same
//! measurement with timings: `cargo run --release -p openledger-attribution --example lds`.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../examples/w1/mod.rs"]
mod w1;

use openledger_attribution::{RowSketches, SketchSpec};

#[test]
fn scores_predict_retraining() {
    let directory = w1::directory();
    assert!(
        directory.is_dir(),
        "the W1-S export is not at {}",
        directory.display()
    );
    let world = w1::World::load(&directory).unwrap();
    let within = |found: f64, expected: f64, slack: f64| {
        assert!(
            (found - expected).abs() < slack,
            "{found} is not {expected} within {slack}"
        );
    };

    // The evaluation itself: the stored scores of peers give the figures published for them.
    let [half, tenth] = world.lds(&world.peer("grad_dot").unwrap());
    within(half, 0.823, 0.001);
    within(tenth, 0.765, 0.001);
    let [half, tenth] = world.lds(&world.peer("kronfluence_ekfac").unwrap());
    within(half, 0.896, 0.001);
    within(tenth, 0.815, 0.001);

    // Ours. The arithmetic is exact, so these do not drift: a change of the figure is a change of
    // the method.
    let spec = SketchSpec::default();
    let sketches = RowSketches::build(
        &world.base,
        &world.adapter,
        &world.rows,
        &world.decoys,
        &spec,
        &|_, _| {},
    )
    .unwrap();
    let scores: Vec<Vec<f64>> = world
        .queries
        .iter()
        .map(|query| {
            let query = sketches.sketch(&world.base, &world.adapter, query).unwrap();
            sketches
                .scores(&query)
                .unwrap()
                .rows
                .into_iter()
                .map(f64::from)
                .collect()
        })
        .collect();
    let [half, tenth] = world.lds(&scores);
    within(half, 0.806, 0.001);
    within(tenth, 0.748, 0.001);

    // Control: the scores of other queries predict nothing.
    let mut shifted = scores;
    shifted.rotate_left(1);
    let [half, _] = world.lds(&shifted);
    within(half, 0.0, 0.1);
}
