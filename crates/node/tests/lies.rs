//! Each kind of lie about the layer 2, told by a proposer that stands by it.
//!
//! The liar runs the same proposer as everybody, on a node of its own whose chain is consistent in
//! itself and parts from the true one at some block. So the duel runs down to that very block; the
//! guardian decides it; the claim falls, its bond is gone, and what was proven against it stays
//! unpaid.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use alloy_consensus::{SignableTransaction as _, TxEip1559, TxEnvelope};
use alloy_eips::eip2718::Encodable2718 as _;
use alloy_signer::SignerSync as _;
use alloy_sol_types::{SolCall as _, SolEvent as _, SolValue as _};
use common::{L2, key, keys, open, sender, start_as, verifier};
use op_alloy_consensus::TxDeposit;
use openledger_chain::bindings::{
    L2ToL1MessagePasser, OpenBridge, OpenMinter, OpenToken, OptimismPortal, OutputGame,
};
use openledger_chain::layer1::{ANCHOR, Game, GameStatus, Phase};
use openledger_chain::predeploys::{MESSAGE_PASSER, OPEN_MINTER};
use openledger_chain::{Call, Error, Sender};
use openledger_derivation::{
    BlockData, ChannelLimits, ChannelOut, L2Head, RollupConfig, inbox_frames,
};
use openledger_node::rollup::Layer1Settings;
use openledger_node::rollup::batching::Sent;
use openledger_node::rollup::network::Choices;
use openledger_node::rollup::roles::{DevRollup, start_proposer};
use openledger_primitives::{Address, B256, Bytes, U256, Wei, keccak256};
use openledger_rollup::block::{Block, output_root};
use openledger_rollup::derived::Derived;
use openledger_rollup::engine::PayloadAttributes;
use openledger_rollup::rpc::{RollupStatus, serve_derived};
use openledger_rollup::{Chain, ChainConfig, ChainHandle, RpcConfig, RpcServer};
use serde_json::{Value, json};

/// Bond of a claim.
const BOND: u128 = Wei::OPEN.get() / 100;
/// Part of a liar's bond that is burned.
const BURNED: u128 = BOND / 4;
/// Where it goes.
const BURN: Address = Address::new([
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xde, 0xad,
]);

fn account(name: &str) -> Address {
    key(name).address()
}

/// The network of the other tests, with shorter windows and longer clocks.
fn choices() -> Choices {
    let base = common::choices();
    Choices {
        settings: Layer1Settings {
            challenge_window: 12,
            clock: 90,
            decision_window: 90,
            ..base.settings
        },
        allocations: BTreeMap::from([
            (account("rich"), open(1_000)),
            (account("liar"), open(10)),
            (account("honest"), open(10)),
        ]),
        ..base
    }
}

/// Waits for something that must come, and says what it was if it does not.
async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(
            begin.elapsed() < Duration::from_secs(150),
            "{what} did not come"
        );
        tick.tick().await;
    }
}

/// The true rollup, with accounts on its layer 1.
struct Truth {
    rollup: DevRollup,
    l1: Sender,
    dir: tempfile::TempDir,
}

impl Truth {
    /// Starts it; a batch goes out every `channel`.
    async fn start(channel: Duration) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("dev");
        let rollup = start_as(&home, &choices(), &keys(), channel).await;
        let names = ["deployer", "rich", "liar", "honest"];
        let l1 = sender(&rollup.layer1().url(), &names).await;
        Self { rollup, l1, dir }
    }

    fn chain(&self) -> ChainHandle {
        self.rollup.layer2().chain()
    }

    async fn safe(&self, number: u64) {
        until("the safe head", async || {
            (self.chain().labels().unwrap().safe >= number).then_some(())
        })
        .await;
    }

    /// Why the portal, or a game, would refuse this call; `None` if it would not.
    async fn refusal(&self, from: &str, call: &Call) -> Option<String> {
        match self.l1.node().call(Some(account(from)), call).await {
            Ok(_) => None,
            Err(Error::Reverted { reason }) => Some(reason),
            Err(error) => panic!("{error}"),
        }
    }

    fn to_portal(&self, data: Vec<u8>) -> Call {
        Call::new(self.rollup.network().layer1.portal, data)
    }

    /// The game about `root`, once there is one.
    async fn game(&self, root: B256) -> Option<Game> {
        let (at, node) = (self.rollup.network().layer1, &**self.l1.node());
        for index in 0..at.game_count(node).await.unwrap() {
            let game = at.game(node, index).await.unwrap();
            if game.root == root {
                return Some(game);
            }
        }
        None
    }

    /// The game about `root`, once it is over.
    async fn over(&self, root: B256) -> Game {
        until("the end of a game", async || {
            let game = self.game(root).await?;
            (game.status != GameStatus::InProgress).then_some(game)
        })
        .await
    }

    async fn balance(&self, of: Address) -> u128 {
        self.l1.node().balance(of, None).await.unwrap().get()
    }
}

/// A chain that is consistent in itself and not the one that the layer 1 says, and a node for it.
struct Lie {
    chain: Chain,
    rpc: RpcServer,
    /// Its first block that differs.
    first_wrong: u64,
    /// Its last.
    last: u64,
}

/// What the liar's node says about itself: everything is safe.
#[derive(Debug)]
struct Says(ChainHandle);

impl RollupStatus for Says {
    fn rollup_config(&self) -> Value {
        Value::Null
    }

    fn sync_status(&self) -> openledger_rollup::Result<Value> {
        let head = json!({"number": self.0.head()?.number});
        Ok(json!({"safe_l2": head, "finalized_l2": head, "current_l1": head}))
    }

    fn block_ref(&self, block: &Block) -> openledger_rollup::Result<Value> {
        Ok(json!({"number": block.number(), "hash": block.hash()}))
    }
}

impl Lie {
    /// The true chain up to block `last`, where `twist` changes the transactions from block
    /// `first_wrong` on.
    async fn copy(
        truth: &Truth,
        first_wrong: u64,
        last: u64,
        twist: impl Fn(u64, &mut Vec<Bytes>),
    ) -> Self {
        truth.safe(last).await;
        let genesis = truth.rollup.network().genesis.clone();
        let mut config = ChainConfig::new(None, genesis);
        config.sequencer = None;
        let chain = Chain::open(config).unwrap();
        let liar = chain.handle();
        for number in 1..=last {
            let block = truth.chain().block(number).unwrap().unwrap().block;
            let mut attributes = made_of(&block);
            if number >= first_wrong {
                twist(number, &mut attributes.transactions);
            }
            build(&liar, liar.head().unwrap().hash(), &attributes);
        }
        let local = SocketAddr::from(([127, 0, 0, 1], 0));
        let says: Arc<dyn RollupStatus> = Arc::new(Says(liar.clone()));
        let rpc = serve_derived(liar, local, RpcConfig::default(), Some(says))
            .await
            .unwrap();
        let lie = Self {
            chain,
            rpc,
            first_wrong,
            last,
        };
        for number in 0..=last {
            let same = lie.root(number) == root(&truth.chain(), number);
            assert_eq!(same, number < first_wrong, "block {number}");
        }
        lie
    }

    fn root(&self, number: u64) -> B256 {
        root(&self.chain.handle(), number)
    }

    fn url(&self) -> String {
        format!("http://{}", self.rpc.addr())
    }
}

fn root(chain: &ChainHandle, number: u64) -> B256 {
    let block = chain.block(number).unwrap().unwrap();
    output_root(&block.block.header).unwrap()
}

/// What a block was made of.
fn made_of(block: &Block) -> PayloadAttributes {
    let header = block.header.inner();
    // Jovian: version, denominator and elasticity, minimum base fee.
    let extra = &header.extra_data;
    PayloadAttributes {
        timestamp: header.timestamp,
        prev_randao: header.mix_hash,
        suggested_fee_recipient: header.beneficiary,
        parent_beacon_block_root: header.parent_beacon_block_root,
        transactions: block
            .transactions
            .iter()
            .map(|tx| tx.encoded.clone())
            .collect(),
        no_tx_pool: true,
        gas_limit: header.gas_limit,
        eip_1559_params: Some(extra[1..9].try_into().unwrap()),
        min_base_fee: Some(u64::from_be_bytes(extra[9..17].try_into().unwrap())),
    }
}

fn build(chain: &ChainHandle, parent: B256, attributes: &PayloadAttributes) -> Arc<Block> {
    match chain.derive(parent, attributes).unwrap() {
        Derived::Agreed(block) | Derived::Built { block, .. } => block,
        Derived::Invalid { reason } => panic!("{reason}"),
    }
}

/// A deposit that is on no layer 1.
fn forged_deposit(from: Address, to: Address, mint: Wei, input: Vec<u8>) -> Bytes {
    TxDeposit {
        source_hash: keccak256("nobody made this deposit"),
        from,
        to: to.into(),
        mint: mint.get(),
        value: U256::ZERO,
        gas_limit: 1_000_000,
        is_system_transaction: false,
        input: input.into(),
    }
    .encoded_2718()
    .into()
}

/// A withdrawal of `amount` from `name`'s account on L2.
fn signed_withdrawal(name: &str, nonce: u64, amount: Wei) -> Bytes {
    let key = key(name);
    let tx = TxEip1559 {
        chain_id: L2,
        nonce,
        max_fee_per_gas: 10_000_000_000,
        gas_limit: 500_000,
        to: OPEN_MINTER.into(),
        value: U256::from(amount.get()),
        input: withdraw_to(key.address()).into(),
        ..TxEip1559::default()
    };
    let signature = key.sign_hash_sync(&tx.signature_hash()).unwrap();
    TxEnvelope::from(tx.into_signed(signature))
        .encoded_2718()
        .into()
}

fn withdraw_to(to: Address) -> Vec<u8> {
    let gas_limit = U256::ZERO;
    OpenMinter::withdrawCall {
        to,
        gasLimit: gas_limit,
    }
    .abi_encode()
}

/// A withdrawal as a chain has it, with what proves it at that chain's block `at`.
struct Withdrawal {
    call: OptimismPortal::WithdrawalTransaction,
    output: OptimismPortal::OutputRootProof,
    proof: Vec<Bytes>,
}

impl Withdrawal {
    /// The only withdrawal in the chain up to block `at`.
    fn find(chain: &ChainHandle, at: u64) -> Self {
        let mut found = Vec::new();
        for number in 1..=at {
            let block = chain.block(number).unwrap().unwrap();
            let logs = block.receipts.iter().flat_map(|receipt| receipt.logs());
            for log in logs.filter(|log| log.address == MESSAGE_PASSER) {
                found.push(L2ToL1MessagePasser::MessagePassed::decode_log(log).unwrap());
            }
        }
        let [passed] = &found[..] else {
            panic!("one withdrawal expected: {found:?}")
        };
        let header = chain.block(at).unwrap().unwrap().block.header.clone();
        let slot = keccak256((passed.withdrawalHash, U256::ZERO).abi_encode());
        let proof = chain.proof(MESSAGE_PASSER, &[slot], at.into()).unwrap();
        let (value, proof) = proof.storage[0].clone();
        assert_eq!(value, U256::ONE);
        Self {
            call: OptimismPortal::WithdrawalTransaction {
                nonce: passed.nonce,
                sender: passed.sender,
                target: passed.target,
                value: passed.value,
                gasLimit: passed.gasLimit,
                data: passed.data.data.clone(),
            },
            output: OptimismPortal::OutputRootProof {
                version: B256::ZERO,
                stateRoot: header.state_root,
                messagePasserStorageRoot: header.withdrawals_root.unwrap(),
                latestBlockhash: header.hash(),
            },
            proof,
        }
    }

    fn prove(&self, truth: &Truth, game: &Game) -> Call {
        let call = OptimismPortal::proveWithdrawalTransactionCall {
            w: self.call.clone(),
            disputeGameIndex: U256::from(game.index),
            outputRootProof: self.output.clone(),
            withdrawalProof: self.proof.clone(),
        };
        truth.to_portal(call.abi_encode())
    }

    fn finalize(&self, truth: &Truth) -> Call {
        let w = self.call.clone();
        truth.to_portal(OptimismPortal::finalizeWithdrawalTransactionCall { w }.abi_encode())
    }
}

/// Claims the lie, and the truth about the same block; lets them be fought out; and checks all that
/// the contracts promise. `stolen` is proven against the lie while it can still win.
async fn fight(truth: &Truth, lie: &Lie, stolen: &Withdrawal) {
    let (at, node) = (truth.rollup.network().layer1, &**truth.l1.node());
    let (liar, honest, guardian) = (account("liar"), account("honest"), account("guardian"));
    let escrowed = at.escrowed(node).await.unwrap();
    let burned = truth.balance(BURN).await;

    let right = root(&truth.chain(), lie.last);
    let call = at.propose(node, right, lie.last, ANCHOR).await.unwrap();
    truth.l1.send(honest, &call).await.unwrap();
    let l1 = truth.rollup.layer1().url();
    let proposer = start_proposer(at, &l1, &lie.url(), key("liar"), lie.last, true)
        .await
        .unwrap();
    let wrong = lie.root(lie.last);
    let open = until("the lie", async || truth.game(wrong).await).await;
    assert_eq!((open.creator, open.number), (liar, lie.last));
    // Until the duel is over nobody can tell; the proof is taken.
    until("a block after the claim", async || {
        let refused = truth.refusal("liar", &stolen.prove(truth, &open)).await;
        refused.is_none().then_some(())
    })
    .await;
    truth
        .l1
        .send(liar, &stolen.prove(truth, &open))
        .await
        .unwrap();

    let fallen = truth.over(wrong).await;
    assert_eq!(fallen.status, GameStatus::ChallengerWins);
    // The duel ended at the first wrong block, and the liar stood by its own chain all the way.
    assert_eq!(fallen.duels, 1);
    let duel = fallen.duel(node, 0).await.unwrap();
    assert_eq!(duel.phase, Phase::ChallengerWon);
    assert_eq!(duel.challenger, guardian);
    assert_eq!(
        (duel.low, duel.high),
        (lie.first_wrong - 1, lie.first_wrong)
    );
    assert_eq!(duel.high_root, lie.root(lie.first_wrong));

    // The liar's bond: a quarter is burned, the rest is the challenger's, who takes it out.
    assert_eq!(truth.balance(BURN).await - burned, BURNED);
    assert_eq!(fallen.credit(node, liar).await.unwrap(), Wei::ZERO);
    until("the challenger's reward", async || {
        (truth.balance(fallen.address).await == 0).then_some(())
    })
    .await;
    let defence = proposer.done();
    proposer.stop().await;
    assert!(defence.moves > 0, "the liar defended itself: {defence:?}");
    assert_eq!(defence.proposed, 1, "a claim that fell is not made again");
    let head = node.head().await.unwrap().number;
    let logs = node.logs(&[fallen.address], 0, head).await.unwrap();
    let paid: Vec<_> = logs
        .iter()
        .filter_map(|log| OutputGame::CreditWithdrawn::decode_log(&log.inner).ok())
        .map(|paid| (paid.account, paid.to, paid.amount))
        .collect();
    let reward = U256::from(2 * BOND - BURNED);
    assert_eq!(paid, [(guardian, guardian, reward)]);

    // What was proven against the lie is not paid, and cannot be proven again.
    let refused = until("the maturity of the proof", async || {
        let refused = truth.refusal("liar", &stolen.finalize(truth)).await;
        refused.filter(|reason| reason != "OptimismPortal_ProofNotOldEnough")
    })
    .await;
    assert_eq!(refused, "OptimismPortal_InvalidRootClaim");
    let refused = truth.refusal("liar", &stolen.prove(truth, &fallen)).await;
    assert_eq!(
        refused.as_deref(),
        Some("OptimismPortal_InvalidDisputeGame")
    );
    assert_eq!(at.escrowed(node).await.unwrap(), escrowed);

    // The truth stands, and its bond comes back.
    let stands = truth.over(right).await;
    assert_eq!(stands.status, GameStatus::DefenderWins);
    assert_eq!(stands.duels, 0);
    let bond = stands.credit(node, honest).await.unwrap();
    assert_eq!(bond, Wei::new(BOND));
    assert_eq!(truth.rollup.challenges().challenged, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn coins_from_nowhere_are_found_in_the_block_where_they_appear() {
    let truth = Truth::start(Duration::from_secs(2)).await;
    let (wrong, last) = (5, 8);
    let lie = Lie::copy(&truth, wrong, last, |number, transactions| {
        if number == wrong {
            let mint = forged_deposit(account("liar"), account("liar"), open(500), Vec::new());
            transactions.insert(1, mint);
        } else if number == wrong + 1 {
            // More than it has. The deposit used its first nonce.
            transactions.push(signed_withdrawal("liar", 1, open(400)));
        }
    })
    .await;
    let credited = lie.chain.handle().balance(account("liar")).unwrap();
    assert!(credited > U256::from(open(100).get()));
    let stolen = Withdrawal::find(&lie.chain.handle(), last);
    fight(&truth, &lie, &stolen).await;
    let balance = truth.chain().balance(account("liar")).unwrap();
    assert_eq!(balance, U256::from(open(10).get()));
    truth.rollup.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_withdrawal_that_nobody_made_is_not_paid() {
    let truth = Truth::start(Duration::from_secs(2)).await;
    let (wrong, last) = (6, 8);
    let bridge = truth.rollup.network().layer1.open_bridge;
    // In the name of the minter, so that the bridge would believe it: all that the genesis has.
    let release = OpenBridge::releaseCall {
        to: account("liar"),
        amount: U256::from(open(1_020).get()),
    };
    let forged = L2ToL1MessagePasser::initiateWithdrawalCall {
        target: bridge,
        gasLimit: U256::from(300_000),
        data: release.abi_encode().into(),
    };
    let lie = Lie::copy(&truth, wrong, last, |number, transactions| {
        if number == wrong {
            let call = forged.abi_encode();
            let deposit = forged_deposit(OPEN_MINTER, MESSAGE_PASSER, Wei::ZERO, call);
            transactions.insert(1, deposit);
        }
    })
    .await;
    let stolen = Withdrawal::find(&lie.chain.handle(), last);
    fight(&truth, &lie, &stolen).await;
    // Nor does the liar's proof fit the claim that stands, with its parts or with the true ones.
    let right = root(&truth.chain(), last);
    let stands = truth.game(right).await.unwrap();
    let refused = truth.refusal("liar", &stolen.prove(&truth, &stands)).await;
    assert_eq!(
        refused.as_deref(),
        Some("OptimismPortal_InvalidOutputRootProof")
    );
    let header = truth
        .chain()
        .block(last)
        .unwrap()
        .unwrap()
        .block
        .header
        .clone();
    let mixed = Withdrawal {
        output: OptimismPortal::OutputRootProof {
            version: B256::ZERO,
            stateRoot: header.state_root,
            messagePasserStorageRoot: header.withdrawals_root.unwrap(),
            latestBlockhash: header.hash(),
        },
        ..stolen
    };
    assert!(
        truth
            .refusal("liar", &mixed.prove(&truth, &stands))
            .await
            .is_some()
    );
    truth.rollup.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deposit_cannot_be_left_out() {
    let truth = Truth::start(Duration::from_secs(2)).await;
    let at = truth.rollup.network().layer1;
    // An honest withdrawal, in both chains.
    let (rich, newcomer) = (account("rich"), account("newcomer"));
    let l2 = sender(&truth.rollup.layer2().url(), &["rich"]).await;
    let withdraw = Call::new(OPEN_MINTER, withdraw_to(rich)).with_value(open(7));
    let withdrawn = l2.send(rich, &withdraw).await.unwrap();
    // A deposit, which the liar's chain lacks.
    let deployer = account("deployer");
    truth
        .l1
        .send(deployer, &at.approve(open(50)))
        .await
        .unwrap();
    truth
        .l1
        .send(deployer, &at.deposit(newcomer, open(50)))
        .await
        .unwrap();
    let wrong = until("the deposit", async || {
        let head = truth.chain().head().unwrap().number;
        (1..=head).find(|number| {
            let block = truth.chain().block(*number).unwrap().unwrap().block;
            block
                .transactions
                .iter()
                .filter(|tx| tx.is_deposit())
                .count()
                == 2
        })
    })
    .await;
    assert!(withdrawn.block <= wrong);
    let last = wrong + 2;
    let lie = Lie::copy(&truth, wrong, last, |number, transactions| {
        if number == wrong {
            let left_out = transactions.remove(1);
            assert_eq!(left_out[0], openledger_derivation::DEPOSIT_TYPE);
        }
    })
    .await;
    let nothing = lie.chain.handle().balance(newcomer).unwrap();
    assert_eq!(nothing, U256::ZERO);
    // Its owner takes the liar's word for it, and has to prove it again, to the claim that stands.
    let believed = Withdrawal::find(&lie.chain.handle(), last);
    fight(&truth, &lie, &believed).await;
    let again = Withdrawal::find(&truth.chain(), last);
    assert_eq!(again.call, believed.call);
    let stands = truth.game(root(&truth.chain(), last)).await.unwrap();
    truth
        .l1
        .send(rich, &again.prove(&truth, &stands))
        .await
        .unwrap();
    until("both delays", async || {
        let refused = truth.refusal("rich", &again.finalize(&truth)).await;
        refused.is_none().then_some(())
    })
    .await;
    truth.l1.send(rich, &again.finalize(&truth)).await.unwrap();
    let asked = OpenToken::balanceOfCall { account: rich };
    let asked = Call::new(at.open_token, asked.abi_encode());
    let held = truth.l1.node().call(None, &asked).await.unwrap();
    assert_eq!(U256::from_be_slice(&held), U256::from(open(7).get()));
    truth.rollup.stop().await;
}

fn head_of(config: &RollupConfig, block: &Block) -> L2Head {
    let first = block.transactions.first().map(|tx| tx.encoded.as_ref());
    let header = alloy_rlp::encode(block.header.inner());
    config.head_of(&header, first).unwrap()
}

/// The frames of `batch`'s blocks, with one more transaction in block `wrong`.
fn forged_payload(truth: &Truth, batch: &Sent, wrong: u64, transaction: &Bytes) -> Bytes {
    let config = &truth.rollup.network().rollup;
    let mut channel = ChannelOut::new(config.clone(), ChannelLimits::default(), [9; 16]);
    for number in batch.first..=batch.last {
        let block = truth.chain().block(number).unwrap().unwrap().block;
        let head = head_of(config, &block);
        let mut transactions = made_of(&block).transactions;
        if number == wrong {
            transactions.push(transaction.clone());
        }
        channel
            .add_block(&BlockData {
                parent_hash: head.parent_hash,
                timestamp: head.timestamp,
                l1_origin: head.l1_origin,
                sequence_number: head.sequence_number,
                transactions: &transactions,
            })
            .unwrap();
    }
    inbox_frames(&channel.close().unwrap().frames)
}

/// A data availability server that answers every question with the same bytes.
async fn serve_everywhere(payload: Bytes) -> String {
    let app = axum::Router::new().fallback(move || async move { payload.to_vec() });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_of_other_bytes_than_those_committed_to_falls() {
    let truth = Truth::start(Duration::from_secs(5)).await;
    // A batch that is not the first, and blocks after the wrong one in it.
    let batch = until("a batch", async || {
        let recent = truth.rollup.batches().recent;
        recent
            .into_iter()
            .find(|batch| batch.first > 1 && batch.last > batch.first + 1)
    })
    .await;
    assert_eq!(batch.target, "da");
    truth.safe(batch.last).await;
    let (wrong, last) = (batch.first + 1, batch.last);
    let spend = signed_withdrawal("liar", 0, open(4));
    let payload = forged_payload(&truth, &batch, wrong, &spend);

    // Whoever checks what a server says does not follow it.
    let forger = serve_everywhere(payload).await;
    let (network, l1) = (truth.rollup.network(), truth.rollup.layer1().url());
    let home = truth.dir.path().join("verifier");
    let doubting = verifier(network, &home, &l1, &forger).await;
    until("doubt", async || doubting.status().heads().trouble).await;
    assert_eq!(doubting.chain().labels().unwrap().safe, 0);
    doubting.stop().await;

    // The liar does: its chain is what those bytes say.
    let lie = Lie::copy(&truth, wrong, last, |number, transactions| {
        if number == wrong {
            transactions.push(spend.clone());
        }
    })
    .await;
    let stolen = Withdrawal::find(&lie.chain.handle(), last);
    fight(&truth, &lie, &stolen).await;
    truth.rollup.stop().await;
}
