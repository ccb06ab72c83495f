//! The load: people who follow, write and leave on the sandbox, each in their own time, and what
//! the platform heard back from the server about it.

use std::sync::Arc;
use std::time::Duration;

use dripwheel::clock::{Clock, SystemClock, Timestamp};
use dripwheel::sandbox::{Action, Control, NewFollowers};
use tokio::task::JoinSet;

use crate::dice::Dice;

/// Something a person did, and whether the server answered `success`.
#[derive(Clone, Debug)]
pub struct Deed {
    /// The word of the receipt's kind.
    pub kind: &'static str,
    /// What was written, different for every message.
    pub text: String,
    pub acked: bool,
    /// When the platform had the answer, or gave up.
    pub ended_at: Timestamp,
}

/// One person and everything they did, in order.
#[derive(Clone, Debug)]
pub struct Person {
    pub openid: Arc<str>,
    pub deeds: Vec<Deed>,
}

impl Person {
    /// Whether their follow was acknowledged and they are still there.
    pub fn stays(&self) -> bool {
        let followed = self.deeds.first().is_some_and(|deed| deed.acked);
        followed && self.deeds.iter().all(|deed| deed.kind != "unfollowed")
    }

    /// When the server had acknowledged that they left.
    pub fn left_at(&self) -> Option<Timestamp> {
        let left = |deed: &&Deed| deed.kind == "unfollowed" && deed.acked;
        self.deeds.iter().find(left).map(|deed| deed.ended_at)
    }
}

/// What one person is going to do, and how long they wait before each.
struct Intentions(Vec<(Duration, Action)>);

impl Intentions {
    fn draw(dice: &mut Dice, within: u64, number: usize) -> Self {
        let mut acts = vec![(dice.millis(0, within), Action::Follow { scene: None })];
        for message in 0..dice.below(3) {
            let text = format!("message {message} of person {number}");
            acts.push((dice.millis(0, 1200), Action::Text { text }));
        }
        if dice.one_in(5) {
            acts.push((dice.millis(0, 2500), Action::Unfollow));
        }
        Self(acts)
    }
}

/// Everybody so far.
#[derive(Debug, Default)]
pub struct Crowd {
    acting: JoinSet<Person>,
    people: Vec<Person>,
    came: usize,
}

impl Crowd {
    /// Lets `count` more people appear, who follow within the next `within` milliseconds.
    pub fn join(
        &mut self,
        control: &Control,
        dice: &mut Dice,
        app_id: &str,
        (count, within): (usize, u64),
    ) {
        let new = NewFollowers {
            account: app_id.to_owned(),
            count: Some(count),
            ..NewFollowers::default()
        };
        for openid in control.add_followers(&new).unwrap().openids {
            let intentions = Intentions::draw(dice, within, self.came);
            self.came += 1;
            self.acting
                .spawn(live(control.clone(), app_id.to_owned(), openid, intentions));
        }
        while let Some(done) = self.acting.try_join_next() {
            self.people.push(done.unwrap());
        }
    }

    /// Everybody, once all have done what they wanted to.
    pub async fn everybody(mut self) -> Vec<Person> {
        while let Some(done) = self.acting.join_next().await {
            self.people.push(done.unwrap());
        }
        self.people
    }
}

async fn live(
    control: Control,
    app_id: String,
    openid: Arc<str>,
    intentions: Intentions,
) -> Person {
    let mut deeds = Vec::new();
    for (pause, action) in intentions.0 {
        tokio::time::sleep(pause).await;
        let (kind, text) = match &action {
            Action::Text { text } => ("message", text.clone()),
            Action::Unfollow => ("unfollowed", String::new()),
            _ => ("followed", String::new()),
        };
        let pushed = control.act(&app_id, &openid, action).await.unwrap();
        deeds.push(Deed {
            kind,
            text,
            acked: pushed.accepted,
            ended_at: SystemClock.now(),
        });
    }
    Person { openid, deeds }
}
