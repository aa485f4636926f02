//! Judges a JSONL file and prints the counts, the speed and the rejections:
//! `cargo run --release -p openledger-datanet --example judge -- FILE CONTRIBUTOR TEXT[,TEXT..] [LIMIT]`.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measuring program"
)]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use openledger_datanet::{Evidence, Mapping, Policy, ingest_file};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let path = Path::new(&arguments[0]);
    let limit = arguments.get(3).map(|limit| limit.parse().unwrap());
    let mapping = Mapping::new(arguments[2].split(','), arguments[1].as_str()).limited(limit);
    let started = Instant::now();
    let ingest = ingest_file(path, &mapping, &Policy::default(), &mut |_| {}).unwrap();
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "{} lines, {} accepted of {} contributors, {} rejected; {seconds:.3} s = {:.1} MB/s",
        ingest.lines,
        ingest.accepted.len(),
        ingest.contributors().len(),
        ingest.rejected.len(),
        ingest.bytes as f64 / seconds / 1e6
    );
    for (reason, count) in ingest.counts() {
        println!("  {count:6} {reason}");
    }
    let text = std::fs::read_to_string(path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let line_of: BTreeMap<u32, u64> = ingest
        .accepted
        .iter()
        .map(|row| (row.row, row.line))
        .collect();
    for rejection in &ingest.rejected {
        let line = |number: u64| {
            lines[number as usize - 1]
                .chars()
                .take(400)
                .collect::<String>()
        };
        println!(
            "{} {} {:?}",
            rejection.line, rejection.reason, rejection.evidence
        );
        println!("    {}", line(rejection.line));
        if let Evidence::Winner { row, .. } | Evidence::Pasted { row, .. } = rejection.evidence {
            println!("  = {}", line(line_of[&row]));
        }
    }
}
