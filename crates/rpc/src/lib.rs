//! gRPC between nodes: the services of `proto/`, the server side on connections that a listener
//! already accepted, and channels to every peer.
//!
//! - [`proto`] holds the generated services, one module a package.
//! - [`PeerServer`] serves them on a connection; [`is_peer_connection`] tells such a connection by
//!   its first bytes, [`Rewound`] puts those back.
//! - [`Calls`] and [`PeerChannel::open`] are for streams of long messages, which then are not copied.
//! - [`Channels`] connects lazily to a peer, once for each [`Purpose`], heals by itself, and tells
//!   when a connection broke ([`PeerChannel::link`]).
//!
//! Every call carries who calls ([`Identity`]) and whom it means; a call from another cluster, or
//! for another node, is refused before a service sees it. This crate carries other crates' records
//! as bytes and knows none of them.

mod calls;
mod channel;
mod channels;
mod executor;
mod identity;
mod pieces;
mod rewound;
mod server;

/// The generated messages, clients and servers.
pub mod proto {
    #![allow(missing_docs, clippy::all, clippy::pedantic)]
    include!(concat!(env!("OUT_DIR"), "/packages.rs"));
}

pub use calls::{Call, Calls, Messages, Outgoing, serve_calls};
pub use channel::{Link, LinkFailure, PeerChannel};
pub use channels::{Channels, PeerListener, Purpose};
pub use identity::{Identity, Peer};
pub use pieces::{PieceWriter, in_one_piece};
pub use rewound::{PEER_PREFACE, Rewound, is_peer_connection};
pub use server::{PeerConnection, PeerServer};
pub use tonic;
pub use tonic::service::Routes;
