//! A whole pre-training run on a few documents: files, resume, held-out scores, bad rows.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;

use openledger_finetune::{
    Control, Ending, Error, Mode, Muon, PretrainRecipe, evaluate_base, pretrain,
};
use openledger_model::{Base, Tokenizer};

const RECIPE: &str = r#"
seed = 3
vocab = 300
tokenizer_bytes = 20_000
tokens = 6_000
batch_tokens = 400
learning_rate = 1e-2
warmup = 0.1
decay = "cosine"
floor = 0.1
clip = 1.0
eval_fraction = 0.1
piece_bytes = 200
checkpoint_every = 4
eval_every = 5

[model]
hidden = 32
layers = 2
heads = 2
kv_heads = 1
mlp = 48
context = 48
rope_theta = 10000.0

[adamw]
weight_decay = 0.1

[[source]]
name = "questions"
file = "questions.jsonl"
weight = 2.0
prompt = "How many are {number}?"
answer = "There are {number} of them, as {who} said."
licence = "CC0-1.0"
attribution = "written for this test"

[[source]]
name = "book"
file = "book.txt"
weight = 1.0
licence = "CC0-1.0"
attribution = "written for this test"
"#;

fn corpora(directory: &Path) {
    let rows: String = (0..120)
        .map(|n| format!("{{\"number\": {n}, \"who\": \"the miller's daughter\"}}\n"))
        .collect();
    std::fs::write(directory.join("questions.jsonl"), rows).unwrap();
    let book = "the river ran past the mill and the wheel turned all day long. ".repeat(40);
    let text = format!("{book}<|endoftext|>{book}");
    std::fs::write(directory.join("book.txt"), text).unwrap();
}

/// The recipe with Muon for the blocks, in one of the modes.
fn recipe(arithmetic: Mode) -> PretrainRecipe {
    PretrainRecipe {
        arithmetic,
        muon: Some(Muon {
            learning_rate: 1e-2,
            momentum: 0.9,
            weight_decay: 0.1,
        }),
        ..toml::from_str(RECIPE).unwrap()
    }
}

#[test]
fn a_base_is_written_and_a_resumed_run_writes_the_same() {
    for mode in [Mode::Exact, Mode::Fast] {
        writes_and_resumes(&recipe(mode));
    }
}

fn writes_and_resumes(recipe: &PretrainRecipe) {
    let dir = tempfile::tempdir().unwrap();
    corpora(dir.path());
    let path = |name: &str| dir.path().join(name);
    let run = |name: &str, pause: Option<u64>| {
        pretrain(
            recipe,
            dir.path(),
            &path(&format!("{name}-run")),
            &path(name),
            &mut |step| match pause {
                Some(at) if step.step == at => Control::Pause,
                _ => Control::Continue,
            },
        )
        .unwrap()
    };
    let whole = run("whole", None);
    assert_eq!(whole.ending, Ending::Completed);
    assert!(whole.loss_last < whole.loss_first - 1.0, "{whole:?}");
    assert_eq!(whole.scores.len(), 2);
    for score in &whole.scores {
        assert!(
            score.eval_tokens > 0 && (0.0..8.0).contains(&score.bits_per_byte),
            "{score:?}"
        );
    }
    assert_eq!(run("broken", Some(6)).ending, Ending::Paused);
    assert!(!path("broken").join("model.safetensors").exists());
    assert_eq!(run("broken", None), whole);
    for file in [
        "model.safetensors",
        "tokenizer.json",
        "loss.csv",
        "evaluation.json",
    ] {
        let read = |name: &str| std::fs::read(path(name).join(file)).unwrap();
        assert_eq!(read("whole"), read("broken"), "{file}");
    }
    let base = Base::load(&path("whole")).unwrap();
    let tokenizer = Tokenizer::load(&path("whole")).unwrap();
    tokenizer.check_model(&base.config).unwrap();
    assert_eq!(
        (base.config.bos, base.config.eos.as_slice()),
        (Some(0), &[1][..])
    );
    let svg = std::fs::read_to_string(path("whole").join("loss.svg")).unwrap();
    assert!(svg.starts_with("<svg"));
    // What the run says of its result is what anybody measures on it.
    let measured = evaluate_base(recipe, dir.path(), &path("whole")).unwrap();
    assert_eq!(measured, whole.scores);
}

#[test]
fn the_exact_mode_writes_the_same_on_any_number_of_threads() {
    let dir = tempfile::tempdir().unwrap();
    corpora(dir.path());
    let run = |threads: usize| {
        let out = dir.path().join(format!("with-{threads}"));
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        pool.build().unwrap().install(|| {
            let recipe = PretrainRecipe {
                batch_tokens: 3_000,
                tokens: 12_000,
                ..recipe(Mode::Exact)
            };
            pretrain(&recipe, dir.path(), &out.join("run"), &out, &mut |_| {
                Control::Continue
            })
            .unwrap();
        });
        std::fs::read(out.join("model.safetensors")).unwrap()
    };
    assert_eq!(run(1), run(3));
}

#[test]
fn another_text_than_the_recipe_names_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    corpora(dir.path());
    let mut recipe = recipe(Mode::Exact);
    let read = |recipe: &PretrainRecipe| {
        let out = dir.path().join("out");
        pretrain(recipe, dir.path(), &out.join("run"), &out, &mut |_| {
            Control::Pause
        })
    };
    recipe.sources[0].digest = Some([7; 32].into());
    let Err(Error::Corpus { found, .. }) = read(&recipe) else {
        panic!("a wrong digest must be refused")
    };
    recipe.sources[0].digest = Some(found);
    assert_eq!(read(&recipe).unwrap().ending, Ending::Paused);
}

#[test]
fn a_row_is_held_out_from_every_source_that_its_file_feeds() {
    let mut recipe = recipe(Mode::Exact);
    let mut twin = recipe.sources[0].clone();
    twin.name = "the same rows as text".into();
    recipe.sources.push(twin);
    let held = |source: usize| -> Vec<usize> {
        (0..1000)
            .filter(|&index| recipe.holds_out(&recipe.sources[source], index))
            .collect()
    };
    assert_eq!(held(0), held(2));
    assert_ne!(held(0), held(1));
    assert!((60..140).contains(&held(0).len()));
    recipe.sources[2].eval_fraction = Some(0.5);
    assert!(recipe.validate().is_err());
}

#[test]
fn a_bad_row_is_named_by_file_and_line() {
    let dir = tempfile::tempdir().unwrap();
    corpora(dir.path());
    let file = dir.path().join("questions.jsonl");
    let mut text = std::fs::read_to_string(&file).unwrap();
    text.push_str("{\"number\": 7}\n");
    std::fs::write(&file, text).unwrap();
    let recipe: PretrainRecipe = toml::from_str(RECIPE).unwrap();
    let error = pretrain(
        &recipe,
        dir.path(),
        &dir.path().join("run"),
        &dir.path().join("out"),
        &mut |_| Control::Continue,
    )
    .unwrap_err();
    assert!(
        matches!(error, Error::CorpusLine { line: 121, .. }),
        "{error}"
    );
    assert!(error.to_string().contains("`who`"), "{error}");
}

#[test]
fn bad_shapes_are_refused() {
    let check = |from: &str, to: &str, word: &str| {
        let recipe: PretrainRecipe = toml::from_str(&RECIPE.replacen(from, to, 1)).unwrap();
        let message = recipe.validate().unwrap_err().to_string();
        assert!(message.contains(word), "{message}");
    };
    check("heads = 2", "heads = 3", "heads");
    check("vocab = 300", "vocab = 100", "vocab");
    check("weight = 2.0", "weight = 0.0", "weight");
    check("tokens = 6_000", "tokens = 0", "tokens");
    check("piece_bytes = 200", "piece_bytes = 0", "piece_bytes");
    let muon = "[muon]\nlearning_rate = 0.0\nmomentum = 0.9\nweight_decay = 0.1\n\n[[source]]";
    check("[[source]]", muon, "muon.learning_rate");
    assert!(toml::from_str::<PretrainRecipe>(&RECIPE.replace("warmup", "warm_up")).is_err());
}
