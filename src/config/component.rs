//! Checks third-party platforms (components): whose accounts come by authorization, not by this file.

use super::account::{all, choose, first};
use super::check::{Check, DEFAULTS, preset};
use super::raw::{RawComponent, RawConfig};
use super::{Account, Component};

/// Most third-party platforms of one server.
const COMPONENTS_MAX: usize = 16;

impl Check<'_> {
    /// `public_url` says that the server knows how the world reaches it.
    pub(super) fn components(
        &mut self,
        raw: &RawConfig,
        accounts: &[Account],
        public_url: bool,
    ) -> Vec<Component> {
        let list = raw.components.as_deref().unwrap_or_default();
        if let Some(beyond) = list.get(COMPONENTS_MAX) {
            let message = format!("there are {} components", list.len());
            let fix = format!("use at most {COMPONENTS_MAX} on one server");
            self.problems.note_with(beyond.place, message, fix);
            return Vec::new();
        }
        let mut components: Vec<Component> = Vec::new();
        for at in list {
            let Some(component) = self.component(&at.value, raw) else {
                continue;
            };
            if !public_url {
                self.problems.note_with(
                    at.value.key.place,
                    "the platform sends people back to this server, which does not know its address",
                    "set `server.public_url`",
                );
            }
            if components.iter().any(|other| other.key == component.key) {
                let message = format!("the component `{}` is here twice", component.key);
                let fix = "give every component its own key";
                self.problems.note_with(at.value.key.place, message, fix);
            }
            let app_ids = components.iter().map(|other| &other.app_id);
            let wechat = accounts
                .iter()
                .filter_map(|account| account.access.wechat());
            let mut app_ids = app_ids.chain(wechat.map(|wechat| &wechat.app_id));
            if app_ids.any(|app_id| *app_id == component.app_id) {
                self.problems.note_with(
                    at.value.app_id.place,
                    "this app id is here twice",
                    "a third-party platform has an app id of its own, which is no account's",
                );
            }
            components.push(component);
        }
        components
    }

    fn component(&mut self, raw: &RawComponent, all_raw: &RawConfig) -> Option<Component> {
        let given = all_raw.account_defaults.as_ref();
        let pages = all_raw.component_defaults.as_ref();
        let base = preset(DEFAULTS.account_defaults.as_ref());
        let bases = preset(DEFAULTS.component_defaults.as_ref());
        let key = self.name(&raw.key);
        let app_id = self.app_id(&raw.app_id);
        let app_secret = self.app_secret(&raw.app_secret);
        let token = self.callback_token(&raw.token);
        let encoding_aes_key = self.aes_key(&raw.encoding_aes_key);
        let previous = raw.encoding_aes_key_previous.as_ref();
        let encoding_aes_key_previous = previous.map(|at| self.aes_key(at));
        let profile = choose(
            &raw.profile,
            given.map(|given| &given.profile),
            &base.profile,
        );
        let api_base = choose(
            &raw.api_base,
            given.map(|given| &given.api_base),
            &base.api_base,
        );
        let timezone = choose(
            &raw.timezone,
            given.map(|given| &given.timezone),
            &base.timezone,
        );
        let (profile, timezone) = (self.name(profile), self.zone(timezone));
        let api_base = self.web_address(api_base);
        let login_base = choose(
            &raw.login_base,
            pages.map(|pages| &pages.login_base),
            &bases.login_base,
        );
        let login_base = self.web_address(login_base);
        let mobile_login_base = choose(
            &raw.mobile_login_base,
            pages.map(|pages| &pages.mobile_login_base),
            &bases.mobile_login_base,
        );
        let mobile_login_base = self.web_address(mobile_login_base);
        let rate = self.rate(
            raw.rate.as_ref(),
            given.and_then(|given| given.rate.as_ref()),
        );
        let in_flight = raw
            .in_flight
            .as_ref()
            .or(given.and_then(|given| given.in_flight.as_ref()));
        let in_flight = in_flight.map(|at| self.count(at, 1, 10_000));
        Some(Component {
            key: key?,
            app_id: app_id?,
            app_secret: app_secret?,
            token: token?,
            encoding_aes_key: encoding_aes_key?,
            encoding_aes_key_previous: all(encoding_aes_key_previous)?,
            api_base: api_base?,
            login_base: login_base?,
            mobile_login_base: mobile_login_base?,
            profile: profile?,
            timezone: timezone?,
            erase_on_unfollow: first(
                raw.erase_on_unfollow,
                given.and_then(|given| given.erase_on_unfollow),
                base.erase_on_unfollow,
            ),
            track_links: first(
                raw.track_links,
                given.and_then(|given| given.track_links),
                base.track_links,
            ),
            passive_reply: raw
                .passive_reply
                .or(given.and_then(|given| given.passive_reply)),
            rate: rate?,
            in_flight: all(in_flight)?,
        })
    }
}
