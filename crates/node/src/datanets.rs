//! Reading Datanets: documents, rows and what they earned.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use openledger_primitives::{Address, B256, Wei};

use crate::state::{DatanetDoc, ModelDoc, NameDoc, RejectionDoc, RowDoc, VersionDoc, collection};
use crate::view::{
    ContributorLine, DatanetSummary, DatanetView, Page, RejectionView, RowView, VersionView,
};
use crate::{Error, Node, Result};

impl Node {
    pub(crate) fn datanet_doc(&self, id: u64) -> Result<DatanetDoc> {
        self.catalogue()
            .get(collection::DATANETS, &id_key(id))?
            .ok_or_else(|| Error::not_found("Datanet", id))
    }

    pub(crate) fn datanet_docs(&self) -> Result<Vec<DatanetDoc>> {
        let docs = self.catalogue().list::<DatanetDoc>(collection::DATANETS)?;
        Ok(docs.into_iter().map(|(_, doc)| doc).collect())
    }

    pub(crate) fn version_doc(&self, id: u64, number: u64) -> Result<VersionDoc> {
        self.datanet_doc(id)?
            .versions
            .into_iter()
            .find(|version| version.number == number)
            .ok_or_else(|| Error::not_found("version", format!("{id}/{number}")))
    }

    /// The accepted rows of a version; kept in memory, since attribution asks for them per answer.
    pub(crate) fn version_rows(&self, id: u64, number: u64) -> Result<Arc<Vec<RowDoc>>> {
        let version = self.version_doc(id, number)?;
        self.rows_cache()
            .get_or_load(version.rows, || self.blob_json(&version.rows))
    }

    /// The accepted rows of the newest version.
    pub(crate) fn datanet_rows(&self, id: u64) -> Result<Arc<Vec<RowDoc>>> {
        match self.datanet_doc(id)?.versions.last() {
            Some(version) => self.version_rows(id, version.number),
            None => Ok(Arc::default()),
        }
    }

    fn datanet_rejections(&self, doc: &DatanetDoc) -> Result<Vec<RejectionDoc>> {
        match doc.versions.last() {
            Some(version) => self.blob_json(&version.rejections),
            None => Ok(Vec::new()),
        }
    }

    /// A blob that holds JSON.
    pub(crate) fn blob_json<T: serde::de::DeserializeOwned>(&self, digest: &B256) -> Result<T> {
        let bytes = self
            .blobs()
            .get(digest)?
            .ok_or_else(|| Error::not_found("blob", digest))?;
        serde_json::from_slice(&bytes).map_err(|error| {
            Error::Task(format!("blob {digest} is not what it should be: {error}"))
        })
    }

    pub(crate) fn name_of(&self, address: Address) -> Result<Option<NameDoc>> {
        Ok(self
            .catalogue()
            .get(collection::NAMES, &address_key(address))?)
    }

    /// A short lower-case form of a Datanet's name, for model names.
    pub(crate) fn datanet_slug(&self, id: u64) -> Result<String> {
        let name = self.datanet_doc(id)?.name.to_lowercase();
        let slug: String = name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
            .collect();
        Ok(slug.trim_matches('-').chars().take(40).collect())
    }

    /// All Datanets, newest first.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn datanets(&self) -> Result<Vec<DatanetSummary>> {
        self.datanet_docs()?
            .iter()
            .rev()
            .map(|doc| self.datanet_summary(doc))
            .collect()
    }

    fn datanet_summary(&self, doc: &DatanetDoc) -> Result<DatanetSummary> {
        let rows = self.datanet_rows(doc.id)?;
        let contributors: BTreeSet<&str> =
            rows.iter().map(|row| row.contributor.as_str()).collect();
        let last = doc.versions.last();
        Ok(DatanetSummary {
            id: doc.id,
            name: doc.name.clone(),
            licence: doc.licence.clone(),
            version: last.map_or(0, |version| version.number),
            accepted: last.map_or(0, |version| version.accepted),
            rejected: last.map_or(0, |version| version.rejected.values().sum()),
            contributors: contributors.len() as u64,
            earned: Wei::total(self.row_earnings(doc.id)?.into_values())?,
        })
    }

    /// A Datanet's page.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn datanet(&self, id: u64) -> Result<Option<DatanetView>> {
        let doc = match self.datanet_doc(id) {
            Ok(doc) => doc,
            Err(Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let rows = self.datanet_rows(id)?;
        let rejections = self.datanet_rejections(&doc)?;
        let earned = self.row_earnings(id)?;
        let mut lines: BTreeMap<&str, ContributorLine> = BTreeMap::new();
        let mut fields: BTreeMap<&str, u64> = BTreeMap::new();
        for (index, row) in rows.iter().enumerate() {
            let line = lines
                .entry(&row.contributor)
                .or_insert_with(|| ContributorLine {
                    name: row.contributor.clone(),
                    address: row.address,
                    accepted: 0,
                    rejected: 0,
                    earned: Wei::ZERO,
                });
            line.accepted += 1;
            let own = earned.get(&(index as u32)).copied().unwrap_or_default();
            line.earned = line.earned.checked_add(own)?;
            if let Some(field) = &row.field {
                *fields.entry(field).or_default() += 1;
            }
        }
        for rejection in &rejections {
            let Some(name) = &rejection.contributor else {
                continue;
            };
            let address = self.wallets().contributor(name)?.address();
            let line = lines.entry(name).or_insert_with(|| ContributorLine {
                name: name.clone(),
                address,
                accepted: 0,
                rejected: 0,
                earned: Wei::ZERO,
            });
            line.rejected += 1;
        }
        let mut contributors: Vec<_> = lines.into_values().collect();
        contributors.sort_by(|a, b| {
            b.accepted
                .cmp(&a.accepted)
                .then_with(|| a.name.cmp(&b.name))
        });
        let by_reason = doc
            .versions
            .last()
            .map(|v| v.rejected.clone())
            .unwrap_or_default();
        let models = self
            .catalogue()
            .list::<ModelDoc>(collection::MODELS)?
            .into_iter()
            .filter(|(_, model)| model.datanet.is_some_and(|(datanet, _)| datanet == id))
            .map(|(_, model)| self.model_summary(&model))
            .collect::<Result<Vec<_>>>()?;
        Ok(Some(DatanetView {
            summary: self.datanet_summary(&doc)?,
            source: doc.source.clone(),
            by_reason: by_count(by_reason),
            by_field: by_count(fields.into_iter().map(|(name, n)| (name.to_owned(), n))),
            contributors,
            versions: doc.versions.iter().rev().map(version_view).collect(),
            models,
        }))
    }

    /// Accepted rows, in row order.
    ///
    /// # Errors
    /// [`Error::NotFound`] for an unknown Datanet.
    pub fn rows(
        &self,
        id: u64,
        offset: usize,
        limit: usize,
        contributor: Option<&str>,
    ) -> Result<Page<RowView>> {
        let rows = self.datanet_rows(id)?;
        let earned = self.row_earnings(id)?;
        let wanted: Vec<usize> = rows
            .iter()
            .enumerate()
            .filter(|(_, row)| contributor.is_none_or(|name| row.contributor == name))
            .map(|(index, _)| index)
            .collect();
        let items = wanted
            .iter()
            .skip(offset)
            .take(limit)
            .map(|&index| row_view(index, &rows[index], &earned))
            .collect();
        Ok(Page {
            items,
            offset,
            total: wanted.len(),
        })
    }

    /// One accepted row.
    ///
    /// # Errors
    /// [`Error::NotFound`] for an unknown Datanet.
    pub fn row(&self, id: u64, row: u32) -> Result<Option<RowView>> {
        let rows = self.datanet_rows(id)?;
        let earned = self.row_earnings(id)?;
        let index = row as usize;
        Ok(rows.get(index).map(|doc| row_view(index, doc, &earned)))
    }

    /// Rejected rows, in file order.
    ///
    /// # Errors
    /// [`Error::NotFound`] for an unknown Datanet.
    pub fn rejections(&self, id: u64, offset: usize, limit: usize) -> Result<Page<RejectionView>> {
        let all = self.datanet_rejections(&self.datanet_doc(id)?)?;
        let total = all.len();
        let items = all
            .into_iter()
            .skip(offset)
            .take(limit)
            .map(|doc| RejectionView {
                line: doc.line,
                contributor: doc.contributor,
                reason: doc.reason,
                evidence: doc.evidence,
            })
            .collect();
        Ok(Page {
            items,
            offset,
            total,
        })
    }
}

fn row_view(index: usize, row: &RowDoc, earned: &BTreeMap<u32, Wei>) -> RowView {
    let index = index as u32;
    RowView {
        row: index,
        line: row.line,
        contributor: row.contributor.clone(),
        address: row.address,
        field: row.field.clone(),
        prompt: row.prompt.clone(),
        text: row.text.clone(),
        contribution: row.contribution,
        earned: earned.get(&index).copied().unwrap_or_default(),
    }
}

fn version_view(version: &VersionDoc) -> VersionView {
    VersionView {
        number: version.number,
        digest: version.digest,
        rows_root: version.rows_root,
        clusters_root: version.clusters_root,
        policy_hash: version.policy_hash,
        accepted: version.accepted,
        tx: Some(version.publish_tx),
    }
}

fn by_count(counts: impl IntoIterator<Item = (String, u64)>) -> Vec<(String, u64)> {
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    counts
}

/// Keys sort like the numbers they hold.
pub(crate) fn id_key(id: u64) -> String {
    format!("{id:020}")
}

pub(crate) fn address_key(address: Address) -> String {
    format!("{address:x}")
}
