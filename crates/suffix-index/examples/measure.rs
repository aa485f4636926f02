//! Build and query speed on a plain-text file: `cargo run --release -p openledger-suffix-index
//! --example measure -- FILE.txt`.
//!
//! Tokens are words and punctuation marks (no tokenizer is needed to time an index). Queries are
//! 200 outputs of 458 tokens, stitched from random pieces of the text and random words, as in the
//! design notes' comparison with infini-gram.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measuring program"
)]

use std::collections::HashMap;
use std::time::Instant;

use openledger_suffix_index::Index;

const OUTPUTS: usize = 200;
const OUTPUT_TOKENS: usize = 458;

fn main() {
    let path = std::env::args().nth(1).expect("a text file");
    let text = std::fs::read_to_string(path).unwrap();
    let mut ids: HashMap<&str, u32> = HashMap::new();
    let mut docs: Vec<Vec<u32>> = Vec::new();
    for paragraph in text.split("\n\n") {
        let words = paragraph
            .split_inclusive(|c: char| !c.is_alphanumeric())
            .filter(|word| !word.trim().is_empty());
        docs.push(
            words
                .map(|word| {
                    let next = ids.len() as u32;
                    *ids.entry(word).or_insert(next) % 65_000
                })
                .collect(),
        );
    }
    let vocab = (ids.len() as u32).min(65_000);
    let slices: Vec<&[u32]> = docs.iter().map(Vec::as_slice).collect();
    let started = Instant::now();
    let index = Index::build(&slices, vocab).unwrap();
    let built = started.elapsed().as_secs_f64();
    println!(
        "{} documents, {} tokens, {vocab} ids: built in {built:.3} s = {:.1} M tokens/s",
        index.documents(),
        index.tokens(),
        index.tokens() as f64 / built / 1e6
    );

    let all: Vec<u32> = docs.concat();
    let mut state = 20u64;
    let mut next = move |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as usize % below
    };
    let outputs: Vec<Vec<u32>> = (0..OUTPUTS)
        .map(|_| {
            let mut output = Vec::new();
            while output.len() < OUTPUT_TOKENS {
                let (at, len) = (next(all.len() - 40), 4 + next(30));
                output.extend_from_slice(&all[at..at + len]);
                output.push(next(vocab as usize) as u32);
            }
            output.truncate(OUTPUT_TOKENS);
            output
        })
        .collect();
    let (mut spans, mut covered) = (0, 0);
    let mut times: Vec<f64> = outputs
        .iter()
        .map(|output| {
            let started = Instant::now();
            let found = index.maximal_spans(output, 4);
            let seconds = started.elapsed().as_secs_f64();
            spans += found.len();
            covered += found.iter().map(|span| span.len as usize).sum::<usize>();
            seconds * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    println!(
        "{OUTPUTS} outputs of {OUTPUT_TOKENS} tokens: {spans} spans, {covered} span tokens; p10 {:.3} ms, p50 {:.3} ms, p90 {:.3} ms",
        times[OUTPUTS / 10],
        times[OUTPUTS / 2],
        times[OUTPUTS * 9 / 10]
    );

    let started = Instant::now();
    let root = index.root();
    println!("root {root} in {:.3} s", started.elapsed().as_secs_f64());
}
