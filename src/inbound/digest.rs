//! The de-duplication keys of callbacks.

use sha2::{Digest, Sha256};

use super::message::lower;
use super::xml::Fields;

/// The de-duplication key: what distinguishes this event from every other of the account.
///
/// Neither of the platform's own two rules suffices: a `MsgId` was seen at two followers within a
/// second, and two events of one follower share a `CreateTime`. So all of it counts together.
pub(super) fn digest(fields: &Fields) -> i64 {
    let mut sha = Sha256::new();
    let mut count = |text: &str| count(&mut sha, text);
    for name in ["ToUserName", "FromUserName", "CreateTime"] {
        count(fields.get(name).unwrap_or("").trim());
    }
    for name in ["MsgType", "Event"] {
        count(&lower(fields, name).unwrap_or_default());
    }
    count(fields.get("EventKey").unwrap_or(""));
    let message_id = fields.get("MsgId").or_else(|| fields.first("MsgID"));
    count(message_id.unwrap_or("").trim());
    let subject = fields.first("UserCardCode");
    count(subject.or_else(|| fields.first("TemplateId")).unwrap_or(""));
    shortened(sha)
}

/// The de-duplication key of an event that its platform gave an id to, which no other event of the
/// account has and which stays when it is told again.
pub(super) fn digest_of_id(platform: &str, id: &str) -> i64 {
    let mut sha = Sha256::new();
    count(&mut sha, platform);
    count(&mut sha, id);
    shortened(sha)
}

fn count(sha: &mut Sha256, text: &str) {
    // The length goes first, so that no two lists of texts run together alike.
    sha.update(text.len().to_be_bytes());
    sha.update(text.as_bytes());
}

fn shortened(sha: Sha256) -> i64 {
    let digest: [u8; 32] = sha.finalize().into();
    i64::from_be_bytes(*digest.first_chunk().expect("a SHA-256 has 32 bytes"))
}
