"""kafka-python for the cases in `common/cases.py`."""
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.structs import OffsetAndMetadata

import cases
from spec import Rec


def rec(m):
    return Rec(m.key, m.value, list(m.headers), m.timestamp, m.partition, m.offset)


class Group:
    def __init__(self, bootstrap, topic, group, auto_commit):
        self.topic = topic
        self.consumer = KafkaConsumer(
            topic, bootstrap_servers=bootstrap, group_id=group, auto_offset_reset="earliest",
            enable_auto_commit=auto_commit, auto_commit_interval_ms=200, session_timeout_ms=10000,
            heartbeat_interval_ms=500, fetch_max_wait_ms=100)

    def poll(self, seconds):
        return [rec(m) for ms in self.consumer.poll(timeout_ms=int(seconds * 1000)).values() for m in ms]

    def assignment(self):
        return [p.partition for p in self.consumer.assignment()]

    def commit(self, partition, offset):
        self.consumer.commit({TopicPartition(self.topic, partition): OffsetAndMetadata(offset, "", -1)})

    def close(self):
        self.consumer.close()


class Client:
    def __init__(self, bootstrap):
        self.bootstrap = bootstrap
        self.admin = KafkaAdminClient(bootstrap_servers=bootstrap)
        self.producers = {}

    def create_topic(self, topic, partitions):
        self.admin.create_topics({topic: {"num_partitions": partitions, "replication_factor": 1}})

    def produce(self, topic, records, acks="all", codec="none", idempotent=False):
        which = (acks, codec, idempotent)
        if which not in self.producers:
            self.producers[which] = KafkaProducer(
                bootstrap_servers=self.bootstrap, acks=acks, compression_type=None if codec == "none" else codec,
                enable_idempotence=idempotent, linger_ms=5)
        producer = self.producers[which]
        waiting = [producer.send(topic, value=r.value, key=r.key, headers=r.headers, timestamp_ms=r.timestamp,
                                 partition=r.partition) for r in records]
        producer.flush(30)
        sent = [w.get(timeout=30) for w in waiting]
        return [(m.partition, m.offset) for m in sent]

    def reader(self):
        return KafkaConsumer(bootstrap_servers=self.bootstrap, enable_auto_commit=False, check_crcs=True,
                             fetch_max_wait_ms=100)

    def read(self, topic, partition, offset, count):
        consumer, got, at = self.reader(), [], TopicPartition(topic, partition)
        consumer.assign([at])
        consumer.seek(at, offset)
        cases.wait(lambda: f"{count} records, read {len(got)}",
                   lambda: got.extend(rec(m) for m in consumer.poll(timeout_ms=100).get(at, [])) or len(got) >= count)
        consumer.close()
        return got

    def offset_for_time(self, topic, partition, ms):
        consumer, at = self.reader(), TopicPartition(topic, partition)
        found = consumer.offsets_for_times({at: ms})[at]
        consumer.close()
        return found.offset if found else None

    def committed(self, group, topic, partition):
        consumer = KafkaConsumer(bootstrap_servers=self.bootstrap, group_id=group)
        found = consumer.committed(TopicPartition(topic, partition))
        consumer.close()
        return found

    def member(self, topic, group, auto_commit):
        return Group(self.bootstrap, topic, group, auto_commit)

    def close(self):
        for producer in self.producers.values():
            producer.close()
        self.admin.close()


cases.main("kafka-python", ["none", "gzip", "snappy", "lz4", "zstd"], Client)
