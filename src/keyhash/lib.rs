//! What an API key is, the forms in which its hash is stored, and how the two are compared.
//!
//! This crate knows no database. Data flows one way: text becomes a [`Key`] or a [`StoredHash`]
//! (both valid by construction), a [`Policy`] turns a key into a stored hash, and a stored hash
//! verifies a key. Nothing here implements `Debug` or `Display` over a key.
#![forbid(unsafe_code)]

pub mod bcrypt;
mod bulk;
mod cache;
mod checksum;
mod error;
pub mod explain;
mod key;
mod policy;
mod sha256;
mod stored;
mod tag;

pub use bulk::{Caller, Unfinished};
pub use cache::{CacheStats, VerifiedPairs};
pub use checksum::{checksum_valid, generate};
pub use error::{Error, PepperId};
pub use key::{Key, KeyBuf, KeyError};
pub use policy::{Algorithm, Policy};
pub use sha256::sha256_hex;
pub use stored::StoredHash;
pub use tag::{Tag, TagBits};
