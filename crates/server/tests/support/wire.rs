//! A client that speaks the raw protocol, one request after the other or pipelined.

use bytes::{Bytes, BytesMut};
use millrace_protocol::api::ApiKey;
use millrace_protocol::header::{decode_response_header, start_request};
use millrace_protocol::{Decode, Message, Reader};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// One connection.
pub struct Wire {
    stream: TcpStream,
    next: i32,
}

impl Wire {
    pub async fn connect(port: u16) -> Wire {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Wire { stream, next: 1 }
    }

    /// Sends a request; returns its correlation id.
    pub async fn send<M: Message>(&mut self, version: i16, request: &M) -> i32 {
        let key = ApiKey::try_from(M::API_KEY).unwrap();
        let id = self.next;
        self.next += 1;
        let mut writer = start_request(key, version, id, Some("wire")).unwrap();
        request.encode(&mut writer, version).unwrap();
        self.send_bytes(&writer.into_bytes()).await;
        id
    }

    pub async fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// The next frame, without its length; none at the end of the stream.
    pub async fn receive_frame(&mut self) -> Option<Bytes> {
        let length = self.stream.read_i32().await.ok()?;
        let mut frame = BytesMut::zeroed(usize::try_from(length).unwrap());
        self.stream.read_exact(&mut frame).await.ok()?;
        Some(frame.freeze())
    }

    /// The answer to the request with this correlation id, which must be the next one.
    pub async fn receive<R: for<'a> Decode<'a>>(&mut self, version: i16, id: i32) -> R {
        let frame = self.receive_frame().await.expect("an answer");
        let key = ApiKey::try_from(R::API_KEY).unwrap();
        let mut reader = Reader::of_frame(&frame);
        let got = decode_response_header(&mut reader, key, version).unwrap();
        assert_eq!(got, id, "answers come in the order of requests");
        let response = R::decode(&mut reader, version).unwrap();
        reader.finish().unwrap();
        response
    }

    /// Sends a request and waits for its answer.
    pub async fn ask<M: Message, R: for<'a> Decode<'a>>(&mut self, version: i16, request: &M) -> R {
        let id = self.send(version, request).await;
        self.receive(version, id).await
    }
}
