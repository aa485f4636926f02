//! Receipts: what an operator claims about one answer, signed, numbered and durable before the
//! answer is acknowledged.

use openledger_primitives::records::{InferenceReceipt, digest_u32};
use openledger_primitives::{Address, AmountError, B256, Bytes, Mode, RECORD_VERSION, Record, Wei};
use openledger_store::{Catalogue, Transaction};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::request::Completion;

const LOG: &str = "receipts";
const BY_COMPLETION: &str = "receipts-by-completion";
const BY_DIGEST: &str = "receipts-by-digest";
const COUNTER: &str = "receipts-counter";

/// Prices of one adapter, wei a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pricing {
    /// A prompt token.
    pub input: Wei,
    /// An answer token.
    pub output: Wei,
}

impl Pricing {
    /// `prompt * input + output * output price`.
    ///
    /// # Errors
    /// [`AmountError`] if it leaves the range of amounts.
    pub fn fee(&self, prompt_tokens: u32, output_tokens: u32) -> Result<Wei, AmountError> {
        self.input
            .mul_u64(u64::from(prompt_tokens))?
            .checked_add(self.output.mul_u64(u64::from(output_tokens))?)
    }
}

/// What a receipt says besides the answer: the terms under which it was served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Chain id.
    pub chain_id: u64,
    /// Digest of the adapter's record; zero for the base alone.
    pub adapter: B256,
    /// Weights root of the base.
    pub base: B256,
    /// Content root of the tokenizer file.
    pub tokenizer: B256,
    /// Prices.
    pub pricing: Pricing,
    /// Who pays.
    pub payer: Address,
    /// Digest of the voucher that covers the fee; zero if none.
    pub voucher: B256,
    /// The operator's wallet, whose key signs.
    pub operator: Address,
    /// Unix seconds.
    pub created_at: u64,
}

/// The receipt of `completion` under `terms` with the operator's running number `sequence`.
///
/// # Errors
/// [`Error::Amount`] if the fee leaves the range of amounts.
pub fn receipt(
    completion: &Completion,
    terms: &Terms,
    sequence: u64,
) -> Result<InferenceReceipt, Error> {
    // Both are bounded by the model's context, far below u32's range.
    let prompt_tokens = completion.prompt_tokens.len() as u32;
    let output_tokens = completion.output_tokens.len() as u32;
    Ok(InferenceReceipt {
        version: RECORD_VERSION,
        chainId: terms.chain_id,
        adapter: terms.adapter,
        base: terms.base,
        tokenizer: terms.tokenizer,
        sampler: completion.sampler,
        seed: completion.seed,
        promptDigest: digest_u32(&completion.prompt_tokens),
        outputDigest: digest_u32(&completion.output_tokens),
        surprisals: digest_u32(&completion.surprisals),
        promptTokens: prompt_tokens,
        outputTokens: output_tokens,
        fee: terms.pricing.fee(prompt_tokens, output_tokens)?.get(),
        payer: terms.payer,
        voucher: terms.voucher,
        operator: terms.operator,
        mode: Mode::Exact.into(),
        activation: completion.activation,
        sequence,
        createdAt: terms.created_at,
    })
}

/// A receipt as it is kept and handed out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedReceipt {
    /// The API's id of the answer.
    pub completion: String,
    /// The receipt.
    pub receipt: InferenceReceipt,
    /// Its digest: what was signed, by the scheme of the caller's signer.
    pub digest: B256,
    /// The operator's signature.
    pub signature: Bytes,
    /// Surprisals of the answer's tokens, milli-bits; the receipt names their digest.
    pub surprisals: Vec<u32>,
    /// Prompt tokens; the receipt names their digest.
    pub prompt_tokens: Vec<u32>,
    /// Answer tokens; the receipt names their digest.
    pub output_tokens: Vec<u32>,
}

/// The operator's receipts in the order of their numbers, in the node's catalogue.
#[derive(Clone, Debug)]
pub struct ReceiptLog {
    catalogue: Catalogue,
}

impl ReceiptLog {
    /// The log inside `catalogue`.
    pub fn new(catalogue: Catalogue) -> Self {
        Self { catalogue }
    }

    /// Numbers, signs and stores the receipt of `completion`, durably, before it returns; only
    /// then may the answer be acknowledged. Called again for the same completion id it returns
    /// the receipt that is already there, so a retry after a crash cannot charge twice.
    ///
    /// `also` runs in the same transaction: what must move with the receipt (the payer's account)
    /// goes there.
    ///
    /// # Errors
    /// [`Error::Signer`], [`Error::Amount`] or [`Error::Store`]; nothing is stored then.
    pub fn write(
        &self,
        id: &str,
        completion: &Completion,
        terms: &Terms,
        sign: impl FnOnce(&InferenceReceipt, B256) -> Result<Bytes, String>,
        also: impl FnOnce(&mut Transaction, &SignedReceipt) -> openledger_store::Result<()>,
    ) -> Result<SignedReceipt, Error> {
        // The store's transactions carry the store's errors; ours travels beside them.
        let mut refused = None;
        let written = self.catalogue.write(|tx| {
            if let Some(signed) = tx.get::<SignedReceipt>(BY_COMPLETION, id)? {
                return Ok(signed);
            }
            let sequence = tx.get::<u64>(COUNTER, "next")?.unwrap_or(0);
            let built = receipt(completion, terms, sequence).and_then(|receipt| {
                let digest = receipt.digest();
                let signature = sign(&receipt, digest).map_err(Error::Signer)?;
                Ok((receipt, digest, signature))
            });
            let (receipt, digest, signature) = match built {
                Ok(built) => built,
                Err(error) => {
                    let reason = error.to_string();
                    refused = Some(error);
                    return Err(openledger_store::Error::Aborted(reason));
                }
            };
            let signed = SignedReceipt {
                completion: id.to_owned(),
                receipt,
                digest,
                signature,
                surprisals: completion.surprisals.clone(),
                prompt_tokens: completion.prompt_tokens.clone(),
                output_tokens: completion.output_tokens.clone(),
            };
            tx.put(COUNTER, "next", &(sequence + 1))?;
            tx.put_record(&signed.receipt)?;
            tx.put(BY_COMPLETION, id, &signed)?;
            tx.put(BY_DIGEST, &digest.to_string(), id)?;
            tx.append(LOG, id)?;
            also(tx, &signed)?;
            Ok(signed)
        });
        written.map_err(|error| refused.unwrap_or(Error::Store(error)))
    }

    /// The receipt of a completion id.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn by_completion(&self, id: &str) -> Result<Option<SignedReceipt>, Error> {
        Ok(self.catalogue.get(BY_COMPLETION, id)?)
    }

    /// The receipt with this digest.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn by_digest(&self, digest: B256) -> Result<Option<SignedReceipt>, Error> {
        let id: Option<String> = self.catalogue.get(BY_DIGEST, &digest.to_string())?;
        id.map_or(Ok(None), |id| self.by_completion(&id))
    }

    /// Receipts with numbers `from..`, at most `limit`, in order.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn from(&self, from: u64, limit: usize) -> Result<Vec<SignedReceipt>, Error> {
        let mut receipts = Vec::new();
        for (_, id) in self.catalogue.tail::<String>(LOG, from, limit)? {
            receipts.extend(self.by_completion(&id)?);
        }
        Ok(receipts)
    }

    /// Number of receipts: the next receipt's number.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn len(&self) -> Result<u64, Error> {
        Ok(self.catalogue.len(LOG)?)
    }

    /// Whether there is none.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn is_empty(&self) -> Result<bool, Error> {
        Ok(self.len()? == 0)
    }
}
