//! `GET /events?topics=a,b`: one server-sent stream a page.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::IntoResponse;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::stream::{self, Stream, StreamExt};
use serde::Deserialize;
use tokio::sync::broadcast::error::RecvError;

use crate::{Node, Notice};

/// Query of the stream.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Topics {
    /// Comma-separated topics; everything when empty. `run:*` stands for all runs.
    #[serde(default)]
    topics: String,
}

/// Streams notices. A client that reconnects sends `Last-Event-ID` and misses nothing that is
/// still kept.
pub(crate) async fn events(
    State(node): State<Node>,
    Query(Topics { topics }): Query<Topics>,
    headers: HeaderMap,
) -> impl IntoResponse {
    let wanted: Vec<String> = topics
        .split(',')
        .map(str::trim)
        .filter(|t| !t.is_empty())
        .map(str::to_owned)
        .collect();
    let last = headers
        .get("last-event-id")
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse::<u64>().ok());
    // Follow first, then replay: what happens in between is in both and dropped by its number.
    let live = node.notices().follow();
    let replay = last.map(|id| node.notices().since(id)).unwrap_or_default();
    let seen = replay.last().map_or(last.unwrap_or(0), |notice| notice.id);
    let stream = stream::iter(replay)
        .chain(follow(live, seen))
        .filter(move |notice| {
            let wants = wanted.is_empty() || wanted.iter().any(|topic| matches(topic, notice));
            std::future::ready(wants)
        })
        .map(|notice| {
            let event = Event::default()
                .id(notice.id.to_string())
                .event(kind(&notice));
            Ok::<_, Infallible>(event.data(notice.json.to_string()))
        });
    Sse::new(stream).keep_alive(KeepAlive::new().interval(Duration::from_secs(15)))
}

fn follow(live: tokio::sync::broadcast::Receiver<Notice>, seen: u64) -> impl Stream<Item = Notice> {
    stream::unfold(live, move |mut live| async move {
        loop {
            match live.recv().await {
                Ok(notice) if notice.id > seen => return Some((notice, live)),
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        }
    })
}

fn matches(topic: &str, notice: &Notice) -> bool {
    topic
        .strip_suffix('*')
        .map_or(notice.topic == topic, |head| notice.topic.starts_with(head))
}

/// The part of a topic before its id: the event name that a page listens for.
fn kind(notice: &Notice) -> &str {
    notice.topic.split(':').next().unwrap_or(&notice.topic)
}
