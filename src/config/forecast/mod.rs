//! What each account's rules make of each sequence: the compiler's findings in words, with their
//! places and their mends. `check` prints them; the server logs them when it starts.

use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;

use crate::config::Config;
use crate::config::directory::Source;
use crate::journey::carrier::Carrier;
use crate::journey::message::Message;
use crate::journey::parse::step_places;
use crate::journey::sequence::{Sequence, Step, Trigger};
use crate::journey::template;
use crate::policy::compile::{Carriage, Shortage, Way, compile};
use crate::policy::grant::Opener;
use crate::policy::lint;
use crate::policy::profile::{Profile, Profiles};
use crate::yaml::{Place, Problem, print_span};

/// Accounts that one set of rules holds for.
#[derive(Clone, Debug)]
pub struct Target {
    /// Keys; empty when rules are tried without an account.
    pub accounts: Vec<String>,
    pub profile: Arc<Profile>,
    pub zone: TimeZone,
    /// Whether due steps may answer events themselves.
    pub passive: bool,
    /// Whether clicks are to be counted where a sequence does not say otherwise.
    pub track_links: bool,
    /// Whether the world reaches the server, as links that are counted need it.
    pub public: bool,
}

/// What one set of rules makes of one sequence.
#[derive(Clone, Debug)]
pub struct Outlook {
    pub sequence: String,
    pub file: String,
    pub profile: String,
    pub accounts: Vec<String>,
    pub steps: Vec<StepOutlook>,
}

/// One step of it.
#[derive(Clone, Debug)]
pub struct StepOutlook {
    pub id: String,
    /// After the start.
    pub earliest: Duration,
    pub latest: Duration,
    /// Each way in words, the commonest first.
    pub carried_by: Vec<String>,
    pub standing: Standing,
}

/// How well a step stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Carried,
    /// Only if the follower acts.
    NeedsFollower,
    Never,
}

impl Standing {
    /// The word in reports.
    pub fn word(self) -> &'static str {
        match self {
            Self::Carried => "carried",
            Self::NeedsFollower => "needs_follower",
            Self::Never => "never",
        }
    }
}

/// Everything that was found.
#[derive(Clone, Debug, Default)]
pub struct Forecast {
    pub outlooks: Vec<Outlook>,
    /// Steps that are never sent.
    pub errors: Vec<Problem>,
    /// What is allowed and unwise, or rests on the follower.
    pub warnings: Vec<Problem>,
}

/// The sets of rules of a configuration, each with its accounts.
///
/// # Errors
/// The key of an account whose profile or zone there is not, and which.
pub fn targets(config: &Config, profiles: &Profiles) -> Result<Vec<Target>, (String, String)> {
    let mut targets: Vec<Target> = Vec::new();
    for account in &config.accounts {
        let lacks = |what: String| (account.key.clone(), what);
        let profile = profiles.named(&account.profile).ok_or_else(|| {
            let names = profiles.names().join(", ");
            lacks(format!(
                "there is no profile `{}`: use one of {names}",
                account.profile
            ))
        })?;
        let zone = TimeZone::get(&account.timezone);
        let zone = zone.map_err(|error| lacks(format!("timezone: {error}")))?;
        let passive = account.passive_reply;
        let passive = passive.unwrap_or_else(|| profile.passive_by_default());
        let public = config.server.public_url.is_some();
        let track_links = account.track_links;
        let same = targets.iter_mut().find(|one| {
            one.profile == profile
                && one.zone == zone
                && (one.passive, one.track_links) == (passive, track_links)
        });
        match same {
            Some(target) => target.accounts.push(account.key.clone()),
            None => targets.push(Target {
                accounts: vec![account.key.clone()],
                profile,
                zone,
                passive,
                track_links,
                public,
            }),
        }
    }
    Ok(targets)
}

/// Compiles every sequence for every set of rules that it runs under.
pub fn forecast(sources: &[Source], targets: &[Target]) -> Forecast {
    let mut forecast = Forecast::default();
    for source in sources {
        let places = step_places(&source.text);
        let report = Report {
            source,
            places: &places,
        };
        report.lint(&mut forecast);
        for target in targets {
            let wanted = &source.sequence.accounts;
            let mut accounts = target.accounts.clone();
            accounts.retain(|key| wanted.is_empty() || wanted.contains(key));
            if target.accounts.is_empty() || !accounts.is_empty() {
                report.outlook(target, accounts, &mut forecast);
            }
        }
    }
    forecast
}

struct Report<'a> {
    source: &'a Source,
    places: &'a [Place],
}

impl Report<'_> {
    fn problem(&self, step: usize, message: String, fix: String) -> Problem {
        let place = self.places.get(step).copied().unwrap_or_default();
        Problem::new(&self.source.text, &self.source.file, place, message).fix(fix)
    }

    fn lint(&self, forecast: &mut Forecast) {
        for (index, step) in self.source.sequence.steps.iter().enumerate() {
            let Some(bait) = lint::bait(&step.say) else {
                continue;
            };
            let message = format!(
                "step `{}` promises something for a reply (“{bait}”): WeChat punishes accounts that \
                 entice followers to reply so that they may write more",
                step.id
            );
            let fix = "give it without a reply, or let a menu item or a page give it";
            forecast
                .warnings
                .push(self.problem(index, message, fix.to_owned()));
        }
    }

    fn outlook(&self, target: &Target, accounts: Vec<String>, forecast: &mut Forecast) {
        let sequence = &self.source.sequence;
        let compiled = compile(sequence, &target.profile, &target.zone, target.passive);
        let rules = Rules {
            sequence,
            profile: &target.profile,
        };
        let mut steps = Vec::new();
        for (index, (carriage, step)) in compiled.steps.iter().zip(&sequence.steps).enumerate() {
            let too_long = too_long(step, &target.profile);
            let never = too_long.as_deref().or(carriage.never());
            let standing = if let Some(why) = never {
                let (message, fix) = rules.never(step, why);
                let problem = self.problem(index, message, fix);
                push_new(&mut forecast.errors, problem);
                Standing::Never
            } else if let Some((openers, shortage)) = carriage.acts() {
                let (message, fix) = rules.needs(step, carriage, openers, shortage);
                push_new(&mut forecast.warnings, self.problem(index, message, fix));
                Standing::NeedsFollower
            } else {
                Standing::Carried
            };
            let words = carriage.ways.iter().map(|way| rules.way(way));
            let carried_by = match &too_long {
                Some(why) => vec![format!("never: {why}")],
                None => words.collect(),
            };
            steps.push(StepOutlook {
                id: step.id.clone(),
                earliest: carriage.earliest,
                latest: carriage.latest,
                carried_by,
                standing,
            });
        }
        self.lint_dependence(&rules, &steps, forecast);
        self.lint_links(target, forecast);
        forecast.outlooks.push(Outlook {
            sequence: sequence.name.clone(),
            file: self.source.file.clone(),
            profile: target.profile.name.clone(),
            accounts,
            steps,
        });
    }

    /// Clicks that somebody waits for and nobody counts.
    fn lint_links(&self, target: &Target, forecast: &mut Forecast) {
        let sequence = &self.source.sequence;
        let wanted = sequence.track_links.unwrap_or(target.track_links);
        let mut steps = sequence.steps.iter();
        let linked = steps.position(|step| step.links.iter().any(|link| link.tracked));
        let asks = sequence.asks_for_clicks();
        let (message, fix) = match (wanted, target.public, linked) {
            (true, false, Some(_)) => (
                "clicks on these links are not counted: nobody knows how the world reaches the server",
                "set `server.public_url`, or `track_links: false`",
            ),
            (false, _, _) if asks => (
                "`clicked` never holds: clicks on the links of this sequence are not counted",
                "write `track_links: true` in the sequence, or for its account",
            ),
            _ => return,
        };
        let problem = self.problem(linked.unwrap_or(0), message.to_owned(), fix.to_owned());
        push_new(&mut forecast.warnings, problem);
    }

    /// A sequence of which a good part is only for those who keep writing is no sequence any more.
    fn lint_dependence(&self, rules: &Rules<'_>, steps: &[StepOutlook], forecast: &mut Forecast) {
        let depends = |step: &&StepOutlook| step.standing == Standing::NeedsFollower;
        let tail = steps.iter().rev().take_while(depends).count();
        if tail < 2 {
            return;
        }
        let first = steps.len() - tail;
        let message = format!(
            "{tail} of {} steps, from `{}` on, depend wholly on what the follower does under {}",
            steps.len(),
            steps[first].id,
            rules.profile.name
        );
        let fix = "begin them with a sequence of their own, `trigger: { message: {} }`, or give them \
                   carriers that need no grant";
        push_new(
            &mut forecast.warnings,
            self.problem(first, message, fix.to_owned()),
        );
    }
}

/// Two accounts with the same rules need not be told twice.
fn push_new(problems: &mut Vec<Problem>, problem: Problem) {
    if !problems.contains(&problem) {
        problems.push(problem);
    }
}

/// Why a step's text is longer than the profile takes.
fn too_long(step: &Step, profile: &Profile) -> Option<String> {
    let most = profile.carriers.customer_message?.text_max?;
    let messages = std::iter::once(&step.say.default).chain(step.say.by_language.values());
    let bytes = messages.filter_map(|message| match message {
        Message::Text(text) => template::check(text).ok(),
        _ => None,
    });
    let longest = bytes.max().filter(|longest| *longest > most)?;
    Some(format!(
        "its text has {longest} bytes, and at most {most} are taken"
    ))
}

struct Rules<'a> {
    sequence: &'a Sequence,
    profile: &'a Profile,
}

impl Rules<'_> {
    fn way(&self, way: &Way) -> String {
        match way {
            Way::Carried {
                carrier: Carrier::PassiveReply,
                ..
            } => "the answer to the event itself".to_owned(),
            Way::Carried {
                carrier,
                grant,
                pulled,
            } => {
                let by = named(*carrier);
                let early = if *pulled {
                    ", before its grant closes"
                } else {
                    ""
                };
                match grant {
                    Some(opener) => format!("{by} on the grant of {}{early}", act(*opener)),
                    None => by.to_owned(),
                }
            }
            Way::Fallback(Carrier::SubscriptionNotice) => {
                "a subscription notice, if the follower has consented".to_owned()
            }
            Way::Fallback(Carrier::MassSend) => self.mass_send(),
            Way::Fallback(carrier) => named(*carrier).to_owned(),
            Way::Acts(openers, _) => format!("only if the follower {}", self.acts(openers)),
            Way::Never(why) => format!("never: {why}"),
        }
    }

    fn mass_send(&self) -> String {
        let mass = self.profile.carriers.mass_send;
        mass.map_or_else(String::new, |mass| {
            format!(
                "a mass send together with others, every {} and at most {} a month",
                print_span(mass.gather),
                mass.per_month
            )
        })
    }

    /// What the follower can do, and what that opens.
    fn acts(&self, openers: &[Opener]) -> String {
        let each = openers.iter().map(|opener| {
            let what = match opener {
                Opener::Message => "writes a message",
                Opener::Clicked => "clicks the menu",
                Opener::Scanned => "scans a code",
                Opener::Followed | Opener::Other => "acts",
            };
            let rules = self.profile.opened_by(*opener);
            match rules.first() {
                Some(rule) => format!("{what} ({} in {})", rule.quota, print_span(rule.lasts)),
                None => what.to_owned(),
            }
        });
        each.collect::<Vec<_>>().join(" or ")
    }

    fn needs(
        &self,
        step: &Step,
        carriage: &Carriage,
        openers: &[Opener],
        shortage: Shortage,
    ) -> (String, String) {
        let name = &self.profile.name;
        let opener = match self.sequence.trigger {
            Trigger::Follow { .. } => Some(Opener::Followed),
            Trigger::Scan { .. } => Some(Opener::Scanned),
            Trigger::Message { .. } => Some(Opener::Message),
            Trigger::Click { .. } => Some(Opener::Clicked),
            Trigger::Api => None,
        };
        let rule = opener.and_then(|opener| self.profile.opened_by(opener).first().copied());
        let opened = opener.map_or("the trigger", act);
        let why = match (shortage, rule) {
            (Shortage::Closed, Some(rule)) => format!(
                "{opened} grants {} messages for {} (the last {} of it kept free), and this step is \
                 due {} after it",
                rule.quota,
                print_span(rule.lasts),
                print_span(rule.margin),
                span(carriage)
            ),
            (Shortage::Spent, Some(rule)) => format!(
                "{opened} grants {} messages, and the steps before this one take them all",
                rule.quota
            ),
            (Shortage::Behind, _) => "a step before it waits for the follower".to_owned(),
            _ => format!("{opened} opens no grant"),
        };
        let message = format!(
            "step `{}` goes only if the follower {}: under {name}, {why}",
            step.id,
            self.acts(openers)
        );
        let earlier = match (shortage, rule) {
            (Shortage::Closed, Some(rule)) => format!(
                "make it due within {} of the start",
                print_span(rule.lasts.saturating_sub(rule.margin))
            ),
            (Shortage::Spent, _) => "join it with a step before it".to_owned(),
            _ => "begin the sequence with `trigger: { message: {} }`".to_owned(),
        };
        (message, format!("{earlier}, or {}", self.other_carrier()))
    }

    fn other_carrier(&self) -> &'static str {
        let carriers = &self.profile.carriers;
        if carriers.subscription_notice.is_some() {
            "give it a carrier that needs no grant: `closed: [{ subscription_notice: … }, hold]`"
        } else if carriers.template.is_some() {
            "give it a carrier that needs no grant: `closed: [{ template: … }, hold]`"
        } else {
            "leave it to those who write: it waits for them while `expire_after` lasts"
        }
    }

    fn never(&self, step: &Step, why: &str) -> (String, String) {
        let message = format!(
            "step `{}` is never sent under {}: {why}",
            step.id, self.profile.name
        );
        let fix = if why.contains("expire_after") {
            "give it a longer `expire_after`, or a smaller `min_gap` to the steps before it"
        } else if why.contains("quiet hours") {
            "write `then: shift` in the quiet hours, or make it due by day"
        } else if why.contains("bytes") {
            "make the text shorter, or two steps of it"
        } else {
            "name a carrier in `closed` that the profile has, or give the account another profile"
        };
        (message, fix.to_owned())
    }
}

fn span(carriage: &Carriage) -> String {
    between(carriage.earliest, carriage.latest)
}

/// Two spans in words, or one where they are the same. Parts of seconds are nobody's matter.
pub fn between(earliest: Duration, latest: Duration) -> String {
    let rounded = |span: Duration| {
        let more = u64::from(span.subsec_millis() >= 500);
        print_span(Duration::from_secs(span.as_secs() + more))
    };
    let (earliest, latest) = (rounded(earliest), rounded(latest));
    match earliest == latest {
        true => earliest,
        false => format!("{earliest} to {latest}"),
    }
}

fn named(carrier: Carrier) -> &'static str {
    match carrier {
        Carrier::CustomerMessage => "a customer message",
        Carrier::PassiveReply => "a passive reply",
        Carrier::SubscriptionNotice => "a subscription notice",
        Carrier::Template => "a template message",
        Carrier::MassSend => "a mass send",
    }
}

fn act(opener: Opener) -> &'static str {
    match opener {
        Opener::Followed => "the follow",
        Opener::Scanned => "the scan",
        Opener::Clicked => "the menu click",
        Opener::Message => "the message",
        Opener::Other => "an event",
    }
}

#[cfg(test)]
mod tests;
