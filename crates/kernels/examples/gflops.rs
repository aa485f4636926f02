//! Speed of the matrix products on one thread, per shape and instruction set.
//!
//! `cargo run --release -p openledger-kernels --example gflops [exact] [fast] [decode] [SET ...] [m=ROWS]`
//!
//! Only the named instruction sets and numbers of rows, or else all. `decode` prints GB/s of weights
//! read by few rows, beside a plain read of as much memory. What the machine could reach at most is
//! what the example `peaks` measures.
#![allow(clippy::print_stdout, reason = "a report for a person")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use openledger_kernels::{Format, Isa, Lhs, Packed, Rhs, Store, Weight};

/// Best of many repeats, in GFLOP/s: the machine may be shared, the fastest run is not.
fn best(flops: usize, mut run: impl FnMut()) -> f64 {
    run();
    let (start, mut shortest, mut runs) = (Instant::now(), Duration::MAX, 1);
    while start.elapsed() < Duration::from_millis(300) {
        let one = Instant::now();
        for _ in 0..runs {
            run();
        }
        let took = one.elapsed();
        shortest = shortest.min(took / runs);
        // Long enough for the clock, short enough to fall between two interruptions.
        if took < Duration::from_micros(300) {
            runs *= 2;
        }
    }
    flops as f64 / shortest.as_secs_f64() / 1e9
}

fn main() {
    let asked: Vec<String> = std::env::args().skip(1).collect();
    let named = |name: &str| asked.iter().any(|word| word == name);
    let mut sets = Isa::available();
    if sets.iter().any(|isa| named(isa.name())) {
        sets.retain(|isa| named(isa.name()));
    }
    let all = !["exact", "fast", "decode"].into_iter().any(named);
    if all || named("exact") {
        exact(&sets);
    }
    if all || named("fast") {
        let rows = asked
            .iter()
            .filter_map(|word| word.strip_prefix("m=")?.parse().ok());
        fast(&sets, &rows.collect::<Vec<usize>>());
    }
    if all || named("decode") {
        decode(&sets);
    }
}

fn exact(sets: &[Isa]) {
    println!(
        "GFLOP/s, one thread\n{:>5}{:>6}{:>6}  {:<9}{:>8}{:>8}{:>8}",
        "m", "n", "k", "set", "packed", "rows", "A^T B"
    );
    for (m, n, k) in [
        (512, 256, 256),
        (512, 1024, 1024),
        (128, 128, 128),
        (128, 384, 128),
        (128, 128, 384),
        (128, 2048, 128),
        (64, 2048, 128),
        (32, 1024, 1024),
        (8, 1024, 1024),
        (1, 1024, 1024),
        (1, 128, 128),
        (1, 2048, 128),
        (128, 16, 128),
        (128, 128, 16),
        (16, 128, 128),
        (128, 8, 128),
        (2, 128, 16),
    ] {
        for isa in sets {
            let a: Vec<f32> = (0..m * k).map(|i| (i % 17) as f32 - 8.0).collect();
            let b: Vec<f32> = (0..n * k).map(|i| (i % 13) as f32 - 6.0).collect();
            let packed = Packed::transpose_of(&b, n, k);
            let mut c = vec![0.0; m * n];
            let mut speed = |a: Lhs<'_>, b: Rhs<'_>| {
                best(2 * m * n * k, || {
                    isa.gemm(m, n, k, a, b, black_box(&mut c), n, Store::Overwrite);
                })
            };
            println!(
                "{m:>5}{n:>6}{k:>6}  {:<9}{:>8.1}{:>8.1}{:>8.1}",
                isa.name(),
                speed(Lhs::rows(&a, k), packed.rhs()),
                speed(Lhs::rows(&a, k), Rhs::rows(&b, n)),
                speed(Lhs::transposed(&a, m), Rhs::rows(&b, n)),
            );
        }
    }
}

fn numbers(count: usize) -> Vec<f32> {
    (0..count)
        .map(|i| (i * 31 % 257) as f32 / 128.0 - 1.0)
        .collect()
}

const FORMATS: [Format; 3] = [Format::Bf16, Format::Int8, Format::Nf4];

fn fast(sets: &[Isa], rows: &[usize]) {
    println!("\nbf16 products, GFLOP/s, one thread");
    println!(
        "{:>6}{:>6}{:>6}  {:<11}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}",
        "m", "out", "in", "set", "bf16", "int8", "nf4", "back", "b.int8", "b.nf4", "A^T B"
    );
    for (outputs, inputs) in [
        (576, 576),
        (960, 576),
        (1536, 576),
        (576, 1536),
        (49_152, 576),
        (16, 576),
        (576, 16),
    ] {
        let data = numbers(outputs * inputs);
        let weights = FORMATS.map(|format| Weight::pack(format, &data, outputs, inputs));
        for m in [1, 4, 16, 64, 128, 256, 1024] {
            if !rows.is_empty() && !rows.contains(&m) {
                continue;
            }
            let (x, dy) = (numbers(m * inputs), numbers(m * outputs));
            let mut c = vec![0.0; (m * outputs).max(m * inputs).max(inputs * outputs)];
            for isa in sets {
                if *isa == Isa::PORTABLE || outputs > 4096 && isa.name() == "avx2" {
                    continue;
                }
                let flops = 2 * m * outputs * inputs;
                let mut forward = |w: &Weight| {
                    best(flops, || {
                        isa.project(
                            m,
                            &x,
                            inputs,
                            w,
                            0..outputs,
                            black_box(&mut c),
                            outputs,
                            Store::Overwrite,
                        );
                    })
                };
                let [bf16, int8, nf4] = weights.each_ref().map(&mut forward);
                let mut back = |w: &Weight| {
                    best(flops, || {
                        isa.project_back(
                            m,
                            &dy,
                            outputs,
                            w,
                            0..inputs,
                            black_box(&mut c),
                            inputs,
                            Store::Overwrite,
                        );
                    })
                };
                let [b_bf16, b_int8, b_nf4] = weights.each_ref().map(&mut back);
                let gradient = best(flops, || {
                    let (a, b) = (Lhs::transposed(&dy, outputs), Rhs::rows(&x, inputs));
                    isa.gemm_bf16(
                        outputs,
                        inputs,
                        m,
                        a,
                        b,
                        black_box(&mut c),
                        inputs,
                        Store::Overwrite,
                    );
                });
                println!(
                    "{m:>6}{outputs:>6}{inputs:>6}  {:<11}{bf16:>9.1}{int8:>9.1}{nf4:>9.1}{b_bf16:>9.1}{b_int8:>9.1}{b_nf4:>9.1}{gradient:>9.1}",
                    isa.name()
                );
            }
        }
    }
}

/// The output projection of a model with a vocabulary of 49,152: larger than the caches.
fn decode(sets: &[Isa]) {
    let (outputs, inputs) = (49_152, 576);
    let data = numbers(outputs * inputs);
    let memory = vec![1_u64; 1 << 24];
    let read = best(8 * memory.len(), || {
        let sum = memory.chunks_exact(8).fold([0_u64; 8], |mut sum, line| {
            for (sum, x) in sum.iter_mut().zip(line) {
                *sum ^= x;
            }
            sum
        });
        black_box(sum);
    });
    println!("\nweights read, GB/s, one thread; a plain read of 128 MiB: {read:.1} GB/s");
    println!(
        "{:>6}  {:<11}{:>9}{:>9}{:>9}",
        "m", "set", "bf16", "int8", "nf4"
    );
    let weights = FORMATS.map(|format| Weight::pack(format, &data, outputs, inputs));
    for m in [1, 2, 4, 8, 16, 64] {
        let x = numbers(m * inputs);
        let mut y = vec![0.0; m * outputs];
        for isa in sets.iter().filter(|isa| **isa != Isa::PORTABLE) {
            let speed = weights.each_ref().map(|w| {
                best(w.bytes(), || {
                    isa.project(
                        m,
                        &x,
                        inputs,
                        w,
                        0..outputs,
                        black_box(&mut y),
                        outputs,
                        Store::Overwrite,
                    );
                })
            });
            let [bf16, int8, nf4] = speed;
            println!("{m:>6}  {:<11}{bf16:>9.1}{int8:>9.1}{nf4:>9.1}", isa.name());
        }
    }
}
