//! The fast products: every instruction set against sums in `f64` of the rounded operands, and
//! the same bits however rows, columns and batches are split.
//!
//! An instruction set that this machine lacks is not tested; one test says which.
#![allow(clippy::float_cmp, clippy::print_stderr, reason = "tests")]

use std::ops::Range;

use openledger_kernels::{Format, Isa, Lhs, Packed, Rhs, Store, Weight};
use proptest::prelude::*;

const FORMATS: [Format; 3] = [Format::Bf16, Format::Int8, Format::Nf4];

/// Reproducible numbers in -1 to 1, from a seed.
fn numbers(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..count)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

/// Rounds to bf16 by the definition: of the two neighbours the nearer, of equals the even one.
fn bf16(x: f32) -> f32 {
    let below = f32::from_bits(x.to_bits() & 0xffff_0000);
    let above = f32::from_bits((x.to_bits() & 0xffff_0000).wrapping_add(0x1_0000));
    let (low, high) = (f64::from(x - below).abs(), f64::from(above - x).abs());
    let even = below.to_bits() >> 16 & 1 == 0;
    if low < high || (low == high && even) {
        below
    } else {
        above
    }
}

/// The matrix that a weight stands for, row-major.
fn matrix(w: &Weight) -> Vec<f32> {
    let mut all = vec![0.0; w.outputs() * w.inputs()];
    for (j, row) in all.chunks_exact_mut(w.inputs()).enumerate() {
        w.row(j, row);
    }
    all
}

/// `start + a . b` of rounded numbers in `f64`, and how far an `f32` chain may be from it.
fn exact(start: f32, a: impl Iterator<Item = f32>, b: impl Iterator<Item = f32>) -> (f64, f64) {
    let (mut sum, mut size, mut count) = (f64::from(start), f64::from(start.abs()), 1.0);
    for (x, y) in a.zip(b) {
        let product = f64::from(bf16(x)) * f64::from(bf16(y));
        sum += product;
        size += product.abs();
        count += 1.0;
    }
    // Each of `count` additions rounds to 2^-24 of a partial sum, which `size` bounds.
    (sum, size * count * f64::from(f32::EPSILON) / 2.0)
}

#[track_caller]
fn check(isa: Isa, found: f32, (want, within): (f64, f64)) {
    let off = (f64::from(found) - want).abs();
    assert!(
        off <= within,
        "{}: {found} is {off:e} from {want}, allowed {within:e}",
        isa.name()
    );
}

fn store(accumulate: bool) -> Store {
    if accumulate {
        Store::Accumulate
    } else {
        Store::Overwrite
    }
}

/// Part of a dimension.
fn part(size: usize, cut: (usize, usize)) -> Range<usize> {
    let (a, b) = (cut.0 % (size + 1), cut.1 % (size + 1));
    a.min(b)..a.max(b)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..Default::default() })]

    #[test]
    fn project_is_the_product_with_the_transpose(
        m in 1_usize..40, outputs in 1_usize..100, inputs in 1_usize..900, seed: u64,
        cut: (usize, usize), accumulate: bool, spare in 0_usize..3, format in 0_usize..3,
    ) {
        let w = Weight::pack(FORMATS[format], &numbers(seed, outputs * inputs), outputs, inputs);
        let stands = matrix(&w);
        let part = part(outputs, cut);
        let (xs, ys) = (inputs + spare, part.len() + spare);
        let (x, y) = (numbers(seed ^ 1, m * xs), numbers(seed ^ 2, m * ys));
        for isa in Isa::available() {
            let mut found = y.clone();
            isa.project(m, &x, xs, &w, part.clone(), &mut found, ys, store(accumulate));
            for i in 0..m {
                for j in part.clone() {
                    let old = y[i * ys + j - part.start];
                    let start = if accumulate { old } else { 0.0 };
                    let row = &stands[j * inputs..][..inputs];
                    let want = exact(start, x[i * xs..][..inputs].iter().copied(), row.iter().copied());
                    check(isa, found[i * ys + j - part.start], want);
                }
                prop_assert_eq!(&found[i * ys + part.len()..(i + 1) * ys], &y[i * ys + part.len()..(i + 1) * ys]);
            }
        }
    }

    #[test]
    fn project_back_is_the_product(
        m in 1_usize..40, outputs in 1_usize..900, inputs in 1_usize..100, seed: u64,
        cut: (usize, usize), accumulate: bool, spare in 0_usize..3, format in 0_usize..3,
    ) {
        let w = Weight::pack(FORMATS[format], &numbers(seed, outputs * inputs), outputs, inputs);
        let stands = matrix(&w);
        let part = part(inputs, cut);
        let (ys, xs) = (outputs + spare, part.len() + spare);
        let (dy, dx) = (numbers(seed ^ 1, m * ys), numbers(seed ^ 2, m * xs));
        for isa in Isa::available() {
            let mut found = dx.clone();
            isa.project_back(m, &dy, ys, &w, part.clone(), &mut found, xs, store(accumulate));
            for i in 0..m {
                for p in part.clone() {
                    let old = dx[i * xs + p - part.start];
                    let start = if accumulate { old } else { 0.0 };
                    let column = stands[p..].iter().step_by(inputs).copied();
                    let want = exact(start, dy[i * ys..][..outputs].iter().copied(), column);
                    check(isa, found[i * xs + p - part.start], want);
                }
                prop_assert_eq!(&found[i * xs + part.len()..(i + 1) * xs], &dx[i * xs + part.len()..(i + 1) * xs]);
            }
        }
    }

    #[test]
    fn gemm_bf16_is_the_product(
        m in 1_usize..60, n in 1_usize..100, k in 0_usize..900, seed: u64,
        transposed: bool, accumulate: bool, packed: bool, spare in 0_usize..3,
    ) {
        let (a, b) = (numbers(seed, m * k), numbers(seed ^ 1, k * n));
        let c = numbers(seed ^ 2, m * (n + spare));
        let flipped: Vec<f32> =
            (0..n).flat_map(|j| (0..k).map(move |p| (p, j))).map(|(p, j)| b[p * n + j]).collect();
        let pack = Packed::transpose_of(&flipped, n, k);
        for isa in Isa::available() {
            let right = if packed { pack.rhs() } else { Rhs::rows(&b, n) };
            let left = if transposed { Lhs::transposed(&a, m) } else { Lhs::rows(&a, k) };
            let mut found = c.clone();
            isa.gemm_bf16(m, n, k, left, right, &mut found, n + spare, store(accumulate));
            for i in 0..m {
                for j in 0..n {
                    let start = if accumulate { c[i * (n + spare) + j] } else { 0.0 };
                    let row = (0..k).map(|p| if transposed { a[p * m + i] } else { a[i * k + p] });
                    check(isa, found[i * (n + spare) + j], exact(start, row, (0..k).map(|p| b[p * n + j])));
                }
            }
        }
    }

    #[test]
    fn bits_do_not_depend_on_the_split(
        m in 1_usize..50, outputs in 1_usize..200, inputs in 1_usize..700, seed: u64,
        row in any::<usize>(), column in any::<usize>(), format in 0_usize..3,
    ) {
        let w = Weight::pack(FORMATS[format], &numbers(seed, outputs * inputs), outputs, inputs);
        let (x, dy) = (numbers(seed ^ 1, m * inputs), numbers(seed ^ 2, m * outputs));
        let (mut whole, mut back) = (vec![0.0; m * outputs], vec![0.0; m * inputs]);
        for isa in Isa::available() {
            isa.project(m, &x, inputs, &w, 0..outputs, &mut whole, outputs, Store::Overwrite);
            isa.project_back(m, &dy, outputs, &w, 0..inputs, &mut back, inputs, Store::Overwrite);
            let (cut, j, p) = (row % (m + 1), column % (outputs + 1), column % (inputs + 1));
            let (mut y, mut dx) = (vec![0.0; m * outputs], vec![0.0; m * inputs]);
            for rows in [0..cut, cut..m].into_iter().filter(|rows| !rows.is_empty()) {
                let count = rows.len();
                for part in [0..j, j..outputs] {
                    isa.project(count, &x[rows.start * inputs..], inputs, &w, part.clone(),
                        &mut y[rows.start * outputs + part.start.min(outputs - 1)..], outputs, Store::Overwrite);
                }
                for part in [0..p, p..inputs] {
                    isa.project_back(count, &dy[rows.start * outputs..], outputs, &w, part.clone(),
                        &mut dx[rows.start * inputs + part.start.min(inputs - 1)..], inputs, Store::Overwrite);
                }
            }
            prop_assert_eq!(bits(&y), bits(&whole), "{}", isa.name());
            prop_assert_eq!(bits(&dx), bits(&back), "{}", isa.name());
        }
    }

    #[test]
    fn a_format_only_says_which_bf16_numbers(
        m in 1_usize..30, outputs in 1_usize..100, inputs in 1_usize..300, seed: u64, int8: bool,
    ) {
        let format = if int8 { Format::Int8 } else { Format::Nf4 };
        let w = Weight::pack(format, &numbers(seed, outputs * inputs), outputs, inputs);
        let plain = Weight::pack(Format::Bf16, &matrix(&w), outputs, inputs);
        prop_assert_eq!(bits(&matrix(&w)), bits(&matrix(&plain)));
        let (x, dy) = (numbers(seed ^ 1, m * inputs), numbers(seed ^ 2, m * outputs));
        for isa in Isa::available() {
            let both = [&w, &plain].map(|w| {
                let mut y = vec![0.0; m * (outputs + inputs)];
                let (y, dx) = y.split_at_mut(m * outputs);
                isa.project(m, &x, inputs, w, 0..outputs, y, outputs, Store::Overwrite);
                isa.project_back(m, &dy, outputs, w, 0..inputs, dx, inputs, Store::Overwrite);
                [bits(y), bits(dx)]
            });
            prop_assert_eq!(&both[0], &both[1], "{}", isa.name());
        }
    }
}

/// Depth beyond what is rounded at once, more rows than fit, in both directions.
#[test]
fn blocks_over_depth_and_rows_continue_the_chain() {
    let (m, outputs, inputs) = (301, 70, 2500);
    let data = numbers(5, outputs * inputs);
    let w = Weight::pack(Format::Bf16, &data, outputs, inputs);
    let turned: Vec<f32> = (0..inputs)
        .flat_map(|p| (0..outputs).map(move |j| (p, j)))
        .map(|(p, j)| data[j * inputs + p])
        .collect();
    let back = Weight::pack(Format::Bf16, &turned, inputs, outputs);
    let x = numbers(6, m * inputs);
    for isa in Isa::available() {
        let (mut y, mut z, mut g) = (
            vec![0.0; m * outputs],
            vec![0.0; m * outputs],
            vec![0.0; m * outputs],
        );
        isa.project(
            m,
            &x,
            inputs,
            &w,
            0..outputs,
            &mut y,
            outputs,
            Store::Overwrite,
        );
        isa.project_back(
            m,
            &x,
            inputs,
            &back,
            0..outputs,
            &mut z,
            outputs,
            Store::Overwrite,
        );
        isa.gemm_bf16(
            m,
            outputs,
            inputs,
            Lhs::rows(&x, inputs),
            Rhs::rows(&turned, outputs),
            &mut g,
            outputs,
            Store::Overwrite,
        );
        assert_eq!(bits(&y), bits(&z), "{}", isa.name());
        assert_eq!(bits(&y), bits(&g), "{}", isa.name());
        for (i, j) in [(0, 0), (300, 69), (151, 33)] {
            let want = exact(
                0.0,
                x[i * inputs..][..inputs].iter().copied(),
                data[j * inputs..][..inputs].iter().copied(),
            );
            check(isa, y[i * outputs + j], want);
        }
    }
}

/// The chain is the same one on every set but AMX, as long as nothing is subnormal.
#[test]
fn sets_with_pair_products_agree() {
    let (m, outputs, inputs) = (17, 40, 333);
    let w = Weight::pack(Format::Bf16, &numbers(1, outputs * inputs), outputs, inputs);
    let x = numbers(2, m * inputs);
    let run = |isa: Isa| {
        let mut y = vec![0.0; m * outputs];
        isa.project(
            m,
            &x,
            inputs,
            &w,
            0..outputs,
            &mut y,
            outputs,
            Store::Overwrite,
        );
        bits(&y)
    };
    for isa in Isa::available()
        .into_iter()
        .filter(|isa| isa.name() != "amx")
    {
        assert_eq!(run(isa), run(Isa::PORTABLE), "{}", isa.name());
    }
}

/// Weights of a normal distribution, as models have them: the error of each format relative to
/// the weights' own size, which for an ideal 4-bit and 8-bit code is about 0.09 and 0.005.
#[test]
fn quantisation_errors_are_those_of_the_formats() {
    let (outputs, inputs) = (64, 1024);
    let uniform = numbers(3, 12 * outputs * inputs);
    let data: Vec<f32> = uniform
        .chunks_exact(12)
        .map(|c| 0.02 * c.iter().sum::<f32>() / 2.0)
        .collect();
    for (format, bits_each, most) in [
        (Format::Bf16, 16.0, 0.0025),
        (Format::Int8, 8.5, 0.008),
        (Format::Nf4, 4.5, 0.095),
    ] {
        let w = Weight::pack(format, &data, outputs, inputs);
        assert_eq!(w.bytes() as f64 * 8.0, bits_each * data.len() as f64);
        let off: f64 = matrix(&w)
            .iter()
            .zip(&data)
            .map(|(a, b)| f64::from(a - b).powi(2))
            .sum();
        let size: f64 = data.iter().map(|x| f64::from(*x).powi(2)).sum();
        let error = (off / size).sqrt();
        assert!(error < most && error > most / 3.0, "{format:?}: {error}");
    }
}

#[test]
fn filling_again_leaves_nothing_behind() {
    for format in FORMATS {
        let (first, second) = (numbers(1, 33 * 65), numbers(2, 33 * 65));
        let mut w = Weight::pack(format, &first, 33, 65);
        w.fill(&second);
        assert_eq!(
            bits(&matrix(&w)),
            bits(&matrix(&Weight::pack(format, &second, 33, 65)))
        );
        w.fill(&vec![0.0; 33 * 65]);
        assert!(matrix(&w).iter().all(|x| *x == 0.0));
    }
}
