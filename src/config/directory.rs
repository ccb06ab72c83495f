//! Reads a directory of sequences: every `*.yaml` in it, and the files that they name.
//!
//! The one place where sequences touch the disk. Files are bounded before they are read, paths
//! stay below the directory even through symbolic links, and the bytes of a file have to be what
//! its ending says. Deliberately absent: subdirectories of sequences, watching for changes.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::journey::parse::{AssetFacts, parse};
use crate::journey::sequence::Sequence;
use crate::yaml::{FILE_MAX, Problem};

/// Most sequences of one directory.
const SEQUENCES_MAX: usize = 1_000;
/// Largest file that a message can name, in bytes: the platform's limit for images and videos.
const ASSET_MAX: u64 = 10 * 1024 * 1024;

/// What a directory holds.
#[derive(Debug, Default)]
pub struct Loaded {
    /// By file name.
    pub sequences: Vec<Source>,
    /// By file name, then by line.
    pub problems: Vec<Problem>,
}

impl Loaded {
    /// How many steps all sequences have.
    pub fn steps(&self) -> usize {
        self.sequences
            .iter()
            .map(|source| source.sequence.steps.len())
            .sum()
    }
}

/// One sequence with everything that its version consists of.
#[derive(Clone, Debug)]
pub struct Source {
    pub sequence: Sequence,
    /// The path, for people.
    pub file: String,
    pub text: String,
    pub assets: Vec<LoadedAsset>,
    /// SHA-256 over the text and the hashes of the files, in lower-case hex: the identity of an
    /// immutable version.
    pub hash: String,
}

impl Source {
    /// The hashes of the files by path as written, as `parse_stored` takes them.
    pub fn asset_hashes(&self) -> BTreeMap<String, String> {
        self.assets
            .iter()
            .map(|asset| (asset.file.clone(), asset.sha256.clone()))
            .collect()
    }
}

/// A file that a message names. Its bytes stay on disk: a directory may hold gigabytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadedAsset {
    /// As written in the YAML.
    pub file: String,
    /// Lower-case hex.
    pub sha256: String,
    pub path: PathBuf,
    /// In bytes.
    pub size: u64,
    pub mime: &'static str,
}

impl LoadedAsset {
    /// The bytes, as they were when the sequence was read.
    ///
    /// # Errors
    /// When the file is gone or has changed since.
    pub fn read(&self) -> Result<Vec<u8>, String> {
        let bytes = read_bounded(&self.path, ASSET_MAX)?;
        if hex(&Sha256::digest(&bytes)) == self.sha256 {
            Ok(bytes)
        } else {
            Err(format!("{} has changed while it was used", self.file))
        }
    }
}

/// Reads every sequence of a directory. What can be read is there even when something else is
/// wrong: callers decide whether problems stop them.
pub fn load_dir(dir: &Path) -> Loaded {
    let mut loaded = Loaded::default();
    let files = match sequence_files(dir) {
        Ok(files) => files,
        Err(problem) => {
            loaded.problems.push(problem);
            return loaded;
        }
    };
    for path in files {
        match load_file(dir, &path) {
            Ok(source) => loaded.sequences.push(source),
            Err(problems) => loaded.problems.extend(problems),
        }
    }
    refuse_same_names(&mut loaded);
    loaded
}

/// Reads one sequence; the files it names are looked for in `dir`.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load_file(dir: &Path, path: &Path) -> Result<Source, Vec<Problem>> {
    let file = path.display().to_string();
    let text = read_text(path, FILE_MAX).map_err(|why| vec![Problem::of_file(&file, why)])?;
    let assets: RefCell<Vec<LoadedAsset>> = RefCell::default();
    let find = |name: &str| -> Result<AssetFacts, String> {
        let known = assets
            .borrow()
            .iter()
            .find(|asset| asset.file == name)
            .cloned();
        let asset = match known {
            Some(asset) => asset,
            None => {
                let asset = load_asset(dir, name)?;
                assets.borrow_mut().push(asset.clone());
                asset
            }
        };
        Ok(AssetFacts {
            sha256: asset.sha256,
            size: asset.size,
        })
    };
    let sequence = parse(&text, &file, &find)?.sequence;
    let mut assets = assets.into_inner();
    assets.sort_by(|a, b| a.file.cmp(&b.file));
    let hash = version_hash(&text, &assets);
    Ok(Source {
        sequence,
        file,
        text,
        assets,
        hash,
    })
}

/// Reads a text file of at most `most` bytes.
///
/// # Errors
/// What is wrong with the file, as a fragment that can follow its name.
pub(crate) fn read_text(path: &Path, most: usize) -> Result<String, String> {
    let bytes = read_bounded(path, u64::try_from(most).unwrap_or(u64::MAX))?;
    let text = String::from_utf8(bytes).map_err(|_| "is not UTF-8 text".to_owned())?;
    Ok(match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text,
    })
}

fn read_bounded(path: &Path, most: u64) -> Result<Vec<u8>, String> {
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => "does not exist".to_owned(),
        std::io::ErrorKind::PermissionDenied => "may not be read".to_owned(),
        kind => format!("cannot be read: {kind}"),
    };
    // A pipe would block for ever, a device never end.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err("is not a file".to_owned());
    }
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(most.saturating_add(1)).read_to_end(&mut bytes))
        .map_err(failed)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > most {
        return Err(format!("has more than {most} bytes"));
    }
    Ok(bytes)
}

fn sequence_files(dir: &Path) -> Result<Vec<PathBuf>, Problem> {
    let fix = "set `sequences: { dir: … }` to the directory of your sequences";
    yaml_files(dir, fix)
}

/// The YAML files of a directory, by name; hidden ones are left out.
///
/// # Errors
/// When the directory cannot be read, with `fix`, or holds too many.
pub(super) fn yaml_files(dir: &Path, fix: &str) -> Result<Vec<PathBuf>, Problem> {
    let name = dir.display().to_string();
    let entries = std::fs::read_dir(dir).map_err(|error| {
        let message = format!("this directory cannot be read: {}", error.kind());
        Problem::of_file(&name, message).fix(fix)
    })?;
    let mut files: Vec<PathBuf> = entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| {
            let hidden = path
                .file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with('.'));
            let yaml = path
                .extension()
                .is_some_and(|ending| ending == "yaml" || ending == "yml");
            yaml && !hidden && path.is_file()
        })
        .take(SEQUENCES_MAX + 1)
        .collect();
    if files.len() > SEQUENCES_MAX {
        let message = format!("this directory has more than {SEQUENCES_MAX} YAML files");
        return Err(Problem::of_file(&name, message));
    }
    files.sort();
    Ok(files)
}

fn load_asset(dir: &Path, name: &str) -> Result<LoadedAsset, String> {
    let missing = |_| "does not exist".to_owned();
    let path = dir.join(name).canonicalize().map_err(missing)?;
    if !path.starts_with(dir.canonicalize().map_err(missing)?) {
        return Err("leads out of the directory of the sequences".to_owned());
    }
    let bytes = read_bounded(&path, ASSET_MAX)?;
    let ending = name
        .rsplit_once('.')
        .map(|(_, ending)| ending.to_ascii_lowercase())
        .unwrap_or_default();
    let mime = mime_of(&bytes).ok_or_else(|| format!("is damaged, or no {ending} file"))?;
    if !endings(mime).contains(&ending.as_str()) {
        return Err(format!("is in truth {mime}"));
    }
    Ok(LoadedAsset {
        file: name.to_owned(),
        sha256: hex(&Sha256::digest(&bytes)),
        path,
        size: u64::try_from(bytes.len()).unwrap_or(u64::MAX),
        mime,
    })
}

/// What the first bytes of a file say it is.
fn mime_of(bytes: &[u8]) -> Option<&'static str> {
    let starts = |magic: &[u8]| bytes.starts_with(magic);
    if starts(b"\x89PNG\r\n\x1a\n") {
        Some("image/png")
    } else if starts(b"\xff\xd8\xff") {
        Some("image/jpeg")
    } else if starts(b"GIF87a") || starts(b"GIF89a") {
        Some("image/gif")
    } else if starts(b"#!AMR") {
        Some("audio/amr")
    } else if starts(b"ID3") || (bytes.len() > 1 && bytes[0] == 0xff && bytes[1] & 0xe0 == 0xe0) {
        Some("audio/mpeg")
    } else if bytes.get(4..8) == Some(b"ftyp") {
        Some("video/mp4")
    } else {
        None
    }
}

fn endings(mime: &str) -> &'static [&'static str] {
    match mime {
        "image/png" => &["png"],
        "image/jpeg" => &["jpg", "jpeg"],
        "image/gif" => &["gif"],
        "audio/amr" => &["amr"],
        "audio/mpeg" => &["mp3"],
        "video/mp4" => &["mp4"],
        _ => &[],
    }
}

fn version_hash(text: &str, assets: &[LoadedAsset]) -> String {
    let mut hash = Sha256::new();
    hash.update(Sha256::digest(text.as_bytes()));
    for asset in assets {
        // Each part has a length of its own, so no two versions can run together.
        hash.update(Sha256::digest(asset.file.as_bytes()));
        hash.update(asset.sha256.as_bytes());
    }
    hex(&hash.finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Two files must not hold one sequence: which of them would be the new version?
fn refuse_same_names(loaded: &mut Loaded) {
    let mut first: BTreeMap<String, String> = BTreeMap::new();
    let mut problems = Vec::new();
    loaded.sequences.retain(|source| {
        let name = &source.sequence.name;
        let Some(other) = first.get(name) else {
            first.insert(name.clone(), source.file.clone());
            return true;
        };
        let message = format!("the sequence `{name}` is also in {other}");
        problems.push(
            Problem::at_key(&source.text, &source.file, "sequence", message)
                .fix("give one of them another name"),
        );
        false
    });
    loaded.problems.extend(problems);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journey::parse::parse_stored;

    const PNG: &[u8] = b"\x89PNG\r\n\x1a\nrest";

    fn sequence(name: &str, say: &str) -> String {
        format!(
            "sequence: {name}\ntrigger: api\nsteps:\n  - id: x\n    after: 0s\n    say: {say}\n"
        )
    }

    fn dir(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
        dir
    }

    fn only_problem(files: &[(&str, &[u8])]) -> String {
        let dir = dir(files);
        let loaded = load_dir(dir.path());
        assert_eq!(loaded.problems.len(), 1, "{:#?}", loaded.problems);
        loaded.problems[0].message.clone()
    }

    #[test]
    fn the_shipped_sequences_are_clean() {
        let loaded = load_dir(&Path::new(env!("CARGO_MANIFEST_DIR")).join("sequences"));
        assert_eq!(loaded.problems, []);
        let names: Vec<&str> = loaded
            .sequences
            .iter()
            .map(|source| source.sequence.name.as_str())
            .collect();
        assert_eq!(names, ["event-day", "welcome"]);
        assert_eq!(loaded.steps(), 6);
        for source in &loaded.sequences {
            parse_stored(&source.text, &source.asset_hashes()).unwrap();
        }
    }

    #[test]
    fn a_version_changes_with_its_text_and_its_files_only() {
        let text = sequence("a", "{ image: i/a.png }");
        let hash = |text: &str, png: &[u8]| {
            let dir = dir(&[("a.yaml", text.as_bytes()), ("i/a.png", png)]);
            let loaded = load_dir(dir.path());
            assert_eq!(loaded.problems, []);
            loaded.sequences[0].hash.clone()
        };
        let first = hash(&text, PNG);
        assert_eq!(first.len(), 64);
        assert_eq!(first, hash(&text, PNG));
        assert_ne!(first, hash(&format!("{text}# note\n"), PNG));
        assert_ne!(first, hash(&text, b"\x89PNG\r\n\x1a\nother"));
    }

    #[test]
    fn files_are_read_again_as_they_were() {
        let text = sequence("a", "{ image: a.png }");
        let dir = dir(&[("a.yaml", text.as_bytes()), ("a.png", PNG)]);
        let loaded = load_dir(dir.path());
        let asset = &loaded.sequences[0].assets[0];
        assert_eq!((asset.mime, asset.size), ("image/png", 12));
        assert_eq!(asset.read().unwrap(), PNG);
        std::fs::write(dir.path().join("a.png"), b"\x89PNG\r\n\x1a\nREST").unwrap();
        assert!(asset.read().unwrap_err().contains("has changed"));
    }

    #[test]
    fn one_bad_file_does_not_hide_the_good_ones() {
        let good = sequence("good", "{ text: a }");
        let dir = dir(&[
            ("bad.yaml", b"sequence: 1: 2"),
            ("good.yml", good.as_bytes()),
            (".hidden.yaml", b"x"),
            ("notes.txt", b"x"),
            ("below/more.yaml", b"x"),
        ]);
        let loaded = load_dir(dir.path());
        assert_eq!((loaded.sequences.len(), loaded.problems.len()), (1, 1));
        assert!(loaded.problems[0].file.ends_with("bad.yaml"));
    }

    #[test]
    fn two_files_with_one_name_are_both_named() {
        let text = sequence("same", "{ text: a }");
        let dir = dir(&[("a.yaml", text.as_bytes()), ("b.yaml", text.as_bytes())]);
        let loaded = load_dir(dir.path());
        let problem = &loaded.problems[0];
        assert!(problem.file.ends_with("b.yaml") && problem.line == 1);
        assert!(problem.message.contains("`same`") && problem.message.ends_with("a.yaml"));
    }

    #[test]
    fn files_have_to_be_what_their_ending_says() {
        let text = sequence("a", "{ image: a.png }");
        let with = |bytes: &[u8]| only_problem(&[("a.yaml", text.as_bytes()), ("a.png", bytes)]);
        assert_eq!(with(b"GIF89a..."), "`a.png` is in truth image/gif");
        assert_eq!(with(b"<svg/>"), "`a.png` is damaged, or no png file");
        assert_eq!(with(b""), "`a.png` is damaged, or no png file");
        assert_eq!(with(&[0; 11 << 20]), "`a.png` has more than 10485760 bytes");
        let gone = only_problem(&[("a.yaml", text.as_bytes())]);
        assert_eq!(gone, "`a.png` does not exist");
        let folder = only_problem(&[("a.yaml", text.as_bytes()), ("a.png/x", b"")]);
        assert_eq!(folder, "`a.png` is not a file");
        let latin = only_problem(&[("a.yaml", b"sequence: \xe9\n")]);
        assert_eq!(latin, "is not UTF-8 text");
    }

    #[cfg(unix)]
    #[test]
    fn links_do_not_lead_out_of_the_directory() {
        let outside = dir(&[("secret.png", PNG)]);
        let text = sequence("a", "{ image: a.png }");
        let dir = dir(&[("a.yaml", text.as_bytes())]);
        let link = dir.path().join("a.png");
        std::os::unix::fs::symlink(outside.path().join("secret.png"), link).unwrap();
        let loaded = load_dir(dir.path());
        let message = &loaded.problems[0].message;
        assert!(message.contains("leads out of the directory"), "{message}");
    }

    #[test]
    fn a_directory_that_is_not_there_is_a_problem() {
        let loaded = load_dir(Path::new("/no/such/directory"));
        assert!(loaded.problems[0].message.contains("cannot be read"));
    }
}
