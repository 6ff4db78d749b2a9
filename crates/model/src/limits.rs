//! Every limit that is not a setting, with its reason. A number that bounds something lives here.

/// Longest topic name (Kafka class `Topic`): a directory name must hold it, a dash and a number.
pub const MAX_TOPIC_NAME_LENGTH: usize = 249;

/// Largest frame a connection may send before it has proved who it is; also all that a connection
/// without authentication may make the broker hold while only its length is known.
pub const MAX_UNAUTHENTICATED_FRAME_BYTES: usize = 512 * 1024;

/// Producer batches remembered for each producer and partition, so that a retry is recognised;
/// Kafka's idempotent producer has at most five requests in flight (KIP-98).
pub const REMEMBERED_BATCHES: usize = 5;

/// How many times its input a decompressed batch may hold before it is refused as a bomb, together
/// with the floor below; zstd and gzip reach about 1:1000 on zeros.
pub const MAX_DECOMPRESSION_RATIO: usize = 1100;

/// Decompressed bytes that are always granted, however small the input.
pub const MIN_DECOMPRESSION_BYTES: usize = 1024 * 1024;

/// Largest decompressed size of one batch, whatever the ratio says.
pub const MAX_DECOMPRESSED_BATCH_BYTES: usize = 256 * 1024 * 1024;

/// Largest HTTP/2 frame between brokers: few frames a batch, and still interleaving.
pub const PEER_FRAME_BYTES: u32 = 1024 * 1024;

/// HTTP/2 window of one stream between brokers: a second of a fast link's delay-bandwidth product.
pub const PEER_STREAM_WINDOW_BYTES: u32 = 16 * 1024 * 1024;

/// HTTP/2 window of one connection between brokers.
pub const PEER_CONNECTION_WINDOW_BYTES: u32 = 32 * 1024 * 1024;

/// Largest gRPC message between brokers: a window's worth of batches and a snapshot chunk fit.
pub const MAX_PEER_MESSAGE_BYTES: usize = 64 * 1024 * 1024;
