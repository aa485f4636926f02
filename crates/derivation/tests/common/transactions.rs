//! Transactions and logs.

use super::*;

pub fn signed(signer: &PrivateKeySigner, nonce: u64, to: Address, input: Bytes) -> Bytes {
    let tx = TxEip1559 {
        chain_id: L1_CHAIN,
        nonce,
        gas_limit: 1_000_000,
        max_fee_per_gas: 10,
        max_priority_fee_per_gas: 1,
        to: TxKind::Call(to),
        input,
        ..Default::default()
    };
    let signature = signer
        .sign_hash_sync(&tx.signature_hash())
        .expect("signing");
    TxEnvelope::from(tx.into_signed(signature))
        .encoded_2718()
        .into()
}

fn word(rng: &mut ChaCha8Rng) -> B256 {
    let mut word = B256::ZERO;
    rng.fill_bytes(word.as_mut_slice());
    // Some have leading zeros, which integers lose.
    let zeros = (rng.next_u32() % 40) as usize;
    if zeros < 31 && rng.next_u32().is_multiple_of(4) {
        word[..zeros].fill(0);
    }
    word
}

fn number(rng: &mut ChaCha8Rng) -> u64 {
    rng.next_u64() >> (rng.next_u32() % 64)
}

fn signature(rng: &mut ChaCha8Rng) -> Signature {
    Signature::new(
        word(rng).into(),
        word(rng).into(),
        rng.next_u32().is_multiple_of(2),
    )
}

/// A transaction of any type that the layer 2 knows. Its signature is nobody's.
pub fn random_transaction(rng: &mut ChaCha8Rng) -> Bytes {
    let mut input = vec![0; (rng.next_u32() % 80) as usize];
    rng.fill_bytes(&mut input);
    let input = Bytes::from(input);
    let to = match rng.next_u32() % 5 {
        0 => TxKind::Create,
        _ => TxKind::Call(Address::from_word(word(rng))),
    };
    let value = U256::from_be_bytes(word(rng).0);
    let access_list = AccessList(
        (0..rng.next_u32() % 3)
            .map(|_| AccessListItem {
                address: Address::from_word(word(rng)),
                storage_keys: (0..rng.next_u32() % 3).map(|_| word(rng)).collect(),
            })
            .collect(),
    );
    let (nonce, gas_limit) = (number(rng), number(rng));
    let (low, high) = (u128::from(number(rng)), u128::from(number(rng)));
    let kind = rng.next_u32() % 5;
    let signature = signature(rng);
    let envelope: TxEnvelope = match kind {
        0 | 1 => TxLegacy {
            chain_id: (kind == 0).then_some(L2_CHAIN),
            nonce,
            gas_price: low,
            gas_limit,
            to,
            value,
            input,
        }
        .into_signed(signature)
        .into(),
        2 => TxEip2930 {
            chain_id: L2_CHAIN,
            nonce,
            gas_price: low,
            gas_limit,
            to,
            value,
            access_list,
            input,
        }
        .into_signed(signature)
        .into(),
        3 => TxEip1559 {
            chain_id: L2_CHAIN,
            nonce,
            gas_limit,
            max_fee_per_gas: high,
            max_priority_fee_per_gas: low,
            to,
            value,
            access_list,
            input,
        }
        .into_signed(signature)
        .into(),
        _ => TxEip7702 {
            chain_id: L2_CHAIN,
            nonce,
            gas_limit,
            max_fee_per_gas: high,
            max_priority_fee_per_gas: low,
            to: Address::from_word(word(rng)),
            value,
            access_list,
            authorization_list: (0..1 + rng.next_u32() % 3)
                .map(|i| {
                    SignedAuthorization::new_unchecked(
                        Authorization {
                            chain_id: U256::from(i * L2_CHAIN as u32),
                            address: Address::from_word(word(rng)),
                            nonce: number(rng),
                        },
                        (rng.next_u32() % 2) as u8,
                        word(rng).into(),
                        word(rng).into(),
                    )
                })
                .collect(),
            input,
        }
        .into_signed(signature)
        .into(),
    };
    envelope.encoded_2718().into()
}

/// A blob transaction of the batcher to the inbox.
pub fn blob_transaction(blob_versioned_hashes: Vec<B256>) -> Bytes {
    let tx = TxEip4844 {
        chain_id: L1_CHAIN,
        gas_limit: 21_000,
        max_fee_per_gas: 10,
        max_fee_per_blob_gas: 10,
        to: INBOX,
        blob_versioned_hashes,
        ..Default::default()
    };
    let signature = batcher()
        .sign_hash_sync(&tx.signature_hash())
        .expect("signing");
    TxEnvelope::from(tx.into_signed(signature))
        .encoded_2718()
        .into()
}

/// The log of a deposit.
pub fn deposit_log(from: Address, to: Address, opaque: &[u8]) -> Log {
    let mut data = vec![0; 64];
    data[31] = 32;
    data[56..64].copy_from_slice(&(opaque.len() as u64).to_be_bytes());
    data.extend_from_slice(opaque);
    data.resize(data.len().next_multiple_of(32), 0);
    let topics = vec![DEPOSIT_TOPIC, from.into_word(), to.into_word(), B256::ZERO];
    Log {
        address: PORTAL,
        data: LogData::new_unchecked(topics, data.into()),
    }
}

/// What a deposit says, tightly packed.
pub fn opaque(mint: u128, value: u128, gas: u64, creation: bool, data: &[u8]) -> Vec<u8> {
    let mut out = U256::from(mint).to_be_bytes_vec();
    out.extend(U256::from(value).to_be_bytes_vec());
    out.extend_from_slice(&gas.to_be_bytes());
    out.push(creation.into());
    out.extend_from_slice(data);
    out
}

/// The log of a config update of one or more words.
pub fn config_log(kind: u8, words: &[U256]) -> Log {
    let mut data = U256::from(32).to_be_bytes_vec();
    data.extend(U256::from(32 * words.len()).to_be_bytes_vec());
    words
        .iter()
        .for_each(|word| data.extend(word.to_be_bytes_vec()));
    let topics = vec![CONFIG_UPDATE_TOPIC, B256::ZERO, B256::with_last_byte(kind)];
    Log {
        address: SYSTEM,
        data: LogData::new_unchecked(topics, data.into()),
    }
}

/// Transactions of a block of [`World::sequence_mix`].
pub const MIX_BLOCK: usize = 50;

impl World {
    /// Blocks of transfers, half native and half ERC-20, among 200 senders and 1000 receivers.
    pub fn sequence_mix(&mut self, transactions: usize) {
        let mut nonces = vec![0u64; 200];
        let receivers: Vec<Address> = (0..1000u32)
            .map(|i| Address::from_word(keccak256(i.to_be_bytes())))
            .collect();
        let token = Address::repeat_byte(0x70);
        let mut left = transactions;
        while left > 0 {
            if self.l2.head().timestamp + L2_TIME >= GENESIS_TIME + L1_TIME * (self.l1.head() + 1) {
                self.l1.push(Vec::new(), &[]);
            }
            let count = left.min(MIX_BLOCK);
            left -= count;
            let user = (0..count)
                .map(|i| {
                    let rng = &mut self.rng;
                    let sender = (rng.next_u32() % 200) as usize;
                    let nonce = nonces[sender];
                    nonces[sender] += 1;
                    let receiver = receivers[(rng.next_u32() % 1000) as usize];
                    let amount =
                        U256::from(rng.next_u64() % 1_000_000) * U256::from(10).pow(U256::from(12));
                    let (gas_limit, to, value, input) = if i % 2 == 0 {
                        (21_000, receiver, amount, Bytes::new())
                    } else {
                        let mut input = vec![0xa9, 0x05, 0x9c, 0xbb];
                        input.extend(receiver.into_word());
                        input.extend(amount.to_be_bytes::<32>());
                        (65_000, token, U256::ZERO, input.into())
                    };
                    let mut bytes = [0; 64];
                    rng.fill_bytes(&mut bytes);
                    // The upper half of s is not used, so one bit of it is none.
                    bytes[32] &= 0x7f;
                    let signature = Signature::new(
                        U256::from_be_slice(&bytes[..32]),
                        U256::from_be_slice(&bytes[32..]),
                        rng.next_u32().is_multiple_of(2),
                    );
                    let tx = TxEip1559 {
                        chain_id: L2_CHAIN,
                        nonce,
                        gas_limit,
                        max_fee_per_gas: 2_000_000_000,
                        max_priority_fee_per_gas: 1_000_000,
                        to: TxKind::Call(to),
                        value,
                        input,
                        ..Default::default()
                    };
                    TxEnvelope::from(tx.into_signed(signature))
                        .encoded_2718()
                        .into()
                })
                .collect();
            self.sequence(user);
        }
    }
}
