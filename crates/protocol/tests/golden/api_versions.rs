//! The handshake as a Kafka 4.3 broker and controller answered it.

use millrace_protocol::api::ApiKey;
use millrace_protocol::header::{decode_request_header, decode_response_header};
use millrace_protocol::messages::api_versions_response::ApiVersionsResponse;
use millrace_protocol::{Decode, Reader};

use crate::{lines, unhex};

#[test]
fn raw_exchanges() {
    let lines = lines("api-versions");
    assert_eq!(lines.len(), 12);
    for line in lines {
        let asked = line["requestVersion"].as_i64().expect("a version") as i16;
        let request = unhex(line["requestHex"].as_str().expect("bytes"));
        let header = decode_request_header(&mut Reader::new(&request[4..])).expect("a header");
        assert_eq!(
            (header.api_key, header.api_version),
            (ApiKey::ApiVersions, asked)
        );

        let answered = line["responseVersion"].as_i64().expect("a version") as i16;
        let response = unhex(line["responseHex"].as_str().expect("bytes"));
        let mut reader = Reader::new(&response[4..]);
        let correlation = decode_response_header(&mut reader, ApiKey::ApiVersions, asked);
        assert_eq!(correlation, Ok(header.correlation_id));
        let body = ApiVersionsResponse::decode(&mut reader, answered).expect("a response");
        assert_eq!(reader.finish(), Ok(()));
        if body.error_code == 0 {
            announces_what_the_table_says(&body, line["listener"] == "broker");
        }
    }
}

fn announces_what_the_table_says(response: &ApiVersionsResponse, broker: bool) {
    for entry in &response.api_keys {
        let key = ApiKey::try_from(entry.api_key).expect("Kafka knows it");
        let announced = Some((entry.min_version, entry.max_version));
        assert_eq!(key.announced_versions(), announced, "{}", key.name());
        let served = if broker {
            key.on_broker()
        } else {
            key.on_controller()
        };
        assert!(served, "{}", key.name());
    }
}
