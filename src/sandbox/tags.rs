//! Tags that an account puts on its followers, and the calls about them.
//!
//! Rules and codes are those of the platform's page on tags: 100 tags, 20 on one follower, 50
//! openids a call. Whoever stops following loses theirs. Ids begin at 100, since the platform keeps
//! smaller ones for itself.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Account;
use super::errcode::{OK, Refusal};
use super::lock;
use super::message;

const FIRST_ID: u32 = 100;
const TAGS_MAX: usize = 100;
const TAGS_OF_ONE_MAX: usize = 20;
const NAME_BYTES_MAX: usize = 30;
const OPENIDS_MAX: usize = 50;

/// The tags of one account.
#[derive(Debug, Default)]
pub(super) struct Tags {
    by_id: Mutex<BTreeMap<u32, Tag>>,
}

#[derive(Debug)]
struct Tag {
    name: String,
    /// By position in the order of creation.
    members: BTreeMap<usize, Arc<str>>,
}

/// One tag as it outlives a restart.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct KeptTag {
    id: u32,
    name: String,
    members: Vec<Arc<str>>,
}

impl Tags {
    /// The tags of one follower.
    pub(super) fn of(&self, ordinal: usize) -> Vec<u32> {
        let tags = lock(&self.by_id);
        let mine = tags
            .iter()
            .filter(|(_, tag)| tag.members.contains_key(&ordinal));
        mine.map(|(id, _)| *id).collect()
    }

    /// Takes every tag off somebody who left.
    pub(super) fn clear(&self, ordinal: usize) {
        for tag in lock(&self.by_id).values_mut() {
            tag.members.remove(&ordinal);
        }
    }

    pub(super) fn kept(&self) -> Vec<KeptTag> {
        let tags = lock(&self.by_id);
        let kept = |(id, tag): (&u32, &Tag)| KeptTag {
            id: *id,
            name: tag.name.clone(),
            members: tag.members.values().cloned().collect(),
        };
        tags.iter().map(kept).collect()
    }

    /// Takes in the tags of before a restart; `ordinal` finds a follower.
    pub(super) fn restore(&self, kept: Vec<KeptTag>, ordinal: impl Fn(&str) -> Option<usize>) {
        let mut tags = lock(&self.by_id);
        for kept in kept {
            let members = kept.members.into_iter();
            let members = members.filter_map(|openid| Some((ordinal(&openid)?, openid)));
            let tag = Tag {
                name: kept.name,
                members: members.collect(),
            };
            tags.insert(kept.id, tag);
        }
    }
}

/// `tags/create`
pub(super) fn create(account: &Account, body: &[u8]) -> Result<String, Refusal> {
    let body: Value = message::json(body)?;
    let name = body["tag"]["name"].as_str().unwrap_or_default();
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Err(Refusal::TAG_NAME_SIZE);
    }
    let mut tags = lock(&account.tags.by_id);
    if tags.values().any(|tag| tag.name == name) {
        return Err(Refusal::TAG_NAME_TAKEN);
    }
    if tags.len() >= TAGS_MAX {
        return Err(Refusal::TAG_COUNT);
    }
    let id = tags.last_key_value().map_or(FIRST_ID, |(id, _)| id + 1);
    let tag = Tag {
        name: name.to_owned(),
        members: BTreeMap::new(),
    };
    tags.insert(id, tag);
    Ok(json!({"tag": {"id": id, "name": name}}).to_string())
}

/// `tags/get`
pub(super) fn list(account: &Account) -> String {
    let tags = lock(&account.tags.by_id);
    let tags: Vec<Value> = tags
        .iter()
        .map(|(id, tag)| json!({"id": id, "name": tag.name, "count": tag.members.len()}))
        .collect();
    json!({"tags": tags}).to_string()
}

/// `tags/members/batchtagging`, or `batchuntagging` where `puts` is false: everybody or nobody.
pub(super) fn mark(account: &Account, body: &[u8], puts: bool) -> Result<String, Refusal> {
    #[derive(Deserialize)]
    struct Marks {
        openid_list: Vec<String>,
        tagid: u32,
    }
    let marks: Marks = message::json(body)?;
    if marks.openid_list.is_empty() || marks.openid_list.len() > OPENIDS_MAX {
        return Err(Refusal::OPENID_LIST_SIZE);
    }
    let followers = marks.openid_list.iter().map(|openid| {
        let found = account.followers.get(openid);
        let (openid, follower) = found.filter(|(_, follower)| follower.following)?;
        Some((follower.ordinal, openid))
    });
    let followers = followers
        .collect::<Option<Vec<_>>>()
        .ok_or(Refusal::OPENID)?;
    let mut tags = lock(&account.tags.by_id);
    if !tags.contains_key(&marks.tagid) {
        return Err(Refusal::TAG);
    }
    let others = |ordinal: &usize| {
        let others = tags.iter().filter(|(id, _)| **id != marks.tagid);
        others
            .filter(|(_, tag)| tag.members.contains_key(ordinal))
            .count()
    };
    if puts
        && followers
            .iter()
            .any(|(ordinal, _)| others(ordinal) >= TAGS_OF_ONE_MAX)
    {
        return Err(Refusal::TAGS_OF_ONE);
    }
    let members = tags.get_mut(&marks.tagid).map(|tag| &mut tag.members);
    let members = members.ok_or(Refusal::TAG)?;
    for (ordinal, openid) in followers {
        if puts {
            members.insert(ordinal, openid);
        } else {
            members.remove(&ordinal);
        }
    }
    Ok(OK.to_owned())
}

/// `tags/getidlist`
pub(super) fn of_one(account: &Account, body: &[u8]) -> Result<String, Refusal> {
    let body: Value = message::json(body)?;
    let openid = body["openid"].as_str().ok_or(Refusal::OPENID_MISSING)?;
    let (_, follower) = account.followers.get(openid).ok_or(Refusal::OPENID)?;
    let tags = account.tags.of(follower.ordinal);
    Ok(json!({"tagid_list": tags}).to_string())
}

/// `user/tag/get`: followers with a tag after `next_openid`, a page at a time.
pub(super) fn members(account: &Account, body: &[u8]) -> Result<String, Refusal> {
    let body: Value = message::json(body)?;
    let id = body["tagid"].as_u64().and_then(|id| u32::try_from(id).ok());
    let start = match body["next_openid"].as_str().unwrap_or_default() {
        "" => 0,
        openid => {
            account
                .followers
                .get(openid)
                .ok_or(Refusal::OPENID)?
                .1
                .ordinal
                + 1
        }
    };
    let tags = lock(&account.tags.by_id);
    let tag = id.and_then(|id| tags.get(&id)).ok_or(Refusal::TAG)?;
    let page = tag.members.range(start..).map(|(_, openid)| &**openid);
    let page: Vec<&str> = page.take(account.settings.rules.page_max).collect();
    let Some(last) = page.last() else {
        return Ok(json!({"count": 0, "next_openid": ""}).to_string());
    };
    Ok(json!({"count": page.len(), "data": {"openid": page}, "next_openid": last}).to_string())
}
