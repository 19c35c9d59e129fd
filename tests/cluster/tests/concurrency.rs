//! Sessions that migrate and rotate keys at once lose none.

use std::thread;

use cluster_tests::{Cluster, Session, wait_until};

/// The plain way to migrate, as README shows it.
const MIGRATE: &str = "UPDATE clients SET api_key = api_key WHERE api_key IS NOT NULL";
/// The plain way, one batch at a time: the condition is in a subquery, which is not rechecked.
const MIGRATE_A_BATCH: &str = "UPDATE clients SET api_key = api_key
     WHERE id IN (SELECT id FROM clients WHERE api_key IS NOT NULL ORDER BY id LIMIT 1000)";

const CALL: &str = "CALL migrate_api_keys('clients', batch_size => 100)";

const ROWS: i64 = 1000;

/// A session of a cluster whose table is as it was before any migration.
fn fresh_session(cluster: &Cluster) -> Session {
    let mut session = cluster.session("postgres");
    session.run(&format!(
        "CREATE EXTENSION IF NOT EXISTS pg_api_key;
         DROP TABLE IF EXISTS clients;
         CREATE TABLE clients (id integer PRIMARY KEY, api_key text UNIQUE);
         INSERT INTO clients SELECT i, 'key-of-' || i FROM generate_series(1, {ROWS}) AS i;
         SELECT protect_api_keys('clients')"
    ));
    session
}

/// Runs a statement in a session of its own; returns once it waits for another's lock.
fn start_waiting(
    cluster: &Cluster,
    sql: &'static str,
) -> thread::JoinHandle<Result<u64, postgres::Error>> {
    let mut session = cluster.session("postgres");
    let pid: i32 = session.value("SELECT pg_backend_pid()", &[]);
    let handle = thread::spawn(move || session.execute(sql, &[]));
    let mut observer = cluster.session("postgres");
    wait_until("the statement waits for a lock", || {
        observer.value("SELECT cardinality(pg_blocking_pids($1)) > 0", &[&pid])
    });
    handle
}

fn known(session: &mut Session, id: i32, key: &str) -> bool {
    let sql =
        "SELECT api_key IS NULL AND api_key_hash = hash_api_key($2) FROM clients WHERE id = $1";
    session.value(sql, &[&id, &key])
}

/// Rows whose first key still works; none is in plaintext.
fn hashed(session: &mut Session) -> i64 {
    session.value(
        "SELECT count(*) FILTER (WHERE api_key_hash = hash_api_key('key-of-' || id)) FROM clients
         HAVING count(api_key) = 0",
        &[],
    )
}

#[test]
fn two_plain_migrations_at_once_lose_nothing() {
    let cluster = Cluster::new();
    for (first, second) in [
        (MIGRATE, MIGRATE),
        (MIGRATE_A_BATCH, MIGRATE_A_BATCH),
        (MIGRATE, MIGRATE_A_BATCH),
        (MIGRATE, CALL),
    ] {
        for ending in ["COMMIT", "ROLLBACK"] {
            let mut session = fresh_session(&cluster);
            session.run("BEGIN");
            session.run(first);
            let other = start_waiting(&cluster, second);
            session.run(ending);
            other.join().unwrap().unwrap();
            assert_eq!(hashed(&mut session), ROWS, "{first}; {ending}; {second}");
        }
    }
}

#[test]
fn control_two_careless_migrations_destroy_keys() {
    let cluster = Cluster::new();
    let mut session = fresh_session(&cluster);
    session.run("SELECT unprotect_api_keys('clients')");
    let careless = "UPDATE clients SET api_key_hash = hash_api_key(api_key), api_key = NULL
                     WHERE id IN (SELECT id FROM clients WHERE api_key IS NOT NULL ORDER BY id)";
    session.run("BEGIN");
    session.run(careless);
    let other = start_waiting(&cluster, careless);
    session.run("COMMIT");
    other.join().unwrap().unwrap();
    assert_eq!(hashed(&mut session), 0, "the second one hashed nothing over all hashes");
}

#[test]
fn a_rotation_during_the_migration_wins() {
    let cluster = Cluster::new();
    let rotate = "UPDATE clients SET api_key = 'new-key' WHERE id = 7";
    for (first, second) in [
        (MIGRATE, rotate),
        (MIGRATE_A_BATCH, rotate),
        (rotate, MIGRATE),
        (rotate, MIGRATE_A_BATCH),
        (rotate, CALL),
    ] {
        let mut session = fresh_session(&cluster);
        session.run("BEGIN");
        session.run(first);
        let other = start_waiting(&cluster, second);
        session.run("COMMIT");
        other.join().unwrap().unwrap();
        assert!(known(&mut session, 7, "new-key"), "{first}; {second}");
        assert_eq!(hashed(&mut session), ROWS - 1, "{first}; {second}");
    }
}

/// Here keys are read and hashed first, and rows changed later.
#[test]
fn a_rotation_during_a_bcrypt_migration_wins() {
    let cluster = Cluster::new();
    let mut session = fresh_session(&cluster);
    session.run(
        "DELETE FROM clients WHERE id > 40;
         SELECT protect_api_keys('clients', algorithm => 'bcrypt', cost => 4)",
    );
    session.run(
        "BEGIN;
         UPDATE clients SET api_key = 'new-key' WHERE id = 7;
         UPDATE clients SET api_key_hash = NULL, api_key = NULL WHERE id = 8;
         DELETE FROM clients WHERE id = 9",
    );
    let migration = start_waiting(&cluster, CALL);
    session.run("COMMIT");
    migration.join().unwrap().unwrap();
    let all: String = session.value(
        "SELECT concat_ws(' ', count(*) FILTER (WHERE verify_api_key('key-of-' || id, api_key_hash)), count(api_key),
                          bool_or(verify_api_key('new-key', api_key_hash)), count(api_key_hash),
                          count(*) FILTER (WHERE api_key_tag = api_key_tag('key-of-' || id)))
           FROM clients",
        &[],
    );
    assert_eq!(all, "37 0 t 38 37");
}

/// Such as revoking a key, or an application that hashes by itself.
#[test]
fn other_changes_during_the_migration_win() {
    let cluster = Cluster::new();
    for change in [
        "UPDATE clients SET api_key = NULL, api_key_hash = NULL WHERE id = 7",
        "UPDATE clients SET api_key = NULL, api_key_hash = hash_api_key('by-application') WHERE id = 7",
        "DELETE FROM clients WHERE id = 7",
    ] {
        let mut session = fresh_session(&cluster);
        session.run("BEGIN");
        session.run(change);
        let migration = start_waiting(&cluster, MIGRATE);
        session.run("COMMIT");
        assert_eq!(migration.join().unwrap().unwrap(), 999, "{change}");
        assert_eq!(hashed(&mut session), ROWS - 1, "{change}");
    }
}

#[test]
fn a_repeatable_read_migration_fails_instead_of_losing_keys() {
    let cluster = Cluster::new();
    let mut session = fresh_session(&cluster);
    session.run("BEGIN; UPDATE clients SET api_key = 'new-key' WHERE id = 7");
    cluster
        .session("postgres")
        .run("ALTER DATABASE postgres SET default_transaction_isolation = 'repeatable read'");
    let migration = start_waiting(&cluster, MIGRATE);
    session.run("COMMIT");
    let error = migration.join().unwrap().unwrap_err();
    assert_eq!(error.code().unwrap().code(), "40001");
    assert!(known(&mut session, 7, "new-key"));
    session.run(MIGRATE);
    assert_eq!(hashed(&mut session), ROWS - 1);
}

fn is_deadlock(error: postgres::Error) -> bool {
    assert_eq!(error.code(), Some(&postgres::error::SqlState::T_R_DEADLOCK_DETECTED), "{error}");
    true
}

/// Two migrations and two rotations, with nothing to order them.
#[test]
fn a_crowd_of_sessions_loses_nothing() {
    let cluster = Cluster::new();
    let mut session = fresh_session(&cluster);
    thread::scope(|scope| {
        for worker in 0..4 {
            let mut session = cluster.session("postgres");
            scope.spawn(move || {
                if worker == 0 {
                    session.execute(CALL, &[]).unwrap();
                } else if worker == 1 {
                    let batch = MIGRATE_A_BATCH.replace("1000", "37");
                    // It may lose a deadlock against CALL, and then asks again.
                    while session.execute(&batch, &[]).map_or_else(is_deadlock, |rows| rows > 0) {}
                } else {
                    let update =
                        session.prepare("UPDATE clients SET api_key = $2 WHERE id = $1").unwrap();
                    for id in (worker..=ROWS as i32).step_by(4) {
                        session.execute(&update, &[&id, &format!("new-key-of-{id}")]).unwrap();
                    }
                }
            });
        }
    });
    let wrong: i64 = session.value(
        "SELECT count(*) FROM clients
          WHERE api_key IS NOT NULL
             OR api_key_hash IS DISTINCT FROM
                hash_api_key(CASE WHEN id > 1 AND id % 4 IN (2, 3) THEN 'new-' ELSE '' END || 'key-of-' || id)",
        &[],
    );
    assert_eq!(wrong, 0);
}
