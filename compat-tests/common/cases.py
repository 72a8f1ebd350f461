"""The cases that every Python suite runs; a suite gives a `Client` (see `confluent/suite.py` for its shape).

Prints `ok NAME` or `FAIL NAME reason`, one line a case. Arguments: BOOTSTRAP RUN cases|write|read [SUITE:CODEC...]
RUN is a number of milliseconds since 1970: it names the topics and is the time from which record timestamps are counted back.
"""
import sys
import threading
import time
import traceback

from spec import SHARED_RECORDS, Rec, compare, record, records, shared_topic

DEADLINE = 60


def wait(what, condition, seconds=DEADLINE):
    end = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < end, f"not within {seconds} s: {what() if callable(what) else what}"
        time.sleep(0.02)


class Cases:
    def __init__(self, client, suite, codecs, run):
        self.client, self.suite, self.codecs, self.run = client, suite, codecs, run
        self.base = int(run) - 3_600_000
        self.failed = False

    def topic(self, name, partitions=1):
        topic = f"{self.suite}-{name}-{self.run}"
        self.client.create_topic(topic, partitions)
        return topic

    def case(self, name, body, *args):
        try:
            body(*args)
            print(f"ok {name}", flush=True)
        except Exception as error:  # a case may fail in any way; the others still run
            self.failed = True
            text = f"{type(error).__name__}: {error}".replace("\n", " ")
            print(f"FAIL {name} {text}", flush=True)
            traceback.print_exc()

    def all(self):
        for acks in (0, 1, "all"):
            self.case(f"acks_{acks}", self.acks, acks)
        self.write()
        self.case("idempotent", self.idempotent)
        self.case("auto_create", self.auto_create)
        self.case("large_record", self.large_record)
        self.case("seek_by_time", self.seek_by_time)
        self.case("commit_and_resume", self.commit_and_resume)
        self.case("group_of_three", self.group_of_three)

    def write(self):
        for codec in self.codecs:
            self.case(f"codec_{codec}", self.codec, codec)

    def acks(self, acks):
        topic = self.topic(f"acks-{acks}")
        sent = records(self.suite, "acks", self.base, 100)
        self.client.produce(topic, sent, acks=acks)
        compare(sent, self.client.read(topic, 0, 0, len(sent)))

    def codec(self, codec):
        """Also what the other suites read later: the topic is the shared one."""
        topic = shared_topic(self.suite, codec, self.run)
        self.client.create_topic(topic, 1)
        sent = records(self.suite, codec, self.base)
        offsets = self.client.produce(topic, sent, codec=codec)
        assert offsets == [(0, i) for i in range(len(sent))], f"offsets {offsets}"
        compare(sent, self.client.read(topic, 0, 0, len(sent)))

    def read_shared(self, suite, codec):
        got = self.client.read(shared_topic(suite, codec, self.run), 0, 0, SHARED_RECORDS)
        compare(records(suite, codec, self.base), got)

    def idempotent(self):
        topic = self.topic("idempotent", 3)
        sent = [Rec(None, b"%d" % i, [], self.base + i, i % 3, None) for i in range(3000)]
        offsets = self.client.produce(topic, sent, idempotent=True)
        for p in range(3):
            mine = [r for r in sent if r.partition == p]
            assert [o for q, o in offsets if q == p] == list(range(len(mine))), f"partition {p}: offsets not in order"
            compare(mine, self.client.read(topic, p, 0, len(mine)))

    def auto_create(self):
        topic = f"{self.suite}-auto-{self.run}"
        sent = [record(self.suite, "auto", 0, self.base)]
        self.client.produce(topic, sent)
        compare(sent, self.client.read(topic, 0, 0, 1))

    def large_record(self):
        topic = self.topic("large")
        sent = [Rec(b"k", bytes((i * i) % 256 for i in range(900_000)), [], self.base, 0, None)]
        self.client.produce(topic, sent)
        compare(sent, self.client.read(topic, 0, 0, 1))

    def seek_by_time(self):
        topic = self.topic("time")
        for start in range(0, 30, 10):  # three batches at least, so that the answer lies inside one
            self.client.produce(topic, [record(self.suite, "time", i, self.base) for i in range(start, start + 10)])
        at = lambda ms: self.client.offset_for_time(topic, 0, self.base + ms)
        got = [at(-1), at(0), at(14_000), at(14_001), at(29_000), at(29_001)]
        assert got == [0, 0, 14, 15, 29, None], f"offsets {got}"
        compare(
            [record(self.suite, "time", i, self.base) for i in range(14, 30)], self.client.read(topic, 0, 14, 16), 14
        )

    def commit_and_resume(self):
        topic, group = self.topic("resume"), f"{self.suite}-resume-{self.run}"
        sent = records(self.suite, "resume", self.base, 40)
        self.client.produce(topic, sent)
        first = Member(self.client, topic, group, auto_commit=False)
        wait("40 records for the first member", lambda: len(first.got) >= 40)
        compare(sent, [first.got[0, i] for i in range(40)])
        first.stop(commit_at=(0, 25))
        assert self.client.committed(group, topic, 0) == 25, f"committed {self.client.committed(group, topic, 0)}"
        second = Member(self.client, topic, group, auto_commit=False)
        wait("15 records for the second member", lambda: len(second.got) >= 15)
        assert sorted(second.got) == [(0, i) for i in range(25, 40)], f"resumed at {sorted(second.got)[0]}"
        second.stop()

    def group_of_three(self):
        topic, group = self.topic("group", 6), f"{self.suite}-group-{self.run}"
        sent, stop = [], threading.Event()

        def load():
            while not stop.is_set():
                more = [Rec(b"%d" % i, b"v%d" % i, [], self.base, i % 6, None) for i in range(12)]
                sent.extend(self.client.produce(topic, more))
                stop.wait(0.1)

        loader = threading.Thread(target=load, daemon=True)
        loader.start()
        members = []
        try:
            for _ in range(3):
                members.append(Member(self.client, topic, group))
                spread(members, 6)
            members.pop(1).stop()
            spread(members, 6)
            members.pop(0).stop()
            spread(members, 6)
        finally:
            stop.set()
            loader.join(DEADLINE)
        assert sent, "nothing was produced"
        missing = lambda: set(sent) - Member.seen[group]
        wait(lambda: f"{len(missing())} of {len(sent)} records were never consumed", lambda: not missing())
        members.pop().stop()


def spread(members, partitions):
    """Waits until each partition has one owner and each member at least one partition."""

    def owned():
        sets = [set(m.owned) for m in members]
        each = [p for s in sets for p in s]
        return sorted(each) == list(range(partitions)) and all(sets)

    wait(lambda: f"{partitions} partitions, each with one of {len(members)} owners: {[m.owned for m in members]}", owned)


class Member:
    """A group member with a thread of its own that polls and remembers."""

    seen = {}

    def __init__(self, client, topic, group, auto_commit=True):
        self.got, self.owned, self.error = {}, [], None
        self.all = Member.seen.setdefault(group, set())
        self.consumer = client.member(topic, group, auto_commit)
        self.leaving, self.commit_at = threading.Event(), None
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while not self.leaving.is_set():
            for r in self.consumer.poll(0.1):
                self.got[r.partition, r.offset] = r
                self.all.add((r.partition, r.offset))
            self.owned = self.consumer.assignment()
        if self.commit_at:
            self.consumer.commit(*self.commit_at)
        self.consumer.close()

    def stop(self, commit_at=None):
        self.commit_at = commit_at
        self.leaving.set()
        self.thread.join(DEADLINE)
        assert not self.thread.is_alive(), "a member did not leave"


def main(suite, codecs, make_client):
    bootstrap, run, phase, *pairs = sys.argv[1:]
    client = make_client(bootstrap)
    cases = Cases(client, suite, codecs, run)
    if phase == "cases":
        cases.all()
    elif phase == "write":
        cases.write()
    else:
        for pair in pairs:
            other, codec = pair.split(":")
            cases.case(f"read_{other}_{codec}", cases.read_shared, other, codec)
    client.close()
    sys.exit(1 if cases.failed else 0)
