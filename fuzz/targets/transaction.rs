//! Signed transactions, as wallets send them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use openledger_rollup::block::Transaction;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(transaction) = Transaction::decode(bytes.to_vec().into()) {
        assert_eq!(transaction.encoded.as_ref(), bytes, "one spelling only");
        let again =
            Transaction::decode_with_sender(transaction.encoded.clone(), transaction.sender());
        assert_eq!(again.ok().as_ref(), Some(&transaction));
    }
});
