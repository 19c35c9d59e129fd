//! `find_by_api_key`: from a key to its rows, by one index probe for every algorithm.
//!
//! The hash is looked for first. Only a key that no hash belongs to is looked for in plaintext, as
//! long as there is any.
//!
//! A backend keeps the plans for each row type that it was asked for. Any change to the table or
//! its triggers reaches it as an invalidation of the table's relcache entry, and drops the plans.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::CStr;
use std::mem::ManuallyDrop;
use std::rc::Rc;

use keyhash::bcrypt::BcryptHash;
use keyhash::{Key, KeyError, StoredHash, Tag, TagBits};
use pgrx::callconv::{BoxRet, FcInfo};
use pgrx::datum::Datum;
use pgrx::{FromDatum, PgSqlErrorCode, impl_sql_translatable, pg_extern, pg_sys};

use crate::error::refuse;
use crate::found::Found;
use crate::name::shown;
use crate::plaintext::Fallback;
use crate::plan::{Lazy, Plan};
use crate::probe::Probe;
use crate::results::Rows;
use crate::search::Search;
use crate::text::{NewText, Text};
use crate::verify::{verify, verify_bcrypt};

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
        let rows = Rows::new(result.setResult, result.setDesc);
        ((*(*call).flinfo).fn_oid, row_type, key, rows)
    };
    let lookup = Lookup::locked(row_type, function);
    if let Some(key) = key {
        lookup.find(key.as_bytes(), &rows);
    }
    NoValue
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
        let mut types = vec![pg_sys::TEXTOID];
        types.extend(search.tag_bits.map(|_| pg_sys::INT4OID));
        let fallback = search.fallback.map(|(key, query)| {
            Fallback::new(key, query, search.left, search.owner, search.read_at)
        });
        Self {
            relation: search.relation,
            plan: Plan::new(&search.query, &types),
            probe: search.probe,
            tag_bits: search.tag_bits,
            hash: search.hash,
            fallback,
            untagged: search.untagged.map(|query| Lazy::new(query, &[])),
        }
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
