//! Many keys at once, on several threads, until told to stop.

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread::{self, Builder, ScopedJoinHandle};
use std::time::Duration;

use crate::bcrypt::{self, Cost, LANES, MAX_KEY_LEN};
use crate::{Error, Key, KeyError, Policy, StoredHash, sha256};

/// The thread that asks for hashes. A closure that says whether to go on is one.
///
/// Its methods are called on that thread only. A panic in them stops the workers, waits for them
/// and is passed on; nothing else may leave them (no `longjmp`).
pub trait Caller {
    /// Whether to go on. Asked every few milliseconds, so it has to be quick.
    fn go_on(&mut self) -> bool;

    /// Calls `spawn`, which starts the worker threads. They inherit the signal mask: a process
    /// whose signal handlers belong to one thread (a PostgreSQL backend) blocks all signals
    /// before it, and restores the mask after it, lest a worker runs a handler.
    fn spawn(&mut self, spawn: &mut dyn FnMut()) {
        spawn();
    }
}

impl<F: FnMut() -> bool> Caller for F {
    fn go_on(&mut self) -> bool {
        self()
    }
}

/// Why there are no hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfinished {
    /// The caller said so.
    Stopped,
    /// A worker thread panicked. The panic hook has told the rest.
    Panicked,
}

impl fmt::Display for Unfinished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stopped => "hashing was stopped",
            Self::Panicked => "a hashing thread panicked",
        })
    }
}

impl std::error::Error for Unfinished {}

type Hashes = Vec<Result<StoredHash, Error>>;

impl Policy {
    /// Hashes the keys, each as [`Policy::hash`] would, in their order. bcrypt is spread over
    /// `threads` threads; the calling one is among them, and all others have ended on return.
    ///
    /// # Errors
    /// For a key, what [`Policy::hash`] says. For all, [`Unfinished`].
    pub fn hash_many(
        self,
        keys: &[Key<'_>],
        threads: usize,
        caller: &mut dyn Caller,
    ) -> Result<Hashes, Unfinished> {
        match self {
            Self::Sha256 => sha256_many(keys, caller),
            Self::Bcrypt(cost) => bcrypt_many(keys, cost, threads, caller),
        }
    }
}

/// A thread costs as much as the SHA-256 of hundreds of keys, so there is none.
fn sha256_many(keys: &[Key<'_>], caller: &mut dyn Caller) -> Result<Hashes, Unfinished> {
    let mut hashes = Vec::with_capacity(keys.len());
    for keys in keys.chunks(4096) {
        if !caller.go_on() {
            return Err(Unfinished::Stopped);
        }
        hashes.extend(keys.iter().map(|&key| Ok(StoredHash::Sha256(sha256::digest(key)))));
    }
    Ok(hashes)
}

fn bcrypt_many(
    keys: &[Key<'_>],
    cost: Cost,
    threads: usize,
    caller: &mut dyn Caller,
) -> Result<Hashes, Unfinished> {
    let mut hashes = vec![Err(KeyError::TooLongForBcrypt.into()); keys.len()];
    let (places, keys): (Vec<_>, Vec<_>) = keys
        .iter()
        .copied()
        .enumerate()
        .filter(|(_, key)| key.as_bytes().len() <= MAX_KEY_LEN)
        .unzip();
    let hash = |range: Range<_>, go_on: GoOn<'_>| bcrypt::hash_together(&keys[range], cost, go_on);
    for (place, hash) in places.into_iter().zip(share(keys.len(), threads, caller, hash)?) {
        hashes[place] = Ok(StoredHash::Bcrypt(hash));
    }
    Ok(hashes)
}

type GoOn<'a> = &'a mut dyn FnMut() -> bool;

/// Does `work` for all of `0..total`, at most [`LANES`] at a time, and returns what it returned,
/// in order. `work` returns `None` when it is told not to go on.
fn share<T: Send>(
    total: usize,
    threads: usize,
    caller: &mut dyn Caller,
    work: impl Fn(Range<usize>, GoOn<'_>) -> Option<Vec<T>> + Sync,
) -> Result<Vec<T>, Unfinished> {
    let threads = threads.clamp(1, total.max(1));
    let stop = AtomicBool::new(false);
    let next = AtomicUsize::new(0);
    // The last ones are divided equally, so that all threads end at about the same time.
    let size = |at: usize| (total - at).div_ceil(threads).min(LANES);
    let take = || {
        let start = next.fetch_update(Relaxed, Relaxed, |at| (at < total).then(|| at + size(at)));
        start.ok().map(|start| start..start + size(start))
    };
    let run = |go_on: GoOn<'_>| {
        let _guard = StopOnPanic(&stop);
        let mut done = Vec::new();
        while let Some(range) = take() {
            done.push((range.start, work(range, go_on)?));
        }
        Some(done)
    };
    let shares = thread::scope(|scope| {
        let _guard = StopOnPanic(&stop);
        let worker = || run(&mut || !stop.load(Relaxed));
        let mut workers = Vec::new();
        caller.spawn(&mut || {
            for _ in 1..threads {
                // Should the system refuse a thread, the others do its share.
                workers.extend(Builder::new().spawn_scoped(scope, worker));
            }
        });
        let mut go_on = || {
            if !stop.load(Relaxed) && !caller.go_on() {
                stop.store(true, Relaxed);
            }
            !stop.load(Relaxed)
        };
        let mut shares = vec![Ok(run(&mut go_on))];
        while !workers.iter().all(ScopedJoinHandle::is_finished) {
            go_on();
            thread::sleep(Duration::from_millis(1));
        }
        shares.extend(workers.into_iter().map(ScopedJoinHandle::join));
        shares
    });
    let mut done = Vec::new();
    let mut stopped = false;
    for share in shares {
        match share.map_err(|_| Unfinished::Panicked)? {
            Some(part) => done.extend(part),
            None => stopped = true,
        }
    }
    if stopped {
        return Err(Unfinished::Stopped);
    }
    done.sort_unstable_by_key(|&(start, _)| start);
    Ok(done.into_iter().flat_map(|(_, part)| part).collect())
}

/// Tells all threads to stop when the one that holds it panics.
struct StopOnPanic<'a>(&'a AtomicBool);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.store(true, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Barrier;

    use super::*;

    const MAX: Cost = Cost::MAX;

    fn bcrypt(cost: i32) -> Policy {
        Policy::new("bcrypt", cost, MAX).unwrap()
    }

    /// Twenty keys, of which the fourth is beyond bcrypt's 72 bytes.
    fn texts() -> Vec<Vec<u8>> {
        (0..20).map(|i| vec![b'a' + i; if i == 3 { 73 } else { usize::from(i) + 1 }]).collect()
    }

    fn keys(texts: &[Vec<u8>]) -> Vec<Key<'_>> {
        texts.iter().map(|text| Key::new(text).unwrap()).collect()
    }

    #[test]
    fn hashes_every_key_at_its_place() {
        let texts = texts();
        let keys = keys(&texts);
        for threads in [0, 1, 2, 99] {
            for len in [0, 1, 2, 5, 6, 7, 13, 20] {
                let keys = &keys[..len];
                let hashes = bcrypt(4).hash_many(keys, threads, &mut || true).unwrap();
                assert_eq!(hashes.len(), len);
                for (i, (hash, &key)) in hashes.iter().zip(keys).enumerate() {
                    match hash {
                        Ok(hash) => assert_eq!(hash.verify(key, MAX), Ok(true), "{i} of {len}"),
                        Err(fault) => {
                            assert_eq!((i, *fault), (3, KeyError::TooLongForBcrypt.into()));
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn sha256_is_the_same_as_one_by_one() {
        let texts = texts();
        let keys: Vec<_> = keys(&texts).repeat(300);
        let hashes = Policy::Sha256.hash_many(&keys, 2, &mut || true).unwrap();
        for (hash, &key) in hashes.iter().zip(&keys) {
            assert_eq!(*hash, Policy::Sha256.hash(key));
        }
        let mut yes = [true, false].into_iter();
        let stopped = Policy::Sha256.hash_many(&keys, 2, &mut || yes.next().unwrap());
        assert_eq!(stopped, Err(Unfinished::Stopped));
    }

    /// At this cost the hashes would take days.
    #[test]
    fn stops_within_a_hash() {
        let texts = texts();
        for threads in [1, 2] {
            let mut polls = 0;
            let stopped = bcrypt(31).hash_many(&keys(&texts), threads, &mut || {
                polls += 1;
                polls < 3
            });
            assert_eq!((stopped, polls), (Err(Unfinished::Stopped), 3));
        }
    }

    #[test]
    fn a_panic_of_the_caller_stops_the_workers() {
        let texts = texts();
        let mut polls = 0;
        let mut caller = || {
            polls += 1;
            assert!(polls < 3, "as an error in PostgreSQL would");
            true
        };
        let keys = keys(&texts);
        let hash = || bcrypt(31).hash_many(&keys, 2, &mut caller);
        assert!(catch_unwind(AssertUnwindSafe(hash)).is_err());
    }

    /// Both threads hold one of the two pieces, and the worker does its own until told to stop.
    #[test]
    fn asks_while_it_waits_for_a_worker() {
        let (here, both) = (thread::current().id(), Barrier::new(2));
        let work = |range: Range<usize>, go_on: GoOn<'_>| {
            both.wait();
            while thread::current().id() != here {
                if !go_on() {
                    return None;
                }
                thread::yield_now();
            }
            Some(range.collect())
        };
        let mut polls = 0;
        let mut caller = || {
            polls += 1;
            polls < 3
        };
        assert_eq!(share(2, 2, &mut caller, work), Err(Unfinished::Stopped));
    }

    #[test]
    fn a_panic_of_a_worker_is_reported() {
        let (here, both) = (thread::current().id(), Barrier::new(2));
        let work = |range: Range<usize>, go_on: GoOn<'_>| {
            both.wait();
            assert_eq!(thread::current().id(), here, "a panic for the test");
            while go_on() {
                thread::yield_now();
            }
            Some(range.collect())
        };
        assert_eq!(share(2, 2, &mut || true, work), Err(Unfinished::Panicked));
    }

    #[test]
    fn threads_start_inside_the_callers_spawn_and_may_be_refused() {
        struct Refusing;
        impl Caller for Refusing {
            fn go_on(&mut self) -> bool {
                true
            }
            fn spawn(&mut self, _: &mut dyn FnMut()) {}
        }
        let here = thread::current().id();
        let work = |range: Range<usize>, _: GoOn<'_>| {
            assert_eq!(thread::current().id(), here);
            Some(range.collect())
        };
        assert_eq!(share(50, 4, &mut Refusing, work), Ok((0..50).collect()));
    }
}
