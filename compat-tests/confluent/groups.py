"""librdkafka in groups of the consumer protocol (KIP-848): members come and go, one is killed, one subscribes by a pattern.

`suite.py BOOTSTRAP RUN member TOPIC GROUP` is a member that another process may kill.
"""
import subprocess
import sys
import time

from confluent_kafka import Consumer

import cases
from spec import Rec

PARTITIONS = 12


class Consumers:
    """What `cases.Member` asks for its members."""

    def __init__(self, bootstrap, rec):
        self.bootstrap, self.rec = bootstrap, rec

    def member(self, topic, group, auto_commit):
        return Group(self.bootstrap, topic, group, auto_commit, self.rec)


class Group:
    def __init__(self, bootstrap, topic, group, auto_commit, rec):
        self.rec = rec
        self.consumer = Consumer({
            "bootstrap.servers": bootstrap, "group.id": group, "group.protocol": "consumer", "auto.offset.reset": "earliest",
            "enable.auto.commit": auto_commit, "auto.commit.interval.ms": 200, "fetch.wait.max.ms": 100,
        })
        self.consumer.subscribe([topic])

    def poll(self, seconds):
        return [self.rec(m) for m in self.consumer.consume(100, seconds) if m.error() is None]

    def assignment(self):
        return [p.partition for p in self.consumer.assignment()]

    def close(self):
        self.consumer.close()


def settle(what, members):
    start = time.monotonic()
    cases.spread(members, PARTITIONS)
    print(f"figure confluent_{what}_ms {int((time.monotonic() - start) * 1000)}", flush=True)


def one_three_one(suite, client, make):
    topic, group = suite.topic("one-three-one", PARTITIONS), f"confluent-one-three-one-{suite.run}"
    members = [make(topic, group)]
    settle("one_member", members)
    members += [make(topic, group), make(topic, group)]
    settle("three_members", members)
    members.pop(0).stop()
    members.pop(0).stop()
    settle("one_member_again", members)
    members.pop().stop()


def crash(suite, client, make):
    topic, group = suite.topic("crash", PARTITIONS), f"confluent-crash-{suite.run}"
    doomed = subprocess.Popen([sys.executable, sys.argv[0], sys.argv[1], suite.run, "member", topic, group], stdout=subprocess.PIPE)
    assert doomed.stdout.readline() == b"assigned\n", "the member that is to be killed got nothing"
    member = make(topic, group)
    cases.wait("a share for the second member", lambda: len(member.owned) == PARTITIONS // 2)
    doomed.kill()
    doomed.wait()
    settle("after_a_crash", [member])
    member.stop()


def pattern(suite, client, make):
    prefix = f"confluent-pattern-{suite.run}"
    client.create_topic(f"{prefix}-a", 1)
    member = make(f"^{prefix}-[ab]$", f"confluent-pattern-{suite.run}")
    cases.wait("the first topic", lambda: member.owned == [0])
    client.create_topic(f"{prefix}-b", 2)
    client.produce(f"{prefix}-b", [Rec(None, b"x", [], int(suite.run), 1, None)])
    cases.wait("a record of the second topic", lambda: (1, 0) in member.got)
    member.stop()


def main(make_client, rec):
    bootstrap, run, phase, *rest = sys.argv[1:]
    if phase == "member":
        group = Group(bootstrap, *rest, True, rec)
        told = False
        while True:
            group.poll(0.1)
            if group.assignment() and not told:
                told = True
                print("assigned", flush=True)
    client = make_client(bootstrap)
    suite = cases.Cases(client, "confluent", [], run)
    make = lambda topic, group: cases.Member(Consumers(bootstrap, rec), topic, group)
    suite.case("consumer_one_three_one", one_three_one, suite, client, make)
    suite.case("consumer_crash", crash, suite, client, make)
    suite.case("consumer_pattern", pattern, suite, client, make)
    client.close()
    sys.exit(1 if suite.failed else 0)
