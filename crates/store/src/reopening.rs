//! A database that a failed write does not end.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use redb::{Database, DatabaseError};

/// How long a database that cannot be opened again is left alone.
const REST: Duration = Duration::from_secs(1);

/// A redb database that is opened again after a failed write.
///
/// redb refuses everything after one, because what it has in memory may not be what the file has. A
/// full disk must not end a node, so the file is then closed and opened again, which leads back to
/// the last commit. Transactions from before fail from there on.
pub struct Reopening {
    open: Box<dyn Fn() -> Result<Database, DatabaseError> + Send + Sync>,
    state: Mutex<State>,
}

/// The database, or when opening it again was last tried and what came of it.
enum State {
    Usable(Arc<Database>),
    Failed { at: Instant, error: String },
}

impl fmt::Debug for Reopening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reopening").finish_non_exhaustive()
    }
}

impl Reopening {
    /// The database that `open` gives, now and whenever it is needed again.
    ///
    /// # Errors
    /// What `open` returns.
    pub fn new(
        open: impl Fn() -> Result<Database, DatabaseError> + Send + Sync + 'static,
    ) -> Result<Self, DatabaseError> {
        let database = open()?;
        Ok(Self {
            open: Box::new(open),
            state: Mutex::new(State::Usable(Arc::new(database))),
        })
    }

    /// The database, opened first where that failed before. Not for keeping: opening it again
    /// waits until nobody has it, for at most a second.
    ///
    /// # Errors
    /// When it cannot be opened; that is tried once a second.
    pub fn database(&self) -> Result<Arc<Database>, redb::Error> {
        let mut state = self.lock();
        if let State::Failed { at, .. } = &*state
            && at.elapsed() >= REST
        {
            self.open_again(&mut state);
        }
        match &*state {
            State::Usable(database) => Ok(Arc::clone(database)),
            State::Failed { error, .. } => {
                Err(redb::Error::Io(std::io::Error::other(error.clone())))
            }
        }
    }

    /// Closes the database and opens it again, after a write that failed. Whether that works is for
    /// the next [`Reopening::database`] to tell.
    pub fn reopen(&self) {
        self.open_again(&mut self.lock());
    }

    fn open_again(&self, state: &mut State) {
        let failed = |error: String| State::Failed {
            at: Instant::now(),
            error,
        };
        // The lock on the file goes with the database, so that has to go first, and whoever has it
        // has to be done. Nobody gets it meanwhile.
        if let State::Usable(database) = std::mem::replace(state, failed(String::new())) {
            let begun = Instant::now();
            while Arc::strong_count(&database) > 1 && begun.elapsed() < REST {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        *state = match (self.open)() {
            Ok(database) => State::Usable(Arc::new(database)),
            Err(error) => failed(error.to_string()),
        };
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
