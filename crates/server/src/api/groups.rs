//! What the APIs of groups share: from a group to the shard that coordinates it, and back.

use std::collections::BTreeMap;
use std::net::IpAddr;

use futures::future::join_all;
use millrace_coordinator::group::{self, Call, Request, Response, append_failure, refused};
use millrace_metadata::Image;
use millrace_model::ErrorCode;

use super::Context;
use super::internal::GROUP_OFFSETS;

/// The partition of `__consumer_offsets` that a group belongs to.
pub fn partition_of(context: &Context, image: &Image, group: &str) -> i32 {
    let topic = image.topic_named(GROUP_OFFSETS);
    let configured = || context.node.config().offsets.partitions;
    group::partition_of(
        group,
        topic.map_or_else(configured, |topic| topic.partitions),
    )
}

/// Has the coordinator of a group answer, if that is this broker; errors are in the answer.
pub async fn ask(context: &Context, group: &str, call: Call) -> Response {
    let partition = partition_of(context, &context.node.image(), group);
    ask_partition(context, partition, call).await
}

/// Has the groups of one partition answer; errors are in the answer.
pub async fn ask_partition(context: &Context, partition: i32, call: Call) -> Response {
    let outline = call.outline();
    match try_partition(context, partition, call).await {
        Ok(response) => response,
        Err(error) => refused(&outline, append_failure(&outline, error)),
    }
}

/// Has the groups of one partition answer.
///
/// # Errors
/// If this broker does not coordinate them, or what they decided was not committed.
pub async fn try_partition(
    context: &Context,
    partition: i32,
    call: Call,
) -> Result<Response, ErrorCode> {
    let request = Request {
        caller: caller(context, &call),
        call,
    };
    let groups = &context.node.broker().groups;
    groups.call(partition, request).await
}

/// Has the coordinators of several groups answer, each for those that are its own.
pub async fn ask_each(
    context: &Context,
    groups: Vec<String>,
    call: fn(Vec<String>) -> Call,
) -> Vec<Response> {
    let image = context.node.image();
    let mut by_partition: BTreeMap<i32, Vec<String>> = BTreeMap::new();
    for group in groups {
        let partition = partition_of(context, &image, &group);
        by_partition.entry(partition).or_default().push(group);
    }
    let asked = by_partition.into_iter();
    join_all(asked.map(|(partition, groups)| ask_partition(context, partition, call(groups)))).await
}

fn caller(context: &Context, call: &Call) -> group::Caller {
    let (caller, version) = (&context.caller, context.api_version);
    if !call.is_personal() {
        return group::Caller {
            version,
            ..group::Caller::default()
        };
    }
    group::Caller {
        version,
        client_id: caller.client_id.as_deref().unwrap_or_default().to_owned(),
        client_host: java_address(caller.address.ip()),
        fresh_id: context.node.host.random.uuid(),
    }
}

/// An address as Java prints one without a name (`InetAddress.toString`).
fn java_address(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => format!("/{address}"),
        IpAddr::V6(address) => {
            let parts = address.segments().map(|part| format!("{part:x}"));
            format!("/{}", parts.join(":"))
        }
    }
}

/// Takes the answer out of what a shard gave; it answers each call in kind.
macro_rules! expect_response {
    ($response:expr, $kind:ident) => {
        match $response {
            millrace_coordinator::group::Response::$kind(response) => response,
            other => unreachable!("a shard answered with {other:?}"),
        }
    };
}
pub(super) use expect_response;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_printed_as_java_does() {
        for (address, expected) in [
            ("127.0.0.1", "/127.0.0.1"),
            ("::1", "/0:0:0:0:0:0:0:1"),
            ("::ffff:10.0.0.7", "/10.0.0.7"),
            ("2001:db8::a", "/2001:db8:0:0:0:0:0:a"),
        ] {
            assert_eq!(java_address(address.parse().unwrap()), expected);
        }
    }
}
