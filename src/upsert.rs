//! Notices `INSERT … ON CONFLICT DO UPDATE SET api_key = EXCLUDED.api_key`.
//!
//! The BEFORE INSERT trigger has cleared EXCLUDED.api_key by then, so such a command would keep
//! the old key without a word. Each insert therefore leaves word of the hash that it offered. If
//! the same command then sets a key column to null and keeps the row's hash, although no row
//! holds the offered one, the new key is about to be lost.

use std::cell::RefCell;
use std::ptr;

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgLogLevel, PgSqlErrorCode, function_name, pg_sys};

use crate::name::{quoted, shown};
use crate::owner::as_owner;
use crate::row::{Column, Row};
use crate::text::NewText;
use crate::trigger::Arguments;

/// A command of this backend. `GetCurrentCommandId` would not do: a PL/pgSQL trigger in between
/// moves it on, while the command's own snapshot keeps the number that it began with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Command {
    transaction: pg_sys::TransactionId,
    id: pg_sys::CommandId,
}

struct Offer {
    table: pg_sys::Oid,
    command: Command,
    hash: Vec<u8>,
}

/// Inserts nest where triggers insert; more levels than this are not followed.
const MAX_OFFERS: usize = 8;

thread_local! {
    static OFFERS: RefCell<Vec<Offer>> = const { RefCell::new(Vec::new()) };
    static LAST_WARNED: RefCell<Option<(pg_sys::Oid, Command)>> = const { RefCell::new(None) };
}

impl Command {
    pub fn current() -> Self {
        // SAFETY: called by a trigger, so inside a transaction that writes, with a snapshot.
        unsafe {
            let snapshot = if pg_sys::ActiveSnapshotSet() {
                pg_sys::GetActiveSnapshot()
            } else {
                ptr::null_mut()
            };
            Self {
                transaction: pg_sys::GetTopTransactionId(),
                id: snapshot.as_ref().map_or(pg_sys::InvalidCommandId, |s| s.curcid),
            }
        }
    }
}

/// Remembers the hash of a key that an INSERT is about to write.
pub fn offer(row: &Row<'_>, command: Command, hash: &[u8]) {
    let table = row.table_id();
    OFFERS.with_borrow_mut(|offers| {
        if let Some(mine) = offers.iter_mut().find(|o| o.table == table && o.command == command) {
            mine.hash.clear();
            mine.hash.extend_from_slice(hash);
            return;
        }
        offers.retain(|other| other.command.transaction == command.transaction);
        if offers.len() == MAX_OFFERS {
            offers.remove(0);
        }
        offers.push(Offer { table, command, hash: hash.to_vec() });
    });
}

/// Raises an error if this UPDATE is the second half of an upsert that loses its new key.
pub fn refuse_lost_key(row: &Row<'_>, arguments: &Arguments) {
    let (table, command) = (row.table_id(), arguments.command);
    let offered = OFFERS.with_borrow(|offers| {
        let mine = offers.iter().find(|o| o.table == table && o.command == command);
        mine.map(|offer| offer.hash.clone())
    });
    let Some(offered) = offered else { return };
    // SAFETY: `Arguments` holds string columns only.
    let (old, new) = unsafe { (row.old_text(arguments.hash), row.new_text(arguments.hash)) };
    let new = new.as_ref().map(|text| text.as_bytes());
    let sets_the_hash = old.as_ref().map(|text| text.as_bytes()) != new;
    if sets_the_hash || new == Some(&offered) || is_stored(row, arguments.hash, &offered) {
        return;
    }
    let hash = shown(&quoted(row.column_name(arguments.hash)));
    let mut working = format!("SET {hash} = EXCLUDED.{hash}");
    if let Some((tag, _)) = arguments.tag {
        let tag = shown(&quoted(row.column_name(tag)));
        working.push_str(&format!(", {tag} = EXCLUDED.{tag}"));
    }
    let key = shown(&quoted(row.column_name(arguments.key)));
    ErrorReport::new(
        PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
        "ON CONFLICT DO UPDATE would lose the new API key",
        function_name!(),
    )
    .set_detail(format!("The key was hashed before the conflict, so EXCLUDED.{key} is null."))
    .set_hint(format!("Write {working} in place of SET {key} = EXCLUDED.{key}."))
    .report(PgLogLevel::ERROR);
}

/// Whether the offered hash has reached the table: then the INSERT was another row's, in a MERGE
/// or beside this UPDATE in one WITH. Asked as the table's owner,
/// since the user may write keys without being allowed to read hashes.
fn is_stored(row: &Row<'_>, hash: Column, offered: &[u8]) -> bool {
    // In the server's encoding, so not a `str`, and not for pgrx's SPI.
    let query = [
        b"SELECT 1 FROM ".as_slice(),
        &quoted(row.schema_name()),
        b".",
        &quoted(row.table_name()),
        b" WHERE ",
        &quoted(row.column_name(hash)),
        b" OPERATOR(pg_catalog.=) $1 LIMIT 1\0",
    ]
    .concat();
    let mut types = [pg_sys::TEXTOID];
    let mut values = [NewText::new(offered).datum()];
    // SAFETY: a C string with one argument of the type that it says.
    as_owner(row.table_owner(), || unsafe {
        pg_sys::SPI_connect();
        let status = pg_sys::SPI_execute_with_args(
            query.as_ptr().cast(),
            1,
            types.as_mut_ptr(),
            values.as_mut_ptr(),
            ptr::null(),
            false, // see what this command has written
            1,
        );
        let found = status == pg_sys::SPI_OK_SELECT as i32 && pg_sys::SPI_processed > 0;
        pg_sys::SPI_finish();
        found
    })
}

/// Whether this command has not asked for this table yet.
pub fn first_in_command(table: pg_sys::Oid, command: Command) -> bool {
    let current = Some((table, command));
    LAST_WARNED.with_borrow_mut(|last| std::mem::replace(last, current) != current)
}
