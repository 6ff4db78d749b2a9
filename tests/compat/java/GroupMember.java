// Members of a consumer group by the stock Java client; says on standard output what it reads and
// commits, in the words of group_member.py. Ends on SIGTERM, leaving its group.

import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;

import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

public class GroupMember {
    static volatile boolean stopping;

    public static void main(String[] args) throws Exception {
        int first = Integer.parseInt(args[4]);
        int count = Integer.parseInt(args[5]);
        CountDownLatch ended = new CountDownLatch(count);
        for (int member = 0; member < count; member++) {
            int index = member;
            String name = "member-" + (first + member);
            new Thread(() -> {
                try {
                    run(args, index, name);
                } catch (Throwable error) {
                    error.printStackTrace();
                } finally {
                    ended.countDown();
                }
            }, name).start();
        }
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            stopping = true;
            try {
                ended.await();
            } catch (InterruptedException ignored) {
                return;
            }
            say("bye\n");
        }));
        ended.await();
    }

    static void run(String[] args, int index, String name) {
        String protocol = args[3];
        Properties settings = new Properties();
        settings.put("bootstrap.servers", args[0]);
        settings.put("client.id", name);
        settings.put("group.id", args[2]);
        settings.put("enable.auto.commit", "false");
        settings.put("auto.offset.reset", "earliest");
        settings.put("max.poll.records", "100");
        settings.put("fetch.max.wait.ms", "50");
        settings.put("retry.backoff.ms", "20");
        settings.put("reconnect.backoff.ms", "20");
        settings.put("reconnect.backoff.max.ms", "200");
        settings.put("metadata.max.age.ms", "2000");
        settings.put("request.timeout.ms", "5000");
        settings.put("default.api.timeout.ms", "20000");
        settings.put("key.deserializer", ByteArrayDeserializer.class.getName());
        settings.put("value.deserializer", ByteArrayDeserializer.class.getName());
        if (protocol.equals("consumer")) {
            settings.put("group.protocol", "consumer");
        } else {
            settings.put("session.timeout.ms", "6000");
            settings.put("heartbeat.interval.ms", "500");
            settings.put("partition.assignment.strategy", "org.apache.kafka.clients.consumer."
                + (protocol.equals("cooperative") ? "CooperativeStickyAssignor" : "RangeAssignor"));
        }
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(settings)) {
            consumer.subscribe(List.of(args[1]));
            int owned = -1;
            while (!stopping) {
                ConsumerRecords<byte[], byte[]> records = consumer.poll(Duration.ofMillis(100));
                if (consumer.assignment().size() != owned) {
                    owned = consumer.assignment().size();
                    say("a " + index + " " + owned + "\n");
                }
                if (records.isEmpty()) {
                    continue;
                }
                take(consumer, records);
            }
        }
    }

    static void take(KafkaConsumer<byte[], byte[]> consumer, ConsumerRecords<byte[], byte[]> records) {
        StringBuilder said = new StringBuilder();
        for (ConsumerRecord<byte[], byte[]> record : records) {
            said.append("r ").append(record.partition()).append(' ').append(record.offset()).append('\n');
        }
        say(said.toString());
        try {
            Map<TopicPartition, OffsetAndMetadata> ends = records.nextOffsets();
            consumer.commitSync(ends);
            long now = System.currentTimeMillis();
            List<String> lines = new ArrayList<>();
            ends.forEach((partition, end) ->
                lines.add("c " + partition.partition() + " " + end.offset() + " " + now + "\n"));
            say(String.join("", lines));
        } catch (KafkaException error) {
            System.err.println("commit: " + error);
        }
    }

    static synchronized void say(String lines) {
        System.out.print(lines);
        System.out.flush();
    }
}
