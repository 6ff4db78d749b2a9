//! One run: from a seed to a verdict.

use std::fmt;
use std::time::Duration;

use crate::cluster::{Cluster, Size};
use crate::trace::event;
use crate::{seal, trace};

/// What a run is made from.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Everything else follows from it.
    pub seed: u64,
    /// Whether every event goes to standard error.
    pub aloud: bool,
    /// Faults from this number on are left out.
    pub most_faults: Option<usize>,
}

/// What a sound run tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figures {
    /// Stands for everything that happened.
    pub digest: u64,
    /// How long it was, as those in it saw it.
    pub simulated: Duration,
    /// Segments that arrived.
    pub segments: u64,
}

impl fmt::Display for Figures {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "digest {:016x}, {} s, {} segments",
            self.digest,
            self.simulated.as_secs(),
            self.segments
        )
    }
}

/// How long a cluster may take to form.
const FORMATION: Duration = Duration::from_secs(10);

/// Runs it on this thread, which must be a fresh one.
///
/// # Errors
/// The invariant that did not hold.
pub fn run(plan: &Plan) -> Result<Figures, String> {
    seal::seal(plan.seed);
    trace::begin(plan.aloud);
    let size = Size {
        brokers: 3,
        clients: 2,
    };
    let mut cluster = Cluster::new(plan.seed, size);
    for id in 1..=3 {
        cluster.start(id);
    }
    while !formed(&cluster) {
        cluster.tick();
        alive(&cluster)?;
        if cluster.now > FORMATION {
            return Err(format!("no cluster within {FORMATION:?}"));
        }
    }
    event!("the cluster is there");
    let end = cluster.now + Duration::from_secs(5);
    while cluster.now < end {
        cluster.tick();
        alive(&cluster)?;
    }
    trace::fold(cluster.network.digest());
    Ok(Figures {
        digest: trace::digest(),
        simulated: cluster.now,
        segments: cluster.network.delivered(),
    })
}

fn alive(_: &Cluster) -> Result<(), String> {
    match trace::take_panics().as_slice() {
        [] => Ok(()),
        panics => Err(panics.join("\n")),
    }
}

fn formed(cluster: &Cluster) -> bool {
    let unfenced = |image: &millrace_metadata::Image| {
        let count = image.brokers().filter(|broker| !broker.fenced).count();
        count == cluster.brokers.len()
    };
    let nodes = cluster.nodes();
    nodes.len() == cluster.brokers.len() && nodes.iter().all(|(_, node)| unfenced(&node.image()))
}
