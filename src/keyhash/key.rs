//! The key: 1 to 1024 bytes of printable ASCII without blanks.

use std::fmt;

use zeroize::Zeroizing;

/// A valid key, borrowed from wherever its bytes live.
///
/// A `Key` that exists is 1 to [`Key::MAX_LEN`] bytes in 0x21–0x7E, which is what an HTTP header
/// can carry, and is not itself one of the stored hash forms that name their algorithm.
/// It makes no copy; the owner of the bytes wipes them ([`KeyBuf`] does).
#[derive(Clone, Copy)]
pub struct Key<'a>(&'a [u8]);

/// An owned key, wiped when it is dropped.
pub struct KeyBuf(Zeroizing<Box<[u8]>>);

/// Why a text is not a key. Holds nothing of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyError {
    Empty,
    TooLong,
    TrailingNewline,
    OuterBlank,
    InnerBlank,
    Control,
    NonAscii,
    AlreadyHash,
    /// Only for bcrypt, which would ignore what lies beyond 72 bytes.
    TooLongForBcrypt,
}

/// A text that begins so is a hash that somebody took for a key.
const HASH_PREFIXES: [&[u8]; 5] = [b"$2a$", b"$2b$", b"$2x$", b"$2y$", b"$hmac-sha256$"];

impl<'a> Key<'a> {
    /// Longest key, in bytes.
    pub const MAX_LEN: usize = 1024;

    /// Checks `text` and takes it as a key.
    ///
    /// # Errors
    /// The first of the [`KeyError`]s that applies.
    pub fn new(text: &'a [u8]) -> Result<Self, KeyError> {
        // All bytes, even after one that is not: so the compiler takes 16 at a time.
        let printable = text.iter().fold(true, |so_far, byte| so_far & byte.is_ascii_graphic());
        if !printable || text.is_empty() || text.len() > Self::MAX_LEN {
            return Err(KeyError::diagnose(text));
        }
        if text[0] == b'$' && HASH_PREFIXES.iter().any(|prefix| text.starts_with(prefix)) {
            return Err(KeyError::AlreadyHash);
        }
        Ok(Self(text))
    }

    pub const fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    pub fn to_owned(self) -> KeyBuf {
        KeyBuf(Zeroizing::new(self.0.into()))
    }
}

impl KeyBuf {
    pub fn as_key(&self) -> Key<'_> {
        Key(&self.0)
    }
}

impl KeyError {
    /// Names the fault of a text that is empty, too long or not printable.
    fn diagnose(text: &[u8]) -> Self {
        let blank = |byte: Option<&u8>| byte.is_some_and(|b| matches!(b, b' ' | b'\t'));
        if text.is_empty() {
            Self::Empty
        } else if matches!(text.last(), Some(b'\n' | b'\r')) {
            Self::TrailingNewline
        } else if !text.is_ascii() {
            Self::NonAscii
        } else if blank(text.first()) || blank(text.last()) {
            Self::OuterBlank
        } else if text.contains(&b' ') {
            Self::InnerBlank
        } else if text.iter().any(u8::is_ascii_control) {
            Self::Control
        } else {
            Self::TooLong
        }
    }
}

impl fmt::Display for KeyError {
    /// A few words that can stand in a list of counts.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "empty",
            Self::TooLong => "longer than 1024 bytes",
            Self::TrailingNewline => "newline at the end",
            Self::OuterBlank => "blank at an end",
            Self::InnerBlank => "blank inside",
            Self::Control => "control character",
            Self::NonAscii => "non-ASCII character",
            Self::AlreadyHash => "already a hash",
            Self::TooLongForBcrypt => "longer than 72 bytes",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: impl AsRef<[u8]>) -> Option<KeyError> {
        Key::new(text.as_ref()).err()
    }

    #[test]
    fn accepts_what_a_header_can_carry() {
        assert_eq!(fault("k"), None);
        assert_eq!(fault((0x21..=0x7e).collect::<Vec<u8>>()), None);
        assert_eq!(fault(vec![b'k'; Key::MAX_LEN]), None);
    }

    #[test]
    fn sixty_four_hex_digits_are_a_key() {
        assert_eq!(fault("0123456789abcdef".repeat(4)), None);
    }

    #[test]
    fn names_each_fault() {
        assert_eq!(fault(""), Some(KeyError::Empty));
        assert_eq!(fault(vec![b'k'; 1025]), Some(KeyError::TooLong));
        assert_eq!(fault("key\n"), Some(KeyError::TrailingNewline));
        assert_eq!(fault("key\r\n"), Some(KeyError::TrailingNewline));
        assert_eq!(fault(" key"), Some(KeyError::OuterBlank));
        assert_eq!(fault("key\t"), Some(KeyError::OuterBlank));
        assert_eq!(fault(" "), Some(KeyError::OuterBlank));
        assert_eq!(fault("k y"), Some(KeyError::InnerBlank));
        assert_eq!(fault("k\ty"), Some(KeyError::Control));
        assert_eq!(fault("k\0y"), Some(KeyError::Control));
        assert_eq!(fault("\x7f"), Some(KeyError::Control));
        assert_eq!(fault("clé"), Some(KeyError::NonAscii));
        assert_eq!(fault(b"\xff"), Some(KeyError::NonAscii));
    }

    #[test]
    fn refuses_a_hash_that_names_its_algorithm() {
        for prefix in HASH_PREFIXES {
            assert_eq!(fault(prefix), Some(KeyError::AlreadyHash));
        }
        assert_eq!(fault("$2z$10$key"), None);
    }
}
