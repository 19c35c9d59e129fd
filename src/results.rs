//! The rows that `find_by_api_key` returns.

use pgrx::{PgSqlErrorCode, PgTupleDesc, pg_sys};

use crate::error::refuse;
use crate::found::Found;

/// The rows that a call returns.
pub struct Rows {
    store: *mut pg_sys::Tuplestorestate,
    columns: pg_sys::TupleDesc,
}

impl Rows {
    /// # Safety
    /// The store and the descriptor are those of a set-returning call that is running.
    pub const unsafe fn new(
        store: *mut pg_sys::Tuplestorestate,
        columns: pg_sys::TupleDesc,
    ) -> Self {
        Self { store, columns }
    }

    pub fn put(&self, found: &Found) {
        let (values, nulls) = self.fitting(found);
        // SAFETY: the store is this call's, and the row fits.
        unsafe { pg_sys::tuplestore_putvalues(self.store, self.columns, values, nulls) };
    }

    /// A copy in the current memory context, to be put later.
    pub fn copy(&self, found: &Found) -> pg_sys::HeapTuple {
        let (values, nulls) = self.fitting(found);
        // SAFETY: the row fits.
        unsafe { pg_sys::heap_form_tuple(self.columns, values, nulls) }
    }

    pub fn put_copy(&self, row: pg_sys::HeapTuple) {
        // SAFETY: `copy` made it.
        unsafe { pg_sys::tuplestore_puttuple(self.store, row) };
    }

    /// The values of a row, and which of them are null.
    ///
    /// The command may have been planned before the columns changed; new ones do not disturb it.
    /// What an old row still holds of a column that was dropped goes nowhere.
    fn fitting(&self, found: &Found) -> (*mut pg_sys::Datum, *mut bool) {
        // SAFETY: the store's descriptor lives as long as the call.
        let wanted = unsafe { PgTupleDesc::from_pg_unchecked(self.columns) };
        let columns = found.columns();
        let (values, nulls) = found.all();
        let mut fits = columns.len() >= wanted.len();
        for (i, (column, wanted)) in columns.iter().zip(wanted.iter()).enumerate() {
            if wanted.attisdropped {
                // SAFETY: one of the row's columns.
                unsafe { *nulls.add(i) = true };
            } else {
                fits &= column.atttypid == wanted.atttypid;
            }
        }
        if !fits {
            refuse(
                PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
                "the columns of the table changed while find_by_api_key was called",
                "Call it again.",
            );
        }
        (values, nulls)
    }
}
