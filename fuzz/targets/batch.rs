//! Batches, singular and span, as a batcher puts them into a channel.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use openledger_derivation::{RollupConfig, blocks_in_batch};

static CONFIG: LazyLock<RollupConfig> = LazyLock::new(openledger_fuzz::rollup_config);

fuzz_target!(|bytes: &[u8]| {
    if let Some(blocks) = blocks_in_batch(&CONFIG, bytes) {
        // A block without transactions takes less than a byte: there may be very many.
        for block in blocks.take(1_000) {
            let empty = block.transactions.iter().any(|tx| tx.is_empty());
            assert!(
                !empty || bytes.first() == Some(&0),
                "span batches make none"
            );
        }
    }
});
