//! The scalar functions: one line each over keyhash. Their SQL declarations, with volatility,
//! strictness and comments, are in `sql/functions.sql`.

use keyhash::{Algorithm, Error, Key, Policy, StoredHash, Tag, TagBits};
use pgrx::pg_extern;

use crate::error::raise;
use crate::settings::max_bcrypt_cost;
use crate::text::{NewText, Text};
use crate::verify::verify;

fn or_raise<T>(result: Result<T, impl Into<Error>>) -> T {
    result.unwrap_or_else(|error| raise(error.into()))
}

fn policy(algorithm: &Text<'_>, cost: i32) -> Policy {
    or_raise(Policy::new(algorithm.as_name(), cost, max_bcrypt_cost()))
}

#[pg_extern(sql = false)]
fn hash_api_key(key: Text<'_>) -> NewText {
    NewText::new(&keyhash::sha256_hex(or_raise(Key::new(key.as_bytes()))))
}

#[pg_extern(sql = false)]
fn hash_api_key_with(key: Text<'_>, algorithm: Text<'_>, cost: i32) -> NewText {
    let policy = policy(&algorithm, cost);
    let hash = or_raise(policy.hash(or_raise(Key::new(key.as_bytes()))));
    NewText::new(hash.encode(&mut [0; StoredHash::MAX_LEN]))
}

#[pg_extern(sql = false)]
fn verify_api_key(key: Option<Text<'_>>, hash: Option<Text<'_>>) -> bool {
    let (Some(key), Some(hash)) = (key, hash) else { return false };
    let Ok(key) = Key::new(key.as_bytes()) else { return false };
    let Some(hash) = StoredHash::parse(hash.as_bytes()) else { return false };
    verify(key, &hash)
}

#[pg_extern(sql = false)]
fn api_key_tag(key: Text<'_>, bits: i32) -> i32 {
    Tag::new(key.as_bytes(), or_raise(TagBits::new(bits))).0
}

#[pg_extern(sql = false)]
fn generate_api_key(prefix: Option<Text<'_>>) -> NewText {
    let key = or_raise(keyhash::generate(prefix.as_ref().map_or(b"", Text::as_bytes)));
    NewText::new(key.as_key().as_bytes())
}

#[pg_extern(sql = false)]
fn api_key_checksum_valid(key: Text<'_>) -> bool {
    keyhash::checksum_valid(key.as_bytes())
}

#[pg_extern(sql = false)]
fn api_key_needs_rehash(hash: Text<'_>, algorithm: Text<'_>, cost: i32) -> bool {
    let policy = policy(&algorithm, cost);
    StoredHash::parse(hash.as_bytes()).is_none_or(|stored| policy.is_obsolete(&stored))
}

#[pg_extern(sql = false)]
fn api_key_fault(key: Text<'_>, algorithm: Text<'_>) -> Option<NewText> {
    let algorithm: Algorithm = or_raise(algorithm.as_name().parse());
    let fault = algorithm.fault(key.as_bytes())?;
    Some(NewText::new(fault.to_string().as_bytes()))
}

#[pg_extern(sql = false)]
fn is_api_key_hash(hash: Text<'_>) -> bool {
    StoredHash::parse(hash.as_bytes()).is_some()
}

/// PostgreSQL stores the arguments of a trigger with a NUL after each.
#[pg_extern(sql = false)]
fn api_key_trigger_arguments(stored: &[u8]) -> Vec<NewText> {
    let without_last_nul = stored.strip_suffix(b"\0").unwrap_or(stored);
    without_last_nul.split(|byte| *byte == 0).map(NewText::new).collect()
}
