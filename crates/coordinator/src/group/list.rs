//! ListGroups: which groups there are, by state and type (Kafka method `listGroups`), and how many.

use crate::wire::ListGroupsRequest;
use crate::wire::list_groups_response::ListedGroup;

use super::classic::{self, CONSUMER, Phase};
use super::state::{Asker, Effects, Group, Replicated, Soft};
use super::{GroupId, Response, States};

pub(crate) fn list(
    replicated: &Replicated,
    soft: &Soft,
    asker: Asker,
    request: &ListGroupsRequest,
) -> Effects {
    let normal = |text: &String| text.trim().to_lowercase();
    let states: Vec<String> = request.states_filter.iter().map(normal).collect();
    let types: Vec<String> = request
        .types_filter
        .iter()
        .map(|text| text.to_lowercase())
        .collect();
    let passes = |filter: &[String], value: &str| {
        filter.is_empty() || filter.contains(&value.to_lowercase())
    };
    let listed = ids(replicated, soft).map(|id| listed(replicated, soft, id));
    let chosen = listed
        .filter(|group| passes(&states, &group.group_state) && passes(&types, &group.group_type));
    asker.answer(Response::ListGroups(chosen.collect()))
}

/// Every group there is; one that is being joined for the first time may have no record yet.
fn ids<'a>(replicated: &'a Replicated, soft: &'a Soft) -> impl Iterator<Item = &'a GroupId> {
    let newborn = soft
        .groups
        .iter()
        .filter(|(id, group)| group.classic.is_some() && !replicated.groups.contains_key(*id));
    replicated.groups.keys().chain(newborn.map(|(id, _)| id))
}

fn listed(replicated: &Replicated, soft: &Soft, id: &GroupId) -> ListedGroup {
    let (state, kind, protocol_type) = match replicated.consumer(id) {
        Some(state) => (state.state_name(), "consumer", CONSUMER),
        None => {
            let seen = classic::seen(replicated, soft, id);
            let phase = seen.map_or(Phase::Empty, classic::Seen::phase);
            let kind = seen.and_then(classic::Seen::protocol_type);
            (phase.name(), "classic", kind.unwrap_or_default())
        }
    };
    ListedGroup {
        group_id: id.to_string(),
        protocol_type: protocol_type.to_owned(),
        group_state: state.to_owned(),
        group_type: kind.to_owned(),
        ..Default::default()
    }
}

/// Counts groups by state, and offsets.
pub(crate) fn states(replicated: &Replicated, soft: &Soft) -> States {
    let mut states = States {
        offsets: replicated.offsets.count(),
        ..States::default()
    };
    for id in ids(replicated, soft) {
        if let Some(Group::Consumer(state)) = replicated.group(id) {
            state.count(&mut states);
            continue;
        }
        let seen = classic::seen(replicated, soft, id);
        *match seen.map_or(Phase::Empty, classic::Seen::phase) {
            Phase::Empty => &mut states.classic_empty,
            Phase::PreparingRebalance { .. } => &mut states.classic_preparing_rebalance,
            Phase::CompletingRebalance => &mut states.classic_completing_rebalance,
            Phase::Stable => &mut states.classic_stable,
        } += 1;
    }
    states
}
