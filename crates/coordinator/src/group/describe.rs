//! DescribeGroups: the members of classic groups (Kafka method `describeGroups`).
//!
//! From version 6 a group that is not there, or that is not a classic one, is an error; before, it is
//! a dead group.

use crate::wire::describe_groups_response::DescribedGroup;
use millrace_model::ErrorCode;

use super::Response;
use super::classic::{self, Phase, Seen};
use super::state::{Asker, Effects, Replicated, Soft};

pub(crate) fn describe(
    replicated: &Replicated,
    soft: &Soft,
    asker: Asker,
    groups: Vec<String>,
) -> Effects {
    let describe = |group: String| match classic::seen(replicated, soft, &group) {
        Some(seen) => alive(group, seen),
        None => dead(replicated, group, asker.caller.version),
    };
    asker.answer(Response::DescribeGroups(
        groups.into_iter().map(describe).collect(),
    ))
}

fn alive(group_id: String, seen: Seen<'_>) -> DescribedGroup {
    let protocol = match seen {
        Seen::Live(live) if live.phase == Phase::Stable => live.protocol.as_deref(),
        Seen::Live(_) | Seen::Resting(_) => None,
    };
    let members = match seen {
        Seen::Live(live) => live
            .members
            .values()
            .map(|member| member.describe(protocol))
            .collect(),
        Seen::Resting(_) => Vec::new(),
    };
    DescribedGroup {
        group_id,
        group_state: seen.phase().name().to_owned(),
        protocol_type: seen.protocol_type().unwrap_or_default().to_owned(),
        protocol_data: protocol.unwrap_or_default().to_owned(),
        members,
        ..Default::default()
    }
}

fn dead(replicated: &Replicated, group_id: String, version: i16) -> DescribedGroup {
    let (error_code, error_message) = match (version >= 6, replicated.consumer(&group_id)) {
        (false, _) => (ErrorCode::None, None),
        (true, Some(_)) => {
            let message = format!("Group {group_id} is not a classic group.");
            (ErrorCode::GroupIdNotFound, Some(message))
        }
        (true, None) => {
            let message = format!("Group {group_id} not found.");
            (ErrorCode::GroupIdNotFound, Some(message))
        }
    };
    DescribedGroup {
        error_code: error_code.code(),
        error_message,
        group_id,
        group_state: "Dead".to_owned(),
        ..Default::default()
    }
}
