//! Pages that only read.

use axum::{
    extract::{Path, Query, State},
    http::{HeaderMap, header},
    response::Redirect,
};
use openledger_node::{Node, view::CompletionSummary};
use openledger_primitives::B256;
use serde::Deserialize;

use super::{Answer, Failure, blocking, frame};
use crate::{
    format,
    pages::{self, DatanetTab},
};

/// Rows, refused rows or wallets on one page.
const PAGE: usize = 25;
/// Lines of blocks on one page: blocks with transactions, or runs of empty ones.
const BLOCK_LINES: usize = 20;
/// Blocks looked through for one page; a quiet chain is mostly empty blocks.
const BLOCKS: usize = 400;
/// Answers listed on the overview and below the chat.
const ANSWERS: usize = 8;

pub(super) async fn overview(State(node): State<Node>) -> Answer {
    blocking(move || {
        let latest = node.completions(ANSWERS)?;
        Ok(pages::overview(&frame(&node)?, &node.overview()?, &latest))
    })
    .await
}

pub(super) async fn datanets(State(node): State<Node>) -> Answer {
    blocking(move || Ok(pages::datanets(&frame(&node)?, &node.datanets()?))).await
}

#[derive(Deserialize)]
pub(super) struct DatanetQuery {
    #[serde(default)]
    tab: String,
    #[serde(default)]
    offset: usize,
    row: Option<u32>,
    contributor: Option<String>,
}

pub(super) async fn datanet(
    State(node): State<Node>,
    Path(id): Path<u64>,
    Query(query): Query<DatanetQuery>,
) -> Answer {
    blocking(move || {
        let view = node.datanet(id)?.ok_or(Failure::Missing("Datanet"))?;
        let frame = frame(&node)?;
        if let Some(row) = query.row {
            let row = node.row(id, row)?.ok_or(Failure::Missing("row"))?;
            return Ok(pages::datanet(&frame, &view, DatanetTab::Row(&row)));
        }
        Ok(match query.tab.as_str() {
            "contributors" => pages::datanet(&frame, &view, DatanetTab::Contributors),
            "versions" => pages::datanet(&frame, &view, DatanetTab::Versions),
            "models" => pages::datanet(&frame, &view, DatanetTab::Models),
            "refused" => {
                let rows = node.rejections(id, query.offset, PAGE)?;
                pages::datanet(&frame, &view, DatanetTab::Rejected(&rows, PAGE))
            }
            _ => {
                let who = query.contributor.as_deref();
                let rows = node.rows(id, query.offset, PAGE, who)?;
                pages::datanet(&frame, &view, DatanetTab::Data(&rows, who, PAGE))
            }
        })
    })
    .await
}

pub(super) async fn models(State(node): State<Node>) -> Answer {
    blocking(move || Ok(pages::models(&frame(&node)?, &node.models()?))).await
}

pub(super) async fn model(
    State(node): State<Node>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Answer {
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or("127.0.0.1:8080")
        .to_owned();
    blocking(move || {
        let view = node.model(&id)?.ok_or(Failure::Missing("model"))?;
        Ok(pages::model(
            &frame(&node)?,
            &view,
            &format!("http://{host}"),
        ))
    })
    .await
}

#[derive(Deserialize)]
pub(super) struct ChatQuery {
    model: Option<String>,
}

pub(super) async fn chat(State(node): State<Node>, Query(query): Query<ChatQuery>) -> Answer {
    blocking(move || {
        let models = node.models()?;
        let chosen = query
            .model
            .filter(|id| models.iter().any(|model| &model.id == id))
            .or_else(|| {
                let adapter = models.iter().find(|model| model.parent.is_some());
                adapter.map(|model| model.id.clone())
            });
        let examples = match &chosen {
            Some(id) => examples(&node, id)?,
            None => Vec::new(),
        };
        let latest: Vec<CompletionSummary> = node.completions(ANSWERS)?;
        Ok(pages::chat(
            &frame(&node)?,
            &models,
            chosen.as_deref(),
            &examples,
            node.dev_api_key().as_deref(),
            &latest,
        ))
    })
    .await
}

/// Prompts of three rows that the model learned from, spread over its Datanet.
fn examples(node: &Node, model: &str) -> Result<Vec<String>, Failure> {
    let Some(view) = node.model(model)? else {
        return Ok(Vec::new());
    };
    let Some((datanet, ..)) = view.datanets.first() else {
        return Ok(Vec::new());
    };
    let total = node.rows(*datanet, 0, 1, None)?.total;
    let mut prompts = Vec::new();
    for part in 1..=3 {
        let page = node.rows(*datanet, total * part / 4, 1, None)?;
        prompts.extend(page.items.into_iter().map(|row| {
            // Plain text has no question: its first words ask for what follows.
            let opening = || row.text.split_whitespace().take(8).collect::<Vec<_>>();
            row.prompt.unwrap_or_else(|| opening().join(" "))
        }));
    }
    prompts.dedup();
    Ok(prompts)
}

pub(super) async fn attribution(State(node): State<Node>, Path(id): Path<String>) -> Answer {
    blocking(move || {
        let view = node.attribution(&id)?.ok_or(Failure::Missing("answer"))?;
        Ok(pages::attribution(&frame(&node)?, &view))
    })
    .await
}

pub(super) async fn panel(State(node): State<Node>, Path(id): Path<String>) -> Answer {
    blocking(move || {
        let view = node.attribution(&id)?.ok_or(Failure::Missing("answer"))?;
        Ok(pages::panel(&view))
    })
    .await
}

#[derive(Deserialize)]
pub(super) struct ListQuery {
    #[serde(default)]
    offset: usize,
}

pub(super) async fn wallets(State(node): State<Node>, Query(query): Query<ListQuery>) -> Answer {
    blocking(move || {
        let list = node.earners(query.offset, PAGE)?;
        Ok(pages::wallets(&frame(&node)?, &list, PAGE))
    })
    .await
}

pub(super) async fn wallet(State(node): State<Node>, Path(who): Path<String>) -> Answer {
    blocking(move || {
        let view = node.wallet(&who)?.ok_or(Failure::Missing("wallet"))?;
        // An earning names its row but not its Datanet; with one Datanet there is no doubt.
        let datanet = match node.datanets()?.as_slice() {
            [only] => Some(only.id),
            _ => None,
        };
        Ok(pages::wallet(&frame(&node)?, &view, datanet))
    })
    .await
}

#[derive(Deserialize)]
pub(super) struct FindQuery {
    q: String,
}

pub(super) async fn find_wallet(Query(query): Query<FindQuery>) -> Redirect {
    Redirect::to(&format!("/wallet/{}", format::segment(query.q.trim())))
}

/// A number is a block, 32 bytes of hex are a transaction, everything else is somebody.
pub(super) async fn find(Query(query): Query<FindQuery>) -> Redirect {
    let text = query.q.trim();
    let number = text.replace([',', '\u{202f}', ' '], "");
    if let Ok(number) = number.trim_start_matches('#').parse::<u64>() {
        return Redirect::to(&format!("/explorer/block/{number}"));
    }
    match text.parse::<B256>() {
        Ok(hash) => Redirect::to(&format!("/explorer/tx/{hash}")),
        Err(_) => Redirect::to(&format!("/wallet/{}", format::segment(text))),
    }
}

#[derive(Deserialize)]
pub(super) struct ExplorerQuery {
    before: Option<u64>,
}

pub(super) async fn explorer(
    State(node): State<Node>,
    Query(query): Query<ExplorerQuery>,
) -> Answer {
    blocking(move || {
        let chain = node.overview()?.chain;
        let mut blocks = node.blocks(query.before, BLOCKS)?;
        let lines = blocks
            .chunk_by(|a, b| a.is_quiet() && b.is_quiet())
            .take(BLOCK_LINES);
        let shown = lines.map(<[_]>::len).sum();
        blocks.truncate(shown);
        Ok(pages::explorer(
            &frame(&node)?,
            &chain,
            &blocks,
            query.before,
        ))
    })
    .await
}

pub(super) async fn layers(State(node): State<Node>) -> Answer {
    let view = node.rollup().await?;
    Ok(pages::layers(&frame(&node)?, &view))
}

pub(super) async fn batch(State(node): State<Node>, Path(block): Path<u64>) -> Answer {
    let view = node.batch(block)?.ok_or(Failure::Missing("batch"))?;
    Ok(pages::batch(&frame(&node)?, &view))
}

pub(super) async fn block(State(node): State<Node>, Path(number): Path<u64>) -> Answer {
    blocking(move || {
        let view = node.block(number)?.ok_or(Failure::Missing("block"))?;
        Ok(pages::block(&frame(&node)?, &view))
    })
    .await
}

pub(super) async fn transaction(State(node): State<Node>, Path(hash): Path<String>) -> Answer {
    blocking(move || {
        let hash = hash
            .parse::<B256>()
            .map_err(|_| Failure::Bad(format!("{hash:?} is not a transaction hash")))?;
        let view = node
            .transaction(hash)?
            .ok_or(Failure::Missing("transaction"))?;
        Ok(pages::transaction(&frame(&node)?, &view))
    })
    .await
}

pub(super) async fn epochs(State(node): State<Node>) -> Answer {
    blocking(move || Ok(pages::epochs(&frame(&node)?, &node.epochs()?))).await
}
