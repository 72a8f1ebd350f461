"""Prints `PARTITION OFFSET NUMBER` for every record of a topic. read.py HOST:PORT TOPIC PARTITIONS"""
import sys

from confluent_kafka import Consumer, TopicPartition

bootstrap, topic, partitions = sys.argv[1], sys.argv[2], int(sys.argv[3])
consumer = Consumer({
    "bootstrap.servers": bootstrap, "group.id": "unused", "enable.auto.commit": False, "check.crcs": True,
    "enable.partition.eof": True,
})
consumer.assign([TopicPartition(topic, p, 0) for p in range(partitions)])
ended = set()
while len(ended) < partitions:
    for m in consumer.consume(10000, 1):
        if m.error() is None:
            sys.stdout.write(f"{m.partition()} {m.offset()} {m.value().split(b' ', 1)[0].decode()}\n")
        elif m.error().name() == "_PARTITION_EOF":
            ended.add(m.partition())
        else:
            sys.exit(str(m.error()))
consumer.close()
