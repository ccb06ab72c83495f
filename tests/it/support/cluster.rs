//! A private PostgreSQL cluster, from the server's binaries on this machine.
//!
//! One is started for the whole process when the first test asks for it; a test that stops servers
//! starts its own. PostgreSQL refuses to run as the superuser of the system, so there it runs as
//! `postgres` or `nobody`. A keeper (`keeper.sh`) starts and stops the server and outlives this
//! process by as long as it takes to remove everything, also when this process is killed.
//!
//! Methods block until what they ask for is done. Deliberately absent: whose tables are in it.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Mutex, OnceLock};

/// Fast, and nothing that was committed survives a power cut.
const HASTY: &[(&str, &str)] = &[("fsync", "off"), ("full_page_writes", "off")];

const SETTINGS: &[(&str, &str)] = &[
    ("listen_addresses", "127.0.0.1"),
    ("max_connections", "400"),
    ("log_line_prefix", "%m [%p] %d "),
];

/// Ports that are tried, and below those that a system takes for outgoing connections.
const PORTS: u16 = 700;
const FIRST_PORT: u16 = 32_000;

/// How often a free port may turn out to be taken.
const TRIES: usize = 5;

/// A cluster that is still to be started.
#[derive(Clone, Debug, Default)]
pub struct ClusterPlan {
    durable: bool,
    settings: Vec<(String, String)>,
    data_at: Option<PathBuf>,
}

impl ClusterPlan {
    /// What is committed is on the disk.
    #[must_use]
    pub fn durable(mut self) -> Self {
        self.durable = true;
        self
    }

    /// A setting as in `postgresql.conf`, without quotes.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Its data lies in this empty folder, and stays there when the cluster goes.
    #[must_use]
    pub fn data_at(mut self, folder: &Path) -> Self {
        self.data_at = Some(folder.to_owned());
        self
    }

    /// Makes a cluster and starts it.
    pub fn start(self) -> Cluster {
        let cluster = Cluster::prepare(random());
        if let Some(data) = &self.data_at {
            let owner = std::fs::metadata(cluster.folder()).unwrap();
            chown(data, Some(owner.uid()), Some(owner.gid())).unwrap();
            symlink(data, cluster.data()).unwrap();
        }
        cluster.order(&format!("create {}", cluster.password));
        let hasty = if self.durable { &[] } else { HASTY };
        for (name, value) in SETTINGS.iter().chain(hasty) {
            cluster.order(&format!("set {name} {value}"));
        }
        for (name, value) in &self.settings {
            cluster.order(&format!("set {name} {value}"));
        }
        cluster.open()
    }
}

/// A PostgreSQL server of our own; dropped, it stops and leaves nothing.
#[derive(Debug)]
pub struct Cluster {
    binaries: PathBuf,
    /// Of the data, the log and the socket.
    folder: PathBuf,
    port: u16,
    password: String,
    keeper: Mutex<Keeper>,
}

impl Cluster {
    pub fn plan() -> ClusterPlan {
        ClusterPlan::default()
    }

    /// The one that all tests of this process have in common.
    pub fn of_this_process() -> &'static Self {
        static CLUSTER: OnceLock<Cluster> = OnceLock::new();
        CLUSTER.get_or_init(|| Self::plan().start())
    }

    /// A folder and a keeper, without a server.
    fn prepare(password: String) -> Self {
        let binaries = binaries();
        let folder = tempfile::Builder::new()
            .prefix("dripwheel-pg-")
            .tempdir()
            .unwrap();
        let owner = Owner::of(folder.path());
        if let Some(Owner { uid, gid }) = owner {
            chown(folder.path(), Some(uid), Some(gid)).unwrap();
        }
        let keeper = Keeper::hire(&binaries, folder.path(), owner);
        Self {
            binaries,
            // From here on its keeper's to remove.
            folder: folder.keep(),
            port: 0,
            password,
            keeper: Mutex::new(keeper),
        }
    }

    /// Starts the server for the first time, on a port that is free.
    fn open(mut self) -> Self {
        let folder = self.folder.display().to_string();
        self.order(&format!("set unix_socket_directories {folder}"));
        for _ in 0..TRIES {
            self.port = free_port();
            self.order(&format!("set port {}", self.port));
            if self.keeper.lock().unwrap().obeys("start") {
                return self;
            }
            // Somebody else may have taken the port in the meantime.
            if !self.log().contains("could not bind") {
                break;
            }
        }
        panic!("it does not start\n{}\n{}", self.said(), self.log());
    }

    /// What a program connects to `database` with.
    pub fn url(&self, database: &str) -> String {
        let Self { password, port, .. } = self;
        format!("postgres://postgres:{password}@127.0.0.1:{port}/{database}")
    }

    /// Makes an empty database and gives its name.
    pub fn create_database(&self) -> String {
        let name = format!("test_{}", random());
        self.psql("postgres", &format!("CREATE DATABASE {name}"));
        name
    }

    /// Makes a database that is as this one, to which nobody is connected, and gives its name.
    pub fn copy_database(&self, original: &str) -> String {
        let name = format!("test_{}", random());
        self.psql(
            "postgres",
            &format!("CREATE DATABASE {name} TEMPLATE {original}"),
        );
        name
    }

    /// Removes a database, whoever is connected to it. What stays goes with the cluster: a test that
    /// has failed already must not fail twice.
    pub fn drop_database(&self, name: &str) {
        let sql = format!("DROP DATABASE {name} WITH (FORCE)");
        self.ask("postgres", &sql).ok();
    }

    /// Cuts all connections to a database but the one that does it; gives how many there were.
    pub fn terminate_backends(&self, database: &str) -> usize {
        let sql = format!(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
             WHERE datname = '{database}' AND pid <> pg_backend_pid()"
        );
        self.psql("postgres", &sql).parse().unwrap()
    }

    /// What a statement says: rows as lines, columns apart by `|`.
    pub fn psql(&self, database: &str, sql: &str) -> String {
        let said = self.ask(database, sql);
        said.unwrap_or_else(|complaint| panic!("{sql}\n{complaint}"))
    }

    fn ask(&self, database: &str, sql: &str) -> Result<String, String> {
        let mut command = Command::new(self.binaries.join("psql"));
        without_settings(&mut command)
            .args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align"])
            .args(["--set=ON_ERROR_STOP=1", "--username=postgres"])
            .arg(format!("--host={}", self.folder.display()))
            .arg(format!("--port={}", self.port))
            .arg(format!("--dbname={database}"))
            .args(["--command", sql]);
        let output = command.output().unwrap();
        let text = |bytes| String::from_utf8_lossy(bytes).trim_end().to_owned();
        match output.status.success() {
            true => Ok(text(&output.stdout)),
            false => Err(text(&output.stderr)),
        }
    }

    /// Starts the server after a stop, on the same port.
    pub fn start(&self) {
        self.order("start");
    }

    /// Stops the server in order; whoever is connected is cut off.
    pub fn stop(&self) {
        self.order("stop fast");
    }

    /// Stops the server as a crash does: the next start recovers.
    pub fn stop_immediate(&self) {
        self.order("stop immediate");
    }

    pub fn restart(&self) {
        self.stop();
        self.start();
    }

    /// A copy of this server that follows it until it is promoted.
    pub fn standby(&self) -> Self {
        let standby = Self::prepare(self.password.clone());
        standby.order(&format!("copy {} {}", self.folder.display(), self.port));
        standby.open()
    }

    /// Makes a standby a server that takes writes.
    pub fn promote(&self) {
        self.order("promote");
    }

    fn order(&self, order: &str) {
        let obeyed = self.keeper.lock().unwrap().obeys(order);
        assert!(obeyed, "{order}\n{}\n{}", self.said(), self.log());
    }

    /// What the last order said.
    fn said(&self) -> String {
        std::fs::read_to_string(self.folder.join("said")).unwrap_or_default()
    }

    /// What the server said.
    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Where all that it has is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// The files by which a server knows that another one runs: of its data, and of its socket.
    pub fn locks(&self) -> [PathBuf; 2] {
        let socket = format!(".s.PGSQL.{}.lock", self.port);
        [self.data().join("postmaster.pid"), self.folder.join(socket)]
    }

    /// The process that all others of the server go with.
    pub fn pid(&self) -> String {
        let [lock, _] = self.locks();
        let lock = std::fs::read_to_string(lock).unwrap();
        lock.lines().next().unwrap().to_owned()
    }
}

/// The shell that runs a server for us.
#[derive(Debug)]
struct Keeper {
    child: Child,
    /// `None` once it has been told that there are no more.
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Keeper {
    fn hire(binaries: &Path, folder: &Path, owner: Option<Owner>) -> Self {
        let mut command = Command::new("sh");
        without_settings(&mut command)
            .args(["-c", include_str!("keeper.sh"), "keeper"])
            .args([binaries, folder])
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // A Ctrl-C is for us: the keeper sees that its orders end.
            .process_group(0);
        if let Some(Owner { uid, gid }) = owner {
            command.uid(uid).gid(gid);
        }
        let mut child = command.spawn().unwrap();
        Self {
            orders: child.stdin.take(),
            answers: BufReader::new(child.stdout.take().unwrap()),
            child,
        }
    }

    fn obeys(&mut self, order: &str) -> bool {
        writeln!(self.orders.as_ref().unwrap(), "{order}").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        assert!(
            !answer.is_empty(),
            "the keeper is gone: {:?}",
            self.child.wait()
        );
        answer == "ok\n"
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.orders.take();
        self.child.wait().ok();
    }
}

/// Whom the server runs as where we may not run it ourselves.
#[derive(Clone, Copy, Debug)]
struct Owner {
    uid: u32,
    gid: u32,
}

impl Owner {
    /// `None` where we are not the superuser, as the owner of a folder of ours shows.
    fn of(folder: &Path) -> Option<Self> {
        if std::fs::metadata(folder).unwrap().uid() != 0 {
            return None;
        }
        let found = ["postgres", "nobody"].into_iter().find_map(|name| {
            let (uid, gid) = (id("-u", name)?, id("-g", name)?);
            Some(Self { uid, gid })
        });
        let wanted = "PostgreSQL does not run as root: there must be a `postgres` or a `nobody`";
        Some(found.expect(wanted))
    }
}

fn id(which: &str, name: &str) -> Option<u32> {
    let output = Command::new("id").args([which, name]).output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    printed.trim().parse().ok()
}

/// The folder of the server's programs: Debian's newest, or where the path leads to.
fn binaries() -> PathBuf {
    let has_server = |folder: &PathBuf| folder.join("initdb").is_file();
    let version = |folder: &PathBuf| -> Option<u32> {
        folder.file_name().and_then(OsStr::to_str)?.parse().ok()
    };
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter();
    let versions = debian.flatten().flatten().map(|entry| entry.path());
    let newest = versions
        .filter(|folder| has_server(&folder.join("bin")))
        .max_by_key(version);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = || {
        let folder = std::env::split_paths(&path).find(has_server)?;
        // All programs are beside the one that a link leads to.
        let program = folder.join("initdb").canonicalize().ok()?;
        program.parent().map(Path::to_owned)
    };
    let found = newest.map(|folder| folder.join("bin")).or_else(on_path);
    found.expect("PostgreSQL's server is not installed: run tests/run, or install `postgresql`")
}

/// Nothing that this machine's people have set up for their own servers counts.
fn without_settings(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"PG") {
            command.env_remove(name);
        }
    }
    command
}

/// A port that nobody listens on now.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let own = u16::try_from(std::process::id() % u32::from(PORTS)).unwrap();
    loop {
        let next = NEXT.fetch_add(1, Ordering::Relaxed) % PORTS;
        let port = FIRST_PORT + (own + next) % PORTS;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Letters and digits that nobody can guess.
fn random() -> String {
    let mut bytes = [0; 12];
    getrandom::fill(&mut bytes).unwrap();
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}
