//! A PostgreSQL server for tests, on a Unix socket in a directory of its own. The tests of the modules and `tests/interop`
//! use it as well.

use std::{
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;

/// It ends when it is dropped, or when the tests' process is gone.
pub(crate) struct Postgres {
    directory: TempDir,
    bin: PathBuf,
    server: Option<Child>,
    databases: u32,
}

impl Postgres {
    /// Returns `None` if PostgreSQL is not installed in Debian's directory. With `SMTP_AUTH_NO_SKIP` set, this is a failure.
    pub(crate) fn start() -> Option<Self> {
        let installed = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
        let bin = installed
            .flatten()
            .map(|entry| entry.path().join("bin"))
            .find(|bin| bin.join("initdb").exists());
        assert!(
            bin.is_some() || std::env::var_os("SMTP_AUTH_NO_SKIP").is_none(),
            "PostgreSQL is not installed"
        );
        let bin = bin?;
        let directory = tempfile::Builder::new().prefix("authd").tempdir_in("/tmp").unwrap();
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        let mut postgres = Self { directory, bin, server: None, databases: 0 };
        let script = format!(
            "{}/initdb -D {}/data -U tests -A trust --no-sync",
            postgres.as_user(),
            postgres.path()
        );
        assert!(shell(&script).status().unwrap().success(), "initdb has failed");
        postgres.run();
        Some(postgres)
    }

    /// PostgreSQL refuses to run as root.
    fn as_user(&self) -> String {
        let is_root = rustix::process::getuid().is_root();
        let user =
            if is_root { "setpriv --reuid=postgres --regid=postgres --clear-groups " } else { "" };
        format!("{user}{}", self.bin.display())
    }

    fn path(&self) -> String {
        self.directory.path().display().to_string()
    }

    /// Starts the server.
    pub(crate) fn run(&mut self) {
        let (path, parent) = (self.path(), std::process::id());
        // Its standard input is a pipe that ends with this process or with `stop`.
        let script = format!(
            "{}/postgres -D {path}/data -k {path} -c listen_addresses='' -c fsync=off -c max_connections=200 & \
             while [ -d /proc/{parent} ] && [ ! -e {path}/stop ]; do sleep 0.1; done; kill -INT $!; wait; \
             if [ ! -e {path}/stop ]; then rm -rf {path}; fi",
            self.as_user()
        );
        self.server = Some(shell(&script).spawn().unwrap());
        let socket = self.directory.path().join(".s.PGSQL.5432");
        for _ in 0..300 {
            let ready = Command::new("pg_isready").args(["-qh", &path]).status();
            if Path::new(&socket).exists() && ready.is_ok_and(|status| status.success()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("PostgreSQL has not started");
    }

    /// Stops the server, as if the machine were down.
    pub(crate) fn stop(&mut self) {
        let stop = self.directory.path().join("stop");
        std::fs::write(&stop, "").unwrap();
        if let Some(mut server) = self.server.take() {
            server.wait().unwrap();
        }
        std::fs::remove_file(stop).unwrap();
    }

    /// Lets every query of this table wait until the returned process ends, which takes that many seconds.
    pub(crate) fn slow(&self, url: &str, table: &str, seconds: impl core::fmt::Display) -> Child {
        self.hold(url, &format!("LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"), seconds)
    }

    /// Executes the statement in a transaction that lasts so many seconds, in the returned process.
    pub(crate) fn hold(
        &self,
        url: &str,
        statement: &str,
        seconds: impl core::fmt::Display,
    ) -> Child {
        let sql = format!(
            "BEGIN; {statement}; \\! touch {}/locked\nSELECT pg_sleep({seconds}); COMMIT;",
            self.path()
        );
        let mut child = Command::new("psql")
            .args(["-q", url])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(sql.as_bytes()).unwrap();
        while !self.directory.path().join("locked").exists() {
            std::thread::sleep(Duration::from_millis(20));
        }
        child
    }

    /// Ends all connections to the database, as a restart does.
    pub(crate) fn end_connections(&self, url: &str) {
        let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                   WHERE datname = current_database() AND pid <> pg_backend_pid()";
        let ended = Command::new("psql").args(["-qc", sql, url]).stdout(Stdio::null()).status();
        assert!(ended.unwrap().success());
    }

    /// Makes a new database and returns its URL.
    pub(crate) fn database(&mut self) -> String {
        self.database_with("")
    }

    /// The same, with these options of `CREATE DATABASE`.
    pub(crate) fn database_with(&mut self, options: &str) -> String {
        self.databases += 1;
        let (path, name) = (self.path(), format!("test{}", self.databases));
        let sql = format!("CREATE DATABASE {name} {options}");
        let psql = Command::new("psql")
            .args(["-h", &path, "-U", "tests", "-d", "postgres", "-qc", &sql])
            .status();
        assert!(psql.unwrap().success());
        format!("postgres://tests@localhost/{name}?host={path}")
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
    }
}

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}
