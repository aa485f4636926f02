//! Chat templates: programs that come with a model.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use openledger_model::Tokenizer;
use openledger_model::template::{ChatTemplate, Role};

static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(|| {
    let text = std::iter::repeat_n("a few words", 9);
    match Tokenizer::train(text, 258) {
        Ok(tokenizer) => tokenizer,
        Err(error) => panic!("a small tokenizer: {error}"),
    }
});

fuzz_target!(|bytes: &[u8]| {
    openledger_fuzz::file("chat_template.jinja", bytes);
    if let Ok(template) = ChatTemplate::of_model(openledger_fuzz::folder(), &TOKENIZER) {
        let turns = [
            (Role::User, "{{ a }}"),
            (Role::Assistant, "b"),
            (Role::User, ""),
        ];
        let _ = template.text(&turns);
    }
});
