//! What outlives a restart of the sandbox, as one value: taken from a living world, put into a new
//! one.
//!
//! Kept by app id, so that accounts may come, go and change places in the settings. Deliberately
//! not kept: access tokens (an old one is refused with 40001 and its holder asks for a new one, and
//! the file holds no account's secret), faults, and the record beyond its last number, which has a file of its
//! own. Reading and writing are in `keeper`.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};

use super::chat::KeptLine;
use super::component::KeptComponents;
use super::followers::Follower;
use super::mass::KeptMass;
use super::media::{ID_CHARS, KeptMedia, Media};
use super::once::KeptName;
use super::quota::KeptQuotas;
use super::tags::KeptTag;
use super::{Account, World};

/// The shape of the file; another one is not understood.
pub(super) const VERSION: u32 = 1;

/// Everything kept of a sandbox.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Snapshot {
    pub(super) version: u32,
    record_seq: u64,
    #[serde(default)]
    components: KeptComponents,
    pub(super) accounts: Vec<KeptAccount>,
}

/// Everything kept of one account.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct KeptAccount {
    app_id: Arc<str>,
    openid_prefix: String,
    next_msg_id: u64,
    /// In order of creation.
    followers: Vec<(Arc<str>, Follower)>,
    chat: Vec<KeptLine>,
    pub(super) media: Vec<KeptMedia>,
    quotas: KeptQuotas,
    /// Names of template messages.
    #[serde(default)]
    notices: Vec<KeptName>,
    #[serde(default)]
    mass: KeptMass,
    #[serde(default)]
    tags: Vec<KeptTag>,
}

impl Snapshot {
    /// Whether every name in it can be the name of a file and of nothing else.
    pub(super) fn is_sound(&self) -> bool {
        let mut media = self.accounts.iter().flat_map(|account| &account.media);
        media.all(|media| is_media_id(&media.id))
    }
}

/// Whether `name` is what the sandbox calls a file.
pub(super) fn is_media_id(name: &str) -> bool {
    name.len() == ID_CHARS
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

impl World {
    /// What is to be kept now, with the bytes of the living media. Each part is whole in itself;
    /// what changes while they are taken one after another is in the next snapshot.
    pub(super) fn snapshot(&self) -> (Snapshot, Vec<(String, Arc<Media>)>) {
        let now = self.clock.now();
        let mut files = Vec::new();
        let mut accounts = Vec::with_capacity(self.accounts.len());
        for account in self.accounts.iter() {
            let media = self.shelf.kept(account.index, now);
            let named = media.iter();
            files.extend(named.map(|(kept, media)| (kept.id.clone(), Arc::clone(media))));
            accounts.push(KeptAccount {
                app_id: Arc::clone(&account.app_id),
                openid_prefix: account.openid_prefix.clone(),
                next_msg_id: account.next_msg_id.load(Ordering::Relaxed),
                followers: account.followers.all(),
                chat: self.chats.kept(account.index),
                media: media.into_iter().map(|(kept, _)| kept).collect(),
                quotas: account.quotas.kept(),
                notices: account.notices.kept(),
                mass: account.mass.kept(),
                tags: account.tags.kept(),
            });
        }
        let snapshot = Snapshot {
            version: VERSION,
            record_seq: self.record.last_seq(),
            components: self.kept_components(),
            accounts,
        };
        (snapshot, files)
    }

    /// Goes on from a snapshot; `bytes` reads a file. Gives back the accounts that do not exist
    /// here, so that they are there again once the settings name them.
    pub(super) fn restore(
        &mut self,
        snapshot: Snapshot,
        bytes: impl Fn(&KeptMedia) -> Option<Vec<u8>>,
    ) -> Vec<KeptAccount> {
        let now = self.clock.now();
        self.record.restore(snapshot.record_seq);
        self.restore_components(snapshot.components);
        let mut lines = Vec::new();
        let mut others = Vec::new();
        for mut kept in snapshot.accounts {
            let index = self.accounts.index_of(&kept.app_id);
            let Some(account) = index.and_then(|index| self.accounts.get_mut(index)) else {
                others.push(kept);
                continue;
            };
            let chat = std::mem::take(&mut kept.chat);
            lines.extend(chat.into_iter().map(|line| (account.index, line)));
            for media in std::mem::take(&mut kept.media) {
                let id = media.id.clone();
                let is_there = !media.is_alive(now)
                    || bytes(&media)
                        .is_some_and(|bytes| self.shelf.restore(account.index, media, bytes));
                if !is_there {
                    tracing::warn!(id, "a file of the sandbox is lost and counts as expired");
                }
            }
            account.restore(kept);
        }
        self.chats.restore(lines);
        others
    }
}

impl Account {
    fn restore(&mut self, kept: KeptAccount) {
        self.openid_prefix = kept.openid_prefix;
        // Begun from the clock, it is further already unless the clock was set back.
        self.next_msg_id
            .fetch_max(kept.next_msg_id, Ordering::Relaxed);
        self.followers.restore(kept.followers);
        self.quotas.restore(&kept.quotas);
        self.notices.restore(kept.notices);
        self.mass.restore(kept.mass);
        let ordinal = |openid: &str| Some(self.followers.get(openid)?.1.ordinal);
        self.tags.restore(kept.tags, ordinal);
    }
}
