//! What happens in the node, as a numbered stream that pages and the CLI follow.
//!
//! Notices are for watching, not for keeping: they live in a bounded ring in memory. Whoever
//! reconnects asks for everything after the last number it saw; what fell out of the ring is in
//! the catalogue and on the chain.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use serde_json::Value;
use tokio::sync::broadcast;

/// Notices kept for those who reconnect.
const KEPT: usize = 4096;

/// Something that happened.
#[derive(Clone, Debug, Serialize)]
pub struct Notice {
    /// Running number, from 1.
    pub id: u64,
    /// `block`, `stage`, `epoch`, `run:<id>` or `attribution:<id>`.
    pub topic: String,
    /// What happened.
    pub json: Value,
}

/// The stream of notices.
#[derive(Clone, Debug)]
pub struct Notices {
    ring: Arc<Mutex<Ring>>,
    live: broadcast::Sender<Notice>,
}

#[derive(Debug, Default)]
struct Ring {
    last: u64,
    kept: VecDeque<Notice>,
}

impl Default for Notices {
    fn default() -> Self {
        Self {
            ring: Arc::default(),
            live: broadcast::channel(1024).0,
        }
    }
}

impl Notices {
    /// Tells everyone who follows.
    pub fn publish(&self, topic: impl Into<String>, what: &impl Serialize) {
        let json = serde_json::to_value(what).unwrap_or(Value::Null);
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        ring.last += 1;
        let notice = Notice {
            id: ring.last,
            topic: topic.into(),
            json,
        };
        if ring.kept.len() == KEPT {
            ring.kept.pop_front();
        }
        ring.kept.push_back(notice.clone());
        // Sent under the lock, so that followers see numbers in order. Nobody listening is fine.
        let _ = self.live.send(notice);
    }

    /// Follows from now on.
    pub fn follow(&self) -> broadcast::Receiver<Notice> {
        self.live.subscribe()
    }

    /// What is kept of the notices after number `id`.
    pub fn since(&self, id: u64) -> Vec<Notice> {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        ring.kept
            .iter()
            .filter(|notice| notice.id > id)
            .cloned()
            .collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn numbers_have_no_gap_and_the_ring_is_bounded() {
        let notices = Notices::default();
        let mut live = notices.follow();
        for n in 0..KEPT + 10 {
            notices.publish("block", &n);
            if n == 0 {
                assert_eq!(live.try_recv().unwrap().id, 1);
            }
        }
        let kept = notices.since(0);
        assert_eq!(kept.len(), KEPT);
        assert!(kept.windows(2).all(|pair| pair[0].id + 1 == pair[1].id));
        assert_eq!(notices.since(kept.last().unwrap().id - 2).len(), 2);
    }
}
