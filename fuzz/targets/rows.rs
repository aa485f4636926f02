//! Rows to tune on: JSON lines, or, after a first byte of `p`, a parquet file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use openledger_finetune::data::{Columns, read};

fuzz_target!(|bytes: &[u8]| {
    let (name, bytes) = match bytes.split_first() {
        Some((b'p', rest)) => ("rows.parquet", rest),
        _ => ("rows.jsonl", bytes),
    };
    let path = openledger_fuzz::file(name, bytes);
    let answer = Columns::Answer {
        prompt: "{a}: {b}".into(),
        answer: "c".into(),
    };
    for columns in [answer, Columns::Messages("messages".into())] {
        if let Ok(rows) = read(&path, &columns, 1000) {
            assert!(rows.rows().len() <= 1000, "the limit holds");
        }
    }
});
