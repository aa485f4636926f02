//! Contributions in: judged, kept, committed, signed, anchored, published.
//!
//! Judging is free and changes nothing; it leaves a *ticket* that names exactly the verdicts. A
//! ticket is then taken through the on-chain order of docs/protocol/datanet.md: commit to the
//! contents, sign with the block that recorded the commitment, anchor the batch, publish the
//! version. Each step first asks the chain whether it was done already, and the salt follows from
//! the ticket, so a ticket that was interrupted is simply taken through again.
//!
//! Only accepted rows are anchored: a bond stands behind every leaf, and a duplicate would lose
//! it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use alloy_signer::SignerSync as _;
use openledger_datanet::records::{
    Batch, Contents, SignatureBytes, Signer, Terms, Version, VersionTerms, own_clusters,
};
use openledger_datanet::{Evidence, Ingest, Ledger, Mapping, Policy, Row};
use openledger_primitives::records::{Contribution, ReasonCount};
use openledger_primitives::{Address, B256, Bytes, Record as _, keccak256, merkle};
use rust_embed::RustEmbed;
use serde::{Deserialize, Serialize};

use crate::datanets::{address_key, id_key};
use crate::dev::{LoopInput, LoopSpec};
use crate::state::{DatanetDoc, NameDoc, RejectionDoc, RowDoc, VersionDoc, collection};
use crate::view::{ContributionReceipt, JudgeView, VerdictView};
use crate::wallets::{DevWallets, Role};
use crate::{Error, Node, Result};

/// Rows shown with their verdicts.
const SHOWN: usize = 500;
/// Characters shown of a row.
const SHOWN_CHARS: usize = 240;
/// Name and licence of the bundled sample.
const SAMPLE: (&str, &str, &str) = ("OpenLedger field notes", "CC0-1.0", "sample.jsonl");
/// Licence of rows whose file does not say: what the contributor may pass on is theirs to know.
const UNSTATED_LICENCE: &str = "NOASSERTION";

#[derive(RustEmbed)]
#[folder = "../../bundled/datanet"]
#[include = "sample.jsonl"]
struct BundledDatanet;

/// Who contributes the rows of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Contributor {
    /// The name in this column.
    Column(String),
    /// One name for all rows.
    Name(String),
}

/// Judged rows that wait to be anchored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct TicketDoc {
    pub(crate) key: String,
    /// Datanet to extend; a new one when missing.
    pub(crate) datanet: Option<u64>,
    pub(crate) name: String,
    pub(crate) licence: String,
    pub(crate) source: String,
    pub(crate) mapping: Mapping,
    /// Blob: the [`Ingest`] as JSON.
    pub(crate) judged: B256,
    /// The Datanet and version that it became.
    pub(crate) done: Option<(u64, u64)>,
}

/// A batch as it is kept for whoever wants to challenge or re-derive it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SignedContribution {
    pub(crate) contribution: Contribution,
    pub(crate) signature: Bytes,
}

impl Node {
    /// Judges the loop's input and takes it to the chain; returns the Datanet's id.
    pub(crate) async fn ingest_for_loop(&self, spec: &LoopSpec, key: &str) -> Result<u64> {
        let ticket = match self
            .catalogue()
            .get::<TicketDoc>(collection::TICKETS, key)?
        {
            Some(ticket) => ticket,
            None => {
                let node = self.clone();
                let (spec, key) = (spec.clone(), key.to_owned());
                tokio::task::spawn_blocking(move || node.judge_for_loop(&spec, &key)).await??
            }
        };
        Ok(self.anchor(ticket).await?.datanet)
    }

    fn judge_for_loop(&self, spec: &LoopSpec, key: &str) -> Result<TicketDoc> {
        let input = spec
            .input
            .clone()
            .unwrap_or_else(|| LoopInput::bundled(None));
        let limit = input.limit.map(|limit| limit as u64);
        let mapping = Mapping::new(input.text, input.contributor).limited(limit);
        let ledger = Ledger::new(Policy::default());
        let (name, licence, source) = match &input.file {
            None => (
                SAMPLE.0.to_owned(),
                SAMPLE.1.to_owned(),
                SAMPLE.2.to_owned(),
            ),
            Some(path) => (stem(path), UNSTATED_LICENCE.to_owned(), file_name(path)),
        };
        let ingest = match &input.file {
            None => {
                let file = BundledDatanet::get(SAMPLE.2)
                    .ok_or_else(|| Error::not_found("bundled Datanet", SAMPLE.2))?;
                self.preview(&ledger, &file.data[..], &mapping)?
            }
            Some(path) => {
                let file = File::open(path).map_err(|source| Error::File {
                    action: "open the Datanet",
                    path: path.clone(),
                    source,
                })?;
                self.preview(&ledger, BufReader::new(file), &mapping)?
            }
        };
        if ingest.accepted.is_empty() {
            let reasons: Vec<String> = ingest
                .counts()
                .iter()
                .map(|(reason, n)| format!("{n} {reason}"))
                .collect();
            return Err(Error::invalid(
                "--datanet",
                format!(
                    "none of the {} lines of {source} is a row that can be used ({}); check --text \
                     and --contributor",
                    ingest.lines,
                    reasons.join(", ")
                ),
            ));
        }
        self.keep_ticket(key, None, (name, licence, source), mapping, &ingest)
    }

    fn preview(&self, ledger: &Ledger, reader: impl BufRead, mapping: &Mapping) -> Result<Ingest> {
        Ok(ledger.preview(reader, mapping, &mut |progress| {
            let message = format!(
                "{} rows judged: {} accepted, {} refused",
                progress.lines, progress.accepted, progress.rejected
            );
            self.stage("datanet", message, progress.lines, 0);
        })?)
    }

    fn keep_ticket(
        &self,
        key: &str,
        datanet: Option<u64>,
        (name, licence, source): (String, String, String),
        mapping: Mapping,
        ingest: &Ingest,
    ) -> Result<TicketDoc> {
        let judged = self.put_json(ingest)?;
        let key = key.to_owned();
        let ticket = TicketDoc {
            key,
            datanet,
            name,
            licence,
            source,
            mapping,
            judged,
            done: None,
        };
        self.catalogue()
            .write(|tx| tx.put(collection::TICKETS, &ticket.key, &ticket))?;
        Ok(ticket)
    }

    pub(crate) fn put_json<T: Serialize>(&self, value: &T) -> Result<B256> {
        let bytes = serde_json::to_vec(value)
            .map_err(|error| Error::Task(format!("no JSON form: {error}")))?;
        Ok(self.blobs().put(&bytes)?)
    }

    /// Judges a file without changing anything, and leaves a ticket for [`Node::contribute`].
    ///
    /// `text` names the columns that make a row's text; when it is empty they are guessed from
    /// the first line.
    ///
    /// # Errors
    /// [`Error::NotFound`] for an unknown Datanet, [`Error::Invalid`] for columns that cannot
    /// work.
    pub fn judge(
        &self,
        datanet: Option<u64>,
        name: &str,
        bytes: &[u8],
        text: &[String],
        contributor: Contributor,
    ) -> Result<JudgeView> {
        let columns = columns(bytes);
        let text = if text.is_empty() {
            guess_text(&columns, &contributor)
        } else {
            text.to_vec()
        };
        let (column, named) = match &contributor {
            Contributor::Column(column) => (column.clone(), None),
            Contributor::Name(name) => ("contributor".to_owned(), Some(name.clone())),
        };
        let mapping = Mapping::new(text.clone(), column.clone());
        // One name for all rows is written into the lines, so that every path judges the same.
        let lines = named
            .as_ref()
            .map(|name| with_contributor(bytes, &column, name));
        let bytes = lines.as_deref().unwrap_or(bytes);
        let (ledger, licence) = match datanet {
            None => (Ledger::new(Policy::default()), UNSTATED_LICENCE.to_owned()),
            Some(id) => {
                let rows = self.ledger_rows(id)?;
                let licence = self.datanet_doc(id)?.licence;
                (Ledger::restore(Policy::default(), &rows)?, licence)
            }
        };
        let ingest = ledger.preview(bytes, &mapping, &mut |_| {})?;
        let key = keccak256([name.as_bytes(), &[0], bytes, &ledger.len().to_be_bytes()].concat());
        let key = format!("ticket-{}", &format!("{key:x}")[..24]);
        let names = (stem(Path::new(name)), licence, name.to_owned());
        let ticket = self.keep_ticket(&key, datanet, names, mapping, &ingest)?;
        let bond = openledger_primitives::Wei::new(self.parameters().contributionBond)
            .mul_u64(ingest.accepted.len() as u64)?;
        Ok(JudgeView {
            ticket: ticket.key,
            columns,
            text,
            contributor: named.is_none().then_some(column),
            verdicts: verdicts(&ingest, bytes),
            accepted: ingest.accepted.len() as u64,
            rejected: ingest.rejected.len() as u64,
            bond,
        })
    }

    /// Signs and anchors what a ticket names. On the dev network each contributor's own dev key
    /// signs.
    ///
    /// # Errors
    /// [`Error::NotFound`] for an unknown ticket, [`Error::Conflict`] if the Datanet has moved on
    /// since it was judged or if nothing was accepted, or the chain's error.
    pub async fn contribute(&self, ticket: &str) -> Result<ContributionReceipt> {
        let ticket: TicketDoc = self
            .catalogue()
            .get(collection::TICKETS, ticket)?
            .ok_or_else(|| Error::not_found("ticket", ticket))?;
        self.anchor(ticket).await
    }

    /// Takes a ticket through the chain, step by step.
    async fn anchor(&self, mut ticket: TicketDoc) -> Result<ContributionReceipt> {
        let _one_at_a_time = self.anchoring().lock().await;
        let ingest: Ingest = self.blob_json(&ticket.judged)?;
        if let Some((datanet, number)) = ticket.done {
            return self.contribution_receipt(datanet, number, &ingest);
        }
        if ingest.accepted.is_empty() {
            return Err(Error::Conflict(
                "no row was accepted, so there is nothing to anchor".into(),
            ));
        }
        let curator = self.wallets().role(Role::Curator);
        let policy = Policy::default().hash();
        self.stage("datanet", "anchoring the batch on the chain", 0, 4);
        let id = match ticket.datanet {
            Some(id) => id,
            None => {
                let schema = serde_json::json!({"ticket": ticket.key, "text": ticket.mapping.text,
                    "contributor": ticket.mapping.contributor})
                .to_string();
                self.contracts()
                    .create_datanet(&curator, &ticket.name, &ticket.licence, policy, &schema)
                    .await?
            }
        };
        let doc = match self.datanet_doc(id) {
            Ok(doc) => doc,
            Err(Error::NotFound { .. }) => DatanetDoc {
                id,
                name: ticket.name.clone(),
                licence: ticket.licence.clone(),
                source: ticket.source.clone(),
                text: ticket.mapping.text.clone(),
                contributor: ticket.mapping.contributor.clone(),
                commons: self.contracts().commons_of(id).await?,
                versions: Vec::new(),
            },
            Err(error) => return Err(error),
        };
        let before = match doc.versions.last() {
            Some(version) => self.version_rows(id, version.number)?,
            None => Default::default(),
        };
        if ingest.first_row as usize != before.len() {
            return Err(Error::Conflict(format!(
                "Datanet {id} has {} rows now, but the file was judged against {}; judge it again",
                before.len(),
                ingest.first_row
            )));
        }

        let contents = Contents::of(&ingest.accepted);
        let salt = keccak256(
            [
                "salt".as_bytes(),
                ticket.key.as_bytes(),
                curator.to_bytes().as_slice(),
            ]
            .concat(),
        );
        let commitment = contents.commitment(curator.address(), id, salt);
        let count = ingest.accepted.len() as u64;
        self.contracts().ensure_bond(&curator, count).await?;
        let commit_block = self.contracts().commit(&curator, commitment).await?;
        self.stage(
            "datanet",
            "signing every contribution with its contributor's key",
            1,
            4,
        );
        let terms = Terms {
            chain_id: self.chain_id(),
            anchor: self.contracts().anchor_address(),
            datanet: id,
            licence: doc.licence.clone(),
            commit_block,
        };
        let wallets = *self.wallets();
        let rows = ingest.accepted.clone();
        let mut nonces: BTreeMap<Address, u64> = BTreeMap::new();
        for row in before.iter() {
            *nonces.entry(row.address).or_default() += 1;
        }
        let batch = tokio::task::spawn_blocking(move || {
            let keys = Keys::of(&rows, &wallets)?;
            Batch::sign(&rows, &terms, &keys, |address| {
                let next = nonces.entry(address).or_default();
                *next += 1;
                *next
            })
            .map_err(Error::from)
        })
        .await??;
        let kept: Vec<SignedContribution> = batch
            .signed
            .iter()
            .map(|signed| SignedContribution {
                contribution: signed.contribution.clone(),
                signature: signed.signature.to_vec().into(),
            })
            .collect();
        let batch_blob = self.put_json(&kept)?;
        let batch_bytes = self.blobs().get(&batch_blob)?.unwrap_or_default();
        self.stage("datanet", "anchoring the batch on the chain", 2, 4);
        let anchored = self
            .contracts()
            .anchor(
                &curator,
                id,
                &batch,
                commitment,
                merkle::chunk_root(&batch_bytes),
                salt,
            )
            .await?;

        let rows = self.all_rows(&before, &ingest, &batch)?;
        let mut rejections = self.previous_rejections(&doc)?;
        rejections.extend(ingest.rejected.iter().map(rejection_doc));
        let mut rejected = doc
            .versions
            .last()
            .map(|v| v.rejected.clone())
            .unwrap_or_default();
        for count in ingest.reason_counts() {
            *rejected.entry(count.reason).or_default() += count.count;
        }
        let number = doc.versions.last().map_or(1, |version| version.number + 1);
        let version = Version::seal(
            &VersionTerms {
                chain_id: self.chain_id(),
                datanet: id,
                number,
                parent: doc
                    .versions
                    .last()
                    .map_or(B256::ZERO, |version| version.digest),
                policy_hash: policy,
            },
            &rows.iter().map(|row| row.contribution).collect::<Vec<_>>(),
            &own_clusters(u32::try_from(rows.len()).unwrap_or(u32::MAX)),
            rejected
                .iter()
                .map(|(reason, count)| ReasonCount {
                    reason: reason.clone(),
                    count: *count,
                })
                .collect(),
        )?;
        self.stage("datanet", "publishing the version", 3, 4);
        let publish_tx = self
            .contracts()
            .publish_version(&curator, &version.record)
            .await?;
        let digest = version.record.digest();
        let rows_blob = self.put_json(&rows)?;
        let rejections_blob = self.put_json(&rejections)?;
        ticket.done = Some((id, number));
        self.catalogue().write(|tx| {
            // What was published meanwhile by this node cannot be: anchoring is one at a time.
            let mut doc = doc.clone();
            doc.versions.push(VersionDoc {
                number,
                digest,
                rows: rows_blob,
                rejections: rejections_blob,
                rows_root: version.record.rowsRoot,
                clusters_root: version.record.clustersRoot,
                policy_hash: policy,
                accepted: rows.len() as u64,
                rejected: rejected.clone(),
                batch: anchored.batch,
                batch_blob,
                anchor_tx: anchored.tx,
                publish_tx,
            });
            for row in &rows {
                let name = NameDoc {
                    name: row.contributor.clone(),
                    role: "contributor".to_owned(),
                };
                tx.put(collection::NAMES, &address_key(row.address), &name)?;
            }
            let commons = NameDoc {
                name: format!("commons of {}", doc.name),
                role: "commons".into(),
            };
            tx.put(collection::NAMES, &address_key(doc.commons), &commons)?;
            tx.put_record(&version.record)?;
            tx.put(collection::DATANETS, &id_key(id), &doc)?;
            tx.put(collection::TICKETS, &ticket.key, &ticket)
        })?;
        self.contribution_receipt(id, number, &ingest)
    }

    fn all_rows(&self, before: &[RowDoc], ingest: &Ingest, batch: &Batch) -> Result<Vec<RowDoc>> {
        let mut rows = before.to_vec();
        for ((row, signed), digest) in ingest
            .accepted
            .iter()
            .zip(&batch.signed)
            .zip(batch.digests())
        {
            rows.push(RowDoc {
                line: row.line,
                contributor: row.contributor.clone(),
                address: signed.contribution.contributor,
                field: row.label.clone(),
                prompt: row.prompt.clone(),
                text: row.text.clone(),
                contribution: digest,
                cluster: row.row,
            });
        }
        Ok(rows)
    }

    fn previous_rejections(&self, doc: &DatanetDoc) -> Result<Vec<RejectionDoc>> {
        doc.versions
            .last()
            .map_or_else(|| Ok(Vec::new()), |v| self.blob_json(&v.rejections))
    }

    fn ledger_rows(&self, id: u64) -> Result<Vec<Row>> {
        let rows = self.datanet_rows(id)?;
        Ok((0u32..)
            .zip(rows.iter())
            .map(|(index, row)| Row {
                row: index,
                line: row.line,
                contributor: row.contributor.clone(),
                prompt: row.prompt.clone(),
                text: row.text.clone(),
                label: row.field.clone(),
            })
            .collect())
    }

    fn contribution_receipt(
        &self,
        datanet: u64,
        number: u64,
        ingest: &Ingest,
    ) -> Result<ContributionReceipt> {
        let version = self.version_doc(datanet, number)?;
        let names: BTreeSet<&str> = ingest.contributors().into_iter().collect();
        let wallets = names
            .into_iter()
            .map(|name| Ok((name.to_owned(), self.wallets().contributor(name)?.address())))
            .collect::<Result<Vec<_>>>()?;
        let kept: Vec<SignedContribution> = self.blob_json(&version.batch_blob)?;
        let signed = kept
            .into_iter()
            .map(|kept| {
                let signature: SignatureBytes = kept
                    .signature
                    .as_ref()
                    .try_into()
                    .map_err(|_| Error::Task("a kept signature is not 65 bytes".into()))?;
                Ok(openledger_datanet::records::Signed {
                    contribution: kept.contribution,
                    signature,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(ContributionReceipt {
            datanet,
            version: number,
            accepted: ingest.accepted.len() as u64,
            rejected: ingest.rejected.len() as u64,
            wallets,
            root: Batch::from_signed(signed).root(),
            txs: vec![
                ("anchored".into(), version.anchor_tx),
                ("version published".into(), version.publish_tx),
            ],
        })
    }
}

/// The contributors' dev keys, each derived once.
struct Keys(BTreeMap<String, alloy_signer_local::PrivateKeySigner>);

impl Keys {
    fn of(rows: &[Row], wallets: &DevWallets) -> Result<Self> {
        let mut keys = BTreeMap::new();
        for row in rows {
            if !keys.contains_key(&row.contributor) {
                keys.insert(
                    row.contributor.clone(),
                    wallets.contributor(&row.contributor)?,
                );
            }
        }
        Ok(Self(keys))
    }

    fn key(
        &self,
        name: &str,
    ) -> Result<&alloy_signer_local::PrivateKeySigner, Box<dyn std::error::Error + Send + Sync>>
    {
        self.0
            .get(name)
            .ok_or_else(|| format!("no key for {name:?}").into())
    }
}

impl Signer for Keys {
    fn address(
        &self,
        contributor: &str,
    ) -> Result<Address, Box<dyn std::error::Error + Send + Sync>> {
        Ok(self.key(contributor)?.address())
    }

    fn sign(
        &self,
        contributor: &str,
        digest: B256,
    ) -> Result<SignatureBytes, Box<dyn std::error::Error + Send + Sync>> {
        Ok(self.key(contributor)?.sign_hash_sync(&digest)?.as_bytes())
    }
}

/// Evidence in a sentence.
fn in_words(evidence: &Evidence) -> String {
    match evidence {
        Evidence::None => String::new(),
        Evidence::Byte { offset } => format!("at byte {offset} of the line"),
        Evidence::Syntax { message } => message.clone(),
        Evidence::Column { name, found } => format!("column {name:?} is {found}"),
        Evidence::Character {
            column,
            code_point,
            offset,
        } => {
            format!("U+{code_point:04X} at character {offset} of column {column:?}")
        }
        Evidence::Bytes { start, end } => format!("bytes {start} to {end} of the text"),
        Evidence::Measure { value, limit } => format!("measured {value}, the limit is {limit}"),
        Evidence::Winner {
            row,
            similarity_bps,
        } => {
            format!("row #{row} was first; {} % equal", percent(*similarity_bps))
        }
        Evidence::Pasted {
            row,
            covered_bps,
            words,
            ..
        } => format!(
            "{} % of its words stand in earlier rows, {words} in a run in row #{row}",
            percent(*covered_bps)
        ),
    }
}

fn percent(bps: u16) -> String {
    format!("{}.{:02}", bps / 100, bps % 100)
}

fn rejection_doc(rejection: &openledger_datanet::Rejection) -> RejectionDoc {
    RejectionDoc {
        line: rejection.line,
        contributor: rejection.contributor.clone(),
        reason: rejection.reason.code().to_owned(),
        evidence: in_words(&rejection.evidence),
    }
}

/// One verdict a line, in line order.
fn verdicts(ingest: &Ingest, bytes: &[u8]) -> Vec<VerdictView> {
    let shown = |text: &str| text.chars().take(SHOWN_CHARS).collect();
    let accepted = ingest.accepted.iter().map(|row| VerdictView {
        line: row.line,
        text: match &row.prompt {
            Some(prompt) => shown(&format!("{prompt} · {}", row.text)),
            None => shown(&row.text),
        },
        reason: None,
        evidence: String::new(),
    });
    // A refused line is shown as it came; only whoever sent it sees it.
    let lines: Vec<&[u8]> = bytes.split(|&byte| byte == b'\n').collect();
    let refused = ingest.rejected.iter().map(|rejection| VerdictView {
        line: rejection.line,
        text: usize::try_from(rejection.line)
            .ok()
            .and_then(|line| lines.get(line.checked_sub(1)?))
            .map(|line| shown(&String::from_utf8_lossy(line)))
            .unwrap_or_default(),
        reason: Some(rejection.reason.code().to_owned()),
        evidence: in_words(&rejection.evidence),
    });
    let mut all: Vec<VerdictView> = accepted.chain(refused).collect();
    all.sort_by_key(|verdict| verdict.line);
    all.truncate(SHOWN);
    all
}

/// Names of the columns in the first line that is an object.
fn columns(bytes: &[u8]) -> Vec<String> {
    bytes
        .split(|&byte| byte == b'\n')
        .take(100)
        .find_map(|line| {
            serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(line).ok()
        })
        .map(|object| object.keys().cloned().collect())
        .unwrap_or_default()
}

/// The usual names of text columns, those that are there.
fn guess_text(columns: &[String], contributor: &Contributor) -> Vec<String> {
    let has = |name: &str| columns.iter().any(|column| column == name);
    for pair in [
        ["question", "answer"],
        ["prompt", "completion"],
        ["instruction", "output"],
        ["task", "code"],
    ] {
        if pair.iter().all(|name| has(name)) {
            return pair.map(str::to_owned).to_vec();
        }
    }
    let reserved = match contributor {
        Contributor::Column(column) => column.as_str(),
        Contributor::Name(_) => "contributor",
    };
    ["text", "content", "body"]
        .into_iter()
        .find(|name| has(name))
        .map(str::to_owned)
        .or_else(|| {
            columns
                .iter()
                .find(|column| *column != reserved && *column != "id")
                .cloned()
        })
        .into_iter()
        .collect()
}

/// The lines with `column` set to `name`; a line that is no object stays as it is.
fn with_contributor(bytes: &[u8], column: &str, name: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + 64);
    for line in bytes.split(|&byte| byte == b'\n') {
        match serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(line) {
            Ok(mut object) => {
                object.insert(column.to_owned(), name.into());
                out.extend(serde_json::to_vec(&object).unwrap_or_else(|_| line.to_vec()));
            }
            Err(_) => out.extend_from_slice(line),
        }
        out.push(b'\n');
    }
    out.pop();
    out
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

fn stem(path: &Path) -> String {
    path.file_stem().map_or_else(
        || "datanet".to_owned(),
        |name| name.to_string_lossy().into_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_name_for_all_rows_leaves_broken_lines_broken() {
        let out = with_contributor(b"{\"text\":\"a\"}\nnot json\n", "contributor", "me");
        assert_eq!(out, b"{\"contributor\":\"me\",\"text\":\"a\"}\nnot json\n");
    }

    #[test]
    fn text_columns_are_guessed_by_their_usual_names() {
        let columns: Vec<String> = ["id", "answer", "question", "who"]
            .iter()
            .map(|&name| name.to_owned())
            .collect();
        let who = Contributor::Column("who".into());
        assert_eq!(guess_text(&columns, &who), ["question", "answer"]);
        assert_eq!(guess_text(&["who".into(), "words".into()], &who), ["words"]);
        assert!(guess_text(&[], &who).is_empty());
    }
}
