//! The platform's user calls: one follower, many followers, the list of all.
//!
//! Like the platform since 2021-12-27 it tells no nicknames; of who does not follow it tells
//! `subscribe: 0` and nothing else.

use serde::Deserialize;
use serde_json::{Value, json};

use super::Account;
use super::errcode::Refusal;
use super::followers::Follower;

/// Openids per batch.
const BATCH_MAX: usize = 100;

/// `user/info`.
pub(super) fn info(account: &Account, openid: Option<&str>) -> Result<String, Refusal> {
    let openid = openid
        .filter(|openid| !openid.is_empty())
        .ok_or(Refusal::OPENID_MISSING)?;
    Ok(describe(account, openid)?.to_string())
}

fn describe(account: &Account, openid: &str) -> Result<Value, Refusal> {
    let (openid, follower) = account.followers.get(openid).ok_or(Refusal::OPENID)?;
    if !follower.following {
        return Ok(json!({"subscribe": 0, "openid": &*openid}));
    }
    let tags = account.tags.of(follower.ordinal);
    Ok(follower_json(&openid, &follower, &tags))
}

fn follower_json(openid: &str, follower: &Follower, tags: &[u32]) -> Value {
    let scene = follower.scene.as_deref();
    let number = scene.and_then(|scene| scene.parse::<u32>().ok());
    let text = if number.is_some() {
        ""
    } else {
        scene.unwrap_or_default()
    };
    json!({
        "subscribe": 1,
        "openid": openid,
        "language": follower.language,
        "subscribe_time": follower.followed_at.map_or(0, |at| at.seconds()),
        "remark": "",
        "groupid": 0,
        "tagid_list": tags,
        "subscribe_scene": if scene.is_some() { "ADD_SCENE_QR_CODE" } else { "ADD_SCENE_SEARCH" },
        "qr_scene": number.unwrap_or(0),
        "qr_scene_str": text,
    })
}

/// `user/get`: openids after `next`, a page at a time.
pub(super) fn list(account: &Account, next: Option<&str>) -> Result<String, Refusal> {
    let next = next.filter(|next| !next.is_empty());
    let page = account
        .followers
        .page(next, account.settings.rules.page_max)
        .ok_or(Refusal::OPENID)?;
    let (_, total) = account.followers.counts();
    let Some(last) = page.last() else {
        return Ok(json!({"total": total, "count": 0, "next_openid": ""}).to_string());
    };
    let openids: Vec<&str> = page.iter().map(|openid| &**openid).collect();
    Ok(json!({
        "total": total,
        "count": page.len(),
        "data": {"openid": openids},
        "next_openid": &**last,
    })
    .to_string())
}

/// `user/info/batchget`: at most 100 followers.
pub(super) fn batch(account: &Account, body: &[u8]) -> Result<String, Refusal> {
    #[derive(Deserialize)]
    struct Batch {
        user_list: Vec<User>,
    }
    #[derive(Deserialize)]
    struct User {
        openid: String,
    }
    if body.is_empty() {
        return Err(Refusal::EMPTY_POST);
    }
    let batch: Batch = serde_json::from_slice(body).map_err(|_| Refusal::JSON)?;
    if batch.user_list.is_empty() || batch.user_list.len() > BATCH_MAX {
        return Err(Refusal::OPENID_LIST_SIZE);
    }
    let users = batch
        .user_list
        .iter()
        .map(|user| describe(account, &user.openid));
    let users = users.collect::<Result<Vec<_>, _>>()?;
    Ok(json!({"user_info_list": users}).to_string())
}
