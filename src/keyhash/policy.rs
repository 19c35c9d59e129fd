//! How new hashes are made: the algorithm and its cost.

use std::str::FromStr;

use crate::bcrypt::{self, Cost};
use crate::{Error, Key, KeyError, StoredHash, sha256};

/// The algorithms, by the names that SQL uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    Sha256,
    Bcrypt,
    HmacSha256,
}

impl Algorithm {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Bcrypt => "bcrypt",
            Self::HmacSha256 => "hmac-sha256",
        }
    }

    /// Why `text` can't be hashed with this algorithm; `None` if it can.
    pub fn fault(self, text: &[u8]) -> Option<KeyError> {
        match Key::new(text) {
            Err(fault) => Some(fault),
            Ok(_) if self == Self::Bcrypt && text.len() > bcrypt::MAX_KEY_LEN => {
                Some(KeyError::TooLongForBcrypt)
            }
            Ok(_) => None,
        }
    }
}

impl FromStr for Algorithm {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        [Self::Sha256, Self::Bcrypt, Self::HmacSha256]
            .into_iter()
            .find(|algorithm| algorithm.name() == name)
            .ok_or(Error::UnknownAlgorithm)
    }
}

/// An algorithm with all that it needs to hash a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    Sha256,
    Bcrypt(Cost),
}

impl Policy {
    /// Takes an algorithm's name and a bcrypt cost, which the other algorithms ignore.
    ///
    /// # Errors
    /// `UnknownAlgorithm`, `CostOutOfRange` (for bcrypt), `PepperMissing` (for hmac-sha256).
    pub fn new(algorithm: &str, cost: i32, max_cost: Cost) -> Result<Self, Error> {
        match algorithm.parse()? {
            Algorithm::Sha256 => Ok(Self::Sha256),
            Algorithm::Bcrypt => Ok(Self::Bcrypt(Cost::new(cost, max_cost)?)),
            Algorithm::HmacSha256 => Err(Error::PepperMissing(None)),
        }
    }

    /// Hashes a key; bcrypt takes a fresh salt each time.
    ///
    /// # Errors
    /// `Key(TooLongForBcrypt)`: bcrypt would ignore all beyond 72 bytes.
    pub fn hash(self, key: Key<'_>) -> Result<StoredHash, Error> {
        match self {
            Self::Sha256 => Ok(StoredHash::Sha256(sha256::digest(key))),
            Self::Bcrypt(cost) => Ok(StoredHash::Bcrypt(bcrypt::hash(key, cost)?)),
        }
    }

    /// Whether a stored hash is of another algorithm than this policy's, or of a lower cost.
    pub fn is_obsolete(self, stored: &StoredHash) -> bool {
        match (self, stored) {
            (Self::Sha256, StoredHash::Sha256(_)) => false,
            (Self::Bcrypt(cost), StoredHash::Bcrypt(hash)) => hash.cost < cost,
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: Cost = Cost::DEFAULT_MAX;

    #[test]
    fn knows_its_names_and_no_others() {
        assert_eq!(Policy::new("sha256", 99, MAX), Ok(Policy::Sha256));
        assert!(matches!(Policy::new("bcrypt", 10, MAX), Ok(Policy::Bcrypt(_))));
        assert_eq!(Policy::new("hmac-sha256", 10, MAX), Err(Error::PepperMissing(None)));
        for name in ["", "SHA256", "sha-256", "bcrypt ", "md5"] {
            assert_eq!(Policy::new(name, 10, MAX), Err(Error::UnknownAlgorithm), "{name:?}");
        }
    }

    #[test]
    fn faults_are_those_of_the_key_and_bcrypts_72_bytes() {
        let long = [b'k'; 73];
        assert_eq!(Algorithm::Sha256.fault(&long), None);
        assert_eq!(Algorithm::Bcrypt.fault(&long[..72]), None);
        assert_eq!(Algorithm::Bcrypt.fault(&long), Some(KeyError::TooLongForBcrypt));
        assert_eq!(Algorithm::Bcrypt.fault(b""), Some(KeyError::Empty));
    }

    #[test]
    fn another_algorithm_or_a_lower_cost_is_obsolete() {
        let key = Key::new(b"key").unwrap();
        let low = Policy::new("bcrypt", 4, MAX).unwrap();
        let high = Policy::new("bcrypt", 5, MAX).unwrap();
        let hash = low.hash(key).unwrap();
        assert!(!low.is_obsolete(&hash));
        assert!(high.is_obsolete(&hash));
        assert!(!low.is_obsolete(&high.hash(key).unwrap()));
        assert!(Policy::Sha256.is_obsolete(&hash));
        assert!(low.is_obsolete(&Policy::Sha256.hash(key).unwrap()));
    }
}
