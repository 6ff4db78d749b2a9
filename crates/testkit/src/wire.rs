//! One plain connection that speaks Kafka's protocol by a codec that is not ours.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{
    Decodable, HeaderVersion, Request, StrBytes, encode_request_header_into_buffer,
};

/// The largest answer that a test expects.
const MAX_ANSWER_BYTES: usize = 128 << 20;

/// A blocking connection; requests are answered in their order.
pub struct Wire {
    stream: TcpStream,
    correlation: i32,
}

impl Wire {
    /// Connects to a broker; answers must come within `limit`.
    pub fn connect(port: u16, limit: Duration) -> io::Result<Wire> {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let stream = TcpStream::connect_timeout(&address, limit)?;
        stream.set_read_timeout(Some(limit))?;
        stream.set_write_timeout(Some(limit))?;
        stream.set_nodelay(true)?;
        Ok(Wire {
            stream,
            correlation: 0,
        })
    }

    /// Sends one request and reads its answer.
    pub fn call<R: Request>(&mut self, request: &R, version: i16) -> io::Result<R::Response> {
        self.send(request, version)?;
        self.answer::<R>(version)
    }

    /// Sends one request.
    pub fn send<R: Request>(&mut self, request: &R, version: i16) -> io::Result<()> {
        let mut body = BytesMut::new();
        request.encode(&mut body, version).map_err(invalid)?;
        let frame = self.frame::<R>(version, &body)?;
        self.send_bytes(&frame)
    }

    /// Reads the answer to the oldest request that has none yet.
    pub fn answer<R: Request>(&mut self, version: i16) -> io::Result<R::Response> {
        let mut frame = self.answer_bytes()?;
        let header_version = R::Response::header_version(version);
        ResponseHeader::decode(&mut frame, header_version).map_err(invalid)?;
        R::Response::decode(&mut frame, version).map_err(invalid)
    }

    /// A whole frame, length included, for a body that was encoded elsewhere.
    pub fn frame<R: Request>(&mut self, version: i16, body: &[u8]) -> io::Result<Vec<u8>> {
        self.correlation += 1;
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation)
            .with_client_id(Some(StrBytes::from_static_str("millrace-testkit")));
        let mut frame = BytesMut::new();
        encode_request_header_into_buffer(&mut frame, &header).map_err(invalid)?;
        frame.put_slice(body);
        let mut whole = (frame.len() as u32).to_be_bytes().to_vec();
        whole.extend_from_slice(&frame);
        Ok(whole)
    }

    /// Sends bytes as they are.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Reads one frame; the bytes after its length.
    pub fn answer_bytes(&mut self) -> io::Result<Bytes> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length) as usize;
        if length > MAX_ANSWER_BYTES {
            return Err(invalid(format!("an answer of {length} bytes")));
        }
        let mut frame = vec![0; length];
        self.stream.read_exact(&mut frame)?;
        Ok(Bytes::from(frame))
    }

    /// Waits until the other side closes; an error when it does not within the limit, or when it
    /// sends something first.
    pub fn closed_by_peer(&mut self) -> io::Result<()> {
        let mut byte = [0; 1];
        match self.stream.read(&mut byte) {
            Ok(0) => Ok(()),
            Ok(_) => Err(invalid("bytes instead of an end")),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The socket underneath.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }
}

fn invalid(why: impl ToString) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_string())
}
