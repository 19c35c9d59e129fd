//! Verifying a key, with this backend's memory of bcrypt pairs that matched before.

use std::cell::RefCell;

use keyhash::{Error, Key, StoredHash, VerifiedPairs};
use pgrx::iter::TableIterator;
use pgrx::{name, pg_extern};

use crate::error::raise;
use crate::settings::{max_bcrypt_cost, verify_cache_size};

thread_local! {
    static PAIRS: RefCell<VerifiedPairs> = RefCell::new(VerifiedPairs::new(verify_cache_size()));
}

/// Whether the hash is the key's.
///
/// Raises an ERROR for a bcrypt hash above `max_bcrypt_cost`, and for a pepper that is missing.
pub fn verify(key: Key<'_>, stored: &StoredHash) -> bool {
    try_verify(key, stored).unwrap_or_else(|error| raise(error))
}

fn try_verify(key: Key<'_>, stored: &StoredHash) -> Result<bool, Error> {
    let hash = match stored {
        // The limit holds for what is remembered too.
        StoredHash::Bcrypt(hash) if hash.cost <= max_bcrypt_cost() => hash,
        _ => return stored.verify(key, max_bcrypt_cost()),
    };
    let known = PAIRS.with_borrow_mut(|pairs| {
        pairs.resize(verify_cache_size());
        pairs.knows(key, hash)
    });
    if known {
        return Ok(true);
    }
    let matches = stored.verify(key, max_bcrypt_cost())?;
    if matches {
        PAIRS.with_borrow_mut(|pairs| pairs.remember(key, hash));
    }
    Ok(matches)
}

#[pg_extern(sql = false)]
fn api_key_cache_stats() -> TableIterator<
    'static,
    (name!(hits, i64), name!(misses, i64), name!(entries, i32), name!(capacity, i32)),
> {
    let stats = PAIRS.with_borrow_mut(|pairs| {
        pairs.resize(verify_cache_size());
        pairs.stats()
    });
    let (hits, misses) = (stats.hits as i64, stats.misses as i64);
    TableIterator::once((hits, misses, stats.entries as i32, verify_cache_size() as i32))
}
