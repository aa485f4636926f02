//! Who is served next: fair by work, per adapter.
//!
//! A virtual token counter a tenant (Sheng et al., "Fairness in Serving Large Language Models",
//! OSDI 2024): each adapter has a counter of the tokens computed for it, and the waiting adapter
//! with the smallest counter goes next. An adapter that was idle starts at the level of the least
//! served active one, so it cannot save up credit and then flood the engine.

use std::collections::{BTreeMap, VecDeque};

use openledger_primitives::B256;

/// A tenant: the adapter's weights root, `None` for the base.
pub(crate) type Tenant = Option<B256>;

#[derive(Debug)]
struct Line<T> {
    waiting: VecDeque<T>,
    running: usize,
    served: u64,
}

/// Waiting jobs by tenant, bounded in all.
#[derive(Debug)]
pub(crate) struct FairQueue<T> {
    lines: BTreeMap<Tenant, Line<T>>,
    waiting: usize,
    limit: usize,
}

impl<T> FairQueue<T> {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            lines: BTreeMap::new(),
            waiting: 0,
            limit,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting
    }

    /// Whether `count` more jobs fit.
    pub(crate) fn has_room(&self, count: usize) -> bool {
        self.waiting + count <= self.limit
    }

    pub(crate) fn push(&mut self, tenant: Tenant, job: T) {
        let active = |line: &&Line<T>| !line.waiting.is_empty() || line.running > 0;
        let level = self
            .lines
            .values()
            .filter(active)
            .map(|line| line.served)
            .min()
            .unwrap_or(0);
        let line = self.lines.entry(tenant).or_insert(Line {
            waiting: VecDeque::new(),
            running: 0,
            served: 0,
        });
        if !active(&&*line) {
            line.served = line.served.max(level);
        }
        line.waiting.push_back(job);
        self.waiting += 1;
    }

    /// The next job for which `fits`, from the least served tenant. A tenant whose first job does
    /// not fit waits for room rather than being overtaken for ever: then nobody is served.
    pub(crate) fn pop(&mut self, fits: impl Fn(&T) -> bool) -> Option<(Tenant, T)> {
        let (tenant, line) = self
            .lines
            .iter_mut()
            .filter(|(_, line)| !line.waiting.is_empty())
            .min_by_key(|(_, line)| line.served)?;
        if !line.waiting.front().is_some_and(&fits) {
            return None;
        }
        let job = line.waiting.pop_front()?;
        line.running += 1;
        self.waiting -= 1;
        Some((*tenant, job))
    }

    /// Accounts `tokens` computed for `tenant`.
    pub(crate) fn charge(&mut self, tenant: Tenant, tokens: u64) {
        if let Some(line) = self.lines.get_mut(&tenant) {
            line.served += tokens;
        }
    }

    /// A job of `tenant` ended.
    pub(crate) fn finished(&mut self, tenant: Tenant) {
        if let Some(line) = self.lines.get_mut(&tenant) {
            line.running = line.running.saturating_sub(1);
        }
        // Counters matter only against active tenants; without any they can be forgotten.
        if self
            .lines
            .values()
            .all(|line| line.running == 0 && line.waiting.is_empty())
        {
            self.lines.clear();
        }
    }

    /// Removes the waiting jobs for which `keep` is false.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        let mut waiting = 0;
        for line in self.lines.values_mut() {
            line.waiting.retain(&mut keep);
            waiting += line.waiting.len();
        }
        self.waiting = waiting;
    }

    /// Takes every waiting job.
    pub(crate) fn drain(&mut self) -> Vec<T> {
        self.waiting = 0;
        self.lines
            .values_mut()
            .flat_map(|line| line.waiting.drain(..))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(number: u8) -> Tenant {
        Some(B256::repeat_byte(number))
    }

    #[test]
    fn a_flood_does_not_delay_a_trickle() {
        let mut queue = FairQueue::new(100);
        for job in 0..50 {
            queue.push(tenant(1), job);
        }
        let mut order = Vec::new();
        for round in 0..10 {
            if round == 3 {
                queue.push(tenant(2), 1000);
                queue.push(tenant(2), 1001);
            }
            let (who, job) = queue.pop(|_| true).expect("jobs wait");
            queue.charge(who, 10);
            order.push(job);
        }
        assert_eq!(order, [0, 1, 2, 3, 1000, 4, 1001, 5, 6, 7]);
    }

    #[test]
    fn idling_earns_no_credit() {
        let mut queue = FairQueue::new(100);
        for job in 0..20 {
            queue.push(tenant(1), job);
        }
        for _ in 0..10 {
            let (who, _) = queue.pop(|_| true).expect("jobs wait");
            queue.charge(who, 100);
        }
        // The newcomer gets turns, not ten in a row.
        for job in 100..110 {
            queue.push(tenant(2), job);
        }
        let mut newcomer = 0;
        for _ in 0..10 {
            let (who, _) = queue.pop(|_| true).expect("jobs wait");
            newcomer += usize::from(who == tenant(2));
            queue.charge(who, 100);
        }
        assert_eq!(newcomer, 5);
    }

    #[test]
    fn room_and_removal_are_counted() {
        let mut queue = FairQueue::new(3);
        for job in 0..3 {
            assert!(queue.has_room(1));
            queue.push(None, job);
        }
        assert!(!queue.has_room(1));
        queue.retain(|job| *job != 1);
        assert_eq!(queue.len(), 2);
        assert!(queue.pop(|job| *job == 7).is_none());
        assert_eq!(queue.pop(|_| true), Some((None, 0)));
        assert_eq!(queue.drain(), [2]);
        assert_eq!(queue.len(), 0);
    }
}
