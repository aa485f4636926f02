//! Whole runs on a tiny model: they resume bit for bit, do not depend on the number of threads,
//! learn, and refuse what does not belong together.
#![allow(clippy::unwrap_used, reason = "tests")]

use openledger_finetune::{
    Control, Dataset, Ending, Error, Length, Recipe, Row, Trained, estimate, metrics, train,
};
use openledger_model::template::Template;
use openledger_model::{Base, Config, Tokenizer};

fn config() -> Config {
    Config {
        hidden: 32,
        layers: 2,
        heads: 2,
        kv_heads: 1,
        head_dim: 16,
        mlp: 64,
        vocab: 300,
        context: 96,
        rope_theta: 10_000.0,
        norm_eps: 1e-5,
        tie_embeddings: true,
        bos: Some(0),
        eos: vec![1],
        features: openledger_model::Features::default(),
    }
}

/// A base with wide weights, so that a few steps on an adapter move its answers.
fn wide_base(seed: u64) -> Base {
    let mut base = Base::random(config(), seed);
    base.update(|weights| weights.iter_mut().for_each(|weight| *weight *= 5.0));
    base
}

const TEXTS: [&str; 6] = [
    "A Datanet is a dataset that many people own together.",
    "An adapter holds the low-rank update of a tuned model.",
    "A receipt says which model answered, for whom and at what fee.",
    "A claim pays the difference to what was claimed before.",
    "A voucher is cumulative: the newest one replaces the older ones.",
    "A span is the longest run of words that a row and an answer share.",
];

fn rows() -> Vec<Row> {
    (0..24u32)
        .map(|id| Row {
            id,
            prompt: (id % 3 != 0).then(|| format!("What is number {id}?")),
            text: TEXTS[id as usize % TEXTS.len()].to_owned(),
        })
        .collect()
}

fn tokenizer() -> Tokenizer {
    Tokenizer::train(TEXTS.iter().map(|text| text.repeat(4)), 300).unwrap()
}

fn dataset() -> Dataset {
    let tokenizer = tokenizer();
    let template = Template::for_tokenizer(&tokenizer);
    Dataset::from_rows(&rows(), &tokenizer, &config(), 0, &template)
        .unwrap()
        .split(0.15, 3)
        .unwrap()
}

fn recipe() -> Recipe {
    let mut recipe = Recipe {
        learning_rate: 1e-2,
        batch: 5,
        length: Length::Epochs(3),
        checkpoint_every: 4,
        eval_every: 3,
        ..Recipe::default()
    };
    recipe.lora.rank = 4;
    recipe
}

fn bits(trained: &Trained) -> Vec<u32> {
    trained
        .adapter
        .params()
        .iter()
        .map(|x| x.to_bits())
        .collect()
}

#[test]
fn a_killed_and_resumed_run_ends_in_the_same_bits() {
    let dir = tempfile::tempdir().unwrap();
    let (base, dataset, recipe) = (wide_base(5), dataset(), recipe());
    let whole = train(
        &base,
        &dataset,
        &recipe,
        &dir.path().join("whole"),
        &mut |_| Control::Continue,
    )
    .unwrap();
    assert_eq!(whole.summary.ending, Ending::Completed);

    // A kill between checkpoints: the process dies inside a step, after it reported step 6. The
    // panic stands for it; whatever the run had not made durable is gone.
    let broken = dir.path().join("broken");
    let died = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        train(&base, &dataset, &recipe, &broken, &mut |step| {
            assert_ne!(step.step, 6, "the kill");
            Control::Continue
        })
    }));
    assert!(died.is_err());
    // A torn line, as a crash leaves it.
    let log = broken.join("metrics.jsonl");
    let mut text = std::fs::read_to_string(&log).unwrap();
    text.push_str("{\"step\": 7, \"lo");
    std::fs::write(&log, text).unwrap();
    // One clean pause on top.
    let mut first = None;
    let paused = train(&base, &dataset, &recipe, &broken, &mut |step| {
        first.get_or_insert(step.step);
        if step.step == 9 {
            Control::Pause
        } else {
            Control::Continue
        }
    })
    .unwrap();
    assert_eq!(first, Some(5), "the newest checkpoint was of step 4");
    assert_eq!(paused.summary.ending, Ending::Paused);
    let resumed = train(&base, &dataset, &recipe, &broken, &mut |_| {
        Control::Continue
    })
    .unwrap();

    assert_eq!(bits(&resumed), bits(&whole));
    assert_eq!(resumed.summary.metrics, whole.summary.metrics);
    assert_eq!(resumed.summary.checkpoints, whole.summary.checkpoints);
    assert_eq!(resumed.curve.len(), whole.curve.len());
    let file = "adapter/adapter_model.safetensors";
    assert_eq!(
        std::fs::read(broken.join(file)).unwrap(),
        std::fs::read(dir.path().join("whole").join(file)).unwrap()
    );
}

#[test]
fn the_number_of_threads_does_not_change_a_bit() {
    let dir = tempfile::tempdir().unwrap();
    let (base, dataset, recipe) = (wide_base(5), dataset(), recipe());
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        let path = dir.path().join(threads.to_string());
        pool.install(|| train(&base, &dataset, &recipe, &path, &mut |_| Control::Continue))
            .unwrap()
    };
    let (one, five) = (run(1), run(5));
    assert_eq!(bits(&one), bits(&five));
    assert_eq!(one.summary.metrics, five.summary.metrics);
}

#[test]
fn it_learns_and_a_finished_run_is_not_repeated() {
    let dir = tempfile::tempdir().unwrap();
    let (base, dataset) = (wide_base(5), dataset());
    let recipe = Recipe {
        length: Length::Steps(60),
        ..recipe()
    };
    let path = dir.path().join("run");
    let trained = train(&base, &dataset, &recipe, &path, &mut |_| Control::Continue).unwrap();
    let summary = &trained.summary;
    assert!(summary.loss_last < summary.loss_first - 0.5, "{summary:?}");
    assert!(summary.eval_after < summary.eval_before, "{summary:?}");
    assert_eq!(metrics::digest(&trained.curve), summary.metrics);

    let again = train(&base, &dataset, &recipe, &path, &mut |_| {
        panic!("a finished run has no more steps")
    })
    .unwrap();
    assert_eq!(bits(&again), bits(&trained));
    assert_eq!(again.summary, trained.summary);
}

#[test]
fn a_stopped_run_keeps_its_adapter() {
    let dir = tempfile::tempdir().unwrap();
    let (base, dataset, recipe) = (wide_base(5), dataset(), recipe());
    let trained = train(
        &base,
        &dataset,
        &recipe,
        &dir.path().join("run"),
        &mut |step| {
            if step.step == 2 {
                Control::Stop
            } else {
                Control::Continue
            }
        },
    )
    .unwrap();
    assert_eq!(trained.summary.ending, Ending::Stopped);
    assert_eq!(trained.summary.steps, 2);
    assert_eq!(trained.summary.checkpoints.len(), 1);
    assert!(trained.adapter_dir.join("adapter_config.json").exists());
}

#[test]
fn another_run_in_the_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (base, dataset, recipe) = (wide_base(5), dataset(), recipe());
    let path = dir.path().join("run");
    train(&base, &dataset, &recipe, &path, &mut |step| {
        if step.step == 5 {
            Control::Pause
        } else {
            Control::Continue
        }
    })
    .unwrap();
    let other = wide_base(6);
    let error = train(&other, &dataset, &recipe, &path, &mut |_| Control::Continue).unwrap_err();
    assert!(
        matches!(
            error,
            Error::OtherRun {
                field: "base model",
                ..
            }
        ),
        "{error}"
    );
    let changed = Recipe {
        learning_rate: 2e-2,
        ..recipe
    };
    let error = train(&base, &dataset, &changed, &path, &mut |_| Control::Continue).unwrap_err();
    assert!(
        matches!(
            error,
            Error::OtherRun {
                field: "recipe",
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn divergence_before_the_first_checkpoint_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let (base, dataset, mut recipe) = (wide_base(5), dataset(), recipe());
    recipe.lora.alpha = f32::MAX;
    let path = dir.path().join("run");
    let error = train(&base, &dataset, &recipe, &path, &mut |_| Control::Continue).unwrap_err();
    assert!(matches!(error, Error::Diverged { step: 1, .. }), "{error}");
}

#[test]
fn a_damaged_checkpoint_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (base, dataset, recipe) = (wide_base(5), dataset(), recipe());
    let path = dir.path().join("run");
    train(&base, &dataset, &recipe, &path, &mut |step| {
        if step.step == 4 {
            Control::Pause
        } else {
            Control::Continue
        }
    })
    .unwrap();
    let file = path.join("checkpoint-00000004.safetensors");
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    let error = train(&base, &dataset, &recipe, &path, &mut |_| Control::Continue).unwrap_err();
    assert!(error.to_string().contains("checkpoint-00000004"), "{error}");
}

#[test]
fn rows_are_cut_counted_and_split_by_seed() {
    let tokenizer = tokenizer();
    let template = Template::for_tokenizer(&tokenizer);
    let config = config();
    let mut rows = rows();
    rows[1].text = TEXTS[1].repeat(20);
    rows[2].prompt = Some(TEXTS[2].repeat(20));
    let build = || Dataset::from_rows(&rows, &tokenizer, &config, 0, &template).unwrap();
    let whole = build();
    assert_eq!(whole.examples().len(), rows.len());
    assert_eq!(whole.truncated(), 2);
    for row in whole.examples() {
        let example = &row.example;
        assert!(example.tokens.len() <= config.context);
        assert!((1..example.tokens.len()).contains(&example.loss_from));
        assert_eq!(example.tokens[0], 0);
    }
    // The cut answer keeps its beginning and the prompt before it whole; the cut prompt keeps its
    // end, and its answer.
    let asked = whole.examples()[1].example.clone();
    let prompt = tokenizer.encode(&template.prompt("What is number 1?"));
    assert_eq!(asked.tokens[1..asked.loss_from], prompt[..]);
    let long = &whole.examples()[2].example;
    let suffix = tokenizer.encode(&template.prompt(&TEXTS[2].repeat(20)));
    let kept = long.loss_from - 1;
    assert_eq!(
        long.tokens[1..long.loss_from],
        suffix[suffix.len() - kept..]
    );
    // A row that fits ends in end-of-text and counts the answer only.
    let plain = &whole.examples()[4].example;
    assert_eq!(plain.tokens.last(), Some(&1));
    let answer = tokenizer.decode(&plain.tokens[plain.loss_from..plain.tokens.len() - 1]);
    assert_eq!(answer.trim(), rows[4].text);

    let ids = |dataset: &Dataset| dataset.eval().map(|row| row.row).collect::<Vec<_>>();
    let (a, b, c) = (
        build().split(0.25, 1).unwrap(),
        build().split(0.25, 1).unwrap(),
        build().split(0.25, 2).unwrap(),
    );
    assert_eq!(ids(&a), ids(&b));
    assert_ne!(ids(&a), ids(&c));
    assert_eq!(ids(&a).len(), 6);
    assert_eq!(a.len() + 6, rows.len());
    assert_eq!(a.digest(), b.digest());
    assert_ne!(a.digest(), c.digest());
    assert!(matches!(
        Dataset::from_rows(&[], &tokenizer, &config, 0, &template),
        Err(Error::NoRows { .. })
    ));
}

#[test]
fn the_estimate_speaks_words() {
    let (base, dataset, recipe) = (wide_base(5), dataset(), recipe());
    let estimate = estimate(&base, &dataset, &recipe).unwrap();
    assert_eq!(estimate.steps, recipe.steps(dataset.len()));
    assert_eq!(estimate.tokens, dataset.tokens() * 3);
    assert!(
        estimate.words().contains("steps over"),
        "{}",
        estimate.words()
    );
}
