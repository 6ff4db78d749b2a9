//! The tasks that watch over a running node: its registration, its readiness, its end.

use std::collections::BTreeMap;
use std::sync::Arc;

use millrace_metadata::decide::Registration;
use millrace_metadata::{Delta, FeatureRange, Image};
use millrace_model::{BrokerEpoch, DirectoryId};
use millrace_quorum::BrokerSession;
use tokio::sync::watch;

use super::link::tell_condition;
use super::quorum::listener;
use super::start::{Parts, Strings};
use crate::node::Node;
use crate::reconcile::{Reconciler, touches_brokers};

/// Ends the node when its part in the quorum cannot go on.
pub(super) fn watch_quorum(node: &Arc<Node>, strings: &Strings) {
    let quorum = node.quorum.clone();
    let failed = strings.failed.clone();
    let stopping = strings.stopping.clone();
    node.host.control.spawn(async move {
        tokio::select! {
            biased;
            () = stopping.cancelled() => {}
            error = quorum.failed() => {
                tracing::error!(%error, "the metadata quorum cannot go on here");
                failed.send_replace(Some(error.to_string()));
            }
        }
    });
}

/// Registers the broker, and keeps its replicas as the images want them.
pub(super) fn register(
    parts: &Parts,
    node: &Arc<Node>,
    strings: &Strings,
    ports: &BTreeMap<String, u16>,
    clean_shutdown: Option<BrokerEpoch>,
) -> Arc<BrokerSession> {
    let registration = registration(parts, node, ports, clean_shutdown);
    let session = Arc::new(node.quorum.start_session(registration));
    // Nobody else sets it.
    let _ = strings.session.set(session.clone());
    // What failed meanwhile had nobody to tell.
    let directories = node.broker().store.directories().into_iter();
    let failed = directories.filter(|directory| directory.offline.is_some());
    let failed: Vec<DirectoryId> = failed.map(|directory| directory.id).collect();
    session.directory_failed(&failed);
    tell_condition(&session, &node.broker().store);
    let reconciler = Reconciler {
        id: node.id,
        config: node.config(),
        images: node.quorum.images(),
        session: session.state(),
        replicas: node.broker().replicas.clone(),
        groups: node.broker().groups.clone(),
        store: node.broker().store.clone(),
        quorum: node.quorum.clone(),
        channels: parts.channels.clone(),
        settings: strings.settings.clone(),
    };
    let control = &node.host.control;
    control.spawn(reconciler.run(strings.stopping.clone()));
    control.spawn(serve_when_unfenced(
        node.clone(),
        session.clone(),
        strings.serving.clone(),
    ));
    control.spawn(tell_refusals(session.clone()));
    session
}

fn registration(
    parts: &Parts,
    node: &Node,
    ports: &BTreeMap<String, u16>,
    clean_shutdown: Option<BrokerEpoch>,
) -> Registration {
    let config = &parts.config;
    let advertised = config.advertised_listeners.iter();
    let listeners = advertised
        .filter(|endpoint| !config.controller_listeners.contains(&endpoint.name))
        .map(|endpoint| listener(endpoint, ports.get(&endpoint.name).copied().unwrap_or(0)));
    let (online, offline): (Vec<_>, Vec<_>) = node
        .broker()
        .store
        .directories()
        .into_iter()
        .partition(|directory| directory.offline.is_none());
    Registration {
        id: node.id,
        cluster_id: node.cluster_id.to_string(),
        incarnation: node.incarnation,
        listeners: listeners.collect(),
        rack: config.rack.clone(),
        features: FeatureRange::supported(),
        directories: online.iter().map(|directory| directory.id).collect(),
        has_offline_directories: !offline.is_empty(),
        clean_shutdown_epoch: clean_shutdown,
    }
}

/// Lets clients in from the first image that shows this very registration unfenced.
async fn serve_when_unfenced(
    node: Arc<Node>,
    session: Arc<BrokerSession>,
    serving: watch::Sender<bool>,
) {
    let mut state = session.state();
    let Ok(epoch) = state
        .wait_for(|state| state.epoch.is_some())
        .await
        .map(|state| state.epoch)
    else {
        return;
    };
    let mut images = node.quorum.images();
    let unfenced = images.wait_for(|image| {
        let own = image.broker(node.id);
        own.is_some_and(|own| Some(own.epoch) == epoch && !own.fenced)
    });
    if unfenced.await.is_ok() {
        serving.send_replace(true);
    }
}

/// Says why the controller does not register this broker, whenever that changes.
async fn tell_refusals(session: Arc<BrokerSession>) {
    let mut state = session.state();
    let mut told = None;
    loop {
        let refused = state.borrow_and_update().refused.clone();
        if let Some(refusal) = &refused
            && refused != told
        {
            tracing::warn!(%refusal, "the controller does not register this broker");
        }
        told = refused;
        if state.changed().await.is_err() {
            return;
        }
    }
}

/// Takes over what is set for all nodes, and for this one, on a node without a reconciler.
pub(super) fn follow_settings(node: &Arc<Node>, strings: &Strings) {
    let mut images = node.quorum.images();
    let (node, settings) = (node.clone(), strings.settings.clone());
    let control = node.host.control.clone();
    let following = async move {
        let mut known = Arc::new(Image::default());
        loop {
            let image = images.borrow_and_update().clone();
            if touches_brokers(&Delta::between(&known, &image), node.id) {
                match node.config().at_image(&image) {
                    Ok(config) => _ = settings.send_replace(Arc::new(config)),
                    Err(error) => tracing::error!(%error, "cannot take over changed settings"),
                }
            }
            known = image;
            if images.changed().await.is_err() {
                return;
            }
        }
    };
    control.spawn(
        strings
            .stopping
            .clone()
            .run_until_cancelled_owned(following),
    );
}

/// A node that is only a controller is ready when its quorum has a leader.
pub(super) fn serve_when_led(node: &Arc<Node>, strings: &Strings) {
    let mut images = node.quorum.images();
    let serving = strings.serving.clone();
    node.host.control.spawn(async move {
        let formed = images.wait_for(|image| image.cluster_id().is_some());
        if formed.await.is_ok() {
            serving.send_replace(true);
        }
    });
}
