//! Tunes a base on the `task -> command` rows of tldr-pages that its own pre-training did not hold
//! out, and scores it on those that it did, beside the untuned base and beside looking up the most
//! similar task: `commands PRETRAIN_RECIPE.toml CORPORA BASE_DIR RUN_DIR [TUNING_RECIPE.toml]`.
#![allow(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "output of a command-line tool"
)]

use std::collections::HashSet;
use std::path::Path;

use openledger_finetune::answers::{Nearest, Scores, greedy};
use openledger_finetune::data::{self, Columns};
use openledger_finetune::{
    Content, Control, Dataset, Length, Mode, PretrainRecipe, Recipe, Row, StepMetrics, train,
};
use openledger_model::template::Template;
use openledger_model::{Adapter, Base, Tokenizer};

/// The question of a row. Most tasks do not say which program they are about, as the page they
/// stand on does.
const QUESTION: &str = "{command}: {task}";

/// The answer of a row.
const ANSWER: &str = "code";

/// Longest answer, tokens; the longest held-out command is shorter.
const LONGEST: usize = 96;

/// Held-out questions whose answers are printed.
const SHOWN: usize = 20;

type Failure = Box<dyn std::error::Error>;

/// One row of the corpus: [`QUESTION`] and the command.
struct Pair {
    task: String,
    code: String,
}

fn answers(
    base: &Base,
    adapter: Option<&Adapter>,
    tokenizer: &Tokenizer,
    template: &Template,
    held: &[Pair],
) -> Result<Vec<String>, Failure> {
    let prompts: Vec<Vec<u32>> = held
        .iter()
        .map(|pair| {
            let prompt = tokenizer.encode(&template.prompt(&pair.task));
            base.config.bos.into_iter().chain(prompt).collect()
        })
        .collect();
    let answers = greedy(base, adapter, &prompts, LONGEST)?;
    Ok(answers
        .iter()
        .map(|tokens| tokenizer.decode(tokens).trim().to_owned())
        .collect())
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [recipe, corpora, base_dir, run_dir, tuning @ ..] = arguments.as_slice() else {
        return Err(
            "usage: commands PRETRAIN_RECIPE.toml CORPORA BASE_DIR RUN_DIR [RECIPE]".into(),
        );
    };
    let pretraining = PretrainRecipe::load(Path::new(recipe))?;
    let source = pretraining.sources.iter().find(|s| s.name == "tldr");
    let source = source.ok_or("the recipe has no source called tldr")?;
    let (mut known, mut held) = (Vec::new(), Vec::new());
    let columns = Columns::parse(&[QUESTION.to_owned(), ANSWER.to_owned()])?;
    let file = Path::new(corpora).join(&source.file);
    for row in data::read(&file, &columns, usize::MAX)?.strict()? {
        let Content::Answer { prompt, answer } = row.content else {
            return Err("the corpus holds questions and answers".into());
        };
        let pair = Pair {
            task: prompt,
            code: answer,
        };
        if pretraining.holds_out(source, row.id as usize) {
            held.push(pair);
        } else {
            known.push(pair);
        }
    }

    let (base, tokenizer) = (
        Base::load(base_dir.as_ref())?,
        Tokenizer::load(base_dir.as_ref())?,
    );
    let template = Template::load(base_dir.as_ref())?.ok_or("the base has no template")?;
    let rows: Vec<Row> = (0..)
        .zip(&known)
        .map(|(id, pair)| Row::new(id, Some(pair.task.clone()), pair.code.clone()))
        .collect();
    let dataset = Dataset::from_rows(&rows, &tokenizer, &base.config, 128, &template)?;
    let recipe = match tuning {
        [path, ..] => toml::from_str(&std::fs::read_to_string(path)?)?,
        [] => Recipe {
            arithmetic: Mode::Fast,
            batch: 64,
            length: Length::Epochs(2),
            eval_fraction: 0.01,
            ..Recipe::default()
        },
    };
    let dataset = dataset.split(recipe.eval_fraction, recipe.eval_seed)?;
    let begun = std::time::Instant::now();
    let mut progress = |step: &StepMetrics| {
        if step.step.is_multiple_of(20) {
            eprintln!("{} of {}: {:.3}", step.step, step.steps, step.smoothed);
        }
        Control::Continue
    };
    let run_dir = Path::new(run_dir);
    let trained = match recipe.arithmetic {
        Mode::Exact => train(&base, &dataset, &recipe, run_dir, &mut progress)?,
        Mode::Fast => {
            let fast = base.to_fast(recipe.format());
            train(&fast, &dataset, &recipe, run_dir, &mut progress)?
        }
    };
    let seconds = begun.elapsed().as_secs_f64();

    let nearest = Nearest::new(known.iter().map(|pair| pair.task.as_str()));
    let looked_up: Vec<String> = held
        .iter()
        .map(|pair| {
            nearest
                .find(&pair.task)
                .map_or("", |index| known[index].code.as_str())
        })
        .map(str::to_owned)
        .collect();
    let untuned = answers(&base, None, &tokenizer, &template, &held)?;
    let tuned = answers(&base, Some(&trained.adapter), &tokenizer, &template, &held)?;

    // A task may stand on several pages; where one of them is a training row with the same
    // command, every method can know the answer.
    let pair = |pair: &Pair| (pair.task.clone(), pair.code.clone());
    let pairs: HashSet<_> = known.iter().map(pair).collect();
    let repeated = held
        .iter()
        .filter(|held| pairs.contains(&pair(held)))
        .count();
    let score = |answers: &[String]| {
        Scores::of(
            answers
                .iter()
                .map(String::as_str)
                .zip(held.iter().map(|p| p.code.as_str())),
        )
    };
    let report = serde_json::json!({
        "questions": held.len(),
        "questions_repeated_in_training": repeated,
        "training_rows": dataset.len(),
        "tuning": {"recipe": recipe, "summary": trained.summary, "seconds": seconds},
        "scores": {
            "untuned base": score(&untuned),
            "nearest training task": score(&looked_up),
            "tuned base": score(&tuned),
        },
        "samples": (0..held.len().min(SHOWN)).map(|index| serde_json::json!({
            "task": held[index].task,
            "expected": held[index].code,
            "untuned base": untuned[index],
            "nearest training task": looked_up[index],
            "tuned base": tuned[index],
        })).collect::<Vec<_>>(),
    });
    println!("{}", serde_json::to_string_pretty(&report)?);
    Ok(())
}
