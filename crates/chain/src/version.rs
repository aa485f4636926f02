//! A signed transaction in one of its versions, which differ in what they offer.

use alloy_consensus::{
    SignableTransaction, Transaction, TxEip1559, TxEip4844, TxEip4844WithSidecar, TxEnvelope,
    TypedTransaction,
};
use alloy_eips::eip2718::{Decodable2718, Encodable2718};
use alloy_eips::eip7594::BlobTransactionSidecarVariant;
use alloy_primitives::{B256, Bytes, TxKind};
use alloy_signer::SignerSync;
use alloy_signer_local::PrivateKeySigner;

use crate::Error;
use crate::node::{Call, Fees};
use crate::replace::Offer;

/// A signed transaction.
pub(crate) struct Version {
    pub(crate) tx: TypedTransaction,
    pub(crate) hash: B256,
    /// EIP-2718 bytes, with the blobs if there are any.
    pub(crate) raw: Bytes,
}

/// The transaction that makes `call`.
pub(crate) fn unsigned(
    call: &Call,
    chain_id: u64,
    nonce: u64,
    gas_limit: u64,
    offer: Offer,
) -> Result<TypedTransaction, Error> {
    let value = call.value.into();
    let input = call.data.clone();
    let Some(blobs) = &call.blobs else {
        return Ok(TypedTransaction::Eip1559(TxEip1559 {
            chain_id,
            nonce,
            gas_limit,
            max_fee_per_gas: offer.fees.max_fee,
            max_priority_fee_per_gas: offer.fees.max_priority_fee,
            to: call.to.map_or(TxKind::Create, TxKind::Call),
            value,
            input,
            ..TxEip1559::default()
        }));
    };
    let to = call.to;
    let to = to.ok_or_else(|| Error::Signing("blobs cannot go to a creation".to_owned()))?;
    let tx = TxEip4844 {
        chain_id,
        nonce,
        gas_limit,
        max_fee_per_gas: offer.fees.max_fee,
        max_priority_fee_per_gas: offer.fees.max_priority_fee,
        to,
        value,
        blob_versioned_hashes: blobs.versioned_hashes().collect(),
        max_fee_per_blob_gas: offer.blob_fee.unwrap_or_default(),
        input,
        ..TxEip4844::default()
    };
    let sidecar = BlobTransactionSidecarVariant::Eip7594((**blobs).clone());
    Ok(TxEip4844WithSidecar { tx, sidecar }.into())
}

impl Version {
    /// Signs it.
    pub(crate) fn sign(tx: TypedTransaction, signer: &PrivateKeySigner) -> Result<Self, Error> {
        let signature = signer
            .sign_hash_sync(&tx.signature_hash())
            .map_err(|e| Error::Signing(e.to_string()))?;
        let signed = tx.clone().into_envelope(signature);
        Ok(Self {
            tx,
            hash: *signed.tx_hash(),
            raw: signed.encoded_2718().into(),
        })
    }

    /// Reads what the outbox holds.
    pub(crate) fn read(key: &str, raw: Bytes) -> Result<Self, Error> {
        let signed = envelope(key, &raw)?;
        Ok(Self {
            hash: *signed.tx_hash(),
            tx: signed.into(),
            raw,
        })
    }

    /// What it offers.
    pub(crate) fn offer(&self) -> Offer {
        let max_fee = self.tx.max_fee_per_gas();
        Offer {
            fees: Fees {
                max_fee,
                max_priority_fee: self.tx.max_priority_fee_per_gas().unwrap_or(max_fee),
            },
            blob_fee: self.tx.max_fee_per_blob_gas(),
        }
    }

    /// The same transaction, unsigned, with another offer.
    pub(crate) fn offering(&self, offer: Offer) -> Result<TypedTransaction, Error> {
        let Fees {
            max_fee,
            max_priority_fee,
        } = offer.fees;
        let mut tx = self.tx.clone();
        match &mut tx {
            TypedTransaction::Eip1559(tx) => {
                tx.max_fee_per_gas = max_fee;
                tx.max_priority_fee_per_gas = max_priority_fee;
            }
            TypedTransaction::Eip4844(tx) => {
                let tx = match tx {
                    alloy_consensus::TxEip4844Variant::TxEip4844(tx) => tx,
                    alloy_consensus::TxEip4844Variant::TxEip4844WithSidecar(tx) => &mut tx.tx,
                };
                tx.max_fee_per_gas = max_fee;
                tx.max_priority_fee_per_gas = max_priority_fee;
                tx.max_fee_per_blob_gas = offer.blob_fee.unwrap_or_default();
            }
            _ => {
                return Err(Error::Signing(format!(
                    "a transaction of type {} is none of ours",
                    tx.tx_type()
                )));
            }
        }
        Ok(tx)
    }
}

/// Decodes what the outbox holds.
pub(crate) fn envelope(key: &str, raw: &Bytes) -> Result<TxEnvelope, Error> {
    TxEnvelope::decode_2718_exact(raw).map_err(|e| Error::BadOutboxEntry {
        key: key.to_owned(),
        reason: e.to_string(),
    })
}
