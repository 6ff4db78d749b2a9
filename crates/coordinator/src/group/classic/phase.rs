//! Where a classic group stands (Kafka class `ClassicGroupState`).

/// Where a classic group stands between two assignments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// No members.
    Empty,
    /// Members are asked to join; the first rebalance of an empty group waits for more of them.
    PreparingRebalance { initial: Option<InitialDelay> },
    /// All have joined; the leader is to send the assignment.
    CompletingRebalance,
    /// Everyone may have its assignment.
    Stable,
}

/// How a group that was empty waits for members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InitialDelay {
    /// How long the wait under way is.
    pub delay_ms: i32,
    /// How much longer it may be made after that.
    pub remaining_ms: i32,
    /// Whether a member has come meanwhile, so that it is made longer.
    pub extended: bool,
}

impl Phase {
    /// As the tools show it.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Empty => "Empty",
            Phase::PreparingRebalance { .. } => "PreparingRebalance",
            Phase::CompletingRebalance => "CompletingRebalance",
            Phase::Stable => "Stable",
        }
    }

    pub fn is_preparing(self) -> bool {
        matches!(self, Phase::PreparingRebalance { .. })
    }

    /// Whether this may follow on `before`; the one table of legal changes.
    pub fn may_follow(self, before: Phase) -> bool {
        match self {
            Phase::Empty => before.is_preparing(),
            Phase::PreparingRebalance { .. } => !before.is_preparing(),
            Phase::CompletingRebalance => before.is_preparing(),
            Phase::Stable => before == Phase::CompletingRebalance,
        }
    }
}
