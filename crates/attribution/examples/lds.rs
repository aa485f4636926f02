//! How well our scores predict retraining, against the stored scores of peers.
//!
//! `cargo run --release -p openledger-attribution --example lds [DIRECTORY]`
//!
//! Reads the W1-S world (default: `../shared/bench/attribution/w1s` beside the repository) and
//! prints one JSON object: the linear datamodeling score with 50 % and 10 % of the rows dropped for
//! each method and sketch size, and the time that one thread takes.

#![allow(clippy::print_stdout, reason = "an example prints its result")]

mod w1;

use std::error::Error;
use std::path::PathBuf;
use std::time::Instant;

use openledger_attribution::{RowSketches, SketchSpec};
use serde_json::{Map, Value, json};

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args_os()
        .nth(1)
        .map_or_else(w1::directory, PathBuf::from);
    let world = w1::World::load(&directory)?;
    let mut report = Map::new();
    for name in ["grad_dot", "datainf", "kronfluence_ekfac", "magic"] {
        let [half, tenth] = world.lds(&world.peer(name)?);
        report.insert(
            name.into(),
            json!({ "lds_drop50": half, "lds_drop10": tenth }),
        );
    }
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
    for dimensions in [512, 1024, 2048, 4096, 8192] {
        let spec = SketchSpec {
            dimensions,
            ..SketchSpec::default()
        };
        let entry = one.install(|| measure(&world, &spec))?;
        report.insert(format!("sketch_{dimensions}"), entry);
    }
    println!("{}", serde_json::to_string_pretty(&report)?);
    Ok(())
}

fn measure(world: &w1::World, spec: &SketchSpec) -> Result<Value, openledger_attribution::Error> {
    let (base, adapter) = (&world.base, &world.adapter);
    let start = Instant::now();
    let sketches = RowSketches::build(base, adapter, &world.rows, &world.decoys, spec, &|_, _| {})?;
    let build = start.elapsed().as_secs_f64();
    let start = Instant::now();
    let queries = world
        .queries
        .iter()
        .map(|query| sketches.sketch(base, adapter, query));
    let queries = queries.collect::<Result<Vec<_>, _>>()?;
    let sketching = start.elapsed().as_secs_f64();
    let start = Instant::now();
    let scores = queries
        .iter()
        .map(|query| sketches.scores(query).map(|scores| scores.rows));
    let scores = scores.collect::<Result<Vec<_>, _>>()?;
    let scan = start.elapsed().as_secs_f64();
    let scores: Vec<Vec<f64>> = scores
        .into_iter()
        .map(|rows| rows.into_iter().map(f64::from).collect())
        .collect();
    let [half, tenth] = world.lds(&scores);
    let fitted = world.rows.len().min(spec.fit_rows as usize);
    let gradients = fitted + world.rows.len() + world.decoys.len();
    Ok(json!({
        "lds_drop50": half,
        "lds_drop10": tenth,
        "bytes_per_row": sketches.dimensions(),
        "build_seconds": build,
        "gradients_per_second": gradients as f64 / build,
        "query_sketch_milliseconds": 1e3 * sketching / queries.len() as f64,
        "scan_microseconds": 1e6 * scan / queries.len() as f64,
    }))
}
