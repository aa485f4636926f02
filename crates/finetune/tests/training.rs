//! Whole runs on a tiny model: they resume bit for bit, do not depend on the number of threads,
//! learn, and refuse what does not belong together.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{TEXTS, config, dataset, rows, tokenizer, wide_base};
use openledger_finetune::{
    Content, Control, Dataset, EarlyStopping, Ending, Error, Length, LongRows, Optimizer, Recipe,
    Row, Trained, Turn, estimate, metrics, train,
};
use openledger_model::Base;
use openledger_model::template::{Role, Template};

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

/// Runs `recipe` undisturbed, and again killed after every step that `kills` names; both must end
/// in the same bits.
fn killed_and_whole_are_equal(base: &Base, dataset: &Dataset, recipe: &Recipe, kills: &[u64]) {
    let dir = tempfile::tempdir().unwrap();
    let start = |name: &str, kill: u64| {
        let path = dir.path().join(name);
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            train(base, dataset, recipe, &path, &mut |step| {
                assert_ne!(step.step, kill, "the kill");
                Control::Continue
            })
            .unwrap()
        }))
    };
    let whole = start("whole", 0).unwrap();
    for kill in kills {
        assert!(start("broken", *kill).is_err());
    }
    let resumed = start("broken", 0).unwrap();
    assert_eq!(bits(&resumed), bits(&whole));
    assert_eq!(resumed.summary.metrics, whole.summary.metrics);
    assert_eq!(resumed.summary.checkpoints, whole.summary.checkpoints);
}

#[test]
fn eight_bit_moments_survive_kills() {
    let recipe = Recipe {
        optimizer: Optimizer::Adamw8bit,
        ..recipe()
    };
    killed_and_whole_are_equal(&wide_base(5), &dataset(), &recipe, &[3, 5, 6, 10]);
}

#[test]
fn accumulated_batches_are_one_large_batch() {
    let dir = tempfile::tempdir().unwrap();
    let (base, dataset) = (wide_base(5), dataset());
    let run = |batch, gradient_accumulation| {
        let recipe = Recipe {
            batch,
            gradient_accumulation,
            ..recipe()
        };
        let path = dir.path().join(batch.to_string());
        train(&base, &dataset, &recipe, &path, &mut |_| Control::Continue).unwrap()
    };
    let (one, three) = (run(6, 1), run(2, 3));
    assert_eq!(one.summary.steps, 12);
    assert_eq!(bits(&one), bits(&three));
}

/// A run whose held-out loss soon rises: a high learning rate on few rows.
fn overfitting() -> Recipe {
    Recipe {
        learning_rate: 3e-2,
        length: Length::Steps(60),
        eval_every: 4,
        checkpoint_every: 7,
        early_stopping: Some(EarlyStopping {
            patience: 2,
            min_delta: 0.01,
        }),
        ..recipe()
    }
}

#[test]
fn a_run_stops_early_and_keeps_its_best_weights() {
    let dir = tempfile::tempdir().unwrap();
    let (base, dataset, recipe) = (wide_base(5), dataset(), overfitting());
    let path = dir.path().join("run");
    let trained = train(&base, &dataset, &recipe, &path, &mut |_| Control::Continue).unwrap();
    let summary = &trained.summary;
    assert_eq!(summary.ending, Ending::StoppedEarly);
    assert!(summary.steps < 60, "{summary:?}");
    let best = summary.best.unwrap();
    // The curve says the same: nothing after the best is better by the margin, and there are just
    // as many evaluations as patience allows.
    let evals: Vec<(u64, f64)> = trained
        .curve
        .iter()
        .filter_map(|step| Some((step.step, step.eval_loss?)))
        .collect();
    let after: Vec<_> = evals.iter().filter(|(step, _)| *step > best.step).collect();
    assert_eq!(after.len(), 2);
    assert!(after.iter().all(|(_, loss)| *loss >= best.loss - 0.01));
    assert!(evals.contains(&(best.step, best.loss)));
    // The adapter is that of the best evaluation: few enough rows are held out that the curve's
    // evaluations and the last one are over the same rows.
    assert_eq!(summary.eval_after, Some(best.loss));
    killed_and_whole_are_equal(&base, &dataset, &recipe, &[6, 9, 10]);
}

/// Runs in a child process that may not write files longer than it is told.
#[test]
#[ignore = "started by a_full_disk_keeps_the_last_good_state"]
fn child_with_little_disk() {
    let Some(path) = std::env::var_os("OPENLEDGER_TEST_RUN") else {
        return;
    };
    let (base, dataset, recipe) = (wide_base(5), dataset(), recipe());
    let error = train(&base, &dataset, &recipe, path.as_ref(), &mut |_| {
        Control::Continue
    })
    .unwrap_err();
    let message = error.to_string();
    assert!(message.contains("cannot write"), "{message}");
    assert!(message.contains("checkpoint-00000008"), "{message}");
}

#[test]
#[cfg(unix)]
fn a_full_disk_keeps_the_last_good_state() {
    let dir = tempfile::tempdir().unwrap();
    let (base, dataset, recipe) = (wide_base(5), dataset(), recipe());
    let run = |name: &str, pause: u64| {
        let path = dir.path().join(name);
        let mut control = |step: &openledger_finetune::StepMetrics| match step.step == pause {
            true => Control::Pause,
            false => Control::Continue,
        };
        train(&base, &dataset, &recipe, &path, &mut control).unwrap()
    };
    let whole = run("whole", 0);
    assert_eq!(run("full", 5).summary.ending, Ending::Paused);
    let path = dir.path().join("full");
    let files = || {
        let names = std::fs::read_dir(&path).unwrap();
        let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = files();
    // A limit of 8 blocks of 512 bytes stands for the full disk: the curve fits, a checkpoint does
    // not. The signal that would end the process is ignored, so that the write fails instead.
    let child = std::process::Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 8; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "child_with_little_disk",
            "--ignored",
            "--nocapture",
        ])
        .env("OPENLEDGER_TEST_RUN", &path)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success(), "{said}");
    assert_eq!(
        files(),
        before,
        "no litter, and the checkpoints are still there"
    );
    let resumed = run("full", 0);
    assert_eq!(bits(&resumed), bits(&whole));
    assert_eq!(resumed.summary.metrics, whole.summary.metrics);
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
    rows[1] = Row::new(1, Some("What is number 1?".into()), TEXTS[1].repeat(20));
    rows[2] = Row::new(2, Some(TEXTS[2].repeat(20)), TEXTS[2].to_owned());
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
    assert_eq!(answer.trim(), TEXTS[4]);

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
fn split_rows_learn_every_answer_token_once() {
    let tokenizer = tokenizer();
    let template = Template::for_tokenizer(&tokenizer);
    let config = config();
    let long = TEXTS[1].repeat(12);
    let rows = [
        Row::new(0, None, long.clone()),
        Row::new(1, Some("What is number 1?".into()), long.clone()),
        Row::new(2, Some(long.clone()), TEXTS[2].to_owned()),
        Row::new(3, None, TEXTS[3].to_owned()),
    ];
    let split = |rows: &[Row]| {
        let long_rows = LongRows::Split;
        Dataset::with_long_rows(rows, &tokenizer, &config, 0, &template, long_rows).unwrap()
    };
    let whole = split(&rows);
    let learned = |row: u32| -> Vec<u32> {
        let windows = whole.examples().iter().filter(|window| window.row == row);
        windows
            .flat_map(|window| &window.example.tokens[window.example.loss_from..])
            .copied()
            .collect()
    };
    let ended = |mut tokens: Vec<u32>| {
        tokens.push(1);
        tokens
    };
    assert_eq!(learned(0), ended(tokenizer.encode(&long)));
    assert_eq!(learned(1), ended(template.answer_tokens(&tokenizer, &long)));
    assert_eq!(
        learned(2),
        ended(template.answer_tokens(&tokenizer, TEXTS[2]))
    );
    let windows = |row: u32| whole.examples().iter().filter(move |w| w.row == row);
    assert!(windows(0).count() > 2 && windows(1).count() > 2);
    assert!(windows(0).all(|window| window.example.tokens.len() <= config.context));
    // Only the row whose prompt was too long has lost anything.
    let cut: Vec<u32> = whole
        .examples()
        .iter()
        .filter(|w| w.truncated)
        .map(|w| w.row)
        .collect();
    assert_eq!(cut, [2]);
    // The windows of a row are held out together.
    for seed in 0..8 {
        let halves = split(&rows).split(0.5, seed).unwrap();
        let train: Vec<u32> = halves.train().map(|window| window.row).collect();
        assert!(halves.eval().all(|window| !train.contains(&window.row)));
    }
}

#[test]
fn a_conversation_teaches_every_answer_and_nothing_else() {
    let tokenizer = tokenizer();
    let template = Template::for_tokenizer(&tokenizer);
    let turn = |role, content: &str| Turn {
        role,
        content: content.to_owned(),
    };
    let turns = vec![
        turn(Role::System, "Be brief."),
        turn(Role::User, "One?"),
        turn(Role::Assistant, "A row."),
        turn(Role::User, "Two?"),
        turn(Role::Assistant, "A claim."),
    ];
    let row = Row {
        id: 7,
        content: Content::Conversation(turns),
    };
    let dataset = Dataset::from_rows(&[row], &tokenizer, &config(), 0, &template).unwrap();
    let shown: Vec<(String, String)> = dataset
        .examples()
        .iter()
        .map(|row| {
            let (prompt, answer) = row.example.tokens.split_at(row.example.loss_from);
            let answer = &answer[..answer.len() - 1];
            (tokenizer.decode(&prompt[1..]), tokenizer.decode(answer))
        })
        .collect();
    assert_eq!(shown.len(), 2);
    assert_eq!(
        (shown[0].1.trim(), shown[1].1.trim()),
        ("A row.", "A claim.")
    );
    assert!(shown[1].0.starts_with("Be brief."), "{}", shown[1].0);
    assert!(shown[1].0.contains("A row.") && shown[1].0.contains("Two?"));
    assert!(!shown[0].0.contains("Two?"));
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
