//! Blocks as RLP.
#![no_main]

use libfuzzer_sys::fuzz_target;
use openledger_rollup::block::Block;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(block) = Block::decode_rlp(bytes) {
        assert_eq!(block.encode_rlp().as_ref(), bytes, "one spelling only");
    }
});
