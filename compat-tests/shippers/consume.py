"""A group member that prints every record: `TOPIC OFFSET VALUE`, tab between them. consume.py HOST:PORT GROUP TOPIC..."""
import sys

from confluent_kafka import Consumer, KafkaError
from confluent_kafka.admin import AdminClient, NewTopic

bootstrap, group, *topics = sys.argv[1:]
admin = AdminClient({"bootstrap.servers": bootstrap})
for made in admin.create_topics([NewTopic(t, 1, 1) for t in topics]).values():
    made.result(30)
consumer = Consumer({
    "bootstrap.servers": bootstrap, "group.id": group, "auto.offset.reset": "earliest", "auto.commit.interval.ms": 500,
    "session.timeout.ms": 10000, "reconnect.backoff.max.ms": 500,
})
consumer.subscribe(topics)
print("ready", flush=True)
while True:
    for m in consumer.consume(10000, 0.2):
        if m.error() is None:
            sys.stdout.write(f"{m.topic()}\t{m.offset()}\t{m.value().decode()}\n")
        elif m.error().fatal() or m.error().code() == KafkaError.OFFSET_OUT_OF_RANGE:
            sys.exit(str(m.error()))
        else:
            print(m.error(), file=sys.stderr)
    sys.stdout.flush()
