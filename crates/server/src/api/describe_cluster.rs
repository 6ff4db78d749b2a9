//! DescribeCluster (key 60), versions 0 to 2 (KIP-700).
//!
//! - 1: which kind of node is meant (KIP-919); 2: fenced brokers too (KIP-1073).
//!
//! On a listener of brokers it tells of brokers, on one of controllers of controllers; to be asked
//! for the other kind is an error. The controller that brokers name is a live broker, as in
//! Metadata; controllers name the active one.

use millrace_metadata::{Image, Listener};
use millrace_model::{BrokerId, ErrorCode};
use millrace_protocol::messages::describe_cluster_request::DescribeClusterRequest;
use millrace_protocol::messages::describe_cluster_response::{
    DescribeClusterBroker, DescribeClusterResponse,
};

use super::metadata::named_controller;
use super::{CLUSTER_OPERATIONS, Context, ListenerKind};

/// The versions that are served.
pub const VERSIONS: (i16, i16) = (0, 2);

const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

/// Tells who belongs to the cluster.
pub async fn handle(context: &Context, request: DescribeClusterRequest) -> DescribeClusterResponse {
    let kind = context.caller.listener_kind;
    if let Some(refusal) = check(kind, context.api_version, request.endpoint_type) {
        return refusal;
    }
    let image = context.node.image();
    let (nodes, controller) = match kind {
        ListenerKind::Broker => (
            brokers(&image, context.listener(), request.include_fenced_brokers),
            named_controller(context, &image),
        ),
        ListenerKind::Controller => (
            controllers(&image, context.listener()),
            context.node.quorum.leader().map_or(-1, BrokerId::get),
        ),
    };
    let is_listed = nodes.iter().any(|node| node.broker_id == controller);
    let mut response = DescribeClusterResponse {
        endpoint_type: endpoint_type(kind),
        cluster_id: context.node.cluster_id.to_string(),
        controller_id: if is_listed { controller } else { -1 },
        brokers: nodes,
        ..Default::default()
    };
    if request.include_cluster_authorized_operations {
        response.cluster_authorized_operations = CLUSTER_OPERATIONS;
    }
    response
}

fn endpoint_type(kind: ListenerKind) -> i8 {
    match kind {
        ListenerKind::Broker => BROKERS,
        ListenerKind::Controller => CONTROLLERS,
    }
}

fn check(kind: ListenerKind, api_version: i16, asked: i8) -> Option<DescribeClusterResponse> {
    let name = |number: i8| match number {
        CONTROLLERS => "CONTROLLER",
        _ => "BROKER",
    };
    let here = endpoint_type(kind);
    let (error, message) = match asked {
        _ if asked == here => return None,
        BROKERS | CONTROLLERS => (
            ErrorCode::MismatchedEndpointType,
            format!(
                "The request was sent to an endpoint of type {}, but we wanted an endpoint of \
                 type {}",
                name(here),
                name(asked)
            ),
        ),
        _ => (
            ErrorCode::UnsupportedEndpointType,
            format!("Unsupported endpoint type {asked}"),
        ),
    };
    let error = match api_version {
        0 => ErrorCode::InvalidRequest,
        _ => error,
    };
    Some(DescribeClusterResponse {
        error_code: error.code(),
        error_message: Some(message),
        ..Default::default()
    })
}

fn brokers(image: &Image, listener: &str, fenced_too: bool) -> Vec<DescribeClusterBroker> {
    let told = image
        .brokers()
        .filter(|broker| fenced_too || !broker.fenced);
    let told = told.filter_map(|broker| {
        Some(DescribeClusterBroker {
            rack: broker.rack.clone(),
            is_fenced: broker.fenced,
            ..node(broker.id, broker.listener(listener)?)
        })
    });
    told.collect()
}

fn controllers(image: &Image, listener: &str) -> Vec<DescribeClusterBroker> {
    let told = image.controllers().filter_map(|controller| {
        let mut listeners = controller.listeners.iter();
        let found = listeners.find(|known| known.name == listener)?;
        Some(node(controller.id, found))
    });
    told.collect()
}

fn node(id: BrokerId, listener: &Listener) -> DescribeClusterBroker {
    DescribeClusterBroker {
        broker_id: id.get(),
        host: listener.host.clone(),
        port: i32::from(listener.port),
        ..Default::default()
    }
}
