//! bcrypt (Provos and Mazières, USENIX 1999) in its modular crypt form.

mod lanes;

use base64::Engine;
use rand::Rng;
use rand::rand_core::UnwrapErr;
use rand::rngs::SysRng;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

pub(crate) use self::lanes::hash as hash_together;
pub use self::lanes::{LANES, digest_lanes};
use crate::{Error, Key, KeyError};

/// The base-2 logarithm of bcrypt's number of rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cost(u8);

impl Cost {
    pub const MIN: Self = Self(4);
    /// What the format can express. One hash of it takes more than a day.
    pub const MAX: Self = Self(31);
    pub const RECOMMENDED: Self = Self(10);
    /// The highest cost that is worked with unless the administrator says otherwise.
    pub const DEFAULT_MAX: Self = Self(14);

    /// # Errors
    /// `CostOutOfRange` unless `cost` lies between [`Cost::MIN`] and `max`.
    pub fn new(cost: i32, max: Self) -> Result<Self, Error> {
        match u8::try_from(cost) {
            Ok(few) if few >= Self::MIN.0 && few <= max.0 => Ok(Self(few)),
            _ => Err(Error::CostOutOfRange { cost, min: Self::MIN.0, max: max.0 }),
        }
    }

    pub const fn get(self) -> u8 {
        self.0
    }
}

/// The flavours that mean the same for ASCII keys. `$2x$`, the one with the sign-extension bug,
/// is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Variant {
    /// Written by us: pgcrypto's `crypt()` takes `$2b$` for a DES salt without a word.
    A,
    B,
    Y,
}

/// bcrypt's key schedule takes no more bytes than these.
pub const MAX_KEY_LEN: usize = 72;

const TEXT_LEN: usize = 60;
const SALT_AT: usize = 7;
const DIGEST_AT: usize = 29;

/// A bcrypt hash: `$2a$10$`, 22 characters of salt, 31 of digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BcryptHash {
    variant: Variant,
    pub cost: Cost,
    salt: [u8; 16],
    digest: [u8; 23],
}

impl BcryptHash {
    /// Reads the 60 characters; `None` for anything else, unused trailing bits included.
    pub fn parse(text: &[u8]) -> Option<Self> {
        if text.len() != TEXT_LEN {
            return None;
        }
        let variant = match &text[..4] {
            b"$2a$" => Variant::A,
            b"$2b$" => Variant::B,
            b"$2y$" => Variant::Y,
            _ => return None,
        };
        let (tens, ones) = (text[4], text[5]);
        if !tens.is_ascii_digit() || !ones.is_ascii_digit() || text[6] != b'$' {
            return None;
        }
        let cost = i32::from(tens - b'0') * 10 + i32::from(ones - b'0');
        let mut hash = Self {
            variant,
            cost: Cost::new(cost, Cost::MAX).ok()?,
            salt: [0; 16],
            digest: [0; 23],
        };
        bcrypt::BASE_64.decode_slice(&text[SALT_AT..DIGEST_AT], &mut hash.salt).ok()?;
        bcrypt::BASE_64.decode_slice(&text[DIGEST_AT..], &mut hash.digest).ok()?;
        Some(hash)
    }

    /// The 60 characters.
    pub fn to_text(&self) -> [u8; TEXT_LEN] {
        let mut text = *b"$2a$00$.....................................................";
        text[2] = match self.variant {
            Variant::A => b'a',
            Variant::B => b'b',
            Variant::Y => b'y',
        };
        text[4] += self.cost.0 / 10;
        text[5] += self.cost.0 % 10;
        let salt = bcrypt::BASE_64.encode_slice(self.salt, &mut text[SALT_AT..DIGEST_AT]);
        let digest = bcrypt::BASE_64.encode_slice(self.digest, &mut text[DIGEST_AT..]);
        debug_assert!(salt.is_ok() && digest.is_ok(), "22 and 31 characters hold the bytes");
        text
    }
}

/// A password as bcrypt's key schedule takes it: the first 72 bytes, and the terminating NUL
/// where there is room for it.
struct Password {
    bytes: Zeroizing<[u8; MAX_KEY_LEN]>,
    len: usize,
}

impl Password {
    fn new(text: &[u8]) -> Self {
        let taken = text.len().min(MAX_KEY_LEN);
        let mut bytes = Zeroizing::new([0; MAX_KEY_LEN]);
        bytes[..taken].copy_from_slice(&text[..taken]);
        Self { bytes, len: (taken + 1).min(MAX_KEY_LEN) }
    }

    fn digest(&self, cost: Cost, salt: [u8; 16]) -> [u8; 23] {
        let mut digest = [0; 23];
        let output = bcrypt::bcrypt(cost.0.into(), salt, &self.bytes[..self.len]);
        digest.copy_from_slice(&output[..23]);
        digest
    }
}

/// Hashes a key with a fresh salt.
///
/// # Errors
/// `Key(TooLongForBcrypt)` beyond 72 bytes.
pub fn hash(key: Key<'_>, cost: Cost) -> Result<BcryptHash, Error> {
    if key.as_bytes().len() > MAX_KEY_LEN {
        return Err(KeyError::TooLongForBcrypt.into());
    }
    let mut salt = [0; 16];
    UnwrapErr(SysRng).fill_bytes(&mut salt);
    let digest = Password::new(key.as_bytes()).digest(cost, salt);
    Ok(BcryptHash { variant: Variant::A, cost, salt, digest })
}

/// Whether the hash is the key's. A key beyond 72 bytes is cut there, as those who made foreign
/// hashes did.
pub fn verify(key: Key<'_>, hash: &BcryptHash) -> bool {
    verify_bytes(key.as_bytes(), hash)
}

/// Whether each of several hashes is the key's. Those of one cost share a loop, so that a few take
/// hardly longer than one. `go_on` is asked every few milliseconds; `None` once it says no.
pub fn verify_all(
    key: Key<'_>,
    hashes: &[BcryptHash],
    go_on: &mut dyn FnMut() -> bool,
) -> Option<Vec<bool>> {
    let mut matches = Vec::with_capacity(hashes.len());
    let same_cost = hashes.chunk_by(|a, b| a.cost == b.cost);
    for group in same_cost.flat_map(|same| same.chunks(LANES)) {
        if let [alone] = group {
            // The crate takes an eighth less for a single one.
            if !go_on() {
                return None;
            }
            matches.push(verify(key, alone));
            continue;
        }
        let salted: Vec<_> = group.iter().map(|hash| (key.as_bytes(), hash.salt)).collect();
        let digests = lanes::digests(&salted, group[0].cost, go_on)?;
        let equal =
            |(hash, digest): (&BcryptHash, [u8; 23])| bool::from(digest.ct_eq(&hash.digest));
        matches.extend(group.iter().zip(digests).map(equal));
    }
    Some(matches)
}

/// As [`verify`], for a text that need not be a key.
pub(crate) fn verify_bytes(text: &[u8], hash: &BcryptHash) -> bool {
    Password::new(text).digest(hash.cost, hash.salt).ct_eq(&hash.digest).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Openwall's crypt_blowfish 1.3, wrapper.c. (Two take bytes that no key may hold.)
    pub(super) const OPENWALL: [(&str, &[u8]); 9] = [
        ("$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", b"U*U"),
        ("$2a$05$CCCCCCCCCCCCCCCCCCCCC.VGOzA784oUp/Z0DY336zx7pLYAy0lwK", b"U*U*"),
        ("$2a$05$XXXXXXXXXXXXXXXXXXXXXOAcXxm9kjPGEMsLznoKqmqw7tc8WCx4a", b"U*U*U"),
        (
            "$2a$05$abcdefghijklmnopqrstuu5s2v8.iXieOjg/.AySBTTZIIVFJeBui",
            b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ\
              0123456789chars after 72 are ignored",
        ),
        ("$2y$05$/OK.fbVrR/bpIqNJ5ianF.CE5elHaaO4EbggVDjb8P19RukzXSM3e", b"\xff\xff\xa3"),
        ("$2b$05$/OK.fbVrR/bpIqNJ5ianF.CE5elHaaO4EbggVDjb8P19RukzXSM3e", b"\xff\xff\xa3"),
        ("$2y$05$/OK.fbVrR/bpIqNJ5ianF.Sa7shbm4.OzKpvFnX1pQLmQW96oUlCq", b"\xa3"),
        ("$2a$05$/OK.fbVrR/bpIqNJ5ianF.Sa7shbm4.OzKpvFnX1pQLmQW96oUlCq", b"\xa3"),
        ("$2a$05$CCCCCCCCCCCCCCCCCCCCC.7uG0VCzI2bS7j6ymqJi9CdcdxiRTWNy", b""),
    ];

    #[test]
    fn published_vectors() {
        for (text, password) in OPENWALL {
            let hash = BcryptHash::parse(text.as_bytes()).unwrap();
            assert_eq!(hash.to_text(), text.as_bytes(), "{text}");
            assert!(verify_bytes(password, &hash), "{text}");
            assert!(!verify_bytes(b"U*V", &hash), "{text}");
        }
    }

    #[test]
    fn agrees_with_the_crate() {
        let key = Key::new(b"sk_live_4eC39HqLyjWDarjtT1zdp7dc").unwrap();
        let ours = hash(key, Cost::MIN).unwrap();
        assert!(verify(key, &ours));
        let text = String::from_utf8(ours.to_text().to_vec()).unwrap();
        assert!(text.starts_with("$2a$04$"));
        assert_eq!(bcrypt::verify(key.as_bytes(), &text).ok(), Some(true));
        let theirs = bcrypt::hash(key.as_bytes(), 4).unwrap();
        assert!(verify(key, &BcryptHash::parse(theirs.as_bytes()).unwrap()));
    }

    #[test]
    fn hashes_72_bytes_and_no_more() {
        let text = [b'k'; 73];
        for len in [71, 72] {
            let key = Key::new(&text[..len]).unwrap();
            assert!(verify(key, &hash(key, Cost::MIN).unwrap()));
        }
        let long = Key::new(&text).unwrap();
        assert_eq!(hash(long, Cost::MIN), Err(KeyError::TooLongForBcrypt.into()));
        // Verifying follows those who cut: all 72 bytes that count are equal.
        assert!(verify(long, &hash(Key::new(&text[..72]).unwrap(), Cost::MIN).unwrap()));
    }

    #[test]
    fn verifies_many_as_it_verifies_one() {
        let [right, wrong] = ["right", "wrong"].map(|text| Key::new(text.as_bytes()).unwrap());
        let [four, five] = [4, 5].map(Cost);
        let makers = [(right, four), (wrong, four), (right, five), (right, four), (wrong, four)];
        // 15 hashes: groups of each size, of which some are alone.
        let hashes: Vec<_> = (0..15)
            .map(|i| {
                let (key, cost) = makers[if i < 8 { i % 2 } else { i % 5 }];
                hash(key, cost).unwrap()
            })
            .collect();
        for key in [right, wrong] {
            let one_by_one: Vec<_> = hashes.iter().map(|hash| verify(key, hash)).collect();
            assert_eq!(verify_all(key, &hashes, &mut || true), Some(one_by_one));
        }
        assert_eq!(verify_all(right, &[], &mut || false), Some(vec![]));
        for few in [1, 2, 15] {
            assert_eq!(verify_all(right, &hashes[..few], &mut || false), None);
        }
    }

    #[test]
    fn verifying_many_cuts_long_keys_too() {
        let text = [b'k'; 73];
        let hash = hash(Key::new(&text[..72]).unwrap(), Cost::MIN).unwrap();
        let long = Key::new(&text).unwrap();
        assert_eq!(verify_all(long, &[hash; 2], &mut || true), Some(vec![true; 2]));
    }

    #[test]
    fn salts_differ() {
        let key = Key::new(b"key").unwrap();
        assert_ne!(hash(key, Cost::MIN), hash(key, Cost::MIN));
    }

    #[test]
    fn reads_only_the_canonical_form() {
        let good = OPENWALL[0].0;
        for (from, to) in [
            ("$2a$", "$2x$"),
            ("$2a$", "$2$a"),
            ("$05$", "$03$"),
            ("$05$", "$32$"),
            ("$05$", "$+5$"),
            ("$05$", "$5$C"),
            ("C.E5", "C/E5"),
            ("OeW", "OeX"),
            ("OeW", "Oe\u{7f}"),
        ] {
            assert!(BcryptHash::parse(good.replace(from, to).as_bytes()).is_none(), "{from}{to}");
        }
    }

    #[test]
    fn bounds_the_cost() {
        assert_eq!(Cost::new(14, Cost::DEFAULT_MAX).map(Cost::get), Ok(14));
        for cost in [-1, 3, 15, 31, 256, i32::MIN] {
            let refused = Error::CostOutOfRange { cost, min: 4, max: 14 };
            assert_eq!(Cost::new(cost, Cost::DEFAULT_MAX), Err(refused));
        }
    }
}
