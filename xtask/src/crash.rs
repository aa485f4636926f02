//! `kill -9` at random moments of the loop, then resume: nothing acknowledged may be lost or
//! doubled.
//!
//! One run is left alone as the reference. A second one is killed several times at moments drawn
//! from a printed seed, each time resumed on the same data directory, and at last allowed to
//! finish. Whatever counts people, rows, answers or money must then equal the reference; a third
//! start on the finished directory must change nothing at all.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::cli_docs::debug_binary;
use crate::environment::Repo;
use crate::network::{Block, Network, TINY, scratch};
use crate::test::Options;

const KILLS: u32 = 8;
const LIMIT: Duration = Duration::from_secs(600);

/// What must not depend on how often the machine died. Hashes and block numbers are left out:
/// timestamps follow the clock, so two runs have different blocks.
const SAME_AS_REFERENCE: [&str; 13] = [
    "/contributions",
    "/contributors",
    "/adapter/base",
    "/adapter/steps",
    "/adapter/loss_first",
    "/adapter/loss_last",
    "/inferences",
    "/attribution",
    "/settlement/fees_wei",
    "/settlement/paid_wei",
    "/settlement/claims",
    "/settlement/conserved",
    "/settlement/epoch",
];

/// What a start on a finished directory must find unchanged.
const SAME_AFTER_RESTART: [&str; 6] = [
    "/contributions",
    "/contributors",
    "/adapter",
    "/inferences",
    "/attribution",
    "/settlement",
];

pub(crate) fn run_step(repo: &Repo, _: &Options) -> Result<()> {
    let binary = debug_binary(repo)?;
    let started = Instant::now();
    let reference = to_the_end(repo, &binary, &scratch(repo, "crash-reference")?)
        .context("the run that is left alone")?;
    let whole = started.elapsed();
    money_adds_up(&reference)?;

    let mut random = Random::from_environment()?;
    let dir = scratch(repo, "crash")?;
    let mut acknowledged: Option<Block> = None;
    for round in 1..=KILLS {
        // Short enough that the kills spread over the loop instead of following its end.
        let delay = whole.mul_f64(0.01 + 0.28 * random.unit());
        let mut network = Network::start(repo, &binary, &dir, &TINY)?;
        let until = Instant::now() + delay;
        let mut checked = acknowledged.is_none();
        while Instant::now() < until {
            if let Some(status) = network.ended()? {
                bail!(
                    "round {round}: it ended by itself with {status}{}",
                    network.log_tail()
                );
            }
            if let Some(block) = network.block(None) {
                if !checked {
                    still_there(&network, acknowledged.as_ref())?;
                    checked = true;
                }
                acknowledged = Some(block);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        network.cut_off()?;
        let head = acknowledged.as_ref().map_or(0, |block| block.number);
        println!(
            "round {round}: killed after {:.2} s, at block {head}",
            delay.as_secs_f64()
        );
    }
    let mut network = Network::start(repo, &binary, &dir, &TINY)?;
    let resumed = network.summary(LIMIT).context("after the last kill")?;
    still_there(&network, acknowledged.as_ref())?;
    network.stop()?;
    money_adds_up(&resumed)?;
    same(&SAME_AS_REFERENCE, &reference, &resumed).context("killed and left alone differ")?;

    let again = to_the_end(repo, &binary, &dir).context("a start on the finished directory")?;
    same(&SAME_AFTER_RESTART, &resumed, &again).context("a restart changed something")?;
    println!("crash: {KILLS} kills, nothing lost, nothing doubled");
    Ok(())
}

/// A block that was once shown to a client keeps its hash.
fn still_there(network: &Network, acknowledged: Option<&Block>) -> Result<()> {
    let Some(block) = acknowledged else {
        return Ok(());
    };
    let found = network.block(Some(block.number));
    ensure!(
        found.as_ref() == Some(block),
        "{block:?} was acknowledged, now there is {found:?}"
    );
    Ok(())
}

fn to_the_end(repo: &Repo, binary: &Path, dir: &Path) -> Result<Value> {
    let mut network = Network::start(
        repo,
        binary,
        dir,
        &[&TINY[..], &["--exit-after-loop"]].concat(),
    )?;
    network.summary(LIMIT)
}

/// Every wei of the fees has one receiver.
fn money_adds_up(summary: &Value) -> Result<()> {
    let settlement = &summary["settlement"];
    ensure!(
        settlement["conserved"] == true,
        "not conserved: {settlement}"
    );
    let paid = settlement["paid_wei"]
        .as_object()
        .context("settlement.paid_wei is an object")?;
    let sum = paid.values().map(wei).sum::<Result<u128>>()?;
    let fees = wei(&settlement["fees_wei"])?;
    ensure!(fees > 0, "the loop earned no fee: {settlement}");
    ensure!(
        sum == fees,
        "the parts are {sum} wei, the fees {fees} wei: {settlement}"
    );
    Ok(())
}

/// Amounts are whole numbers below 2^64 on the dev network, or decimal strings.
fn wei(value: &Value) -> Result<u128> {
    let number = value.as_u64().map(u128::from);
    number
        .or_else(|| value.as_str()?.parse().ok())
        .with_context(|| format!("an amount in wei is a whole number, found {value}"))
}

fn same(pointers: &[&str], left: &Value, right: &Value) -> Result<()> {
    let differing: Vec<String> = pointers
        .iter()
        .filter(|p| left.pointer(p).is_none() || left.pointer(p) != right.pointer(p))
        .map(|p| format!("{p}: {:?} and {:?}", left.pointer(p), right.pointer(p)))
        .collect();
    ensure!(differing.is_empty(), "{}", differing.join("; "));
    Ok(())
}

/// `SplitMix64` (Steele, Lea, Flood 2014): enough to draw a moment, and replayable by its seed.
#[derive(Debug)]
struct Random(u64);

impl Random {
    const SEED: &str = "OPENLEDGER_CRASH_SEED";

    fn from_environment() -> Result<Self> {
        let seed = match std::env::var(Self::SEED) {
            Ok(text) => text
                .parse()
                .with_context(|| format!("{} is a number", Self::SEED))?,
            Err(_) => u64::from(std::process::id()),
        };
        println!("{}={seed} draws the same moments again", Self::SEED);
        Ok(Self(seed))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in `[0, 1)`.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn money_must_add_up_to_the_last_wei() {
        let summary = |dust: &str| {
            json!({"settlement": {"conserved": true, "fees_wei": "1000000000000000000000000000001",
                "paid_wei": {"contributors": "1000000000000000000000000000000", "treasury": dust}}})
        };
        assert!(money_adds_up(&summary("1")).is_ok());
        assert!(money_adds_up(&summary("2")).is_err());
        assert!(money_adds_up(&json!({"settlement": {"conserved": false}})).is_err());
    }

    #[test]
    fn a_missing_field_is_a_difference() {
        let left = json!({"a": 1});
        assert!(same(&["/a"], &left, &json!({"a": 1})).is_ok());
        assert!(same(&["/a"], &left, &json!({"a": 2})).is_err());
        assert!(same(&["/b"], &left, &left).is_err());
    }

    #[test]
    fn moments_are_replayable_and_in_range() {
        let draw = |seed| {
            let mut random = Random(seed);
            std::iter::repeat_with(|| random.unit())
                .take(100)
                .collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        assert!(draw(7).iter().all(|x| (0.0..1.0).contains(x)));
    }
}
