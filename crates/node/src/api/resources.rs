//! Our own resources under `/v1`: the JSON twins of the pages.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use openledger_primitives::B256;
use serde::Deserialize;

use super::error::{ApiError, Body};
use crate::view::{
    BatchView, BlockView, ContributionReceipt, DatanetView, EarnerLine, EpochView, JudgeView,
    ModelView, Overview, Page, RejectionView, RollupView, RowView, RunView, TransactionView,
    WalletView,
};
use crate::{Contributor, Node, RunAction, RunRequest};

type Answer<T> = Result<Json<T>, ApiError>;

/// Position in a list.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Window {
    #[serde(default)]
    offset: usize,
    limit: Option<usize>,
    contributor: Option<String>,
}

impl Window {
    fn limit(&self) -> usize {
        self.limit.unwrap_or(50).min(500)
    }
}

fn found<T>(value: Option<T>, what: &'static str, id: impl ToString) -> Answer<T> {
    value
        .map(Json)
        .ok_or_else(|| ApiError::not_found(what, &id.to_string()))
}

pub(crate) async fn overview(State(node): State<Node>) -> Answer<Overview> {
    Ok(Json(node.overview()?))
}

pub(crate) async fn rollup(State(node): State<Node>) -> Answer<RollupView> {
    Ok(Json(node.rollup().await?))
}

pub(crate) async fn batch(State(node): State<Node>, Path(block): Path<u64>) -> Answer<BatchView> {
    found(node.batch(block)?, "batch with block", block)
}

pub(crate) async fn datanets(State(node): State<Node>) -> Result<impl IntoResponse, ApiError> {
    Ok(Json(
        serde_json::json!({"object": "list", "data": node.datanets()?}),
    ))
}

pub(crate) async fn datanet(State(node): State<Node>, Path(id): Path<u64>) -> Answer<DatanetView> {
    found(node.datanet(id)?, "Datanet", id)
}

pub(crate) async fn rows(
    State(node): State<Node>,
    Path(id): Path<u64>,
    Query(window): Query<Window>,
) -> Answer<Page<RowView>> {
    let contributor = window.contributor.as_deref();
    Ok(Json(node.rows(
        id,
        window.offset,
        window.limit(),
        contributor,
    )?))
}

pub(crate) async fn rejections(
    State(node): State<Node>,
    Path(id): Path<u64>,
    Query(window): Query<Window>,
) -> Answer<Page<RejectionView>> {
    Ok(Json(node.rejections(id, window.offset, window.limit())?))
}

/// A file to be judged.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct JudgeRequest {
    /// Datanet to add to; a new one when missing.
    datanet: Option<u64>,
    /// File's name, or the new Datanet's.
    name: String,
    /// The JSONL text.
    content: String,
    /// Columns that make the text; guessed when empty.
    #[serde(default)]
    text: Vec<String>,
    /// Column with the contributor's name.
    contributor_column: Option<String>,
    /// One contributor for all rows.
    contributor_name: Option<String>,
}

pub(crate) async fn judge(
    State(node): State<Node>,
    Body(request): Body<JudgeRequest>,
) -> Answer<JudgeView> {
    let contributor = match (request.contributor_column, request.contributor_name) {
        (Some(column), _) => Contributor::Column(column),
        (None, Some(name)) => Contributor::Name(name),
        (None, None) => {
            return Err(ApiError::invalid(
                "contributor_column",
                "name the column with the contributor, or give contributor_name",
            ));
        }
    };
    let view = tokio::task::spawn_blocking(move || {
        node.judge(
            request.datanet,
            &request.name,
            request.content.as_bytes(),
            &request.text,
            contributor,
        )
    })
    .await
    .map_err(crate::Error::from)??;
    Ok(Json(view))
}

/// A judged file to be anchored.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct ContributeRequest {
    /// From [`JudgeView::ticket`].
    ticket: String,
}

pub(crate) async fn contribute(
    State(node): State<Node>,
    Body(request): Body<ContributeRequest>,
) -> Answer<ContributionReceipt> {
    Ok(Json(node.contribute(&request.ticket).await?))
}

pub(crate) async fn adapters(State(node): State<Node>) -> Result<impl IntoResponse, ApiError> {
    let adapters: Vec<_> = node
        .models()?
        .into_iter()
        .filter(|model| model.parent.is_some())
        .collect();
    Ok(Json(
        serde_json::json!({"object": "list", "data": adapters}),
    ))
}

pub(crate) async fn adapter(State(node): State<Node>, Path(id): Path<String>) -> Answer<ModelView> {
    found(node.model(&id)?, "model", id)
}

pub(crate) async fn runs(State(node): State<Node>) -> Result<impl IntoResponse, ApiError> {
    Ok(Json(
        serde_json::json!({"object": "list", "data": node.runs()?}),
    ))
}

pub(crate) async fn run(State(node): State<Node>, Path(id): Path<String>) -> Answer<RunView> {
    found(node.run(&id)?, "run", id)
}

pub(crate) async fn start_run(
    State(node): State<Node>,
    Body(request): Body<RunRequest>,
) -> Result<impl IntoResponse, ApiError> {
    let id = off_thread(move || node.start_run(&request)).await?;
    Ok((
        StatusCode::ACCEPTED,
        Json(serde_json::json!({"id": id, "status": "queued"})),
    ))
}

/// What would be tuned, before it has a name.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct EstimateRequest {
    datanet: u64,
    #[serde(default)]
    settings: serde_json::Value,
}

pub(crate) async fn estimate_run(
    State(node): State<Node>,
    Body(request): Body<EstimateRequest>,
) -> Result<impl IntoResponse, ApiError> {
    let EstimateRequest { datanet, settings } = request;
    let presets = off_thread(move || node.presets(datanet, &settings)).await?;
    Ok(Json(serde_json::json!({"object": "list", "data": presets})))
}

/// Runs what takes a while beside the threads that answer requests.
async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> crate::Result<T> + Send + 'static,
) -> Result<T, ApiError> {
    Ok(tokio::task::spawn_blocking(work)
        .await
        .map_err(crate::Error::from)??)
}

pub(crate) async fn control_run(
    State(node): State<Node>,
    Path((id, action)): Path<(String, String)>,
) -> Answer<RunView> {
    let action = match action.as_str() {
        "pause" => RunAction::Pause,
        "resume" => RunAction::Resume,
        "cancel" | "stop" => RunAction::Stop,
        other => return Err(ApiError::not_found("action", other)),
    };
    node.control_run(&id, action)?;
    found(node.run(&id)?, "run", id)
}

/// `GET /v1/attributions/{completion_id}`: 200 when ready, 202 with `Retry-After` while pending.
pub(crate) async fn attribution(
    State(node): State<Node>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let view = node
        .attribution(&id)?
        .ok_or_else(|| ApiError::not_found("completion", &id))?;
    Ok(if view.status == "ready" {
        Json(view).into_response()
    } else {
        let retry = [("retry-after", HeaderValue::from_static("1"))];
        (StatusCode::ACCEPTED, retry, Json(view)).into_response()
    })
}

pub(crate) async fn completions(State(node): State<Node>) -> Result<impl IntoResponse, ApiError> {
    Ok(Json(
        serde_json::json!({"object": "list", "data": node.completions(200)?}),
    ))
}

pub(crate) async fn wallet(
    State(node): State<Node>,
    Path(who): Path<String>,
) -> Answer<WalletView> {
    found(node.wallet(&who)?, "wallet", who)
}

pub(crate) async fn earners(
    State(node): State<Node>,
    Query(window): Query<Window>,
) -> Answer<Page<EarnerLine>> {
    Ok(Json(node.earners(window.offset, window.limit())?))
}

pub(crate) async fn epochs(State(node): State<Node>) -> Answer<Vec<EpochView>> {
    Ok(Json(node.epochs()?))
}

pub(crate) async fn settle(State(node): State<Node>) -> Result<impl IntoResponse, ApiError> {
    Ok(Json(serde_json::json!({"epoch": node.settle_now().await?})))
}

/// Newest first, before a block.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Before {
    before: Option<u64>,
    limit: Option<usize>,
}

pub(crate) async fn blocks(
    State(node): State<Node>,
    Query(query): Query<Before>,
) -> Answer<Vec<BlockView>> {
    Ok(Json(node.blocks(
        query.before,
        query.limit.unwrap_or(20).min(100),
    )?))
}

pub(crate) async fn block(State(node): State<Node>, Path(number): Path<u64>) -> Answer<BlockView> {
    found(node.block(number)?, "block", number)
}

pub(crate) async fn transaction(
    State(node): State<Node>,
    Path(hash): Path<B256>,
) -> Answer<TransactionView> {
    found(node.transaction(hash)?, "transaction", hash)
}
