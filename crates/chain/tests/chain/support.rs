//! A deployed test network with funded wallets.

use std::sync::Arc;

use openledger_chain::evm::TestChain;
use openledger_chain::{
    Call, Deployment, Error, Evidence, Follower, Genesis, Located, MemoryOutbox, Node, Reader,
    Receipt, Sender, SenderConfig, deploy, signing,
};
use openledger_primitives::records::{Contribution, EpochSettlement, Parameters};
use openledger_primitives::{
    Address, B256, DEV_CHAIN_ID, RECORD_VERSION, Record, Wei, keccak256, merkle,
};

pub(crate) use alloy_signer_local::PrivateKeySigner;

/// A wallet derived from a name.
pub(crate) fn wallet(name: &str) -> PrivateKeySigner {
    PrivateKeySigner::from_bytes(&keccak256(name)).unwrap()
}

pub(crate) fn address(name: &str) -> Address {
    wallet(name).address()
}

/// `n` OPEN.
pub(crate) fn open(n: u64) -> Wei {
    Wei::OPEN.mul_u64(n).unwrap()
}

/// Patient in numbers of polls, not in time: the test chain mines at once.
pub(crate) const CONFIG: SenderConfig = SenderConfig {
    poll: std::time::Duration::ZERO,
    resubmit: std::time::Duration::from_millis(1),
    timeout: std::time::Duration::from_secs(60),
    gas_margin_percent: 25,
    replacement: None,
};

pub(crate) const NAMES: [&str; 8] = [
    "deployer",
    "administrator",
    "treasury",
    "settler",
    "guardian",
    "payer",
    "alice",
    "bob",
];

pub(crate) struct Network {
    pub(crate) chain: Arc<TestChain>,
    pub(crate) sender: Sender,
    pub(crate) at: Deployment,
    pub(crate) reader: Reader,
}

/// Seconds of the challenge window: more than a test has transactions, at a second a block.
const WINDOW: u64 = 60;

/// The parameters of the first epoch.
pub(crate) fn parameters() -> Parameters {
    Parameters {
        challengeWindow: WINDOW,
        ..Parameters::default()
    }
}

pub(crate) fn genesis() -> Genesis {
    let settlers = [address("settler")];
    let parameters = parameters();
    Genesis {
        parameters,
        ..Genesis::dev(
            address("administrator"),
            address("treasury"),
            &settlers,
            address("guardian"),
        )
    }
}

pub(crate) async fn chain_and_sender() -> (Arc<TestChain>, Sender) {
    let chain = Arc::new(TestChain::new(DEV_CHAIN_ID));
    for name in NAMES {
        chain.fund(address(name), open(1_000));
    }
    let sender = Sender::new(
        chain.clone(),
        NAMES.map(wallet),
        Arc::new(MemoryOutbox::default()),
        CONFIG,
    )
    .await
    .unwrap();
    (chain, sender)
}

impl Network {
    pub(crate) async fn start() -> Self {
        let (chain, sender) = chain_and_sender().await;
        let at = deploy(&sender, address("deployer"), 0, &genesis())
            .await
            .unwrap();
        let node: Arc<dyn Node> = chain.clone();
        Self {
            chain,
            sender,
            at,
            reader: Reader::new(node, at),
        }
    }

    pub(crate) async fn send(&self, from: &str, call: &Call) -> Result<Receipt, Error> {
        self.sender.send(address(from), call).await
    }

    pub(crate) async fn ok(&self, from: &str, call: &Call) -> Receipt {
        self.send(from, call).await.unwrap()
    }

    /// The reason for which the contracts refuse the call.
    pub(crate) async fn refused(&self, from: &str, call: &Call) -> String {
        match self.send(from, call).await {
            Err(Error::Reverted { reason }) => reason,
            other => panic!("expected a refusal, got {other:?}"),
        }
    }

    pub(crate) async fn balance(&self, account: Address) -> Wei {
        self.chain.balance(account, None).await.unwrap()
    }

    pub(crate) async fn events(&self) -> Vec<Located> {
        let node: Arc<dyn Node> = self.chain.clone();
        Follower::new(node, self.at, 0).catch_up().await.unwrap()
    }

    /// Lets the challenge window pass.
    pub(crate) async fn pass_window(&self) {
        self.chain.pass(WINDOW + 1);
        self.chain.mine();
    }

    /// Creates a Datanet owned by `owner`; gives its id.
    pub(crate) async fn datanet(&self, owner: &str) -> u64 {
        let fee = Wei::new(self.reader.parameters().await.unwrap().datanetFee);
        let policy = keccak256("policy");
        let call = self
            .at
            .create_datanet("Rivers", "CC-BY-4.0", policy, "{text}", fee);
        self.ok(owner, &call).await;
        self.reader.datanets().await.unwrap()
    }

    /// The settlement record of the open epoch with these roots.
    pub(crate) async fn settlement(
        &self,
        payer_root: B256,
        earner_root: B256,
        fees: Wei,
    ) -> EpochSettlement {
        let epoch = self.reader.open_epoch().await.unwrap();
        EpochSettlement {
            version: RECORD_VERSION,
            chainId: DEV_CHAIN_ID,
            epoch,
            receiptRoot: keccak256("receipts"),
            reportRoot: keccak256("reports"),
            payerCumRoot: payer_root,
            earnerCumRoot: earner_root,
            fees: fees.get(),
            receipts: 3,
            parameters: self.reader.parameters_at(epoch).await.unwrap().digest(),
            daRef: keccak256("data"),
        }
    }
}

/// A batch of signed contributions, ready to be anchored.
pub(crate) struct Batch {
    pub(crate) salt: B256,
    pub(crate) datanet: u64,
    pub(crate) contents: Vec<B256>,
    pub(crate) items: Vec<(Contribution, [u8; 65])>,
    pub(crate) id: u64,
}

impl Batch {
    pub(crate) fn contents_tree(&self) -> merkle::Tree {
        merkle::Tree::from_data(&self.contents)
    }

    pub(crate) fn tree(&self) -> merkle::Tree {
        merkle::Tree::from_leaves(
            self.items
                .iter()
                .map(|(c, s)| Evidence::leaf(c, s))
                .collect(),
        )
    }

    pub(crate) fn evidence(&self, index: usize) -> Evidence {
        let (contribution, signature) = &self.items[index];
        Evidence {
            batch: self.id,
            index: index.try_into().unwrap(),
            contribution: contribution.clone(),
            signature: signature.to_vec().into(),
            proof: self.tree().proof(index).unwrap(),
        }
    }
}

/// How a batch deviates from an honest one.
#[derive(Default)]
pub(crate) struct Twist {
    /// Content of this position is replaced after the commitment.
    pub(crate) swap: Option<(usize, B256)>,
    /// This position is signed by somebody else.
    pub(crate) forge: Option<usize>,
    /// This position names another Datanet.
    pub(crate) misplace: Option<usize>,
}

impl Network {
    /// Commits to `texts` by `contributors` in turn, signs and anchors them.
    pub(crate) async fn anchor(
        &self,
        submitter: &'static str,
        datanet: u64,
        texts: &[&str],
        twist: &Twist,
    ) -> Batch {
        let salt = keccak256(format!("{submitter}{texts:?}"));
        let mut contents: Vec<B256> = texts
            .iter()
            .map(|t| merkle::chunk_root(t.as_bytes()))
            .collect();
        let contents_root = merkle::Tree::from_data(&contents).root();
        let commitment = Deployment::commitment(address(submitter), datanet, contents_root, salt);
        self.ok(submitter, &self.at.commit(commitment)).await;
        let block = self.reader.commitment(commitment).await.unwrap().0.unwrap();

        let honest = contents.clone();
        if let Some((index, content)) = twist.swap {
            contents[index] = content;
        }
        let domain = self.at.contribution_domain();
        let items = (0..).zip(&contents).map(|(index, content): (usize, _)| {
            let name = if index % 2 == 0 { "alice" } else { "bob" };
            let contribution = Contribution {
                version: RECORD_VERSION,
                chainId: DEV_CHAIN_ID,
                datanet: datanet + u64::from(twist.misplace == Some(index)),
                contributor: address(name),
                contentRoot: *content,
                size: 10,
                licence: "CC-BY-4.0".to_owned(),
                nonce: index.try_into().unwrap(),
                commitBlock: block,
            };
            let key = if twist.forge == Some(index) {
                "guardian"
            } else {
                name
            };
            let signature = signing::sign(&wallet(key), &contribution, &domain).unwrap();
            (contribution, signature)
        });
        let mut batch = Batch {
            salt,
            datanet,
            items: items.collect(),
            contents: honest,
            id: 0,
        };
        let bond = Wei::new(self.reader.parameters().await.unwrap().contributionBond);
        let bond = bond.mul_u64(texts.len().try_into().unwrap()).unwrap();
        self.ok(submitter, &self.at.deposit_contribution_bond(bond))
            .await;
        self.ok(submitter, &self.anchor_call(&batch)).await;
        batch.id = self.reader.commitment(commitment).await.unwrap().1.unwrap();
        batch
    }

    pub(crate) fn anchor_call(&self, batch: &Batch) -> Call {
        let count = batch.items.len().try_into().unwrap();
        self.at.anchor(
            batch.datanet,
            batch.tree().root(),
            batch.contents_tree().root(),
            count,
            10 * count,
            keccak256("data"),
            batch.salt,
        )
    }
}
