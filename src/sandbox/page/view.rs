//! What the phone page shows, ready for its template: labels chosen, times written, links checked.
//!
//! Nothing here is HTML; the template escapes every value.

use std::sync::Arc;
use std::time::Duration;

use askama::Template;

use super::content::Content;
use super::labels::Labels;
use super::text::Piece;
use crate::clock::Timestamp;
use crate::sandbox::carrier::Carrier;
use crate::sandbox::chat::{Author, ChatLine};
use crate::sandbox::followers::Follower;
use crate::sandbox::rules::TemplateKind;
use crate::sandbox::settings::MenuButton;
use crate::sandbox::{Account, World, lock};

const ACCOUNTS_SHOWN: usize = 100;
const PEOPLE_SHOWN: usize = 60;
const CHAT_SHOWN: usize = 80;
const LOG_SHOWN: usize = 60;

/// What the URL asks for.
pub(super) struct Asked<'a> {
    pub(super) account: &'a str,
    pub(super) openid: &'a str,
    pub(super) labels: &'static Labels,
}

#[derive(Template)]
#[template(path = "phone.html", config = "src/sandbox/page/askama.toml")]
pub(super) struct PhonePage {
    labels: &'static Labels,
    accounts: Vec<AccountItem>,
    app_id: String,
    account_name: String,
    profile: &'static str,
    people: Vec<Person>,
    people_count: usize,
    following_count: u64,
    phone: Option<Phone>,
    log: Vec<LogLine>,
    strip: Strip,
    other_language: String,
}

struct AccountItem {
    name: String,
    link: String,
    is_shown: bool,
}

struct Person {
    name: String,
    initial: String,
    link: String,
    following: bool,
    is_shown: bool,
}

struct Phone {
    openid: String,
    name: String,
    initial: String,
    following: bool,
    lines: Vec<Line>,
    menu: Vec<MenuButton>,
    subscriptions: Vec<Subscription>,
    muted: bool,
}

/// A template that the follower can agree to be sent.
struct Subscription {
    id: String,
    title: String,
    /// Notices they agreed to and have not received.
    left: u32,
}

/// The line above the chat.
pub(super) struct Strip {
    pub(super) clock: String,
    pub(super) grant: String,
}

struct Line {
    side: &'static str,
    time: String,
    /// By what it came; empty for a customer message.
    carrier: &'static str,
    content: Content,
}

struct LogLine {
    at: Timestamp,
    time: String,
    who: String,
    what: String,
    /// Empty when all is well.
    trouble: String,
    incoming: bool,
}

impl PhonePage {
    pub(super) fn new(world: &World, asked: &Asked<'_>) -> Self {
        let labels = asked.labels;
        let account = world.account(asked.account).unwrap_or(&world.accounts[0]);
        let app_id = account.app_id.to_string();
        let (people_count, following_count) = account.followers.counts();
        let newest = account.followers.newest(PEOPLE_SHOWN);
        let found = account.followers.get(asked.openid);
        let found = found.or_else(|| newest.first().cloned());
        let openid = found
            .as_ref()
            .map(|(openid, _)| openid.to_string())
            .unwrap_or_default();
        let people = newest.iter().map(|(id, follower)| Person {
            name: name_of(id, follower),
            initial: initial_of(id, follower),
            link: link(&app_id, id, labels.tag),
            following: follower.following,
            is_shown: **id == *openid,
        });
        Self {
            labels,
            accounts: world
                .accounts
                .iter()
                .filter(|other| other.index < ACCOUNTS_SHOWN || other.index == account.index)
                .map(|other| AccountItem {
                    name: account_name(other),
                    link: link(&other.app_id, "", labels.tag),
                    is_shown: other.index == account.index,
                })
                .collect(),
            account_name: account_name(account),
            profile: account.settings.profile.name(),
            people: people.collect(),
            people_count,
            following_count,
            log: log(world, account, labels),
            strip: strip(world, Some(account.index), &openid, labels),
            other_language: link(&app_id, &openid, labels.other_tag),
            phone: found.map(|(id, follower)| Phone::new(world, account, &id, &follower, labels)),
            app_id,
        }
    }
}

impl Phone {
    fn new(
        world: &World,
        account: &Account,
        openid: &Arc<str>,
        follower: &Follower,
        labels: &'static Labels,
    ) -> Self {
        let lines = world.chats.of(account.index, openid, CHAT_SHOWN);
        Self {
            openid: openid.to_string(),
            name: name_of(openid, follower),
            initial: initial_of(openid, follower),
            following: follower.following,
            lines: lines
                .iter()
                .map(|line| Line::new(world, line, labels))
                .collect(),
            menu: account.settings.menu.clone(),
            subscriptions: subscriptions(account, follower),
            muted: follower.muted,
        }
    }
}

/// The account's own list, and what the follower agreed to beside it.
fn subscriptions(account: &Account, follower: &Follower) -> Vec<Subscription> {
    let templates = account.settings.rules.templates.iter();
    let listed = templates.filter(|template| template.kind == TemplateKind::Subscription);
    let left = |id: &str| follower.consents.get(id).copied().unwrap_or(0);
    let mut all: Vec<Subscription> = listed
        .map(|template| Subscription {
            id: template.id.clone(),
            title: match template.title.as_str() {
                "" => template.id.clone(),
                title => title.to_owned(),
            },
            left: left(&template.id),
        })
        .collect();
    for (id, left) in &follower.consents {
        if !all.iter().any(|subscription| *subscription.id == **id) {
            let (id, title, left) = (id.to_string(), id.to_string(), *left);
            all.push(Subscription { id, title, left });
        }
    }
    all
}

impl Line {
    fn new(world: &World, line: &ChatLine, labels: &'static Labels) -> Self {
        Self {
            side: match line.author {
                Author::Follower => "mine",
                Author::Account
                | Author::PassiveReply
                | Author::TemplateMessage
                | Author::SubscriptionNotice
                | Author::MassSend => "theirs",
                Author::Phone => "notice",
            },
            time: time_of(line.at),
            carrier: match line.author {
                Author::PassiveReply => labels.passive,
                Author::TemplateMessage => labels.template,
                Author::SubscriptionNotice => labels.notice,
                Author::MassSend => labels.mass,
                Author::Follower | Author::Account | Author::Phone => "",
            },
            content: Content::new(world, &line.shown, labels),
        }
    }
}

/// The line above the chat: sandbox time and what may still be sent.
pub(super) fn strip(world: &World, account: Option<usize>, openid: &str, labels: &Labels) -> Strip {
    let now = world.clock.now();
    let account = account.and_then(|index| world.accounts.get(index));
    let follower = account.and_then(|account| account.followers.get(openid));
    let grant = follower.and_then(|(_, follower)| follower.grant);
    let grant = grant.filter(|grant| grant.is_open(now));
    Strip {
        clock: time_of(now),
        grant: grant.map_or_else(
            || labels.no_grant.to_owned(),
            |grant| {
                let (before, after) = labels.grant_left;
                let rest = span_of(grant.closes_at.since(now));
                format!("{before}{}{after} · {rest}", grant.left)
            },
        ),
    }
}

/// The newest sends and pushes of an account, newest first.
fn log(world: &World, account: &Account, labels: &Labels) -> Vec<LogLine> {
    let who = |openid: &Arc<str>| {
        let found = account.followers.get(openid);
        found.map_or_else(
            || openid.to_string(),
            |(id, follower)| name_of(&id, &follower),
        )
    };
    let mut lines: Vec<LogLine> = world
        .record
        .newest(&account.app_id, LOG_SHOWN)
        .into_iter()
        .map(|sent| LogLine {
            at: sent.at,
            time: clock_of(sent.at),
            who: who(&sent.openid),
            what: format!("{} {}", carrier_of(sent.carrier, labels), sent.msgtype),
            trouble: match (sent.errcode, sent.fault) {
                (0, None) => String::new(),
                (0, Some(fault)) => fault.to_owned(),
                (code, None) => code.to_string(),
                (code, Some(fault)) => format!("{code} {fault}"),
            },
            incoming: true,
        })
        .collect();
    lines.extend(
        lock(&account.pushes)
            .iter()
            .rev()
            .take(LOG_SHOWN)
            .map(|push| LogLine {
                at: push.at,
                time: clock_of(push.at),
                who: who(&push.openid),
                what: format!("{} {}", labels.pushed, push.what),
                trouble: match (push.accepted, push.status) {
                    (true, _) if push.attempts > 1 => format!("×{}", push.attempts),
                    (true, _) => String::new(),
                    (false, Some(status)) => {
                        format!("{} {status} ×{}", labels.unanswered, push.attempts)
                    }
                    (false, None) => format!("{} ×{}", labels.unanswered, push.attempts),
                },
                incoming: false,
            }),
    );
    lines.sort_by_key(|line| std::cmp::Reverse(line.at));
    lines.truncate(LOG_SHOWN);
    lines
}

fn carrier_of(carrier: Carrier, labels: &Labels) -> &'static str {
    match carrier {
        Carrier::CustomerMessage => labels.received,
        Carrier::TemplateMessage => labels.template,
        Carrier::SubscriptionNotice => labels.notice,
        Carrier::MassSend => labels.mass,
        Carrier::PassiveReply => labels.passive,
    }
}

/// The page's address for one phone.
pub(super) fn link(app_id: &str, openid: &str, language: &str) -> String {
    let start = "/?".to_owned();
    let mut query = url::form_urlencoded::Serializer::for_suffix(start, 2);
    query.append_pair("account", app_id);
    if !openid.is_empty() {
        query.append_pair("follower", openid);
    }
    if ["zh", "en"].contains(&language) {
        query.append_pair("lang", language);
    }
    query.finish()
}

fn account_name(account: &Account) -> String {
    match account.settings.name.as_str() {
        "" => account.app_id.to_string(),
        name => name.to_owned(),
    }
}

fn name_of(openid: &str, follower: &Follower) -> String {
    match &*follower.name {
        "" => {
            let skipped = openid.chars().count().saturating_sub(6);
            openid.chars().skip(skipped).collect()
        }
        name => name.to_owned(),
    }
}

fn initial_of(openid: &str, follower: &Follower) -> String {
    name_of(openid, follower).chars().take(1).collect()
}

/// Beijing, where the platform is.
fn time_of(at: Timestamp) -> String {
    beijing(at).format("%m-%d %H:%M:%S").to_string()
}

fn clock_of(at: Timestamp) -> String {
    beijing(at).format("%H:%M:%S").to_string()
}

fn beijing(at: Timestamp) -> chrono::DateTime<chrono::Utc> {
    at.plus(Duration::from_secs(8 * 3600)).to_chrono()
}

fn span_of(span: Duration) -> String {
    let seconds = span.as_secs();
    format!(
        "{}:{:02}:{:02}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_escape_what_they_carry() {
        assert_eq!(
            link("wx1", "a&b=c", "en"),
            "/?account=wx1&follower=a%26b%3Dc&lang=en"
        );
        assert_eq!(link("wx1", "", "xx"), "/?account=wx1");
    }

    #[test]
    fn times_are_beijings() {
        assert_eq!(time_of(Timestamp(1_699_977_600_000)), "11-15 00:00:00");
        assert_eq!(span_of(Duration::from_secs(172_799)), "47:59:59");
    }
}
