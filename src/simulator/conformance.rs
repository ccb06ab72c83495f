//! Holds the model to a database: the same commits on both, and after each the same answers, the
//! same rows in every table, and the same pages read from them.
//!
//! The commits are those of the product, in any order and mixture that a seed gives, repeated, stale,
//! in vain and rolled back. Whatever a database does otherwise than the model is a difference.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::oneshot;

use crate::clock::{ManualClock, Timestamp};
use crate::journey::answer::{Answer, AnswerClass};
use crate::journey::carrier::Carrier;
use crate::journey::event::{Arrival, Event, Report};
use crate::journey::ids::{AccountId, EnrollmentId, VersionId};
use crate::simulator::dice::Dice;
use crate::simulator::draft::Draft;
use crate::simulator::lines;
use crate::simulator::model::Rows;
use crate::simulator::wish::Wish;
use crate::simulator::world::World;
use crate::store::batch::{Answered, Batch};
use crate::store::clicks::Clicked;
use crate::store::leases::{Held, Holding};
use crate::store::numbers::Numbers;
use crate::store::reconcile::{Found, Listed};
use crate::store::save::Moment;
use crate::store::shards::{SHARDS, Sharding};
use crate::store::timers::{self, TimerKey};
use crate::store::work::{Act, Armed, DeliveryKey, Ended, Intended, Offer, Work};
use crate::store::{Error, Store, StoreSettings, deliveries};

const LEAD: Duration = Duration::from_secs(2);

/// Makes `commits` commits on a new database and on the model.
///
/// # Errors
/// The first difference, in words.
pub async fn compare(url: &str, seed: u64, commits: usize) -> Result<(), String> {
    let clock = Arc::new(ManualClock::at(Timestamp(1_772_416_800_000)));
    let settings = StoreSettings::at(url.to_owned(), LEAD);
    let opened = Store::open(&settings, clock).await;
    let (store, _armed_rx) = opened.map_err(|error| error.to_string())?;
    let sharding = store.leases().holding().sharding();
    let mut pair = Pair {
        world: World::new(seed, None, false),
        store,
        rows: Rows::new(sharding),
        dice: Dice::new(seed),
        now: Timestamp(1_772_416_800_000),
        given: 1,
        digests: 0,
        epoch: 1,
    };
    (0..4).for_each(|_| pair.world.publish());
    for number in 0..commits {
        let done = pair.commit().await;
        done.map_err(|what| format!("seed {seed}, commit {number}: {what}"))?;
    }
    pair.store.close().await;
    Ok(())
}

/// What a commit says of itself.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    answers: Vec<String>,
    armed: Armed,
}

struct Pair {
    /// For what commits decide with.
    world: World,
    store: Arc<Store>,
    rows: Rows,
    dice: Dice,
    now: Timestamp,
    /// Numbers of followers up to here are taken.
    given: i64,
    digests: i64,
    epoch: i64,
}

impl Pair {
    async fn commit(&mut self) -> Result<(), String> {
        let ms = self.dice.between(0, 40_000);
        self.now = self.now.plus(Duration::from_millis(ms.unsigned_abs()));
        // Intents of an epoch that is over are left behind.
        self.epoch += i64::from(self.dice.one_in(16));
        let mut wishes: Vec<_> = (0..=self.dice.below(6)).map(|_| self.wish()).collect();
        wishes.sort_by_key(|wish| wish.work().rank());
        let sharding = self.rows.sharding;
        let moment = Moment {
            now: self.now,
            lead_until: self.now.plus(LEAD),
            holding: Arc::new(self.holding()),
        };
        let kept = !self.dice.one_in(8);
        let numbers = self.given..self.given + 100;
        self.given = numbers.end;
        let draft = Draft::of(&self.rows);
        let knowledge = Arc::clone(&self.world.knowledge);
        let works: Vec<Work> = wishes.iter().map(Wish::work).collect();
        let mut taken = Numbers::of(sharding, numbers.clone());
        let model =
            Batch::run(&draft, &knowledge, || moment.clone(), &mut taken, &works).now_or_never();
        let model = model.ok_or("the model kept a commit waiting")?;
        let model = model.map(|(answers, armed, _)| said(answers, armed));
        let (told_tx, told) = oneshot::channel();
        let asked = wishes.clone();
        let written = self.store.writer().cold(move |tx| {
            Box::pin(async move {
                let works: Vec<Work> = asked.iter().map(Wish::work).collect();
                let mut taken = Numbers::of(sharding, numbers);
                let done = Batch::run(tx, &knowledge, || moment, &mut taken, &works).await;
                let failed = done.is_err();
                let done = done.map(|(answers, armed, _)| said(answers, armed));
                told_tx.send(done).ok();
                match kept && !failed {
                    true => Ok(()),
                    false => Err(Error::Busy),
                }
            })
        });
        let written = written.await;
        let database = told.await.map_err(|_| format!("not run: {written:?}"))?;
        let model_failed = model.is_err();
        match (model, database) {
            (Ok(model), Ok(database)) if model == database => {}
            (Err(_), Err(_)) => {}
            (model, database) => {
                return Err(format!(
                    "of {wishes:?}\nthe model says {model:?}\nthe database {database:?}"
                ));
            }
        }
        if kept && !model_failed {
            written.map_err(|error| format!("not written: {error:?}"))?;
            self.rows = draft.into_rows();
        }
        self.same_rows(&wishes).await?;
        self.same_pages().await
    }

    async fn same_rows(&self, wishes: &[Wish]) -> Result<(), String> {
        let database = lines::of_database(self.store.read()).await;
        let database = database.map_err(|error| error.to_string())?;
        for (table, model) in lines::of_model(&self.rows) {
            let database = &database[table];
            if *database != model {
                let only = |these: &[String], those: &[String]| {
                    let own = these.iter().filter(|line| !those.contains(line));
                    own.cloned().collect::<Vec<_>>()
                };
                return Err(format!(
                    "{table} after {wishes:?}\nonly the model has {:#?}\nonly the database has {:#?}",
                    only(&model, database),
                    only(database, &model)
                ));
            }
        }
        Ok(())
    }

    async fn same_pages(&mut self) -> Result<(), String> {
        let read = self.store.read();
        let limit = 1 + self.dice.below(9);
        let wide = u32::try_from(limit).unwrap_or(1);
        let held = self.holding().held();
        let shards: Vec<_> = held.iter().map(|held| held.shard).collect();
        let known: Vec<_> = self.rows.timers.keys().copied().collect();
        let after = self.dice.pick(&known).copied().unwrap_or(TimerKey::FIRST);
        let until = self.now.plus(Duration::from_secs(900));
        let model = self.rows.timers_page(&shards, after, until, limit);
        let page = timers::page(read, &shards, after, until, wide).await;
        same("timers", &page.map_err(|error| error.to_string())?, &model)?;
        let first = (Timestamp(i64::MIN), EnrollmentId(i64::MIN));
        for account in self.accounts() {
            let model = self.rows.deliveries_page(account, first, limit);
            let page = deliveries::page(read, account, first, wide).await;
            same(
                "deliveries",
                &page.map_err(|error| error.to_string())?,
                &model,
            )?;
        }
        let mut left = deliveries::left_behind(read, &held, 1_000).await;
        if let Ok(left) = &mut left {
            left.sort_by_key(|key| (key.account, key.due_at, key.enrollment));
        }
        let left = left.map_err(|error| error.to_string())?;
        same("left behind", &left, &self.rows.left_behind(&held))
    }

    /// Every shard, under the epoch of now.
    fn holding(&self) -> Holding {
        let sharding = self.rows.sharding;
        let shards = match sharding {
            Sharding::One => 0..1,
            Sharding::Many => 0..SHARDS,
        };
        let epoch = self.epoch;
        let held: Vec<_> = shards.map(|shard| Held { shard, epoch }).collect();
        Holding::of(sharding, &held, None)
    }

    fn accounts(&self) -> Vec<AccountId> {
        let accounts = self.world.knowledge.accounts();
        let mut accounts: Vec<_> = accounts.keys().copied().collect();
        accounts.sort_unstable();
        accounts
    }

    /// One request: mostly to the point, sometimes stale or about nobody.
    fn wish(&mut self) -> Wish {
        let accounts = self.accounts();
        let account = self.dice.pick(&accounts).copied().unwrap_or_default();
        let openid = format!("openid-{}", self.dice.below(4));
        match self.dice.below(22) {
            0..=7 => self.event(account, openid),
            8..=10 => {
                let mut keys: Vec<_> = self.rows.timers.keys().copied().collect();
                keys.truncate(1 + self.dice.below(4));
                keys.push(TimerKey {
                    due_at: self.now,
                    enrollment: EnrollmentId(77),
                });
                Wish::Promote(keys)
            }
            11..=13 => Wish::Intend {
                keys: self.deliveries(false),
                only: self.dice.one_in(8).then_some(Carrier::MassSend),
            },
            14..=16 => match self.deliveries(true).first() {
                Some(key) => Wish::Settle {
                    key: *key,
                    ended: self.ended(),
                },
                None => self.event(account, openid),
            },
            17 => match self.rows.replies.keys().next() {
                Some(enrollment) => self.confirm(*enrollment),
                None => self.event(account, openid),
            },
            18 => Wish::Act {
                account,
                openid,
                act: self.act(),
            },
            19 => self.found(account, openid),
            _ => self.click(),
        }
    }

    /// A click on a link: mostly of a passage that there is.
    fn click(&mut self) -> Wish {
        let known: Vec<_> = self.rows.enrollments.iter().collect();
        let known: Vec<_> = known
            .iter()
            .map(|(id, (_, one))| (**id, one.version))
            .collect();
        let nobody = (EnrollmentId(77), VersionId(1));
        let (enrollment, version) = self.dice.pick(&known).copied().unwrap_or(nobody);
        let step = self.dice.below(2);
        Wish::Click(Clicked {
            enrollment,
            version,
            step: u16::try_from(step).unwrap_or_default(),
            link: 1 + u16::from(self.dice.one_in(2)),
            at: self.now,
        })
    }

    fn event(&mut self, account: AccountId, openid: String) -> Wish {
        let message = |text: &str| Event::MessageReceived {
            message_kind: "text".to_owned(),
            text: text.to_owned(),
        };
        let templates = vec![("T1".to_owned(), self.dice.one_in(2))];
        let awaited = self.rows.awaited.keys().next().cloned();
        let event = match (self.dice.below(12), awaited) {
            (0..=3, _) => Event::Followed { scene: None },
            (4, _) => Event::Unfollowed,
            (5..=6, _) => message("1"),
            (7, _) => message("“quoted” \"text\\ and 'more'"),
            (8, _) => Event::Clicked { key: "k".into() },
            (9, _) => Event::ConsentsChanged { templates },
            (10, Some((_, reference, _))) => Event::Reported(Report {
                reference,
                delivered: Some(true),
                template: None,
                detail: openid.clone(),
            }),
            (10, None) => Event::Scanned { scene: "s".into() },
            (_, _) => Event::Other {
                name: "user_authorization_revoke".into(),
            },
        };
        // Some events come again, as they are.
        self.digests += i64::from(!self.dice.one_in(5));
        let late = self.dice.between(0, 3_000);
        let language = self.dice.one_in(3).then(|| "zh_CN".to_owned());
        Wish::Receive {
            account,
            arrival: Arrival {
                openid,
                created_at: Timestamp::from_seconds((self.now.0 - late).div_euclid(1000)),
                digest: self.digests,
                event,
                language,
            },
            offer: match self.dice.one_in(2) {
                true => Offer::Step,
                false => Offer::Nothing,
            },
        }
    }

    fn deliveries(&mut self, sending: bool) -> Vec<DeliveryKey> {
        let rows = self.rows.deliveries.iter();
        let rows = rows.filter(|(_, row)| row.sending.is_some() == sending);
        let keys = rows.map(|((account, due_at, enrollment), row)| DeliveryKey {
            account: *account,
            due_at: *due_at,
            enrollment: *enrollment,
            generation: row.generation,
        });
        let mut keys: Vec<_> = keys.collect();
        if !keys.is_empty() {
            let from = self.dice.below(keys.len());
            keys.rotate_left(from);
        }
        keys.truncate(3);
        if !sending && self.dice.one_in(4) {
            // One of a generation that has passed, or was never there.
            let stale = keys.first().copied();
            keys.extend(stale.map(|key| DeliveryKey {
                generation: key.generation + 1,
                ..key
            }));
        }
        keys
    }

    fn confirm(&self, enrollment: EnrollmentId) -> Wish {
        let row = self.rows.enrollments.get(&enrollment);
        let (account, due_at, generation) = row.map_or_else(Default::default, |(account, one)| {
            (*account, one.wake_at, one.generation)
        });
        Wish::Confirm(DeliveryKey {
            account,
            due_at,
            enrollment,
            generation,
        })
    }

    fn ended(&mut self) -> Ended {
        let classes = [
            AnswerClass::Accepted,
            AnswerClass::Accepted,
            AnswerClass::Accepted,
            AnswerClass::Unknown,
            AnswerClass::RetrySoon,
            AnswerClass::GrantClosed,
            AnswerClass::NextMinute,
            AnswerClass::Dropped,
            AnswerClass::Unsubscribed,
            AnswerClass::NotBefore(self.now.plus(Duration::from_secs(3))),
            AnswerClass::NotCarried,
            AnswerClass::Muted,
        ];
        let class = self.dice.pick(&classes).copied();
        let detail = format!("about openid-{}", self.dice.below(4));
        let mut answer = Answer::without_code(class.unwrap_or(AnswerClass::Accepted), detail);
        answer.code = self.dice.one_in(2).then_some(45_015);
        answer.reference = self.dice.one_in(2).then(|| self.digests.to_string());
        Ended::from(answer)
    }

    fn act(&mut self) -> Act {
        match self.dice.below(6) {
            0..=1 => Act::Enroll {
                sequence: "welcome".into(),
            },
            2 => Act::Cancel { sequence: None },
            3..=4 => Act::Tag {
                tag: format!("标签 \"{}\"", self.dice.below(3)),
                present: self.dice.one_in(2),
            },
            _ => Act::Erase,
        }
    }

    fn found(&mut self, account: AccountId, openid: String) -> Wish {
        let at = self.now.minus(Duration::from_secs(60));
        let standing = match self.dice.one_in(3) {
            true => Listed::Gone { at },
            false => Listed::Follows {
                since: at,
                scene: Some("qr".into()),
                language: None,
                tags: Some(vec!["vip".into()]),
                enrolls: true,
            },
        };
        let found = vec![Found { openid, standing }];
        Wish::Reconcile { account, found }
    }
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, page: &[T], model: &[T]) -> Result<(), String> {
    match page == model {
        true => Ok(()),
        false => Err(format!(
            "{what}: the database reads {page:?}, the model {model:?}"
        )),
    }
}

/// What a commit answered, without what differs from run to run.
fn said(answers: Vec<Answered>, mut armed: Armed) -> Said {
    armed.timers.sort_unstable();
    armed
        .due
        .sort_by_key(|key| (key.account, key.due_at, key.enrollment));
    let answers = answers.into_iter().map(|answer| match answer {
        Answered::Intended(all) => {
            let all = all.into_iter().map(|one| match one {
                Intended::NotSent => "not sent".to_owned(),
                Intended::Send(send) => {
                    let (key, fare) = (send.key, send.fare);
                    format!("{key:?} {} {} {fare:?}", send.openid, send.attempt)
                }
            });
            all.collect::<Vec<_>>().join(", ")
        }
        Answered::Taken(taken) => {
            let passive = taken.passive.is_some();
            format!("{} {} {passive}", taken.fresh, taken.enrolled)
        }
        other => format!("{other:?}"),
    });
    Said {
        answers: answers.collect(),
        armed,
    }
}
