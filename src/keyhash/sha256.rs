//! SHA-256 (FIPS 180-4) of a key, the stored form of machine-made keys.

use sha2::{Digest, Sha256};

use crate::Key;

/// Length of a digest in hexadecimal digits.
pub const HEX_LEN: usize = 64;

/// The 32 bytes of the key's SHA-256.
pub fn digest(key: Key<'_>) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}

/// The key's SHA-256 as 64 lower-case hex digits: what `printf %s KEY | sha256sum` prints.
pub fn sha256_hex(key: Key<'_>) -> [u8; HEX_LEN] {
    to_hex(&digest(key))
}

/// Lower-case digits, written in place: `hex::encode` allocates and costs more than the hash. No
/// table, so that the compiler takes 16 bytes at a time.
pub fn to_hex(digest: &[u8; 32]) -> [u8; HEX_LEN] {
    let digit = |half: u8| half + if half < 10 { b'0' } else { b'a' - 10 };
    let mut digits = [0; HEX_LEN];
    for (pair, byte) in digits.as_chunks_mut().0.iter_mut().zip(digest) {
        *pair = [digit(byte >> 4), digit(byte & 15)];
    }
    digits
}

/// Reads 64 lower-case hex digits; anything else is `None`.
pub fn from_hex(digits: &[u8]) -> Option<[u8; 32]> {
    if digits.iter().any(u8::is_ascii_uppercase) {
        return None;
    }
    let mut digest = [0; 32];
    hex::decode_to_slice(digits, &mut digest).ok()?;
    Some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex_of(text: &str) -> String {
        String::from_utf8(sha256_hex(Key::new(text.as_bytes()).unwrap()).to_vec()).unwrap()
    }

    /// NIST's examples for SHA-256 whose message is a key, and the one-million-byte rule scaled
    /// to our longest key (checked against coreutils' sha256sum).
    #[test]
    fn published_vectors() {
        assert_eq!(
            hex_of("abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(
            hex_of("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
        );
        assert_eq!(
            hex_of(&"a".repeat(1024)),
            "2edc986847e209b4016e141a6dc8716d3207350f416969382d431539bf292e4a"
        );
    }

    #[test]
    fn hex_is_read_back_only_as_written() {
        let digits = to_hex(&[0xa5; 32]);
        assert_eq!(from_hex(&digits), Some([0xa5; 32]));
        assert_eq!(from_hex(&digits.to_ascii_uppercase()), None);
        assert_eq!(from_hex(&digits[..63]), None);
        assert_eq!(from_hex(&[b'g'; 64]), None);
    }
}
