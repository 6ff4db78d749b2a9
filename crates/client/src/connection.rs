//! One connection to one broker: requests go out in order, answers come back in order.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use millrace_host::{BoxStream, Host};
use millrace_protocol::api::ApiKey;
use millrace_protocol::header::{decode_response_header, start_request};
use millrace_protocol::messages::api_versions_request::ApiVersionsRequest;
use millrace_protocol::messages::api_versions_response::ApiVersionsResponse;
use millrace_protocol::{Decode, Message, Reader};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{Mutex as AsyncMutex, oneshot};

use crate::ClientError;

/// Largest answer this client accepts: a fetch of the largest size a broker allows, and some.
const MAX_ANSWER_BYTES: usize = 256 * 1024 * 1024;

/// A request and the answer that belongs to it.
pub trait Exchange: Message {
    /// What the broker sends back.
    type Answer: for<'a> Decode<'a>;
}

/// A connection that has learnt which versions its broker speaks. Clones share it.
#[derive(Clone)]
pub struct Connection(Arc<Shared>);

struct Shared {
    address: String,
    client_id: String,
    writer: AsyncMutex<WriteHalf<BoxStream>>,
    waiting: Mutex<Waiting>,
    versions: BTreeMap<i16, (i16, i16)>,
}

/// Callers in the order of their requests; `None` once the connection broke.
struct Waiting {
    next_correlation_id: i32,
    callers: Option<VecDeque<(i32, oneshot::Sender<Bytes>)>>,
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
        let callers = Some(VecDeque::new());
        let shared = Arc::new(Shared {
            address,
            client_id: client_id.to_owned(),
            writer: AsyncMutex::new(writer),
            waiting: Mutex::new(Waiting {
                next_correlation_id: 1,
                callers,
            }),
            versions,
        });
        machine.tasks.spawn(
            Answers {
                reader,
                shared: shared.clone(),
            }
            .run(),
        );
        Ok(Connection(shared))
    }

    /// The broker's address, as host and port.
    pub fn address(&self) -> &str {
        &self.0.address
    }

    /// What the broker said it speaks: API key to lowest and highest version.
    pub fn versions(&self) -> &BTreeMap<i16, (i16, i16)> {
        &self.0.versions
    }

    /// Whether the connection broke; it does not come back.
    pub fn is_broken(&self) -> bool {
        self.waiting().callers.is_none()
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.0
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest version of a request that both sides know, but none above `highest`.
    pub fn version_of<R: Message>(&self, highest: i16) -> Result<i16, ClientError> {
        let (low, high) = R::VERSIONS;
        let common = self
            .0
            .versions
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
        let version = self.version_of::<R>(highest)?;
        let doing = format!(
            "waiting for the answer to {} from {}",
            R::NAME,
            self.0.address
        );
        let body = within(limit, &doing, async {
            let answer = self.submit(request, version).await?;
            answer.await.map_err(|_| self.broke())
        });
        decode(&body.await?, api_of::<R>(), version)
    }

    /// Sends a request that gets no answer (Produce with acks=0).
    pub async fn tell<R: Message>(&self, request: &R) -> Result<(), ClientError> {
        let version = self.version_of::<R>(i16::MAX)?;
        let frame = encode(request, version, 0, &self.0.client_id)?;
        let mut writer = self.0.writer.lock().await;
        writer
            .write_all(&frame)
            .await
            .map_err(|error| self.network(error))
    }

    /// Writes the request; the receiver gets the answer's frame.
    async fn submit<R: Message>(
        &self,
        request: &R,
        version: i16,
    ) -> Result<oneshot::Receiver<Bytes>, ClientError> {
        // The writer's lock is taken first: the order of callers must be the order of requests.
        let mut writer = self.0.writer.lock().await;
        let (sender, receiver) = oneshot::channel();
        let correlation_id = {
            let mut waiting = self.waiting();
            let correlation_id = waiting.next_correlation_id;
            waiting.next_correlation_id = correlation_id.wrapping_add(1) & i32::MAX;
            let callers = waiting.callers.as_mut().ok_or_else(|| self.broke())?;
            callers.push_back((correlation_id, sender));
            correlation_id
        };
        let frame = match encode(request, version, correlation_id, &self.0.client_id) {
            Ok(frame) => frame,
            Err(error) => {
                if let Some(callers) = self.waiting().callers.as_mut() {
                    callers.pop_back();
                }
                return Err(error);
            }
        };
        writer
            .write_all(&frame)
            .await
            .map_err(|error| self.network(error))?;
        Ok(receiver)
    }

    fn broke(&self) -> ClientError {
        self.network(io::ErrorKind::ConnectionAborted.into())
    }

    fn network(&self, error: io::Error) -> ClientError {
        ClientError::Network {
            address: self.0.address.clone(),
            error,
        }
    }
}

/// Hands each answer to the caller whose turn it is.
struct Answers {
    reader: ReadHalf<BoxStream>,
    shared: Arc<Shared>,
}

impl Answers {
    async fn run(mut self) {
        while let Ok(frame) = read_frame(&mut self.reader).await {
            if !self.deliver(frame) {
                break;
            }
        }
        self.shared
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .callers = None;
    }

    fn deliver(&self, frame: Bytes) -> bool {
        let mut waiting = self
            .shared
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let Some((expected, caller)) = waiting.callers.as_mut().and_then(VecDeque::pop_front)
        else {
            return false;
        };
        let in_order = frame.len() >= 4 && (&frame[..4]).get_i32() == expected;
        // A caller that gave up is no reason to stop.
        if in_order {
            let _ = caller.send(frame);
        }
        in_order
    }
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
}

impl Exchange for millrace_protocol::messages::produce_request::ProduceRequest<'_> {
    type Answer = millrace_protocol::messages::produce_response::ProduceResponse;
}

impl Exchange for millrace_protocol::messages::fetch_request::FetchRequest<'_> {
    type Answer = millrace_protocol::messages::fetch_response::FetchResponse;
}
