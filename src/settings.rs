//! The settings, all named `pg_api_key.*`.

use keyhash::bcrypt::Cost;
use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting, pg_sys};

static MAX_BCRYPT_COST: GucSetting<i32> = GucSetting::<i32>::new(Cost::DEFAULT_MAX.get() as i32);

static VERIFY_CACHE_SIZE: GucSetting<i32> = GucSetting::<i32>::new(1024);

pub fn define() {
    GucRegistry::define_int_guc(
        c"pg_api_key.max_bcrypt_cost",
        c"Sets the highest bcrypt cost that is hashed with or verified.",
        c"One more doubles the time of a hash; a hash can't be interrupted.",
        &MAX_BCRYPT_COST,
        Cost::MIN.get().into(),
        Cost::MAX.get().into(),
        GucContext::Suset,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"pg_api_key.verify_cache_size",
        c"Sets how many verified pairs of key and bcrypt hash a backend remembers.",
        c"A repeated check of such a pair takes microseconds. 0 remembers nothing.",
        &VERIFY_CACHE_SIZE,
        0,
        1_000_000,
        GucContext::Userset,
        GucFlags::default(),
    );
    // SAFETY: a constant, NUL-terminated prefix; PostgreSQL copies it.
    unsafe { pg_sys::MarkGUCPrefixReserved(c"pg_api_key".as_ptr()) };
}

/// `pg_api_key.max_bcrypt_cost`.
pub fn max_bcrypt_cost() -> Cost {
    Cost::new(MAX_BCRYPT_COST.get(), Cost::MAX).unwrap_or(Cost::DEFAULT_MAX)
}

/// `pg_api_key.verify_cache_size`, in entries.
pub fn verify_cache_size() -> usize {
    VERIFY_CACHE_SIZE.get().try_into().unwrap_or(0)
}
