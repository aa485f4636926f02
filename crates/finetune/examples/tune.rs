//! Tunes an adapter on question/answer rows and prints a few answers:
//! `tune BASE_DIR ROWS.{jsonl,parquet} QUESTION|- ANSWER_COLUMN RUN_DIR [PRESET] [LIMIT] [RECIPE.toml]`.
#![allow(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "output of a command-line tool"
)]

use std::path::Path;

use openledger_finetune::data::{self, Columns};
use openledger_finetune::{Control, Dataset, Preset, Recipe, estimate, train};
use openledger_model::template::Template;
use openledger_model::{Adapter, Base, KvCache, Lane, Tokenizer, Workspace, step};

/// Greedy continuation of `prompt` by at most `limit` tokens.
fn answer(
    base: &Base,
    adapter: &Adapter,
    prompt: &[u32],
    limit: usize,
) -> Result<Vec<u32>, Box<dyn std::error::Error>> {
    let mut cache = KvCache::new(&base.config, base.config.context);
    let mut workspace = Workspace::new();
    let mut output: Vec<u32> = Vec::new();
    let mut next = prompt.to_vec();
    while output.len() < limit && prompt.len() + output.len() < base.config.context {
        let mut lanes = [Lane {
            tokens: &next,
            cache: &mut cache,
            adapter: Some(adapter),
            all_logits: false,
        }];
        let logits = step(base, &mut lanes, &mut workspace)?.remove(0).logits;
        let best = openledger_model::top(&logits, 1)[0].0;
        if base.config.eos.contains(&best) {
            break;
        }
        output.push(best);
        next = vec![best];
    }
    Ok(output)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [base_dir, file, question, answer_column, run_dir, rest @ ..] = arguments.as_slice() else {
        return Err(
            "usage: tune BASE_DIR ROWS.jsonl QUESTION|- ANSWER RUN_DIR [PRESET] [LIMIT]".into(),
        );
    };
    let preset = rest
        .first()
        .map_or(Some(Preset::Standard), |name| Preset::parse(name));
    let preset = preset.ok_or("the preset is quick, standard or thorough")?;
    let limit = rest.get(1).map_or(Ok(usize::MAX), |limit| limit.parse())?;
    let base = Base::load(Path::new(base_dir))?;
    let tokenizer = Tokenizer::load(Path::new(base_dir))?;
    let template = match Template::load(Path::new(base_dir))? {
        Some(template) => template,
        None => Template::for_tokenizer(&tokenizer),
    };
    let columns = match question.as_str() {
        "-" => vec![answer_column.clone()],
        _ => vec![question.clone(), answer_column.clone()],
    };
    let read = data::read(Path::new(file), &Columns::parse(&columns)?, limit)?;
    eprintln!(
        "{} rows, {} unusable",
        read.rows().len(),
        read.flaws().len()
    );
    let dataset = Dataset::from_rows(read.rows(), &tokenizer, &base.config, 0, &template)?;
    let recipe = match rest.get(2) {
        Some(path) => Recipe::load(Path::new(path))?,
        None => Recipe::preset(preset, &base.config, &dataset),
    };
    let dataset = dataset.split(recipe.eval_fraction, recipe.eval_seed)?;
    eprintln!("{}", estimate(&base, &dataset, &recipe)?.words());
    let trained = train(&base, &dataset, &recipe, Path::new(run_dir), &mut |step| {
        if step.step % 20 == 0 || step.eval_loss.is_some() {
            eprintln!(
                "{}/{} loss {:.3} smoothed {:.3} eval {:?} {:.0} tok/s eta {:.0} s",
                step.step,
                step.steps,
                step.loss,
                step.smoothed,
                step.eval_loss,
                step.tokens_per_second,
                step.eta_seconds
            );
        }
        Control::Continue
    })?;
    println!("{}", serde_json::to_string_pretty(&trained.summary)?);
    let mut exact = 0;
    let shown = dataset.train().take(40).collect::<Vec<_>>();
    for (index, row) in shown.iter().enumerate() {
        let example = &row.example;
        let output = answer(
            &base,
            &trained.adapter,
            &example.tokens[..example.loss_from],
            120,
        )?;
        let wanted = &example.tokens[example.loss_from..];
        exact += usize::from(wanted.starts_with(&output) && wanted.len() <= output.len() + 1);
        if index < 8 {
            println!(
                "Q {}\nA {}\n",
                tokenizer.decode(&example.tokens[..example.loss_from]),
                tokenizer.decode(&output)
            );
        }
    }
    println!(
        "{exact} of {} shown training answers come out word for word",
        shown.len()
    );
    Ok(())
}
