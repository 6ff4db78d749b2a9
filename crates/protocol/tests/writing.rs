//! What the writer gives out, and what it refuses.

use bytes::Bytes;
use millrace_model::Uuid;
use millrace_protocol::api::ApiKey;
use millrace_protocol::header::{
    HeaderError, decode_request_header, response_frame, start_response,
};
use millrace_protocol::messages::fetch_response::{
    FetchResponse, FetchableTopicResponse, LeaderIdAndEpoch, PartitionData,
};
use millrace_protocol::messages::metadata_request::{MetadataRequest, MetadataRequestTopic};
use millrace_protocol::messages::metadata_response::MetadataResponse;
use millrace_protocol::messages::produce_request::ProduceRequest;
use millrace_protocol::{
    Decode, DecodeError, EncodeError, Message, Reader, Records, RecordsPart, Segment, range_in,
};

fn fetch_response(records: Vec<Option<Records>>) -> FetchResponse {
    let partition = |(index, records): (usize, _)| PartitionData {
        partition_index: index as i32,
        records,
        current_leader: LeaderIdAndEpoch {
            leader_id: 3,
            ..Default::default()
        },
        ..Default::default()
    };
    FetchResponse {
        responses: vec![FetchableTopicResponse {
            topic_id: Uuid::ONE,
            partitions: records.into_iter().enumerate().map(partition).collect(),
            ..Default::default()
        }],
        ..Default::default()
    }
}

#[test]
fn records_are_not_copied() {
    let records = Bytes::from(vec![7; 10_000]);
    let response = fetch_response(vec![Some(records.clone().into()), None]);
    let mut writer = start_response(ApiKey::Fetch, 16, 5);
    response.encode(&mut writer, 16).expect("it fits");
    let segments = writer.into_segments();
    assert_eq!(segments.len(), 3);
    let Segment::Bytes(shared) = &segments[1] else {
        panic!("the records are in memory");
    };
    assert_eq!(shared.as_ptr(), records.as_ptr());
}

#[test]
fn holes_stand_where_file_ranges_go() {
    let parts = vec![
        RecordsPart::Hole(3000),
        RecordsPart::Bytes(Bytes::from_static(b"tail")),
    ];
    let response = fetch_response(vec![Some(Records::of_parts(parts))]);
    let mut writer = start_response(ApiKey::Fetch, 13, 5);
    response.encode(&mut writer, 13).expect("it fits");
    let total = writer.len();
    let mut whole = Vec::new();
    let mut holes = 0;
    for segment in writer.into_segments() {
        match segment {
            Segment::Bytes(bytes) => whole.extend_from_slice(&bytes),
            Segment::Hole(length) => {
                holes += 1;
                whole.extend(vec![b'x'; length]);
            }
        }
    }
    assert_eq!((holes, whole.len()), (1, total));
    assert_eq!(
        u32::from_be_bytes([whole[0], whole[1], whole[2], whole[3]]) as usize,
        total - 4
    );

    // What a client makes of it: length, correlation id, tags of the header, body.
    let frame = Bytes::from(whole).slice(9..);
    let mut reader = Reader::of_frame(&frame);
    let decoded = FetchResponse::decode(&mut reader, 13).expect("we wrote it");
    let records = decoded.responses[0].partitions[0]
        .records
        .as_ref()
        .expect("records");
    let bytes = records.as_bytes().expect("in one piece");
    assert_eq!((bytes.len(), &bytes[2998..]), (3004, &b"xxtail"[..]));
    assert!(
        frame.as_ptr_range().contains(&bytes.as_ptr()),
        "they share the frame"
    );
}

#[test]
fn a_whole_frame_begins_with_its_length() {
    let body = MetadataResponse::default();
    let frame = response_frame(ApiKey::Metadata, 12, 77, &body).expect("it fits");
    assert_eq!(frame[..8], [0, 0, 0, frame.len() as u8 - 4, 0, 0, 0, 77]);
}

#[test]
fn fields_without_a_place_are_refused() {
    let request = MetadataRequest {
        include_cluster_authorized_operations: true,
        ..MetadataRequest::default()
    };
    assert!(request.to_bytes(8).is_ok());
    let refused = request
        .to_bytes(12)
        .expect_err("version 11 dropped the field");
    assert!(matches!(
        refused,
        EncodeError::Absent {
            field: "IncludeClusterAuthorizedOperations",
            version: 12,
            ..
        }
    ));
}

#[test]
fn ignorable_fields_are_dropped() {
    let response = fetch_response(vec![None]);
    let bytes = response.to_bytes(12).expect("the topic id is ignorable");
    let again = FetchResponse::decode(&mut Reader::new(&bytes), 12).expect("we wrote it");
    assert_eq!(again.responses[0].topic_id, Uuid::ZERO);
}

#[test]
fn null_needs_a_version_that_has_it() {
    let topic = MetadataRequestTopic {
        topic_id: Uuid::ONE,
        name: None,
        ..Default::default()
    };
    let request = MetadataRequest {
        topics: Some(vec![topic]),
        ..MetadataRequest::default()
    };
    assert!(request.to_bytes(12).is_ok());
    let request = MetadataRequest {
        topics: None,
        ..MetadataRequest::default()
    };
    assert!(matches!(
        request.to_bytes(0),
        Err(EncodeError::Null {
            field: "Topics",
            ..
        })
    ));
    let null_topics = [0xff; 4];
    let refused = MetadataRequest::decode(&mut Reader::new(&null_topics), 0);
    assert_eq!(refused, Err(DecodeError::Null));
}

#[test]
fn versions_have_ends() {
    let name = MetadataRequest::NAME;
    assert_eq!(
        MetadataRequest::default().to_bytes(14),
        Err(EncodeError::Version {
            message: name,
            version: 14
        })
    );
    assert_eq!(
        MetadataRequest::decode(&mut Reader::new(&[]), -1),
        Err(DecodeError::Version {
            message: name,
            version: -1
        })
    );
}

#[test]
fn hot_requests_borrow_from_the_frame() {
    let frame = b"\xff\xff\0\x01\0\0\0\x09\0\0\0\x01\0\x01t\0\0\0\x01\0\0\0\x04\0\0\0\x03abc";
    let request = ProduceRequest::decode(&mut Reader::new(frame), 3).expect("sound");
    assert_eq!((request.acks, request.timeout_ms), (1, 9));
    let records = request.topic_data[0].partition_data[0]
        .records
        .expect("records");
    assert_eq!(records, b"abc");
    assert_eq!(range_in(frame, records), Some(frame.len() - 3..frame.len()));
    assert_eq!(range_in(records, frame), None);
}

#[test]
fn headers_of_unknown_requests() {
    let unknown = decode_request_header(&mut Reader::new(&[0x03, 0xe8, 0, 0, 0, 0, 0, 0]));
    assert!(matches!(unknown, Err(HeaderError::UnknownApiKey(key)) if key.0 == 1000));
    let cut_off = decode_request_header(&mut Reader::new(&[0, 3, 0]));
    assert_eq!(cut_off, Err(HeaderError::Decode(DecodeError::End)));
    // A version nobody has: the header is that of a flexible version, and can be answered.
    let newest = [0, 18, 0x7f, 0xff, 0, 0, 0, 9, 0xff, 0xff, 0];
    let header = decode_request_header(&mut Reader::new(&newest)).expect("it can be read");
    assert_eq!(
        (header.api_key, header.api_version),
        (ApiKey::ApiVersions, 0x7fff)
    );
    assert_eq!((header.correlation_id, header.client_id), (9, None));
}
