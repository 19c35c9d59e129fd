//! pg_api_key: API keys hashed at rest, inside PostgreSQL.
::pgrx::pg_module_magic!(name, version);

pgrx::extension_sql_file!("../sql/functions.sql", name = "functions");
