//! What the API shows: plain objects, made from rows and stories.

use chrono::{DateTime, Utc};
use poem_openapi::{Enum, Object};

use crate::clock::Timestamp;
use crate::journey::enrollment::State;
use crate::journey::follower::Follower;
use crate::journey::outcome::OutcomeEntry;
use crate::policy::grant::Grant;
use crate::store::accounts::Standing;
use crate::store::overview::{Count, Happened};
use crate::store::timeline::Receipt;
use crate::store::versions::StoredVersion;
use crate::story::{Lang, Passage, Stage, Story, Voice, why};

fn date(at: Timestamp) -> DateTime<Utc> {
    at.to_chrono()
}

/// `None` for an instant that never was.
pub(super) fn date_or_never(at: Timestamp) -> Option<DateTime<Utc>> {
    (at.0 > 0).then(|| date(at))
}

/// Language of the explanations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[oai(rename_all = "lowercase")]
pub(super) enum Language {
    En,
    Zh,
}

impl From<Language> for Lang {
    fn from(language: Language) -> Self {
        match language {
            Language::En => Self::En,
            Language::Zh => Self::Zh,
        }
    }
}

/// A count that stops at a cap.
#[derive(Clone, Debug, Object)]
pub(super) struct Counted {
    pub(super) count: u32,
    /// There are more than `count`.
    pub(super) more: bool,
}

impl From<Count> for Counted {
    fn from(count: Count) -> Self {
        Self {
            count: count.n,
            more: count.more,
        }
    }
}

/// An account and whether it may send.
#[derive(Clone, Debug, Object)]
pub(super) struct AccountView {
    /// The operator's name for it.
    pub(super) key: String,
    pub(super) name: Option<String>,
    pub(super) platform: String,
    pub(super) app_id: String,
    /// Name of the platform's rules; absent for an account that is not configured any more.
    pub(super) profile: Option<String>,
    pub(super) timezone: Option<String>,
    /// Nothing is sent before this instant.
    pub(super) paused_until: Option<DateTime<Utc>>,
    pub(super) pause_reason: Option<String>,
    /// A person has to act before anything passes.
    pub(super) attention: bool,
    /// Deliveries that are due or being sent.
    pub(super) due: Counted,
}

impl AccountView {
    pub(super) fn of(
        standing: Standing,
        known: Option<&crate::policy::account::Account>,
        due: Count,
        now: Timestamp,
    ) -> Self {
        let paused = standing.attention || standing.paused_until > now;
        Self {
            key: standing.key,
            name: known.map(|account| account.journey.name.clone()),
            platform: standing.platform,
            app_id: standing.app_id,
            profile: known.map(|account| account.profile.name.clone()),
            timezone: known.and_then(|account| account.journey.zone.iana_name().map(str::to_owned)),
            paused_until: (paused && standing.paused_until > now)
                .then(|| date(standing.paused_until)),
            pause_reason: paused.then_some(standing.pause_reason),
            attention: standing.attention,
            due: due.into(),
        }
    }
}

/// How many passages stand where, among the newest 20,000.
#[derive(Clone, Debug, Default, Object)]
pub(super) struct PassagesView {
    pub(super) active: u32,
    pub(super) held: u32,
    pub(super) completed: u32,
    pub(super) cancelled: u32,
    /// Whether these are all the passages there are.
    pub(super) complete: bool,
}

impl PassagesView {
    pub(super) fn add(&mut self, state: State, n: u32) {
        match state {
            State::Active => self.active += n,
            State::Held => self.held += n,
            State::Completed => self.completed += n,
            State::Cancelled => self.cancelled += n,
        }
    }
}

/// A sequence.
#[derive(Clone, Debug, Object)]
pub(super) struct SequenceView {
    pub(super) name: String,
    pub(super) title: String,
    /// Whether new enrollments are possible.
    pub(super) live: bool,
    /// Hash of the live version, or of the newest.
    pub(super) hash: String,
    pub(super) published_at: DateTime<Utc>,
    /// Ids of its steps, in order.
    pub(super) steps: Vec<String>,
    pub(super) passages: PassagesView,
}

/// One immutable version of a sequence.
#[derive(Clone, Debug, Object)]
pub(super) struct VersionView {
    pub(super) id: i64,
    pub(super) sequence: String,
    /// SHA-256 over source and files.
    pub(super) hash: String,
    /// New enrollments get it.
    pub(super) live: bool,
    pub(super) published_at: DateTime<Utc>,
    /// The YAML as published.
    pub(super) source: String,
}

impl From<StoredVersion> for VersionView {
    fn from(version: StoredVersion) -> Self {
        Self {
            id: version.id.0,
            sequence: version.sequence,
            hash: version.hash,
            live: version.live,
            published_at: date(version.published_at),
            source: version.source,
        }
    }
}

/// A page of versions.
#[derive(Clone, Debug, Object)]
pub(super) struct VersionsPage {
    pub(super) items: Vec<VersionView>,
    /// The following page's `cursor`.
    pub(super) next: Option<String>,
}

/// A follower.
#[derive(Clone, Debug, Object)]
pub(super) struct FollowerView {
    pub(super) openid: String,
    pub(super) following: bool,
    /// The platform says that the follower blocks messages.
    pub(super) muted: bool,
    pub(super) followed_at: DateTime<Utc>,
    /// Latest event, by the platform's clock.
    pub(super) last_event_at: Option<DateTime<Utc>>,
    /// Latest attempt to send.
    pub(super) last_sent_at: Option<DateTime<Utc>>,
    pub(super) language: Option<String>,
    /// Of the latest QR code.
    pub(super) scene: Option<String>,
    pub(super) tags: Vec<String>,
}

impl From<Follower> for FollowerView {
    fn from(follower: Follower) -> Self {
        Self {
            openid: follower.openid,
            following: follower.following,
            muted: follower.muted,
            followed_at: date(follower.followed_at),
            last_event_at: date_or_never(follower.last_event_at),
            last_sent_at: date_or_never(follower.last_sent_at),
            language: follower.language,
            scene: follower.scene,
            tags: follower.tags,
        }
    }
}

/// A page of followers, newest first.
#[derive(Clone, Debug, Object)]
pub(super) struct FollowersPage {
    pub(super) items: Vec<FollowerView>,
    /// The following page's `cursor`.
    pub(super) next: Option<String>,
}

/// What a follower's act permits.
#[derive(Clone, Debug, Object)]
pub(super) struct GrantView {
    pub(super) kind: String,
    pub(super) opens_at: DateTime<Utc>,
    pub(super) closes_at: DateTime<Utc>,
    pub(super) quota: u16,
    pub(super) spent: u16,
    /// Whether it permits a message now.
    pub(super) open: bool,
}

impl GrantView {
    fn of(grant: &Grant, now: Timestamp) -> Self {
        Self {
            kind: grant.kind.word().to_owned(),
            opens_at: date(grant.opens_at),
            closes_at: date(grant.closes_at),
            quota: grant.quota,
            spent: grant.spent,
            open: grant.permits(now),
        }
    }
}

/// What the platform told us.
#[derive(Clone, Debug, Object)]
pub(super) struct EventView {
    /// By the platform's clock.
    pub(super) at: DateTime<Utc>,
    pub(super) taken_at: DateTime<Utc>,
    pub(super) kind: String,
    /// The beginning of a message, a scene or a key.
    pub(super) detail: Option<String>,
}

impl From<&Receipt> for EventView {
    fn from(receipt: &Receipt) -> Self {
        Self {
            at: date(receipt.created_at),
            taken_at: date(receipt.taken_at),
            kind: receipt.kind.to_owned(),
            detail: receipt.detail.clone(),
        }
    }
}

/// One entry of a step's history.
#[derive(Clone, Debug, Object)]
pub(super) struct EntryView {
    pub(super) outcome: String,
    pub(super) at: DateTime<Utc>,
    /// How many steps it ends; 0 when the step goes on.
    pub(super) steps: u16,
    /// How it travelled: `customer_message`, `passive_reply`, `subscription_notice`, `template` or
    /// `mass_send`; left out when nothing was sent.
    pub(super) carrier: Option<String>,
    /// The platform's own code.
    pub(super) code: Option<i64>,
    pub(super) detail: Option<String>,
}

impl From<&OutcomeEntry> for EntryView {
    fn from(entry: &OutcomeEntry) -> Self {
        Self {
            outcome: entry.outcome.word().to_owned(),
            at: date(entry.at),
            steps: entry.steps,
            carrier: entry.carrier.map(|carrier| carrier.word().to_owned()),
            code: entry.code,
            detail: (!entry.detail.is_empty()).then(|| entry.detail.clone()),
        }
    }
}

/// One step of a passage.
#[derive(Clone, Debug, Object)]
pub(super) struct StepView {
    pub(super) id: String,
    /// Kind of its message.
    pub(super) kind: String,
    pub(super) due_at: DateTime<Utc>,
    /// `planned`, `due`, `sending`, `held`, or the outcome that ended it.
    pub(super) state: String,
    /// Why, in a sentence.
    pub(super) why: String,
    pub(super) history: Vec<EntryView>,
}

/// One passage through a version of a sequence.
#[derive(Clone, Debug, Object)]
pub(super) struct PassageView {
    pub(super) enrollment: String,
    pub(super) sequence: String,
    pub(super) version: i64,
    /// `active`, `held`, `completed` or `cancelled`.
    pub(super) state: String,
    pub(super) enrolled_at: DateTime<Utc>,
    pub(super) steps: Vec<StepView>,
}

impl PassageView {
    fn of(story: &Story, passage: &Passage, voice: &Voice) -> Self {
        let step = |stage: &Stage| StepView {
            id: stage.id.clone(),
            kind: stage.kind.to_owned(),
            due_at: date(stage.due_at),
            state: stage.state.word().to_owned(),
            why: why::step(story, passage, stage, voice),
            history: stage.history.iter().map(EntryView::from).collect(),
        };
        Self {
            enrollment: passage.enrollment.id.to_string(),
            sequence: passage.sequence(),
            version: passage.enrollment.version.0,
            state: passage.enrollment.state.word().to_owned(),
            enrolled_at: date(passage.enrollment.enrolled_at),
            steps: passage.steps.iter().map(step).collect(),
        }
    }
}

/// A follower's whole story.
#[derive(Clone, Debug, Object)]
pub(super) struct TimelineView {
    pub(super) account: String,
    pub(super) follower: FollowerView,
    /// The moment that is told of.
    pub(super) as_of: DateTime<Utc>,
    pub(super) grants: Vec<GrantView>,
    /// The newest 500, oldest first.
    pub(super) events: Vec<EventView>,
    /// The newest 100, oldest first.
    pub(super) passages: Vec<PassageView>,
}

impl TimelineView {
    pub(super) fn of(story: &Story, lang: Lang) -> Self {
        let voice = story.voice(lang);
        let grant = |grant| GrantView::of(grant, story.now);
        let passage = |passage| PassageView::of(story, passage, &voice);
        Self {
            account: story.account.key.clone(),
            follower: story.follower.clone().into(),
            as_of: date(story.now),
            grants: story.grants.iter().map(grant).collect(),
            events: story.receipts.iter().map(EventView::from).collect(),
            passages: story.passages.iter().map(passage).collect(),
        }
    }
}

/// A send whose answer was lost.
#[derive(Clone, Debug, Object)]
pub(super) struct UnknownView {
    pub(super) account: String,
    pub(super) openid: String,
    pub(super) enrollment: String,
    pub(super) sequence: Option<String>,
    pub(super) step: String,
    pub(super) due_at: DateTime<Utc>,
    pub(super) at: DateTime<Utc>,
    /// It was, or will be, sent once more.
    pub(super) sent_again: bool,
    pub(super) detail: Option<String>,
}

impl UnknownView {
    pub(super) fn of(
        happened: Happened,
        account: String,
        version: Option<&crate::journey::catalog::Version>,
    ) -> Self {
        let entry = happened.entry;
        let step = version.and_then(|v| v.sequence.steps.get(usize::from(entry.step)));
        Self {
            account,
            openid: happened.openid,
            enrollment: entry.enrollment.to_string(),
            sequence: version.map(|version| version.sequence.name.clone()),
            step: step.map_or_else(|| (entry.step + 1).to_string(), |step| step.id.clone()),
            due_at: date(entry.due_at),
            at: date(entry.at),
            sent_again: entry.steps == 0,
            detail: (!entry.detail.is_empty()).then_some(entry.detail),
        }
    }
}

/// What to enroll in.
#[derive(Clone, Debug, Object)]
#[oai(deny_unknown_fields)]
pub(super) struct Enroll {
    /// Name of a live sequence that runs on this account.
    #[oai(validator(min_length = 1, max_length = 64))]
    pub(super) sequence: String,
}

/// The passage that began.
#[derive(Clone, Debug, Object)]
pub(super) struct Enrolled {
    pub(super) enrollment: String,
    pub(super) sequence: String,
}

/// How many passages were ended.
#[derive(Clone, Debug, Object)]
pub(super) struct Cancelled {
    pub(super) cancelled: u32,
}

/// A follower's tags.
#[derive(Clone, Debug, Object)]
pub(super) struct TagsView {
    pub(super) tags: Vec<String>,
}
