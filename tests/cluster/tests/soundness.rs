//! A scrub damages nothing: not with writers beside it, not when it is killed, not on a replica.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use cluster_tests::{Cluster, Session, describe, wait_until};

use crate::erasure::{MARKER, assert_sound, create_amcheck, key};

/// A migrated and vacuumed table: `n` is what the key of a row was made of. Its rows fill whole
/// words, so that they have no padding.
fn migrated(cluster: &Cluster, rows: i64) -> Session {
    migrated_after(cluster, rows, "")
}

/// The same, with statements between filling and protecting the table.
fn migrated_after(cluster: &Cluster, rows: i64, statements: &str) -> Session {
    let mut session = cluster.extended_session("postgres");
    create_amcheck(&mut session);
    session.run(&format!(
        "CREATE TABLE clients (id integer PRIMARY KEY, n integer, name text, api_key text);
         CREATE INDEX clients_hash ON clients USING hash (name);
         CREATE INDEX clients_gin ON clients USING gin (to_tsvector('simple', name));
         CREATE INDEX clients_brin ON clients USING brin (n);
         INSERT INTO clients SELECT i, i, 'client ' || lpad(i::text, 7, '0'), {} FROM generate_series(1, {rows}) AS i",
        key("i")
    ));
    for statement in statements.split_terminator(';') {
        session.run(statement);
    }
    session.run("SELECT protect_api_keys('clients')");
    session.run("CALL migrate_api_keys('clients')");
    session.run("VACUUM (INDEX_CLEANUP ON) clients");
    session.run("VACUUM (INDEX_CLEANUP ON) pg_statistic");
    session
}

fn assert_intact(session: &mut Session) {
    assert_sound(session);
    let sql = format!(
        "SELECT count(*) FROM clients WHERE api_key IS NOT NULL OR api_key_hash IS DISTINCT FROM hash_api_key({})",
        key("n")
    );
    assert_eq!(session.value::<i64>(&sql, &[]), 0);
    // Every index finds what the table holds.
    session.run("SET enable_seqscan = off");
    let sql = "SELECT count(*) FROM clients AS c
                WHERE NOT EXISTS (SELECT FROM clients AS by_name WHERE by_name.name = c.name AND by_name.id = c.id)
                   OR NOT EXISTS (SELECT FROM clients AS by_hash WHERE by_hash.api_key_hash = c.api_key_hash)";
    assert_eq!(session.value::<i64>(sql, &[]), 0);
    let sql = "SELECT count(*) FROM clients WHERE to_tsvector('simple', name) @@ 'client'::tsquery";
    let by_gin: i64 = session.value(sql, &[]);
    let by_brin: i64 = session.value("SELECT count(*) FROM clients WHERE n > 0", &[]);
    session.run("RESET enable_seqscan");
    let all: i64 = session.value("SELECT count(*) FROM clients", &[]);
    assert_eq!((by_gin, by_brin), (all, all));
}

fn in_relations(cluster: &Cluster) -> usize {
    cluster.scan(MARKER).iter().filter(|finding| !finding.file.starts_with("pg_wal/")).count()
}

/// Some majors have them by default.
fn set_checksums(cluster: &mut Cluster, on: bool) {
    let mut session = cluster.session("postgres");
    if session.value::<String>("SHOW data_checksums", &[]) != if on { "on" } else { "off" } {
        cluster.stop("fast");
        let (data, mode) = (cluster.data(), if on { "--enable" } else { "--disable" });
        cluster.run("pg_checksums", [mode.as_ref(), "-D".as_ref(), data.as_os_str()]);
        cluster.start();
    }
}

#[test]
fn a_crash_in_the_middle_damages_nothing() {
    let mut cluster = Cluster::with("full_page_writes = on\n autovacuum = off");
    set_checksums(&mut cluster, true);
    let mut session = migrated(&cluster, 5000);
    assert!(in_relations(&cluster) > 3000, "control: there is something to scrub");
    for (round, way) in ["backend", "immediate", "postmaster"].into_iter().enumerate() {
        // Pages are dirty again, and the scrub goes round until it is killed.
        session.run("UPDATE clients SET name = name WHERE id % 3 = 0");
        session.run("VACUUM clients");
        let mut scrubbing = cluster.session("postgres");
        let pid: i32 = scrubbing.value("SELECT pg_backend_pid()", &[]);
        let sql = "SELECT scrub_api_keys('clients', true) FROM generate_series(1, 10000)";
        let killed = thread::spawn(move || scrubbing.batch_execute(sql));
        let before: i64 =
            session.value("SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint", &[]);
        wait_until("pages are being scrubbed", || {
            let now: i64 =
                session.value("SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint", &[]);
            now > before + 1_000_000 * (1 + round as i64)
        });
        match way {
            "backend" => {
                cluster.run("pg_ctl", ["kill", "KILL", &pid.to_string()]);
                wait_until("the server has recovered", || {
                    cluster.log().contains("all server processes terminated; reinitializing")
                        && cluster.program("pg_isready").output().unwrap().status.success()
                });
            }
            "immediate" => {
                cluster.stop("immediate");
                cluster.start();
            }
            _ => {
                cluster.kill();
                // A process that is busy does not notice the death of its postmaster.
                cluster.run("pg_ctl", ["kill", "KILL", &pid.to_string()]);
                cluster.start();
            }
        }
        assert!(killed.join().unwrap().is_err(), "control: it was not done before {way} ended");
        session = cluster.session("postgres");
        assert_intact(&mut session);
    }
    session.run("VACUUM clients; ");
    session.run("SELECT * FROM scrub_api_keys('clients')");
    assert_intact(&mut session);
    assert_eq!(in_relations(&cluster), 0);
    cluster.stop("fast");
    let data = cluster.data();
    cluster.run("pg_checksums", ["--check".as_ref(), "-D".as_ref(), data.as_os_str()]);
}

/// Inserts, updates and deletes rows of its own, of which there are some at the end.
fn write(mut session: Session, writer: i32, stop: &AtomicBool) -> i32 {
    let mut n = 0;
    while !stop.load(Ordering::Relaxed) {
        n += 1;
        let number = writer * 1_000_000 + n;
        for sql in [
            format!(
                "INSERT INTO clients (id, n, name, api_key) SELECT $1, $1, 'client ' || $1::integer, {}",
                key("$1::integer")
            ),
            format!(
                "UPDATE clients SET n = n + 500000, api_key = {} WHERE id = $1 - 3",
                key("(n + 500000)")
            ),
            "UPDATE clients SET name = name || ' again' WHERE id = $1 - 5".to_owned(),
            "DELETE FROM clients WHERE id = $1 - 7 AND id % 2 = 0".to_owned(),
        ] {
            if let Err(error) = session.execute(&sql, &[&number]) {
                panic!("{sql}: {}", describe(&error));
            }
        }
    }
    n
}

#[test]
fn writers_go_on_and_replicas_keep_step() {
    // PostgreSQL compares each page that was scrubbed with what replay makes of it.
    let primary = Cluster::with(
        "full_page_writes = on\n wal_keep_size = 500MB\n wal_consistency_checking = 'generic'",
    );
    let mut session = migrated(&primary, 5000);
    let standby = primary.standby();
    let mut reader = standby.session("postgres");
    let stop = AtomicBool::new(false);
    let written = thread::scope(|scope| {
        let writers: Vec<_> = (1..=2)
            .map(|writer| {
                let session = primary.session("postgres");
                let stop = &stop;
                scope.spawn(move || write(session, writer, stop))
            })
            .collect();
        for round in 0..12 {
            session.run(&format!("SELECT * FROM scrub_api_keys('clients', {})", round % 3 == 2));
            // Reading sets hint bits, on each side at its own time.
            session.run("SELECT count(*) FROM clients WHERE name > 'a'");
            reader.run("SELECT count(*) FROM clients WHERE name > 'a'; SET enable_seqscan = off; SELECT count(id) FROM clients WHERE id > 0; RESET enable_seqscan");
            if round % 4 == 3 {
                session.run("VACUUM clients");
                session.run("CHECKPOINT");
            }
            thread::sleep(Duration::from_millis(100));
        }
        stop.store(true, Ordering::Relaxed);
        writers.into_iter().map(|writer| writer.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(written.iter().all(|n| *n > 20), "control: writers were not held up: {written:?}");
    assert_intact(&mut session);
    primary.wait_for_followers();
    assert_intact(&mut reader);
    assert!(!standby.log().contains("inconsistent page"), "{}", standby.log());
    session.run("VACUUM clients");
    // A standby makes a checkpoint of its own only after one of its primary.
    session.run("SELECT * FROM scrub_api_keys('clients'); CHECKPOINT");
    primary.wait_for_followers();
    assert_eq!((in_relations(&primary), in_relations(&standby)), (0, 0));

    drop(session);
    drop(primary);
    let data = standby.data();
    standby
        .run("pg_ctl", ["promote".as_ref(), "--silent".as_ref(), "-D".as_ref(), data.as_os_str()]);
    assert!(!reader.value::<bool>("SELECT pg_is_in_recovery()", &[]));
    assert_intact(&mut reader);
    reader.run("INSERT INTO clients (id, n, name, api_key) SELECT 0, 1000000, 'client', 'residue-of-a-key-1000000-0123456789'");
    reader.run("SELECT * FROM scrub_api_keys('clients')");
    assert_intact(&mut reader);
}

/// A full-page image zeroes a hole where it is replayed, and not where it was made: the next
/// primary may find nothing to scrub in pages that are dirty on another replica.
#[test]
fn every_page_reaches_replicas_that_differ_after_a_failover() {
    let mut first =
        Cluster::with("full_page_writes = on\n wal_keep_size = 500MB\n autovacuum = off");
    // With them a mere SELECT sends images of whole pages, for its hint bits.
    set_checksums(&mut first, false);
    let early = first.standby();
    // Pages that hold both live rows and bytes of dead ones.
    let mut session =
        migrated_after(&first, 20_000, "DELETE FROM clients WHERE id % 80 > 14; VACUUM clients");
    session.run("CHECKPOINT");
    session.run("SELECT * FROM clients FOR UPDATE");
    let late = first.standby();
    first.wait_for_followers();
    drop(session);
    drop(first);

    let data = early.data();
    early.run("pg_ctl", ["promote".as_ref(), "--silent".as_ref(), "-D".as_ref(), data.as_os_str()]);
    let mut on_late = late.session("postgres");
    on_late.run(&format!(
        "ALTER SYSTEM SET primary_conninfo = '{}'",
        early.connection_string("postgres")
    ));
    on_late.run("SELECT pg_reload_conf()");
    let mut session = early.session("postgres");
    wait_until("it follows", || {
        session.value("SELECT EXISTS (SELECT FROM pg_stat_replication)", &[])
    });
    let in_early = in_relations(&early);
    session.run("SELECT * FROM scrub_api_keys('clients'); CHECKPOINT");
    early.wait_for_followers();
    assert_eq!(in_early, 0, "control: it had nothing to scrub");
    assert!(in_relations(&late) > 1000, "control: an ordinary scrub does not know of them");

    session.run("SELECT * FROM scrub_api_keys('clients', every_page => true); CHECKPOINT");
    early.wait_for_followers();
    assert_eq!(in_relations(&late), 0);
    assert_intact(&mut session);
    assert_intact(&mut on_late);
}
