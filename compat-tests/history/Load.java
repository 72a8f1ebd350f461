import java.io.BufferedWriter;
import java.io.IOException;
import java.io.OutputStreamWriter;
import java.io.PrintWriter;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentSkipListMap;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** The Java client as a producer or a consumer whose history the checker judges; roles and lines as in load.py. */
public final class Load {
    private static volatile boolean over;

    private final PrintWriter out =
            new PrintWriter(new BufferedWriter(new OutputStreamWriter(System.out, StandardCharsets.UTF_8)));
    private final String bootstrap;
    private final String topic;
    private final int partitions;
    private final String name;
    private final Map<String, Object> settings = new HashMap<>();
    private final ConcurrentSkipListMap<Long, long[]> open = new ConcurrentSkipListMap<>();

    private Load(String[] args) {
        bootstrap = args[1];
        topic = args[2];
        partitions = Integer.parseInt(args[3]);
        name = args[4];
        for (int i = 5; i < args.length; i++) {
            String[] parts = args[i].split("=", 2);
            settings.put(parts[0], parts[1]);
        }
    }

    public static void main(String[] args) throws InterruptedException {
        Thread end = new Thread(() -> {
            try {
                while (System.in.read() >= 0) {}
            } catch (IOException e) {
                // the same as its end
            }
            over = true;
        });
        end.setDaemon(true);
        end.start();
        Load load = new Load(args);
        if (args[0].equals("produce")) {
            load.produce();
        } else {
            load.consume();
        }
        load.out.flush();
        System.exit(0);
    }

    private synchronized void say(String line) {
        out.println(line);
    }

    private synchronized void flush() {
        out.flush();
    }

    private void trouble(Object why) {
        String text = String.valueOf(why).replaceAll("[\"\\\\\\p{Cntrl}]", " ");
        say("{\"f\":\"trouble\",\"p\":\"" + name + "\",\"t1\":" + System.nanoTime() + ",\"why\":\"" + text + "\"}");
        flush();
    }

    private void sent(long number, int partition, long begun, long offset) {
        say("{\"f\":\"send\",\"p\":\"" + name + "\",\"n\":" + number + ",\"k\":\"" + topic + "-" + partition + "\",\"t0\":"
                + begun + ",\"t1\":" + System.nanoTime() + (offset >= 0 ? ",\"e\":\"ok\",\"o\":" + offset : ",\"e\":\"info\"")
                + "}");
    }

    private void produce() throws InterruptedException {
        double rate = Double.parseDouble((String) settings.getOrDefault("rate", "300"));
        String filler = " " + "x".repeat(Integer.parseInt((String) settings.getOrDefault("size", "200")));
        settings.remove("rate");
        settings.remove("size");
        Map<String, Object> all = new HashMap<>(Map.of(
                "bootstrap.servers", bootstrap, "acks", "all", "enable.idempotence", true,
                "delivery.timeout.ms", Integer.MAX_VALUE, "key.serializer", StringSerializer.class,
                "value.serializer", StringSerializer.class));
        all.putAll(settings);
        KafkaProducer<String, String> producer = new KafkaProducer<>(all);
        long start = System.nanoTime();
        for (long number = 0; !over; number++) {
            long due = start + (long) (number * 1e9 / rate);
            for (long wait; !over && (wait = due - System.nanoTime()) > 0; ) {
                Thread.sleep(Math.min(wait / 1_000_000, 20), (int) (wait % 1_000_000));
            }
            if (!over) send(producer, number, filler);
            if (number % 64 == 0) flush();
        }
        Thread closing = new Thread(() -> producer.close(Duration.ofSeconds(60)));
        closing.start();
        closing.join(60_000);
        if (!open.isEmpty()) trouble(open.size() + " records were neither acknowledged nor refused in 60 s");
        open.forEach((number, at) -> sent(number, (int) at[0], at[1], -1));
    }

    private void send(KafkaProducer<String, String> producer, long number, String filler) {
        int partition = (int) (number % partitions);
        long begun = System.nanoTime();
        open.put(number, new long[] {partition, begun});
        try {
            producer.send(new ProducerRecord<>(topic, partition, null, name + ":" + number + filler), (metadata, error) -> {
                open.remove(number);
                if (error != null) trouble(error);
                sent(number, partition, begun, error == null ? metadata.offset() : -1);
            });
        } catch (RuntimeException error) {
            open.remove(number);
            trouble(error);
            sent(number, partition, begun, -1);
        }
    }

    private void consume() {
        Map<String, Object> all = new HashMap<>(Map.of(
                "bootstrap.servers", bootstrap, "enable.auto.commit", false, "auto.offset.reset", "none",
                "fetch.max.wait.ms", 100, "key.deserializer", StringDeserializer.class,
                "value.deserializer", StringDeserializer.class));
        all.putAll(settings);
        List<TopicPartition> mine = new ArrayList<>();
        for (int p = 0; p < partitions; p++) mine.add(new TopicPartition(topic, p));
        try (KafkaConsumer<String, String> consumer = new KafkaConsumer<>(all)) {
            consumer.assign(mine);
            mine.forEach(partition -> consumer.seek(partition, 0));
            say("{\"f\":\"assign\",\"p\":\"" + name + "\",\"t1\":" + System.nanoTime() + "}");
            while (!over) {
                long begun = System.nanoTime();
                try {
                    taken(consumer.poll(Duration.ofMillis(100)), begun);
                } catch (RuntimeException error) {
                    trouble(error);
                }
                flush();
            }
        }
    }

    private void taken(ConsumerRecords<String, String> records, long begun) {
        for (TopicPartition partition : records.partitions()) {
            StringBuilder rows = new StringBuilder();
            for (ConsumerRecord<String, String> r : records.records(partition)) {
                String value = r.value().substring(0, r.value().indexOf(' '));
                rows.append(rows.isEmpty() ? "" : ",").append('[').append(r.offset()).append(",\"").append(value).append("\"]");
            }
            say("{\"f\":\"poll\",\"p\":\"" + name + "\",\"t0\":" + begun + ",\"t1\":" + System.nanoTime() + ",\"k\":\""
                    + partition + "\",\"rs\":[" + rows + "]}");
        }
    }
}
