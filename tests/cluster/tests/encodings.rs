//! Databases that are not in UTF-8: keys are bytes, and names may be anything.

use cluster_tests::{Cluster, Session, describe};

fn database(cluster: &Cluster, encoding: &str) -> Session {
    let name = encoding.to_lowercase();
    cluster.create_database(&name, &format!("TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'"));
    cluster.extended_session(&name)
}

fn refused(session: &mut Session, sql: &str) {
    let error = session.batch_execute(sql).expect_err(sql);
    let said = describe(&error);
    assert!(said.starts_with("ERROR 22023: invalid API key: non-ASCII character"), "{sql}: {said}");
    assert!(said.contains("hint: A key consists of printable ASCII"), "{sql}: {said}");
}

/// `E'\xe9'` is é in LATIN1, and a byte of no meaning in SQL_ASCII.
fn functions_and_triggers_work(encoding: &str) {
    let cluster = Cluster::new();
    let mut session = database(&cluster, encoding);
    session.run(
        "CREATE TABLE clients (id serial PRIMARY KEY, api_key text);
         CREATE TABLE users (id serial PRIMARY KEY, api_key varchar(80));
         SELECT protect_api_keys('clients');
         SELECT protect_api_keys('users', algorithm => 'bcrypt', cost => 4);
         INSERT INTO clients (api_key) VALUES ('key-of-a');
         INSERT INTO users (api_key) VALUES ('key-of-b')",
    );
    let both: bool = session.value(
        "SELECT (SELECT api_key IS NULL AND api_key_hash = hash_api_key($1) FROM clients)
            AND (SELECT api_key IS NULL AND verify_api_key($2, api_key_hash) FROM users)",
        &[&"key-of-a", &"key-of-b"],
    );
    assert!(both);

    for sql in [
        r"SELECT hash_api_key(E'caf\xe9')",
        r"SELECT hash_api_key(E'caf\xe9', 'bcrypt', 4)",
        r"INSERT INTO clients (api_key) VALUES (E'caf\xe9')",
        r"INSERT INTO users (api_key) VALUES (E'caf\xe9')",
        r"UPDATE clients SET api_key = E'caf\xe9'",
    ] {
        refused(&mut session, sql);
    }
    let answers: String = session.value(
        r"SELECT concat_ws(' ', verify_api_key(E'caf\xe9', hash_api_key('x')), verify_api_key('x', E'caf\xe9'),
                           api_key_checksum_valid(E'caf\xe9'), is_api_key_hash(E'caf\xe9'),
                           api_key_needs_rehash(E'caf\xe9', 'sha256'), api_key_fault(E'caf\xe9'))",
        &[],
    );
    assert_eq!(answers, "f f f f t non-ASCII character");
    for (sql, said) in [
        (r"SELECT hash_api_key('key', E'caf\xe9')", "ERROR 22023: unknown API key algorithm"),
        (r"SELECT generate_api_key(E'caf\xe9')", "ERROR 22023"),
    ] {
        let error = session.batch_execute(sql).expect_err(sql);
        assert!(describe(&error).starts_with(said), "{sql}: {}", describe(&error));
    }
}

#[test]
fn functions_and_triggers_work_in_latin1() {
    functions_and_triggers_work("LATIN1");
}

#[test]
fn functions_and_triggers_work_in_sql_ascii() {
    functions_and_triggers_work("SQL_ASCII");
}

/// Table, schema, columns, each with a letter that is not UTF-8 in the server's encoding.
#[test]
fn names_in_latin1_work() {
    let cluster = Cluster::new();
    let mut session = database(&cluster, "LATIN1");
    session.run(
        r#"CREATE SCHEMA "schéma";
           CREATE TABLE "schéma"."clés" (id integer PRIMARY KEY, "clé" text);
           INSERT INTO "schéma"."clés" VALUES (1, 'key-of-a'), (2, 'not a key'), (3, 'key-of-c');
           SELECT protect_api_keys('"schéma"."clés"', 'clé', 'haché', 'bcrypt', 4);
           UPDATE "schéma"."clés" SET "clé" = "clé" WHERE "clé" IS NOT NULL"#,
    );
    let notices = session.notices();
    let kept = notices.iter().find(|notice| notice.message().contains("stays in plaintext"));
    assert!(kept.is_some_and(|notice| notice.message().contains("cl?s")), "{notices:?}");
    let status: String = session.value(
        "SELECT concat_ws(' ', protected_table, key_column, hash_column, plaintext, hashed, tag_column, triggers_in_force)
           FROM api_key_status",
        &[],
    );
    assert_eq!(status, r#""schéma"."clés" clé haché 1 2 clé_tag t"#);

    let found: String = session.value(
        r#"SELECT string_agg(id::text, ' ') FROM unnest(ARRAY['key-of-a', 'not a key', 'key-of-c', 'x']) AS key,
                  LATERAL find_by_api_key(NULL::"schéma"."clés", key)"#,
        &[],
    );
    assert_eq!(found, "1 2 3");
    session.run(r#"CREATE TABLE "à part" (id integer)"#);
    let error = session.query(r#"SELECT find_by_api_key(NULL::"à part", 'x')"#, &[]).unwrap_err();
    let said = describe(&error);
    assert!(said.contains(r#"relation "? part" is not protected"#), "{said}");

    // The detection of a lost upsert asks the table itself, by its names.
    let error = session
        .batch_execute(
            r#"INSERT INTO "schéma"."clés" (id, "clé") VALUES (1, 'key-of-d')
                   ON CONFLICT (id) DO UPDATE SET "clé" = EXCLUDED."clé""#,
        )
        .unwrap_err();
    let said = describe(&error);
    assert!(said.starts_with("ERROR 0A000: ON CONFLICT DO UPDATE would lose"), "{said}");
    assert!(
        said.contains(r#"SET "hach?" = EXCLUDED."hach?", "cl?_tag" = EXCLUDED."cl?_tag""#),
        "{said}"
    );
    session.run(
        r#"MERGE INTO "schéma"."clés" AS c USING (VALUES (1), (5)) AS new (id) ON c.id = new.id
               WHEN MATCHED THEN UPDATE SET "clé" = NULL
               WHEN NOT MATCHED THEN INSERT (id, "clé") VALUES (new.id, 'key-of-e')"#,
    );

    // A trigger that was attached by hand, with names that do not exist.
    session.run(
        r#"CREATE TABLE "à la main" (k text);
           CREATE TRIGGER t BEFORE INSERT ON "à la main" FOR EACH ROW
               EXECUTE FUNCTION hash_api_key_trigger('clé', 'haché')"#,
    );
    let error = session.batch_execute(r#"INSERT INTO "à la main" VALUES ('x')"#).unwrap_err();
    let said = describe(&error);
    assert!(said.contains("39P01") && said.contains("cl?"), "{said}");
}
