//! What the two arithmetic modes promise: one hash of activations, gradients and logits over all
//! thread counts and batches, and for the exact mode over all instruction sets too.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::hash::{DefaultHasher, Hash, Hasher};

use common::{adapter, example, small};
use openledger_model::{
    Adapter, Arithmetic, Base, Example, Format, Gradients, Isa, KvCache, Lane, Workspace,
    full_gradients, lora_gradients_pack, step,
};

const SEQUENCES: usize = 32;
const BATCHES: [usize; 3] = [1, 7, 32];

fn examples() -> Vec<Example> {
    (0..SEQUENCES)
        .map(|i| example(6 + 7 * i % 31, i % 5))
        .collect()
}

fn feed(hasher: &mut DefaultHasher, values: &[f32]) {
    for x in values {
        x.to_bits().hash(hasher);
    }
}

/// A prompt and two more tokens of every sequence, `batch` sequences at a time.
fn answers<A: Arithmetic>(base: &Base<A>, tuned: &Adapter, batch: usize, isa: Isa) -> u64 {
    let (mut ws, mut hasher) = (Workspace::with_isa(isa), DefaultHasher::new());
    for (number, group) in examples().chunks(batch).enumerate() {
        let mut caches: Vec<_> = group
            .iter()
            .map(|_| KvCache::new(&base.config, 64))
            .collect();
        let mut outputs = vec![Vec::new(); group.len()];
        for round in 0..3 {
            let mut lanes: Vec<Lane<'_, A>> = group
                .iter()
                .zip(&mut caches)
                .enumerate()
                .map(|(i, (example, cache))| {
                    let (prompt, rest) = example.tokens.split_at(example.tokens.len() - 2);
                    Lane {
                        tokens: if round == 0 {
                            prompt
                        } else {
                            &rest[round - 1..round]
                        },
                        cache,
                        adapter: (number * batch + i).is_multiple_of(3).then_some(tuned),
                        all_logits: true,
                    }
                })
                .collect();
            let out = step(base, &mut lanes, &mut ws).unwrap();
            for (all, one) in outputs.iter_mut().zip(out) {
                all.extend(one.logits);
                all.extend(one.hidden);
            }
        }
        for output in outputs {
            feed(&mut hasher, &output);
        }
    }
    hasher.finish()
}

/// Every example's own adapter gradient, `batch` examples in a pack, and a few full gradients.
fn gradients<A: Arithmetic>(base: &Base<A>, tuned: &Adapter, batch: usize, isa: Isa) -> u64 {
    let (mut ws, mut hasher) = (Workspace::with_isa(isa), DefaultHasher::new());
    // Computing activations again instead of keeping them must not show.
    ws.checkpointing = batch == 7;
    let examples = examples();
    for group in examples.chunks(batch) {
        let pack: Vec<&Example> = group.iter().collect();
        let mut own = vec![vec![f32::NAN; tuned.params().len()]; pack.len()];
        let mut each: Vec<&mut [f32]> = own.iter_mut().map(Vec::as_mut_slice).collect();
        let grads = Gradients::Each(&mut each);
        let losses = lora_gradients_pack(base, tuned, &pack, None, grads, &mut ws).unwrap();
        for (loss, own) in losses.iter().zip(&own) {
            loss.sum.to_bits().hash(&mut hasher);
            feed(&mut hasher, own);
        }
    }
    let mut full = vec![f32::NAN; base.params().len()];
    for example in &examples[..3] {
        full_gradients(base, example, &mut full, &mut ws).unwrap();
        feed(&mut hasher, &full);
    }
    hasher.finish()
}

/// The one hash of all threads and batches on an instruction set.
fn hash<A: Arithmetic>(base: &Base<A>, isa: Isa) -> u64 {
    let tuned = adapter(&base.config, 5);
    let mut found = Vec::new();
    for threads in [1, 2] {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        for batch in BATCHES {
            let hashes = pool.install(|| {
                (
                    answers(base, &tuned, batch, isa),
                    gradients(base, &tuned, batch, isa),
                )
            });
            found.push((hashes, threads, batch));
        }
    }
    let (want, ..) = found[0];
    for (hashes, threads, batch) in found {
        assert_eq!(
            hashes,
            want,
            "{threads} threads, batch {batch}, {}",
            isa.name()
        );
    }
    let mut hasher = DefaultHasher::new();
    want.hash(&mut hasher);
    hasher.finish()
}

#[test]
fn exact_has_one_hash_for_threads_batches_and_instruction_sets() {
    let base = small(true);
    let want = hash(&base, Isa::PORTABLE);
    for isa in Isa::available() {
        assert_eq!(hash(&base, isa), want, "{}", isa.name());
    }
}

#[test]
fn fast_has_one_hash_for_threads_and_batches_on_each_instruction_set() {
    let base = small(false);
    let exact = hash(&base, Isa::best());
    for format in [Format::Bf16, Format::Int8, Format::Nf4] {
        let fast = base.to_fast(format);
        assert_ne!(hash(&fast, Isa::best()), exact, "fast is not exact");
    }
    hash(&base.to_fast(Format::Bf16), Isa::PORTABLE);
}
