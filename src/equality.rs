//! How a column of a string type is compared, so that an index of it serves.

use std::ffi::{CStr, c_char};

use pgrx::{pg_extern, pg_sys};

use crate::name::quoted;
use crate::text::NewText;

/// The operator of the type's default btree class, and the type of its right side.
#[pg_extern(sql = false)]
fn api_key_equality(string_type: pg_sys::Oid) -> Option<NewText> {
    let wanted = pg_sys::TYPECACHE_BTREE_OPFAMILY | pg_sys::TYPECACHE_EQ_OPR;
    let flags = pg_sys::FORMAT_TYPE_FORCE_QUALIFY | pg_sys::FORMAT_TYPE_TYPEMOD_GIVEN;
    // SAFETY: look-ups in the catalogue, whose results live as long as this call.
    unsafe {
        let known = &*pg_sys::lookup_type_cache(string_type, wanted as i32);
        let row = pg_sys::SearchSysCache1(
            pg_sys::SysCacheIdentifier::OPEROID as i32,
            pg_sys::Datum::from(known.eq_opr),
        );
        if row.is_null() {
            return None;
        }
        let operator = pg_sys::GETSTRUCT(row).cast::<pg_sys::FormData_pg_operator>();
        let schema = quoted(CStr::from_ptr(pg_sys::get_namespace_name((*operator).oprnamespace)));
        let name = CStr::from_ptr((*operator).oprname.data.as_ptr().cast::<c_char>()).to_bytes();
        let side = pg_sys::format_type_extended(known.btree_opintype, -1, flags as u16);
        let side = CStr::from_ptr(side).to_bytes();
        let text = [b"OPERATOR(", schema.as_slice(), b".", name, b") $::", side].concat();
        pg_sys::ReleaseSysCache(row);
        Some(NewText::new(&text))
    }
}
