//! Keys that are still in plaintext: how a look-up finds them, and whether there are any.

use std::cell::Cell;
use std::time::{Duration, Instant};

use pgrx::pg_sys;

use crate::owner::as_owner;
use crate::plan::{Lazy, Plan};

/// Where rows in plaintext are left, one look-up in this time asks whether they still are.
const ASK_AGAIN: Duration = Duration::from_secs(60);

/// Finds keys that are still in plaintext.
pub struct Fallback {
    /// The number of the key column.
    pub key: i32,
    pub plan: Lazy,
    /// Asks whether there are any; `None` where nothing keeps new ones out.
    asks: Option<Vec<u8>>,
    /// Sees all rows of the table, where row security hides some from the user.
    owner: pg_sys::Oid,
    /// The triggers were in force for every snapshot that reaches as far as this transaction.
    in_force_at: pg_sys::TransactionId,
    answer: Cell<Option<Answer>>,
}

/// Whether rows in plaintext are left.
#[derive(Clone, Copy)]
enum Answer {
    /// Some are; perhaps not any more then.
    SomeUntil(Instant),
    /// None in any snapshot that reaches as far as this transaction.
    NoneAt(pg_sys::TransactionId),
}

impl Fallback {
    pub const fn new(
        key: i32,
        query: Vec<u8>,
        asks: Option<Vec<u8>>,
        owner: pg_sys::Oid,
        in_force_at: pg_sys::TransactionId,
    ) -> Self {
        let plan = Lazy::new(query, &[pg_sys::TEXTOID]);
        Self { key, plan, asks, owner, in_force_at, answer: Cell::new(None) }
    }

    /// Whether rows in plaintext are left, or may be, for the command that is running.
    ///
    /// Under triggers in force plaintext only ever goes away, so "none" holds until they change.
    /// But it holds for no older snapshot, such as another cursor's; and it is no lasting answer if
    /// this one is older than the triggers, or sees changes of its own that may be rolled back.
    pub fn is_any_left(&self) -> bool {
        let Some(asks) = &self.asks else { return true };
        // SAFETY: a query is running, so there is a snapshot.
        let now = unsafe { (*pg_sys::GetActiveSnapshot()).xmax };
        match self.answer.get() {
            Some(Answer::SomeUntil(then)) if Instant::now() < then => return true,
            Some(Answer::NoneAt(then)) if reaches(now, then) => return false,
            _ => (),
        }
        let is_any_left = as_owner(self.owner, || Plan::new(asks, &[]).finds_any());
        // SAFETY: reads a variable of the backend.
        let writes = unsafe { pg_sys::GetTopTransactionIdIfAny() } != pg_sys::InvalidTransactionId;
        if is_any_left {
            self.answer.set(Some(Answer::SomeUntil(Instant::now() + ASK_AGAIN)));
        } else if !writes && reaches(now, self.in_force_at) {
            self.answer.set(Some(Answer::NoneAt(now)));
        }
        is_any_left
    }
}

/// Whether a snapshot that ends before the transaction `now` is as late as one that ends before
/// `then`. (Numbers of transactions are compared modulo 2^32.)
fn reaches(now: pg_sys::TransactionId, then: pg_sys::TransactionId) -> bool {
    now.into_inner().wrapping_sub(then.into_inner()).cast_signed() >= 0
}
