//! Certificates, from the server's operators to a client that judges them.

use openledger_da::certificate::{
    CERTIFICATE_LEN, Certificate, Operators, RECENCY_WINDOW, Srs, Verifier,
};
use openledger_da::encoding;
use openledger_da::server::Certificates;

use super::*;

fn certifying(dir: &Path) -> (Served, Arc<AtomicU64>) {
    let head = Arc::new(AtomicU64::new(50));
    let block = head.clone();
    let served = Served::new(dir, |config| {
        config.fault_injection = true;
        let block =
            Arc::new(move || Some(block.load(Ordering::SeqCst)).filter(|block| *block != 0));
        config.certificates = Some(Certificates::new(block));
    });
    (served, head)
}

/// A client that pins the committee, as a node does.
fn judging(served: &Served, mode: CommitmentMode) -> HttpClient {
    let opaque = served.client(mode);
    let committee = opaque.committee().unwrap().unwrap();
    assert_eq!(
        Some(&committee),
        served.running.as_ref().unwrap().committee()
    );
    let srs = Arc::new(Srs::development(None));
    let mut config = ClientConfig::new(served.url());
    config.mode = mode;
    config.verifier = Some(Arc::new(Verifier::with_setup(committee, srs).unwrap()));
    HttpClient::new(config)
}

fn bytes(commitment: &Commitment) -> Vec<u8> {
    match commitment {
        Commitment::Certificate(certified) => certified.bytes().to_vec(),
        Commitment::Keccak(_) => panic!("a digest"),
    }
}

fn development(bytes: Vec<u8>) -> Commitment {
    Commitment::certificate(CertificateKind::Development, bytes.into()).unwrap()
}

fn reason(error: DaError) -> InvalidReason {
    match error {
        DaError::Invalid { reason, .. } => reason,
        error => panic!("{error}"),
    }
}

#[test]
fn a_put_is_certified_and_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (served, head) = certifying(dir.path());
    let payload = vec![0xa5; 70_000];
    let client = judging(&served, CommitmentMode::Generic);
    let commitment = client.put(&payload).unwrap();
    assert_eq!(commitment.encode().len(), 3 + CERTIFICATE_LEN);
    assert!(commitment.to_string().starts_with("0x016f81"));
    assert_eq!(client.get_included(&commitment, Some(51)).unwrap(), payload);
    let certificate = Certificate::decode(&bytes(&commitment)).unwrap();
    assert_eq!(certificate.reference_block(), 50);
    assert_eq!(certificate.signers(), 0b1111);
    // A payload can be certified again as of a later block, and both hold.
    head.store(60, Ordering::SeqCst);
    // Without a block to refer to there is nothing to sign; the server may know it again soon.
    head.store(0, Ordering::SeqCst);
    let error = client.put(&payload).unwrap_err();
    assert!(matches!(error, DaError::Unavailable { .. }), "{error}");
    head.store(60, Ordering::SeqCst);
    let later = client.put(&payload).unwrap();
    assert_ne!(later, commitment);
    assert_eq!(client.get(&later).unwrap(), payload);
    let digest = Commitment::keccak(&payload);
    assert_eq!(
        client.get(&digest).unwrap(),
        payload,
        "also under its digest"
    );
    let (status, encoded) =
        served.ask_bytes(&get(&format!("/get/{commitment}?return_encoded_payload")));
    assert_eq!(status, 200);
    assert_eq!(encoding::decode(&encoded).unwrap(), payload);

    let standard = judging(&served, CommitmentMode::Standard);
    let other = standard.put(b"standard").unwrap();
    assert_eq!(standard.get(&other).unwrap(), b"standard"[..]);
    assert_eq!(
        client.get(&other).unwrap(),
        b"standard"[..],
        "the same in both spellings"
    );
    served.shutdown();

    let (served, _) = certifying(dir.path());
    let client = judging(&served, CommitmentMode::Generic);
    assert_eq!(client.get(&commitment).unwrap(), payload);
}

#[test]
fn what_does_not_hold_is_invalid_for_client_and_server_alike() {
    let dir = tempfile::tempdir().unwrap();
    let (served, _) = certifying(dir.path());
    let client = judging(&served, CommitmentMode::Generic);
    let opaque = served.client(CommitmentMode::Generic);
    let sound = client.put(b"payload").unwrap();

    let mut forged = bytes(&sound);
    forged[75] ^= 1; // in the digest of the payload
    let mut unsigned = bytes(&sound);
    unsigned[151] = 0b0011; // two of four signers
    let window = 50 + RECENCY_WINDOW;
    for (commitment, block, expected) in [
        (development(forged), None, InvalidReason::Unproven),
        (development(unsigned), None, InvalidReason::Unproven),
        (development(vec![1, 2, 3]), None, InvalidReason::Unparsable),
        (
            development(vec![0; CERTIFICATE_LEN]),
            None,
            InvalidReason::Unparsable,
        ),
        (sound.clone(), Some(window + 1), InvalidReason::Stale),
    ] {
        for client in [&client, &opaque] {
            let error = client.get_included(&commitment, block).unwrap_err();
            assert_eq!(reason(error), expected);
        }
    }
    for client in [&client, &opaque] {
        assert!(client.get_included(&sound, Some(window)).is_ok());
    }

    // Other operators: invalid to whom has the committee; the server cannot tell.
    let srs = Srs::development(None);
    let others = Operators::open(&dir.path().join("others"), 4, 67, &srs).unwrap();
    let foreign = development(others.certify(&srs, b"payload", 50).unwrap().encode());
    assert_eq!(
        reason(client.get(&foreign).unwrap_err()),
        InvalidReason::Unproven
    );
    let error = opaque.get(&foreign).unwrap_err();
    assert!(matches!(error, DaError::Unavailable { .. }), "{error}");
}

#[test]
fn a_client_that_judges_believes_no_server() {
    let dir = tempfile::tempdir().unwrap();
    let (served, _) = certifying(dir.path());
    let client = judging(&served, CommitmentMode::Generic);
    let opaque = served.client(CommitmentMode::Generic);
    served.set(r#"{"NullableDerivationError":{"StatusCode":4,"Msg":"on request"}}"#);
    let commitment = client.put(b"payload").unwrap();
    let error = opaque.get(&commitment).unwrap_err();
    assert_eq!(reason(error), InvalidReason::Undecodable);
    let error = client.get(&commitment).unwrap_err();
    assert!(matches!(error, DaError::Unavailable { .. }), "{error}");

    // Servers that certify something else, or nothing, or serve something else.
    let with_verifier = |answer| {
        let mut config = says_config(answer);
        config.verifier = Some(Arc::new(Verifier::new(
            served
                .running
                .as_ref()
                .unwrap()
                .committee()
                .unwrap()
                .clone(),
        )));
        HttpClient::new(config)
    };
    for wrong in [commitment.clone(), development(vec![0; CERTIFICATE_LEN])] {
        let error = with_verifier(answer("200 OK", &wrong.encode())).put(b"other");
        assert!(matches!(error, Err(DaError::Unavailable { .. })));
    }
    let error = with_verifier(answer("200 OK", b"other!!")).get(&commitment);
    assert!(matches!(error, Err(DaError::Unavailable { .. })));
    let good = with_verifier(answer("200 OK", b"payload")).get(&commitment);
    assert_eq!(good.unwrap(), b"payload"[..]);
    // What does not hold is not even asked for: nobody listens here.
    let mut config = ClientConfig::new("http://127.0.0.1:1");
    config.verifier = Some(Arc::new(Verifier::new(
        served
            .running
            .as_ref()
            .unwrap()
            .committee()
            .unwrap()
            .clone(),
    )));
    let error = HttpClient::new(config)
        .get(&development(vec![7]))
        .unwrap_err();
    assert_eq!(reason(error), InvalidReason::Unparsable);
}
