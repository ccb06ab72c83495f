//! Texts that beg for replies only to be allowed to write on, which the platform punishes.
//!
//! Source: the platform's notice of January 2016 on abuse of customer-service messages, which bans
//! enticing followers to interact so that more may be sent, and its cut of June 2023, made for the same
//! reason. Words only: a person has to judge what was meant. Pure.

use crate::journey::message::{Message, Say};

/// How to ask for a reply, and what is then promised. Between the two no sentence ends.
const BAITS: [(&[&str], &[&str]); 2] = [
    (
        &["回复", "回覆", "回个", "发送", "留言", "输入"],
        &[
            "领", "获取", "获得", "得到", "赠", "送你", "抽奖", "红包", "福利", "解锁", "优惠",
            "礼",
        ],
    ),
    (
        &["reply", "send us", "write us", "text us"],
        &[
            "for your",
            "for a",
            "to get",
            "to receive",
            "to claim",
            "to win",
            "to unlock",
            "gift",
            "coupon",
            "discount",
        ],
    ),
];

/// How far the promise may stand behind the request, in characters.
const REACH: usize = 40;

/// The part of a step's texts that promises something for a reply; `None` when none does.
pub fn bait(say: &Say) -> Option<String> {
    let messages = std::iter::once(&say.default).chain(say.by_language.values());
    let texts = messages.flat_map(texts);
    texts.into_iter().find_map(bait_in)
}

fn texts(message: &Message) -> Vec<&str> {
    match message {
        Message::Text(text) => vec![text],
        Message::News(news) => vec![&news.title, &news.description],
        Message::Video(video) => vec![&video.title, &video.description],
        Message::MsgMenu(menu) => vec![&menu.head, &menu.tail],
        Message::MiniProgramPage(page) => vec![&page.title],
        Message::Image(_) | Message::Voice(_) | Message::Article(_) => Vec::new(),
    }
}

fn bait_in(text: &str) -> Option<String> {
    let ends = ['。', '！', '？', '；', '.', '!', '?', ';', '\n'];
    text.split(ends).find_map(|sentence| {
        let small = sentence.to_lowercase();
        let found = BAITS.iter().any(|(asks, promises)| {
            asks.iter().any(|ask| {
                small.split(ask).skip(1).any(|rest| {
                    let near: String = rest.chars().take(REACH).collect();
                    promises.iter().any(|promise| near.contains(promise))
                })
            })
        });
        found.then(|| sentence.trim().chars().take(60).collect())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn promises_for_a_reply_are_noticed_and_ordinary_words_are_not() {
        for text in [
            "欢迎！回复 1 领取新手礼包",
            "留言即可获得 50 元红包",
            "Hi! Reply 1 for your starter pack.",
            "reply YES to win",
        ] {
            assert!(bait_in(text).is_some(), "{text}");
        }
        for text in [
            "回复“停”不再收到提醒。领取方式见菜单",
            "有问题请直接留言，我们会尽快回复您",
            "Reply STOP to be left alone. The gift is in the menu.",
            "报名成功！请凭此消息领取门票",
            "",
        ] {
            assert_eq!(bait_in(text), None, "{text}");
        }
    }
}
