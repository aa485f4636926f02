//! Hand-made values for looking at pages and testing them. Nothing here was measured.

#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    reason = "shared by tests and an example"
)]

use openledger_node::rollup::Layer1;
use openledger_node::rollup::batching::{Batches, Sent};
use openledger_node::rollup::claims::Claims;
use openledger_node::view::*;
use openledger_primitives::{Address, B256, Wei};

pub const NOW: u64 = 1_795_232_000;

pub const PEOPLE: [&str; 9] = [
    "fern-archive",
    "orbit-notes",
    "quiet-kernel",
    "salt-and-proof",
    "tidal-lab",
    "maple-ledger",
    "north-lantern",
    "open-field",
    "paper-crane",
];

pub fn address(n: usize) -> Address {
    Address::from_word(hash(n))
}

pub fn hash(n: usize) -> B256 {
    openledger_primitives::keccak256(n.to_be_bytes())
}

pub fn wei(micro_open: u128) -> Wei {
    Wei::new(micro_open * 1_000_000_000_000 + micro_open * 12_345)
}

pub fn net(id: u64) -> DatanetSummary {
    DatanetSummary {
        id,
        name: if id == 1 {
            "Systems and ledgers"
        } else {
            "Garden questions"
        }
        .into(),
        licence: if id == 1 { "CC-BY-4.0" } else { "CC0-1.0" }.into(),
        version: 2,
        accepted: 612 / id,
        rejected: 47 / id,
        contributors: 14 / id,
        earned: wei(18_412),
    }
}

pub const BASE: &str = "openledger-base-1m";
pub const ADAPTER: &str = "ft:openledger-base-1m:dev:systems-and-ledgers:1";

pub fn models() -> Vec<ModelSummary> {
    vec![
        ModelSummary {
            id: ADAPTER.into(),
            parent: Some(BASE.into()),
            owner: address(50),
            registry_id: Some(1),
            parameters: 61_440,
            inferences: 24,
            fees: wei(46_030),
        },
        ModelSummary {
            id: BASE.into(),
            parent: None,
            owner: address(51),
            registry_id: None,
            parameters: 1_048_576,
            inferences: 0,
            fees: Wei::ZERO,
        },
    ]
}

pub fn contributors() -> Vec<ContributorLine> {
    PEOPLE
        .iter()
        .enumerate()
        .map(|(n, name)| ContributorLine {
            name: (*name).into(),
            address: address(n),
            accepted: 90 - 8 * n as u64,
            rejected: n as u64 % 4,
            earned: wei(5_000 / (n as u128 + 1)),
        })
        .collect()
}

pub fn rows() -> Page<RowView> {
    let texts = [
        (
            "What does a rollup publish to its base chain?",
            "The batches of transactions in order, and a root of the state after them, so that anyone can run the same transactions and compare.",
        ),
        (
            "Why does a Merkle proof need the leaf's position?",
            "Because the order of the two children decides the hash of their parent: the same leaf at another place would give another root.",
        ),
        (
            "When is a LoRA adapter smaller than full tuning?",
            "Always: two thin matrices of rank r replace a change of the whole weight, so it has r times (in + out) numbers instead of in times out.",
        ),
        (
            "What is a challenge window?",
            "The time in which anybody may show that a posted result is wrong, before money can be taken out on its word.",
        ),
    ];
    Page {
        items: texts
            .iter()
            .enumerate()
            .map(|(n, (prompt, text))| RowView {
                row: 18 + n as u32,
                line: 21 + n as u64,
                contributor: PEOPLE[n % 4].into(),
                address: address(n % 4),
                field: Some(["rollups", "proofs", "tuning", "rollups"][n].into()),
                prompt: Some((*prompt).into()),
                text: (*text).into(),
                contribution: hash(200 + n),
                earned: wei([912, 0, 48, 3][n]),
            })
            .collect(),
        offset: 0,
        total: 612,
    }
}

pub fn rejections() -> Page<RejectionView> {
    let list = [
        (
            "exact-duplicate",
            "equal to row 41, contributed first by orbit-notes",
            Some("paper-crane"),
        ),
        (
            "near-duplicate",
            "86 % of its 5-grams stand in row 120",
            Some("paper-crane"),
        ),
        (
            "email-address",
            "an e-mail address at character 31",
            Some("open-field"),
        ),
        (
            "private-key",
            "64 hex digits after \"key:\" at character 12",
            Some("open-field"),
        ),
        (
            "repetitive",
            "one line repeated 14 times",
            Some("north-lantern"),
        ),
        ("malformed-json", "expected `,` or `}` at column 88", None),
    ];
    Page {
        items: list
            .iter()
            .enumerate()
            .map(|(n, (reason, evidence, who))| RejectionView {
                line: 88 + 31 * n as u64,
                contributor: who.map(Into::into),
                reason: (*reason).into(),
                evidence: (*evidence).into(),
            })
            .collect(),
        offset: 0,
        total: 47,
    }
}

pub fn datanet() -> DatanetView {
    let count = |pairs: &[(&str, u64)]| pairs.iter().map(|(a, b)| ((*a).to_owned(), *b)).collect();
    DatanetView {
        summary: net(1),
        source: "systems-and-ledgers.jsonl".into(),
        by_reason: count(&[
            ("exact-duplicate", 16),
            ("near-duplicate", 12),
            ("email-address", 8),
            ("repetitive", 6),
            ("private-key", 3),
            ("malformed-json", 2),
        ]),
        by_field: count(&[
            ("rollups", 160),
            ("proofs", 121),
            ("tuning", 118),
            ("data", 96),
            ("economics", 71),
            ("networks", 46),
        ]),
        contributors: contributors(),
        versions: vec![VersionView {
            number: 2,
            digest: hash(1),
            rows_root: hash(2),
            clusters_root: hash(3),
            policy_hash: hash(4),
            accepted: 612,
            tx: Some(hash(5)),
        }],
        models: models()[..1].to_vec(),
    }
}

pub fn points(n: u64) -> Vec<LossPoint> {
    let mut smoothed = 5.1;
    (1..=n)
        .map(|step| {
            let t = step as f64 / 400.0;
            let noise = ((step * 7919 % 101) as f64 / 101.0 - 0.5) * 0.55;
            let loss = 2.35 + 2.75 * (-3.2 * t).exp() + noise;
            smoothed = 0.94 * smoothed + 0.06 * loss;
            LossPoint {
                step,
                steps: 400,
                loss,
                smoothed,
                perplexity: loss.exp(),
                tokens: step * 900,
                memory_bytes: Some(310_000_000 + step * 1_000),
                eta_seconds: (400 - step) as f64 * 0.2,
                eval: (step == 1 || step % 50 == 0).then(|| 2.62 + 2.5 * (-2.9 * t).exp()),
                lr: 2e-3 * (1.0 - t).max(0.0),
                grad_norm: 1.0 + noise.abs(),
                tokens_per_second: 2_900.0 + noise * 300.0,
            }
        })
        .collect()
}

pub fn run(status: &str) -> RunView {
    let step = match status {
        "succeeded" => 400,
        "queued" => 0,
        _ => 236,
    };
    RunView {
        id: "ftjob-0001".into(),
        status: status.into(),
        message: match status {
            "failed" => "loss is not a number after step 236; the last checkpoint is kept",
            "running" => "training on 551 rows, 61 kept for evaluation",
            _ => "",
        }
        .into(),
        model: ADAPTER.into(),
        base: BASE.into(),
        datanet: 1,
        preset: "quick".into(),
        step,
        steps: 400,
        eta_seconds: (status == "running").then_some(34.2),
        points: points(step),
        recipe: [
            ("rank", "8"),
            ("alpha", "16"),
            ("targets", "q, k, v, o, gate, up, down"),
            (
                "learning rate",
                "0.002, linear warm-up over 20 steps, then cosine",
            ),
            ("batch", "8 rows"),
            ("seed", "1"),
        ]
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .to_vec(),
        digest: (status == "succeeded").then(|| hash(6)),
    }
}

pub fn split() -> Vec<(String, u16)> {
    [
        ("contributors", 4000),
        ("operator", 3000),
        ("model_owner", 1800),
        ("stakers", 600),
        ("treasury", 600),
    ]
    .map(|(a, b)| (a.to_owned(), b))
    .to_vec()
}

pub fn model() -> ModelView {
    ModelView {
        summary: models().remove(0),
        digest: hash(7),
        weights: hash(8),
        facts: [
            ("rank", "8"),
            ("alpha", "16"),
            ("targets", "7 projections"),
            ("layers", "6"),
            ("context", "512 tokens"),
        ]
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .to_vec(),
        datanets: vec![(1, "Systems and ledgers".into(), 2)],
        run: Some(run("succeeded")),
        price_in: Wei::new(2_000_000_000_000),
        price_out: Wei::new(8_000_000_000_000),
        split: split(),
        tx: Some(hash(9)),
    }
}

pub fn presets() -> Vec<PresetView> {
    [
        ("quick", "Enough to see it learn.", 400, 41.0),
        ("standard", "What most people want.", 1_600, 170.0),
        (
            "thorough",
            "Until the loss on unseen rows stops falling.",
            6_000,
            644.0,
        ),
    ]
    .map(|(name, about, steps, seconds)| PresetView {
        name: name.into(),
        about: about.into(),
        steps,
        seconds,
        memory_bytes: 312_000_000,
        free_bytes: Some(12_000_000_000),
    })
    .to_vec()
}

pub fn earners() -> Vec<EarnerLine> {
    contributors()
        .into_iter()
        .enumerate()
        .map(|(n, line)| EarnerLine {
            name: (n != 6).then_some(line.name),
            role: if n == 3 { "operator" } else { "contributor" }.into(),
            address: line.address,
            earned: line.earned,
            claimed: if n < 5 { line.earned } else { Wei::ZERO },
            rows: (0..3 - (n as u32) / 4)
                .map(|r| 18 + r * 41 + n as u32)
                .collect(),
        })
        .collect()
}

pub fn epochs() -> Vec<EpochView> {
    (1..=2)
        .rev()
        .map(|epoch| EpochView {
            epoch,
            status: if epoch == 2 { "posted" } else { "active" }.into(),
            digest: hash(60 + epoch as usize),
            fees: wei(46_030),
            receipts: 24,
            paid: [
                ("contributors", 14_212),
                ("operator", 13_809),
                ("model_owner", 8_285),
                ("stakers", 2_762),
                ("treasury", 2_762),
                ("commons", 4_200),
            ]
            .map(|(a, b)| (a.to_owned(), wei(b)))
            .to_vec(),
            clusters_paid: 83,
            tx: Some(hash(70 + epoch as usize)),
            conserved: true,
        })
        .collect()
}

pub fn chain() -> ChainView {
    ChainView {
        id: 42_069,
        head: 1_284,
        head_hash: hash(90),
        timestamp: NOW - 2,
        txs: 96,
        gas_used: 21_480_112,
        rpc_url: "http://127.0.0.1:8545".into(),
    }
}

pub fn completions() -> Vec<CompletionSummary> {
    rows()
        .items
        .into_iter()
        .enumerate()
        .map(|(n, row)| CompletionSummary {
            id: format!("chatcmpl-{n}f3a9c"),
            model: ADAPTER.into(),
            prompt: row.prompt.unwrap(),
            answer: row.text,
            fee: wei(1_918 + 31 * n as u128),
            created: NOW - 40 - 60 * n as u64,
            attribution: "ready".into(),
        })
        .collect()
}

pub fn overview(stage: bool) -> Overview {
    Overview {
        chain: chain(),
        datanets: vec![net(1), net(2)],
        models: models(),
        inferences: 24,
        fees: wei(92_060),
        contributors: wei(28_424),
        epochs: epochs(),
        top_earners: earners(),
        stage: stage.then(|| StageView {
            name: "tuning".into(),
            message: "Tuning the base on Systems and ledgers".into(),
            done: 236,
            total: 400,
        }),
    }
}

pub fn empty_overview() -> Overview {
    Overview {
        datanets: vec![],
        models: vec![],
        inferences: 0,
        fees: Wei::ZERO,
        contributors: Wei::ZERO,
        epochs: vec![],
        top_earners: vec![],
        ..overview(false)
    }
}

fn source(n: usize, row: u32, text: &str) -> SourceView {
    SourceView {
        datanet: 1,
        row,
        contributor: PEOPLE[n].into(),
        address: address(n),
        text: text.into(),
    }
}

const ANSWER: &str = "A rollup posts this: The batches of transactions in order, and a root of the state after them. Then anybody may show that a posted result is wrong, before money can be taken out on its word, so the base chain only has to settle disputes.";

fn span(
    text: &str,
    tokens: (u32, u32),
    bits: u64,
    admissible: bool,
    sources: Vec<SourceView>,
) -> SpanView {
    let start = ANSWER[..ANSWER.find(text).unwrap()].chars().count();
    SpanView {
        start_index: start,
        end_index: start + text.chars().count(),
        token_start: tokens.0,
        token_end: tokens.1,
        text: text.into(),
        occurrences: sources.len() as u64,
        surprisal_millibits: bits,
        admissible,
        sources,
    }
}

pub fn attribution(status: &str) -> AttributionView {
    let rows = rows();
    let first = &rows.items[0].text;
    let second = &rows.items[3].text;
    let spans = vec![
        span(
            "The batches of transactions in order, and a root of the state after them",
            (3, 19),
            84_300,
            true,
            vec![source(0, 18, first), source(8, 301, first)],
        ),
        span(
            "a root of the state after them. Then",
            (12, 21),
            41_900,
            true,
            vec![source(
                4,
                77,
                "Each block's header carries a root of the state after them. Then the next block builds on it.",
            )],
        ),
        span(
            "anybody may show that a posted result is wrong, before money can be taken out on its word",
            (21, 41),
            132_800,
            true,
            vec![source(3, 21, second)],
        ),
        span(
            "so the base chain",
            (42, 46),
            17_200,
            false,
            vec![source(
                2,
                140,
                "Gas is paid there too, so the base chain is the costly part.",
            )],
        ),
    ];
    let score = |n: usize, row: u32, text: &str, score: i64| ScoredRowView {
        source: source(n, row, text),
        score,
        above_floor: score > 61_000,
    };
    AttributionView {
        id: "chatcmpl-0f3a9c".into(),
        object: "attribution".into(),
        status: status.into(),
        model: ADAPTER.into(),
        prompt: "What does a rollup publish to its base chain?".into(),
        output: ANSWER.into(),
        digest: Some(hash(30)),
        receipt: ReceiptView {
            digest: hash(31),
            signature: format!("0x{}", "5a".repeat(65)),
            operator: address(3),
            payer: address(52),
            fee: wei(1_918),
            prompt_tokens: 14,
            output_tokens: 52,
            prompt_digest: hash(32),
            output_digest: hash(33),
            activation: hash(34),
            created: NOW - 40,
        },
        spans,
        rows: vec![
            score(0, 18, first, 412_300),
            score(3, 21, second, 288_100),
            score(
                1,
                64,
                "A rollup is a chain whose rules are checked on another chain.",
                196_400,
            ),
            score(
                4,
                77,
                "Each block's header carries a root of the state after them. Then the next block builds on it.",
                121_900,
            ),
            score(
                7,
                402,
                "Anybody can run a verifier; it needs the data and the rules, nothing else.",
                88_000,
            ),
            score(5, 350, "A batch is compressed before it is posted.", 52_800),
            score(6, 511, "Tomatoes want six hours of sun.", -74_200),
        ],
        rows_scored: 551,
        floor: 61_000,
        parameters: hash(35),
        shares: vec![
            ShareView {
                name: PEOPLE[0].into(),
                address: address(0),
                amount: wei(192),
                bps: 5_008,
            },
            ShareView {
                name: PEOPLE[3].into(),
                address: address(3),
                amount: wei(148),
                bps: 3_861,
            },
            ShareView {
                name: PEOPLE[4].into(),
                address: address(4),
                amount: wei(12),
                bps: 313,
            },
            ShareView {
                name: "commons".into(),
                address: address(99),
                amount: wei(31),
                bps: 818,
            },
        ],
        epoch: Some(2),
        verify: "openledger attribution verify chatcmpl-0f3a9c --data-dir ~/.openledger".into(),
    }
}

pub fn wallet() -> WalletView {
    WalletView {
        name: Some(PEOPLE[0].into()),
        role: Some("contributor".into()),
        address: address(0),
        balance: wei(4_712),
        earned: wei(5_000),
        claimed: wei(4_712),
        claimable: wei(288),
        lines: (0..6)
            .map(|n| EarningLine {
                epoch: 2 - n / 4,
                channel: if n % 2 == 0 { "span" } else { "gradient" }.into(),
                row: Some(18 + 41 * n as u32),
                completion: (n % 2 == 0).then(|| format!("chatcmpl-{n}f3a9c")),
                amount: wei(912 / (n as u128 + 1)),
            })
            .collect(),
        claims: vec![(1, wei(4_712), hash(80))],
    }
}

pub fn transaction(n: usize) -> TransactionView {
    let (action, sentence, contract) = [
        (
            "InferenceSettlement.claim",
            "fern-archive (0x00000000000000000000000000000000000000aB) claimed 0.004712 OPEN, everything earned up to epoch 1",
            "InferenceSettlement",
        ),
        (
            "InferenceSettlement.postEpoch",
            "Epoch 2 posted: 24 receipts, 0.04603 OPEN in fees",
            "InferenceSettlement",
        ),
        (
            "ContributionAnchor.anchor",
            "612 contributions to Datanet 1 anchored under one root; a bond of 6.12 OPEN is locked",
            "ContributionAnchor",
        ),
        (
            "ModelRegistry.register",
            "Adapter 1 registered on openledger-base-1m, tuned on Datanet 1",
            "ModelRegistry",
        ),
    ][n % 4];
    TransactionView {
        hash: hash(100 + n),
        block: 1_284 - n as u64,
        from: address(n),
        to: Some(address(120)),
        from_name: Some(PEOPLE[n % 9].into()),
        to_name: Some(contract.into()),
        value: Wei::ZERO,
        gas_used: 84_201,
        success: n != 5,
        system: false,
        action: action.into(),
        events: vec![EventView {
            address: address(120),
            contract: Some(contract.into()),
            sentence: sentence.into(),
            topics: vec![hash(130), hash(131)],
            data: format!("0x{}", "00ab".repeat(48)),
        }],
        input: format!("0x2e7ba6ef{}", "0".repeat(192)),
    }
}

pub fn block(n: u64) -> BlockView {
    BlockView {
        number: 1_284 - n,
        hash: hash(400 + n as usize),
        parent: hash(401 + n as usize),
        state_root: hash(500 + n as usize),
        timestamp: NOW - 2 - 7 * n,
        gas_used: if n % 3 == 2 { 0 } else { 84_201 * (n % 3 + 1) },
        gas_limit: 30_000_000,
        base_fee: 1_000_000,
        transactions: if n % 3 == 2 {
            vec![]
        } else {
            (0..=n % 3).map(|t| transaction((n + t) as usize)).collect()
        },
    }
}

pub fn judged() -> JudgeView {
    let verdict = |line, text: &str, reason: Option<&str>, evidence: &str| VerdictView {
        line,
        text: text.into(),
        reason: reason.map(Into::into),
        evidence: evidence.into(),
    };
    JudgeView {
        ticket: "t-5f2c".into(),
        columns: vec!["question".into(), "answer".into(), "author".into()],
        text: vec!["question".into(), "answer".into()],
        contributor: Some("author".into()),
        verdicts: vec![
            verdict(
                1,
                "Why do roots commit to order? Because a proof names a position.",
                None,
                "",
            ),
            verdict(
                2,
                "What is a bond? Money that is lost when a claim proves wrong.",
                None,
                "",
            ),
            verdict(
                3,
                "What does a rollup publish to its base chain? The batches …",
                Some("exact-duplicate"),
                "equal to row 18, contributed first by fern-archive",
            ),
            verdict(
                4,
                "Who do I ask? Write to jo@example.org.",
                Some("email-address"),
                "an e-mail address at character 23",
            ),
            verdict(
                5,
                "How long is an epoch? As long as the operator keeps it open.",
                None,
                "",
            ),
        ],
        accepted: 3,
        rejected: 2,
        bond: Wei::new(30_000_000_000_000_000),
    }
}

pub fn receipt() -> ContributionReceipt {
    ContributionReceipt {
        datanet: 1,
        version: 3,
        accepted: 3,
        rejected: 2,
        wallets: (0..2).map(|n| (PEOPLE[n].to_owned(), address(n))).collect(),
        root: hash(600),
        txs: vec![("commit".into(), hash(601)), ("anchor".into(), hash(602))],
    }
}

/// A batch in each of the ways that one can be.
pub fn batches() -> Vec<BatchView> {
    let data = [
        None,
        Some(DataView::Foreign),
        Some(DataView::Digest { digest: hash(601) }),
        Some(DataView::Certificate {
            kzg_commitment: [7; 64].into(),
            payload_digest: hash(602),
            payload_bytes: 2_345,
            reference_block: 639,
            committee: hash(603),
            signers: vec![0, 1, 3],
        }),
    ];
    let sent = rollup(true).batches.recent;
    let views = data.into_iter().map(|data| BatchView {
        sent: sent[usize::from(data.is_some())].clone(),
        safe: data.is_none(),
        payload_url: data
            .is_some()
            .then(|| "http://127.0.0.1:3100/get/0x".into()),
        data,
    });
    views.collect()
}

pub fn rollup(busy: bool) -> RollupView {
    let amount = wei(12_000_000);
    let sent = |n: u64, target: &'static str| Sent {
        first: 1_200 + 10 * n,
        last: 1_209 + 10 * n,
        transactions: 24,
        bytes: 2_345,
        target,
        commitment: (target == "da").then(|| [0, 0xab, 0xcd].into_iter().collect()),
        l1_transactions: vec![hash(600)],
        l1_block: 640 + 5 * n,
        l1_gas: 22_016,
        l1_fee: Wei::new(22_016 * 1_000_000_007),
    };
    let batches = Batches {
        recent: [sent(0, "calldata"), sent(1, "da")].into(),
        count: 2,
        bytes: 4_690,
        transactions: 48,
        l1_gas: 44_032,
        l1_fee: Wei::new(44_032 * 1_000_000_007),
        fail_overs: 1,
        lost: 1,
        shown: 0,
        backlog: 3,
        trouble: None,
    };
    let withdrawal = |status: &'static str, ready_at| WithdrawalView {
        hash: hash(700),
        to: address(3),
        amount,
        block: 1_204,
        tx: hash(701),
        status,
        ready_at,
    };
    RollupView {
        head: 1_284,
        safe: if busy { 1_219 } else { 0 },
        finalized: if busy { 1_209 } else { 0 },
        l1: Layer1View {
            url: "http://127.0.0.1:8544".into(),
            head: 652,
            finalized: 644,
            derived: 651,
            contracts: Layer1::expected(901_336, address(9), 0),
        },
        da_url: "http://127.0.0.1:3100".into(),
        resets: 0,
        batches: if busy { batches } else { Batches::default() },
        proposer: Claims {
            proposed: 3,
            last_block: busy.then_some(1_209),
            ..Claims::default()
        },
        challenger: Claims::default(),
        deposits: if busy {
            vec![DepositView {
                from: address(1),
                to: address(2),
                amount,
                block: 1_203,
                tx: hash(702),
            }]
        } else {
            Vec::new()
        },
        withdrawals: if busy {
            vec![
                withdrawal("waiting", None),
                withdrawal("proven", Some(NOW + 60)),
                withdrawal("finalized", Some(NOW - 60)),
            ]
        } else {
            Vec::new()
        },
        trouble: (!busy).then(|| "data availability does not answer".into()),
    }
}
