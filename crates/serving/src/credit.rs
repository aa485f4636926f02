//! Paying without transactions: deposits, cumulative vouchers, reservations.
//!
//! A payer deposits once on chain and signs vouchers; each says "in all, the settler may take up
//! to this much from me". Before an answer is generated its highest possible fee is reserved
//! against both the voucher and the deposit; after it the true fee is due and the rest is free
//! again. So no answer is ever generated that cannot be paid, however many run at once.
//!
//! Pure integer rules: no clock, no signatures (the caller recovers the signer and passes the
//! time), no storage. The caller persists [`Account`]s beside the receipts.

use std::collections::BTreeMap;

use openledger_primitives::records::Voucher;
use openledger_primitives::{Address, AmountError, B256, Record, Wei};
use serde::{Deserialize, Serialize};

/// Why a voucher or a request is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CreditError {
    /// Signed by someone else than the payer it names.
    #[error("the voucher names payer {payer} but {signer} signed it")]
    WrongPayer {
        /// Payer in the voucher.
        payer: Address,
        /// Who signed: for a signature made for another chain or contract this is an unrelated
        /// address.
        signer: Address,
    },
    /// Made out to another settler.
    #[error("the voucher is made out to settler {found}, this one is {expected}")]
    WrongSettler {
        /// Settler in the voucher.
        found: Address,
        /// This network's settlement contract.
        expected: Address,
    },
    /// Signed for another chain.
    #[error("the voucher is signed for chain {found}, this one is {expected}")]
    WrongChain {
        /// Chain the payer signed for.
        found: u64,
        /// This chain.
        expected: u64,
    },
    /// Past its deadline.
    #[error("the voucher expired at {deadline}, it is {now}")]
    Expired {
        /// Deadline, Unix seconds.
        deadline: u64,
        /// Time of the check, Unix seconds.
        now: u64,
    },
    /// Older than one already accepted.
    #[error("the voucher's nonce {found} is older than {newest}, already accepted")]
    StaleNonce {
        /// Nonce in the voucher.
        found: u64,
        /// Newest accepted.
        newest: u64,
    },
    /// The same nonce with other content.
    #[error("another voucher with nonce {nonce} was already accepted")]
    Equivocation {
        /// The nonce.
        nonce: u64,
    },
    /// A newer voucher must not promise less.
    #[error("the voucher's ceiling of {found} wei is below the {accepted} wei already accepted")]
    LowerCeiling {
        /// Ceiling in the voucher.
        found: Wei,
        /// Highest ceiling accepted.
        accepted: Wei,
    },
    /// No voucher of this payer was accepted yet.
    #[error("payer {payer} has shown no voucher")]
    NoVoucher {
        /// The payer.
        payer: Address,
    },
    /// Deposit or voucher do not cover the highest possible fee (HTTP 402).
    #[error(
        "payment required: {needed} wei are needed in all, the voucher covers {ceiling} and the deposit {deposit}"
    )]
    PaymentRequired {
        /// Everything due so far, reserved, and the highest fee of this request.
        needed: Wei,
        /// The voucher's ceiling.
        ceiling: Wei,
        /// Everything the payer deposited, less withdrawals.
        deposit: Wei,
    },
    /// The true fee is above the reserved one.
    #[error("a fee of {fee} wei exceeds the {reserved} wei reserved for it")]
    AboveReservation {
        /// The fee.
        fee: Wei,
        /// What was reserved.
        reserved: Wei,
    },
    /// The reservation is unknown or already settled.
    #[error("reservation {0} is not open")]
    NotOpen(u64),
    /// An amount left its range.
    #[error(transparent)]
    Amount(#[from] AmountError),
}

/// One payer's standing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Deposited on chain, less withdrawals, plus nothing else: wei since the first epoch. Compared
    /// with cumulative debits, so debits already settled on chain must not be subtracted from it.
    deposit: u128,
    /// Fees of all answers, settled or not: wei since the first epoch.
    due: u128,
    /// Newest voucher accepted.
    voucher: Option<Voucher>,
}

/// A voucher together with what its signature proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presented {
    /// The voucher.
    pub voucher: Voucher,
    /// Address recovered from the signature under this chain's domain.
    pub signer: Address,
    /// Chain id the client says it signed for, where the transport carries one.
    pub chain_id: Option<u64>,
}

/// A highest fee set aside for one request. Settle or release it; a lost one stays reserved.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a reservation that is neither settled nor released blocks the payer's credit"]
pub struct Reservation {
    id: u64,
    /// Who pays.
    pub payer: Address,
    /// What is set aside.
    pub amount: Wei,
    /// Digest of the voucher that covers it; goes into the receipt.
    pub voucher: B256,
}

/// The credit of all payers of one operator.
#[derive(Clone, Debug)]
pub struct Credit {
    chain_id: u64,
    settler: Address,
    accounts: BTreeMap<Address, Account>,
    open: BTreeMap<u64, (Address, Wei)>,
    next: u64,
}

impl Credit {
    /// No accounts, for vouchers made out to `settler` on chain `chain_id`.
    pub fn new(chain_id: u64, settler: Address) -> Self {
        Self {
            chain_id,
            settler,
            accounts: BTreeMap::new(),
            open: BTreeMap::new(),
            next: 0,
        }
    }

    /// The accounts, to persist.
    pub fn accounts(&self) -> impl Iterator<Item = (&Address, &Account)> {
        self.accounts.iter()
    }

    /// One account.
    pub fn account(&self, payer: Address) -> Option<&Account> {
        self.accounts.get(&payer)
    }

    /// Puts back a persisted account. Reservations do not survive a restart: what they were for
    /// did not either.
    pub fn restore(&mut self, payer: Address, account: Account) {
        self.accounts.insert(payer, account);
    }

    /// The deposit of `payer` as the chain shows it (deposits less withdrawals, debits not
    /// subtracted).
    pub fn set_deposit(&mut self, payer: Address, deposit: Wei) {
        self.accounts.entry(payer).or_default().deposit = deposit.get();
    }

    /// Checks a voucher and accepts it if it is the newest.
    ///
    /// # Errors
    /// The first rule it breaks; the account is unchanged then.
    pub fn accept(&mut self, presented: &Presented, now: u64) -> Result<(), CreditError> {
        let voucher = &presented.voucher;
        if let Some(found) = presented.chain_id.filter(|found| *found != self.chain_id) {
            return Err(CreditError::WrongChain {
                found,
                expected: self.chain_id,
            });
        }
        if voucher.settler != self.settler {
            return Err(CreditError::WrongSettler {
                found: voucher.settler,
                expected: self.settler,
            });
        }
        if voucher.payer != presented.signer {
            return Err(CreditError::WrongPayer {
                payer: voucher.payer,
                signer: presented.signer,
            });
        }
        if voucher.deadline < now {
            return Err(CreditError::Expired {
                deadline: voucher.deadline,
                now,
            });
        }
        if let Some(accepted) = self
            .accounts
            .get(&voucher.payer)
            .and_then(|account| account.voucher.as_ref())
        {
            if accepted == voucher {
                return Ok(());
            }
            if voucher.nonce < accepted.nonce {
                return Err(CreditError::StaleNonce {
                    found: voucher.nonce,
                    newest: accepted.nonce,
                });
            }
            if voucher.nonce == accepted.nonce {
                return Err(CreditError::Equivocation {
                    nonce: voucher.nonce,
                });
            }
            if voucher.maxCumulative < accepted.maxCumulative {
                return Err(CreditError::LowerCeiling {
                    found: Wei::new(voucher.maxCumulative),
                    accepted: Wei::new(accepted.maxCumulative),
                });
            }
        }
        self.accounts.entry(voucher.payer).or_default().voucher = Some(voucher.clone());
        Ok(())
    }

    /// Sets aside `highest_fee` of `payer`'s credit.
    ///
    /// # Errors
    /// [`CreditError::NoVoucher`], [`CreditError::Expired`] or [`CreditError::PaymentRequired`]
    /// with the amounts.
    pub fn reserve(
        &mut self,
        payer: Address,
        highest_fee: Wei,
        now: u64,
    ) -> Result<Reservation, CreditError> {
        let account = self
            .accounts
            .get(&payer)
            .ok_or(CreditError::NoVoucher { payer })?;
        let voucher = account
            .voucher
            .as_ref()
            .ok_or(CreditError::NoVoucher { payer })?;
        if voucher.deadline < now {
            return Err(CreditError::Expired {
                deadline: voucher.deadline,
                now,
            });
        }
        let needed = Wei::new(account.due)
            .checked_add(self.reserved(payer)?)?
            .checked_add(highest_fee)?;
        let (ceiling, deposit) = (Wei::new(voucher.maxCumulative), Wei::new(account.deposit));
        if needed > ceiling || needed > deposit {
            return Err(CreditError::PaymentRequired {
                needed,
                ceiling,
                deposit,
            });
        }
        let id = self.next;
        self.next += 1;
        self.open.insert(id, (payer, highest_fee));
        Ok(Reservation {
            id,
            payer,
            amount: highest_fee,
            voucher: voucher.digest(),
        })
    }

    /// What is set aside for `payer`'s open requests.
    ///
    /// # Errors
    /// [`CreditError::Amount`] if the sum leaves its range.
    pub fn reserved(&self, payer: Address) -> Result<Wei, CreditError> {
        let open = self.open.values().filter(|(who, _)| *who == payer);
        Ok(Wei::total(open.map(|(_, amount)| *amount))?)
    }

    /// Everything `payer` owes since the first epoch.
    pub fn due(&self, payer: Address) -> Wei {
        self.accounts
            .get(&payer)
            .map_or(Wei::ZERO, |account| Wei::new(account.due))
    }

    /// Turns a reservation into the true `fee`; the rest is free again.
    ///
    /// # Errors
    /// [`CreditError::AboveReservation`] if `fee` is more than was reserved,
    /// [`CreditError::NotOpen`] if the reservation is not of this ledger.
    pub fn settle(&mut self, reservation: &Reservation, fee: Wei) -> Result<(), CreditError> {
        if fee > reservation.amount {
            return Err(CreditError::AboveReservation {
                fee,
                reserved: reservation.amount,
            });
        }
        if !self.open.contains_key(&reservation.id) {
            return Err(CreditError::NotOpen(reservation.id));
        }
        let account = self.accounts.entry(reservation.payer).or_default();
        account.due = Wei::new(account.due).checked_add(fee)?.get();
        self.open.remove(&reservation.id);
        Ok(())
    }

    /// Gives a reservation back: the request was cancelled or failed.
    pub fn release(&mut self, reservation: &Reservation) {
        self.open.remove(&reservation.id);
    }
}

impl Account {
    /// Everything owed since the first epoch, wei.
    pub fn due(&self) -> Wei {
        Wei::new(self.due)
    }

    /// The deposit, wei.
    pub fn deposit(&self) -> Wei {
        Wei::new(self.deposit)
    }

    /// The newest voucher.
    pub fn voucher(&self) -> Option<&Voucher> {
        self.voucher.as_ref()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    const NOW: u64 = 1_000;

    fn payer() -> Address {
        Address::repeat_byte(1)
    }

    fn settler() -> Address {
        Address::repeat_byte(9)
    }

    fn voucher(nonce: u64, ceiling: u128) -> Presented {
        Presented {
            voucher: Voucher {
                payer: payer(),
                settler: settler(),
                maxCumulative: ceiling,
                nonce,
                deadline: NOW + 10,
            },
            signer: payer(),
            chain_id: Some(7),
        }
    }

    fn credit(deposit: u128, ceiling: u128) -> Credit {
        let mut credit = Credit::new(7, settler());
        credit.set_deposit(payer(), Wei::new(deposit));
        credit.accept(&voucher(1, ceiling), NOW).unwrap();
        credit
    }

    #[test]
    fn each_rule_has_its_own_error() {
        let mut credit = credit(100, 100);
        let mut refuse = |change: fn(&mut Presented), now: u64| {
            let mut presented = voucher(2, 100);
            change(&mut presented);
            credit.accept(&presented, now).unwrap_err()
        };
        assert!(matches!(
            refuse(|p| p.signer = Address::ZERO, NOW),
            CreditError::WrongPayer { .. }
        ));
        assert!(matches!(
            refuse(|p| p.voucher.settler = Address::ZERO, NOW),
            CreditError::WrongSettler { .. }
        ));
        assert!(matches!(
            refuse(|p| p.chain_id = Some(8), NOW),
            CreditError::WrongChain {
                found: 8,
                expected: 7
            }
        ));
        assert!(matches!(
            refuse(|_| {}, NOW + 11),
            CreditError::Expired { .. }
        ));
        assert!(matches!(
            refuse(|p| p.voucher.nonce = 0, NOW),
            CreditError::StaleNonce {
                found: 0,
                newest: 1
            }
        ));
        assert!(matches!(
            refuse(
                |p| (p.voucher.nonce, p.voucher.maxCumulative) = (1, 101),
                NOW
            ),
            CreditError::Equivocation { nonce: 1 }
        ));
        assert!(matches!(
            refuse(|p| p.voucher.maxCumulative = 99, NOW),
            CreditError::LowerCeiling { .. }
        ));
        credit.accept(&voucher(1, 100), NOW).unwrap();
        credit.accept(&voucher(2, 150), NOW).unwrap();
    }

    #[test]
    fn lack_of_funds_names_the_amounts() {
        let mut credit = credit(50, 80);
        let first = credit.reserve(payer(), Wei::new(30), NOW).unwrap();
        let error = credit.reserve(payer(), Wei::new(30), NOW).unwrap_err();
        assert_eq!(
            error,
            CreditError::PaymentRequired {
                needed: Wei::new(60),
                ceiling: Wei::new(80),
                deposit: Wei::new(50),
            }
        );
        credit.settle(&first, Wei::new(10)).unwrap();
        assert_eq!(credit.due(payer()), Wei::new(10));
        let second = credit.reserve(payer(), Wei::new(40), NOW).unwrap();
        assert!(matches!(
            credit.settle(&second, Wei::new(41)),
            Err(CreditError::AboveReservation { .. })
        ));
        credit.release(&second);
        assert!(matches!(
            credit.settle(&second, Wei::new(1)),
            Err(CreditError::NotOpen(_))
        ));
        assert!(matches!(
            credit.reserve(Address::ZERO, Wei::new(1), NOW),
            Err(CreditError::NoVoucher { .. })
        ));
        assert!(matches!(
            credit.reserve(payer(), Wei::new(1), NOW + 11),
            Err(CreditError::Expired { .. })
        ));
    }

    #[test]
    fn an_account_survives_a_restart_through_json() {
        let mut credit = credit(u128::MAX, u128::MAX);
        let reservation = credit
            .reserve(payer(), Wei::new(u128::MAX / 2), NOW)
            .unwrap();
        credit
            .settle(&reservation, Wei::new(u128::MAX / 2))
            .unwrap();
        let json = serde_json::to_string(credit.account(payer()).unwrap()).unwrap();
        let mut again = Credit::new(7, settler());
        again.restore(payer(), serde_json::from_str(&json).unwrap());
        assert_eq!(again.account(payer()), credit.account(payer()));
        assert_eq!(again.due(payer()), Wei::new(u128::MAX / 2));
    }

    proptest! {
        /// Whatever happens, what is due and reserved stays within deposit and voucher.
        #[test]
        fn nobody_overdraws(steps in proptest::collection::vec((0u8..4, 0u128..60), 1..60)) {
            let mut credit = credit(200, 150);
            let mut open: Vec<Reservation> = Vec::new();
            let mut fees = 0;
            for (kind, amount) in steps {
                match kind {
                    0 | 1 => open.extend(credit.reserve(payer(), Wei::new(amount), NOW)),
                    2 => {
                        if let Some(reservation) = open.pop() {
                            let fee = reservation.amount.get().min(amount);
                            credit.settle(&reservation, Wei::new(fee)).unwrap();
                            fees += fee;
                        }
                    }
                    _ => {
                        if let Some(reservation) = open.pop() {
                            credit.release(&reservation);
                        }
                    }
                }
                let reserved: u128 = open.iter().map(|r| r.amount.get()).sum();
                prop_assert_eq!(credit.due(payer()).get(), fees);
                prop_assert_eq!(credit.reserved(payer()).unwrap().get(), reserved);
                prop_assert!(fees + reserved <= 150);
            }
        }
    }
}
