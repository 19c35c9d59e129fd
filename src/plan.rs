//! A query plan that a backend keeps, and runs with the snapshot of the command it is called in.

use std::ffi::{CString, c_int};

use pgrx::{PgTupleDesc, pg_guard, pg_sys};

use crate::text::Text;

pub struct Plan {
    /// Freed when this is dropped.
    plan: pg_sys::SPIPlanPtr,
    types: Vec<pg_sys::Oid>,
}

/// A row that a plan returns. Valid inside the closure that it is handed to.
pub struct Found(*mut pg_sys::TupleTableSlot);

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
            Self { plan, types }
        }
    }

    /// Whether the plan, which has no parameters, returns a row.
    pub fn finds_any(&self) -> bool {
        let mut any = false;
        self.run(&[], |_| any = true);
        any
    }

    /// Runs the plan, reading only, and hands each row to `each`, in the caller's memory context.
    ///
    /// The rows come straight from the executor: to gather them in SPI's tuple table first would
    /// take a tenth of a look-up.
    pub fn run(&self, values: &[Option<pg_sys::Datum>], mut each: impl FnMut(&Found)) {
        assert_eq!(values.len(), self.types.len());
        let mut receiver = Receiver {
            callbacks: pg_sys::DestReceiver {
                receiveSlot: Some(receive),
                rStartup: Some(start),
                rShutdown: Some(end),
                rDestroy: Some(end),
                mydest: pg_sys::CommandDest::DestNone,
            },
            each: &mut each,
            // SAFETY: always set.
            context: unsafe { pg_sys::CurrentMemoryContext },
        };
        // SAFETY: as many values as the plan has parameters, of its types. The receiver lives
        // until the plan has run.
        unsafe {
            pg_sys::SPI_connect();
            let options = pg_sys::SPIExecuteOptions {
                params: parameters(values, &self.types),
                read_only: true,
                dest: (&raw mut receiver).cast(),
                ..Default::default()
            };
            pg_sys::SPI_execute_plan_extended(self.plan, &options);
            pg_sys::SPI_finish();
        }
    }
}

impl Drop for Plan {
    fn drop(&mut self) {
        // SAFETY: ours alone, and not running.
        unsafe { pg_sys::SPI_freeplan(self.plan) };
    }
}

/// In the current memory context.
fn parameters(values: &[Option<pg_sys::Datum>], types: &[pg_sys::Oid]) -> pg_sys::ParamListInfo {
    // SAFETY: makeParamList returns room for as many parameters as it is asked for.
    unsafe {
        let list = pg_sys::makeParamList(values.len() as c_int);
        let places = (*list).params.as_mut_slice(values.len());
        for (place, (value, ptype)) in places.iter_mut().zip(values.iter().zip(types)) {
            *place = pg_sys::ParamExternData {
                value: value.unwrap_or(pg_sys::Datum::null()),
                isnull: value.is_none(),
                pflags: pg_sys::PARAM_FLAG_CONST as u16,
                ptype: *ptype,
            };
        }
        list
    }
}

/// What the executor hands rows to.
#[repr(C)]
struct Receiver<'a> {
    /// First, as the executor knows nothing else of it.
    callbacks: pg_sys::DestReceiver,
    each: &'a mut dyn FnMut(&Found),
    context: pg_sys::MemoryContext,
}

#[pg_guard]
unsafe extern "C-unwind" fn receive(
    row: *mut pg_sys::TupleTableSlot,
    receiver: *mut pg_sys::DestReceiver,
) -> bool {
    // SAFETY: the executor passes on the receiver of `Plan::run`, and a row of the query.
    unsafe {
        let receiver = &mut *receiver.cast::<Receiver<'_>>();
        let executors = pg_sys::MemoryContextSwitchTo(receiver.context);
        (receiver.each)(&Found(row));
        pg_sys::MemoryContextSwitchTo(executors);
    }
    true
}

unsafe extern "C-unwind" fn start(_: *mut pg_sys::DestReceiver, _: c_int, _: pg_sys::TupleDesc) {}

unsafe extern "C-unwind" fn end(_: *mut pg_sys::DestReceiver) {}

impl Found {
    /// The value of a column, counted from 1; `None` for null.
    pub fn datum(&self, column: i32) -> Option<pg_sys::Datum> {
        let mut is_null = false;
        // SAFETY: the row is valid, and our queries have the columns that they are asked for.
        let datum = unsafe { pg_sys::slot_getattr(self.0, column, &mut is_null) };
        (!is_null).then_some(datum)
    }

    /// The value of a column of a string type.
    pub fn text(&self, column: i32) -> Option<Text<'_>> {
        // SAFETY: such types have variable length.
        self.datum(column).map(|datum| unsafe { Text::new(datum) })
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

    /// The row, as the executor holds it.
    pub const fn slot(&self) -> *mut pg_sys::TupleTableSlot {
        self.0
    }
}
