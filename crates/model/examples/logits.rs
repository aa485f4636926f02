//! Logits of given tokens, for comparisons with other programs.
//!
//! ```text
//! logits BASE [ADAPTER] < [[1, 5, 9], ...]
//! ```
//!
//! BASE is a folder or a GGUF file, ADAPTER a PEFT folder; the input is a JSON list of sequences.
//! Prints one line a sequence: a JSON list with the logits of every position, in exact arithmetic.
#![allow(clippy::print_stdout, reason = "an example talks through stdout")]

use std::path::Path;

use openledger_model::{Adapter, Base, KvCache, Lane, Workspace, step};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let base = arguments.next().ok_or("usage: logits BASE [ADAPTER]")?;
    let base = Base::load(Path::new(&base))?;
    let adapter = arguments
        .next()
        .map(|folder| Adapter::load_peft(Path::new(&folder), &base.config))
        .transpose()?;
    let sequences: Vec<Vec<u32>> = serde_json::from_reader(std::io::stdin())?;
    let mut workspace = Workspace::new();
    for tokens in &sequences {
        let mut cache = KvCache::new(&base.config, tokens.len());
        let lane = Lane {
            tokens,
            cache: &mut cache,
            adapter: adapter.as_ref(),
            all_logits: true,
        };
        let out = step(&base, &mut [lane], &mut workspace)?;
        let rows: Vec<&[f32]> = out[0].logits.chunks(base.config.vocab).collect();
        println!("{}", serde_json::to_string(&rows)?);
    }
    Ok(())
}
