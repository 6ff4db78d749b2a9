//! One connection of a broker that is played: requests one after the other, as Kafka does it.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use millrace_model::{ErrorCode, Uuid};
use millrace_protocol::api::ApiKey;
use millrace_protocol::header::{decode_request_header, response_frame};
use millrace_protocol::messages::api_versions_response::{ApiVersion, ApiVersionsResponse};
use millrace_protocol::messages::fetch_request::FetchRequest;
use millrace_protocol::messages::fetch_response::{
    FetchResponse, FetchableTopicResponse, PartitionData,
};
use millrace_protocol::messages::init_producer_id_response::InitProducerIdResponse;
use millrace_protocol::messages::list_offsets_request::ListOffsetsRequest;
use millrace_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsResponse, ListOffsetsTopicResponse,
};
use millrace_protocol::messages::metadata_response::{
    MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use millrace_protocol::messages::produce_request::ProduceRequest;
use millrace_protocol::messages::produce_response::{
    PartitionProduceResponse, ProduceResponse, TopicProduceResponse,
};
use millrace_protocol::{Decode, Message, Reader};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;

use super::{BROKERS, FIRST_PORT, FakeCluster, Fault, TOPIC};

/// API key and the one version that is spoken.
const VERSIONS: &[(ApiKey, i16)] = &[
    (ApiKey::Produce, 13),
    (ApiKey::Fetch, 17),
    (ApiKey::ListOffsets, 8),
    (ApiKey::Metadata, 12),
    (ApiKey::ApiVersions, 3),
    (ApiKey::InitProducerId, 5),
];
const TOPIC_ID: Uuid = Uuid([7; 16]);

struct Broker {
    cluster: FakeCluster,
    id: i32,
}

/// Serves one connection of this broker. What was received is done even when the client has gone.
pub fn serve(cluster: FakeCluster, id: i32, stream: DuplexStream) {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let (sender, mut frames) = mpsc::unbounded_channel::<Bytes>();
    tokio::spawn(async move {
        while let Ok(length) = reader.read_i32().await {
            let mut frame = BytesMut::zeroed(usize::try_from(length).unwrap());
            if reader.read_exact(&mut frame).await.is_err() {
                break;
            }
            let _ = sender.send(frame.freeze());
        }
    });
    let broker = Broker { cluster, id };
    tokio::spawn(async move {
        while let Some(frame) = frames.recv().await {
            let Some(answer) = broker.answer(&frame, frames.len()).await else {
                break;
            };
            // The client may have gone; the broker does not notice yet.
            let _ = writer.write_all(&answer).await;
        }
    });
}

impl Broker {
    /// The answer; `None` breaks the connection.
    async fn answer(&self, frame: &Bytes, behind: usize) -> Option<Bytes> {
        let mut reader = Reader::of_frame(frame);
        let header = decode_request_header(&mut reader).unwrap();
        let (key, version, id) = (header.api_key, header.api_version, header.correlation_id);
        Some(match key {
            ApiKey::Produce => {
                let request = ProduceRequest::decode(&mut reader, version).unwrap();
                let answer = self.produce(&request, behind + 1).await?;
                if request.acks == 0 {
                    return Some(Bytes::new());
                }
                frame_of(key, version, id, &answer)
            }
            ApiKey::Fetch => {
                let request = FetchRequest::decode(&mut reader, version).unwrap();
                frame_of(key, version, id, &self.fetch(&request).await)
            }
            ApiKey::ListOffsets => {
                let request = ListOffsetsRequest::decode(&mut reader, version).unwrap();
                frame_of(key, version, id, &list_offsets(&request))
            }
            ApiKey::Metadata => frame_of(key, version, id, &self.metadata()),
            ApiKey::ApiVersions => frame_of(key, version, id, &versions()),
            ApiKey::InitProducerId => {
                let answer = InitProducerIdResponse {
                    producer_id: 4000,
                    producer_epoch: 0,
                    ..Default::default()
                };
                frame_of(key, version, id, &answer)
            }
            other => panic!("{other:?} was not expected"),
        })
    }

    fn metadata(&self) -> MetadataResponse {
        let state = self.cluster.state();
        let partition = |(index, leader): (usize, &i32)| MetadataResponsePartition {
            partition_index: index as i32,
            leader_id: state.cut_off.filter(|id| *id == self.id).unwrap_or(*leader),
            leader_epoch: 1,
            ..Default::default()
        };
        let broker = |id: i32| MetadataResponseBroker {
            node_id: id,
            host: "fake".to_owned(),
            port: i32::from(FIRST_PORT) + id - 1,
            ..Default::default()
        };
        MetadataResponse {
            brokers: (1..=BROKERS).map(broker).collect(),
            topics: vec![MetadataResponseTopic {
                name: Some(TOPIC.to_owned()),
                topic_id: TOPIC_ID,
                error_code: state.topic_error.code(),
                partitions: state.leaders.iter().enumerate().map(partition).collect(),
                ..Default::default()
            }],
            ..Default::default()
        }
    }

    async fn produce(
        &self,
        request: &ProduceRequest<'_>,
        waiting: usize,
    ) -> Option<ProduceResponse> {
        let (fault, latency) = {
            let mut state = self.cluster.state();
            state.requests += 1;
            state.most_waiting = state.most_waiting.max(waiting);
            let fault = (state.fault)();
            if fault == Some(Fault::MoveLeaders) {
                state.move_leaders();
            }
            (fault, state.latency)
        };
        match fault {
            Some(Fault::BreakBefore) => return None,
            Some(Fault::Slow(time)) => tokio::time::sleep(time).await,
            _ => tokio::time::sleep(latency).await,
        }
        let partitions = request.topic_data[0].partition_data.iter();
        let answers = partitions.map(|data| {
            let index = data.index;
            let (error, offset) = self.append(index, data.records.unwrap(), fault);
            PartitionProduceResponse {
                index,
                error_code: error.code(),
                base_offset: offset,
                ..Default::default()
            }
        });
        let partition_responses = answers.collect();
        self.cluster.0.appended.notify_waiters();
        if fault == Some(Fault::BreakAfter) {
            return None;
        }
        Some(ProduceResponse {
            responses: vec![TopicProduceResponse {
                topic_id: TOPIC_ID,
                partition_responses,
                ..Default::default()
            }],
            ..Default::default()
        })
    }

    fn append(&self, index: i32, batch: &[u8], fault: Option<Fault>) -> (ErrorCode, i64) {
        let mut state = self.cluster.state();
        let place = usize::try_from(index).unwrap();
        if state.leaders[place] != self.id {
            return (ErrorCode::NotLeaderOrFollower, -1);
        }
        if let Some(Fault::Refuse(code)) = fault {
            return (code, -1);
        }
        match (state.logs[place].append(batch), fault) {
            (Ok(_), Some(Fault::DoAndRefuse(code))) => (code, -1),
            (Ok(offset), _) => (ErrorCode::None, offset.get()),
            (Err(code), _) => (code, -1),
        }
    }

    /// Waits for records as long as the client likes, if there are none.
    async fn fetch(&self, request: &FetchRequest<'_>) -> FetchResponse {
        let wait = Duration::from_millis(request.max_wait_ms.try_into().unwrap());
        let deadline = tokio::time::Instant::now() + wait;
        loop {
            let appended = self.cluster.0.appended.notified();
            let answer = self.read(request);
            let partitions = answer.responses.iter().flat_map(|topic| &topic.partitions);
            let something = partitions
                .filter_map(|partition| partition.records.as_ref())
                .any(|records| !records.is_empty());
            if something || tokio::time::timeout_at(deadline, appended).await.is_err() {
                return answer;
            }
        }
    }

    fn read(&self, request: &FetchRequest<'_>) -> FetchResponse {
        let state = self.cluster.state();
        let asked = request.topics[0].partitions.iter();
        let partitions = asked.map(|asked| {
            let place = usize::try_from(asked.partition).unwrap();
            let log = &state.logs[place];
            let batches = millrace_protocol::batch::batches(&log.batches).map(Result::unwrap);
            let wanted = batches.filter(|b| b.last_offset().unwrap().get() >= asked.fetch_offset);
            let bytes: Vec<u8> = wanted.flat_map(|batch| batch.bytes.to_vec()).collect();
            let error = match state.leaders[place] == self.id {
                true => ErrorCode::None,
                false => ErrorCode::NotLeaderOrFollower,
            };
            PartitionData {
                partition_index: asked.partition,
                error_code: error.code(),
                records: error.is_none().then(|| Bytes::from(bytes).into()),
                ..Default::default()
            }
        });
        FetchResponse {
            responses: vec![FetchableTopicResponse {
                topic_id: TOPIC_ID,
                partitions: partitions.collect(),
                ..Default::default()
            }],
            ..Default::default()
        }
    }
}

/// The beginning of every partition.
fn list_offsets(request: &ListOffsetsRequest) -> ListOffsetsResponse {
    let topic = &request.topics[0];
    let partitions = topic
        .partitions
        .iter()
        .map(|p| ListOffsetsPartitionResponse {
            partition_index: p.partition_index,
            offset: 0,
            ..Default::default()
        });
    ListOffsetsResponse {
        topics: vec![ListOffsetsTopicResponse {
            name: topic.name.clone(),
            partitions: partitions.collect(),
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn versions() -> ApiVersionsResponse {
    let keys = VERSIONS.iter().map(|(key, version)| ApiVersion {
        api_key: key.code(),
        min_version: *version,
        max_version: *version,
        ..Default::default()
    });
    ApiVersionsResponse {
        api_keys: keys.collect(),
        ..Default::default()
    }
}

fn frame_of<M: Message>(key: ApiKey, version: i16, id: i32, body: &M) -> Bytes {
    response_frame(key, version, id, body).unwrap()
}
