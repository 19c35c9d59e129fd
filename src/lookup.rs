//! `find_by_api_key`: from a key to its rows, by one index probe for every algorithm.
//!
//! The hash is looked for first. Only a key that no hash belongs to is looked for in plaintext, as
//! long as there is any.
//!
//! A backend keeps the plans for each row type that it was asked for. Any change to the table or
//! its triggers reaches it as an invalidation of the table's relcache entry, and drops the plans.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::ffi::CStr;
use std::mem::ManuallyDrop;
use std::rc::Rc;
use std::time::{Duration, Instant};

use keyhash::bcrypt::BcryptHash;
use keyhash::{Key, KeyError, StoredHash, Tag, TagBits};
use pgrx::callconv::{BoxRet, FcInfo};
use pgrx::datum::Datum;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{
    FromDatum, PgLogLevel, PgSqlErrorCode, PgTupleDesc, function_name, impl_sql_translatable,
    pg_extern, pg_sys,
};

use crate::found::Found;
use crate::name::{quoted, shown};
use crate::owner::as_owner;
use crate::plan::Plan;
use crate::probe::{Index, Probe};
use crate::text::{NewText, Text};
use crate::verify::{verify, verify_bcrypt};

/// Where rows in plaintext are left, one look-up in this time asks whether they still are.
const ASK_AGAIN: Duration = Duration::from_secs(60);

/// How to find a key in one table.
struct Lookup {
    /// The relation of the row type.
    relation: pg_sys::Oid,
    plan: Plan,
    /// Does what the plan does, in less time, and not everywhere.
    probe: Option<Probe>,
    tag_bits: Option<TagBits>,
    /// The number of the hash column.
    hash: i32,
    /// Where the relation shows the key column.
    fallback: Option<Fallback>,
    /// Finds bcrypt hashes without a tag, such as an application wrote by itself.
    untagged: Option<Lazy>,
}

/// A query that is parsed when it is first needed.
struct Lazy {
    query: Vec<u8>,
    types: &'static [pg_sys::Oid],
    plan: OnceCell<Plan>,
}

/// Finds keys that are still in plaintext.
struct Fallback {
    /// The number of the key column.
    key: i32,
    plan: Lazy,
    /// Asks whether there are any; `None` where nothing keeps new ones out.
    asks: Option<Vec<u8>>,
    /// Sees all rows of the table, where row security hides some from the user.
    owner: pg_sys::Oid,
    /// The triggers were in force for every snapshot that reaches as far as this transaction.
    in_force_at: pg_sys::TransactionId,
    answer: Cell<Option<Answer>>,
}

/// Whether rows in plaintext are left.
#[derive(Clone, Copy)]
enum Answer {
    /// Some are; perhaps not any more then.
    SomeUntil(Instant),
    /// None in any snapshot that reaches as far as this transaction.
    NoneAt(pg_sys::TransactionId),
}

type Lookups = HashMap<pg_sys::Oid, Rc<Lookup>>;

thread_local! {
    /// By row type. Not dropped when the process ends, when plans can't be freed any more.
    static LOOKUPS: RefCell<ManuallyDrop<Lookups>> = RefCell::default();
    static WATCHED: RefCell<Vec<pg_sys::Oid>> = const { RefCell::new(Vec::new()) };
    static IS_WATCHING: Cell<bool> = const { Cell::new(false) };
    static IS_STALE: Cell<bool> = const { Cell::new(false) };
}

#[pg_extern(sql = false)]
fn find_by_api_key(call: pg_sys::FunctionCallInfo) -> NoValue {
    // SAFETY: declared in sql/ as a set-returning function of a row type and a text.
    let (function, row_type, key, rows) = unsafe {
        pg_sys::InitMaterializedSRF(call, pg_sys::MAT_SRF_USE_EXPECTED_DESC);
        let argument = (*call).args.as_slice(2)[1];
        let row_type = pg_sys::get_fn_expr_argtype((*call).flinfo, 0);
        let key = Text::from_datum(argument.value, argument.isnull);
        let result = &*(*call).resultinfo.cast::<pg_sys::ReturnSetInfo>();
        let rows = Rows { store: result.setResult, columns: result.setDesc };
        ((*(*call).flinfo).fn_oid, row_type, key, rows)
    };
    let lookup = Lookup::locked(row_type, function);
    if let Some(key) = key {
        lookup.find(key.as_bytes(), &rows);
    }
    NoValue
}

/// The rows that a call returns.
struct Rows {
    store: *mut pg_sys::Tuplestorestate,
    columns: pg_sys::TupleDesc,
}

impl Rows {
    fn put(&self, found: &Found) {
        let (values, nulls) = self.fitting(found);
        // SAFETY: the store is this call's, and the row fits.
        unsafe { pg_sys::tuplestore_putvalues(self.store, self.columns, values, nulls) };
    }

    /// A copy in the current memory context, to be put later.
    fn copy(&self, found: &Found) -> pg_sys::HeapTuple {
        let (values, nulls) = self.fitting(found);
        // SAFETY: the row fits.
        unsafe { pg_sys::heap_form_tuple(self.columns, values, nulls) }
    }

    fn put_copy(&self, row: pg_sys::HeapTuple) {
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

/// The rows are in the store.
struct NoValue;

impl Lookup {
    /// The relation is locked until the transaction ends, as by any reader: what is known of it
    /// stays true while its rows are looked for.
    fn locked(row_type: pg_sys::Oid, function: pg_sys::Oid) -> Rc<Self> {
        let known = || LOOKUPS.with_borrow(|all| all.get(&row_type).cloned());
        let relation = known().map_or_else(|| relation_of(row_type), |lookup| lookup.relation);
        // SAFETY: the relation was there; a lock on what is gone does no harm.
        unsafe { pg_sys::LockRelationOid(relation, pg_sys::AccessShareLock as i32) };
        // The lock brings word of what has changed.
        if IS_STALE.take() {
            WATCHED.take();
            drop(ManuallyDrop::into_inner(LOOKUPS.take()));
        }
        known().unwrap_or_else(|| {
            let lookup = Rc::new(Self::new(relation_of(row_type), function));
            LOOKUPS.with_borrow_mut(|all| all.insert(row_type, lookup.clone()));
            lookup
        })
    }

    fn new(relation: pg_sys::Oid, function: pg_sys::Oid) -> Self {
        let Some(search) = watch(relation, || Search::of(relation, function)) else {
            // SAFETY: the relation exists, since its row type does.
            let name = unsafe { CStr::from_ptr(pg_sys::get_rel_name(relation)) };
            refuse(
                PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                &format!("relation \"{}\" is not protected", shown(name.to_bytes())),
                "protect_api_keys protects a table. A view must show the hash column and, for \
                 bcrypt, the tag column of one protected table.",
            )
        };
        search.lookup()
    }

    /// Puts the rows that the key belongs to.
    fn find(&self, text: &[u8], rows: &Rows) {
        let key = match Key::new(text) {
            Ok(key) => Some(key),
            Err(KeyError::AlreadyHash) => return, // no credential, wherever it stands
            Err(_) => None,
        };
        let digest = key.map(keyhash::sha256_hex);
        let asked = Asked { text, key, digest };
        if let Some(digest) = digest {
            let mut values = vec![NewText::new(&digest).datum()];
            values.extend(self.tag_bits.map(|bits| pg_sys::Datum::from(Tag::new(text, bits).0)));
            let is_found = self.put_matching(&asked, rows, |each| {
                if !self.probe.as_ref().is_some_and(|probe| probe.run(&values, each)) {
                    self.plan.run(&values, each);
                }
            });
            if is_found {
                return;
            }
        }
        if let Some(fallback) = &self.fallback
            && fallback.is_any_left()
            && self.put_matching(&asked, rows, |each| {
                fallback.plan.get().run(&[NewText::new(text).datum()], each);
            })
        {
            return;
        }
        // Nothing but a comparison tells whose they are, so only a key that has no other row pays.
        if key.is_some()
            && let Some(untagged) = &self.untagged
        {
            self.put_matching(&asked, rows, |each| untagged.get().run(&[], each));
        }
    }

    /// Puts the rows of a search that the key belongs to, and says whether there were any.
    fn put_matching(
        &self,
        asked: &Asked<'_>,
        rows: &Rows,
        search: impl FnOnce(&mut dyn FnMut(&Found)),
    ) -> bool {
        let mut is_found = false;
        let (mut candidates, mut hashes) = (Vec::new(), Vec::new());
        search(&mut |found| match self.belonging(found, asked) {
            Belonging::No => (),
            Belonging::Yes => {
                is_found = true;
                rows.put(found);
            }
            Belonging::If(hash) => {
                candidates.push(rows.copy(found));
                hashes.push(hash);
            }
        });
        if let (Some(key), [_, ..]) = (asked.key, hashes.as_slice()) {
            for (row, matches) in candidates.into_iter().zip(verify_bcrypt(key, &hashes)) {
                if matches {
                    is_found = true;
                    rows.put_copy(row);
                }
            }
        }
        is_found
    }

    /// The query finds candidates; only the stored hash decides, or the plaintext.
    fn belonging(&self, found: &Found, asked: &Asked<'_>) -> Belonging {
        let stored = found.text(self.hash);
        let stored = stored.as_ref().map(|text| text.trimmed(found.is_padded(self.hash)));
        // What nearly all look-ups come to. The index has compared the two already, so the time
        // that this takes tells nobody more.
        if stored.is_some() && stored == asked.digest.as_ref().map(|digest| digest.as_slice()) {
            return Belonging::Yes;
        }
        if let Some(Fallback { key, .. }) = &self.fallback
            && let Some(plain) = found.text(*key)
            && plain.trimmed(found.is_padded(*key)) == asked.text
        {
            return Belonging::Yes;
        }
        match (asked.key, stored.and_then(StoredHash::parse)) {
            (Some(_), Some(StoredHash::Bcrypt(hash))) => Belonging::If(hash),
            (Some(key), Some(hash)) if verify(key, &hash) => Belonging::Yes,
            _ => Belonging::No,
        }
    }
}

impl Lazy {
    const fn new(query: Vec<u8>, types: &'static [pg_sys::Oid]) -> Self {
        Self { query, types, plan: OnceCell::new() }
    }

    fn get(&self) -> &Plan {
        self.plan.get_or_init(|| Plan::new(&self.query, self.types))
    }
}

impl Fallback {
    /// Whether rows in plaintext are left, or may be, for the command that is running.
    ///
    /// Under triggers in force plaintext only ever goes away, so "none" holds until they change.
    /// But it holds for no older snapshot, such as another cursor's; and it is no lasting answer if
    /// this one is older than the triggers, or sees changes of its own that may be rolled back.
    fn is_any_left(&self) -> bool {
        let Some(asks) = &self.asks else { return true };
        // SAFETY: a query is running, so there is a snapshot.
        let now = unsafe { (*pg_sys::GetActiveSnapshot()).xmax };
        match self.answer.get() {
            Some(Answer::SomeUntil(then)) if Instant::now() < then => return true,
            Some(Answer::NoneAt(then)) if reaches(now, then) => return false,
            _ => (),
        }
        let is_any_left = as_owner(self.owner, || Plan::new(asks, &[]).finds_any());
        // SAFETY: reads a variable of the backend.
        let writes = unsafe { pg_sys::GetTopTransactionIdIfAny() } != pg_sys::InvalidTransactionId;
        if is_any_left {
            self.answer.set(Some(Answer::SomeUntil(Instant::now() + ASK_AGAIN)));
        } else if !writes && reaches(now, self.in_force_at) {
            self.answer.set(Some(Answer::NoneAt(now)));
        }
        is_any_left
    }
}

/// Whether a snapshot that ends before the transaction `now` is as late as one that ends before
/// `then`. (Numbers of transactions are compared modulo 2^32.)
fn reaches(now: pg_sys::TransactionId, then: pg_sys::TransactionId) -> bool {
    now.into_inner().wrapping_sub(then.into_inner()).cast_signed() >= 0
}

/// What is looked up: a text, and if it is a key, that and its SHA-256.
struct Asked<'a> {
    text: &'a [u8],
    key: Option<Key<'a>>,
    digest: Option<[u8; 64]>,
}

/// Whether a row is the key's.
enum Belonging {
    Yes,
    No,
    /// If this hash is. All such are verified together, which takes little longer than one.
    If(BcryptHash),
}

/// The queries by which a relation is searched, as `api_key_lookup` writes them.
struct Search {
    relation: pg_sys::Oid,
    /// The table, its partitions and its children.
    family: Vec<pg_sys::Oid>,
    owner: pg_sys::Oid,
    tag_bits: Option<TagBits>,
    hash: i32,
    query: Vec<u8>,
    /// The indexes that the query would be answered by, if the relation has them itself.
    probe: Option<Probe>,
    /// The key column, and the query by it, where the relation shows that column.
    fallback: Option<(i32, Vec<u8>)>,
    /// Asks whether the table holds any key in plaintext.
    left: Option<Vec<u8>>,
    untagged: Option<Vec<u8>>,
    /// Where the snapshot ends in which all this was so.
    read_at: pg_sys::TransactionId,
}

impl Search {
    /// Asks `api_key_lookup`, which stands in the schema of `function`.
    fn of(relation: pg_sys::Oid, function: pg_sys::Oid) -> Option<Self> {
        // SAFETY: the function exists, since it is being called.
        let schema = unsafe {
            let schema = pg_sys::get_namespace_name(pg_sys::get_func_namespace(function));
            quoted(CStr::from_ptr(schema))
        };
        let query = [
            b"SELECT tag_bits, query, fallback_query, left_query, untagged_query, owner, hash_number, key_number, family, hash_index, tag_index FROM ",
            schema.as_slice(),
            b".api_key_lookup($1)",
        ];
        // The catalogue as it is now, as for all that PostgreSQL itself reads there: the command's
        // own snapshot may be an old one.
        // SAFETY: popped below, or by the end of the transaction.
        let read_at = unsafe {
            pg_sys::InvalidateCatalogSnapshot();
            let snapshot = pg_sys::GetCatalogSnapshot(pg_sys::TriggerRelationId);
            pg_sys::PushActiveSnapshot(snapshot);
            (*snapshot).xmax
        };
        let mut all = Vec::new();
        Plan::new(&query.concat(), &[pg_sys::REGCLASSOID]).run(&[relation.into()], &mut |found| {
            let text = |column| Some(found.text(column)?.as_bytes().to_vec());
            // SAFETY: integers by the declaration of the function, where it is asked for one.
            let number = |column| unsafe { i32::from_datum(found.datum(column)?, false) };
            // SAFETY: oids, likewise.
            let oid = |column| unsafe { pg_sys::Oid::from_datum(found.datum(column)?, false) };
            let fallback = || Some((number(8)?, text(3)?));
            let probe = || {
                let mut indexes = vec![Index::of_text(oid(10)?)];
                if number(1).is_some() {
                    indexes.push(Index::of_integer(oid(11)?));
                }
                Some(Probe::new(relation, indexes))
            };
            all.push(Self {
                relation,
                // SAFETY: an array of oids without nulls, likewise.
                family: found
                    .datum(9)
                    .and_then(|datum| unsafe { Vec::from_datum(datum, false) })
                    .unwrap_or_default(),
                owner: oid(6).unwrap_or(pg_sys::InvalidOid),
                tag_bits: number(1).and_then(|bits| TagBits::new(bits).ok()),
                hash: number(7).unwrap_or_default(),
                query: text(2).unwrap_or_default(),
                probe: probe(),
                fallback: fallback(),
                left: text(4),
                untagged: text(5),
                read_at,
            });
        });
        // SAFETY: pushed above.
        unsafe { pg_sys::PopActiveSnapshot() };
        if all.len() == 1 { all.pop() } else { None }
    }

    fn lookup(self) -> Lookup {
        let mut types = vec![pg_sys::TEXTOID];
        types.extend(self.tag_bits.map(|_| pg_sys::INT4OID));
        let fallback = self.fallback.map(|(key, query)| Fallback {
            key,
            plan: Lazy::new(query, &[pg_sys::TEXTOID]),
            asks: self.left,
            owner: self.owner,
            in_force_at: self.read_at,
            answer: Cell::new(None),
        });
        Lookup {
            relation: self.relation,
            plan: Plan::new(&self.query, &types),
            probe: self.probe,
            tag_bits: self.tag_bits,
            hash: self.hash,
            fallback,
            untagged: self.untagged.map(|query| Lazy::new(query, &[])),
        }
    }
}

// SAFETY: a set-returning function in materialize mode returns nothing else.
unsafe impl BoxRet for NoValue {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> Datum<'fcx> {
        fcinfo.return_null()
    }
}

impl_sql_translatable!(NoValue, "SETOF anyelement");

fn relation_of(row_type: pg_sys::Oid) -> pg_sys::Oid {
    // SAFETY: look-ups in the catalogue; a type that is no row type, nor a domain over one, has no
    // relation.
    let relation = unsafe { pg_sys::get_typ_typrelid(pg_sys::getBaseType(row_type)) };
    if relation == pg_sys::InvalidOid {
        refuse(
            PgSqlErrorCode::ERRCODE_DATATYPE_MISMATCH,
            "the first argument of find_by_api_key is not of a table's row type",
            "Write find_by_api_key(NULL::clients, $1), with the name of the table.",
        );
    }
    relation
}

/// Builds a search of a relation, and has the plans dropped when the relation, the table that it
/// shows or a partition or child of that changes, or a trigger on one of them.
fn watch(relation: pg_sys::Oid, build: impl FnOnce() -> Option<Search>) -> Option<Search> {
    if !IS_WATCHING.replace(true) {
        // SAFETY: registered once a backend, and never unregistered, as the library stays loaded.
        unsafe {
            pg_sys::CacheRegisterRelcacheCallback(Some(invalidate), pg_sys::Datum::null());
        }
    }
    // While the list is borrowed, any change counts.
    WATCHED.with_borrow_mut(|watched| {
        if !watched.contains(&relation) {
            watched.push(relation);
        }
        let search = build()?;
        watched.extend_from_slice(&search.family);
        Some(search)
    })
}

/// Called by PostgreSQL at any moment, even while a look-up runs: it only leaves word.
unsafe extern "C-unwind" fn invalidate(_: pg_sys::Datum, relation: pg_sys::Oid) {
    let watched = WATCHED
        .with(|watched| watched.try_borrow().map_or(true, |watched| watched.contains(&relation)));
    if relation == pg_sys::InvalidOid || watched {
        IS_STALE.set(true);
    }
}

fn refuse(code: PgSqlErrorCode, message: &str, hint: &'static str) -> ! {
    ErrorReport::new(code, message.to_owned(), function_name!())
        .set_hint(hint)
        .report(PgLogLevel::ERROR);
    unreachable!("an ERROR does not return")
}
