//! Answers and records as one line each.

use std::collections::BTreeMap;

use millrace_coordinator::group::{Record, Response};
use millrace_model::ErrorCode;
use millrace_protocol::messages::consumer_protocol_subscription::ConsumerProtocolSubscription;
use millrace_protocol::messages::group_metadata_value::GroupMetadataValue;
use millrace_protocol::{Decode, Reader};

/// Names for member ids: the client's, and which of its ids it is.
#[derive(Debug, Default)]
pub struct Names {
    names: BTreeMap<String, String>,
    counts: BTreeMap<String, usize>,
}

impl Names {
    pub fn learn(&mut self, client: &str, id: &str) {
        if !id.is_empty() && !self.names.contains_key(id) {
            let count = self.counts.entry(client.to_owned()).or_default();
            *count += 1;
            let name = format!("{client}{}", "'".repeat(*count - 1));
            self.names.insert(id.to_owned(), name);
        }
    }

    pub fn of<'a>(&'a self, id: &'a str) -> &'a str {
        match self.names.get(id) {
            Some(name) => name,
            None if id.is_empty() => "-",
            None => id,
        }
    }
}

pub fn code(code: i16) -> &'static str {
    ErrorCode::from_code(code).expect("a code of Kafka").name()
}

fn text(bytes: &[u8]) -> String {
    match bytes {
        [] => "-".to_owned(),
        [0, 1, subscription @ ..] => {
            let mut reader = Reader::new(subscription);
            let topics = ConsumerProtocolSubscription::decode(&mut reader, 1).map(|it| it.topics);
            format!("@{}", topics.expect("of a test").join("+"))
        }
        text => String::from_utf8_lossy(text).into_owned(),
    }
}

pub fn response(response: &Response, names: &Names) -> String {
    match response {
        Response::JoinGroup(answer) if answer.error_code != 0 => {
            format!(
                "{} {}",
                code(answer.error_code),
                names.of(&answer.member_id)
            )
        }
        Response::JoinGroup(answer) => {
            let members = answer.members.iter().map(|member| {
                format!(
                    " {}={}",
                    names.of(&member.member_id),
                    text(&member.metadata)
                )
            });
            format!(
                "{} gen={} {} leader={}{}{}",
                names.of(&answer.member_id),
                answer.generation_id,
                answer.protocol_name.as_deref().unwrap_or("-"),
                names.of(&answer.leader),
                members.collect::<String>(),
                if answer.skip_assignment { " skip" } else { "" },
            )
        }
        Response::SyncGroup(answer) => {
            format!("{} {}", code(answer.error_code), text(&answer.assignment))
        }
        Response::Heartbeat(answer) => code(answer.error_code).to_owned(),
        Response::LeaveGroup(answer) => {
            let members = answer.members.iter().map(|member| {
                let name = match (&*member.member_id, &member.group_instance_id) {
                    ("", Some(instance)) => instance,
                    (id, _) => names.of(id),
                };
                format!(" {name}={}", code(member.error_code))
            });
            code(answer.error_code).to_owned() + &members.collect::<String>()
        }
        other => of_offsets(other).unwrap_or_else(|| of_admins(other, names)),
    }
}

fn of_offsets(response: &Response) -> Option<String> {
    let mut parts = Vec::new();
    let mut part = |topic: &str, index: i32, what: String| {
        parts.push(format!("{topic}-{index}={what}"));
    };
    match response {
        Response::OffsetCommit(answer) => {
            for topic in &answer.topics {
                for of in &topic.partitions {
                    part(&topic.name, of.partition_index, code(of.error_code).into());
                }
            }
        }
        Response::TxnOffsetCommit(answer) => {
            for topic in &answer.topics {
                for of in &topic.partitions {
                    part(&topic.name, of.partition_index, code(of.error_code).into());
                }
            }
        }
        Response::OffsetDelete(answer) if answer.error_code != 0 => {
            return Some(code(answer.error_code).to_owned());
        }
        Response::OffsetDelete(answer) => {
            for topic in &answer.topics {
                for of in &topic.partitions {
                    part(&topic.name, of.partition_index, code(of.error_code).into());
                }
            }
        }
        Response::OffsetFetch(answer) if answer.error_code != 0 => {
            return Some(code(answer.error_code).to_owned());
        }
        Response::OffsetFetch(answer) => {
            for topic in &answer.topics {
                for of in &topic.partitions {
                    let what = match of.error_code {
                        0 => fetched(of.committed_offset, of.committed_leader_epoch, &of.metadata),
                        error => code(error).to_owned(),
                    };
                    part(&topic.name, of.partition_index, what);
                }
            }
        }
        _ => return None,
    }
    Some(parts.join(" "))
}

fn fetched(offset: i64, epoch: i32, metadata: &Option<String>) -> String {
    let metadata = metadata.as_deref().unwrap_or("null");
    let epoch = if epoch == -1 {
        String::new()
    } else {
        format!("@{epoch}")
    };
    let metadata = if metadata.is_empty() {
        String::new()
    } else {
        format!("({metadata})")
    };
    format!("{offset}{epoch}{metadata}")
}

fn of_admins(response: &Response, names: &Names) -> String {
    let parts: Vec<String> = match response {
        Response::DescribeGroups(groups) => {
            let groups = groups.iter().map(|group| {
                let members = group.members.iter().map(|member| {
                    let instance = member.group_instance_id.as_deref().unwrap_or("-");
                    format!(
                        " {}({}){}={}",
                        names.of(&member.member_id),
                        instance,
                        text(&member.member_metadata),
                        text(&member.member_assignment)
                    )
                });
                format!(
                    "{}: {} {} [{}] [{}]{}",
                    group.group_id,
                    code(group.error_code),
                    group.group_state,
                    group.protocol_type,
                    group.protocol_data,
                    members.collect::<String>()
                )
            });
            groups.collect()
        }
        Response::ListGroups(groups) => {
            let groups = groups.iter().map(|group| {
                let kind = &group.protocol_type;
                format!(
                    "{} {} [{kind}] {}",
                    group.group_id, group.group_state, group.group_type
                )
            });
            groups.collect()
        }
        Response::DeleteGroups(results) => {
            let result = results.iter();
            result
                .map(|result| format!("{}={}", result.group_id, code(result.error_code)))
                .collect()
        }
        other => vec![format!("{other:?}")],
    };
    parts.join("; ")
}

pub fn record(record: &Record, names: &Names) -> String {
    match record {
        Record::OffsetCommit(key, value) => {
            let what = match value {
                Some(value) => fetched(
                    value.offset,
                    value.leader_epoch,
                    &Some(value.metadata.clone()),
                ),
                None => "gone".to_owned(),
            };
            format!(
                "record {} {}-{}={what}",
                key.group, key.topic, key.partition
            )
        }
        Record::GroupMetadata(key, None) => format!("record {} gone", key.group),
        Record::GroupMetadata(key, Some(value)) => {
            format!("record {} {}", key.group, generation(value, names))
        }
        other => format!("record {other:?}"),
    }
}

fn generation(value: &GroupMetadataValue, names: &Names) -> String {
    let members = value.members.iter().map(|member| {
        let (subscription, assignment) = (text(&member.subscription), text(&member.assignment));
        format!(
            " {}:{subscription}={assignment}",
            names.of(&member.member_id)
        )
    });
    format!(
        "gen={} [{}] {} leader={}{}",
        value.generation,
        value.protocol_type,
        value.protocol.as_deref().unwrap_or("-"),
        names.of(value.leader.as_deref().unwrap_or_default()),
        members.collect::<String>()
    )
}
