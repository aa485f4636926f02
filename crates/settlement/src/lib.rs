//! Who is paid what: the pure integer rules between an epoch's receipts and the two roots that the
//! chain sees (docs/protocol/rewards.md).
//!
//! ```text
//! receipts + reports ──close_epoch──▶ lines ─▶ credits ─▶ cumulative trees ─▶ EpochSettlement
//!   (fee, surprisals,                 (receipt, row, earner,
//!    covers, scores)                   channel, amount)
//! ```
//!
//! The one hard decision here: **the commons take every rounding**. Each share is a floor that
//! depends on its own claim and on a total fixed beforehand, so no share needs a tie rule, no order
//! of evaluation exists, nobody's pay depends on who else was rounded, and splitting a claim in
//! pieces can lose a wei but never win one (`floor(a) + floor(b) <= floor(a + b)`). The price is
//! that a few wei an epoch go to the Datanet's commons instead of a contributor.
//!
//! Every credit is the sum of [`Line`]s and every line names the receipt or epoch, the row and the
//! reason it exists for; what is not paid to a contributor is a line too, with an [`Unpaid`] code.
//!
//! This crate does no I/O, reads no clock, uses no float and holds no randomness: same input, same
//! bytes, on every machine.
//!
//! ```
//! use openledger_primitives::{Wei, records::Parameters};
//! use openledger_settlement::{Prices, Split};
//!
//! let prices = Prices { prompt: Wei::new(10), output: Wei::new(30) };
//! let fee = prices.fee(7, 21)?;
//! let parts = Split::new(&Parameters::default())?.parts(fee)?;
//! assert_eq!(fee, Wei::new(700));
//! assert_eq!(parts.contributors, Wei::new(280));
//! assert_eq!(parts.total()?, fee);
//! # Ok::<(), openledger_settlement::Error>(())
//! ```
#![deny(
    clippy::float_arithmetic,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::as_conversions
)]

mod book;
mod cumulative;
mod epoch;
mod error;
mod fee;
mod gradient;
mod input;
mod line;
mod span;
mod threshold;

pub use cumulative::{Cumulative, CumulativeProof};
pub use epoch::{EpochOutput, ModelOutcome, Totals, close_epoch};
pub use error::Error;
pub use fee::{FeeParts, Prices, Split};
pub use gradient::{GradientPay, NetScore, pay_by_score, pay_equally};
pub use input::{EpochInput, Inference, Model, Quality, Row};
pub use line::{Channel, Line, Role, Unpaid};
pub use span::{SpanPay, pay_spans};
pub use threshold::{Threshold, quantile};

/// One in score units: a cosine of 1 is `1 << 20`.
pub const SCORE_ONE: i32 = 1 << 20;
