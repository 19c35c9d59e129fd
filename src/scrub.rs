//! Zeroing the bytes of a page that no tuple owns any more.
//!
//! VACUUM moves the tuples of a page together and leaves what the dead ones held in the hole
//! between the line pointers and the tuples. A generic WAL record zeroes that hole, here and
//! wherever it is replayed; that is how `GenericXLogFinish` and its redo are defined. Only heap,
//! btree and hash pages are touched: of other access methods not every page keeps a hole. The
//! record carries the whole page, so that a replica ends with the same bytes whatever its own
//! hint bits and padding were.

use std::slice;

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{
    PgLogLevel, PgRelation, PgSqlErrorCode, check_for_interrupts, function_name, name, pg_extern,
    pg_sys,
};

use pgrx::iter::TableIterator;

const PAGE_SIZE: usize = pg_sys::BLCKSZ as usize;

/// What a walk over a relation's pages has met.
#[derive(Default)]
struct Walk {
    pages: i64,
    /// Pages with bytes that no tuple owns. They are zeroed, if the walk is to scrub.
    dirty: i64,
    /// Dead rows that hold a key and wait for VACUUM (heap), or entries that hold one (index).
    residues: i64,
}

/// Walks over the pages of a table, a TOAST table or an index, and counts what still holds a
/// value of the column with the number `key` (0: of none). Scrubs the dirty pages if `scrub` says
/// so, and the clean ones too if `every` does.
#[pg_extern(sql = false)]
fn api_key_scrub_pages(
    relation: pg_sys::Oid,
    key: i32,
    scrub: bool,
    every: bool,
) -> TableIterator<'static, (name!(pages, i64), name!(dirty, i64), name!(residues, i64))> {
    let task = match (scrub, every) {
        (false, _) => Task::Count,
        (true, false) => Task::ScrubDirty,
        (true, true) => Task::ScrubAll,
    };
    let walk = Pages::open(relation, key, task).walk();
    TableIterator::once((walk.pages, walk.dirty, walk.residues))
}

#[derive(Clone, Copy, PartialEq)]
enum Task {
    Count,
    ScrubDirty,
    /// A page that is clean here need not be so on every replica, after a failover.
    ScrubAll,
}

impl Task {
    /// While a table is scrubbed, VACUUM and DDL wait. Counting works on a standby too.
    fn table_lock(self) -> u32 {
        if self == Self::Count { pg_sys::AccessShareLock } else { pg_sys::ShareUpdateExclusiveLock }
    }

    fn buffer_lock(self) -> u32 {
        if self == Self::Count { pg_sys::BUFFER_LOCK_SHARE } else { pg_sys::BUFFER_LOCK_EXCLUSIVE }
    }
}

/// An open relation. Readers and writers go on.
struct Pages {
    relation: PgRelation,
    kind: Kind,
    /// The number of the column that holds keys, or 0.
    key: i32,
    task: Task,
}

/// The access methods whose pages all keep a hole.
enum Kind {
    Heap,
    Btree,
    /// Holds no values, only codes of them.
    Hash,
}

impl Pages {
    fn open(relation: pg_sys::Oid, key: i32, task: Task) -> Self {
        // SAFETY: raises an ERROR if there is no such relation.
        let relation =
            unsafe { PgRelation::with_lock(relation, task.table_lock() as pg_sys::LOCKMODE) };
        // SAFETY: the relation is open.
        let class = unsafe { &*relation.rd_rel };
        // SAFETY: look-ups of roles.
        if !unsafe { pg_sys::has_privs_of_role(pg_sys::GetUserId(), class.relowner) } {
            let message = format!("must be owner of relation {}", relation.name());
            refuse(PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE, message);
        }
        let kind = match class.relkind as u8 {
            pg_sys::RELKIND_RELATION | pg_sys::RELKIND_TOASTVALUE
                if class.relam == pg_sys::HEAP_TABLE_AM_OID =>
            {
                Kind::Heap
            }
            pg_sys::RELKIND_INDEX if class.relam == pg_sys::BTREE_AM_OID => Kind::Btree,
            pg_sys::RELKIND_INDEX if class.relam == pg_sys::HASH_AM_OID => Kind::Hash,
            _ => {
                let message =
                    format!("pages of relation \"{}\" can't be scrubbed", relation.name());
                refuse(PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE, message)
            }
        };
        if !(0..=i32::from(class.relnatts)).contains(&key) {
            let message = format!("relation \"{}\" has no column number {key}", relation.name());
            refuse(PgSqlErrorCode::ERRCODE_UNDEFINED_COLUMN, message);
        }
        Self { relation, kind, key, task }
    }

    fn walk(&self) -> Walk {
        let mut walk = Walk::default();
        let relation = self.relation.as_ptr();
        // SAFETY: the relation is open and locked; each buffer is pinned and locked while its
        // page is looked at. On an error PostgreSQL releases buffers and locks.
        unsafe {
            let fork = pg_sys::ForkNumber::MAIN_FORKNUM;
            let blocks = pg_sys::RelationGetNumberOfBlocksInFork(relation, fork);
            let strategy = pg_sys::GetAccessStrategy(pg_sys::BufferAccessStrategyType::BAS_VACUUM);
            // Of an index nobody may ask for it.
            let horizon = match self.kind {
                Kind::Heap => pg_sys::GetOldestNonRemovableTransactionId(relation),
                Kind::Btree | Kind::Hash => pg_sys::InvalidTransactionId,
            };
            for block in 0..blocks {
                check_for_interrupts!();
                let normal = pg_sys::ReadBufferMode::RBM_NORMAL;
                let buffer = pg_sys::ReadBufferExtended(relation, fork, block, normal, strategy);
                pg_sys::LockBuffer(buffer, self.task.buffer_lock() as i32);
                walk.pages += 1;
                if let Some(page) = Page::new(pg_sys::BufferGetPage(buffer).cast()) {
                    let holds_key = |item: &Item| match self.kind {
                        Kind::Heap => self.is_dead_with_key(item, buffer, block, horizon),
                        Kind::Btree => item.index_entry_holds(self.key),
                        Kind::Hash => false,
                    };
                    if self.key > 0 && (!matches!(self.kind, Kind::Btree) || page.is_in_btree()) {
                        walk.residues += page.items().filter(holds_key).count() as i64;
                    }
                    let is_dirty = page.is_dirty(self.is_padded());
                    walk.dirty += i64::from(is_dirty);
                    match self.task {
                        Task::ScrubDirty if is_dirty => self.scrub(buffer),
                        Task::ScrubAll => self.scrub(buffer),
                        _ => (),
                    }
                }
                pg_sys::UnlockReleaseBuffer(buffer);
            }
            pg_sys::FreeAccessStrategy(strategy);
        }
        walk
    }

    /// Only heap tuples may end unaligned.
    fn is_padded(&self) -> bool {
        matches!(self.kind, Kind::Heap)
    }

    /// # Safety
    /// The buffer is pinned and exclusively locked, and its page is not new.
    unsafe fn scrub(&self, buffer: pg_sys::Buffer) {
        // SAFETY: by contract; the image is a copy of the page.
        unsafe {
            let state = pg_sys::GenericXLogStart(self.relation.as_ptr());
            let full = pg_sys::GENERIC_XLOG_FULL_IMAGE as i32;
            let image = pg_sys::GenericXLogRegisterBuffer(state, buffer, full);
            if let Some(image) = Page::new(image.cast()) {
                // Of a relation without WAL (unlogged, temporary) the image is taken as it is.
                image.clear_hole();
                if self.is_padded() {
                    image.clear_padding();
                }
            }
            pg_sys::GenericXLogFinish(state);
        }
    }

    /// Whether a heap tuple is dead, or dying for some snapshots still, and holds a key.
    ///
    /// # Safety
    /// The item is a tuple of this table, on a page that is locked.
    unsafe fn is_dead_with_key(
        &self,
        item: &Item,
        buffer: pg_sys::Buffer,
        block: pg_sys::BlockNumber,
        horizon: pg_sys::TransactionId,
    ) -> bool {
        let place = pg_sys::ItemPointerData {
            ip_blkid: pg_sys::BlockIdData { bi_hi: (block >> 16) as u16, bi_lo: block as u16 },
            ip_posid: item.number,
        };
        let mut tuple = pg_sys::HeapTupleData {
            t_len: item.len as u32,
            t_self: place,
            t_tableOid: self.relation.oid(),
            t_data: item.start.cast(),
        };
        // SAFETY: by contract.
        unsafe {
            let state = pg_sys::HeapTupleSatisfiesVacuum(&mut tuple, horizon, buffer);
            let is_dead = matches!(
                state,
                pg_sys::HTSV_Result::HEAPTUPLE_DEAD | pg_sys::HTSV_Result::HEAPTUPLE_RECENTLY_DEAD
            );
            is_dead && !pg_sys::heap_attisnull(&mut tuple, self.key, self.relation.rd_att)
        }
    }
}

/// An initialized page. Valid while its buffer is locked.
struct Page {
    start: *mut u8,
    lower: usize,
    upper: usize,
    special: usize,
}

/// What a line pointer points to.
struct Item {
    number: u16,
    start: *mut u8,
    len: usize,
}

impl Page {
    /// `None` for a page that has never been used.
    unsafe fn new(start: *mut u8) -> Option<Self> {
        // SAFETY: every page begins with this header.
        let header = unsafe { &*start.cast::<pg_sys::PageHeaderData>() };
        let [lower, upper, special] =
            [header.pd_lower, header.pd_upper, header.pd_special].map(usize::from);
        let standard = size_of::<pg_sys::PageHeaderData>() <= lower
            && lower <= upper
            && upper <= special
            && special <= PAGE_SIZE;
        standard.then_some(Self { start, lower, upper, special })
    }

    /// Whether a page of a btree has entries: not so the first page of the file, and one that is
    /// deleted, where a transaction number lies in the place of line pointers.
    fn is_in_btree(&self) -> bool {
        if self.special + BTREE_FLAGS + size_of::<u16>() > PAGE_SIZE {
            return false;
        }
        // SAFETY: within the page.
        let flags = unsafe { self.start.add(self.special + BTREE_FLAGS).cast::<u16>().read() };
        flags & BTREE_HAS_NO_ENTRIES == 0
    }

    fn items(&self) -> impl Iterator<Item = Item> {
        let first = std::mem::offset_of!(pg_sys::PageHeaderData, pd_linp);
        let count = (self.lower - first) / size_of::<pg_sys::ItemIdData>();
        (0..count).filter_map(move |place| {
            // SAFETY: line pointers fill the page from its header to `lower`.
            let pointer = unsafe { *self.start.add(first).cast::<pg_sys::ItemIdData>().add(place) };
            let (start, len) = (pointer.lp_off() as usize, pointer.lp_len() as usize);
            let has_storage = len > 0 && start >= self.upper && start + len <= PAGE_SIZE;
            // SAFETY: within the page.
            has_storage.then(|| Item {
                number: place as u16 + 1,
                start: unsafe { self.start.add(start) },
                len,
            })
        })
    }

    fn is_dirty(&self, is_padded: bool) -> bool {
        // SAFETY: within the page.
        let hole =
            unsafe { slice::from_raw_parts(self.start.add(self.lower), self.upper - self.lower) };
        hole.iter().any(|byte| *byte != 0)
            || is_padded && self.items().any(|item| item.padding().iter().any(|byte| *byte != 0))
    }

    fn clear_hole(&self) {
        // SAFETY: within the page.
        let hole = unsafe {
            slice::from_raw_parts_mut(self.start.add(self.lower), self.upper - self.lower)
        };
        hole.fill(0);
    }

    /// Zeroes the few bytes behind each tuple, which keep what lay there before it.
    fn clear_padding(&self) {
        self.items().for_each(|item| item.padding().fill(0));
    }
}

impl Item {
    /// Up to seven bytes that align the next tuple.
    fn padding<'a>(&self) -> &'a mut [u8] {
        let align = pg_sys::MAXIMUM_ALIGNOF as usize;
        // SAFETY: tuples start aligned, so the bytes up to the next multiple are nobody's.
        unsafe {
            slice::from_raw_parts_mut(
                self.start.add(self.len),
                self.len.next_multiple_of(align) - self.len,
            )
        }
    }

    /// Whether a btree entry holds a value of the index's column `number`, counted from 1.
    fn index_entry_holds(&self, number: i32) -> bool {
        let header = size_of::<pg_sys::IndexTupleData>();
        if self.len <= header {
            return false;
        }
        // SAFETY: an index tuple of this length.
        let (info, offset) = unsafe {
            let tuple = &*self.start.cast::<pg_sys::IndexTupleData>();
            (tuple.t_info, tuple.t_tid.ip_posid)
        };
        // A separator may be cut after some columns; it says how many are left.
        let is_pivot = info & ALTERNATIVE_TID != 0 && offset & IS_POSTING == 0;
        if is_pivot && i32::from(offset & PIVOT_COLUMNS) < number {
            return false;
        }
        if info & HAS_NULLS == 0 {
            return true;
        }
        let place = (number - 1) as usize;
        let at = header + place / 8;
        // SAFETY: within the tuple; what a bit says is "not null".
        at < self.len && unsafe { *self.start.add(at) } & (1 << (place % 8)) != 0
    }
}

/// `access/itup.h` and `access/nbtree.h`.
const HAS_NULLS: u16 = 0x8000;
const ALTERNATIVE_TID: u16 = 0x2000;
const IS_POSTING: u16 = 0x2000;
const PIVOT_COLUMNS: u16 = 0x0fff;
/// Where the flags lie in a btree page's last bytes.
const BTREE_FLAGS: usize = 12;
/// Deleted, or the first page of the file.
const BTREE_HAS_NO_ENTRIES: u16 = 1 << 2 | 1 << 3;

fn refuse(code: PgSqlErrorCode, message: String) -> ! {
    ErrorReport::new(code, message, function_name!()).report(PgLogLevel::ERROR);
    unreachable!("an ERROR does not return")
}
