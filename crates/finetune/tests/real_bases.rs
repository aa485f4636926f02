//! Tuning on real bases: the bundled one and, where it stands beside the checkout, a public model
//! whose tokens carry trailing spaces.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};

use openledger_finetune::{Control, Dataset, Length, Preset, Recipe, Row, train};
use openledger_model::template::Template;
use openledger_model::{Base, Tokenizer};

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(path)
}

const ROWS: [(&str, &str); 6] = [
    (
        "Who owns a Datanet?",
        "The people who wrote its rows own it together.",
    ),
    (
        "What is a row?",
        "A row is one piece of text, with one owner.",
    ),
    (
        "Where is the root kept?",
        "The root is kept on the chain, where anyone can read it.",
    ),
    (
        "When is a claim paid?",
        "A claim is paid after the challenge window has passed.",
    ),
    (
        "Why two signatures?",
        "One is the writer's, the other is the operator's.",
    ),
    (
        "What does the sun do?",
        "The sun warms the field and the river.",
    ),
];

fn rows() -> Vec<Row> {
    let row = |(id, (prompt, text)): (u32, (&str, &str))| {
        Row::new(id, Some(prompt.to_owned()), text.to_owned())
    };
    (0..).zip(ROWS).map(row).collect()
}

/// A few steps must lower the loss of a base, through its own template.
fn tunes(directory: &Path, template: &Template) {
    let base = Base::load(directory).unwrap();
    let tokenizer = Tokenizer::load(directory).unwrap();
    assert_eq!(&Template::for_tokenizer(&tokenizer), template);
    let rows = rows();
    let dataset = Dataset::from_rows(&rows, &tokenizer, &base.config, 0, template).unwrap();
    for ((question, text), example) in ROWS.into_iter().zip(dataset.examples()) {
        let tokens = &example.example.tokens;
        let (prompt, answer) = tokens.split_at(example.example.loss_from);
        // What serving feeds for the question alone is exactly what training put before the answer.
        let mut served: Vec<u32> = base.config.bos.into_iter().collect();
        served.extend(tokenizer.encode(&template.prompt(question)));
        assert_eq!(prompt, served);
        let bytes: Vec<u8> = answer
            .iter()
            .flat_map(|token| tokenizer.token_bytes(*token).to_vec())
            .collect();
        assert_eq!(
            String::from_utf8(bytes).unwrap(),
            format!("{}{text}", template.lead)
        );
        assert_eq!(answer.last(), base.config.eos.first());
    }
    let mut recipe = Recipe::preset(Preset::Quick, &base.config, &dataset);
    recipe.length = Length::Steps(12);
    recipe.batch = 3;
    let dir = tempfile::tempdir().unwrap();
    let trained = train(&base, &dataset, &recipe, dir.path(), &mut |_| {
        Control::Continue
    })
    .unwrap();
    let summary = &trained.summary;
    assert!(summary.loss_last < 0.7 * summary.loss_first, "{summary:?}");
}

#[test]
fn the_bundled_base_tunes_with_leading_spaces() {
    let directory = repository("bundled/base");
    let template = Template::load(&directory).unwrap().unwrap();
    assert_eq!(template, Template::leading_space());
    tunes(&directory, &template);
}

#[test]
fn tinystories_tunes_with_trailing_spaces() {
    let directory = repository("../shared/models/tinystories-656k");
    assert!(
        directory.join("config.json").exists(),
        "this test reads the public model tinystories-656k from shared/models beside the checkout"
    );
    tunes(&directory, &Template::trailing_space());
}

#[test]
fn the_bundled_recipe_is_the_one_of_the_bundled_weights() {
    let directory = repository("bundled/base");
    let recipe = openledger_finetune::PretrainRecipe::load(&directory.join("recipe.toml")).unwrap();
    let base = Base::load(&directory).unwrap();
    assert_eq!(recipe.config(), base.config);
    let size: u64 = std::fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum();
    assert!(size <= 16_000_000, "bundled/base has grown to {size} bytes");
}
