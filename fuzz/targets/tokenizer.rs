//! `tokenizer.json`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use openledger_model::Tokenizer;

fuzz_target!(|bytes: &[u8]| {
    openledger_fuzz::file("tokenizer.json", bytes);
    let Ok(tokenizer) = Tokenizer::load(openledger_fuzz::folder()) else {
        return;
    };
    for text in ["", "low lower", "<|endoftext|>\u{1f600} \u{e9}\r\n"] {
        let tokens = tokenizer.encode(text);
        let _ = tokenizer.decode(&tokens);
    }
});
