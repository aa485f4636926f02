//! Attention: the bits of the definition in plain scalar code on every instruction set, the same
//! row alone and in a sequence, and finite differences; with windows, caps and grouped heads.
#![allow(clippy::unwrap_used, clippy::float_cmp, reason = "tests")]

use openledger_kernels::math::{exp, tanh};
use openledger_kernels::{AttentionBackward, AttentionForward, Buffer, Isa, Packed, Scores};
use proptest::prelude::*;

mod common;
use common::{bits, check_gradient, numbers, on_all, weigh};

/// A sequence of queries, keys and values side by side in rows.
#[derive(Clone, Copy, Debug)]
struct Shape {
    rows: usize,
    kv_heads: usize,
    group: usize,
    head_dim: usize,
    scores: Scores,
}

impl Shape {
    fn width(self) -> usize {
        self.kv_heads * self.group * self.head_dim
    }

    fn stride(self) -> usize {
        self.width() + 2 * self.kv_heads * self.head_dim
    }

    fn key_at(self, head: usize) -> usize {
        self.width() + head / self.group * self.head_dim
    }

    fn value_at(self, head: usize) -> usize {
        self.key_at(head) + self.kv_heads * self.head_dim
    }

    fn qkv(self, seed: u64) -> Vec<f32> {
        numbers(seed, self.rows * self.stride())
    }

    /// The whole forward, `count` rows from `first` on.
    fn forward(self, isa: Isa, qkv: &[f32], first: usize, count: usize) -> Vec<f32> {
        let (hd, stride) = (self.head_dim, self.stride());
        let mut out = vec![f32::NAN; count * self.width()];
        for head in 0..self.kv_heads * self.group {
            let mut keys = Packed::default();
            keys.fill_transposed(&qkv[self.key_at(head)..], stride, self.rows, hd);
            let job = AttentionForward {
                queries: &qkv[first * stride + head * hd..],
                query_stride: stride,
                rows: count,
                head_dim: hd,
                keys: keys.rhs(),
                values: &qkv[self.value_at(head)..],
                value_stride: stride,
                visible: first + 1,
                grow: 1,
                scores: self.scores,
            };
            let out = &mut out[head * hd..];
            isa.attention(&job, out, self.width(), &mut Buffer::default());
        }
        out
    }

    fn backward(self, isa: Isa, qkv: &[f32], d_out: &[f32]) -> Vec<f32> {
        let (hd, stride) = (self.head_dim, self.stride());
        let mut d_qkv = vec![0.0; qkv.len()];
        for head in 0..self.kv_heads * self.group {
            let (mut keys, mut values) = (Packed::default(), Packed::default());
            keys.fill_transposed(&qkv[self.key_at(head)..], stride, self.rows, hd);
            values.fill_transposed(&qkv[self.value_at(head)..], stride, self.rows, hd);
            let job = AttentionBackward {
                qkv,
                stride,
                query_at: head * hd,
                key_at: self.key_at(head),
                value_at: self.value_at(head),
                rows: self.rows,
                head_dim: hd,
                keys: &keys,
                values: &values,
                scores: self.scores,
            };
            let d_out = &d_out[head * hd..];
            isa.attention_backward(
                &job,
                d_out,
                self.width(),
                &mut d_qkv,
                &mut Buffer::default(),
            );
        }
        d_qkv
    }

    fn first_seen(self, row: usize) -> usize {
        (row + 1).saturating_sub(self.scores.window)
    }

    /// Probabilities of one row of one head over the positions it sees, and the slopes of the
    /// cap there: `docs/protocol/arithmetic.md` in scalar code.
    fn probabilities(self, qkv: &[f32], head: usize, row: usize) -> (Vec<f32>, Vec<f32>) {
        let (hd, stride) = (self.head_dim, self.stride());
        let q = &qkv[row * stride + head * hd..][..hd];
        let (mut p, mut slopes) = (Vec::new(), Vec::new());
        for position in self.first_seen(row)..=row {
            let k = &qkv[position * stride + self.key_at(head)..][..hd];
            let score = (0..hd).fold(0.0_f32, |sum, i| q[i].mul_add(k[i], sum));
            let (mut score, mut slope) = (score * self.scores.scale, 1.0);
            if self.scores.softcap > 0.0 {
                let t = tanh(score * (1.0 / self.scores.softcap));
                (score, slope) = (self.scores.softcap * t, (-t).mul_add(t, 1.0));
            }
            p.push(score);
            slopes.push(slope);
        }
        let max = p.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        for p in &mut p {
            *p = exp(*p - max);
        }
        let inverse = 1.0 / tree(&p.iter().map(|p| (1.0, *p)).collect::<Vec<_>>());
        (p.iter().map(|p| p * inverse).collect(), slopes)
    }

    fn definition(self, qkv: &[f32]) -> Vec<f32> {
        let (hd, stride) = (self.head_dim, self.stride());
        let mut out = vec![0.0; self.rows * self.width()];
        for head in 0..self.kv_heads * self.group {
            for row in 0..self.rows {
                let (p, _) = self.probabilities(qkv, head, row);
                for i in 0..hd {
                    let value = |n: usize| {
                        qkv[(self.first_seen(row) + n) * stride + self.value_at(head) + i]
                    };
                    out[row * self.width() + head * hd + i] =
                        (0..p.len()).fold(0.0, |sum, n| p[n].mul_add(value(n), sum));
                }
            }
        }
        out
    }

    /// The gradient in scalar code, blocks of 32 rows and all.
    fn definition_backward(self, qkv: &[f32], d_out: &[f32]) -> Vec<f32> {
        let (hd, stride, rows) = (self.head_dim, self.stride(), self.rows);
        let mut grads = vec![0.0_f32; qkv.len()];
        for head in 0..self.kv_heads * self.group {
            let (mut p, mut d) = (vec![0.0; rows * rows], vec![0.0; rows * rows]);
            for row in 0..rows {
                let (seen, slopes) = self.probabilities(qkv, head, row);
                let dp: Vec<f32> = (self.first_seen(row)..=row)
                    .map(|position| {
                        let v = &qkv[position * stride + self.value_at(head)..][..hd];
                        let d = &d_out[row * self.width() + head * hd..][..hd];
                        (0..hd).fold(0.0_f32, |sum, i| d[i].mul_add(v[i], sum))
                    })
                    .collect();
                let pairs: Vec<_> = seen.iter().copied().zip(dp.iter().copied()).collect();
                let mean = tree(&pairs);
                for (n, position) in (self.first_seen(row)..=row).enumerate() {
                    let at = row * rows + position;
                    p[at] = seen[n];
                    d[at] = (seen[n] * (dp[n] - mean)) * self.scores.scale;
                    if self.scores.softcap > 0.0 {
                        d[at] *= slopes[n];
                    }
                }
            }
            for first in (0..rows).step_by(32) {
                let end = (first + 32).min(rows);
                let start = self.first_seen(first) / 32 * 32;
                for row in first..end {
                    for i in 0..hd {
                        let key = |n: usize| qkv[n * stride + self.key_at(head) + i];
                        grads[row * stride + head * hd + i] =
                            (start..end).fold(0.0, |sum, n| d[row * rows + n].mul_add(key(n), sum));
                    }
                }
                for position in start..end {
                    for i in 0..hd {
                        let dk = &mut grads[position * stride + self.key_at(head) + i];
                        for row in first..end {
                            let q = qkv[row * stride + head * hd + i];
                            *dk = d[row * rows + position].mul_add(q, *dk);
                        }
                        let dv = &mut grads[position * stride + self.value_at(head) + i];
                        for row in first..end {
                            let d_out = d_out[row * self.width() + head * hd + i];
                            *dv = p[row * rows + position].mul_add(d_out, *dv);
                        }
                    }
                }
            }
        }
        grads
    }
}

/// Fused sum of products over the sixteen-lane tree.
fn tree(pairs: &[(f32, f32)]) -> f32 {
    let mut lanes = [0.0_f32; 16];
    for (i, (a, b)) in pairs.iter().enumerate() {
        lanes[i % 16] = a.mul_add(*b, lanes[i % 16]);
    }
    for half in [8, 4, 2, 1] {
        for l in 0..half {
            lanes[l] += lanes[l + half];
        }
    }
    lanes[0]
}

fn shapes() -> impl Strategy<Value = Shape> {
    let window = prop_oneof![Just(usize::MAX), 1_usize..100];
    let softcap = prop_oneof![Just(0.0_f32), 0.2_f32..20.0];
    let sizes = (1_usize..110, 1_usize..3, 1_usize..4, 1_usize..40);
    (sizes, window, softcap, 0.1_f32..2.0).prop_map(
        |((rows, kv_heads, group, head_dim), window, softcap, scale)| Shape {
            rows,
            kv_heads,
            group,
            head_dim,
            scores: Scores {
                scale,
                softcap,
                window,
            },
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..Default::default() })]

    #[test]
    fn attention_has_the_bits_of_its_definition(shape in shapes(), seed: u64) {
        let qkv = shape.qkv(seed);
        let found = on_all(|isa| shape.forward(isa, &qkv, 0, shape.rows));
        prop_assert_eq!(bits(&found), bits(&shape.definition(&qkv)));
        let d_out = numbers(seed ^ 1, found.len());
        let found = on_all(|isa| shape.backward(isa, &qkv, &d_out));
        prop_assert_eq!(bits(&found), bits(&shape.definition_backward(&qkv, &d_out)));
    }

    #[test]
    fn a_row_does_not_depend_on_its_neighbours(shape in shapes(), seed: u64) {
        let qkv = shape.qkv(seed);
        let whole = on_all(|isa| shape.forward(isa, &qkv, 0, shape.rows));
        let alone = on_all(|isa| {
            (0..shape.rows).flat_map(|row| shape.forward(isa, &qkv, row, 1)).collect()
        });
        prop_assert_eq!(bits(&whole), bits(&alone));
    }
}

#[test]
fn plain_attention_is_softmax_of_scores_times_values() {
    let hd = 6;
    let shape = Shape {
        rows: 37,
        kv_heads: 1,
        group: 1,
        head_dim: hd,
        scores: Scores::plain(hd),
    };
    let qkv = shape.qkv(8);
    let out = shape.forward(Isa::best(), &qkv, 0, shape.rows);
    let part = |row: usize, at: usize| &qkv[row * shape.stride() + at..][..hd];
    for i in 0..shape.rows {
        let weight =
            |n: usize| (weigh(part(i, 0), part(n, shape.key_at(0))) / (hd as f64).sqrt()).exp();
        let total: f64 = (0..=i).map(weight).sum();
        for d in 0..hd {
            let value = |n: usize| f64::from(part(n, shape.value_at(0))[d]);
            let sum: f64 = (0..=i).map(|n| weight(n) * value(n)).sum();
            assert!((f64::from(out[i * hd + d]) - sum / total).abs() < 1e-5);
        }
    }
}

#[test]
fn a_window_of_one_copies_values_and_a_wide_one_changes_nothing() {
    let with = |window| Shape {
        rows: 70,
        kv_heads: 2,
        group: 2,
        head_dim: 5,
        scores: Scores {
            window,
            ..Scores::plain(5)
        },
    };
    let qkv = with(1).qkv(3);
    let isa = Isa::best();
    let (narrow, out) = (with(1), with(1).forward(isa, &qkv, 0, 70));
    for row in 0..70 {
        for head in 0..4 {
            let value = &qkv[row * narrow.stride() + narrow.value_at(head)..][..5];
            assert_eq!(&out[row * 20 + head * 5..][..5], value);
        }
    }
    let d_out = numbers(4, out.len());
    assert_eq!(
        with(70).forward(isa, &qkv, 0, 70),
        with(usize::MAX).forward(isa, &qkv, 0, 70)
    );
    assert_eq!(
        with(70).backward(isa, &qkv, &d_out),
        with(usize::MAX).backward(isa, &qkv, &d_out)
    );
    assert_ne!(
        with(69).forward(isa, &qkv, 0, 70),
        with(70).forward(isa, &qkv, 0, 70)
    );
}

#[test]
fn the_backward_is_the_gradient() {
    // One key head shared by two query heads, rows over more than one block.
    for scores in [
        Scores::plain(4),
        Scores {
            window: 9,
            ..Scores::plain(4)
        },
        Scores {
            scale: 1.3,
            softcap: 1.1,
            window: 33,
        },
    ] {
        let shape = Shape {
            rows: 35,
            kv_heads: 1,
            group: 2,
            head_dim: 4,
            scores,
        };
        let qkv = shape.qkv(11);
        let d_out = numbers(12, shape.rows * shape.width());
        let isa = Isa::best();
        check_gradient(&qkv, &shape.backward(isa, &qkv, &d_out), |qkv| {
            weigh(&shape.forward(isa, qkv, 0, shape.rows), &d_out)
        });
    }
}
