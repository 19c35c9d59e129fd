//! Verifying a key, with this backend's memory of bcrypt pairs that were verified before.

use std::cell::RefCell;

use keyhash::bcrypt::{self, BcryptHash};
use keyhash::{Error, Key, StoredHash, VerifiedPairs};
use pgrx::iter::TableIterator;
use pgrx::{check_for_interrupts, name, pg_extern};

use crate::error::raise;
use crate::settings::{max_bcrypt_cost, verify_cache_size};

thread_local! {
    static PAIRS: RefCell<VerifiedPairs> = RefCell::new(VerifiedPairs::new(verify_cache_size()));
}

/// Whether the hash is the key's.
///
/// Raises an ERROR for a bcrypt hash above `max_bcrypt_cost`, and for a pepper that is missing.
pub fn verify(key: Key<'_>, stored: &StoredHash) -> bool {
    match stored {
        StoredHash::Bcrypt(hash) => verify_bcrypt(key, &[*hash]) == [true],
        _ => stored.verify(key, max_bcrypt_cost()).unwrap_or_else(|error| raise(error)),
    }
}

/// Whether each bcrypt hash is the key's. Heeds a cancel.
///
/// Raises an ERROR for one above `max_bcrypt_cost`, be its pair remembered or not.
pub fn verify_bcrypt(key: Key<'_>, hashes: &[BcryptHash]) -> Vec<bool> {
    let max = max_bcrypt_cost();
    if let Some(hash) = hashes.iter().find(|hash| hash.cost > max) {
        raise(Error::CostAboveLimit { cost: hash.cost.get(), max: max.get() });
    }
    let known: Vec<Option<bool>> = PAIRS.with_borrow_mut(|pairs| {
        pairs.resize(verify_cache_size());
        hashes.iter().map(|hash| pairs.recall(key, hash)).collect()
    });
    let pairs = hashes.iter().zip(&known);
    let unknown: Vec<_> =
        pairs.filter(|(_, known)| known.is_none()).map(|(hash, _)| *hash).collect();
    let mut go_on = || {
        check_for_interrupts!();
        true
    };
    let verified = bcrypt::verify_all(key, &unknown, &mut go_on).unwrap_or_default();
    PAIRS.with_borrow_mut(|pairs| {
        for (hash, matches) in unknown.iter().zip(&verified) {
            pairs.remember(key, hash, *matches);
        }
    });
    let mut verified = verified.into_iter();
    let answer = |known: Option<bool>| known.or_else(|| verified.next()).unwrap_or(false);
    known.into_iter().map(answer).collect()
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
