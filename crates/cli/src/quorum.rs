//! `millrace quorum`: the state of the metadata quorum, printed as `kafka-metadata-quorum.sh` does.

use clap::{Args, Subcommand};
use millrace_client::{QuorumReplica, QuorumView};
use millrace_model::BrokerId;

use crate::connect::Bootstrap;
use crate::failure::Failure;

/// Show the metadata quorum.
#[derive(Args, Debug)]
pub struct QuorumArgs {
    /// The brokers to ask first, as HOST:PORT,HOST:PORT
    #[arg(
        long,
        value_name = "HOST:PORT,...",
        conflicts_with = "bootstrap_controller"
    )]
    bootstrap_server: Option<String>,
    /// The controllers to ask first, as HOST:PORT,HOST:PORT
    #[arg(long, value_name = "HOST:PORT,...")]
    bootstrap_controller: Option<String>,
    /// A properties file for the connection, as the stock tool takes
    #[arg(long, value_name = "FILE", hide = true)]
    command_config: Option<std::path::PathBuf>,
    #[command(subcommand)]
    command: QuorumCommand,
}

#[derive(Subcommand, Debug)]
enum QuorumCommand {
    /// Describe the quorum
    Describe(DescribeArgs),
}

#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct Which {
    /// The leader, the voters and how far they are
    #[arg(long)]
    status: bool,
    /// Each replica of the metadata log
    #[arg(long)]
    replication: bool,
}

#[derive(Args, Debug)]
struct DescribeArgs {
    #[command(flatten)]
    which: Which,
    /// Print times as spans
    #[arg(long)]
    human_readable: bool,
}

/// Runs the command.
pub async fn run(args: QuorumArgs) -> Result<(), Failure> {
    let QuorumCommand::Describe(describe) = args.command;
    let server = args.bootstrap_controller.or(args.bootstrap_server);
    let bootstrap_server = server.unwrap_or_else(|| "localhost:9092".to_owned());
    let bootstrap = Bootstrap {
        bootstrap_server,
        command_config: args.command_config,
    };
    let cluster = bootstrap.cluster("quorum")?;
    let quorum = cluster.describe_quorum().await?;
    let now = cluster.machine().clock.wall().get();
    if describe.which.status {
        print!("{}", status(&quorum));
    } else {
        print!(
            "{}",
            replication(&quorum, describe.human_readable.then_some(now))
        );
    }
    Ok(())
}

fn status(quorum: &QuorumView) -> String {
    let leader = quorum.voters.iter().find(|voter| voter.id == quorum.leader);
    let leader_end = leader.map_or(0, |leader| leader.log_end_offset);
    let slowest = quorum
        .voters
        .iter()
        .min_by_key(|voter| voter.log_end_offset);
    let lag = slowest.map_or(0, |voter| leader_end - voter.log_end_offset);
    let lag_ms = match (leader, slowest) {
        (Some(leader), Some(slowest))
            if slowest.last_caught_up_ms >= 0 && leader.id != slowest.id =>
        {
            (leader.last_caught_up_ms - slowest.last_caught_up_ms).max(0)
        }
        (Some(_), Some(slowest)) if slowest.last_caught_up_ms < 0 => -1,
        _ => 0,
    };
    let listed = |replicas: &[QuorumReplica]| {
        let each = replicas.iter().map(|replica| member(quorum, replica));
        format!("[{}]", each.collect::<Vec<_>>().join(", "))
    };
    format!(
        "ClusterId:              {}\nLeaderId:               {}\nLeaderEpoch:            {}\n\
         HighWatermark:          {}\nMaxFollowerLag:         {lag}\nMaxFollowerLagTimeMs:   {lag_ms}\n\
         CurrentVoters:          {}\nCurrentObservers:       {}\n",
        quorum.cluster_id,
        quorum.leader,
        quorum.leader_epoch,
        quorum.high_watermark,
        listed(&quorum.voters),
        listed(&quorum.observers),
    )
}

fn member(quorum: &QuorumView, replica: &QuorumReplica) -> String {
    let mut text = format!("{{\"id\": {}", replica.id);
    if !replica.directory_id.is_zero() {
        text += &format!(", \"directoryId\": \"{}\"", replica.directory_id);
    } else {
        text += ", \"directoryId\": null";
    }
    if let Some(endpoints) = quorum.endpoints.get(&replica.id) {
        let quoted: Vec<String> = endpoints.iter().map(|e| format!("\"{e}\"")).collect();
        text += &format!(", \"endpoints\": [{}]", quoted.join(", "));
    }
    text + "}"
}

fn replication(quorum: &QuorumView, human_from: Option<i64>) -> String {
    let leader_end = quorum
        .voters
        .iter()
        .find(|voter| voter.id == quorum.leader)
        .map_or(0, |leader| leader.log_end_offset);
    let moment = |time_ms: i64| match human_from {
        Some(now) if time_ms >= 0 => format!("{} ms ago", (now - time_ms).max(0)),
        _ => time_ms.to_string(),
    };
    let headings = [
        "NodeId",
        "DirectoryId",
        "LogEndOffset",
        "Lag",
        "LastFetchTimestamp",
        "LastCaughtUpTimestamp",
        "Status",
    ];
    let mut rows = vec![headings.map(str::to_owned)];
    let mut add = |replica: &QuorumReplica, status: &str| {
        rows.push([
            replica.id.to_string(),
            replica.directory_id.to_string(),
            replica.log_end_offset.to_string(),
            (leader_end - replica.log_end_offset).to_string(),
            moment(replica.last_fetch_ms),
            moment(replica.last_caught_up_ms),
            status.to_owned(),
        ]);
    };
    let is_leader = |id: BrokerId| id == quorum.leader;
    quorum
        .voters
        .iter()
        .filter(|v| is_leader(v.id))
        .for_each(|voter| add(voter, "Leader"));
    quorum
        .voters
        .iter()
        .filter(|v| !is_leader(v.id))
        .for_each(|voter| add(voter, "Follower"));
    quorum
        .observers
        .iter()
        .for_each(|observer| add(observer, "Observer"));
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let line = |row: &[String; 7]| {
        let cells = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("\t") + "\t\n"
    };
    rows.iter().map(line).collect()
}
