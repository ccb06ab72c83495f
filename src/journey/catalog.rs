//! The catalog: every published version that followers are inside of or may enter.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::tz::TimeZone;

use crate::journey::account::Account;
use crate::journey::carrier::Carrier;
use crate::journey::ids::VersionId;
use crate::journey::sequence::Sequence;

/// One immutable version of a sequence.
#[derive(Debug)]
pub struct Version {
    pub id: VersionId,
    pub sequence: Sequence,
    /// The zone the sequence names; `None` leaves it to the account.
    pub zone: Option<TimeZone>,
}

impl Version {
    /// The zone of its times of day on an account.
    pub fn zone<'a>(&'a self, account: &'a Account) -> &'a TimeZone {
        self.zone.as_ref().unwrap_or(&account.zone)
    }

    /// Whether the sequence runs on an account.
    pub fn runs_on(&self, account: &Account) -> bool {
        let accounts = &self.sequence.accounts;
        accounts.is_empty() || accounts.contains(&account.key)
    }
}

/// All versions by id, and which of them new enrollments get.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    versions: HashMap<VersionId, Arc<Version>>,
    live: Vec<VersionId>,
    uses_consents: bool,
    uses_clicks: bool,
}

impl Catalog {
    /// Adds a version; a live one takes the place of the same sequence's earlier live one.
    pub fn add(&mut self, version: Arc<Version>, live: bool) {
        if live {
            self.retire(&version.sequence.name);
            self.live.push(version.id);
        }
        let mut steps = version.sequence.steps.iter();
        self.uses_consents |= steps.any(|step| {
            let mut carriers = step.closed.carriers.iter();
            carriers.any(|one| one.carrier() == Carrier::SubscriptionNotice)
        });
        self.uses_clicks |= version.sequence.asks_for_clicks();
        self.versions.insert(version.id, version);
    }

    /// Lets nobody new into a sequence. Followers inside stay on their version.
    pub fn retire(&mut self, sequence: &str) {
        let versions = &self.versions;
        self.live.retain(|id| {
            versions
                .get(id)
                .is_none_or(|version| version.sequence.name != sequence)
        });
    }

    pub fn version(&self, id: VersionId) -> Option<&Arc<Version>> {
        self.versions.get(&id)
    }

    /// The versions that new enrollments get, in the order of publication.
    pub fn live(&self) -> impl Iterator<Item = &Arc<Version>> {
        self.live.iter().filter_map(|id| self.versions.get(id))
    }

    /// Whether any version may send subscription notices.
    pub fn uses_consents(&self) -> bool {
        self.uses_consents
    }

    /// Whether any version asks what followers clicked.
    pub fn uses_clicks(&self) -> bool {
        self.uses_clicks
    }

    /// The live version of a sequence by name.
    pub fn live_named(&self, sequence: &str) -> Option<&Arc<Version>> {
        self.live()
            .find(|version| version.sequence.name == sequence)
    }
}
