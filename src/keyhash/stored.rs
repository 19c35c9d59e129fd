//! The forms in which a hash is stored, and the comparison with a key.

use subtle::ConstantTimeEq;

use crate::bcrypt::{self, BcryptHash, Cost};
use crate::{Algorithm, Error, Key, PepperId, sha256};

/// A stored hash. One that exists is well formed; which algorithm made it can be read off it.
///
/// | algorithm | stored |
/// |---|---|
/// | sha256 | 64 lower-case hex digits |
/// | bcrypt | `$2a$10$` and 53 characters (`$2b$` and `$2y$` are read too) |
/// | hmac-sha256 | `$hmac-sha256$ID$` and 64 lower-case hex digits |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoredHash {
    Sha256([u8; 32]),
    Bcrypt(BcryptHash),
    HmacSha256 { pepper: PepperId, digest: [u8; 32] },
}

const HMAC_PREFIX: &[u8] = b"$hmac-sha256$";

impl StoredHash {
    /// Length of the longest stored form, in bytes.
    pub const MAX_LEN: usize = HMAC_PREFIX.len() + PepperId::MAX_LEN + 1 + sha256::HEX_LEN;

    /// Reads a stored form; `None` for anything that is not exactly one.
    pub fn parse(text: &[u8]) -> Option<Self> {
        if let Some(digest) = sha256::from_hex(text) {
            return Some(Self::Sha256(digest));
        }
        if let Some(rest) = text.strip_prefix(HMAC_PREFIX) {
            let (id, digits) = std::str::from_utf8(rest).ok()?.split_once('$')?;
            return Some(Self::HmacSha256 {
                pepper: PepperId::new(id)?,
                digest: sha256::from_hex(digits.as_bytes())?,
            });
        }
        BcryptHash::parse(text).map(Self::Bcrypt)
    }

    /// Writes the stored form into `buffer` and returns the part that it fills.
    pub fn encode<'b>(&self, buffer: &'b mut [u8; Self::MAX_LEN]) -> &'b [u8] {
        let mut end = 0;
        let mut put = |bytes: &[u8]| {
            buffer[end..end + bytes.len()].copy_from_slice(bytes);
            end += bytes.len();
        };
        match self {
            Self::Sha256(digest) => put(&sha256::to_hex(digest)),
            Self::Bcrypt(hash) => put(&hash.to_text()),
            Self::HmacSha256 { pepper, digest } => {
                put(HMAC_PREFIX);
                put(pepper.as_str().as_bytes());
                put(b"$");
                put(&sha256::to_hex(digest));
            }
        }
        &buffer[..end]
    }

    pub const fn algorithm(&self) -> Algorithm {
        match self {
            Self::Sha256(_) => Algorithm::Sha256,
            Self::Bcrypt(_) => Algorithm::Bcrypt,
            Self::HmacSha256 { .. } => Algorithm::HmacSha256,
        }
    }

    /// Whether the hash is the key's, in a time that does not depend on where they differ.
    ///
    /// # Errors
    /// `CostAboveLimit` and `PepperMissing`: there a silent "no" would lock a client out.
    pub fn verify(&self, key: Key<'_>, max_cost: Cost) -> Result<bool, Error> {
        match self {
            Self::Sha256(digest) => Ok(sha256::digest(key).ct_eq(digest).into()),
            Self::Bcrypt(hash) if hash.cost > max_cost => {
                Err(Error::CostAboveLimit { cost: hash.cost.get(), max: max_cost.get() })
            }
            Self::Bcrypt(hash) => Ok(bcrypt::verify(key, hash)),
            Self::HmacSha256 { pepper, .. } => Err(Error::PepperMissing(Some(*pepper))),
        }
    }
}

impl std::fmt::Display for StoredHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut buffer = [0; Self::MAX_LEN];
        f.write_str(&String::from_utf8_lossy(self.encode(&mut buffer)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHA256: &str = "2c70e12b7a0646f92279f427c7b38e7334d8e5389cff167a1dc30e73f826b683";
    const BCRYPT: &str = "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";

    #[test]
    fn reads_and_writes_each_form() {
        let hmac = format!("$hmac-sha256$2026-a${SHA256}");
        for (text, algorithm) in [
            (SHA256, Algorithm::Sha256),
            (BCRYPT, Algorithm::Bcrypt),
            (hmac.as_str(), Algorithm::HmacSha256),
        ] {
            let stored = StoredHash::parse(text.as_bytes()).unwrap();
            assert_eq!(stored.to_string(), text);
            assert_eq!(stored.algorithm(), algorithm);
        }
    }

    #[test]
    fn anything_else_is_not_a_hash() {
        let upper = SHA256.to_uppercase();
        let long = format!("{SHA256}0");
        let no_id = format!("$hmac-sha256$${SHA256}");
        let odd_id = format!("$hmac-sha256$a b${SHA256}");
        let cut = &BCRYPT[..59];
        for text in ["", "key", &SHA256[1..], &upper, &long, &no_id, &odd_id, cut, "$2a$05$"] {
            assert!(StoredHash::parse(text.as_bytes()).is_none(), "{text}");
        }
    }

    #[test]
    fn verifies_by_the_form() {
        let key = Key::new(b"key").unwrap();
        let other = Key::new(b"kez").unwrap();
        let max = Cost::DEFAULT_MAX;
        let sha256 = StoredHash::parse(SHA256.as_bytes()).unwrap();
        assert_eq!(sha256.verify(key, max), Ok(true));
        assert_eq!(sha256.verify(other, max), Ok(false));
        let bcrypt = StoredHash::parse(BCRYPT.as_bytes()).unwrap();
        assert_eq!(bcrypt.verify(Key::new(b"U*U").unwrap(), max), Ok(true));
        assert_eq!(bcrypt.verify(key, max), Ok(false));
    }

    #[test]
    fn refuses_what_it_cannot_answer() {
        let key = Key::new(b"key").unwrap();
        let max = Cost::DEFAULT_MAX;
        let costly = StoredHash::parse(BCRYPT.replace("$05$", "$31$").as_bytes()).unwrap();
        assert_eq!(costly.verify(key, max), Err(Error::CostAboveLimit { cost: 31, max: 14 }));
        let peppered = StoredHash::parse(format!("$hmac-sha256$a${SHA256}").as_bytes()).unwrap();
        assert_eq!(peppered.verify(key, max), Err(Error::PepperMissing(PepperId::new("a"))));
    }
}
