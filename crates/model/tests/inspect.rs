//! Memory foretold from a shape is the memory that a loaded model takes, and problems are found
//! all together.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::path::PathBuf;

use common::repository;
use openledger_model::inspect::{cache_bytes_per_token, inspect, loaded_bytes};
use openledger_model::template::Role;
use openledger_model::{
    Arithmetic, Base, Error, Fast, Format, KvCache, Lane, Tokenizer, Workspace, step,
};

const NAMES: [&str; 8] = [
    "gemma2", "gemma3", "llama2", "llama3", "mistral", "phi3", "qwen2", "qwen3",
];

fn folder(name: &str) -> PathBuf {
    repository("fixtures/model/architectures").join(name)
}

fn cache_bytes<A: Arithmetic>(base: &Base<A>, tokens: usize) -> usize {
    let mut cache = KvCache::<A>::new(&base.config, tokens);
    let text: Vec<u32> = (0..tokens as u32).map(|n| n % 7).collect();
    let lane = Lane {
        tokens: &text,
        cache: &mut cache,
        adapter: None,
        all_logits: false,
    };
    step(base, &mut [lane], &mut Workspace::new()).unwrap();
    cache.bytes()
}

#[test]
fn memory_is_foretold_from_the_shape() {
    for name in NAMES {
        let exact = Base::load(&folder(name)).unwrap();
        let c = exact.config.clone();
        assert_eq!(loaded_bytes(&c, None), exact.bytes(), "{name}");
        // A multiple of the 32 positions that lie together.
        let tokens = c.context / 32 * 32;
        assert!(tokens > 0, "{name}");
        let per_token = cache_bytes_per_token(&c, None);
        assert_eq!(cache_bytes(&exact, tokens), tokens * per_token, "{name}");
        for format in [Format::Bf16, Format::Int8, Format::Nf4] {
            let fast = Base::<Fast>::load_as(&folder(name), format).unwrap();
            let foretold = loaded_bytes(&c, Some(format));
            assert_eq!(foretold, fast.bytes(), "{name} {format:?}");
            let per_token = cache_bytes_per_token(&c, Some(format));
            assert_eq!(cache_bytes(&fast, tokens), tokens * per_token, "{name}");
        }
    }
}

#[test]
fn sound_files_have_no_problem() {
    for name in NAMES {
        let source = folder(name);
        let copy = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(&source).unwrap() {
            let entry = entry.unwrap();
            if entry.path().is_file() {
                std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
            }
        }
        let found = inspect(copy.path());
        // A tokenizer is all that these folders lack.
        assert_eq!(found.problems.len(), 1, "{name}: {:?}", found.problems);
        assert!(
            matches!(&found.problems[0], Error::Io { path, .. } if path.ends_with("tokenizer.json"))
        );
        let values: u64 = found.stored.unwrap().values.values().sum();
        let base = Base::load(&source).unwrap();
        assert_eq!(values, base.params().len() as u64, "{name}");
        assert_eq!(found.config, Some(base.config), "{name}");
    }
}

#[test]
fn a_description_without_weights_is_no_problem() {
    let copy = tempfile::tempdir().unwrap();
    let config = folder("llama3").join("config.json");
    std::fs::copy(config, copy.path().join("config.json")).unwrap();
    let tokenizer = Tokenizer::train(["a few words"; 9].into_iter(), 258).unwrap();
    tokenizer.save(copy.path()).unwrap();
    let found = inspect(copy.path());
    assert_eq!(found.stored, None);
    assert!(
        found
            .problems
            .iter()
            .all(|problem| matches!(problem, Error::Vocabulary { .. })),
        "{:?}",
        found.problems
    );
}

#[test]
fn a_gguf_file_is_inspected_like_a_folder() {
    let path = repository("fixtures/model/gguf/formats.gguf");
    let found = inspect(&path);
    assert!(found.problems.is_empty(), "{:?}", found.problems);
    let base = Base::load(&path).unwrap();
    let stored = found.stored.unwrap();
    // The divisors of rotary frequencies are a tensor there, and part of the shape here.
    let divisors = base.config.head_dim as u64 / 2;
    assert_eq!((stored.files, stored.tensors), (1, base.layout().len() + 1));
    assert_eq!(
        stored.values.keys().collect::<Vec<_>>(),
        ["BF16", "F16", "F32", "Q4_K", "Q6_K", "Q8_0"]
    );
    let values: u64 = stored.values.values().sum();
    assert_eq!(values, base.params().len() as u64 + divisors);
    assert!(stored.bytes < std::fs::metadata(&path).unwrap().len());
    assert_eq!(found.config, Some(base.config));
    assert_eq!(found.tokens, Some(Tokenizer::load(&path).unwrap().len()));
    // The file's own template writes the first turn and nothing else.
    let template = found.template.unwrap();
    let turns = [(Role::User, "low lower"), (Role::Assistant, "no")];
    assert_eq!(template.text(&turns).unwrap(), "low lower");
}

#[test]
fn all_that_is_wrong_with_a_gguf_file_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.gguf");
    let whole = std::fs::read(repository("fixtures/model/gguf/formats.gguf")).unwrap();
    std::fs::write(&path, &whole[..100]).unwrap();
    let found = inspect(&path);
    assert!(!found.problems.is_empty());
    assert_eq!((found.config, found.stored), (None, None));

    // Another tokenizer than those that are read, and a tensor in a format that is not.
    let mut bytes = whole.clone();
    let find = |needle: &[u8]| {
        let mut windows = whole.windows(needle.len());
        windows.position(|window| window == needle).unwrap()
    };
    let (pre, tensor) = (b"tokenizer.ggml.pre", b"blk.0.ffn_down.weight");
    bytes[find(pre) + pre.len() + 4 + 8] = b'x';
    bytes[find(tensor) + tensor.len() + 4 + 2 * 8] = 13;
    std::fs::write(&path, &bytes).unwrap();
    let found = inspect(&path);
    let said: Vec<String> = found.problems.iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), 2, "each once: {said:?}");
    assert!(said.iter().any(|line| line.contains("Q5_K")), "{said:?}");
    assert!(
        said.iter().any(|line| line.contains("tokenizer.ggml.pre")),
        "{said:?}"
    );
    assert_eq!(found.stored.unwrap().tensors, 12);
}
