#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::LazyLock;

use ark_bn254::{Fr, G2Projective};
use ark_ec::{AffineRepr, CurveGroup, PrimeGroup};
use proptest::prelude::*;

use super::*;

static SRS: LazyLock<Arc<Srs>> = LazyLock::new(|| Arc::new(Srs::development(None)));

fn operators(count: u64) -> Operators {
    let secrets = (1..=count).map(|i| Fr::from(i * 7919)).collect();
    Operators::from_secrets(secrets, 67, &SRS).unwrap()
}

const PAYLOAD: &[u8] = b"the batches of many blocks, more than one symbol of them";

#[test]
fn a_certificate_holds_for_its_payload_and_no_other() {
    let operators = operators(4);
    let certificate = operators.certify(&SRS, PAYLOAD, 77).unwrap();
    let bytes = certificate.encode();
    assert_eq!(bytes.len(), CERTIFICATE_LEN);
    let verifier = Verifier::with_setup(operators.committee().clone(), SRS.clone()).unwrap();
    assert_eq!(verifier.verify(&bytes, None).unwrap(), certificate);
    verifier.verify_payload(&certificate, PAYLOAD).unwrap();
    let mut other = PAYLOAD.to_vec();
    other[5] ^= 1;
    assert!(verifier.verify_payload(&certificate, &other).is_err());
    assert!(
        verifier
            .verify_payload(&certificate, &PAYLOAD[1..])
            .is_err()
    );
    for wrong in [vec![], vec![0; MAX_PAYLOAD_LEN + 1]] {
        assert!(operators.certify(&SRS, &wrong, 77).is_err());
    }
}

#[test]
fn no_byte_of_a_certificate_can_change() {
    let operators = operators(4);
    let bytes = operators.certify(&SRS, PAYLOAD, 77).unwrap().encode();
    let verifier = Verifier::new(operators.committee().clone());
    for at in 0..bytes.len() {
        for flip in [0x01, 0x80] {
            let mut forged = bytes.clone();
            forged[at] ^= flip;
            assert!(verifier.verify(&forged, None).is_err(), "byte {at}");
        }
    }
    for length in [0, 1, CERTIFICATE_LEN - 1] {
        assert!(verifier.verify(&bytes[..length], None).is_err());
    }
    assert!(verifier.verify(&[&bytes[..], &[0]].concat(), None).is_err());
}

#[test]
fn each_part_that_is_forged_has_its_error() {
    let operators = operators(4);
    let committee = operators.committee();
    let sound = operators.certify(&SRS, PAYLOAD, 77).unwrap();
    let header = sound.header.clone();
    let error = |change: &dyn Fn(&mut Certificate)| {
        let mut forged = sound.clone();
        change(&mut forged);
        // What is forged here is well-formed: only the judgement can find it.
        assert_eq!(Certificate::decode(&forged.encode()).unwrap(), forged);
        forged.verify(committee).unwrap_err()
    };

    assert_eq!(
        error(&|c| c.header.digest = keccak256("other")),
        CertificateError::Signature
    );
    assert_eq!(
        error(&|c| c.header.reference_block += 1),
        CertificateError::Signature
    );
    assert_eq!(
        error(&|c| c.header.length += 1),
        CertificateError::Signature
    );
    let other = SRS.commit(b"other").unwrap();
    assert_eq!(
        error(&|c| c.header.commitment = other),
        CertificateError::Signature
    );
    let point = (G1Affine::generator() * Fr::from(5u64)).into_affine();
    assert_eq!(error(&|c| c.signature = point), CertificateError::Signature);
    assert_eq!(
        error(&|c| c.signature = -c.signature),
        CertificateError::Signature
    );
    let key = (G2Projective::generator() * Fr::from(5u64)).into_affine();
    assert_eq!(error(&|c| c.key = key), CertificateError::Key);
    assert_eq!(error(&|c| c.signers = 0b0111), CertificateError::Key);
    assert_eq!(
        error(&|c| c.signers = 0b1_1111),
        CertificateError::UnknownSigner
    );
    assert_eq!(
        error(&|c| c.signers |= 1 << 63),
        CertificateError::UnknownSigner
    );
    // Fully signed by keys that are nobody's, claiming the committee: a forger's best try.
    let strangers = Operators::from_secrets(vec![Fr::from(5u64); 1], 67, &SRS).unwrap();
    let mut forged = strangers.sign(header.clone(), 1);
    forged.signers = 0b1111;
    assert_eq!(forged.verify(committee), Err(CertificateError::Key));
    let stranger = strangers.certify(&SRS, PAYLOAD, 77).unwrap();
    let error = stranger.verify(committee).unwrap_err();
    assert!(matches!(error, CertificateError::Committee { .. }));
    // A rogue key: the stranger's with those of the others taken off makes a valid pairing, but
    // it is not the key of the signers.
    let message = hash_to_g1(&header.digest().0);
    forged = sound.clone();
    forged.signature = (message * Fr::from(5u64)).into_affine();
    forged.key = key;
    assert_eq!(forged.verify(committee), Err(CertificateError::Key));
}

#[test]
fn too_few_signers_are_none() {
    let operators = operators(10);
    let header = operators.certify(&SRS, PAYLOAD, 0).unwrap().header;
    let committee = operators.committee();
    for signers in 0u32..1 << 10 {
        let enough = signers.count_ones() >= 7;
        // All counts once, but not all sets: each costs two pairings.
        if enough && signers % 37 != 0 {
            continue;
        }
        let verdict = committee.aggregate_key(signers.into());
        assert_eq!(verdict.is_ok(), enough, "{signers:b}");
        if enough {
            let certificate = operators.sign(header.clone(), signers.into());
            assert_eq!(certificate.verify(committee), Ok(()));
        }
    }
    // Below the threshold with all else sound.
    let six = operators.sign(header, 0b11_1111);
    let stake = CertificateError::Stake {
        signed: 6,
        total: 10,
        threshold_percent: 67,
    };
    assert_eq!(six.verify(committee), Err(stake));
}

#[test]
fn another_setup_is_another_committee_and_another_commitment() {
    let other = Srs::from_seed("another", None);
    let secrets = || (1..=4u64).map(|i| Fr::from(i * 7919)).collect();
    let elsewhere = Operators::from_secrets(secrets(), 67, &other).unwrap();
    let here = operators(4);
    assert_ne!(elsewhere.committee().digest(), here.committee().digest());
    assert!(Verifier::with_setup(elsewhere.committee().clone(), SRS.clone()).is_none());
    let certificate = elsewhere.certify(&other, PAYLOAD, 1).unwrap();
    let error = certificate.verify(here.committee()).unwrap_err();
    assert!(matches!(error, CertificateError::Committee { .. }));
    certificate.verify(elsewhere.committee()).unwrap();
    certificate.verify_payload(PAYLOAD, None).unwrap();
    certificate.verify_payload(PAYLOAD, Some(&other)).unwrap();
    let error = certificate.verify_payload(PAYLOAD, Some(&SRS)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "its commitment is not that of its payload"
    );
}

#[test]
fn what_is_signed_about_another_payload_is_wrong_for_everybody() {
    let operators = operators(4);
    let sound = operators.certify(&SRS, PAYLOAD, 3).unwrap().header;
    let other = operators.certify(&SRS, b"other", 3).unwrap().header;
    for (part, header) in [
        (
            "commitment",
            Header {
                commitment: other.commitment,
                ..sound.clone()
            },
        ),
        (
            "length",
            Header {
                length: sound.length - 1,
                ..sound
            },
        ),
    ] {
        // Everybody signed it, and it is not so.
        let certificate = operators.sign(header, 0b1111);
        certificate.verify(operators.committee()).unwrap();
        let error = certificate.verify_payload(PAYLOAD, Some(&SRS)).unwrap_err();
        assert_eq!(error, CertificateError::Contradiction { part });
        assert_eq!(error.reason(), InvalidReason::Unproven);
        // Of another payload it says nothing.
        let error = certificate.verify_payload(b"else", Some(&SRS)).unwrap_err();
        assert!(matches!(error, CertificateError::Payload { .. }), "{error}");
    }
}

#[test]
fn a_seed_is_a_committee() {
    let of =
        |seed, count| Operators::from_seed(seed, count, 67, &SRS).map(|o| o.committee().clone());
    let one = of("one", 4).unwrap();
    assert_eq!(one.operators(), 4);
    assert_eq!(of("one", 4).unwrap(), one);
    assert_ne!(of("another", 4).unwrap().digest(), one.digest());
    assert_ne!(of("one", 3).unwrap().digest(), one.digest());
    assert!(of("one", 0).is_err() && of("one", MAX_OPERATORS + 1).is_err());
}

#[test]
fn certificates_age() {
    let certificate = operators(1).certify(&SRS, PAYLOAD, 1000).unwrap();
    certificate.verify_recency(0).unwrap();
    certificate.verify_recency(1000 + RECENCY_WINDOW).unwrap();
    assert!(certificate.verify_recency(1001 + RECENCY_WINDOW).is_err());
    let far = operators(1).certify(&SRS, PAYLOAD, u64::MAX).unwrap();
    far.verify_recency(u64::MAX).unwrap();
}

#[test]
fn committees_are_what_their_json_says() {
    let committee = operators(3).committee().clone();
    let json = serde_json::to_value(&committee).unwrap();
    assert_eq!(
        serde_json::from_value::<Committee>(json.clone()).unwrap(),
        committee
    );
    let refused = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut json = json.clone();
        change(&mut json);
        let read = serde_json::from_value::<Committee>(json);
        !read.is_ok_and(|read| read.digest() == committee.digest())
    };
    let other = operators(4);
    let other = serde_json::to_value(other.committee()).unwrap();
    assert!(refused(&|json| json["operators"][0]["stake"] = 0.into()));
    assert!(refused(&|json| json["operators"][0]["stake"] = 2.into()));
    assert!(refused(
        &|json| json["operators"][0]["public_key"] = "0x00".into()
    ));
    let infinity = format!("0x{}", "00".repeat(128));
    assert!(refused(
        &|json| json["operators"][0]["public_key"] = infinity.clone().into()
    ));
    assert!(refused(
        &|json| json["operators"][1] = json["operators"][0].clone()
    ));
    assert!(refused(
        &|json| json["operators"][2] = other["operators"][3].clone()
    ));
    assert!(refused(&|json| json["operators"] = serde_json::json!([])));
    assert!(refused(&|json| json["threshold_percent"] = 0.into()));
    assert!(refused(&|json| json["threshold_percent"] = 101.into()));
    assert!(refused(&|json| json["threshold_percent"] = 66.into()));
    assert!(refused(
        &|json| json["setup"] = json["operators"][0]["public_key"].clone()
    ));
    assert!(refused(&|json| json["more"] = 1.into()));
}

#[test]
fn keys_are_made_once_and_stay_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("operators.secret");
    let made = Operators::open(&file, 4, 67, &SRS).unwrap();
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let again = Operators::open(&file, 9, 67, &SRS).unwrap();
    assert_eq!(again.committee(), made.committee(), "the file decides");
    let text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(text.lines().count(), 4);
    for line in text.lines() {
        assert!(!format!("{made:?}").contains(line));
    }
    let elsewhere = Operators::open(&dir.path().join("other"), 4, 67, &SRS).unwrap();
    assert_ne!(elsewhere.committee(), made.committee());

    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
    let error = Operators::open(&file, 4, 67, &SRS).unwrap_err();
    assert!(
        matches!(error, CommitteeError::NotPrivate { .. }),
        "{error}"
    );
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    for wrong in ["", "00", "zz", &"00".repeat(32), &"ff".repeat(32)] {
        std::fs::write(&file, wrong).unwrap();
        assert!(Operators::open(&file, 4, 67, &SRS).is_err(), "{wrong:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn any_payload_has_its_certificate(payload in proptest::collection::vec(any::<u8>(), 1..3000), block in any::<u64>()) {
        let operators = operators(3);
        let certificate = operators.certify(&SRS, &payload, block).unwrap();
        let read = Certificate::decode(&certificate.encode()).unwrap();
        prop_assert_eq!(&read, &certificate);
        prop_assert_eq!(read.verify(operators.committee()), Ok(()));
        prop_assert_eq!(read.verify_payload(&payload, Some(&SRS)), Ok(()));
        prop_assert_eq!(certificate.commitment(), SRS.commit_by_secret(&payload));
        prop_assert_eq!(read.reference_block(), block);
    }

    #[test]
    fn what_decodes_encodes_to_the_same_bytes(bytes in proptest::collection::vec(any::<u8>(), CERTIFICATE_LEN)) {
        if let Ok(certificate) = Certificate::decode(&bytes) {
            prop_assert_eq!(certificate.encode(), bytes);
        }
    }
}
