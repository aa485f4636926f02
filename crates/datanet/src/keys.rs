//! Keys that everybody may know, for the dev chain only.

use openledger_primitives::{B256, DEV_CHAIN_ID, keccak256};

use crate::Error;

/// The private key of a contributor name on the dev chain:
/// `keccak256("openledger dev contributor" ‖ chain id (8 bytes, big-endian) ‖ name)`.
///
/// Whoever knows a name knows its key. That is the point on the dev chain, where a run must be able
/// to sign for every author of a file, and ruin anywhere else.
///
/// # Errors
/// The chain is not the dev chain.
pub fn dev_key(chain_id: u64, name: &str) -> Result<B256, Error> {
    if chain_id != DEV_CHAIN_ID {
        return Err(Error::NotDevChain {
            dev: DEV_CHAIN_ID,
            chain: chain_id,
        });
    }
    let mut bytes = b"openledger dev contributor".to_vec();
    bytes.extend_from_slice(&chain_id.to_be_bytes());
    bytes.extend_from_slice(name.as_bytes());
    // Zero or a number above the curve's order has probability 2^-128; a signer refuses it.
    Ok(keccak256(bytes))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn names_have_different_keys_and_other_chains_none() {
        let key = dev_key(DEV_CHAIN_ID, "rollup-notes").unwrap();
        assert_eq!(key, dev_key(DEV_CHAIN_ID, "rollup-notes").unwrap());
        assert_ne!(key, dev_key(DEV_CHAIN_ID, "suffix-garden").unwrap());
        for chain in [0, 1, 10, DEV_CHAIN_ID + 1] {
            assert!(matches!(
                dev_key(chain, "x"),
                Err(Error::NotDevChain { .. })
            ));
        }
    }
}
