"""What the suites write, so that any of them can tell whether it reads the right bytes.

Every suite, in every language, builds the same records from (suite, codec, index, base time): see `record`.
"""
import collections

Rec = collections.namedtuple("Rec", "key value headers timestamp partition offset")
SHARED_RECORDS = 25


def body(index):
    """The value of record `index`: nothing at all for some, empty for one, 100 kB for one, else 10 bytes per index."""
    if index % 7 == 6:
        return None
    if index == 1:
        return bytes((j * 31 + index) % 251 for j in range(100_000))
    return bytes((j * 7 + index) % 256 for j in range(10 * index))


def record(suite, codec, index, base, partition=0):
    # kafka-python refuses a record with neither key nor value
    key = None if index % 5 == 4 and index % 7 != 6 else f"{suite}/{codec}/{index}".encode()
    headers = [] if index % 3 == 0 else [("h", b"a"), ("h", b"b"), ("bin", bytes([0, 255, index]))]
    return Rec(key, body(index), headers, base + index * 1000, partition, None)


def records(suite, codec, base, count=SHARED_RECORDS):
    return [record(suite, codec, i, base) for i in range(count)]


def shared_topic(suite, codec, run):
    return f"shared-{suite}-{codec}-{run}"


def compare(want, got, first_offset=0):
    """Every byte: key, value, headers in their order, timestamp, and offsets without a gap."""
    assert len(want) == len(got), f"wrote {len(want)} records, read {len(got)}"
    for i, (w, g) in enumerate(zip(want, got)):
        assert g.offset == first_offset + i, f"record {i}: offset {g.offset}"
        for field in ("key", "value", "timestamp"):
            a, b = getattr(w, field), getattr(g, field)
            assert a == b, f"record {i}: {field} is {brief(b)}, not {brief(a)}"
        assert list(w.headers) == list(g.headers), f"record {i}: headers are {g.headers}, not {w.headers}"


def brief(x):
    text = repr(x)
    return text if len(text) < 80 else f"{text[:60]}… ({len(x)} long)"
