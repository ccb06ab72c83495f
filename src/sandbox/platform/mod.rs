//! Other platforms, played by us as WeChat is: a local server for one account of LINE, Telegram, WeCom's
//! 微信客服 or an in-house channel, from the platform's published protocol.
//!
//! It takes messages as the platform does (proof of the caller, people it does not know, people who
//! blocked the account, a rate, keys that make a second call do nothing), remembers what each person
//! received, tells the account's server what people do, and breaks on demand. Its rules are its own:
//! nothing here asks what the product believes. Deliberately absent: TLS, and restarts.

mod door;
mod line;
mod phone;
mod settings;
mod telegram;
mod webhook;
mod wecom_kf;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use poem::http::HeaderMap;
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::door::Service;
pub use self::settings::{Asked, PlatformAct, PlatformSettings, Played, Received, Told};
use super::callback;
use super::fault::{Fault, FaultState, Faults};
use super::listener::{Connections, Door};
use super::{STOP_PATIENCE, SandboxLimits, StartError, lock};
use crate::clock::{Clock, Timestamp};

/// The `api` of calls that bring messages, in faults.
pub const SEND: &str = "send";

/// A person, as the platform knows them.
#[derive(Clone, Debug, Default)]
struct Person {
    follows: bool,
    /// Blocks the account, told or not.
    blocks: bool,
    received: Vec<Received>,
}

/// A call as it came in.
struct Call<'a> {
    path: &'a str,
    query: &'a str,
    heads: &'a HeaderMap,
    body: &'a [u8],
}

impl Call<'_> {
    fn head(&self, name: &str) -> &str {
        let value = self.heads.get(name);
        value.and_then(|value| value.to_str().ok()).unwrap_or("")
    }
}

/// What the platform answers.
#[derive(Debug)]
struct Answered {
    status: u16,
    heads: Vec<(&'static str, String)>,
    body: Value,
}

impl Answered {
    fn new(status: u16, body: Value) -> Self {
        let heads = Vec::new();
        Self {
            status,
            heads,
            body,
        }
    }
}

/// A message that was taken, and for whom.
struct Taking<'a> {
    people: Vec<&'a str>,
    message: Value,
    key: Option<String>,
}

/// A callback as it is posted.
#[derive(Clone, Debug)]
struct Letter {
    heads: Vec<(&'static str, String)>,
    query: Vec<(&'static str, String)>,
    body: String,
}

/// One platform's protocol.
trait Protocol: Send + Sync + fmt::Debug {
    /// The word that the configuration uses.
    fn word(&self) -> &'static str;

    /// What a person's id looks like.
    fn example(&self) -> &'static str;

    /// The name of a call in faults: `send` for those that bring messages, else its path.
    fn api<'p>(&self, path: &'p str) -> &'p str;

    /// Answers a call that no fault hit.
    fn answer(&self, town: &Town, call: &Call<'_>) -> Answered;

    /// The refusal that a fault asks for by its code.
    fn refuse(&self, code: i32) -> Answered;

    /// Takes note of an act, before the account is told of it.
    fn happens(&self, event: &PlatformEvent) {
        let _ = event;
    }

    /// What the account's server is told of an act, if it is; `again` when it was told before.
    fn letter(&self, town: &Town, event: &PlatformEvent, again: bool) -> Option<Letter>;

    /// The same letter, but not proven as the platform proves it.
    fn forged(&self, letter: Letter) -> Letter;
}

/// An act with all that makes it the same when it is told again.
#[derive(Clone, Debug)]
struct PlatformEvent {
    number: u64,
    at: Timestamp,
    person: String,
    act: PlatformAct,
}

/// What there is on the platform.
struct Town {
    /// Where it listens.
    addr: SocketAddr,
    clock: Arc<dyn Clock>,
    settings: PlatformSettings,
    people: Mutex<BTreeMap<String, Person>>,
    asked: Mutex<Vec<Asked>>,
    /// Keys of calls that were taken.
    keys: Mutex<HashSet<String>>,
    /// Messages taken in each second that still matters.
    rate: Mutex<HashMap<i64, u32>>,
    faults: Faults,
    events: Mutex<Vec<PlatformEvent>>,
    connections: Connections,
    client: reqwest::Client,
}

impl fmt::Debug for Town {
    /// Says nothing: it holds secrets and people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Town")
    }
}

impl Town {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Whether one more message fits into this second.
    fn admits(&self) -> bool {
        let second = self.now().seconds();
        let mut rate = lock(&self.rate);
        rate.retain(|at, _| *at == second);
        let taken = rate.entry(second).or_default();
        let fits = self.settings.per_second.is_none_or(|most| *taken < most);
        *taken += u32::from(fits);
        fits
    }

    /// Whether a call under this key was taken before.
    fn knows(&self, key: Option<&str>) -> bool {
        key.is_some_and(|key| lock(&self.keys).contains(key))
    }

    fn follows(&self, person: &str) -> bool {
        lock(&self.people)
            .get(person)
            .is_some_and(|person| person.follows)
    }

    fn blocks(&self, person: &str) -> bool {
        lock(&self.people)
            .get(person)
            .is_some_and(|person| person.blocks)
    }

    /// Whether the platform has ever heard of somebody in connection with the account.
    fn is_known(&self, person: &str) -> bool {
        lock(&self.people).contains_key(person)
    }

    /// Brings a message to whoever of `people` can receive it.
    fn deliver(&self, taking: Taking<'_>) {
        let at = self.now();
        let mut people = lock(&self.people);
        for name in taking.people {
            let person = people.get_mut(name);
            if let Some(person) = person.filter(|person| person.follows && !person.blocks) {
                let message = taking.message.clone();
                person.received.push(Received { at, message });
            }
        }
        if let Some(key) = taking.key {
            lock(&self.keys).insert(key);
        }
    }
}

/// A platform that runs.
#[derive(Debug)]
pub struct PlatformSandbox {
    /// Where it listens, with the real port.
    pub addr: SocketAddr,
    town: Arc<Town>,
    protocol: Arc<dyn Protocol>,
    stop: CancellationToken,
    task: JoinHandle<io::Result<()>>,
}

impl PlatformSandbox {
    /// Starts a platform that lives in the time of `clock`.
    ///
    /// # Errors
    /// When it cannot listen, or cannot call back.
    pub async fn start(
        settings: PlatformSettings,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StartError> {
        let connections = Connections::default();
        let listen = settings.listen;
        let door = Door::bind(listen, connections.clone()).await;
        let door = door.map_err(|source| StartError::Listen {
            addr: listen,
            source,
        })?;
        let addr = door.addr();
        let client = callback::client(SandboxLimits::default()).map_err(StartError::Client)?;
        let protocol: Arc<dyn Protocol> = match settings.played.clone() {
            Played::Line {
                channel_secret,
                channel_access_token,
            } => Arc::new(line::Line {
                channel_secret,
                channel_access_token,
            }),
            Played::Telegram {
                bot_token,
                secret_token,
            } => Arc::new(telegram::Telegram {
                bot_token,
                secret_token,
            }),
            Played::Webhook { secret } => Arc::new(webhook::Webhook { secret }),
            Played::WecomKf {
                corp_id,
                corp_secret,
                open_kfid,
                token,
                encoding_aes_key,
            } => {
                let door = wecom_kf::Corp {
                    corp_id,
                    corp_secret,
                    open_kfid,
                    token,
                };
                Arc::new(wecom_kf::WecomKf::new(door, &encoding_aes_key)?)
            }
        };
        let town = Arc::new(Town {
            addr,
            clock,
            settings,
            people: Mutex::default(),
            asked: Mutex::default(),
            keys: Mutex::default(),
            rate: Mutex::default(),
            faults: Faults::default(),
            events: Mutex::default(),
            connections,
            client,
        });
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let service = Service::new(Arc::clone(&town), Arc::clone(&protocol));
        let task = tokio::spawn(async move {
            poem::Server::new_with_acceptor(door)
                .run_with_graceful_shutdown(service, stopped.cancelled(), Some(STOP_PATIENCE))
                .await
        });
        tracing::info!(%addr, "a platform is open");
        Ok(Self {
            addr,
            town,
            protocol,
            stop,
            task,
        })
    }

    /// Closes the port and every connection.
    pub async fn stop(self) {
        self.stop.cancel();
        self.task.await.ok();
    }

    /// Lets somebody do something, and tells the account's server of it.
    pub async fn act(&self, person: &str, act: PlatformAct) -> Told {
        acts(&self.town, &self.protocol, person, act).await
    }

    /// Somebody blocks the account without its being told.
    pub fn block(&self, person: &str) {
        if let Some(person) = lock(&self.town.people).get_mut(person) {
            person.blocks = true;
        }
    }

    /// Tells the latest event once more, as the platform does when an answer was lost.
    pub async fn tell_again(&self) -> Option<Told> {
        let event = lock(&self.town.events).last().cloned()?;
        let letter = self.protocol.letter(&self.town, &event, true);
        Some(post(&self.town, letter, 1).await)
    }

    /// Tells of an act that never was, as somebody who is not the platform would.
    pub async fn forge(&self, person: &str, act: PlatformAct) -> Told {
        let event = PlatformEvent {
            number: 1_000_000,
            at: self.town.now(),
            person: person.to_owned(),
            act,
        };
        let letter = self.protocol.letter(&self.town, &event, false);
        let letter = letter.map(|letter| self.protocol.forged(letter));
        post(&self.town, letter, 1).await
    }

    /// What somebody received, the oldest first.
    pub fn received(&self, person: &str) -> Vec<Received> {
        received(&self.town, person)
    }

    /// Every call that wanted to bring a message.
    pub fn asked(&self) -> Vec<Asked> {
        lock(&self.town.asked).clone()
    }

    /// Sets what shall go wrong; `Fault::api` is `send`, a path, or `*`.
    pub fn fault(&self, fault: Fault) {
        self.town.faults.add(vec![fault]);
    }

    /// Every fault and how often it hit.
    pub fn faults(&self) -> Vec<FaultState> {
        self.town.faults.list()
    }
}

/// Lets somebody do something, and tells the account's server of it.
async fn acts(
    town: &Arc<Town>,
    protocol: &Arc<dyn Protocol>,
    person: &str,
    act: PlatformAct,
) -> Told {
    {
        let mut people = lock(&town.people);
        let known = people.entry(person.to_owned()).or_default();
        match &act {
            PlatformAct::Follow => (known.follows, known.blocks) = (true, false),
            PlatformAct::Unfollow => (known.follows, known.blocks) = (false, true),
            PlatformAct::Write(_) | PlatformAct::Tap(_) => {}
        }
    }
    let event = {
        let mut events = lock(&town.events);
        let event = PlatformEvent {
            number: events.len() as u64 + 1,
            at: town.now(),
            person: person.to_owned(),
            act,
        };
        events.push(event.clone());
        event
    };
    protocol.happens(&event);
    let letter = protocol.letter(town, &event, false);
    post(town, letter, town.settings.callback_attempts).await
}

/// What somebody received, the oldest first.
fn received(town: &Town, person: &str) -> Vec<Received> {
    let people = lock(&town.people);
    let person = people.get(person);
    person.map_or_else(Vec::new, |person| person.received.clone())
}

async fn post(town: &Town, letter: Option<Letter>, attempts: u32) -> Told {
    let mut told = Told {
        accepted: letter.is_none(),
        status: None,
        answer: String::new(),
    };
    let Some(letter) = letter else {
        return told;
    };
    for attempt in 0..attempts.max(1) {
        if attempt > 0 {
            tokio::time::sleep(town.settings.callback_pause).await;
        }
        let url = &town.settings.callback_url;
        let mut request = town.client.post(url).query(&letter.query);
        for (name, value) in &letter.heads {
            request = request.header(*name, value);
        }
        let request = request
            .header("content-type", "application/json")
            .body(letter.body.clone());
        match callback::answer(request).await {
            Ok((status, answer)) => {
                told = Told {
                    accepted: (200..300).contains(&status),
                    status: Some(status),
                    answer,
                };
            }
            Err(error) => told.answer = error,
        }
        if told.accepted {
            break;
        }
    }
    told
}
