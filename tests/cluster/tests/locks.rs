//! `protect_api_keys` on a live table: what it waits for, whom it holds up, what it leaves behind.

use std::thread::{self, JoinHandle};

use cluster_tests::{Cluster, Session, describe, wait_until};

fn cluster(table: &str) -> Cluster {
    let cluster = Cluster::new();
    let mut session = cluster.extended_session("postgres");
    session.run(table);
    session.run(
        "INSERT INTO clients (api_key) SELECT 'key-of-' || i FROM generate_series(1, 10) AS i",
    );
    cluster
}

const CLIENTS: &str = "CREATE TABLE clients (id serial PRIMARY KEY, api_key text);";

fn protect_aside(mut session: Session) -> JoinHandle<Result<Session, String>> {
    thread::spawn(move || match session.batch_execute("SELECT protect_api_keys('clients')") {
        Ok(()) => Ok(session),
        Err(error) => Err(describe(&error)),
    })
}

fn process_id(session: &mut Session) -> i32 {
    session.value("SELECT pg_backend_pid()", &[])
}

fn wait_until_blocked(cluster: &Cluster, pid: i32, by: i32) {
    let mut observer = cluster.session("postgres");
    wait_until("one session waits for the other", || {
        observer.value("SELECT $2 = ANY (pg_blocking_pids($1))", &[&pid, &by])
    });
}

/// Columns, indexes and triggers of the table, to compare.
fn shape(session: &mut Session) -> String {
    session.value(
        "SELECT concat_ws(' | ',
             (SELECT string_agg(attname::text, ' ' ORDER BY attnum) FROM pg_attribute
               WHERE attrelid = 'clients'::regclass AND attnum > 0),
             (SELECT string_agg(indexrelid::regclass::text, ' ' ORDER BY indexrelid) FROM pg_index
               WHERE indrelid = 'clients'::regclass),
             (SELECT string_agg(tgname::text, ' ' ORDER BY tgname) FROM pg_trigger
               WHERE tgrelid = 'clients'::regclass))",
        &[],
    )
}

#[test]
fn lock_timeout_is_honoured_and_nothing_is_left_behind() {
    let cluster = cluster(CLIENTS);
    let mut session = cluster.session("postgres");
    let before = shape(&mut session);

    let mut user = cluster.session("postgres");
    user.run("BEGIN; INSERT INTO clients (api_key) VALUES ('key-of-user')");
    session.run("SET lock_timeout = '100ms'");
    let error = session.batch_execute("SELECT protect_api_keys('clients')").unwrap_err();
    assert!(describe(&error).starts_with("ERROR 55P03"), "{}", describe(&error));
    assert_eq!(shape(&mut session), before);
    let locks: i64 = session.value(
        "SELECT count(*) FROM pg_locks WHERE relation = 'clients'::regclass AND NOT granted",
        &[],
    );
    assert_eq!(locks, 0);

    // Control: without the open transaction it works.
    user.run("COMMIT");
    session.run("SELECT protect_api_keys('clients')");
    assert_ne!(shape(&mut session), before);
    let plaintext: i64 = session.value("SELECT plaintext FROM api_key_status", &[]);
    assert_eq!(plaintext, 11);
}

/// The preflight is stopped in the middle, by a CHECK constraint that it evaluates.
#[test]
fn the_preflight_holds_up_neither_readers_nor_writers() {
    let cluster = cluster(
        "CREATE FUNCTION gate(key text) RETURNS boolean LANGUAGE plpgsql AS $$
         BEGIN IF key IS NULL THEN PERFORM pg_advisory_xact_lock_shared(1); END IF; RETURN true; END $$;
         CREATE TABLE clients (id serial PRIMARY KEY, api_key text CONSTRAINT gate CHECK (gate(api_key)));",
    );
    let mut keeper = cluster.session("postgres");
    keeper.run("SELECT pg_advisory_lock(1)");
    let keeper_id = process_id(&mut keeper);
    let mut session = cluster.session("postgres");
    let id = process_id(&mut session);
    let protecting = protect_aside(session);
    wait_until_blocked(&cluster, id, keeper_id);

    let mut user = cluster.session("postgres");
    user.run(
        "SET lock_timeout = '1s';
         SELECT count(*) FROM clients;
         INSERT INTO clients (api_key) VALUES ('key-of-user');
         UPDATE clients SET api_key = 'another' WHERE id = 1;
         DELETE FROM clients WHERE id = 2;
         SELECT * FROM clients WHERE id = 3 FOR UPDATE",
    );
    // Another call waits for the first, before it looks at anything.
    let error = user.batch_execute("SELECT protect_api_keys('clients')").unwrap_err();
    assert!(describe(&error).starts_with("ERROR 55P03"), "{}", describe(&error));

    keeper.run("SELECT pg_advisory_unlock(1)");
    protecting.join().unwrap().unwrap();
}

#[test]
fn two_calls_at_once_are_one_after_the_other() {
    let cluster = cluster(CLIENTS);
    let mut user = cluster.session("postgres");
    user.run("BEGIN; INSERT INTO clients (api_key) VALUES ('key-of-user')");
    let user_id = process_id(&mut user);
    let mut first = cluster.session("postgres");
    let first_id = process_id(&mut first);
    let first = protect_aside(first);
    wait_until_blocked(&cluster, first_id, user_id);
    let mut second = cluster.session("postgres");
    let second_id = process_id(&mut second);
    let second = protect_aside(second);
    wait_until_blocked(&cluster, second_id, first_id);

    user.run("COMMIT");
    let (mut first, mut second) = (first.join().unwrap().unwrap(), second.join().unwrap().unwrap());
    let said = |session: &mut Session, text: &str| {
        let notices = session.notices();
        assert!(
            notices.iter().any(|notice| notice.message().contains(text)),
            "{text}: {notices:?}"
        );
    };
    said(&mut first, "are hashed with sha256");
    said(&mut second, "is protected already, nothing to change");
    let in_force: bool = second.value("SELECT triggers_in_force FROM api_key_status", &[]);
    assert!(in_force);
}

/// An application's transaction that has read, and then writes, while protect waits for it.
#[test]
fn a_transaction_that_has_read_may_still_write() {
    let cluster = cluster(CLIENTS);
    let mut user = cluster.session("postgres");
    user.run("BEGIN; SELECT count(*) FROM clients");
    let user_id = process_id(&mut user);
    let mut session = cluster.session("postgres");
    let id = process_id(&mut session);
    let protecting = protect_aside(session);
    wait_until_blocked(&cluster, id, user_id);
    user.run("INSERT INTO clients (api_key) VALUES ('key-of-user'); COMMIT");
    let mut session = protecting.join().unwrap().unwrap();
    let plaintext: i64 = session.value("SELECT plaintext FROM api_key_status", &[]);
    assert_eq!(plaintext, 11);
}

/// What the hint for a large table says: columns and indexes first, then triggers in a moment.
#[test]
fn indexes_made_beforehand_are_used() {
    for (algorithm, prepare) in [
        (
            "sha256",
            "ALTER TABLE clients ADD COLUMN api_key_hash text COLLATE \"C\";
             CREATE UNIQUE INDEX CONCURRENTLY ON clients (api_key_hash)",
        ),
        (
            "bcrypt",
            "ALTER TABLE clients ADD COLUMN api_key_hash text, ADD COLUMN api_key_tag integer;
             CREATE UNIQUE INDEX CONCURRENTLY ON clients (api_key_hash) WHERE api_key_hash IS NOT NULL;
             CREATE INDEX CONCURRENTLY ON clients (api_key_tag)",
        ),
    ] {
        let cluster = cluster(CLIENTS);
        let mut session = cluster.session("postgres");
        for statement in prepare.split(';') {
            session.run(statement);
        }
        let before = shape(&mut session);
        // A reader that stays does not matter any more.
        let mut reader = cluster.session("postgres");
        reader.run("BEGIN; SELECT count(*) FROM clients");
        session.run("SET lock_timeout = '1s'");
        session.run(&format!("SELECT protect_api_keys('clients', algorithm => '{algorithm}')"));
        let after = shape(&mut session);
        let triggers = "!pg_api_key_first !pg_api_key_upsert ~pg_api_key_last";
        assert_eq!(after, format!("{before} | {triggers}"), "{algorithm}");
    }
}

/// One that failed half-way leaves an invalid index, which does not count.
#[test]
fn an_invalid_index_is_not_used() {
    let cluster = cluster(CLIENTS);
    let mut session = cluster.session("postgres");
    session.run("ALTER TABLE clients ADD COLUMN api_key_hash text; UPDATE clients SET api_key_hash = repeat('0', 64)");
    session
        .batch_execute("CREATE UNIQUE INDEX CONCURRENTLY broken ON clients (api_key_hash)")
        .unwrap_err();
    session.run("UPDATE clients SET api_key_hash = NULL; SELECT protect_api_keys('clients')");
    let valid: i64 = session.value(
        "SELECT count(*) FROM pg_index WHERE indrelid = 'clients'::regclass AND indisunique AND indisvalid",
        &[],
    );
    assert_eq!(valid, 2, "the primary key's and a new one");
}

#[test]
fn a_large_table_gets_a_hint_on_how_not_to_block() {
    // One row fills a page of which the rest is kept free.
    let cluster = cluster(
        "CREATE UNLOGGED TABLE clients (id serial PRIMARY KEY, note text, api_key text) WITH (fillfactor = 10);
         INSERT INTO clients (note) SELECT repeat('x', 900) FROM generate_series(1, 8300);",
    );
    let mut session = cluster.session("postgres");
    let hint = |session: &mut Session, arguments: &str| {
        session.run("BEGIN");
        session.run(&format!("SELECT protect_api_keys('clients'{arguments})"));
        session.run("ROLLBACK");
        let mut notices = session.notices().into_iter();
        notices.find(|notice| notice.message().contains("waits for and blocks its users"))
    };
    let notice = hint(&mut session, "").expect("a notice");
    assert!(notice.message().contains("(65 MB)"), "{}", notice.message());
    let said = notice.hint().unwrap();
    for statement in [
        "ALTER TABLE public.clients ADD COLUMN api_key_hash text COLLATE \"C\";",
        "CREATE UNIQUE INDEX CONCURRENTLY ON public.clients (api_key_hash);",
    ] {
        assert!(said.contains(statement), "{said}");
    }
    let said = hint(&mut session, ", algorithm => 'bcrypt'").expect("a notice");
    assert!(
        said.hint().unwrap().contains("CREATE INDEX CONCURRENTLY ON public.clients (api_key_tag);")
    );

    // What it says works, and then there is no notice.
    let statements: Vec<_> = notice
        .hint()
        .unwrap()
        .split_once("call again: ")
        .unwrap()
        .1
        .split_terminator(';')
        .collect();
    assert_eq!(statements.len(), 3, "two statements and the end: {statements:?}");
    for statement in statements {
        session.run(statement);
    }
    assert!(hint(&mut session, "").is_none());

    // Nor for a small one.
    session.run("TRUNCATE clients; ALTER TABLE clients DROP COLUMN api_key_hash");
    assert!(hint(&mut session, "").is_none());
}
