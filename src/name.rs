//! Names of tables and columns: bytes in the server's encoding, which need not be UTF-8.

use std::ffi::CStr;

use pgrx::pg_sys;

/// The name as SQL writes it, in quotes where it needs them.
pub fn quoted(name: &CStr) -> Vec<u8> {
    // SAFETY: a C string; the result is the argument or a fresh copy.
    unsafe { CStr::from_ptr(pg_sys::quote_identifier(name.as_ptr())) }.to_bytes().to_vec()
}

/// The name for a message, which Rust builds as UTF-8: any other byte becomes a question mark.
pub fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name).replace(char::REPLACEMENT_CHARACTER, "?")
}
