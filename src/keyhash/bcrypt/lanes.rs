//! bcrypt of several keys in one loop.
//!
//! One hash is a single chain of loads, each from a place that the one before it tells, and so
//! leaves most of the processor idle. The hashes of other keys fill the gaps.

use rand::Rng;
use rand::rand_core::UnwrapErr;
use rand::rngs::SysRng;
use zeroize::{Zeroize, Zeroizing};

use super::{BcryptHash, Cost, MAX_KEY_LEN, Variant};
use crate::Key;

/// How many keys share a loop. A seventh gains a few percent, but seven times 4 KiB of S-boxes leave
/// too little of a cache of 32 KiB. `examples/lanes.rs` measures it.
pub const LANES: usize = 6;

/// How many of the 2^cost rounds pass between two questions whether to go on: a few milliseconds.
const ROUNDS_PER_QUESTION: u32 = 64;

/// Hashes 1 to [`LANES`] keys of at most 72 bytes with fresh salts; `None` if `go_on` says no.
pub fn hash(
    keys: &[Key<'_>],
    cost: Cost,
    go_on: &mut dyn FnMut() -> bool,
) -> Option<Vec<BcryptHash>> {
    let mut salts = vec![[0; 16]; keys.len()];
    UnwrapErr(SysRng).fill_bytes(salts.as_flattened_mut());
    let salted: Vec<_> = keys.iter().map(|key| key.as_bytes()).zip(salts).collect();
    let digests = digests(&salted, cost, go_on)?;
    let hash = |((_, salt), digest)| BcryptHash { variant: Variant::A, cost, salt, digest };
    Some(salted.into_iter().zip(digests).map(hash).collect())
}

/// A password and its salt.
type Salted<'a> = (&'a [u8], [u8; 16]);

/// [`digest_lanes`] of 1 to [`LANES`] passwords.
pub fn digests(
    salted: &[Salted<'_>],
    cost: Cost,
    go_on: &mut dyn FnMut() -> bool,
) -> Option<Vec<[u8; 23]>> {
    fn lanes<const N: usize>(
        salted: [Salted<'_>; N],
        cost: Cost,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Option<Vec<[u8; 23]>> {
        let (passwords, salts) = (salted.map(|(word, _)| word), salted.map(|(_, salt)| salt));
        digest_lanes(passwords, salts, cost, go_on).map(Vec::from)
    }
    match *salted {
        [a] => lanes([a], cost, go_on),
        [a, b] => lanes([a, b], cost, go_on),
        [a, b, c] => lanes([a, b, c], cost, go_on),
        [a, b, c, d] => lanes([a, b, c, d], cost, go_on),
        [a, b, c, d, e] => lanes([a, b, c, d, e], cost, go_on),
        [a, b, c, d, e, f] => lanes([a, b, c, d, e, f], cost, go_on),
        _ => unreachable!("1 to {LANES} passwords"),
    }
}

/// The bcrypt digests of `N` passwords, each cut at 72 bytes and with a salt of its own.
///
/// `go_on` is asked at the start and every few milliseconds; `None` once it says no.
pub fn digest_lanes<const N: usize>(
    passwords: [&[u8]; N],
    salts: [[u8; 16]; N],
    cost: Cost,
    go_on: &mut dyn FnMut() -> bool,
) -> Option<[[u8; 23]; N]> {
    let mut keys = Zeroizing::new([[0; 18]; N]);
    for (key, password) in keys.iter_mut().zip(passwords) {
        fill(key, password.iter().chain(&[0]).take(MAX_KEY_LEN));
    }
    let mut salt_words = [[0; 18]; N];
    for (words, salt) in salt_words.iter_mut().zip(&salts) {
        fill(words, salt);
    }
    let mut lanes = [PI; N];
    expand(&mut lanes, &keys, Some(&salt_words));
    for round in 0..1_u32 << cost.0 {
        if round % ROUNDS_PER_QUESTION == 0 && !go_on() {
            return None;
        }
        for words in [&*keys, &salt_words] {
            expand(&mut lanes, words, None);
        }
    }
    Some(finish(&lanes))
}

/// Fills big-endian words with the bytes, over and over.
fn fill<'a>(words: &mut [u32; 18], bytes: impl IntoIterator<Item = &'a u8, IntoIter: Clone>) {
    let mut bytes = bytes.into_iter().cycle();
    for word in words {
        *word = bytes.by_ref().take(4).fold(0, |word, &byte| word << 8 | u32::from(byte));
    }
}

/// One Blowfish cipher: its subkeys and S-boxes. Wiped when dropped.
struct Lane {
    p: [u32; 18],
    s: [[u32; 256]; 4],
}

/// The cipher before any key. Computed by build.rs.
const PI: Lane = include!(concat!(env!("OUT_DIR"), "/pi.rs"));

impl Lane {
    /// The round function. A byte is always a place in an S-box, so no bound is checked.
    #[inline(always)]
    fn f(&self, half: u32) -> u32 {
        let [a, b, c, d] = [24, 16, 8, 0].map(|shift| usize::from((half >> shift) as u8));
        (self.s[0][a].wrapping_add(self.s[1][b]) ^ self.s[2][c]).wrapping_add(self.s[3][d])
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.p.zeroize();
        self.s.zeroize();
    }
}

type Block = [u32; 2];

/// Blowfish's key schedule; with salts, bcrypt's.
#[inline(never)]
fn expand<const N: usize>(
    lanes: &mut [Lane; N],
    keys: &[[u32; 18]; N],
    salts: Option<&[[u32; 18]; N]>,
) {
    for (lane, key) in lanes.iter_mut().zip(keys) {
        for (p, word) in lane.p.iter_mut().zip(key) {
            *p ^= word;
        }
    }
    let mut blocks = [[0; 2]; N];
    for i in 0..9 {
        blocks = encrypt(lanes, salted(blocks, salts, i));
        for (lane, block) in lanes.iter_mut().zip(blocks) {
            lane.p.as_chunks_mut().0[i] = block;
        }
    }
    for b in 0..4 {
        for i in 0..128 {
            // Nine blocks went to the subkeys.
            blocks = encrypt(lanes, salted(blocks, salts, i + 9));
            for (lane, block) in lanes.iter_mut().zip(blocks) {
                lane.s[b].as_chunks_mut().0[i] = block;
            }
        }
    }
}

/// Mixes in the half of the salt that is due at the `i`th block.
#[inline(always)]
fn salted<const N: usize>(
    mut blocks: [Block; N],
    salts: Option<&[[u32; 18]; N]>,
    i: usize,
) -> [Block; N] {
    for (block, salt) in blocks.iter_mut().zip(salts.into_iter().flatten()) {
        block[0] ^= salt[2 * (i % 2)];
        block[1] ^= salt[2 * (i % 2) + 1];
    }
    blocks
}

/// Encrypts one block in each lane, all lanes side by side.
#[inline(always)]
fn encrypt<const N: usize>(lanes: &[Lane; N], mut blocks: [Block; N]) -> [Block; N] {
    // A loop over the rounds would cost a tenth, and the compiler does not unroll it.
    macro_rules! rounds {
        ($($i:literal)*) => { $(
            for (lane, [l, r]) in lanes.iter().zip(&mut blocks) {
                *l ^= lane.p[$i];
                *r ^= lane.f(*l);
            }
            for (lane, [l, r]) in lanes.iter().zip(&mut blocks) {
                *r ^= lane.p[$i + 1];
                *l ^= lane.f(*r);
            }
        )* };
    }
    rounds!(0 2 4 6 8 10 12 14);
    for (lane, [l, r]) in lanes.iter().zip(&mut blocks) {
        (*l, *r) = (*r ^ lane.p[17], *l ^ lane.p[16]);
    }
    blocks
}

/// Encrypts bcrypt's text 64 times in each lane. The last of the bytes is never stored.
fn finish<const N: usize>(lanes: &[Lane; N]) -> [[u8; 23]; N] {
    let mut text = [0; 18];
    fill(&mut text, b"OrpheanBeholderScryDoubt");
    let mut digests = [[0; 24]; N];
    for i in 0..3 {
        let mut blocks = [[text[2 * i], text[2 * i + 1]]; N];
        for _ in 0..64 {
            blocks = encrypt(lanes, blocks);
        }
        for (digest, block) in digests.iter_mut().zip(blocks) {
            digest[8 * i..][..8].copy_from_slice(block.map(u32::to_be_bytes).as_flattened());
        }
    }
    digests.map(|[digest @ .., _]| digest)
}

#[cfg(test)]
mod tests {
    use blowfish::Blowfish;
    use rand::rngs::SmallRng;
    use rand::{RngExt, SeedableRng};

    use super::super::Password;
    use super::super::tests::OPENWALL;
    use super::*;

    /// 4096 blocks look up every entry of every S-box many times over.
    #[test]
    fn begins_as_the_crate_does() {
        let reference: Blowfish = Blowfish::bc_init_state();
        let mut block = [0; 2];
        for _ in 0..4096 {
            let next = reference.bc_encrypt(block);
            assert_eq!(encrypt(&[PI], [block]), [next]);
            block = next;
        }
        // The first word, the last word.
        assert_eq!((PI.p[0], PI.s[3][255]), (0x243f_6a88, 0x3ac3_72e6));
    }

    fn vectors_in_lanes<const N: usize>() {
        for first in 0..OPENWALL.len() {
            let taken: [_; N] = std::array::from_fn(|i| OPENWALL[(first + i) % OPENWALL.len()]);
            let hashes = taken.map(|(text, _)| BcryptHash::parse(text.as_bytes()).unwrap());
            let cost = hashes[0].cost;
            let salts = hashes.map(|hash| hash.salt);
            let digests = digest_lanes(taken.map(|(_, word)| word), salts, cost, &mut || true);
            assert_eq!(digests, Some(hashes.map(|hash| hash.digest)), "{N} lanes from {first}");
        }
    }

    #[test]
    fn published_vectors() {
        vectors_in_lanes::<1>();
        vectors_in_lanes::<2>();
        vectors_in_lanes::<3>();
        vectors_in_lanes::<4>();
        vectors_in_lanes::<5>();
        vectors_in_lanes::<6>();
        vectors_in_lanes::<8>();
    }

    fn random_in_lanes<const N: usize>(rng: &mut SmallRng) {
        for cost in [4, 5, 6].map(Cost) {
            // bcrypt has no NUL inside a password.
            let passwords: [Vec<u8>; N] = std::array::from_fn(|_| {
                (0..rng.random_range(1..=72)).map(|_| rng.random_range(1..=255)).collect()
            });
            let salts: [[u8; 16]; N] = rng.random();
            let words = passwords.each_ref().map(Vec::as_slice);
            let digests = digest_lanes(words, salts, cost, &mut || true).unwrap();
            for i in 0..N {
                let single = Password::new(words[i]).digest(cost, salts[i]);
                assert_eq!(digests[i], single, "{cost:?} {:?} {:?}", words[i], salts[i]);
            }
        }
    }

    #[test]
    fn agrees_with_the_crate() {
        let mut rng = SmallRng::seed_from_u64(1999);
        for _ in 0..8 {
            random_in_lanes::<1>(&mut rng);
            random_in_lanes::<2>(&mut rng);
            random_in_lanes::<3>(&mut rng);
            random_in_lanes::<4>(&mut rng);
            random_in_lanes::<5>(&mut rng);
            random_in_lanes::<6>(&mut rng);
        }
    }

    #[test]
    fn every_length_agrees_with_the_crate() {
        let text = [b'k'; 72];
        for len in 1..=72 {
            let digests = digest_lanes([&text[..len]; 2], [[9; 16]; 2], Cost::MIN, &mut || true);
            let single = Password::new(&text[..len]).digest(Cost::MIN, [9; 16]);
            assert_eq!(digests, Some([single; 2]), "{len}");
        }
    }

    #[test]
    fn asks_at_the_start_and_every_64_rounds() {
        let asked = |cost, yes| {
            let mut asked = 0;
            let mut go_on = || {
                asked += 1;
                asked <= yes
            };
            let done = digest_lanes([b"key"], [[0; 16]], Cost(cost), &mut go_on).is_some();
            (done, asked)
        };
        assert_eq!(asked(4, 9), (true, 1));
        assert_eq!(asked(8, 9), (true, 4));
        assert_eq!(asked(31, 3), (false, 4));
    }

    #[test]
    fn takes_up_to_all_lanes() {
        let keys = [Key::new(b"key").unwrap(); LANES];
        for len in 1..=LANES {
            let hashes = hash(&keys[..len], Cost::MIN, &mut || true).unwrap();
            assert_eq!(hashes.len(), len);
            for (i, hash) in hashes.iter().enumerate() {
                assert!(super::super::verify(keys[0], hash));
                assert!(!hashes[..i].contains(hash), "salts differ");
            }
        }
    }
}
