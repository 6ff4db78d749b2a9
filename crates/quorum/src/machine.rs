//! The state machine: applies committed batches to the image and publishes it.
//!
//! The image's maps are persistent, so a snapshot of it is a pointer, encoded in the background.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt};
use millrace_host::{Disk, Host, Tasks};
use millrace_metadata::{Batch, Image, SnapshotDecoder};
use millrace_model::ImageVersion;
use openraft::OptionalSend;
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use tokio::sync::watch;

use crate::checkpoint::{self, Checkpoint};
use crate::error::is_full;
use crate::types::{
    Applied, LogId, Payload, Proposal, Snapshot, SnapshotMeta, StoredMembership, TypeConfig,
};

/// Pieces in which an image is encoded.
const PIECE_BYTES: usize = 256 * 1024;

/// How long a checkpoint that found no space waits before it is tried again.
const SPACE_PAUSE: Duration = Duration::from_secs(1);

/// What a node has applied.
#[derive(Clone, Debug, Default)]
pub(crate) struct AppliedState {
    pub(crate) last: Option<LogId>,
    pub(crate) membership: StoredMembership,
}

/// Where everybody else learns what was applied.
#[derive(Clone)]
pub(crate) struct Published {
    pub(crate) images: watch::Sender<Arc<Image>>,
    /// Follows `images`: by the time an entry counts as applied, its image is published.
    pub(crate) applied: watch::Sender<AppliedState>,
}

impl Published {
    pub(crate) fn new() -> Published {
        Published {
            images: watch::Sender::new(Arc::default()),
            applied: watch::Sender::new(AppliedState::default()),
        }
    }
}

pub(crate) struct Machine {
    files: Files,
    image: Arc<Image>,
    state: AppliedState,
    published: Published,
}

/// The checkpoint files and what is known of the newest.
#[derive(Clone)]
struct Files {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    tasks: Tasks,
    newest: Arc<Mutex<Option<SnapshotMeta>>>,
}

impl Machine {
    /// Loads the newest checkpoint. `purged` is where the log begins: without a checkpoint that
    /// reaches so far the metadata was damaged.
    pub(crate) async fn open(
        host: &Host,
        directory: PathBuf,
        purged: Option<LogId>,
        published: Published,
    ) -> io::Result<Machine> {
        let files = Files {
            disk: host.disk.clone(),
            directory,
            tasks: host.control.clone(),
            newest: Arc::default(),
        };
        let mut machine = Machine {
            files,
            image: Arc::default(),
            state: AppliedState::default(),
            published,
        };
        let found = machine.files.read().await?;
        let reached = found.as_ref().and_then(|found| found.meta.last_log_id);
        if purged > reached {
            let what = format!(
                "the metadata log in {} begins after entry {}, and no checkpoint that can be read \
                 holds what came before",
                machine.files.directory.display(),
                purged.map_or(0, |purged| purged.index)
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        if let Some(Checkpoint { meta, image }) = found {
            let image = machine.files.decode(image).await?;
            machine.files.set_newest(meta.clone());
            machine.become_image(image, &meta);
        }
        Ok(machine)
    }

    fn become_image(&mut self, image: Image, meta: &SnapshotMeta) {
        self.image = Arc::new(image);
        self.state = AppliedState {
            last: meta.last_log_id,
            membership: meta.last_membership.clone(),
        };
        self.publish();
    }

    fn publish(&self) {
        self.published.images.send_if_modified(|image| {
            let changed = image.version() != self.image.version();
            *image = self.image.clone();
            changed
        });
        self.published.applied.send_replace(self.state.clone());
    }

    /// Applies one batch; every node comes to the same result.
    fn apply_batch(&mut self, proposal: Proposal, id: LogId) -> io::Result<bool> {
        let stop = |why: String| {
            let what = format!("cannot apply entry {} of the metadata log: {why}", id.index);
            io::Error::new(io::ErrorKind::InvalidData, what)
        };
        let batch = Batch::decode(proposal.0).map_err(|error| stop(error.to_string()))?;
        match self.image.apply(&batch, ImageVersion(id.index + 1)) {
            Ok(image) => {
                self.image = Arc::new(image);
                Ok(true)
            }
            Err(error) if error.is_harmless() => {
                tracing::info!(entry = id.index, %error, "a late batch changed nothing");
                Ok(false)
            }
            Err(error) => Err(stop(error.to_string())),
        }
    }
}

impl Files {
    fn lock(&self) -> MutexGuard<'_, Option<SnapshotMeta>> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_newest(&self, meta: SnapshotMeta) {
        *self.lock() = Some(meta);
    }

    async fn read(&self) -> io::Result<Option<Checkpoint>> {
        let (disk, directory) = (self.disk.clone(), self.directory.clone());
        self.tasks
            .blocking(move || checkpoint::newest(&*disk, &directory))
            .await
    }

    async fn save(&self, checkpoint: Checkpoint) -> io::Result<()> {
        let checkpoint = Arc::new(checkpoint);
        loop {
            let (disk, directory) = (self.disk.clone(), self.directory.clone());
            let saved = checkpoint.clone();
            let saving = self
                .tasks
                .blocking(move || checkpoint::save(&*disk, &directory, &saved));
            match saving.await {
                // The log keeps what it would stand for.
                Err(error) if is_full(&error) => {
                    tracing::warn!("no space is left for a checkpoint of the metadata: waiting");
                    tokio::time::sleep(SPACE_PAUSE).await;
                }
                outcome => {
                    outcome?;
                    self.set_newest(checkpoint.meta.clone());
                    return Ok(());
                }
            }
        }
    }

    async fn decode(&self, encoded: Bytes) -> io::Result<Image> {
        let decoding = self.tasks.blocking(move || {
            let mut decoder = SnapshotDecoder::new();
            decoder.push(&encoded)?;
            decoder.finish()
        });
        let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
        decoding.await.map_err(invalid)
    }
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotData = Bytes;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok((self.state.last, self.state.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + OptionalSend,
    {
        let mut replies = Vec::new();
        while let Some(entry) = entries.next().await {
            let (entry, responder) = entry?;
            let accepted = match entry.payload {
                Payload::Blank => true,
                Payload::Normal(proposal) => self.apply_batch(proposal, entry.log_id)?,
                Payload::Membership(membership) => {
                    self.state.membership = StoredMembership::new(Some(entry.log_id), membership);
                    true
                }
            };
            self.state.last = Some(entry.log_id);
            if let Some(responder) = responder {
                let version = self.image.version();
                replies.push((responder, Applied { version, accepted }));
            }
        }
        // Whoever gets a reply finds its image published.
        self.publish();
        for (responder, applied) in replies {
            responder.send(applied);
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder {
            files: self.files.clone(),
            image: self.image.clone(),
            meta: SnapshotMeta {
                last_log_id: self.state.last,
                last_membership: self.state.membership.clone(),
            },
        }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, encoded: Bytes) -> io::Result<()> {
        let image = self.files.decode(encoded.clone()).await?;
        self.files
            .save(Checkpoint {
                meta: meta.clone(),
                image: encoded,
            })
            .await?;
        self.become_image(image, meta);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        if self.files.lock().is_none() {
            return Ok(None);
        }
        let found = self.files.read().await?;
        Ok(found.map(|Checkpoint { meta, image }| Snapshot {
            meta,
            snapshot: image,
        }))
    }
}

/// Makes a checkpoint of one image while newer ones are applied.
pub(crate) struct Builder {
    files: Files,
    image: Arc<Image>,
    meta: SnapshotMeta,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = Bytes;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        let image = self.image.clone();
        let encoding = self.files.tasks.blocking(move || {
            let mut encoded = BytesMut::new();
            for piece in image.encode_snapshot(PIECE_BYTES) {
                encoded.extend_from_slice(&piece);
            }
            encoded.freeze()
        });
        let image = encoding.await;
        let checkpoint = Checkpoint {
            meta: self.meta.clone(),
            image: image.clone(),
        };
        self.files.save(checkpoint).await?;
        Ok(Snapshot {
            meta: self.meta.clone(),
            snapshot: image,
        })
    }
}
