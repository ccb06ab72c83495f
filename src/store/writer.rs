//! The writer: one task, one connection, one transaction for everybody who waits.
//!
//! Group commit without a timer: while one commit is on its way to the disk the next requests
//! gather, so a lone request waits for nobody and a crowd shares one fsync. Callers are answered
//! after the commit and never before.

use std::sync::Arc;
use std::time::Duration;

use sea_orm::{
    DatabaseConnection, DatabaseTransaction, SqliteTransactionMode, TransactionOptions,
    TransactionTrait,
};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::journey::carrier::Carrier;
use crate::journey::event::Arrival;
use crate::journey::ids::{AccountId, FollowerId};
use crate::store::batch::{Answered, Batch, Tally};
use crate::store::health::Tallies;
use crate::store::leases::Leases;
use crate::store::reconcile::{Found, Reconciled};
use crate::store::save::Moment;
use crate::store::shards::Sharding;
use crate::store::timers::TimerKey;
use crate::store::work::{
    Act, Acted, Armed, Confirmed, DeliveryKey, Ended, Intended, Offer, Settled, Taken, Work,
};
use crate::store::{Error, Hints, Knowledge, followers, sql};

/// Requests that may wait. A full intake makes callers wait in turn; callbacks give up in time.
const INTAKE_MAX: usize = 16_384;

/// Rows that one commit touches, roughly: a commit stays in the tens of milliseconds.
const BATCH_WEIGHT_MAX: usize = 1000;

/// Commits whose news the scheduler has not read yet. What does not fit is found by its scans.
pub(super) const ARMED_QUEUE_MAX: usize = 4096;

/// A write that is its own transaction: migrations of data, publishing, configuration.
type Cold = Box<dyn for<'a> FnOnce(&'a DatabaseTransaction) -> ColdFuture<'a> + Send + 'static>;
/// What a cold write returns.
pub type ColdFuture<'a> = std::pin::Pin<Box<dyn Future<Output = Result<(), Error>> + Send + 'a>>;

enum Request {
    Work(Work),
    Cold(Cold, oneshot::Sender<Result<(), Error>>),
    Stop,
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

/// What the writer needs.
pub(super) struct Start {
    pub(super) connection: DatabaseConnection,
    pub(super) knowledge: Arc<Knowledge>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) lead: Duration,
    pub(super) leases: Leases,
    pub(super) armed_tx: mpsc::Sender<Armed>,
    pub(super) hints: Hints,
    pub(super) health: Arc<Tallies>,
}

/// Starts the writer.
pub(super) async fn start(start: Start) -> Result<(Writer, JoinHandle<()>), Error> {
    let highest = FollowerId(followers::highest_id(&start.connection).await?);
    let next_follower = Sharding::of(&start.connection).number(highest) + 1;
    let (intake, requests) = mpsc::channel(INTAKE_MAX);
    let task = Task {
        start,
        requests,
        next_follower,
    };
    Ok((Writer { intake }, tokio::spawn(task.run())))
}

struct Task {
    start: Start,
    requests: mpsc::Receiver<Request>,
    next_follower: i64,
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
                self.commit(works).await;
            }
            if let Some((write, reply)) = cold {
                drop(reply.send(self.run_cold(write).await));
            }
            if stopping {
                break;
            }
        }
        self.requests.close();
        while let Some(request) = self.requests.recv().await {
            match request {
                Request::Work(work) => work.fail(Error::Stopped),
                Request::Cold(_, reply) => drop(reply.send(Err(Error::Stopped))),
                Request::Stop => {}
            }
        }
        self.start.connection.close().await.ok();
    }

    /// Commits `works` together. If that fails, each on its own, so that one that cannot be
    /// written takes no other with it.
    async fn commit(&mut self, mut works: Vec<Work>) {
        works.sort_by_key(Work::rank);
        match self.try_commit(&works).await {
            Ok(answers) => answer(works, answers),
            Err(error) if works.len() == 1 => {
                tracing::error!(%error, cause = ?error, "commit failed");
                for work in works {
                    work.fail(Error::Busy);
                }
            }
            Err(error) => {
                tracing::warn!(%error, works = works.len(), "commit failed: retrying one by one");
                for work in works {
                    match self.try_commit(std::slice::from_ref(&work)).await {
                        Ok(answers) => answer(vec![work], answers),
                        Err(error) => work.fail(error),
                    }
                }
            }
        }
    }

    async fn try_commit(&mut self, works: &[Work]) -> Result<Vec<Answered>, Error> {
        let now = self.start.clock.now();
        let moment = Moment {
            now,
            lead_until: now.plus(self.start.lead),
            holding: self.start.leases.holding(),
        };
        let began = Instant::now();
        let tx = self.begin().await?;
        let (answers, armed, tally) = Batch::run(
            &tx,
            &self.start.knowledge,
            &moment,
            &mut self.next_follower,
            works,
        )
        .await?;
        tx.commit().await?;
        metrics::histogram!("dripwheel_commit_seconds").record(began.elapsed().as_secs_f64());
        count(works.len(), &tally);
        self.start.health.add(tally.health, now);
        if !armed.is_empty() {
            // A full queue loses a hint, never a row: the scheduler's scans find it.
            if self.start.armed_tx.try_send(armed).is_err() {
                self.start.hints.lose();
            }
        }
        Ok(answers)
    }

    async fn begin(&self) -> Result<DatabaseTransaction, Error> {
        let immediate = !sql::has_other_writers(&self.start.connection);
        let options = TransactionOptions {
            sqlite_transaction_mode: immediate.then_some(SqliteTransactionMode::Immediate),
            ..TransactionOptions::default()
        };
        Ok(self.start.connection.begin_with_options(options).await?)
    }

    async fn run_cold(&self, write: Cold) -> Result<(), Error> {
        let tx = self.begin().await?;
        write(&tx).await?;
        Ok(tx.commit().await?)
    }
}

fn answer(works: Vec<Work>, answers: Vec<Answered>) {
    for (work, answer) in works.into_iter().zip(answers) {
        // A caller that went away does not need its answer: the rows are written.
        match (work, answer) {
            (Work::Receive { reply, .. }, Answered::Taken(taken)) => drop(reply.send(Ok(taken))),
            (Work::Act { reply, .. }, Answered::Acted(acted)) => drop(reply.send(Ok(acted))),
            (Work::Reconcile { reply, .. }, Answered::Reconciled(one)) => {
                drop(reply.send(Ok(one)));
            }
            (Work::Settle { reply, .. }, Answered::Settled(one)) => drop(reply.send(Ok(one))),
            (Work::Confirm { reply, .. }, Answered::Confirmed(one)) => drop(reply.send(Ok(one))),
            (Work::Intend { reply, .. }, Answered::Intended(all)) => drop(reply.send(Ok(all))),
            (Work::Promote { reply, .. }, Answered::Promoted(n)) => drop(reply.send(Ok(n))),
            (work, _) => work.fail(Error::Stopped),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "histograms take floats")]
fn count(works: usize, tally: &Tally) {
    metrics::histogram!("dripwheel_commit_works").record(works as f64);
    metrics::counter!("dripwheel_enrollments_total").increment(tally.enrolled);
    for (outcome, count) in &tally.outcomes {
        metrics::counter!("dripwheel_outcomes_total", "outcome" => outcome.word())
            .increment(*count);
    }
    for late_ms in &tally.lateness_ms {
        metrics::histogram!("dripwheel_lateness_seconds").record(*late_ms as f64 / 1000.0);
    }
}
