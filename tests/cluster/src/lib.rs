//! Throw-away PostgreSQL clusters for the tests beside this crate.
