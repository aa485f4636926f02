//! Tokenizers, streaming decoding and sampling.
#![allow(clippy::unwrap_used, clippy::float_cmp, reason = "tests")]

mod common;

use std::path::Path;

use common::config;
use openledger_model::{
    Choice, Sampler, SamplingConfig, Tokenizer, log_probability, surprisal_millibits, top,
};
use proptest::prelude::*;

fn trained() -> Tokenizer {
    let text =
        "The owner of the row, the owner of the model and the owner of the net. ünïcödé 日本";
    Tokenizer::train(std::iter::repeat_n(text, 20), 320).unwrap()
}

fn tinystories() -> Tokenizer {
    let directory =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/models/tinystories-656k");
    assert!(
        directory.is_dir(),
        "the model tinystories-656k is not at {}",
        directory.display()
    );
    Tokenizer::load(&directory).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_text_survives_a_trained_tokenizer(text in "\\PC{0,40}[\\n é日🙂]{0,4}\\PC{0,9}") {
        let tokenizer = trained();
        let (tokens, offsets) = tokenizer.encode_with_offsets(&text);
        prop_assert_eq!(tokenizer.decode(&tokens), text.as_str());
        let mut decoder = tokenizer.decoder();
        let mut streamed = String::new();
        for token in &tokens {
            streamed.push_str(&decoder.push(*token));
        }
        prop_assert_eq!(decoder.finish(), "");
        prop_assert_eq!(streamed, text.as_str());
        prop_assert!(offsets.iter().all(|(a, b)| a <= b && *b <= text.len()));
    }

    #[test]
    fn any_tokens_decode_to_text(tokens in prop::collection::vec(0_u32..330, 0..40)) {
        let tokenizer = trained();
        let bytes: Vec<u8> =
            tokens.iter().flat_map(|t| tokenizer.token_bytes(*t).to_vec()).collect();
        prop_assert_eq!(tokenizer.decode(&tokens), String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn only_kept_tokens_are_drawn(
        seed: u64, top_k in 0_usize..6, top_p in 0.05_f32..1.0, temperature in 0.1_f32..4.0,
        logits in prop::collection::vec(-9.0_f32..9.0, 1..40),
    ) {
        let settings = SamplingConfig { temperature, top_p, top_k, seed };
        let mut sampler = Sampler::new(settings).unwrap();
        let best = top(&logits, logits.len());
        for drawn in 0..8 {
            let choice = sampler.sample(&logits).unwrap();
            let again = Sampler::resume(settings, drawn).unwrap().sample(&logits).unwrap();
            prop_assert_eq!(choice, again);
            let rank = best.iter().position(|(token, _)| *token == choice.token).unwrap();
            prop_assert!(top_k == 0 || rank < top_k);
        }
    }
}

#[test]
fn special_text_is_only_text() {
    let tokenizer = trained();
    assert_eq!((tokenizer.bos(), tokenizer.eos()), (Some(0), Some(1)));
    let text = "<|end_of_text|>";
    let tokens = tokenizer.encode(text);
    assert!(!tokens.contains(&1));
    assert_eq!(tokenizer.decode(&tokens), text);
    assert_eq!(tokenizer.decode(&[0, 1]), "");
    let stories = tinystories();
    assert_eq!(stories.special("<|end_story|>"), Some(2));
    assert!(!stories.encode("x<|end_story|>").contains(&2));
}

#[test]
fn a_saved_tokenizer_is_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let tokenizer = trained();
    tokenizer.save(directory.path()).unwrap();
    let loaded = Tokenizer::load(directory.path()).unwrap();
    assert_eq!(loaded.to_json(), tokenizer.to_json());
    assert_eq!(loaded.encode("the owner"), tokenizer.encode("the owner"));
    assert_eq!(loaded.len(), tokenizer.len());
}

#[test]
fn training_twice_gives_the_same_tokenizer() {
    assert_eq!(trained().to_json(), trained().to_json());
}

#[test]
fn tokens_with_trailing_spaces_continue_a_text() {
    let tokenizer = tinystories();
    let prompt = tokenizer.encode("Once upon a time there was ");
    let more = tokenizer.encode_continuation("a dog");
    assert_eq!(tokenizer.decode(&more), "a dog");
    let mut decoder = tokenizer.decoder();
    let text: String = prompt
        .iter()
        .chain(&more)
        .map(|t| decoder.push(*t))
        .collect();
    assert_eq!(text, "Once upon a time there was a dog");
    // A text of its own begins with the space that this tokenizer puts there.
    let mut decoder = tokenizer.continuation_decoder();
    let text: String = tokenizer
        .encode("a dog")
        .iter()
        .map(|t| decoder.push(*t))
        .collect();
    assert_eq!(text, " a dog");
}

#[test]
fn a_character_in_two_tokens_comes_out_once_whole() {
    let tokenizer = trained();
    let tokens = tokenizer.encode("🙂");
    assert!(tokens.len() > 1);
    let mut decoder = tokenizer.decoder();
    let pieces: Vec<String> = tokens.iter().map(|t| decoder.push(*t)).collect();
    let (last, before) = pieces.split_last().unwrap();
    assert!(before.iter().all(String::is_empty));
    assert_eq!(last, "🙂");
    decoder.push(tokens[0]);
    assert_eq!(decoder.finish(), "\u{fffd}");
}

#[test]
fn a_tokenizer_larger_than_the_model_is_refused() {
    let error = trained()
        .check_model(&config(true))
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "the tokenizer has 298 tokens but the model embeds only 91; they are not a pair"
    );
    let error = Tokenizer::from_bytes(b"{}").unwrap_err().to_string();
    assert!(error.starts_with("tokenizer.json: "), "{error}");
}

#[test]
fn greedy_takes_the_first_of_the_highest() {
    let logits = [1.0, 3.0, 3.0, -2.0];
    let choice = Sampler::new(SamplingConfig::default())
        .unwrap()
        .sample(&logits)
        .unwrap();
    assert_eq!(choice.token, 1);
    let total: f64 = logits.iter().map(|x| f64::from(*x).exp()).sum();
    let want = 3.0 - total.ln();
    assert!((choice.log_probability - want).abs() < 1e-6);
    assert_eq!(
        choice.surprisal_millibits,
        (-want / 2.0_f64.ln() * 1000.0).round() as u32
    );
    assert_eq!(choice.surprisal_millibits, surprisal_millibits(&logits, 1));
    assert_eq!(
        top(&logits, 2),
        [
            (1, log_probability(&logits, 1)),
            (2, log_probability(&logits, 2))
        ]
    );
}

#[test]
fn frequencies_follow_the_probabilities() {
    let logits = [0.0, 2.0_f32.ln(), 5.0_f32.ln()];
    let mut sampler = Sampler::new(SamplingConfig {
        temperature: 1.0,
        seed: 3,
        ..Default::default()
    })
    .unwrap();
    let mut counts = [0.0_f64; 3];
    for _ in 0..8000 {
        let Choice { token, .. } = sampler.sample(&logits).unwrap();
        counts[token as usize] += 1.0;
    }
    for (count, share) in counts.iter().zip([1.0, 2.0, 5.0]) {
        // Four standard deviations of a binomial count.
        assert!((count - share * 1000.0).abs() < 180.0, "{counts:?}");
    }
}

#[test]
fn settings_and_logits_out_of_range_are_errors() {
    let with = |temperature, top_p| {
        let settings = SamplingConfig {
            temperature,
            top_p,
            ..Default::default()
        };
        Sampler::new(settings).unwrap_err().to_string()
    };
    assert_eq!(
        with(-1.0, 1.0),
        "temperature = -1 is out of range: 0 to 100"
    );
    assert_eq!(
        with(1.0, 0.0),
        "top_p = 0 is out of range: above 0 and at most 1"
    );
    assert!(with(f32::NAN, 1.0).starts_with("temperature = NaN"));
    let mut sampler = Sampler::new(SamplingConfig::default()).unwrap();
    assert!(
        sampler
            .sample(&[0.0, f32::NAN])
            .unwrap_err()
            .to_string()
            .contains("not finite")
    );
}

#[test]
fn a_generation_config_says_how_tokens_are_drawn() {
    let directory = tempfile::tempdir().unwrap();
    let read = |json: &str| {
        std::fs::write(directory.path().join("generation_config.json"), json).unwrap();
        SamplingConfig::of_model(directory.path())
    };
    let plain = SamplingConfig {
        temperature: 1.0,
        ..SamplingConfig::default()
    };
    assert_eq!(SamplingConfig::of_model(directory.path()).unwrap(), plain);
    assert_eq!(
        read(r#"{"eos_token_id": 2, "top_p": null}"#).unwrap(),
        plain
    );
    let drawn = SamplingConfig {
        temperature: 0.5,
        top_p: 0.75,
        top_k: 20,
        seed: 0,
    };
    assert_eq!(
        read(r#"{"do_sample": true, "temperature": 0.5, "top_p": 0.75, "top_k": 20}"#).unwrap(),
        drawn
    );
    let greedy = read(r#"{"do_sample": false}"#).unwrap();
    assert_eq!(greedy.temperature, 0.0);
    let error = read(r#"{"temperature": "hot"}"#).unwrap_err().to_string();
    assert!(
        error.ends_with("generation_config.json: field `temperature` is \"hot\", but this engine supports 0 to 2"),
        "{error}"
    );
    let error = read(r#"{"top_p": 0}"#).unwrap_err().to_string();
    assert_eq!(error, "top_p = 0 is out of range: above 0 and at most 1");
}
