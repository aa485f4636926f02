//! `eth_config` (EIP-7910): the rules that hold, those that come next, and the last ones
//! that are known to come.

use super::{
    Context, Shared,
    error::RpcResult,
    methods::{answer, method},
};
use crate::{chain::ChainHandle, spec::ChainSpec};
use alloy_consensus::Header;
use alloy_eips::{
    eip2124::ForkHash,
    eip2935::HISTORY_STORAGE_ADDRESS,
    eip4788::BEACON_ROOTS_ADDRESS,
    eip7840::BlobParams,
    eip7910::{EthConfig, EthForkConfig, SystemContract},
};
use alloy_evm::{Evm, EvmFactory, precompiles::PrecompilesMap};
use alloy_primitives::{Address, B256};
use jsonrpsee::{RpcModule, core::RegisterMethodError};
use revm::{
    database::EmptyDB,
    precompile::{PrecompileSpecId, Precompiles},
};
use std::{borrow::Cow, collections::BTreeMap};

pub(super) fn register(module: &mut RpcModule<Context>) -> Result<(), RegisterMethodError> {
    method!(module, "eth_config", |cx, args| config(&cx.chain)?);
    Ok(())
}

fn config(chain: &ChainHandle) -> RpcResult<EthConfig> {
    let spec = chain.spec();
    let genesis = chain.reader()?.header(0)?;
    let genesis = genesis.ok_or_else(|| super::error::server("the genesis block is missing"))?;
    let first = fork(spec, genesis.hash(), genesis.timestamp, None);
    // Every fork but one is as old as the chain.
    let Some(time) = spec.karst_time().filter(|time| *time > genesis.timestamp) else {
        return Ok(EthConfig {
            current: first,
            next: None,
            last: None,
        });
    };
    let second = fork(spec, genesis.hash(), time, Some(time));
    Ok(if chain.head()?.timestamp < time {
        EthConfig {
            current: first,
            next: Some(second.clone()),
            last: Some(second),
        }
    } else {
        EthConfig {
            current: second,
            next: None,
            last: None,
        }
    })
}

/// The rules at `timestamp`, which `began` then unless they are those of genesis.
fn fork(spec: &ChainSpec, genesis: B256, timestamp: u64, began: Option<u64>) -> EthForkConfig {
    let mut id = ForkHash::from(genesis);
    if let Some(time) = began {
        id += time;
    }
    EthForkConfig {
        activation_time: began.unwrap_or_default(),
        // No block here takes a blob.
        blob_schedule: BlobParams {
            target_blob_count: 0,
            max_blob_count: 0,
            max_blobs_per_tx: 0,
            ..BlobParams::prague()
        },
        chain_id: spec.chain_id,
        fork_id: id.0.into(),
        precompiles: precompiles(spec, timestamp),
        system_contracts: BTreeMap::from([
            (SystemContract::BeaconRoots, BEACON_ROOTS_ADDRESS),
            (SystemContract::HistoryStorage, HISTORY_STORAGE_ADDRESS),
        ]),
    }
}

fn precompiles(spec: &ChainSpec, timestamp: u64) -> BTreeMap<String, Address> {
    let header = Header {
        timestamp,
        ..Header::default()
    };
    let env = spec.evm_env(&header);
    let map = if spec.is_ethereum() {
        let rules = PrecompileSpecId::from_spec_id(env.cfg_env.spec.into_eth_spec());
        PrecompilesMap::new(Cow::Borrowed(Precompiles::new(rules)))
    } else {
        let evm = spec.factory_evm().create_evm(EmptyDB::default(), env);
        evm.precompiles().clone()
    };
    let named = map.addresses().filter_map(|address| {
        let precompile = map.get(address)?;
        let name = alloy_evm::precompiles::Precompile::precompile_id(&precompile);
        Some((name.name().to_owned(), *address))
    });
    named.collect()
}
