//! Witness files: a block and the preimages that it is executed from.
#![no_main]

use libfuzzer_sys::fuzz_target;
use openledger_rollup::witness::BlockWitness;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(witness) = serde_json::from_slice::<BlockWitness>(bytes) {
        let _ = witness.replay();
    }
});
