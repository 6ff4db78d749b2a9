//! One connection to one broker: requests go out in order, answers come back in order.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures::future::{BoxFuture, FutureExt};
use millrace_host::{BoxStream, Host};
use millrace_protocol::api::ApiKey;
use millrace_protocol::header::{decode_response_header, start_request};
use millrace_protocol::messages::api_versions_request::ApiVersionsRequest;
use millrace_protocol::messages::api_versions_response::ApiVersionsResponse;
use millrace_protocol::{Decode, Message, Reader};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{mpsc, oneshot, watch};

use crate::ClientError;

/// Largest answer this client accepts: a fetch of the largest size a broker allows, and some.
const MAX_ANSWER_BYTES: usize = 256 * 1024 * 1024;

/// A request and the answer that belongs to it.
pub trait Exchange: Message {
    /// What the broker sends back.
    type Answer: for<'a> Decode<'a>;
}

/// A connection that has learnt which versions its broker speaks. Clones share it; with the last
/// one it ends.
#[derive(Clone)]
pub struct Connection(Arc<Owner>);

/// What every clone holds, so that the connection ends with the last of them.
struct Owner(Arc<Shared>);

struct Shared {
    address: String,
    client_id: String,
    exchanges: Mutex<Exchanges>,
    /// Becomes true when the connection is over.
    over: watch::Sender<bool>,
    versions: BTreeMap<i16, (i16, i16)>,
}

/// Requests in the order in which they are written, which is that of their answers.
struct Exchanges {
    next_correlation_id: i32,
    /// `None` once the connection broke.
    open: Option<Open>,
}

struct Open {
    /// To the task that writes. Unbounded, since callers bound it: each waits for its answer.
    outgoing: mpsc::UnboundedSender<Outgoing>,
    callers: VecDeque<(i32, oneshot::Sender<Bytes>)>,
}

struct Outgoing {
    frame: Bytes,
    /// Told once the frame is written, for requests without an answer.
    written: Option<oneshot::Sender<()>>,
}

/// A request that is on its way.
pub(crate) struct Underway<A> {
    connection: Connection,
    receiver: oneshot::Receiver<Bytes>,
    api: ApiKey,
    version: i16,
    answer: PhantomData<fn() -> A>,
}

impl Connection {
    /// Connects to `host:port` and asks for its versions, all within `limit`.
    pub async fn open(
        machine: &Host,
        host: &str,
        port: u16,
        client_id: &str,
        limit: Duration,
    ) -> Result<Connection, ClientError> {
        let doing = format!("connecting to {host}:{port}");
        let connecting = Connection::connect(machine, host, port, client_id);
        within(limit, &doing, connecting).await
    }

    async fn connect(
        machine: &Host,
        host: &str,
        port: u16,
        client_id: &str,
    ) -> Result<Connection, ClientError> {
        let address = format!("{host}:{port}");
        let network = |error| ClientError::Network {
            address: address.clone(),
            error,
        };
        let mut stream = machine.network.connect(host, port).await.map_err(network)?;
        let asked = ApiVersionsRequest {
            client_software_name: "millrace".to_owned(),
            client_software_version: env!("CARGO_PKG_VERSION").to_owned(),
            ..ApiVersionsRequest::default()
        };
        // Version 3 is the first with a name; every broker that matters answers it or says 35.
        let frame = encode(&asked, 3, 0, client_id)?;
        stream.write_all(&frame).await.map_err(network)?;
        let answer = read_frame(&mut stream).await.map_err(network)?;
        let answer: ApiVersionsResponse = decode(&answer, ApiKey::ApiVersions, 3)?;
        ClientError::check(answer.error_code, None)?;
        let versions = answer
            .api_keys
            .iter()
            .map(|a| (a.api_key, (a.min_version, a.max_version)))
            .collect();
        let (reader, writer) = tokio::io::split(stream);
        let (outgoing, frames) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            address,
            client_id: client_id.to_owned(),
            exchanges: Mutex::new(Exchanges {
                next_correlation_id: 1,
                open: Some(Open {
                    outgoing,
                    callers: VecDeque::new(),
                }),
            }),
            over: watch::Sender::new(false),
            versions,
        });
        let writing = write_frames(shared.clone(), writer, frames);
        machine.tasks.spawn(writing);
        machine.tasks.spawn(read_answers(shared.clone(), reader));
        Ok(Connection(Arc::new(Owner(shared))))
    }

    fn shared(&self) -> &Shared {
        &self.0.0
    }

    /// The broker's address, as host and port.
    pub fn address(&self) -> &str {
        &self.shared().address
    }

    /// What the broker said it speaks: API key to lowest and highest version.
    pub fn versions(&self) -> &BTreeMap<i16, (i16, i16)> {
        &self.shared().versions
    }

    /// Whether the connection broke; it does not come back.
    pub fn is_broken(&self) -> bool {
        self.shared().exchanges().open.is_none()
    }

    /// Ends the connection: whoever waits for an answer is told that it broke.
    pub fn close(&self) {
        self.shared().end();
    }

    /// The newest version of a request that both sides know, but none above `highest`.
    pub fn version_of<R: Message>(&self, highest: i16) -> Result<i16, ClientError> {
        let (low, high) = R::VERSIONS;
        let common = self
            .versions()
            .get(&R::API_KEY)
            .and_then(|(theirs_low, theirs_high)| {
                let version = high.min(*theirs_high).min(highest);
                (version >= low.max(*theirs_low)).then_some(version)
            });
        common.ok_or(ClientError::NoCommonVersion { api: R::NAME })
    }

    /// Sends a request in the newest common version and waits for the answer at most `limit`.
    pub async fn ask<R: Exchange>(
        &self,
        request: &R,
        limit: Duration,
    ) -> Result<R::Answer, ClientError> {
        self.ask_up_to(request, i16::MAX, limit).await
    }

    /// The same in no version above `highest`.
    pub async fn ask_up_to<R: Exchange>(
        &self,
        request: &R,
        highest: i16,
        limit: Duration,
    ) -> Result<R::Answer, ClientError> {
        self.start(request, highest)?.answer(limit).await
    }

    /// Puts a request, in no version above `highest`, behind those already on their way; nothing
    /// started later overtakes it.
    pub(crate) fn start<R: Exchange>(
        &self,
        request: &R,
        highest: i16,
    ) -> Result<Underway<R::Answer>, ClientError> {
        let version = self.version_of::<R>(highest)?;
        let (sender, receiver) = oneshot::channel();
        let mut exchanges = self.shared().exchanges();
        let correlation_id = exchanges.next_correlation_id;
        let frame = encode(request, version, correlation_id, &self.shared().client_id)?;
        exchanges.next_correlation_id = correlation_id.wrapping_add(1) & i32::MAX;
        let open = exchanges.open.as_mut().ok_or_else(|| self.broke())?;
        open.callers.push_back((correlation_id, sender));
        // Where the writer has ended the connection is about to be called broken.
        let _ = open.outgoing.send(Outgoing {
            frame,
            written: None,
        });
        Ok(Underway {
            connection: self.clone(),
            receiver,
            api: api_of::<R>(),
            version,
            answer: PhantomData,
        })
    }

    /// The same for a request that gets no answer (Produce with acks=0); the future ends when it is
    /// written.
    pub(crate) fn tell<R: Message>(
        &self,
        request: &R,
    ) -> Result<BoxFuture<'static, Result<(), ClientError>>, ClientError> {
        let version = self.version_of::<R>(i16::MAX)?;
        let frame = encode(request, version, 0, &self.shared().client_id)?;
        let (sender, written) = oneshot::channel();
        let mut exchanges = self.shared().exchanges();
        let open = exchanges.open.as_mut().ok_or_else(|| self.broke())?;
        let _ = open.outgoing.send(Outgoing {
            frame,
            written: Some(sender),
        });
        drop(exchanges);
        let connection = self.clone();
        let writing = async move { written.await.map_err(|_| connection.broke()) };
        Ok(writing.boxed())
    }

    fn broke(&self) -> ClientError {
        ClientError::Network {
            address: self.address().to_owned(),
            error: io::ErrorKind::ConnectionAborted.into(),
        }
    }
}

impl<A: for<'a> Decode<'a>> Underway<A> {
    /// Waits for the answer at most `limit`.
    pub(crate) async fn answer(self, limit: Duration) -> Result<A, ClientError> {
        let doing = format!(
            "waiting for the answer to {} from {}",
            A::NAME,
            self.connection.address()
        );
        let receiver = self.receiver;
        let frame = within(limit, &doing, async {
            receiver.await.map_err(|_| self.connection.broke())
        });
        decode(&frame.await?, self.api, self.version)
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Shared {
    fn exchanges(&self) -> std::sync::MutexGuard<'_, Exchanges> {
        self.exchanges
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets everybody go: callers find that their sender is gone, the writer that nothing more can
    /// come, the reader that it is over.
    fn end(&self) {
        self.exchanges().open = None;
        self.over.send_replace(true);
    }

    /// Hands an answer to the caller whose turn it is; false where it is nobody's.
    fn deliver(&self, frame: Bytes) -> bool {
        let mut exchanges = self.exchanges();
        let next = exchanges.open.as_mut();
        let Some((expected, caller)) = next.and_then(|open| open.callers.pop_front()) else {
            return false;
        };
        let in_order = frame.len() >= 4 && (&frame[..4]).get_i32() == expected;
        if in_order {
            // A caller that gave up is no reason to stop.
            let _ = caller.send(frame);
        }
        in_order
    }
}

/// Writes frames whole and in order, whatever becomes of those who asked for them.
async fn write_frames(
    shared: Arc<Shared>,
    mut writer: WriteHalf<BoxStream>,
    mut frames: mpsc::UnboundedReceiver<Outgoing>,
) {
    let mut over = shared.over.subscribe();
    while let Some(outgoing) = frames.recv().await {
        let written = tokio::select! {
            biased;
            // A broker that reads nothing more must not keep a closed connection.
            _ = over.wait_for(|over| *over) => false,
            written = writer.write_all(&outgoing.frame) => written.is_ok(),
        };
        if !written {
            break;
        }
        if let Some(waiting) = outgoing.written {
            let _ = waiting.send(());
        }
    }
    shared.end();
}

/// Takes answers until there are no more.
async fn read_answers(shared: Arc<Shared>, mut reader: ReadHalf<BoxStream>) {
    let mut over = shared.over.subscribe();
    loop {
        let frame = tokio::select! {
            biased;
            _ = over.wait_for(|over| *over) => break,
            frame = read_frame(&mut reader) => frame,
        };
        if !frame.is_ok_and(|frame| shared.deliver(frame)) {
            break;
        }
    }
    shared.end();
}

fn encode<R: Message>(
    request: &R,
    version: i16,
    correlation_id: i32,
    client_id: &str,
) -> Result<Bytes, ClientError> {
    let codec = |error| ClientError::Codec(format!("{} version {version}: {error}", R::NAME));
    let mut writer =
        start_request(api_of::<R>(), version, correlation_id, Some(client_id)).map_err(codec)?;
    request.encode(&mut writer, version).map_err(codec)?;
    Ok(writer.into_bytes())
}

fn decode<A: for<'a> Decode<'a>>(
    frame: &Bytes,
    api: ApiKey,
    version: i16,
) -> Result<A, ClientError> {
    let codec = |error| ClientError::Codec(format!("{} version {version}: {error}", A::NAME));
    let mut reader = Reader::of_frame(frame);
    decode_response_header(&mut reader, api, version).map_err(codec)?;
    A::decode(&mut reader, version).map_err(codec)
}

fn api_of<R: Message>() -> ApiKey {
    ApiKey::try_from(R::API_KEY).expect("a request has an API key")
}

async fn read_frame(stream: &mut (impl AsyncReadExt + Unpin)) -> io::Result<Bytes> {
    let announced = stream.read_i32().await?;
    let len = usize::try_from(announced)
        .ok()
        .filter(|len| *len <= MAX_ANSWER_BYTES);
    let len = len.ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("an answer of {announced} bytes"),
        )
    })?;
    let mut frame = BytesMut::new();
    while frame.len() < len {
        // Reserved as it arrives, so that an announced length alone costs nothing.
        frame.reserve((len - frame.len()).min(1 << 20));
        let mut limited = stream.take((len - frame.len()) as u64);
        if limited.read_buf(&mut frame).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(frame.freeze())
}

/// Waits for `work` at most `limit`.
pub(crate) async fn within<T>(
    limit: Duration,
    doing: &str,
    work: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, ClientError> {
    match tokio::time::timeout(limit, work).await {
        Ok(done) => done,
        Err(_) => Err(ClientError::Timeout {
            limit_ms: limit.as_millis(),
            doing: doing.to_owned(),
        }),
    }
}

macro_rules! exchanges {
    ($($module:ident :: $request:ident => $answer_module:ident :: $answer:ident;)*) => {
        $(
            impl Exchange for millrace_protocol::messages::$module::$request {
                type Answer = millrace_protocol::messages::$answer_module::$answer;
            }
        )*
    };
}

exchanges! {
    metadata_request::MetadataRequest => metadata_response::MetadataResponse;
    list_offsets_request::ListOffsetsRequest => list_offsets_response::ListOffsetsResponse;
    create_topics_request::CreateTopicsRequest => create_topics_response::CreateTopicsResponse;
    delete_topics_request::DeleteTopicsRequest => delete_topics_response::DeleteTopicsResponse;
    create_partitions_request::CreatePartitionsRequest
        => create_partitions_response::CreatePartitionsResponse;
    describe_configs_request::DescribeConfigsRequest
        => describe_configs_response::DescribeConfigsResponse;
    incremental_alter_configs_request::IncrementalAlterConfigsRequest
        => incremental_alter_configs_response::IncrementalAlterConfigsResponse;
    elect_leaders_request::ElectLeadersRequest => elect_leaders_response::ElectLeadersResponse;
    delete_records_request::DeleteRecordsRequest
        => delete_records_response::DeleteRecordsResponse;
    describe_cluster_request::DescribeClusterRequest
        => describe_cluster_response::DescribeClusterResponse;
    describe_quorum_request::DescribeQuorumRequest
        => describe_quorum_response::DescribeQuorumResponse;
    describe_topic_partitions_request::DescribeTopicPartitionsRequest
        => describe_topic_partitions_response::DescribeTopicPartitionsResponse;
    init_producer_id_request::InitProducerIdRequest
        => init_producer_id_response::InitProducerIdResponse;
    api_versions_request::ApiVersionsRequest => api_versions_response::ApiVersionsResponse;
    find_coordinator_request::FindCoordinatorRequest
        => find_coordinator_response::FindCoordinatorResponse;
    list_groups_request::ListGroupsRequest => list_groups_response::ListGroupsResponse;
    describe_groups_request::DescribeGroupsRequest
        => describe_groups_response::DescribeGroupsResponse;
    consumer_group_describe_request::ConsumerGroupDescribeRequest
        => consumer_group_describe_response::ConsumerGroupDescribeResponse;
    consumer_group_heartbeat_request::ConsumerGroupHeartbeatRequest
        => consumer_group_heartbeat_response::ConsumerGroupHeartbeatResponse;
    join_group_request::JoinGroupRequest => join_group_response::JoinGroupResponse;
    sync_group_request::SyncGroupRequest => sync_group_response::SyncGroupResponse;
    heartbeat_request::HeartbeatRequest => heartbeat_response::HeartbeatResponse;
    leave_group_request::LeaveGroupRequest => leave_group_response::LeaveGroupResponse;
    delete_groups_request::DeleteGroupsRequest => delete_groups_response::DeleteGroupsResponse;
    offset_commit_request::OffsetCommitRequest => offset_commit_response::OffsetCommitResponse;
    offset_fetch_request::OffsetFetchRequest => offset_fetch_response::OffsetFetchResponse;
    offset_delete_request::OffsetDeleteRequest => offset_delete_response::OffsetDeleteResponse;
}

impl Exchange for millrace_protocol::messages::produce_request::ProduceRequest<'_> {
    type Answer = millrace_protocol::messages::produce_response::ProduceResponse;
}

impl Exchange for millrace_protocol::messages::fetch_request::FetchRequest<'_> {
    type Answer = millrace_protocol::messages::fetch_response::FetchResponse;
}
