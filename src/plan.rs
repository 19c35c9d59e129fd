//! A query plan that a backend keeps, and runs with the snapshot of the command it is called in.

use std::ffi::{CString, c_char};

use pgrx::pg_sys;

use crate::text::Text;

/// Freed when it is dropped.
pub struct Plan(pg_sys::SPIPlanPtr);

/// A row that a plan returns. Valid inside the closure that it is handed to.
pub struct Found {
    tuple: pg_sys::HeapTuple,
    columns: pg_sys::TupleDesc,
}

impl Plan {
    /// Parses a query, in the server's encoding, with parameters of these types.
    pub fn new(query: &[u8], types: &[pg_sys::Oid]) -> Self {
        let query = CString::new(query).unwrap_or_default();
        let mut types = types.to_vec();
        // SAFETY: a kept plan outlives the SPI connection that made it. Errors leave as panics,
        // and the end of the transaction closes the connection.
        unsafe {
            pg_sys::SPI_connect();
            let plan = pg_sys::SPI_prepare(query.as_ptr(), types.len() as i32, types.as_mut_ptr());
            pg_sys::SPI_keepplan(plan);
            pg_sys::SPI_finish();
            Self(plan)
        }
    }

    /// Whether the plan, which has no parameters, returns a row.
    pub fn finds_any(&self) -> bool {
        let mut any = false;
        self.run(&[], |_| any = true);
        any
    }

    /// Runs the plan, reading only, and hands each row to `each`, in the caller's memory context.
    pub fn run(&self, values: &[Option<pg_sys::Datum>], mut each: impl FnMut(&Found)) {
        let mut datums: Vec<pg_sys::Datum> =
            values.iter().map(|value| value.unwrap_or(pg_sys::Datum::null())).collect();
        let nulls: Vec<c_char> =
            values.iter().map(|v| if v.is_some() { b' ' } else { b'n' } as c_char).collect();
        // SAFETY: as many values as the plan has parameters, of its types. The tuple table lives
        // until SPI_finish.
        unsafe {
            let callers = pg_sys::CurrentMemoryContext;
            pg_sys::SPI_connect();
            let read_only = true;
            pg_sys::SPI_execute_plan(self.0, datums.as_mut_ptr(), nulls.as_ptr(), read_only, 0);
            let table = pg_sys::SPI_tuptable;
            pg_sys::MemoryContextSwitchTo(callers);
            for place in 0..pg_sys::SPI_processed as usize {
                each(&Found { tuple: *(*table).vals.add(place), columns: (*table).tupdesc });
            }
            pg_sys::SPI_finish();
        }
    }
}

impl Drop for Plan {
    fn drop(&mut self) {
        // SAFETY: ours alone, and not running.
        unsafe { pg_sys::SPI_freeplan(self.0) };
    }
}

impl Found {
    /// The value of a column, counted from 1; `None` for null.
    pub fn datum(&self, column: i32) -> Option<pg_sys::Datum> {
        let mut is_null = false;
        // SAFETY: tuple and descriptor belong together; SPI checks the number.
        let datum =
            unsafe { pg_sys::SPI_getbinval(self.tuple, self.columns, column, &mut is_null) };
        (!is_null).then_some(datum)
    }

    /// The value of a column of a string type.
    pub fn text(&self, column: i32) -> Option<Text<'_>> {
        // SAFETY: our queries cast such columns to text.
        self.datum(column).map(|datum| unsafe { Text::new(datum) })
    }
}
