//! How long the parts of a certificate take, as JSON:
//! `cargo run --release -p openledger-da --example certificate`.
#![allow(clippy::print_stdout, reason = "an example")]

use std::time::Instant;

use openledger_da::MAX_PAYLOAD_LEN;
use openledger_da::certificate::{Operators, Srs, Verifier};
use serde_json::json;

const OPERATORS: usize = 4;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let srs = std::sync::Arc::new(Srs::development(None));
    let operators = Operators::open(&folder.path().join("secrets"), OPERATORS, 67, &srs)?;
    let verifier = Verifier::with_setup(operators.committee().clone(), srs.clone())
        .ok_or("the operators use another setup")?;
    let all = std::env::args().any(|argument| argument == "--all");
    let sizes = [128 << 10, 1 << 20, 4 << 20, MAX_PAYLOAD_LEN];
    for size in &sizes[..if all { 4 } else { 2 }] {
        let payload: Vec<u8> = (0..*size).map(|i| (i * 31 % 251) as u8).collect();
        let (setup_ms, _) = time(1, || srs.commit(&payload))?;
        let runs = if *size > 1 << 20 { 3 } else { 10 };
        let (commit_ms, _) = time(runs, || srs.commit(&payload))?;
        let (put_ms, certificate) = time(runs, || operators.certify(&srs, &payload, 1))?;
        let bytes = certificate.encode();
        let (verify_ms, _) = time(runs, || verifier.verify(&bytes, Some(2)))?;
        let (payload_ms, ()) = time(runs, || verifier.verify_payload(&certificate, &payload))?;
        let (digest_ms, ()) = time(runs, || certificate.verify_payload(&payload, None))?;
        // What is left of it without the commitment: that to a payload of one byte costs nothing.
        let (sign_ms, _) = time(runs, || operators.certify(&srs, b"1", 1))?;
        let line = json!({
            "payload_bytes": size,
            "symbols": openledger_da::encoding::symbols(*size),
            "operators": OPERATORS,
            "threads": std::thread::available_parallelism()?,
            "first_commit_with_setup_ms": setup_ms,
            "commit_ms": commit_ms,
            "certify_ms": put_ms,
            "sign_ms": sign_ms,
            "verify_certificate_ms": verify_ms,
            "verify_payload_with_setup_ms": payload_ms,
            "verify_payload_by_digest_ms": digest_ms,
            "certificate_bytes": bytes.len(),
        });
        println!("{line}");
    }
    Ok(())
}

/// The least time of `runs` runs, in milliseconds, and what the last one returned.
fn time<T, E>(runs: u32, mut work: impl FnMut() -> Result<T, E>) -> Result<(f64, T), E> {
    let mut least = f64::INFINITY;
    let mut run = || {
        let begun = Instant::now();
        let done = work()?;
        least = least.min(begun.elapsed().as_secs_f64() * 1e3);
        Ok(done)
    };
    for _ in 1..runs {
        run()?;
    }
    let last = run()?;
    Ok(((least * 1000.0).round() / 1000.0, last))
}
