//! Names of tables and columns: bytes in the server's encoding, which need not be UTF-8.

use std::ffi::{CStr, c_char};

use pgrx::pg_sys;

/// The name as SQL writes it, in quotes where it needs them.
pub fn quoted(name: &CStr) -> Vec<u8> {
    // SAFETY: a C string; the result is the argument or a fresh copy.
    unsafe { CStr::from_ptr(pg_sys::quote_identifier(name.as_ptr())) }.to_bytes().to_vec()
}

/// A table's or view's name, as SQL writes it.
pub fn of_relation(relation: pg_sys::Oid) -> Vec<u8> {
    // SAFETY: look-ups in catalogues.
    let (schema, name) =
        unsafe { (pg_sys::get_rel_namespace(relation), pg_sys::get_rel_name(relation)) };
    // SAFETY: a fresh C string, or null where there is none.
    let name = unsafe { or_nameless(name) };
    [of_schema(schema), b".".to_vec(), quoted(name)].concat()
}

/// A schema's name, as SQL writes it.
pub fn of_schema(schema: pg_sys::Oid) -> Vec<u8> {
    // SAFETY: a fresh C string, or null where there is none.
    quoted(unsafe { or_nameless(pg_sys::get_namespace_name(schema)) })
}

/// What was dropped a moment ago has no name: what is made with this one fails as it should.
unsafe fn or_nameless<'a>(name: *const c_char) -> &'a CStr {
    // SAFETY: the caller's promise.
    if name.is_null() { c"" } else { unsafe { CStr::from_ptr(name) } }
}

/// The name for a message, which Rust builds as UTF-8: any other byte becomes a question mark.
pub fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name).replace(char::REPLACEMENT_CHARACTER, "?")
}
