//! A query plan that a backend keeps, and runs with the snapshot of the command it is called in.

use std::cell::OnceCell;
use std::ffi::{CString, c_int};

use pgrx::{pg_guard, pg_sys};

use crate::found::Found;

pub struct Plan {
    /// Freed when this is dropped.
    plan: pg_sys::SPIPlanPtr,
    types: Vec<pg_sys::Oid>,
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
            Self { plan, types }
        }
    }

    /// Whether the plan, which has no parameters, returns a row.
    pub fn finds_any(&self) -> bool {
        let mut any = false;
        self.run(&[], &mut |_| any = true);
        any
    }

    /// Runs the plan, reading only, and hands each row to `each`, in the caller's memory context.
    ///
    /// The rows come straight from the executor: to gather them in SPI's tuple table first would
    /// take a tenth of a look-up.
    pub fn run(&self, values: &[pg_sys::Datum], each: &mut dyn FnMut(&Found)) {
        assert_eq!(values.len(), self.types.len());
        let mut receiver = Receiver {
            callbacks: pg_sys::DestReceiver {
                receiveSlot: Some(receive),
                rStartup: Some(start),
                rShutdown: Some(end),
                rDestroy: Some(end),
                mydest: pg_sys::CommandDest::DestNone,
            },
            each,
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

/// A query that is parsed when it is first needed.
pub struct Lazy {
    query: Vec<u8>,
    types: &'static [pg_sys::Oid],
    plan: OnceCell<Plan>,
}

impl Lazy {
    pub const fn new(query: Vec<u8>, types: &'static [pg_sys::Oid]) -> Self {
        Self { query, types, plan: OnceCell::new() }
    }

    pub fn get(&self) -> &Plan {
        self.plan.get_or_init(|| Plan::new(&self.query, self.types))
    }
}

/// In the current memory context.
fn parameters(values: &[pg_sys::Datum], types: &[pg_sys::Oid]) -> pg_sys::ParamListInfo {
    // SAFETY: makeParamList returns room for as many parameters as it is asked for.
    unsafe {
        let list = pg_sys::makeParamList(values.len() as c_int);
        let places = (*list).params.as_mut_slice(values.len());
        for (place, (&value, &ptype)) in places.iter_mut().zip(values.iter().zip(types)) {
            let pflags = pg_sys::PARAM_FLAG_CONST as u16;
            *place = pg_sys::ParamExternData { value, isnull: false, pflags, ptype };
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
        (receiver.each)(&Found::new(row));
        pg_sys::MemoryContextSwitchTo(executors);
    }
    true
}

unsafe extern "C-unwind" fn start(_: *mut pg_sys::DestReceiver, _: c_int, _: pg_sys::TupleDesc) {}

unsafe extern "C-unwind" fn end(_: *mut pg_sys::DestReceiver) {}
