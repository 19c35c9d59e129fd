//! The usual mistakes, made with the tools that people make them with, and the sentence that
//! `explain_api_key` finds for each.

use std::process::Command;

use cluster_tests::{Cluster, Session};

/// What a shell prints for a script, to the byte; `$1` is the key. `None` if a program is absent.
fn shell(script: &str, key: &str) -> Option<String> {
    let output = Command::new("sh").args(["-c", script, "sh", key]).output().unwrap();
    if output.status.code() == Some(127) {
        println!("not tried, a program is absent: {script}");
        return None;
    }
    assert!(output.status.success(), "{script}: {output:?}");
    Some(String::from_utf8(output.stdout).unwrap())
}

fn explain(session: &mut Session, presented: &str, stored: &str) -> String {
    let sentence: String = session.value("SELECT explain_api_key($1, $2)", &[&presented, &stored]);
    assert!(!sentence.contains(presented), "holds the key: {sentence}");
    assert!(stored.len() < 16 || !sentence.contains(stored), "holds the hash: {sentence}");
    sentence
}

#[test]
fn each_mistake_made_with_real_tools_is_explained() {
    let cluster = Cluster::new();
    let mut session = cluster.extended_session("postgres");
    let key =
        shell("openssl rand -hex 32 || head -c 32 /dev/urandom | od -An -vtx1 | tr -d ' \\n'", "")
            .unwrap();
    let key = key.trim_end();
    let digits = "| cut -c1-64 | tr -d '\\n'";
    // What is presented, what is stored, and the words that the sentence must have.
    let cases = [
        ("printf %s \"$1\"", format!("printf %s \"$1\" | sha256sum {digits}"), "Match"),
        ("printf %s \"$1\"", format!("printf %s \"$1\" | shasum -a 256 {digits}"), "Match"),
        (
            "printf %s \"$1\"",
            format!("printf %s \"$1\" | openssl dgst -sha256 -r {digits}"),
            "Match",
        ),
        ("printf %s \"$1\"", "printf %s \"$1\"".into(), "mistake 1"),
        (
            "printf %s \"$1\" | sha256sum | cut -c1-64 | tr -d '\\n'",
            format!("printf %s \"$1\" | sha256sum {digits}"),
            "mistake 2",
        ),
        (
            "printf %s \"$1\"",
            format!("printf %s \"$1\" | sha256sum {digits} | sha256sum {digits}"),
            "hashed twice",
        ),
        ("printf %s \"$1\"", format!("echo \"$1\" | sha256sum {digits}"), "\"echo\" without -n"),
        ("echo \"$1\"", format!("printf %s \"$1\" | sha256sum {digits}"), "newline at its end"),
        ("printf '\"%s\"' \"$1\"", format!("printf %s \"$1\" | sha256sum {digits}"), "quotes"),
        (
            "printf %s \"$1\"",
            format!("printf %s \"$1\" | sha256sum {digits} | tr a-f A-F"),
            "upper case",
        ),
        (
            "printf %s \"$1\"",
            "printf %s \"$1\" | openssl dgst -sha256 -binary | base64 | tr -d '\\n'".into(),
            "base64",
        ),
        ("printf %s \"$1\"", "printf %s \"$1\" | sha256sum | tr -d '\\n'".into(), "whole line"),
        (
            "printf %s \"$1\"",
            "printf %s \"$1\" | sha256sum | cut -c1-40 | tr -d '\\n'".into(),
            "cut",
        ),
        ("printf %s \"$1\"", "printf %s \"$1\" | md5sum | cut -c1-32 | tr -d '\\n'".into(), "MD5"),
        (
            "printf %s \"$1\"",
            "node -e 'process.stdout.write(require(\"crypto\").createHash(\"sha256\")\
             .update(process.argv[1]).digest(\"base64url\"))' \"$1\""
                .into(),
            "base64",
        ),
    ];
    for (presents, stores, words) in cases {
        let (Some(presented), Some(stored)) = (shell(presents, key), shell(&stores, key)) else {
            continue;
        };
        let sentence = explain(&mut session, &presented, &stored);
        assert!(sentence.contains(words), "{stores} gave: {sentence}");
        // The fingerprint that a service logs.
        let logged = shell("printf %s \"$1\" | sha256sum | cut -c1-12 | tr -d '\\n'", &presented);
        assert!(sentence.contains(&logged.unwrap()), "{sentence}");
    }
}

#[test]
fn a_table_explains_what_it_holds() {
    let cluster = Cluster::new();
    let mut session = cluster.extended_session("postgres");
    session.run("CREATE TABLE users (email text PRIMARY KEY, api_key text)");
    session.run("SELECT protect_api_keys('users')");
    let key = shell("head -c 32 /dev/urandom | od -An -vtx1 | tr -d ' \\n'", "").unwrap();
    let key = key.as_str();
    let stored = shell("echo \"$1\" | sha256sum | cut -c1-64 | tr -d '\\n'", key).unwrap();
    session.value::<i32>(
        "WITH one AS (INSERT INTO users VALUES ('internal-service@system', NULL, $1) RETURNING 1)
         SELECT count(*)::integer FROM one",
        &[&stored],
    );
    let sentence: String = session.value("SELECT explain_api_key('users'::regclass, $1)", &[&key]);
    assert!(sentence.contains("\"echo\" without -n"), "{sentence}");
    session.value::<i32>(
        "WITH one AS (UPDATE users SET api_key = $1 RETURNING 1) SELECT count(*)::integer FROM one",
        &[&key],
    );
    let sentence: String = session.value("SELECT explain_api_key('users'::regclass, $1)", &[&key]);
    assert!(sentence.starts_with("Match"), "{sentence}");
}
