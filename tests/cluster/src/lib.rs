//! Throw-away PostgreSQL clusters for the tests beside this crate.
//!
//! The environment variable `PG_API_KEY_BINDIR` names the bin folder of a server that has the
//! extension. A cluster listens on a Unix socket in its own folder, ends when it is dropped (also
//! by a test that panics), and at the latest after [`LIFETIME`] (also when the tests are killed).
//! Whatever goes wrong in here fails the test that uses it.

#![allow(clippy::panic, reason = "that is how a test fails")]

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::sync::OnceLock;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use postgres::error::DbError;
use postgres::{Client, NoTls};
use tempfile::TempDir;

mod scan;
pub use scan::{Finding, scan_folder};

/// No server outlives this.
const LIFETIME: &str = "5m";
/// What takes longer than this has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// What all throw-away clusters of this repository share.
const CONFIGURATION: &str = include_str!("../../../pgrx-config/postgresql.conf");

/// A running cluster, or one that a test has stopped.
pub struct Cluster {
    folder: TempDir,
    server: Option<Child>,
}

/// A connection, with the notices that it has received.
pub struct Session {
    client: Client,
    notices: Receiver<DbError>,
}

impl Cluster {
    pub fn new() -> Self {
        Self::with("")
    }

    /// A cluster with more settings, written as in `postgresql.conf`.
    pub fn with(settings: &str) -> Self {
        let folder = new_folder();
        run(Command::new("cp").arg("-R").arg(template()).arg(folder.path().join("data")));
        Self::start_in(folder, &format!("{CONFIGURATION}\n{settings}"))
    }

    fn start_in(folder: TempDir, settings: &str) -> Self {
        let file = folder.path().join("data/postgresql.conf");
        let old = fs::read_to_string(&file).expect("initdb writes postgresql.conf");
        fs::write(&file, format!("{old}\n{settings}\n")).expect("it can be written");
        let mut cluster = Self { folder, server: None };
        cluster.start();
        cluster
    }

    /// Starts the server and waits until it answers. One that follows a crash may have to wait
    /// until the last process of the crashed one has noticed.
    pub fn start(&mut self) {
        let began = Instant::now();
        loop {
            let mut server = self.spawn();
            let ready = loop {
                if self.try_session("postgres").is_ok() {
                    break true;
                }
                if server.try_wait().expect("a child").is_some() {
                    break false;
                }
                assert!(began.elapsed() < PATIENCE, "the server is not ready:\n{}", self.log());
                thread::sleep(Duration::from_millis(20));
            };
            if ready {
                self.server = Some(server);
                return;
            }
            assert!(
                began.elapsed() < PATIENCE && self.log().contains("is still in use"),
                "the server did not start:\n{}",
                self.log()
            );
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn spawn(&self) -> Child {
        let log = File::options().create(true).append(true).open(self.path("log"));
        let log = log.expect("the log can be written");
        program("timeout")
            .args(["--signal=INT", "--kill-after=5s", LIFETIME])
            .arg(bindir().join("postgres"))
            .arg("-D")
            .arg(self.data())
            .arg("-k")
            .arg(self.socket())
            // The worst case: pgrx would append a backtrace to what a panic says.
            .env("RUST_BACKTRACE", "1")
            .stdin(std::process::Stdio::null())
            .stdout(log.try_clone().expect("a second handle of the log"))
            .stderr(log)
            .spawn()
            .expect("`timeout` of coreutils is there")
    }

    /// Ends the server in the mode that pg_ctl calls `fast` or `immediate`.
    pub fn stop(&mut self, mode: &str) {
        run(program("pg_ctl").args(["stop", "--silent", "--mode", mode, "-D"]).arg(self.data()));
        self.reap();
    }

    /// Ends the postmaster as the kernel would; its children notice by themselves.
    pub fn kill(&mut self) {
        let file = fs::read_to_string(self.data().join("postmaster.pid"));
        let file = file.expect("a running server writes postmaster.pid");
        let pid = file.lines().next().expect("its first line is the process id");
        run(program("pg_ctl").args(["kill", "KILL", pid]));
        self.reap();
    }

    fn reap(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.wait().expect("a child");
        }
    }

    /// The folder of the socket: what a client names as its host.
    pub fn socket(&self) -> &Path {
        self.folder.path()
    }

    pub fn data(&self) -> PathBuf {
        self.path("data")
    }

    /// A file of that name beside the data folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// How a subscriber or standby reaches this cluster.
    pub fn connection_string(&self, database: &str) -> String {
        format!("host={} user=postgres dbname={database}", self.socket().display())
    }

    /// The server's log up to now.
    pub fn log(&self) -> String {
        let log = fs::read(self.path("log")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// A connection as superuser.
    pub fn session(&self, database: &str) -> Session {
        self.try_session(database).expect("the server takes connections")
    }

    /// The same, unless the server does not take connections at the moment.
    pub fn try_session(&self, database: &str) -> Result<Session, postgres::Error> {
        let (sender, notices) = mpsc::channel();
        let client = Client::configure()
            .host_path(self.socket())
            .user("postgres")
            .dbname(database)
            // Nobody listens after the session's end.
            .notice_callback(move |notice| drop(sender.send(notice)))
            .connect(NoTls)?;
        Ok(Session { client, notices })
    }

    /// A connection to a database that has the extension from now on.
    pub fn extended_session(&self, database: &str) -> Session {
        let mut session = self.session(database);
        session.run("CREATE EXTENSION pg_api_key");
        session
    }

    pub fn create_database(&self, name: &str, options: &str) {
        self.session("postgres").run(&format!("CREATE DATABASE {name} {options}"));
    }

    /// A client program of this server's version, told where to connect.
    pub fn program(&self, name: &str) -> Command {
        let mut command = program(name);
        command.env("PGHOST", self.socket()).env("PGUSER", "postgres");
        command
    }

    /// Runs a client program that must succeed, and returns what it prints.
    pub fn run<A: AsRef<OsStr>>(
        &self,
        name: &str,
        arguments: impl IntoIterator<Item = A>,
    ) -> String {
        let output = run(self.program(name).args(arguments));
        String::from_utf8(output.stdout).expect("the program prints UTF-8")
    }

    /// Writes all to the files, and looks for a marker in each of them.
    pub fn scan(&self, marker: &str) -> Vec<Finding> {
        self.session("postgres").run("CHECKPOINT");
        scan_folder(&self.data(), marker)
    }

    /// A copy of the data folder, as `data` in a folder of its own, ready to follow this cluster.
    pub fn base_backup(&self) -> TempDir {
        let folder = new_folder();
        let data = folder.path().join("data");
        run(self
            .program("pg_basebackup")
            .args(["--write-recovery-conf", "--checkpoint=fast", "--no-sync", "-D"])
            .arg(&data));
        folder
    }

    /// A hot standby that follows this cluster.
    pub fn standby(&self) -> Self {
        Self::start_in(self.base_backup(), "hot_standby = on")
    }

    /// Waits until a standby or subscriber has all that this cluster has written.
    pub fn wait_for_followers(&self) {
        let mut session = self.session("postgres");
        // A commit that waits for the disk takes all that came before along.
        session.run("SET synchronous_commit = on; SELECT pg_logical_emit_message(true, '', '')");
        let target: String = session.value("SELECT pg_current_wal_flush_lsn()::text", &[]);
        wait_until("the followers have caught up", || {
            session.value(
                "SELECT count(*) > 0 AND coalesce(bool_and(replay_lsn >= $1::text::pg_lsn), false)
                   FROM pg_stat_replication",
                &[&target],
            )
        });
    }
}

impl Default for Cluster {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            let tail = &lines[lines.len().saturating_sub(15)..];
            eprintln!("the end of the server's log:\n{}", tail.join("\n"));
        }
        if let Some(mut server) = self.server.take() {
            let mut stop = program("pg_ctl");
            stop.args(["stop", "--silent", "--mode=immediate", "-D"]).arg(self.data());
            if !stop.status().is_ok_and(|status| status.success()) {
                eprintln!("the server of {} ends in {LIFETIME}", self.data().display());
                return;
            }
            // It has ended, or its guard has.
            drop(server.wait());
        }
    }
}

impl Session {
    /// Runs statements without parameters.
    pub fn run(&mut self, sql: &str) {
        if let Err(error) = self.client.batch_execute(sql) {
            panic!("{sql}: {}", describe(&error));
        }
    }

    /// The one value of the one row that a query returns.
    pub fn value<T>(&mut self, sql: &str, parameters: &[&(dyn postgres::types::ToSql + Sync)]) -> T
    where
        T: for<'a> postgres::types::FromSql<'a>,
    {
        match self.client.query_one(sql, parameters) {
            Ok(row) => row.get(0),
            Err(error) => panic!("{sql}: {}", describe(&error)),
        }
    }

    /// What the server has sent beside results since the last call.
    pub fn notices(&mut self) -> Vec<DbError> {
        // One more round trip, so that all of the last statement's have arrived.
        self.run("SELECT");
        self.notices.try_iter().collect()
    }
}

impl Deref for Session {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl DerefMut for Session {
    fn deref_mut(&mut self) -> &mut Client {
        &mut self.client
    }
}

/// Every field in which an error could say too much, in one line.
pub fn describe(error: &postgres::Error) -> String {
    error.as_db_error().map_or_else(|| error.to_string(), describe_report)
}

/// The same for an error or a notice.
pub fn describe_report(report: &DbError) -> String {
    format!(
        "{} {}: {} | detail: {} | hint: {} | context: {} | constraint: {}",
        report.severity(),
        report.code().code(),
        report.message(),
        report.detail().unwrap_or("none"),
        report.hint().unwrap_or("none"),
        report.where_().unwrap_or("none"),
        report.constraint().unwrap_or("none"),
    )
}

/// Polls until a condition holds.
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Runs a command that must succeed.
pub fn run(command: &mut Command) -> Output {
    let output = command.output();
    let output = output.unwrap_or_else(|error| panic!("{command:?} can't be run: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// The bin folder of the server under test.
pub fn bindir() -> &'static Path {
    static BINDIR: OnceLock<PathBuf> = OnceLock::new();
    BINDIR.get_or_init(|| {
        std::env::var_os("PG_API_KEY_BINDIR")
            .expect("PG_API_KEY_BINDIR names the server to test; tests/run sets it")
            .into()
    })
}

/// A program of the server, or of the system if the server has none of that name, in an
/// environment that does not speak of another server or another language.
fn program(name: &str) -> Command {
    let of_server = bindir().join(name);
    let mut command = Command::new(if of_server.exists() { of_server } else { name.into() });
    let foreign: BTreeSet<_> =
        std::env::vars_os().filter(|(key, _)| key.to_string_lossy().starts_with("PG")).collect();
    for (key, _) in foreign {
        command.env_remove(key);
    }
    command.env("LC_ALL", "C");
    command
}

/// In the system's temporary folder: the name of a socket holds 107 bytes at most.
fn new_folder() -> TempDir {
    TempDir::with_prefix("pg_api_key-").expect("a temporary folder can be made")
}

/// A data folder to copy, made by the first run with this server, and kept beside the test program.
fn template() -> &'static Path {
    static TEMPLATE: OnceLock<PathBuf> = OnceLock::new();
    TEMPLATE.get_or_init(|| {
        let version = run(program("postgres").arg("--version")).stdout;
        let version = String::from_utf8_lossy(&version);
        let name: String = version.chars().filter(char::is_ascii_alphanumeric).collect();
        let program_file = std::env::current_exe().expect("a test knows its own program");
        let kept = program_file.with_file_name(format!("template-{name}"));
        if !kept.exists() {
            let making = kept.with_extension(std::process::id().to_string());
            run(program("initdb")
                .args(["--username=postgres", "--auth=trust", "--encoding=UTF8"])
                .args(["--locale=C", "--no-sync", "--no-instructions", "--wal-segsize=1", "-D"])
                .arg(&making));
            if fs::rename(&making, &kept).is_err() {
                // Another run was faster.
                fs::remove_dir_all(&making).expect("ours can be removed");
            }
        }
        kept
    })
}
