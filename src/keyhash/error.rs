//! Every way in which this crate refuses. No variant holds a key or a caller's text.

use std::fmt;

use crate::{Algorithm, KeyError};

/// What went wrong. `Copy`, and free of key material by construction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The text is not a key, or not one for the algorithm asked for.
    Key(KeyError),
    /// No algorithm has that name. The name is not kept: it may be a key in the wrong place.
    UnknownAlgorithm,
    /// A bcrypt cost to hash with lies outside `min..=max`.
    CostOutOfRange { cost: i32, min: u8, max: u8 },
    /// A stored bcrypt hash is well formed, but too costly to verify.
    CostAboveLimit { cost: u8, max: u8 },
    /// A hash needs a pepper that is not there; `None` where a new hash was asked for.
    PepperMissing(Option<PepperId>),
    /// A tag has 0 to 31 bits.
    TagBitsOutOfRange { bits: i32 },
    /// A generated key's prefix has 1 to 32 letters, digits, `_` or `-`.
    InvalidPrefix,
}

impl From<KeyError> for Error {
    fn from(fault: KeyError) -> Self {
        Self::Key(fault)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(fault) => write!(f, "invalid API key: {fault}"),
            Self::UnknownAlgorithm => f.write_str("unknown API key algorithm"),
            Self::CostOutOfRange { cost, min, max } => {
                write!(f, "bcrypt cost {cost} is out of range {min} to {max}")
            }
            Self::CostAboveLimit { cost, max } => {
                write!(f, "stored bcrypt hash has cost {cost}, above the limit of {max}")
            }
            Self::PepperMissing(Some(id)) => {
                write!(f, "pepper \"{}\" is not available", id.as_str())
            }
            Self::PepperMissing(None) => {
                write!(f, "algorithm \"{}\" is not configured", Algorithm::HmacSha256.name())
            }
            Self::TagBitsOutOfRange { bits } => {
                write!(f, "number of tag bits {bits} is out of range 0 to 31")
            }
            Self::InvalidPrefix => f.write_str("invalid API key prefix"),
        }
    }
}

impl std::error::Error for Error {}

/// The public name of a pepper: 1 to 32 letters, digits, `_` or `-`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PepperId {
    bytes: [u8; Self::MAX_LEN],
    len: u8,
}

impl PepperId {
    pub const MAX_LEN: usize = 32;

    pub fn new(text: &str) -> Option<Self> {
        let named = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        if text.is_empty() || text.len() > Self::MAX_LEN || !text.bytes().all(named) {
            return None;
        }
        let mut bytes = [0; Self::MAX_LEN];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        Some(Self { bytes, len: text.len() as u8 })
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or_default()
    }
}
