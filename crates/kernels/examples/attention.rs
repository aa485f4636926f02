//! Times attention of one key-value head and its queries, exact and fast, forward and backward,
//! against the length: `cargo run --release -p openledger-kernels --example attention [HEADS HEAD_DIM]`.
//!
//! Prints microseconds (best of several) and the rate that counts the visible half of the score
//! matrix: 4 operations a score and element forward, 10 backward.
#![allow(clippy::print_stdout, reason = "a program")]

use std::time::Instant;

use openledger_kernels::{
    AttentionBackward, AttentionForward, Buffer, Columns, FlashBackward, FlashForward,
    FlashGradient, FlashScratch, HeadCache, Isa, Packed, Scores,
};

/// The best time of `run` in seconds, over at least 0.3 seconds.
fn best(mut run: impl FnMut()) -> f64 {
    let (mut best, begin) = (f64::INFINITY, Instant::now());
    while begin.elapsed().as_secs_f64() < 0.3 {
        let start = Instant::now();
        run();
        best = best.min(start.elapsed().as_secs_f64());
    }
    best
}

fn main() {
    let mut sizes = std::env::args()
        .skip(1)
        .filter_map(|a| a.parse::<usize>().ok());
    let (heads, hd) = (sizes.next().unwrap_or(3), sizes.next().unwrap_or(64));
    let isa = Isa::best();
    let (width, stride) = (heads * hd, (heads + 2) * hd);
    let at = Columns {
        query: 0,
        key: width,
        value: width + hd,
    };
    let scores = Scores::plain(hd);
    println!(
        "{} heads of {hd}, {}; forward then backward, microseconds (GFLOP/s)",
        heads,
        isa.name()
    );
    println!(
        "{:>6} {:>17} {:>17} {:>17} {:>17} {:>17}",
        "rows", "exact", "fast", "exact back", "fast back", "fast decode"
    );
    for rows in [128, 256, 512, 1024, 2048, 4096] {
        let qkv: Vec<f32> = (0..rows * stride)
            .map(|i| (i * 7919 % 1013) as f32 / 506.0 - 1.0)
            .collect();
        let d_out: Vec<f32> = (0..rows * width)
            .map(|i| (i * 104_729 % 997) as f32 / 498.0 - 1.0)
            .collect();
        let (mut out, mut d_qkv) = (vec![0.0; rows * width], vec![0.0; rows * stride]);
        let (mut keys, mut values) = (Packed::default(), Packed::default());
        let mut buffer = Buffer::default();
        let exact = best(|| {
            keys.fill_transposed(&qkv[at.key..], stride, rows, hd);
            for head in 0..heads {
                let job = AttentionForward {
                    queries: &qkv[head * hd..],
                    query_stride: stride,
                    rows,
                    head_dim: hd,
                    keys: keys.rhs(),
                    values: &qkv[at.value..],
                    value_stride: stride,
                    visible: 1,
                    grow: 1,
                    scores,
                };
                isa.attention(&job, &mut out[head * hd..], width, &mut buffer);
            }
        });
        let exact_back = best(|| {
            keys.fill_transposed(&qkv[at.key..], stride, rows, hd);
            values.fill_transposed(&qkv[at.value..], stride, rows, hd);
            for head in 0..heads {
                let job = AttentionBackward {
                    qkv: &qkv,
                    stride,
                    query_at: head * hd,
                    key_at: at.key,
                    value_at: at.value,
                    rows,
                    head_dim: hd,
                    keys: &keys,
                    values: &values,
                    scores,
                };
                isa.attention_backward(&job, &d_out[head * hd..], width, &mut d_qkv, &mut buffer);
            }
        });
        let (mut log_sums, mut scratch) = (vec![0.0; rows * heads], FlashScratch::default());
        let mut cache = HeadCache::new(hd);
        let fast = best(|| {
            cache.write(isa, 0, &qkv[at.key..], &qkv[at.value..], stride, rows);
            let job = FlashForward {
                queries: &qkv,
                query_stride: stride,
                rows,
                heads,
                cache: &cache,
                first: 0,
                scores,
            };
            isa.flash_attention(&job, &mut out, width, &mut log_sums, &mut scratch);
        });
        let job = FlashBackward {
            qkv: &qkv,
            stride,
            at,
            rows,
            heads,
            head_dim: hd,
            out: &out,
            d_out: &d_out,
            out_stride: width,
            log_sums: &log_sums,
            scores,
        };
        let fast_back = best(|| {
            let mut gradient = FlashGradient {
                d_qkv: &mut d_qkv,
                stride,
                at,
            };
            isa.flash_attention_backward(&job, &mut gradient, &mut scratch);
        });
        let mut last = vec![0.0; width];
        let decode = best(|| {
            let job = FlashForward {
                queries: &qkv[(rows - 1) * stride..],
                query_stride: stride,
                rows: 1,
                heads,
                cache: &cache,
                first: rows - 1,
                scores,
            };
            isa.flash_attention(&job, &mut last, width, &mut [], &mut scratch);
        });
        let work = (heads * rows * (rows + 1) / 2 * hd) as f64 / 1e9;
        let show = |time: f64, work: f64| format!("{:.0} ({:.0})", time * 1e6, work / time);
        println!(
            "{rows:>6} {:>17} {:>17} {:>17} {:>17} {:>17}",
            show(exact, 4.0 * work),
            show(fast, 4.0 * work),
            show(exact_back, 10.0 * work),
            show(fast_back, 10.0 * work),
            show(decode, 4e-9 * (heads * rows * hd) as f64),
        );
    }
}
