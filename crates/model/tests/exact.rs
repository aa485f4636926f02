//! The exact mode: the same bits for any instruction set, batch composition and thread count.
#![allow(clippy::unwrap_used, clippy::float_cmp, reason = "tests")]

mod common;

use std::hash::{DefaultHasher, Hash, Hasher};

use common::{adapter, config, example, small};
use openledger_model::{
    Adapter, Base, Isa, KvCache, Lane, LaneOutput, Workspace, full_gradients, lora_gradients, step,
};

fn hash<'a>(values: impl IntoIterator<Item = &'a f32>) -> u64 {
    let mut hasher = DefaultHasher::new();
    for x in values {
        x.to_bits().hash(&mut hasher);
    }
    hasher.finish()
}

/// Gradients of seven examples of different lengths, all kinds, hashed.
fn gradient_hashes(base: &Base, adapter: &Adapter, isa: Isa) -> Vec<u64> {
    let mut ws = Workspace::with_isa(isa);
    let mut lora = vec![0.0; adapter.params().len()];
    let mut full = vec![0.0; base.params().len()];
    let mut hashes = Vec::new();
    for len in [2, 3, 17, 33, 34, 50, 65] {
        let ex = example(len, len / 3);
        let loss = lora_gradients(base, adapter, &ex, &mut lora, &mut ws).unwrap();
        full_gradients(base, &ex, &mut full, &mut ws).unwrap();
        hashes.extend([hash(&lora), hash(&full), loss.sum.to_bits()]);
    }
    hashes
}

fn threads<T: Send>(count: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let work = &work;
        let handles: Vec<_> = (0..count).map(|i| scope.spawn(move || work(i))).collect();
        handles
            .into_iter()
            .map(|handle| handle.join().unwrap())
            .collect()
    })
}

#[test]
fn gradients_have_the_same_bits_on_every_instruction_set_and_thread() {
    for tied in [true, false] {
        let base = small(tied);
        let adapter = adapter(&base.config, 5);
        let want = gradient_hashes(&base, &adapter, Isa::PORTABLE);
        for isa in Isa::available() {
            for found in threads(2, |_| gradient_hashes(&base, &adapter, isa)) {
                assert_eq!(found, want, "{}", isa.name());
            }
        }
    }
}

/// Seven sequences, some with adapters of different ranks.
fn lanes_alone(base: &Base, adapters: &[Option<Adapter>], isa: Isa) -> Vec<Vec<LaneOutput>> {
    let mut ws = Workspace::with_isa(isa);
    (0..adapters.len())
        .map(|i| {
            let mut cache = KvCache::new(&base.config, 64);
            pieces(i)
                .iter()
                .map(|tokens| {
                    let adapter = adapters[i].as_ref();
                    let lane = Lane {
                        tokens,
                        cache: &mut cache,
                        adapter,
                        all_logits: true,
                    };
                    step(base, &mut [lane], &mut ws).unwrap().remove(0)
                })
                .collect()
        })
        .collect()
}

fn lanes_together(base: &Base, adapters: &[Option<Adapter>], isa: Isa) -> Vec<Vec<LaneOutput>> {
    let mut ws = Workspace::with_isa(isa);
    let mut caches: Vec<_> = adapters
        .iter()
        .map(|_| KvCache::new(&base.config, 64))
        .collect();
    let mut outputs = vec![Vec::new(); adapters.len()];
    for round in 0..3 {
        let tokens: Vec<Vec<u32>> = (0..adapters.len())
            .map(|i| pieces(i)[round].clone())
            .collect();
        let mut lanes: Vec<Lane<'_>> = caches
            .iter_mut()
            .zip(&tokens)
            .zip(adapters)
            .map(|((cache, tokens), adapter)| Lane {
                tokens,
                cache,
                adapter: adapter.as_ref(),
                all_logits: true,
            })
            .collect();
        let out = step(base, &mut lanes, &mut ws).unwrap();
        for (all, one) in outputs.iter_mut().zip(out) {
            all.push(one);
        }
    }
    outputs
}

/// A sequence's tokens in three steps: a prompt, some more, one.
fn pieces(lane: usize) -> [Vec<u32>; 3] {
    let tokens = example(20 + 6 * lane, 1).tokens;
    let (first, last) = tokens.split_at(tokens.len() - 1);
    let (first, second) = first.split_at(first.len() - 1 - lane);
    [first.to_vec(), second.to_vec(), last.to_vec()]
}

fn adapters() -> Vec<Option<Adapter>> {
    let make = |rank| Some(adapter(&config(true), rank));
    vec![None, make(4), make(16), None, make(1), make(33), make(8)]
}

#[test]
fn a_lane_has_the_same_bits_alone_and_in_a_batch_on_every_instruction_set() {
    let (base, adapters) = (small(true), adapters());
    let want = lanes_alone(&base, &adapters, Isa::PORTABLE);
    for isa in Isa::available() {
        for found in threads(2, |i| {
            if i == 0 {
                lanes_alone(&base, &adapters, isa)
            } else {
                lanes_together(&base, &adapters, isa)
            }
        }) {
            for (lane, (found, want)) in found.iter().zip(&want).enumerate() {
                for (found, want) in found.iter().zip(want) {
                    assert_eq!(
                        hash(&found.logits),
                        hash(&want.logits),
                        "{} {lane}",
                        isa.name()
                    );
                    assert_eq!(
                        hash(&found.hidden),
                        hash(&want.hidden),
                        "{} {lane}",
                        isa.name()
                    );
                }
            }
        }
    }
}

#[test]
fn a_step_has_the_same_bits_on_any_number_of_threads() {
    let (base, adapters) = (small(true), adapters());
    let want = lanes_alone(&base, &adapters, Isa::best());
    for threads in [1, 2, 3, 7, 16] {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        let found = pool.install(|| lanes_together(&base, &adapters, Isa::best()));
        assert_eq!(found, want, "{threads} threads");
    }
}

#[test]
fn one_token_at_a_time_has_the_bits_of_a_whole_prompt() {
    let base = small(true);
    let adapter = adapter(&base.config, 4);
    let tokens = example(64, 1).tokens;
    let mut ws = Workspace::new();
    let mut whole = KvCache::new(&base.config, 64);
    let lane = Lane {
        tokens: &tokens,
        cache: &mut whole,
        adapter: Some(&adapter),
        all_logits: true,
    };
    let want = step(&base, &mut [lane], &mut ws).unwrap().remove(0);
    // A cache that held other tokens before: what is behind its length must not matter.
    let mut cache = KvCache::new(&base.config, 64);
    let other = example(60, 7).tokens;
    let lane = Lane {
        tokens: &other,
        cache: &mut cache,
        adapter: None,
        all_logits: false,
    };
    step(&base, &mut [lane], &mut ws).unwrap();
    cache.truncate(0);
    for (token, want) in tokens
        .iter()
        .zip(want.logits.chunks_exact(base.config.vocab))
    {
        let lane = Lane {
            tokens: &[*token],
            cache: &mut cache,
            adapter: Some(&adapter),
            all_logits: false,
        };
        let found = step(&base, &mut [lane], &mut ws).unwrap().remove(0);
        assert_eq!(hash(&found.logits), hash(want));
    }
}

/// These numbers change only when the arithmetic mode does; then `docs/protocol/arithmetic.md`
/// must say so.
#[test]
fn the_mode_itself_has_not_changed() {
    let base = small(true);
    let adapter = adapter(&base.config, 5);
    let mut ws = Workspace::new();
    let mut grads = vec![0.0; adapter.params().len()];
    lora_gradients(&base, &adapter, &example(50, 9), &mut grads, &mut ws).unwrap();
    let sum = |values: &[f32]| {
        values
            .iter()
            .fold(0_u32, |sum, x| sum.rotate_left(5).wrapping_add(x.to_bits()))
    };
    assert_eq!(
        [sum(&base.params()), sum(&grads)],
        [1_651_971_702, 3_206_691_968]
    );
}

#[test]
fn a_failed_step_advances_no_lane() {
    let base = small(true);
    let mut ws = Workspace::new();
    let mut caches = [
        KvCache::new(&base.config, 64),
        KvCache::new(&base.config, 3),
    ];
    let [one, two] = &mut caches;
    let mut lanes = [
        Lane {
            tokens: &[1, 2],
            cache: one,
            adapter: None,
            all_logits: false,
        },
        Lane {
            tokens: &[1, 2, 3, 4],
            cache: two,
            adapter: None,
            all_logits: false,
        },
    ];
    let error = step(&base, &mut lanes, &mut ws).unwrap_err();
    assert_eq!(
        error.to_string(),
        "a sequence of 4 tokens does not fit in 3"
    );
    assert!(caches.iter().all(KvCache::is_empty));
}
