//! Who follows, and what the platform tells of them: the list of all, facts of some, and tags.
//!
//! Answers are held to their promised shape and size; what is missing in them is never guessed at.
//! Deliberately absent: quotas, pages and retries (`reconcile`).
//!
//! Source: the platform's pages "get user list", "get user basic information" (UnionID mechanism) and
//! "user tag management".

use serde_json::{Value, json};

use super::ask::Question;
use super::{LANGUAGE_BYTES_MAX, WechatClient};
use crate::clock::Timestamp;
use crate::sender::platform::{Answer, AnswerClass};

const LIST: &str = "/cgi-bin/user/get";
const FACTS: &str = "/cgi-bin/user/info/batchget";
const TAGS: &str = "/cgi-bin/tags/get";
const TAG_CREATE: &str = "/cgi-bin/tags/create";
const TAG_ON: &str = "/cgi-bin/tags/members/batchtagging";
const TAG_OFF: &str = "/cgi-bin/tags/members/batchuntagging";

/// Openids of one page of the list, at most.
const PAGE_MAX: usize = 10_000;

/// Longest answer that is read: 10,000 openids of 28 letters are some 310 KB.
const LIST_BYTES_MAX: usize = 512 * 1024;
const FACTS_BYTES_MAX: usize = 256 * 1024;

/// Followers that facts are asked of at once, at most.
pub const FACTS_MAX: usize = 100;

/// Followers that one call tags, at most.
pub const TAGGED_MAX: usize = 50;

/// Tags of an account that are believed; the platform allows 100.
const TAGS_MAX: usize = 1_000;

/// Tags of one follower that are believed; the platform allows 20.
const TAGS_OF_ONE_MAX: usize = 100;

/// Longest openid, scene and tag, in bytes.
const OPENID_BYTES_MAX: usize = 128;
const SCENE_BYTES_MAX: usize = 256;
const TAG_BYTES_MAX: usize = 128;

/// One page of the list of all followers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListPage {
    /// Followers in all, as the platform counts them.
    pub total: u32,
    /// Empty after the last page.
    pub openids: Vec<String>,
    /// Where the next page begins; empty when there is none.
    pub next: String,
}

/// What the platform tells of one person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    pub openid: String,
    /// `None` when the person does not follow: then nothing else is told.
    pub facts: Option<Facts>,
}

/// What the platform tells of somebody who follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// When the latest follow was.
    pub since: Timestamp,
    pub language: Option<String>,
    /// Value of the QR code that led to the follow.
    pub scene: Option<String>,
    /// Numbers of tags.
    pub tags: Vec<i64>,
}

impl WechatClient {
    /// The page of the list that begins after `next`, which is empty for the first.
    ///
    /// # Errors
    /// As `ask`; also when the answer is not a page.
    pub async fn list(&self, next: &str) -> Result<ListPage, Answer> {
        let query = [("next_openid", next)];
        let question = Question::Get {
            path: LIST,
            query: if next.is_empty() { &[] } else { &query },
        };
        let said = self.ask_within(question, LIST_BYTES_MAX).await?;
        read_page(&said).ok_or_else(|| unreadable(LIST))
    }

    /// What the platform tells of these people, 100 at most. One whose openid it does not take is
    /// left out: it says of them neither that they follow nor that they do not.
    ///
    /// # Errors
    /// As `ask`; also when the answer is not what was asked for. When many were asked about and it
    /// takes none of their openids, the application's id is likely another account's: that needs
    /// attention.
    pub async fn people(&self, openids: &[String]) -> Result<Vec<Person>, Answer> {
        let mut people = Vec::with_capacity(openids.len());
        let mut strangers = 0;
        let mut left = vec![openids];
        while let Some(some) = left.pop() {
            match self.people_at_once(some).await {
                Ok(told) => people.extend(told),
                // One openid that is none spoils the whole call: it is found by halves.
                Err(answer) if answer.code == Some(INVALID_OPENID) => match some {
                    [] => {}
                    [_] => strangers += 1,
                    some => {
                        let (one, other) = some.split_at(some.len() / 2);
                        left.extend([one, other]);
                    }
                },
                Err(answer) => return Err(answer),
            }
        }
        if strangers > STRANGERS_MAX && strangers == openids.len() {
            return Err(strangers_only(strangers));
        }
        Ok(people)
    }

    async fn people_at_once(&self, openids: &[String]) -> Result<Vec<Person>, Answer> {
        let list: Vec<_> = openids.iter().map(|one| json!({ "openid": one })).collect();
        let body = json!({ "user_list": list });
        let question = Question::Post {
            path: FACTS,
            body: &body,
        };
        let said = self.ask_within(question, FACTS_BYTES_MAX).await?;
        let told = said
            .get("user_info_list")
            .and_then(Value::as_array)
            .filter(|told| told.len() <= openids.len())
            .ok_or_else(|| unreadable(FACTS))?;
        let asked = |person: &Person| openids.contains(&person.openid);
        Ok(told.iter().filter_map(read_person).filter(asked).collect())
    }

    /// Every tag of the account: number and name.
    ///
    /// # Errors
    /// As `ask`; also when the answer is not a list of tags.
    pub async fn tags(&self) -> Result<Vec<(i64, String)>, Answer> {
        let question = Question::Get {
            path: TAGS,
            query: &[],
        };
        let said = self.ask_within(question, FACTS_BYTES_MAX).await?;
        let tags = said.get("tags").and_then(Value::as_array);
        let tags = tags.ok_or_else(|| unreadable(TAGS))?;
        Ok(tags.iter().take(TAGS_MAX).filter_map(read_tag).collect())
    }

    /// Makes a tag; answers its number.
    ///
    /// # Errors
    /// As `ask`; also when the answer has no number.
    pub async fn create_tag(&self, name: &str) -> Result<i64, Answer> {
        let body = json!({ "tag": { "name": name } });
        let question = Question::Post {
            path: TAG_CREATE,
            body: &body,
        };
        let said = self.ask(question).await?;
        let made = said.get("tag").and_then(|tag| tag.get("id"));
        let made = made.and_then(Value::as_i64);
        made.ok_or_else(|| unreadable(TAG_CREATE))
    }

    /// Puts a tag on followers, 50 at most, or takes it off them.
    ///
    /// # Errors
    /// As `ask`: then none of them was changed.
    pub async fn tag(&self, tag: i64, openids: &[&str], present: bool) -> Result<(), Answer> {
        let body = json!({ "openid_list": openids, "tagid": tag });
        let question = Question::Post {
            path: if present { TAG_ON } else { TAG_OFF },
            body: &body,
        };
        self.ask(question).await.map(drop)
    }
}

/// The platform's code for an openid that is none of this account's.
const INVALID_OPENID: i64 = 40003;

/// Openids, asked about together, that may all be none of this account's before its application's
/// id is doubted (page "return codes": each may be another account's, or a deleted person's).
const STRANGERS_MAX: usize = 8;

fn strangers_only(count: usize) -> Answer {
    let words = format!(
        "{FACTS}: {INVALID_OPENID} for each of {count} followers: check that app_id is the \
         account's own; nobody was changed"
    );
    Answer {
        code: Some(INVALID_OPENID),
        ..Answer::without_code(AnswerClass::NeedsAttention, words)
    }
}

fn unreadable(path: &str) -> Answer {
    Answer::without_code(
        AnswerClass::RetrySoon,
        format!("{path}: the answer is not of the promised shape"),
    )
}

fn read_page(said: &Value) -> Option<ListPage> {
    let total = said.get("total").and_then(Value::as_u64)?;
    // After the last page there is no `data`.
    let listed = said.get("data").and_then(|data| data.get("openid"));
    let listed = listed
        .and_then(Value::as_array)
        .map_or(&[][..], Vec::as_slice);
    let openids: Option<Vec<_>> = listed.iter().map(read_openid).collect();
    let next = match said.get("next_openid").and_then(Value::as_str) {
        None | Some("") => String::new(),
        Some(next) => read_openid(&Value::from(next))?,
    };
    Some(ListPage {
        total: u32::try_from(total).unwrap_or(u32::MAX),
        openids: openids.filter(|all| all.len() <= PAGE_MAX)?,
        next,
    })
}

fn read_openid(said: &Value) -> Option<String> {
    let openid = said.as_str()?;
    let fits = (1..=OPENID_BYTES_MAX).contains(&openid.len());
    (fits && openid.bytes().all(|byte| byte.is_ascii_graphic())).then(|| openid.to_owned())
}

fn read_person(said: &Value) -> Option<Person> {
    let openid = read_openid(said.get("openid")?)?;
    let facts = match said.get("subscribe").and_then(Value::as_i64)? {
        0 => None,
        _ => Some(Facts {
            since: Timestamp::from_seconds(said.get("subscribe_time")?.as_i64()?),
            language: short(said.get("language"), LANGUAGE_BYTES_MAX),
            scene: read_scene(said),
            tags: read_numbers(said.get("tagid_list")),
        }),
    };
    Some(Person { openid, facts })
}

/// A QR code has a number or a text; 0 and nothing stand for none.
fn read_scene(said: &Value) -> Option<String> {
    let text = short(said.get("qr_scene_str"), SCENE_BYTES_MAX);
    text.or_else(|| {
        let number = said.get("qr_scene").and_then(Value::as_i64)?;
        (number != 0).then(|| number.to_string())
    })
}

fn read_numbers(said: Option<&Value>) -> Vec<i64> {
    let numbers = said
        .and_then(Value::as_array)
        .map_or(&[][..], Vec::as_slice);
    let numbers = numbers.iter().take(TAGS_OF_ONE_MAX);
    numbers.filter_map(Value::as_i64).collect()
}

fn read_tag(said: &Value) -> Option<(i64, String)> {
    let number = said.get("id").and_then(Value::as_i64)?;
    Some((number, short(said.get("name"), TAG_BYTES_MAX)?))
}

fn short(said: Option<&Value>, bytes_max: usize) -> Option<String> {
    let text = said.and_then(Value::as_str)?;
    let usable = !text.is_empty() && text.len() <= bytes_max && !text.contains(char::is_control);
    usable.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The samples of the platform's pages.
    #[test]
    fn the_platforms_samples_are_read() {
        let page = json!({
            "total": 23_000, "count": 10_000,
            "data": {"openid": ["OPENID1", "OPENID2"]}, "next_openid": "OPENID2",
        });
        let page = read_page(&page).unwrap();
        assert_eq!((page.total, page.openids.len()), (23_000, 2));
        assert_eq!(page.next, "OPENID2");
        let end = read_page(&json!({"total": 2, "count": 0, "next_openid": ""})).unwrap();
        assert!(end.openids.is_empty() && end.next.is_empty());

        let person = json!({
            "subscribe": 1, "openid": "o6_bmjrPTlm6_2sgVt7hMZOPfL2M", "language": "zh_CN",
            "subscribe_time": 1_382_694_957, "unionid": "x", "remark": "", "groupid": 0,
            "tagid_list": [128, 2], "subscribe_scene": "ADD_SCENE_QR_CODE",
            "qr_scene": 98_765, "qr_scene_str": "",
        });
        let facts = read_person(&person).unwrap().facts.unwrap();
        assert_eq!(facts.since, Timestamp::from_seconds(1_382_694_957));
        assert_eq!(facts.language.as_deref(), Some("zh_CN"));
        assert_eq!(facts.scene.as_deref(), Some("98765"));
        assert_eq!(facts.tags, [128, 2]);
        let gone = json!({"subscribe": 0, "openid": "o1", "unionid": "x"});
        assert_eq!(read_person(&gone).unwrap().facts, None);
        let tag = json!({"id": 2, "name": "星标组", "count": 0});
        assert_eq!(read_tag(&tag), Some((2, "星标组".to_owned())));
    }

    #[test]
    fn what_is_not_of_the_promised_shape_is_not_guessed_at() {
        for page in [
            json!({}),
            json!({"total": -1}),
            json!({"total": 1, "data": {"openid": ["a b"]}}),
            json!({"total": 1, "data": {"openid": [1]}}),
            json!({"total": 1, "data": {"openid": ["a"]}, "next_openid": "a\n"}),
            json!({"total": 1, "data": {"openid": vec!["a"; PAGE_MAX + 1]}}),
        ] {
            assert_eq!(read_page(&page), None, "{page:.60}");
        }
        for person in [
            json!({"openid": "o1"}),
            json!({"subscribe": 1, "openid": "o1"}),
            json!({"subscribe": 1, "openid": "", "subscribe_time": 1}),
        ] {
            assert_eq!(read_person(&person), None, "{person}");
        }
        let odd = json!({
            "subscribe": 1, "openid": "o1", "subscribe_time": 1, "language": "x".repeat(99),
            "qr_scene": 0, "qr_scene_str": "", "tagid_list": "none",
        });
        let facts = read_person(&odd).unwrap().facts.unwrap();
        assert_eq!(
            (facts.language, facts.scene, facts.tags),
            (None, None, vec![])
        );
    }
}
