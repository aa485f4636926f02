//! Signed contributions, batches, dataset versions and the evidence for a challenge.
//!
//! The order on chain (docs/protocol/datanet.md) is: commit to the contents, wait for the block
//! that records the commitment, sign with that block's number, anchor. A thief who copies contents
//! from an anchoring transaction is then always later than their owner.
//!
//! ```text
//! rows -> Contents (root, commitment) -> commit on chain -> Batch (signatures, root) -> anchor
//!                                                     \-> Version (rowsRoot, clustersRoot)
//! ```

use alloy_sol_types::{SolStruct, SolValue};
use openledger_primitives::merkle::{self, Tree};
use openledger_primitives::records::{Contribution, DatasetVersion, ReasonCount, domain, row_leaf};
use openledger_primitives::{Address, B256, RECORD_VERSION, Record, keccak256};
use serde::{Deserialize, Serialize};

use crate::{Error, Row};

/// A signature as `r ‖ s ‖ v`, with `v` 27 or 28.
pub type SignatureBytes = [u8; 65];

/// Signs for contributors. This crate holds no keys.
pub trait Signer {
    /// The wallet of a contributor.
    ///
    /// # Errors
    /// There is no key for that name.
    fn address(
        &self,
        contributor: &str,
    ) -> Result<Address, Box<dyn std::error::Error + Send + Sync>>;

    /// The contributor's signature of a 32-byte digest.
    ///
    /// # Errors
    /// There is no key for that name, or signing fails.
    fn sign(
        &self,
        contributor: &str,
        digest: B256,
    ) -> Result<SignatureBytes, Box<dyn std::error::Error + Send + Sync>>;
}

/// The content roots of a batch, before anything is revealed.
#[derive(Clone, Debug)]
pub struct Contents {
    /// Content root of each row, in batch order.
    pub roots: Vec<B256>,
    tree: Tree,
}

impl Contents {
    /// The contents of `rows`.
    pub fn of(rows: &[Row]) -> Self {
        Self::from_roots(rows.iter().map(Row::content_root).collect())
    }

    /// The contents with these content roots.
    pub fn from_roots(roots: Vec<B256>) -> Self {
        let tree = Tree::from_data(roots.iter());
        Self { roots, tree }
    }

    /// Merkle root; leaf data = the content root.
    pub fn root(&self) -> B256 {
        self.tree.root()
    }

    /// Siblings of the content root at `index`.
    pub fn proof(&self, index: usize) -> Option<Vec<B256>> {
        self.tree.proof(index)
    }

    /// What is committed before the contents are shown:
    /// `keccak256(abi.encode(submitter, datanet, contentsRoot, salt))`.
    pub fn commitment(&self, submitter: Address, datanet: u64, salt: B256) -> B256 {
        keccak256((submitter, datanet, self.root(), salt).abi_encode())
    }
}

/// What all contributions of a batch share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// Chain of the anchor contract.
    pub chain_id: u64,
    /// Address of the anchor contract: it verifies the signatures.
    pub anchor: Address,
    /// Datanet id.
    pub datanet: u64,
    /// SPDX licence id.
    pub licence: String,
    /// Block in which the commitment was recorded.
    pub commit_block: u64,
}

/// A contribution with its contributor's signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// The record.
    pub contribution: Contribution,
    /// EIP-712 signature of the record.
    pub signature: SignatureBytes,
}

impl Signed {
    /// Leaf data in a batch: `abi.encode(contribution) ‖ signature`.
    pub fn leaf_data(&self) -> Vec<u8> {
        let mut data = self.contribution.abi_encode();
        data.extend_from_slice(&self.signature);
        data
    }
}

/// What a contributor signs (EIP-712; verifying contract = the anchor).
pub fn signing_digest(contribution: &Contribution, anchor: Address) -> B256 {
    contribution.eip712_signing_hash(&domain(contribution.chainId, anchor))
}

/// A signed batch, ready to anchor.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Its contents.
    pub contents: Contents,
    /// Its contributions, in row order.
    pub signed: Vec<Signed>,
    tree: Tree,
}

impl Batch {
    /// Signs `rows` under `terms`. `nonce` gives each contribution its contributor's next number.
    ///
    /// # Errors
    /// The signer fails for a contributor.
    pub fn sign(
        rows: &[Row],
        terms: &Terms,
        signer: &dyn Signer,
        mut nonce: impl FnMut(Address) -> u64,
    ) -> Result<Self, Error> {
        let contents = Contents::of(rows);
        let mut signed = Vec::with_capacity(rows.len());
        for (row, &content_root) in rows.iter().zip(&contents.roots) {
            let fail = |source| Error::Sign {
                contributor: row.contributor.clone(),
                source,
            };
            let contributor = signer.address(&row.contributor).map_err(fail)?;
            let contribution = Contribution {
                version: RECORD_VERSION,
                chainId: terms.chain_id,
                datanet: terms.datanet,
                contributor,
                contentRoot: content_root,
                size: row.content().len() as u64,
                licence: terms.licence.clone(),
                nonce: nonce(contributor),
                commitBlock: terms.commit_block,
            };
            let digest = signing_digest(&contribution, terms.anchor);
            let signature = signer.sign(&row.contributor, digest).map_err(fail)?;
            signed.push(Signed {
                contribution,
                signature,
            });
        }
        Ok(Self::from_signed(signed))
    }

    /// The batch of contributions that are signed already.
    pub fn from_signed(signed: Vec<Signed>) -> Self {
        let contents = Contents::from_roots(
            signed
                .iter()
                .map(|leaf| leaf.contribution.contentRoot)
                .collect(),
        );
        let tree = Tree::from_data(signed.iter().map(Signed::leaf_data));
        Self {
            contents,
            signed,
            tree,
        }
    }

    /// The root that is anchored.
    pub fn root(&self) -> B256 {
        self.tree.root()
    }

    /// Bytes of all contents.
    pub fn bytes(&self) -> u64 {
        self.signed.iter().map(|leaf| leaf.contribution.size).sum()
    }

    /// Digests of the contributions, in row order: the leaves of a dataset version.
    pub fn digests(&self) -> Vec<B256> {
        self.signed
            .iter()
            .map(|leaf| leaf.contribution.digest())
            .collect()
    }

    /// The leaf at `index` as a contract wants to see it, with `batch` as the batch's number.
    pub fn locate(&self, batch: u64, index: usize) -> Option<Located> {
        Some(Located {
            batch,
            index: index as u64,
            leaf: self.signed.get(index)?.clone(),
            proof: self.tree.proof(index)?,
            contents_proof: self.contents.proof(index)?,
        })
    }
}

/// A signed contribution with its place in an anchored batch and the proof of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// Number of the batch on chain.
    pub batch: u64,
    /// Index in the batch.
    pub index: u64,
    /// The contribution.
    pub leaf: Signed,
    /// Siblings up to the batch's root.
    pub proof: Vec<B256>,
    /// Siblings of its content root up to the root that was committed to.
    pub contents_proof: Vec<B256>,
}

impl Located {
    /// Whether the leaf stands at its place in the batch with this root.
    pub fn verify(&self, batch_root: B256) -> bool {
        let leaf = merkle::leaf(&self.leaf.leaf_data());
        merkle::verify(batch_root, leaf, self.index, &self.proof)
    }

    /// Whether its content was committed to at this place: without that, a thief could claim an
    /// old commitment for a text that he saw later.
    pub fn verify_commitment(&self, contents_root: B256) -> bool {
        let leaf = merkle::leaf(self.leaf.contribution.contentRoot.as_slice());
        merkle::verify(contents_root, leaf, self.index, &self.contents_proof)
    }

    /// Priority: the block of the commitment, then the batch, then the index.
    pub const fn priority(&self) -> (u64, u64, u64) {
        (self.leaf.contribution.commitBlock, self.batch, self.index)
    }
}

/// Evidence for `challengeDuplicate`: two leaves of equal content, the earlier first. The contract
/// also wants the earlier leaf's [`contents_proof`](Located::contents_proof).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DuplicateChallenge {
    /// The leaf that was there first.
    pub earlier: Located,
    /// The leaf whose bond is slashed.
    pub later: Located,
}

impl DuplicateChallenge {
    /// The challenge that two leaves of one Datanet justify, whichever order they come in.
    ///
    /// # Errors
    /// They are the same leaf, stand in different Datanets, or have different contents.
    pub fn new(a: Located, b: Located) -> Result<Self, Error> {
        let (x, y) = (&a.leaf.contribution, &b.leaf.contribution);
        if x.datanet != y.datanet {
            return Err(Error::NoDuplicate("the leaves stand in different datanets"));
        }
        if x.contentRoot != y.contentRoot {
            return Err(Error::NoDuplicate("the leaves have different contents"));
        }
        if (a.batch, a.index) == (b.batch, b.index) {
            return Err(Error::NoDuplicate("both are the same leaf"));
        }
        let (earlier, later) = if a.priority() < b.priority() {
            (a, b)
        } else {
            (b, a)
        };
        Ok(Self { earlier, later })
    }
}

/// All on-chain duplicates among anchored batches `(number, batch)`: each leaf whose content an
/// earlier leaf of the same Datanet has, against the earliest such leaf.
pub fn duplicates(batches: &[(u64, &Batch)]) -> Vec<DuplicateChallenge> {
    let mut leaves: Vec<Located> = batches
        .iter()
        .flat_map(|(number, batch)| {
            (0..batch.signed.len()).filter_map(|index| batch.locate(*number, index))
        })
        .collect();
    leaves.sort_by_key(Located::priority);
    let mut first: std::collections::HashMap<(u64, B256), Located> =
        std::collections::HashMap::new();
    let mut found = Vec::new();
    for leaf in leaves {
        let contribution = &leaf.leaf.contribution;
        match first.entry((contribution.datanet, contribution.contentRoot)) {
            std::collections::hash_map::Entry::Vacant(entry) => {
                entry.insert(leaf);
            }
            std::collections::hash_map::Entry::Occupied(entry) => {
                found.push(DuplicateChallenge {
                    earlier: entry.get().clone(),
                    later: leaf,
                });
            }
        }
    }
    found
}

/// Where a dataset version stands in its chain of versions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionTerms {
    /// Chain id.
    pub chain_id: u64,
    /// Datanet id.
    pub datanet: u64,
    /// Running number, from 1.
    pub number: u64,
    /// Digest of the version before, zero for the first.
    pub parent: B256,
    /// [`Policy::hash`](crate::Policy::hash).
    pub policy_hash: B256,
}

/// A sealed dataset version with the trees behind its roots.
#[derive(Clone, Debug)]
pub struct Version {
    /// The record.
    pub record: DatasetVersion,
    rows: Tree,
    clusters: Tree,
}

impl Version {
    /// Seals the rows with these contribution digests, in row order.
    ///
    /// `clusters[row]` is the first-committed row of the row's cluster: the row itself unless a
    /// looser clustering joins it to an earlier one. `rejected` comes from
    /// [`Ingest::reason_counts`](crate::Ingest::reason_counts).
    ///
    /// # Errors
    /// A cluster is not named by its own first row, or the lists differ in length.
    pub fn seal(
        terms: &VersionTerms,
        contributions: &[B256],
        clusters: &[u32],
        mut rejected: Vec<ReasonCount>,
    ) -> Result<Self, Error> {
        let len = contributions.len() as u64;
        if clusters.len() != contributions.len() {
            return Err(Error::OutOfRange {
                what: "cluster list of length",
                index: clusters.len() as u64,
                len,
            });
        }
        for (row, &cluster) in (0u64..).zip(clusters) {
            let first = u64::from(cluster);
            if first > row || clusters[cluster as usize] != cluster {
                return Err(Error::OutOfRange {
                    what: "cluster",
                    index: first,
                    len: row,
                });
            }
        }
        rejected.sort_by(|a, b| a.reason.cmp(&b.reason));
        let rows = Tree::from_data(
            (0u64..)
                .zip(contributions)
                .map(|(row, &digest)| row_leaf(digest, row)),
        );
        let cluster_tree = Tree::from_data(
            (0u64..)
                .zip(clusters)
                .map(|(row, &cluster)| cluster_leaf(row, cluster)),
        );
        let record = DatasetVersion {
            version: RECORD_VERSION,
            chainId: terms.chain_id,
            datanet: terms.datanet,
            number: terms.number,
            parent: terms.parent,
            rowsRoot: rows.root(),
            clustersRoot: cluster_tree.root(),
            policyHash: terms.policy_hash,
            accepted: len,
            rejected,
        };
        Ok(Self {
            record,
            rows,
            clusters: cluster_tree,
        })
    }

    /// Siblings of a row's leaf in `rowsRoot`.
    pub fn row_proof(&self, row: u32) -> Option<Vec<B256>> {
        self.rows.proof(row as usize)
    }

    /// Siblings of a row's leaf in `clustersRoot`.
    pub fn cluster_proof(&self, row: u32) -> Option<Vec<B256>> {
        self.clusters.proof(row as usize)
    }
}

/// Every row its own cluster.
pub fn own_clusters(rows: u32) -> Vec<u32> {
    (0..rows).collect()
}

/// Leaf data in `clustersRoot`: `abi.encode(uint64 row, uint64 first row of its cluster)`.
pub fn cluster_leaf(row: u64, cluster: u32) -> Vec<u8> {
    (row, u64::from(cluster)).abi_encode()
}
