//! Serves every page with hand-made sample values, to look at the design without a node.
//!
//! `cargo run -p openledger-studio --example gallery` prints its address. Every number on these
//! pages is a sample and says so in the footer; nothing here is part of the product.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "an example")]

#[path = "../tests/samples/mod.rs"]
mod samples;

use axum::{
    Router,
    extract::Path,
    http::header,
    middleware,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use maud::Markup;
use openledger_studio::{
    Frame, Host, assets, guard,
    pages::{self, Choice, DatanetTab, Draft},
};

fn frame() -> Frame {
    Frame {
        now: samples::NOW,
        head: Some(samples::chain().head),
        dev: true,
        notice: Some(
            "Sample values, made by hand to look at the design. No node runs here.".into(),
        ),
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

fn verdicts() -> Markup {
    pages::verdicts(&frame(), &draft(), Ok(&samples::judged()))
}

fn datanet(tab: DatanetTab<'_>) -> Markup {
    pages::datanet(&frame(), &samples::datanet(), tab)
}

/// One page by name; the index lists them.
fn page(name: &str) -> Option<Markup> {
    let f = &frame();
    Some(match name {
        "overview" => pages::overview(f, &samples::overview(false), &samples::completions()),
        "overview-busy" => pages::overview(f, &samples::overview(true), &samples::completions()),
        "overview-empty" => pages::overview(f, &samples::empty_overview(), &[]),
        "datanets" => pages::datanets(f, &[samples::net(1), samples::net(2)]),
        "datanet" => datanet(DatanetTab::Data(&samples::rows(), None, 25)),
        "datanet-row" => datanet(DatanetTab::Row(&samples::rows().items[0])),
        "datanet-contributors" => datanet(DatanetTab::Contributors),
        "datanet-refused" => datanet(DatanetTab::Rejected(&samples::rejections(), 25)),
        "datanet-versions" => datanet(DatanetTab::Versions),
        "datanet-models" => datanet(DatanetTab::Models),
        "contribute" => pages::contribute(f, &samples::net(1), None),
        "contribute-verdicts" => pages::contribute(f, &samples::net(1), Some(verdicts())),
        "contribute-receipt" => pages::contributed(f, &samples::net(1), &samples::receipt()),
        "models" => pages::models(f, &samples::models()),
        "model" => pages::model(f, &samples::model(), "http://127.0.0.1:8080"),
        "tune" => pages::tune(
            f,
            &[samples::net(1), samples::net(2)],
            &samples::models()[1..],
            &samples::presets(),
            &Choice {
                datanet: Some(1),
                ..Choice::default()
            },
        ),
        "runs" => pages::runs(
            f,
            &[
                samples::run("running"),
                samples::run("succeeded"),
                samples::run("failed"),
            ],
        ),
        "run-running" => pages::run(f, &samples::run("running")),
        "run-succeeded" => pages::run(f, &samples::run("succeeded")),
        "run-failed" => pages::run(f, &samples::run("failed")),
        "chat" => pages::chat(
            f,
            &samples::models(),
            Some(samples::ADAPTER),
            &samples::rows()
                .items
                .iter()
                .take(3)
                .filter_map(|r| r.prompt.clone())
                .collect::<Vec<_>>(),
            Some("sample-key"),
            &samples::completions(),
        ),
        "attribution" => pages::attribution(f, &samples::attribution("ready")),
        "attribution-pending" => pages::attribution(f, &samples::attribution("pending")),
        "wallets" => pages::wallets(
            f,
            &openledger_node::view::Page {
                items: samples::earners(),
                offset: 0,
                total: 9,
            },
            25,
        ),
        "wallet" => pages::wallet(f, &samples::wallet(), Some(1)),
        "explorer" => pages::explorer(
            f,
            &samples::chain(),
            &(0..9).map(samples::block).collect::<Vec<_>>(),
            None,
        ),
        "block" => pages::block(f, &samples::block(1)),
        "transaction" => pages::transaction(f, &samples::transaction(1)),
        "epochs" => pages::epochs(f, &samples::epochs()),
        "failure" => pages::failure(
            f,
            "There is no such row",
            "The address may be mistyped, or it belongs to another data directory.",
        ),
        _ => return None,
    })
}

async fn show(Path(name): Path<String>) -> Response {
    page(&name).map_or_else(
        || axum::http::StatusCode::NOT_FOUND.into_response(),
        IntoResponse::into_response,
    )
}

/// A stream that sends one block and then stays silent, as a quiet chain does.
async fn events() -> Response {
    use axum::response::sse::{Event, Sse};
    let first = Event::default()
        .event("block")
        .id("1")
        .data(r#"{"number":1285}"#);
    let stream = futures::stream::iter([Ok::<_, std::convert::Infallible>(first)]);
    Sse::new(futures::StreamExt::chain(
        stream,
        futures::stream::pending(),
    ))
    .into_response()
}

/// The sample answer, word by word, in the API's own shape.
async fn completion() -> Response {
    let answer = samples::attribution("ready").output;
    let mut body = String::new();
    for word in answer.split_inclusive(' ') {
        let chunk = serde_json::json!({"id": "chatcmpl-0f3a9c", "choices": [{"index": 0, "delta": {"content": word}}]});
        body.push_str(&format!("data: {chunk}\n\n"));
    }
    body.push_str("data: [DONE]\n\n");
    (
        [
            (header::CONTENT_TYPE, "text/event-stream"),
            (
                header::HeaderName::from_static("x-openledger-attribution"),
                "chatcmpl-0f3a9c",
            ),
        ],
        body,
    )
        .into_response()
}

#[tokio::main]
async fn main() {
    let app = Router::new()
        .route("/sample/{name}", get(show))
        .route("/", get(|| show(Path("overview".into()))))
        .route("/epochs", get(|| show(Path("epochs".into()))))
        .route("/explorer", get(|| show(Path("explorer".into()))))
        .route("/runs", get(|| show(Path("runs".into()))))
        .route("/runs/{id}", get(|| show(Path("run-running".into()))))
        .route("/wallet/{who}", get(|| show(Path("wallet".into()))))
        .route(
            "/attributions/{id}",
            get(|| show(Path("attribution-pending".into()))),
        )
        .route("/events", get(events))
        .route("/v1/chat/completions", post(completion))
        .route(
            "/attributions/{id}/panel",
            get(|| async { pages::panel(&samples::attribution("ready")) }),
        )
        .route(
            "/datanets/{id}/contribute/verdicts",
            post(|| async { verdicts() }),
        )
        .route(
            "/studio/presets",
            get(|| async { pages::presets(&samples::presets(), None) }),
        )
        .merge(assets())
        .layer(middleware::from_fn_with_state(Host::Local, guard));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:8099")
        .await
        .unwrap();
    println!("http://127.0.0.1:8099/sample/overview");
    axum::serve(listener, app).await.unwrap();
}
