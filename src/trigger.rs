//! `hash_api_key_trigger()`: arguments → read → hash → set.
//!
//! `sql/protect.sql` attaches it three times. The first (`!…`) and the last (`~…`) run when the
//! key column is not null, and hash it. The third runs when an UPDATE names the key column and
//! leaves it null; it looks for a lost upsert (see [`crate::upsert`]).

use std::ffi::CStr;

use keyhash::{Error, Key, KeyError, Policy, StoredHash, Tag, TagBits};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{IntoDatum, PgLogLevel, PgSqlErrorCode, function_name, pg_extern, pg_sys};

use crate::error::raise;
use crate::name::shown;
use crate::row::{Column, NewRow, Row};
use crate::settings::max_bcrypt_cost;
use crate::text::{NewText, Text};
use crate::upsert::{self, Command};
use crate::verify::verify;

/// The trigger's arguments: key column, hash column, algorithm, cost, tag column, tag bits.
/// The first two must be there; an empty tag column means that there is none.
pub struct Arguments {
    pub key: Column,
    pub hash: Column,
    pub tag: Option<(Column, TagBits)>,
    /// The command that is running; the arguments are read anew for another.
    pub command: Command,
    key_is_padded: bool,
    policy: Policy,
}

impl Arguments {
    /// Read once for each trigger of a command, during which the table can't change.
    ///
    /// # Safety
    /// `call` is a call of the trigger function, and `row` its row.
    unsafe fn of<'c>(call: pg_sys::FunctionCallInfo, row: &Row<'_>) -> &'c Self {
        const { assert!(!std::mem::needs_drop::<Self>(), "PostgreSQL drops nothing") };
        // SAFETY: PostgreSQL keeps `fn_extra` for us, and frees it with the memory context beside it.
        unsafe {
            let function = &mut *(*call).flinfo;
            if function.fn_extra.is_null() {
                let arguments = Self::read(row);
                let place = pg_sys::MemoryContextAlloc(function.fn_mcxt, size_of::<Self>());
                place.cast::<Self>().write(arguments);
                function.fn_extra = place;
            }
            &*function.fn_extra.cast()
        }
    }

    fn read(row: &Row<'_>) -> Self {
        let mut given = row.arguments();
        let (Some(key), Some(hash)) = (given.next(), given.next()) else {
            misuse("hash_api_key_trigger needs a key column and a hash column");
        };
        let algorithm = given.next().unwrap_or(c"sha256");
        let cost = number(given.next().unwrap_or(c"10"));
        let tag = given.next().filter(|name| !name.is_empty());
        let bits = number(given.next().unwrap_or(c"16"));

        let (key, key_type) = string_column(row, key);
        let policy = Policy::new(algorithm.to_str().unwrap_or(""), cost, max_bcrypt_cost());
        Self {
            key,
            hash: string_column(row, hash).0,
            tag: tag.map(|name| {
                (integer_column(row, name), TagBits::new(bits).unwrap_or_else(|e| raise(e)))
            }),
            command: Command::current(),
            key_is_padded: key_type == pg_sys::BPCHAROID,
            policy: policy.unwrap_or_else(|error| raise(error)),
        }
    }

    /// The key's bytes; the blanks that pad a `char(n)` are not part of it.
    fn key_bytes<'t>(&self, text: &'t Text<'_>) -> &'t [u8] {
        text.trimmed(self.key_is_padded)
    }
}

#[pg_extern(sql = false)]
fn hash_api_key_trigger(call: pg_sys::FunctionCallInfo) -> NewRow {
    // SAFETY: declared RETURNS trigger in sql/, so only the manager of triggers calls it.
    let Some(row) = (unsafe { Row::from_call(call) }) else {
        misuse("hash_api_key_trigger must be fired before INSERT or UPDATE of a row");
    };
    // SAFETY: the row is this call's.
    let arguments = unsafe { Arguments::of(call, &row) };
    // SAFETY: `Arguments` holds string columns only.
    let Some(text) = (unsafe { row.new_text(arguments.key) }) else {
        upsert::refuse_lost_key(&row, arguments);
        return row.unchanged();
    };
    let key = match Key::new(arguments.key_bytes(&text)) {
        Ok(key) => key,
        Err(fault) => return keep_or_raise(row, arguments, fault),
    };
    let hash = match kept_hash(&row, arguments, key) {
        Kept::No => match arguments.policy.hash(key) {
            Ok(hash) => hash,
            Err(Error::Key(fault)) => return keep_or_raise(row, arguments, fault),
            Err(error) => raise(error),
        },
        Kept::Same(hash) => hash,
        Kept::Other => {
            let detail = "The hash column holds the hash of another key.";
            return keep(row, arguments.command, detail, "Set the wrong one of the two to null.");
        }
    };
    let mut buffer = [0; StoredHash::MAX_LEN];
    let hash = hash.encode(&mut buffer);
    if row.is_insert() {
        upsert::offer(&row, arguments.command, hash);
    }
    let hash = NewText::new(hash).into_datum();
    match arguments.tag {
        // SAFETY: `Arguments` has checked that the columns take null, text and integer.
        None => unsafe { row.replace([arguments.key, arguments.hash], [None, hash]) },
        Some((column, bits)) => {
            let tag = Tag::new(key.as_bytes(), bits).0.into_datum();
            // SAFETY: as above.
            unsafe { row.replace([arguments.key, arguments.hash, column], [None, hash, tag]) }
        }
    }
}

/// What becomes of a hash that stands beside a key which an UPDATE does not change.
enum Kept {
    /// There is none, it is obsolete, or the key is new: hash it.
    No,
    /// It is this key's, perhaps made by an application before, and good enough: keep it.
    Same(StoredHash),
    /// It is another key's, which may be in use; hashing this one would lose that one.
    Other,
}

fn kept_hash(row: &Row<'_>, arguments: &Arguments, key: Key<'_>) -> Kept {
    if row.is_insert() {
        return Kept::No;
    }
    // SAFETY: `Arguments` holds string columns only.
    let (old_key, old_hash, new_hash) = unsafe {
        (row.old_text(arguments.key), row.old_text(arguments.hash), row.new_text(arguments.hash))
    };
    let (Some(old_key), Some(old_hash), Some(new_hash)) = (old_key, old_hash, new_hash) else {
        return Kept::No;
    };
    if arguments.key_bytes(&old_key) != key.as_bytes() || old_hash.as_bytes() != new_hash.as_bytes()
    {
        return Kept::No;
    }
    match StoredHash::parse(new_hash.as_bytes()) {
        None => Kept::No,
        Some(hash) if !verify(key, &hash) => Kept::Other,
        Some(hash) if arguments.policy.is_obsolete(&hash) => Kept::No,
        Some(hash) => Kept::Same(hash),
    }
}

/// A key that can't be hashed is an error where it is written, but no reason to refuse an UPDATE
/// of something else in a row that has held it since before the table was protected.
fn keep_or_raise(row: Row<'_>, arguments: &Arguments, fault: KeyError) -> NewRow {
    // SAFETY: `Arguments` holds string columns only.
    let (old, new) = unsafe { (row.old_text(arguments.key), row.new_text(arguments.key)) };
    match (old, new) {
        (Some(old), Some(new)) if old.as_bytes() == new.as_bytes() => {
            let detail = format!("The key can't be hashed: {fault}.");
            keep(
                row,
                arguments.command,
                &detail,
                "api_key_quarantine lists such rows. Issue new keys to their owners.",
            )
        }
        _ => raise(fault.into()),
    }
}

/// Lets the row pass as it is, and says so once a command.
fn keep(row: Row<'_>, command: Command, detail: &str, hint: &'static str) -> NewRow {
    if upsert::first_in_command(row.table_id(), command) {
        let table = shown(row.table_name().to_bytes());
        let message = format!("an API key of table \"{table}\" stays in plaintext");
        let code = PgSqlErrorCode::ERRCODE_WARNING;
        ErrorReport::new(code, message, function_name!())
            .set_detail(detail.to_owned())
            .set_hint(hint)
            .report(PgLogLevel::WARNING);
    }
    row.unchanged()
}

fn named(row: &Row<'_>, name: &CStr) -> Column {
    row.column(name).unwrap_or_else(|| {
        misuse(&format!("column \"{}\" of the trigger does not exist", shown(name.to_bytes())))
    })
}

fn string_column(row: &Row<'_>, name: &CStr) -> (Column, pg_sys::Oid) {
    let column = named(row, name);
    let base = row.base_type(column);
    let builtin = matches!(base, pg_sys::TEXTOID | pg_sys::VARCHAROID | pg_sys::BPCHAROID);
    if !builtin && !is_other_string_type(base) {
        misuse(&format!("column \"{}\" is not of a string type", shown(name.to_bytes())));
    }
    (column, base)
}

/// Such as citext: in the category of strings, and stored as text is.
fn is_other_string_type(base: pg_sys::Oid) -> bool {
    let (mut category, mut preferred) = (0, false);
    // SAFETY: look-ups of a type that a column has.
    unsafe {
        pg_sys::get_type_category_preferred(base, &mut category, &mut preferred);
        category as u8 == pg_sys::TYPCATEGORY_STRING && pg_sys::get_typlen(base) == -1
    }
}

fn integer_column(row: &Row<'_>, name: &CStr) -> Column {
    let column = named(row, name);
    if row.base_type(column) != pg_sys::INT4OID {
        misuse(&format!("column \"{}\" is not of type integer", shown(name.to_bytes())));
    }
    column
}

fn number(argument: &CStr) -> i32 {
    let parsed = argument.to_str().ok().and_then(|text| text.parse().ok());
    parsed.unwrap_or_else(|| misuse("cost and tag bits of the trigger must be integers"))
}

/// The trigger was attached by hand, and not as it must be.
fn misuse(message: &str) -> ! {
    let code = PgSqlErrorCode::ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED;
    ErrorReport::new(code, message.to_owned(), function_name!())
        .set_hint("protect_api_keys attaches the trigger as it must be.")
        .report(PgLogLevel::ERROR);
    unreachable!("an ERROR does not return")
}
