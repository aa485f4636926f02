//! The rollup's contracts on the layer 1: deploying them, and what proposer, challenger and bridge
//! call.

use alloy_primitives::{Address, B256, U256};
use alloy_sol_types::{SolCall, SolValue};
use openledger_primitives::Wei;
use serde::{Deserialize, Serialize};

use crate::bindings::{
    DataAvailabilityChallenge, DisputeGameFactory, OpenBridge, OpenToken, OptimismPortal,
    OutputGame, SystemConfig,
};
use crate::deploy::{code, create};
use crate::node::{Call, Node};
use crate::{Error, Sender};

/// The type of our dispute games, "OP".
pub const GAME_TYPE: u32 = 0x4f50;
/// Part of a lost bond that is burned, so that a liar cannot get all of it back by losing to itself.
const BURNED_BPS: u16 = 2_500;
/// Index that stands for the anchor where a game names its parent.
pub const ANCHOR: U256 = U256::MAX;

/// Addresses of the rollup's contracts on the layer 1. They follow from the deployer's address and
/// nonce alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Layer1 {
    /// Chain id of the layer 1.
    pub chain_id: u64,
    /// `OpenToken`: OPEN, ERC-20.
    pub open_token: Address,
    /// `SystemConfig`: what nodes follow while deriving. The block of its creation is where the
    /// rollup starts.
    pub system_config: Address,
    /// `OutputGame`: the rules that all games share.
    pub output_game: Address,
    /// `DisputeGameFactory`: claims about output roots.
    pub dispute_game_factory: Address,
    /// `OptimismPortal`: deposits and withdrawals.
    pub portal: Address,
    /// `DataAvailabilityChallenge`: demands to publish what a commitment stands for.
    pub data_availability_challenge: Address,
    /// `OpenBridge`: the escrow of OPEN.
    pub open_bridge: Address,
}

/// What the contracts are born with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer1Settings {
    /// Owner of what can be set.
    pub owner: Address,
    /// Receives the whole supply of OPEN, and escrows the genesis allocation: the deployer.
    pub treasury: Address,
    /// Decides what no proof decides yet, and can pause withdrawals.
    pub guardian: Address,
    /// Unix seconds after which the guardian can pause nothing.
    pub guardian_sunset: u64,
    /// Whose transactions to the inbox are batches.
    pub batcher: Address,
    /// Signs blocks that are not on the layer 1 yet.
    pub unsafe_block_signer: Address,
    /// Where batches go.
    pub batch_inbox: Address,
    /// Gas of an L2 block.
    pub gas_limit: u64,
    /// Price of L1 calldata for L2 transactions, millionths of the L1 base fee (Ecotone).
    pub base_fee_scalar: u32,
    /// The same for blobs.
    pub blob_base_fee_scalar: u32,
    /// EIP-1559 denominator and elasticity of L2.
    pub eip_1559: (u32, u32),
    /// Minimum L2 base fee, wei.
    pub min_base_fee: u64,
    /// Gas that a byte of data counts as in a block (Jovian).
    pub da_footprint_gas_scalar: u16,
    /// Bond of a claim, and of a challenge to it, wei of the layer 1.
    pub bond: Wei,
    /// Seconds in which a claim can be challenged.
    pub challenge_window: u32,
    /// Seconds that each side of a dispute has for all its moves.
    pub clock: u32,
    /// Seconds that the guardian has for a decision.
    pub decision_window: u32,
    /// Seconds between proving and finalising a withdrawal.
    pub proof_maturity_delay: u64,
    /// Seconds between the end of a game and its use.
    pub game_finality_delay: u64,
    /// L1 blocks in which data can be challenged, and in which it must then be published.
    pub data_windows: (u64, u64),
    /// Bond of a data challenge, wei of the layer 1.
    pub data_bond: Wei,
}

impl Layer1 {
    /// The addresses that [`begin`](Self::begin) and [`finish`](Self::finish) give the contracts
    /// when `deployer`'s first transaction for them has nonce `first_nonce`.
    #[must_use]
    pub fn expected(chain_id: u64, deployer: Address, first_nonce: u64) -> Self {
        let at = |offset: u64| deployer.create(first_nonce.saturating_add(offset));
        Self {
            chain_id,
            open_token: at(0),
            system_config: at(1),
            output_game: at(2),
            dispute_game_factory: at(3),
            portal: at(4),
            data_availability_challenge: at(5),
            open_bridge: at(6),
        }
    }

    /// All contracts with their names, in the order of their creation.
    #[must_use]
    pub const fn contracts(&self) -> [(&'static str, Address); 7] {
        [
            ("OpenToken", self.open_token),
            ("SystemConfig", self.system_config),
            ("OutputGame", self.output_game),
            ("DisputeGameFactory", self.dispute_game_factory),
            ("OptimismPortal", self.portal),
            (
                "DataAvailabilityChallenge",
                self.data_availability_challenge,
            ),
            ("OpenBridge", self.open_bridge),
        ]
    }

    /// Creates token and system configuration, and gives the number of the block where the rollup
    /// starts. The genesis of L2 follows from it, and the other contracts from that genesis.
    ///
    /// # Errors
    /// As [`deploy`](crate::deploy).
    pub async fn begin(
        sender: &Sender,
        deployer: Address,
        first_nonce: u64,
        settings: &Layer1Settings,
    ) -> Result<(Self, u64), Error> {
        let at = Self::expected(sender.chain_id(), deployer, first_nonce);
        let token = OpenToken::constructorCall {
            treasury: settings.treasury,
        };
        let config = SystemConfig::constructorCall {
            s: SystemConfig::SystemSettings {
                owner: settings.owner,
                batcherHash: settings.batcher.into_word(),
                gasLimit: settings.gas_limit,
                basefeeScalar: settings.base_fee_scalar,
                blobbasefeeScalar: settings.blob_base_fee_scalar,
                unsafeBlockSigner: settings.unsafe_block_signer,
                eip1559Denominator: settings.eip_1559.0,
                eip1559Elasticity: settings.eip_1559.1,
                operatorFeeScalar: 0,
                operatorFeeConstant: 0,
                minBaseFee: settings.min_base_fee,
                daFootprintGasScalar: settings.da_footprint_gas_scalar,
                batchInbox: settings.batch_inbox,
                optimismPortal: at.portal,
                disputeGameFactory: at.dispute_game_factory,
                gasPayingToken: at.open_token,
            },
        };
        let creations = [
            (
                "OpenToken",
                at.open_token,
                code(&OpenToken::BYTECODE, &token),
            ),
            (
                "SystemConfig",
                at.system_config,
                code(&SystemConfig::BYTECODE, &config),
            ),
        ];
        create(sender, deployer, first_nonce, creations).await?;
        let start = at.start_block(&**sender.node()).await?;
        Ok((at, start))
    }

    /// Creates the other contracts on top of the L2 genesis, whose output root is `anchor`, and
    /// moves `allocated` OPEN into escrow: what the genesis gives to accounts.
    ///
    /// # Errors
    /// As [`deploy`](crate::deploy).
    pub async fn finish(
        &self,
        sender: &Sender,
        deployer: Address,
        first_nonce: u64,
        settings: &Layer1Settings,
        anchor: B256,
        allocated: Wei,
    ) -> Result<(), Error> {
        let game = OutputGame::constructorCall {
            s: OutputGame::GameSettings {
                anchorRoot: anchor,
                anchorBlock: 0,
                guardian: settings.guardian,
                challengeWindow: settings.challenge_window,
                clock: settings.clock,
                decisionWindow: settings.decision_window,
                burnedBps: BURNED_BPS,
            },
        };
        let factory = DisputeGameFactory::constructorCall {
            owner: settings.owner,
            implementation_: self.output_game,
            initBond: U256::from(settings.bond.get()),
        };
        let portal = OptimismPortal::constructorCall {
            s: OptimismPortal::PortalSettings {
                disputeGameFactory: self.dispute_game_factory,
                openToken: self.open_token,
                guardian: settings.guardian,
                guardianSunset: settings.guardian_sunset,
                proofMaturityDelay: settings.proof_maturity_delay,
                disputeGameFinalityDelay: settings.game_finality_delay,
                respectedGameType: GAME_TYPE,
            },
        };
        let data = DataAvailabilityChallenge::constructorCall {
            owner: settings.owner,
            challengeWindow_: U256::from(settings.data_windows.0),
            resolveWindow_: U256::from(settings.data_windows.1),
            bondSize_: U256::from(settings.data_bond.get()),
            resolverRefundPercentage_: U256::from(50),
        };
        let bridge = OpenBridge::constructorCall {
            token_: self.open_token,
            portal_: self.portal,
            deployer_: deployer,
        };
        let codes = [
            code(&OutputGame::BYTECODE, &game),
            code(&DisputeGameFactory::BYTECODE, &factory),
            code(&OptimismPortal::BYTECODE, &portal),
            code(&DataAvailabilityChallenge::BYTECODE, &data),
            code(&OpenBridge::BYTECODE, &bridge),
        ];
        let rest = self.contracts().into_iter().skip(2).zip(codes);
        let creations = rest.map(|((name, address), code)| (name, address, code));
        create(sender, deployer, first_nonce.saturating_add(2), creations).await?;
        let node = &**sender.node();
        if view(node, self.open_bridge, OpenBridge::genesisEscrowedCall {}).await? {
            return Ok(());
        }
        let amount = U256::from(allocated.get());
        let steps = [
            ("approve", self.approve(allocated)),
            (
                "escrow",
                Call::new(
                    self.open_bridge,
                    OpenBridge::escrowGenesisCall { amount }.abi_encode(),
                ),
            ),
        ];
        for (step, call) in steps {
            let key = format!("deploy/{}/{}/{step}", self.chain_id, self.open_bridge);
            sender.send_once(&key, deployer, &call).await?;
        }
        Ok(())
    }

    /// The block of the layer 1 where the rollup starts.
    ///
    /// # Errors
    /// When the contract is not there or the node does not answer.
    pub async fn start_block(&self, node: &dyn Node) -> Result<u64, Error> {
        let block = view(node, self.system_config, SystemConfig::startBlockCall {}).await?;
        Ok(block.saturating_to())
    }

    // --- the bridge ---

    /// Lets the bridge take `amount` OPEN.
    #[must_use]
    pub fn approve(&self, amount: Wei) -> Call {
        let call = OpenToken::approveCall {
            spender: self.open_bridge,
            value: U256::from(amount.get()),
        };
        Call::new(self.open_token, call.abi_encode())
    }

    /// Moves `amount` OPEN to `to` on L2.
    #[must_use]
    pub fn deposit(&self, to: Address, amount: Wei) -> Call {
        let amount = U256::from(amount.get());
        Call::new(
            self.open_bridge,
            OpenBridge::depositCall { to, amount }.abi_encode(),
        )
    }

    /// OPEN in escrow.
    ///
    /// # Errors
    /// When the node does not answer.
    pub async fn escrowed(&self, node: &dyn Node) -> Result<Wei, Error> {
        let amount = view(node, self.open_bridge, OpenBridge::escrowedCall {}).await?;
        crate::node::wei("escrowed", amount)
    }

    /// How far the withdrawal with this hash has come.
    ///
    /// # Errors
    /// When the node does not answer.
    pub async fn withdrawal(&self, node: &dyn Node, hash: B256) -> Result<Withdrawal, Error> {
        let at = self.portal;
        let asked = OptimismPortal::finalizedWithdrawalsCall {
            withdrawalHash: hash,
        };
        let finalized = view(node, at, asked).await?;
        let asked = OptimismPortal::numProofSubmittersCall {
            withdrawalHash: hash,
        };
        let mut ready_at = None;
        if !view(node, at, asked).await?.is_zero() {
            let asked = OptimismPortal::proofSubmittersCall {
                withdrawalHash: hash,
                _1: U256::ZERO,
            };
            let submitter = view(node, at, asked).await?;
            let asked = OptimismPortal::provenWithdrawalsCall {
                withdrawalHash: hash,
                submitter,
            };
            let proven = view(node, at, asked).await?.timestamp;
            let delay = view(node, at, OptimismPortal::proofMaturityDelaySecondsCall {}).await?;
            ready_at = Some(proven.saturating_add(delay.saturating_to()));
        }
        Ok(Withdrawal {
            finalized,
            ready_at,
        })
    }

    // --- claims ---

    /// Claims that `root` is the output root of L2 block `number`, on top of the game `parent`.
    ///
    /// # Errors
    /// When the node does not answer.
    pub async fn propose(
        &self,
        node: &dyn Node,
        root: B256,
        number: u64,
        parent: U256,
    ) -> Result<Call, Error> {
        let asked = DisputeGameFactory::initBondsCall {
            gameType_: GAME_TYPE,
        };
        let bond = view(node, self.dispute_game_factory, asked).await?;
        let call = DisputeGameFactory::createCall {
            gameType_: GAME_TYPE,
            rootClaim: root,
            extraData: (U256::from(number), parent).abi_encode().into(),
        };
        Ok(Call::new(self.dispute_game_factory, call.abi_encode())
            .with_value(crate::node::wei("initBonds", bond)?))
    }

    /// How many games there are.
    ///
    /// # Errors
    /// When the node does not answer.
    pub async fn game_count(&self, node: &dyn Node) -> Result<u64, Error> {
        let count = DisputeGameFactory::gameCountCall {};
        Ok(view(node, self.dispute_game_factory, count)
            .await?
            .saturating_to())
    }

    /// The game with this number.
    ///
    /// # Errors
    /// When there is none, or the node does not answer.
    pub async fn game(&self, node: &dyn Node, index: u64) -> Result<Game, Error> {
        let asked = DisputeGameFactory::gameAtIndexCall {
            index: U256::from(index),
        };
        let found = view(node, self.dispute_game_factory, asked).await?;
        let at = found._2;
        let data = view(node, at, OutputGame::extraDataCall {}).await?;
        let (number, parent) = <(U256, U256)>::abi_decode(&data).map_err(|e| Error::Answer {
            contract: "OutputGame",
            function: "extraData",
            reason: e.to_string(),
        })?;
        let status = view(node, at, OutputGame::statusCall {}).await?;
        let duels: U256 = view(node, at, OutputGame::duelCountCall {}).await?;
        Ok(Game {
            index,
            address: at,
            created_at: found._1,
            creator: view(node, at, OutputGame::gameCreatorCall {}).await?,
            root: view(node, at, OutputGame::rootClaimCall {}).await?,
            number: number.saturating_to(),
            parent: (parent != ANCHOR).then(|| parent.saturating_to()),
            status: GameStatus::from_number(status),
            bond: Wei::new(view(node, at, OutputGame::bondCall {}).await?),
            duels: duels.saturating_to(),
        })
    }
}

/// How far a withdrawal has come on the layer 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Withdrawal {
    /// Whether it was executed.
    pub finalized: bool,
    /// Unix seconds at which its proof is old enough, once it is proven. The game it was proven
    /// against must be won by then, too.
    pub ready_at: Option<u64>,
}

/// How a dispute game stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum GameStatus {
    /// It can still be challenged, or a duel goes on.
    InProgress,
    /// The claim has fallen.
    ChallengerWins,
    /// The claim stands.
    DefenderWins,
}

impl GameStatus {
    const fn from_number(number: u8) -> Self {
        match number {
            1 => Self::ChallengerWins,
            2 => Self::DefenderWins,
            _ => Self::InProgress,
        }
    }
}

/// A claim about L2, as the layer 1 has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Game {
    /// Its number in the factory.
    pub index: u64,
    /// Its contract.
    pub address: Address,
    /// Unix seconds of its creation.
    pub created_at: u64,
    /// Who claims.
    pub creator: Address,
    /// The output root claimed.
    pub root: B256,
    /// The L2 block whose root it is.
    pub number: u64,
    /// The game whose claim it starts from; `None` starts from genesis.
    pub parent: Option<u64>,
    /// How it stands.
    pub status: GameStatus,
    /// Bond of the claim and of a challenge, wei.
    pub bond: Wei,
    /// Duels opened so far.
    pub duels: u64,
}

/// What a duel waits for, or how it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// The proposer must claim the root in the middle.
    Proposer,
    /// The challenger must answer to it.
    Challenger,
    /// One block is left; the guardian must decide.
    Decision,
    /// The claim was defended.
    ProposerWon,
    /// The claim has fallen.
    ChallengerWon,
    /// The game ended before the duel did.
    Void,
}

/// One challenger against a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Duel {
    /// Its number in the game.
    pub index: u64,
    /// Who challenges.
    pub challenger: Address,
    /// What it waits for.
    pub phase: Phase,
    /// The last block whose root both accept.
    pub low: u64,
    /// The first block whose root they dispute.
    pub high: u64,
    /// The disputed root of `high`.
    pub high_root: B256,
    /// The proposer's root in the middle, while the challenger must answer.
    pub middle_root: B256,
}

impl Duel {
    /// The block in the middle of the range.
    #[must_use]
    pub const fn middle(&self) -> u64 {
        self.low + (self.high - self.low) / 2
    }
}

impl Game {
    /// A duel of this game.
    ///
    /// # Errors
    /// When there is none, or the node does not answer.
    pub async fn duel(&self, node: &dyn Node, index: u64) -> Result<Duel, Error> {
        let asked = OutputGame::duelsCall {
            duel: U256::from(index),
        };
        let duel = view(node, self.address, asked).await?;
        let phase = match duel.phase {
            1 => Phase::Proposer,
            2 => Phase::Challenger,
            3 => Phase::Decision,
            4 => Phase::ProposerWon,
            5 => Phase::ChallengerWon,
            _ => Phase::Void,
        };
        Ok(Duel {
            index,
            challenger: duel.challenger,
            phase,
            low: duel.low,
            high: duel.high,
            high_root: duel.highRoot,
            middle_root: duel.middleRoot,
        })
    }

    /// Challenges the claim.
    #[must_use]
    pub fn challenge(&self) -> Call {
        self.call(&OutputGame::challengeCall {})
            .with_value(self.bond)
    }

    /// The proposer's move.
    #[must_use]
    pub fn claim_midpoint(&self, duel: u64, root: B256) -> Call {
        let duel = U256::from(duel);
        self.call(&OutputGame::claimMidpointCall { duel, root })
    }

    /// The challenger's move: whether the middle root is right.
    #[must_use]
    pub fn answer(&self, duel: u64, agrees: bool) -> Call {
        let duel = U256::from(duel);
        if agrees {
            self.call(&OutputGame::agreeCall { duel })
        } else {
            self.call(&OutputGame::disagreeCall { duel })
        }
    }

    /// The guardian's word on the last block.
    #[must_use]
    pub fn decide(&self, duel: u64, proposer_is_right: bool) -> Call {
        self.call(&OutputGame::decideCall {
            duel: U256::from(duel),
            proposerIsRight: proposer_is_right,
        })
    }

    /// Ends a duel whose side to move let its time pass.
    #[must_use]
    pub fn timeout(&self, duel: u64) -> Call {
        let duel = U256::from(duel);
        self.call(&OutputGame::timeoutCall { duel })
    }

    /// Ends the game, once its time is over.
    #[must_use]
    pub fn resolve(&self) -> Call {
        self.call(&OutputGame::resolveCall {})
    }

    /// Pays what the caller won to `to`.
    #[must_use]
    pub fn withdraw(&self, to: Address) -> Call {
        self.call(&OutputGame::withdrawCall { to })
    }

    /// What `account` can take out of the game, wei.
    ///
    /// # Errors
    /// When the node does not answer.
    pub async fn credit(&self, node: &dyn Node, account: Address) -> Result<Wei, Error> {
        let credit = view(node, self.address, OutputGame::creditCall { account }).await?;
        crate::node::wei("credit", credit)
    }

    fn call(&self, call: &impl SolCall) -> Call {
        Call::new(self.address, call.abi_encode())
    }
}

/// Reads from a contract.
pub(crate) async fn view<C: SolCall + Send>(
    node: &dyn Node,
    at: Address,
    call: C,
) -> Result<C::Return, Error> {
    let answer = node.call(None, &Call::new(at, call.abi_encode())).await?;
    C::abi_decode_returns(&answer).map_err(|e| Error::Answer {
        contract: "layer 1",
        function: C::SIGNATURE,
        reason: e.to_string(),
    })
}
