//! The settings, all named `pg_api_key.*`.

use keyhash::bcrypt::Cost;
use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting, pg_sys};

static MAX_BCRYPT_COST: GucSetting<i32> = GucSetting::<i32>::new(Cost::DEFAULT_MAX.get() as i32);

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
    // SAFETY: a constant, NUL-terminated prefix; PostgreSQL copies it.
    unsafe { pg_sys::MarkGUCPrefixReserved(c"pg_api_key".as_ptr()) };
}

/// `pg_api_key.max_bcrypt_cost`.
pub fn max_bcrypt_cost() -> Cost {
    Cost::new(MAX_BCRYPT_COST.get(), Cost::MAX).unwrap_or(Cost::DEFAULT_MAX)
}
