"""Members of a consumer group, by confluent-kafka or kafka-python: says on standard output what it reads and
commits. r PARTITION OFFSET: a record was read; c PARTITION OFFSET MS: that was committed, by then; a MEMBER N: that
member owns so many partitions. Ends on SIGTERM, leaving its group."""

import signal
import sys
import threading
import time

client, bootstrap, topic, group, protocol, first, count = sys.argv[1:8]
stopping = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stopping.set())
lock = threading.Lock()


def say(lines):
    with lock:
        sys.stdout.write("".join(line + "\n" for line in lines))
        sys.stdout.flush()


def committed(offsets):
    now = int(time.time() * 1000)
    say(f"c {partition} {offset} {now}" for partition, offset in offsets.items())


def by_confluent(index, name):
    from confluent_kafka import Consumer, KafkaException

    settings = {
        "bootstrap.servers": bootstrap,
        "client.id": name,
        "group.id": group,
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        "broker.address.family": "v4",
        "reconnect.backoff.ms": 10,
        "reconnect.backoff.max.ms": 100,
        "retry.backoff.ms": 20,
        "socket.timeout.ms": 3000,
        "fetch.wait.max.ms": 50,
        "topic.metadata.refresh.interval.ms": 2000,
        "log_level": 2,
    }
    if protocol == "consumer":
        settings["group.protocol"] = "consumer"
    else:
        strategy = "cooperative-sticky" if protocol == "cooperative" else "range"
        settings.update({"partition.assignment.strategy": strategy, "session.timeout.ms": 6000})
        settings["heartbeat.interval.ms"] = 500
    consumer = Consumer(settings)
    consumer.subscribe([topic])
    owned = None
    while not stopping.is_set():
        messages = [message for message in consumer.consume(100, 0.1) if not message.error()]
        now_owned = len(consumer.assignment())
        if now_owned != owned:
            owned = now_owned
            say([f"a {index} {owned}"])
        if not messages:
            continue
        say(f"r {message.partition()} {message.offset()}" for message in messages)
        try:
            done = consumer.commit(asynchronous=False)
            committed({p.partition: p.offset for p in done if p.error is None and p.offset >= 0})
        except KafkaException as error:
            print("commit:", error, file=sys.stderr, flush=True)
    consumer.close()


def by_kafka_python(index, name):
    from kafka import KafkaConsumer
    from kafka.coordinator.assignors.range import RangePartitionAssignor
    from kafka.errors import KafkaError

    consumer = KafkaConsumer(
        topic,
        bootstrap_servers=bootstrap.split(","),
        client_id=name,
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        partition_assignment_strategy=[RangePartitionAssignor],
        session_timeout_ms=6000,
        heartbeat_interval_ms=500,
        request_timeout_ms=20000,
        retry_backoff_ms=20,
        reconnect_backoff_ms=20,
        reconnect_backoff_max_ms=200,
        metadata_max_age_ms=2000,
    )
    owned = None
    while not stopping.is_set():
        polled = consumer.poll(timeout_ms=100, max_records=100)
        now_owned = len(consumer.assignment())
        if now_owned != owned:
            owned = now_owned
            say([f"a {index} {owned}"])
        if not polled:
            continue
        say(f"r {r.partition} {r.offset}" for records in polled.values() for r in records)
        ends = {partition.partition: records[-1].offset + 1 for partition, records in polled.items()}
        try:
            consumer.commit()
            committed(ends)
        except KafkaError as error:
            print("commit:", repr(error), file=sys.stderr, flush=True)
    consumer.close()


run = by_confluent if client == "confluent" else by_kafka_python
members = [
    threading.Thread(target=run, args=(index, f"member-{int(first) + index}"))
    for index in range(int(count))
]
for member in members:
    member.start()
for member in members:
    member.join()
say(["bye"])
