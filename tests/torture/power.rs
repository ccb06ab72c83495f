//! Power cuts: the database lies on a filesystem in a file, and that filesystem is shut down in the
//! middle of the work, without writing its log. What was not synced is gone, as it is when the power
//! goes; what the platform was answered stands in a record outside.
//!
//! Whoever uses the disk is stopped a moment before, as the power would stop them: of a sync that is
//! under way while its filesystem is shut down Linux says that it succeeded (6.18: in one cut of six).
//!
//! It needs root and loop devices. `DRIPWHEEL_CUTS` says how often (30 unless told otherwise). Where
//! the run is about PostgreSQL, all that its server has lies there. Not played: a disk that lies about
//! what it has written, and torn sectors.

use std::env;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use crate::cluster::Cluster;
use crate::crowd::Crowd;
use crate::server::{APP_ID, IN_FLIGHT, Server};
use crate::verdict::compare;
use crate::{PEOPLE, Scene, TERM_PATIENCE, print};

/// Bytes of the filesystem.
const SIZE: u64 = 1 << 30;

/// `EXT4_IOC_SHUTDOWN` with `EXT4_GOING_FLAGS_NOLOGFLUSH`. Perl is on every Debian; from here it would
/// take `unsafe`.
const SHUT_DOWN: &str = "sysopen(my $folder, $ARGV[0], 0) or die qq(open: $!);
    ioctl($folder, 0x8004587d, my $flags = pack('L', 2)) or die qq(ioctl: $!);";

/// Tries to unmount: whoever was killed may be going still.
const TRIES: usize = 100;

/// A filesystem that can lose its power.
struct Disk {
    folder: TempDir,
}

impl Disk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let disk = Self { folder };
        let image = std::fs::File::create(disk.image()).unwrap();
        image.set_len(SIZE).unwrap();
        let made = run("mkfs.ext4", &["-q".as_ref(), "-F".as_ref(), &disk.image()]);
        made.unwrap();
        std::fs::create_dir(disk.mounted_at()).unwrap();
        // PostgreSQL runs as somebody else.
        std::fs::set_permissions(disk.folder.path(), Permissions::from_mode(0o711)).unwrap();
        disk.mount();
        disk
    }

    fn image(&self) -> PathBuf {
        self.folder.path().join("image")
    }

    fn mounted_at(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    /// Mounts it, which replays its journal.
    fn mount(&self) {
        let (image, at) = (self.image(), self.mounted_at());
        let mounted = run("mount", &["-o".as_ref(), "loop".as_ref(), &image, &at]);
        mounted.expect("this test needs root and loop devices");
    }

    /// From now on it is as the power left it: every write fails.
    fn cut(&self) {
        let at = self.mounted_at();
        run("perl", &["-e".as_ref(), SHUT_DOWN.as_ref(), &at]).unwrap();
    }

    /// Brings it back after a cut. Nobody may use it still.
    fn bring_back(&self) {
        for _ in 0..TRIES {
            if run("umount", &[&self.mounted_at()]).is_ok() {
                return self.mount();
            }
            thread::sleep(Duration::from_millis(50));
        }
        panic!("somebody uses {} still", self.mounted_at().display());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: after a failure the server may be going still.
        run("umount", &["-l".as_ref(), &self.mounted_at()]).ok();
    }
}

/// Runs a program; what it complained of when it failed.
fn run(program: &str, arguments: &[&Path]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!(
            "{program}: {}",
            String::from_utf8_lossy(&output.stderr)
        )),
    }
}

/// Stops a process, each of its children, and all of their threads; says who they are.
fn stop(process: &str) -> Vec<String> {
    let mut all = vec![process.to_owned()];
    for entry in std::fs::read_dir("/proc").unwrap() {
        let other = entry.unwrap().file_name().into_string().unwrap();
        // Most that stands there is no process, or not for long.
        if stat(&format!("/proc/{other}/stat")).is_some_and(|stat| stat[1] == process) {
            all.push(other);
        }
    }
    let kill = format!("kill -STOP {}", all.join(" "));
    // The shell's own `kill` is always there. Somebody may have ended meanwhile.
    run("sh", &["-c".as_ref(), kill.as_ref()]).ok();
    for one in &all {
        let Ok(threads) = std::fs::read_dir(format!("/proc/{one}/task")) else {
            continue;
        };
        for thread in threads {
            let path = format!("{}/stat", thread.unwrap().path().display());
            while stat(&path).is_some_and(|stat| !["T", "t", "Z", "X"].contains(&&*stat[0])) {
                thread::sleep(Duration::from_millis(1));
            }
        }
    }
    all
}

/// State, parent and so on of a thread.
fn stat(path: &str) -> Option<Vec<String>> {
    let text = std::fs::read_to_string(path).ok()?;
    let (_, behind_name) = text.rsplit_once(") ")?;
    Some(behind_name.split(' ').map(str::to_owned).collect())
}

/// What lies on the disk.
enum Victim {
    File(String),
    Server { cluster: Box<Cluster>, url: String },
}

impl Victim {
    /// Of the kind that this run is about.
    fn on(disk: &Disk) -> Self {
        if env::var("DRIPWHEEL_TEST_DATABASE").as_deref() != Ok("postgres") {
            let path = disk.mounted_at().join("test.db");
            return Self::File(format!("sqlite://{}", path.display()));
        }
        let data = disk.mounted_at().join("data");
        std::fs::create_dir(&data).unwrap();
        let plan = Cluster::plan().durable().data_at(&data);
        let cluster = plan.set("max_wal_size", "128MB").start();
        let url = cluster.url(&cluster.create_database());
        // The files that it begins with are not synced by whoever makes them.
        run("sync", &["-f".as_ref(), &data]).unwrap();
        Self::Server {
            cluster: Box::new(cluster),
            url,
        }
    }

    fn url(&self) -> String {
        match self {
            Self::File(url) | Self::Server { url, .. } => url.clone(),
        }
    }

    /// What goes with the power although it is not the server under test. Asked before the cut: after
    /// it nothing can be read.
    fn pid(&self) -> Option<String> {
        match self {
            Self::File(_) => None,
            Self::Server { cluster, .. } => Some(cluster.pid()),
        }
    }

    /// Starts it once the power is back.
    fn start(&self) {
        if let Self::Server { cluster, .. } = self {
            // After a cut no process has the old number; after a kill the dead one may keep it.
            for lock in cluster.locks() {
                std::fs::remove_file(lock).ok();
            }
            cluster.start();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "mounts a filesystem, which takes root and loop devices"]
async fn a_power_cut_loses_nothing_that_was_acknowledged() {
    let cuts = env::var("DRIPWHEEL_CUTS")
        .map_or(30, |cuts| cuts.parse().expect("DRIPWHEEL_CUTS is a number"));
    // First, so that it goes last.
    let disk = Disk::new();
    let victim = Victim::on(&disk);
    let mut scene = Scene::with(|folder, addr, platform| {
        Server::prepare_over(victim.url(), folder, addr, platform)
    })
    .await;
    let control = scene.platform.control();
    let mut crowd = Crowd::default();
    scene.server.start();
    scene.server.ready().await;
    for cut in 1..=cuts {
        crowd.join(&control, &mut scene.dice, APP_ID, (PEOPLE, 600));
        tokio::time::sleep(scene.dice.millis(200, 1500)).await;
        let user = victim.pid();
        let users = stop(&user.unwrap_or_else(|| scene.server.pid().to_string()));
        disk.cut();
        scene.server.kill().await;
        // The shell's own `kill` is always there. Of these our own server has ended.
        let kill = format!("kill -KILL {}", users.join(" "));
        run("sh", &["-c".as_ref(), kill.as_ref()]).ok();
        disk.bring_back();
        victim.start();
        scene.server.start();
        scene.server.ready().await;
        scene.server.audit().await;
        if cut % 10 == 0 || cut == cuts {
            println!("cut {cut} of {cuts}: audit clean");
        }
    }
    let people = crowd.everybody().await;
    scene.drained().await;
    scene.server.audit().await;
    let ended = scene.server.terminate(TERM_PATIENCE).await;
    assert!(ended.is_some_and(|status| status.success()), "{ended:?}");

    let bound = scene.server.kills * IN_FLIGHT;
    let verdict = compare(&people, &scene.record(), scene.server.database(), bound).await;
    print(cuts, &scene, &verdict);
    verdict.assert_clean();
    scene.platform.stop().await;
}
