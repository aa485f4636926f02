//! Data of the inbox: frames, the channels that they make, and what is compressed in those.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use openledger_derivation::{RollupConfig, blocks_in_frames};

static CONFIG: LazyLock<RollupConfig> = LazyLock::new(openledger_fuzz::rollup_config);

fuzz_target!(|bytes: &[u8]| {
    let data = bytes.to_vec().into();
    let _ = blocks_in_frames(&CONFIG, &data).take(1_000).count();
});
