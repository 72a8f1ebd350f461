"""confluent-kafka (librdkafka) for the cases in `common/cases.py`."""
import sys

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

import cases
import groups
from spec import Rec


def rec(m):
    assert m.error() is None, m.error()
    headers = [(k, v) for k, v in m.headers() or []]
    return Rec(m.key(), m.value(), headers, m.timestamp()[1], m.partition(), m.offset())


class Group:
    def __init__(self, bootstrap, topic, group, auto_commit):
        self.topic = topic
        self.consumer = Consumer({
            "bootstrap.servers": bootstrap, "group.id": group, "auto.offset.reset": "earliest",
            "enable.auto.commit": auto_commit, "auto.commit.interval.ms": 200, "session.timeout.ms": 10000,
            "fetch.wait.max.ms": 100,
        })
        self.consumer.subscribe([topic])

    def poll(self, seconds):
        return [rec(m) for m in self.consumer.consume(100, seconds)]

    def assignment(self):
        return [p.partition for p in self.consumer.assignment()]

    def commit(self, partition, offset):
        self.consumer.commit(offsets=[TopicPartition(self.topic, partition, offset)], asynchronous=False)

    def close(self):
        self.consumer.close()


class Client:
    def __init__(self, bootstrap):
        self.conf = {"bootstrap.servers": bootstrap}
        self.admin = AdminClient(self.conf)
        self.producers = {}

    def create_topic(self, topic, partitions):
        for done in self.admin.create_topics([NewTopic(topic, partitions, 1)]).values():
            done.result(30)

    def produce(self, topic, records, acks="all", codec="none", idempotent=False):
        """Returns (partition, offset) for each record, in the order in which they were given."""
        which = (acks, codec, idempotent)
        if which not in self.producers:
            self.producers[which] = Producer({
                **self.conf, "acks": acks, "compression.type": codec, "enable.idempotence": idempotent, "linger.ms": 5,
            })
        producer = self.producers[which]
        answers = {}

        def done(index):
            return lambda error, m: answers.__setitem__(index, error or (m.partition(), m.offset()))

        for i, r in enumerate(records):
            producer.produce(topic, value=r.value, key=r.key, headers=r.headers, timestamp=r.timestamp,
                             partition=r.partition, on_delivery=done(i))
        assert producer.flush(30) == 0, "records are still waiting"
        bad = [a for a in answers.values() if not isinstance(a, tuple)]
        assert not bad, f"{len(bad)} records failed, the first with {bad[0]}"
        return [answers[i] for i in range(len(records))]

    def reader(self):
        return Consumer({**self.conf, "group.id": "unused", "enable.auto.commit": False, "check.crcs": True,
                         "fetch.wait.max.ms": 100})

    def read(self, topic, partition, offset, count):
        consumer, got = self.reader(), []
        consumer.assign([TopicPartition(topic, partition, offset)])
        cases.wait(lambda: f"{count} records, read {len(got)}",
                   lambda: got.extend(rec(m) for m in consumer.consume(count, 0.1)) or len(got) >= count)
        consumer.close()
        return got

    def offset_for_time(self, topic, partition, ms):
        consumer = self.reader()
        [found] = consumer.offsets_for_times([TopicPartition(topic, partition, ms)], timeout=30)
        consumer.close()
        return found.offset if found.offset >= 0 else None

    def committed(self, group, topic, partition):
        consumer = Consumer({**self.conf, "group.id": group})
        [found] = consumer.committed([TopicPartition(topic, partition)], timeout=30)
        consumer.close()
        return found.offset

    def member(self, topic, group, auto_commit):
        return Group(self.conf["bootstrap.servers"], topic, group, auto_commit)

    def close(self):
        pass


if sys.argv[3] in ("groups", "member"):
    groups.main(Client, rec)
cases.main("confluent", ["none", "gzip", "snappy", "lz4", "zstd"], Client)
