//! One broker is cut off from all others, and perhaps from some clients: both ways, or so that it
//! only hears or is only heard.

use rand::Rng;
use rand::rngs::StdRng;

use super::{Struck, running, seconds};
use crate::cluster::{Cluster, broker_name};

pub fn strike(cluster: &mut Cluster, rng: &mut StdRng) -> Option<Struck> {
    let id = running(cluster, rng)?;
    let own = broker_name(id);
    let names: Vec<String> = cluster
        .names()
        .iter()
        .map(|name| (*name).to_owned())
        .collect();
    let cut: Vec<String> = names
        .into_iter()
        .filter(|name| *name != own && (name.starts_with("broker") || rng.random_bool(0.3)))
        .collect();
    let lasts = seconds(rng, 0.3..10.0);
    // Drawn from what is drawn already, so that seeds go on as they did before there were ways.
    let (hears, is_heard) = match lasts.as_millis() % 4 {
        0 => (true, false),
        1 => (false, true),
        _ => (false, false),
    };
    let set = move |cluster: &mut Cluster, name: &str, now: bool| {
        if !hears {
            cluster.cut(name, &own, false, now);
        }
        if !is_heard {
            cluster.cut(&own, name, false, now);
        }
    };
    for name in &cut {
        set(cluster, name, true);
    }
    let ways = match (hears, is_heard) {
        (true, _) => "is not heard by",
        (_, true) => "does not hear",
        _ => "is cut off from",
    };
    let what = format!("broker {id} {ways} {} for {lasts:?}", cut.join(", "));
    Struck::new(what, lasts, move |cluster| {
        for name in &cut {
            set(cluster, name, false);
        }
    })
}
