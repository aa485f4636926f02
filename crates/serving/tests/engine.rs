//! The engine as its callers see it: batching changes no bit, adapters stay apart, lanes are freed,
//! bounds hold, text streams whole.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{LONG, base, collect, config, one, request, start, tokenizer, write_adapter};
use openledger_model::template::{Role, Template};
use openledger_model::{KvCache, Lane, Workspace, step};
use openledger_primitives::keccak256;
use openledger_serving::{
    Engine, EngineConfig, Error, Event, FinishReason, Prompt, Request, Sampling,
};

const PROMPTS: [&str; 8] = [
    "the quick",
    "a lazy dog naps and then it jumps over the quick brown fox",
    "dogs",
    "and then",
    "it naps, as dogs do. the fox",
    "over the lazy",
    "brown",
    "do. do. do. do. do. do.",
];

fn small(lanes: usize, step_tokens: usize) -> EngineConfig {
    EngineConfig {
        lanes,
        step_tokens,
        ..EngineConfig::default()
    }
}

#[test]
fn one_lane_or_sixteen_give_the_same_bits_for_every_mix_of_adapters() {
    let dir = tempfile::tempdir().unwrap();
    let paths = [(1, 4), (2, 8), (3, 2)].map(|(seed, rank)| write_adapter(dir.path(), seed, rank));
    let requests: Vec<Request> = (0..16usize)
        .map(|i| {
            let model = [None, Some("one"), Some("two"), Some("three")][i % 4];
            let mut request = request(model, PROMPTS[i % PROMPTS.len()], 6 + i as u32);
            request.seed = i as u64;
            request
        })
        .collect();
    let load = |engine: &Engine| {
        for (name, path) in ["one", "two", "three"].iter().zip(&paths) {
            engine.adapters().load(name, path).unwrap();
        }
    };
    let alone = start(small(1, 512));
    load(&alone);
    let expected: Vec<_> = requests
        .iter()
        .map(|request| one(&alone, request.clone()))
        .collect();
    // All at once, with prompts cut into small chunks.
    let together = start(small(16, 19));
    load(&together);
    let running: Vec<_> = requests
        .iter()
        .map(|request| together.submit(request.clone()).unwrap())
        .collect();
    for (answers, expected) in running.into_iter().zip(&expected) {
        assert_eq!(&collect(answers).0[0], expected);
    }
    assert!(together.stats().steps < alone.stats().steps / 2);
    // The adapters do change the answers.
    let mut text: Vec<_> = expected
        .iter()
        .map(|e| e.output_tokens[..6].to_vec())
        .collect();
    text.sort();
    text.dedup();
    assert!(text.len() > 12, "{text:?}");
}

#[test]
fn an_answer_can_be_recomputed_from_its_tokens() {
    let dir = tempfile::tempdir().unwrap();
    let path = write_adapter(dir.path(), 5, 4);
    let engine = start(EngineConfig::default());
    engine.adapters().load("a", &path).unwrap();
    let completion = one(&engine, request(Some("a"), PROMPTS[1], 12));
    // A verifier: one forward of prompt and answer, then the same hashes.
    let adapter = openledger_model::Adapter::load_peft(&path, &config()).unwrap();
    let base = base();
    let mut cache = KvCache::new(&config(), 256);
    let mut workspace = Workspace::new();
    let mut hidden = Vec::new();
    let mut surprisals = Vec::new();
    let (prompt, output) = (&completion.prompt_tokens, &completion.output_tokens);
    for (index, &token) in output.iter().enumerate() {
        let new = if index == 0 {
            prompt.as_slice()
        } else {
            &output[index - 1..index]
        };
        let mut lanes = [Lane {
            tokens: new,
            cache: &mut cache,
            adapter: Some(&adapter),
            all_logits: false,
        }];
        let result = step(&base, &mut lanes, &mut workspace).unwrap().remove(0);
        hidden.extend(result.hidden.iter().flat_map(|x| x.to_le_bytes()));
        surprisals.push(openledger_model::surprisal_millibits(&result.logits, token));
    }
    assert_eq!(keccak256(&hidden), completion.activation);
    assert_eq!(surprisals, completion.surprisals);
}

#[test]
fn an_unknown_model_is_an_error_and_never_the_base() {
    let engine = start(EngineConfig::default());
    let error = engine.submit(request(Some("ghost"), "the", 4)).unwrap_err();
    assert!(matches!(error, Error::UnknownModel { name } if name == "ghost"));
}

#[test]
fn dropping_the_answers_frees_the_lane() {
    let engine = start(small(1, 64));
    let mut first = engine.submit(request(None, "the", LONG)).unwrap();
    // It runs: a token came.
    assert!(first.events.blocking_recv().is_some());
    let second = engine.submit(request(None, "dogs", 3)).unwrap();
    drop(first);
    assert_eq!(collect(second).0[0].output_tokens.len(), 3);
    let third = one(&engine, request(None, "fox", 2));
    assert_eq!(third.output_tokens.len(), 2);
    let stats = engine.stats();
    assert_eq!((stats.queued, stats.finished >= 2), (0, true));
    // The first was cut off long before its end.
    assert!(stats.tokens < u64::from(LONG) / 2, "{stats:?}");
}

#[test]
fn a_cancelled_waiting_request_is_never_run() {
    let engine = start(small(1, 64));
    let mut running = engine.submit(request(None, "the", LONG)).unwrap();
    assert!(running.events.blocking_recv().is_some());
    let waiting = engine.submit(request(None, "dogs", LONG)).unwrap();
    drop(waiting);
    drop(running);
    one(&engine, request(None, "fox", 2));
    assert!(
        engine.stats().tokens < u64::from(LONG),
        "{:?}",
        engine.stats()
    );
}

#[test]
fn a_full_queue_says_busy() {
    let engine = start(EngineConfig {
        lanes: 1,
        queue: 2,
        ..EngineConfig::default()
    });
    let mut first = engine.submit(request(None, "the", LONG)).unwrap();
    assert!(first.events.blocking_recv().is_some());
    let second = engine.submit(request(None, "the", 2)).unwrap();
    let third = engine.submit(request(None, "the", 2)).unwrap();
    let error = engine.submit(request(None, "the", 2)).unwrap_err();
    assert!(
        matches!(
            error,
            Error::Busy {
                queued: 2,
                limit: 2
            }
        ),
        "{error}"
    );
    drop(first);
    collect(second);
    collect(third);
    one(&engine, request(None, "the", 2));
}

#[test]
fn a_flooding_adapter_does_not_starve_another() {
    let dir = tempfile::tempdir().unwrap();
    let engine = start(small(1, 64));
    for (name, seed) in [("flood", 1), ("trickle", 2)] {
        let path = write_adapter(dir.path(), seed, 2);
        engine.adapters().load(name, &path).unwrap();
    }
    let mut flood: Vec<_> = (0..40)
        .map(|_| {
            engine
                .submit(request(Some("flood"), "the", 20))
                .unwrap()
                .events
        })
        .collect();
    let mut trickle = engine
        .submit(request(Some("trickle"), "the", 20))
        .unwrap()
        .events;
    // Counted after the trickle was queued, so no fewer than were done when it was.
    let done = flood
        .iter_mut()
        .position(|events| {
            let mut last = None;
            while let Ok(event) = events.try_recv() {
                last = Some(event);
            }
            !matches!(last, Some(Event::Done { .. }))
        })
        .unwrap_or(40);
    // With one lane the answers come one after another: the flood's running answer, perhaps one
    // more, then the trickle's, whatever else is waiting.
    if let Some(events) = flood.get_mut(done + 2) {
        while events.blocking_recv().is_some() {}
        let mut last = None;
        while let Ok(event) = trickle.try_recv() {
            last = Some(event);
        }
        assert!(matches!(last, Some(Event::Done { .. })), "{last:?}");
    }
}

#[test]
fn the_cache_bound_limits_lanes_and_refuses_giants() {
    let per_token = 2 * 2 * 2 * 8 * 4;
    let engine = start(EngineConfig {
        lanes: 8,
        cache_bytes: 64 * per_token,
        ..EngineConfig::default()
    });
    let error = engine.submit(request(None, "the", 100)).unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
    let running: Vec<_> = (0..6)
        .map(|_| engine.submit(request(None, "the", 20)).unwrap())
        .collect();
    for answers in running {
        assert_eq!(collect(answers).0[0].output_tokens.len(), 20);
        assert!(engine.stats().cache_bytes <= 64 * per_token);
    }
}

#[test]
fn a_stop_string_across_tokens_is_cut_and_never_shown() {
    let engine = start(EngineConfig::default());
    let whole = one(&engine, request(None, "the quick", 40));
    // Any three neighbouring characters of the answer, away from its ends, make a stop string
    // that tokens cut in two.
    let middle = whole.text.char_indices().nth(12).unwrap().0;
    let stop: String = whole.text[middle..].chars().take(3).collect();
    let first = whole.text.find(&stop).unwrap();
    let mut request = request(None, "the quick", 40);
    request.sampling.stop = vec!["never to be seen".into(), stop];
    let (done, streamed) = collect(engine.submit(request).unwrap());
    assert_eq!(done[0].text, whole.text[..first]);
    assert_eq!(streamed[0], done[0].text);
    assert_eq!(done[0].finish, FinishReason::Stop);
    assert!(done[0].output_tokens.len() < 40);
    assert_eq!(
        done[0].output_tokens[..],
        whole.output_tokens[..done[0].output_tokens.len()]
    );
}

#[test]
fn text_streams_in_whole_characters_and_adds_up() {
    let tokenizer = tokenizer();
    let engine = start(EngineConfig::default());
    for seed in 0..20 {
        let mut request = request(None, "naïve café — 狐狸", 30);
        request.seed = seed;
        request.sampling.temperature = 2.0;
        let (done, streamed) = collect(engine.submit(request).unwrap());
        let completion = &done[0];
        assert_eq!(streamed[0], completion.text);
        // A random model writes broken bytes; they are replaced exactly as in a whole decode.
        let mut decoder = tokenizer.continuation_decoder();
        let mut whole: String = completion
            .output_tokens
            .iter()
            .map(|t| decoder.push(*t))
            .collect();
        whole.push_str(&decoder.finish());
        assert_eq!(completion.text, whole);
        assert_eq!(completion.offsets.len(), completion.output_tokens.len());
        assert!(completion.offsets.is_sorted());
        assert!(
            completion
                .offsets
                .iter()
                .all(|&at| whole.is_char_boundary(at as usize))
        );
    }
}

#[test]
fn choices_differ_and_repeat_with_their_seeds() {
    let engine = start(EngineConfig::default());
    let mut several = request(None, "the quick", 12);
    several.n = 3;
    several.seed = 7;
    let (choices, streamed) = collect(engine.submit(several).unwrap());
    assert_eq!(choices.len(), 3);
    assert_ne!(choices[0].output_tokens, choices[1].output_tokens);
    for (index, choice) in choices.iter().enumerate() {
        let mut single = request(None, "the quick", 12);
        single.seed = 7 + index as u64;
        assert_eq!(&one(&engine, single), choice);
        assert_eq!(streamed[index], choice.text);
    }
}

#[test]
fn greedy_sampling_ignores_the_seed_and_min_tokens_holds_off_the_end() {
    let engine = start(EngineConfig::default());
    let ask = |seed: u64, min_tokens: u32, bias: f32| {
        let mut request = Request::new(None, Prompt::Text("the fox".into()));
        request.seed = seed;
        request.sampling = Sampling {
            max_tokens: Some(10),
            min_tokens,
            ..Sampling::greedy()
        };
        // End-of-text is what this model would always say.
        request.sampling.logit_bias.insert(1, bias);
        one(&engine, request)
    };
    assert_eq!(ask(1, 0, 0.0).output_tokens, ask(2, 0, 0.0).output_tokens);
    let at_once = ask(0, 0, 100.0);
    assert_eq!(
        (at_once.output_tokens.len(), at_once.finish),
        (0, FinishReason::Stop)
    );
    assert_eq!(at_once.text, "");
    let later = ask(0, 4, 100.0);
    assert_eq!(
        (later.output_tokens.len(), later.finish),
        (4, FinishReason::Stop)
    );
    let never = ask(0, 0, -100.0);
    assert_eq!(
        (never.output_tokens.len(), never.finish),
        (10, FinishReason::Length)
    );
}

#[test]
fn echo_and_logprobs_cover_prompt_and_answer() {
    let run = |step_tokens: usize| {
        let engine = start(small(2, step_tokens));
        let mut request = request(None, PROMPTS[1], 5);
        request.echo = true;
        request.logprobs = Some(3);
        let mut answers = engine.submit(request).unwrap();
        let (mut prompt, mut output) = (Vec::new(), Vec::new());
        while let Some(event) = answers.events.blocking_recv() {
            match event {
                Event::Prompt { tokens, .. } => prompt = tokens,
                Event::Token { report, .. } => output.push(report),
                Event::Done { completion, .. } => {
                    for (report, surprisal) in output.iter().zip(&completion.surprisals) {
                        let bits = -report.logprob.unwrap() / std::f64::consts::LN_2 * 1000.0;
                        assert_eq!(bits.round() as u32, *surprisal);
                    }
                    let ids: Vec<u32> = prompt.iter().map(|token| token.id).collect();
                    assert_eq!(ids, completion.prompt_tokens);
                }
                Event::Failed(error) => panic!("{error}"),
            }
        }
        (prompt, output)
    };
    let (prompt, output) = run(4);
    assert_eq!(prompt[0].logprob, None);
    assert!(prompt[1..].iter().chain(&output).all(|token| {
        let best = token.top[0].1;
        token.top.len() == 3 && token.logprob.unwrap() <= best
    }));
    assert_eq!((prompt, output), run(512));
}

#[test]
fn bad_parameters_are_named_as_in_the_api() {
    let engine = start(EngineConfig::default());
    let refuse = |change: &dyn Fn(&mut Request)| {
        let mut request = request(None, "the", 4);
        change(&mut request);
        engine.submit(request).unwrap_err().to_string()
    };
    assert!(refuse(&|r| r.sampling.temperature = 3.0).contains("`temperature`"));
    assert!(refuse(&|r| r.sampling.temperature = f32::NAN).contains("`temperature`"));
    assert!(refuse(&|r| r.sampling.top_p = 0.0).contains("`top_p`"));
    assert!(refuse(&|r| r.sampling.stop = vec!["x".into(); 5]).contains("`stop`"));
    assert!(refuse(&|r| r.sampling.max_tokens = Some(0)).contains("`max_tokens`"));
    assert!(refuse(&|r| r.n = 0).contains("`n`"));
    assert!(refuse(&|r| r.logprobs = Some(21)).contains("`top_logprobs`"));
    assert!(refuse(&|r| r.prompt = Prompt::Tokens(vec![])).contains("`prompt`"));
    assert!(refuse(&|r| r.prompt = Prompt::Tokens(vec![999])).contains("999"));
    assert!(refuse(&|r| r.sampling.max_tokens = Some(5000)).contains("context of 4096"));
    assert!(refuse(&|r| r.prompt = Prompt::Tokens(vec![5; 4096])).contains("context of 4096"));
}

#[test]
fn chat_is_rendered_with_the_template_and_its_lead_is_not_shown() {
    let engine = start(EngineConfig::default());
    let turns = vec![(Role::User, "the quick".to_owned())];
    let text = Template::leading_space().prompt("the quick");
    let mut chat = request(None, "", 8);
    chat.prompt = Prompt::Chat(turns);
    let mut plain = request(None, &text, 8);
    plain.prompt = Prompt::Text(text);
    let (chat, plain) = (one(&engine, chat), one(&engine, plain));
    assert_eq!(chat.prompt_tokens, plain.prompt_tokens);
    assert_eq!(chat.output_tokens, plain.output_tokens);
    assert_eq!(
        chat.text,
        plain.text.strip_prefix(' ').unwrap_or(&plain.text)
    );
}

#[test]
fn adapters_are_known_by_their_weights() {
    let dir = tempfile::tempdir().unwrap();
    let (one_path, two_path) = (
        write_adapter(dir.path(), 1, 4),
        write_adapter(dir.path(), 2, 4),
    );
    let engine = start(EngineConfig {
        // Room for one of them.
        adapter_bytes: 60_000,
        ..EngineConfig::default()
    });
    let adapters = engine.adapters();
    let first = adapters.load("a", &one_path).unwrap();
    assert_eq!(adapters.load("a", &one_path).unwrap(), first);
    let error = adapters.load("a", &two_path).unwrap_err();
    assert!(matches!(error, Error::NameTaken { .. }), "{error}");
    let before = one(&engine, request(Some("a"), "the", 8));
    assert_eq!(before.adapter, Some(first.weights));
    let second = adapters.replace("a", &two_path).unwrap();
    assert!(second.generation > first.generation);
    let after = one(&engine, request(Some("a"), "the", 8));
    assert_ne!(before.output_tokens, after.output_tokens);

    // A second adapter pushes the first out of memory; both still answer as before.
    adapters.load("b", &one_path).unwrap();
    let stats = adapters.stats();
    assert_eq!((stats.registered, stats.resident), (2, 1), "{stats:?}");
    assert_eq!(one(&engine, request(Some("a"), "the", 8)), after);
    assert_eq!(
        one(&engine, request(Some("b"), "the", 8)).output_tokens,
        before.output_tokens
    );
    assert!(adapters.stats().evictions >= 2);

    // Files changed behind its back are noticed when it is read again.
    std::fs::copy(
        one_path.join("adapter_model.safetensors"),
        two_path.join("adapter_model.safetensors"),
    )
    .unwrap();
    let error = engine.submit(request(Some("a"), "the", 2)).unwrap_err();
    assert!(matches!(error, Error::AdapterChanged { .. }), "{error}");
    adapters.unload("a").unwrap();
    assert!(matches!(adapters.get("a"), Err(Error::UnknownModel { .. })));
    assert_eq!(adapters.list().len(), 1);
}

#[test]
fn a_stopped_engine_tells_everyone() {
    let engine = start(small(1, 64));
    let mut running = engine.submit(request(None, "the", LONG)).unwrap();
    let mut waiting = engine.submit(request(None, "the", LONG)).unwrap();
    assert!(running.events.blocking_recv().is_some());
    drop(engine);
    for answers in [&mut running, &mut waiting] {
        let mut last = None;
        while let Some(event) = answers.events.blocking_recv() {
            last = Some(event);
        }
        assert!(
            matches!(last, Some(Event::Failed(Error::Stopped))),
            "{last:?}"
        );
    }
}
