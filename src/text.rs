//! Text that crosses the border to SQL, as bytes.
//!
//! pgrx's `&str` would panic on what is not UTF-8, and leaves a decompressed copy of a key behind.

use std::marker::PhantomData;
use std::slice;

use pgrx::callconv::{Arg, ArgAbi, BoxRet, FcInfo};
use pgrx::datum::Datum;
use pgrx::{FromDatum, IntoDatum, impl_sql_translatable, pg_sys, varlena};
use zeroize::Zeroize;

/// A value of a string type, read in place; a decompressed copy is wiped when this is dropped.
pub struct Text<'a> {
    plain: *mut pg_sys::varlena,
    is_copy: bool,
    lifetime: PhantomData<&'a [u8]>,
}

impl Text<'_> {
    /// # Safety
    /// `datum` is a non-null value of a variable-length type that outlives the result.
    pub unsafe fn new(datum: pg_sys::Datum) -> Self {
        let stored = datum.cast_mut_ptr();
        // SAFETY: by this function's contract. Few values are compressed or stored elsewhere, and
        // only they are worth a call.
        let plain = unsafe {
            if varlena::varatt_is_4b_c(stored) || varlena::varatt_is_1b_e(stored) {
                pg_sys::pg_detoast_datum_packed(stored)
            } else {
                stored
            }
        };
        Self { plain, is_copy: plain != stored, lifetime: PhantomData }
    }

    pub fn as_bytes(&self) -> &[u8] {
        // SAFETY: detoasted in `new`, and alive as long as `self`.
        unsafe { varlena::varlena_to_byte_slice(self.plain) }
    }

    /// The bytes, without the blanks that pad a `char(n)` if it is one.
    pub fn trimmed(&self, is_padded: bool) -> &[u8] {
        let mut bytes = self.as_bytes();
        while is_padded && let [rest @ .., b' '] = bytes {
            bytes = rest;
        }
        bytes
    }

    /// The bytes as a name; one that isn't UTF-8 names nothing we know.
    pub fn as_name(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }
}

impl Drop for Text<'_> {
    fn drop(&mut self) {
        if self.is_copy {
            let bytes = self.as_bytes();
            let (start, len) = (bytes.as_ptr().cast_mut(), bytes.len());
            // SAFETY: the copy is ours alone: palloc'ed in `new`, and lent to nobody any more.
            unsafe {
                slice::from_raw_parts_mut(start, len).zeroize();
                pg_sys::pfree(self.plain.cast());
            }
        }
    }
}

impl FromDatum for Text<'_> {
    unsafe fn from_polymorphic_datum(
        datum: pg_sys::Datum,
        is_null: bool,
        _: pg_sys::Oid,
    ) -> Option<Self> {
        // SAFETY: PostgreSQL calls our functions with the types that they are declared with.
        if is_null { None } else { Some(unsafe { Self::new(datum) }) }
    }
}

// SAFETY: every argument of this Rust type is declared `text` in sql/.
unsafe impl<'fcx> ArgAbi<'fcx> for Text<'fcx> {
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
        // SAFETY: the caller vouches for a non-null text.
        match unsafe { arg.unbox_arg_using_from_datum() } {
            Some(text) => text,
            None => unreachable!("null for an argument of a strict function"),
        }
    }
}

impl_sql_translatable!(Text<'_>, "text");

/// A `text[]`, read in place; a decompressed copy is wiped when this is dropped.
pub struct TextArray<'a> {
    /// Keeps the elements alive; its bytes are the array's.
    _array: Text<'a>,
    elements: Vec<Option<pg_sys::Datum>>,
}

impl TextArray<'_> {
    /// The elements in storage order, whatever the array's dimensions.
    pub fn iter(&self) -> impl Iterator<Item = Option<Text<'_>>> {
        // SAFETY: texts inside an array are never toasted, and live as long as it.
        self.elements.iter().map(|datum| datum.map(|text| unsafe { Text::new(text) }))
    }
}

impl FromDatum for TextArray<'_> {
    unsafe fn from_polymorphic_datum(
        datum: pg_sys::Datum,
        is_null: bool,
        _: pg_sys::Oid,
    ) -> Option<Self> {
        if is_null {
            return None;
        }
        let (mut datums, mut nulls, mut count) = (std::ptr::null_mut(), std::ptr::null_mut(), 0);
        // SAFETY: declared `text[]` in sql/. `deconstruct_array` allocates what it returns.
        unsafe {
            let stored = datum.cast_mut_ptr();
            let plain = pg_sys::pg_detoast_datum(stored);
            let array = Text { plain, is_copy: plain != stored, lifetime: PhantomData };
            let (align, by_value) = (pg_sys::TYPALIGN_INT as std::ffi::c_char, false);
            let (list, flags) = (&raw mut datums, &raw mut nulls);
            let (text, length) = (pg_sys::TEXTOID, -1);
            pg_sys::deconstruct_array(
                plain.cast(),
                text,
                length,
                by_value,
                align,
                list,
                flags,
                &mut count,
            );
            let place = 0..usize::try_from(count).unwrap_or(0);
            let element = |i| if *nulls.add(i) { None } else { Some(*datums.add(i)) };
            Some(Self { _array: array, elements: place.map(element).collect() })
        }
    }
}

// SAFETY: every argument of this Rust type is declared `text[]` in sql/.
unsafe impl<'fcx> ArgAbi<'fcx> for TextArray<'fcx> {
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
        // SAFETY: the caller vouches for a non-null array.
        match unsafe { arg.unbox_arg_using_from_datum() } {
            Some(array) => array,
            None => unreachable!("null for an argument of a strict function"),
        }
    }
}

impl_sql_translatable!(TextArray<'_>, "text[]");

/// A new text in the current memory context, for PostgreSQL to keep.
pub struct NewText(pg_sys::Datum);

impl NewText {
    pub fn new(bytes: &[u8]) -> Self {
        // SAFETY: palloc returns room for the header and the bytes, or raises an error.
        unsafe {
            let size = pg_sys::VARHDRSZ + bytes.len();
            let text: *mut pg_sys::varlena = pg_sys::palloc(size).cast();
            varlena::set_varsize_4b(text, size as i32);
            let data = varlena::vardata_4b(text).cast_mut().cast::<u8>();
            data.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
            Self(pg_sys::Datum::from(text))
        }
    }

    pub const fn datum(&self) -> pg_sys::Datum {
        self.0
    }
}

// SAFETY: every result of this Rust type is declared `text` in sql/.
unsafe impl BoxRet for NewText {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> Datum<'fcx> {
        // SAFETY: the datum points to a text that lives in the caller's memory context.
        unsafe { fcinfo.return_raw_datum(self.0) }
    }
}

impl IntoDatum for NewText {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        Some(self.0)
    }

    fn type_oid() -> pg_sys::Oid {
        pg_sys::TEXTOID
    }
}

impl_sql_translatable!(NewText, "text");
