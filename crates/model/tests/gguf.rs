//! GGUF files: a public one against the same weights in another format, every format of numbers
//! against ggml's Python reference, every architecture there and back, and damaged bytes.
#![allow(clippy::unwrap_used, clippy::float_cmp, reason = "tests")]

mod common;

use std::path::{Path, PathBuf};

use common::{logits, repository};
use openledger_model::export::Source;
use openledger_model::{
    Adapter, Base, Config, Encoding, Fast, Format, Gguf, RopeScaling, Tokenizer,
};
use proptest::prelude::*;

fn architecture(name: &str) -> PathBuf {
    repository("fixtures/model/architectures").join(name)
}

fn tokens(config: &Config) -> Vec<u32> {
    (0..24)
        .map(|i| (i * i * 7 + 3 * i + 1) % config.vocab as u32)
        .collect()
}

/// Writes the base at `from`, with `adapter` folded in, to a file in `directory`.
fn export(
    from: &Path,
    adapter: Option<&Adapter>,
    encoding: Encoding,
    directory: &tempfile::TempDir,
) -> PathBuf {
    let path = directory.path().join("model.gguf");
    let source = Source::open(from).unwrap();
    let written = source.save_gguf(adapter, encoding, "test", &path).unwrap();
    assert_eq!(written.files, std::slice::from_ref(&path));
    path
}

#[test]
fn a_public_file_holds_the_weights_of_its_sibling_and_tells_the_story() {
    let folder = repository("../shared/models/stories260k");
    let path = folder.join("stories260K-f32.gguf");
    assert!(
        path.exists(),
        "this test reads the public model stories260k from shared/models beside the checkout"
    );
    let base = Base::load(&path).unwrap();
    let c = &base.config;
    assert_eq!((c.hidden, c.layers, c.mlp, c.vocab), (64, 5, 172, 512));
    assert_eq!((c.bos, c.eos.as_slice()), (Some(1), [2].as_slice()));

    // llama2.c: seven integers, then every kind of weight for all layers. Like llama.cpp it has
    // the two halves of a pair beside each other.
    let bytes = std::fs::read(folder.join("stories260K.bin")).unwrap();
    let floats: Vec<f32> = bytes[28..]
        .as_chunks::<4>()
        .0
        .iter()
        .map(|b| f32::from_le_bytes(*b))
        .collect();
    let apart = |rows: &[f32]| -> Vec<f32> {
        rows.chunks_exact(c.head_dim * c.hidden)
            .flat_map(|head| {
                let even = head.chunks_exact(c.hidden).step_by(2);
                let odd = head.chunks_exact(c.hidden).skip(1).step_by(2);
                even.chain(odd).flatten().copied()
            })
            .collect()
    };
    let mut rest = floats.as_slice();
    let mut take = |size: usize| {
        let (first, after) = rest.split_at(size);
        rest = after;
        first
    };
    let (h, l, kv) = (c.hidden, c.layers, c.kv_width());
    let table = take(c.vocab * h);
    let [norm1, q, k, v, o] = [l * h, l * h * h, l * h * kv, l * h * kv, l * h * h].map(&mut take);
    let [norm2, gate, down, up] =
        [l * h, l * h * c.mlp, l * h * c.mlp, l * h * c.mlp].map(&mut take);
    let norm = take(h);
    let mut want = table.to_vec();
    for layer in 0..l {
        let part = |all: &[f32]| all[layer * (all.len() / l)..][..all.len() / l].to_vec();
        want.extend(part(norm1));
        want.extend(apart(&part(q)));
        want.extend(apart(&part(k)));
        for all in [v, o, norm2, gate, up, down] {
            want.extend(part(all));
        }
    }
    want.extend(norm);
    want.extend(table);
    assert!(base.params() == want);

    let tokenizer = Tokenizer::load(&path).unwrap();
    tokenizer.check_model(c).unwrap();
    assert_eq!(tokenizer.len(), 512);
    assert_eq!(told(&base, &tokenizer), STORY);
    assert_eq!(Gguf::open(&path).unwrap().chat_template().unwrap(), None);
    let odd = "One day — 3 \u{1f600}\n  done";
    assert_eq!(tokenizer.decode(&tokenizer.encode(odd)), odd);
}

/// What llama2.c's own test expects of these weights at temperature 0.
const STORY: &str = "Once upon a time, there was a little girl named Lily. She loved to play \
    outside in the park. One day, she saw a big, red ball. She wanted to play with it, but it \
    was too high.\n";

/// The greedy text as far as [`STORY`] goes.
fn told(base: &Base, tokenizer: &Tokenizer) -> String {
    let mut all = vec![1];
    let mut text = String::new();
    while text.len() < STORY.len() {
        let logits = logits(base, None, &all);
        let last = &logits[logits.len() - base.config.vocab..];
        let best = (0..last.len()).max_by(|a, b| last[*a].total_cmp(&last[*b]));
        all.push(best.unwrap() as u32);
        text = tokenizer.decode(&all);
    }
    text
}

#[test]
fn every_architecture_comes_back_and_adapted_logits_too() {
    for name in [
        "llama-linear",
        "llama-yarn",
        "llama2",
        "llama3",
        "mistral",
        "phi3",
        "qwen2",
        "qwen3",
    ] {
        let from = architecture(name);
        let base = Base::load(&from).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = export(&from, None, Encoding::F32, &directory);
        let again = Base::load(&path).unwrap();
        let mut want = base.config.clone();
        if want.eos.len() > 3 {
            want.eos.truncate(3);
        }
        assert_eq!(again.config, want, "{name}");
        assert!(again.params() == base.params(), "{name}");
        // Folding in gives what the adapter beside the base gives.
        let adapter = Adapter::load_peft(&from.join("adapter"), &base.config).unwrap();
        let merged = Base::load(&export(&from, Some(&adapter), Encoding::F32, &directory)).unwrap();
        let tokens = tokens(&base.config);
        close(
            &logits(&merged, None, &tokens),
            &logits(&base, Some(&adapter), &tokens),
            2e-5,
            name,
        );
        assert!(merged.params() != base.params());
        let folder = directory.path().join("folder");
        let source = Source::open(&from).unwrap();
        source
            .save_folder(Some(&adapter), openledger_model::Dtype::F32, &folder)
            .unwrap();
        assert!(
            Base::load(&folder).unwrap().params() == merged.params(),
            "{name}"
        );
    }
}

#[track_caller]
fn close(found: &[f32], want: &[f32], relative: f32, what: &str) {
    let scale = want.iter().fold(0.0_f32, |m, x| m.max(x.abs()));
    let worst = found
        .iter()
        .zip(want)
        .fold(0.0_f32, |m, (a, b)| m.max((a - b).abs()));
    assert_eq!(found.len(), want.len());
    assert!(worst <= relative * scale, "{what}: {worst} of {scale}");
}

#[test]
fn gemma_comes_back_where_llama_cpp_scales_scores_like_it() {
    for name in ["gemma2", "gemma3"] {
        let error = Source::open(&architecture(name))
            .unwrap()
            .save_gguf(None, Encoding::F32, "test", Path::new("/nowhere/at-all"))
            .unwrap_err()
            .to_string();
        assert!(error.contains("attention_scale"), "{error}");

        let base = Base::load(&architecture(name)).unwrap();
        let mut config = base.config.clone();
        config.features.attention_scale = Some((1.0 / f64::from(12_u8).sqrt()) as f32);
        let base = Base::from_params(config, base.params()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let folder = directory.path().join("folder");
        base.save(&folder, openledger_model::Dtype::F32).unwrap();
        let first = Base::load(&export(&folder, None, Encoding::F32, &directory)).unwrap();
        assert_eq!(first.config, base.config);
        // Norm weights are stored plus one, which costs last bits of what is near zero, but none
        // of the factor that is multiplied with.
        let tokens = tokens(&base.config);
        assert!(
            logits(&first, None, &tokens) == logits(&base, None, &tokens),
            "{name}"
        );
        let from = directory.path().join("model.gguf");
        let kept = directory.path().join("kept.gguf");
        std::fs::rename(from, &kept).unwrap();
        let second = Base::load(&export(&kept, None, Encoding::F32, &directory)).unwrap();
        assert!(second.params() == first.params(), "{name}");
    }
}

#[test]
fn compact_encodings_are_near_and_load_in_every_mode() {
    let base = Base::load(&repository("bundled/base")).unwrap();
    let tokens = tokens(&base.config);
    let want = logits(&base, None, &tokens);
    let directory = tempfile::tempdir().unwrap();
    let bundled = repository("bundled/base");
    for (encoding, tolerance) in [
        (Encoding::F16, 1e-3),
        (Encoding::Bf16, 1e-6),
        // Every product loses what 8 bits lose.
        (Encoding::Q8_0, 4e-2),
    ] {
        let path = export(&bundled, None, encoding, &directory);
        // The bundled weights are bf16 themselves.
        let found = Base::load(&path).unwrap();
        close(
            &logits(&found, None, &tokens),
            &want,
            tolerance,
            &format!("{encoding:?}"),
        );
        let fast = Base::<Fast>::load_as(&path, Format::Bf16).unwrap();
        close(
            &logits(&fast, None, &tokens),
            &want,
            3e-2,
            &format!("fast {encoding:?}"),
        );
    }
}

#[test]
fn the_bundled_tokenizer_comes_back() {
    let bundled = repository("bundled/base");
    let directory = tempfile::tempdir().unwrap();
    let path = export(&bundled, None, Encoding::Bf16, &directory);
    let (ours, theirs) = (
        Tokenizer::load(&bundled).unwrap(),
        Tokenizer::load(&path).unwrap(),
    );
    assert_eq!(theirs.len(), ours.len());
    for text in [
        "Question: What is a Merkle tree?\nAnswer:",
        "don't — 3\u{1f600}  x\n\n",
        "<|end_of_text|>",
    ] {
        assert_eq!(theirs.encode(text), ours.encode(text), "{text}");
        assert_eq!(
            theirs.encode_continuation(text),
            ours.encode_continuation(text)
        );
        assert_eq!(theirs.decode(&theirs.encode(text)), text);
    }
    assert_eq!(
        theirs.special("<|end_of_text|>"),
        ours.special("<|end_of_text|>")
    );
    // And once more, from what was read.
    let kept = directory.path().join("kept.gguf");
    std::fs::copy(&path, &kept).unwrap();
    let again = Tokenizer::load(&export(&kept, None, Encoding::Bf16, &directory)).unwrap();
    assert_eq!(again.to_json(), theirs.to_json());
}

#[test]
fn sentence_piece_comes_back_with_the_same_merges() {
    let from = repository("../shared/models/stories260k/stories260K-f32.gguf");
    assert!(
        from.exists(),
        "this test reads stories260k beside the checkout"
    );
    let directory = tempfile::tempdir().unwrap();
    let once = Tokenizer::load(&from).unwrap();
    let path = export(&from, None, Encoding::F32, &directory);
    let twice = Tokenizer::load(&path).unwrap();
    assert_eq!(once.to_json(), twice.to_json());
    assert!(Base::load(&path).unwrap().params() == Base::load(&from).unwrap().params());
}

/// Bits of `values` as one number (FNV-1a over their bytes).
fn digest(values: &[f32]) -> u64 {
    let bytes = values.iter().flat_map(|x| x.to_le_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[test]
fn every_format_has_the_values_of_the_reference() {
    let path = repository("fixtures/model/gguf/formats.gguf");
    let expected: serde_json::Value = serde_json::from_slice(
        &std::fs::read(repository("fixtures/model/gguf/formats.json")).unwrap(),
    )
    .unwrap();
    let base = Base::load(&path).unwrap();
    let params = base.params();
    let mut formats = std::collections::BTreeSet::new();
    for (name, at, shape) in base.layout() {
        let want = &expected[&name];
        formats.insert(want["type"].as_str().unwrap());
        let values = &params[at..at + shape.iter().product::<usize>()];
        for (index, want) in want["first"].as_array().unwrap().iter().enumerate() {
            let want = f32::from_bits(want.as_u64().unwrap() as u32);
            assert_eq!(values[index], want, "{name}[{index}]");
        }
        let want = want["digest"].as_str().unwrap();
        assert_eq!(format!("{:016x}", digest(values)), want, "{name}");
    }
    let all: Vec<_> = formats.into_iter().collect();
    assert_eq!(all, ["BF16", "F16", "F32", "Q4_K", "Q6_K", "Q8_0"]);
    let tokenizer = Tokenizer::load(&path).unwrap();
    assert_eq!(tokenizer.encode("low lower"), [6, 7]);
    assert_eq!(
        Gguf::open(&path).unwrap().chat_template().unwrap(),
        Some("{{ messages[0].content }}")
    );
    assert_eq!(base.config.eos, [1, 2]);
    assert!(matches!(
        base.config.features.rope_scaling,
        RopeScaling::Llama3 { .. }
    ));
}

/// Loads a model and a tokenizer from bytes, whatever they are.
fn load(bytes: &[u8]) -> Result<(), openledger_model::Error> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.gguf");
    std::fs::write(&path, bytes).unwrap();
    let base = Base::load(&path).map(|_| ());
    Gguf::open(&path)?.tokenizer()?;
    base
}

fn whole() -> Vec<u8> {
    std::fs::read(repository("fixtures/model/gguf/formats.gguf")).unwrap()
}

#[test]
fn claims_beyond_the_file_are_refused_before_anything_is_made() {
    load(&whole()).unwrap();
    let huge = u64::MAX.to_le_bytes();
    // Number of tensors, number of pairs, length of the first key.
    for (at, what) in [(8, "tensors"), (16, "pairs"), (24, "ends too early")] {
        let mut bytes = whole();
        bytes[at..at + 8].copy_from_slice(&huge);
        let error = load(&bytes).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    }
    for (version, what) in [(4, "version 4"), (0x0300_0000_u32, "big-endian")] {
        let mut bytes = whole();
        bytes[4..8].copy_from_slice(&version.to_le_bytes());
        let error = load(&bytes).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    }
    let error = load(b"PK\x03\x04").unwrap_err().to_string();
    assert!(error.contains("`GGUF`"), "{error}");
}

/// Where the first `needle` starts.
fn find(bytes: &[u8], needle: &[u8]) -> usize {
    let mut windows = bytes.windows(needle.len());
    windows.position(|window| window == needle).unwrap()
}

#[test]
fn refusals_name_tensor_type_and_what_is_supported() {
    let name = b"blk.0.ffn_down.weight";
    let mut bytes = whole();
    let kind = find(&bytes, name) + name.len() + 4 + 2 * 8;
    bytes[kind..kind + 4].copy_from_slice(&13_u32.to_le_bytes());
    let error = load(&bytes).unwrap_err().to_string();
    for part in [
        "blk.0.ffn_down.weight",
        "Q5_K",
        "F32, F16, BF16, Q8_0, Q4_K and Q6_K",
    ] {
        assert!(error.contains(part), "{error}");
    }
    for (key, value, parts) in [
        (
            "general.architecture",
            "llama",
            ["general.architecture", "qwen2"],
        ),
        (
            "tokenizer.ggml.pre",
            "gpt-2",
            ["tokenizer.ggml.pre", "tekken"],
        ),
        (
            "tokenizer.ggml.model",
            "gpt2",
            ["tokenizer.ggml.model", "\"llama\""],
        ),
    ] {
        let mut bytes = whole();
        let at = find(&bytes, key.as_bytes()) + key.len() + 4 + 8;
        assert_eq!(&bytes[at..at + value.len()], value.as_bytes());
        bytes[at] = b'x';
        let error = load(&bytes).unwrap_err().to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_cut_file_is_an_error(share in 0.0..1.0_f64) {
        let mut bytes = whole();
        bytes.truncate((bytes.len() as f64 * share) as usize);
        prop_assert!(load(&bytes).is_err());
    }

    #[test]
    fn no_change_of_bytes_panics(
        changes in proptest::collection::vec((0.0..1.0_f64, any::<u8>()), 1..6),
        // Most of a file is weights, where all bytes mean something.
        start in prop_oneof![Just(1.0), Just(0.06)],
    ) {
        let mut bytes = whole();
        let length = bytes.len() as f64;
        for (at, byte) in changes {
            bytes[(at * start * length) as usize] = byte;
        }
        let _ = load(&bytes);
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let mut file = b"GGUF\x03\x00\x00\x00".to_vec();
        file.extend(bytes);
        prop_assert!(load(&file).is_err());
    }
}
