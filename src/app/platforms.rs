//! The platforms other than WeChat, as the configuration has them: their clients and their doors.

use std::collections::HashMap;
use std::sync::Arc;

use secrecy::ExposeSecret;
use url::Url;

use crate::app::StartError;
use crate::clock::Clock;
use crate::config::{self, Access, Config};
use crate::inbound::cipher::Cipher;
use crate::inbound::envelope::{Door, Mode, TIMESTAMP_WINDOW};
use crate::inbound::gate::{Gate, Gatehouse};
use crate::inbound::line::LineGate;
use crate::inbound::telegram::TelegramGate;
use crate::inbound::webhook::WebhookGate;
use crate::inbound::wecom_kf::{Asking, Mailbox, Page, WecomKfGate};
use crate::journey::ids::AccountId;
use crate::sender::line::{LineClient, LineSettings};
use crate::sender::platform::Platform;
use crate::sender::shelf::StoreShelf;
use crate::sender::telegram::{TelegramClient, TelegramSettings};
use crate::sender::webhook::{WebhookClient, WebhookSettings};
use crate::sender::wecom_kf::{WecomKfClient, WecomKfSettings};
use crate::sign::SigningKey;
use crate::store::Store;

/// What the accounts of other platforms are built with.
#[derive(Debug)]
struct Others<'a> {
    config: &'a Config,
    store: &'a Arc<Store>,
    clock: &'a Arc<dyn Clock>,
    http: &'a reqwest::Client,
}

/// Accounts of other platforms: their ways out, and their ways in by key.
#[derive(Debug, Default)]
pub(super) struct Joined {
    pub(super) ways: Vec<Arc<dyn Platform>>,
    pub(super) gates: HashMap<String, Gatehouse>,
}

/// One account: its way out, and its way in.
type Account = (Arc<dyn Platform>, Gate);

/// Builds every configured account that is not on WeChat.
pub(super) fn join(
    config: &Config,
    store: &Arc<Store>,
    clock: &Arc<dyn Clock>,
    http: &reqwest::Client,
) -> Result<Joined, StartError> {
    let others = Others {
        config,
        store,
        clock,
        http,
    };
    let mut joined = Joined::default();
    for account in &config.accounts {
        let Some(known) = store.knowledge().account_named(&account.key) else {
            continue;
        };
        let id = known.journey.id;
        let Some((way, gate)) = others.account(account, id)? else {
            continue;
        };
        joined.ways.push(way);
        let gatehouse = Gatehouse { account: id, gate };
        joined.gates.insert(account.key.clone(), gatehouse);
    }
    Ok(joined)
}

impl Others<'_> {
    fn account(
        &self,
        account: &config::Account,
        id: AccountId,
    ) -> Result<Option<Account>, StartError> {
        let setting = |what: String| StartError::Setting {
            account: account.key.clone(),
            what,
        };
        let address = |text: &str, key: &str| -> Result<Url, StartError> {
            text.parse()
                .map_err(|_| setting(format!("{key}: `{text}` is no URL")))
        };
        let (clock, http) = (Arc::clone(self.clock), self.http.clone());
        let attempt_timeout = self.config.sender.attempt_timeout;
        let public_url = self.config.server.public_url.as_deref();
        let files_base = public_url.map(|url| format!("{url}/files"));
        Ok(match &account.access {
            Access::Wechat(_) => None,
            Access::Telegram(access) => {
                let settings = TelegramSettings {
                    account: id,
                    bot_token: access.bot_token.clone(),
                    api_base: address(&account.api_base, "api_base")?,
                    attempt_timeout,
                };
                let shelf = Arc::new(StoreShelf(Arc::clone(self.store)));
                let client = TelegramClient::new(settings, shelf, clock, http);
                let gate = TelegramGate {
                    secret_token: access.secret_token.clone(),
                };
                Some((Arc::new(client), Gate::Telegram(gate)))
            }
            Access::Line(access) => {
                let settings = LineSettings {
                    account: id,
                    channel_id: access.channel_id.clone(),
                    channel_access_token: access.channel_access_token.clone(),
                    api_base: address(&account.api_base, "api_base")?,
                    files_base,
                    attempt_timeout,
                };
                let gate = LineGate {
                    channel_secret: access.channel_secret.clone(),
                };
                let client = LineClient::new(settings, clock, http);
                Some((Arc::new(client), Gate::Line(gate)))
            }
            Access::Webhook(access) => {
                let key = SigningKey::parse(access.secret.expose_secret());
                let mut secrets = vec![&access.secret];
                secrets.extend(&access.secret_previous);
                let gate = WebhookGate::new(&secrets);
                let (Some(key), Some(gate)) = (key, gate) else {
                    return Err(setting("secret: is no signing secret".to_owned()));
                };
                let settings = WebhookSettings {
                    account: id,
                    url: address(&access.url, "url")?,
                    key,
                    files_base,
                    attempt_timeout,
                };
                let client = WebhookClient::new(settings, clock, http);
                Some((Arc::new(client), Gate::Webhook(gate)))
            }
            Access::WecomKf(access) => {
                let settings = WecomKfSettings {
                    account: id,
                    corp_id: access.corp_id.clone(),
                    corp_secret: access.corp_secret.clone(),
                    open_kfid: access.open_kfid.clone(),
                    api_base: address(&account.api_base, "api_base")?,
                    attempt_timeout,
                };
                let mut keys = vec![access.encoding_aes_key.expose_secret()];
                let previous = access.encoding_aes_key_previous.as_ref();
                keys.extend(previous.map(ExposeSecret::expose_secret));
                let cipher = Cipher::new(&access.corp_id, &keys)
                    .map_err(|error| setting(format!("encoding_aes_key: {error}")))?;
                let door = Door {
                    token: access.token.clone(),
                    previous_token: None,
                    cipher: Some(cipher),
                    mode: Mode::Safe,
                    timestamp_window: TIMESTAMP_WINDOW,
                };
                let shelf = Arc::new(StoreShelf(Arc::clone(self.store)));
                let client = Arc::new(WecomKfClient::new(settings, shelf, clock, http));
                let mailbox = Arc::new(BySync(Arc::clone(&client)));
                let kfid = access.open_kfid.clone();
                let gate = WecomKfGate::new(id, door, kfid, mailbox);
                Some((client, Gate::WecomKf(gate)))
            }
        })
    }
}

/// What happened at a service account, asked through its client.
#[derive(Debug)]
struct BySync(Arc<WecomKfClient>);

impl Mailbox for BySync {
    fn page<'a>(&'a self, token: &'a str, cursor: &'a str) -> Asking<'a> {
        Box::pin(async move {
            let synced = self.0.sync(token, cursor).await?;
            Ok(Page {
                messages: synced.messages,
                next_cursor: synced.next_cursor,
                has_more: synced.has_more,
            })
        })
    }
}
