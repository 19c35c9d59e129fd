//! The look-up tag: a few bits of a key that an index can hold beside a salted hash.

use sha2::{Digest, Sha256};

use crate::Error;

/// Separates the tag from the stored SHA-256 of the same key. It must never change: the tags of
/// every protected table were made with it.
const LABEL: &[u8] = b"pg_api_key:tag:";

/// How many bits a tag has, 0 to 31.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TagBits(u8);

impl TagBits {
    pub const MAX: i32 = 31;

    /// # Errors
    /// `TagBitsOutOfRange`.
    pub fn new(bits: i32) -> Result<Self, Error> {
        match u8::try_from(bits) {
            Ok(few) if bits <= Self::MAX => Ok(Self(few)),
            _ => Err(Error::TagBitsOutOfRange { bits }),
        }
    }
}

/// The first bits of SHA-256("pg_api_key:tag:" followed by the key), as a non-negative integer.
/// `printf 'pg_api_key:tag:%s' KEY | sha256sum | cut -c1-4` prints the 16-bit tag in hex.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag(pub i32);

impl Tag {
    /// Tags any text: what is no key has a tag too, and finds no row.
    pub fn new(text: &[u8], bits: TagBits) -> Self {
        let digest = Sha256::new().chain_update(LABEL).chain_update(text).finalize();
        let head = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
        // At most 31 bits are left, so the value fits an i32; shifting by 32 means none are.
        Self(head.checked_shr(32 - u32::from(bits.0)).unwrap_or(0) as i32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_the_head_of_a_labelled_digest() {
        // printf 'pg_api_key:tag:%s' key | sha256sum: d668e180...
        let tag = |bits| Tag::new(b"key", TagBits::new(bits).unwrap()).0;
        assert_eq!(tag(0), 0);
        assert_eq!(tag(16), 0xd668);
        assert_eq!(tag(31), (0xd668e180_u32 >> 1) as i32);
        assert_eq!(tag(1), (0xd668e180_u32 >> 31) as i32);
    }

    #[test]
    fn bounds_the_bits() {
        for bits in [-1, 32, 256, i32::MIN] {
            assert_eq!(TagBits::new(bits), Err(Error::TagBitsOutOfRange { bits }));
        }
    }
}
