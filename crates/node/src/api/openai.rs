//! The OpenAI-compatible part: models, chat completions, completions.
//!
//! What is added fits where clients keep it (measured with the real SDKs, see
//! docs/api.md): the header `x-openledger-attribution` before the body, and a small `attribution`
//! reference on the answer and on the usage chunk. The full report is a resource of its own, or
//! inline when the request says `"attribution": {"mode": "inline"}`.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use openledger_model::SamplingConfig;
use openledger_primitives::records::Voucher;
use serde::Deserialize;
use serde_json::{Value, json};

use super::choices::{Choices, Shape};
use super::error::{ApiError, Body};
use crate::inference::{CompletionRequest, Message, Payment, Prompt, Sampling};
use crate::{Error, Node};

/// Carries the completion's id before the body.
pub(super) const ATTRIBUTION_HEADER: &str = "x-openledger-attribution";
/// Carries a voucher: base64 of `{"voucher": {..}, "signature": "0x.."}`.
pub(super) const VOUCHER_HEADER: &str = "x-openledger-voucher";
/// Names a request, so that asking again is safe.
const IDEMPOTENCY_HEADER: &str = "idempotency-key";
/// Most answers to one request.
const MAX_CHOICES: u32 = 8;

/// Fields that both endpoints share. Unknown fields are ignored, as clients expect.
#[derive(Clone, Debug, Deserialize)]
struct Common {
    model: String,
    max_tokens: Option<u32>,
    max_completion_tokens: Option<u32>,
    min_tokens: Option<u32>,
    #[serde(default)]
    ignore_eos: bool,
    temperature: Option<f32>,
    top_p: Option<f32>,
    top_k: Option<u32>,
    seed: Option<u64>,
    n: Option<u32>,
    logit_bias: Option<BTreeMap<String, f32>>,
    response_format: Option<ResponseFormat>,
    stop: Option<Stop>,
    #[serde(default)]
    stream: bool,
    stream_options: Option<StreamOptions>,
    attribution: Option<AttributionOptions>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Stop {
    One(String),
    Many(Vec<String>),
}

#[derive(Clone, Debug, Deserialize)]
struct ResponseFormat {
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
}

#[derive(Clone, Debug, Deserialize)]
struct AttributionOptions {
    mode: String,
    top_k: Option<usize>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct ChatRequest {
    #[serde(flatten)]
    common: Common,
    messages: Vec<Message>,
    #[serde(default)]
    logprobs: bool,
    top_logprobs: Option<u32>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct TextRequest {
    #[serde(flatten)]
    common: Common,
    prompt: TextPrompt,
    #[serde(default)]
    echo: bool,
    logprobs: Option<u32>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum TextPrompt {
    Text(String),
    Tokens(Vec<u32>),
    Texts(Vec<String>),
}

/// `GET /v1/models`.
pub(super) async fn models(State(node): State<Node>) -> Result<Json<Value>, ApiError> {
    let data: Vec<Value> = node.models()?.iter().map(model_object).collect();
    Ok(Json(json!({"object": "list", "data": data})))
}

/// `GET /v1/models/{id}`.
pub(super) async fn model(
    State(node): State<Node>,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let found = node.models()?.into_iter().find(|model| model.id == id);
    let found = found.ok_or(Error::UnknownModel { name: id })?;
    Ok(Json(model_object(&found)))
}

fn model_object(model: &crate::view::ModelSummary) -> Value {
    json!({
        "id": model.id, "object": "model", "created": 0, "owned_by": model.owner,
        "parent": model.parent, "root": model.parent.as_ref().unwrap_or(&model.id),
    })
}

/// `GET /v1/receipts/{completion id}`: the signed record and what it commits to.
pub(super) async fn receipt(
    State(node): State<Node>,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let receipt = node
        .receipt(&id)?
        .ok_or_else(|| ApiError::not_found("completion", &id))?;
    Ok(Json(receipt))
}

/// `POST /v1/chat/completions`.
pub(super) async fn chat(
    State(node): State<Node>,
    headers: HeaderMap,
    Body(request): Body<ChatRequest>,
) -> Result<Response, ApiError> {
    if request.messages.is_empty() {
        return Err(ApiError::invalid(
            "messages",
            "at least one message is needed",
        ));
    }
    if request.top_logprobs.is_some() && !request.logprobs {
        return Err(ApiError::invalid(
            "top_logprobs",
            "needs \"logprobs\": true",
        ));
    }
    let logprobs = request.logprobs.then(|| request.top_logprobs.unwrap_or(0));
    let shape = Shape::Chat;
    answer(
        node,
        &headers,
        request.common,
        Prompt::Chat(request.messages),
        logprobs,
        false,
        shape,
    )
    .await
}

/// `POST /v1/completions`.
pub(super) async fn complete(
    State(node): State<Node>,
    headers: HeaderMap,
    Body(request): Body<TextRequest>,
) -> Result<Response, ApiError> {
    let prompt = match request.prompt {
        TextPrompt::Text(text) => Prompt::Text(text),
        TextPrompt::Tokens(tokens) => Prompt::Tokens(tokens),
        TextPrompt::Texts(texts) => match <[String; 1]>::try_from(texts) {
            Ok([text]) => Prompt::Text(text),
            Err(texts) => {
                return Err(ApiError::invalid(
                    "prompt",
                    format!("{} prompts in one request; send one each", texts.len()),
                ));
            }
        },
    };
    let shape = Shape::Text;
    answer(
        node,
        &headers,
        request.common,
        prompt,
        request.logprobs,
        request.echo,
        shape,
    )
    .await
}

async fn answer(
    node: Node,
    headers: &HeaderMap,
    common: Common,
    prompt: Prompt,
    logprobs: Option<u32>,
    echo: bool,
    shape: Shape,
) -> Result<Response, ApiError> {
    let inline = inline_top_k(common.attribution.as_ref())?;
    let usage_chunk = common
        .stream_options
        .is_some_and(|options| options.include_usage);
    let streaming = common.stream;
    let n = match common.n {
        None => 1,
        Some(n @ 1..=MAX_CHOICES) => n,
        Some(n) => {
            let rule = format!("{n} is not between 1 and {MAX_CHOICES}");
            return Err(ApiError::invalid("n", rule));
        }
    };
    let request = CompletionRequest {
        payment: payment(headers)?,
        idempotency: idempotency(headers)?,
        sampling: sampling(&common, &node.base().sampling, logprobs, echo)?,
        model: common.model,
        prompt,
    };
    let mut streams = Vec::new();
    for choice in 0..n {
        let mut request = request.clone();
        if choice > 0 {
            let other = |seed: u64| seed.wrapping_add(choice.into());
            request.sampling.seed = request.sampling.seed.map(other);
            request.idempotency = request.idempotency.map(|key| format!("{key}#{choice}"));
        }
        streams.push(node.complete(request).await?);
    }
    let id = streams
        .first()
        .map(|stream| stream.id.clone())
        .unwrap_or_default();
    let id = HeaderValue::from_str(&id)
        .map_err(|_| ApiError::invalid("id", "the completion id is not a header value"))?;
    let choices = Choices::new(node, shape, inline, streams);
    let mut response = if streaming {
        choices.stream(usage_chunk).into_response()
    } else {
        choices.whole().await?.into_response()
    };
    response.headers_mut().insert(ATTRIBUTION_HEADER, id);
    Ok(response)
}

fn inline_top_k(options: Option<&AttributionOptions>) -> Result<Option<usize>, ApiError> {
    match options.map(|options| (options.mode.as_str(), options.top_k)) {
        None | Some(("async", _)) => Ok(None),
        Some(("inline", top_k)) => Ok(Some(top_k.unwrap_or(5).min(20))),
        Some((other, _)) => Err(ApiError::invalid(
            "attribution.mode",
            format!("{other:?} is neither \"async\" nor \"inline\""),
        )),
    }
}

fn payment(headers: &HeaderMap) -> Result<Payment, ApiError> {
    if let Some(value) = headers.get(VOUCHER_HEADER) {
        #[derive(Deserialize)]
        struct Signed {
            voucher: Voucher,
            signature: openledger_primitives::Bytes,
        }
        let wrong = |reason: String| ApiError {
            status: axum::http::StatusCode::BAD_REQUEST,
            message: format!(
                "{VOUCHER_HEADER} must be base64 of {{\"voucher\": {{payer, settler, \
                 maxCumulative, nonce, deadline}}, \"signature\": \"0x..\"}}: {reason}"
            ),
            kind: "invalid_voucher",
            param: Some(VOUCHER_HEADER.to_owned()),
            code: "malformed_voucher",
        };
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(value.as_bytes())
            .map_err(|error| wrong(error.to_string()))?;
        let signed: Signed =
            serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
        return Ok(Payment::Voucher(signed.voucher, signed.signature.to_vec()));
    }
    let key = headers
        .get(axum::http::header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "));
    match key {
        Some(key) => Ok(Payment::ApiKey(key.trim().to_owned())),
        None => Err(Error::Unauthorized(format!(
            "send an API key (Authorization: Bearer ..) or a signed voucher ({VOUCHER_HEADER})"
        ))
        .into()),
    }
}

/// The caller's own name for the request, as payment APIs have it.
fn idempotency(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let Some(value) = headers.get(IDEMPOTENCY_HEADER) else {
        return Ok(None);
    };
    match value.to_str() {
        Ok(key) if (1..=128).contains(&key.len()) => Ok(Some(key.to_owned())),
        _ => Err(ApiError::invalid(
            IDEMPOTENCY_HEADER,
            "1 to 128 visible ASCII characters",
        )),
    }
}

/// The settings of a request, over the model's own `defaults`.
fn sampling(
    common: &Common,
    defaults: &SamplingConfig,
    logprobs: Option<u32>,
    echo: bool,
) -> Result<Sampling, ApiError> {
    let within = |name: &str, value: Option<f32>, default: f32, low: f32, high: f32| match value {
        None => Ok(default),
        Some(value) if (low..=high).contains(&value) => Ok(value),
        Some(value) => Err(ApiError::invalid(
            name,
            format!("{value} is not between {low} and {high}"),
        )),
    };
    let stop = match &common.stop {
        None => Vec::new(),
        Some(Stop::One(one)) => vec![one.clone()],
        Some(Stop::Many(many)) => many.clone(),
    };
    if stop.len() > 4 || stop.iter().any(String::is_empty) {
        return Err(ApiError::invalid(
            "stop",
            "at most four strings, none of them empty",
        ));
    }
    if logprobs.is_some_and(|top| top > 20) {
        return Err(ApiError::invalid("top_logprobs", "at most 20"));
    }
    let max_tokens = common.max_completion_tokens.or(common.max_tokens);
    if max_tokens == Some(0) {
        return Err(ApiError::invalid("max_tokens", "at least 1"));
    }
    Ok(Sampling {
        max_tokens,
        min_tokens: common.min_tokens.unwrap_or(0),
        ignore_eos: common.ignore_eos,
        temperature: within(
            "temperature",
            common.temperature,
            defaults.temperature,
            0.0,
            2.0,
        )?,
        top_p: within("top_p", common.top_p, defaults.top_p, 0.0, 1.0)?,
        top_k: common.top_k.unwrap_or(defaults.top_k as u32),
        seed: common.seed,
        stop,
        logit_bias: logit_bias(common)?,
        logprobs,
        echo,
    })
}

/// Token ids come as strings, since they are JSON keys.
fn logit_bias(common: &Common) -> Result<BTreeMap<u32, f32>, ApiError> {
    let format = common
        .response_format
        .as_ref()
        .map(|format| format.kind.as_str());
    if let Some(other) = format.filter(|kind| *kind != "text") {
        let rule = format!("{other:?} is not supported; \"text\" is");
        return Err(ApiError::invalid("response_format.type", rule));
    }
    let Some(bias) = &common.logit_bias else {
        return Ok(BTreeMap::new());
    };
    bias.iter()
        .map(|(token, bias)| {
            let id = token.parse().map_err(|_| {
                ApiError::invalid("logit_bias", format!("{token:?} is not a token id"))
            })?;
            Ok((id, *bias))
        })
        .collect()
}
