//! Claims about L2 on the layer 1: making them, defending them, and contradicting wrong ones.
//!
//! Proposer and challenger believe one thing each: their own node, which derived the chain from the
//! layer 1. The claim of the other is compared with it, block by block if there is a dispute.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use openledger_chain::layer1::{ANCHOR, Game, GameStatus, Layer1, Phase};
use openledger_chain::{Call, Sender};
use openledger_primitives::{Address, B256, U256, Wei};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::rpc::{Rpc, RpcError};
use super::{Stop, more};
use crate::{Error, Result};

/// Pause between two looks at the layer 1.
const POLL: Duration = Duration::from_secs(1);

/// What a proposer or challenger has done since it started.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Claims {
    /// Claims made.
    pub proposed: u64,
    /// The newest block claimed.
    pub last_block: Option<u64>,
    /// Claims of others found wrong.
    pub wrong: u64,
    /// Duels opened.
    pub challenged: u64,
    /// Moves in duels.
    pub moves: u64,
    /// Games ended.
    pub resolved: u64,
    /// What all of it cost, gas of the layer 1.
    pub l1_gas: u64,
    /// The same in the layer 1's coin; bonds are not in it.
    pub l1_fee: Wei,
    /// What keeps it from going on, if something does.
    pub trouble: Option<String>,
}

/// An account with a view of both layers.
#[derive(Debug)]
pub(crate) struct Claimant {
    pub(crate) layer1: Layer1,
    /// To the layer 1.
    pub(crate) sender: Sender,
    pub(crate) account: Address,
    /// Its own node of L2.
    pub(crate) l2: Rpc,
    pub(crate) runtime: tokio::runtime::Handle,
    pub(crate) done: Arc<Mutex<Claims>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Output {
    output_root: B256,
}

#[derive(Deserialize)]
struct Told {
    safe_l2: Number,
    finalized_l2: Number,
    current_l1: Number,
}

#[derive(Deserialize)]
struct Number {
    number: u64,
    #[serde(default)]
    timestamp: u64,
}

impl Claimant {
    fn note(&self, f: impl FnOnce(&mut Claims)) {
        f(&mut self.done.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn told(&self) -> Result<Told> {
        let told = self.l2.ask("optimism_syncStatus", json!([]))?;
        told.ok_or_else(|| Error::not_found("sync status at", self.l2.url()))
    }

    /// The output root that this node has for a block; `None` where it has no such block.
    fn output(&self, number: u64) -> Result<Option<B256>> {
        let name = format!("{number:#x}");
        match self
            .l2
            .ask::<Output>("optimism_outputAtBlock", json!([name]))
        {
            Ok(output) => Ok(output.map(|output| output.output_root)),
            Err(RpcError::Refused { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn games(&self) -> Result<Vec<Game>> {
        let node = &**self.sender.node();
        self.runtime.block_on(async {
            let count = self.layer1.game_count(node).await?;
            let mut games = Vec::new();
            for index in 0..count {
                games.push(self.layer1.game(node, index).await?);
            }
            Ok(games)
        })
    }

    fn send(&self, key: &str, call: &Call) -> Result<()> {
        let sent = self.sender.send_once(key, self.account, call);
        let receipt = self.runtime.block_on(sent)?;
        self.note(|done| {
            done.l1_gas = done.l1_gas.saturating_add(receipt.gas_used);
            done.l1_fee = more(done.l1_fee, receipt.fee);
        });
        Ok(())
    }

    /// Sends what may be too early: whether it went through.
    fn try_send(&self, key: &str, call: &Call) -> Result<bool> {
        match self.send(key, call) {
            Ok(()) => Ok(true),
            Err(Error::Chain(openledger_chain::Error::Reverted { reason })) => {
                tracing::debug!(key, reason, "not yet");
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Ends games whose time is over, its own or all, and takes out what this account has in them.
    fn settle(&self, games: &[Game], all: bool) -> Result<()> {
        for game in games {
            let mine = all || game.creator == self.account;
            if game.status == GameStatus::InProgress && mine {
                self.resolve(game)?;
            }
            if game.status != GameStatus::InProgress {
                let node = &**self.sender.node();
                let credit = self.runtime.block_on(game.credit(node, self.account))?;
                if credit.get() > 0 {
                    let key = format!("withdraw/{}/{credit}", game.address);
                    self.try_send(&key, &game.withdraw(self.account))?;
                }
            }
        }
        Ok(())
    }
}

impl Claimant {
    /// Ends a game, unless it is too early. Anybody may; who comes second has nothing to do.
    fn resolve(&self, game: &Game) -> Result<()> {
        let sent = self.try_send(&format!("resolve/{}", game.address), &game.resolve());
        let Err(error) = sent else {
            if sent.is_ok_and(|sent| sent) {
                tracing::info!(game = game.index, block = game.number, "resolved");
                self.note(|done| done.resolved += 1);
            }
            return Ok(());
        };
        let node = &**self.sender.node();
        let now = self.layer1.game(node, game.index);
        if self.runtime.block_on(now)?.status == GameStatus::InProgress {
            return Err(error);
        }
        tracing::debug!(game = game.index, %error, "somebody else resolved it first");
        Ok(())
    }
}

/// Makes a claim every so many blocks, and defends its claims.
#[derive(Debug)]
pub(crate) struct Proposer {
    pub(crate) as_claimant: Claimant,
    /// L2 blocks between two claims.
    pub(crate) interval: u64,
    /// Whether blocks are claimed once they are safe, without waiting for the layer 1 to finalize
    /// what they were derived from. For development.
    pub(crate) unfinalized: bool,
}

impl Proposer {
    /// Goes on until `stop`.
    pub(crate) fn run(self, stop: &Stop) {
        while !stop.is_set() {
            let trouble = self.round().err();
            if let Some(error) = &trouble {
                tracing::warn!(%error, "proposer");
            }
            let trouble = trouble.map(|error| error.to_string());
            self.as_claimant.note(|done| done.trouble = trouble);
            stop.wait(POLL);
        }
    }

    fn round(&self) -> Result<()> {
        let me = &self.as_claimant;
        let games = me.games()?;
        self.propose(&games)?;
        for game in games.iter().filter(|game| game.creator == me.account) {
            if game.status == GameStatus::InProgress {
                self.defend(game)?;
            }
        }
        me.settle(&games, false)
    }

    fn propose(&self, games: &[Game]) -> Result<()> {
        let me = &self.as_claimant;
        let told = me.told()?;
        let newest = if self.unfinalized {
            told.safe_l2.number
        } else {
            told.finalized_l2.number
        };
        // The newest game that is as this node sees it; claims go on from there.
        let mut parent = None;
        for game in games.iter().rev() {
            if game.status != GameStatus::ChallengerWins
                && game.number <= newest
                && me.output(game.number)? == Some(game.root)
            {
                parent = Some(game);
                break;
            }
        }
        let from = parent.map_or(0, |game| game.number);
        if newest < from + self.interval {
            return Ok(());
        }
        let Some(root) = me.output(newest)? else {
            return Ok(());
        };
        let claim = (newest, root, parent.map(|game| game.index));
        if games
            .iter()
            .any(|game| (game.number, game.root, game.parent) == claim)
        {
            // It was claimed and has fallen; the factory takes no claim twice.
            return Ok(());
        }
        let node = &**me.sender.node();
        let index = parent.map_or(ANCHOR, |game| U256::from(game.index));
        let call = me.layer1.propose(node, root, newest, index);
        let call = me.runtime.block_on(call)?;
        me.send(&format!("propose/{newest}/{root}/{index}"), &call)?;
        tracing::info!(block = newest, %root, "proposed");
        me.note(|done| {
            done.proposed += 1;
            done.last_block = Some(newest);
        });
        Ok(())
    }

    /// Answers every duel that waits for the proposer.
    fn defend(&self, game: &Game) -> Result<()> {
        let me = &self.as_claimant;
        for index in 0..game.duels {
            let node = &**me.sender.node();
            let duel = me.runtime.block_on(game.duel(node, index))?;
            if duel.phase != Phase::Proposer {
                continue;
            }
            let middle = duel.middle();
            if let Some(root) = me.output(middle)? {
                let key = format!("middle/{}/{index}/{middle}", game.address);
                if me.try_send(&key, &game.claim_midpoint(index, root))? {
                    me.note(|done| done.moves += 1);
                }
            }
        }
        Ok(())
    }
}

/// Contradicts every wrong claim.
#[derive(Debug)]
pub(crate) struct Challenger {
    pub(crate) as_claimant: Claimant,
    /// Whether this account is the guardian that decides about the last block of a duel, until a
    /// proof can. It decides by its own node.
    pub(crate) guardian: bool,
    /// Games found right, so that they are not looked at again.
    pub(crate) right: BTreeSet<Address>,
}

impl Challenger {
    /// Goes on until `stop`.
    pub(crate) fn run(mut self, stop: &Stop) {
        while !stop.is_set() {
            let trouble = self.round().err();
            if let Some(error) = &trouble {
                tracing::warn!(%error, "challenger");
            }
            let trouble = trouble.map(|error| error.to_string());
            self.as_claimant.note(|done| done.trouble = trouble);
            stop.wait(POLL);
        }
    }

    fn round(&mut self) -> Result<()> {
        let games = self.as_claimant.games()?;
        let told = self.as_claimant.told()?;
        for game in &games {
            if game.status != GameStatus::InProgress || game.creator == self.as_claimant.account {
                continue;
            }
            if !self.right.contains(&game.address) {
                self.look_at(game, &told)?;
            }
            self.play(game)?;
        }
        self.as_claimant.settle(&games, true)
    }

    fn look_at(&mut self, game: &Game, told: &Told) -> Result<()> {
        let me = &self.as_claimant;
        let ours = if game.number <= told.safe_l2.number {
            me.output(game.number)?
        } else if told.current_l1.timestamp > game.created_at {
            // Everything on the layer 1 at the time of the claim is derived, and the block is not
            // there: the claim is about a block that did not exist.
            None
        } else {
            return Ok(());
        };
        if ours == Some(game.root) {
            self.right.insert(game.address);
            return Ok(());
        }
        let node = &**me.sender.node();
        for index in 0..game.duels {
            let duel = me.runtime.block_on(game.duel(node, index))?;
            if duel.challenger == me.account {
                return Ok(());
            }
        }
        tracing::warn!(
            game = game.index, block = game.number, claimed = %game.root, ?ours,
            "a wrong claim; challenging it"
        );
        me.note(|done| done.wrong += 1);
        if me.try_send(&format!("challenge/{}", game.address), &game.challenge())? {
            me.note(|done| done.challenged += 1);
        }
        Ok(())
    }

    fn play(&self, game: &Game) -> Result<()> {
        let me = &self.as_claimant;
        let node = &**me.sender.node();
        for index in 0..game.duels {
            let duel = me.runtime.block_on(game.duel(node, index))?;
            let moved = match duel.phase {
                Phase::Challenger if duel.challenger == me.account => {
                    let middle = duel.middle();
                    let agrees = me.output(middle)? == Some(duel.middle_root);
                    let key = format!("answer/{}/{index}/{middle}", game.address);
                    me.try_send(&key, &game.answer(index, agrees))?
                }
                Phase::Decision if self.guardian => {
                    let right = me.output(duel.high)? == Some(duel.high_root);
                    let key = format!("decide/{}/{index}", game.address);
                    me.try_send(&key, &game.decide(index, right))?
                }
                Phase::Proposer | Phase::Decision if duel.challenger == me.account => {
                    let key = format!(
                        "timeout/{}/{index}/{:?}/{}",
                        game.address, duel.phase, duel.low
                    );
                    me.try_send(&key, &game.timeout(index))?
                }
                _ => false,
            };
            if moved {
                me.note(|done| done.moves += 1);
            }
        }
        Ok(())
    }
}
