import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Future;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.config.ConfigResource;

/** Metrics that the client pushes by itself (KIP-714), found again in what the broker shows over HTTP. */
final class Telemetry {
    private static final int RECORDS = 50;

    private final Suite suite;
    private final String http;
    private final String watched;

    Telemetry(Suite suite, String http) {
        this.suite = suite;
        this.http = http;
        watched = "java-watched-" + suite.run;
    }

    void all() {
        suite.test("telemetry_producer_and_consumer", this::producerAndConsumer);
        suite.test("telemetry_without_subscription", this::withoutSubscription);
    }

    private void subscribe(String metrics) throws Exception {
        ConfigResource resource = new ConfigResource(ConfigResource.Type.CLIENT_METRICS, watched);
        List<AlterConfigOp> operations = new ArrayList<>();
        Map.of("metrics", metrics, "interval.ms", "200", "match", "client_id=" + watched + ".*").forEach((key, value) ->
                operations.add(new AlterConfigOp(new ConfigEntry(key, value), AlterConfigOp.OpType.SET)));
        suite.admin.incrementalAlterConfigs(Map.of(resource, operations)).all().get();
    }

    private List<ProducerRecord<byte[], byte[]>> records(String topic) {
        List<ProducerRecord<byte[], byte[]>> records = new ArrayList<>();
        for (int i = 0; i < RECORDS; i++) records.add(new ProducerRecord<>(topic, 0, null, null, new byte[] {1}));
        return records;
    }

    private static void send(KafkaProducer<byte[], byte[]> producer, List<ProducerRecord<byte[], byte[]>> records)
            throws Exception {
        List<Future<RecordMetadata>> sent = records.stream().map(producer::send).toList();
        for (Future<RecordMetadata> one : sent) one.get();
    }

    /** The value of a series of this client; nothing: it is not shown. */
    private Double shown(String series, String client) {
        HttpRequest request = HttpRequest.newBuilder(URI.create("http://" + http + "/metrics")).build();
        try {
            String text = HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString()).body();
            return text.lines()
                    .filter(line -> line.startsWith(series + "{") && line.contains("client_id=\"" + client + "\""))
                    .map(line -> Double.valueOf(line.substring(line.lastIndexOf(' ') + 1)))
                    .findFirst().orElse(null);
        } catch (Exception e) {
            throw new AssertionError(e);
        }
    }

    private void awaitShown(String series, String client, double value) throws InterruptedException {
        Suite.await(() -> series + " of " + client + " is " + shown(series, client), () -> {
            Double shown = shown(series, client);
            return shown != null && shown >= value;
        });
    }

    private void producerAndConsumer() throws Exception {
        subscribe("*");
        String topic = suite.topic("watched", 1);
        String producer = watched + "-p";
        String consumer = watched + "-c";
        Map<String, Object> settings = new HashMap<>(suite.consumerSettings("java-watched-group-" + suite.run, true));
        settings.put("client.id", consumer);
        try (KafkaProducer<byte[], byte[]> writes = suite.producer(Map.of("client.id", producer));
                KafkaConsumer<byte[], byte[]> reads = new KafkaConsumer<>(settings)) {
            send(writes, records(topic));
            awaitShown("weir_client_producer_record_send_total", producer, RECORDS);
            reads.subscribe(List.of(topic));
            String consumed = "weir_client_consumer_fetch_manager_records_consumed_total";
            Suite.await(() -> consumed + " is " + shown(consumed, consumer), () -> {
                reads.poll(Duration.ofMillis(100));
                Double shown = shown(consumed, consumer);
                return shown != null && shown >= RECORDS;
            });
            send(writes, records(topic));
            awaitShown("weir_client_producer_record_send_total", producer, 2 * RECORDS);
        }
        // It ends with a last push, and is known for a while.
        awaitShown("weir_telemetry_client_info", consumer, 1);
    }

    private void withoutSubscription() throws Exception {
        subscribe("*");
        String topic = suite.topic("unwatched", 1);
        String client = "java-unwatched-" + suite.run;
        try (KafkaProducer<byte[], byte[]> writes = suite.producer(Map.of("client.id", client))) {
            send(writes, records(topic));
            Spec.check(writes.clientInstanceId(Duration.ofSeconds(30)) != null, "it was given no id");
            send(writes, records(topic));
        }
        Spec.check(shown("weir_telemetry_client_info", client) == null, "its metrics were pushed");
    }
}
