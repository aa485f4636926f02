//! Answers as one JSON object or as a stream of chunks, for one choice or several.
//!
//! Each choice is an inference of its own, with its own receipt and attribution; the answer's `id`
//! is that of the first. `usage` counts what is charged, so a prompt that is answered twice counts
//! twice.

use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::response::IntoResponse;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::error::ApiError;
use crate::inference::{Completion, CompletionEvent, CompletionStream, TokenLogprob};
use crate::{Error, Node};

/// Longest wait for an inline attribution.
const INLINE_WAIT: Duration = Duration::from_secs(30);
/// Chunks that wait for a slow reader.
const CHUNKS: usize = 64;

/// Which of the two endpoints' answers is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// `/v1/chat/completions`.
    Chat,
    /// `/v1/completions`.
    Text,
}

/// The answers to one request.
pub(super) struct Choices {
    node: Node,
    shape: Shape,
    /// Rows of the attribution to show in the answer itself.
    inline: Option<usize>,
    head: Value,
    ids: Vec<String>,
    streams: Vec<CompletionStream>,
}

impl Choices {
    /// `streams` holds one choice or more.
    pub(super) fn new(
        node: Node,
        shape: Shape,
        inline: Option<usize>,
        streams: Vec<CompletionStream>,
    ) -> Self {
        let ids: Vec<String> = streams.iter().map(|stream| stream.id.clone()).collect();
        let head = streams.first().map_or(Value::Null, |first| {
            json!({
                "id": first.id, "created": first.created, "model": first.model,
                "system_fingerprint": first.fingerprint,
            })
        });
        Self {
            node,
            shape,
            inline,
            head,
            ids,
            streams,
        }
    }

    /// All answers in one object.
    pub(super) async fn whole(mut self) -> Result<Json<Value>, ApiError> {
        let mut choices = Vec::new();
        let mut finished = Vec::new();
        for (index, mut stream) in std::mem::take(&mut self.streams).into_iter().enumerate() {
            let (done, tokens) = collect(&mut stream).await?;
            choices.push(self.choice(index, &done, &tokens));
            finished.push(done);
        }
        let mut answer = self.head.clone();
        answer["object"] = self.object(false).into();
        answer["choices"] = choices.into();
        answer["usage"] = usage(&finished);
        answer["attribution"] = self.attribution().await;
        Ok(Json(answer))
    }

    /// The answers as they come, interleaved.
    pub(super) fn stream(mut self, usage_chunk: bool) -> impl IntoResponse {
        // Bounded: a slow reader slows its own stream and nothing else.
        let (send, receive) = mpsc::channel::<Event>(CHUNKS);
        let streams = std::mem::take(&mut self.streams);
        tokio::spawn(async move {
            let chunks = self.chunks(streams, usage_chunk);
            futures::pin_mut!(chunks);
            while let Some(chunk) = chunks.next().await {
                if send.send(Event::default().data(chunk)).await.is_err() {
                    // The reader is gone; dropping the streams cancels the answers.
                    return;
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

    /// The lines of a stream, up to and including `[DONE]` or an error.
    fn chunks(
        &self,
        streams: Vec<CompletionStream>,
        usage_chunk: bool,
    ) -> impl futures::Stream<Item = String> + '_ {
        let opening: Vec<String> = match self.shape {
            Shape::Chat => (0..streams.len())
                .map(|index| self.chunk(&opening(index)))
                .collect(),
            Shape::Text => Vec::new(),
        };
        let events = stream::select_all(streams.into_iter().enumerate().map(events));
        let state = (events, Vec::new(), false);
        let body = stream::unfold(state, move |(mut events, mut finished, ended)| async move {
            if ended {
                return None;
            }
            let lines = match events.next().await {
                Some((index, CompletionEvent::Token { text, logprob })) => {
                    vec![self.chunk(&self.delta(index, &text, logprob.as_ref()))]
                }
                Some((index, CompletionEvent::Done(done))) => {
                    let last = self.chunk(&self.ending(index, done.finish_reason));
                    finished.push(done);
                    vec![last]
                }
                Some((_, CompletionEvent::Failed(error))) => {
                    let body = ApiError::from(error).body().to_string();
                    return Some((stream::iter(vec![body]), (events, finished, true)));
                }
                None => {
                    let mut lines = Vec::new();
                    if usage_chunk || self.inline.is_some() {
                        let mut last = self.head.clone();
                        last["object"] = self.object(true).into();
                        last["choices"] = json!([]);
                        last["usage"] = usage(&finished);
                        last["attribution"] = self.attribution().await;
                        lines.push(last.to_string());
                    }
                    lines.push("[DONE]".to_owned());
                    return Some((stream::iter(lines), (events, finished, true)));
                }
            };
            Some((stream::iter(lines), (events, finished, false)))
        });
        stream::iter(opening).chain(body.flatten())
    }

    fn object(&self, chunk: bool) -> &'static str {
        match (self.shape, chunk) {
            (Shape::Chat, false) => "chat.completion",
            (Shape::Chat, true) => "chat.completion.chunk",
            (Shape::Text, _) => "text_completion",
        }
    }

    fn chunk(&self, choice: &Value) -> String {
        let mut chunk = self.head.clone();
        chunk["object"] = self.object(true).into();
        chunk["choices"] = json!([choice]);
        chunk.to_string()
    }

    fn choice(&self, index: usize, done: &Completion, tokens: &[TokenLogprob]) -> Value {
        let logprobs = (!tokens.is_empty()).then(|| self.logprobs(tokens));
        let mut choice = match self.shape {
            Shape::Chat => json!({
                "message": {"role": "assistant", "content": done.text, "refusal": null},
            }),
            Shape::Text => json!({"text": done.text}),
        };
        choice["index"] = index.into();
        choice["finish_reason"] = done.finish_reason.into();
        choice["logprobs"] = logprobs.into();
        choice["attribution"] = self.reference(&self.ids[index], "pending");
        choice
    }

    fn delta(&self, index: usize, text: &str, token: Option<&TokenLogprob>) -> Value {
        let logprobs = token.map(|token| self.logprobs(std::slice::from_ref(token)));
        match self.shape {
            Shape::Chat => json!({
                "index": index, "delta": {"content": text}, "finish_reason": null,
                "logprobs": logprobs,
            }),
            Shape::Text => json!({
                "index": index, "text": text, "finish_reason": null, "logprobs": logprobs,
            }),
        }
    }

    fn ending(&self, index: usize, finish_reason: &str) -> Value {
        match self.shape {
            Shape::Chat => json!({
                "index": index, "delta": {}, "logprobs": null, "finish_reason": finish_reason,
            }),
            Shape::Text => json!({
                "index": index, "text": "", "logprobs": null, "finish_reason": finish_reason,
            }),
        }
    }

    fn logprobs(&self, tokens: &[TokenLogprob]) -> Value {
        match self.shape {
            Shape::Chat => chat_logprobs(tokens),
            Shape::Text => text_logprobs(tokens),
        }
    }

    fn reference(&self, id: &str, status: &str) -> Value {
        let url = format!("{}/v1/attributions/{id}", self.node.http_url());
        json!({"id": id, "status": status, "url": url})
    }

    /// The first choice's attribution: where it is, or the whole when it was asked for inline.
    async fn attribution(&self) -> Value {
        let Some(id) = self.ids.first() else {
            return Value::Null;
        };
        let Some(top_k) = self.inline else {
            return self.reference(id, "pending");
        };
        match self.node.wait_for_attribution(id, INLINE_WAIT).await {
            Ok(Some(mut view)) => {
                view.rows.truncate(top_k);
                serde_json::to_value(view).unwrap_or_else(|_| self.reference(id, "ready"))
            }
            _ => self.reference(id, "pending"),
        }
    }
}

/// A choice's events with its number.
fn events(
    (index, stream): (usize, CompletionStream),
) -> BoxStream<'static, (usize, CompletionEvent)> {
    stream::unfold(stream, move |mut stream| async move {
        let event = stream.events.recv().await?;
        Some(((index, event), stream))
    })
    .boxed()
}

async fn collect(
    stream: &mut CompletionStream,
) -> Result<(Completion, Vec<TokenLogprob>), ApiError> {
    let mut tokens = Vec::new();
    loop {
        match stream.events.recv().await {
            Some(CompletionEvent::Token { logprob, .. }) => tokens.extend(logprob),
            Some(CompletionEvent::Done(done)) => return Ok((done, tokens)),
            Some(CompletionEvent::Failed(error)) => return Err(error.into()),
            None => return Err(Error::ShuttingDown.into()),
        }
    }
}

fn opening(index: usize) -> Value {
    json!({
        "index": index, "delta": {"role": "assistant", "content": ""}, "logprobs": null,
        "finish_reason": null,
    })
}

fn usage(finished: &[Completion]) -> Value {
    let prompt: u32 = finished.iter().map(|done| done.prompt_tokens).sum();
    let output: u32 = finished.iter().map(|done| done.output_tokens).sum();
    json!({
        "prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output,
        "prompt_tokens_details": {"cached_tokens": 0},
    })
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
    let known = |token: &TokenLogprob| token.known.then_some(token.logprob);
    let top = |token: &TokenLogprob| -> Value {
        let pairs = token
            .top
            .iter()
            .map(|(text, logprob, _)| (text.clone(), json!(logprob)));
        Value::Object(pairs.collect())
    };
    json!({
        "tokens": tokens.iter().map(|token| &token.text).collect::<Vec<_>>(),
        "token_logprobs": tokens.iter().map(known).collect::<Vec<_>>(),
        "text_offset": offsets,
        "top_logprobs": tokens.iter().map(top).collect::<Vec<_>>(),
    })
}
