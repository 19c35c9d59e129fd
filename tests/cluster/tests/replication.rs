//! Logical subscribers store hashes only, and hot standbys answer look-ups.

use cluster_tests::{Cluster, Session, wait_until};

const MARKER: &str = "LEAK-";

fn count(session: &mut Session, sql: &str) -> i64 {
    session.value(sql, &[])
}

fn insert(session: &mut Session, table: &str, id: i32, key: &str) {
    let sql = format!("INSERT INTO {table} (id, api_key) VALUES ($1, $2)");
    session.execute(&sql, &[&id, &key]).unwrap();
}

/// How many of the publisher's keys the subscriber knows, by primary key.
fn verified(publisher: &mut Session, subscriber: &mut Session, table: &str) -> usize {
    let keys = publisher
        .query(&format!("SELECT id, api_key FROM {table} WHERE api_key IS NOT NULL"), &[])
        .unwrap();
    let sql = format!(
        "SELECT count(*) FROM {table} WHERE id = $1 AND api_key IS NULL AND verify_api_key($2, api_key_hash)"
    );
    let known = keys.iter().filter(|row| {
        let (id, key): (i32, String) = (row.get(0), row.get(1));
        subscriber.value::<i64>(&sql, &[&id, &key]) == 1
    });
    known.count()
}

#[test]
fn a_subscriber_of_plaintext_stores_hashes() {
    let publisher = Cluster::with("wal_level = logical");
    let subscriber = Cluster::with("wal_keep_size = 100MB");
    let tables = "CREATE TABLE clients (id integer PRIMARY KEY, name text, api_key text);
                  CREATE TABLE users (id integer PRIMARY KEY, name text, api_key text);
                  CREATE TABLE parts (id integer PRIMARY KEY, name text, api_key text) PARTITION BY LIST (id);
                  CREATE TABLE parts_rest PARTITION OF parts DEFAULT;";
    let mut source = publisher.session("postgres");
    source.run(tables);
    source.run("CREATE PUBLICATION all_keys FOR TABLE clients, users, parts WITH (publish_via_partition_root)");
    let mut target = subscriber.extended_session("postgres");
    target.run(tables);
    target.run(
        "SELECT protect_api_keys('clients');
         SELECT protect_api_keys('users', algorithm => 'bcrypt', cost => 4);
         SELECT protect_api_keys('parts')",
    );

    let names = ["clients", "users", "parts"];
    for table in names {
        for id in 1..=5 {
            insert(&mut source, table, id, &format!("{MARKER}{table}-initial-{id}"));
        }
    }
    target.run(&format!(
        "CREATE SUBSCRIPTION keys CONNECTION '{}' PUBLICATION all_keys",
        publisher.connection_string("postgres")
    ));
    wait_until("the first copy is done", || {
        count(&mut target, "SELECT count(*) FROM pg_subscription_rel WHERE srsubstate <> 'r'") == 0
    });
    for table in names {
        assert_eq!(verified(&mut source, &mut target, table), 5, "{table}: first copy");
    }

    // Streaming.
    for table in names {
        for id in 6..=8 {
            insert(&mut source, table, id, &format!("{MARKER}{table}-streamed-{id}"));
        }
        let sql = format!("UPDATE {table} SET api_key = $1 WHERE id = 1");
        source.execute(&sql, &[&format!("{MARKER}{table}-rotated")]).unwrap();
        // The whole row is sent, the old key with it.
        source.run(&format!("UPDATE {table} SET name = 'renamed' WHERE id = 2"));
        source.run(&format!("UPDATE {table} SET id = 30 WHERE id = 3"));
        source.run(&format!("DELETE FROM {table} WHERE id = 4"));
    }
    publisher.wait_for_followers();
    for table in names {
        assert_eq!(verified(&mut source, &mut target, table), 7, "{table}: streamed");
        assert_eq!(count(&mut target, &format!("SELECT count(*) FROM {table}")), 7);
        assert_eq!(
            count(&mut target, &format!("SELECT count(*) FROM {table} WHERE name = 'renamed'")),
            1
        );
    }

    target.run("SELECT pg_switch_wal()");
    let found = subscriber.scan(MARKER);
    assert!(found.is_empty(), "{found:#?}");
    let at_publisher = publisher.scan(MARKER).len();
    assert!(at_publisher >= 30, "control: {at_publisher} at the publisher");
    assert!(!subscriber.log().contains("ERROR"), "{}", subscriber.log());
}

/// Once the publisher is protected too, hashes travel, and the subscriber keeps them as they are.
#[test]
fn hashes_travel_between_protected_tables() {
    let publisher = Cluster::with("wal_level = logical");
    let subscriber = Cluster::new();
    let mut source = publisher.extended_session("postgres");
    let mut target = subscriber.extended_session("postgres");
    let protected = "CREATE TABLE users (id integer PRIMARY KEY, api_key text);
                     SELECT protect_api_keys('users', algorithm => 'bcrypt', cost => 4);";
    target.run(protected);
    source.run(protected);
    source.run("CREATE PUBLICATION all_keys FOR ALL TABLES");
    insert(&mut source, "users", 1, "key-of-a");
    target.run(&format!(
        "CREATE SUBSCRIPTION keys CONNECTION '{}' PUBLICATION all_keys",
        publisher.connection_string("postgres")
    ));
    wait_until("the first copy is done", || {
        count(&mut target, "SELECT count(*) FROM pg_subscription_rel WHERE srsubstate <> 'r'") == 0
    });
    insert(&mut source, "users", 2, "key-of-b");
    source
        .run("UPDATE users SET api_key = 'key-of-c' WHERE id = 1; UPDATE users SET api_key = NULL");
    publisher.wait_for_followers();
    let rows = "SELECT string_agg(users::text, ' ' ORDER BY id) FROM users";
    let (at_source, at_target): (String, String) =
        (source.value(rows, &[]), target.value(rows, &[]));
    assert_eq!(at_source, at_target);
    let known = "SELECT count(*) FROM users WHERE api_key_tag = api_key_tag('key-of-c')
                    AND verify_api_key('key-of-c', api_key_hash)";
    assert_eq!(count(&mut target, known), 1);
}

#[test]
fn a_hot_standby_answers_look_ups_and_holds_no_plaintext() {
    let primary = Cluster::with("full_page_writes = on\n wal_keep_size = 100MB");
    let mut source = primary.extended_session("postgres");
    source.run(
        "CREATE TABLE clients (id integer PRIMARY KEY, api_key text);
         CREATE TABLE users (id integer PRIMARY KEY, api_key text);
         SELECT protect_api_keys('clients');
         SELECT protect_api_keys('users', algorithm => 'bcrypt', cost => 4)",
    );
    insert(&mut source, "clients", 1, &format!("{MARKER}before-backup"));
    let standby = primary.standby();
    insert(&mut source, "clients", 2, &format!("{MARKER}after-backup"));
    insert(&mut source, "users", 1, &format!("{MARKER}bcrypt"));
    primary.wait_for_followers();

    let mut session = standby.session("postgres");
    assert!(session.value::<bool>("SELECT pg_is_in_recovery()", &[]));
    for name in ["before-backup", "after-backup"] {
        let sql = "SELECT count(*) FROM clients WHERE api_key_hash = hash_api_key($1)";
        assert_eq!(session.value::<i64>(sql, &[&format!("{MARKER}{name}")]), 1, "{name}");
    }
    let sql = "SELECT count(*) FROM users WHERE api_key_tag = api_key_tag($1) AND verify_api_key($1, api_key_hash)";
    assert_eq!(session.value::<i64>(sql, &[&format!("{MARKER}bcrypt")]), 1);
    assert_eq!(session.value::<i64>(sql, &[&format!("{MARKER}unknown")]), 0);
    for (table, key, rows) in [
        ("clients", "before-backup", 1),
        ("users", "bcrypt", 1),
        ("clients", "bcrypt", 0),
        ("users", "unknown", 0),
    ] {
        let sql = format!("SELECT count(*) FROM find_by_api_key(NULL::{table}, $1)");
        assert_eq!(
            session.value::<i64>(&sql, &[&format!("{MARKER}{key}")]),
            rows,
            "{key} in {table}"
        );
    }
    let generated: bool = session.value("SELECT api_key_checksum_valid(generate_api_key())", &[]);
    assert!(generated);
    let status: String =
        session.value("SELECT string_agg(concat_ws(' ', protected_table, plaintext, hashed, triggers_in_force), '; '
                                         ORDER BY protected_table::text) FROM api_key_status", &[]);
    assert_eq!(status, "clients 0 2 t; users 0 1 t");

    for (cluster, name) in [(&primary, "primary"), (&standby, "standby")] {
        let found = cluster.scan(MARKER);
        assert!(found.is_empty(), "{name}: {found:#?}");
    }
    source.run("CREATE TABLE unprotected (api_key text)");
    let sql = "INSERT INTO unprotected SELECT $1 FROM generate_series(1, 3)";
    source.execute(sql, &[&format!("{MARKER}control")]).unwrap();
    primary.wait_for_followers();
    let in_wal = standby.scan(MARKER).iter().filter(|one| one.file.starts_with("pg_wal/")).count();
    assert!(in_wal >= 2, "control: {in_wal} in the standby's WAL");
}
