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

/// Decompressed bytes that are always granted, however small the input: Java producers fill batches
/// by their estimated compressed size, so 16 KiB of zstd may honestly hold tens of megabytes.
pub const MIN_DECOMPRESSION_BYTES: usize = 64 * 1024 * 1024;

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

/// Partitions that a broker asks another one about at once, to learn where their logs end: the
/// question and its answer stay below a megabyte.
pub const MAX_ENDS_ASKED: usize = 10_000;

/// Batches of idempotent producers that were refused and not appended since, as many as a broker
/// remembers: two of each partition it may well lead, at 40 bytes each.
pub const MAX_REFUSED_BATCHES: usize = 20_000;

/// How long a refused batch is remembered at least; twice as long at most. Batches behind it that
/// were under way when it was refused arrive within a request's timeout (30 s).
pub const REFUSED_BATCH_SPAN: std::time::Duration = std::time::Duration::from_secs(30);

/// How long Produce waits for a leadership that this broker is taking up, counted from when its
/// replica was told: longer than opening a log and syncing it take, shorter than clients' request
/// timeouts, since other partitions' batches on the connection wait too.
pub const LEADERSHIP_WAIT: std::time::Duration = std::time::Duration::from_secs(1);

/// Requests of one connection that may be under way at once; further ones wait in the socket.
/// Kafka's clients have five (idempotent producers) to some dozens (librdkafka) on the way.
pub const MAX_REQUESTS_IN_FLIGHT: usize = 64;

/// Bytes of requests that all connections together may hold while `queued.max.request.bytes` says
/// nothing; beyond it nothing more is read until requests have been answered.
pub const MAX_REQUEST_BYTES_IN_FLIGHT: usize = 1024 * 1024 * 1024;

/// What is set aside at once for a frame whose bytes have not come yet; beyond it memory grows only
/// with what has really been received.
pub const FRAME_RESERVE_BYTES: usize = 256 * 1024;

/// How long a connection may wait for memory for its frame before it is closed; closing is what
/// resolves many half-received frames waiting for each other.
pub const FRAME_MEMORY_WAIT: std::time::Duration = std::time::Duration::from_secs(10);

/// How long a reader may take nothing of an answer before its connection is closed: the answer
/// holds memory. Longer than any pause of a client that is still there.
pub const WRITE_STALL: std::time::Duration = std::time::Duration::from_secs(120);

/// Connections accepted when `max.connections` says nothing: below the file descriptors that a
/// service is usually granted.
pub const MAX_CONNECTIONS: usize = 50_000;

/// Connections to the HTTP listener at once: a scraper and some probes.
pub const MAX_HTTP_CONNECTIONS: usize = 64;

/// Buffers handed to one vectored write to a socket; more cost the kernel and gain nothing.
pub const MAX_SOCKET_SLICES: usize = 64;

/// Threads of the data path that may wait for a disk at once: reads that the page cache cannot
/// serve, recovery, deletion.
pub const MAX_BLOCKING_THREADS: usize = 16;

/// Threads beside Raft and the controller that may wait for a disk at once.
pub const MAX_CONTROL_BLOCKING_THREADS: usize = 4;

/// Member ids that a classic group may have given out without hearing of them again (KIP-394): each
/// lasts as long as the session its client asked for, half an hour at most.
pub const MAX_PENDING_MEMBERS: usize = 10_000;

/// What the subscriptions of a group's members may take together. Of a classic group, the chosen
/// ones of all members must fit one record, and members may know several strategies. Of a consumer
/// group, members that subscribe alike count once, expressions count with all their topics, and what
/// a member says of itself (client, rack, ...) counts too.
pub const MAX_GROUP_SUBSCRIPTION_BYTES: usize = 16 * 1024 * 1024;

/// Tombstones that one sweep over expired or deleted offsets writes before other requests get their
/// turn.
pub const MAX_SWEEP_RECORDS: usize = 1_000;

/// Offsets that one sweep looks at before other requests get their turn.
pub const MAX_SWEEP_OFFSETS: usize = 20_000;

/// What an offset's record takes in a batch beside its texts: numbers, lengths, versions.
pub const RECORD_OVERHEAD_BYTES: usize = 80;

/// Partitions that one group may have offsets for: more than a cluster has, so that a client that
/// makes numbers up does not fill its coordinator's memory.
pub const MAX_GROUP_OFFSETS: usize = 500_000;

/// Whoever waits longer for a group commit waits long; those of sound disks take some milliseconds,
/// of busy ones some tens.
pub const SLOW_SYNC: std::time::Duration = std::time::Duration::from_millis(500);

/// A disk counts as slow once all waits for it have been long for so long.
pub const SLOW_AFTER: std::time::Duration = std::time::Duration::from_secs(2);

/// And no longer once none has been long for so long.
pub const QUICK_AFTER: std::time::Duration = std::time::Duration::from_secs(5);

/// Members that an ISR has besides slow ones, or `min.insync.replicas` if that is more; only where they
/// are fewer is a slow replica in it. The controller takes it out, and the leader asks for it, by this.
pub const QUICK_MEMBERS: usize = 2;
