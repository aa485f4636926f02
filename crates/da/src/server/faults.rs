//! Faults on request, with the names of eigenda-proxy's memstore, and some of our own.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use openledger_primitives::B256;
use serde::{Deserialize, Serialize};

use crate::{InvalidReason, MAX_PAYLOAD_LEN};

/// How the server behaves badly just now.
pub(super) struct Faults(Mutex<Inner>);

struct Inner {
    settings: Settings,
    /// What payloads got an error in their place, until a restart. As in the memstore, taking
    /// the setting back does not heal what was put under it.
    invalid: HashMap<B256, DerivationError>,
}

/// `GET /memstore/config`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Settings {
    pub(super) max_blob_size_bytes: usize,
    /// How long payloads are kept; zero is for ever.
    #[serde(serialize_with = "go_duration::write")]
    pub(super) blob_expiration: Duration,
    #[serde(serialize_with = "go_duration::write")]
    pub(super) put_latency: Duration,
    #[serde(serialize_with = "go_duration::write")]
    pub(super) get_latency: Duration,
    pub(super) put_returns_failover_error: bool,
    pub(super) overwrite_put_with_derivation_error: Option<DerivationError>,
    /// Ours: answer 429 to puts and gets.
    pub(super) returns_rate_limit_error: bool,
    /// Ours: answer 500 to gets.
    pub(super) get_returns_error: bool,
}

/// The body of an answer 418.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DerivationError {
    pub(super) status_code: u8,
    #[serde(default)]
    pub(super) msg: String,
}

/// `PATCH /memstore/config`: what is absent stays as it is.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Update {
    max_blob_size_bytes: Option<usize>,
    blob_expiration: Option<String>,
    put_latency: Option<String>,
    get_latency: Option<String>,
    put_returns_failover_error: Option<bool>,
    nullable_derivation_error: Option<NullableDerivationError>,
    returns_rate_limit_error: Option<bool>,
    get_returns_error: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct NullableDerivationError {
    status_code: u8,
    msg: String,
    reset: bool,
}

impl Faults {
    pub(super) fn new(max_payload: usize, retention: Option<Duration>) -> Self {
        Self(Mutex::new(Inner {
            settings: Settings {
                max_blob_size_bytes: max_payload,
                blob_expiration: retention.unwrap_or_default(),
                put_latency: Duration::ZERO,
                get_latency: Duration::ZERO,
                put_returns_failover_error: false,
                overwrite_put_with_derivation_error: None,
                returns_rate_limit_error: false,
                get_returns_error: false,
            },
            invalid: HashMap::new(),
        }))
    }

    pub(super) fn settings(&self) -> Settings {
        self.lock().settings.clone()
    }

    /// Applies all of `update` or, with a reason, nothing.
    pub(super) fn update(&self, update: Update) -> Result<Settings, String> {
        let mut inner = self.lock();
        let mut settings = inner.settings.clone();
        let duration = |text: Option<String>, into: &mut Duration| match text {
            Some(text) => {
                *into =
                    go_duration::parse(&text).ok_or_else(|| format!("no duration: {text:?}"))?;
                Ok::<_, String>(())
            }
            None => Ok(()),
        };
        duration(update.put_latency, &mut settings.put_latency)?;
        duration(update.get_latency, &mut settings.get_latency)?;
        duration(update.blob_expiration, &mut settings.blob_expiration)?;
        if let Some(most) = update.max_blob_size_bytes {
            settings.max_blob_size_bytes = most.min(MAX_PAYLOAD_LEN);
        }
        let flag = |update: Option<bool>, into: &mut bool| *into = update.unwrap_or(*into);
        flag(
            update.put_returns_failover_error,
            &mut settings.put_returns_failover_error,
        );
        flag(
            update.returns_rate_limit_error,
            &mut settings.returns_rate_limit_error,
        );
        flag(update.get_returns_error, &mut settings.get_returns_error);
        match update.nullable_derivation_error {
            None => {}
            Some(error) if error.reset => settings.overwrite_put_with_derivation_error = None,
            Some(NullableDerivationError {
                status_code, msg, ..
            }) => {
                if InvalidReason::from_code(status_code).is_none() {
                    return Err(format!("StatusCode is 1 to 4, not {status_code}"));
                }
                settings.overwrite_put_with_derivation_error =
                    Some(DerivationError { status_code, msg });
            }
        }
        inner.settings = settings.clone();
        Ok(settings)
    }

    /// Marks a payload that is put while a derivation error is set.
    pub(super) fn mark(&self, digest: B256) {
        let mut inner = self.lock();
        if let Some(error) = inner.settings.overwrite_put_with_derivation_error.clone() {
            inner.invalid.entry(digest).or_insert(error);
        }
    }

    /// The error that the payload got in its place.
    pub(super) fn marked(&self, digest: &B256) -> Option<DerivationError> {
        self.lock().invalid.get(digest).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Durations as Go writes them: `1h2m3.5s`, `250ms`, `0s`.
mod go_duration {
    use std::time::Duration;

    use serde::Serializer;

    const UNITS: [(&str, u64); 6] = [
        ("ms", 1_000_000),
        ("us", 1_000),
        ("ns", 1),
        ("h", 3_600_000_000_000),
        ("m", 60_000_000_000),
        ("s", 1_000_000_000),
    ];

    pub(super) fn parse(text: &str) -> Option<Duration> {
        if text == "0" {
            return Some(Duration::ZERO);
        }
        let mut rest = text;
        let mut total = Duration::ZERO;
        while !rest.is_empty() {
            let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
            let (number, tail) = rest.split_at(end);
            let (unit, nanos) = UNITS.into_iter().find(|(unit, _)| tail.starts_with(unit))?;
            let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
            let whole = whole.parse::<u64>().ok()?.checked_mul(nanos)?;
            let digits = u32::try_from(part.len())
                .ok()
                .filter(|digits| *digits <= 9)?;
            let part = u128::from(part.parse::<u64>().ok()?);
            let part = part * u128::from(nanos) / 10u128.pow(digits);
            total = total
                .checked_add(Duration::from_nanos(whole))?
                .checked_add(Duration::from_nanos(part.try_into().ok()?))?;
            rest = &tail[unit.len()..];
        }
        (!text.is_empty()).then_some(total)
    }

    pub(super) fn show(duration: Duration) -> String {
        let (seconds, nanos) = (duration.as_secs(), duration.subsec_nanos());
        let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        let fraction = format!("{nanos:09}");
        let fraction = fraction.trim_end_matches('0');
        let dot = if fraction.is_empty() { "" } else { "." };
        match (hours, minutes) {
            (0, 0) => format!("{seconds}{dot}{fraction}s"),
            (0, _) => format!("{minutes}m{seconds}{dot}{fraction}s"),
            _ => format!("{hours}h{minutes}m{seconds}{dot}{fraction}s"),
        }
    }

    pub(super) fn write<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&show(*duration))
    }

    #[cfg(test)]
    mod tests {
        #![allow(clippy::unwrap_used, reason = "tests")]

        use super::*;

        #[test]
        fn reads_what_go_writes() {
            let ms = |ms| Some(Duration::from_millis(ms));
            assert_eq!(parse("25m0s"), ms(1_500_000));
            assert_eq!(parse("1h2m3.5s"), ms(3_723_500));
            assert_eq!(parse("250ms"), ms(250));
            assert_eq!(parse("0"), ms(0));
            for wrong in ["", "5", "s", "-1s", "1d", "1.s", "9999999999999h", "1s2"] {
                assert_eq!(parse(wrong), None, "{wrong}");
            }
            for text in [
                "0s",
                "25m0s",
                "1h2m3.5s",
                "0.25s",
                "336h0m0s",
                "0.000000001s",
            ] {
                assert_eq!(show(parse(text).unwrap()), text);
            }
        }
    }
}
