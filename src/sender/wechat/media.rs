//! Files become media ids: uploaded once per account, kept until shortly before they expire.
//!
//! A file of the sequences directory is known by the hash of its bytes, a URL by the hash of the
//! URL: what is behind it is fetched again only when the id is renewed. One upload per file and
//! kind is under way at a time, and it goes on when the send that asked for it has run out of time,
//! so that the next attempt finds it done. Deliberately absent: permanent material (its quota is
//! the account's for ever) and resizing.
//!
//! Source: the platform's pages "upload temporary media" and "upload picture for articles".

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use moka::future::Cache;
use moka::ops::compute::Op;
use reqwest::multipart::Part;
use secrecy::ExposeSecret;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::errcode::{Reaction, Reply, reaction};
use super::fetch::{self, Fetcher, Reach};
use super::token::Tokens;
use super::wire::{Wire, hide};
use super::{WechatSettings, filetype, used_up};
use crate::clock::{Clock, Timestamp};
use crate::journey::ids::AccountId;
use crate::journey::message::Asset;
use crate::sender::budget::{Budgets, Interface};
use crate::sender::platform::{Answer, AnswerClass, Call};

pub use filetype::{FileType, MediaKind};

/// How long an id is used. The platform keeps temporary media for three days.
const USED_FOR: Duration = Duration::from_secs(60 * 3_600);

/// Longest a file may take to be fetched and uploaded.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Files of one account being fetched or uploaded at once, at 10 MB each.
const AT_ONCE: usize = 4;

/// Ids kept in memory per account; the shelf has them all.
const KEPT_MAX: u64 = 10_000;

/// Which upload: the key of its row.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MediaKey {
    pub account: AccountId,
    /// The SHA-256 of the file's bytes in lower-case hex, or `url:` and the SHA-256 of its URL.
    pub identity: String,
    pub kind: MediaKind,
}

/// What the platform gave for an upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uploaded {
    /// The media id, or the URL of a picture.
    pub media_id: String,
    /// When we stop using it, which is before the platform does.
    pub expires_at: Timestamp,
}

/// Whatever keeps a shelf from doing its work, in its own words.
pub type ShelfError = Box<dyn std::error::Error + Send + Sync>;

/// Where files and uploads are kept across restarts.
pub trait Shelf: Send + Sync + fmt::Debug {
    /// The bytes of a file of the sequences directory, if it is there.
    fn bytes<'a>(&'a self, sha256: &'a str) -> Call<'a, Result<Option<Vec<u8>>, ShelfError>>;

    /// The last upload under a key, expired or not.
    fn load<'a>(&'a self, key: &'a MediaKey) -> Call<'a, Result<Option<Uploaded>, ShelfError>>;

    /// Keeps an upload in place of the one before.
    fn save<'a>(
        &'a self,
        key: &'a MediaKey,
        uploaded: &'a Uploaded,
    ) -> Call<'a, Result<(), ShelfError>>;

    /// Drops the upload under a key if it still is `media_id`: a newer one stays.
    fn forget<'a>(
        &'a self,
        key: &'a MediaKey,
        media_id: &'a str,
    ) -> Call<'a, Result<(), ShelfError>>;
}

/// The uploads of one account.
#[derive(Clone, Debug)]
pub(super) struct Media(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    account: AccountId,
    wire: Wire,
    tokens: Tokens,
    shelf: Arc<dyn Shelf>,
    clock: Arc<dyn Clock>,
    fetcher: Fetcher,
    kept: Cache<MediaKey, Uploaded>,
    at_once: Semaphore,
    budgets: Arc<Budgets>,
}

impl Media {
    pub(super) fn new(
        settings: &WechatSettings,
        wire: Wire,
        tokens: Tokens,
        shelf: Arc<dyn Shelf>,
        clock: Arc<dyn Clock>,
        budgets: Arc<Budgets>,
    ) -> Self {
        let reach = if settings.allow_private_media {
            Reach::Anywhere
        } else {
            Reach::Public
        };
        Self(Arc::new(Shared {
            account: settings.account,
            wire,
            tokens,
            shelf,
            clock,
            fetcher: Fetcher::new(reach, settings.connect_timeout),
            kept: Cache::new(KEPT_MAX),
            at_once: Semaphore::new(AT_ONCE),
            budgets,
        }))
    }

    /// The id of a file, uploaded now if it has none that is still good.
    ///
    /// # Errors
    /// The answer to give for the message: nothing of it was sent.
    pub(super) async fn id(&self, asset: &Asset, kind: MediaKind) -> Result<String, Answer> {
        let key = self.key(asset, kind)?;
        if let Some(uploaded) = self.0.kept.get(&key).await {
            if self.0.is_good(&uploaded) {
                return Ok(uploaded.media_id);
            }
            self.0.drop_kept(&key, &uploaded.media_id).await;
        }
        let shared = Arc::clone(&self.0);
        let asset = asset.clone();
        // A task of its own, so that a slow upload is not begun anew by every attempt.
        let upload = tokio::spawn(async move {
            let make = shared.find_or_upload(&key, &asset);
            shared.kept.try_get_with_by_ref(&key, make).await
        });
        match upload.await {
            Ok(Ok(uploaded)) => Ok(uploaded.media_id),
            Ok(Err(answer)) => Err(Answer::clone(&answer)),
            Err(_) => Err(retry("upload was stopped")),
        }
    }

    /// Drops an id that the platform does not know (any more).
    pub(super) async fn forget(&self, asset: &Asset, kind: MediaKind, media_id: &str) {
        let Ok(key) = self.key(asset, kind) else {
            return;
        };
        // The shelf first: whoever finds nothing in memory looks there.
        if let Err(error) = self.0.shelf.forget(&key, media_id).await {
            tracing::warn!(account.id = self.0.account.0, %error, "forget media id");
        }
        self.0.drop_kept(&key, media_id).await;
    }

    fn key(&self, asset: &Asset, kind: MediaKind) -> Result<MediaKey, Answer> {
        let identity = match asset {
            Asset::File { file, sha256 } if sha256.is_empty() => {
                return Err(dropped(&format!("{file} was never read")));
            }
            Asset::File { sha256, .. } => sha256.clone(),
            Asset::Url { url } => format!("url:{}", hex(&Sha256::digest(url.as_bytes()))),
        };
        Ok(MediaKey {
            account: self.0.account,
            identity,
            kind,
        })
    }
}

impl Shared {
    fn is_good(&self, uploaded: &Uploaded) -> bool {
        self.clock.now() < uploaded.expires_at
    }

    /// Drops an id from memory, but not the one that came in its place meanwhile.
    async fn drop_kept(&self, key: &MediaKey, media_id: &str) {
        self.kept
            .entry_by_ref(key)
            .and_compute_with(|entry| {
                let same = entry.is_some_and(|entry| entry.value().media_id == media_id);
                std::future::ready(if same { Op::Remove } else { Op::Nop })
            })
            .await;
    }

    async fn find_or_upload(&self, key: &MediaKey, asset: &Asset) -> Result<Uploaded, Answer> {
        match self.shelf.load(key).await {
            Ok(Some(uploaded)) if self.is_good(&uploaded) => return Ok(uploaded),
            Ok(_) => {}
            Err(error) => return Err(retry(&format!("read the shelf: {error}"))),
        }
        let deadline = Instant::now() + UPLOAD_TIMEOUT;
        let uploaded = timeout_at(deadline, self.upload(key.kind, asset, deadline))
            .await
            .unwrap_or_else(|_| Err(retry("file was not uploaded in time")))?;
        // A shelf that fails now costs one more upload after a restart, not the message.
        if let Err(error) = self.shelf.save(key, &uploaded).await {
            tracing::warn!(account.id = self.account.0, %error, "keep media id");
        }
        Ok(uploaded)
    }

    async fn upload(
        &self,
        kind: MediaKind,
        asset: &Asset,
        deadline: Instant,
    ) -> Result<Uploaded, Answer> {
        let _turn = self.at_once.acquire().await;
        let interface = match kind {
            MediaKind::Picture => Interface::UploadPicture,
            MediaKind::Image | MediaKind::Voice | MediaKind::Video | MediaKind::Thumb => {
                Interface::Upload
            }
        };
        let ready = self.budgets.take(interface);
        ready.map_err(|until| used_up(interface, until, None))?;
        let bytes = self.read(asset).await?;
        let filetype = kind
            .check(&bytes)
            .map_err(|words| dropped(&format!("{}: {words}", name(asset))))?;
        let mut token = self.tokens.current().await?;
        let mut renewed = false;
        loop {
            let part = part(bytes.clone(), filetype)?;
            let access = ("access_token", token.value.expose_secret());
            let asked_at = self.clock.now();
            let query = [access, ("type", kind.name())];
            let query = match interface {
                Interface::Upload => &query[..],
                _ => &query[..1],
            };
            let answered = self
                .wire
                .upload(interface.path(), query, part, deadline)
                .await;
            let reply = answered.map_err(|silence| hide(silence.harmless(DOING), &token.value))?;
            if let Some(until) = self.budgets.answered(interface, reply.code) {
                return Err(used_up(interface, until, reply.code));
            }
            match reply.code.map(reaction) {
                None | Some(Reaction::Settle(AnswerClass::Accepted)) => {
                    let media_id = given(&reply, kind)?;
                    let expires_at = asked_at.plus(USED_FOR);
                    return Ok(Uploaded {
                        media_id,
                        expires_at,
                    });
                }
                Some(Reaction::RefreshToken) if !renewed => {
                    renewed = true;
                    token = self.tokens.replace(&token).await?;
                }
                Some(_) => return Err(hide(reply.answer(DOING), &token.value)),
            }
        }
    }

    async fn read(&self, asset: &Asset) -> Result<Vec<u8>, Answer> {
        match asset {
            Asset::File { file, sha256 } => match self.shelf.bytes(sha256).await {
                Ok(Some(bytes)) => Ok(bytes),
                Ok(None) => Err(dropped(&format!(
                    "{file} is not in the store; apply its sequence again"
                ))),
                Err(error) => Err(retry(&format!("read {file}: {error}"))),
            },
            Asset::Url { url } => self.fetcher.fetch(url).await.map_err(|error| match error {
                fetch::Error::Refused(words) => dropped(&format!("fetch file: {words}")),
                fetch::Error::Failed(words) => retry(&format!("fetch file: {words}")),
            }),
        }
    }
}

const DOING: &str = "media";

fn retry(words: &str) -> Answer {
    Answer::without_code(AnswerClass::RetrySoon, format!("{DOING}: {words}"))
}

fn dropped(words: &str) -> Answer {
    Answer::without_code(AnswerClass::Dropped, format!("{DOING}: {words}"))
}

/// An asset for people; a URL may have a secret in its query.
fn name(asset: &Asset) -> &str {
    match asset {
        Asset::File { file, .. } => file,
        Asset::Url { .. } => "file of a URL",
    }
}

fn part(bytes: Vec<u8>, filetype: FileType) -> Result<Part, Answer> {
    // A name of ours: the platform wants one, and the operator's may hold anything.
    Part::bytes(bytes)
        .file_name(format!("media.{}", filetype.extension()))
        .mime_str(filetype.mime())
        .map_err(|_| retry("file type has no MIME type"))
}

fn given(reply: &Reply, kind: MediaKind) -> Result<String, Answer> {
    let field = match kind {
        MediaKind::Picture => reply.text("url"),
        // The old interface names it differently for covers.
        MediaKind::Thumb => reply
            .text("thumb_media_id")
            .or_else(|| reply.text("media_id")),
        MediaKind::Image | MediaKind::Voice | MediaKind::Video => reply.text("media_id"),
    };
    field
        .map(str::to_owned)
        .ok_or_else(|| retry("answer to the upload has no media id"))
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").ok();
        text
    })
}
