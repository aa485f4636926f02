//! Demands to show what is behind a keccak256 commitment, and the answers.
//!
//! A hash does not say that anybody has the data. So a network whose commitments are hashes has a
//! contract on the layer 1 where the data can be demanded for some blocks, and must be shown within
//! some more. What is demanded and not shown is left out by every node, also by one that has it:
//! otherwise a batcher could show its data to some and not to others. Whoever derived from it goes
//! back ([`Error::NotShown`]); the data of a block is final once nothing can be demanded or shown any
//! more. What is made of a block follows from the layer 1 up to then, so that a reorg of that takes the
//! block back, too, though it stays on the layer 1 itself.
//!
//! Spec: alt-DA mode, "Data Availability Challenge Contract" and "Derivation".

use crate::{
    config::Challenging,
    error::{Error, Result},
    l1::{L1, L1Header, Reader},
    rlp::trimmed,
    types::BlockId,
};
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloy_consensus::{Transaction, TxEnvelope};
use alloy_eips::Decodable2718;
use alloy_primitives::{B256, Bytes, Log, b256, keccak256};

/// The most bytes that data behind a hash may have: it must fit into a transaction that shows it.
/// Spec: alt-DA mode, "Data Availability Challenge Contract", `MaxInputSize`.
pub const MAX_SHOWN_BYTES: usize = 130_672;

/// Topic of `ChallengeStatusChanged(uint256,bytes,uint8)`.
pub(crate) const CHALLENGE_TOPIC: B256 =
    b256!("0xc5d8c630ba2fdacb1db24c4599df78c7fb8cf97b5aecde34939597f6697bb1ad");

/// `resolve(uint256,bytes,bytes)`.
const RESOLVE: [u8; 4] = [0x7a, 0xe9, 0x29, 0xd9];

/// A commitment: the L1 block whose inbox it is in, and the hash.
type Key = (u64, B256);

/// What a log of the contract says of a commitment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    key: Key,
    /// The transaction that shows the data, by its index; none for a demand.
    shown_in: Option<usize>,
}

impl Event {
    /// Reads a log of transaction `index`, whose bytes `transaction` has if the log says that it shows
    /// data. A log that means nothing is none: anybody may demand what was never committed to, in
    /// bytes that are no hash.
    pub(crate) fn from_log(
        log: &Log,
        index: usize,
        transaction: impl FnOnce() -> Result<Option<Bytes>>,
    ) -> Result<Option<Self>> {
        let Some((key, status)) = read(log) else {
            return Ok(None);
        };
        let shown_in = match status {
            1 => None,
            // Only the transaction's own calldata counts; what a contract shows in between is not on
            // the layer 1 for everybody to read.
            2 => match transaction()?.and_then(|tx| shown(&tx)) {
                Some(data) if keccak256(&data) == key.1 => Some(index),
                _ => return Ok(None),
            },
            _ => return Ok(None),
        };
        Ok(Some(Self { key, shown_in }))
    }
}

/// A word that is a number.
fn number(data: &[u8], at: usize) -> Option<u64> {
    let word = trimmed(data.get(at..at.checked_add(32)?)?);
    (word.len() <= 8).then(|| word.iter().fold(0, |acc, b| acc << 8 | u64::from(*b)))
}

/// The `bytes` that argument `index` of `data` is.
fn bytes(data: &[u8], index: usize) -> Option<&[u8]> {
    let at = usize::try_from(number(data, index * 32)?).ok()?;
    let length = usize::try_from(number(data, at)?).ok()?;
    let from = at.checked_add(32)?;
    data.get(from..from.checked_add(length)?)
}

/// The hash in a commitment, given from its type byte on.
fn hash(commitment: &[u8]) -> Option<B256> {
    let hash = commitment.strip_prefix(&[0])?;
    (hash.len() == 32).then(|| B256::from_slice(hash))
}

/// Commitment and status of an event.
fn read(log: &Log) -> Option<(Key, u64)> {
    let [CHALLENGE_TOPIC, block] = log.topics() else {
        return None;
    };
    let data = &log.data.data;
    let block = number(block.as_slice(), 0)?;
    Some(((block, hash(bytes(data, 0)?)?), number(data, 32)?))
}

/// The data that a transaction shows.
fn shown(transaction: &[u8]) -> Option<Bytes> {
    let transaction = TxEnvelope::decode_2718_exact(transaction).ok()?;
    let arguments = transaction.input().strip_prefix(&RESOLVE)?;
    bytes(arguments, 2).map(Bytes::copy_from_slice)
}

#[derive(Debug)]
struct Challenge {
    since: u64,
    /// Block and transaction that show the data.
    shown: Option<(B256, usize)>,
}

/// How a commitment stands, as far as the layer 1 says by now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Not demanded; that can be done up to this L1 block.
    Open(u64),
    /// Demanded, to be shown up to this L1 block.
    Demanded(u64),
    /// Shown by this transaction of this block.
    Shown(B256, usize),
    /// Demanded and not shown.
    Lost,
}

/// What the layer 1 says of commitments, read ahead of the pipeline.
#[derive(Debug)]
pub(crate) struct Challenges {
    rules: Challenging,
    /// The blocks that are read, from the pipeline's own on.
    read: VecDeque<BlockId>,
    known: BTreeMap<Key, Challenge>,
    /// Commitments whose data was given out.
    used: BTreeSet<Key>,
}

impl Challenges {
    pub(crate) const fn new(rules: Challenging) -> Self {
        Self {
            rules,
            read: VecDeque::new(),
            known: BTreeMap::new(),
            used: BTreeSet::new(),
        }
    }

    /// Forgets everything; the pipeline stands at `origin`.
    pub(crate) fn start<S: L1>(&mut self, l1: &mut Reader<S>, origin: &L1Header) -> Result<()> {
        self.clear();
        self.look(l1, origin)
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        *self = Self::new(self.rules);
    }

    /// Whether all that was given out may still count.
    ///
    /// # Errors
    /// [`Error::NotShown`].
    pub(crate) fn check(&self) -> Result<()> {
        let lost = |key: &&Key| self.standing_of(**key) == Standing::Lost;
        match self.used.iter().find(lost) {
            Some((block, hash)) => Err(Error::NotShown {
                block: *block,
                hash: *hash,
            }),
            None => Ok(()),
        }
    }

    /// The pipeline moves on to `origin`.
    ///
    /// # Errors
    /// [`Error::Reorged`] when another block was read at its height; [`Error::NotShown`].
    pub(crate) fn advance<S: L1>(&mut self, l1: &mut Reader<S>, origin: &L1Header) -> Result<()> {
        let number = origin.block.number;
        if self.read.back().is_none_or(|last| last.number < number) {
            self.look(l1, origin)?;
        }
        while self.read.front().is_some_and(|block| block.number < number) {
            self.read.pop_front();
        }
        match self.read.front() {
            Some(block) if *block != origin.block.id() => {
                return Err(Error::Reorged {
                    origin: *block,
                    canonical: Some(origin.block.hash),
                });
            }
            _ => {}
        }
        let settled = |(block, _): &Key| self.rules.settled(*block) < number;
        self.known.retain(|key, _| !settled(key));
        self.used.retain(|key| !settled(key));
        Ok(())
    }

    /// Reads what a block says.
    fn look<S: L1>(&mut self, l1: &mut Reader<S>, header: &L1Header) -> Result<()> {
        let block = header.block.id();
        for event in &l1.events(header)?.challenges {
            let Some(index) = event.shown_in else {
                let since = block.number;
                let last = event.key.0.saturating_add(self.rules.challenge_window);
                // The contract takes no other; whoever reads no further relies on it.
                if (event.key.0..=last).contains(&since) {
                    let demand = Challenge { since, shown: None };
                    self.known.entry(event.key).or_insert(demand);
                }
                continue;
            };
            if let Some(known) = self.known.get_mut(&event.key)
                && block.number <= known.since.saturating_add(self.rules.resolve_window)
            {
                known.shown = Some((block.hash, index));
            }
        }
        self.read.push_back(block);
        self.check()
    }

    fn standing_of(&self, key: Key) -> Standing {
        let read = self.read.back().map_or(0, |block| block.number);
        match self.known.get(&key) {
            None => Standing::Open(key.0.saturating_add(self.rules.challenge_window)),
            Some(Challenge {
                shown: Some((block, index)),
                ..
            }) => Standing::Shown(*block, *index),
            Some(Challenge { since, shown: None }) => {
                let until = since.saturating_add(self.rules.resolve_window);
                match read < until {
                    true => Standing::Demanded(until),
                    false => Standing::Lost,
                }
            }
        }
    }

    /// How the commitment `hash` in L1 block `block` stands, after everything that the layer 1 has by
    /// now and that may be about it.
    ///
    /// # Errors
    /// What the layer 1 reports; [`Error::Reorged`]; [`Error::NotShown`] for another one that was used.
    pub(crate) fn standing<S: L1>(
        &mut self,
        l1: &mut Reader<S>,
        (block, hash): Key,
    ) -> Result<Standing> {
        while let Some(last) = self.read.back().copied()
            && last.number < self.rules.settled(block)
        {
            let Some(next) = l1.by_number(last.number + 1)? else {
                break;
            };
            if next.block.parent_hash != last.hash {
                return Err(Error::Reorged {
                    origin: last,
                    canonical: Some(next.block.parent_hash),
                });
            }
            self.look(l1, &next)?;
        }
        Ok(self.standing_of((block, hash)))
    }

    /// Remembers that the data of a commitment was given out.
    pub(crate) fn used(&mut self, block: u64, hash: B256) {
        self.used.insert((block, hash));
    }
}

/// The data that a transaction of a block shows, which an event said that it does.
pub(crate) fn data<S: L1>(l1: &mut Reader<S>, (block, index): (B256, usize)) -> Result<Bytes> {
    let header = l1.by_hash(block)?;
    let transactions = l1.transactions(&header)?;
    let data = transactions.get(index).and_then(|tx| shown(tx));
    data.ok_or(Error::Malformed {
        what: "transaction that shows data",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::{LogData, U256};
    use proptest::prelude::*;

    /// Words as an ABI has them: small numbers, what no length can be, and noise.
    fn words() -> impl Strategy<Value = Vec<u8>> {
        let word = prop_oneof![
            (0u64..300).prop_map(|n| B256::from(U256::from(n)).0),
            Just([u8::MAX; 32]),
            Just(B256::from(U256::from(u64::MAX)).0),
            any::<[u8; 32]>(),
        ];
        let words = proptest::collection::vec(word, 0..9).prop_map(|words| words.concat());
        (words, 0usize..40).prop_map(|(mut words, cut)| {
            words.truncate(words.len().saturating_sub(cut));
            words
        })
    }

    proptest! {
        /// Whatever a contract logs and a transaction says: an event or none, and none is out of bytes
        /// that are not there.
        #[test]
        fn any_log_and_any_calldata_can_be_read(data in words(), input in words()) {
            let topics = vec![CHALLENGE_TOPIC, B256::from(U256::from(7))];
            let log = Log {
                address: Default::default(),
                data: LogData::new_unchecked(topics, data.clone().into()),
            };
            let event = Event::from_log(&log, 0, || Ok(Some(input.into()))).expect("no source");
            if let Some(Event { key: (block, hash), .. }) = event {
                let there = data.windows(32).any(|window| window == hash.as_slice());
                prop_assert!(block == 7 && there, "{block} {hash}");
            }
            for argument in 0..3 {
                let found = bytes(&data, argument);
                prop_assert!(found.is_none_or(|found| found.len() + 32 <= data.len()));
            }
        }
    }

    #[test]
    fn the_contract_is_the_op_stacks() {
        let topic = keccak256("ChallengeStatusChanged(uint256,bytes,uint8)");
        assert_eq!(CHALLENGE_TOPIC, topic);
        assert_eq!(RESOLVE, keccak256("resolve(uint256,bytes,bytes)")[..4]);
    }
}
