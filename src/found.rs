//! A row that a look-up came upon.

use pgrx::{PgTupleDesc, pg_sys};

use crate::text::Text;

/// Valid inside the closure that it is handed to.
pub struct Found(*mut pg_sys::TupleTableSlot);

impl Found {
    /// # Safety
    /// The slot holds a row.
    pub const unsafe fn new(slot: *mut pg_sys::TupleTableSlot) -> Self {
        Self(slot)
    }

    /// The value of a column, counted from 1; `None` for null.
    pub fn datum(&self, column: i32) -> Option<pg_sys::Datum> {
        let (values, nulls) = self.all();
        let place = column as usize - 1;
        assert!(place < self.columns().len());
        // SAFETY: just seen.
        unsafe { if *nulls.add(place) { None } else { Some(*values.add(place)) } }
    }

    /// The value of a column of a string type; `None` for null, and for a type of fixed length.
    ///
    /// Whoever creates a trigger by hand names its columns as he likes, and a type may change.
    pub fn text(&self, column: i32) -> Option<Text<'_>> {
        let datum = self.datum(column)?;
        let has_variable_length = self.columns().get(column as usize - 1)?.attlen == -1;
        // SAFETY: just seen.
        has_variable_length.then(|| unsafe { Text::new(datum) })
    }

    /// Whether a column is a `char(n)` or a domain over one.
    pub fn is_padded(&self, column: i32) -> bool {
        let columns = self.columns();
        let is_padded = |declared| match declared {
            pg_sys::TEXTOID | pg_sys::VARCHAROID => false,
            // SAFETY: a catalogue look-up.
            _ => unsafe { pg_sys::getBaseType(declared) == pg_sys::BPCHAROID },
        };
        columns.get(column as usize - 1).is_some_and(|column| is_padded(column.atttypid))
    }

    pub fn columns(&self) -> PgTupleDesc<'_> {
        // SAFETY: the row is valid, and so is its descriptor.
        unsafe { PgTupleDesc::from_pg_unchecked((*self.0).tts_tupleDescriptor) }
    }

    /// The values of all columns, and which of them are null: as many as there are columns.
    ///
    /// Also of those that were added with a default after the row was written.
    pub fn all(&self) -> (*mut pg_sys::Datum, *mut bool) {
        // SAFETY: the row is valid, and fills the two arrays as long as it is.
        unsafe {
            let row = self.0;
            if i32::from((*row).tts_nvalid) < (*(*row).tts_tupleDescriptor).natts {
                pg_sys::slot_getallattrs(row);
            }
            ((*row).tts_values, (*row).tts_isnull)
        }
    }
}
