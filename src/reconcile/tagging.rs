//! Tags that were changed here are brought to the platform: many followers a call, and again until
//! it takes them.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, Timestamp};
use crate::journey::ids::AccountId;
use crate::reconcile::{OTHERS_ASK, STORE_REST, schedule, turn_at};
use crate::sender::platform::{Answer, AnswerClass};
use crate::sender::wechat::{Clients, Person, TAGGED_MAX, WechatClient};
use crate::store::reconcile::{Found, Listed};
use crate::store::tags::{self, Due};
use crate::store::{Error, Store};

/// The platform's code for a tag that is gone.
const NO_SUCH_TAG: i64 = 45159;

/// What brings tags to the platform.
#[derive(Debug)]
pub(super) struct Tagging {
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    clients: Arc<Clients>,
    /// Numbers of tags by name, as last asked for.
    numbers: HashMap<AccountId, HashMap<String, i64>>,
}

impl Tagging {
    pub(super) fn new(store: Arc<Store>, clock: Arc<dyn Clock>, clients: Arc<Clients>) -> Self {
        Self {
            store,
            clock,
            clients,
            numbers: HashMap::new(),
        }
    }

    /// Brings tags to the platform until `stop`, whenever `asked` or a change's time has come.
    pub(super) async fn run(mut self, asked: Arc<Notify>, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let next_at = match self.turn(&stop).await {
                Ok(next_at) => next_at,
                Err(error) => {
                    tracing::error!(%error, "tags wait");
                    tokio::select! {
                        () = stop.cancelled() => break,
                        () = tokio::time::sleep(STORE_REST) => continue,
                    }
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = asked.notified() => {}
                () = until(&*self.clock, next_at) => {}
            }
        }
    }

    /// Brings what is due to the platform; says when something is due next.
    async fn turn(&mut self, stop: &CancellationToken) -> Result<Option<Timestamp>, Error> {
        let ours = self.ours();
        self.bring_due(&ours, stop).await?;
        let next_at = tags::next_at(self.store.read(), &ours).await?;
        if !self.store.leases().are_shared() {
            return Ok(next_at);
        }
        // Another node is told of changes that are ours to bring.
        let look_at = self.clock.now().plus(OTHERS_ASK);
        Ok(Some(next_at.map_or(look_at, |at| at.min(look_at))))
    }

    /// The accounts that are ours to see to.
    fn ours(&self) -> Vec<AccountId> {
        let accounts = self.store.knowledge().accounts();
        let held = accounts.keys().copied();
        held.filter(|id| self.store.leases().hold(*id)).collect()
    }

    async fn bring_due(
        &mut self,
        ours: &[AccountId],
        stop: &CancellationToken,
    ) -> Result<(), Error> {
        let due = tags::due(self.store.read(), ours, self.clock.now()).await?;
        let alike = |one: &Due, other: &Due| {
            let key = |due: &Due| (due.account, due.present, due.alone);
            key(one) == key(other) && one.tag == other.tag && !one.alone
        };
        let mut resting = None;
        for group in due.chunk_by(alike) {
            for some in group.chunks(TAGGED_MAX) {
                let account = some.first().map(|first| first.account);
                if account == resting {
                    continue;
                }
                // Telling the platform twice harms nobody.
                let goes_on = tokio::select! {
                    () = stop.cancelled() => return Ok(()),
                    brought = self.bring(some) => brought?,
                };
                if !goes_on {
                    resting = account;
                }
            }
        }
        Ok(())
    }

    /// Tells the platform of some changes; false when the account's others have to wait as well.
    async fn bring(&mut self, some: &[Due]) -> Result<bool, Error> {
        let Some(first) = some.first() else {
            return Ok(true);
        };
        let client = self.clients.client(first.account);
        let Some(client) = client else {
            let later = self.clock.now().plus(schedule::rest(u32::MAX));
            tags::put_off_all(&self.store, first.account, later).await?;
            return Ok(false);
        };
        match self.tell(&client, some).await {
            Ok(()) => {
                metrics::counter!("dripwheel_tags_told_total")
                    .increment(u64::try_from(some.len()).unwrap_or(0));
                tags::done(&self.store, some).await?;
                Ok(true)
            }
            Err(answer) => self.take_refusal(&client, some, &answer).await,
        }
    }

    async fn tell(&mut self, client: &WechatClient, some: &[Due]) -> Result<(), Answer> {
        let Some(first) = some.first() else {
            return Ok(());
        };
        let Some(number) = self.number(client, first).await? else {
            // A tag that is not there is on nobody.
            return Ok(());
        };
        let openids: Vec<_> = some.iter().map(|one| one.openid.as_str()).collect();
        client.tag(number, &openids, first.present).await
    }

    /// The number of a tag, which is made if it has to be put on somebody and there is none.
    async fn number(&mut self, client: &WechatClient, due: &Due) -> Result<Option<i64>, Answer> {
        let known = self.numbers.entry(due.account).or_default();
        if let Some(number) = known.get(&due.tag) {
            return Ok(Some(*number));
        }
        let tags = client.tags().await?;
        known.extend(tags.into_iter().map(|(number, name)| (name, number)));
        if let Some(number) = known.get(&due.tag) {
            return Ok(Some(*number));
        }
        if !due.present {
            return Ok(None);
        }
        let number = client.create_tag(&due.tag).await?;
        known.insert(due.tag.clone(), number);
        Ok(Some(number))
    }

    /// What a refusal means for these changes; false when it means the same for all of the
    /// account's.
    async fn take_refusal(
        &mut self,
        client: &WechatClient,
        some: &[Due],
        answer: &Answer,
    ) -> Result<bool, Error> {
        let Some(first) = some.first() else {
            return Ok(true);
        };
        let now = self.clock.now();
        let code = answer.code.unwrap_or_default();
        if let Some(later) = account_rests(answer.class, now) {
            let reason = &answer.detail;
            tracing::warn!(account.id = first.account.0, reason, until = %later, "tags wait");
            tags::put_off_all(&self.store, first.account, later).await?;
            return Ok(false);
        }
        if answer.code == Some(NO_SUCH_TAG) {
            self.numbers.remove(&first.account);
        }
        let attempts = some.iter().map(|one| one.attempts).max().unwrap_or(0);
        let rest = schedule::rest(u32::from(attempts) + 1);
        let retried = answer.code == Some(NO_SUCH_TAG) && attempts < 3;
        let put_off = match answer.class {
            AnswerClass::RetrySoon | AnswerClass::Unknown | AnswerClass::TokenStale => {
                Some((now.plus(rest), false))
            }
            _ if retried => Some((now.plus(rest), false)),
            // One of several is at fault: each is tried alone, so that it spoils no other again.
            _ if some.len() > 1 => Some((now, true)),
            _ => None,
        };
        if let Some((later, alone)) = put_off {
            tracing::warn!(account.id = first.account.0, code, until = %later, "tags wait");
            tags::put_off(&self.store, some, later, alone).await?;
            return Ok(true);
        }
        tracing::warn!(
            account.id = first.account.0,
            follower.id = first.follower.0,
            code,
            reason = crate::sender::wechat::errcode::words(code),
            "the platform does not take a tag: it is dropped"
        );
        metrics::counter!("dripwheel_tags_refused_total").increment(1);
        tags::done(&self.store, some).await?;
        self.ask_for_truth(client, first).await?;
        Ok(true)
    }

    /// What the platform says of a follower takes the place of a change that it refused.
    async fn ask_for_truth(&mut self, client: &WechatClient, due: &Due) -> Result<(), Error> {
        let asked = client.people(std::slice::from_ref(&due.openid)).await;
        let Ok(people) = asked else { return Ok(()) };
        let known = self.numbers.entry(due.account).or_default();
        let named = |numbers: &[i64]| -> Vec<String> {
            let pairs = known.iter().filter(|(_, number)| numbers.contains(number));
            pairs.map(|(name, _)| name.clone()).collect()
        };
        let found = |person: Person| {
            let facts = person.facts?;
            let standing = Listed::Follows {
                since: facts.since,
                scene: facts.scene,
                language: facts.language,
                tags: Some(named(&facts.tags)),
                enrolls: false,
            };
            let openid = person.openid;
            Some(Found { openid, standing })
        };
        let found = people.into_iter().filter_map(found).collect();
        let writer = self.store.writer();
        writer.reconcile(due.account, found).await.map(drop)
    }
}

/// Until when no change of the account can be told, if the refusal concerns the account.
fn account_rests(class: AnswerClass, now: Timestamp) -> Option<Timestamp> {
    match class {
        AnswerClass::NotBefore(at) => Some(at),
        AnswerClass::NextMinute => Some(schedule::next_minute(now)),
        // A person may mend it, or have the quota cleared, at any time.
        AnswerClass::NextDay | AnswerClass::NeedsAttention => {
            Some(now.plus(schedule::rest(u32::MAX)))
        }
        _ => None,
    }
}

async fn until(clock: &dyn Clock, at: Option<Timestamp>) {
    match at {
        Some(at) => turn_at(clock, at).await,
        None => std::future::pending().await,
    }
}
