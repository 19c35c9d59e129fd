//! Why a key and a stored value do or do not match: the usual mistakes, tried one by one.
//!
//! Each explanation is one sentence that holds neither key nor hash, only the fingerprint that
//! operators compare with their logs: the first 12 hex digits of the presented key's SHA-256.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::bcrypt::{self, Cost};
use crate::{Key, KeyError, StoredHash, checksum, sha256};

/// Another text that was perhaps meant, or hashed, in place of the presented one.
pub struct Variant {
    pub text: Zeroizing<Vec<u8>>,
    pub mistake: &'static str,
}

/// A value that stands in the hash column by mistake.
pub struct Lookalike {
    pub stored: String,
    pub mistake: &'static str,
}

/// Shorter beginnings of a digest are too likely to be another key's.
const SHORTEST_CUT: usize = 12;

/// The first 12 hex digits of the text's SHA-256.
pub fn fingerprint(text: &[u8]) -> String {
    digest(text)[..12].to_owned()
}

/// One sentence about the pair. A bcrypt hash above `max_cost` is not tried.
pub fn explain(text: &[u8], stored: &[u8], max_cost: Cost) -> String {
    let verdict = verdict(text, stored, max_cost);
    format!("{verdict} (fingerprint of the key: {}).", fingerprint(text))
}

fn verdict(text: &[u8], stored: &[u8], max_cost: Cost) -> String {
    let hash = StoredHash::parse(stored);
    match &hash {
        Some(StoredHash::Bcrypt(bcrypt)) if bcrypt.cost > max_cost => {
            return "Not tried: the stored bcrypt hash has a cost above \
                    pg_api_key.max_bcrypt_cost"
                .into();
        }
        Some(StoredHash::HmacSha256 { .. }) => {
            return "Not tried: the stored hash needs a pepper that is not available".into();
        }
        _ => {}
    }
    if let (Ok(key), Some(hash)) = (Key::new(text), &hash)
        && hash.verify(key, max_cost) == Ok(true)
    {
        let cut = hash.algorithm() == crate::Algorithm::Bcrypt && text.len() > bcrypt::MAX_KEY_LEN;
        return if cut {
            "Match, but bcrypt has cut the key: all beyond its first 72 bytes is ignored".into()
        } else {
            format!("Match: the stored {} hash is the key's", hash.algorithm().name())
        };
    }
    if let Some(found) = lookalikes(text).into_iter().find(|l| l.stored.as_bytes() == stored) {
        return no_match(found.mistake);
    }
    if let Some(StoredHash::Bcrypt(hash)) = &hash {
        let meant = variants(text).into_iter().find(|v| bcrypt::verify_bytes(&v.text, hash));
        if let Some(variant) = meant {
            return no_match(variant.mistake);
        }
    }
    if hash.is_none() {
        return no_match(malformed(stored));
    }
    unknown(text)
}

/// What can be said of a key that nothing stored explains.
pub fn unknown(text: &[u8]) -> String {
    match Key::new(text) {
        Err(fault) => no_match(key_fault(fault)),
        Ok(_) if checksum::is_mistyped(text) => {
            no_match("the key is mistyped, says its own checksum")
        }
        Ok(_) => no_match("this is simply another key"),
    }
}

fn no_match(mistake: &str) -> String {
    format!("No match: {mistake}")
}

/// What a look-up by the key itself would miss: other texts that may have been hashed.
pub fn variants(text: &[u8]) -> Vec<Variant> {
    let hashed = |before: &str, after: &str, mistake| Variant {
        text: Zeroizing::new([before.as_bytes(), text, after.as_bytes()].concat()),
        mistake,
    };
    let mut all = vec![
        hashed(
            "",
            "\n",
            "the stored hash is of the key and a newline, as \"echo\" without -n makes",
        ),
        hashed("", "\r\n", "the stored hash is of the key and a line end, as Windows writes"),
        hashed("\"", "\"", "the stored hash is of the key with quotes around it"),
        hashed("'", "'", "the stored hash is of the key with quotes around it"),
        hashed(" ", "", "the stored hash is of the key with a blank before it"),
        hashed("", " ", "the stored hash is of the key with a blank after it"),
    ];
    let mut presented = |stripped: &[u8], mistake| {
        if stripped.len() < text.len() && !stripped.is_empty() {
            all.push(Variant { text: Zeroizing::new(stripped.to_vec()), mistake });
        }
    };
    let lines = text.strip_suffix(b"\n").unwrap_or(text);
    let lines = lines.strip_suffix(b"\r").unwrap_or(lines);
    presented(lines, "the key was presented with a newline at its end");
    presented(text.trim_ascii(), "the key was presented with blanks around it");
    let bare = text.trim_ascii();
    for quote in [b"\"", b"'"] {
        if let Some(inner) = bare.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote)) {
            presented(inner, "the key was presented with quotes around it");
        }
    }
    for scheme in ["Bearer ", "ApiKey ", "Basic "] {
        if let Some(inner) = bare.strip_prefix(scheme.as_bytes()) {
            presented(inner, "the key was presented with its authentication scheme before it");
        }
    }
    all
}

/// Every wrong value by which this key may stand in a column of SHA-256 hashes.
pub fn lookalikes(text: &[u8]) -> Vec<Lookalike> {
    let mut all = Vec::new();
    let mut add = |stored: String, mistake| all.push(Lookalike { stored, mistake });
    let right = digest(text);
    if let Ok(itself) = str::from_utf8(text) {
        let mistake = match StoredHash::parse(text) {
            None => "the stored value is the key itself, where its hash belongs (mistake 1)",
            Some(StoredHash::Sha256(_)) => {
                "the presented text is stored as it is, so either the key was stored in place of \
                 its hash (mistake 1), or the hash was presented in place of the key (mistake 2)"
            }
            Some(_) => "the hash was presented in place of the key (mistake 2)",
        };
        add(itself.to_owned(), mistake);
    }
    add(digest(right.as_bytes()), "the stored value is the key hashed twice");
    add(right.to_uppercase(), "the stored digest is in upper case, and lower case is compared");
    let bytes = Sha256::digest(text);
    for base64 in [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD] {
        add(base64.encode(bytes), "the stored digest is in base64, not in hexadecimal");
    }
    for bytea in [format!("\\x{right}"), format!("0x{right}")] {
        add(bytea, "the stored digest has a prefix before its 64 digits");
    }
    for line in [format!("{right}  -"), format!("{right} *-"), format!("{right}\n")] {
        add(line, "the stored value is the whole line that sha256sum printed, not just its digits");
    }
    for end in SHORTEST_CUT..sha256::HEX_LEN {
        add(right[..end].to_owned(), "the stored hash is cut short, as by too narrow a column");
    }
    for variant in variants(text) {
        add(digest(&variant.text), variant.mistake);
    }
    all
}

fn malformed(stored: &[u8]) -> &'static str {
    match stored {
        [] => "the stored value is empty",
        [b'$', b'2', _, b'$', ..] if stored.len() < 60 => {
            "the stored bcrypt hash is cut short, as by too narrow a column"
        }
        [b'$', ..] => "the stored value is a hash of a kind that is not known here",
        _ if stored.iter().all(u8::is_ascii_hexdigit) => match stored.len() {
            32 => "the stored value has the length of an MD5 digest, not of a SHA-256 one",
            40 => "the stored value has the length of a SHA-1 digest, not of a SHA-256 one",
            128 => "the stored value has the length of a SHA-512 digest, not of a SHA-256 one",
            64 => "the stored digest is another key's, and in upper case",
            _ => "the stored value is not a hash",
        },
        _ => "the stored value is not a hash",
    }
}

fn key_fault(fault: KeyError) -> &'static str {
    match fault {
        KeyError::Empty => "the presented key is empty",
        KeyError::TooLong | KeyError::TooLongForBcrypt => "the presented key is too long to be one",
        KeyError::TrailingNewline => {
            "the presented key ends with a newline, and is unknown without it"
        }
        KeyError::OuterBlank => {
            "the presented key has a blank at an end, and is unknown without it"
        }
        KeyError::InnerBlank => "the presented key has a blank inside",
        KeyError::Control => "the presented key holds a control character",
        KeyError::NonAscii => "the presented key holds a character that is not ASCII",
        KeyError::AlreadyHash => "a hash was presented in place of the key (mistake 2)",
    }
}

fn digest(text: &[u8]) -> String {
    String::from_utf8_lossy(&sha256::to_hex(&Sha256::digest(text).into())).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "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";

    fn says(text: &str, stored: &str) -> String {
        let sentence = explain(text.as_bytes(), stored.as_bytes(), Cost::DEFAULT_MAX);
        assert!(!text.is_empty() && !sentence.contains(text), "the key is in: {sentence}");
        assert!(stored.len() < 13 || !sentence.contains(stored), "the hash is in: {sentence}");
        assert!(sentence.contains(&digest(text.as_bytes())[..12]));
        sentence
    }

    #[test]
    fn a_match_of_each_kind() {
        assert!(says(KEY, &digest(KEY.as_bytes())).starts_with("Match: the stored sha256"));
        let hash = bcrypt::hash(Key::new(KEY.as_bytes()).unwrap(), Cost::MIN).unwrap();
        let stored = String::from_utf8(hash.to_text().to_vec()).unwrap();
        assert!(says(KEY, &stored).starts_with("Match: the stored bcrypt"));
        assert!(says(&stored, &stored).contains("mistake 2"));
        assert!(says(&format!("{KEY}\n"), &stored).contains("newline at its end"));
        assert!(says(KEY, &stored[..50]).contains("cut short"));
    }

    #[test]
    fn each_usual_mistake() {
        let right = digest(KEY.as_bytes());
        let of = |text: &str| digest(text.as_bytes());
        for (presented, stored, words) in [
            (KEY, KEY.to_owned(), "mistake 1"),
            (&right, right.clone(), "mistake 2"),
            (KEY, of(&right), "twice"),
            (KEY, of(&format!("{KEY}\n")), "echo"),
            (KEY, of(&format!("\"{KEY}\"")), "quotes"),
            (KEY, of(&format!(" {KEY}")), "blank before"),
            (&format!("{KEY} "), right.clone(), "blanks around"),
            (&format!("'{KEY}'"), right.clone(), "quotes around"),
            (&format!("Bearer {KEY}"), right.clone(), "scheme"),
            (KEY, right.to_uppercase(), "upper case"),
            (KEY, STANDARD.encode(Sha256::digest(KEY)), "base64"),
            (KEY, right[..40].to_owned(), "cut short"),
            (KEY, format!("{right}  -"), "whole line"),
            (&KEY.replace('z', "y"), right.clone(), "mistyped"),
            ("k\u{e9}y", right.clone(), "not ASCII"),
            ("qx-unknown", right.clone(), "another key"),
            (KEY, "secret".to_owned(), "not a hash"),
            (KEY, "0".repeat(40), "SHA-1"),
        ] {
            let sentence = says(presented, &stored);
            assert!(sentence.contains(words), "{words}: {sentence}");
            assert!(sentence.starts_with("No match: "), "{sentence}");
        }
    }
}
