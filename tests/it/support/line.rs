//! The line to the platform, scripted: records every call with its instant and answers as told.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex};

use dripwheel::clock::{Clock, ManualClock, Timestamp};
use dripwheel::journey::ids::AccountId;
use dripwheel::journey::message::Message;
use dripwheel::sender::platform::{Answer, AnswerClass, Call, Content, Parcel, Platform};
use tokio::sync::watch;

/// What the platform does about one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    Answer(AnswerClass),
    /// The adapter breaks its promise.
    Panic,
}

/// One call as the platform saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    pub account: AccountId,
    pub openid: String,
    pub text: String,
    pub at: Timestamp,
    pub reply: Reply,
}

impl Heard {
    /// Whether the message arrived. One with a lost answer did, as far as these tests go.
    pub fn arrived(&self) -> bool {
        matches!(
            self.reply,
            Reply::Answer(AnswerClass::Accepted | AnswerClass::Unknown)
        )
    }
}

/// All accounts' line to the platform. It outlives any crash of ours.
#[derive(Debug)]
pub struct Line {
    clock: Arc<ManualClock>,
    calls: Mutex<Vec<Heard>>,
    script: Mutex<HashMap<String, VecDeque<Reply>>>,
    otherwise: Mutex<Reply>,
    /// Followers whose calls get no answer yet.
    hanging: watch::Sender<HashSet<String>>,
}

impl Line {
    pub fn new(clock: Arc<ManualClock>) -> Self {
        Self {
            clock,
            calls: Mutex::default(),
            script: Mutex::default(),
            otherwise: Mutex::new(Reply::Answer(AnswerClass::Accepted)),
            hanging: watch::Sender::default(),
        }
    }

    /// The next calls for this follower are answered so, one after the other.
    pub fn tell(&self, openid: &str, replies: impl IntoIterator<Item = Reply>) {
        let mut script = self.script.lock().unwrap();
        let queue = script.entry(openid.to_owned()).or_default();
        queue.extend(replies);
    }

    /// As `tell`, with answers only.
    pub fn answer(&self, openid: &str, classes: impl IntoIterator<Item = AnswerClass>) {
        self.tell(openid, classes.into_iter().map(Reply::Answer));
    }

    /// What is said to calls that nothing else was scripted for.
    pub fn otherwise(&self, class: AnswerClass) {
        *self.otherwise.lock().unwrap() = Reply::Answer(class);
    }

    /// Calls for this follower get no answer until `let_go`.
    pub fn hang(&self, openid: &str) {
        self.hanging.send_modify(|hanging| {
            hanging.insert(openid.to_owned());
        });
    }

    pub fn let_go(&self, openid: &str) {
        self.hanging.send_modify(|hanging| {
            hanging.remove(openid);
        });
    }

    /// Every call so far, in order.
    pub fn calls(&self) -> Vec<Heard> {
        self.calls.lock().unwrap().clone()
    }

    fn take(&self, account: AccountId, parcel: &Parcel) -> Reply {
        let scripted = {
            let mut script = self.script.lock().unwrap();
            script.get_mut(&parcel.openid).and_then(VecDeque::pop_front)
        };
        let reply = scripted.unwrap_or(*self.otherwise.lock().unwrap());
        let text = match &parcel.content {
            Content::Message(Message::Text(text)) => text.clone(),
            other => format!("{other:?}"),
        };
        self.calls.lock().unwrap().push(Heard {
            account,
            openid: parcel.openid.clone(),
            text,
            at: self.clock.now(),
            reply,
        });
        reply
    }
}

/// One account's end of the line.
#[derive(Debug)]
pub struct Phone {
    pub account: AccountId,
    pub line: Arc<Line>,
}

impl Platform for Phone {
    fn account(&self) -> AccountId {
        self.account
    }

    fn send<'a>(&'a self, parcel: &'a Parcel) -> Call<'a, Answer> {
        Box::pin(async move {
            let reply = self.line.take(self.account, parcel);
            let mut hanging = self.line.hanging.subscribe();
            let answered = hanging.wait_for(|hanging| !hanging.contains(&parcel.openid));
            answered.await.unwrap();
            match reply {
                Reply::Answer(class) => Answer::without_code(class, "as scripted"),
                Reply::Panic => panic!("as scripted"),
            }
        })
    }
}
