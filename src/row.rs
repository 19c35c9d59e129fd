//! The row that a BEFORE ROW trigger is about to write, and what the trigger makes of it.

use std::ffi::CStr;
use std::slice;

use pgrx::callconv::{BoxRet, FcInfo};
use pgrx::datum::Datum;
use pgrx::{impl_sql_translatable, pg_sys};

use crate::text::Text;

/// A BEFORE ROW INSERT or UPDATE in progress.
pub struct Row<'a> {
    data: &'a pg_sys::TriggerData,
    trigger: &'a pg_sys::Trigger,
    columns: pg_sys::TupleDesc,
    new: pg_sys::HeapTuple,
    /// The row as it was, in an UPDATE.
    old: Option<pg_sys::HeapTuple>,
}

/// A column by its number, known to exist in the row.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Column(i32);

/// The row to write, or rather PostgreSQL's pointer to it.
pub struct NewRow(pg_sys::HeapTuple);

impl<'a> Row<'a> {
    /// `None` unless PostgreSQL called for a BEFORE ROW INSERT or UPDATE trigger.
    ///
    /// # Safety
    /// `call` is what PostgreSQL handed to a function declared `RETURNS trigger`.
    pub unsafe fn from_call(call: pg_sys::FunctionCallInfo) -> Option<Self> {
        // SAFETY: by contract; the manager of triggers sets `context` to a TriggerData.
        unsafe {
            let node = (*call).context;
            if node.is_null() || (*node).type_ != pg_sys::NodeTag::T_TriggerData {
                return None;
            }
            let data = &*node.cast::<pg_sys::TriggerData>();
            let trigger = data.tg_trigger.as_ref()?;
            let event = data.tg_event;
            let before_row = event & pg_sys::TRIGGER_EVENT_ROW != 0
                && event & pg_sys::TRIGGER_EVENT_TIMINGMASK == pg_sys::TRIGGER_EVENT_BEFORE;
            let (new, old) = match event & pg_sys::TRIGGER_EVENT_OPMASK {
                pg_sys::TRIGGER_EVENT_INSERT if before_row => (data.tg_trigtuple, None),
                pg_sys::TRIGGER_EVENT_UPDATE if before_row => {
                    (data.tg_newtuple, Some(data.tg_trigtuple))
                }
                _ => return None,
            };
            Some(Self { data, trigger, columns: (*data.tg_relation).rd_att, new, old })
        }
    }

    pub const fn is_insert(&self) -> bool {
        self.old.is_none()
    }

    pub fn table_name(&self) -> &CStr {
        // SAFETY: the relation is open while its trigger runs.
        unsafe { CStr::from_ptr((*(*self.data.tg_relation).rd_rel).relname.data.as_ptr()) }
    }

    pub fn schema_name(&self) -> &CStr {
        // SAFETY: as above; the schema of an open table exists. The result is a copy that lives
        // as long as the trigger runs.
        unsafe {
            let schema = (*(*self.data.tg_relation).rd_rel).relnamespace;
            CStr::from_ptr(pg_sys::get_namespace_name(schema))
        }
    }

    pub fn table_owner(&self) -> pg_sys::Oid {
        // SAFETY: as above.
        unsafe { (*(*self.data.tg_relation).rd_rel).relowner }
    }

    pub fn table_id(&self) -> pg_sys::Oid {
        // SAFETY: the relation is open while its trigger runs.
        unsafe { (*self.data.tg_relation).rd_id }
    }

    /// The arguments that CREATE TRIGGER gave.
    pub fn arguments(&self) -> impl Iterator<Item = &'a CStr> {
        let count = usize::try_from(self.trigger.tgnargs).unwrap_or(0);
        let list = if count == 0 {
            &[]
        } else {
            // SAFETY: PostgreSQL keeps `tgnargs` C strings there.
            unsafe { slice::from_raw_parts(self.trigger.tgargs, count) }
        };
        // SAFETY: as above.
        list.iter().map(|&argument| unsafe { CStr::from_ptr(argument) })
    }

    pub fn column(&self, name: &CStr) -> Option<Column> {
        // SAFETY: a valid descriptor and C string; negative numbers are system columns or none.
        let number = unsafe { pg_sys::SPI_fnumber(self.columns, name.as_ptr()) };
        (number > 0).then_some(Column(number))
    }

    pub fn column_name(&self, column: Column) -> &CStr {
        // SAFETY: a `Column` exists in the descriptor; the result is such a copy too.
        unsafe { CStr::from_ptr(pg_sys::SPI_fname(self.columns, column.0)) }
    }

    /// The column's type, or the one that its domain stands on.
    pub fn base_type(&self, column: Column) -> pg_sys::Oid {
        // SAFETY: a `Column` exists in the descriptor.
        unsafe {
            let declared = pg_sys::SPI_gettypeid(self.columns, column.0);
            if matches!(declared, pg_sys::TEXTOID | pg_sys::VARCHAROID) {
                declared
            } else {
                pg_sys::getBaseType(declared)
            }
        }
    }

    /// The new value of a column of a string type.
    ///
    /// # Safety
    /// The column's base type has variable length.
    pub unsafe fn new_text(&self, column: Column) -> Option<Text<'a>> {
        // SAFETY: passed on.
        unsafe { self.text(self.new, column) }
    }

    /// The value before the UPDATE; `None` for null and in an INSERT.
    ///
    /// # Safety
    /// The column's base type has variable length.
    pub unsafe fn old_text(&self, column: Column) -> Option<Text<'a>> {
        // SAFETY: passed on.
        unsafe { self.text(self.old?, column) }
    }

    unsafe fn text(&self, tuple: pg_sys::HeapTuple, column: Column) -> Option<Text<'a>> {
        let mut is_null = false;
        // SAFETY: tuple, descriptor and column belong together; the type is the caller's promise.
        unsafe {
            let datum = pg_sys::SPI_getbinval(tuple, self.columns, column.0, &mut is_null);
            if is_null { None } else { Some(Text::new(datum)) }
        }
    }

    /// The row with some columns replaced (`None` is null), in one copy.
    ///
    /// # Safety
    /// Each datum is of its column's type.
    pub unsafe fn replace<const N: usize>(
        self,
        columns: [Column; N],
        values: [Option<pg_sys::Datum>; N],
    ) -> NewRow {
        let mut numbers = columns.map(|column| column.0);
        let mut nulls = values.map(|value| value.is_none());
        let mut datums = values.map(|value| value.unwrap_or(pg_sys::Datum::null()));
        // SAFETY: N of each; the tuple and the descriptor belong together.
        NewRow(unsafe {
            pg_sys::heap_modify_tuple_by_cols(
                self.new,
                self.columns,
                N as i32,
                numbers.as_mut_ptr(),
                datums.as_mut_ptr(),
                nulls.as_mut_ptr(),
            )
        })
    }

    pub fn unchanged(self) -> NewRow {
        NewRow(self.new)
    }
}

// SAFETY: a trigger returns the bare pointer to its tuple, and never sets the null flag.
unsafe impl BoxRet for NewRow {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> Datum<'fcx> {
        // SAFETY: the tuple lives in the executor's memory context.
        unsafe { fcinfo.return_raw_datum(pg_sys::Datum::from(self.0)) }
    }
}

impl_sql_translatable!(NewRow, "trigger");
