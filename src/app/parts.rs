//! What the configuration says, as the parts take it: sequences, accounts, doors, platforms.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::tz::TimeZone;
use secrecy::ExposeSecret;

use crate::alert::{AlertSettings, Alerts};
use crate::app::StartError;
use crate::app::companion::ByClients;
use crate::clock::Clock;
use crate::config::forecast::{self, Target, forecast};
use crate::config::{self, CallbackMode, Config, directory};
use crate::inbound::answer::Replies;
use crate::inbound::callback::{Doors, Entrance};
use crate::inbound::cipher::Cipher;
use crate::inbound::envelope::{Door, Mode, TIMESTAMP_WINDOW};
use crate::inbound::spool::{Drain, Spool, SpoolSettings};
use crate::journey;
use crate::journey::ids::AccountId;
use crate::policy::account::Account;
use crate::policy::learned::QuotaReset;
use crate::policy::limiter::Rate;
use crate::policy::profile::Profiles;
use crate::reconcile::{ReconcileSettings, Reconciler};
use crate::scheduler::SchedulerSettings;
use crate::sender::shelf::StoreShelf;
use crate::sender::wechat::{Clients, WechatClient, WechatSettings};
use crate::sign::SigningKey;
use crate::store::Store;
use crate::store::accounts::NewAccount;
use crate::store::assets::Asset;
use crate::store::reach::Reach;
use crate::store::versions::NewVersion;
use crate::yaml::Problem;

/// Reads and checks the sequences directory, and logs what `check` would say of it under the accounts'
/// rules.
///
/// A step that its account's rules never carry stops nothing here: the other steps are right, the
/// profile may be what is wrong, and a server that does not come up sends nobody anything.
pub(super) fn load_sequences(
    dir: &std::path::Path,
    targets: &[Target],
) -> Result<Vec<NewVersion>, StartError> {
    let loaded = directory::load_dir(dir);
    if !loaded.problems.is_empty() {
        return Err(StartError::Problems(loaded.problems));
    }
    let forecast = forecast(&loaded.sequences, targets);
    for problem in &forecast.errors {
        tracing::error!("{problem}");
    }
    for warning in &forecast.warnings {
        tracing::warn!("{warning}");
    }
    loaded.sequences.iter().map(new_version).collect()
}

fn new_version(source: &directory::Source) -> Result<NewVersion, StartError> {
    let files = source.assets.iter().map(|asset| {
        let bytes = asset
            .read()
            .map_err(|why| StartError::Problems(vec![Problem::of_file(&source.file, why)]))?;
        Ok(Asset {
            sha256: asset.sha256.clone(),
            name: asset.file.clone(),
            mime: asset.mime.to_owned(),
            bytes,
        })
    });
    Ok(NewVersion {
        sequence: source.sequence.name.clone(),
        hash: source.hash.clone(),
        source: source.text.clone(),
        assets: source.asset_hashes(),
        files: files.collect::<Result<_, StartError>>()?,
    })
}

/// The sets of rules that the configured accounts have.
pub(super) fn targets(config: &Config, profiles: &Profiles) -> Result<Vec<Target>, StartError> {
    forecast::targets(config, profiles)
        .map_err(|(account, what)| StartError::Setting { account, what })
}

/// What the configuration says of one account, or of all accounts of a component.
#[derive(Debug)]
pub(super) struct Rules<'a> {
    /// For messages.
    key: &'a str,
    profile: &'a str,
    timezone: &'a str,
    passive_reply: Option<bool>,
    erase_on_unfollow: bool,
    track_links: bool,
    rate: config::Rate,
    in_flight: Option<usize>,
    /// Minute of the day, and its zone, at which the platform counts anew; `None` for its own midnight.
    quota_reset: Option<(u16, &'a str)>,
}

impl<'a> Rules<'a> {
    /// What a component says of its accounts.
    pub(super) fn of(component: &'a config::Component) -> Self {
        Self {
            key: &component.key,
            profile: &component.profile,
            timezone: &component.timezone,
            passive_reply: component.passive_reply,
            erase_on_unfollow: component.erase_on_unfollow,
            track_links: component.track_links,
            rate: component.rate,
            in_flight: component.in_flight,
            quota_reset: None,
        }
    }
}

/// An account under these rules, before it has an id, a key or a name.
pub(super) fn like(
    rules: &Rules<'_>,
    config: &Config,
    profiles: &Profiles,
) -> Result<Account, StartError> {
    let profile = profiles
        .named(rules.profile)
        .ok_or_else(|| StartError::Setting {
            account: rules.key.to_owned(),
            what: format!(
                "there is no profile `{}`: use one of {}",
                rules.profile,
                profiles.names().join(", ")
            ),
        })?;
    let zone = TimeZone::get(rules.timezone).map_err(|error| StartError::Setting {
        account: rules.key.to_owned(),
        what: format!("timezone: {error}"),
    })?;
    let quota_reset = match rules.quota_reset {
        None => QuotaReset::default(),
        Some((minute, zone)) => QuotaReset {
            minute,
            zone: TimeZone::get(zone).map_err(|error| StartError::Setting {
                account: rules.key.to_owned(),
                what: format!("quota_timezone: {error}"),
            })?,
        },
    };
    Ok(Account {
        quota_reset,
        journey: journey::account::Account {
            id: AccountId(0),
            key: String::new(),
            name: String::new(),
            zone,
        },
        sends: true,
        passive_reply: rules
            .passive_reply
            .unwrap_or_else(|| profile.passive_by_default()),
        erase_on_unfollow: rules.erase_on_unfollow,
        track_links: rules.track_links,
        profile,
        rate: Rate {
            per_second: Some(rules.rate.per_second),
            per_minute: Some(rules.rate.per_minute),
            per_day: Some(rules.rate.per_day),
        },
        in_flight_max: rules
            .in_flight
            .unwrap_or(config.sender.per_account_in_flight),
    })
}

pub(super) fn account(
    account: &config::Account,
    config: &Config,
    profiles: &Profiles,
) -> Result<NewAccount, StartError> {
    let rules = Rules {
        key: &account.key,
        profile: &account.profile,
        timezone: &account.timezone,
        passive_reply: account.passive_reply,
        erase_on_unfollow: account.erase_on_unfollow,
        track_links: account.track_links,
        rate: account.rate,
        in_flight: account.in_flight,
        quota_reset: Some((account.quota_reset, &account.quota_timezone)),
    };
    let mut like = like(&rules, config, profiles)?;
    like.journey.key.clone_from(&account.key);
    like.journey.name.clone_from(&account.name);
    Ok(NewAccount {
        account: like,
        platform: account.access.platform().word().to_owned(),
        app_id: account.access.id().to_owned(),
    })
}

pub(super) fn doors(
    config: &Config,
    store: &Arc<Store>,
    clock: &Arc<dyn Clock>,
    clients: &Arc<Clients>,
) -> Result<Doors, StartError> {
    let mut entrances = HashMap::new();
    for account in &config.accounts {
        let known = store.knowledge().account_named(&account.key);
        let (Some(known), Some(access)) = (known, account.access.wechat()) else {
            continue;
        };
        let keys: Vec<_> = [&access.encoding_aes_key, &access.encoding_aes_key_previous]
            .into_iter()
            .flatten()
            .map(ExposeSecret::expose_secret)
            .collect();
        let cipher = if keys.is_empty() {
            None
        } else {
            let cipher = Cipher::new(&access.app_id, &keys);
            Some(cipher.map_err(|error| StartError::Setting {
                account: account.key.clone(),
                what: format!("encoding_aes_key: {error}"),
            })?)
        };
        let door = Door {
            token: access.token.clone(),
            previous_token: None,
            cipher,
            mode: match access.mode {
                CallbackMode::Safe => Mode::Safe,
                CallbackMode::Compat => Mode::Compat,
                CallbackMode::Plain => Mode::Plain,
            },
            timestamp_window: TIMESTAMP_WINDOW,
        };
        let entrance = Entrance {
            account: known.journey.id,
            door: Arc::new(door),
            original_id: None,
        };
        entrances.insert(account.key.clone(), entrance);
    }
    let companion = Arc::new(ByClients(Arc::clone(clients)));
    let replies = Replies::new(Arc::clone(store), Arc::clone(clock), companion);
    let doors = Doors::new(
        entrances,
        Arc::clone(store),
        Arc::clone(clock),
        config.server.callback_body_max,
    );
    Ok(doors.with_replies(replies))
}

pub(super) fn reconciler(
    config: &Config,
    store: &Arc<Store>,
    clock: &Arc<dyn Clock>,
    clients: Arc<Clients>,
) -> Reconciler {
    let settings = config.reconcile;
    let settings = ReconcileSettings {
        after_downtime: settings.after_downtime,
        daily_at: settings.daily_at,
        page_pause: settings.page_pause,
        refresh_pause: settings.refresh_pause,
        accounts_at_once: settings.accounts_at_once,
    };
    Reconciler::new(Arc::clone(store), Arc::clone(clock), clients, settings)
}

/// Where callbacks go while a shared database is away, and what empties it.
pub(super) async fn spool(
    config: &config::Database,
    store: &Arc<Store>,
) -> Result<Option<(Arc<Spool>, Drain)>, StartError> {
    let (Some(path), Some(reach)) = (&config.spool, Reach::of(&config.url).await?) else {
        return Ok(None);
    };
    let settings = SpoolSettings {
        path: path.clone(),
        events_max: config.spool_max,
        bytes_max: config.spool_bytes_max as u64,
    };
    let spool = Spool::open(&settings).await?;
    let drain = Drain::new(Arc::clone(&spool), Arc::clone(store), reach);
    Ok(Some((spool, drain)))
}

pub(super) fn wheel(config: &Config) -> SchedulerSettings {
    SchedulerSettings {
        ring_entries: config.wheel.ring_entries,
        lead: config.wheel.lead,
        sweep_every: config.wheel.sweep_every,
        promote_max: config.wheel.promote_max,
    }
}

/// Who is told of what needs a person, if anybody is.
pub(super) fn alerts(
    config: &Config,
    store: &Arc<Store>,
    clock: &Arc<dyn Clock>,
) -> Result<Option<Arc<Alerts>>, StartError> {
    let Some(alerts) = &config.alerts else {
        return Ok(None);
    };
    let key = SigningKey::parse(alerts.secret.expose_secret()).ok_or(StartError::AlertSecret)?;
    let settings = AlertSettings {
        url: alerts.url.clone(),
        key,
        unknown_sends: alerts.unknown_sends,
    };
    let alerts = Alerts::new(Arc::clone(store), Arc::clone(clock), settings);
    Ok(Some(Arc::new(alerts)))
}

pub(super) fn clients(
    config: &Config,
    store: &Arc<Store>,
    clock: &Arc<dyn Clock>,
    http: &reqwest::Client,
) -> Result<Arc<Clients>, StartError> {
    let shelf = Arc::new(StoreShelf(Arc::clone(store)));
    let clients = Clients::default();
    for account in &config.accounts {
        let known = store.knowledge().account_named(&account.key);
        let (Some(known), Some(access)) = (known, account.access.wechat()) else {
            continue;
        };
        let api_base = account.api_base.parse().map_err(|_| StartError::Setting {
            account: account.key.clone(),
            what: format!("api_base: `{}` is no URL", account.api_base),
        })?;
        let settings = WechatSettings {
            account: known.journey.id,
            app_id: access.app_id.clone(),
            app_secret: access.app_secret.clone(),
            api_base,
            attempt_timeout: config.sender.attempt_timeout,
            connect_timeout: config.sender.connect_timeout,
            allow_private_media: false,
        };
        let (shelf, clock) = (shelf.clone(), Arc::clone(clock));
        let client = WechatClient::new(settings, shelf, clock, http.clone());
        clients.put(Arc::new(client));
    }
    Ok(Arc::new(clients))
}
