//! What the catalogue says of a relation that is searched for a key.

use std::ffi::CStr;

use keyhash::TagBits;
use pgrx::{FromDatum, pg_sys};

use crate::name::quoted;
use crate::plan::Plan;
use crate::probe::{Index, Probe};

/// The queries by which a relation is searched, as `api_key_lookup` writes them.
pub struct Search {
    pub relation: pg_sys::Oid,
    /// The table, its partitions and its children.
    pub family: Vec<pg_sys::Oid>,
    pub owner: pg_sys::Oid,
    pub tag_bits: Option<TagBits>,
    pub hash: i32,
    pub query: Vec<u8>,
    /// The indexes that the query would be answered by, if the relation has them itself.
    pub probe: Option<Probe>,
    /// The key column, and the query by it, where the relation shows that column.
    pub fallback: Option<(i32, Vec<u8>)>,
    /// Asks whether the table holds any key in plaintext.
    pub left: Option<Vec<u8>>,
    pub untagged: Option<Vec<u8>>,
    /// Where the snapshot ends in which all this was so.
    pub read_at: pg_sys::TransactionId,
}

impl Search {
    /// Asks `api_key_lookup`, which stands in the schema of `function`.
    pub fn of(relation: pg_sys::Oid, function: pg_sys::Oid) -> Option<Self> {
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
}
