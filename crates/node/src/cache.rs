//! A small cache of things that are read from disk once and then shared.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use openledger_primitives::B256;

/// Entries kept; the least recently used one goes first.
const ENTRIES: usize = 16;

/// Values by content digest.
pub(crate) struct Cache<T> {
    entries: Mutex<Entries<T>>,
}

struct Entries<T> {
    /// Counts uses; the entry with the lowest last use is the oldest.
    clock: u64,
    by_digest: HashMap<B256, (u64, Arc<T>)>,
}

impl<T> Default for Cache<T> {
    fn default() -> Self {
        let entries = Entries {
            clock: 0,
            by_digest: HashMap::new(),
        };
        Self {
            entries: Mutex::new(entries),
        }
    }
}

impl<T> fmt::Debug for Cache<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").finish_non_exhaustive()
    }
}

impl<T> Cache<T> {
    /// The value of `key`, loaded if it is not here. Two callers at once may both load it.
    pub(crate) fn get_or_load<E>(
        &self,
        key: B256,
        load: impl FnOnce() -> Result<T, E>,
    ) -> Result<Arc<T>, E> {
        {
            let mut guard = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
            let Entries {
                clock,
                by_digest: entries,
            } = &mut *guard;
            *clock += 1;
            if let Some((used, value)) = entries.get_mut(&key) {
                *used = *clock;
                return Ok(Arc::clone(value));
            }
        }
        let value = Arc::new(load()?);
        let mut guard = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let Entries {
            clock,
            by_digest: entries,
        } = &mut *guard;
        if entries.len() >= ENTRIES
            && let Some(oldest) = entries
                .iter()
                .min_by_key(|(_, (used, _))| *used)
                .map(|(k, _)| *k)
        {
            entries.remove(&oldest);
        }
        entries.insert(key, (*clock, Arc::clone(&value)));
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loads_once_and_forgets_the_least_used() {
        let cache = Cache::default();
        let load = |n: u8| cache.get_or_load(B256::repeat_byte(n), || Ok::<_, ()>(n));
        for n in 0..ENTRIES as u8 {
            assert_eq!(load(n).as_deref(), Ok(&n));
        }
        let kept = cache.get_or_load(B256::repeat_byte(0), || Err("loaded again"));
        assert_eq!(kept.as_deref(), Ok(&0));
        assert_eq!(load(99).as_deref(), Ok(&99));
        let gone = cache.get_or_load(B256::repeat_byte(1), || Err("loaded again"));
        assert_eq!(gone.err(), Some("loaded again"));
    }
}
