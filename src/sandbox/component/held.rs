//! What a component holds at one moment: tickets, component tokens, and codes on their way.
//!
//! Lives and refusals are those of the platform's 第三方平台 pages: a ticket lives 12 hours, a
//! component token two. Everything is bounded: the oldest goes first.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::settings::ComponentRules;
use super::{COMPONENT_PREFIX, made_up};
use crate::clock::Timestamp;
use crate::sandbox::errcode::Refusal;
use crate::sandbox::quota::beijing_day;
use crate::sandbox::random;

const TICKET_LIFE: Duration = Duration::from_secs(12 * 3600);
pub(super) const TOKEN_LIFE: Duration = Duration::from_secs(7200);
const TICKETS_MAX: usize = 200;
const TOKENS_MAX: usize = 2_000;
const CODES_MAX: usize = 20_000;
/// Clearing the counters is allowed this often in 31 days.
const CLEARS_MAX: usize = 10;
const CLEARS_SPAN: Duration = Duration::from_secs(31 * 86_400);

#[derive(Debug, Default)]
pub(super) struct Held {
    /// With the instant each ends.
    tickets: VecDeque<(String, Timestamp)>,
    tokens: VecDeque<ComponentToken>,
    day: i64,
    tokens_in_day: u64,
    clears: VecDeque<Timestamp>,
    pre_auth_codes: VecDeque<(String, Timestamp)>,
    codes: VecDeque<Code>,
}

#[derive(Debug)]
struct ComponentToken {
    text: String,
    expires_at: Timestamp,
    dies_at: Timestamp,
    /// Refusal put on it; 0 when none.
    killed: i32,
}

/// An authorization code.
#[derive(Clone, Debug)]
pub(super) struct Code {
    pub(super) text: Arc<str>,
    pub(super) account: usize,
    pub(super) serial: u64,
    expires_at: Timestamp,
    uses_left: u32,
    /// Exchanges that brought a token.
    uses: u64,
}

/// Adds to a bounded list.
fn push<T>(list: &mut VecDeque<T>, max: usize, item: T) {
    list.push_back(item);
    if list.len() > max {
        list.pop_front();
    }
}

impl Held {
    pub(super) fn new_ticket(&mut self, now: Timestamp) -> String {
        let ticket = made_up("ticket", 80);
        let entry = (ticket.clone(), now.plus(TICKET_LIFE));
        push(&mut self.tickets, TICKETS_MAX, entry);
        ticket
    }

    /// Ends every ticket now.
    pub(super) fn expire_tickets(&mut self, now: Timestamp) {
        for (_, end) in &mut self.tickets {
            *end = (*end).min(now);
        }
    }

    /// A component token for a ticket: 61006 for an unknown one, 61005 for an old one, 45009
    /// beyond the daily limit.
    pub(super) fn new_token(
        &mut self,
        ticket: &str,
        rules: &ComponentRules,
        now: Timestamp,
    ) -> Result<String, Refusal> {
        let known = self.tickets.iter().find(|(text, _)| text == ticket);
        let (_, end) = known.ok_or(Refusal(61006))?;
        if *end <= now {
            return Err(Refusal(61005));
        }
        if self.day != beijing_day(now) {
            (self.day, self.tokens_in_day) = (beijing_day(now), 0);
        }
        if rules
            .component_tokens_per_day
            .is_some_and(|max| self.tokens_in_day >= max)
        {
            return Err(Refusal::DAILY_LIMIT);
        }
        self.tokens_in_day += 1;
        let text = format!("{COMPONENT_PREFIX}{}", random::text(140));
        for before in &mut self.tokens {
            before.dies_at = before.dies_at.min(now.plus(rules.overlap()));
        }
        let expires_at = now.plus(TOKEN_LIFE);
        let token = ComponentToken {
            text: text.clone(),
            expires_at,
            dies_at: expires_at,
            killed: 0,
        };
        push(&mut self.tokens, TOKENS_MAX, token);
        Ok(text)
    }

    /// Whether a component token is taken; `None` when it is not this component's.
    pub(super) fn check_token(&self, token: &str, now: Timestamp) -> Option<Result<(), Refusal>> {
        let found = self.tokens.iter().find(|one| one.text == token)?;
        Some(match found.killed {
            0 if now < found.dies_at => Ok(()),
            0 if now < found.expires_at => Err(Refusal::TOKEN_NOT_LATEST),
            0 => Err(Refusal::TOKEN_EXPIRED),
            code => Err(Refusal(code)),
        })
    }

    pub(super) fn kill_tokens(&mut self, code: i32) {
        for token in &mut self.tokens {
            token.killed = code;
        }
    }

    pub(super) fn new_pre_auth_code(&mut self, rules: &ComponentRules, now: Timestamp) -> String {
        let code = made_up("preauthcode", 60);
        let end = now.plus(Duration::from_secs(rules.pre_auth_code_seconds));
        push(&mut self.pre_auth_codes, CODES_MAX, (code.clone(), end));
        code
    }

    pub(super) fn knows_pre_auth_code(&self, code: &str, now: Timestamp) -> bool {
        self.pre_auth_codes
            .iter()
            .any(|(text, end)| text == code && now < *end)
    }

    /// Uses a pre-authorization code up.
    pub(super) fn spend_pre_auth_code(&mut self, code: &str) {
        self.pre_auth_codes.retain(|(text, _)| text != code);
    }

    pub(super) fn new_code(
        &mut self,
        account: usize,
        serial: u64,
        rules: &ComponentRules,
        now: Timestamp,
    ) -> (Arc<str>, Timestamp) {
        let text: Arc<str> = made_up("queryauthcode", 60).into();
        let expires_at = now.plus(Duration::from_secs(rules.authorization_code_seconds));
        let code = Code {
            text: Arc::clone(&text),
            account,
            serial,
            expires_at,
            uses_left: rules.authorization_code_uses,
            uses: 0,
        };
        push(&mut self.codes, CODES_MAX, code);
        (text, expires_at)
    }

    /// Lets a code be exchanged as often as a server likes.
    pub(super) fn free_code(&mut self, code: &str) {
        for one in self.codes.iter_mut().filter(|one| &*one.text == code) {
            one.uses_left = u32::MAX;
        }
    }

    /// Takes a code in: 61009 for an unknown one, 61010 for one that ended or was used up.
    pub(super) fn spend_code(&mut self, code: &str, now: Timestamp) -> Result<Code, Refusal> {
        let found = self.codes.iter_mut().find(|one| &*one.text == code);
        let found = found.ok_or(Refusal(61009))?;
        if found.expires_at <= now || found.uses_left == 0 {
            return Err(Refusal(61010));
        }
        found.uses_left -= 1;
        found.uses += 1;
        Ok(found.clone())
    }

    /// How often a code was exchanged.
    pub(super) fn uses_of(&self, code: &str) -> u64 {
        let found = self.codes.iter().find(|one| &*one.text == code);
        found.map_or(0, |one| one.uses)
    }

    /// Zeroes the daily count, or refuses with 48006.
    pub(super) fn clear_counts(&mut self, now: Timestamp) -> Result<(), Refusal> {
        self.clears.retain(|at| now.since(*at) < CLEARS_SPAN);
        if self.clears.len() >= CLEARS_MAX {
            return Err(Refusal::CLEARS_SPENT);
        }
        self.clears.push_back(now);
        self.tokens_in_day = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    fn after(seconds: u64) -> Timestamp {
        NOW.plus(Duration::from_secs(seconds))
    }

    #[test]
    fn a_ticket_brings_tokens_for_twelve_hours() {
        let rules = ComponentRules::default();
        let mut held = Held::default();
        let ticket = held.new_ticket(NOW);
        assert!(ticket.starts_with("ticket@@@"), "{ticket}");
        held.new_ticket(after(600));
        assert!(held.new_token(&ticket, &rules, after(43_199)).is_ok());
        let refused = held.new_token(&ticket, &rules, after(43_200));
        assert_eq!(refused, Err(Refusal(61005)));
        let stripped = ticket.trim_start_matches("ticket@@@");
        assert_eq!(
            held.new_token(stripped, &rules, NOW),
            Err(Refusal(61006)),
            "the prefix belongs to the ticket"
        );
    }

    #[test]
    fn a_component_token_ends_when_its_life_or_its_turn_ends() {
        let mut rules = ComponentRules::default();
        let mut held = Held::default();
        let ticket = held.new_ticket(NOW);
        let first = held.new_token(&ticket, &rules, NOW).unwrap();
        assert_eq!(held.check_token(&first, after(7199)), Some(Ok(())));
        let expired = held.check_token(&first, after(7200));
        assert_eq!(expired, Some(Err(Refusal::TOKEN_EXPIRED)));
        rules.overlap_seconds = 300;
        let second = held.new_token(&ticket, &rules, after(10)).unwrap();
        assert_eq!(held.check_token(&first, after(309)), Some(Ok(())));
        let superseded = held.check_token(&first, after(310));
        assert_eq!(superseded, Some(Err(Refusal::TOKEN_NOT_LATEST)));
        assert_eq!(held.check_token(&second, after(310)), Some(Ok(())));
        assert_eq!(held.check_token("component_x", NOW), None);
    }

    #[test]
    fn a_code_is_exchanged_once_and_in_time() {
        let rules = ComponentRules::default();
        let mut held = Held::default();
        let (code, end) = held.new_code(3, 1, &rules, NOW);
        assert_eq!(end, after(600));
        assert_eq!(held.spend_code("x", NOW).unwrap_err(), Refusal(61009));
        assert_eq!(held.spend_code(&code, end).unwrap_err(), Refusal(61010));
        assert_eq!(held.spend_code(&code, NOW).unwrap().account, 3);
        assert_eq!(held.spend_code(&code, NOW).unwrap_err(), Refusal(61010));
        assert_eq!(held.uses_of(&code), 1);
    }
}
