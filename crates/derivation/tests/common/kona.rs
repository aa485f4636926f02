//! kona's pipeline over the same layer 1, data and layer 2 as ours.

use crate::common::{MemDa, MemL1, MemL2, World};

use alloy_consensus::{Transaction, TxEnvelope};
use alloy_eips::Decodable2718;
use alloy_primitives::{Address, B64, B256, Bytes};
use async_trait::async_trait;
use futures::executor::block_on;
use kona_consensus::{Header, Receipt, ReceiptEnvelope};
use kona_derive::{
    ChainProvider, DataAvailabilityProvider, DerivationPipeline, L2ChainProvider, OriginProvider,
    Pipeline as _, PipelineBuilder, PipelineError, PipelineErrorKind, PipelineResult, ResetSignal,
    SignalReceiver, StatefulAttributesBuilder, StepResult,
};
use kona_eips::{BlockNumHash, eip2718::Decodable2718 as _};
use kona_genesis::{RollupConfig, SystemConfig};
use kona_op_consensus::OpBlock;
use kona_protocol::{BatchValidationProvider, BlockInfo, L2BlockInfo};
use openledger_derivation::{BlockId, COMMITMENT_VERSION, DataAvailability, L1, L2Head};
use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

#[derive(Debug)]
struct Missing(&'static str);

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl From<Missing> for PipelineErrorKind {
    fn from(missing: Missing) -> Self {
        PipelineError::Provider(missing.0.into()).temp()
    }
}

fn header(raw: &[u8]) -> Header {
    alloy_rlp::Decodable::decode(&mut &raw[..]).expect("a header")
}

fn info(header: &Header) -> BlockInfo {
    BlockInfo::new(
        header.hash_slow(),
        header.number,
        header.parent_hash,
        header.timestamp,
    )
}

fn number_hash(id: BlockId) -> BlockNumHash {
    BlockNumHash {
        number: id.number,
        hash: id.hash,
    }
}

fn l2_info(head: &L2Head) -> L2BlockInfo {
    L2BlockInfo {
        block_info: BlockInfo::new(head.hash, head.number, head.parent_hash, head.timestamp),
        l1_origin: number_hash(head.l1_origin),
        seq_num: head.sequence_number,
    }
}

#[derive(Debug, Clone)]
struct KonaL1(Arc<MemL1>);

#[async_trait]
impl ChainProvider for KonaL1 {
    type Error = Missing;

    async fn header_by_hash(&mut self, hash: B256) -> Result<Header, Missing> {
        self.0
            .header_by_hash(hash)
            .map(|raw| header(&raw))
            .map_err(|_| Missing("header"))
    }

    async fn block_info_by_number(&mut self, number: u64) -> Result<BlockInfo, Missing> {
        match self.0.header_by_number(number) {
            Ok(Some(raw)) => Ok(info(&header(&raw))),
            _ => Err(Missing("number")),
        }
    }

    async fn receipts_by_hash(&mut self, hash: B256) -> Result<Vec<Receipt>, Missing> {
        let receipts = self.0.receipts(hash).map_err(|_| Missing("receipts"))?;
        let decode = |raw: &Bytes| ReceiptEnvelope::decode_2718(&mut &raw[..]).expect("a receipt");
        Ok(receipts
            .iter()
            .map(|raw| decode(raw).as_receipt().expect("known").clone())
            .collect())
    }

    async fn block_info_and_transactions_by_hash(
        &mut self,
        _hash: B256,
    ) -> Result<(BlockInfo, Vec<kona_consensus::TxEnvelope>), Missing> {
        Err(Missing("not asked for"))
    }
}

#[derive(Debug, Clone)]
struct KonaL2(Arc<MemL2>);

impl KonaL2 {
    fn head(&self, number: u64) -> Result<L2Head, Missing> {
        self.0
            .blocks()
            .get(number as usize)
            .map(|b| b.head)
            .ok_or(Missing("layer 2 block"))
    }
}

#[async_trait]
impl BatchValidationProvider for KonaL2 {
    type Error = Missing;

    async fn l2_block_info_by_number(&mut self, number: u64) -> Result<L2BlockInfo, Missing> {
        self.head(number).map(|head| l2_info(&head))
    }

    async fn block_by_number(&mut self, _number: u64) -> Result<OpBlock, Missing> {
        Err(Missing("not asked for since Holocene"))
    }
}

#[async_trait]
impl L2ChainProvider for KonaL2 {
    type Error = Missing;

    async fn system_config_by_number(
        &mut self,
        number: u64,
        _config: Arc<RollupConfig>,
    ) -> Result<SystemConfig, Missing> {
        let system = self.head(number)?.system_config;
        let mut scalar = [0; 32];
        scalar[0] = 1;
        scalar[24..28].copy_from_slice(&system.blob_base_fee_scalar.to_be_bytes());
        scalar[28..].copy_from_slice(&system.base_fee_scalar.to_be_bytes());
        let params = system.eip_1559_params;
        let half = |at: usize| u32::from_be_bytes(params[at..at + 4].try_into().expect("4 bytes"));
        Ok(SystemConfig {
            batcher_address: system.batcher,
            scalar: B256::from(scalar).into(),
            gas_limit: system.gas_limit,
            eip1559_denominator: Some(half(0)),
            eip1559_elasticity: Some(half(4)),
            operator_fee_scalar: Some(system.operator_fee_scalar),
            operator_fee_constant: Some(system.operator_fee_constant),
            ..Default::default()
        })
    }
}

/// Inbox data, commitments looked up.
#[derive(Debug)]
struct Inbox {
    l1: Arc<MemL1>,
    da: Arc<MemDa>,
    queue: Mutex<Option<VecDeque<Bytes>>>,
}

#[async_trait]
impl DataAvailabilityProvider for Inbox {
    type Item = Bytes;

    async fn next(&mut self, block: &BlockInfo, _batcher: Address) -> PipelineResult<Bytes> {
        let mut queue = self.queue.lock().expect("lock");
        let data = queue.get_or_insert_with(|| {
            let txs = self.l1.transactions(block.hash).expect("transactions");
            txs.iter()
                .map(|raw| TxEnvelope::decode_2718_exact(raw).expect("a transaction"))
                .map(|tx| match tx.input().split_first() {
                    Some((&COMMITMENT_VERSION, c)) => self.da.get(c, block.number).expect("data"),
                    _ => tx.input().clone(),
                })
                .collect()
        });
        data.pop_front().ok_or_else(|| PipelineError::Eof.temp())
    }

    fn clear(&mut self) {
        *self.queue.lock().expect("lock") = None;
    }
}

/// The configuration without what kona does not know.
fn kona_config(world: &World) -> RollupConfig {
    let mut json: serde_json::Value = serde_json::from_str(&world.config.to_json()).expect("JSON");
    let system = json["genesis"]["system_config"]
        .as_object_mut()
        .expect("an object");
    system.remove("minBaseFee");
    system.remove("daFootprintGasScalar");
    serde_json::from_value(json).expect("kona reads our rollup.json")
}

/// Lets kona derive the chain on which `l2` is what we derived, and compares all attributes, byte
/// for byte. Returns the time that kona itself took.
pub(crate) fn compare(world: &World, l2: &Arc<MemL2>) -> Duration {
    let config = Arc::new(kona_config(world));
    let (l1, provider) = (KonaL1(world.l1.clone()), KonaL2(l2.clone()));
    let genesis = info(&header(&world.l1.block(0).header));
    let mut pipeline: DerivationPipeline<_, _> = PipelineBuilder::new()
        .rollup_config(config.clone())
        .dap_source(Inbox {
            l1: world.l1.clone(),
            da: world.da.clone(),
            queue: None.into(),
        })
        .l2_chain_provider(provider.clone())
        .chain_provider(l1.clone())
        .builder(StatefulAttributesBuilder::new(config, provider, l1))
        .origin(genesis)
        .build_polled();
    let blocks = l2.blocks();
    let mut cursor = l2_info(&blocks[0].head);
    let reset = ResetSignal {
        l2_safe_head: cursor,
        l1_origin: genesis,
        system_config: None,
    };
    block_on(pipeline.signal(reset.signal())).expect("a reset");
    let mut derived = 1;
    let mut spent = Duration::ZERO;
    loop {
        let begun = Instant::now();
        let step = block_on(pipeline.step(cursor));
        spent += begun.elapsed();
        match step {
            StepResult::PreparedAttributes => {
                let theirs = pipeline.next().expect("prepared");
                let ours = &blocks[derived];
                let payload = &theirs.inner.payload_attributes;
                let header = header(&ours.header);
                assert_eq!(theirs.inner.transactions.as_ref(), Some(&ours.transactions));
                assert_eq!(payload.timestamp, header.timestamp);
                assert_eq!(payload.prev_randao, header.mix_hash);
                assert_eq!(payload.suggested_fee_recipient, header.beneficiary);
                assert_eq!(
                    payload.parent_beacon_block_root,
                    header.parent_beacon_block_root
                );
                assert_eq!(theirs.inner.gas_limit, Some(header.gas_limit));
                assert_eq!(theirs.inner.no_tx_pool, Some(true));
                let params = B64::from_slice(&header.extra_data[1..9]);
                assert_eq!(theirs.inner.eip_1559_params, Some(params));
                cursor = l2_info(&ours.head);
                derived += 1;
            }
            StepResult::AdvancedOrigin
            | StepResult::StepFailed(PipelineErrorKind::Temporary(
                PipelineError::NotEnoughData | PipelineError::Eof,
            )) => {}
            StepResult::OriginAdvanceErr(PipelineErrorKind::Temporary(
                PipelineError::Provider(_),
            )) => break,
            other => panic!("{other:?} after {derived} blocks"),
        }
    }
    assert_eq!(
        pipeline.origin().map(|block| block.number),
        Some(world.l1.head())
    );
    assert_eq!(derived, blocks.len(), "blocks derived by kona");
    spent
}
