//! Numbers that differ in meaning, each with a type of its own.

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl $name {
            /// The plain number, for the wire and for arithmetic.
            pub const fn get(self) -> $inner {
                self.0
            }

            /// The number that follows.
            ///
            /// # Panics
            /// In debug builds, where there is none.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl From<$inner> for $name {
            fn from(number: $inner) -> Self {
                Self(number)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// The place of a record in a partition's log; the first record ever has offset 0.
    Offset(i64)
);
number!(
    /// Counts the leaderships of a partition; every change of leader raises it (KIP-101).
    LeaderEpoch(i32)
);
number!(
    /// Counts the changes of a partition's registration: leader, ISR, replicas (KIP-500).
    PartitionEpoch(i32)
);
number!(
    /// Given to a broker at registration; a later registration of the same broker has a larger one.
    BrokerEpoch(i64)
);
number!(
    /// The term of the metadata quorum in which a controller was elected.
    ControllerEpoch(i32)
);
number!(
    /// A node's number, `node.id` in its properties; brokers and controllers share one space.
    BrokerId(i32)
);
number!(
    /// The index of the newest metadata entry an image holds, plus one; 0 is the empty image.
    ImageVersion(u64)
);
number!(
    /// Identifies an idempotent or transactional producer (KIP-98).
    ProducerId(i64)
);
number!(
    /// Fences older instances of the same producer id (KIP-98).
    ProducerEpoch(i16)
);
number!(
    /// The number a producer gives to a record within a partition; wraps from 2147483647 to 0.
    Sequence(i32)
);

impl Offset {
    /// The first offset of a log.
    pub const ZERO: Offset = Offset(0);

    /// This offset moved forward by `count` records.
    #[must_use]
    pub const fn plus(self, count: i64) -> Offset {
        Offset(self.0 + count)
    }
}

impl LeaderEpoch {
    /// "No epoch", as the wire writes it.
    pub const NONE: LeaderEpoch = LeaderEpoch(-1);
}

impl BrokerId {
    /// "No broker", as the wire writes it, for instance for a partition without a leader.
    pub const NONE: BrokerId = BrokerId(-1);
}

impl ProducerId {
    /// "Not idempotent", as a batch header writes it.
    pub const NONE: ProducerId = ProducerId(-1);
}

impl ProducerEpoch {
    /// "Not idempotent", as a batch header writes it.
    pub const NONE: ProducerEpoch = ProducerEpoch(-1);
}

impl Sequence {
    /// "Not idempotent", as a batch header writes it.
    pub const NONE: Sequence = Sequence(-1);

    /// The sequence `count` records later, with the producer's wrap-around.
    ///
    /// Kafka class `DefaultRecordBatch.incrementSequence`.
    #[must_use]
    pub const fn plus(self, count: i32) -> Sequence {
        if self.0 > i32::MAX - count {
            Sequence(count - (i32::MAX - self.0) - 1)
        } else {
            Sequence(self.0 + count)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_wrap_to_zero() {
        assert_eq!(Sequence(i32::MAX).plus(1), Sequence(0));
        assert_eq!(Sequence(i32::MAX - 1).plus(3), Sequence(1));
        assert_eq!(Sequence(5).plus(3), Sequence(8));
    }
}
