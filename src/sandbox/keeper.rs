//! The state file: written whole beside the old one and then put in its place, at most once a
//! second, and read when the sandbox starts.
//!
//! Media lie beside it as one file each, written before the state names them and removed after it
//! does not any more. Two sandboxes must not share a state file. What is kept is up to `snapshot`.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use thiserror::Error;
use tokio::time::MissedTickBehavior;

use super::media::{KeptMedia, Media};
use super::snapshot::{KeptAccount, Snapshot, VERSION, is_media_id};
use super::{World, lock};

/// At most this much is lost by a kill.
const SAVE_EVERY: Duration = Duration::from_secs(1);

/// Why a state file cannot be gone on from.
#[derive(Debug, Error)]
pub enum StateError {
    #[error("{} is damaged ({what}): remove it to begin with an empty sandbox", path.display())]
    Damaged { path: PathBuf, what: String },
    #[error("{} is of version {version} and not {VERSION}: remove it to begin with an empty sandbox", path.display())]
    Version { path: PathBuf, version: u32 },
    #[error("read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
}

/// One state file and its folder.
#[derive(Debug)]
pub(super) struct Keeper {
    path: PathBuf,
    folder: PathBuf,
    /// Accounts that the settings do not name at the moment; kept as they were.
    others: Vec<KeptAccount>,
    /// Media that are in the folder. Held while saving, so that one save follows another.
    written: Mutex<HashSet<String>>,
}

impl Keeper {
    /// Reads what is kept at `path` into `world`; a path without a file is a new sandbox.
    pub(super) fn open(path: &Path, world: &mut World) -> Result<Self, StateError> {
        let mut folder = path.as_os_str().to_owned();
        folder.push(".media");
        let mut keeper = Self {
            path: path.to_owned(),
            folder: folder.into(),
            others: Vec::new(),
            written: Mutex::default(),
        };
        if let Some(snapshot) = keeper.read()? {
            keeper.others = world.restore(snapshot, |media| keeper.bytes(media));
        }
        let written = keeper.in_folder().map_err(|source| StateError::Read {
            path: keeper.folder.clone(),
            source,
        })?;
        keeper.written = Mutex::new(written);
        Ok(keeper)
    }

    fn read(&self) -> Result<Option<Snapshot>, StateError> {
        let path = || self.path.clone();
        let file = match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => {
                return Err(StateError::Read {
                    path: path(),
                    source,
                });
            }
            Ok(file) => file,
        };
        let damaged = |what: &str| StateError::Damaged {
            path: path(),
            what: what.to_owned(),
        };
        // Looked at as any JSON first: another version may have another shape.
        let value: serde_json::Value = serde_json::from_reader(BufReader::new(file))
            .map_err(|error| damaged(&error.to_string()))?;
        match value["version"].as_u64().map(u32::try_from) {
            Some(Ok(VERSION)) => {}
            Some(Ok(version)) => {
                return Err(StateError::Version {
                    path: path(),
                    version,
                });
            }
            _ => return Err(damaged("it has no version")),
        }
        let snapshot: Snapshot =
            serde_json::from_value(value).map_err(|error| damaged(&error.to_string()))?;
        if !snapshot.is_sound() {
            return Err(damaged("it names a file as the sandbox names none"));
        }
        Ok(Some(snapshot))
    }

    /// A file's bytes, if it is there as it was written.
    fn bytes(&self, media: &KeptMedia) -> Option<Vec<u8>> {
        let path = self.folder.join(&media.id);
        let length = fs::metadata(&path).ok()?.len();
        // A larger file would be read for nothing.
        let is_whole = usize::try_from(length) == Ok(media.length);
        is_whole.then(|| fs::read(&path).ok()).flatten()
    }

    /// The media in the folder; other names are none of the sandbox's.
    fn in_folder(&self) -> io::Result<HashSet<String>> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(HashSet::new()),
            entries => entries?,
        };
        let mut found = HashSet::new();
        for entry in entries {
            let name = entry?.file_name();
            found.extend(
                name.to_str()
                    .filter(|name| is_media_id(name))
                    .map(str::to_owned),
            );
        }
        Ok(found)
    }

    /// Writes what is to be kept of `world`. Blocks.
    fn save(&self, world: &World) -> io::Result<()> {
        let mut written = lock(&self.written);
        let (mut snapshot, files) = world.snapshot();
        let now = world.clock.now();
        for other in &self.others {
            let mut other = other.clone();
            other.media.retain(|media| media.is_alive(now));
            snapshot.accounts.push(other);
        }
        for (id, media) in &files {
            if !written.contains(id) {
                self.write_media(id, media)?;
                written.insert(id.clone());
            }
        }
        replace(&self.path, |file| {
            serde_json::to_writer(file, &snapshot).map_err(io::Error::from)
        })?;
        let named = snapshot.accounts.iter().flat_map(|account| &account.media);
        let named: HashSet<&str> = named.map(|media| media.id.as_str()).collect();
        let gone: Vec<String> = written
            .iter()
            .filter(|id| !named.contains(id.as_str()))
            .cloned()
            .collect();
        for id in gone {
            match fs::remove_file(self.folder.join(&id)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => written.remove(&id),
            };
        }
        Ok(())
    }

    fn write_media(&self, id: &str, media: &Media) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        replace(&self.folder.join(id), |file| file.write_all(&media.bytes))
    }

    /// Saves what changed since the last time, off the runtime's threads.
    pub(super) async fn save_changes(self: &Arc<Self>, world: &Arc<World>) {
        if !world.is_unsaved.swap(false, Ordering::AcqRel) {
            return;
        }
        let (keeper, saved) = (Arc::clone(self), Arc::clone(world));
        let done = tokio::task::spawn_blocking(move || keeper.save(&saved)).await;
        let done = done.unwrap_or_else(|error| Err(io::Error::other(error)));
        if let Err(error) = done {
            let path = self.path.display();
            tracing::error!(%error, %path, "the sandbox's state is not saved, next try follows");
            world.touch();
        }
    }

    /// Saves changes until the sandbox stops; the last of them are left to whoever stops it.
    pub(super) async fn run(self: Arc<Self>, world: Arc<World>) {
        let mut turns = tokio::time::interval(SAVE_EVERY);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = world.closed.cancelled() => return,
                _ = turns.tick() => self.save_changes(&world).await,
            }
        }
    }
}

/// Writes a file beside `path` and puts it in its place, so that a kill leaves the old one or the
/// new one. Readable by its owner only: chats are nobody else's.
fn replace(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let mut options = File::options();
    let file = options
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&beside)?;
    let mut file = BufWriter::new(file);
    write(&mut file)?;
    file.into_inner()
        .map_err(io::IntoInnerError::into_error)?
        .sync_all()?;
    fs::rename(&beside, path)
}
