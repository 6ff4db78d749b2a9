//! `millrace api-versions`: what each broker speaks, printed as `kafka-broker-api-versions.sh` does.

use clap::Args;
use millrace_client::{BrokerVersions, known_apis};

use crate::connect::Bootstrap;
use crate::failure::Failure;

/// Print which API versions each broker speaks.
#[derive(Args, Debug)]
pub struct ApiVersionsArgs {
    #[command(flatten)]
    bootstrap: Bootstrap,
}

/// Runs the command.
pub async fn run(args: ApiVersionsArgs) -> Result<(), Failure> {
    let cluster = args.bootstrap.cluster("api-versions")?;
    for broker in cluster.broker_versions().await? {
        println!("{}", describe(&broker));
    }
    Ok(())
}

fn describe(broker: &BrokerVersions) -> String {
    let node = &broker.node;
    let rack = node.rack.as_deref().unwrap_or("null");
    let name = format!(
        "{}:{} (id: {} rack: {rack} isFenced: false)",
        node.host, node.port, node.id
    );
    let versions = match &broker.versions {
        Ok(versions) => versions,
        Err(error) => return format!("{name} -> ERROR: {error}"),
    };
    let range = |low: i16, high: i16| {
        if low == high {
            low.to_string()
        } else {
            format!("{low} to {high}")
        }
    };
    let mut lines: Vec<String> = Vec::new();
    for (key, api, low, high) in known_apis() {
        lines.push(match versions.get(&key) {
            None => format!("{api}({key}): UNSUPPORTED"),
            Some((theirs_low, theirs_high)) => {
                let newest = high.min(*theirs_high);
                let usable = if newest < low.max(*theirs_low) {
                    "unusable: no common version".to_owned()
                } else {
                    format!("usable: {newest}")
                };
                format!(
                    "{api}({key}): {} [{usable}]",
                    range(*theirs_low, *theirs_high)
                )
            }
        });
    }
    let known: Vec<i16> = known_apis().iter().map(|(key, ..)| *key).collect();
    for (key, (low, high)) in versions.iter().filter(|(key, _)| !known.contains(key)) {
        lines.push(format!("UNKNOWN({key}): {}", range(*low, *high)));
    }
    format!("{name} -> (\n\t{}\n)", lines.join(",\n\t"))
}
