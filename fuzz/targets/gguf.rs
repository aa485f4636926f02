//! Model files in the GGUF format.
#![no_main]

use libfuzzer_sys::fuzz_target;
use openledger_model::{Base, Gguf, Tokenizer, inspect};

fuzz_target!(|bytes: &[u8]| {
    let path = openledger_fuzz::file("model.gguf", bytes);
    let _ = Gguf::is(&path);
    let _ = inspect::inspect(&path);
    if let Ok(tokenizer) = Tokenizer::load(&path) {
        let tokens = tokenizer.encode("low lower");
        let _ = tokenizer.decode(&tokens);
    }
    let _ = Base::load(&path);
});
