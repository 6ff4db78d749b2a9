//! What the rules leave to settings, and steps that only tests may leave out.

use std::time::Duration;

#[cfg(not(test))]
use millrace_model::Planted;

/// The times a replica goes by.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// `replica.lag.time.max.ms`: a follower not caught up for so long leaves the ISR.
    pub lag_max: Duration,
    /// `broker.session.timeout.ms`: a follower that does not move for so long while data are
    /// outstanding leaves the ISR.
    pub session: Duration,
    /// The pause before a refused or lost request to the controller is repeated.
    pub isr_backoff: Duration,
    /// What the model check leaves out, to show that it notices.
    #[cfg(test)]
    pub(crate) omitted: Option<Omit>,
}

/// Steps whose omission breaks an invariant; the model check proves that each is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Omit {
    MinIsrGate,
    PendingAdditions,
    RejectionKeepsPending,
    LeaderInMinimum,
    DurableOnlyAcks,
    FollowerChecksEpoch,
    FollowerChecksIncarnation,
    LeaderChecksAckIncarnation,
    ForgetOnNewIncarnation,
    HighWatermarkToJoin,
    EpochStartToJoin,
    WaitForConfirmedRemoval,
    AnswerBeforeAck,
    BaseEqualsLogEnd,
    NewEpochToMend,
}

impl Rules {
    /// Whether a test asked to leave this out; never in production.
    pub(crate) fn omits(&self, step: Omit) -> bool {
        #[cfg(test)]
        return self.omitted == Some(step);
        #[cfg(not(test))]
        planted(step).is_some_and(Planted::is_here)
    }
}

/// The bug that the simulation of the cluster plants by leaving this out.
#[cfg(not(test))]
fn planted(step: Omit) -> Option<Planted> {
    match step {
        Omit::PendingAdditions => Some(Planted::PendingNotCounted),
        Omit::LeaderInMinimum => Some(Planted::LeaderNotCounted),
        Omit::DurableOnlyAcks => Some(Planted::AckFromMemory),
        Omit::HighWatermarkToJoin | Omit::EpochStartToJoin => Some(Planted::JoinsBehind),
        Omit::WaitForConfirmedRemoval => Some(Planted::RemovalNotConfirmed),
        Omit::AnswerBeforeAck => Some(Planted::AckBeforeAnswer),
        Omit::LeaderChecksAckIncarnation
        | Omit::FollowerChecksIncarnation
        | Omit::ForgetOnNewIncarnation => Some(Planted::FencedJoins),
        // In a whole cluster the stream and its round say the same as the epoch, thrice over.
        Omit::FollowerChecksEpoch
        | Omit::MinIsrGate
        | Omit::RejectionKeepsPending
        | Omit::BaseEqualsLogEnd
        | Omit::NewEpochToMend => None,
    }
}

impl Default for Rules {
    fn default() -> Rules {
        Rules {
            lag_max: Duration::from_secs(30),
            session: Duration::from_secs(1),
            isr_backoff: Duration::from_millis(100),
            #[cfg(test)]
            omitted: None,
        }
    }
}
