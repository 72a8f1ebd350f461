package main

import (
	"bytes"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// The same records as common/spec.py makes.

const sharedRecords = 25

func sharedTopic(suite, codec, run string) string {
	return "shared-" + suite + "-" + codec + "-" + run
}

func body(index int) []byte {
	if index%7 == 6 {
		return nil
	}
	size := 10 * index
	if index == 1 {
		size = 100_000
	}
	value := make([]byte, size)
	for j := range value {
		if index == 1 {
			value[j] = byte((j*31 + index) % 251)
		} else {
			value[j] = byte(j*7 + index)
		}
	}
	return value
}

func record(topic, suite, codec string, index int, base int64) *kgo.Record {
	r := &kgo.Record{Topic: topic, Timestamp: time.UnixMilli(base + int64(index)*1000), Value: body(index)}
	if index%5 != 4 || index%7 == 6 {
		r.Key = fmt.Appendf(nil, "%s/%s/%d", suite, codec, index)
	}
	if index%3 != 0 {
		r.Headers = []kgo.RecordHeader{
			{Key: "h", Value: []byte("a")}, {Key: "h", Value: []byte("b")}, {Key: "bin", Value: []byte{0, 255, byte(index)}},
		}
	}
	return r
}

func records(topic, suite, codec string, base int64, from, to int) []*kgo.Record {
	var all []*kgo.Record
	for i := from; i < to; i++ {
		all = append(all, record(topic, suite, codec, i, base))
	}
	return all
}

// compare looks at every byte: key, value, headers in their order, timestamp, and offsets without a gap.
func compare(want, got []*kgo.Record, first int64) error {
	if len(want) != len(got) {
		return fmt.Errorf("wrote %d records, read %d", len(want), len(got))
	}
	same := func(a, b []byte) bool { return (a == nil) == (b == nil) && bytes.Equal(a, b) }
	for i, w := range want {
		g := got[i]
		if g.Offset != first+int64(i) {
			return fmt.Errorf("record %d: offset %d", i, g.Offset)
		}
		if !same(w.Key, g.Key) || !same(w.Value, g.Value) {
			return fmt.Errorf("record %d: another key or value", i)
		}
		if !w.Timestamp.Equal(g.Timestamp) {
			return fmt.Errorf("record %d: timestamp %s", i, g.Timestamp)
		}
		if len(w.Headers) != len(g.Headers) {
			return fmt.Errorf("record %d: headers %v", i, g.Headers)
		}
		for j, h := range w.Headers {
			if h.Key != g.Headers[j].Key || !same(h.Value, g.Headers[j].Value) {
				return fmt.Errorf("record %d: header %d is %v", i, j, g.Headers[j])
			}
		}
	}
	return nil
}
