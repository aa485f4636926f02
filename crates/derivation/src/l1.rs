//! The layer 1, read with distrust: whatever comes in must hash to what was asked for.

use crate::{
    challenge::{self, CHALLENGE_TOPIC},
    config::RollupConfig,
    deposit,
    error::{Error, Result, SourceError},
    rlp,
    system::{CONFIG_UPDATE_TOPIC, ConfigUpdate},
    types::{BlockId, L1Block},
};
use alloc::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    vec::Vec,
};
use alloy_primitives::{Address, B256, Bloom, BloomInput, Bytes, Log, U256, keccak256};
use alloy_rlp::Decodable;
use alloy_trie::{EMPTY_ROOT_HASH, root::ordered_trie_root_with_encoder};

/// The layer 1 as derivation reads it.
///
/// Nothing that an implementation returns is believed: headers must hash to what was asked for
/// (by number: to the parent hash of the block above), transactions and receipts to the roots in
/// their header. Blobs are the exception, see [`L1::blobs`].
pub trait L1 {
    /// RLP of the canonical header at a height, `None` above the head.
    ///
    /// # Errors
    ///
    /// [`SourceError::Unavailable`].
    fn header_by_number(&self, number: u64) -> Result<Option<Bytes>, SourceError>;

    /// RLP of the header with a hash.
    ///
    /// # Errors
    ///
    /// [`SourceError`].
    fn header_by_hash(&self, hash: B256) -> Result<Bytes, SourceError>;

    /// The transactions of the block with a hash, as EIP-2718 bytes.
    ///
    /// # Errors
    ///
    /// [`SourceError`].
    fn transactions(&self, block: B256) -> Result<Vec<Bytes>, SourceError>;

    /// The receipts of the block with a hash, as EIP-2718 bytes with their bloom filter.
    ///
    /// # Errors
    ///
    /// [`SourceError`].
    fn receipts(&self, block: B256) -> Result<Vec<Bytes>, SourceError>;

    /// Blobs of a block, 131 072 bytes each, in the order of their versioned hashes.
    ///
    /// The implementation checks them against the hashes (KZG): this crate holds no trusted setup.
    ///
    /// # Errors
    ///
    /// [`SourceError`]; by default that there are none.
    fn blobs(&self, _block: &L1Block, _hashes: &[B256]) -> Result<Vec<Bytes>, SourceError> {
        Err(SourceError::Unavailable("no source of blobs".into()))
    }
}

impl<T: L1 + ?Sized> L1 for Arc<T> {
    fn header_by_number(&self, number: u64) -> Result<Option<Bytes>, SourceError> {
        (**self).header_by_number(number)
    }
    fn header_by_hash(&self, hash: B256) -> Result<Bytes, SourceError> {
        (**self).header_by_hash(hash)
    }
    fn transactions(&self, block: B256) -> Result<Vec<Bytes>, SourceError> {
        (**self).transactions(block)
    }
    fn receipts(&self, block: B256) -> Result<Vec<Bytes>, SourceError> {
        (**self).receipts(block)
    }
    fn blobs(&self, block: &L1Block, hashes: &[B256]) -> Result<Vec<Bytes>, SourceError> {
        (**self).blobs(block, hashes)
    }
}

/// What derivation takes from an L1 header.
#[derive(Debug, Clone)]
pub(crate) struct L1Header {
    pub(crate) block: L1Block,
    pub(crate) prev_randao: B256,
    pub(crate) base_fee: u64,
    pub(crate) excess_blob_gas: Option<u64>,
    pub(crate) parent_beacon_block_root: Option<B256>,
    /// Whether the layer 1 is in Prague, whose headers have a root of requests.
    pub(crate) is_prague: bool,
    transactions_root: B256,
    receipts_root: B256,
    bloom: Bloom,
}

impl L1Header {
    /// Reads the RLP of a header; fields of forks to come are skipped.
    pub(crate) fn decode(raw: &[u8]) -> Option<Self> {
        let fields = rlp::list(raw)?;
        let at = |i: usize| fields.get(i);
        let hash = |i: usize| at(i)?.fixed().map(B256::from);
        Some(Self {
            block: L1Block {
                number: at(8)?.u64()?,
                hash: keccak256(raw),
                parent_hash: hash(0)?,
                timestamp: at(11)?.u64()?,
            },
            prev_randao: hash(13)?,
            base_fee: at(15).map_or(Some(0), rlp::Item::u64)?,
            excess_blob_gas: match at(18) {
                Some(item) => Some(item.u64()?),
                None => None,
            },
            parent_beacon_block_root: match at(19) {
                Some(item) => Some(item.fixed()?.into()),
                None => None,
            },
            is_prague: fields.len() > 20,
            transactions_root: hash(4)?,
            receipts_root: hash(5)?,
            bloom: Bloom::from(at(6)?.fixed::<256>()?),
        })
    }

    /// Wei per blob gas (EIP-4844), 1 without blobs.
    pub(crate) fn blob_base_fee(&self, fraction: u64) -> U256 {
        self.excess_blob_gas.map_or(U256::ONE, |excess| {
            // The integer exponential of EIP-4844, with a factor of 1.
            let fraction = U256::from(fraction);
            let excess = U256::from(excess);
            let mut sum = U256::ZERO;
            let mut term = fraction;
            let mut i = U256::ONE;
            while !term.is_zero() {
                sum = sum.saturating_add(term);
                term = term.saturating_mul(excess) / (fraction * i);
                i += U256::ONE;
            }
            sum / fraction
        })
    }
}

/// What the logs of an L1 block say to the layer 2.
#[derive(Debug, Default)]
pub(crate) struct Events {
    /// User deposits as EIP-2718 bytes, in order.
    pub(crate) deposits: Vec<Bytes>,
    /// Changes of the system config, in order.
    pub(crate) updates: Vec<ConfigUpdate>,
    /// Demands for data and answers to them, in order.
    pub(crate) challenges: Vec<challenge::Event>,
}

/// Blocks kept by hash. Derivation reads a block once when it arrives and once more when it
/// becomes an origin.
const CACHED: usize = 1024;

/// An [`L1`] with the checks, and a memory of the last blocks.
#[derive(Debug)]
pub(crate) struct Reader<S> {
    pub(crate) source: S,
    config: RollupConfig,
    headers: BTreeMap<B256, Arc<L1Header>>,
    events: BTreeMap<B256, Arc<Events>>,
    order: VecDeque<B256>,
}

impl<S: L1> Reader<S> {
    pub(crate) fn new(source: S, config: RollupConfig) -> Self {
        Self {
            source,
            config,
            headers: BTreeMap::new(),
            events: BTreeMap::new(),
            order: VecDeque::new(),
        }
    }

    fn remember(&mut self, header: L1Header) -> Arc<L1Header> {
        let header = Arc::new(header);
        let hash = header.block.hash;
        if self.headers.insert(hash, header.clone()).is_none() {
            self.order.push_back(hash);
            if self.order.len() > CACHED
                && let Some(old) = self.order.pop_front()
            {
                self.headers.remove(&old);
                self.events.remove(&old);
            }
        }
        header
    }

    /// The canonical header at a height.
    pub(crate) fn by_number(&mut self, number: u64) -> Result<Option<Arc<L1Header>>> {
        let raw = self
            .source
            .header_by_number(number)
            .map_err(|source| Error::L1 {
                what: "header by number",
                source,
            })?;
        let Some(raw) = raw else { return Ok(None) };
        let header = L1Header::decode(&raw).ok_or(Error::Malformed { what: "header" })?;
        if header.block.number != number {
            return Err(Error::Forged {
                what: "header number",
                asked: B256::from(U256::from(number)),
                got: B256::from(U256::from(header.block.number)),
            });
        }
        Ok(Some(self.remember(header)))
    }

    /// The header with a hash.
    pub(crate) fn by_hash(&mut self, hash: B256) -> Result<Arc<L1Header>> {
        if let Some(header) = self.headers.get(&hash) {
            return Ok(header.clone());
        }
        let raw = self
            .source
            .header_by_hash(hash)
            .map_err(|source| Error::L1 {
                what: "header by hash",
                source,
            })?;
        let got = keccak256(&raw);
        if got != hash {
            return Err(Error::Forged {
                what: "header",
                asked: hash,
                got,
            });
        }
        let header = L1Header::decode(&raw).ok_or(Error::Malformed { what: "header" })?;
        Ok(self.remember(header))
    }

    /// Whether a block is on the canonical chain.
    pub(crate) fn check_canonical(&mut self, id: BlockId) -> Result<Arc<L1Header>> {
        let canonical = self.by_number(id.number)?;
        match canonical {
            Some(header) if header.block.hash == id.hash => Ok(header),
            other => Err(Error::Reorged {
                origin: id,
                canonical: other.map(|header| header.block.hash),
            }),
        }
    }

    /// The transactions of a block.
    pub(crate) fn transactions(&self, header: &L1Header) -> Result<Vec<Bytes>> {
        if header.transactions_root == EMPTY_ROOT_HASH {
            return Ok(Vec::new());
        }
        let transactions = self
            .source
            .transactions(header.block.hash)
            .map_err(|source| Error::L1 {
                what: "transactions",
                source,
            })?;
        check_root("transactions", header.transactions_root, &transactions)?;
        Ok(transactions)
    }

    /// What the contracts of the layer 2 logged in a block. Receipts are not asked for when the
    /// bloom filter of the header says that none of them logged anything.
    pub(crate) fn events(&mut self, header: &L1Header) -> Result<Arc<Events>> {
        let hash = header.block.hash;
        if let Some(events) = self.events.get(&hash) {
            return Ok(events.clone());
        }
        let (portal, system) = (
            self.config.deposit_contract(),
            self.config.system_config_contract(),
        );
        let logged = |address: Address| {
            header
                .bloom
                .contains_input(BloomInput::Raw(address.as_slice()))
        };
        let challenge = self.config.challenging().map(|rules| rules.contract);
        let events = if logged(portal) || logged(system) || challenge.is_some_and(logged) {
            let receipts = self.source.receipts(hash).map_err(|source| Error::L1 {
                what: "receipts",
                source,
            })?;
            check_root("receipts", header.receipts_root, &receipts)?;
            let mut events = Events::default();
            let mut index = 0;
            for (position, receipt) in receipts.iter().enumerate() {
                let logs = logs(receipt).ok_or(Error::Malformed { what: "receipt" })?;
                for log in logs {
                    let topic = log.topics().first();
                    if log.address == portal && topic == Some(&deposit::DEPOSIT_TOPIC) {
                        events.deposits.push(deposit::from_log(&log, hash, index)?);
                    } else if log.address == system && topic == Some(&CONFIG_UPDATE_TOPIC) {
                        events
                            .updates
                            .push(ConfigUpdate::from_log(&log, hash, index)?);
                    } else if Some(log.address) == challenge && topic == Some(&CHALLENGE_TOPIC) {
                        let transaction = || Ok(self.transactions(header)?.get(position).cloned());
                        let event = challenge::Event::from_log(&log, position, transaction)?;
                        events.challenges.extend(event);
                    }
                    index += 1;
                }
            }
            Arc::new(events)
        } else {
            Arc::new(Events::default())
        };
        if self.headers.contains_key(&hash) {
            self.events.insert(hash, events.clone());
        }
        Ok(events)
    }
}

fn check_root(what: &'static str, asked: B256, items: &[Bytes]) -> Result<()> {
    let got = ordered_trie_root_with_encoder(items, |item, out| out.extend_from_slice(item));
    if got == asked {
        Ok(())
    } else {
        Err(Error::Forged { what, asked, got })
    }
}

/// The logs of an EIP-2718 receipt, whatever its type. A failed transaction has none.
fn logs(receipt: &[u8]) -> Option<Vec<Log>> {
    let body = match receipt.first()? {
        0..=0x7f => &receipt[1..],
        _ => receipt,
    };
    let fields = rlp::list(body)?;
    let mut raw = fields.get(3)?.raw;
    Vec::decode(&mut raw).ok()
}
