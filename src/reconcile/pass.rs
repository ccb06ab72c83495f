//! One account's sync, step by step: each step asks the platform, takes in what it says, and writes
//! down how far it has come.

use std::collections::HashMap;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, Timestamp};
use crate::reconcile::{ReconcileSettings, schedule};
use crate::sender::platform::{Answer, AnswerClass};
use crate::sender::wechat::{FACTS_MAX, Person, WechatClient};
use crate::store::reconcile::{Found, Listed};
use crate::store::syncs::{self, Phase, State, Sync};
use crate::store::{Error, Store};

/// Openids that are marked in one commit: others wait for it a few milliseconds at most.
const MARKED_AT_ONCE: usize = 2_000;

/// Calls that may fail in a row before a person has to look: about a day of them.
const FAILURES_MAX: u32 = 150;

/// What keeps a step from being made.
#[derive(Debug)]
pub(super) enum Trouble {
    Platform(Answer),
    Store(Error),
}

impl From<Answer> for Trouble {
    fn from(answer: Answer) -> Self {
        Self::Platform(answer)
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

/// A sync under way.
#[derive(Debug)]
pub(super) struct Pass {
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    client: Arc<WechatClient>,
    settings: Arc<ReconcileSettings>,
    sync: Sync,
    /// Names of tags by their numbers; `None` before they were asked for.
    tags: Option<HashMap<i64, String>>,
    /// The account may not ask for tags at all.
    tagless: bool,
}

impl Pass {
    pub(super) fn new(
        store: Arc<Store>,
        clock: Arc<dyn Clock>,
        client: Arc<WechatClient>,
        settings: Arc<ReconcileSettings>,
        sync: Sync,
    ) -> Self {
        Self {
            store,
            clock,
            client,
            settings,
            sync,
            tags: None,
            tagless: false,
        }
    }

    /// Goes on until the sync ends, has to wait, or is stopped; answers whose it was.
    pub(super) async fn run(mut self, stop: CancellationToken) -> crate::journey::ids::AccountId {
        let account = self.sync.account;
        loop {
            // Whose the account is by now goes on from the row.
            if !self.store.leases().hold(account) {
                return account;
            }
            let stepped = tokio::select! {
                () = stop.cancelled() => return account,
                stepped = self.step() => stepped,
            };
            let goes_on = match stepped {
                Ok(goes_on) => goes_on,
                Err(Trouble::Platform(answer)) => self.take_refusal(&answer).await,
                Err(Trouble::Store(error)) => {
                    tracing::error!(%error, account.id = account.0, "sync cannot go on");
                    tokio::time::sleep(super::STORE_REST).await;
                    false
                }
            };
            if !goes_on || self.sync.state != State::Running || self.sync.resume_at.0 > 0 {
                return account;
            }
            let pause = match self.sync.phase {
                Phase::Refreshing => self.settings.refresh_pause,
                Phase::Listing | Phase::Sweeping => self.settings.page_pause,
            };
            tokio::select! {
                () = stop.cancelled() => return account,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Makes one step; false when the sync is not ours to go on with any more.
    async fn step(&mut self) -> Result<bool, Trouble> {
        self.sync.resume_at = Timestamp::default();
        match self.sync.phase {
            Phase::Listing => self.list().await,
            Phase::Sweeping | Phase::Refreshing => self.ask_for_some().await,
        }
    }

    /// Reads one page of the list and takes in whom we missed.
    async fn list(&mut self) -> Result<bool, Trouble> {
        let page = self.client.list(&self.sync.next_openid).await?;
        self.sync.total = page.total;
        let account = self.sync.account;
        let news = syncs::news(self.store.read(), account, &page.openids).await?;
        for some in news.chunks(FACTS_MAX) {
            let people = self.client.people(some).await?;
            self.take_in(people).await?;
            if !self.write_down().await? {
                return Ok(false);
            }
        }
        for some in page.openids.chunks(MARKED_AT_ONCE) {
            syncs::mark(&self.store, &self.sync, some.to_vec()).await?;
        }
        let listed = u32::try_from(page.openids.len()).unwrap_or(u32::MAX);
        self.sync.listed = self.sync.listed.saturating_add(listed);
        // A page that leads to itself would never end.
        let last = page.openids.is_empty() || page.next.is_empty();
        if last || page.next == self.sync.next_openid {
            self.enter(Phase::Sweeping);
        } else {
            self.sync.next_openid = page.next;
        }
        self.write_down().await.map_err(Trouble::from)
    }

    /// Asks for the next followers of the phase, and takes in what is said of them.
    async fn ask_for_some(&mut self) -> Result<bool, Trouble> {
        let limit = u32::try_from(FACTS_MAX).unwrap_or(u32::MAX);
        // Nothing is asked of the platform where nobody is found: then no rest is due either.
        let stretch = loop {
            let stretch = syncs::stretch(self.store.read(), &self.sync, limit).await?;
            match stretch.next {
                Some(next) if stretch.followers.is_empty() => self.sync.after_id = next,
                _ => break stretch,
            }
        };
        if !stretch.followers.is_empty() {
            let openids: Vec<_> = stretch.followers.into_iter().map(|(_, one)| one).collect();
            let people = self.client.people(&openids).await?;
            if self.sync.phase == Phase::Refreshing {
                let asked = u32::try_from(openids.len()).unwrap_or(u32::MAX);
                self.sync.refreshed = self.sync.refreshed.saturating_add(asked);
            }
            self.take_in(people).await?;
        }
        match (stretch.next, self.sync.phase) {
            (Some(next), _) => self.sync.after_id = next,
            (None, Phase::Sweeping) if self.sync.refresh => self.enter(Phase::Refreshing),
            (None, _) => self.end(State::Completed, String::new()),
        }
        self.write_down().await.map_err(Trouble::from)
    }

    fn enter(&mut self, phase: Phase) {
        self.sync.phase = phase;
        self.sync.next_openid.clear();
        self.sync.after_id = 0;
    }

    fn end(&mut self, state: State, detail: String) {
        let sync = &mut self.sync;
        sync.state = state;
        sync.detail = detail;
        sync.next_openid.clear();
        sync.ended_at = self.clock.now();
        let account = self.store.knowledge().account(sync.account);
        let account = account.map_or_else(String::new, |account| account.journey.key.clone());
        let (found, gone, enrolled) = (sync.found, sync.gone, sync.enrolled);
        match state {
            State::Failed => {
                tracing::error!(account, reason = sync.detail, "followers not compared");
            }
            _ => tracing::info!(account, found, gone, enrolled, "followers compared"),
        }
        metrics::counter!("dripwheel_syncs_total", "state" => state.word()).increment(1);
    }

    /// Takes in what the platform says of people.
    async fn take_in(&mut self, people: Vec<Person>) -> Result<(), Trouble> {
        self.learn_tags(&people).await?;
        // An act of the second in which the sync began may be newer than what the list says.
        let began_at = Timestamp::from_seconds(self.sync.started_at.seconds() - 1);
        let found = people
            .into_iter()
            .map(|person| Found {
                openid: person.openid,
                standing: match person.facts {
                    None => Listed::Gone { at: began_at },
                    Some(facts) => Listed::Follows {
                        since: facts.since,
                        scene: facts.scene,
                        language: facts.language,
                        tags: self.named(&facts.tags),
                        enrolls: facts.since >= self.sync.known_since,
                    },
                },
            })
            .collect();
        let writer = self.store.writer();
        let reconciled = writer.reconcile(self.sync.account, found).await?;
        let sync = &mut self.sync;
        sync.found = sync.found.saturating_add(reconciled.found);
        sync.gone = sync.gone.saturating_add(reconciled.gone);
        sync.enrolled = sync.enrolled.saturating_add(reconciled.enrolled);
        Ok(())
    }

    /// Sees to it that the tags of these people have names.
    async fn learn_tags(&mut self, people: &[Person]) -> Result<(), Trouble> {
        let facts = people.iter().filter_map(|person| person.facts.as_ref());
        let mut numbers = facts.flat_map(|facts| &facts.tags);
        let unknown = match &self.tags {
            None => numbers.next().is_some(),
            Some(known) => numbers.any(|number| !known.contains_key(number)),
        };
        if self.tagless || !unknown {
            return Ok(());
        }
        match self.client.tags().await {
            Ok(tags) => {
                let mut known: HashMap<_, _> = tags.into_iter().collect();
                // A number without a name is asked for once, and then has none.
                let facts = people.iter().filter_map(|person| person.facts.as_ref());
                for number in facts.flat_map(|facts| &facts.tags) {
                    known.entry(*number).or_default();
                }
                self.tags = Some(known);
            }
            // Followers can be compared without.
            Err(answer) if answer.class == AnswerClass::NeedsAttention => {
                tracing::warn!(reason = answer.detail, "tags of followers stay as they are");
                self.tagless = true;
            }
            Err(answer) => return Err(answer.into()),
        }
        Ok(())
    }

    /// The names of tags; `None` when there is no telling.
    fn named(&self, numbers: &[i64]) -> Option<Vec<String>> {
        if self.tagless {
            return None;
        }
        let name = |number| self.tags.as_ref()?.get(number).cloned();
        let names = numbers.iter().filter_map(name);
        Some(names.filter(|name| !name.is_empty()).collect())
    }

    /// Keeps the row up to date; false when the sync was ended or begun anew by somebody else.
    async fn write_down(&mut self) -> Result<bool, Error> {
        let known_at = std::mem::replace(&mut self.sync.changed_at, self.clock.now());
        if self.sync.resume_at.0 == 0 {
            self.sync.failures = 0;
            if self.sync.state == State::Running {
                self.sync.detail.clear();
            }
        }
        let now = syncs::advance(&self.store, &self.sync, known_at).await?;
        let ours = now.as_ref().is_some_and(|now| {
            let same = now.number == self.sync.number && now.state == State::Running;
            same && now.changed_at == self.sync.changed_at
        });
        if let Some(now) = now.filter(|_| ours) {
            // What others may have written meanwhile: a wish for a refresh, a cursor that named
            // somebody who was forgotten.
            self.sync.refresh |= now.refresh;
            self.sync.next_openid = now.next_openid;
        }
        Ok(ours)
    }

    /// What a refusal means for the sync; whatever it is, sending goes on.
    async fn take_refusal(&mut self, answer: &Answer) -> bool {
        let now = self.clock.now();
        // A call that was never made has not failed.
        if !matches!(answer.class, AnswerClass::NotBefore(_)) {
            self.sync.failures = self.sync.failures.saturating_add(1);
        }
        let account = self.store.knowledge().account(self.sync.account);
        let reset = account.map_or_else(Default::default, |known| known.quota_reset.clone());
        let resume_at = match answer.class {
            AnswerClass::NotBefore(at) => Some(at),
            AnswerClass::NextMinute => Some(schedule::next_minute(now)),
            AnswerClass::NextDay => Some(schedule::next_day(now, &reset)),
            AnswerClass::RetrySoon | AnswerClass::Unknown | AnswerClass::TokenStale
                if self.sync.failures <= FAILURES_MAX =>
            {
                Some(now.plus(schedule::rest(self.sync.failures)))
            }
            _ => None,
        };
        match resume_at {
            Some(resume_at) => {
                self.sync.resume_at = resume_at;
                self.sync.detail.clone_from(&answer.detail);
                tracing::warn!(
                    account.id = self.sync.account.0,
                    reason = answer.detail,
                    until = %resume_at,
                    "sync waits"
                );
            }
            None => self.end(State::Failed, answer.detail.clone()),
        }
        if let Err(error) = self.write_down().await {
            tracing::error!(%error, "sync's state not written");
        }
        false
    }
}
