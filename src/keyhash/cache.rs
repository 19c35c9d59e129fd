//! Pairs of key and bcrypt hash that have been verified, for a process to remember.
//!
//! Whether a hash is a key's is a fact, so nothing ever invalidates an entry: another hash is
//! another entry. A key is remembered only as an HMAC under a secret of this process.
//!
//! Pairs that differ are remembered too: a look-up tag may be shared, and the others who have it
//! would be compared each time that one of them calls. They have a memory of their own, so that
//! a flood of wrong keys drives out no right one.

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

/// A bounded memory of verified pairs; the least recently used go first.
pub struct VerifiedPairs {
    secret: Zeroizing<[u8; 32]>,
    memory: Option<Memory>,
    hits: u64,
    misses: u64,
}

/// What stands for a key.
type Mark = [u8; 32];

struct Memory {
    matches: LruCache<BcryptHash, Mark>,
    /// A hash differs from many keys.
    differences: LruCache<(BcryptHash, Mark), ()>,
}

/// What a memory has been good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheStats {
    pub hits: u64,
    pub misses: u64,
    /// Pairs that match.
    pub entries: usize,
}

impl VerifiedPairs {
    /// An empty memory of `capacity` pairs that match and as many that differ, with a fresh
    /// secret. Capacity 0 remembers nothing.
    pub fn new(capacity: usize) -> Self {
        let mut secret = Zeroizing::new([0; 32]);
        UnwrapErr(SysRng).fill_bytes(&mut *secret);
        Self { secret, memory: Memory::new(capacity), hits: 0, misses: 0 }
    }

    /// Changes the capacity and forgets what no longer fits.
    pub fn resize(&mut self, capacity: usize) {
        match (NonZeroUsize::new(capacity), &mut self.memory) {
            (Some(capacity), Some(memory)) => {
                memory.matches.resize(capacity);
                memory.differences.resize(capacity);
            }
            (_, memory) => *memory = Memory::new(capacity),
        }
    }

    /// Whether the hash is the key's, if this very pair has been verified before.
    pub fn recall(&mut self, key: Key<'_>, hash: &BcryptHash) -> Option<bool> {
        let mark = self.mark(key);
        let memory = self.memory.as_mut()?;
        let known = if memory.matches.get(hash).is_some_and(|other| mark.ct_eq(other).into()) {
            Some(true)
        } else {
            memory.differences.get(&(*hash, mark)).map(|()| false)
        };
        match known {
            Some(_) => self.hits += 1,
            None => self.misses += 1,
        }
        known
    }

    /// Remembers a pair that has been verified.
    pub fn remember(&mut self, key: Key<'_>, hash: &BcryptHash, matches: bool) {
        let mark = self.mark(key);
        match &mut self.memory {
            Some(memory) if matches => {
                memory.matches.put(*hash, mark);
            }
            Some(memory) => {
                memory.differences.put((*hash, mark), ());
            }
            None => (),
        }
    }

    pub fn stats(&self) -> CacheStats {
        let entries = self.memory.as_ref().map_or(0, |memory| memory.matches.len());
        CacheStats { hits: self.hits, misses: self.misses, entries }
    }

    fn mark(&self, key: Key<'_>) -> Mark {
        match Hmac::<Sha256>::new_from_slice(&*self.secret) {
            Ok(hmac) => hmac.chain_update(key.as_bytes()).finalize().into_bytes().into(),
            Err(_) => unreachable!("HMAC takes a secret of any length"),
        }
    }
}

impl Memory {
    fn new(capacity: usize) -> Option<Self> {
        let capacity = NonZeroUsize::new(capacity)?;
        Some(Self { matches: LruCache::new(capacity), differences: LruCache::new(capacity) })
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
    fn recalls_only_what_it_was_told() {
        let mut memory = VerifiedPairs::new(2);
        let [hash, other] = [(); 2].map(|()| bcrypt::hash(key("right"), Cost::MIN).unwrap());
        assert_eq!(memory.recall(key("right"), &hash), None);
        memory.remember(key("right"), &hash, true);
        memory.remember(key("wrong"), &hash, false);
        assert_eq!(memory.recall(key("right"), &hash), Some(true));
        assert_eq!(memory.recall(key("wrong"), &hash), Some(false));
        assert_eq!(memory.recall(key("third"), &hash), None);
        assert_eq!(memory.recall(key("right"), &other), None);
        assert_eq!(memory.recall(key("wrong"), &other), None);
        assert_eq!(memory.stats(), CacheStats { hits: 2, misses: 4, entries: 1 });
    }

    #[test]
    fn is_bounded_and_forgets_the_least_used() {
        let mut memory = VerifiedPairs::new(2);
        let hashes = ["a", "b", "c"].map(|k| bcrypt::hash(key(k), Cost::MIN).unwrap());
        memory.remember(key("a"), &hashes[0], true);
        memory.remember(key("b"), &hashes[1], true);
        assert_eq!(memory.recall(key("a"), &hashes[0]), Some(true));
        memory.remember(key("c"), &hashes[2], true);
        assert_eq!(memory.stats().entries, 2);
        assert_eq!(memory.recall(key("a"), &hashes[0]), Some(true));
        assert_eq!(memory.recall(key("b"), &hashes[1]), None);
        memory.resize(1);
        assert_eq!(memory.stats().entries, 1);
    }

    #[test]
    fn wrong_keys_drive_out_no_right_one() {
        let mut memory = VerifiedPairs::new(2);
        let hash = bcrypt::hash(key("right"), Cost::MIN).unwrap();
        memory.remember(key("right"), &hash, true);
        for wrong in ["a", "b", "c"] {
            memory.remember(key(wrong), &hash, false);
        }
        assert_eq!(memory.recall(key("right"), &hash), Some(true));
        let recalled = ["a", "b", "c"].map(|wrong| memory.recall(key(wrong), &hash));
        assert_eq!(recalled, [None, Some(false), Some(false)]);
    }

    #[test]
    fn without_capacity_remembers_nothing() {
        let mut memory = VerifiedPairs::new(0);
        let hash = bcrypt::hash(key("right"), Cost::MIN).unwrap();
        memory.remember(key("right"), &hash, true);
        memory.remember(key("wrong"), &hash, false);
        let recalled = |memory: &mut VerifiedPairs| {
            ["right", "wrong"].map(|text| memory.recall(key(text), &hash))
        };
        assert_eq!(recalled(&mut memory), [None, None]);
        memory.resize(1);
        memory.remember(key("right"), &hash, true);
        memory.remember(key("wrong"), &hash, false);
        assert_eq!(recalled(&mut memory), [Some(true), Some(false)]);
        memory.resize(0);
        assert_eq!(recalled(&mut memory), [None, None]);
        assert_eq!(memory.stats().entries, 0);
    }
}
