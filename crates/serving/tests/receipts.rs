//! Receipts: digests round trip, numbers have no gaps, a kill loses or doubles nothing.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{one, request, start};
use openledger_primitives::records::{InferenceReceipt, digest_u32};
use openledger_primitives::{Address, B256, Bytes, Record, Wei};
use openledger_serving::{EngineConfig, Error, Pricing, ReceiptLog, Terms, receipt};
use openledger_store::Catalogue;

fn terms() -> Terms {
    Terms {
        chain_id: 901_337,
        adapter: B256::repeat_byte(1),
        base: B256::repeat_byte(2),
        tokenizer: B256::repeat_byte(3),
        pricing: Pricing {
            input: Wei::new(3),
            output: Wei::new(50),
        },
        payer: Address::repeat_byte(4),
        voucher: B256::repeat_byte(5),
        operator: Address::repeat_byte(6),
        created_at: 1_700_000_000,
    }
}

fn sign(_: &InferenceReceipt, digest: B256) -> Result<Bytes, String> {
    Ok(Bytes::copy_from_slice(&digest[..8]))
}

#[test]
fn a_receipt_names_everything_and_reads_back() {
    let engine = start(EngineConfig::default());
    let completion = one(&engine, request(None, "the quick", 9));
    let record = receipt(&completion, &terms(), 42).unwrap();
    assert_eq!(record.promptTokens as usize, completion.prompt_tokens.len());
    assert_eq!(record.outputTokens, 9);
    assert_eq!(record.fee, u128::from(record.promptTokens) * 3 + 9 * 50);
    assert_eq!(record.outputDigest, digest_u32(&completion.output_tokens));
    assert_eq!(record.surprisals, digest_u32(&completion.surprisals));
    assert_eq!(record.sequence, 42);
    let read = InferenceReceipt::decode(&record.encode()).unwrap();
    assert_eq!(read, record);
    assert_eq!(read.digest(), record.digest());
    // The same request gives the same receipt; another seed another one.
    assert_eq!(
        receipt(&one(&engine, request(None, "the quick", 9)), &terms(), 42).unwrap(),
        record
    );
    let mut other = request(None, "the quick", 9);
    other.seed = 1;
    assert_ne!(
        receipt(&one(&engine, other), &terms(), 42)
            .unwrap()
            .digest(),
        record.digest()
    );
    let mut dear = terms();
    dear.pricing.output = Wei::new(u128::MAX);
    assert!(matches!(
        receipt(&completion, &dear, 0),
        Err(Error::Amount(_))
    ));
}

#[test]
fn a_killed_log_resumes_without_gap_or_double() {
    let engine = start(EngineConfig::default());
    let completion = one(&engine, request(None, "the", 3));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("catalogue.redb");
    let write = |log: &ReceiptLog, id: &str| {
        log.write(id, &completion, &terms(), sign, |tx, signed| {
            tx.put("accounts", "payer", &signed.receipt.sequence)
        })
    };
    {
        let log = ReceiptLog::new(Catalogue::open(&path).unwrap());
        assert!(log.is_empty().unwrap());
        for number in 0..5u64 {
            let signed = write(&log, &format!("cmpl-{number}")).unwrap();
            assert_eq!(signed.receipt.sequence, number);
        }
        // The process dies inside the transaction, after everything was put and before the commit.
        let died = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            log.write("cmpl-5", &completion, &terms(), sign, |_, _| {
                panic!("the kill")
            })
        }));
        assert!(died.is_err());
    }
    let catalogue = Catalogue::open(&path).unwrap();
    let log = ReceiptLog::new(catalogue.clone());
    assert_eq!(log.len().unwrap(), 5);
    assert!(log.by_completion("cmpl-5").unwrap().is_none());
    assert_eq!(catalogue.get::<u64>("accounts", "payer").unwrap(), Some(4));
    // The retry of what was lost gets the next number; the retry of what was kept gets what is
    // there, whatever it brings.
    let retried = write(&log, "cmpl-5").unwrap();
    assert_eq!(retried.receipt.sequence, 5);
    let again = write(&log, "cmpl-2").unwrap();
    assert_eq!(again.receipt.sequence, 2);
    assert_eq!(log.len().unwrap(), 6);
    let all = log.from(0, 100).unwrap();
    let numbers: Vec<u64> = all.iter().map(|signed| signed.receipt.sequence).collect();
    assert_eq!(numbers, [0, 1, 2, 3, 4, 5]);
    for signed in &all {
        assert_eq!(signed.digest, signed.receipt.digest());
        assert_eq!(log.by_digest(signed.digest).unwrap().as_ref(), Some(signed));
        assert_eq!(digest_u32(&signed.surprisals), signed.receipt.surprisals);
    }
    assert_eq!(log.from(4, 100).unwrap().len(), 2);
}

#[test]
fn nothing_is_stored_when_the_signer_refuses() {
    let engine = start(EngineConfig::default());
    let completion = one(&engine, request(None, "the", 3));
    let dir = tempfile::tempdir().unwrap();
    let log = ReceiptLog::new(Catalogue::open(&dir.path().join("c.redb")).unwrap());
    let error = log
        .write(
            "x",
            &completion,
            &terms(),
            |_, _| Err("key locked".into()),
            |_, _| Ok(()),
        )
        .unwrap_err();
    assert!(matches!(error, Error::Signer(reason) if reason == "key locked"));
    assert!(log.is_empty().unwrap());
    assert!(log.by_completion("x").unwrap().is_none());
}
