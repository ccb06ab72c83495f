//! The program under test: the real binary as a child process, killed and started again on the same
//! files and the same port.
//!
//! Whatever it writes to standard error goes to one log for all its starts; the end of it is shown
//! when something fails. Deliberately absent: any look into the child, which is asked over sockets,
//! signals and files only.

use std::fs::File;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use tokio::process::{Child, Command};

use crate::database::Fresh;

/// Sends of the child under way at once: what one kill can leave unknown.
pub const IN_FLIGHT: u64 = 32;

/// One attempt of the child's to send.
pub const ATTEMPT: Duration = Duration::from_secs(4);

pub const APP_ID: &str = "wx0123456789abcdef";
pub const APP_SECRET: &str = "0123456789abcdef0123456789abcdef";
pub const TOKEN: &str = "torturetoken";
pub const AES_KEY: &str = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG";

/// Steps at 0, 1, 2 and 3 seconds. The text is the step's id: who got it is in the record anyway.
const SEQUENCE: &str = "
sequence: steps
trigger: follow
min_gap: 0s
steps:
  - { id: step-0, after: 0s, say: { text: '{{ step.id }}' } }
  - { id: step-1, after: 1s, say: { text: '{{ step.id }}' } }
  - { id: step-2, after: 2s, say: { text: '{{ step.id }}' } }
  - { id: step-3, after: 3s, say: { text: '{{ step.id }}' } }
";

/// How many steps the sequence has.
pub const STEPS: usize = 4;

/// One child after another, on the files in one folder.
#[derive(Debug)]
pub struct Server {
    pub addr: SocketAddr,
    folder: PathBuf,
    /// URL of the database.
    database: String,
    /// The database, where it goes with us.
    _fresh: Option<Fresh>,
    child: Option<Child>,
    pub starts: u64,
    pub kills: u64,
}

impl Server {
    /// Writes configuration and sequence for a server on `addr`; starts nothing yet.
    pub fn prepare(folder: &Path, addr: SocketAddr, platform: SocketAddr) -> Self {
        let fresh = Fresh::new();
        let server = Self::prepare_over(fresh.url.clone(), folder, addr, platform);
        Self {
            _fresh: Some(fresh),
            ..server
        }
    }

    /// The same over a database that somebody else has made, or will be made where its URL says.
    pub fn prepare_over(
        database: String,
        folder: &Path,
        addr: SocketAddr,
        platform: SocketAddr,
    ) -> Self {
        let seconds = ATTEMPT.as_secs();
        let config = format!(
            "server: {{ listen: {addr} }}
database: {{ url: '{database}' }}
sequences: {{ dir: sequences }}
accounts:
  - key: main
    app_id: {APP_ID}
    app_secret: {APP_SECRET}
    token: {TOKEN}
    encoding_aes_key: {AES_KEY}
    api_base: http://{platform}
    # The verdict looks people up by name, those who left too.
    erase_on_unfollow: false
    rate: {{ per_second: 10000, per_minute: 600000, per_day: 100000000 }}
wheel: {{ lead: 300ms, sweep_every: 5s }}
sender: {{ in_flight: {IN_FLIGHT}, attempt_timeout: {seconds}s }}
"
        );
        Self::configured(folder, addr, &config, database)
    }

    /// The same with a configuration of its own.
    pub fn configured(folder: &Path, addr: SocketAddr, config: &str, database: String) -> Self {
        std::fs::create_dir(folder.join("sequences")).unwrap();
        std::fs::write(folder.join("sequences/steps.yaml"), SEQUENCE).unwrap();
        std::fs::write(folder.join("dripwheel.yaml"), config).unwrap();
        Self {
            addr,
            folder: folder.to_owned(),
            database,
            _fresh: None,
            child: None,
            starts: 0,
            kills: 0,
        }
    }

    /// The same, with the database that goes with it.
    pub fn keeping(self, fresh: Fresh) -> Self {
        Self {
            _fresh: Some(fresh),
            ..self
        }
    }

    /// The URL of its database.
    pub fn database(&self) -> &str {
        &self.database
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dripwheel"));
        command
            .arg(name)
            .arg("--config")
            .arg(self.folder.join("dripwheel.yaml"))
            .env("RUST_LOG", "warn,dripwheel=info")
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    fn log(&self) -> PathBuf {
        self.folder.join("server.log")
    }

    /// Starts the child; it may not listen yet.
    pub fn start(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log())
            .unwrap();
        let child = self
            .command("serve")
            .stderr(log)
            .stdout(Stdio::null())
            .spawn();
        self.child = Some(child.unwrap());
        self.starts += 1;
    }

    /// Waits until the child listens.
    pub async fn ready(&mut self) {
        for _ in 0..3000 {
            let ended = self.child.as_mut().map(|child| child.try_wait().unwrap());
            if let Some(Some(status)) = ended {
                panic!(
                    "the server ended by itself with {status}\n{}",
                    self.log_end()
                );
            }
            let addr = self.addr;
            let connected = tokio::task::spawn_blocking(move || TcpStream::connect(addr).is_ok());
            if connected.await.unwrap() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the server does not listen\n{}", self.log_end());
    }

    /// SIGKILL: the child gets no chance to do anything about it.
    pub async fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().await.unwrap();
            self.kills += 1;
        }
    }

    /// SIGTERM, and how the child ends. `None` when it does not within `patience`.
    pub async fn terminate(&mut self, patience: Duration) -> Option<ExitStatus> {
        self.signal("TERM").await;
        let mut child = self.child.take().unwrap();
        let ended = tokio::time::timeout(patience, child.wait()).await;
        ended.ok().map(|status| status.unwrap())
    }

    /// The number of the child.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().and_then(Child::id).unwrap()
    }

    /// Sends the child a signal.
    pub async fn signal(&self, name: &str) {
        // The shell's own `kill` is there even where no program of that name is installed.
        let pid = self.pid();
        let sent = Command::new("sh")
            .arg("-c")
            .arg(format!("kill -{name} {pid}"))
            .status();
        assert!(sent.await.unwrap().success());
    }

    /// What a command of the program prints, as JSON, and whether it succeeded.
    pub async fn ask(&self, command: &str) -> (serde_json::Value, bool) {
        let output = self.command(command).arg("--json").output().await.unwrap();
        let printed = serde_json::from_slice(&output.stdout).unwrap_or_default();
        (printed, output.status.success())
    }

    /// `dripwheel audit --json` beside the working server: how many unknown sends there are. Fails
    /// when an invariant does.
    pub async fn audit(&self) -> i64 {
        let output = self.command("audit").arg("--json").output().await.unwrap();
        let printed = String::from_utf8_lossy(&output.stdout);
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "the audit is not clean after {} starts\n{printed}\n{complaint}\n{}",
            self.starts,
            self.log_end()
        );
        let found: serde_json::Value = serde_json::from_str(&printed).unwrap();
        let checks = found["checks"].as_array().unwrap();
        assert!(!checks.is_empty(), "an audit that checks nothing");
        found["unknown_sends"].as_i64().unwrap()
    }

    /// The last lines of the log.
    pub fn log_end(&self) -> String {
        let log = std::fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<_> = log.lines().rev().take(60).collect();
        let lines: Vec<_> = lines.into_iter().rev().collect();
        format!("--- the end of the server's log ---\n{}", lines.join("\n"))
    }

    /// Lines of the log that no start should write.
    pub fn complaints(&self) -> Vec<String> {
        let log = std::fs::read_to_string(self.log()).unwrap_or_default();
        log.lines()
            .filter(|line| line.contains("panicked at") || line.contains(" ERROR "))
            .map(ToOwned::to_owned)
            .collect()
    }
}

/// A free address whose port stays free while nobody listens on it: below the range from which the
/// system takes ports for outgoing connections, so that no such connection can sit on it between
/// two starts.
pub fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let own = u16::try_from(std::process::id() % 500).unwrap();
    loop {
        let port = 20_000 + own * 20 + NEXT.fetch_add(1, Ordering::Relaxed) % 2_000;
        let addr = SocketAddr::from(([127, 0, 0, 1], port));
        if TcpListener::bind(addr).is_ok() {
            return addr;
        }
    }
}
