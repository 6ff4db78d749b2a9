//! Bugs that the simulation of the whole cluster plants, one at a time, to show that it would find
//! them. They are compiled with the feature `planted` only, which nothing but that simulation
//! turns on; without it [`Planted::is_here`] is a constant.

#[cfg(feature = "planted")]
use std::cell::Cell;

macro_rules! planted {
    ($($(#[doc = $doc:literal])+ $name:ident,)*) => {
        /// A bug to plant.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Planted {
            $($(#[doc = $doc])+ $name,)*
        }

        impl Planted {
            /// All of them: what each is called, and what it does.
            pub const ALL: &[(Planted, &str, &str)] = &[
                $((Planted::$name, stringify!($name), concat!($($doc),+)),)*
            ];
        }
    };
}

planted! {
    /// A log calls durable what it wrote and did not sync.
    AckBeforeSync,
    /// The name of a new segment is not synced before records in it are called durable.
    NamesNotSynced,
    /// A follower acknowledges what it has in memory.
    AckFromMemory,
    /// A follower acknowledges before its leader has answered its join.
    AckBeforeAnswer,
    /// Whoever waits for an acknowledgement gets it by the offset, whatever leadership that is of.
    NoEpochCheck,
    /// A follower cuts its log to the high watermark it knows, not by epoch.
    TruncateToHighWatermark,
    /// A leader takes any log for a beginning of its own.
    NoDivergenceCheck,
    /// The high watermark does not wait for members that may yet be added to the ISR.
    PendingNotCounted,
    /// The high watermark does not wait for the leader's own disk.
    LeaderNotCounted,
    /// A member counts as removed from the ISR when its removal is asked for.
    RemovalNotConfirmed,
    /// A follower joins the ISR before it has what is committed.
    JoinsBehind,
    /// Whether a replica is fenced or was restarted does not matter when it joins the ISR.
    FencedJoins,
    /// When nobody in sync is there, any replica is elected.
    UncleanElection,
    /// A producer with acks=all is answered when the leader alone has its records.
    AckFromLeaderAlone,
    /// Consumers read beyond the high watermark.
    ReadsUncommitted,
    /// A new leader does not remember idempotent producers.
    ProducersForgotten,
    /// A snapshot of producers has only the newest batch of each, as Kafka's.
    SnapshotOfTheNewest,
    /// Sequences of idempotent producers are not checked.
    NoSequenceCheck,
    /// A broker forgets which batches of idempotent producers it refused.
    ForgottenRefusal,
    /// After a crash the torn end of a log is taken for whole batches.
    TornTailKept,
    /// A voter does not keep its vote.
    VoteNotKept,
    /// The metadata log answers before it has synced.
    MetadataNotSynced,
    /// A wiped disk votes and leads under the identity of the old one.
    WipedDiskCounts,
}

#[cfg(feature = "planted")]
thread_local! {
    static HERE: Cell<Option<Planted>> = const { Cell::new(None) };
}

impl Planted {
    /// Plants it on this thread.
    #[cfg(feature = "planted")]
    pub fn plant(self) {
        HERE.set(Some(self));
    }

    /// Whether it is planted on this thread; never in production.
    #[inline]
    pub fn is_here(self) -> bool {
        #[cfg(feature = "planted")]
        return HERE.get() == Some(self);
        #[cfg(not(feature = "planted"))]
        {
            let _ = self;
            false
        }
    }
}
