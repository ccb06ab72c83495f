//! Templates in messages and conditions on followers.

/// A condition such as `'vip' not in follower.tags`, compiled.
#[derive(Clone, Debug)]
pub struct Condition;
