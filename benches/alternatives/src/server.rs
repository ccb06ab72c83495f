//! Private servers: each in a folder of its own, on a free port of this machine, stopped when
//! dropped.
//!
//! Every process group that runs is a file in the folder `groups`, so that whoever started this
//! program can end them when it could not.

use std::fs::File;
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, geteuid, kill_process_group};

use crate::peers::Peer;

/// A server, and how durable it is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Postgres,
    /// What was written in the last second may be lost with the machine.
    RedisEverySecond,
    /// Written and synced before the answer.
    RedisAlways,
    Rabbitmq,
}

/// Folders of programs that are not on the PATH, and where private servers live.
#[derive(Clone, Debug)]
pub struct Tools {
    pub postgres_bin: PathBuf,
    pub rabbitmq_bin: PathBuf,
    /// On the disk that is measured; holds everything, and the folder `groups`.
    pub dir: PathBuf,
}

/// A server that runs.
#[derive(Debug)]
pub struct Server {
    pub url: String,
    main: Running,
    /// What the server needs beside itself; stopped after it.
    _beside: Option<Running>,
}

impl Server {
    /// Starts a server and waits until it can be used for a peer.
    pub async fn start(kind: Kind, peer: Peer, tools: &Tools, folder: &Path) -> Result<Self> {
        let mut server = match kind {
            Kind::Postgres => postgres(tools, folder)?,
            Kind::RedisEverySecond => redis(tools, folder, "everysec")?,
            Kind::RedisAlways => redis(tools, folder, "always")?,
            Kind::Rabbitmq => rabbitmq(tools, folder)?,
        };
        let from = Instant::now();
        while let Err(error) = peer.prepare(&server.url).await {
            let log = || std::fs::read_to_string(folder.join("log")).unwrap_or_default();
            if let Some(status) = server.main.child.try_wait()? {
                bail!("the server ended with {status}:\n{}", log());
            }
            if from.elapsed() > Duration::from_secs(60) {
                return Err(error.context(format!("the server does not come up:\n{}", log())));
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(server)
    }

    pub fn pid(&self) -> u32 {
        self.main.child.id()
    }
}

/// A process group that ends with this value.
#[derive(Debug)]
struct Running {
    child: Child,
    /// Ends the whole group quickly and leaves no memory segments behind.
    end: Signal,
    /// Its file in `groups`.
    note: PathBuf,
}

impl Running {
    fn start(command: &mut Command, end: Signal, tools: &Tools, folder: &Path) -> Result<Self> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(folder.join("log"))?;
        command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let what = command.get_program().display().to_string();
        let child = command.spawn().with_context(|| format!("start {what}"))?;
        let note = tools.dir.join("groups").join(child.id().to_string());
        let running = Self { child, end, note };
        std::fs::create_dir_all(tools.dir.join("groups"))?;
        std::fs::write(&running.note, "")?;
        Ok(running)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A child that has not been waited for keeps its id, so nobody else's group is meant.
        let group = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let tell = |signal| group.map(|group| kill_process_group(group, signal));
        tell(self.end);
        let from = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if from.elapsed() > Duration::from_secs(10) {
                tell(Signal::KILL);
                self.child.wait().ok();
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
        std::fs::remove_file(&self.note).ok();
    }
}

fn free_port() -> Result<u16> {
    let probe = TcpListener::bind("127.0.0.1:0").context("find a free port")?;
    Ok(probe.local_addr()?.port())
}

/// A command that the package's own user `postgres` runs where we are root: PostgreSQL refuses to.
fn not_as_root(program: &Path) -> Command {
    if !geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--init-groups"]);
    command.arg(program);
    command
}

fn postgres(tools: &Tools, folder: &Path) -> Result<Server> {
    let (port, data) = (free_port()?, folder.join("postgres"));
    std::fs::create_dir(&data)?;
    if geteuid().is_root() {
        let owned = Command::new("chown").arg("postgres:").arg(&data).status()?;
        ensure!(owned.success(), "{} was not given away", data.display());
    }
    let made = not_as_root(&tools.postgres_bin.join("initdb"))
        .args(["--auth=trust", "--username=postgres", "--encoding=UTF8"])
        .args(["--locale=C", "-D"])
        .arg(&data)
        .current_dir(&data)
        .output()
        .context("run initdb")?;
    let said = String::from_utf8_lossy(&made.stderr);
    ensure!(made.status.success(), "initdb: {said}");
    let mut command = not_as_root(&tools.postgres_bin.join("postgres"));
    command.arg("-D").arg(&data).current_dir(&data);
    for setting in [
        "listen_addresses=127.0.0.1",
        "unix_socket_directories=",
        "fsync=on",
        "synchronous_commit=on",
        &format!("port={port}"),
    ] {
        command.arg("-c").arg(setting);
    }
    Ok(Server {
        url: format!("postgres://postgres@127.0.0.1:{port}/postgres"),
        main: Running::start(&mut command, Signal::QUIT, tools, folder)?,
        _beside: None,
    })
}

fn redis(tools: &Tools, folder: &Path, fsync: &str) -> Result<Server> {
    let port = free_port()?;
    let mut command = Command::new("redis-server");
    command
        .args(["--bind", "127.0.0.1", "--port", &port.to_string()])
        .args(["--appendonly", "yes", "--appendfsync", fsync, "--save", ""])
        .arg("--dir")
        .arg(folder);
    Ok(Server {
        url: format!("redis://127.0.0.1:{port}/"),
        main: Running::start(&mut command, Signal::KILL, tools, folder)?,
        _beside: None,
    })
}

fn rabbitmq(tools: &Tools, folder: &Path) -> Result<Server> {
    // Erlang would start its register of names by itself, and leave it running.
    let names = free_port()?.to_string();
    let mut register = Command::new("epmd");
    register.args(["-address", "127.0.0.1", "-port", &names]);
    let register = Running::start(&mut register, Signal::KILL, tools, folder)?;
    let port = free_port()?;
    let path = |name: &str| folder.join(name);
    let mut command = Command::new(tools.rabbitmq_bin.join("rabbitmq-server"));
    command
        .env("HOME", folder)
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        .env("ERL_EPMD_PORT", names)
        .env("RABBITMQ_NODENAME", format!("alternatives{port}@localhost"))
        .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_NODE_PORT", port.to_string())
        .env("RABBITMQ_DIST_PORT", free_port()?.to_string())
        .env("RABBITMQ_CONF_ENV_FILE", path("rabbitmq-env.conf"))
        .env("RABBITMQ_CONFIG_FILE", path("rabbitmq"))
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", path("plugins"))
        .env("RABBITMQ_MNESIA_BASE", path("mnesia"))
        .env("RABBITMQ_LOG_BASE", path("logs"))
        .env("RABBITMQ_PID_FILE", path("pid"))
        .current_dir(folder);
    Ok(Server {
        url: format!("amqp://guest:guest@127.0.0.1:{port}/%2f"),
        main: Running::start(&mut command, Signal::KILL, tools, folder)?,
        _beside: Some(register),
    })
}
