"""kafka-python: topics, producer with acks=all, consumer by assignment; a third argument pins the version."""

import inspect
import sys
import time

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic

bootstrap, topic = sys.argv[1:3]
common = {"bootstrap_servers": bootstrap.split(",")}
if len(sys.argv) > 3:
    common["api_version"] = tuple(int(part) for part in sys.argv[3].split("."))
RECORDS = 500

admin = KafkaAdminClient(**common)
admin.create_topics([NewTopic(name=topic, num_partitions=2, replication_factor=3)])
deadline = time.time() + 30
while topic not in admin.list_topics():
    assert time.time() < deadline, "the topic is not listed"
    time.sleep(0.1)

settings = dict(common, acks="all", linger_ms=5, retries=10, compression_type="gzip")
if "enable_idempotence" in KafkaProducer.DEFAULT_CONFIG:
    settings["enable_idempotence"] = True
producer = KafkaProducer(**settings)
sent = [
    producer.send(topic, partition=number % 2, key=b"k%d" % number, value=f"значение {number}".encode())
    for number in range(RECORDS)
]
for number, future in enumerate(sent):
    metadata = future.get(timeout=30)
    assert metadata.partition == number % 2 and metadata.offset == number // 2, metadata
producer.close()

consumer = KafkaConsumer(**common, enable_auto_commit=False, consumer_timeout_ms=20000)
partitions = [TopicPartition(topic, number) for number in range(2)]
consumer.assign(partitions)
consumer.seek_to_beginning(*partitions)
assert consumer.end_offsets(partitions) == {partition: RECORDS // 2 for partition in partitions}
seen = {0: [], 1: []}
while sum(len(numbers) for numbers in seen.values()) < RECORDS:
    record = next(consumer)
    number = int(record.key[1:])
    assert record.value.decode() == f"значение {number}"
    assert record.offset == len(seen[record.partition])
    seen[record.partition].append(number)
assert seen[0] == list(range(0, RECORDS, 2)) and seen[1] == list(range(1, RECORDS, 2))
consumer.close()
admin.delete_topics([topic])
admin.close()
print("all is well")
