//! Fees that rise until a transaction is mined, on a chain whose gas price the tests set.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alloy_consensus::{Transaction, TxEnvelope};
use alloy_eips::eip2718::Decodable2718;
use alloy_eips::eip7594::BlobTransactionSidecarEip7594;
use alloy_rpc_types_eth::Log;
use futures::future::{BoxFuture, ready};
use openledger_chain::{
    Call, Error, Fees, Head, MemoryOutbox, Node, Outbox, Receipt, Replacement, Sender, SenderConfig,
};
use openledger_primitives::{Address, B256, Bytes, Wei};

use crate::support::{CONFIG, address, wallet};

/// The most that the tests' transactions may pay a gas.
const LIMIT: u128 = 1_000;

fn config() -> SenderConfig {
    SenderConfig {
        replacement: Some(Replacement {
            after: Duration::ZERO,
            max_fee: LIMIT,
        }),
        ..CONFIG
    }
}

#[derive(Default)]
struct Market {
    /// What a transaction must offer to be mined.
    base_fee: u128,
    /// What the node says that one should offer.
    suggested: u128,
    pool: BTreeMap<u64, TxEnvelope>,
    mined: Vec<TxEnvelope>,
    /// What was let into the pool, in order.
    taken: Vec<TxEnvelope>,
    /// Whether each question for a receipt makes the base fee fall by one.
    falling: bool,
}

impl Market {
    fn submit(&mut self, raw: &Bytes) -> Result<B256, Error> {
        let refused = |message: &str| Error::Refused {
            method: "eth_sendRawTransaction",
            message: message.to_owned(),
        };
        let tx = TxEnvelope::decode_2718_exact(raw).unwrap();
        let hash = *tx.tx_hash();
        let next = u64::try_from(self.mined.len()).unwrap();
        if tx.nonce() < next {
            return Err(refused("nonce too low"));
        }
        if let Some(old) = self.pool.get(&tx.nonce()) {
            if old.is_eip4844() != tx.is_eip4844() {
                return Err(refused("address already reserved"));
            }
            // As in geth: a tenth more, and twice as much with blobs.
            let least = if tx.is_eip4844() { 20 } else { 11 };
            let enough = |new: u128, old: u128| new * 10 >= old * least;
            let tip = |tx: &TxEnvelope| tx.max_priority_fee_per_gas().unwrap();
            if *old.tx_hash() == hash {
                return Ok(hash);
            }
            if !enough(tx.max_fee_per_gas(), old.max_fee_per_gas()) || !enough(tip(&tx), tip(old)) {
                return Err(refused("replacement transaction underpriced"));
            }
        }
        self.taken.push(tx.clone());
        self.pool.insert(tx.nonce(), tx);
        Ok(hash)
    }

    fn mine(&mut self) {
        loop {
            let next = u64::try_from(self.mined.len()).unwrap();
            match self.pool.remove(&next) {
                Some(tx) if tx.max_fee_per_gas() >= self.base_fee => self.mined.push(tx),
                Some(tx) => {
                    self.pool.insert(next, tx);
                    return;
                }
                None => return,
            }
        }
    }

    fn receipt(&mut self, hash: B256) -> Option<Receipt> {
        if self.falling {
            self.base_fee = self.base_fee.saturating_sub(1);
        }
        self.mine();
        let index = self.mined.iter().position(|tx| *tx.tx_hash() == hash)?;
        Some(Receipt {
            tx: hash,
            block: u64::try_from(index).unwrap(),
            success: true,
            gas_used: 21_000,
            fee: Wei::ZERO,
            created: None,
            logs: Vec::new(),
        })
    }
}

/// A node of one account on it.
#[derive(Default)]
struct Priced(Mutex<Market>);

fn now<'a, T: Send + 'a>(value: T) -> BoxFuture<'a, Result<T, Error>> {
    Box::pin(ready(Ok(value)))
}

impl Node for Priced {
    fn chain_id(&self) -> BoxFuture<'_, Result<u64, Error>> {
        now(1)
    }
    fn head(&self) -> BoxFuture<'_, Result<Head, Error>> {
        now(Head {
            number: 0,
            timestamp: 0,
        })
    }
    fn nonce(&self, _: Address, pending: bool) -> BoxFuture<'_, Result<u64, Error>> {
        let mut market = self.0.lock().unwrap();
        market.mine();
        let waiting = if pending { market.pool.len() } else { 0 };
        now(u64::try_from(market.mined.len() + waiting).unwrap())
    }
    fn balance(&self, _: Address, _: Option<u64>) -> BoxFuture<'_, Result<Wei, Error>> {
        now(Wei::OPEN)
    }
    fn code(&self, _: Address) -> BoxFuture<'_, Result<Bytes, Error>> {
        now(Bytes::new())
    }
    fn call<'a>(&'a self, _: Option<Address>, _: &'a Call) -> BoxFuture<'a, Result<Bytes, Error>> {
        now(Bytes::new())
    }
    fn estimate<'a>(&'a self, _: Address, _: &'a Call) -> BoxFuture<'a, Result<u64, Error>> {
        now(21_000)
    }
    fn fees(&self) -> BoxFuture<'_, Result<Fees, Error>> {
        let suggested = self.0.lock().unwrap().suggested;
        now(Fees {
            max_fee: suggested,
            max_priority_fee: suggested / 10,
        })
    }
    fn blob_fee(&self) -> BoxFuture<'_, Result<u128, Error>> {
        now(1)
    }
    fn submit(&self, raw: Bytes) -> BoxFuture<'_, Result<B256, Error>> {
        Box::pin(ready(self.0.lock().unwrap().submit(&raw)))
    }
    fn receipt(&self, tx: B256) -> BoxFuture<'_, Result<Option<Receipt>, Error>> {
        now(self.0.lock().unwrap().receipt(tx))
    }
    fn logs<'a>(
        &'a self,
        _: &'a [Address],
        _: u64,
        _: u64,
    ) -> BoxFuture<'a, Result<Vec<Log>, Error>> {
        now(Vec::new())
    }
}

fn priced(base_fee: u128, suggested: u128) -> Arc<Priced> {
    Arc::new(Priced(Mutex::new(Market {
        base_fee,
        suggested,
        ..Market::default()
    })))
}

async fn sender(node: &Arc<Priced>, outbox: &Arc<dyn Outbox>, config: SenderConfig) -> Sender {
    Sender::new(node.clone(), [wallet("alice")], outbox.clone(), config)
        .await
        .unwrap()
}

fn gift() -> Call {
    Call::new(address("nobody"), vec![]).with_value(Wei::new(1))
}

#[tokio::test]
async fn a_transaction_that_is_too_cheap_is_replaced_until_it_is_mined() {
    let node = priced(250, 100);
    let outbox: Arc<dyn Outbox> = Arc::new(MemoryOutbox::default());
    let sender = sender(&node, &outbox, config()).await;
    let receipt = sender.send_once("gift", address("alice"), &gift()).await;
    let market = node.0.lock().unwrap();
    assert_eq!(market.mined.len(), 1, "once");
    let tx = &market.mined[0];
    assert_eq!(receipt.unwrap().tx, *tx.tx_hash());
    assert!(market.taken.len() > 5, "step by step");
    for pair in market.taken.windows(2) {
        assert_eq!(pair[0].nonce(), pair[1].nonce());
        assert_eq!(pair[0].input(), pair[1].input());
    }
    assert!((250..=280).contains(&tx.max_fee_per_gas()), "{tx:?}");
}

#[tokio::test]
async fn a_base_fee_that_rose_is_followed_at_once() {
    let node = priced(500, 100);
    let outbox: Arc<dyn Outbox> = Arc::new(MemoryOutbox::default());
    let slow = SenderConfig {
        timeout: Duration::ZERO,
        ..config()
    };
    let first = sender(&node, &outbox, slow).await;
    let waits = first.send_once("gift", address("alice"), &gift()).await;
    assert!(matches!(waits, Err(Error::NotMined { .. })), "{waits:?}");
    node.0.lock().unwrap().suggested = 600;
    let sender = sender(&node, &outbox, config()).await;
    sender
        .send_once("gift", address("alice"), &gift())
        .await
        .unwrap();
    let market = node.0.lock().unwrap();
    let offers = market.taken.iter().map(Transaction::max_fee_per_gas);
    assert_eq!(offers.collect::<Vec<_>>(), [100, 600]);
    assert_eq!(market.mined.len(), 1);
}

#[tokio::test]
async fn nothing_is_paid_above_the_limit_and_what_waits_is_mined_when_gas_is_cheaper() {
    let node = priced(LIMIT + 50, 10_000);
    node.0.lock().unwrap().falling = true;
    let outbox: Arc<dyn Outbox> = Arc::new(MemoryOutbox::default());
    let sender = sender(&node, &outbox, config()).await;
    sender.send(address("alice"), &gift()).await.unwrap();
    let market = node.0.lock().unwrap();
    assert_eq!(market.mined.len(), 1);
    assert_eq!(market.taken.len(), 1);
    assert_eq!(market.taken[0].max_fee_per_gas(), LIMIT);
}

#[tokio::test]
async fn a_restart_between_two_versions_sends_nothing_twice() {
    let outbox: Arc<dyn Outbox> = Arc::new(MemoryOutbox::default());
    let node = priced(250, 100);
    let brief = SenderConfig {
        timeout: Duration::from_millis(20),
        replacement: Some(Replacement {
            after: Duration::ZERO,
            max_fee: 200,
        }),
        ..CONFIG
    };
    let first = sender(&node, &outbox, brief).await;
    let waits = first.send_once("gift", address("alice"), &gift()).await;
    assert!(matches!(waits, Err(Error::NotMined { .. })), "{waits:?}");
    let early = {
        let mut market = node.0.lock().unwrap();
        assert!(market.taken.len() > 2);
        // A miner had kept an early version, and takes that.
        let early = market.taken[1].clone();
        market.pool.clear();
        market.mined.push(early.clone());
        early
    };
    let second = sender(&node, &outbox, config()).await;
    let receipt = second.send_once("gift", address("alice"), &gift()).await;
    assert_eq!(receipt.unwrap().tx, *early.tx_hash());
    let market = node.0.lock().unwrap();
    assert_eq!(market.mined.len(), 1);
    assert!(market.pool.is_empty());
}

#[tokio::test]
async fn a_transaction_that_nobody_remembers_is_got_out_of_the_way() {
    let node = priced(400, 100);
    let forgotten: Arc<dyn Outbox> = Arc::new(MemoryOutbox::default());
    let brief = SenderConfig {
        timeout: Duration::ZERO,
        ..config()
    };
    let first = sender(&node, &forgotten, brief).await;
    let waits = first.send(address("alice"), &gift()).await;
    assert!(matches!(waits, Err(Error::NotMined { .. })), "{waits:?}");
    // After a crash: the base fee is known now, but not what waits.
    node.0.lock().unwrap().suggested = 105;
    let outbox: Arc<dyn Outbox> = Arc::new(MemoryOutbox::default());
    let second = sender(&node, &outbox, brief).await;
    let freed = second.free_nonce(address("alice"), None).await;
    assert!(matches!(freed, Err(Error::NotMined { .. })), "{freed:?}");
    node.0.lock().unwrap().suggested = 450;
    second.free_nonce(address("alice"), None).await.unwrap();
    // Nothing waits any more, so nothing is sent.
    second.free_nonce(address("alice"), None).await.unwrap();
    let market = node.0.lock().unwrap();
    let [tx] = &market.mined[..] else {
        panic!("{:?}", market.mined)
    };
    assert_eq!(tx.to(), Some(address("alice")));
    assert!(tx.value().is_zero() && tx.input().is_empty());
    assert!(market.pool.is_empty());
}

#[tokio::test]
async fn blobs_that_nobody_remembers_make_room_for_blobs() {
    let blobs = Arc::new(BlobTransactionSidecarEip7594 {
        blobs: vec![Default::default()],
        commitments: vec![Default::default()],
        cell_proofs: vec![Default::default(); 128],
    });
    let carrier = Call {
        blobs: Some(blobs.clone()),
        ..gift()
    };
    let node = priced(400, 100);
    let forgotten: Arc<dyn Outbox> = Arc::new(MemoryOutbox::default());
    let brief = SenderConfig {
        timeout: Duration::ZERO,
        replacement: None,
        ..CONFIG
    };
    let first = sender(&node, &forgotten, brief).await;
    let waits = first.send(address("alice"), &carrier).await;
    assert!(matches!(waits, Err(Error::NotMined { .. })), "{waits:?}");

    node.0.lock().unwrap().suggested = 150;
    let outbox: Arc<dyn Outbox> = Arc::new(MemoryOutbox::default());
    let second = sender(&node, &outbox, config()).await;
    // Without a blob there is no way past it.
    let stuck = second.free_nonce(address("alice"), None).await;
    assert!(matches!(stuck, Err(Error::Refused { .. })), "{stuck:?}");
    node.0.lock().unwrap().base_fee = 300;
    second
        .free_nonce(address("alice"), Some(blobs))
        .await
        .unwrap();
    let market = node.0.lock().unwrap();
    let [tx] = &market.mined[..] else {
        panic!("{:?}", market.mined)
    };
    assert_eq!(tx.to(), Some(address("alice")));
    assert!(tx.value().is_zero() && tx.is_eip4844());
    // The first offer of 150 is less than twice 100.
    assert_eq!(tx.max_fee_per_gas(), 300);
    assert!(market.pool.is_empty());
}
