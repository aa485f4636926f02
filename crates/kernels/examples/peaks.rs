//! What this machine can do at most: products on registers alone, and memory read in order.
//!
//! `cargo run --release -p openledger-kernels --example peaks`
//!
//! Prints one JSON object: GFLOP/s of the bf16 instruction that the fast mode uses and of f32 fused
//! multiply-adds (`null` where the processor has none), and GB/s of a plain read, each on one
//! thread and on all.
#![allow(clippy::print_stdout, reason = "a report for a program")]
#![allow(
    unsafe_code,
    reason = "the peak of an instruction is measured with the instruction"
)]

use std::hint::black_box;
use std::sync::Barrier;
use std::time::Instant;

use openledger_kernels::Isa;

/// Repeats; the best one counts, since the machine may be shared.
const REPEATS: usize = 12;

fn main() {
    let all = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    // As large as the weights of a small model, and too large for any cache.
    let [small, large] = [256, 2048].map(|mib| {
        let memory = vec![1_u64; mib << 17];
        [1, all].map(|threads| read(&memory, threads))
    });
    let number = |x: Option<f64>| x.map_or("null".to_owned(), |x| format!("{x:.1}"));
    let pair = |[one, all]: [Option<f64>; 2]| format!("[{}, {}]", number(one), number(all));
    println!(
        "{{\"threads\": {all}, \"bf16_gflops\": {}, \"f32_gflops\": {}, \"read_256mib_gb_s\": {}, \"read_2gib_gb_s\": {}}}",
        pair([1, all].map(|threads| registers(bf16(), threads))),
        pair([1, all].map(|threads| registers(f32(), threads))),
        pair(small.map(Some)),
        pair(large.map(Some)),
    );
}

/// Seconds that the slowest of `threads` takes, which start together.
fn together(threads: usize, work: impl Fn(usize) + Sync) -> f64 {
    let barrier = Barrier::new(threads);
    std::thread::scope(|scope| {
        let (barrier, work) = (&barrier, &work);
        let handles: Vec<_> = (0..threads)
            .map(|thread| {
                scope.spawn(move || {
                    barrier.wait();
                    let start = Instant::now();
                    work(thread);
                    start.elapsed().as_secs_f64()
                })
            })
            .collect();
        let joined = handles.into_iter().map(std::thread::ScopedJoinHandle::join);
        joined
            .map(|seconds| seconds.expect("the work does not panic"))
            .fold(0.0, f64::max)
    })
}

/// GB/s of reading all of `memory` once, each thread its part.
fn read(memory: &[u64], threads: usize) -> f64 {
    let part = memory.len().div_ceil(threads);
    let fold = |thread: usize| {
        let part = memory.chunks(part).nth(thread).unwrap_or_default();
        let sums = part.chunks_exact(32).fold([0_u64; 32], |mut sums, line| {
            for (sum, x) in sums.iter_mut().zip(line) {
                *sum ^= x;
            }
            sums
        });
        black_box(sums);
    };
    let best = (0..REPEATS)
        .map(|_| together(threads, fold))
        .fold(f64::MAX, f64::min);
    8.0 * memory.len() as f64 / best / 1e9
}

/// Operations of one call, and the call.
type Chains = (f64, fn());

fn registers(chains: Option<Chains>, threads: usize) -> Option<f64> {
    let (operations, chains) = chains?;
    let best = (0..REPEATS)
        .map(|_| together(threads, |_| chains()))
        .fold(f64::MAX, f64::min);
    Some(operations * threads as f64 / best / 1e9)
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
use hardware::{bf16, f32};

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod hardware {
    use std::arch::asm;
    use std::arch::x86_64::{
        __m512bh, _mm512_dpbf16_ps, _mm512_fmadd_ps, _mm512_reduce_add_ps, _mm512_set1_ps,
        _mm512_setzero_ps,
    };

    use super::{Chains, Isa, black_box};

    /// Steps of a call: milliseconds, so that starting together does not matter.
    const STEPS: usize = 1 << 20;
    const CHAINS: usize = 24;

    /// Tiles where they are present and permitted, else the product of pairs.
    pub(super) fn bf16() -> Option<Chains> {
        if Isa::available().iter().any(|isa| isa.name() == "amx") {
            // Four products of 16 x 16 sums over 32 inputs a step.
            return Some(((STEPS * 4 * 2 * 16 * 16 * 32) as f64, tiles));
        }
        if !is_x86_feature_detected!("avx512bf16") {
            return None;
        }
        #[target_feature(enable = "avx512bf16,avx512f")]
        fn chains(pairs: __m512bh) -> f32 {
            let mut sums = [_mm512_setzero_ps(); CHAINS];
            for _ in 0..STEPS {
                for sum in &mut sums {
                    *sum = _mm512_dpbf16_ps(*sum, pairs, pairs);
                }
            }
            sums.into_iter().map(|sum| _mm512_reduce_add_ps(sum)).sum()
        }
        // SAFETY: zeros are a value of the type, and the instruction is present.
        let run = || unsafe {
            black_box(chains(black_box(std::mem::zeroed())));
        };
        Some(((STEPS * CHAINS * 64) as f64, run))
    }

    pub(super) fn f32() -> Option<Chains> {
        if !is_x86_feature_detected!("avx512f") {
            return None;
        }
        #[target_feature(enable = "avx512f")]
        fn chains(x: f32) -> f32 {
            let x = _mm512_set1_ps(x);
            let mut sums = [_mm512_setzero_ps(); CHAINS];
            for _ in 0..STEPS {
                for sum in &mut sums {
                    *sum = _mm512_fmadd_ps(x, x, *sum);
                }
            }
            sums.into_iter().map(|sum| _mm512_reduce_add_ps(sum)).sum()
        }
        // SAFETY: the instruction is present.
        let run = || unsafe {
            black_box(chains(black_box(0.5)));
        };
        Some(((STEPS * CHAINS * 32) as f64, run))
    }

    /// Zeros times zeros, four products in flight; the speed does not depend on the values.
    fn tiles() {
        #[repr(C, align(64))]
        struct Shape([u8; 64]);
        let mut shape = Shape([0; 64]);
        shape.0[0] = 1;
        for tile in 0..8 {
            shape.0[16 + 2 * tile] = 64;
            shape.0[48 + tile] = 16;
        }
        // SAFETY: the tiles are present and permitted (`Isa::available`), they are shaped before
        // use and given back, and no memory is touched but the shape.
        unsafe {
            asm!(
                "ldtilecfg [{shape}]",
                "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
                "tilezero tmm4", "tilezero tmm5", "tilezero tmm6", "tilezero tmm7",
                "2:",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "dec {steps}",
                "jnz 2b",
                "tilerelease",
                shape = in(reg) &raw const shape,
                steps = inout(reg) STEPS => _,
                options(nostack),
            );
        }
    }
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
fn bf16() -> Option<Chains> {
    None
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
fn f32() -> Option<Chains> {
    None
}
