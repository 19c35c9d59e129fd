//! An index probe without the executor, whose start and end take longer than the probe itself.
//!
//! It serves where nothing but the index and the privilege on the table decides what is found.

use std::ptr;

use pgrx::{check_for_interrupts, pg_sys};

use crate::found::Found;

/// The lock of a reader; as the executor's, it is kept until the transaction ends.
const LOCK: pg_sys::LOCKMODE = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
const KEEP: pg_sys::LOCKMODE = pg_sys::NoLock as pg_sys::LOCKMODE;

/// Finds the rows that one of several indexes leads to.
pub struct Probe {
    table: pg_sys::Oid,
    indexes: Vec<Index>,
}

/// A btree index, and how its first column is compared.
pub struct Index {
    index: pg_sys::Oid,
    family: pg_sys::Oid,
    key_type: pg_sys::Oid,
    equality: pg_sys::Oid,
}

impl Index {
    pub const fn of_text(index: pg_sys::Oid) -> Self {
        let equality = pg_sys::Oid::from_u32(pg_sys::F_TEXTEQ);
        Self { index, family: pg_sys::TEXT_BTREE_FAM_OID, key_type: pg_sys::TEXTOID, equality }
    }

    pub const fn of_integer(index: pg_sys::Oid) -> Self {
        let equality = pg_sys::Oid::from_u32(pg_sys::F_INT4EQ);
        Self { index, family: pg_sys::INTEGER_BTREE_FAM_OID, key_type: pg_sys::INT4OID, equality }
    }

    /// Whether the index, which is open, may be asked for a value by this transaction.
    unsafe fn serves(&self, index: pg_sys::Relation) -> bool {
        // SAFETY: the relation is an index, as `index_open` has made sure.
        unsafe {
            let index = &*index;
            let state = &*index.rd_index;
            state.indisvalid
                && state.indisready
                && *index.rd_opfamily == self.family
                && *index.rd_opcintype == self.key_type
                && !(state.indcheckxmin && is_too_new(index.rd_indextuple))
        }
    }
}

impl Probe {
    pub const fn new(table: pg_sys::Oid, indexes: Vec<Index>) -> Self {
        Self { table, indexes }
    }

    /// Hands each row to `each` that has one of the values in the column of the value's index, as
    /// the command's snapshot sees it. Returns false, having handed over none, where it takes the
    /// executor: for rows elsewhere than in this table, for columns that are worked out when they
    /// are read, for row-level security, privileges on columns, modules that watch over privileges
    /// or have a part in planning, for an index that does not serve (yet).
    ///
    /// The caller has locked the table, and looked after that for what has changed: no index that
    /// it knows goes away any more.
    pub fn run(&self, values: &[pg_sys::Datum], each: &mut dyn FnMut(&Found)) -> bool {
        assert_eq!(values.len(), self.indexes.len());
        // SAFETY: what is opened is closed here, or after an error by the end of the transaction.
        unsafe {
            let table = pg_sys::table_open(self.table, KEEP);
            let mut serves = is_plain(table) && may_select(self.table) && !is_elsewhere();
            if serves {
                let open = |known: &Index| pg_sys::index_open(known.index, LOCK);
                let indexes: Vec<_> = self.indexes.iter().map(open).collect();
                serves = self.indexes.iter().zip(&indexes).all(|(known, &one)| known.serves(one));
                if serves {
                    self.scan(table, &indexes, values, each);
                }
                for index in indexes {
                    pg_sys::index_close(index, KEEP);
                }
            }
            pg_sys::table_close(table, KEEP);
            serves
        }
    }

    unsafe fn scan(
        &self,
        table: pg_sys::Relation,
        indexes: &[pg_sys::Relation],
        values: &[pg_sys::Datum],
        each: &mut dyn FnMut(&Found),
    ) {
        let mut earlier: Vec<pg_sys::ItemPointerData> = Vec::new();
        // SAFETY: the relations are open and belong together, and each value is of the type that
        // its index compares. A query is running, so there is a snapshot.
        unsafe {
            let snapshot = pg_sys::GetActiveSnapshot();
            let slot = pg_sys::table_slot_create(table, ptr::null_mut());
            for (i, known) in self.indexes.iter().enumerate() {
                let mut key = pg_sys::ScanKeyData::default();
                pg_sys::ScanKeyEntryInitialize(
                    &mut key,
                    0,
                    1,
                    pg_sys::BTEqualStrategyNumber as pg_sys::StrategyNumber,
                    pg_sys::InvalidOid,
                    *(*indexes[i]).rd_indcollation,
                    known.equality,
                    values[i],
                );
                let scan = begin(table, indexes[i], snapshot);
                pg_sys::index_rescan(scan, &mut key, 1, ptr::null_mut(), 0);
                let forward = pg_sys::ScanDirection::ForwardScanDirection;
                while pg_sys::index_getnext_slot(scan, forward, slot) {
                    check_for_interrupts!();
                    let place = (*slot).tts_tid;
                    if !earlier.iter().any(|other| is_same(other, &place)) {
                        each(&Found::new(slot));
                    }
                    if i + 1 < indexes.len() {
                        earlier.push(place);
                    }
                }
                pg_sys::index_endscan(scan);
            }
            pg_sys::ExecDropSingleTupleTableSlot(slot);
        }
    }
}

unsafe fn begin(
    table: pg_sys::Relation,
    index: pg_sys::Relation,
    snapshot: pg_sys::Snapshot,
) -> pg_sys::IndexScanDesc {
    // SAFETY: passed on.
    unsafe {
        #[cfg(feature = "pg18")]
        return pg_sys::index_beginscan(table, index, snapshot, ptr::null_mut(), 1, 0);
        #[cfg(not(feature = "pg18"))]
        pg_sys::index_beginscan(table, index, snapshot, 1, 0)
    }
}

fn is_same(one: &pg_sys::ItemPointerData, other: &pg_sys::ItemPointerData) -> bool {
    let parts = |p: &pg_sys::ItemPointerData| (p.ip_blkid.bi_hi, p.ip_blkid.bi_lo, p.ip_posid);
    parts(one) == parts(other)
}

/// Whether the table holds all its rows itself, as they are, and shows all of them to whoever may
/// read it.
unsafe fn is_plain(table: pg_sys::Relation) -> bool {
    // SAFETY: the table is open.
    let (form, columns) = unsafe { (&*(*table).rd_rel, &*(*table).rd_att) };
    form.relkind.cast_unsigned() == pg_sys::RELKIND_RELATION
        && form.relpersistence.cast_unsigned() == pg_sys::RELPERSISTENCE_PERMANENT
        && form.relam == pg_sys::HEAP_TABLE_AM_OID
        && !form.relhassubclass
        && !form.relrowsecurity
        && !computes(columns)
}

/// Whether a column is worked out by the planner when it is read.
#[cfg(feature = "pg18")]
fn computes(columns: &pg_sys::TupleDescData) -> bool {
    // SAFETY: null or valid.
    unsafe { columns.constr.as_ref() }.is_some_and(|constraints| constraints.has_generated_virtual)
}

#[cfg(not(feature = "pg18"))]
const fn computes(_: &pg_sys::TupleDescData) -> bool {
    false
}

/// Whether a module may have the planner read a table in another way, or another table for it.
fn is_elsewhere() -> bool {
    // SAFETY: reads variables of the server.
    unsafe {
        (&raw const pg_sys::set_rel_pathlist_hook).read().is_some()
            || (&raw const pg_sys::get_relation_info_hook).read().is_some()
    }
}

fn may_select(table: pg_sys::Oid) -> bool {
    // SAFETY: reads a variable of the server, and the catalogue.
    unsafe {
        (&raw const pg_sys::ExecutorCheckPerms_hook).read().is_none()
            && pg_sys::pg_class_aclcheck(
                table,
                pg_sys::GetUserId(),
                pg_sys::ACL_SELECT as pg_sys::AclMode,
            ) == pg_sys::AclResult::ACLCHECK_OK
    }
}

/// Whether an index that was built over broken HOT chains is younger than a snapshot in use, which
/// may see rows that it does not lead to. (The planner passes such an index over too.)
unsafe fn is_too_new(row: pg_sys::HeapTuple) -> bool {
    // SAFETY: the index's row in pg_index, which the cache of relations keeps.
    unsafe {
        let header = &*(*row).t_data;
        let frozen = pg_sys::HEAP_XMIN_FROZEN as u16;
        header.t_infomask & frozen != frozen
            && !pg_sys::TransactionIdPrecedes(
                header.t_choice.t_heap.t_xmin,
                (&raw const pg_sys::TransactionXmin).read(),
            )
    }
}
