"""aiokafka for the cases in `common/cases.py`: its coroutines run on one loop in a thread of its own."""
import asyncio
import threading

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

import cases
from spec import Rec

loop = asyncio.new_event_loop()
threading.Thread(target=loop.run_forever, daemon=True).start()


def run(coroutine):
    return asyncio.run_coroutine_threadsafe(coroutine, loop).result(90)


def make(kind, *args, **settings):
    """A started client; aiokafka wants it made on the loop it will run on."""

    async def start():
        client = kind(*args, **settings)
        await client.start()
        return client

    return run(start())


def rec(m):
    return Rec(m.key, m.value, list(m.headers), m.timestamp, m.partition, m.offset)


class Group:
    def __init__(self, bootstrap, topic, group, auto_commit):
        self.topic = topic
        self.consumer = make(
            AIOKafkaConsumer, topic, bootstrap_servers=bootstrap, group_id=group, auto_offset_reset="earliest",
            enable_auto_commit=auto_commit, auto_commit_interval_ms=200, session_timeout_ms=10000,
            heartbeat_interval_ms=500, fetch_max_wait_ms=100)

    def poll(self, seconds):
        found = run(self.consumer.getmany(timeout_ms=int(seconds * 1000)))
        return [rec(m) for ms in found.values() for m in ms]

    def assignment(self):
        return [p.partition for p in self.consumer.assignment()]

    def commit(self, partition, offset):
        run(self.consumer.commit({TopicPartition(self.topic, partition): offset}))

    def close(self):
        run(self.consumer.stop())


class Client:
    def __init__(self, bootstrap):
        self.bootstrap = bootstrap
        self.admin = make(AIOKafkaAdminClient, bootstrap_servers=bootstrap)
        self.producers = {}

    def create_topic(self, topic, partitions):
        answer = run(self.admin.create_topics([NewTopic(topic, partitions, 1)]))
        assert all(error[1] == 0 for error in answer.topic_errors), answer

    def produce(self, topic, records, acks="all", codec="none", idempotent=False):
        which = (acks, codec, idempotent)
        if which not in self.producers:
            self.producers[which] = make(
                AIOKafkaProducer, bootstrap_servers=self.bootstrap, acks=acks, linger_ms=5,
                compression_type=None if codec == "none" else codec, enable_idempotence=idempotent)
        producer = self.producers[which]

        async def send():
            waiting = [await producer.send(topic, value=r.value, key=r.key, headers=r.headers, timestamp_ms=r.timestamp,
                                           partition=r.partition) for r in records]
            await producer.flush()
            return await asyncio.gather(*waiting)

        sent = run(send())
        return [(m.partition, m.offset) for m in sent if m]  # with acks=0 there is no answer

    def reader(self, **settings):
        return make(AIOKafkaConsumer, bootstrap_servers=self.bootstrap, enable_auto_commit=False, check_crcs=True,
                    fetch_max_wait_ms=100, **settings)

    def read(self, topic, partition, offset, count):
        consumer, got, at = self.reader(), [], TopicPartition(topic, partition)

        async def start():  # both need a running loop
            consumer.assign([at])
            consumer.seek(at, offset)

        run(start())

        def more():
            found = run(consumer.getmany(at, timeout_ms=100))
            got.extend(rec(m) for ms in found.values() for m in ms)
            return len(got) >= count

        cases.wait(lambda: f"{count} records, read {len(got)}", more)
        run(consumer.stop())
        return got

    def offset_for_time(self, topic, partition, ms):
        consumer, at = self.reader(), TopicPartition(topic, partition)
        found = run(consumer.offsets_for_times({at: ms}))[at]
        run(consumer.stop())
        return found.offset if found else None

    def committed(self, group, topic, partition):
        consumer = self.reader(group_id=group)
        found = run(consumer.committed(TopicPartition(topic, partition)))
        run(consumer.stop())
        return found

    def member(self, topic, group, auto_commit):
        return Group(self.bootstrap, topic, group, auto_commit)

    def close(self):
        for producer in self.producers.values():
            run(producer.stop())
        run(self.admin.close())


cases.main("aiokafka", ["none", "gzip", "snappy", "lz4", "zstd"], Client)
