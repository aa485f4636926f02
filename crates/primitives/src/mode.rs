//! How the numbers behind a record were computed.

use core::fmt;

use serde::{Deserialize, Serialize};

/// The arithmetic of a run, an answer or a report, as records carry it in their `mode` field.
///
/// What decides money is [`Mode::Exact`]: everybody who computes it again gets the same bits
/// (docs/protocol/arithmetic.md).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Same bits for any thread count, batch and instruction set. `0` in a record.
    #[default]
    Exact,
    /// Lower precision at the machine's speed; bits depend on the kind of machine. `1` in a record.
    Fast,
}

impl Mode {
    /// The word for people and for JSON: `exact` or `fast`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Fast => "fast",
        }
    }

    /// Whether `mode`, as found in a record, is [`Mode::Exact`]: what attribution and settlement
    /// ask before they look at anything else.
    pub const fn is_exact(mode: u8) -> bool {
        mode == 0
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl From<Mode> for u8 {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Exact => 0,
            Mode::Fast => 1,
        }
    }
}

/// A record names a mode that this version of the protocol does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("arithmetic mode {0} is not known")]
pub struct UnknownMode(pub u8);

impl TryFrom<u8> for Mode {
    type Error = UnknownMode;

    fn try_from(mode: u8) -> Result<Self, UnknownMode> {
        match mode {
            0 => Ok(Self::Exact),
            1 => Ok(Self::Fast),
            other => Err(UnknownMode(other)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn numbers_and_words_read_back() {
        for mode in [Mode::Exact, Mode::Fast] {
            assert_eq!(Mode::try_from(u8::from(mode)).unwrap(), mode);
            let word = serde_json::to_value(mode).unwrap();
            assert_eq!(word, mode.name());
            assert_eq!(serde_json::from_value::<Mode>(word).unwrap(), mode);
            assert_eq!(Mode::is_exact(mode.into()), mode == Mode::Exact);
        }
        assert_eq!(Mode::try_from(2), Err(UnknownMode(2)));
        assert!(!Mode::is_exact(2));
    }
}
