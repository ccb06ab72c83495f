//! Consents: how many subscription notices a follower has allowed each template to send.

/// What a follower allowed one template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consent {
    /// The template's id on the platform.
    pub template: String,
    /// Notices that are still allowed.
    pub left: u16,
}

/// The consents of one follower.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Consents(pub Vec<Consent>);

impl Consents {
    /// Whether a notice on this template is allowed.
    pub fn permits(&self, template: &str) -> bool {
        self.0
            .iter()
            .any(|one| one.template == template && one.left > 0)
    }

    /// The follower allowed one more notice.
    pub fn give(&mut self, template: &str) {
        let left = self.entry(template);
        *left = left.saturating_add(1);
    }

    /// The follower, or the platform, says that no more are allowed.
    pub fn withdraw(&mut self, template: &str) {
        *self.entry(template) = 0;
    }

    /// So many more notices are allowed, whatever was known before.
    pub fn set(&mut self, template: &str, left: u16) {
        *self.entry(template) = left;
    }

    /// Takes one notice.
    pub fn spend(&mut self, template: &str) {
        let left = self.entry(template);
        *left = left.saturating_sub(1);
    }

    fn entry(&mut self, template: &str) -> &mut u16 {
        let at = self.0.iter().position(|one| one.template == template);
        let at = at.unwrap_or_else(|| {
            self.0.push(Consent {
                template: template.to_owned(),
                left: 0,
            });
            self.0.len() - 1
        });
        &mut self.0[at].left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_consent_is_for_one_notice_of_its_own_template() {
        let mut consents = Consents::default();
        consents.give("a");
        consents.give("a");
        assert!(consents.permits("a") && !consents.permits("b"));
        consents.spend("a");
        assert!(consents.permits("a"));
        consents.spend("a");
        consents.spend("a");
        assert!(!consents.permits("a"));
        consents.give("a");
        consents.withdraw("a");
        assert!(!consents.permits("a"));
    }
}
