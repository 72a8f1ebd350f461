"""An idempotent producer with acks=all that goes on whatever happens to the broker.

Prints `acked PARTITION OFFSET NUMBER` for each ack; the records of a partition carry the numbers 0, 1, 2, … At the end
of its standard input it waits for the last acks and prints `sent PARTITION COUNT`. produce.py HOST:PORT TOPIC PARTITIONS
"""
import os
import sys
import threading

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

bootstrap, topic, partitions = sys.argv[1], sys.argv[2], int(sys.argv[3])
admin = AdminClient({"bootstrap.servers": bootstrap})
admin.create_topics([NewTopic(topic, partitions, 1)])[topic].result(30)


def fatal(error):
    if error.fatal():
        print(f"fatal: {error}", file=sys.stderr, flush=True)
        os._exit(1)


producer = Producer({
    "bootstrap.servers": bootstrap, "acks": "all", "enable.idempotence": True, "linger.ms": 2, "message.timeout.ms": 0,
    "queue.buffering.max.messages": 20000, "reconnect.backoff.ms": 20, "reconnect.backoff.max.ms": 100,
    "retry.backoff.ms": 20, "error_cb": fatal,
})


def acked(number):
    def callback(error, message):
        if error is not None:
            print(f"record {number} failed: {error}", file=sys.stderr, flush=True)
            os._exit(1)
        sys.stdout.write(f"acked {message.partition()} {message.offset()} {number}\n")

    return callback


over = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
counts = [0] * partitions
filler = "x" * 400
while not over.is_set():
    for partition in range(partitions):
        for _ in range(25):
            number = counts[partition]
            try:
                producer.produce(topic, f"{number} {filler}".encode(), partition=partition, on_delivery=acked(number))
                counts[partition] += 1
            except BufferError:
                break
    producer.poll(0.02)
    sys.stdout.flush()
left = producer.flush(120)
if left:
    sys.exit(f"{left} records were never acked")
for partition, count in enumerate(counts):
    print(f"sent {partition} {count}")
