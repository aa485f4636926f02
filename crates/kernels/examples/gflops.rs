//! Speed of the matrix product on one thread, per shape and instruction set.
//!
//! `cargo run --release -p openledger-kernels --example gflops`
#![allow(clippy::print_stdout, reason = "a report for a person")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use openledger_kernels::{Isa, Lhs, Packed, Rhs, Store};

/// Best of many repeats, in GFLOP/s: the machine may be shared, the fastest run is not.
fn best(flops: usize, mut run: impl FnMut()) -> f64 {
    let (start, mut shortest) = (Instant::now(), Duration::MAX);
    while start.elapsed() < Duration::from_millis(300) {
        let one = Instant::now();
        for _ in 0..4 {
            run();
        }
        shortest = shortest.min(one.elapsed() / 4);
    }
    flops as f64 / shortest.as_secs_f64() / 1e9
}

fn main() {
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
        for isa in Isa::available() {
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
