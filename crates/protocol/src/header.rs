//! The headers in front of requests and responses.

use bytes::Bytes;

use crate::api::{ApiKey, UnknownApiKey};
use crate::messages::request_header;
use crate::messages::response_header::ResponseHeader;
use crate::{Decode, DecodeError, EncodeError, Message, Reader, TaggedFields, Writer};

/// What stands before the body of a request.
#[derive(Clone, Debug, PartialEq)]
pub struct RequestHeader<'a> {
    /// Which request this is.
    pub api_key: ApiKey,
    /// The version of the request; it may be one that does not exist.
    pub api_version: i16,
    /// The answer carries the same number.
    pub correlation_id: i32,
    /// What the client calls itself.
    pub client_id: Option<&'a str>,
    /// Tagged fields of the header.
    pub unknown_tagged_fields: TaggedFields,
}

/// Why a frame has no header that can be answered; Kafka closes the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The frame is no Kafka request.
    #[error("cannot read the request header: {0}")]
    Decode(#[from] DecodeError),
    /// Kafka 4.3 has no such request.
    #[error(transparent)]
    UnknownApiKey(#[from] UnknownApiKey),
}

/// Reads the header of a request; the body is left in `input`.
///
/// # Errors
/// If the frame is too short or the API key is unknown. A version that does not exist is no error
/// here: the header's own version is then that of the nearest flexible or inflexible one, as in
/// Kafka (class `RequestHeader`).
pub fn decode_request_header<'a>(input: &mut Reader<'a>) -> Result<RequestHeader<'a>, HeaderError> {
    let mut ahead = *input;
    let api_key = ApiKey::try_from(ahead.i16()?)?;
    let header_version = api_key.request_header_version(ahead.i16()?);
    let header = request_header::RequestHeader::decode(input, header_version)?;
    Ok(RequestHeader {
        api_key,
        api_version: header.request_api_version,
        correlation_id: header.correlation_id,
        client_id: header.client_id,
        unknown_tagged_fields: header.unknown_tagged_fields,
    })
}

/// Begins a request: a [`Writer`] with the length prefix and this header, ready for the body.
///
/// # Errors
/// If the client id is too long.
pub fn start_request(
    api_key: ApiKey,
    api_version: i16,
    correlation_id: i32,
    client_id: Option<&str>,
) -> Result<Writer, EncodeError> {
    let header = request_header::RequestHeader {
        request_api_key: api_key.code(),
        request_api_version: api_version,
        correlation_id,
        client_id,
        ..Default::default()
    };
    let mut writer = Writer::framed(256);
    header.encode(&mut writer, api_key.request_header_version(api_version))?;
    Ok(writer)
}

/// Begins a response: a [`Writer`] with the length prefix and the header, ready for the body.
pub fn start_response(api_key: ApiKey, api_version: i16, correlation_id: i32) -> Writer {
    let mut writer = Writer::framed(256);
    writer.i32(correlation_id);
    if api_key.response_header_version(api_version) > 0 {
        writer.unsigned_varint(0);
    }
    writer
}

/// A whole frame of a response: length, header and body in one piece.
///
/// # Errors
/// If the body cannot be written in this version.
pub fn response_frame<M: Message>(
    api_key: ApiKey,
    api_version: i16,
    correlation_id: i32,
    body: &M,
) -> Result<Bytes, EncodeError> {
    let mut writer = start_response(api_key, api_version, correlation_id);
    body.encode(&mut writer, api_version)?;
    Ok(writer.into_bytes())
}

/// Reads the header of a response, which one must know to belong to a request of this key and
/// version; returns the correlation id, and leaves the body in `input`.
///
/// # Errors
/// If the frame is too short.
pub fn decode_response_header(
    input: &mut Reader<'_>,
    api_key: ApiKey,
    api_version: i16,
) -> Result<i32, DecodeError> {
    let header = ResponseHeader::decode(input, api_key.response_header_version(api_version))?;
    Ok(header.correlation_id)
}

/// The version of the response header for a response of this key and version.
pub fn response_header_version(api_key: ApiKey, api_version: i16) -> i16 {
    api_key.response_header_version(api_version)
}
