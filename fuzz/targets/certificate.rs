//! Certificates of the embedded data availability server, and the blobs they are about.
#![no_main]

use libfuzzer_sys::fuzz_target;
use openledger_da::certificate::Certificate;
use openledger_da::encoding;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(certificate) = Certificate::decode(bytes) {
        assert_eq!(certificate.encode(), bytes, "one spelling only");
    }
    if let Ok(payload) = encoding::decode(bytes) {
        assert_eq!(
            encoding::encode(&payload).as_deref(),
            Ok(bytes),
            "one spelling only"
        );
    }
});
