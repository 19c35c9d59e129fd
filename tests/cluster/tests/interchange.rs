//! SHA-256 hashes are those of every other tool, byte for byte.

use std::io::Write;
use std::process::{Command, Stdio};

use cluster_tests::Cluster;

const KEYS: [&str; 8] = [
    "a",
    "sk_live_51H8xYzKj2mNpQrStUvWxYz0123456789",
    "xoxb-123456789012-1234567890123-AbCdEfGhIjKlMnOpQrStUvWx",
    "550e8400-e29b-41d4-a716-446655440000",
    "dGhpcyBpcyBiYXNlNjQ+Lw==",
    r#"back\slash\\x41\000'quote\""#,
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~",
];

/// What a program prints when it reads the text; `None` if this machine has no such program.
fn filter(program: &str, arguments: &[&str], text: &str) -> Option<String> {
    let child =
        Command::new(program).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let Ok(mut child) = child else {
        println!("{program} is absent: not compared with it");
        return None;
    };
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{program}: {}", output.status);
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn sha256_hashes_are_those_of_other_tools() {
    let cluster = Cluster::new();
    let mut session = cluster.extended_session("postgres");
    let longest = "k".repeat(1024);
    let generated: String = session.value("SELECT generate_api_key('ak')", &[]);
    let mut keys: Vec<_> = KEYS.map(str::to_owned).into();
    keys.extend([longest, generated]);
    for arguments in [["rand", "-hex", "32"], ["rand", "-base64", "33"]] {
        keys.extend(filter("openssl", &arguments, "").map(|key| key.trim_end().to_owned()));
    }
    let hashes: Vec<String> =
        keys.iter().map(|key| session.value("SELECT hash_api_key($1)", &[key])).collect();

    for (key, hash) in keys.iter().zip(&hashes) {
        let theirs = filter("sha256sum", &[], key).expect("coreutils are everywhere");
        assert_eq!(theirs, format!("{hash}  -\n"), "sha256sum of {key}");
        let verified: bool = session.value("SELECT verify_api_key($1, $2)", &[key, hash]);
        assert!(verified);
    }
    let script = "const { createHash } = require('crypto');
        const keys = require('fs').readFileSync(0, 'utf8').split('\\n');
        for (const key of keys) console.log(createHash('sha256').update(key).digest('hex'));";
    if let Some(theirs) = filter("node", &["-e", script], &keys.join("\n")) {
        assert_eq!(theirs.lines().collect::<Vec<_>>(), hashes);
    }
    let script = "import hashlib, sys
for key in sys.stdin.read().split('\\n'): print(hashlib.sha256(key.encode()).hexdigest())";
    if let Some(theirs) = filter("python3", &["-c", script], &keys.join("\n")) {
        assert_eq!(theirs.lines().collect::<Vec<_>>(), hashes);
    }
}

/// The classic mistake of the shell is named as what it is.
#[test]
fn a_key_from_echo_is_refused_with_a_hint_on_its_newline() {
    let cluster = Cluster::new();
    cluster.extended_session("postgres");
    let shell = "key=$(printf %s 0123456789abcdef); echo \"$key\"";
    let key = filter("sh", &["-c", shell], "").unwrap();
    let error = cluster.session("postgres").query("SELECT hash_api_key($1)", &[&key]).unwrap_err();
    assert!(error.as_db_error().unwrap().hint().unwrap().contains("echo"));

    // Through psql, as a script does it.
    let printed = cluster
        .run("psql", ["-XAtq", "-d", "postgres", "-c", "SELECT hash_api_key('0123456789abcdef')"]);
    let theirs = filter("sha256sum", &[], "0123456789abcdef").unwrap();
    assert_eq!(printed.trim_end(), &theirs[..64]);
}
