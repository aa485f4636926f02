//! Threads that wait for small pieces of work without falling asleep.
//!
//! A step of one lane is a hundred products of fifty microseconds each. A thread of the pool that
//! has nothing to steal between two of them goes to sleep, and waking it costs as much as its
//! share of the product saves. While a step runs, the pool's other threads therefore keep looking
//! for work.
//!
//! The pool may start such a search on a thread that waits, further down its stack, for another
//! thread's piece; a search without end would then be a deadlock. So it ends when it has found
//! nothing for [`PATIENCE`], and the thread rests as it would have.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long a thread looks for work before it rests: longer than what one thread does between the
/// products of a block.
const PATIENCE: Duration = Duration::from_micros(250);

/// Sets its flag when it goes, also when the work panics.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Runs `work` on a thread of the current rayon pool, whose other threads look for pieces of it
/// (or of anything else that the pool has to do) until it ends.
pub(crate) fn awake<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    let done = AtomicBool::new(false);
    let search = || {
        let mut last = Instant::now();
        while !done.load(Ordering::Acquire) && last.elapsed() < PATIENCE {
            match rayon::yield_now() {
                Some(rayon::Yield::Executed) => last = Instant::now(),
                _ => std::hint::spin_loop(),
            }
        }
    };
    rayon::scope(|scope| {
        let own = rayon::current_thread_index();
        scope.spawn_broadcast(move |_, thread| {
            if Some(thread.index()) != own {
                search();
            }
        });
        let done = Done(&done);
        let result = work();
        drop(done);
        result
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use rayon::prelude::*;

    use super::awake;

    fn sum(numbers: u64) -> u64 {
        (0..numbers).into_par_iter().map(|x| x * x).sum()
    }

    #[test]
    fn steps_beside_each_other_all_end() {
        for threads in [1, 2, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            let pool = pool.build().unwrap();
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        for _ in 0..200 {
                            let found = pool.install(|| awake(|| sum(10) + awake(|| sum(1000))));
                            assert_eq!(found, 285 + 332_833_500);
                        }
                    });
                }
            });
        }
    }

    #[test]
    fn a_panic_ends_the_wait_too() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2);
        let pool = pool.build().unwrap();
        let work = || pool.install(|| awake(|| assert!(sum(10) == 0, "as intended")));
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).is_err());
        assert_eq!(pool.install(|| awake(|| sum(10))), 285);
    }
}
