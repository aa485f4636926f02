//! Signed batches, dataset versions and challenges.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::HashMap;

use alloy_signer::SignerSync;
use alloy_signer_local::PrivateKeySigner;
use alloy_sol_types::SolValue;
use openledger_datanet::keys::dev_key;
use openledger_datanet::records::{
    Batch, Contents, DuplicateChallenge, Signer, Terms, Version, VersionTerms, cluster_leaf,
    duplicates, own_clusters, signing_digest,
};
use openledger_datanet::{Error, Mapping, Policy, Row, ingest};
use openledger_primitives::records::{Contribution, row_leaf};
use openledger_primitives::{Address, B256, DEV_CHAIN_ID, Record, Signature, keccak256, merkle};
use proptest::prelude::*;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Signs with dev keys, as the dev node does.
struct DevKeys;

impl DevKeys {
    fn key(name: &str) -> Result<PrivateKeySigner, Failure> {
        Ok(PrivateKeySigner::from_bytes(&dev_key(DEV_CHAIN_ID, name)?)?)
    }
}

impl Signer for DevKeys {
    fn address(&self, contributor: &str) -> Result<Address, Failure> {
        Ok(Self::key(contributor)?.address())
    }

    fn sign(&self, contributor: &str, digest: B256) -> Result<[u8; 65], Failure> {
        Ok(Self::key(contributor)?.sign_hash_sync(&digest)?.as_bytes())
    }
}

fn rows(texts: &[(&str, &str)]) -> Vec<Row> {
    (0u32..)
        .zip(texts)
        .map(|(row, (who, text))| Row {
            row,
            line: u64::from(row) + 1,
            contributor: (*who).into(),
            prompt: None,
            text: (*text).into(),
            label: None,
        })
        .collect()
}

fn terms(datanet: u64, commit_block: u64) -> Terms {
    Terms {
        chain_id: DEV_CHAIN_ID,
        anchor: Address::repeat_byte(7),
        datanet,
        licence: "CC0-1.0".into(),
        commit_block,
    }
}

fn batch(rows: &[Row], terms: &Terms) -> Batch {
    let mut nonces: HashMap<Address, u64> = HashMap::new();
    Batch::sign(rows, terms, &DevKeys, |address| {
        let nonce = nonces.entry(address).or_default();
        *nonce += 1;
        *nonce - 1
    })
    .unwrap()
}

#[test]
fn a_leaf_is_what_the_contract_hashes_and_ecrecover_finds_its_signer() {
    let rows = rows(&[
        ("ada", "one text"),
        ("bob", "another text"),
        ("ada", "a third text"),
    ]);
    let terms = terms(5, 42);
    let batch = batch(&rows, &terms);
    assert_eq!(batch.contents.root(), Contents::of(&rows).root());
    assert_eq!(batch.bytes(), 8 + 12 + 12);
    let nonces: Vec<u64> = batch
        .signed
        .iter()
        .map(|leaf| leaf.contribution.nonce)
        .collect();
    assert_eq!(nonces, [0, 0, 1]);
    for (index, (leaf, row)) in batch.signed.iter().zip(&rows).enumerate() {
        let contribution = &leaf.contribution;
        assert_eq!(
            contribution.contentRoot,
            merkle::chunk_root(row.text.as_bytes())
        );
        assert_eq!((contribution.commitBlock, contribution.datanet), (42, 5));
        let digest = signing_digest(contribution, terms.anchor);
        let signer = Signature::from_raw(&leaf.signature)
            .unwrap()
            .recover_address_from_prehash(&digest)
            .unwrap();
        assert_eq!(signer, contribution.contributor);
        let mut data = contribution.abi_encode();
        data.extend_from_slice(&leaf.signature);
        assert_eq!(data, leaf.leaf_data());
        assert_eq!(
            Contribution::abi_decode(&data[..data.len() - 65]).unwrap(),
            *contribution
        );
        let located = batch.locate(3, index).unwrap();
        assert!(located.verify(batch.root()));
        assert!(!located.verify(batch.contents.root()));
        assert!(located.verify_commitment(batch.contents.root()));
        assert!(!located.verify_commitment(batch.root()));
    }
    assert!(batch.locate(3, 3).is_none());
}

#[test]
fn the_commitment_binds_who_where_what_and_salt() {
    let contents = Contents::of(&rows(&[("ada", "one text")]));
    let (who, salt) = (Address::repeat_byte(1), B256::repeat_byte(2));
    let commitment = contents.commitment(who, 5, salt);
    let mut bytes = vec![0u8; 12];
    bytes.extend_from_slice(who.as_slice());
    bytes.extend_from_slice(&[0; 31]);
    bytes.push(5);
    bytes.extend_from_slice(contents.root().as_slice());
    bytes.extend_from_slice(salt.as_slice());
    assert_eq!(commitment, keccak256(bytes));
    assert_ne!(commitment, contents.commitment(Address::ZERO, 5, salt));
    assert_ne!(commitment, contents.commitment(who, 6, salt));
    assert_ne!(commitment, contents.commitment(who, 5, B256::ZERO));
}

#[test]
fn a_challenge_puts_the_earlier_leaf_first() {
    let first = batch(&rows(&[("ada", "mine"), ("bob", "other")]), &terms(5, 10));
    let later = batch(&rows(&[("eve", "new"), ("eve", "mine")]), &terms(5, 12));
    // The batch that was committed first may be anchored last: the commitment decides.
    let (a, b) = (first.locate(9, 0).unwrap(), later.locate(4, 1).unwrap());
    let challenge = DuplicateChallenge::new(b.clone(), a.clone()).unwrap();
    assert_eq!(challenge.earlier, a);
    assert_eq!(challenge.later, b);
    assert_eq!(duplicates(&[(4, &later), (9, &first)]).len(), 1);

    let unlike = DuplicateChallenge::new(a.clone(), later.locate(4, 0).unwrap());
    assert!(matches!(unlike, Err(Error::NoDuplicate(_))));
    assert!(DuplicateChallenge::new(a.clone(), a.clone()).is_err());
    let elsewhere = batch(&rows(&[("eve", "mine")]), &terms(6, 12));
    assert!(DuplicateChallenge::new(a, elsewhere.locate(5, 0).unwrap()).is_err());
    assert!(duplicates(&[(9, &first), (5, &elsewhere)]).is_empty());
}

#[test]
fn a_version_proves_rows_and_clusters() {
    let rows = rows(&[("ada", "one"), ("bob", "two"), ("eve", "three")]);
    let batch = batch(&rows, &terms(5, 1));
    let policy = Policy::default();
    let lines = b"{\"who\": \"x\"}\n\n";
    let refused = ingest(
        &lines[..],
        &Mapping::new(["a"], "who"),
        &policy,
        &mut |_| {},
    )
    .unwrap();
    let version_terms = VersionTerms {
        chain_id: DEV_CHAIN_ID,
        datanet: 5,
        number: 1,
        parent: B256::ZERO,
        policy_hash: policy.hash(),
    };
    let digests = batch.digests();
    let clusters = [0, 1, 0];
    let version =
        Version::seal(&version_terms, &digests, &clusters, refused.reason_counts()).unwrap();
    let record = &version.record;
    assert_eq!((record.accepted, record.policyHash), (3, policy.hash()));
    let reasons: Vec<&str> = record
        .rejected
        .iter()
        .map(|count| count.reason.as_str())
        .collect();
    assert_eq!(reasons, ["empty-line", "missing-column"]);
    for row in 0..3u32 {
        let at = row as usize;
        let leaf = merkle::leaf(&row_leaf(digests[at], u64::from(row)));
        assert!(merkle::verify(
            record.rowsRoot,
            leaf,
            u64::from(row),
            &version.row_proof(row).unwrap()
        ));
        let leaf = merkle::leaf(&cluster_leaf(u64::from(row), clusters[at]));
        assert!(merkle::verify(
            record.clustersRoot,
            leaf,
            u64::from(row),
            &version.cluster_proof(row).unwrap()
        ));
    }
    assert_ne!(
        version.record.digest(),
        Version::seal(&version_terms, &digests, &own_clusters(3), vec![])
            .unwrap()
            .record
            .digest()
    );
    for wrong in [&[0, 0, 1][..], &[1, 1, 2], &[0, 1]] {
        assert!(matches!(
            Version::seal(&version_terms, &digests, wrong, vec![]),
            Err(Error::OutOfRange { .. })
        ));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn every_leaf_of_every_batch_verifies(texts in prop::collection::vec("[a-z]{1,40}", 1..20)) {
        let texts: Vec<(&str, &str)> = texts.iter().map(|text| ("ada", text.as_str())).collect();
        let batch = batch(&rows(&texts), &terms(1, 1));
        for index in 0..texts.len() {
            let mut located = batch.locate(1, index).unwrap();
            prop_assert!(located.verify(batch.root()));
            located.leaf.contribution.nonce += 1;
            prop_assert!(!located.verify(batch.root()));
        }
        let unique: std::collections::HashSet<_> = texts.iter().collect();
        prop_assert_eq!(duplicates(&[(1, &batch)]).len(), texts.len() - unique.len());
    }
}
