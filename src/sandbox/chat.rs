//! What the phones show: the newest lines of all chats together, bounded in number.
//!
//! A line is as long as the body that brought it, which `wire` bounds.
//! Unlike `record` this holds both directions and only what arrived.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};

use super::lock;
use super::message::Shown;
use crate::clock::Timestamp;

/// Who wrote a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Author {
    Follower,
    /// By custom/send.
    Account,
    /// By the answer to a callback.
    PassiveReply,
    TemplateMessage,
    SubscriptionNotice,
    MassSend,
    /// The phone itself.
    Phone,
}

/// One line of a chat.
#[derive(Clone, Debug, Serialize)]
pub struct ChatLine {
    /// Grows with every line on any phone.
    pub line: u64,
    pub at: Timestamp,
    #[serde(skip)]
    account: usize,
    #[serde(skip)]
    openid: Arc<str>,
    pub author: Author,
    pub shown: Shown,
}

/// One line as it outlives a restart, among those of its account.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct KeptLine {
    pub(super) line: u64,
    at: Timestamp,
    openid: Arc<str>,
    author: Author,
    shown: Shown,
}

/// All chats.
#[derive(Debug)]
pub(super) struct Chats {
    inner: Mutex<Inner>,
    lines_max: usize,
}

#[derive(Debug, Default)]
struct Inner {
    last: u64,
    lines: VecDeque<Arc<ChatLine>>,
}

impl Chats {
    pub(super) fn new(lines_max: usize) -> Self {
        Self {
            inner: Mutex::default(),
            lines_max,
        }
    }

    /// Shows a line on one phone.
    pub(super) fn add(
        &self,
        account: usize,
        openid: Arc<str>,
        author: Author,
        shown: Shown,
        at: Timestamp,
    ) {
        let mut inner = lock(&self.inner);
        inner.last += 1;
        let line = inner.last;
        let line = ChatLine {
            line,
            at,
            account,
            openid,
            author,
            shown,
        };
        inner.lines.push_back(Arc::new(line));
        if inner.lines.len() > self.lines_max {
            inner.lines.pop_front();
        }
    }

    /// The newest lines of one chat, oldest first.
    pub(super) fn of(&self, account: usize, openid: &str, max: usize) -> Vec<Arc<ChatLine>> {
        let inner = lock(&self.inner);
        let newest = inner.lines.iter().rev();
        let mine = newest.filter(|line| line.account == account && &*line.openid == openid);
        let mut mine: Vec<_> = mine.take(max).cloned().collect();
        mine.reverse();
        mine
    }

    /// All lines of one account, oldest first.
    pub(super) fn kept(&self, account: usize) -> Vec<KeptLine> {
        let inner = lock(&self.inner);
        let lines = inner.lines.iter().filter(|line| line.account == account);
        let kept = |line: &Arc<ChatLine>| KeptLine {
            line: line.line,
            at: line.at,
            openid: Arc::clone(&line.openid),
            author: line.author,
            shown: line.shown.clone(),
        };
        lines.map(kept).collect()
    }

    /// Takes in the lines of before a restart, each with the index of its account.
    pub(super) fn restore(&self, mut kept: Vec<(usize, KeptLine)>) {
        kept.sort_by_key(|(_, kept)| kept.line);
        let mut inner = lock(&self.inner);
        for (account, kept) in kept {
            let line = ChatLine {
                line: kept.line,
                at: kept.at,
                account,
                openid: kept.openid,
                author: kept.author,
                shown: kept.shown,
            };
            inner.last = inner.last.max(line.line);
            inner.lines.push_back(Arc::new(line));
        }
        while inner.lines.len() > self.lines_max {
            inner.lines.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chat_shows_its_own_newest_lines_in_order() {
        let chats = Chats::new(4);
        for (account, openid, n) in [
            (0, "ann", 1),
            (0, "ann", 2),
            (1, "ann", 3),
            (0, "bob", 4),
            (0, "ann", 5),
        ] {
            let shown = Shown::Text {
                content: n.to_string(),
            };
            chats.add(account, openid.into(), Author::Account, shown, Timestamp(n));
        }
        let lines: Vec<_> = chats
            .of(0, "ann", 10)
            .iter()
            .map(|line| line.at.0)
            .collect();
        assert_eq!(lines, [2, 5]);
        assert_eq!(chats.of(0, "ann", 1).len(), 1);
    }
}
