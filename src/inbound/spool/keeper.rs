//! The one task that has the spool's file: what many ask it to keep shares a commit.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use crate::inbound::spool::{Known, Refused};
use crate::store;
use crate::store::spool::{Entry, SpoolFile, Spooled, is_full};

/// Events of one commit, at most.
const COMMIT_MAX: usize = 1000;

/// How often a file that could not be written is tried again, when no callback does.
const TRY_EVERY: Duration = Duration::from_secs(2);

/// What the keeper is asked for.
pub(super) enum Order {
    /// Put this behind all others.
    Keep {
        entry: Entry,
        reply: oneshot::Sender<Result<(), Refused>>,
    },
    /// The first events that were not handed over.
    Front {
        most: usize,
        reply: oneshot::Sender<Result<Vec<Spooled>, store::Error>>,
    },
    /// The store has these, the first ones.
    HandedOver(Vec<Spooled>),
    /// The store will not have this one.
    SetAside {
        event: Spooled,
        why: &'static str,
    },
    Close,
}

type Reply = oneshot::Sender<Result<(), Refused>>;

/// Has the file.
pub(super) struct Keeper {
    file: SpoolFile,
    known: Arc<Known>,
    orders: mpsc::Receiver<Order>,
    /// The store has everything up to here, even if it could not be deleted yet.
    handed_over: i64,
}

impl Keeper {
    pub(super) fn new(file: SpoolFile, known: Arc<Known>, orders: mpsc::Receiver<Order>) -> Self {
        Self {
            file,
            known,
            orders,
            handed_over: 0,
        }
    }

    pub(super) async fn run(mut self) {
        let mut next = None;
        let mut try_at = Instant::now();
        loop {
            let order = match next.take() {
                Some(order) => order,
                None => tokio::select! {
                    order = self.orders.recv() => match order {
                        Some(order) => order,
                        None => break,
                    },
                    // Whoever asks only those who are ready would never send us a callback again.
                    () = sleep_until(try_at), if self.has_failed() => {
                        try_at = Instant::now() + TRY_EVERY;
                        let tried = self.file.try_writing().await;
                        self.note(&tried);
                        continue;
                    }
                },
            };
            match order {
                Order::Keep { entry, reply } => {
                    next = self.keep(entry, reply).await;
                    try_at = Instant::now() + TRY_EVERY;
                }
                Order::Front { most, reply } => {
                    drop(reply.send(self.file.front(self.handed_over, most).await));
                }
                Order::HandedOver(events) => self.hand_over(&events).await,
                Order::SetAside { event, why } => self.set_aside(&event, why).await,
                Order::Close => break,
            }
        }
        self.orders.close();
        while let Some(order) = self.orders.recv().await {
            if let Order::Keep { entry, reply } = order {
                self.keep_all(vec![entry], vec![reply]).await;
            }
        }
        self.file.close().await;
    }

    /// Keeps an event together with those that wait behind it; returns the first other order.
    async fn keep(&mut self, entry: Entry, reply: Reply) -> Option<Order> {
        let (mut entries, mut replies) = (vec![entry], vec![reply]);
        let mut next = None;
        while entries.len() < COMMIT_MAX && next.is_none() {
            match self.orders.try_recv() {
                Ok(Order::Keep { entry, reply }) => {
                    entries.push(entry);
                    replies.push(reply);
                }
                Ok(other) => next = Some(other),
                Err(_) => break,
            }
        }
        self.keep_all(entries, replies).await;
        next
    }

    async fn keep_all(&self, entries: Vec<Entry>, replies: Vec<Reply>) {
        let kept = self.file.append(&entries).await;
        let refused = self.note(&kept);
        if refused.is_some() {
            let mut waiting = self.known.waiting();
            for entry in &entries {
                waiting.take(&entry.account);
            }
        }
        for reply in replies {
            // Whoever went away will come again, and be recognized.
            reply.send(refused.map_or(Ok(()), Err)).ok();
        }
        self.known.work.notify_one();
    }

    async fn hand_over(&mut self, events: &[Spooled]) {
        let Some(last) = events.last() else { return };
        self.handed_over = last.id;
        let gone = self.file.remove_through(last.id).await;
        self.note(&gone);
        let empty = {
            let mut waiting = self.known.waiting();
            for event in events {
                waiting.take(&event.entry.account);
            }
            waiting.events == 0
        };
        if empty && let Err(error) = self.file.shrink().await {
            tracing::warn!(%error, "the spool's file keeps its size");
        }
    }

    async fn set_aside(&mut self, event: &Spooled, why: &str) {
        tracing::error!(
            account.key = event.entry.account,
            spool.id = event.id,
            why,
            "an event stays in the spool, for a person to look at"
        );
        let aside = self.file.set_aside(event.id, why).await;
        self.note(&aside);
        if aside.is_ok() {
            let mut waiting = self.known.waiting();
            waiting.aside += 1;
            waiting.take(&event.entry.account);
        }
    }

    fn has_failed(&self) -> bool {
        self.known.waiting().failed.is_some()
    }

    /// Notes whether the file can be written; says why it cannot.
    fn note(&self, written: &Result<(), store::Error>) -> Option<Refused> {
        let failed = written.as_ref().err().map(|error| match is_full(error) {
            true => Refused::Full,
            false => Refused::Unwritable,
        });
        let mut waiting = self.known.waiting();
        if waiting.failed == failed {
            return failed;
        }
        waiting.failed = failed;
        drop(waiting);
        match written {
            Ok(()) => tracing::info!("the spool can be written again"),
            Err(error) => tracing::error!(%error, cause = ?error, "the spool cannot be written"),
        }
        failed
    }
}
