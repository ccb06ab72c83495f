//! The followers that a commit is about, loaded with everything of theirs in a few statements.

use std::collections::{HashMap, HashSet};

use crate::clock::Timestamp;
use crate::journey::catalog::Catalog;
use crate::journey::enrollment::Enrollment;
use crate::journey::event::Arrival;
use crate::journey::follower::Follower;
use crate::journey::ids::{AccountId, EnrollmentId, FollowerId};
use crate::journey::link::Click;
use crate::journey::receive::Passages;
use crate::policy::account::Account;
use crate::policy::consent::Consents;
use crate::policy::fare::Fare;
use crate::policy::grant::Grants;
use crate::policy::recall::recall;
use crate::store::Error;
use crate::store::erasure::Pseudonyms;
use crate::store::replies::Reply;
use crate::store::tables::{Belongings, Tables, Wanted};
use crate::store::work::Work;

/// One follower as loaded and as changed.
#[derive(Debug)]
pub(super) struct Person {
    pub(super) passages: Passages,
    pub(super) grants: Grants,
    pub(super) consents: Consents,
    /// What they clicked, if a sequence asks for it or they click now.
    pub(super) clicks: Vec<Click>,
    /// How the messages that are being sent travel.
    pub(super) fares: HashMap<EnrollmentId, Fare>,
    /// Passive replies on their way.
    pub(super) replies: Vec<Reply>,
    /// What the rows say; `None` for somebody new.
    pub(super) before: Option<Before>,
}

/// A follower as the rows have it.
#[derive(Debug)]
pub(super) struct Before {
    pub(super) follower: Follower,
    pub(super) enrollments: Vec<Enrollment>,
    pub(super) grants: Grants,
    pub(super) consents: Consents,
    pub(super) clicks: Vec<Click>,
    pub(super) replies: Vec<Reply>,
}

impl Person {
    /// Moves the wakes of this person's steps to where their grants allow them to be.
    pub(super) fn recall(&mut self, account: &Account, catalog: &Catalog, now: Timestamp) {
        recall(&mut self.passages, &self.grants, account, catalog, now);
    }

    /// Whether a passive reply was given a second time, since its event came again.
    pub(super) fn is_given_again(&self, enrollment: EnrollmentId) -> bool {
        let called_at = self.passages.enrollments.iter();
        let called_at = called_at
            .filter(|one| one.id == enrollment)
            .map(|one| one.called_at)
            .next();
        let mut replies = self.replies.iter();
        replies.any(|reply| {
            let again = reply.answers > 1 || called_at.is_some_and(|at| reply.answered_at > at);
            reply.enrollment == enrollment && again
        })
    }

    fn new(passages: Passages) -> Self {
        Self {
            passages,
            grants: Grants::default(),
            consents: Consents::default(),
            clicks: Vec::new(),
            fares: HashMap::new(),
            replies: Vec::new(),
            before: None,
        }
    }
}

/// The followers of a commit.
#[derive(Debug, Default)]
pub(super) struct People {
    pub(super) by_id: HashMap<FollowerId, Person>,
    ids: HashMap<(AccountId, String), FollowerId>,
}

impl People {
    /// Loads everybody whom `works` are about.
    pub(super) async fn load(
        tables: &impl Tables,
        works: &[Work],
        pseudonyms: &Pseudonyms,
        wanted: Wanted,
    ) -> Result<Self, Error> {
        let (names, mut ids) = concerned(works);
        let mut people = Self::default();
        let mut found = Vec::new();
        if !names.is_empty() {
            let names: Vec<_> = names.into_iter().collect();
            for (follower, asked) in tables.followers_named(pseudonyms, &names).await? {
                people.ids.insert((follower.account, asked), follower.id);
                found.push(follower);
            }
        }
        if tables.has_other_writers() {
            // Locked all at once in the order of ids, and read as nobody changes them any more.
            ids.extend(found.drain(..).map(|follower| follower.id));
        }
        let ids: Vec<_> = ids.into_iter().collect();
        found.extend(tables.followers(&ids).await?);
        for follower in found {
            let id = follower.id;
            let person = Person::new(Passages {
                follower,
                enrollments: Vec::new(),
            });
            people.by_id.insert(id, person);
        }
        people.load_passages(tables, wanted).await?;
        Ok(people)
    }

    async fn load_passages(&mut self, tables: &impl Tables, wanted: Wanted) -> Result<(), Error> {
        if self.by_id.is_empty() {
            return Ok(());
        }
        let ids: Vec<_> = self.by_id.keys().copied().collect();
        let Belongings {
            enrollments,
            replies,
            consents,
            clicks,
            grants,
        } = tables.belongings(&ids, wanted).await?;
        for (enrollment, fare) in enrollments {
            if let Some(person) = self.by_id.get_mut(&enrollment.id.follower()) {
                if let Some(fare) = fare {
                    person.fares.insert(enrollment.id, fare);
                }
                person.passages.enrollments.push(enrollment);
            }
        }
        for reply in replies {
            if let Some(person) = self.by_id.get_mut(&reply.enrollment.follower()) {
                person.replies.push(reply);
            }
        }
        for (follower, consent) in consents {
            if let Some(person) = self.by_id.get_mut(&follower) {
                person.consents.0.push(consent);
            }
        }
        for click in clicks {
            if let Some(person) = self.by_id.get_mut(&click.enrollment.follower()) {
                person.clicks.push(click);
            }
        }
        for (follower, grant) in grants {
            if let Some(person) = self.by_id.get_mut(&follower) {
                person.grants.0.push(grant);
            }
        }
        for person in self.by_id.values_mut() {
            person.passages.enrollments.sort_by_key(|one| one.id);
            person.before = Some(Before {
                follower: person.passages.follower.clone(),
                enrollments: person.passages.enrollments.clone(),
                grants: person.grants.clone(),
                consents: person.consents.clone(),
                clicks: person.clicks.clone(),
                replies: person.replies.clone(),
            });
        }
        Ok(())
    }

    /// The id of a follower known by name.
    pub(super) fn id_of(&self, account: AccountId, openid: &str) -> Option<FollowerId> {
        self.ids.get(&(account, openid.to_owned())).copied()
    }

    /// Makes somebody known whose first event this is.
    pub(super) fn add(&mut self, id: FollowerId, account: AccountId, arrival: &Arrival) {
        let person = Person::new(Passages {
            follower: Follower::new(id, account, arrival),
            enrollments: Vec::new(),
        });
        self.by_id.insert(id, person);
        self.ids.insert((account, arrival.openid.clone()), id);
    }
}

type Names<'a> = HashSet<(AccountId, &'a str)>;

fn concerned(works: &[Work]) -> (Names<'_>, HashSet<FollowerId>) {
    let (mut names, mut ids) = (HashSet::new(), HashSet::new());
    for work in works {
        match work {
            Work::Receive {
                account, arrival, ..
            } => {
                if !arrival.openid.is_empty() {
                    names.insert((*account, arrival.openid.as_str()));
                }
            }
            Work::Act {
                account, openid, ..
            } => {
                names.insert((*account, openid.as_str()));
            }
            Work::Reconcile { account, found, .. } => {
                names.extend(found.iter().map(|one| (*account, one.openid.as_str())));
            }
            Work::Admit { followers, .. } => ids.extend(followers),
            Work::Settle { key, .. } | Work::Confirm { key, .. } => {
                ids.insert(key.enrollment.follower());
            }
            Work::Intend { keys, .. } => {
                ids.extend(keys.iter().map(|key| key.enrollment.follower()));
            }
            Work::Click { clicked, .. } => {
                ids.insert(clicked.enrollment.follower());
            }
            Work::Promote { .. } => {}
        }
    }
    (names, ids)
}
