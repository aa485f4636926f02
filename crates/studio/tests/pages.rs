//! Every page from sample values: safe against hostile content, usable without scripts, and
//! saying what it is supposed to say.

#![allow(clippy::unwrap_used, reason = "tests")]

mod samples;

use axum::{
    Router,
    body::Body,
    http::{Request, StatusCode, header},
    middleware,
};
use openledger_node::view::*;
use openledger_studio::{
    Frame, Host, assets, guard,
    pages::{self, Choice, DatanetTab, Draft},
};
use tower::ServiceExt;

fn frame() -> Frame {
    Frame {
        now: samples::NOW,
        head: Some(1_284),
        dev: true,
        notice: None,
    }
}

fn draft() -> Draft {
    Draft {
        file: "rows.jsonl".into(),
        columns: vec!["question".into(), "answer".into(), "author".into()],
        text: vec!["question".into(), "answer".into()],
        contributor: Some("author".into()),
        name: String::new(),
    }
}

fn empty<T>() -> Page<T> {
    Page {
        items: vec![],
        offset: 0,
        total: 0,
    }
}

/// Every page in its usual and its empty state.
fn all() -> Vec<(&'static str, String)> {
    let f = &frame();
    let net = samples::datanet();
    let bare = DatanetView {
        by_field: vec![],
        by_reason: vec![],
        contributors: vec![],
        versions: vec![],
        models: vec![],
        ..net.clone()
    };
    let rows = samples::rows();
    let no_rows = empty();
    let refused = samples::rejections();
    let no_wallet = WalletView {
        lines: vec![],
        claims: vec![],
        name: None,
        ..samples::wallet()
    };
    let step = pages::verdicts(f, &draft(), Ok(&samples::judged()));
    let bad_step = pages::verdicts(f, &draft(), Err("no column is called text"));
    let earners = Page {
        items: samples::earners(),
        offset: 0,
        total: 9,
    };
    let nets = [samples::net(1), samples::net(2)];
    let blocks: Vec<BlockView> = (0..9).map(samples::block).collect();
    let tune = |choice: &Choice| {
        pages::tune(
            f,
            &nets,
            &samples::models()[1..],
            &samples::presets(),
            choice,
        )
    };
    let refusal = Choice {
        error: Some("the name is taken".into()),
        ..Choice::default()
    };
    let latest = samples::completions();
    let markups = vec![
        (
            "overview",
            pages::overview(f, &samples::overview(true), &latest),
        ),
        (
            "overview, empty",
            pages::overview(f, &samples::empty_overview(), &[]),
        ),
        ("datanets", pages::datanets(f, &nets)),
        ("datanets, empty", pages::datanets(f, &[])),
        (
            "rows",
            pages::datanet(f, &net, DatanetTab::Data(&rows, Some("a"), 2)),
        ),
        (
            "rows, empty",
            pages::datanet(f, &bare, DatanetTab::Data(&no_rows, None, 25)),
        ),
        (
            "row",
            pages::datanet(f, &net, DatanetTab::Row(&rows.items[0])),
        ),
        (
            "contributors",
            pages::datanet(f, &net, DatanetTab::Contributors),
        ),
        (
            "contributors, empty",
            pages::datanet(f, &bare, DatanetTab::Contributors),
        ),
        (
            "refused",
            pages::datanet(f, &net, DatanetTab::Rejected(&refused, 2)),
        ),
        (
            "refused, empty",
            pages::datanet(f, &bare, DatanetTab::Rejected(&empty(), 2)),
        ),
        ("versions", pages::datanet(f, &net, DatanetTab::Versions)),
        (
            "versions, empty",
            pages::datanet(f, &bare, DatanetTab::Versions),
        ),
        (
            "models of a Datanet",
            pages::datanet(f, &net, DatanetTab::Models),
        ),
        ("contribute", pages::contribute(f, &nets[0], None)),
        ("verdicts", pages::contribute(f, &nets[0], Some(step))),
        (
            "no verdicts",
            pages::contribute(f, &nets[0], Some(bad_step)),
        ),
        (
            "receipt",
            pages::contributed(f, &nets[0], &samples::receipt()),
        ),
        ("models", pages::models(f, &samples::models())),
        ("models, empty", pages::models(f, &[])),
        (
            "model",
            pages::model(f, &samples::model(), "http://127.0.0.1:8080"),
        ),
        ("tune", tune(&Choice::default())),
        ("tune, refused", tune(&refusal)),
        (
            "runs",
            pages::runs(f, &[samples::run("running"), samples::run("failed")]),
        ),
        ("runs, empty", pages::runs(f, &[])),
        ("run", pages::run(f, &samples::run("running"))),
        ("run, queued", pages::run(f, &samples::run("queued"))),
        ("run, done", pages::run(f, &samples::run("succeeded"))),
        ("run, failed", pages::run(f, &samples::run("failed"))),
        (
            "chat",
            pages::chat(f, &samples::models(), None, &[], Some("key"), &latest),
        ),
        (
            "attribution",
            pages::attribution(f, &samples::attribution("ready")),
        ),
        (
            "attribution, pending",
            pages::attribution(f, &samples::attribution("pending")),
        ),
        ("wallets", pages::wallets(f, &earners, 4)),
        ("wallet", pages::wallet(f, &samples::wallet(), Some(1))),
        ("wallet, empty", pages::wallet(f, &no_wallet, None)),
        (
            "explorer",
            pages::explorer(f, &samples::chain(), &blocks, None),
        ),
        (
            "explorer, empty",
            pages::explorer(f, &samples::chain(), &[], Some(3)),
        ),
        ("layers", pages::layers(f, &samples::rollup(true))),
        ("batch, calldata", pages::batch(f, &samples::batches()[0])),
        ("batch, EigenDA", pages::batch(f, &samples::batches()[1])),
        ("batch, digest", pages::batch(f, &samples::batches()[2])),
        ("batch", pages::batch(f, &samples::batches()[3])),
        ("layers, empty", pages::layers(f, &samples::rollup(false))),
        ("block", pages::block(f, &samples::block(1))),
        ("block, empty", pages::block(f, &samples::block(2))),
        (
            "transaction",
            pages::transaction(f, &samples::transaction(5)),
        ),
        ("epochs", pages::epochs(f, &samples::epochs())),
        ("epochs, empty", pages::epochs(f, &[])),
        (
            "failure",
            pages::failure(f, "There is no such row", "Look elsewhere."),
        ),
    ];
    markups
        .into_iter()
        .map(|(name, page)| (name, page.into_string()))
        .collect()
}

/// What the content security policy would refuse must not be on a page in the first place.
#[test]
fn no_page_needs_inline_script_or_style() {
    for (name, page) in all() {
        for forbidden in [
            "style=\"",
            "<style",
            "onclick",
            "onload",
            "hx-on",
            "javascript:",
            "js:",
        ] {
            assert!(!page.contains(forbidden), "{name} has {forbidden}");
        }
        for script in page.split("<script").skip(1) {
            let (attributes, rest) = script.split_once('>').unwrap();
            assert!(
                attributes.contains("src=\"/assets/"),
                "{name}: {attributes}"
            );
            assert!(rest.starts_with("</script>"), "{name} has an inline script");
        }
    }
}

#[test]
fn every_page_is_a_document_with_one_heading_and_a_way_around() {
    for (name, page) in all() {
        assert!(
            page.starts_with("<!DOCTYPE html><html lang=\"en\">"),
            "{name}"
        );
        assert_eq!(page.matches("<h1").count(), 1, "{name} has one h1");
        assert!(page.contains("href=\"#main\">Skip to content"), "{name}");
        assert_eq!(
            page.matches("hx-sse:connect").count().max(1),
            1,
            "{name}: one stream"
        );
        let mut ids: Vec<&str> = page
            .split(" id=\"")
            .skip(1)
            .filter_map(|rest| rest.split('"').next())
            .collect();
        let count = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), count, "{name} uses an id twice");
    }
}

const HOSTILE: &str = "\"><script>alert(1)</script><img src=x onerror=alert(2)>'";

/// Rows, names and model ids come from strangers.
#[test]
fn hostile_text_stays_text() {
    let f = &frame();
    let mut view = samples::attribution("ready");
    view.output = format!("{HOSTILE}{}", view.output);
    view.prompt = HOSTILE.into();
    view.id = HOSTILE.into();
    view.model = HOSTILE.into();
    view.verify = HOSTILE.into();
    view.spans.iter_mut().for_each(|span| {
        span.text = HOSTILE.into();
        span.sources.iter_mut().for_each(|source| {
            source.contributor = HOSTILE.into();
            source.text = format!("before {HOSTILE} after");
        });
    });
    view.rows
        .iter_mut()
        .for_each(|row| row.source.contributor = HOSTILE.into());
    view.shares
        .iter_mut()
        .for_each(|share| share.name = HOSTILE.into());
    let mut rows = samples::rows();
    rows.items.iter_mut().for_each(|row| {
        row.contributor = HOSTILE.into();
        row.text = HOSTILE.into();
        row.prompt = Some(HOSTILE.into());
        row.field = Some(HOSTILE.into());
    });
    let mut net = samples::datanet();
    net.summary.name = HOSTILE.into();
    net.summary.licence = HOSTILE.into();
    net.source = HOSTILE.into();
    net.by_field = vec![(HOSTILE.into(), 1)];
    let mut run = samples::run("failed");
    run.id = HOSTILE.into();
    run.model = HOSTILE.into();
    run.message = HOSTILE.into();
    let mut wallet = samples::wallet();
    wallet.name = Some(HOSTILE.into());
    wallet.lines[0].completion = Some(HOSTILE.into());
    let mut model = samples::model();
    model.summary.id = HOSTILE.into();
    let mut tx = samples::transaction(1);
    tx.input = HOSTILE.into();
    tx.action = HOSTILE.into();
    tx.events[0].sentence = HOSTILE.into();
    let mut judged = samples::judged();
    judged.verdicts[0].text = HOSTILE.into();
    judged.verdicts[1].reason = Some(HOSTILE.into());
    judged.verdicts[1].evidence = HOSTILE.into();
    let draft = Draft {
        columns: vec![HOSTILE.into()],
        name: HOSTILE.into(),
        contributor: None,
        ..draft()
    };
    let tab = DatanetTab::Data(&rows, Some(HOSTILE), 2);
    for (name, page) in [
        ("attribution", pages::attribution(f, &view)),
        ("panel", pages::panel(&view)),
        ("datanet", pages::datanet(f, &net, tab)),
        ("run", pages::run(f, &run)),
        ("wallet", pages::wallet(f, &wallet, None)),
        ("model", pages::model(f, &model, HOSTILE)),
        ("transaction", pages::transaction(f, &tx)),
        ("verdicts", pages::verdicts(f, &draft, Ok(&judged))),
        (
            "chat",
            pages::chat(
                f,
                &[model.summary.clone()],
                None,
                &[HOSTILE.into()],
                Some(HOSTILE),
                &[],
            ),
        ),
        ("failure", pages::failure(f, HOSTILE, HOSTILE)),
    ] {
        let page = page.into_string();
        assert!(!page.contains("<script>alert"), "{name}");
        assert!(!page.contains("<img"), "{name}");
        assert!(
            page.contains("&lt;script&gt;") || page.contains("%3Cscript%3E"),
            "{name} shows it"
        );
    }
}

#[test]
fn the_panel_says_who_what_why_and_how_much() {
    let page = pages::panel(&samples::attribution("ready")).into_string();
    // Colour is never alone: each source has its letter in the text and on the card.
    assert!(page.contains("<sup>A</sup>") && page.contains("chip s0 p0\">A<"));
    assert!(page.contains("50.08 %"), "share");
    assert!(
        page.contains("title=\"192000002370240 wei\""),
        "exact amount"
    );
    assert!(page.contains("passage · 16 tokens") && page.contains("· paid"));
    assert!(
        page.contains("passage · 16 tokens · later copy"),
        "a copy is shown but not paid"
    );
    assert!(page.contains("gradient <span class=\"mono\">+0.3932</span>"));
    assert!(page.contains("· noise"), "below the floor");
    assert!(page.contains("href=\"/datanets/1?row=18\"") && page.contains("/wallet/0x"));
    assert!(page.contains("data-answer=\"chatcmpl-0f3a9c\""));
    let pending = pages::panel(&samples::attribution("pending")).into_string();
    assert!(pending.contains("hx-get=\"/attributions/chatcmpl-0f3a9c/panel\""));
    assert!(!pending.contains("fern-archive"));
}

#[test]
fn verdicts_show_reasons_and_who_signs() {
    let judged = samples::judged();
    let dev = pages::verdicts(&frame(), &draft(), Ok(&judged)).into_string();
    assert!(dev.contains("equal to row 18, contributed first by fern-archive"));
    assert!(
        dev.contains("The node keeps a key") && dev.contains("name=\"ticket\" value=\"t-5f2c\"")
    );
    let elsewhere = Frame {
        dev: false,
        ..frame()
    };
    let other = pages::verdicts(&elsewhere, &draft(), Ok(&judged)).into_string();
    assert!(
        !other.contains("name=\"ticket\""),
        "no dev keys on a real chain"
    );
    let none = JudgeView {
        accepted: 0,
        ..judged
    };
    let none = pages::verdicts(&frame(), &draft(), Ok(&none)).into_string();
    assert!(!none.contains("name=\"ticket\""), "nothing to sign");
}

#[test]
fn a_run_listens_only_while_it_can_change() {
    let f = &frame();
    let live = pages::run(f, &samples::run("running")).into_string();
    assert!(live.contains("topics=block,run:ftjob-0001") && live.contains("value=\"pause\""));
    let done = pages::run(f, &samples::run("succeeded")).into_string();
    assert!(
        !done.contains("run:ftjob") && !done.contains("hx-get") && done.contains("Chat with it")
    );
}

fn guarded() -> Router {
    assets::<()>().layer(middleware::from_fn_with_state(Host::Local, guard))
}

async fn answer(request: Request<Body>) -> axum::response::Response {
    guarded().oneshot(request).await.unwrap()
}

fn get(path: &str, host: &str) -> Request<Body> {
    Request::get(path)
        .header(header::HOST, host)
        .body(Body::empty())
        .unwrap()
}

#[tokio::test]
async fn answers_carry_the_policy_and_strangers_are_refused() {
    let ok = answer(get("/favicon.ico", "localhost:8080")).await;
    assert_eq!(ok.status(), StatusCode::OK);
    let policy = ok.headers()[header::CONTENT_SECURITY_POLICY]
        .to_str()
        .unwrap();
    assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"));
    assert!(!policy.contains("unsafe"), "{policy}");
    let rebound = answer(get("/favicon.ico", "evil.example")).await;
    assert_eq!(rebound.status(), StatusCode::MISDIRECTED_REQUEST);
    let forged = Request::post("/datanets/1/contribute")
        .header(header::HOST, "localhost:8080")
        .header(header::ORIGIN, "https://evil.example")
        .body(Body::empty())
        .unwrap();
    let forged = answer(forged).await;
    assert_eq!(forged.status(), StatusCode::FORBIDDEN);
    assert!(
        forged
            .headers()
            .contains_key(header::CONTENT_SECURITY_POLICY)
    );
}

#[tokio::test]
async fn assets_are_cached_by_their_digest() {
    let first = answer(get("/assets/app.css", "localhost")).await;
    let tag = first.headers()[header::ETAG].clone();
    assert_eq!(
        first.headers()[header::CONTENT_TYPE],
        "text/css; charset=utf-8"
    );
    let again = Request::get("/assets/app.css")
        .header(header::HOST, "localhost")
        .header(header::IF_NONE_MATCH, tag)
        .body(Body::empty())
        .unwrap();
    assert_eq!(answer(again).await.status(), StatusCode::NOT_MODIFIED);
    let outside = answer(get("/assets/../Cargo.toml", "localhost")).await;
    assert_eq!(outside.status(), StatusCode::NOT_FOUND);
}
