//! Third-party platforms as the configuration has them: their doors, their accounts, and the desk
//! that joins the two.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};

use crate::app::StartError;
use crate::app::parts::{self, Rules};
use crate::clock::Clock;
use crate::config::{self, Config};
use crate::inbound::callback::Doors;
use crate::inbound::cipher::Cipher;
use crate::inbound::component::{
    ComponentDoors, ComponentEntrance, Desk, Exchanged, TEST_ACCOUNTS, Work,
};
use crate::inbound::envelope::{Door, Mode, TIMESTAMP_WINDOW};
use crate::policy::profile::Profiles;
use crate::sender::shelf::StoreShelf;
use crate::sender::wechat::{
    CheckQuestion, Clients, Component, ComponentSettings, Registrar, RegistrarSettings,
};
use crate::store::{Store, components};

/// A component ready to be joined.
#[derive(Debug)]
pub(super) struct Joined {
    pub(super) key: String,
    pub(super) registrar: Arc<Registrar>,
    entrance: ComponentEntrance,
}

/// What components are built with.
#[derive(Debug)]
pub(super) struct Joining<'a> {
    pub(super) config: &'a Config,
    pub(super) profiles: &'a Profiles,
    pub(super) store: &'a Arc<Store>,
    pub(super) clock: &'a Arc<dyn Clock>,
    pub(super) clients: &'a Arc<Clients>,
    pub(super) http: &'a reqwest::Client,
}

impl Joining<'_> {
    /// Builds every component, and makes the accounts known that it had before the start.
    pub(super) async fn components(self) -> Result<Vec<Joined>, StartError> {
        let Self {
            config,
            profiles,
            store,
            clock,
            clients,
            http,
        } = self;
        let known = config.components.iter();
        let known = known.map(|one| (one.key.clone(), one.app_id.clone()));
        components::configure(store, known.collect()).await?;
        let mut joined = Vec::new();
        for component in &config.components {
            let setting = |what: String| StartError::Setting {
                account: component.key.clone(),
                what,
            };
            let api_base: url::Url = component
                .api_base
                .parse()
                .map_err(|_| setting(format!("api_base: `{}` is no URL", component.api_base)))?;
            let calls = ComponentSettings {
                app_id: component.app_id.clone(),
                app_secret: component.app_secret.clone(),
                api_base: api_base.clone(),
                attempt_timeout: config.sender.attempt_timeout,
            };
            let calls = Component::new(calls, Arc::clone(store), Arc::clone(clock), http.clone());
            let own = config.accounts.iter();
            let settings = RegistrarSettings {
                like: parts::like(&Rules::of(component), config, profiles)?,
                own_accounts: own
                    .flat_map(|account| [account.access.id().to_owned(), account.key.clone()])
                    .collect(),
                test_accounts: test_accounts(),
                api_base,
                attempt_timeout: config.sender.attempt_timeout,
                connect_timeout: config.sender.connect_timeout,
            };
            let shelf = Arc::new(StoreShelf(Arc::clone(store)));
            let clients = Arc::clone(clients);
            let registrar = Registrar::new(calls, settings, clients, shelf, http.clone());
            let registrar = Arc::new(registrar);
            let accounts = registrar.load().await?;
            tracing::info!(component = component.key, accounts, "third-party platform");
            joined.push(Joined {
                key: component.key.clone(),
                entrance: entrance(component, config, &registrar)?,
                registrar,
            });
        }
        Ok(joined)
    }
}

fn test_accounts() -> HashSet<String> {
    let app_ids = TEST_ACCOUNTS.iter().map(|one| one.app_id.to_owned());
    app_ids.collect()
}

fn entrance(
    component: &config::Component,
    config: &Config,
    registrar: &Arc<Registrar>,
) -> Result<ComponentEntrance, StartError> {
    let keys: Vec<_> = [
        Some(&component.encoding_aes_key),
        component.encoding_aes_key_previous.as_ref(),
    ]
    .into_iter()
    .flatten()
    .map(ExposeSecret::expose_secret)
    .collect();
    let cipher = Cipher::new(&component.app_id, &keys);
    let cipher = cipher.map_err(|error| StartError::Setting {
        account: component.key.clone(),
        what: format!("encoding_aes_key: {error}"),
    })?;
    let public_url = config.server.public_url.as_deref().unwrap_or("");
    Ok(ComponentEntrance {
        app_id: component.app_id.clone(),
        door: Arc::new(Door {
            token: component.token.clone(),
            previous_token: None,
            cipher: Some(cipher),
            mode: Mode::Safe,
            timestamp_window: TIMESTAMP_WINDOW,
        }),
        desk: Arc::new(RegistrarDesk(Arc::clone(registrar))),
        login_base: component.login_base.clone(),
        mobile_login_base: component.mobile_login_base.clone(),
        back: format!("{public_url}/component/{}/authorized", component.key),
    })
}

/// The doors of all components, whose accounts' callbacks go on through `doors`.
pub(super) fn doors(
    joined: Vec<Joined>,
    doors: &Arc<Doors>,
) -> (ComponentDoors, Vec<Arc<Registrar>>) {
    let (mut entrances, mut registrars) = (HashMap::new(), Vec::new());
    for one in joined {
        entrances.insert(one.key, one.entrance);
        registrars.push(one.registrar);
    }
    let doors = ComponentDoors::new(entrances, Arc::clone(doors));
    (doors, registrars)
}

/// The registrar, as doors and pages see it.
#[derive(Debug)]
struct RegistrarDesk(Arc<Registrar>);

impl Desk for RegistrarDesk {
    fn look(&self) {
        self.0.look();
    }

    fn look_at_ticket(&self) {
        self.0.look_at_ticket();
    }

    fn look_for_missed(&self) {
        self.0.look_for_missed();
    }

    fn pre_auth_code(&self) -> Work<Option<String>> {
        let registrar = Arc::clone(&self.0);
        Box::pin(async move {
            let code = registrar.component().pre_auth_code().await;
            let code = code.map_err(|answer| {
                tracing::warn!(reason = answer.detail, "no pre-authorization code");
            });
            code.ok()
        })
    }

    fn exchange(&self, code: SecretString) -> Work<Exchanged> {
        let registrar = Arc::clone(&self.0);
        Box::pin(async move {
            match registrar.exchange(code).await {
                Ok(taken) => Exchanged::Taken {
                    name: match taken.name.as_str() {
                        "" => taken.app_id,
                        _ => taken.name,
                    },
                    reason: taken.reason,
                },
                Err(answer) => {
                    tracing::warn!(reason = answer.detail, "authorization code not exchanged");
                    Exchanged::Refused(answer.code)
                }
            }
        })
    }

    fn note_test_code(&self, app_id: &str, code: SecretString) {
        self.0.note_test_code(app_id, code);
    }

    fn answer_check(&self, app_id: &str, openid: &str, code: SecretString) {
        let registrar = Arc::clone(&self.0);
        let question = CheckQuestion {
            app_id: app_id.to_owned(),
            openid: openid.to_owned(),
            code,
        };
        tokio::spawn(async move { registrar.answer_check(&question).await });
    }
}
