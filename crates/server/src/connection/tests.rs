//! Order, barriers and ends of a connection, with a service that does what its request says.

use std::sync::Mutex;

use bytes::BytesMut;
use millrace_host::Network;
use millrace_host::network::RealNetwork;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;

use super::*;

/// Requests are one letter: `p` overlaps and waits to be released, `b` is a barrier, `n` has no
/// answer, `c` closes, anything else is malformed. Notes what it was told to begin.
struct Letters {
    begun: Arc<Mutex<Vec<u8>>>,
    gates: VecDeque<oneshot::Receiver<()>>,
}

impl Service for Letters {
    fn begin(&mut self, frame: BytesMut) -> Result<Begun, RequestError> {
        let letter = frame[0];
        let begun = self.begun.clone();
        let reply = vec![Bytes::from_static(b"<"), frame.freeze()];
        match letter {
            b'p' => {
                begun.lock().unwrap().push(letter);
                let gate = self.gates.pop_front();
                Ok(Begun::Overlapping(Box::pin(async move {
                    if let Some(gate) = gate {
                        let _ = gate.await;
                    }
                    Ok(Reply::Segments(reply))
                })))
            }
            b'b' => Ok(Begun::Barrier(Box::pin(async move {
                begun.lock().unwrap().push(letter);
                Ok(Reply::Segments(reply))
            }))),
            b'n' => Ok(Begun::Overlapping(Box::pin(async { Ok(Reply::Nothing) }))),
            b'c' => Ok(Begun::Overlapping(Box::pin(async { Ok(Reply::Close) }))),
            _ => Err(RequestError::Malformed("no letter".to_owned())),
        }
    }
}

struct Client {
    stream: BoxStream,
    begun: Arc<Mutex<Vec<u8>>>,
    server: tokio::task::JoinHandle<Ended>,
    stopping: CancellationToken,
}

impl Client {
    async fn connect(gates: Vec<oneshot::Receiver<()>>, max_idle: Duration) -> Client {
        let mut listener = RealNetwork.listen("127.0.0.1", 0).await.unwrap();
        let port = listener.local_address().unwrap().port();
        let stream = RealNetwork.connect("127.0.0.1", port).await.unwrap();
        let accepted = listener.accept().await.unwrap();
        let begun = Arc::new(Mutex::new(Vec::new()));
        let service = Letters {
            begun: begun.clone(),
            gates: gates.into(),
        };
        let limits = ConnectionLimits {
            max_frame_bytes: 100,
            max_idle: Some(max_idle),
            memory: RequestMemory::new(1 << 20),
        };
        let stopping = CancellationToken::new();
        let server = tokio::spawn(serve(accepted, b"", service, limits, stopping.clone()));
        Client {
            stream,
            begun,
            server,
            stopping,
        }
    }

    async fn send(&mut self, letters: &str) {
        for letter in letters.bytes() {
            self.stream.write_all(&[0, 0, 0, 1, letter]).await.unwrap();
        }
    }

    async fn expect(&mut self, answers: &str) {
        let mut received = vec![0; answers.len()];
        self.stream.read_exact(&mut received).await.unwrap();
        assert_eq!(String::from_utf8(received).unwrap(), answers);
    }

    fn begun(&self) -> String {
        String::from_utf8(self.begun.lock().unwrap().clone()).unwrap()
    }

    async fn until_begun(&self, letters: &str) {
        while self.begun() != letters {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

const LONG: Duration = Duration::from_secs(600);

#[tokio::test]
async fn overlapping_requests_begin_at_once_and_are_answered_in_order() {
    let (first, first_gate) = oneshot::channel();
    let (second, second_gate) = oneshot::channel();
    let mut client = Client::connect(vec![first_gate, second_gate], LONG).await;
    client.send("ppp").await;
    client.until_begun("ppp").await;
    second.send(()).unwrap();
    first.send(()).unwrap();
    client.expect("<p<p<p").await;
}

#[tokio::test]
async fn a_barrier_waits_for_what_came_before_it() {
    let (first, first_gate) = oneshot::channel();
    let mut client = Client::connect(vec![first_gate], LONG).await;
    client.send("pbp").await;
    client.until_begun("p").await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(client.begun(), "p");
    first.send(()).unwrap();
    client.expect("<p<b<p").await;
    assert_eq!(client.begun(), "pbp");
}

#[tokio::test]
async fn a_flood_of_requests_is_bounded_and_answered() {
    let (first, first_gate) = oneshot::channel();
    let mut client = Client::connect(vec![first_gate], LONG).await;
    client.send(&"p".repeat(3 * MAX_REQUESTS_IN_FLIGHT)).await;
    client
        .until_begun(&"p".repeat(MAX_REQUESTS_IN_FLIGHT))
        .await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(client.begun().len(), MAX_REQUESTS_IN_FLIGHT);
    first.send(()).unwrap();
    client
        .expect(&"<p".repeat(3 * MAX_REQUESTS_IN_FLIGHT))
        .await;
}

#[tokio::test]
async fn unanswered_requests_and_their_failure() {
    let mut client = Client::connect(Vec::new(), LONG).await;
    client.send("npc").await;
    client.expect("<p").await;
    assert!(matches!(client.server.await.unwrap(), Ended::Unanswerable));
}

#[tokio::test]
async fn what_is_no_request_ends_the_connection() {
    let mut client = Client::connect(Vec::new(), LONG).await;
    client.send("x").await;
    assert!(matches!(client.server.await.unwrap(), Ended::Request(_)));

    let mut client = Client::connect(Vec::new(), LONG).await;
    client
        .stream
        .write_all(&i32::MAX.to_be_bytes())
        .await
        .unwrap();
    assert!(matches!(client.server.await.unwrap(), Ended::Frames(_)));
}

#[tokio::test]
async fn an_idle_connection_ends() {
    let mut client = Client::connect(Vec::new(), Duration::from_millis(50)).await;
    client.stream.write_all(&[0, 0]).await.unwrap();
    assert!(matches!(client.server.await.unwrap(), Ended::Idle));
}

#[tokio::test]
async fn a_stop_answers_what_was_begun() {
    let (first, first_gate) = oneshot::channel();
    let mut client = Client::connect(vec![first_gate], LONG).await;
    client.send("p").await;
    client.until_begun("p").await;
    client.stopping.cancel();
    first.send(()).unwrap();
    client.expect("<p").await;
    assert!(matches!(client.server.await.unwrap(), Ended::ByClient));
}
