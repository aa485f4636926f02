//! `GET /v1/runs/{id}/metrics`: a run's steps, as a list or as a stream that follows the run.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream::{self, Stream};
use serde::Deserialize;
use tokio::sync::broadcast::{Receiver, error::RecvError};

use super::error::ApiError;
use crate::view::LossPoint;
use crate::{Node, Notice};

/// Steps read from the catalogue at once.
const PAGE: usize = 1_000;

/// Which steps are wanted.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct After {
    /// Only steps after this one.
    #[serde(default)]
    after: u64,
    limit: Option<usize>,
}

/// The steps after `after`. With `Accept: text/event-stream` they come as events `step` whose id
/// is the step, those of the future too; `Last-Event-ID` goes on after it, and `end` with the
/// run's status is the last event.
pub(crate) async fn metrics(
    State(node): State<Node>,
    Path(id): Path<String>,
    Query(After { after, limit }): Query<After>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    if node.run_status(&id)?.is_none() {
        return Err(ApiError::not_found("run", &id));
    }
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let streams =
        header(header::ACCEPT.as_str()).is_some_and(|accept| accept.contains("text/event-stream"));
    if !streams {
        let limit = limit.unwrap_or(PAGE).min(10 * PAGE);
        let points = node.run_points(&id, after, limit)?;
        let list = serde_json::json!({"object": "list", "data": points});
        return Ok(Json(list).into_response());
    }
    let last = header("last-event-id").and_then(|id| id.parse().ok());
    let follower = Follower {
        topic: format!("run:{id}"),
        // Followed before the first look, so that nothing falls between.
        news: node.notices().follow(),
        node,
        id,
        last: last.unwrap_or(after),
        ready: VecDeque::new(),
        ended: false,
    };
    let keep_alive = KeepAlive::new().interval(Duration::from_secs(15));
    Ok(Sse::new(follower.events())
        .keep_alive(keep_alive)
        .into_response())
}

/// Reads the catalogue whenever there is news of the run.
struct Follower {
    node: Node,
    id: String,
    topic: String,
    news: Receiver<Notice>,
    /// The last step that was sent.
    last: u64,
    ready: VecDeque<LossPoint>,
    ended: bool,
}

impl Follower {
    fn events(self) -> impl Stream<Item = Result<Event, Infallible>> {
        stream::unfold(self, |mut follower| async move {
            let event = follower.next().await?;
            Some((Ok(event), follower))
        })
    }

    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(point) = self.ready.pop_front() {
                self.last = point.step;
                let event = Event::default().event("step").id(point.step.to_string());
                return event.json_data(&point).ok();
            }
            if self.ended {
                return None;
            }
            // The status first: steps before an end are written before it.
            let (status, message, live) = self.node.run_status(&self.id).ok()??;
            let points = self.node.run_points(&self.id, self.last, PAGE).ok()?;
            self.ready.extend(points);
            if !self.ready.is_empty() {
                continue;
            }
            if !live {
                self.ended = true;
                let end = serde_json::json!({"status": status, "message": message});
                return Event::default().event("end").json_data(end).ok();
            }
            loop {
                match self.news.recv().await {
                    Ok(notice) if notice.topic == self.topic => break,
                    Ok(_) => {}
                    Err(RecvError::Lagged(_)) => break,
                    Err(RecvError::Closed) => return None,
                }
            }
        }
    }
}
