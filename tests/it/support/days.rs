//! Time passes in a town, and its people do things.

use std::sync::atomic::Ordering;
use std::time::Duration;

use dripwheel::clock::{Clock, Timestamp};
use dripwheel::journey::event::{Arrival, Event};
use dripwheel::journey::ids::AccountId;
use dripwheel::store::work::{Act, Acted, Taken};

use super::eventually;
use super::town::{PATIENCE_WITH_ROWS, Town};

impl Town {
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Jumps over a span of time, as downtime does or a machine that was asleep.
    pub fn advance(&self, span: Duration) {
        self.clock.advance(span);
    }

    /// Lets time pass from one due instant to the next, as it does for a program that runs.
    pub async fn pass(&self, span: Duration) {
        let until = self.now().plus(span);
        loop {
            self.quiet().await;
            match self.next_due().await {
                Some(due_at) if due_at <= until => self.advance(due_at.since(self.now())),
                _ => break,
            }
        }
        self.advance(until.since(self.now()));
        self.quiet().await;
    }

    /// When the next timer or delivery is due.
    pub async fn next_due(&self) -> Option<Timestamp> {
        self.number(
            "SELECT min(due_at) FROM (SELECT due_at FROM timers WHERE due_at > $1
             UNION ALL SELECT due_at FROM deliveries WHERE due_at > $1) AS ahead",
            [self.now().0.into()],
        )
        .await
        .map(Timestamp)
    }

    /// Waits until nothing that is due is left to do.
    pub async fn quiet(&self) {
        let what = "everything due is done";
        let asked = eventually(what, || async { self.due().await == 0 });
        if tokio::time::timeout(PATIENCE_WITH_ROWS, asked)
            .await
            .is_err()
        {
            panic!("{what}: never\n{}", self.dump().await);
        }
    }

    /// Waits until every call so far has its answer written down.
    pub async fn answered(&self) {
        let sending = "SELECT count(*) FROM deliveries WHERE state = 1";
        eventually("every call is answered", || async {
            self.number(sending, []).await == Some(0)
        })
        .await;
    }

    /// Timers and deliveries whose instant has come.
    pub async fn due(&self) -> i64 {
        self.number(
            "SELECT (SELECT count(*) FROM timers WHERE due_at <= $1)
                 + (SELECT count(*) FROM deliveries WHERE due_at <= $1)",
            [self.now().0.into()],
        )
        .await
        .unwrap()
    }

    pub async fn follow(&self, who: &str) -> Taken {
        self.event(who, Event::Followed { scene: None }).await
    }

    pub async fn unfollow(&self, who: &str) -> Taken {
        self.event(who, Event::Unfollowed).await
    }

    pub async fn says(&self, who: &str, text: &str) -> Taken {
        self.event(who, message(text)).await
    }

    pub async fn event(&self, who: &str, event: Event) -> Taken {
        self.take("main", self.arrival(who, event)).await
    }

    /// An event of now, by the platform's clock that counts seconds.
    pub fn arrival(&self, who: &str, event: Event) -> Arrival {
        Arrival {
            openid: who.to_owned(),
            created_at: Timestamp::from_seconds(self.now().seconds()),
            digest: self.events.fetch_add(1, Ordering::Relaxed),
            event,
            language: None,
        }
    }

    /// Takes in an event that happened `ago`.
    pub async fn late_event(&self, who: &str, event: Event, ago: Duration) -> Taken {
        let mut arrival = self.arrival(who, event);
        arrival.created_at = arrival.created_at.minus(ago);
        self.take("main", arrival).await
    }

    pub async fn take(&self, account: &str, arrival: Arrival) -> Taken {
        let account = self.account(account);
        let writer = self.store().writer();
        writer.receive(account, arrival).await.unwrap()
    }

    pub async fn enroll(&self, who: &str, sequence: &str) -> Acted {
        let sequence = sequence.to_owned();
        let (writer, act) = (self.store().writer(), Act::Enroll { sequence });
        let main = self.account("main");
        writer.act(main, who.to_owned(), act).await.unwrap()
    }

    pub fn account(&self, key: &str) -> AccountId {
        let account = self.store().knowledge().account_named(key);
        account.expect("an account of the town").journey.id
    }
}

/// A text message.
pub fn message(text: &str) -> Event {
    Event::MessageReceived {
        message_kind: "text".to_owned(),
        text: text.to_owned(),
    }
}
