//! Pictures, voices and videos that accounts uploaded, and how long the platform keeps them.
//!
//! Uploads live three days and belong to one account; pictures for articles stay. What a file is
//! is read from its first bytes, never from its name. Deliberately absent: multipart (`wire`).

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::errcode::Refusal;
use super::random;
use crate::clock::Timestamp;

/// Characters of every media id.
pub(super) const ID_CHARS: usize = 64;
const LIFE: Duration = Duration::from_secs(3 * 86_400);
/// Largest upload of any kind.
pub(super) const UPLOAD_BYTES_MAX: usize = 10 << 20;
/// Pictures for articles must stay below it.
const ARTICLE_PICTURE_BYTES: usize = 1 << 20;

/// The `type` of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum MediaKind {
    Image,
    Voice,
    Video,
    Thumb,
}

impl MediaKind {
    pub(super) fn parse(kind: &str) -> Option<Self> {
        Some(match kind {
            "image" => Self::Image,
            "voice" => Self::Voice,
            "video" => Self::Video,
            "thumb" => Self::Thumb,
            _ => return None,
        })
    }

    /// Largest file in bytes and the refusal beyond it (platform's page on temporary media).
    fn size(self) -> (usize, Refusal) {
        match self {
            Self::Image => (10 << 20, Refusal::IMAGE_SIZE),
            Self::Voice => (2 << 20, Refusal::VOICE_SIZE),
            Self::Video => (10 << 20, Refusal::VIDEO_SIZE),
            Self::Thumb => (64 << 10, Refusal::THUMB_SIZE),
        }
    }

    fn takes(self, mime: &str) -> bool {
        match self {
            Self::Image => mime.starts_with("image/"),
            Self::Voice => mime.starts_with("audio/"),
            Self::Video => mime == "video/mp4",
            Self::Thumb => mime == "image/jpeg",
        }
    }
}

/// One file.
#[derive(Debug)]
pub struct Media {
    /// Index of the account; `None` for what the sandbox itself brings.
    account: Option<usize>,
    kind: MediaKind,
    /// Sniffed content type.
    pub mime: &'static str,
    pub bytes: Vec<u8>,
    expires_at: Option<Timestamp>,
}

/// What outlives a restart of one file beside its bytes, among the files of its account.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct KeptMedia {
    pub(super) id: String,
    kind: MediaKind,
    /// Length in bytes.
    pub(super) length: usize,
    expires_at: Option<Timestamp>,
}

impl KeptMedia {
    pub(super) fn is_alive(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|end| now < end)
    }
}

/// All files by media id.
#[derive(Debug)]
pub(super) struct Shelf {
    files: RwLock<Files>,
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct Files {
    by_id: HashMap<String, Arc<Media>>,
    bytes: usize,
}

impl Shelf {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            files: RwLock::default(),
            bytes_max,
        }
    }

    /// Keeps an upload for three days and names it.
    pub(super) fn upload(
        &self,
        account: usize,
        kind: MediaKind,
        bytes: Vec<u8>,
        now: Timestamp,
    ) -> Result<String, Refusal> {
        if bytes.is_empty() {
            return Err(Refusal::EMPTY_MEDIA);
        }
        let (max, too_large) = kind.size();
        if bytes.len() > max {
            return Err(too_large);
        }
        let mime = sniff(&bytes)
            .filter(|mime| kind.takes(mime))
            .ok_or(Refusal::FILE_TYPE)?;
        self.put(
            Media {
                account: Some(account),
                kind,
                mime,
                bytes,
                expires_at: Some(now.plus(LIFE)),
            },
            now,
        )
    }

    /// Keeps a picture for articles and names it.
    pub(super) fn upload_picture(
        &self,
        account: usize,
        bytes: Vec<u8>,
        now: Timestamp,
    ) -> Result<String, Refusal> {
        if bytes.is_empty() {
            return Err(Refusal::EMPTY_MEDIA);
        }
        if bytes.len() >= ARTICLE_PICTURE_BYTES {
            return Err(Refusal::IMAGE_SIZE);
        }
        let mime = sniff(&bytes)
            .filter(|mime| ["image/png", "image/jpeg"].contains(mime))
            .ok_or(Refusal::FILE_TYPE)?;
        self.put(
            Media {
                account: Some(account),
                kind: MediaKind::Thumb,
                mime,
                bytes,
                expires_at: None,
            },
            now,
        )
    }

    /// Refuses instead of dropping somebody's living file when the shelf is full.
    fn put(&self, media: Media, now: Timestamp) -> Result<String, Refusal> {
        let mut files = self.files.write().unwrap_or_else(PoisonError::into_inner);
        if files.bytes.saturating_add(media.bytes.len()) > self.bytes_max {
            files.by_id.retain(|_, media| media.is_alive(now));
            files.bytes = files.by_id.values().map(|media| media.bytes.len()).sum();
        }
        if files.bytes.saturating_add(media.bytes.len()) > self.bytes_max {
            return Err(Refusal::MEDIA_SIZE);
        }
        files.bytes += media.bytes.len();
        let id = random::text(ID_CHARS);
        files.by_id.insert(id.clone(), Arc::new(media));
        Ok(id)
    }

    /// A file by its id, if it is still kept.
    pub(super) fn get(&self, id: &str, now: Timestamp) -> Option<Arc<Media>> {
        let files = self.files.read().unwrap_or_else(PoisonError::into_inner);
        files
            .by_id
            .get(id)
            .filter(|media| media.is_alive(now))
            .cloned()
    }

    /// Whether `account` may send `id` as one of `kinds`; 40007 otherwise.
    pub(super) fn check(
        &self,
        account: usize,
        id: &str,
        kinds: &[MediaKind],
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let files = self.files.read().unwrap_or_else(PoisonError::into_inner);
        files
            .by_id
            .get(id)
            .filter(|media| media.account == Some(account) && media.expires_at.is_some())
            .filter(|media| kinds.contains(&media.kind) && media.is_alive(now))
            .map(|_| ())
            .ok_or(Refusal::MEDIA_ID)
    }

    /// The files of one account that have not expired.
    pub(super) fn kept(&self, account: usize, now: Timestamp) -> Vec<(KeptMedia, Arc<Media>)> {
        let files = self.files.read().unwrap_or_else(PoisonError::into_inner);
        let mine = files.by_id.iter();
        mine.filter(|(_, media)| media.account == Some(account) && media.is_alive(now))
            .map(|(id, media)| {
                let kept = KeptMedia {
                    id: id.clone(),
                    kind: media.kind,
                    length: media.bytes.len(),
                    expires_at: media.expires_at,
                };
                (kept, Arc::clone(media))
            })
            .collect()
    }

    /// Takes in a file of before a restart; whether it fits and is what it was.
    pub(super) fn restore(&self, account: usize, kept: KeptMedia, bytes: Vec<u8>) -> bool {
        let mut files = self.files.write().unwrap_or_else(PoisonError::into_inner);
        let fits = files.bytes.saturating_add(bytes.len()) <= self.bytes_max;
        let mime = sniff(&bytes).filter(|_| fits && bytes.len() == kept.length);
        let Some(mime) = mime else {
            return false;
        };
        files.bytes += bytes.len();
        let media = Media {
            account: Some(account),
            kind: kept.kind,
            mime,
            bytes,
            expires_at: kept.expires_at,
        };
        files.by_id.insert(kept.id, Arc::new(media));
        true
    }
}

impl Media {
    fn is_alive(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|end| now < end)
    }
}

/// What the first bytes of a file say it is.
fn sniff(bytes: &[u8]) -> Option<&'static str> {
    const SIGNS: [(&[u8], &str); 9] = [
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"\xff\xd8\xff", "image/jpeg"),
        (b"GIF8", "image/gif"),
        (b"#!AMR", "audio/amr"),
        (b"ID3", "audio/mpeg"),
        (b"\xff\xfb", "audio/mpeg"),
        (b"\xff\xf3", "audio/mpeg"),
        (b"\xff\xf2", "audio/mpeg"),
        (b"\xff\xfa", "audio/mpeg"),
    ];
    if bytes.get(4..8) == Some(b"ftyp") {
        return Some("video/mp4");
    }
    SIGNS
        .iter()
        .find(|(sign, _)| bytes.starts_with(sign))
        .map(|(_, mime)| *mime)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp(1_700_000_000_000);
    const JPEG: &[u8] = b"\xff\xd8\xff\xe0 a picture";

    #[test]
    fn an_upload_lives_three_days_and_serves_one_account() {
        let shelf = Shelf::new(1 << 20);
        let id = shelf
            .upload(0, MediaKind::Image, JPEG.to_vec(), START)
            .unwrap();
        let check = |account, at| shelf.check(account, &id, &[MediaKind::Image], at);
        let end = START.plus(LIFE);
        assert_eq!(check(0, end.minus(Duration::from_secs(1))), Ok(()));
        assert_eq!(check(0, end), Err(Refusal::MEDIA_ID));
        assert_eq!(check(1, START), Err(Refusal::MEDIA_ID));
        assert_eq!(
            shelf.check(0, &id, &[MediaKind::Voice], START),
            Err(Refusal::MEDIA_ID)
        );
    }

    #[test]
    fn each_kind_has_its_size_and_its_files() {
        let shelf = Shelf::new(64 << 20);
        let upload = |kind, bytes: Vec<u8>| shelf.upload(0, kind, bytes, START).unwrap_err();
        let mut large = JPEG.to_vec();
        large.resize((64 << 10) + 1, 0);
        assert_eq!(upload(MediaKind::Thumb, large), Refusal::THUMB_SIZE);
        assert_eq!(
            upload(MediaKind::Image, b"GIX".to_vec()),
            Refusal::FILE_TYPE
        );
        assert_eq!(upload(MediaKind::Voice, JPEG.to_vec()), Refusal::FILE_TYPE);
        assert_eq!(upload(MediaKind::Video, Vec::new()), Refusal::EMPTY_MEDIA);
    }

    #[test]
    fn a_full_shelf_forgets_the_expired_and_refuses_the_rest() {
        let shelf = Shelf::new(JPEG.len());
        shelf
            .upload(0, MediaKind::Image, JPEG.to_vec(), START)
            .unwrap();
        let upload = |at| shelf.upload(0, MediaKind::Image, JPEG.to_vec(), at);
        assert_eq!(upload(START), Err(Refusal::MEDIA_SIZE));
        assert!(upload(START.plus(LIFE)).is_ok());
    }
}
