//! 全网发布检测: the platform's own check of a third-party platform before it may serve everybody,
//! played against a running server.
//!
//! Steps, texts and timing are those of the platform's page 全网发布接入检测说明 (releases
//! instructions); the legacy event is from its copies before 2018. The server gets the same pushes
//! and finds the same calls (`api_query_auth`, `custom/send`) as there. Deliberately absent:
//! whatever else the platform looks at, such as the registered domains.

mod groups;
mod reply;
mod steps;

use std::time::Duration;

use serde::Serialize;

pub use self::groups::GROUPS_MAX;

use self::groups::{GROUPS, TestAccount};
use self::steps::Check;
use super::component::AuthorizerKind;
use super::control::{Control, ControlError};

/// What to check.
#[derive(Clone, Debug)]
pub struct ConformanceOptions {
    /// Groups of test accounts, 1 to 5; the platform picks one of them.
    pub groups: Vec<u8>,
    /// 公众号消息管理 was selected: steps 1 to 3.
    pub official_accounts: bool,
    /// 小程序客服消息 was selected: step 4.
    pub mini_programs: bool,
    /// The event of the pages before 2018 as well.
    pub legacy: bool,
    /// How long a server may take from the empty answer to its message by the API. The platform
    /// says "at once".
    pub send_within: Duration,
}

impl Default for ConformanceOptions {
    fn default() -> Self {
        Self {
            groups: (1..=GROUPS_MAX).collect(),
            official_accounts: true,
            mini_programs: true,
            legacy: true,
            send_within: Duration::from_secs(10),
        }
    }
}

/// One thing the platform looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ConformanceStep {
    /// `component_verify_ticket` is answered `success`.
    Ticket,
    /// A text is answered by a passive reply.
    TextReply,
    /// `authorized` is answered `success`.
    Authorized,
    /// A text with a code is answered by an empty string.
    CodeText,
    /// The code is exchanged.
    QueryAuth,
    /// The message by the API.
    ApiText,
    /// An event is answered by a passive reply (legacy).
    EventReply,
}

impl ConformanceStep {
    /// What tables call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ticket => "ticket",
            Self::TextReply => "text reply",
            Self::Authorized => "authorized",
            Self::CodeText => "code text",
            Self::QueryAuth => "api_query_auth",
            Self::ApiText => "custom/send",
            Self::EventReply => "event reply",
        }
    }
}

/// One step and its verdict.
#[derive(Clone, Debug, Serialize)]
pub struct ConformanceVerdict {
    pub group: u8,
    pub step: ConformanceStep,
    /// The test account; absent where a step is about the component itself.
    pub account: Option<&'static str>,
    /// Of the test account.
    pub kind: Option<AuthorizerKind>,
    pub passed: bool,
    pub expected: String,
    pub seen: String,
    /// Real milliseconds.
    pub elapsed_ms: u64,
}

/// Every verdict, in order.
#[derive(Clone, Debug, Serialize)]
pub struct ConformanceReport {
    pub passed: bool,
    pub verdicts: Vec<ConformanceVerdict>,
}

impl Control {
    /// Checks the server behind a component's URLs; `told` hears each verdict as it falls.
    ///
    /// The test accounts are created as needed and authorize the component anew in every group.
    pub async fn conformance(
        &self,
        component: &str,
        options: &ConformanceOptions,
        mut told: impl FnMut(&ConformanceVerdict),
    ) -> Result<ConformanceReport, ControlError> {
        let component = self.component_of(component)?;
        let mut verdicts = Vec::new();
        for number in &options.groups {
            let group = usize::from(*number).checked_sub(1);
            let group = group.and_then(|index| GROUPS.get(index));
            let group = group.ok_or(ControlError::Invalid("groups are 1 to 5"))?;
            let mut check = Check {
                world: self.world(),
                component,
                options,
                group: *number,
                verdicts: Vec::new(),
                told: &mut told,
            };
            check.ticket().await;
            let selected = [
                (options.official_accounts, &group.official),
                (options.mini_programs, &group.mini),
            ];
            for (_, account) in selected.into_iter().filter(|(selected, _)| *selected) {
                check.account(account).await?;
            }
            verdicts.append(&mut check.verdicts);
        }
        Ok(ConformanceReport {
            passed: verdicts.iter().all(|verdict| verdict.passed),
            verdicts,
        })
    }
}

impl TestAccount {
    /// The permission sets it grants.
    fn sets(&self) -> &'static [u32] {
        match self.kind {
            AuthorizerKind::OfficialAccount => &super::component::SETS,
            AuthorizerKind::MiniProgram => &[super::component::MINI_PROGRAM_MESSAGES],
        }
    }
}
