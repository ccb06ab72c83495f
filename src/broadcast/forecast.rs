//! A dry run: who would get a broadcast if its turn came now, by which carrier, and who could not and
//! why. Nothing is written; policy is asked as it is for real.

use std::collections::BTreeMap;

use crate::broadcast::audience::Audience;
use crate::broadcast::freeze;
use crate::clock::Timestamp;
use crate::journey::carrier::Carrier;
use crate::journey::catalog::{Catalog, Version};
use crate::journey::follower::Follower;
use crate::journey::ids::{AccountId, FollowerId};
use crate::journey::receive::Effects;
use crate::policy::account::Account;
use crate::policy::{self, Case, Verdict};
use crate::store::broadcasts::{self, Broadcast};
use crate::store::prospects::{self, Prospect};
use crate::store::recipients::{self, CHUNK};
use crate::store::{Error, Store};

/// Followers that one part of a dry run looks at, in pages.
const PAGES: usize = 10;

/// An account and an openid: how far a dry run has come.
pub type Place = (AccountId, String);

/// What a dry run found among some followers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forecast {
    /// Followers who were looked at.
    pub looked_at: usize,
    /// How many would get it, by carrier.
    pub carriers: BTreeMap<Carrier, usize>,
    /// The same, by language; empty for one that is not known.
    pub languages: BTreeMap<String, usize>,
    /// Why others of the audience would not get it, or not now: how many, and one of them.
    pub others: BTreeMap<String, (usize, String)>,
    /// Where the next part goes on; `None` after the last.
    pub next: Option<Place>,
}

/// Looks at the next followers of a broadcast's accounts.
pub async fn forecast(
    store: &Store,
    broadcast: &Broadcast,
    after: Option<Place>,
    now: Timestamp,
) -> Result<Forecast, Error> {
    let broadcast = Broadcast {
        started_at: now,
        ..broadcast.clone()
    };
    let audience = Audience::read(&broadcast.audience).unwrap_or_default();
    let mut found = Forecast::default();
    let mut pages = 0;
    let (from, mut openid) = after.unwrap_or_default();
    for part in broadcasts::parts(store.read(), broadcast.id).await? {
        if part.account < from {
            continue;
        }
        if part.account > from {
            openid.clear();
        }
        loop {
            if pages >= PAGES {
                found.next = Some((part.account, openid));
                return Ok(found);
            }
            pages += 1;
            let read = store.read();
            let page = recipients::followers_after(read, part.account, &openid, CHUNK).await?;
            let over = page.len() < CHUNK;
            if let Some(last) = page.last() {
                openid.clone_from(&last.openid);
            }
            found.looked_at += page.len();
            look(store, &broadcast, &audience, page, &mut found).await?;
            if over {
                break;
            }
        }
    }
    Ok(found)
}

async fn look(
    store: &Store,
    broadcast: &Broadcast,
    audience: &Audience,
    page: Vec<Follower>,
    found: &mut Forecast,
) -> Result<(), Error> {
    let Some(account) = page.first().map(|one| one.account) else {
        return Ok(());
    };
    let chosen = match audience.listed {
        true => {
            let ids: Vec<FollowerId> = page.iter().map(|one| one.id).collect();
            let named = prospects::named(store.read(), broadcast.id, account, &ids).await?;
            named.into_iter().collect()
        }
        false => freeze::choose(store, broadcast, audience, &page).await?,
    };
    let page = page.into_iter().filter(|one| chosen.contains(&one.id));
    let catalog = store.knowledge().catalog();
    let account = store.knowledge().account(account);
    let (Some(account), Some(version)) = (account, catalog.version(broadcast.version)) else {
        for one in page {
            found.add_other("the account is not configured any more", &one.openid);
        }
        return Ok(());
    };
    for prospect in prospects::of(store.read(), page.collect()).await? {
        found.add(prospect, &account, &catalog, version, broadcast.started_at);
    }
    Ok(())
}

impl Forecast {
    /// Judges what would become of one follower's message.
    fn add(
        &mut self,
        mut prospect: Prospect,
        account: &Account,
        catalog: &Catalog,
        version: &std::sync::Arc<Version>,
        now: Timestamp,
    ) {
        let follower = prospect.passages.follower.clone();
        let mut effects = Effects::default();
        let admitted = prospect.passages.admit(version, now, now, &mut effects);
        let step = version.sequence.steps.first();
        let (Some(_), Some(step)) = (admitted, step) else {
            return self.add_other("has had too many broadcasts", &follower.openid);
        };
        let case = Case {
            account,
            index: prospect.passages.enrollments.len() - 1,
            passages: &prospect.passages,
            grants: &prospect.grants,
            consents: &prospect.consents,
            clicks: &[],
            catalog,
            version,
            step,
            passive: false,
        };
        match policy::judge(&case, now) {
            Verdict::Send(fare) => {
                *self.carriers.entry(fare.carrier).or_default() += 1;
                let language = follower.language.unwrap_or_default();
                *self.languages.entry(language).or_default() += 1;
            }
            Verdict::Wait(_, why) => self.add_other(&format!("waits: {why}"), &follower.openid),
            Verdict::Hold(_, why) => self.add_other(&format!("held: {why}"), &follower.openid),
            Verdict::Drop(outcome, why) => {
                let why = format!("{}: {why}", outcome.word());
                self.add_other(&why, &follower.openid);
            }
            Verdict::Cancel => self.add_other("does not follow", &follower.openid),
        }
    }

    fn add_other(&mut self, why: &str, openid: &str) {
        let others = self.others.entry(why.to_owned());
        others.or_insert_with(|| (0, openid.to_owned())).0 += 1;
    }
}
