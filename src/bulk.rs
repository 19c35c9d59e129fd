//! `hash_api_keys`: many keys on many threads, heeding a cancel.

use std::thread::available_parallelism;

use keyhash::{Algorithm, Error, Key, KeyBuf, Policy, StoredHash};
use keyhash::{Caller, Unfinished};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgLogLevel, PgSqlErrorCode, check_for_interrupts, function_name, pg_extern};

use crate::error;
use crate::settings::max_bcrypt_cost;
use crate::text::{NewText, Text, TextArray};

#[pg_extern(sql = false)]
fn hash_api_keys(
    keys: TextArray<'_>,
    algorithm: Text<'_>,
    cost: i32,
    threads: i32,
) -> Vec<Option<NewText>> {
    let policy = Policy::new(algorithm.as_name(), cost, max_bcrypt_cost())
        .unwrap_or_else(|error| error::raise(error));
    let named: Algorithm = algorithm.as_name().parse().unwrap_or_else(|error| error::raise(error));
    let keys: Vec<Option<KeyBuf>> = keys
        .iter()
        .enumerate()
        .map(|(place, text)| {
            let text = text?;
            // All of them first: an error after hours of hashing would be hard to bear.
            if let Some(fault) = named.fault(text.as_bytes()) {
                raise(place, fault.into());
            }
            Some(Key::new(text.as_bytes()).unwrap_or_else(|e| raise(place, e.into())).to_owned())
        })
        .collect();
    let present: Vec<Key<'_>> = keys.iter().flatten().map(KeyBuf::as_key).collect();
    let hashes = match policy.hash_many(&present, thread_count(threads), &mut Backend) {
        Ok(hashes) => hashes,
        Err(unfinished) => fail(unfinished),
    };
    let mut hashes = hashes.into_iter();
    let text_of = |(place, key): (usize, &Option<KeyBuf>)| {
        key.as_ref()?;
        let hash = hashes.next()?.unwrap_or_else(|error| raise(place, error));
        Some(NewText::new(hash.encode(&mut [0; StoredHash::MAX_LEN])))
    };
    keys.iter().enumerate().map(text_of).collect()
}

/// The thread of the backend, the only one that may call PostgreSQL.
struct Backend;

impl Caller for Backend {
    /// A cancel leaves as a panic, which the bulk engine lets pass once its threads have ended.
    fn go_on(&mut self) -> bool {
        check_for_interrupts!();
        true
    }

    /// The workers must not run the backend's signal handlers: they inherit a mask that blocks
    /// every signal.
    fn spawn(&mut self, spawn: &mut dyn FnMut()) {
        // SAFETY: plain calls on local signal sets; the mask is put back whatever `spawn` does.
        unsafe {
            let mut all = std::mem::zeroed();
            let mut before = std::mem::zeroed();
            libc::sigfillset(&mut all);
            libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
            let _restore = Restore(before);
            spawn();
        }
    }
}

struct Restore(libc::sigset_t);

impl Drop for Restore {
    fn drop(&mut self) {
        // SAFETY: a set that `pthread_sigmask` filled.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.0, std::ptr::null_mut()) };
    }
}

/// 0 asks for one thread a core.
fn thread_count(asked: i32) -> usize {
    let cores = available_parallelism().map_or(1, Into::into);
    match usize::try_from(asked) {
        Ok(0) => cores,
        Ok(some) => some.min(4 * cores),
        Err(_) => {
            let code = PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE;
            ErrorReport::new(code, "number of threads is negative", function_name!())
                .set_hint("0 means one thread a core.")
                .report(PgLogLevel::ERROR);
            unreachable!("an ERROR does not return")
        }
    }
}

fn raise(place: usize, error: Error) -> ! {
    let detail = format!("It is element {} of the array.", place + 1);
    error::report(error).set_detail(detail).report(PgLogLevel::ERROR);
    unreachable!("an ERROR does not return")
}

fn fail(unfinished: Unfinished) -> ! {
    let code = PgSqlErrorCode::ERRCODE_INTERNAL_ERROR;
    ErrorReport::new(code, unfinished.to_string(), function_name!()).report(PgLogLevel::ERROR);
    unreachable!("an ERROR does not return")
}
