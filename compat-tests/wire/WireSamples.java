import java.io.BufferedOutputStream;
import java.io.DataOutputStream;
import java.io.FileOutputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.List;
import java.util.NavigableMap;
import java.util.Random;
import java.util.TreeMap;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.message.RequestHeaderData;
import org.apache.kafka.common.message.ResponseHeaderData;
import org.apache.kafka.common.protocol.ApiMessage;
import org.apache.kafka.common.message.ApiMessageType;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.Message;
import org.apache.kafka.common.protocol.ObjectSerializationCache;
import org.apache.kafka.common.protocol.types.Field;
import org.apache.kafka.common.protocol.types.BoundField;
import org.apache.kafka.common.protocol.types.RawTaggedField;
import org.apache.kafka.common.protocol.types.Schema;
import org.apache.kafka.common.protocol.types.Struct;
import org.apache.kafka.common.protocol.types.TaggedFields;
import org.apache.kafka.common.protocol.types.Type;
import org.apache.kafka.common.record.internal.MemoryRecords;
import org.apache.kafka.common.record.internal.SimpleRecord;

/**
 * Writes sample messages of every API and version, with the bytes that Kafka's own message classes give them.
 *
 * A random value of the version's schema is written, read by the generated class and written again by it: the second
 * bytes are the sample, since the class leaves out tagged fields that hold their defaults. The seed is fixed.
 *
 * Layout of the file, big endian, until its end: api key (int16), version (int16), direction (int8: 0 request,
 * 1 response), header length (int32), total length (int32), bytes of header and body.
 */
public final class WireSamples {
    private static final int RANDOM_SAMPLES = 12;
    private static final String[] TEXTS = {"", "a", "topic-1", "Grüße", "日本語", "🦀 crab", "x".repeat(200), "nul\u0000"};

    private final Random random;
    /** Chance in percent that a value is null or an array empty. */
    private final int emptiness;

    private WireSamples(long seed, int emptiness) {
        this.random = new Random(seed);
        this.emptiness = emptiness;
    }

    public static void main(String[] arguments) throws IOException {
        try (DataOutputStream out =
                new DataOutputStream(new BufferedOutputStream(new FileOutputStream(arguments[0])))) {
            for (ApiMessageType api : ApiMessageType.values()) {
                for (short version = api.lowestSupportedVersion(); version <= api.highestSupportedVersion(true); version++) {
                    for (int sample = 0; sample < RANDOM_SAMPLES; sample++) {
                        long seed = ((api.apiKey() * 100L) + version) * 100L + sample;
                        int emptiness = sample == 0 ? 100 : sample == 1 ? 0 : 30;
                        WireSamples samples = new WireSamples(seed, emptiness);
                        samples.request(out, api, version);
                        samples.response(out, api, version);
                    }
                }
            }
        }
    }

    private void request(DataOutputStream out, ApiMessageType api, short version) throws IOException {
        RequestHeaderData header = new RequestHeaderData()
            .setRequestApiKey(api.apiKey())
            .setRequestApiVersion(version)
            .setCorrelationId(random.nextInt())
            .setClientId(empty() ? null : text());
        short headerVersion = api.requestHeaderVersion(version);
        if (headerVersion >= 2 && !empty()) {
            header.unknownTaggedFields().add(new RawTaggedField(10, bytes(5)));
        }
        ByteBuffer headerBytes = write(header, headerVersion);
        write(out, api, version, 0, headerBytes, body(api.newRequest(), api.requestSchemas()[version], version));
    }

    private void response(DataOutputStream out, ApiMessageType api, short version) throws IOException {
        ResponseHeaderData header = new ResponseHeaderData().setCorrelationId(random.nextInt());
        ByteBuffer headerBytes = write(header, api.responseHeaderVersion(version));
        write(out, api, version, 1, headerBytes, body(api.newResponse(), api.responseSchemas()[version], version));
    }

    private static void write(DataOutputStream out, ApiMessageType api, short version, int direction, ByteBuffer header,
            ByteBuffer body) throws IOException {
        out.writeShort(api.apiKey());
        out.writeShort(version);
        out.writeByte(direction);
        out.writeInt(header.remaining());
        out.writeInt(header.remaining() + body.remaining());
        out.write(header.array(), header.position(), header.remaining());
        out.write(body.array(), body.position(), body.remaining());
    }

    private ByteBuffer body(ApiMessage message, Schema schema, short version) {
        Struct struct = struct(schema);
        ByteBuffer first = ByteBuffer.allocate(schema.sizeOf(struct));
        schema.write(first, struct);
        first.flip();
        message.read(new ByteBufferAccessor(first), version);
        if (first.hasRemaining()) {
            throw new IllegalStateException(message + " left bytes");
        }
        return write(message, version);
    }

    private static ByteBuffer write(Message message, short version) {
        ObjectSerializationCache cache = new ObjectSerializationCache();
        ByteBuffer buffer = ByteBuffer.allocate(message.size(cache, version));
        message.write(new ByteBufferAccessor(buffer), cache, version);
        buffer.flip();
        return buffer;
    }

    private Struct struct(Schema schema) {
        Struct struct = new Struct(schema);
        for (BoundField field : schema.fields()) {
            struct.set(field, value(field.def.type));
        }
        return struct;
    }

    private Object value(Type type) {
        if (type.isNullable() && empty()) {
            return null;
        }
        if (type instanceof TaggedFields) {
            return taggedFields((TaggedFields) type);
        }
        if (type instanceof Schema) {
            return struct((Schema) type);
        }
        if (type.isArray()) {
            Type element = type.arrayElementType().get();
            int count = empty() ? 0 : 1 + random.nextInt(3);
            List<Object> elements = new ArrayList<>();
            for (int i = 0; i < count; i++) {
                elements.add(value(element));
            }
            return elements.toArray();
        }
        return scalar(type.toString());
    }

    private Object scalar(String type) {
        switch (type) {
            case "BOOLEAN": return random.nextBoolean();
            case "INT8": return (byte) random.nextInt();
            case "INT16": return (short) random.nextInt();
            case "UINT16": return random.nextInt(1 << 16);
            case "INT32": return random.nextInt();
            case "UINT32": return random.nextInt() & 0xffffffffL;
            case "INT64": return random.nextLong();
            case "FLOAT64": return random.nextDouble();
            case "UUID": return empty() ? Uuid.ZERO_UUID : new Uuid(random.nextLong(), random.nextLong());
            case "STRING": case "NULLABLE_STRING": case "COMPACT_STRING": case "COMPACT_NULLABLE_STRING": return text();
            case "BYTES": case "NULLABLE_BYTES": case "COMPACT_BYTES": case "COMPACT_NULLABLE_BYTES":
                return ByteBuffer.wrap(bytes(random.nextInt(300)));
            case "RECORDS": case "NULLABLE_RECORDS": case "COMPACT_RECORDS": case "COMPACT_NULLABLE_RECORDS": return records();
            default: throw new IllegalStateException("no sample for type " + type);
        }
    }

    private MemoryRecords records() {
        if (empty()) {
            return MemoryRecords.EMPTY;
        }
        SimpleRecord record = new SimpleRecord(random.nextInt(1_000_000), bytes(5), bytes(random.nextInt(2000)));
        return MemoryRecords.withRecords(Compression.NONE, record);
    }

    private NavigableMap<Integer, Object> taggedFields(TaggedFields type) {
        NavigableMap<Integer, Object> values = new TreeMap<>();
        for (var entry : type.fields().entrySet()) {
            Field field = entry.getValue();
            if (!empty()) {
                values.put(entry.getKey(), value(field.type));
            }
        }
        if (random.nextInt(100) >= Math.max(emptiness, 70)) {
            values.put(1000, new RawTaggedField(1000, bytes(random.nextInt(200))));
        }
        return values;
    }

    private boolean empty() {
        return random.nextInt(100) < emptiness;
    }

    private String text() {
        return TEXTS[random.nextInt(TEXTS.length)];
    }

    private byte[] bytes(int length) {
        byte[] bytes = new byte[length];
        random.nextBytes(bytes);
        return bytes;
    }
}
