//! The OpenAI-compatible part: models, chat completions, completions.
//!
//! What is added fits where clients keep it (measured with the real SDKs, see
//! docs/api.md): the header `x-openledger-attribution` before the body, and a small `attribution`
//! stub on the answer and on the usage chunk. The full report is a resource of its own, or inline
//! when the request says `"attribution": {"mode": "inline"}`.

use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use futures::stream;
use openledger_primitives::records::Voucher;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::error::{ApiError, Body};
use crate::inference::{
    Completion, CompletionEvent, CompletionRequest, CompletionStream, Message, Payment, Prompt,
    Sampling, TokenLogprob,
};
use crate::{Error, Node};

/// Carries the completion's id before the body.
pub(super) const ATTRIBUTION_HEADER: &str = "x-openledger-attribution";
/// Carries a voucher: base64 of `{"voucher": {..}, "signature": "0x.."}`.
pub(super) const VOUCHER_HEADER: &str = "x-openledger-voucher";
/// Names a request, so that asking again is safe.
const IDEMPOTENCY_HEADER: &str = "idempotency-key";
/// Longest wait for an inline attribution.
const INLINE_WAIT: Duration = Duration::from_secs(30);

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

/// Which of the two endpoints' answers is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Chat,
    Text,
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
    let request = CompletionRequest {
        payment: payment(headers)?,
        idempotency: idempotency(headers)?,
        sampling: sampling(&common, logprobs, echo)?,
        model: common.model,
        prompt,
    };
    let stream = node.complete(request).await?;
    let id = HeaderValue::from_str(&stream.id)
        .map_err(|_| ApiError::invalid("id", "the completion id is not a header value"))?;
    let mut response = if streaming {
        sse(node, stream, shape, usage_chunk, inline).into_response()
    } else {
        whole(node, stream, shape, inline).await?.into_response()
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

fn sampling(common: &Common, logprobs: Option<u32>, echo: bool) -> Result<Sampling, ApiError> {
    let within = |name: &str, value: Option<f32>, default: f32, low: f32, high: f32| match value {
        None => Ok(default),
        Some(value) if (low..=high).contains(&value) => Ok(value),
        Some(value) => Err(ApiError::invalid(
            name,
            format!("{value} is not between {low} and {high}"),
        )),
    };
    if common.n.is_some_and(|n| n != 1) {
        return Err(ApiError::invalid(
            "n",
            "one choice a request is served; send n requests",
        ));
    }
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
        temperature: within("temperature", common.temperature, 1.0, 0.0, 2.0)?,
        top_p: within("top_p", common.top_p, 1.0, 0.0, 1.0)?,
        top_k: common.top_k.unwrap_or(0),
        seed: common.seed,
        stop,
        logprobs,
        echo,
    })
}

fn stub(node: &Node, id: &str, status: &str) -> Value {
    json!({"id": id, "status": status, "url": format!("{}/v1/attributions/{id}", node.http_url())})
}

async fn attribution(node: &Node, id: &str, inline: Option<usize>) -> Value {
    let Some(top_k) = inline else {
        return stub(node, id, "pending");
    };
    match node.wait_for_attribution(id, INLINE_WAIT).await {
        Ok(Some(mut view)) => {
            view.rows.truncate(top_k);
            serde_json::to_value(view).unwrap_or_else(|_| stub(node, id, "ready"))
        }
        _ => stub(node, id, "pending"),
    }
}

fn usage(done: &Completion) -> Value {
    let (prompt, output) = (done.prompt_tokens, done.output_tokens);
    json!({
        "prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output,
        "prompt_tokens_details": {"cached_tokens": 0},
    })
}

async fn whole(
    node: Node,
    mut stream: CompletionStream,
    shape: Shape,
    inline: Option<usize>,
) -> Result<Json<Value>, ApiError> {
    let mut tokens = Vec::new();
    let done = loop {
        match stream.events.recv().await {
            Some(CompletionEvent::Token {
                logprob: Some(logprob),
                ..
            }) => tokens.push(logprob),
            Some(CompletionEvent::Token { .. }) => {}
            Some(CompletionEvent::Done(done)) => break done,
            Some(CompletionEvent::Failed(error)) => return Err(error.into()),
            None => return Err(Error::ShuttingDown.into()),
        }
    };
    let logprobs = (!tokens.is_empty()).then_some(tokens);
    let choice = match shape {
        Shape::Chat => json!({
            "index": 0, "finish_reason": done.finish_reason,
            "message": {"role": "assistant", "content": done.text, "refusal": null},
            "logprobs": logprobs.map(|tokens| chat_logprobs(&tokens)),
        }),
        Shape::Text => json!({
            "index": 0, "finish_reason": done.finish_reason, "text": done.text,
            "logprobs": logprobs.map(|tokens| text_logprobs(&tokens)),
        }),
    };
    Ok(Json(json!({
        "id": stream.id, "object": object(shape, false), "created": stream.created,
        "model": stream.model, "choices": [choice], "usage": usage(&done),
        "system_fingerprint": stream.fingerprint,
        "attribution": attribution(&node, &stream.id, inline).await,
    })))
}

const fn object(shape: Shape, chunk: bool) -> &'static str {
    match (shape, chunk) {
        (Shape::Chat, false) => "chat.completion",
        (Shape::Chat, true) => "chat.completion.chunk",
        (Shape::Text, _) => "text_completion",
    }
}

fn chat_logprobs(tokens: &[TokenLogprob]) -> Value {
    let entry = |token: &str, logprob: f32, bytes: &[u8]| json!({"token": token, "logprob": logprob, "bytes": bytes});
    let content: Vec<Value> = tokens
        .iter()
        .map(|token| {
            let mut line = entry(&token.text, token.logprob, &token.bytes);
            line["top_logprobs"] = token
                .top
                .iter()
                .map(|(text, logprob, bytes)| entry(text, *logprob, bytes))
                .collect();
            line
        })
        .collect();
    json!({"content": content, "refusal": null})
}

fn text_logprobs(tokens: &[TokenLogprob]) -> Value {
    let mut offset = 0;
    let offsets: Vec<usize> = tokens
        .iter()
        .map(|token| {
            let start = offset;
            offset += token.text.chars().count();
            start
        })
        .collect();
    let top: Vec<Value> = tokens
        .iter()
        .map(|token| {
            let top: serde_json::Map<String, Value> = token
                .top
                .iter()
                .map(|(text, logprob, _)| (text.clone(), json!(logprob)))
                .collect();
            Value::Object(top)
        })
        .collect();
    json!({
        "tokens": tokens.iter().map(|token| &token.text).collect::<Vec<_>>(),
        "token_logprobs": tokens.iter().map(|token| token.known.then_some(token.logprob)).collect::<Vec<_>>(),
        "text_offset": offsets,
        "top_logprobs": top,
    })
}

fn sse(
    node: Node,
    mut completion: CompletionStream,
    shape: Shape,
    usage_chunk: bool,
    inline: Option<usize>,
) -> impl IntoResponse {
    // A bounded channel: a slow reader slows its own stream and nothing else.
    let (send, receive) = mpsc::channel::<Event>(64);
    tokio::spawn(async move {
        let head = json!({
            "id": completion.id, "object": object(shape, true), "created": completion.created,
            "model": completion.model, "system_fingerprint": completion.fingerprint,
        });
        let chunk = |choices: Value| {
            let mut chunk = head.clone();
            chunk["choices"] = choices;
            chunk
        };
        let mut pending = Vec::new();
        if shape == Shape::Chat {
            pending.push(chunk(json!([{
                "index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": null,
                "finish_reason": null,
            }])));
        }
        while let Some(event) = {
            for line in pending.drain(..) {
                if send
                    .send(Event::default().data(line.to_string()))
                    .await
                    .is_err()
                {
                    return;
                }
            }
            completion.events.recv().await
        } {
            match event {
                CompletionEvent::Token { text, logprob } => {
                    pending.push(chunk(json!([delta(shape, &text, logprob.as_ref())])));
                }
                CompletionEvent::Done(done) => {
                    let finish = match shape {
                        Shape::Chat => json!({"index": 0, "delta": {}, "logprobs": null,
                            "finish_reason": done.finish_reason}),
                        Shape::Text => json!({"index": 0, "text": "", "logprobs": null,
                            "finish_reason": done.finish_reason}),
                    };
                    pending.push(chunk(json!([finish])));
                    if usage_chunk || inline.is_some() {
                        let mut last = chunk(json!([]));
                        last["usage"] = usage(&done);
                        last["attribution"] = attribution(&node, &completion.id, inline).await;
                        pending.push(last);
                    }
                    for line in pending.drain(..) {
                        if send
                            .send(Event::default().data(line.to_string()))
                            .await
                            .is_err()
                        {
                            return;
                        }
                    }
                    let _ = send.send(Event::default().data("[DONE]")).await;
                    return;
                }
                CompletionEvent::Failed(error) => {
                    let body = ApiError::from(error).body();
                    let _ = send.send(Event::default().data(body.to_string())).await;
                    return;
                }
            }
        }
    });
    let stream = stream::unfold(receive, |mut receive| async move {
        receive
            .recv()
            .await
            .map(|event| (Ok::<_, Infallible>(event), receive))
    });
    Sse::new(stream).keep_alive(KeepAlive::new().interval(Duration::from_secs(15)))
}

fn delta(shape: Shape, text: &str, logprob: Option<&TokenLogprob>) -> Value {
    match shape {
        Shape::Chat => json!({
            "index": 0, "delta": {"content": text}, "finish_reason": null,
            "logprobs": logprob.map(|token| chat_logprobs(std::slice::from_ref(token))),
        }),
        Shape::Text => json!({
            "index": 0, "text": text, "finish_reason": null,
            "logprobs": logprob.map(|token| text_logprobs(std::slice::from_ref(token))),
        }),
    }
}
