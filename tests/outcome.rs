//! How a run ended, and what a scenario demands of it.

use std::time::Duration;

use millrace_testkit::Cluster;
use millrace_testkit::history::Violation;

use crate::load::Answers;

/// How a run ended.
pub struct Outcome {
    /// The cluster, healed.
    pub cluster: Cluster,
    /// What the producers were told.
    pub answers: Answers,
    /// The longest silence on the partitions that the last fault hit.
    pub gap: Duration,
    /// Broken promises.
    pub violations: Vec<Violation>,
    /// Whatever else is wrong: changed bytes, replicas that differ.
    pub findings: Vec<String>,
}

impl Outcome {
    /// Takes what only idempotent producers are promised as not promised.
    pub fn not_idempotent(mut self) -> Outcome {
        self.violations.retain(|violation| {
            !matches!(
                violation,
                Violation::Duplicated { .. } | Violation::Reordered { .. }
            )
        });
        self
    }

    /// Takes lost records as allowed, as they are with acks=1; what was read must stay all the same.
    pub fn with_losses_allowed(mut self) -> Outcome {
        self.violations
            .retain(|violation| !matches!(violation, Violation::Lost(_) | Violation::Moved { .. }));
        self
    }

    /// Takes these final errors of records as allowed.
    pub fn with_errors_allowed(mut self, allowed: &[&str]) -> Outcome {
        let errors = &mut self.answers.errors;
        errors.retain(|name, _| !allowed.contains(&name.as_str()));
        self
    }

    /// Wants every promise kept and no record refused for good.
    ///
    /// # Panics
    /// When something is wrong; the message holds the first findings.
    pub fn expect_sound(self) -> Outcome {
        let broken = self
            .violations
            .iter()
            .map(|violation| format!("{violation:?}"));
        let broken: Vec<String> = broken.chain(self.findings.iter().cloned()).collect();
        let shown = broken.iter().take(20).cloned().collect::<Vec<_>>();
        assert!(
            broken.is_empty(),
            "{} broken promises:\n{}",
            broken.len(),
            shown.join("\n")
        );
        let errors = &self.answers.errors;
        assert!(errors.is_empty(), "producers were told of {errors:?}");
        assert!(
            self.answers.acked.len() > 100,
            "hardly anything was acknowledged"
        );
        self
    }

    /// Wants the longest silence to be below `limit`. Stock Kafka, whose sessions are longer by
    /// default, is not held to it.
    ///
    /// # Panics
    /// When it was longer.
    pub fn expect_gap_below(self, limit: Duration) -> Outcome {
        assert!(
            self.gap < limit || !self.cluster.system().is_millrace(),
            "no acknowledgement for {:?}; at most {limit:?} is promised",
            self.gap
        );
        self
    }
}
