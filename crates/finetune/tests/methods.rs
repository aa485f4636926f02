//! Every method, optimizer and arithmetic: runs resume bit for bit, do not depend on threads, and
//! learn; packing and checkpointing of activations do not show in the bits that they must not
//! change.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::path::Path;

use common::{dataset, wide_base};
use openledger_finetune::{
    Control, Dataset, Ending, Error, Length, Method, Mode, Optimizer, Quantization, Recipe,
    Summary, metrics, train, train_from, train_whole,
};
use openledger_model::{Base, Dtype, Fast, Format, Workspace, loss};

/// What a run leaves behind: bits of its weights, and its numbers.
#[derive(Debug, PartialEq)]
struct Outcome {
    weights: Vec<u32>,
    summary: Summary,
}

impl Outcome {
    fn assert_equals(&self, other: &Self) {
        assert!(self.weights == other.weights, "the weights differ");
        assert_eq!(self.summary.metrics, other.summary.metrics);
        assert_eq!(self.summary.checkpoints, other.summary.checkpoints);
    }
}

/// Trains the same base in whatever form the recipe asks for. Panics, as a kill would, after the
/// step `kill`.
fn run(dataset: &Dataset, recipe: &Recipe, path: &Path, kill: u64) -> Outcome {
    let mut progress = |step: &openledger_finetune::StepMetrics| {
        assert_ne!(step.step, kill, "the kill");
        Control::Continue
    };
    let base = wide_base(5);
    let fast = base.to_fast(recipe.format());
    let (weights, summary) = match (recipe.method, recipe.arithmetic) {
        (Method::Full, Mode::Exact) => {
            let trained = train_whole(base, dataset, recipe, path, &mut progress).unwrap();
            (trained.base.params(), trained.summary)
        }
        (Method::Full, Mode::Fast) => {
            let trained = train_whole(fast, dataset, recipe, path, &mut progress).unwrap();
            (trained.base.params(), trained.summary)
        }
        (_, Mode::Exact) => {
            let trained = train(&base, dataset, recipe, path, &mut progress).unwrap();
            (trained.adapter.params().to_vec(), trained.summary)
        }
        (_, Mode::Fast) => {
            let trained = train(&fast, dataset, recipe, path, &mut progress).unwrap();
            (trained.adapter.params().to_vec(), trained.summary)
        }
    };
    Outcome {
        weights: weights.iter().map(|x| x.to_bits()).collect(),
        summary,
    }
}

fn recipe(method: Method, arithmetic: Mode) -> Recipe {
    let rate = if method == Method::Full { 1e-3 } else { 1e-2 };
    let mut recipe = Recipe {
        method,
        arithmetic,
        learning_rate: rate,
        batch: 5,
        length: Length::Steps(9),
        checkpoint_every: 4,
        eval_every: 3,
        ..Recipe::default()
    };
    recipe.lora.rank = 4;
    recipe
}

/// Every method, and each setting that is part of a run's state or of its arithmetic at least once.
fn recipes() -> Vec<Recipe> {
    use Method::{Full, Lora, Qlora};
    use Mode::{Exact, Fast};
    let eight = Optimizer::Adamw8bit;
    let mut recipes = Vec::new();
    for (method, arithmetic) in [
        (Lora, Exact),
        (Lora, Fast),
        (Qlora, Fast),
        (Full, Exact),
        (Full, Fast),
    ] {
        for optimizer in [Optimizer::Adamw, eight] {
            recipes.push(Recipe {
                optimizer,
                ..recipe(method, arithmetic)
            });
        }
    }
    for arithmetic in [Exact, Fast] {
        let mut dora = recipe(Method::Dora, arithmetic);
        dora.lora.dropout = 0.25;
        dora.lora.rank_stabilized = true;
        recipes.push(dora);
    }
    recipes.push(Recipe {
        quantization: Quantization::Int8,
        gradient_checkpointing: true,
        gradient_accumulation: 2,
        ..recipe(Qlora, Fast)
    });
    recipes
}

#[test]
fn a_killed_run_ends_like_an_undisturbed_one() {
    let dataset = dataset();
    for recipe in recipes() {
        let dir = tempfile::tempdir().unwrap();
        let whole = run(&dataset, &recipe, &dir.path().join("whole"), 0);
        let broken = dir.path().join("broken");
        for kill in [3, 6, 9] {
            let died = std::panic::catch_unwind(|| run(&dataset, &recipe, &broken, kill));
            assert!(died.is_err());
        }
        assert_eq!(whole.summary.ending, Ending::Completed);
        run(&dataset, &recipe, &broken, 0).assert_equals(&whole);
    }
}

#[test]
fn the_number_of_threads_does_not_change_a_bit() {
    let dataset = dataset();
    for recipe in recipes() {
        let dir = tempfile::tempdir().unwrap();
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            let path = dir.path().join(threads.to_string());
            let pool = pool.build().unwrap();
            pool.install(|| run(&dataset, &recipe, &path, 0))
        };
        on(1).assert_equals(&on(3));
    }
}

#[test]
fn packing_does_not_show_in_exact_arithmetic() {
    let dataset = dataset();
    let dir = tempfile::tempdir().unwrap();
    let packed = |tokens: usize| {
        let recipe = Recipe {
            packing: tokens > 0,
            pack_tokens: tokens.max(1),
            ..recipe(Method::Lora, Mode::Exact)
        };
        run(&dataset, &recipe, &dir.path().join(tokens.to_string()), 0)
    };
    let (alone, two, all) = (packed(0), packed(80), packed(4096));
    alone.assert_equals(&two);
    alone.assert_equals(&all);
}

/// In fast arithmetic a pack's rows are summed by other products, so bits differ, but the rows
/// still do not see each other: the first step's loss is the same, and the curve stays close.
#[test]
fn packed_rows_do_not_see_each_other_in_fast_arithmetic() {
    let dataset = dataset();
    let dir = tempfile::tempdir().unwrap();
    let packed = |packing: bool| {
        let recipe = Recipe {
            packing,
            ..recipe(Method::Lora, Mode::Fast)
        };
        let path = dir.path().join(packing.to_string());
        run(&dataset, &recipe, &path, 0);
        metrics::load(&path.join("metrics.jsonl")).unwrap()
    };
    let (alone, together) = (packed(false), packed(true));
    assert_eq!(alone[0].loss.to_bits(), together[0].loss.to_bits());
    let norms = alone[0].gradient_norm - together[0].gradient_norm;
    assert!(norms.abs() < 1e-3 * alone[0].gradient_norm, "{norms}");
    for (a, b) in alone.iter().zip(&together) {
        assert!((a.loss - b.loss).abs() < 0.02 * a.loss, "{a:?} {b:?}");
    }
}

#[test]
fn activations_computed_again_have_the_same_bits() {
    let dataset = dataset();
    for (method, arithmetic) in [
        (Method::Lora, Mode::Exact),
        (Method::Lora, Mode::Fast),
        (Method::Full, Mode::Fast),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let with = |gradient_checkpointing: bool| {
            let recipe = Recipe {
                gradient_checkpointing,
                ..recipe(method, arithmetic)
            };
            let path = dir.path().join(gradient_checkpointing.to_string());
            run(&dataset, &recipe, &path, 0)
        };
        with(false).assert_equals(&with(true));
    }
}

#[test]
fn every_method_learns() {
    let dataset = dataset();
    for recipe in recipes() {
        let dir = tempfile::tempdir().unwrap();
        let recipe = Recipe {
            length: Length::Steps(40),
            ..recipe
        };
        let summary = run(&dataset, &recipe, dir.path(), 0).summary;
        let fell = summary.loss_first - summary.loss_last;
        assert!(
            fell > 0.5,
            "{:?} {:?}: {fell}",
            recipe.method,
            recipe.arithmetic
        );
    }
}

#[test]
fn a_wholly_trained_model_loads_as_it_was_kept() {
    let (dir, dataset) = (tempfile::tempdir().unwrap(), dataset());
    let model = dir.path().join("base");
    wide_base(5).save(&model, Dtype::F32).unwrap();
    for arithmetic in [Mode::Exact, Mode::Fast] {
        let recipe = recipe(Method::Full, arithmetic);
        let path = dir.path().join(format!("{arithmetic:?}"));
        let summary = train_from(&model, &dataset, &recipe, &path, &mut |_| Control::Continue);
        let summary = summary.unwrap();
        let saved = path.join("model");
        let mut workspace = Workspace::default();
        let (mut nats, mut targets) = (0.0, 0);
        let (exact, fast);
        let one: &mut dyn FnMut(&openledger_model::Example) -> openledger_model::Loss =
            match arithmetic {
                Mode::Exact => {
                    exact = Base::load(&saved).unwrap();
                    &mut |row| loss(&exact, None, row, &mut workspace).unwrap()
                }
                Mode::Fast => {
                    fast = Base::<Fast>::load_as(&saved, Format::Bf16).unwrap();
                    &mut |row| loss(&fast, None, row, &mut workspace).unwrap()
                }
            };
        for row in dataset.eval() {
            let loss = one(&row.example);
            nats += loss.sum;
            targets += loss.tokens;
        }
        let mean = nats / f64::from(targets);
        let after = summary.eval_after.unwrap();
        // bf16 rounds the norms' gains, which fast arithmetic had as f32.
        let tolerance = if arithmetic == Mode::Exact {
            1e-12
        } else {
            1e-2
        };
        assert!((mean - after).abs() < tolerance * after, "{mean} {after}");
    }
}

#[test]
fn a_base_of_the_other_arithmetic_is_refused() {
    let (dir, dataset) = (tempfile::tempdir().unwrap(), dataset());
    let recipe = recipe(Method::Lora, Mode::Fast);
    let error = train(&wide_base(5), &dataset, &recipe, dir.path(), &mut |_| {
        Control::Continue
    });
    let error = error.unwrap_err();
    assert!(
        matches!(
            error,
            Error::Recipe {
                setting: "arithmetic",
                ..
            }
        ),
        "{error}"
    );
}
