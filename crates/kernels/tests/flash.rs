//! Fast attention: close to the exact one forward and backward on every instruction set, and the
//! same bits for a row alone, in a piece and in a sequence.
#![allow(clippy::unwrap_used, clippy::float_cmp, reason = "tests")]

use openledger_kernels::{
    AttentionBackward, AttentionForward, Buffer, Columns, FlashBackward, FlashForward,
    FlashGradient, FlashScratch, HeadCache, Isa, Packed, Scores,
};
use proptest::prelude::*;

mod common;
use common::{bits, numbers};

/// One key-value head and its queries: rows of queries, key, value.
#[derive(Clone, Copy, Debug)]
struct Shape {
    rows: usize,
    heads: usize,
    head_dim: usize,
    scores: Scores,
}

impl Shape {
    fn width(self) -> usize {
        self.heads * self.head_dim
    }

    fn stride(self) -> usize {
        self.width() + 2 * self.head_dim
    }

    fn at(self) -> Columns {
        Columns {
            query: 0,
            key: self.width(),
            value: self.width() + self.head_dim,
        }
    }

    /// Queries, keys and values that bf16 holds, so that the first products are exact.
    fn qkv(self, seed: u64) -> Vec<f32> {
        let cut = |x: f32| f32::from_bits(x.to_bits() & 0xffff_0000);
        numbers(seed, self.rows * self.stride())
            .into_iter()
            .map(cut)
            .collect()
    }

    fn cache(self, isa: Isa, qkv: &[f32], pieces: &[usize]) -> HeadCache {
        let mut cache = HeadCache::new(self.head_dim);
        let mut first = 0;
        for rows in pieces {
            let row = &qkv[first * self.stride()..];
            let (keys, values) = (&row[self.at().key..], &row[self.at().value..]);
            cache.write(isa, first, keys, values, self.stride(), *rows);
            first += rows;
        }
        cache
    }

    fn forward(
        self,
        isa: Isa,
        qkv: &[f32],
        cache: &HeadCache,
        first: usize,
        rows: usize,
    ) -> (Vec<f32>, Vec<f32>) {
        let job = FlashForward {
            queries: &qkv[first * self.stride()..],
            query_stride: self.stride(),
            rows,
            heads: self.heads,
            cache,
            first,
            scores: self.scores,
        };
        let mut out = vec![f32::NAN; rows * self.width()];
        let mut log_sums = vec![f32::NAN; rows * self.heads];
        isa.flash_attention(
            &job,
            &mut out,
            self.width(),
            &mut log_sums,
            &mut FlashScratch::default(),
        );
        (out, log_sums)
    }

    fn backward(self, isa: Isa, qkv: &[f32], d_out: &[f32]) -> Vec<f32> {
        let cache = self.cache(isa, qkv, &[self.rows]);
        let (out, log_sums) = self.forward(isa, qkv, &cache, 0, self.rows);
        let job = FlashBackward {
            qkv,
            stride: self.stride(),
            at: self.at(),
            rows: self.rows,
            heads: self.heads,
            head_dim: self.head_dim,
            out: &out,
            d_out,
            out_stride: self.width(),
            log_sums: &log_sums,
            scores: self.scores,
        };
        let mut d_qkv = vec![f32::NAN; qkv.len()];
        let mut gradient = FlashGradient {
            d_qkv: &mut d_qkv,
            stride: self.stride(),
            at: self.at(),
        };
        isa.flash_attention_backward(&job, &mut gradient, &mut FlashScratch::default());
        d_qkv
    }

    fn exact(self, qkv: &[f32], d_out: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let (hd, stride, isa) = (self.head_dim, self.stride(), Isa::best());
        let (mut keys, mut values) = (Packed::default(), Packed::default());
        keys.fill_transposed(&qkv[self.at().key..], stride, self.rows, hd);
        values.fill_transposed(&qkv[self.at().value..], stride, self.rows, hd);
        let (mut out, mut d_qkv) = (vec![0.0; d_out.len()], vec![0.0; qkv.len()]);
        for head in 0..self.heads {
            let job = AttentionForward {
                queries: &qkv[head * hd..],
                query_stride: stride,
                rows: self.rows,
                head_dim: hd,
                keys: keys.rhs(),
                values: &qkv[self.at().value..],
                value_stride: stride,
                visible: 1,
                grow: 1,
                scores: self.scores,
            };
            isa.attention(
                &job,
                &mut out[head * hd..],
                self.width(),
                &mut Buffer::default(),
            );
            let job = AttentionBackward {
                qkv,
                stride,
                query_at: head * hd,
                key_at: self.at().key,
                value_at: self.at().value,
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
        (out, d_qkv)
    }
}

/// Norm of the difference over the norm.
fn error(found: &[f32], want: &[f32]) -> f64 {
    let square = |x: f64| x * x;
    let norm: f64 = want.iter().map(|x| square(f64::from(*x))).sum();
    let difference: f64 = found
        .iter()
        .zip(want)
        .map(|(a, b)| square(f64::from(*a) - f64::from(*b)))
        .sum();
    (difference / norm).sqrt()
}

fn shapes(longest: usize) -> impl Strategy<Value = Shape> {
    let window = prop_oneof![Just(usize::MAX), 1_usize..200];
    let softcap = prop_oneof![Just(0.0_f32), 0.5_f32..20.0];
    (
        1..longest,
        1_usize..5,
        1_usize..70,
        window,
        softcap,
        0.1_f32..1.0,
    )
        .prop_map(|(rows, heads, head_dim, window, softcap, scale)| Shape {
            rows,
            heads,
            head_dim,
            scores: Scores {
                scale,
                softcap,
                window,
            },
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..Default::default() })]

    #[test]
    fn flash_attention_is_close_to_the_exact_one(shape in shapes(240), seed: u64) {
        let qkv = shape.qkv(seed);
        let d_out = numbers(seed ^ 1, shape.rows * shape.width());
        let (out, d_qkv) = shape.exact(&qkv, &d_out);
        for isa in Isa::available() {
            let cache = shape.cache(isa, &qkv, &[shape.rows]);
            let found = shape.forward(isa, &qkv, &cache, 0, shape.rows).0;
            prop_assert!(error(&found, &out) < 4e-3, "{}: {}", isa.name(), error(&found, &out));
            let found = shape.backward(isa, &qkv, &d_out);
            // One position has no gradient of its score: zero against rounding.
            let (a, b) = (error(&found, &d_qkv), shape.rows);
            prop_assert!(a < 8e-3, "{} {b}: {a}", isa.name());
        }
    }

    #[test]
    fn a_row_does_not_depend_on_its_neighbours(shape in shapes(150), seed: u64, cut in 0_f64..1.0) {
        let qkv = shape.qkv(seed);
        let cut = (cut * shape.rows as f64) as usize;
        for isa in Isa::available() {
            let cache = shape.cache(isa, &qkv, &[shape.rows]);
            let whole = shape.forward(isa, &qkv, &cache, 0, shape.rows);
            // In two pieces, the second written later, behind rows that were forgotten.
            let mut pieces = shape.cache(isa, &qkv, &[shape.rows]);
            let row = &qkv[cut * shape.stride()..];
            let rest = shape.rows - cut;
            if rest > 0 {
                let (keys, values) = (&row[shape.at().key..], &row[shape.at().value..]);
                pieces.write(isa, cut, keys, values, shape.stride(), rest);
            }
            let mut found = shape.forward(isa, &qkv, &pieces, 0, cut);
            let second = shape.forward(isa, &qkv, &pieces, cut, rest);
            found.0.extend(second.0);
            found.1.extend(second.1);
            prop_assert_eq!(bits(&found.0), bits(&whole.0));
            prop_assert_eq!(bits(&found.1), bits(&whole.1));
            // One at a time, the cache growing.
            let mut cache = HeadCache::new(shape.head_dim);
            for row in 0..shape.rows {
                let at = &qkv[row * shape.stride()..];
                let (keys, values) = (&at[shape.at().key..], &at[shape.at().value..]);
                cache.write(isa, row, keys, values, shape.stride(), 1);
                let alone = shape.forward(isa, &qkv, &cache, row, 1).0;
                prop_assert_eq!(bits(&alone), bits(&whole.0[row * shape.width()..][..shape.width()]));
            }
        }
    }
}

/// Products run over whole steps, beyond what a sequence has: there must be zeros, not what a
/// longer sequence left that was no number.
#[test]
fn what_an_earlier_sequence_left_is_not_read() {
    for (isa, rows) in Isa::available().into_iter().zip([97, 7, 40, 1, 130]) {
        let shape = |rows| Shape {
            rows,
            heads: 3,
            head_dim: 20,
            scores: Scores::plain(20),
        };
        let (long, short) = (shape(200), shape(rows));
        let mut scratch = FlashScratch::default();
        let mut cache = HeadCache::new(20);
        let nothing = vec![f32::NAN; 200 * long.stride()];
        cache.write(isa, 0, &nothing, &nothing, long.stride(), 200);
        let qkv = short.qkv(7);
        let d_out = numbers(8, rows * short.width());
        let mut run = |shape: Shape, qkv: &[f32], d_out: &[f32], cache: &HeadCache| {
            let (rows, at) = (shape.rows, shape.at());
            let job = FlashForward {
                queries: qkv,
                query_stride: shape.stride(),
                rows,
                heads: 3,
                cache,
                first: 0,
                scores: shape.scores,
            };
            let mut out = vec![0.0; rows * shape.width()];
            let mut log_sums = vec![0.0; rows * 3];
            isa.flash_attention(&job, &mut out, shape.width(), &mut log_sums, &mut scratch);
            let job = FlashBackward {
                qkv,
                stride: shape.stride(),
                at,
                rows,
                heads: 3,
                head_dim: 20,
                out: &out,
                d_out,
                out_stride: shape.width(),
                log_sums: &log_sums,
                scores: shape.scores,
            };
            let mut d_qkv = vec![0.0; qkv.len()];
            let mut gradient = FlashGradient {
                d_qkv: &mut d_qkv,
                stride: shape.stride(),
                at,
            };
            isa.flash_attention_backward(&job, &mut gradient, &mut scratch);
            (out, d_qkv)
        };
        assert!(run(long, &nothing, &nothing, &cache).0[0].is_nan());
        let (keys, values) = (&qkv[short.at().key..], &qkv[short.at().value..]);
        cache.write(isa, 0, keys, values, short.stride(), rows);
        let (out, d_qkv) = run(short, &qkv, &d_out, &cache);
        let fresh = short.cache(isa, &qkv, &[rows]);
        let name = isa.name();
        assert_eq!(
            bits(&out),
            bits(&short.forward(isa, &qkv, &fresh, 0, rows).0),
            "{name}"
        );
        assert_eq!(
            bits(&d_qkv),
            bits(&short.backward(isa, &qkv, &d_out)),
            "{name}"
        );
        // Position by position over the rest of the longer sequence.
        let mut again = cache.clone();
        again.write(isa, 0, &nothing, &nothing, long.stride(), 200);
        for row in 0..rows {
            let at = &qkv[row * short.stride()..];
            let (keys, values) = (&at[short.at().key..], &at[short.at().value..]);
            again.write(isa, row, keys, values, short.stride(), 1);
        }
        let found = short.forward(isa, &qkv, &again, 0, rows).0;
        assert_eq!(bits(&found), bits(&out), "{name}");
    }
}
