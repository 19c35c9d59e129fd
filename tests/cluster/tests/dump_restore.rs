//! Protection survives `pg_dump` and `pg_restore`, and the traps on the way are known.

use cluster_tests::{Cluster, Session};

const TABLES: &str = r#"
    CREATE TABLE clients (id serial PRIMARY KEY, name text, api_key text UNIQUE);
    CREATE SCHEMA "Odd Schema";
    CREATE TABLE "Odd Schema"."Users" (
        id serial PRIMARY KEY, "API Key" varchar(100), "Key's Hash" text);
    CREATE TABLE parts (id serial, region integer, api_key text) PARTITION BY LIST (region);
    CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN (1);
    CREATE TABLE parts_2 PARTITION OF parts FOR VALUES IN (2);
    SELECT protect_api_keys('clients');
    SELECT protect_api_keys('"Odd Schema"."Users"', 'API Key', 'Key''s Hash', 'bcrypt', 4);
    SELECT protect_api_keys('parts');
    INSERT INTO clients (name, api_key) VALUES ('a', 'key-of-a'), ('b', 'key-of-b'), ('none', NULL);
    INSERT INTO "Odd Schema"."Users" ("API Key") VALUES ('key-of-c');
    INSERT INTO parts (region, api_key) VALUES (1, 'key-of-d'), (2, 'key-of-e');
"#;

const STATUS: &str = "
    SELECT coalesce(string_agg(concat_ws(' ', protected_table, plaintext, hashed, algorithm, cost, tag_bits,
                                         triggers_in_force), '; ' ORDER BY protected_table::text), '')
      FROM api_key_status";

const EXPECTED_STATUS: &str =
    "\"Odd Schema\".\"Users\" 0 1 bcrypt 4 16 t; clients 0 2 sha256 t; parts 0 2 sha256 t";

fn status(session: &mut Session) -> String {
    session.value(STATUS, &[])
}

/// The lines of a dump that depend on its content. Newer versions of pg_dump write a random word
/// into two of them.
fn plain_dump(cluster: &Cluster, database: &str) -> String {
    let dump = cluster.run("pg_dump", [database]);
    let lines = dump
        .lines()
        .filter(|line| !line.starts_with("\\restrict") && !line.starts_with("\\unrestrict"));
    lines.collect::<Vec<_>>().join("\n")
}

/// Shows the first difference only.
fn assert_same(one: &str, other: &str) {
    for (one, other) in one.lines().zip(other.lines()) {
        assert_eq!(one, other);
    }
    assert_eq!(one.len(), other.len());
}

fn assert_protected(session: &mut Session) {
    assert_eq!(status(session), EXPECTED_STATUS);
    let verified: i64 = session.value(
        r#"SELECT (SELECT count(*) FROM clients WHERE api_key_hash IN (hash_api_key('key-of-a'), hash_api_key('key-of-b')))
                + (SELECT count(*) FROM "Odd Schema"."Users"
                    WHERE "API Key_tag" = api_key_tag('key-of-c') AND verify_api_key('key-of-c', "Key's Hash"))
                + (SELECT count(*) FROM parts_2 WHERE verify_api_key('key-of-e', api_key_hash))"#,
        &[],
    );
    assert_eq!(verified, 4);
    let not_always: i64 = session.value(
        "SELECT count(*) FROM pg_trigger WHERE tgfoid = 'hash_api_key_trigger'::regproc AND tgenabled <> 'A'",
        &[],
    );
    assert_eq!(not_always, 0, "triggers, those of partitions included, fire always");

    // In force for everyone, and not only by name.
    session.run(
        r#"BEGIN;
           SET LOCAL session_replication_role = replica;
           INSERT INTO clients VALUES (10, 'new', 'key-of-f');
           INSERT INTO "Odd Schema"."Users" VALUES (10, 'key-of-f');
           INSERT INTO parts VALUES (10, 2, 'key-of-f')"#,
    );
    let plaintext: i64 = session.value("SELECT sum(plaintext)::bigint FROM api_key_status", &[]);
    assert_eq!(plaintext, 0);
    session.run("ROLLBACK");
}

#[test]
fn a_plain_dump_brings_protection_back() {
    let cluster = Cluster::new();
    cluster.extended_session("postgres").run(TABLES);
    assert_protected(&mut cluster.session("postgres"));
    let file = cluster.path("dump.sql").display().to_string();
    cluster.run("pg_dump", ["-f", &file, "postgres"]);

    let other = Cluster::new();
    other.run("psql", ["-qX", "-v", "ON_ERROR_STOP=1", "-d", "postgres", "-f", &file]);
    assert_protected(&mut other.session("postgres"));
    assert_same(&plain_dump(&cluster, "postgres"), &plain_dump(&other, "postgres"));
}

#[test]
fn a_custom_dump_brings_protection_back() {
    let cluster = Cluster::new();
    cluster.extended_session("postgres").run(TABLES);
    let file = cluster.path("dump").display().to_string();
    cluster.run("pg_dump", ["-Fc", "-f", &file, "postgres"]);

    for jobs in ["--jobs=1", "--jobs=2"] {
        let name = if jobs == "--jobs=1" { "one_by_one" } else { "side_by_side" };
        cluster.create_database(name, "TEMPLATE template0");
        cluster.run("pg_restore", ["--exit-on-error", jobs, "-d", name, &file]);
        assert_protected(&mut cluster.session(name));
        assert_same(&plain_dump(&cluster, "postgres"), &plain_dump(&cluster, name));
    }
    // Into the same database, over what is there.
    cluster
        .run("pg_restore", ["--exit-on-error", "--clean", "--if-exists", "-d", "postgres", &file]);
    assert_protected(&mut cluster.session("postgres"));
}

#[test]
fn a_restore_of_data_is_hashed_unless_it_disables_triggers() {
    let cluster = Cluster::new();
    cluster.create_database("old", "TEMPLATE template0");
    cluster.session("old").run(
        "CREATE TABLE clients (id integer PRIMARY KEY, api_key text);
         INSERT INTO clients VALUES (1, 'key-of-a'), (2, NULL)",
    );
    let file = cluster.path("dump").display().to_string();
    cluster.run("pg_dump", ["-Fc", "--data-only", "-f", &file, "old"]);
    let mut session = cluster.extended_session("postgres");
    session.run("CREATE TABLE clients (id integer PRIMARY KEY, api_key text); SELECT protect_api_keys('clients')");

    cluster.run("pg_restore", ["--data-only", "-d", "postgres", &file]);
    assert_eq!(status(&mut session), "clients 0 1 sha256 t");
    let verified: bool = session
        .value("SELECT verify_api_key('key-of-a', api_key_hash) FROM clients WHERE id = 1", &[]);
    assert!(verified);

    // The trap: this restores plaintext, and leaves the triggers enabled, but no longer ALWAYS.
    session.run("TRUNCATE clients");
    cluster.run("pg_restore", ["--data-only", "--disable-triggers", "-d", "postgres", &file]);
    assert_eq!(status(&mut session), "clients 1 0 sha256 f");

    // The way out.
    session.notices();
    session.run("SELECT protect_api_keys('clients')");
    let notices = session.notices();
    assert!(
        notices.iter().any(|notice| notice.message().contains("triggers in force again")),
        "{notices:?}"
    );
    assert!(
        notices.iter().any(|notice| notice.message().ends_with("still in plaintext: 1")),
        "{notices:?}"
    );
    assert_eq!(status(&mut session), "clients 1 0 sha256 t");
    session.run("UPDATE clients SET api_key = api_key WHERE api_key IS NOT NULL");
    assert_eq!(status(&mut session), "clients 0 1 sha256 t");
}

#[test]
fn an_upgrade_by_logical_dump_of_everything_works() {
    let cluster = Cluster::new();
    cluster.extended_session("postgres").run(TABLES);
    let file = cluster.path("all.sql").display().to_string();
    cluster.run("pg_dumpall", ["-f", &file]);
    let other = Cluster::new();
    // Without ON_ERROR_STOP: the role postgres is there already.
    other.run("psql", ["-qX", "-d", "postgres", "-f", &file]);
    assert_protected(&mut other.session("postgres"));
}
