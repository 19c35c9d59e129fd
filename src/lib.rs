//! pg_api_key: API keys hashed at rest, inside PostgreSQL.
//!
//! Thin over the crate `keyhash`, which knows no database. The SQL objects are declared by hand
//! in `sql/`, so that a declaration, its volatility and its COMMENT stand in one place.

mod bulk;
mod equality;
mod error;
mod explain;
mod found;
mod functions;
mod lookup;
mod name;
mod owner;
mod plaintext;
mod plan;
mod probe;
mod results;
mod row;
mod scrub;
mod search;
mod settings;
mod text;
mod trigger;
mod upsert;
mod verify;

::pgrx::pg_module_magic!(name, version);

pgrx::extension_sql_file!("../sql/functions.sql", name = "functions");
pgrx::extension_sql_file!("../sql/preflight.sql", name = "preflight", requires = ["functions"]);
pgrx::extension_sql_file!("../sql/protect.sql", name = "protect", requires = ["preflight"]);
pgrx::extension_sql_file!("../sql/migrate.sql", name = "migrate", requires = ["protect"]);
pgrx::extension_sql_file!("../sql/status.sql", name = "status", requires = ["migrate"]);
pgrx::extension_sql_file!("../sql/lookup.sql", name = "lookup", requires = ["status"]);
pgrx::extension_sql_file!("../sql/explain.sql", name = "explain", requires = ["lookup"]);
pgrx::extension_sql_file!("../sql/scrub.sql", name = "scrub", requires = ["explain"]);
pgrx::extension_sql_file!("../sql/audit.sql", name = "audit", requires = ["scrub"]);

/// Runs once in each backend, when it first needs the library.
#[pgrx::pg_guard]
pub extern "C-unwind" fn _PG_init() {
    settings::define();
}
