//! What erasure means: after the documented sequence no file of a table, of its indexes or of the
//! statistics holds a key any more, neither here nor on a standby nor in a new base backup.

use std::time::{Duration, Instant};

use cluster_tests::{Cluster, Finding, Session, describe, scan_folder, wait_until};

/// In lower case, so that an index on `lower(api_key)` holds it too.
pub const MARKER: &str = "residue-of-a-key-";

const ROWS: i64 = 20_000;

/// Every table has a number `id` and the key that is made of it.
const TABLES: &str = "
    CREATE TABLE clients (id integer PRIMARY KEY, name text, api_key text UNIQUE);
    CREATE INDEX clients_composite ON clients (name, api_key);
    CREATE INDEX clients_lower ON clients (lower(api_key));
    CREATE INDEX clients_hash ON clients USING hash (api_key);
    CREATE INDEX clients_gin ON clients USING gin (to_tsvector('simple', name));
    CREATE INDEX clients_brin ON clients USING brin (id);
    -- long rows whose keys go to the TOAST table, and short ones with HOT chains
    CREATE TABLE wide (id integer PRIMARY KEY, note text, api_key text) WITH (toast_tuple_target = 128);
    ALTER TABLE wide ALTER note SET STORAGE PLAIN, ALTER api_key SET STORAGE EXTERNAL;
    CREATE TABLE hot (id integer PRIMARY KEY, used integer, api_key text) WITH (fillfactor = 50);
    CREATE TABLE parts (id integer, api_key text) PARTITION BY RANGE (id);
    CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (1500);
    CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (1500) TO (10000) PARTITION BY RANGE (id);
    CREATE TABLE parts_2_rest PARTITION OF parts_2 DEFAULT;
    CREATE INDEX parts_key ON parts (api_key);
    CREATE STATISTICS clients_mcv (mcv) ON id, api_key FROM clients;
";

const NAMES: [&str; 4] = ["clients", "wide", "hot", "parts"];

pub fn key(id: &str) -> String {
    format!("'{MARKER}' || {id} || '-0123456789'")
}

fn fill(session: &mut Session) {
    for (table, columns, values, rows) in [
        ("clients", "id, name", "i, 'client ' || i", ROWS),
        ("wide", "id, note", "i, repeat('x', 2100)", 1000),
        ("hot", "id", "i", 2000),
        ("parts", "id", "i", 3000),
    ] {
        let insert = |from: i64, to: i64| {
            format!(
                "INSERT INTO {table} ({columns}, api_key) SELECT {values}, {}
                   FROM generate_series({from}, {to}) AS i",
                key("i")
            )
        };
        session.run(&insert(1, rows));
        session.run("BEGIN");
        session.run(&insert(rows + 1, rows + 300));
        session.run("ROLLBACK");
    }
    for round in 1..=3 {
        session.run(&format!(
            "UPDATE hot SET used = {round}; DELETE FROM hot WHERE id % 10 = {round}"
        ));
    }
    session.run("DELETE FROM wide WHERE id % 3 = 0; ANALYZE");
}

/// How many times a key is in files of that relation (or, without one, of any of the database).
fn of(findings: &[Finding], path: &str) -> usize {
    findings.iter().filter(|finding| finding.file.starts_with(path)).count()
}

fn paths(session: &mut Session) -> Vec<(String, String)> {
    let sql = "SELECT c.oid::regclass::text, pg_relation_filepath(c.oid) FROM pg_class AS c
                WHERE c.relkind IN ('r', 't', 'i', 'm') AND c.oid >= 16384
                   OR c.oid IN ('pg_statistic'::regclass, 'pg_statistic_ext_data'::regclass)";
    let rows = session.query(sql, &[]).unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// Where keys are, for people.
fn places(session: &mut Session, findings: &[Finding]) -> Vec<String> {
    let counts = paths(session).into_iter().map(|(name, path)| (of(findings, &path), name));
    counts.filter(|(count, _)| *count > 0).map(|(count, name)| format!("{name}: {count}")).collect()
}

/// The sequence of the README, for all tables at once.
fn erase(session: &mut Session) -> Duration {
    for sql in [
        "ALTER TABLE clients DROP CONSTRAINT clients_api_key_key",
        "REINDEX INDEX CONCURRENTLY clients_composite",
        "DROP INDEX clients_lower",
        "DROP INDEX clients_hash",
        "DROP STATISTICS clients_mcv",
        "DROP INDEX parts_key",
        "VACUUM (INDEX_CLEANUP ON) clients, wide, hot, parts",
        "ANALYZE clients, wide, hot, parts",
        "ALTER TABLE clients ALTER COLUMN api_key SET STATISTICS 0",
        "VACUUM (INDEX_CLEANUP ON) pg_statistic, pg_statistic_ext_data",
    ] {
        session.run(sql);
    }
    let began = Instant::now();
    for table in NAMES {
        session.run(&format!("SELECT * FROM scrub_api_keys('{table}')"));
    }
    let took = began.elapsed();
    let warnings: Vec<_> =
        session.notices().into_iter().filter(|n| n.severity() == "WARNING").collect();
    assert!(warnings.is_empty(), "{warnings:#?}");
    took
}

/// Every key of the table still works, and none is in plaintext.
fn assert_verify(session: &mut Session, table: &str) {
    let sql = format!(
        "SELECT concat_ws(' ', count(*) > 500, bool_and(api_key IS NULL AND api_key_hash = hash_api_key({}))) FROM {table}",
        key("id")
    );
    assert_eq!(session.value::<String>(&sql, &[]), "t t", "{table}");
}

fn leaks(session: &mut Session) -> Vec<String> {
    let sql = "SELECT concat_ws(' | ', finding, object, detail) FROM audit_api_keys() WHERE severity = 'leak'";
    session.query(sql, &[]).unwrap().iter().map(|row| row.get(0)).collect()
}

/// No page of a table or an index is damaged, as far as amcheck can tell.
pub fn assert_sound(session: &mut Session) {
    if session.value("SELECT NOT EXISTS (SELECT FROM pg_extension WHERE extname = 'amcheck')", &[])
    {
        return;
    }
    let faults: Vec<String> = session
        .query(
            "SELECT c.oid::regclass || ': ' || f.msg
               FROM pg_class AS c CROSS JOIN LATERAL verify_heapam(c.oid, check_toast => true) AS f
              WHERE c.relkind IN ('r', 't') AND (c.oid >= 16384 OR c.oid = 'pg_statistic'::regclass)
                AND (NOT pg_is_in_recovery() OR c.relpersistence = 'p')",
            &[],
        )
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert!(faults.is_empty(), "{faults:#?}");
    session.run(
        "SELECT bt_index_check(c.oid, true) FROM pg_class AS c JOIN pg_index AS i ON i.indexrelid = c.oid
          WHERE c.relkind = 'i' AND c.oid >= 16384 AND i.indisvalid
            AND c.relam = (SELECT oid FROM pg_am WHERE amname = 'btree')
            AND (NOT pg_is_in_recovery() OR c.relpersistence = 'p')",
    );
}

/// Not every server comes with the contrib modules.
pub fn create_amcheck(session: &mut Session) {
    if session
        .value("SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'amcheck')", &[])
    {
        session.run("CREATE EXTENSION amcheck");
    }
}

#[test]
fn keys_are_gone_from_primary_standby_and_new_backups() {
    let primary = Cluster::with(
        "full_page_writes = on\n wal_keep_size = 200MB\n autovacuum = off\n default_statistics_target = 20",
    );
    let mut session = primary.extended_session("postgres");
    create_amcheck(&mut session);
    session.run(TABLES);
    let standby = primary.standby();
    fill(&mut session);
    for table in NAMES {
        session.run(&format!("SELECT protect_api_keys('{table}')"));
        session.run(&format!("CALL migrate_api_keys('{table}')"));
    }
    session.notices();

    // Control: migrated, and all of it still there.
    session.run("CHECKPOINT");
    primary.wait_for_followers();
    for (cluster, name) in [(&primary, "primary"), (&standby, "standby")] {
        let found = cluster.scan(MARKER);
        for (relation, path) in paths(&mut session) {
            let least = match relation.as_str() {
                "clients" | "clients_api_key_key" | "clients_composite" | "clients_lower" => 15_000,
                "parts_1" | "parts_2_rest" | "parts_1_api_key_idx" => 1000,
                "hot" => 200,
                "pg_statistic" => 20,
                _ => 0,
            };
            assert!(of(&found, &path) >= least, "control: {relation} on the {name}");
        }
        let toast: String = session.value(
            "SELECT pg_relation_filepath(reltoastrelid) FROM pg_class WHERE oid = 'wide'::regclass",
            &[],
        );
        assert!(of(&found, &toast) > 500, "control: TOAST on the {name}");
    }
    assert!(leaks(&mut session).len() > 10, "control: the audit sees it");
    // A vacuumed table is not an erased one.
    session.run("VACUUM (INDEX_CLEANUP ON) clients");
    let path: String = session.value("SELECT pg_relation_filepath('clients')", &[]);
    assert!(of(&primary.scan(MARKER), &path) > 10_000, "control: after VACUUM");

    let took = erase(&mut session);
    assert!(took < Duration::from_secs(5), "{took:?}");
    // A standby makes a checkpoint of its own only after one of its primary.
    session.run("CHECKPOINT");
    primary.wait_for_followers();
    let backup = primary.base_backup();
    for (findings, name) in [
        (primary.scan(MARKER), "primary"),
        (standby.scan(MARKER), "standby"),
        (scan_folder(&backup.path().join("data"), MARKER), "backup"),
    ] {
        let found = places(&mut session, &findings);
        assert!(of(&findings, "base/") + of(&findings, "global/") == 0, "{name}: {found:#?}");
    }
    let leaks = leaks(&mut session);
    assert!(leaks.is_empty(), "{leaks:#?}");
    let again: i64 = session.value(
        "SELECT sum(scrubbed)::bigint FROM unnest(ARRAY['clients', 'wide', 'hot', 'parts']) AS t,
                scrub_api_keys(t::regclass) WHERE object NOT LIKE 'pg_%'",
        &[],
    );
    assert_eq!(again, 0, "nothing is left to scrub");
    let mut on_standby = standby.session("postgres");
    for table in NAMES {
        assert_verify(&mut session, table);
        assert_verify(&mut on_standby, table);
    }
    assert_sound(&mut session);
    assert_sound(&mut on_standby);
    // The audit can be asked there too.
    on_standby.run("SELECT * FROM audit_api_keys()");
    let error = on_standby.batch_execute("SELECT * FROM scrub_api_keys('clients')").unwrap_err();
    assert!(describe(&error).contains("recovery"), "{}", describe(&error));
}

fn small_table(cluster: &Cluster) -> Session {
    let mut session = cluster.extended_session("postgres");
    session.run(&format!(
        "CREATE TABLE clients (id integer PRIMARY KEY, api_key text) WITH (autovacuum_enabled = off);
         INSERT INTO clients SELECT i, {} FROM generate_series(1, 2000) AS i;
         SELECT protect_api_keys('clients')",
        key("i")
    ));
    session
}

fn refused(session: &mut Session, sql: &str) -> String {
    let said = describe(&session.batch_execute(sql).expect_err(sql));
    assert!(!said.contains(MARKER), "{said}");
    said
}

/// Who keeps dead rows from VACUUM is named, and can be dealt with as the message says.
#[test]
fn scrub_refuses_while_dead_rows_are_held() {
    let primary = Cluster::with(
        "autovacuum = off\n max_prepared_transactions = 5\n hot_standby_feedback = on\n wal_receiver_status_interval = 1",
    );
    let mut session = small_table(&primary);
    let scrub = "SELECT * FROM scrub_api_keys('clients')";
    let vacuum = "VACUUM (INDEX_CLEANUP ON) public.clients";

    session.run("CREATE ROLE owner; ALTER TABLE clients OWNER TO owner");
    let mut reader = primary.session("postgres");
    reader.run("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM clients");
    let pid: i32 = reader.value("SELECT pg_backend_pid()", &[]);
    session.run("CALL migrate_api_keys('clients')");
    session.run(vacuum);
    let said = refused(&mut session, scrub);
    assert!(
        said.starts_with("ERROR 55000: 2000 dead rows of table public.clients still hold keys")
            && said.contains(&format!("session {pid} of user \"postgres\""))
            && said.contains(&format!("SELECT pg_terminate_backend({pid});"))
            && said.contains(vacuum),
        "{said}"
    );
    let audit: i64 = session.value(
        "SELECT count(*) FROM audit_api_keys('clients') WHERE detail LIKE $1 OR finding = 'dead rows' AND severity = 'leak'",
        &[&format!("session {pid}%")],
    );
    assert_eq!(audit, 2);

    // Neither an owner without privileges is told that nobody holds them.
    session.run("SET ROLE owner");
    let said = refused(&mut session, scrub);
    assert!(said.contains(&format!("session {pid} of user \"postgres\"")), "{said}");
    session.run("RESET ROLE");

    reader.run("COMMIT");
    let said = refused(&mut session, scrub);
    assert!(said.contains("Nothing keeps VACUUM from removing them."), "{said}");

    reader.run("BEGIN; CREATE TABLE other (); PREPARE TRANSACTION 'it''s prepared'");
    session.run("UPDATE clients SET id = id + 5000; DELETE FROM clients");
    session.run(&format!(
        "INSERT INTO clients SELECT i, {} FROM generate_series(1, 100) AS i",
        key("i")
    ));
    session.run("SELECT unprotect_api_keys('clients')");
    session.run(&format!(
        "INSERT INTO clients (id, api_key) SELECT i, {} FROM generate_series(101, 200) AS i",
        key("i")
    ));
    session.run("SELECT protect_api_keys('clients'); UPDATE clients SET api_key = api_key");
    session.run(vacuum);
    let said = refused(&mut session, scrub);
    assert!(
        said.contains(" 100 dead rows")
            && said.contains("prepared transaction \"it's prepared\" of user \"postgres\": ROLLBACK PREPARED 'it''s prepared';"),
        "{said}"
    );
    session.run("ROLLBACK PREPARED 'it''s prepared'");
    session.run(vacuum);
    session.run(scrub);
    assert_eq!(of(&primary.scan(MARKER), "base/"), 0);

    // A standby's query, by feedback, first through a slot.
    session.run("SELECT pg_create_physical_replication_slot('follower')");
    let mut standby = primary.standby();
    standby
        .run("psql", ["-qXd", "postgres", "-c", "ALTER SYSTEM SET primary_slot_name = 'follower'"]);
    standby.stop("fast");
    standby.start();
    let mut on_standby = standby.session("postgres");
    on_standby.run("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM clients");
    wait_until("the slot holds rows", || {
        session
            .value("SELECT EXISTS (SELECT FROM pg_replication_slots WHERE xmin IS NOT NULL)", &[])
    });
    session.run("SELECT unprotect_api_keys('clients')");
    session.run(&format!(
        "INSERT INTO clients (id, api_key) SELECT i, {} FROM generate_series(301, 400) AS i",
        key("i")
    ));
    session.run("SELECT protect_api_keys('clients'); UPDATE clients SET api_key = api_key");
    session.run(vacuum);
    let said = refused(&mut session, scrub);
    assert!(said.contains("replication slot \"follower\": let its consumer catch up"), "{said}");
    drop(on_standby);
    drop(standby);
    wait_until("the slot is free", || {
        session.batch_execute("SELECT pg_drop_replication_slot('follower')").is_ok()
    });
    session.run(vacuum);
    session.run(scrub);
    assert_eq!(of(&primary.scan(MARKER), "base/"), 0);
}

#[test]
fn scrub_asks_for_an_owner_and_a_protected_table() {
    let cluster = Cluster::new();
    let mut session = small_table(&cluster);
    session.run(
        "CREATE ROLE stranger; CREATE ROLE writer; GRANT SELECT, UPDATE ON clients TO writer;
                 CREATE TABLE plain (api_key text);
                 CREATE TABLE parts (id integer, api_key text) PARTITION BY LIST (id);
                 CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN (1);
                 SELECT protect_api_keys('parts');
                 UPDATE clients SET api_key = api_key",
    );
    session.run("VACUUM clients");
    for (role, sql, code) in [
        ("stranger", "SELECT * FROM scrub_api_keys('clients')", "42501"),
        ("writer", "SELECT * FROM scrub_api_keys('clients')", "42501"),
        ("stranger", "SELECT api_key_scrub_pages('clients'::regclass, 2, false, false)", "42501"),
        ("stranger", "SELECT api_key_scrub_pages('pg_authid'::regclass, 0, true, true)", "42501"),
        ("postgres", "SELECT * FROM scrub_api_keys('plain')", "55000"),
        ("postgres", "SELECT * FROM scrub_api_keys('parts_1')", "42809"),
        ("postgres", "SELECT * FROM scrub_api_keys('pg_class')", "55000"),
        // What could make the server read where nothing is.
        (
            "postgres",
            "SELECT api_key_scrub_pages('clients'::regclass, 2000000000, true, false)",
            "42703",
        ),
        ("postgres", "SELECT api_key_scrub_pages('clients'::regclass, -1, true, false)", "42703"),
        (
            "postgres",
            "SELECT api_key_scrub_pages('clients_pkey'::regclass, 9, true, false)",
            "42703",
        ),
        ("postgres", "SELECT api_key_scrub_pages('parts'::regclass, 1, true, false)", "42809"),
        (
            "postgres",
            "SELECT api_key_scrub_pages('api_key_status'::regclass, 1, true, false)",
            "42809",
        ),
    ] {
        session.run(&format!("SET ROLE {role}"));
        let said = refused(&mut session, sql);
        assert!(said.starts_with(&format!("ERROR {code}: ")), "{role}: {sql}: {said}");
        session.run("RESET ROLE");
    }
    // An ordinary owner scrubs his table, without the catalogues.
    session.run("ALTER TABLE clients OWNER TO stranger; SET ROLE stranger");
    let objects: String =
        session.value("SELECT string_agg(object, ' ' ORDER BY object) FROM scrub_api_keys('clients') WHERE object NOT LIKE 'pg_toast%'", &[]);
    assert_eq!(objects, "public.clients public.clients_api_key_hash_idx public.clients_pkey");
    assert_eq!(of(&cluster.scan(MARKER), "base/"), 0);
}

/// Without WAL nothing is replayed, and a checkpoint leaves unlogged pages in memory.
#[test]
fn unlogged_and_temporary_tables_are_scrubbed_too() {
    let mut cluster = Cluster::with("autovacuum = off");
    let mut session = cluster.extended_session("postgres");
    create_amcheck(&mut session);
    session.run("SET temp_buffers = '1MB'");
    for (kind, rows) in [("UNLOGGED", 2000), ("TEMPORARY", 20_000)] {
        let table = kind.to_lowercase();
        session.run(&format!(
            "CREATE {kind} TABLE {table} (id integer PRIMARY KEY, api_key text);
             INSERT INTO {table} SELECT i, {} FROM generate_series(1, {rows}) AS i;
             SELECT protect_api_keys('{table}')",
            key("i")
        ));
        session.run(&format!("CALL migrate_api_keys('{table}')"));
        session.run(&format!("VACUUM (INDEX_CLEANUP ON) {table}"));
    }
    let temporary: String = session.value("SELECT pg_relation_filepath('temporary')", &[]);
    assert!(of(&cluster.scan(MARKER), &temporary) > 1000, "control: of the temporary table");
    session.run("SELECT * FROM scrub_api_keys('temporary')");
    // So that its buffers are written.
    session.run("CREATE TEMPORARY TABLE big AS SELECT i, repeat('x', 100) FROM generate_series(1, 50000) AS i");
    assert_eq!(of(&cluster.scan(MARKER), &temporary), 0);
    assert_verify(&mut session, "temporary");
    // Another session can't look at it, and says so.
    let sql = "SELECT string_agg(DISTINCT finding, ' ') FROM audit_api_keys() WHERE object LIKE 'pg_temp%'";
    assert_eq!(cluster.session("postgres").value::<String>(sql, &[]), "temporary table");
    drop(session);

    let mut session = cluster.session("postgres");
    let unlogged: String = session.value("SELECT pg_relation_filepath('unlogged')", &[]);
    cluster.stop("fast");
    assert!(
        of(&scan_folder(&cluster.data(), MARKER), &unlogged) > 1000,
        "control: of the unlogged table"
    );
    cluster.start();
    let mut session = cluster.session("postgres");
    session.run("SELECT * FROM scrub_api_keys('unlogged')");
    assert_verify(&mut session, "unlogged");
    assert_sound(&mut session);
    cluster.stop("fast");
    assert_eq!(of(&scan_folder(&cluster.data(), MARKER), "base/"), 0);
    cluster.start();
    assert_verify(&mut cluster.session("postgres"), "unlogged");
}
