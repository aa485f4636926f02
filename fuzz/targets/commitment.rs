//! Commitments, as the inbox on the layer 1 holds them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use openledger_da::Commitment;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(commitment) = Commitment::decode(bytes) {
        assert_eq!(&commitment.encode()[..], bytes, "one spelling only");
        assert_eq!(
            commitment.to_string().parse::<Commitment>().as_ref(),
            Ok(&commitment)
        );
    }
    if let Ok(commitment) = Commitment::decode_standard(bytes) {
        let standard = commitment.encode_standard().map(|bytes| bytes.to_vec());
        assert_eq!(standard.as_deref(), Some(bytes), "one spelling only");
        assert_eq!(Commitment::decode(&commitment.encode()), Ok(commitment));
    }
});
