//! A migration is interrupted, watched and run again.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use cluster_tests::{Cluster, Session, describe, wait_until};
use postgres::error::SqlState;

/// What takes as long as this was not interrupted: the statements would take many minutes. Much
/// more than the second that is promised, since other tests run beside this one.
const SOON: Duration = Duration::from_secs(10);

/// Keys by the thousand at this cost take minutes.
const COSTLY: &str = "SELECT hash_api_keys(array_agg('key-' || n), 'bcrypt', 13, 3)
                        FROM generate_series(1, 5000) AS n";
const MIGRATE_COSTLY: &str = "CALL migrate_api_keys('clients', threads => 3)";

type Outcome = JoinHandle<Result<(), postgres::Error>>;

/// A cluster with a protected table of plaintext keys.
fn cluster(rows: i32, protection: &str) -> Cluster {
    let cluster = Cluster::new();
    cluster.extended_session("postgres").run(&filled(rows, protection));
    cluster
}

fn filled(rows: i32, protection: &str) -> String {
    format!(
        "DROP TABLE IF EXISTS clients;
         CREATE TABLE clients (id integer PRIMARY KEY, api_key text UNIQUE);
         INSERT INTO clients SELECT n, 'key-' || n FROM generate_series(1, {rows}) AS n;
         SELECT protect_api_keys('clients'{protection})"
    )
}

/// Starts a statement in a session of its own, and returns once it is at work.
fn start(cluster: &Cluster, sql: &'static str) -> (i32, Outcome) {
    let mut session = cluster.session("postgres");
    let pid: i32 = session.value("SELECT pg_backend_pid()", &[]);
    let outcome = thread::spawn(move || session.batch_execute(sql));
    let mut observer = cluster.session("postgres");
    wait_until("the statement is at work", || {
        observer.value(
            "SELECT count(*) > 0 FROM pg_stat_activity WHERE pid = $1 AND state = 'active' AND query ~ 'api_keys'",
            &[&pid],
        )
    });
    (pid, outcome)
}

fn threads(pid: i32) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten();
    tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("status")).ok()).collect()
}

/// A field of such a status.
fn field(status: &str, name: &str) -> String {
    let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.expect("Linux writes it").trim().to_owned()
}

fn assert_all_there(session: &mut Session, rows: i64) {
    let there: i64 = session.value(
        "SELECT count(*) FROM clients
          WHERE api_key = 'key-' || id OR verify_api_key('key-' || id, api_key_hash)",
        &[],
    );
    assert_eq!(there, rows);
}

fn hashes(session: &mut Session) -> BTreeMap<i32, String> {
    let query = "SELECT id, api_key_hash FROM clients WHERE api_key_hash IS NOT NULL";
    session.query(query, &[]).unwrap().iter().map(|row| (row.get(0), row.get(1))).collect()
}

#[test]
fn a_migration_goes_on_where_it_was_killed() {
    let cluster = Cluster::with("synchronous_commit = on");
    drop(cluster.extended_session("postgres"));
    for kill in ["-KILL", "-TERM"] {
        cluster.session("postgres").run(&filled(600, ", algorithm => 'bcrypt', cost => 4"));
        let (pid, outcome) =
            start(&cluster, "CALL migrate_api_keys('clients', 1, pause => '50 ms')");
        let mut session = cluster.session("postgres");
        wait_until("a part is migrated, as another session sees", || {
            session.value("SELECT hashed > 0 AND plaintext > 0 FROM api_key_status", &[])
        });
        assert!(Command::new("kill").args([kill, &pid.to_string()]).status().unwrap().success());
        outcome.join().unwrap().unwrap_err();
        drop(session);
        let mut session = None;
        wait_until("the server is back", || {
            session = cluster.try_session("postgres").ok();
            session.is_some()
        });
        let mut session = session.unwrap();

        let done = hashes(&mut session);
        assert!(!done.is_empty() && done.len() < 600, "{} of 600 after {kill}", done.len());
        assert_all_there(&mut session, 600);
        session.run("CALL migrate_api_keys('clients')");
        let all = hashes(&mut session);
        assert_eq!(all.len(), 600);
        // Each has a salt of its own, so nothing was hashed twice.
        assert!(done.iter().all(|(id, hash)| all[id] == *hash));
        assert_all_there(&mut session, 600);
        assert_eq!(session.value::<i64>("SELECT count(api_key) FROM clients", &[]), 0);
    }
}

#[test]
fn a_cancel_stops_all_threads() {
    let cluster = cluster(5000, ", algorithm => 'bcrypt', cost => 13");
    let mut session = cluster.session("postgres");
    for statement in [COSTLY, MIGRATE_COSTLY] {
        let (pid, outcome) = start(&cluster, statement);
        wait_until("three threads hash", || threads(pid).len() == 3);
        let began = Instant::now();
        session.run(&format!("SELECT pg_cancel_backend({pid})"));
        let error = outcome.join().unwrap().unwrap_err();
        assert_eq!(error.code(), Some(&SqlState::QUERY_CANCELED), "{}", describe(&error));
        assert!(began.elapsed() < SOON, "{statement} took {:?}", began.elapsed());
    }
    assert_all_there(&mut session, 5000);

    // The session goes on, with its own thread alone.
    let pid: i32 = session.value("SELECT pg_backend_pid()", &[]);
    for statement in [COSTLY, MIGRATE_COSTLY] {
        let began = Instant::now();
        session.run("SET statement_timeout = '300 ms'");
        let error = session.batch_execute(statement).unwrap_err();
        assert_eq!(error.code(), Some(&SqlState::QUERY_CANCELED), "{}", describe(&error));
        assert!(began.elapsed() < SOON, "{statement} took {:?}", began.elapsed());
        session.run("RESET statement_timeout");
        // The kernel may list a thread for a moment after it was joined.
        wait_until("no other thread is left", || threads(pid).len() == 1);
    }
    let verified: bool = session.value(
        "SELECT bool_and(verify_api_key('key-' || n, hash))
           FROM unnest(hash_api_keys(ARRAY['key-1', 'key-2', 'key-3', 'key-4'], 'bcrypt', 4, 3))
                WITH ORDINALITY AS h (hash, n)",
        &[],
    );
    assert!(verified);
    assert_all_there(&mut session, 5000);
}

#[test]
fn a_cancel_stops_sha256() {
    let cluster = cluster(60_000, "");
    let mut session = cluster.session("postgres");
    let pid: i32 = session.value("SELECT pg_backend_pid()", &[]);
    // One batch, so that all of it comes back.
    session.run("SET statement_timeout = '100 ms'");
    let error = session.batch_execute("CALL migrate_api_keys('clients', 2147483647)").unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::QUERY_CANCELED), "{}", describe(&error));
    let endless = "SELECT hash_api_keys(array_agg('key-' || n), 'sha256') FROM generate_series(1, 100000000) AS n";
    let error = session.batch_execute(endless).unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::QUERY_CANCELED), "{}", describe(&error));
    session.run("RESET statement_timeout");
    assert_eq!(threads(pid).len(), 1);
    assert_all_there(&mut session, 60_000);
}

#[test]
fn termination_leaves_no_thread_and_disturbs_no_other() {
    let cluster = cluster(5000, ", algorithm => 'bcrypt', cost => 13");
    let mut session = cluster.session("postgres");
    for statement in [COSTLY, MIGRATE_COSTLY, COSTLY, MIGRATE_COSTLY] {
        let (pid, outcome) = start(&cluster, statement);
        wait_until("three threads hash", || threads(pid).len() == 3);
        let began = Instant::now();
        session.run(&format!("SELECT pg_terminate_backend({pid})"));
        outcome.join().unwrap().unwrap_err();
        wait_until("all of the process is gone", || threads(pid).is_empty());
        assert!(began.elapsed() < SOON, "{statement} took {:?}", began.elapsed());
    }
    // This session would have ended by a crash of another.
    assert_all_there(&mut session, 5000);
    let log = cluster.log();
    for bad in ["PANIC", "terminated by signal", "panicked", "crash"] {
        assert!(!log.contains(bad), "{bad} in the log:\n{log}");
    }
}

/// The server stops at once too, though a backend is deep in bcrypt.
#[test]
fn a_server_that_stops_does_not_wait_for_the_threads() {
    let mut cluster = cluster(5000, ", algorithm => 'bcrypt', cost => 13");
    for mode in ["fast", "immediate"] {
        let (pid, outcome) = start(&cluster, MIGRATE_COSTLY);
        wait_until("three threads hash", || threads(pid).len() == 3);
        let began = Instant::now();
        cluster.stop(mode);
        outcome.join().unwrap().unwrap_err();
        wait_until("all of the process is gone", || threads(pid).is_empty());
        assert!(began.elapsed() < SOON, "{mode} took {:?}", began.elapsed());
        cluster.start();
        assert_all_there(&mut cluster.session("postgres"), 5000);
    }
}

#[test]
fn signals_reach_the_backend_thread_only() {
    let cluster = cluster(1, "");
    let mut session = cluster.session("postgres");
    let hash = "SELECT bool_and(verify_api_key('key-' || n, hash))
                  FROM unnest(hash_api_keys((SELECT array_agg('key-' || n ORDER BY n)
                                               FROM generate_series(1, 200) AS n), 'bcrypt', 8, 4))
                       WITH ORDINALITY AS h (hash, n) WHERE n % 40 = 1";
    let mut worker = cluster.session("postgres");
    let pid: i32 = worker.value("SELECT pg_backend_pid()", &[]);
    let before = threads(pid);
    let result = thread::spawn(move || {
        let verified: bool = worker.value(hash, &[]);
        (verified, worker)
    });
    wait_until("four threads hash", || threads(pid).len() == 4);
    let mut seen = 0;
    while !result.is_finished() {
        // SIGUSR1, SIGHUP and, by way of the postmaster, more of them
        session.run(&format!("SELECT pg_log_backend_memory_contexts({pid}), pg_reload_conf()"));
        for status in threads(pid).iter().filter(|status| field(status, "Pid") != pid.to_string()) {
            let blocked = u64::from_str_radix(&field(status, "SigBlk"), 16).unwrap();
            // SIGKILL and SIGSTOP can't be blocked; 32 and 33 belong to the C library
            let none = [9, 19, 32, 33].iter().fold(0, |bits, signal| bits | 1_u64 << (signal - 1));
            assert_eq!(blocked | none, u64::MAX, "a worker that takes signals: {status}");
            seen += 1;
        }
        thread::sleep(Duration::from_millis(5));
    }
    assert!(seen > 0);
    let (verified, mut worker) = result.join().unwrap();
    assert!(verified);
    // The backend has its signals back.
    worker.run("SELECT");
    wait_until("no other thread is left", || threads(pid).len() == 1);
    let after = threads(pid);
    assert_eq!(field(&after[0], "SigBlk"), field(&before[0], "SigBlk"));
    let sleeper = thread::spawn(move || worker.batch_execute("SELECT pg_sleep(60)"));
    wait_until("it sleeps", || {
        session.value(
            "SELECT count(*) > 0 FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'PgSleep'",
            &[&pid],
        )
    });
    session.run(&format!("SELECT pg_cancel_backend({pid})"));
    sleeper.join().unwrap().unwrap_err();
    assert!(!cluster.log().contains("terminated by signal"));
}

#[test]
fn progress_is_told_every_few_seconds() {
    let cluster = cluster(2000, "");
    let mut session = cluster.session("postgres");
    session.notices();
    session.run("CALL migrate_api_keys('clients', 1, pause => '600 ms')");
    let notices: Vec<String> = session.notices().iter().map(|n| n.message().to_owned()).collect();
    let last = notices.last().unwrap();
    assert!(last.starts_with("table public.clients: 2000 keys hashed in 00:00:"), "{last}");
    let progress = &notices[0];
    let (done, rest) = progress
        .strip_prefix("table public.clients: ")
        .and_then(|text| text.split_once(" of 2000 keys hashed ("))
        .unwrap_or_else(|| panic!("{progress}"));
    let done: u32 = done.parse().unwrap();
    let (percent, rest) = rest.split_once(" %), ").unwrap_or_else(|| panic!("{progress}"));
    assert!((1..2000).contains(&done), "{progress}");
    assert!(percent.parse::<u32>().unwrap().abs_diff(done / 20) <= 1, "{progress}");
    assert!(rest.contains(" a second, about 00:00:"), "{progress}");
    assert!(rest.ends_with(" left"), "{progress}");
}

/// The first waits in the first block; the second has begun in the middle meanwhile.
#[test]
fn two_migrators_share_the_work() {
    let cluster = cluster(4000, "");
    let mut lock = cluster.session("postgres");
    lock.run("BEGIN; SELECT FROM clients WHERE id = 1 FOR UPDATE");
    let mut session = cluster.session("postgres");
    let migrate = "CALL migrate_api_keys('clients', 100)";
    let (first, first_outcome) = start(&cluster, migrate);
    let waits = "SELECT cardinality(pg_blocking_pids($1)) > 0";
    wait_until("the first migrator waits", || session.value(waits, &[&first]));
    let (second, second_outcome) = start(&cluster, migrate);
    wait_until("the second migrator waits", || session.value(waits, &[&second]));
    let (early, late): (i64, i64) = {
        let query = "SELECT count(*) FILTER (WHERE id < 1900), count(*) FILTER (WHERE id > 2100)
                       FROM clients WHERE api_key IS NULL";
        let row = session.query_one(query, &[]).unwrap();
        (row.get(0), row.get(1))
    };
    assert_eq!((early, late), (0, 1900), "hashed before and after the middle");
    lock.run("COMMIT");
    first_outcome.join().unwrap().unwrap();
    second_outcome.join().unwrap().unwrap();
    assert_eq!(session.value::<i64>("SELECT count(api_key) FROM clients", &[]), 0);
    assert_all_there(&mut session, 4000);
}
