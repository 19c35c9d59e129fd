//! Migrators and an application at full speed, while backends are killed and the server crashes.
//!
//! The test keeps a ledger of what the application was told to be committed. At the end every key
//! in it must belong to its row. `PG_API_KEY_LOAD_SECONDS` says how long to go on (default 15).

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::process::Command;
use std::sync::RwLock;
use std::thread;
use std::time::{Duration, Instant};

use cluster_tests::{Cluster, Session, describe, wait_until};
use postgres::error::SqlState;

/// Commits survive the death of processes, though not of the machine.
const SETTINGS: &str = "
    synchronous_commit = on
    full_page_writes = on
    deadlock_timeout = 100ms
    log_statement = none";

/// What may stand in each row: the last write that was acknowledged, and after it those of which
/// the outcome is unknown. `None` is a row that is not there.
type Ledger = HashMap<i32, Vec<Option<String>>>;

struct Load {
    cluster: RwLock<Cluster>,
    deadline: Instant,
}

impl Load {
    /// A cluster that `setup` has filled, and the time for which the load goes on from now.
    fn new(setup: &str, seconds: u64) -> Self {
        let cluster = Cluster::with(SETTINGS);
        cluster.extended_session("postgres").run(setup);
        let deadline = Instant::now() + Duration::from_secs(seconds);
        Self { cluster: RwLock::new(cluster), deadline }
    }

    fn goes_on(&self) -> bool {
        Instant::now() < self.deadline
    }

    /// Calls `step` again and again, with a new session whenever the last one is lost.
    fn repeat(&self, mut step: impl FnMut(&mut Session) -> ControlFlow<()>) {
        while self.goes_on() {
            let session = self.cluster.read().unwrap().try_session("postgres");
            let Ok(mut session) = session else {
                thread::sleep(Duration::from_millis(10));
                continue;
            };
            while self.goes_on() && step(&mut session).is_continue() {}
        }
    }

    /// The server may be on its way up from the last kill.
    fn session(&self) -> Session {
        let mut session = None;
        wait_until("the server is back", || {
            session = self.cluster.read().unwrap().try_session("postgres").ok();
            session.is_some()
        });
        session.unwrap()
    }
}

/// Whether the session has ended, so that nobody knows what became of the statement.
fn is_lost(error: &postgres::Error) -> bool {
    error.as_db_error().is_none_or(|error| matches!(error.severity(), "FATAL" | "PANIC"))
}

/// A sequence of numbers that look random; the same in each run, unlike the load's timing.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % limit
    }
}

/// One client of the application. It alone writes its rows, but for the migrators.
struct Application {
    table: &'static str,
    name: usize,
    ids: Vec<i32>,
    ledger: Ledger,
    numbers: Numbers,
    writes: usize,
}

impl Application {
    /// `name` of `names` clients shares the rows `1..=rows` with the others.
    fn new(table: &'static str, rows: i32, name: usize, names: usize) -> Self {
        let ids: Vec<i32> =
            (1..=rows).filter(|id| id.unsigned_abs() as usize % names == name).collect();
        let ledger = ids.iter().map(|&id| (id, vec![Some(format!("key-{id}"))])).collect();
        Self { table, name, ids, ledger, numbers: Numbers(name as u64), writes: 0 }
    }

    fn run(mut self, load: &Load) -> Self {
        load.repeat(|session| self.step(session));
        self
    }

    fn run_rotations(mut self, load: &Load) -> Self {
        load.repeat(|session| {
            let id = self.ids[self.numbers.below(self.ids.len())];
            self.write(session, &[id], "rotate")
        });
        self
    }

    fn step(&mut self, session: &mut Session) -> ControlFlow<()> {
        let id = self.ids[self.numbers.below(self.ids.len())];
        let table = self.table;
        let state = match self.ledger[&id].as_slice() {
            [state] => state.clone(),
            _ => return self.write(session, &[id], "replace"), // so that it is known again
        };
        match (self.numbers.below(20), state) {
            (0..6, Some(key)) => {
                let find = format!("SELECT id FROM find_by_api_key(NULL::{table}, $1)");
                match session.query(&find, &[&key]) {
                    Ok(rows) => {
                        let found: Vec<i32> = rows.iter().map(|row| row.get(0)).collect();
                        assert_eq!(found, [id], "whom the key of row {id} of {table} belongs to");
                        ControlFlow::Continue(())
                    }
                    Err(error) => lost(&error),
                }
            }
            (6..9, Some(_)) => {
                let rename = format!("UPDATE {table} SET name = name || '.' WHERE id = $1");
                match session.execute(&rename, &[&id]) {
                    Ok(rows) => {
                        assert_eq!(rows, 1, "row {id} of {table} is there");
                        ControlFlow::Continue(())
                    }
                    Err(error) => lost(&error),
                }
            }
            (9..11, Some(_)) => self.write(session, &[id], "delete"),
            (11..12, Some(_)) => self.write(session, &[id], "replace"),
            (12..14, Some(_)) => {
                let other = self.ids[self.numbers.below(self.ids.len())];
                let usable = matches!(self.ledger[&other].as_slice(), [Some(_)]) && other != id;
                let pair = [id, other];
                self.write(session, if usable { &pair } else { &pair[..1] }, "rotate")
            }
            (_, Some(_)) => self.write(session, &[id], "rotate"),
            (_, None) => self.write(session, &[id], "insert"),
        }
    }

    /// Gives the rows new keys, or deletes them, in one transaction, and notes what is known then.
    fn write(&mut self, session: &mut Session, ids: &[i32], kind: &str) -> ControlFlow<()> {
        self.writes += 1;
        let key = |id: i32| format!("new-{}-{}-{id}", self.name, self.writes);
        let table = self.table;
        let insert = format!("INSERT INTO {table} (id, name, api_key) VALUES ($1, 'new', $2)");
        let delete = format!("DELETE FROM {table} WHERE id = $1");
        let rotate = format!("UPDATE {table} SET api_key = $2 WHERE id = $1");
        let mut may_be_committed = false;
        let outcome = (|| {
            let mut transaction = session.transaction()?;
            for &id in ids {
                match kind {
                    "insert" => assert_eq!(transaction.execute(&insert, &[&id, &key(id)])?, 1),
                    "delete" => assert_eq!(transaction.execute(&delete, &[&id])?, 1, "row {id}"),
                    "rotate" => {
                        assert_eq!(transaction.execute(&rotate, &[&id, &key(id)])?, 1, "row {id}");
                    }
                    _ => {
                        transaction.execute(&delete, &[&id])?;
                        transaction.execute(&insert, &[&id, &key(id)])?;
                    }
                }
            }
            may_be_committed = true;
            transaction.commit()
        })();
        for &id in ids {
            let state = (kind != "delete").then(|| key(id));
            let states = self.ledger.entry(id).or_default();
            match &outcome {
                Ok(()) => *states = vec![state],
                Err(_) if may_be_committed => states.push(state),
                Err(_) => {}
            }
        }
        outcome.map_or_else(|error| lost(&error), |()| ControlFlow::Continue(()))
    }
}

/// After an error a session goes on only if it was the victim of a deadlock.
fn lost(error: &postgres::Error) -> ControlFlow<()> {
    if is_lost(error) {
        return ControlFlow::Break(());
    }
    assert_eq!(error.code(), Some(&SqlState::T_R_DEADLOCK_DETECTED), "{}", describe(error));
    ControlFlow::Continue(())
}

/// Migrates in small batches until the end; returns how often it was interrupted.
fn migrate(load: &Load, statement: &str) -> usize {
    let mut interrupted = 0;
    load.repeat(|session| match session.batch_execute(statement) {
        Ok(()) => {
            thread::sleep(Duration::from_millis(10));
            ControlFlow::Continue(())
        }
        // A procedure of ours deals with deadlocks by itself.
        Err(error) if !statement.starts_with("CALL") => lost(&error),
        Err(error) => {
            assert!(is_lost(&error), "{}", describe(&error));
            interrupted += 1;
            ControlFlow::Break(())
        }
    });
    interrupted
}

/// Ends processes until the end; returns how often it ended a session, crashed a backend, and
/// stopped the server.
fn disturb(load: &Load) -> [usize; 3] {
    let mut numbers = Numbers(42);
    let mut count = [0; 3];
    while load.goes_on() {
        thread::sleep(Duration::from_millis(150 + numbers.below(500) as u64));
        let kind = [0, 0, 0, 0, 1, 1, 2][numbers.below(7)];
        if kind == 2 {
            let mut cluster = load.cluster.write().unwrap();
            cluster.stop("immediate");
            cluster.start();
            count[kind] += 1;
            continue;
        }
        let victim = if kind == 0 { "pg_terminate_backend(pid)" } else { "pid > 0" };
        let victim = format!(
            "SELECT pid, {victim} FROM pg_stat_activity
              WHERE pid = (SELECT pid FROM pg_stat_activity
                            WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
                            ORDER BY random() LIMIT 1)"
        );
        let Ok(mut session) = load.cluster.read().unwrap().try_session("postgres") else {
            continue; // it has not recovered yet
        };
        let Ok(Some(row)) = session.query_opt(&victim, &[]) else { continue };
        let pid: i32 = row.get(0);
        if kind == 1
            && !Command::new("kill")
                .args(["-KILL", &pid.to_string()])
                .status()
                .is_ok_and(|s| s.success())
        {
            continue; // it has ended by itself
        }
        count[kind] += 1;
    }
    count
}

/// Rows that are not as the ledger says: none of the possible keys meets the condition, which is
/// asked of `l`, a row and its key in the ledger, and `c`, the row in the table.
fn lost_rows(session: &mut Session, table: &str, ledger: &Ledger, condition: &str) -> Vec<i32> {
    let (mut ids, mut keys) = (Vec::new(), Vec::new());
    for (&id, states) in ledger {
        for key in states.iter().flatten() {
            ids.push(id);
            keys.push(key);
        }
    }
    let present = format!("SELECT coalesce(array_agg(id), '{{}}') FROM {table}");
    let present: Vec<i32> = session.value(&present, &[]);
    let right = format!(
        "SELECT coalesce(array_agg(l.id), '{{}}') FROM unnest($1::integer[], $2::text[]) AS l (id, key)
           JOIN {table} AS c USING (id) WHERE {condition}"
    );
    let right: Vec<i32> = session.value(&right, &[&ids, &keys]);
    let (present, right) = (HashSet::<i32>::from_iter(present), HashSet::<i32>::from_iter(right));
    let is_lost = |(id, states): &(&i32, &Vec<_>)| {
        if present.contains(id) { !right.contains(id) } else { !states.contains(&None) }
    };
    ledger.iter().filter(is_lost).map(|(&id, _)| id).collect()
}

const STILL_THERE: &str = "c.api_key = l.key OR c.api_key_hash = hash_api_key(l.key)";

fn seconds() -> u64 {
    let asked = std::env::var("PG_API_KEY_LOAD_SECONDS");
    asked.map_or(15, |asked| asked.parse().expect("PG_API_KEY_LOAD_SECONDS is a number"))
}

#[test]
fn no_key_is_lost_while_everything_goes_wrong() {
    let seconds = seconds();
    let (many, few) = (seconds as i32 * 1500, seconds as i32 * 100);
    let setup = format!(
        "CREATE TABLE clients (id integer PRIMARY KEY, name text, api_key text UNIQUE);
         CREATE TABLE services (id integer PRIMARY KEY, name text, api_key text UNIQUE);
         INSERT INTO clients SELECT n, 'client', 'key-' || n FROM generate_series(1, {many}) AS n;
         INSERT INTO services SELECT n, 'service', 'key-' || n FROM generate_series(1, {few}) AS n;
         SELECT protect_api_keys('clients');
         SELECT protect_api_keys('services', algorithm => 'bcrypt', cost => 4)"
    );
    let load = Load::new(&setup, seconds);

    let (applications, interrupted, disturbed) = thread::scope(|scope| {
        let load = &load;
        let applications = [
            Application::new("clients", many, 0, 2),
            Application::new("clients", many, 1, 2),
            Application::new("services", few, 0, 1),
        ]
        .map(|application| scope.spawn(|| application.run(load)));
        let migrators = [
            "CALL migrate_api_keys('clients', 20, 0, '5 ms')",
            "CALL migrate_api_keys('clients', 30, 0, '5 ms')",
            "CALL migrate_api_keys('services', 10, 2, '50 ms')",
            "CALL migrate_api_keys('services', 10, 3, '50 ms')",
        ]
        .map(|statement| scope.spawn(move || migrate(load, statement)));
        let disturbed = disturb(load);
        let interrupted: usize = migrators.into_iter().map(|each| each.join().unwrap()).sum();
        (applications.map(|each| each.join().unwrap()), interrupted, disturbed)
    });
    let writes: usize = applications.iter().map(|each| each.writes).sum();
    println!(
        "{writes} writes, {interrupted} migrations interrupted; sessions ended, backends killed, \
         servers stopped: {disturbed:?}"
    );
    assert!(writes > 100 && interrupted > 0 && disturbed.iter().sum::<usize>() > 0);

    let mut session = load.session();
    let log = load.cluster.read().unwrap().log();
    for bad in ["PANIC", "signal 11", "signal 6", "panicked"] {
        assert!(!log.contains(bad), "{bad} in the log");
    }
    let ledgers = applications.map(|each| (each.table, each.ledger));
    // Before the end of the migration as well as after it.
    let merged = |name: &str| -> Ledger {
        let of_table = ledgers.iter().filter(|(table, _)| *table == name);
        of_table.flat_map(|(_, ledger)| ledger.clone()).collect()
    };
    let (clients, services) = (merged("clients"), merged("services"));
    assert_eq!(lost_rows(&mut session, "clients", &clients, STILL_THERE), []);
    session.run("CALL migrate_api_keys('clients')");
    session.run("CALL migrate_api_keys('services')");
    let left: i64 = session.value("SELECT sum(plaintext)::bigint FROM api_key_status", &[]);
    assert_eq!(left, 0);

    let by_hash = "c.api_key_hash = hash_api_key(l.key)";
    assert_eq!(lost_rows(&mut session, "clients", &clients, by_hash), []);
    let verifies = "verify_api_key(l.key, c.api_key_hash) AND c.api_key_tag = api_key_tag(l.key)";
    assert_eq!(lost_rows(&mut session, "services", &services, verifies), []);
    for (table, mut ledger) in [("clients", clients), ("services", services)] {
        // Of the keys that nobody has touched a part will do.
        let touched = |id: &i32, states: &[_]| *states != [Some(format!("key-{id}"))];
        ledger.retain(|id, states| id % 10 == 0 || touched(id, states));
        let finds = format!(
            "(SELECT array_agg(f.id) FROM find_by_api_key(NULL::{table}, l.key) AS f) = ARRAY[l.id]"
        );
        assert_eq!(lost_rows(&mut session, table, &ledger, &finds), []);
    }
}

/// The same application and the same ledger, and the way that everybody writes first.
#[test]
fn control_naive_migrators_lose_keys_and_the_ledger_tells() {
    let load = Load::new(
        "CREATE TABLE clients (id integer PRIMARY KEY, name text, api_key text, api_key_hash text);
         INSERT INTO clients SELECT n, 'client', 'key-' || n FROM generate_series(1, 20000) AS n",
        2,
    );
    let naive = "UPDATE clients SET api_key_hash = hash_api_key(api_key), api_key = NULL
                  WHERE id IN (SELECT id FROM clients WHERE api_key IS NOT NULL ORDER BY id LIMIT 200)";
    let application = thread::scope(|scope| {
        let migrators = [(), ()].map(|()| scope.spawn(|| migrate(&load, naive)));
        let application = Application::new("clients", 20000, 0, 1);
        let application = scope.spawn(|| application.run_rotations(&load));
        for migrator in migrators {
            migrator.join().unwrap();
        }
        application.join().unwrap()
    });
    let mut session = load.session();
    let lost = lost_rows(&mut session, "clients", &application.ledger, STILL_THERE);
    let empty: i64 = session
        .value("SELECT count(*) FROM clients WHERE api_key IS NULL AND api_key_hash IS NULL", &[]);
    assert!(empty > 0, "two naive migrators met");
    assert!(
        lost.len() as i64 >= empty,
        "{} rows are empty, the ledger misses {}",
        empty,
        lost.len()
    );
}
