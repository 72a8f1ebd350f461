"""librdkafka as a producer, a consumer and a last reader whose histories the checker judges (`src/checker/history.rs` names the lines).

    load.py produce HOST:PORT[,...] TOPIC PARTITIONS NAME rate=N size=N [librdkafka.setting=value...]
    load.py consume HOST:PORT[,...] TOPIC PARTITIONS NAME
    load.py final   HOST:PORT[,...] TOPIC PARTITIONS NAME

produce and consume go on until the end of their standard input. Every value is `NAME:NUMBER` behind which a blank and filler may
follow; the numbers of a producer count up. Times are nanoseconds of the machine's monotonic clock.
"""
import json
import sys
import threading
import time

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

role, bootstrap, topic, partitions, name = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5]
settings = dict(word.split("=", 1) for word in sys.argv[6:])
now = time.monotonic_ns
over = threading.Event()


def say(event):
    sys.stdout.write(json.dumps(event, separators=(",", ":")) + "\n")


def trouble(error):
    """What a client may not have to say: errors that end a producer, and offsets that were valid and are not."""
    say({"f": "trouble", "p": name, "t1": now(), "why": str(error)})
    sys.stdout.flush()


def value_of(message):
    return message.value().split(b" ", 1)[0].decode()


def produce():
    rate, size = float(settings.pop("rate", "300")), int(settings.pop("size", "200"))
    counts, open_sends = {"n": 0}, {}
    producer = Producer({
        "bootstrap.servers": bootstrap, "acks": "all", "enable.idempotence": True, "message.timeout.ms": 0,
        "error_cb": lambda error: trouble(error) if error.fatal() else None, **settings,
    })

    def done(number, partition, begun):
        def callback(error, message):
            open_sends.pop(number, None)
            if error is None:
                say({"f": "send", "p": name, "n": number, "k": f"{topic}-{partition}", "t0": begun, "t1": now(),
                     "e": "ok", "o": message.offset()})
            else:
                trouble(error)
                say({"f": "send", "p": name, "n": number, "k": f"{topic}-{partition}", "t0": begun, "t1": now(), "e": "info"})
        return callback

    filler = " " + "x" * size
    start = now()
    while not over.is_set():
        number = counts["n"]
        due = start + int(number * 1e9 / rate)
        while not over.is_set() and (wait := due - now()) > 0:
            producer.poll(min(wait / 1e9, 0.02))
        partition, begun = number % partitions, now()
        try:
            producer.produce(topic, f"{name}:{number}{filler}".encode(), partition=partition, on_delivery=done(number, partition, begun))
        except BufferError:
            producer.poll(0.05)
            continue
        open_sends[number] = (partition, begun)
        counts["n"] += 1
        producer.poll(0)
        if number % 64 == 0:
            sys.stdout.flush()
    left = producer.flush(60)
    for number, (partition, begun) in sorted(open_sends.items()):
        say({"f": "send", "p": name, "n": number, "k": f"{topic}-{partition}", "t0": begun, "t1": now(), "e": "info"})
    if left:
        trouble(f"{left} records were neither acknowledged nor refused in 60 s")


def reader(**more):
    return Consumer({
        "bootstrap.servers": bootstrap, "group.id": "unused", "enable.auto.commit": False, "check.crcs": True,
        "auto.offset.reset": "error", "fetch.wait.max.ms": 100, **more,
    })


def taken(messages, line):
    """Says what a call has returned, one line a partition; returns the partitions of which the end was met."""
    rows, ended = {}, []
    for m in messages:
        if m.error() is None:
            rows.setdefault(m.partition(), []).append([m.offset(), value_of(m)])
        elif m.error().name() == "_PARTITION_EOF":
            ended.append(m.partition())
        elif m.error().name() in ("_AUTO_OFFSET_RESET", "OFFSET_OUT_OF_RANGE"):
            trouble(m.error())
    for partition, found in rows.items():
        say({**line, "k": f"{topic}-{partition}", "t1": now(), "rs": found})
    return ended


def marks(consumer, partition, seconds):
    """The ends of a partition, or nothing when its leader does not answer in time."""
    begun = now()
    try:
        low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=seconds)
    except KafkaException:
        return None
    say({"f": "marks", "p": name, "k": f"{topic}-{partition}", "t0": begun, "t1": now(), "lo": low, "hi": high})
    return high


def consume():
    watcher = reader()

    def watch():
        while not over.wait(0.2):
            for partition in range(partitions):
                marks(watcher, partition, 1.0)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    consumer = reader()
    consumer.assign([TopicPartition(topic, p, 0) for p in range(partitions)])
    say({"f": "assign", "p": name, "t1": now()})
    while not over.is_set():
        begun = now()
        taken(consumer.consume(2000, 0.1), {"f": "poll", "p": name, "t0": begun})
        sys.stdout.flush()
    thread.join()
    consumer.close()


def final():
    consumer = reader(**{"enable.partition.eof": True})
    ends, waited = {}, time.monotonic() + 60
    while len(ends) < partitions:
        for partition in set(range(partitions)) - set(ends):
            high = marks(consumer, partition, 5.0)
            if high is not None:
                ends[partition] = high
        if time.monotonic() > waited:
            sys.exit(f"no answer for partitions {sorted(set(range(partitions)) - set(ends))} in 60 s")
    consumer.assign([TopicPartition(topic, p, 0) for p in range(partitions)])
    reached, waited = set(), time.monotonic() + 120
    while len(reached) < partitions:
        reached.update(taken(consumer.consume(10000, 0.5), {"f": "final", "p": name, "t0": now()}))
        if time.monotonic() > waited:
            sys.exit(f"only the partitions {sorted(reached)} were read to their ends in 120 s")
    for partition, high in sorted(ends.items()):
        say({"f": "end", "p": name, "k": f"{topic}-{partition}", "t1": now(), "hi": high})
    consumer.close()


threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
{"produce": produce, "consume": consume, "final": final}[role]()
sys.stdout.flush()
