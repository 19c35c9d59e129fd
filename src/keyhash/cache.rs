//! Pairs of key and bcrypt hash that have been verified, for a process to remember.
//!
//! That a hash is a key's is a fact, so nothing ever invalidates an entry: another hash is another
//! entry. Only matches are remembered, and a key only as an HMAC under a secret of this process.

use std::num::NonZeroUsize;

use hmac::{Hmac, KeyInit, Mac};
use lru::LruCache;
use rand::Rng;
use rand::rand_core::UnwrapErr;
use rand::rngs::SysRng;
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::Key;
use crate::bcrypt::BcryptHash;

/// A bounded memory of verified pairs; the least recently used goes first.
pub struct VerifiedPairs {
    secret: Zeroizing<[u8; 32]>,
    pairs: Option<LruCache<BcryptHash, [u8; 32]>>,
    hits: u64,
    misses: u64,
}

/// What a memory has been good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheStats {
    pub hits: u64,
    pub misses: u64,
    pub entries: usize,
}

impl VerifiedPairs {
    /// An empty memory of `capacity` pairs, with a fresh secret. Capacity 0 remembers nothing.
    pub fn new(capacity: usize) -> Self {
        let mut secret = Zeroizing::new([0; 32]);
        UnwrapErr(SysRng).fill_bytes(&mut *secret);
        let pairs = NonZeroUsize::new(capacity).map(LruCache::new);
        Self { secret, pairs, hits: 0, misses: 0 }
    }

    /// Changes the capacity and forgets what no longer fits.
    pub fn resize(&mut self, capacity: usize) {
        match (NonZeroUsize::new(capacity), &mut self.pairs) {
            (None, pairs) => *pairs = None,
            (Some(capacity), None) => self.pairs = Some(LruCache::new(capacity)),
            (Some(capacity), Some(pairs)) => pairs.resize(capacity),
        }
    }

    /// Whether this very pair has been verified before.
    pub fn knows(&mut self, key: Key<'_>, hash: &BcryptHash) -> bool {
        let mark = self.mark(key);
        let Some(pairs) = &mut self.pairs else { return false };
        let known = pairs.get(hash).is_some_and(|other| mark.ct_eq(other).into());
        if known {
            self.hits += 1;
        } else {
            self.misses += 1;
        }
        known
    }

    /// Remembers a pair that has been verified.
    pub fn remember(&mut self, key: Key<'_>, hash: &BcryptHash) {
        let mark = self.mark(key);
        if let Some(pairs) = &mut self.pairs {
            pairs.put(*hash, mark);
        }
    }

    pub fn stats(&self) -> CacheStats {
        let entries = self.pairs.as_ref().map_or(0, LruCache::len);
        CacheStats { hits: self.hits, misses: self.misses, entries }
    }

    fn mark(&self, key: Key<'_>) -> [u8; 32] {
        match Hmac::<Sha256>::new_from_slice(&*self.secret) {
            Ok(hmac) => hmac.chain_update(key.as_bytes()).finalize().into_bytes().into(),
            Err(_) => unreachable!("HMAC takes a secret of any length"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bcrypt::{self, Cost};

    fn key(text: &str) -> Key<'_> {
        Key::new(text.as_bytes()).unwrap()
    }

    #[test]
    fn knows_only_what_it_was_told() {
        let mut memory = VerifiedPairs::new(2);
        let hash = bcrypt::hash(key("right"), Cost::MIN).unwrap();
        assert!(!memory.knows(key("right"), &hash));
        memory.remember(key("right"), &hash);
        assert!(memory.knows(key("right"), &hash));
        assert!(!memory.knows(key("wrong"), &hash));
        let other = bcrypt::hash(key("right"), Cost::MIN).unwrap();
        assert!(!memory.knows(key("right"), &other));
        assert_eq!(memory.stats(), CacheStats { hits: 1, misses: 3, entries: 1 });
    }

    #[test]
    fn is_bounded_and_forgets_the_least_used() {
        let mut memory = VerifiedPairs::new(2);
        let hashes = ["a", "b", "c"].map(|k| bcrypt::hash(key(k), Cost::MIN).unwrap());
        memory.remember(key("a"), &hashes[0]);
        memory.remember(key("b"), &hashes[1]);
        assert!(memory.knows(key("a"), &hashes[0]));
        memory.remember(key("c"), &hashes[2]);
        assert_eq!(memory.stats().entries, 2);
        assert!(memory.knows(key("a"), &hashes[0]));
        assert!(!memory.knows(key("b"), &hashes[1]));
        memory.resize(1);
        assert_eq!(memory.stats().entries, 1);
    }

    #[test]
    fn without_capacity_remembers_nothing() {
        let mut memory = VerifiedPairs::new(0);
        let hash = bcrypt::hash(key("right"), Cost::MIN).unwrap();
        memory.remember(key("right"), &hash);
        assert!(!memory.knows(key("right"), &hash));
        memory.resize(1);
        memory.remember(key("right"), &hash);
        assert!(memory.knows(key("right"), &hash));
        memory.resize(0);
        assert!(!memory.knows(key("right"), &hash));
        assert_eq!(memory.stats().entries, 0);
    }
}
