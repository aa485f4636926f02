//! EIP-712 signatures over the records that wallets and operators sign.
//!
//! | record | verifying contract |
//! |---|---|
//! | `Contribution` | ContributionAnchor |
//! | `Voucher` | InferenceSettlement |
//! | `InferenceReceipt` | InferenceSettlement |

use alloy_primitives::{Address, B256, Signature};
use alloy_signer::SignerSync;
use alloy_signer_local::PrivateKeySigner;
use alloy_sol_types::{Eip712Domain, SolStruct};
use openledger_primitives::records::domain;

use crate::{Deployment, Error};

/// Bytes of a signature: r, s and v (27 or 28).
pub const SIGNATURE_BYTES: usize = 65;

impl Deployment {
    /// The domain in which contributors sign `Contribution`.
    pub fn contribution_domain(&self) -> Eip712Domain {
        domain(self.chain_id, self.anchor)
    }

    /// The domain in which payers sign `Voucher` and operators sign `InferenceReceipt`.
    pub fn settlement_domain(&self) -> Eip712Domain {
        domain(self.chain_id, self.settlement)
    }
}

/// What a wallet signs for `record`.
pub fn hash<T: SolStruct>(record: &T, domain: &Eip712Domain) -> B256 {
    record.eip712_signing_hash(domain)
}

/// Signs `record`.
///
/// # Errors
/// [`Error::Signing`] if the key cannot sign.
pub fn sign<T: SolStruct>(
    signer: &PrivateKeySigner,
    record: &T,
    domain: &Eip712Domain,
) -> Result<[u8; SIGNATURE_BYTES], Error> {
    signer
        .sign_hash_sync(&hash(record, domain))
        .map(|signature| signature.as_bytes())
        .map_err(|e| Error::Signing(e.to_string()))
}

/// The account that signed `record`, by the contracts' rules: 65 bytes, v 27 or 28, low s (EIP-2).
///
/// # Errors
/// [`Error::BadSignature`].
pub fn recover<T: SolStruct>(
    record: &T,
    domain: &Eip712Domain,
    signature: &[u8],
) -> Result<Address, Error> {
    let bad = |reason: &str| Error::BadSignature(reason.to_owned());
    if signature.len() != SIGNATURE_BYTES {
        return Err(Error::BadSignature(format!(
            "{} bytes instead of {SIGNATURE_BYTES}",
            signature.len()
        )));
    }
    if !matches!(signature.last(), Some(27 | 28)) {
        return Err(bad("v is neither 27 nor 28"));
    }
    let signature = Signature::from_raw(signature).map_err(|e| bad(&e.to_string()))?;
    // Every signature has a twin with the other s; only one of them may be a name for it.
    if signature.normalize_s().is_some() {
        return Err(bad("high s"));
    }
    signature
        .recover_address_from_prehash(&hash(record, domain))
        .map_err(|e| bad(&e.to_string()))
}

/// Checks that `signer` signed `record`.
///
/// # Errors
/// [`Error::BadSignature`].
pub fn verify<T: SolStruct>(
    record: &T,
    domain: &Eip712Domain,
    signature: &[u8],
    signer: Address,
) -> Result<(), Error> {
    let recovered = recover(record, domain, signature)?;
    if recovered == signer {
        Ok(())
    } else {
        Err(Error::BadSignature(format!(
            "signed by {recovered}, not by {signer}"
        )))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use alloy_primitives::{U256, uint};
    use openledger_primitives::records::Voucher;

    const ORDER: U256 =
        uint!(0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141_U256);

    #[test]
    fn only_the_signer_and_only_one_form() {
        let signer = PrivateKeySigner::from_bytes(&B256::repeat_byte(7)).unwrap();
        let deployment = Deployment::expected(5, Address::repeat_byte(1), 0);
        let domain = deployment.settlement_domain();
        let voucher = Voucher {
            payer: signer.address(),
            maxCumulative: 9,
            ..Voucher::default()
        };
        let signature = sign(&signer, &voucher, &domain).unwrap();
        verify(&voucher, &domain, &signature, signer.address()).unwrap();

        let other = Voucher {
            maxCumulative: 10,
            ..voucher
        };
        assert!(verify(&other, &domain, &signature, signer.address()).is_err());
        let elsewhere = Deployment::expected(6, Address::repeat_byte(1), 0).settlement_domain();
        assert!(verify(&voucher, &elsewhere, &signature, signer.address()).is_err());
        assert!(verify(&voucher, &domain, &signature, Address::ZERO).is_err());
        assert!(recover(&voucher, &domain, &signature[..64]).is_err());

        // The twin (n - s, other v) recovers to the same key, and is refused.
        let mut twin = signature;
        let s = U256::from_be_slice(&signature[32..64]);
        twin[32..64].copy_from_slice(&(ORDER - s).to_be_bytes::<32>());
        twin[64] = if signature[64] == 27 { 28 } else { 27 };
        let refused = recover(&voucher, &domain, &twin).unwrap_err();
        assert!(refused.to_string().contains("high s"), "{refused}");
    }
}
