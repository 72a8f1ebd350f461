import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.ConcurrentHashMap;
import java.util.function.Consumer;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;

/** A group member with a thread of its own that polls and remembers. */
final class Member {
    final Map<Long, ConsumerRecord<byte[], byte[]>> got = new ConcurrentHashMap<>();
    final Set<String> all;
    volatile Set<Integer> owned = Set.of();
    private volatile boolean leaving;
    private volatile Long commitAt;
    private volatile Throwable failure;
    private final Thread thread;

    Member(Map<String, Object> settings, String topic, Set<String> all) {
        this(settings, topic, all, consumer -> consumer.subscribe(List.of(topic)));
    }

    Member(Map<String, Object> settings, String topic, Set<String> all, Consumer<KafkaConsumer<byte[], byte[]>> subscribe) {
        this.all = all;
        thread = new Thread(() -> run(settings, topic, subscribe));
        thread.start();
    }

    private void run(Map<String, Object> settings, String topic, Consumer<KafkaConsumer<byte[], byte[]>> subscribe) {
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(settings)) {
            subscribe.accept(consumer);
            while (!leaving) {
                for (ConsumerRecord<byte[], byte[]> r : consumer.poll(Duration.ofMillis(100))) {
                    got.put(r.offset(), r);
                    all.add(r.partition() + "@" + r.offset());
                }
                Set<Integer> now = new TreeSet<>();
                for (TopicPartition p : consumer.assignment()) now.add(p.partition());
                owned = now;
            }
            if (commitAt != null) {
                consumer.commitSync(Map.of(new TopicPartition(topic, 0), new OffsetAndMetadata(commitAt)));
            }
        } catch (Throwable t) {
            failure = t;
        }
    }

    void stop(Long commit) throws InterruptedException {
        commitAt = commit;
        leaving = true;
        thread.join(60_000);
        Spec.check(!thread.isAlive(), "a member did not leave");
        if (failure != null) throw new AssertionError("a member failed: " + failure, failure);
    }

    static Map<Integer, Integer> owners(List<Member> members) {
        Map<Integer, Integer> owners = new TreeMap<>();
        for (Member m : members) for (int p : m.owned) owners.merge(p, 1, Integer::sum);
        return owners;
    }

    /** Each partition has one owner and each member at least one partition. */
    static boolean isSpread(List<Member> members, int partitions) {
        Map<Integer, Integer> owners = new HashMap<>(owners(members));
        if (owners.size() != partitions) return false;
        return owners.values().stream().allMatch(n -> n == 1) && members.stream().noneMatch(m -> m.owned.isEmpty());
    }
}
