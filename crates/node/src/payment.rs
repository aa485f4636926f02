//! Who pays: API keys, vouchers, and the credit that stands behind them.

use std::collections::BTreeMap;

use openledger_primitives::records::Voucher;
use openledger_primitives::{Address, Wei};
use openledger_serving::{Account, Credit, CreditError, Presented, Reservation};

use crate::datanets::address_key;
use crate::inference::Payment;
use crate::wallets::Role;
use crate::{Error, Node, Result, clock};

/// How far ahead of its present debt the dev payer signs: 1 OPEN.
const DEV_VOUCHER_MARGIN: Wei = Wei::OPEN;
/// How long a dev voucher is good for, seconds.
const DEV_VOUCHER_LIFE: u64 = 30 * 24 * 3600;
/// `address -> Account`.
pub(crate) const ACCOUNTS: &str = "accounts";

impl Node {
    /// The wallet behind a payment, its voucher accepted.
    pub(crate) async fn payer(&self, payment: &Payment) -> Result<Address> {
        match payment {
            Payment::ApiKey(key) => {
                if self.dev_api_key().as_deref() == Some(key) {
                    Ok(self.wallets().address(Role::Payer))
                } else {
                    Err(Error::Unauthorized(
                        "this API key is unknown here; `openledger dev` prints the key of the \
                         dev payer, and a signed voucher needs none"
                            .into(),
                    ))
                }
            }
            Payment::Voucher(voucher, signature) => {
                let signer = self.contracts().voucher_signer(voucher, signature)?;
                let deposit = self.contracts().deposit_of(voucher.payer).await?;
                let presented = Presented {
                    voucher: voucher.clone(),
                    signer,
                    chain_id: Some(self.chain_id()),
                };
                let mut credit = self.credit();
                credit.set_deposit(voucher.payer, deposit);
                credit.accept(&presented, clock::unix_seconds())?;
                self.save_account(&credit, voucher.payer)?;
                Ok(voucher.payer)
            }
        }
    }

    /// Sets the highest fee aside. For the dev payer, whose key this node holds, a higher voucher
    /// is signed when the last one does not reach, and its deposit is read again.
    pub(crate) async fn reserve(&self, payer: Address, highest: Wei) -> Result<Reservation> {
        let now = clock::unix_seconds();
        let first = self.credit().reserve(payer, highest, now);
        let refused = match first {
            Ok(reservation) => return Ok(reservation),
            Err(error) => error,
        };
        let dev = payer == self.wallets().address(Role::Payer);
        let may_help = matches!(
            refused,
            CreditError::PaymentRequired { .. }
                | CreditError::NoVoucher { .. }
                | CreditError::Expired { .. }
        );
        if !dev || !may_help {
            return Err(refused.into());
        }
        let deposit = self.contracts().deposit_of(payer).await?;
        let mut credit = self.credit();
        credit.set_deposit(payer, deposit);
        let reach = credit
            .due(payer)
            .checked_add(credit.reserved(payer)?)?
            .checked_add(highest)?
            .checked_add(DEV_VOUCHER_MARGIN)?
            .min(deposit);
        let before = credit.account(payer).and_then(Account::voucher).cloned();
        let floor = before.as_ref().map_or(0, |voucher| voucher.maxCumulative);
        let voucher = Voucher {
            payer,
            settler: self.wallets().address(Role::Operator),
            maxCumulative: reach.get().max(floor),
            nonce: before.map_or(1, |voucher| voucher.nonce + 1),
            deadline: now + DEV_VOUCHER_LIFE,
        };
        let signature = self
            .contracts()
            .sign_voucher(&self.wallets().role(Role::Payer), &voucher)?;
        let signer = self.contracts().voucher_signer(&voucher, &signature)?;
        credit.accept(
            &Presented {
                voucher,
                signer,
                chain_id: Some(self.chain_id()),
            },
            now,
        )?;
        self.save_account(&credit, payer)?;
        Ok(credit.reserve(payer, highest, now)?)
    }

    fn save_account(&self, credit: &Credit, payer: Address) -> Result<()> {
        let Some(account) = credit.account(payer) else {
            return Ok(());
        };
        let key = address_key(payer);
        Ok(self
            .catalogue()
            .write(|tx| tx.put(ACCOUNTS, &key, account))?)
    }

    /// Puts the accounts of an earlier process back.
    pub(crate) fn restore_accounts(&self) -> Result<()> {
        let accounts = self.catalogue().list::<Account>(ACCOUNTS)?;
        let mut credit = self.credit();
        for (key, account) in accounts {
            let payer = key
                .parse()
                .map_err(|_| Error::Task(format!("account {key} is not an address")))?;
            credit.restore(payer, account);
        }
        Ok(())
    }

    /// Highest ceiling that each payer has signed for.
    pub(crate) fn signed_vouchers(&self) -> Result<BTreeMap<Address, Wei>> {
        let credit = self.credit();
        Ok(credit
            .accounts()
            .filter_map(|(payer, account)| {
                Some((*payer, Wei::new(account.voucher()?.maxCumulative)))
            })
            .collect())
    }
}

impl From<CreditError> for Error {
    fn from(error: CreditError) -> Self {
        let message = error.to_string();
        let code = match error {
            CreditError::PaymentRequired {
                needed,
                ceiling,
                deposit,
            } => {
                return Self::PaymentRequired {
                    needed,
                    available: ceiling.min(deposit),
                };
            }
            CreditError::NoVoucher { .. } => return Self::Unauthorized(message),
            CreditError::WrongPayer { .. } => "bad_signature",
            CreditError::WrongSettler { .. } => "wrong_settler",
            CreditError::WrongChain { .. } => "wrong_chain_id",
            CreditError::Expired { .. } => "voucher_expired",
            CreditError::StaleNonce { .. } => "stale_nonce",
            CreditError::Equivocation { .. } => "nonce_reused",
            CreditError::LowerCeiling { .. } => "lower_ceiling",
            CreditError::AboveReservation { .. }
            | CreditError::NotOpen(_)
            | CreditError::Amount(_) => return Self::Task(message),
        };
        Self::BadVoucher { code, message }
    }
}
