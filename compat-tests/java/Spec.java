import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;

/** What every suite writes: the same bytes as `common/spec.py` makes. */
final class Spec {
    static final int SHARED_RECORDS = 25;

    static String sharedTopic(String suite, String codec, String run) {
        return "shared-" + suite + "-" + codec + "-" + run;
    }

    private static byte[] body(int index) {
        if (index % 7 == 6) return null;
        byte[] bytes = new byte[index == 1 ? 100_000 : 10 * index];
        for (int j = 0; j < bytes.length; j++) {
            bytes[j] = (byte) (index == 1 ? (j * 31 + index) % 251 : (j * 7 + index) % 256);
        }
        return bytes;
    }

    static ProducerRecord<byte[], byte[]> record(String topic, String suite, String codec, int index, long base) {
        String key = suite + "/" + codec + "/" + index;
        byte[] keyBytes = index % 5 == 4 && index % 7 != 6 ? null : key.getBytes(StandardCharsets.UTF_8);
        List<Header> headers = new ArrayList<>();
        if (index % 3 != 0) {
            headers.add(new RecordHeader("h", new byte[] {'a'}));
            headers.add(new RecordHeader("h", new byte[] {'b'}));
            headers.add(new RecordHeader("bin", new byte[] {0, (byte) 255, (byte) index}));
        }
        return new ProducerRecord<>(topic, 0, base + index * 1000L, keyBytes, body(index), headers);
    }

    static List<ProducerRecord<byte[], byte[]>> records(
            String topic, String suite, String codec, long base, int from, int to) {
        List<ProducerRecord<byte[], byte[]>> all = new ArrayList<>();
        for (int i = from; i < to; i++) all.add(record(topic, suite, codec, i, base));
        return all;
    }

    /** Every byte: key, value, headers in their order, timestamp, and offsets without a gap. */
    static void compare(
            List<ProducerRecord<byte[], byte[]>> want, List<ConsumerRecord<byte[], byte[]>> got, long firstOffset) {
        check(want.size() == got.size(), "wrote " + want.size() + " records, read " + got.size());
        for (int i = 0; i < want.size(); i++) {
            ProducerRecord<byte[], byte[]> w = want.get(i);
            ConsumerRecord<byte[], byte[]> g = got.get(i);
            check(g.offset() == firstOffset + i, "record " + i + ": offset " + g.offset());
            check(Arrays.equals(w.key(), g.key()), "record " + i + ": another key");
            check(Arrays.equals(w.value(), g.value()), "record " + i + ": another value");
            check(w.timestamp() == g.timestamp(), "record " + i + ": timestamp " + g.timestamp());
            check(w.headers().equals(g.headers()), "record " + i + ": headers " + g.headers());
        }
    }

    static void check(boolean holds, String otherwise) {
        if (!holds) throw new AssertionError(otherwise);
    }
}
