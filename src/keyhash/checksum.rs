//! Making keys, and telling a mistyped one by its checksum before any look-up.
//!
//! The layout is GitHub's and npm's: a prefix, `_`, 30 random base62 characters and 6 base62
//! digits of the CRC-32 of those 30 ("Behind GitHub's new authentication token formats", 2021).
//! It is read from the end, since a prefix may itself hold `_`.

use rand::distr::{Alphanumeric, Distribution};
use rand::rand_core::UnwrapErr;
use rand::rngs::SysRng;
use zeroize::Zeroizing;

use crate::{Error, Key, KeyBuf};

const BODY_LEN: usize = 30;
const CHECK_LEN: usize = 6;
const TAIL_LEN: usize = 1 + BODY_LEN + CHECK_LEN;
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Longest prefix, in bytes, so that every generated key fits bcrypt's 72.
pub const MAX_PREFIX_LEN: usize = 32;

/// Makes a key with 178 bits of the operating system's randomness.
///
/// # Errors
/// `InvalidPrefix` unless the prefix is 1 to 32 letters, digits, `_` or `-`.
pub fn generate(prefix: &[u8]) -> Result<KeyBuf, Error> {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
    if prefix.is_empty() || prefix.len() > MAX_PREFIX_LEN || !prefix.iter().all(plain) {
        return Err(Error::InvalidPrefix);
    }
    let mut text = Zeroizing::new(Vec::with_capacity(prefix.len() + TAIL_LEN));
    text.extend_from_slice(prefix);
    text.push(b'_');
    text.extend(Alphanumeric.sample_iter(UnwrapErr(SysRng)).take(BODY_LEN));
    let check = check_digits(&text[prefix.len() + 1..]);
    text.extend_from_slice(&check);
    Ok(Key::new(&text)?.to_owned())
}

/// Whether `key` ends in 30 base62 characters and their checksum, after a prefix and `_`.
pub fn checksum_valid(key: &[u8]) -> bool {
    split(key).is_some_and(|(body, check)| check == check_digits(body))
}

/// Whether `key` has the layout, but not the checksum. (A key of another make may look alike.)
pub fn is_mistyped(key: &[u8]) -> bool {
    split(key).is_some_and(|(body, check)| check != check_digits(body))
}

/// Body and checksum of a key that has the layout.
fn split(key: &[u8]) -> Option<(&[u8], &[u8])> {
    let prefix_len = key.len().checked_sub(TAIL_LEN).filter(|len| *len > 0)?;
    let tail = key[prefix_len..].strip_prefix(b"_")?;
    (Key::new(key).is_ok() && tail.iter().all(u8::is_ascii_alphanumeric))
        .then(|| tail.split_at(BODY_LEN))
}

/// The CRC-32 (ISO 3309, as zlib's) of `body` in six base62 digits, most significant first.
fn check_digits(body: &[u8]) -> [u8; CHECK_LEN] {
    let mut rest = crc32fast::hash(body) as usize;
    let mut digits = [b'0'; CHECK_LEN];
    for digit in digits.iter_mut().rev() {
        *digit = BASE62[rest % BASE62.len()];
        rest /= BASE62.len();
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The token that GitHub's documentation and secret scanners show as an example.
    const GITHUB: &str = "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";

    #[test]
    fn accepts_the_layout_it_borrows() {
        assert!(checksum_valid(GITHUB.as_bytes()));
    }

    #[test]
    fn notices_every_single_mistyped_character() {
        for place in 4..GITHUB.len() {
            let mut typo = GITHUB.as_bytes().to_vec();
            typo[place] = if typo[place] == b'a' { b'b' } else { b'a' };
            assert!(!checksum_valid(&typo), "at {place}");
        }
    }

    #[test]
    fn rejects_other_shapes() {
        for text in ["", "ghp_", &GITHUB[1..39], &GITHUB[3..], &GITHUB.replace('_', "-")] {
            assert!(!checksum_valid(text.as_bytes()), "{text}");
        }
        assert!(!checksum_valid(format!("{GITHUB}\n").as_bytes()));
        assert!(!checksum_valid(format!(" {GITHUB}").as_bytes()));
    }

    #[test]
    fn generates_valid_keys_that_differ() {
        let key = |prefix: &str| generate(prefix.as_bytes()).unwrap();
        for prefix in ["ak", "a", "sk_live", &"p".repeat(32)] {
            let made = key(prefix);
            let text = made.as_key().as_bytes();
            assert!(checksum_valid(text));
            assert!(text.starts_with(prefix.as_bytes()));
            assert_eq!(text.len(), prefix.len() + 37);
            assert!(key(prefix).as_key().as_bytes() != text);
        }
    }

    #[test]
    fn bounds_the_prefix() {
        for prefix in ["", "a b", "é", "a$", &"p".repeat(33)] {
            assert!(generate(prefix.as_bytes()).is_err(), "{prefix}");
        }
    }
}
