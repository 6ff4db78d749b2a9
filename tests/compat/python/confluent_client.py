"""confluent-kafka: admin, idempotent producer with every codec, consumer by assignment, offsets by time."""

import sys
import time

from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewPartitions, NewTopic, ResourceType

bootstrap = sys.argv[1]
admin = AdminClient({"bootstrap.servers": bootstrap})
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
RECORDS = 500


def wait(futures):
    for future in futures.values():
        future.result(timeout=30)


def described(name, partitions):
    """Waits until each partition has a leader and three replicas in sync."""
    deadline = time.time() + 30
    while time.time() < deadline:
        topic = admin.list_topics(name, timeout=10).topics[name]
        whole = [p for p in topic.partitions.values() if p.leader >= 0 and len(p.isrs) == 3]
        if len(whole) == partitions:
            return
        time.sleep(0.1)
    raise AssertionError(f"{name} is not there: {topic.partitions}")


wait(admin.create_topics([NewTopic(f"ck-{codec}", 2, 3) for codec in CODECS]))
for codec in CODECS:
    described(f"ck-{codec}", 2)
wait(admin.create_partitions([NewPartitions("ck-none", 4)]))
described("ck-none", 4)

started = int(time.time() * 1000)
for codec in CODECS:
    failed = []
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "enable.idempotence": True,
            "compression.type": codec,
            "linger.ms": 5,
        }
    )
    for number in range(RECORDS):
        producer.produce(
            f"ck-{codec}",
            partition=number % 2,
            key=f"k{number}",
            value=f"значение {number} " + "x" * 100,
            headers={"number": str(number)},
            on_delivery=lambda error, message: failed.append(error) if error else None,
        )
        producer.poll(0)
    assert producer.flush(30) == 0
    assert not failed, failed

for codec in CODECS:
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "not-joined",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "check.crcs": True,
        }
    )
    topic = f"ck-{codec}"
    consumer.assign([TopicPartition(topic, partition, 0) for partition in range(2)])
    seen = {0: [], 1: []}
    ended = set()
    while len(ended) < 2:
        message = consumer.poll(20)
        assert message is not None, f"nothing more of {topic} though {seen} was all"
        if message.error():
            assert message.error().code() == KafkaError._PARTITION_EOF, message.error()
            ended.add(message.partition())
            continue
        number = int(message.key()[1:])
        assert message.value().decode() == f"значение {number} " + "x" * 100
        assert message.headers() == [("number", str(number).encode())]
        assert message.offset() == len(seen[message.partition()])
        seen[message.partition()].append(number)
    assert seen[0] == list(range(0, RECORDS, 2)) and seen[1] == list(range(1, RECORDS, 2)), topic
    low, high = consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=10)
    assert (low, high) == (0, RECORDS // 2)
    by_time = consumer.offsets_for_times([TopicPartition(topic, 0, started)], timeout=10)
    assert by_time[0].offset == 0, by_time
    consumer.close()

resource = ConfigResource(ResourceType.TOPIC, "ck-none")
configs = admin.describe_configs([resource])[resource].result(timeout=30)
assert configs["max.message.bytes"].value == "1048588", configs["max.message.bytes"]
cluster = admin.describe_cluster().result(timeout=30)
assert len(cluster.nodes) == 3 and cluster.controller is not None
wait(admin.delete_topics([f"ck-{codec}" for codec in CODECS]))
print("all is well")
