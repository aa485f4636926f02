//! One network, from its first block to paid wallets and through a restart, on a random base so
//! small that the whole takes seconds. What it says is nonsense; what it is charged, whose rows it
//! is traced to and who is paid must be right all the same.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::Path;
use std::time::Duration;

use alloy_signer_local::PrivateKeySigner;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use base64::Engine as _;
use openledger_chain::signing;
use openledger_model::{Base, Config, Dtype, Tokenizer};
use openledger_node::{LoopInput, LoopSpec, Node, NodeConfig, api, parts_sum_to_fees, summary};
use openledger_primitives::{Wei, records::Voucher};
use serde_json::{Value, json};
use tower::ServiceExt as _;

const PATIENCE: Duration = Duration::from_secs(60);

/// Rows of which the third is a copy of the first by somebody else, and the last carries an
/// e-mail address.
const ROWS: &[(&str, &str, &str)] = &[
    (
        "ada-notes",
        "What is a block?",
        "A block is a list of transactions with a header above it.",
    ),
    (
        "bo-notes",
        "What is a nonce?",
        "A nonce counts the transactions that an account has sent.",
    ),
    (
        "copy-cat",
        "What is a block?",
        "A block is a list of transactions with a header above it.",
    ),
    (
        "cy-notes",
        "What is gas?",
        "Gas measures the work that a transaction makes for everybody.",
    ),
    (
        "ada-notes",
        "What is a trie?",
        "A trie keeps every account under the path its hash spells.",
    ),
    (
        "di-notes",
        "What is a rollup?",
        "A rollup executes elsewhere and posts its data on a chain.",
    ),
    (
        "bo-notes",
        "What is a proof?",
        "A proof convinces whoever does not repeat the whole work.",
    ),
    (
        "cy-notes",
        "What is a bond?",
        "A bond is money that a liar loses to whoever shows the lie.",
    ),
    (
        "di-notes",
        "Whom do I ask?",
        "Write to someone.special@example.com and wait for an answer.",
    ),
];

fn tiny_base(dir: &Path) {
    let texts: Vec<String> = ROWS
        .iter()
        .map(|(_, q, a)| format!("Question: {q}\nAnswer: {a}"))
        .collect();
    let tokenizer = Tokenizer::train(texts.into_iter(), 300).unwrap();
    tokenizer.save(dir).unwrap();
    let config = Config {
        hidden: 32,
        layers: 1,
        heads: 2,
        kv_heads: 1,
        head_dim: 16,
        mlp: 48,
        vocab: tokenizer.len(),
        context: 128,
        rope_theta: 10_000.0,
        norm_eps: 1e-5,
        tie_embeddings: true,
        bos: Some(0),
        eos: vec![1],
        features: openledger_model::Features::default(),
    };
    Base::random(config, 7).save(dir, Dtype::F32).unwrap();
}

fn datanet(dir: &Path) -> LoopSpec {
    let file = dir.join("rows.jsonl");
    let mut lines: Vec<String> = ROWS
        .iter()
        .map(|(who, q, a)| json!({"who": who, "q": q, "a": a}).to_string())
        .collect();
    lines.insert(2, "this line is not JSON".into());
    fs::write(&file, lines.join("\n")).unwrap();
    LoopSpec {
        input: Some(LoopInput {
            file: Some(file),
            text: vec!["q".into(), "a".into()],
            contributor: "who".into(),
            limit: None,
        }),
    }
}

fn config(dir: &Path) -> NodeConfig {
    let local = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    NodeConfig {
        data_dir: dir.join("data"),
        rpc: local,
        l1: local,
        da: local,
        http: local,
        base: Some(dir.join("base")),
    }
}

async fn call(node: &Node, request: Request<Body>) -> (StatusCode, HeaderMap, String) {
    let response = api::router(node.clone()).oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = axum::body::to_bytes(body, 1 << 24).await.unwrap();
    (
        parts.status,
        parts.headers,
        String::from_utf8(bytes.to_vec()).unwrap(),
    )
}

/// Sends a good request and gives its JSON.
async fn fine(node: &Node, request: Request<Body>) -> Value {
    let (status, _, body) = call(node, request).await;
    assert!(status.is_success(), "{status}: {body}");
    serde_json::from_str(&body).unwrap()
}

/// Sends a bad request and checks status and code, and that the body has OpenAI's shape.
async fn refused(node: &Node, request: Request<Body>, status: u16, code: &str) -> Value {
    let (found, _, body) = call(node, request).await;
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(found.as_u16(), status, "{body}");
    assert_eq!(body["error"]["code"], code, "{body}");
    assert!(
        body["error"]["message"]
            .as_str()
            .is_some_and(|message| !message.is_empty())
    );
    assert!(body["error"]["type"].is_string());
    body["error"].clone()
}

fn post(path: &str, key: Option<&str>, body: &Value) -> Request<Body> {
    let mut request = Request::post(path).header("content-type", "application/json");
    if let Some(key) = key {
        request = request.header("authorization", format!("Bearer {key}"));
    }
    request.body(Body::from(body.to_string())).unwrap()
}

fn get(path: &str) -> Request<Body> {
    Request::get(path).body(Body::empty()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_from_its_first_block_through_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    tiny_base(&dir.path().join("base"));
    let spec = datanet(dir.path());

    let node = Node::open(config(dir.path())).await.unwrap();
    let first = node.run_loop(&spec).await.unwrap();
    let model = first.adapter.id.as_str();
    the_summary_is_right(&first);
    the_ledgers_agree(&node).await;
    bad_requests_are_refused(&node, model).await;
    answers_come_whole_and_in_pieces(&node, model).await;
    vouchers_pay_and_bad_ones_do_not(&node, model).await;
    a_name_makes_a_request_safe_to_repeat(&node, model).await;
    the_loop_runs_without_a_terminal(&node).await;

    // A second node on the same directory is told so.
    let second = Node::open(config(dir.path()))
        .await
        .unwrap_err()
        .to_string();
    assert!(second.contains("another openledger process"), "{second}");

    let receipts = node.overview().unwrap().inferences;
    let epochs = node.epochs().unwrap().len();
    let completion = node.completions(1).unwrap().remove(0).id;
    node.shutdown().await;
    drop(node);

    // Restarted, it knows everything, does nothing again, and every number still recomputes.
    let node = Node::open(config(dir.path())).await.unwrap();
    let again = node.run_loop(&spec).await.unwrap();
    assert_eq!(again.settlement.fees_wei, first.settlement.fees_wei);
    assert_eq!(again.adapter.digest, first.adapter.digest);
    assert_eq!(node.overview().unwrap().inferences, receipts);
    assert_eq!(node.epochs().unwrap().len(), epochs);
    let checked = node.verify_attribution(&completion).await.unwrap();
    assert!(
        checked
            .iter()
            .any(|line| line.contains("scores recomputed")),
        "{checked:?}"
    );
    node.shutdown().await;
}

fn the_summary_is_right(summary: &summary::Summary) {
    assert_eq!(summary.contributions.accepted, 7);
    let reasons: Vec<(&str, u64)> = summary
        .contributions
        .by_reason
        .iter()
        .map(|(reason, n)| (reason.as_str(), *n))
        .collect();
    assert_eq!(
        reasons,
        [
            ("email-address", 1),
            ("exact-duplicate", 1),
            ("malformed-json", 1)
        ]
    );
    assert_eq!(summary.contributors, 4);
    assert_eq!(summary.inferences, 7);
    assert!(parts_sum_to_fees(summary));
    assert!(!summary.settlement.fees_wei.is_zero());
    assert!(summary.settlement.conserved);
    assert!(summary.adapter.loss_last < summary.adapter.loss_first);
    let json = serde_json::to_value(summary).unwrap();
    assert!(json["settlement"]["fees_wei"].is_u64(), "{json}");
}

/// The node's own ledger and the chain's agree wallet by wallet.
async fn the_ledgers_agree(node: &Node) {
    let audit = openledger_node::audit(&node.rpc_url()).await.unwrap();
    assert!(audit.balanced, "{:?}", audit.problem);
    let earners = node.earners(0, 1000).unwrap().items;
    assert!(!earners.is_empty());
    for earner in &earners {
        let on_chain = audit
            .claimed
            .iter()
            .find(|(address, _)| *address == earner.address);
        assert_eq!(
            on_chain.map(|(_, wei)| *wei),
            Some(earner.earned),
            "{earner:?}"
        );
        assert_eq!(earner.claimed, earner.earned);
    }
    // A copy earns nothing, because it is no row.
    assert!(
        earners
            .iter()
            .all(|earner| earner.name.as_deref() != Some("copy-cat"))
    );
}

async fn bad_requests_are_refused(node: &Node, model: &str) {
    let key = node.dev_api_key();
    let key = key.as_deref();
    let chat = "/v1/chat/completions";
    let good = json!({"model": model, "messages": [{"role": "user", "content": "What is gas?"}]});
    let with = |field: &str, value: Value| {
        let mut body = good.clone();
        body[field] = value;
        post(chat, key, &body)
    };
    refused(node, post(chat, None, &good), 401, "invalid_api_key").await;
    refused(
        node,
        post(chat, Some("sk-wrong"), &good),
        401,
        "invalid_api_key",
    )
    .await;
    refused(node, with("model", json!("nobody")), 404, "model_not_found").await;
    refused(node, with("messages", json!([])), 400, "invalid_value").await;
    refused(node, with("messages", json!("hello")), 400, "invalid_json").await;
    for (field, value) in [
        ("temperature", json!(9)),
        ("top_p", json!(0)),
        ("n", json!(99)),
        ("response_format", json!({"type": "json_object"})),
        ("logit_bias", json!({"word": 1})),
        ("stop", json!(["", "x"])),
        ("max_tokens", json!(0)),
        ("top_logprobs", json!(3)),
        ("attribution", json!({"mode": "later"})),
    ] {
        let error = refused(node, with(field, value), 400, "invalid_value").await;
        assert!(
            error["param"]
                .as_str()
                .is_some_and(|param| param.starts_with(field)),
            "{error}"
        );
    }
    let long = json!([{"role": "user", "content": "word ".repeat(400)}]);
    refused(node, with("messages", long), 400, "context_length_exceeded").await;
    let huge = json!([{"role": "user", "content": "x".repeat(2 << 20)}]);
    refused(node, with("messages", huge), 413, "request_too_large").await;
    let mut garbled = post(chat, key, &Value::Null);
    *garbled.body_mut() = Body::from("{not json");
    refused(node, garbled, 400, "invalid_json").await;
    refused(node, get("/v1/attributions/cmpl-unknown"), 404, "not_found").await;
    refused(node, get("/v1/datanets/99"), 404, "not_found").await;
    // A name that another site made point here.
    let mut rebound = get("/v1/models");
    rebound
        .headers_mut()
        .insert("host", "evil.example:8080".parse().unwrap());
    refused(node, rebound, 421, "unknown_host").await;
}

async fn answers_come_whole_and_in_pieces(node: &Node, model: &str) {
    let key = node.dev_api_key();
    let body = json!({
        "model": model, "messages": [{"role": "user", "content": "What is gas?"}],
        "max_tokens": 12, "temperature": 0, "logprobs": true, "top_logprobs": 2,
        "attribution": {"mode": "inline", "top_k": 3}, "unknown_field": 1,
    });
    let chat = "/v1/chat/completions";
    let (status, headers, text) = call(node, post(chat, key.as_deref(), &body)).await;
    assert_eq!(status, StatusCode::OK, "{text}");
    let whole: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        headers["x-openledger-attribution"],
        whole["id"].as_str().unwrap()
    );
    let answer = whole["choices"][0]["message"]["content"]
        .as_str()
        .unwrap()
        .to_owned();
    let tokens = whole["usage"]["completion_tokens"].as_u64().unwrap();
    let logprobs = whole["choices"][0]["logprobs"]["content"]
        .as_array()
        .unwrap();
    assert_eq!(logprobs.len() as u64, tokens);
    assert!(
        logprobs
            .iter()
            .all(|token| token["top_logprobs"].as_array().unwrap().len() == 2)
    );
    assert_eq!(whole["attribution"]["status"], "ready");
    assert!(whole["attribution"]["rows"].as_array().unwrap().len() <= 3);

    // Streamed, greedy gives the same text, then usage, then the end.
    let mut streamed = body.clone();
    streamed["stream"] = json!(true);
    streamed["stream_options"] = json!({"include_usage": true});
    let (status, _, text) = call(node, post(chat, key.as_deref(), &streamed)).await;
    assert_eq!(status, StatusCode::OK);
    let chunks: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .collect();
    assert_eq!(chunks.last(), Some(&"[DONE]"));
    let chunks: Vec<Value> = chunks[..chunks.len() - 1]
        .iter()
        .map(|chunk| serde_json::from_str(chunk).unwrap())
        .collect();
    assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
    let joined: String = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str())
        .collect();
    assert_eq!(joined, answer);
    let last = chunks.last().unwrap();
    assert_eq!(last["choices"], json!([]));
    assert_eq!(last["usage"]["completion_tokens"].as_u64(), Some(tokens));

    // Several choices are several inferences with receipts of their own.
    let before = node.overview().unwrap().inferences;
    let mut several = body.clone();
    several["n"] = json!(3);
    several["temperature"] = json!(1);
    let answers = fine(node, post(chat, key.as_deref(), &several)).await;
    let ids: std::collections::BTreeSet<&str> = answers["choices"]
        .as_array()
        .unwrap()
        .iter()
        .map(|choice| choice["attribution"]["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids.len(), 3);
    assert_eq!(node.overview().unwrap().inferences, before + 3);

    // The base answers under its own name, and its answers are traced to nobody.
    let base = json!({"model": "base", "prompt": "What", "max_tokens": 4});
    let answered = fine(node, post("/v1/completions", key.as_deref(), &base)).await;
    let id = answered["id"].as_str().unwrap();
    let view = node
        .wait_for_attribution(id, PATIENCE)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((view.status.as_str(), view.rows_scored), ("ready", 0));
    let receipt = fine(node, get(&format!("/v1/receipts/{id}"))).await;
    assert_eq!(receipt["completion"], id);

    let models = fine(node, get("/v1/models")).await;
    let parents: Vec<&Value> = models["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|model| &model["parent"])
        .collect();
    assert_eq!(parents, [&Value::Null, &json!("base")]);
}

async fn vouchers_pay_and_bad_ones_do_not(node: &Node, model: &str) {
    const TENTH: u128 = Wei::OPEN.get() / 10;
    let deployment = node.deployment();
    let wallet = |seed: u8| PrivateKeySigner::from_slice(&[seed; 32]).unwrap();
    let stranger = wallet(7);
    let voucher = |max: u128, nonce: u64| Voucher {
        payer: stranger.address(),
        settler: node.settler(),
        maxCumulative: max,
        nonce,
        deadline: u64::MAX / 2,
    };
    let sign = |key: &PrivateKeySigner, voucher: &Voucher| {
        signing::sign(key, voucher, &deployment.settlement_domain()).unwrap()
    };
    let with_header = |header: String| {
        let body = json!({"model": model, "prompt": "What is gas?", "max_tokens": 4});
        let mut request = post("/v1/completions", None, &body);
        request
            .headers_mut()
            .insert("x-openledger-voucher", header.parse().unwrap());
        request
    };
    let request = |voucher: &Voucher, signature: &[u8]| {
        let signature = format!("0x{}", hex::encode(signature));
        let signed = json!({"voucher": voucher, "signature": signature}).to_string();
        with_header(base64::engine::general_purpose::STANDARD.encode(signed))
    };
    refused(node, with_header("!".into()), 400, "malformed_voucher").await;

    // Signed, but nothing is deposited.
    let broke = voucher(TENTH, 1);
    let pays = request(&broke, &sign(&stranger, &broke));
    let error = refused(node, pays, 402, "insufficient_funds").await;
    assert!(error["message"].as_str().unwrap().contains("deposit"));

    node.deposit_for(stranger.address(), Wei::OPEN)
        .await
        .unwrap();
    let good = voucher(2 * TENTH, 5);
    fine(node, request(&good, &sign(&stranger, &good))).await;
    let receipts = node.overview().unwrap().inferences;

    // The same promise signed for another chain, a stale number, another settler, a voucher that
    // has run out, and a signature of zeros.
    let mut other_chain = deployment;
    other_chain.chain_id = 1;
    let foreign = signing::sign(&stranger, &good, &other_chain.settlement_domain()).unwrap();
    refused(node, request(&good, &foreign), 400, "bad_signature").await;
    let stale = voucher(3 * TENTH, 4);
    refused(
        node,
        request(&stale, &sign(&stranger, &stale)),
        400,
        "stale_nonce",
    )
    .await;
    let elsewhere = Voucher {
        settler: stranger.address(),
        ..voucher(3 * TENTH, 9)
    };
    refused(
        node,
        request(&elsewhere, &sign(&stranger, &elsewhere)),
        400,
        "wrong_settler",
    )
    .await;
    let late = Voucher {
        deadline: 1,
        ..voucher(3 * TENTH, 9)
    };
    refused(
        node,
        request(&late, &sign(&stranger, &late)),
        400,
        "voucher_expired",
    )
    .await;
    refused(node, request(&good, &[0; 65]), 400, "bad_signature").await;

    // A deposit that would do, and a ceiling that does not.
    let careful = wallet(8);
    node.deposit_for(careful.address(), Wei::OPEN)
        .await
        .unwrap();
    let tight = Voucher {
        payer: careful.address(),
        ..voucher(1, 1)
    };
    refused(
        node,
        request(&tight, &sign(&careful, &tight)),
        402,
        "insufficient_funds",
    )
    .await;
    assert_eq!(node.overview().unwrap().inferences, receipts);
}

async fn a_name_makes_a_request_safe_to_repeat(node: &Node, model: &str) {
    let key = node.dev_api_key();
    let ask = || {
        let body = json!({"model": model, "prompt": "What is a bond?", "max_tokens": 6});
        let mut request = post("/v1/completions", key.as_deref(), &body);
        request
            .headers_mut()
            .insert("idempotency-key", "once".parse().unwrap());
        request
    };
    let first = fine(node, ask()).await;
    let receipts = node.overview().unwrap().inferences;
    let second = fine(node, ask()).await;
    assert_eq!(first["id"], second["id"]);
    assert_eq!(first["choices"][0]["text"], second["choices"][0]["text"]);
    assert_eq!(node.overview().unwrap().inferences, receipts);
}

/// What the pages do: judge a file, anchor it as a second version, tune on it, settle.
async fn the_loop_runs_without_a_terminal(node: &Node) {
    let lines = [
        json!({"q": "What is a fork?", "a": "A fork changes the rules at a block that all know."}),
        json!({"q": ROWS[0].1, "a": ROWS[0].2}),
    ];
    let content = lines.map(|line| line.to_string()).join("\n");
    let file = json!({"datanet": 1, "name": "more.jsonl", "content": content,
        "text": ["q", "a"], "contributor_name": "eve-notes"});
    let judged = fine(node, post("/v1/contributions/judge", None, &file)).await;
    assert_eq!(
        (&judged["accepted"], &judged["rejected"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(judged["verdicts"][1]["reason"], "exact-duplicate");
    assert_eq!(
        judged["verdicts"][1]["evidence"],
        "row #0 was first; 100.00 % equal"
    );
    let ticket = json!({"ticket": judged["ticket"]});
    let receipt = fine(node, post("/v1/contributions", None, &ticket)).await;
    assert_eq!(receipt["version"], 2);
    // Anchoring the same ticket again changes nothing.
    assert_eq!(
        fine(node, post("/v1/contributions", None, &ticket)).await,
        receipt
    );
    assert_eq!(node.datanet(1).unwrap().unwrap().versions.len(), 2);
    assert_eq!(node.rows(1, 0, 100, Some("eve-notes")).unwrap().total, 1);

    let unknown = json!({"datanet": 1, "preset": "enormous", "name": "second"});
    refused(node, post("/v1/runs", None, &unknown), 400, "invalid_value").await;
    let run = json!({"datanet": 1, "preset": "quick", "name": "second"});
    let started = fine(node, post("/v1/runs", None, &run)).await;
    let id = started["id"].as_str().unwrap();
    node.wait_for_run(id).await.unwrap();
    let finished = fine(node, get(&format!("/v1/runs/{id}"))).await;
    assert_eq!(finished["status"], "succeeded");
    assert!(!finished["points"].as_array().unwrap().is_empty());
    refused(node, post("/v1/runs", None, &run), 400, "invalid_value").await;

    let key = node.dev_api_key();
    let ask = json!({"model": "second", "prompt": "What is a fork?", "max_tokens": 8});
    let answered = fine(node, post("/v1/completions", key.as_deref(), &ask)).await;
    let id = answered["id"].as_str().unwrap();
    node.wait_for_attribution(id, PATIENCE).await.unwrap();
    assert_eq!(node.settle_now().await.unwrap(), Some(2));
    assert_eq!(node.attribution(id).unwrap().unwrap().epoch, Some(2));
    assert!(node.epochs().unwrap().iter().all(|epoch| epoch.conserved));
    the_ledgers_agree(node).await;
}
