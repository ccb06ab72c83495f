//! The writer: one task, one connection, one transaction for everybody who waits.
//!
//! Group commit without a timer: while one commit is on its way to the disk the next requests
//! gather, so a lone request waits for nobody and a crowd shares one fsync. Callers are answered
//! after the commit and never before. While the database is away everybody is told at once; a commit
//! whose answer was lost is looked up when it is back (`commit`).

use std::time::Duration;

use sea_orm::DatabaseTransaction;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::clock::Timestamp;
use crate::journey::carrier::Carrier;
use crate::journey::event::Arrival;
use crate::journey::ids::{AccountId, BroadcastId, FollowerId, VersionId};
use crate::store::Error;
use crate::store::clicks::Clicked;
use crate::store::commit::{Commits, Pending, Standing};
use crate::store::reconcile::{Found, Reconciled};
use crate::store::timers::TimerKey;
use crate::store::work::{
    Act, Acted, Admitted, Confirmed, DeliveryKey, Ended, Intended, Offer, Settled, Taken, Work,
};

/// Requests that may wait. A full intake makes callers wait in turn; callbacks give up in time.
const INTAKE_MAX: usize = 16_384;

/// Rows that one commit touches, roughly: a commit stays in the tens of milliseconds.
const BATCH_WEIGHT_MAX: usize = 1000;

/// Commits whose news the scheduler has not read yet. What does not fit is found by its scans.
pub(super) const ARMED_QUEUE_MAX: usize = 4096;

/// Waits between questions whether the database is back, shortest and longest.
const AWAY_PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// Longest wait for one such answer.
const PROBE_MAX: Duration = Duration::from_secs(3);

/// A write that is its own transaction: migrations of data, publishing, configuration.
pub(super) type Cold =
    Box<dyn for<'a> FnOnce(&'a DatabaseTransaction) -> ColdFuture<'a> + Send + 'static>;
/// What a cold write returns.
pub type ColdFuture<'a> = std::pin::Pin<Box<dyn Future<Output = Result<(), Error>> + Send + 'a>>;

enum Request {
    Work(Work),
    Cold(Cold, oneshot::Sender<Result<(), Error>>),
    Stop,
}

impl Request {
    /// Tells the caller that nothing was written.
    fn fail(self, error: Error) {
        match self {
            Self::Work(work) => work.fail(error),
            Self::Cold(_, reply) => drop(reply.send(Err(error))),
            Self::Stop => {}
        }
    }
}

/// A handle to the writer; cheap to clone.
#[derive(Clone, Debug)]
pub struct Writer {
    intake: mpsc::Sender<Request>,
}

impl Writer {
    /// Takes an event in: receipt, follower, grant, passages and their plans in one commit.
    pub async fn receive(&self, account: AccountId, arrival: Arrival) -> Result<Taken, Error> {
        self.receive_to_answer(account, arrival, Offer::Nothing)
            .await
    }

    /// The same for an event whose answer can carry a message: where a due step is the answer, its
    /// intent is committed with the event.
    pub async fn receive_to_answer(
        &self,
        account: AccountId,
        arrival: Arrival,
        offer: Offer,
    ) -> Result<Taken, Error> {
        let arrival = Box::new(arrival);
        self.ask(|reply| Work::Receive {
            account,
            arrival,
            offer,
            reply,
        })
        .await
    }

    /// Ends a passive reply that has had its time.
    pub async fn confirm(&self, key: DeliveryKey) -> Result<Confirmed, Error> {
        self.ask(|reply| Work::Confirm { key, reply }).await
    }

    /// Does what a person asked for.
    pub async fn act(&self, account: AccountId, openid: String, act: Act) -> Result<Acted, Error> {
        self.ask(|reply| Work::Act {
            account,
            openid,
            act,
            reply,
        })
        .await
    }

    /// Takes in what the platform's list says of people: what we missed becomes events.
    pub async fn reconcile(
        &self,
        account: AccountId,
        found: Vec<Found>,
    ) -> Result<Reconciled, Error> {
        self.ask(|reply| Work::Reconcile {
            account,
            found,
            reply,
        })
        .await
    }

    /// Makes enrollments of a broadcast's recipients, whose message is due at `due_at`, or at once: those
    /// who have none yet, while it is sending, in one commit.
    pub async fn admit(
        &self,
        part: (BroadcastId, AccountId, VersionId),
        due_at: Option<Timestamp>,
        followers: Vec<FollowerId>,
    ) -> Result<Admitted, Error> {
        let (broadcast, account, version) = part;
        self.ask(|reply| Work::Admit {
            broadcast,
            account,
            version,
            due_at,
            followers,
            reply,
        })
        .await
    }

    /// Judges due deliveries and commits the intents of those to be sent; one answer for each.
    pub async fn intend(&self, keys: Vec<DeliveryKey>) -> Result<Vec<Intended>, Error> {
        let only = None;
        self.ask(|reply| Work::Intend { keys, only, reply }).await
    }

    /// The same for those alone that travel by this carrier; the others stay as they are.
    pub async fn intend_only(
        &self,
        keys: Vec<DeliveryKey>,
        carrier: Carrier,
    ) -> Result<Vec<Intended>, Error> {
        let only = Some(carrier);
        self.ask(|reply| Work::Intend { keys, only, reply }).await
    }

    /// Ends an attempt: outcome, and the next step armed.
    pub async fn settle(
        &self,
        key: DeliveryKey,
        ended: impl Into<Ended>,
    ) -> Result<Settled, Error> {
        let ended = Box::new(ended.into());
        self.ask(|reply| Work::Settle { key, ended, reply }).await
    }

    /// Makes deliveries of timers; says how many were still there.
    pub async fn promote(&self, keys: Vec<TimerKey>) -> Result<usize, Error> {
        self.ask(|reply| Work::Promote { keys, reply }).await
    }

    /// Counts a click; false when it is about nobody any more.
    pub async fn click(&self, clicked: Clicked) -> Result<bool, Error> {
        self.ask(|reply| Work::Click { clicked, reply }).await
    }

    /// Runs a write that happens rarely, in a transaction of its own.
    pub async fn cold<F>(&self, write: F) -> Result<(), Error>
    where
        F: for<'a> FnOnce(&'a DatabaseTransaction) -> ColdFuture<'a> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let request = Request::Cold(Box::new(write), reply);
        self.intake
            .send(request)
            .await
            .map_err(|_| Error::Stopped)?;
        answer.await.map_err(|_| Error::Stopped)?
    }

    async fn ask<T>(
        &self,
        work: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Work,
    ) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        let request = Request::Work(work(reply));
        self.intake
            .send(request)
            .await
            .map_err(|_| Error::Stopped)?;
        answer.await.map_err(|_| Error::Stopped)?
    }

    /// Requests that wait for a commit.
    pub fn waiting(&self) -> usize {
        self.intake.max_capacity() - self.intake.capacity()
    }

    /// Ends when the writer has: nothing can be written any more.
    pub async fn ended(&self) {
        self.intake.closed().await;
    }

    /// Lets the writer finish what it has taken in, then stops it.
    pub(super) async fn stop(&self) {
        self.intake.send(Request::Stop).await.ok();
    }
}

/// Starts the writer.
pub(super) fn start(commits: Commits) -> (Writer, JoinHandle<()>) {
    let (intake, requests) = mpsc::channel(INTAKE_MAX);
    let task = Task { commits, requests };
    (Writer { intake }, tokio::spawn(task.run()))
}

struct Task {
    commits: Commits,
    requests: mpsc::Receiver<Request>,
}

impl Task {
    async fn run(mut self) {
        while let Some(request) = self.requests.recv().await {
            let (mut works, mut cold) = (Vec::new(), None);
            let mut stopping = false;
            match request {
                Request::Work(work) => works.push(work),
                Request::Cold(write, reply) => cold = Some((write, reply)),
                Request::Stop => break,
            }
            let mut weight: usize = works.iter().map(Work::weight).sum();
            while cold.is_none() && !stopping && weight < BATCH_WEIGHT_MAX {
                match self.requests.try_recv() {
                    Ok(Request::Work(work)) => {
                        weight += work.weight();
                        works.push(work);
                    }
                    Ok(Request::Cold(write, reply)) => cold = Some((write, reply)),
                    Ok(Request::Stop) => stopping = true,
                    Err(_) => break,
                }
            }
            if !works.is_empty() {
                let standing = self.commits.commit(works).await;
                stopping |= self.wait_for_database(standing).await;
            }
            if let Some((write, reply)) = cold {
                let standing = self.commits.run_cold(write, reply).await;
                stopping |= self.wait_for_database(standing).await;
            }
            if stopping {
                break;
            }
        }
        self.requests.close();
        while let Some(request) = self.requests.recv().await {
            request.fail(Error::Stopped);
        }
        self.commits.close().await;
    }

    /// Waits until the database is back, if it is away, and finishes the commit whose answer was
    /// lost. Says whether the writer was told to stop meanwhile.
    async fn wait_for_database(&mut self, standing: Standing) -> bool {
        let mut pending = match standing {
            Standing::Here => return false,
            Standing::Replaced => return true,
            Standing::Away(pending) => pending,
        };
        self.commits.note_away(true);
        let mut pause = AWAY_PAUSES.0;
        loop {
            let probe = tokio::time::timeout(PROBE_MAX, self.commits.probe(pending.as_ref()));
            let Some(found) = refuse_until(&mut self.requests, probe).await else {
                fail(pending);
                return true;
            };
            match found {
                Ok(Ok(took_place)) => {
                    tracing::info!("the database is back");
                    self.commits.note_away(false);
                    let standing = self.commits.finish(pending.take(), took_place).await;
                    match standing {
                        Standing::Here => return false,
                        Standing::Replaced => return true,
                        // Gone again at once.
                        Standing::Away(again) => pending = again,
                    }
                    self.commits.note_away(true);
                }
                Ok(Err(error)) => tracing::debug!(%error, "the database is still away"),
                Err(_) => tracing::debug!("the database does not answer"),
            }
            let wait = tokio::time::sleep(jittered(pause));
            if refuse_until(&mut self.requests, wait).await.is_none() {
                fail(pending);
                return true;
            }
            pause = (pause * 2).min(AWAY_PAUSES.1);
        }
    }
}

/// Somebody waits for an answer that will not come: the rows tell the next start.
fn fail(pending: Option<Pending>) {
    if let Some(pending) = pending {
        pending.fail(Error::Stopped);
    }
}

/// Tells everybody who asks that the database is away, until `future` ends; `None` when the writer is
/// told to stop before.
async fn refuse_until<T>(
    requests: &mut mpsc::Receiver<Request>,
    future: impl Future<Output = T>,
) -> Option<T> {
    let mut future = std::pin::pin!(future);
    loop {
        tokio::select! {
            done = &mut future => return Some(done),
            request = requests.recv() => match request {
                None | Some(Request::Stop) => return None,
                Some(request) => request.fail(Error::Away),
            },
        }
    }
}

/// Between half of a span and all of it, so that nodes do not come back all at once.
pub(super) fn jittered(span: Duration) -> Duration {
    let dice = f64::from(getrandom::u32().unwrap_or(u32::MAX)) / f64::from(u32::MAX);
    span.mul_f64(0.5 + dice / 2.0)
}
