//! Who calls, as the headers of every call say it.

use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use millrace_model::{BrokerId, DirectoryId, Incarnation};
use tonic::Status;

const CLUSTER: HeaderName = HeaderName::from_static("millrace-cluster");
const NODE: HeaderName = HeaderName::from_static("millrace-node");
const DIRECTORY: HeaderName = HeaderName::from_static("millrace-directory");
const INCARNATION: HeaderName = HeaderName::from_static("millrace-incarnation");
const CALLED: HeaderName = HeaderName::from_static("millrace-called");

/// This node, as it proves itself to its peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster it belongs to; calls do not cross clusters.
    pub cluster_id: Arc<str>,
    /// Its number.
    pub node: BrokerId,
    /// Its metadata directory: another one after a wiped disk.
    pub directory: DirectoryId,
    /// This run of its process.
    pub incarnation: Incarnation,
}

/// Who made a call; services find it in the extensions of their request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its number.
    pub node: BrokerId,
    /// Its metadata directory.
    pub directory: DirectoryId,
    /// The run of its process.
    pub incarnation: Incarnation,
}

impl Peer {
    /// Who made this call.
    ///
    /// # Errors
    /// If the call did not come through a [`crate::PeerServer`].
    pub fn of<T>(request: &tonic::Request<T>) -> Result<Peer, Status> {
        let peer = request.extensions().get::<Peer>().copied();
        peer.ok_or_else(|| Status::unauthenticated("the call carries no identity"))
    }
}

/// The headers that a channel adds to each call.
pub(crate) fn headers(identity: &Identity, called: Option<BrokerId>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut put = |name: HeaderName, value: &dyn Display| {
        if let Ok(value) = HeaderValue::from_str(&value.to_string()) {
            headers.insert(name, value);
        }
    };
    put(CLUSTER, &identity.cluster_id);
    put(NODE, &identity.node);
    put(DIRECTORY, &identity.directory);
    put(INCARNATION, &identity.incarnation);
    if let Some(called) = called {
        put(CALLED, &called);
    }
    headers
}

/// Who calls, if the call is for this node of this cluster.
pub(crate) fn verify(identity: &Identity, headers: &HeaderMap) -> Result<Peer, Status> {
    let cluster = text(headers, &CLUSTER)?;
    if cluster != &*identity.cluster_id {
        return Err(Status::failed_precondition(format!(
            "this is node {} of cluster {}, the call comes from cluster {cluster}",
            identity.node, identity.cluster_id
        )));
    }
    if headers.contains_key(CALLED) {
        let called: i32 = parse(headers, &CALLED)?;
        if called != identity.node.get() {
            return Err(Status::failed_precondition(format!(
                "this is node {}, the call is for node {called}",
                identity.node
            )));
        }
    }
    Ok(Peer {
        node: BrokerId(parse(headers, &NODE)?),
        directory: parse(headers, &DIRECTORY)?,
        incarnation: parse(headers, &INCARNATION)?,
    })
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<&'a str, Status> {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    value.ok_or_else(|| Status::unauthenticated(format!("the call has no header {name}")))
}

fn parse<T: FromStr>(headers: &HeaderMap, name: &HeaderName) -> Result<T, Status> {
    let value = text(headers, name)?;
    let parsed = value.parse();
    parsed.map_err(|_| Status::unauthenticated(format!("header {name} says '{value}'")))
}
