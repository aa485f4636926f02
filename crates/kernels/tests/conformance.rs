//! Every kernel: the same bits on every instruction set, the definition in plain scalar code
//! where there is one, and finite differences for what claims to be a gradient.
#![allow(clippy::unwrap_used, clippy::float_cmp, reason = "tests")]

use openledger_kernels::{
    AttentionBackward, AttentionForward, Buffer, Isa, Lhs, Packed, Rhs, RopeTable, Store,
};
use proptest::prelude::*;

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

/// Runs on every instruction set and returns the one result they share.
#[track_caller]
fn on_all(run: impl Fn(Isa) -> Vec<f32>) -> Vec<f32> {
    let want = run(Isa::PORTABLE);
    for isa in Isa::available() {
        assert_eq!(bits(&run(isa)), bits(&want), "{}", isa.name());
    }
    want
}

/// Central difference of `f` at `x` along coordinate `i`.
fn slope(x: &[f32], i: usize, mut f: impl FnMut(&[f32]) -> f64) -> f64 {
    let step = 1e-2;
    let mut at = |delta: f32| {
        let mut moved = x.to_vec();
        moved[i] += delta;
        (f(&moved), moved[i])
    };
    let ((high, a), (low, b)) = (at(step), at(-step));
    (high - low) / f64::from(a - b)
}

#[track_caller]
fn check_gradient(x: &[f32], gradient: &[f32], mut f: impl FnMut(&[f32]) -> f64) {
    for (i, want) in gradient.iter().enumerate() {
        let found = slope(x, i, &mut f);
        let want = f64::from(*want);
        assert!(
            (found - want).abs() < 2e-3 + 2e-2 * want.abs(),
            "{i}: slope {found}, got {want}"
        );
    }
}

/// `sum of x_i w_i`, a scalar function whose gradient with respect to `x` is `w`.
fn weigh(x: &[f32], w: &[f32]) -> f64 {
    x.iter()
        .zip(w)
        .map(|(x, w)| f64::from(*x) * f64::from(*w))
        .sum()
}

#[derive(Clone, Copy, Debug)]
enum Layout {
    Packed,
    Rows,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 160, failure_persistence: None, ..Default::default() })]

    #[test]
    fn a_product_is_one_fused_chain_per_element(
        m in 1_usize..40, n in 1_usize..100, k in 0_usize..300, seed: u64,
        transposed: bool, accumulate: bool, packed: bool, spare in 0_usize..3,
    ) {
        let layout = if packed { Layout::Packed } else { Layout::Rows };
        let (a, b, c) =
            (numbers(seed, m * k), numbers(seed ^ 1, k * n), numbers(seed ^ 2, m * (n + spare)));
        let left = |i: usize, p: usize| if transposed { a[p * m + i] } else { a[i * k + p] };
        let mut want = c.clone();
        for i in 0..m {
            for j in 0..n {
                let start = if accumulate { c[i * (n + spare) + j] } else { 0.0 };
                want[i * (n + spare) + j] =
                    (0..k).fold(start, |sum, p| left(i, p).mul_add(b[p * n + j], sum));
            }
        }
        let flipped: Vec<f32> =
            (0..n).flat_map(|j| (0..k).map(move |p| (p, j))).map(|(p, j)| b[p * n + j]).collect();
        let store = if accumulate { Store::Accumulate } else { Store::Overwrite };
        let found = on_all(|isa| {
            let pack = Packed::transpose_of(&flipped, n, k);
            let right = match layout {
                Layout::Packed => pack.rhs(),
                Layout::Rows => Rhs::rows(&b, n),
            };
            let left = if transposed { Lhs::transposed(&a, m) } else { Lhs::rows(&a, k) };
            let mut c = c.clone();
            isa.gemm(m, n, k, left, right, &mut c, n + spare, store);
            c
        });
        prop_assert_eq!(bits(&found), bits(&want));
    }

    #[test]
    fn rows_agree_on_every_instruction_set(rows in 1_usize..6, half in 1_usize..60, seed: u64) {
        let width = 2 * half;
        let (x, y) = (numbers(seed, rows * width), numbers(seed ^ 1, rows * width));
        let (w, wide) = (numbers(seed ^ 2, width), numbers(seed ^ 3, 2 * rows * width));
        on_all(|isa| vec![isa.dot(&x, &y), isa.sum(&x)]);
        on_all(|isa| {
            let (mut out, mut inverse) = (vec![0.0; x.len()], vec![0.0; rows]);
            isa.rms_norm(&x, &w, 1e-5, &mut out, &mut inverse);
            let (mut dx, mut dw) = (y.clone(), w.clone());
            isa.rms_norm_backward(&y, &x, &w, &inverse, &mut dx, &mut dw);
            [out, inverse, dx, dw].concat()
        });
        on_all(|isa| {
            let (mut out, mut back) = (vec![0.0; x.len()], vec![0.0; wide.len()]);
            isa.silu_gate(&wide, width, &mut out);
            isa.silu_gate_backward(&y, &wide, width, &mut back);
            [out, back].concat()
        });
        on_all(|isa| {
            let mut logits: Vec<f32> = x.iter().map(|x| x * 30.0).collect();
            let all = isa.log_sum_exp(&logits[..width], &mut Vec::new());
            let targets: Vec<u32> = (0..rows).map(|i| (i * 7 % width) as u32).collect();
            let loss = isa.cross_entropy(&mut logits, width, &targets, 0.25);
            logits.extend([loss as f32, all as f32]);
            logits
        });
        on_all(|isa| {
            let mut turned = x.clone();
            let table = RopeTable::new(rows + 3, width, 10_000.0);
            isa.rope(&mut turned, width, rows, 1, &table, 3, false);
            turned
        });
        on_all(|isa| {
            let mut sums = y.clone();
            isa.add(&mut sums, &x);
            isa.scale(&mut sums, 0.3);
            isa.add_scaled(&mut sums, 0.7, &x);
            isa.softmax(&mut sums[..width]);
            let tokens: Vec<u32> = (0..rows as u32).map(|i| i * 3 % rows as u32).collect();
            let mut gathered = vec![0.0; x.len()];
            isa.gather(&x, width, &tokens, &mut gathered);
            isa.scatter_add(&y, width, &tokens, &mut sums);
            [sums, gathered].concat()
        });
    }

    #[test]
    fn attention_of_a_row_does_not_depend_on_its_neighbours(
        rows in 1_usize..80, head_dim in 1_usize..40, seed: u64,
    ) {
        let (q, k, v) = (
            numbers(seed, rows * head_dim),
            numbers(seed ^ 1, rows * head_dim),
            numbers(seed ^ 2, rows * head_dim),
        );
        let keys = Packed::transpose_of(&k, rows, head_dim);
        let attend = |isa: Isa, first: usize, count: usize| {
            let job = AttentionForward {
                queries: &q[first * head_dim..],
                query_stride: head_dim,
                rows: count,
                head_dim,
                keys: keys.rhs(),
                values: &v,
                value_stride: head_dim,
                visible: first + 1,
                grow: 1,
            };
            let mut out = vec![f32::NAN; count * head_dim];
            isa.attention(&job, &mut out, head_dim, &mut Buffer::default());
            out
        };
        let whole = on_all(|isa| attend(isa, 0, rows));
        let alone = on_all(|isa| (0..rows).flat_map(|i| attend(isa, i, 1)).collect());
        prop_assert_eq!(bits(&whole), bits(&alone));
    }
}

#[test]
fn operands_that_are_too_short_are_refused() {
    let data = [0.0; 64];
    let short = |m, n, k, row, ldc| {
        std::panic::catch_unwind(|| {
            let (a, b) = (Lhs::rows(&data, row), Rhs::rows(&data, row));
            Isa::best().gemm(m, n, k, a, b, &mut [0.0; 64], ldc, Store::Overwrite);
        })
        .is_err()
    };
    assert!(!short(8, 8, 8, 8, 8));
    assert!(short(9, 8, 8, 8, 8) && short(8, 9, 8, 8, 9) && short(8, 8, 9, 8, 8));
    assert!(short(8, 8, 8, 8, 7));
    // Products of sizes that wrap around to something small.
    let huge = usize::MAX / 2 + 1;
    assert!(short(3, 1, 1, huge, huge) && short(3, 1, 1, huge, 1) && short(1, 1, 3, huge, 1));
}

#[test]
fn rms_norm_backward_is_its_gradient() {
    let (x, w, dy) = (numbers(1, 38), numbers(2, 19), numbers(3, 38));
    let isa = Isa::best();
    let norm = |x: &[f32], w: &[f32]| {
        let (mut y, mut inverse) = (vec![0.0; 38], vec![0.0; 2]);
        isa.rms_norm(x, w, 1e-5, &mut y, &mut inverse);
        (y, inverse)
    };
    let (mut dx, mut dw) = (vec![0.0; 38], vec![0.0; 19]);
    isa.rms_norm_backward(&dy, &x, &w, &norm(&x, &w).1, &mut dx, &mut dw);
    check_gradient(&x, &dx, |x| weigh(&norm(x, &w).0, &dy));
    check_gradient(&w, &dw, |w| weigh(&norm(&x, w).0, &dy));
}

#[test]
fn silu_gate_backward_is_its_gradient() {
    let x: Vec<f32> = numbers(4, 44).iter().map(|x| x * 3.0).collect();
    let dy = numbers(5, 22);
    let isa = Isa::best();
    let mut dx = vec![0.0; 44];
    isa.silu_gate_backward(&dy, &x, 11, &mut dx);
    check_gradient(&x, &dx, |x| {
        let mut y = vec![0.0; 22];
        isa.silu_gate(x, 11, &mut y);
        weigh(&y, &dy)
    });
}

#[test]
fn cross_entropy_leaves_its_gradient() {
    let x: Vec<f32> = numbers(6, 34).iter().map(|x| x * 4.0).collect();
    let isa = Isa::best();
    let mut dx = x.clone();
    isa.cross_entropy(&mut dx, 17, &[3, 16], 0.5);
    check_gradient(&x, &dx, |x| {
        0.5 * isa.cross_entropy(&mut x.to_vec(), 17, &[3, 16], 1.0)
    });
}

#[test]
fn cross_entropy_is_right_far_from_zero() {
    let mut logits = vec![1000.0, 999.0, -1000.0];
    let loss = Isa::best().cross_entropy(&mut logits, 3, &[1], 1.0);
    let want = (1.0_f64 + 1.0_f64.exp()).ln();
    assert!((loss - want).abs() < 1e-6, "{loss} is not {want}");
}

#[test]
fn rope_turns_pairs_and_back() {
    let isa = Isa::best();
    let x = numbers(7, 5 * 2 * 8);
    let table = RopeTable::new(9, 8, 10_000.0);
    let mut turned = x.clone();
    isa.rope(&mut turned, 16, 5, 2, &table, 4, false);
    // Position 4 is the first row: pair (0, 4) turns by 4 radians.
    let (sin, cos) = 4.0_f64.sin_cos();
    let want = f64::from(x[0]) * cos - f64::from(x[4]) * sin;
    assert!((f64::from(turned[0]) - want).abs() < 1e-6);
    isa.rope(&mut turned, 16, 5, 2, &table, 4, true);
    for (a, b) in turned.iter().zip(&x) {
        assert!((a - b).abs() < 1e-6);
    }
}

#[test]
fn attention_is_softmax_of_scores_times_values() {
    let (rows, hd) = (37, 6);
    let (q, k, v) = (
        numbers(8, rows * hd),
        numbers(9, rows * hd),
        numbers(10, rows * hd),
    );
    let keys = Packed::transpose_of(&k, rows, hd);
    let job = AttentionForward {
        queries: &q,
        query_stride: hd,
        rows,
        head_dim: hd,
        keys: keys.rhs(),
        values: &v,
        value_stride: hd,
        visible: 1,
        grow: 1,
    };
    let mut out = vec![0.0; rows * hd];
    Isa::best().attention(&job, &mut out, hd, &mut Buffer::default());
    for i in 0..rows {
        let weight = |p: usize| {
            let score = weigh(&q[i * hd..][..hd], &k[p * hd..][..hd]);
            (score / (hd as f64).sqrt()).exp()
        };
        let total: f64 = (0..=i).map(weight).sum();
        for d in 0..hd {
            let sum: f64 = (0..=i).map(|p| weight(p) * f64::from(v[p * hd + d])).sum();
            assert!((f64::from(out[i * hd + d]) - sum / total).abs() < 1e-5);
        }
    }
}

#[test]
fn attention_backward_is_its_gradient_on_every_instruction_set() {
    // One key head shared by two query heads, rows over more than one block.
    let (rows, hd) = (35, 4);
    let stride = 4 * hd;
    let (qkv, d_out) = (numbers(11, rows * stride), numbers(12, rows * 2 * hd));
    let heads = |isa: Isa, qkv: &[f32]| {
        let mut keys = Packed::default();
        keys.fill_transposed(&qkv[2 * hd..], stride, rows, hd);
        let mut out = vec![0.0; rows * 2 * hd];
        for head in 0..2 {
            let job = AttentionForward {
                queries: &qkv[head * hd..],
                query_stride: stride,
                rows,
                head_dim: hd,
                keys: keys.rhs(),
                values: &qkv[3 * hd..],
                value_stride: stride,
                visible: 1,
                grow: 1,
            };
            isa.attention(&job, &mut out[head * hd..], 2 * hd, &mut Buffer::default());
        }
        out
    };
    let gradient = on_all(|isa| {
        let (mut keys, mut values) = (Packed::default(), Packed::default());
        keys.fill_transposed(&qkv[2 * hd..], stride, rows, hd);
        values.fill_transposed(&qkv[3 * hd..], stride, rows, hd);
        let mut d_qkv = vec![0.0; rows * stride];
        for head in 0..2 {
            let job = AttentionBackward {
                qkv: &qkv,
                stride,
                query_at: head * hd,
                key_at: 2 * hd,
                value_at: 3 * hd,
                rows,
                head_dim: hd,
                keys: &keys,
                values: &values,
            };
            let d_out = &d_out[head * hd..];
            isa.attention_backward(&job, d_out, 2 * hd, &mut d_qkv, &mut Buffer::default());
        }
        d_qkv
    });
    check_gradient(&qkv, &gradient, |qkv| {
        weigh(&heads(Isa::best(), qkv), &d_out)
    });
}
