//! Look-ups go on, and find what they should, while the table and its indexes change under them.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use cluster_tests::{Cluster, describe};

const ROWS: i32 = 200;

/// What sessions have seen that look one key up after the other.
#[derive(Debug, Default)]
struct Seen {
    look_ups: u64,
    mistakes: Vec<String>,
}

/// Changes the table again and again for some seconds, while two sessions look keys up.
fn look_up_during(cluster: &Cluster, changes: &[&str]) -> Seen {
    let mut session = cluster.session("postgres");
    session.run(&format!(
        "CREATE EXTENSION pg_api_key;
         CREATE TABLE clients (id integer PRIMARY KEY, name text, api_key text);
         INSERT INTO clients SELECT i, 'client ' || i, 'key-of-' || i FROM generate_series(1, {ROWS}) AS i;
         SELECT protect_api_keys('clients')"
    ));
    session.run("CALL migrate_api_keys('clients')");
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let readers: Vec<_> =
            (0..2).map(|_| scope.spawn(|| look_up_until(cluster, &stop))).collect();
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(3) {
            changes.iter().for_each(|change| session.run(change));
        }
        stop.store(true, Relaxed);
        readers.into_iter().map(|reader| reader.join().unwrap()).fold(
            Seen::default(),
            |mut all, mut one| {
                all.look_ups += one.look_ups;
                all.mistakes.append(&mut one.mistakes);
                all
            },
        )
    })
}

fn look_up_until(cluster: &Cluster, stop: &AtomicBool) -> Seen {
    let mut session = cluster.session("postgres");
    let prepared = session
        .prepare("SELECT f.id FROM find_by_api_key(NULL::clients, 'key-of-' || $1::integer) AS f")
        .unwrap();
    let mut seen = Seen::default();
    for id in (1..=ROWS).cycle() {
        if stop.load(Relaxed) {
            break;
        }
        seen.look_ups += 1;
        match session.query(&prepared, &[&id]) {
            Ok(rows) => {
                let found: Vec<i32> = rows.iter().map(|row| row.get(0)).collect();
                if found != [id] {
                    seen.mistakes.push(format!("key {id}: {found:?}"));
                }
            }
            Err(error) => seen.mistakes.push(format!("key {id}: {}", describe(&error))),
        }
    }
    seen
}

#[test]
fn look_ups_go_on_while_the_table_changes() {
    let cluster = Cluster::new();
    let seen = look_up_during(
        &cluster,
        &[
            "REINDEX INDEX CONCURRENTLY clients_api_key_hash_idx",
            "UPDATE clients SET api_key = 'key-of-' || id WHERE id % 10 = 0",
            "DROP INDEX CONCURRENTLY clients_api_key_hash_idx",
            "CREATE UNIQUE INDEX CONCURRENTLY clients_api_key_hash_idx ON clients (api_key_hash)",
            "ALTER TABLE clients ENABLE ROW LEVEL SECURITY",
            "ALTER TABLE clients DISABLE ROW LEVEL SECURITY",
            "BEGIN; DROP INDEX clients_api_key_hash_idx;
             UPDATE clients SET api_key = 'key-of-' || id WHERE id % 10 = 1;
             CREATE UNIQUE INDEX clients_api_key_hash_idx ON clients (api_key_hash); COMMIT",
            "CREATE TABLE more () INHERITS (clients)",
            "DROP TABLE more",
            "ANALYZE clients",
            "DO $$ BEGIN EXECUTE format('ALTER TABLE clients ADD COLUMN %I text DEFAULT ''new''',
                                        'added_' || pg_current_xact_id()); END $$",
            "VACUUM clients",
        ],
    );
    assert_eq!(seen.mistakes, Vec::<String>::new(), "of {} look-ups", seen.look_ups);
    assert!(seen.look_ups > 100, "{seen:?}");
}

#[test]
fn control_a_key_that_is_lost_for_a_moment_is_noticed() {
    let cluster = Cluster::new();
    let seen = look_up_during(
        &cluster,
        &[
            "UPDATE clients SET api_key = 'another-' || id",
            "UPDATE clients SET api_key = 'key-of-' || id",
        ],
    );
    assert!(!seen.mistakes.is_empty(), "{seen:?}");
}
