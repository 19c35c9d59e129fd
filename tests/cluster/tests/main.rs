//! What only a real cluster can show: what reaches its files and its log, and how sessions,
//! servers and client programs act together. Each promise comes with a control, which shows that
//! the test would notice if it were broken.

#![allow(clippy::unwrap_used, clippy::panic, reason = "that is how a test fails")]

mod concurrency;
mod dump_restore;
mod encodings;
mod erasure;
mod explain;
mod interchange;
mod locks;
mod log;
mod log_sweep;
mod lookups;
mod migration;
mod migration_load;
mod no_plaintext;
mod replication;
mod soundness;
