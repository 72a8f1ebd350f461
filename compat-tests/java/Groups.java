import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutionException;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.admin.ListConfigResourcesOptions;
import org.apache.kafka.clients.consumer.SubscriptionPattern;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.GroupType;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.InvalidConfigurationException;

/** The consumer protocol (KIP-848): members come and go, follow a pattern, and meet members of the classic protocol. */
final class Groups {
    private static final int PARTITIONS = 12;

    private final Suite suite;

    Groups(Suite suite) {
        this.suite = suite;
    }

    void all() {
        suite.test("consumer_one_three_one", this::oneThreeOne);
        suite.test("consumer_static_member_returns", this::staticMemberReturns);
        suite.test("consumer_pattern", this::pattern);
        suite.test("consumer_migration_under_load", this::migration);
        suite.test("consumer_group_configs", this::configs);
    }

    private Map<String, Object> settings(String group) {
        Map<String, Object> settings = new HashMap<>(suite.consumerSettings(group, true));
        settings.remove("heartbeat.interval.ms");
        settings.remove("session.timeout.ms");
        settings.put("group.protocol", "consumer");
        return settings;
    }

    private static long settle(String what, List<Member> members) throws InterruptedException {
        long start = System.nanoTime();
        Suite.await(() -> what + ": " + Member.owners(members), () -> Member.isSpread(members, PARTITIONS));
        long ms = (System.nanoTime() - start) / 1_000_000;
        System.out.println("figure " + what.replace(' ', '_') + "_ms " + ms);
        return ms;
    }

    private void oneThreeOne() throws Exception {
        String topic = suite.topic("one-three-one", PARTITIONS);
        String group = "java-one-three-one-" + suite.run;
        Set<String> all = ConcurrentHashMap.newKeySet();
        List<Member> members = new ArrayList<>();
        members.add(new Member(settings(group), topic, all));
        settle("java one member", members);
        for (int i = 0; i < 2; i++) members.add(new Member(settings(group), topic, all));
        settle("java three members", members);
        ConsumerGroupDescription described = suite.admin.describeConsumerGroups(List.of(group)).all().get().get(group);
        Spec.check(described.type() == GroupType.CONSUMER, "type " + described.type());
        Spec.check(described.members().size() == 3, "members " + described.members());
        Spec.check(described.partitionAssignor().equals("uniform"), "assignor " + described.partitionAssignor());
        members.remove(0).stop(null);
        members.remove(0).stop(null);
        settle("java one member again", members);
        members.remove(0).stop(null);
    }

    private void staticMemberReturns() throws Exception {
        String topic = suite.topic("static", PARTITIONS);
        String group = "java-static-" + suite.run;
        Set<String> all = ConcurrentHashMap.newKeySet();
        Map<String, Object> one = settings(group);
        one.put("group.instance.id", "one");
        List<Member> members = new ArrayList<>();
        members.add(new Member(settings(group), topic, all));
        members.add(new Member(one, topic, all));
        settle("java static two members", members);
        Set<Integer> before = members.get(1).owned;
        members.remove(1).stop(null);
        members.add(new Member(one, topic, all));
        settle("java static return", members);
        Spec.check(members.get(1).owned.equals(before), "had " + before + ", has " + members.get(1).owned);
        for (Member m : members) m.stop(null);
    }

    private void pattern() throws Exception {
        String prefix = "java-pattern-" + suite.run;
        String group = "java-pattern-" + suite.run;
        suite.create(prefix + "-a", 1);
        Set<String> all = ConcurrentHashMap.newKeySet();
        Member member = new Member(settings(group), prefix, all,
                consumer -> consumer.subscribe(new SubscriptionPattern(prefix + "-[ab]")));
        suite.produce(List.of(new ProducerRecord<>(prefix + "-a", 0, null, null, new byte[] {1})), Map.of());
        Suite.await(() -> "a record of the first topic", () -> all.size() >= 1);
        suite.create(prefix + "-b", 3);
        suite.create(prefix + "-c", 3);
        suite.produce(List.of(new ProducerRecord<>(prefix + "-b", 2, null, null, new byte[] {1})), Map.of());
        suite.produce(List.of(new ProducerRecord<>(prefix + "-c", 1, null, null, new byte[] {1})), Map.of());
        Suite.await(() -> "a record of the second topic: " + all, () -> all.contains("2@0"));
        Spec.check(member.owned.equals(Set.of(0, 1, 2)), "owns " + member.owned);
        Spec.check(!all.contains("1@0"), "a topic that does not match was read");
        member.stop(null);
    }

    /** A group is configured before it exists; what is out of bounds is refused. */
    private void configs() throws Exception {
        ConfigResource group = new ConfigResource(ConfigResource.Type.GROUP, "java-configs-" + suite.run);
        String key = "consumer.session.timeout.ms";
        alter(group, new AlterConfigOp(new ConfigEntry(key, "50000"), AlterConfigOp.OpType.SET));
        ConfigEntry entry = suite.admin.describeConfigs(List.of(group)).all().get().get(group).get(key);
        Spec.check(entry.value().equals("50000"), "value " + entry);
        Spec.check(entry.source() == ConfigEntry.ConfigSource.DYNAMIC_GROUP_CONFIG, "source " + entry);
        var listed = suite.admin.listConfigResources(Set.of(ConfigResource.Type.GROUP), new ListConfigResourcesOptions());
        Spec.check(listed.all().get().contains(group), "not listed");
        try {
            alter(group, new AlterConfigOp(new ConfigEntry(key, "5"), AlterConfigOp.OpType.SET));
            throw new AssertionError("5 ms were taken");
        } catch (ExecutionException e) {
            Spec.check(e.getCause() instanceof InvalidConfigurationException, "refused with " + e.getCause());
        }
        alter(group, new AlterConfigOp(new ConfigEntry(key, null), AlterConfigOp.OpType.DELETE));
        entry = suite.admin.describeConfigs(List.of(group)).all().get().get(group).get(key);
        Spec.check(entry.source() != ConfigEntry.ConfigSource.DYNAMIC_GROUP_CONFIG, "still set: " + entry);
    }

    private void alter(ConfigResource group, AlterConfigOp op) throws Exception {
        suite.admin.incrementalAlterConfigs(Map.of(group, List.of(op))).all().get();
    }

    /** Classic members go on while the group changes its protocol, and back; every record is consumed. */
    private void migration() throws Exception {
        String topic = suite.topic("migration", PARTITIONS);
        String group = "java-migration-" + suite.run;
        Set<String> all = ConcurrentHashMap.newKeySet();
        Set<String> sent = ConcurrentHashMap.newKeySet();
        boolean[] stop = {false};
        Throwable[] broken = {null};
        Thread load = new Thread(() -> {
            try {
                while (!stop[0]) {
                    List<ProducerRecord<byte[], byte[]>> more = new ArrayList<>();
                    for (int i = 0; i < PARTITIONS; i++) more.add(new ProducerRecord<>(topic, i, null, null, new byte[] {1}));
                    for (RecordMetadata m : suite.produce(more, Map.of())) sent.add(m.partition() + "@" + m.offset());
                    Thread.sleep(100);
                }
            } catch (Throwable t) {
                broken[0] = t;
            }
        });
        load.start();
        List<Member> members = new ArrayList<>();
        try {
            for (int i = 0; i < 2; i++) members.add(new Member(suite.consumerSettings(group, true), topic, all));
            settle("java migration classic", members);
            members.add(new Member(settings(group), topic, all));
            settle("java migration mixed", members);
            Spec.check(typeOf(group) == GroupType.CONSUMER, "type " + typeOf(group));
            members.remove(0).stop(null);
            members.add(new Member(settings(group), topic, all));
            settle("java migration one classic left", members);
            members.remove(2).stop(null);
            members.remove(1).stop(null);
            settle("java migration back to classic", members);
            Suite.await(() -> "a classic group", () -> typeOf(group) == GroupType.CLASSIC);
        } finally {
            stop[0] = true;
            load.join();
        }
        if (broken[0] != null) throw new AssertionError("producing failed", broken[0]);
        Suite.await(() -> all.size() + " of " + sent.size() + " records", () -> all.containsAll(sent));
        for (Member m : members) m.stop(null);
    }

    private GroupType typeOf(String group) {
        try {
            return suite.admin.listGroups().all().get().stream().filter(g -> g.groupId().equals(group))
                    .findFirst().flatMap(g -> g.type()).orElseThrow();
        } catch (Exception e) {
            throw new AssertionError(e);
        }
    }
}
