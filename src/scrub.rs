//! Zeroing the bytes of a page that no tuple owns any more.
//!
//! VACUUM moves the tuples of a page together and leaves what the dead ones held in the hole
//! between the line pointers and the tuples. A generic WAL record zeroes that hole, here and
//! wherever it is replayed; that is how `GenericXLogFinish` and its redo are defined. Only heap,
//! btree and hash pages are touched: of other access methods not every page keeps a hole.

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
/// value of the column with the number `key` (0: of none). Scrubs the pages if `scrub` says so.
#[pg_extern(sql = false)]
fn api_key_scrub_pages(
    relation: pg_sys::Oid,
    key: i32,
    scrub: bool,
) -> TableIterator<'static, (name!(pages, i64), name!(dirty, i64), name!(residues, i64))> {
    let walk = Pages::open(relation, key).walk(scrub);
    TableIterator::once((walk.pages, walk.dirty, walk.residues))
}

/// A relation opened for scrubbing: readers and writers go on, VACUUM and DDL wait.
struct Pages {
    relation: PgRelation,
    kind: Kind,
    key: i32,
}

/// The access methods whose pages all keep a hole.
enum Kind {
    Heap,
    Btree,
    /// Holds no values, only codes of them.
    Hash,
}

impl Pages {
    fn open(relation: pg_sys::Oid, key: i32) -> Self {
        // SAFETY: raises an ERROR if there is no such relation.
        let relation =
            unsafe { PgRelation::with_lock(relation, pg_sys::ShareUpdateExclusiveLock as i32) };
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
        Self { relation, kind, key }
    }

    fn walk(&self, scrub: bool) -> Walk {
        let mut walk = Walk::default();
        let relation = self.relation.as_ptr();
        // SAFETY: the relation is open and locked; each buffer is pinned and locked while its
        // page is looked at. On an error PostgreSQL releases buffers and locks.
        unsafe {
            let fork = pg_sys::ForkNumber::MAIN_FORKNUM;
            let blocks = pg_sys::RelationGetNumberOfBlocksInFork(relation, fork);
            let strategy = pg_sys::GetAccessStrategy(pg_sys::BufferAccessStrategyType::BAS_VACUUM);
            let horizon = pg_sys::GetOldestNonRemovableTransactionId(relation);
            for block in 0..blocks {
                check_for_interrupts!();
                let normal = pg_sys::ReadBufferMode::RBM_NORMAL;
                let buffer = pg_sys::ReadBufferExtended(relation, fork, block, normal, strategy);
                pg_sys::LockBuffer(buffer, pg_sys::BUFFER_LOCK_EXCLUSIVE as i32);
                walk.pages += 1;
                if let Some(page) = Page::new(pg_sys::BufferGetPage(buffer).cast()) {
                    let holds_key = |item: &Item| match self.kind {
                        Kind::Heap => self.is_dead_with_key(item, buffer, block, horizon),
                        Kind::Btree => block > 0 && item.index_entry_holds(self.key),
                        Kind::Hash => false,
                    };
                    if self.key > 0 {
                        walk.residues += page.items().filter(holds_key).count() as i64;
                    }
                    if page.is_dirty(self.is_padded()) {
                        walk.dirty += 1;
                        if scrub {
                            self.scrub(buffer);
                        }
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
        // SAFETY: by contract. Finishing the record zeroes the hole, even where nothing else in
        // the image has changed.
        unsafe {
            let state = pg_sys::GenericXLogStart(self.relation.as_ptr());
            let image = pg_sys::GenericXLogRegisterBuffer(state, buffer, 0);
            if self.is_padded()
                && let Some(image) = Page::new(image.cast())
            {
                image.clear_padding();
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
        let (lower, upper) = (usize::from(header.pd_lower), usize::from(header.pd_upper));
        let standard = size_of::<pg_sys::PageHeaderData>() <= lower
            && lower <= upper
            && upper <= usize::from(header.pd_special)
            && usize::from(header.pd_special) <= PAGE_SIZE;
        standard.then_some(Self { start, lower, upper })
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
        let (info, offset, bitmap) = unsafe {
            let tuple = &*self.start.cast::<pg_sys::IndexTupleData>();
            (tuple.t_info, tuple.t_tid.ip_posid, *self.start.add(header))
        };
        // A separator may be cut after some columns; it says how many are left.
        let is_pivot = info & ALTERNATIVE_TID != 0 && offset & IS_POSTING == 0;
        if is_pivot && i32::from(offset & PIVOT_COLUMNS) < number {
            return false;
        }
        info & HAS_NULLS == 0 || number > 8 || bitmap & (1 << (number - 1)) != 0
    }
}

/// `access/itup.h` and `access/nbtree.h`.
const HAS_NULLS: u16 = 0x8000;
const ALTERNATIVE_TID: u16 = 0x2000;
const IS_POSTING: u16 = 0x2000;
const PIVOT_COLUMNS: u16 = 0x0fff;

fn refuse(code: PgSqlErrorCode, message: String) -> ! {
    ErrorReport::new(code, message, function_name!()).report(PgLogLevel::ERROR);
    unreachable!("an ERROR does not return")
}
