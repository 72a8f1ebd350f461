import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.Future;
import java.util.function.BooleanSupplier;
import java.util.function.Supplier;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndTimestamp;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** The Java client: the same named cases as `common/cases.py`, plus DescribeCluster and DescribeConfigs. */
public final class Suite {
    private static final String SUITE = "java";

    interface Body {
        void run() throws Exception;
    }

    private final String bootstrap;
    final String run;
    private final long base;
    final Admin admin;
    private boolean failed;

    private Suite(String bootstrap, String run) {
        this.bootstrap = bootstrap;
        this.run = run;
        base = Long.parseLong(run) - 3_600_000;
        admin = Admin.create(Map.of("bootstrap.servers", bootstrap));
    }

    public static void main(String[] args) {
        Suite suite = new Suite(args[0], args[1]);
        if (args[2].equals("cases")) {
            suite.all();
        } else if (args[2].equals("groups")) {
            new Groups(suite).all();
        } else if (args[2].equals("telemetry")) {
            new Telemetry(suite, args[3]).all();
        } else if (args[2].equals("write")) {
            suite.write();
        } else {
            for (String pair : Arrays.copyOfRange(args, 3, args.length)) {
                String[] parts = pair.split(":");
                suite.test("read_" + parts[0] + "_" + parts[1], () -> suite.readShared(parts[0], parts[1]));
            }
        }
        suite.admin.close();
        System.exit(suite.failed ? 1 : 0);
    }

    void test(String name, Body body) {
        try {
            body.run();
            System.out.println("ok " + name);
        } catch (Throwable t) {
            failed = true;
            System.out.println("FAIL " + name + " " + t.toString().replace('\n', ' '));
            t.printStackTrace();
        }
    }

    private void all() {
        for (String acks : List.of("0", "1", "all")) test("acks_" + acks, () -> acks(acks));
        write();
        test("idempotent", this::idempotent);
        test("auto_create", this::autoCreate);
        test("large_record", this::largeRecord);
        test("seek_by_time", this::seekByTime);
        test("commit_and_resume", this::commitAndResume);
        test("group_of_three", this::groupOfThree);
        test("describe_cluster_and_topic", this::describe);
    }

    private void write() {
        for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) test("codec_" + codec, () -> codec(codec));
    }

    String topic(String name, int partitions) throws Exception {
        return create(SUITE + "-" + name + "-" + run, partitions);
    }

    String create(String topic, int partitions) throws Exception {
        admin.createTopics(List.of(new NewTopic(topic, partitions, (short) 1))).all().get();
        return topic;
    }

    static void await(Supplier<String> what, BooleanSupplier condition) throws InterruptedException {
        long end = System.nanoTime() + Duration.ofSeconds(60).toNanos();
        while (!condition.getAsBoolean()) {
            Spec.check(System.nanoTime() < end, "not within 60 s: " + what.get());
            Thread.sleep(20);
        }
    }

    KafkaProducer<byte[], byte[]> producer(Map<String, Object> more) {
        Map<String, Object> settings = new HashMap<>(Map.of(
                "bootstrap.servers", bootstrap, "enable.idempotence", false, "linger.ms", 5, "delivery.timeout.ms", 30_000,
                "request.timeout.ms", 20_000, "key.serializer", ByteArraySerializer.class,
                "value.serializer", ByteArraySerializer.class));
        settings.putAll(more);
        return new KafkaProducer<>(settings);
    }

    List<RecordMetadata> produce(List<ProducerRecord<byte[], byte[]>> records, Map<String, Object> more)
            throws Exception {
        List<RecordMetadata> answers = new ArrayList<>();
        try (KafkaProducer<byte[], byte[]> producer = producer(more)) {
            List<Future<RecordMetadata>> waiting = new ArrayList<>();
            for (ProducerRecord<byte[], byte[]> r : records) waiting.add(producer.send(r));
            producer.flush();
            for (Future<RecordMetadata> w : waiting) answers.add(w.get());
        }
        return answers;
    }

    Map<String, Object> consumerSettings(String group, boolean autoCommit) {
        Map<String, Object> settings = new HashMap<>(Map.of(
                "bootstrap.servers", bootstrap, "auto.offset.reset", "earliest", "enable.auto.commit", autoCommit,
                "auto.commit.interval.ms", 200, "heartbeat.interval.ms", 500, "session.timeout.ms", 10_000,
                "fetch.max.wait.ms", 100, "key.deserializer", ByteArrayDeserializer.class,
                "value.deserializer", ByteArrayDeserializer.class));
        if (group != null) settings.put("group.id", group);
        return settings;
    }

    private List<ConsumerRecord<byte[], byte[]>> read(String topic, int partition, long offset, int count)
            throws InterruptedException {
        List<ConsumerRecord<byte[], byte[]>> got = new ArrayList<>();
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(consumerSettings(null, false))) {
            TopicPartition at = new TopicPartition(topic, partition);
            consumer.assign(List.of(at));
            consumer.seek(at, offset);
            await(() -> count + " records, read " + got.size(), () -> {
                consumer.poll(Duration.ofMillis(100)).forEach(got::add);
                return got.size() >= count;
            });
        }
        return got;
    }

    private void acks(String acks) throws Exception {
        var sent = Spec.records(topic("acks-" + acks, 1), SUITE, "acks", base, 0, 100);
        produce(sent, Map.of("acks", acks));
        Spec.compare(sent, read(sent.get(0).topic(), 0, 0, sent.size()), 0);
    }

    private void codec(String codec) throws Exception {
        String topic = create(Spec.sharedTopic(SUITE, codec, run), 1);
        var sent = Spec.records(topic, SUITE, codec, base, 0, Spec.SHARED_RECORDS);
        List<Long> offsets =
                produce(sent, Map.of("compression.type", codec)).stream().map(RecordMetadata::offset).toList();
        Spec.check(offsets.equals(IntStream.range(0, sent.size()).mapToObj(i -> (long) i).toList()), "offsets " + offsets);
        Spec.compare(sent, read(topic, 0, 0, sent.size()), 0);
    }

    private void readShared(String suite, String codec) throws Exception {
        String topic = Spec.sharedTopic(suite, codec, run);
        Spec.compare(
                Spec.records(topic, suite, codec, base, 0, Spec.SHARED_RECORDS),
                read(topic, 0, 0, Spec.SHARED_RECORDS), 0);
    }

    private void idempotent() throws Exception {
        String topic = topic("idempotent", 3);
        List<ProducerRecord<byte[], byte[]>> sent = new ArrayList<>();
        for (int i = 0; i < 3000; i++) {
            sent.add(new ProducerRecord<>(topic, i % 3, base + i, null, Integer.toString(i).getBytes()));
        }
        var answers = produce(sent, Map.of("enable.idempotence", true, "acks", "all", "batch.size", 512));
        for (int p = 0; p < 3; p++) {
            int partition = p;
            var mine = sent.stream().filter(r -> r.partition() == partition).toList();
            var offsets = answers.stream().filter(m -> m.partition() == partition).map(RecordMetadata::offset).toList();
            Spec.check(offsets.equals(IntStream.range(0, 1000).mapToObj(i -> (long) i).toList()), "offsets not in order");
            Spec.compare(mine, read(topic, p, 0, mine.size()), 0);
        }
    }

    private void autoCreate() throws Exception {
        var sent = List.of(Spec.record(SUITE + "-auto-" + run, SUITE, "auto", 0, base));
        produce(sent, Map.of());
        Spec.compare(sent, read(sent.get(0).topic(), 0, 0, 1), 0);
    }

    private void largeRecord() throws Exception {
        byte[] value = new byte[900_000];
        for (int i = 0; i < value.length; i++) value[i] = (byte) ((long) i * i);
        var sent = List.of(new ProducerRecord<>(topic("large", 1), 0, base, new byte[] {'k'}, value));
        produce(sent, Map.of());
        Spec.compare(sent, read(sent.get(0).topic(), 0, 0, 1), 0);
    }

    private void seekByTime() throws Exception {
        String topic = topic("time", 1);
        for (int start = 0; start < 30; start += 10) {
            produce(Spec.records(topic, SUITE, "time", base, start, start + 10), Map.of());
        }
        List<Long> got = new ArrayList<>();
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(consumerSettings(null, false))) {
            TopicPartition at = new TopicPartition(topic, 0);
            for (long ms : List.of(-1, 0, 14_000, 14_001, 29_000, 29_001)) {
                OffsetAndTimestamp found = consumer.offsetsForTimes(Map.of(at, base + ms)).get(at);
                got.add(found == null ? null : found.offset());
            }
        }
        Spec.check(got.equals(Arrays.asList(0L, 0L, 14L, 15L, 29L, null)), "offsets " + got);
        Spec.compare(Spec.records(topic, SUITE, "time", base, 14, 30), read(topic, 0, 14, 16), 14);
    }

    private void commitAndResume() throws Exception {
        String topic = topic("resume", 1);
        String group = SUITE + "-resume-" + run;
        var sent = Spec.records(topic, SUITE, "resume", base, 0, 40);
        produce(sent, Map.of());
        Member first = new Member(consumerSettings(group, false), topic, ConcurrentHashMap.newKeySet());
        await(() -> "40 records for the first member", () -> first.got.size() >= 40);
        Spec.compare(sent, first.got.values().stream().sorted((a, b) -> Long.compare(a.offset(), b.offset())).toList(), 0);
        first.stop(25L);
        TopicPartition at = new TopicPartition(topic, 0);
        long committed = admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get().get(at).offset();
        Spec.check(committed == 25, "committed " + committed);
        Member second = new Member(consumerSettings(group, false), topic, ConcurrentHashMap.newKeySet());
        await(() -> "15 records for the second member", () -> second.got.size() >= 15);
        Set<Long> rest = IntStream.range(25, 40).mapToObj(i -> (long) i).collect(Collectors.toSet());
        Spec.check(second.got.keySet().equals(rest), "resumed with " + second.got.keySet());
        second.stop(null);
    }

    private void groupOfThree() throws Exception {
        String topic = topic("group", 6);
        Set<String> seen = ConcurrentHashMap.newKeySet();
        Set<String> sent = ConcurrentHashMap.newKeySet();
        boolean[] stop = {false};
        Throwable[] broken = {null};
        Thread load = new Thread(() -> {
            try {
                while (!stop[0]) {
                    List<ProducerRecord<byte[], byte[]>> more = new ArrayList<>();
                    for (int i = 0; i < 12; i++) more.add(new ProducerRecord<>(topic, i % 6, base, null, new byte[] {1}));
                    for (RecordMetadata m : produce(more, Map.of())) sent.add(m.partition() + "@" + m.offset());
                    Thread.sleep(100);
                }
            } catch (Throwable t) {
                broken[0] = t;
            }
        });
        load.start();
        List<Member> members = new ArrayList<>();
        var settings = consumerSettings(SUITE + "-group-" + run, true);
        try {
            for (int i = 0; i < 3; i++) {
                members.add(new Member(settings, topic, seen));
                spread(members);
            }
            members.remove(1).stop(null);
            spread(members);
            members.remove(0).stop(null);
            spread(members);
        } finally {
            stop[0] = true;
            load.join(60_000);
        }
        Spec.check(broken[0] == null && !sent.isEmpty(), "producing failed: " + broken[0]);
        await(() -> "all of " + sent.size() + " records consumed", () -> seen.containsAll(sent));
        members.remove(0).stop(null);
    }

    private static void spread(List<Member> members) throws InterruptedException {
        await(() -> "one owner each: " + Member.owners(members), () -> Member.isSpread(members, 6));
    }

    private void describe() throws Exception {
        var cluster = admin.describeCluster();
        Spec.check(cluster.nodes().get().size() == 1, "nodes " + cluster.nodes().get());
        Spec.check(!cluster.clusterId().get().isEmpty(), "no cluster id");
        String topic = topic("described", 4);
        var description = admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic);
        Spec.check(description.partitions().size() == 4, "partitions " + description.partitions());
        var resource = new org.apache.kafka.common.config.ConfigResource(
                org.apache.kafka.common.config.ConfigResource.Type.TOPIC, topic);
        var config = admin.describeConfigs(List.of(resource)).all().get().get(resource);
        Spec.check("delete".equals(config.get("cleanup.policy").value()), "cleanup.policy " + config.get("cleanup.policy"));
        admin.deleteTopics(List.of(topic)).all().get();
        await(() -> topic + " is still listed", () -> {
            try {
                return !admin.listTopics().names().get().contains(topic);
            } catch (Exception e) {
                throw new AssertionError(e);
            }
        });
    }
}
