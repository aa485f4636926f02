//! Every kernel: the same bits on every instruction set, the definition in plain scalar code
//! where there is one, and finite differences for what claims to be a gradient.
#![allow(clippy::unwrap_used, clippy::float_cmp, reason = "tests")]

use openledger_kernels::math::{sigmoid, tanh};
use openledger_kernels::rope::{self, Yarn};
use openledger_kernels::{Activation, Isa, Lhs, Packed, Rhs, RopeTable, Store};
use proptest::prelude::*;

mod common;
use common::{bits, check_gradient, numbers, on_all, weigh};

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
    fn steps_of_other_architectures_are_their_definitions(
        rows in 1_usize..6, heads in 1_usize..4, half in 1_usize..40, seed: u64, cap in 1_f32..60.0,
    ) {
        let width = 2 * half;
        let x: Vec<f32> = numbers(seed, 2 * rows * width).iter().map(|x| x * 8.0).collect();
        let dy = numbers(seed ^ 1, rows * width);
        for activation in [Activation::Silu, Activation::GeluTanh] {
            let found = on_all(|isa| {
                let (mut out, mut back) = (vec![0.0; rows * width], vec![0.0; x.len()]);
                isa.gate(activation, &x, width, &mut out);
                isa.gate_backward(activation, &dy, &x, width, &mut back);
                [out, back].concat()
            });
            let mut want = vec![0.0; found.len()];
            for i in 0..rows * width {
                let at = i / width * 2 * width + i % width;
                let (g, u) = (x[at], x[at + width]);
                let (s, slope) = match activation {
                    Activation::Silu => {
                        let s = sigmoid(g);
                        (s, (1.0 - s).mul_add(g * s, s))
                    }
                    Activation::GeluTanh => {
                        let z = g * g;
                        let s = sigmoid(g * 0.071_354_814_f32.mul_add(z, 1.595_769_2));
                        let inner = 0.214_064_45_f32.mul_add(z, 1.595_769_2);
                        (s, ((1.0 - s) * inner).mul_add(g * s, s))
                    }
                };
                want[i] = (g * s) * u;
                want[rows * width + at] = (dy[i] * u) * slope;
                want[rows * width + at + width] = dy[i] * (g * s);
            }
            prop_assert_eq!(bits(&found), bits(&want));
        }

        let found = on_all(|isa| {
            let (mut y, mut slopes) = (x.clone(), vec![0.0; x.len()]);
            isa.soft_cap(&mut y, cap, &mut slopes);
            let mut only = x.clone();
            isa.soft_cap(&mut only, cap, &mut []);
            isa.multiply(&mut slopes, &y);
            assert_eq!(bits(&y), bits(&only));
            [y, slopes].concat()
        });
        for (i, x) in x.iter().enumerate() {
            let t = tanh(x * (1.0 / cap));
            prop_assert_eq!(found[i].to_bits(), (cap * t).to_bits());
            let slope = (-t).mul_add(t, 1.0);
            prop_assert_eq!(found[found.len() / 2 + i].to_bits(), (slope * (cap * t)).to_bits());
        }

        let found = on_all(|isa| {
            let mut filled = vec![f32::NAN; rows * width];
            isa.fill_rows(&mut filled, &dy[..width]);
            let mut sums = x[..width].to_vec();
            isa.add_rows(&dy, &mut sums);
            [filled, sums].concat()
        });
        for i in 0..width {
            prop_assert!((0..rows).all(|row| found[row * width + i] == dy[i]));
            let sum = (0..rows).fold(x[i], |sum, row| sum + dy[row * width + i]);
            prop_assert_eq!(found[rows * width + i].to_bits(), sum.to_bits());
        }

        // Heads inside wider rows are the rows of a plain norm.
        let (stride, weight) = (heads * width + 5, numbers(seed ^ 2, width));
        let wide = numbers(seed ^ 3, rows * stride);
        let d = numbers(seed ^ 4, rows * stride);
        let places = |row: usize, head: usize| row * stride + head * width..row * stride + (head + 1) * width;
        let found = on_all(|isa| {
            let (mut y, mut inverse) = (wide.clone(), vec![0.0; rows * heads]);
            isa.rms_norm_heads(&mut y, stride, rows, heads, &weight, 1e-6, &mut inverse);
            let (mut back, mut dw) = (d.clone(), vec![0.0; width]);
            isa.rms_norm_heads_backward(
                &mut back, stride, &wide, stride, rows, heads, &weight, &inverse, &mut dw,
            );
            [y, back, dw].concat()
        });
        let (mut want, mut want_d, mut dw) = (wide.clone(), d.clone(), vec![0.0; width]);
        for row in 0..rows {
            for head in 0..heads {
                let at = places(row, head);
                let (mut inverse, isa) = ([0.0], Isa::PORTABLE);
                isa.rms_norm(&wide[at.clone()], &weight, 1e-6, &mut want[at.clone()], &mut inverse);
                let mut dx = vec![0.0; width];
                isa.rms_norm_backward(
                    &d[at.clone()], &wide[at.clone()], &weight, &inverse, &mut dx, &mut dw,
                );
                want_d[at].copy_from_slice(&dx);
            }
        }
        // `-0.0` where the plain backward, which adds to zero, has `0.0`.
        prop_assert!(found.iter().zip([want, want_d, dw].concat()).all(|(a, b)| *a == b));
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
fn geglu_backward_is_its_gradient_and_close_to_the_tanh_form() {
    let x: Vec<f32> = numbers(14, 44).iter().map(|x| x * 3.0).collect();
    let dy = numbers(15, 22);
    let isa = Isa::best();
    let gate = |x: &[f32]| {
        let mut y = vec![0.0; 22];
        isa.gate(Activation::GeluTanh, x, 11, &mut y);
        y
    };
    for (i, y) in gate(&x).into_iter().enumerate() {
        let at = i / 11 * 22 + i % 11;
        let (g, u) = (f64::from(x[at]), f64::from(x[at + 11]));
        let inner = (2.0 / std::f64::consts::PI).sqrt() * (g + 0.044_715 * g.powi(3));
        let want = 0.5 * g * (1.0 + inner.tanh()) * u;
        assert!((f64::from(y) - want).abs() < 1e-6 * want.abs().max(0.1));
    }
    let mut dx = vec![0.0; 44];
    isa.gate_backward(Activation::GeluTanh, &dy, &x, 11, &mut dx);
    check_gradient(&x, &dx, |x| weigh(&gate(x), &dy));
}

#[test]
fn cross_entropy_through_a_soft_cap_leaves_its_gradient() {
    let x: Vec<f32> = numbers(16, 34).iter().map(|x| x * 9.0).collect();
    let isa = Isa::best();
    let loss = |x: &[f32], factor: f32| {
        let (mut x, mut slopes) = (x.to_vec(), vec![0.0; x.len()]);
        isa.soft_cap(&mut x, 5.0, &mut slopes);
        let loss = isa.cross_entropy(&mut x, 17, &[3, 16], factor);
        isa.multiply(&mut x, &slopes);
        (loss, x)
    };
    check_gradient(&x, &loss(&x, 0.5).1, |x| 0.5 * loss(x, 1.0).0);
}

#[test]
fn rms_norm_heads_backward_is_its_gradient() {
    // Two heads of six in rows of fifteen.
    let (x, w, dy) = (numbers(17, 30), numbers(18, 6), numbers(19, 30));
    let isa = Isa::best();
    let norm = |x: &[f32], w: &[f32]| {
        let (mut y, mut inverse) = (x.to_vec(), vec![0.0; 4]);
        isa.rms_norm_heads(&mut y, 15, 2, 2, w, 1e-5, &mut inverse);
        (y, inverse)
    };
    let (mut dx, mut dw) = (dy.clone(), vec![0.0; 6]);
    let inverse = norm(&x, &w).1;
    isa.rms_norm_heads_backward(&mut dx, 15, &x, 15, 2, 2, &w, &inverse, &mut dw);
    check_gradient(&x, &dx, |x| weigh(&norm(x, &w).0, &dy));
    check_gradient(&w, &dw, |w| weigh(&norm(&x, w).0, &dy));
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
fn rope_backward_is_the_transpose_with_an_attention_factor_too() {
    let isa = Isa::best();
    let (x, dy) = (numbers(20, 3 * 12), numbers(21, 3 * 12));
    let table = RopeTable::from_frequencies(4, &[1.0, 0.3, 0.01], 1.25);
    let turn = |x: &[f32], inverse| {
        let mut x = x.to_vec();
        isa.rope(&mut x, 12, 3, 2, &table, 1, inverse);
        x
    };
    check_gradient(&x, &turn(&dy, true), |x| weigh(&turn(x, false), &dy));
}

/// `ROPE_INIT_FUNCTIONS[kind](LlamaConfig(head_dim=16, rope_parameters=...))` of transformers
/// 5.23, theta 10000, with the parameters seen in the calls here. Its `pow` differs from ours in
/// the last bit, which blending enlarges a little.
#[test]
fn scaled_frequencies_are_those_of_transformers() {
    let linear = [
        0.25,
        0.079_056_94,
        0.025,
        0.007_905_695,
        0.002_5,
        0.000_790_569_47,
        0.000_25,
        7.905_695e-5,
    ];
    let llama3 = [
        1.0,
        0.316_227_76,
        0.1,
        0.006_613_107,
        0.001_25,
        0.000_395_284_73,
        0.000_125,
        3.952_847_3e-5,
    ];
    let yarn = [
        1.0,
        0.316_227_76,
        0.1,
        0.025_693_506,
        0.006_25,
        0.001_383_496_6,
        0.000_25,
        7.905_695e-5,
    ];
    let narrow = [
        1.0,
        0.213_453_72,
        0.034_999_996,
        0.000_790_569_47,
        0.000_25,
        7.905_695e-5,
        2.5e-5,
        7.905_694_5e-6,
    ];
    let check = |found: &[f32], want: [f32; 8]| {
        for (found, want) in found.iter().zip(want) {
            assert!((found / want - 1.0).abs() < 5e-7, "{found} is not {want}");
        }
        assert_eq!(found.len(), 8);
    };
    let scaled = |scale: &dyn Fn(&mut [f32])| {
        let mut frequencies = rope::frequencies(16, 10_000.0);
        scale(&mut frequencies);
        frequencies
    };
    check(&scaled(&|f| rope::scale_linear(f, 4.0)), linear);
    check(
        &scaled(&|f| rope::scale_llama3(f, 8.0, 1.0, 4.0, 256)),
        llama3,
    );
    let wide = Yarn {
        factor: 4.0,
        beta_fast: 32.0,
        beta_slow: 1.0,
        original_context: 2048,
    };
    check(&wide.frequencies(16, 10_000.0), yarn);
    assert!((wide.attention_factor() - 1.138_629_4).abs() < 1e-6);
    let tight = Yarn {
        factor: 40.0,
        beta_fast: 24.0,
        beta_slow: 2.0,
        original_context: 256,
    };
    check(&tight.frequencies(16, 10_000.0), narrow);
    assert!((tight.attention_factor() - 1.368_888).abs() < 1e-6);
}
