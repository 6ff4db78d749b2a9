//! `millrace get-offsets`: the offsets of partitions at a time, as `topic:partition:offset`, with the
//! options of `kafka-get-offsets.sh`.

use clap::Args;
use millrace_client::{ClientError, Cluster};
use regex::Regex;

use crate::connect::Bootstrap;
use crate::failure::Failure;
use crate::topic_filter::TopicFilter;

/// Print the offsets of partitions.
#[derive(Args, Debug)]
pub struct GetOffsetsArgs {
    #[command(flatten)]
    bootstrap: Bootstrap,
    /// The topics, as a regular expression; all where none is given
    #[arg(long, value_name = "TOPIC", conflicts_with = "topic_partitions")]
    topic: Option<String>,
    /// The partitions, as 0,1,2; all where none is given
    #[arg(long, value_name = "N,N,...", conflicts_with = "topic_partitions")]
    partitions: Option<String>,
    /// Topics with partitions, as topic1:1,topic2:0-3,topic3,topic4:5-,topic5:-3
    #[arg(long, value_name = "PATTERNS")]
    topic_partitions: Option<String>,
    /// A timestamp in milliseconds, or -1/latest, -2/earliest, -3/max-timestamp, -4/earliest-local,
    /// -5/latest-tiered
    #[arg(
        long,
        value_name = "TIME",
        default_value = "latest",
        allow_hyphen_values = true
    )]
    time: String,
    /// Leave out the topics that brokers keep for themselves
    #[arg(long)]
    exclude_internal_topics: bool,
}

/// Runs the command.
pub async fn run(args: GetOffsetsArgs) -> Result<(), Failure> {
    let time = parse_time(&args.time)?;
    let wanted = Wanted::new(&args)?;
    let cluster = args.bootstrap.cluster("get-offsets")?;
    let mut found = false;
    for (topic, is_internal) in cluster.list_topics().await? {
        if args.exclude_internal_topics && is_internal {
            continue;
        }
        let view = cluster.topic_afresh(&topic, false).await?;
        for partition in view.partitions {
            if wanted.includes(&topic, partition.index) {
                found = true;
                print_offset(&cluster, &topic, partition.index, time).await?;
            }
        }
    }
    if found {
        Ok(())
    } else {
        Err(Failure::new(
            "Could not match any topic-partitions with the specified filters",
        ))
    }
}

async fn print_offset(
    cluster: &Cluster,
    topic: &str,
    partition: i32,
    time: i64,
) -> Result<(), Failure> {
    match cluster.offset(topic, partition, time).await {
        // No record is that new: the stock tool prints an empty place.
        Ok(offset) if offset.get() < 0 => println!("{topic}:{partition}:"),
        Ok(offset) => println!("{topic}:{partition}:{offset}"),
        Err(error @ ClientError::Broker { .. }) => {
            eprintln!(
                "Skip getting offsets for topic-partition {topic}-{partition} due to error: {error}"
            );
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

fn parse_time(text: &str) -> Result<i64, Failure> {
    match text {
        "latest" => Ok(-1),
        "earliest" => Ok(-2),
        "max-timestamp" => Ok(-3),
        "earliest-local" => Ok(-4),
        "latest-tiered" => Ok(-5),
        number => number.parse().map_err(|_| {
            Failure::new(format!(
                "Malformed time argument {text}. Please use -1 or latest / -2 or earliest / -3 or \
                 max-timestamp / -4 or earliest-local / -5 or latest-tiered, or a specified long \
                 format timestamp"
            ))
        }),
    }
}

/// Which partitions are asked for: any of these rules.
struct Wanted(Vec<Rule>);

struct Rule {
    topic: Option<TopicFilter>,
    from: i32,
    below: i32,
}

impl Wanted {
    fn new(args: &GetOffsetsArgs) -> Result<Wanted, Failure> {
        if let Some(patterns) = &args.topic_partitions {
            return patterns
                .split(',')
                .map(Rule::parse)
                .collect::<Result<_, _>>()
                .map(Wanted);
        }
        let topic = || args.topic.as_deref().map(TopicFilter::new).transpose();
        let Some(list) = &args.partitions else {
            return Ok(Wanted(vec![Rule {
                topic: topic()?,
                from: 0,
                below: i32::MAX,
            }]));
        };
        let rule = |number: &str| {
            let refuse = |_| {
                Failure::new(format!(
                    "--partitions expects a comma separated list of numeric partition ids, but \
                     received: {list}"
                ))
            };
            let from: i32 = number.trim().parse().map_err(refuse)?;
            Ok(Rule {
                topic: topic()?,
                from,
                below: from.saturating_add(1),
            })
        };
        list.split(',')
            .filter(|n| !n.is_empty())
            .map(rule)
            .collect::<Result<_, _>>()
            .map(Wanted)
    }

    fn includes(&self, topic: &str, partition: i32) -> bool {
        self.0.iter().any(|rule| {
            let named = rule
                .topic
                .as_ref()
                .is_none_or(|filter| filter.matches(topic));
            named && (rule.from..rule.below).contains(&partition)
        })
    }
}

impl Rule {
    fn parse(pattern: &str) -> Result<Rule, Failure> {
        let shape = Regex::new("^([^:,]*)(?::(?:([0-9]*)|(?:([0-9]*)-([0-9]*))))?$")
            .expect("the expression is well formed");
        let refuse = || Failure::new(format!("Invalid rule specification: {pattern}"));
        let parts = shape.captures(pattern).ok_or_else(refuse)?;
        let text = |place: usize| {
            parts
                .get(place)
                .map(|m| m.as_str())
                .filter(|t| !t.is_empty())
        };
        let number = |place: usize| {
            text(place)
                .map(str::parse::<i32>)
                .transpose()
                .map_err(|_| refuse())
        };
        let (only, from, below) = (number(2)?, number(3)?, number(4)?);
        let topic = text(1).map(TopicFilter::new).transpose()?;
        Ok(match only {
            Some(only) => Rule {
                topic,
                from: only,
                below: only.saturating_add(1),
            },
            None => Rule {
                topic,
                from: from.unwrap_or(0),
                below: below.unwrap_or(i32::MAX),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_name_topics_and_ranges() {
        let check = |pattern: &str, topic: &str, partition: i32, expected: bool| {
            let wanted = Wanted(vec![Rule::parse(pattern).unwrap()]);
            assert_eq!(
                wanted.includes(topic, partition),
                expected,
                "{pattern} {topic} {partition}"
            );
        };
        check("t:1", "t", 1, true);
        check("t:1", "t", 2, false);
        check("t:0-3", "t", 2, true);
        check("t:0-3", "t", 3, false);
        check("t", "t", 99, true);
        check("t:5-", "t", 4, false);
        check("t:-3", "t", 2, true);
        check(":2", "any", 2, true);
        assert!(Rule::parse("t:x").is_err());
    }
}
