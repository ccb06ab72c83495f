//! Commits: many requests as one transaction, and what is done when one fails.
//!
//! A commit that somebody else was in the way of is tried again; one that cannot be written takes no
//! other with it; one whose answer was lost is looked up by its number before anybody is answered.

use std::sync::Arc;
use std::time::Duration;

use sea_orm::{
    DatabaseConnection, DatabaseTransaction, SqliteTransactionMode, TransactionOptions,
    TransactionTrait,
};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::clock::Clock;
use crate::store::batch::{Answered, Batch, Tally};
use crate::store::fence::{self, Fence};
use crate::store::health::Tallies;
use crate::store::leases::{Holding, Leases};
use crate::store::numbers::Numbers;
use crate::store::save::Moment;
use crate::store::shards::Sharding;
use crate::store::trouble::{self, Trouble};
use crate::store::work::{Armed, Work};
use crate::store::writer::{Cold, jittered};
use crate::store::{Error, Hints, Knowledge, sql};

/// How often a transaction is tried that others are in the way of.
const TRIES_MAX: u32 = 6;

/// Longest wait before such another try.
const TRY_PAUSE: Duration = Duration::from_millis(50);

/// Longest wait for what a transaction asks of a shared database, and for its commit: longer than its
/// statements may take (`postgres`). A machine that vanished closes no connection and says nothing.
const SILENCE_MAX: Duration = Duration::from_secs(15);

/// Makes transactions of requests.
pub(super) struct Commits {
    pub(super) connection: DatabaseConnection,
    pub(super) knowledge: Arc<Knowledge>,
    pub(super) clock: Arc<dyn Clock>,
    /// What is due within this span is armed as a delivery at once.
    pub(super) lead: Duration,
    pub(super) leases: Leases,
    /// Id of this node.
    pub(super) node: i64,
    pub(super) armed_tx: mpsc::Sender<Armed>,
    pub(super) hints: Hints,
    pub(super) health: Arc<Tallies>,
    pub(super) numbers: Numbers,
    /// Number of the latest transaction.
    pub(super) number: i64,
}

/// Where the database stands after a commit.
pub(super) enum Standing {
    Here,
    /// It cannot be reached; perhaps one commit's answer was lost.
    Away(Option<Pending>),
    /// Another process runs under our name: we write nothing any more.
    Replaced,
}

/// A transaction of which nobody knows whether it took place.
pub(super) struct Pending {
    number: i64,
    what: What,
}

enum What {
    Works(Vec<Work>, Box<Done>),
    Cold(oneshot::Sender<Result<(), Error>>),
}

impl Pending {
    /// Tells who waits that nobody will know.
    pub(super) fn fail(self, error: Error) {
        match self.what {
            What::Works(works, _) => fail_all(works, || Error::Stopped),
            What::Cold(reply) => drop(reply.send(Err(error))),
        }
    }
}

/// What a transaction did.
struct Done {
    answers: Vec<Answered>,
    armed: Armed,
    tally: Tally,
}

/// Why a transaction did not take place, or may not have.
enum Failure {
    Refused(Error),
    /// Its commit was sent and not answered.
    Unanswered(Box<Done>),
    Lost(Vec<u16>),
    Outdated,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl Commits {
    /// Commits `works` together, and answers everybody. If they cannot be written together, each is
    /// on its own, so that one that cannot be written takes no other with it.
    pub(super) async fn commit(&mut self, mut works: Vec<Work>) -> Standing {
        works.sort_by_key(Work::rank);
        let mut tries = 0;
        let error = loop {
            let holding = self.leases.holding();
            works = refuse_lost(works, &holding);
            if works.is_empty() {
                return Standing::Here;
            }
            match self.try_commit(&works, holding).await {
                Ok(done) => {
                    self.tell(works, done);
                    return Standing::Here;
                }
                Err(Failure::Unanswered(done)) => {
                    let what = What::Works(works, done);
                    let number = self.number;
                    return Standing::Away(Some(Pending { number, what }));
                }
                Err(Failure::Lost(shards)) => {
                    tracing::warn!(shards = shards.len(), "shards are another node's by now");
                    metrics::counter!("dripwheel_fenced_total").increment(1);
                    self.leases.lose(&shards);
                    self.knowledge.note_account_change();
                    continue;
                }
                Err(Failure::Outdated) => match self.knowledge.reload(&self.connection).await {
                    Ok(()) => continue,
                    Err(error) if self.trouble(&error) == Trouble::Broken => break error,
                    Err(_) => {}
                },
                Err(Failure::Refused(error @ Error::Replaced)) => {
                    tracing::error!(%error, "stopping");
                    fail_all(works, || Error::Stopped);
                    return Standing::Replaced;
                }
                Err(Failure::Refused(error)) => match self.trouble(&error) {
                    Trouble::Again => tracing::debug!(%error, "others were in the way"),
                    Trouble::Away => {
                        tracing::error!(%error, cause = ?error, "the database is away");
                        fail_all(works, || Error::Away);
                        return Standing::Away(None);
                    }
                    Trouble::Broken => break error,
                },
            }
            tries += 1;
            if tries >= TRIES_MAX {
                break Error::Busy;
            }
            metrics::counter!("dripwheel_commit_retries_total").increment(1);
            tokio::time::sleep(jittered(TRY_PAUSE)).await;
        };
        self.commit_each(works, error).await
    }

    async fn commit_each(&mut self, works: Vec<Work>, error: Error) -> Standing {
        if works.len() == 1 {
            tracing::error!(%error, cause = ?error, "commit failed");
            fail_all(works, || Error::Busy);
            return Standing::Here;
        }
        tracing::warn!(%error, works = works.len(), "commit failed: retrying one by one");
        let mut works = works.into_iter();
        while let Some(work) = works.next() {
            match Box::pin(self.commit(vec![work])).await {
                Standing::Here => {}
                gone => {
                    fail_all(works.collect(), || Error::Away);
                    return gone;
                }
            }
        }
        Standing::Here
    }

    async fn try_commit(&mut self, works: &[Work], holding: Arc<Holding>) -> Result<Done, Failure> {
        let began = Instant::now();
        let is_shared = self.is_shared();
        let (tx, done) = heard(is_shared, self.write(works, holding)).await?;
        match self.end(tx).await {
            Ok(()) => {
                let took = began.elapsed().as_secs_f64();
                metrics::histogram!("dripwheel_commit_seconds").record(took);
                Ok(done)
            }
            Err(error) if self.trouble(&error) == Trouble::Away => {
                Err(Failure::Unanswered(Box::new(done)))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Does all of `works` in a transaction that has yet to be committed.
    async fn write(
        &mut self,
        works: &[Work],
        holding: Arc<Holding>,
    ) -> Result<(DatabaseTransaction, Done), Failure> {
        let newcomers: usize = works.iter().map(Work::newcomers).sum();
        self.numbers.reserve(&self.connection, newcomers).await?;
        let tx = self.begin().await?;
        if self.is_shared() {
            match fence::ask(&tx, works, &holding, &self.knowledge).await? {
                Fence::Holds => {}
                Fence::Lost(shards) => return Err(Failure::Lost(shards)),
                Fence::Outdated => return Err(Failure::Outdated),
            }
        }
        let (clock, lead) = (&self.clock, self.lead);
        let moment = || {
            let now = clock.now();
            Moment {
                now,
                lead_until: now.plus(lead),
                holding,
            }
        };
        let (answers, armed, tally) =
            Batch::run(&tx, &self.knowledge, moment, &mut self.numbers, works).await?;
        let done = Done {
            answers,
            armed,
            tally,
        };
        Ok((tx, done))
    }

    async fn begin(&self) -> Result<DatabaseTransaction, Error> {
        let options = TransactionOptions {
            sqlite_transaction_mode: (!self.is_shared())
                .then_some(SqliteTransactionMode::Immediate),
            ..TransactionOptions::default()
        };
        Ok(self.connection.begin_with_options(options).await?)
    }

    /// Commits, under the next number where it may be asked for.
    async fn end(&mut self, tx: DatabaseTransaction) -> Result<(), Error> {
        if !self.is_shared() {
            return Ok(tx.commit().await?);
        }
        self.number += 1;
        let (node, number) = (self.node, self.number);
        let ended = async {
            fence::sign(&tx, node, number).await?;
            Ok(tx.commit().await?)
        };
        heard(true, ended).await
    }

    /// Runs a write in a transaction of its own, and answers.
    pub(super) async fn run_cold(
        &mut self,
        write: Cold,
        reply: oneshot::Sender<Result<(), Error>>,
    ) -> Standing {
        let is_shared = self.is_shared();
        let written = async {
            if is_shared {
                // What it decides with may be another node's doing.
                self.knowledge.catch_up(&self.connection).await?;
            }
            let tx = self.begin().await?;
            write(&tx).await?;
            Ok(tx)
        };
        let tx = match heard(is_shared, written).await {
            Ok(tx) => tx,
            Err(error) => {
                let trouble = self.trouble(&error);
                let (error, standing) = match trouble {
                    Trouble::Away => (Error::Away, Standing::Away(None)),
                    Trouble::Again | Trouble::Broken => (error, Standing::Here),
                };
                reply.send(Err(error)).ok();
                return standing;
            }
        };
        match self.end(tx).await {
            Err(error) if self.trouble(&error) == Trouble::Away => {
                let (number, what) = (self.number, What::Cold(reply));
                Standing::Away(Some(Pending { number, what }))
            }
            Err(error @ Error::Replaced) => {
                tracing::error!(%error, "stopping");
                reply.send(Err(error)).ok();
                Standing::Replaced
            }
            ended => {
                reply.send(ended).ok();
                Standing::Here
            }
        }
    }

    /// Asks whether the database is back and takes writes; and, where a commit's answer was lost,
    /// whether it took place.
    pub(super) async fn probe(&self, pending: Option<&Pending>) -> Result<bool, Error> {
        let tx = self.begin().await?;
        let row = sql::first(&tx, "SELECT CAST(pg_is_in_recovery() AS INTEGER)", []).await?;
        if row.map_or(Ok(1), |row| sql::int(&row, 0))? != 0 {
            return Err(Error::Away);
        }
        let Some(pending) = pending else {
            return Ok(false);
        };
        let latest = fence::latest(&tx, self.node).await?;
        tx.rollback().await?;
        Ok(latest >= pending.number)
    }

    /// Answers those whose commit took place after all, and makes it anew for the others.
    pub(super) async fn finish(&mut self, pending: Option<Pending>, took_place: bool) -> Standing {
        let Some(pending) = pending else {
            return Standing::Here;
        };
        match (pending.what, took_place) {
            (What::Works(works, done), true) => {
                self.tell(works, *done);
                Standing::Here
            }
            (What::Works(works, _), false) => self.commit(works).await,
            (What::Cold(reply), _) => {
                let said = if took_place { Ok(()) } else { Err(Error::Away) };
                reply.send(said).ok();
                Standing::Here
            }
        }
    }

    /// Notes for everybody whether the database can be reached.
    pub(super) fn note_away(&self, away: bool) {
        metrics::gauge!("dripwheel_database_away").set(if away { 1.0 } else { 0.0 });
        self.knowledge.set_away(away);
    }

    pub(super) async fn close(self) {
        self.connection.close().await.ok();
    }

    /// Answers everybody of a transaction that took place.
    fn tell(&self, works: Vec<Work>, done: Done) {
        count(works.len(), &done.tally);
        self.health.add(done.tally.health, self.clock.now());
        if !done.armed.is_empty() {
            // A full queue loses a hint, never a row: the scheduler's scans find it.
            if self.armed_tx.try_send(done.armed).is_err() {
                self.hints.lose();
            }
        }
        answer(works, done.answers);
    }

    fn is_shared(&self) -> bool {
        Sharding::of(&self.connection) == Sharding::Many
    }

    fn trouble(&self, error: &Error) -> Trouble {
        if self.is_shared() {
            trouble::of(error)
        } else {
            Trouble::Broken
        }
    }
}

/// What a database answers; a shared one that says nothing is away.
async fn heard<T, E: From<Error>>(
    is_shared: bool,
    asked: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    if !is_shared {
        return asked.await;
    }
    let answer = tokio::time::timeout(SILENCE_MAX, asked).await;
    answer.unwrap_or_else(|_| Err(Error::Away.into()))
}

/// Turns away what only a shard's holder may write.
fn refuse_lost(works: Vec<Work>, holding: &Holding) -> Vec<Work> {
    let ours = |work: &Work| match work {
        Work::Settle { key, .. } | Work::Confirm { key, .. } => {
            holding.epoch(key.account).is_some()
        }
        Work::Admit { account, .. } => holding.epoch(*account).is_some(),
        _ => true,
    };
    let (works, lost) = works.into_iter().partition(ours);
    fail_all(lost, || Error::NotHeld);
    works
}

fn fail_all(works: Vec<Work>, error: impl Fn() -> Error) {
    for work in works {
        work.fail(error());
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
            (Work::Admit { reply, .. }, Answered::Admitted(one)) => drop(reply.send(Ok(one))),
            (Work::Settle { reply, .. }, Answered::Settled(one)) => drop(reply.send(Ok(one))),
            (Work::Confirm { reply, .. }, Answered::Confirmed(one)) => drop(reply.send(Ok(one))),
            (Work::Intend { reply, .. }, Answered::Intended(all)) => drop(reply.send(Ok(all))),
            (Work::Promote { reply, .. }, Answered::Promoted(n)) => drop(reply.send(Ok(n))),
            (Work::Click { reply, .. }, Answered::Clicked(kept)) => drop(reply.send(Ok(kept))),
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
