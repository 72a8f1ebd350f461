// Command franz-go runs the named cases of common/cases.py with franz-go.
package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const suiteName = "franz-go"

var codecs = map[string]kgo.CompressionCodec{
	"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
	"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
}

type suite struct {
	bootstrap, run string
	base           int64
	admin          *kadm.Client
	failed         bool
}

func main() {
	bootstrap, run, phase := os.Args[1], os.Args[2], os.Args[3]
	ms, err := strconv.ParseInt(run, 10, 64)
	if err != nil {
		panic(err)
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(bootstrap))
	if err != nil {
		panic(err)
	}
	s := &suite{bootstrap: bootstrap, run: run, base: ms - 3_600_000, admin: kadm.NewClient(client)}
	switch phase {
	case "cases":
		s.all()
	case "write":
		s.write()
	case "groups":
		s.groups()
	default:
		for _, pair := range os.Args[4:] {
			other, codec, _ := strings.Cut(pair, ":")
			s.test("read_"+other+"_"+codec, func() error { return s.readShared(other, codec) })
		}
	}
	client.Close()
	if s.failed {
		os.Exit(1)
	}
}

func (s *suite) test(name string, body func() error) {
	if err := body(); err != nil {
		s.failed = true
		fmt.Printf("FAIL %s %s\n", name, strings.ReplaceAll(err.Error(), "\n", " "))
		return
	}
	fmt.Printf("ok %s\n", name)
}

func (s *suite) all() {
	for name, acks := range map[string]kgo.Acks{"0": kgo.NoAck(), "1": kgo.LeaderAck(), "all": kgo.AllISRAcks()} {
		s.test("acks_"+name, func() error { return s.acks(name, acks) })
	}
	s.write()
	s.test("idempotent", s.idempotent)
	s.test("auto_create", s.autoCreate)
	s.test("large_record", s.largeRecord)
	s.test("seek_by_time", s.seekByTime)
	s.test("commit_and_resume", s.commitAndResume)
	s.test("group_of_three", s.groupOfThree)
}

func (s *suite) write() {
	for _, codec := range []string{"none", "gzip", "snappy", "lz4", "zstd"} {
		s.test("codec_"+codec, func() error { return s.codec(codec) })
	}
}

func (s *suite) topic(name string, partitions int32) (string, error) {
	topic := suiteName + "-" + name + "-" + s.run
	return topic, s.create(topic, partitions)
}

func (s *suite) create(topic string, partitions int32) error {
	answer, err := s.admin.CreateTopic(context.Background(), partitions, 1, nil, topic)
	if err != nil {
		return err
	}
	return answer.Err
}

func wait(what func() string, condition func() bool) error {
	for end := time.Now().Add(60 * time.Second); !condition(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			return fmt.Errorf("not within 60 s: %s", what())
		}
	}
	return nil
}

// produce sends the records to the partitions that they name; their offsets are filled in.
func (s *suite) produce(records []*kgo.Record, more ...kgo.Opt) error {
	client, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(s.bootstrap), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.AllowAutoTopicCreation(),
		kgo.UnknownTopicRetries(10),
	}, more...)...)
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return client.ProduceSync(ctx, records...).FirstErr()
}

func (s *suite) read(topic string, partition int32, offset int64, count int) ([]*kgo.Record, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(s.bootstrap), kgo.ConsumePartitions(
		map[string]map[int32]kgo.Offset{topic: {partition: kgo.NewOffset().At(offset)}}))
	if err != nil {
		return nil, err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	var got []*kgo.Record
	for len(got) < count {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return nil, fmt.Errorf("read %d of %d records: %w", len(got), count, err)
		}
		got = append(got, fetches.Records()...)
	}
	return got, nil
}

// roundTrip writes the records to partition 0 and compares what comes back.
func (s *suite) roundTrip(sent []*kgo.Record, more ...kgo.Opt) error {
	if err := s.produce(sent, more...); err != nil {
		return err
	}
	got, err := s.read(sent[0].Topic, 0, 0, len(sent))
	if err != nil {
		return err
	}
	return compare(sent, got, 0)
}

func (s *suite) acks(name string, acks kgo.Acks) error {
	topic, err := s.topic("acks-"+name, 1)
	if err != nil {
		return err
	}
	return s.roundTrip(records(topic, suiteName, "acks", s.base, 0, 100),
		kgo.RequiredAcks(acks), kgo.DisableIdempotentWrite())
}

func (s *suite) codec(codec string) error {
	topic := sharedTopic(suiteName, codec, s.run)
	if err := s.create(topic, 1); err != nil {
		return err
	}
	sent := records(topic, suiteName, codec, s.base, 0, sharedRecords)
	if err := s.roundTrip(sent, kgo.ProducerBatchCompression(codecs[codec])); err != nil {
		return err
	}
	for i, r := range sent {
		if r.Offset != int64(i) {
			return fmt.Errorf("record %d was acked with offset %d", i, r.Offset)
		}
	}
	return nil
}

func (s *suite) readShared(other, codec string) error {
	topic := sharedTopic(other, codec, s.run)
	got, err := s.read(topic, 0, 0, sharedRecords)
	if err != nil {
		return err
	}
	return compare(records(topic, other, codec, s.base, 0, sharedRecords), got, 0)
}

func (s *suite) idempotent() error {
	topic, err := s.topic("idempotent", 3)
	if err != nil {
		return err
	}
	var all []*kgo.Record
	each := map[int32][]*kgo.Record{}
	for i := range 3000 {
		r := &kgo.Record{Topic: topic, Partition: int32(i % 3), Value: fmt.Append(nil, i),
			Timestamp: time.UnixMilli(s.base + int64(i))}
		all, each[r.Partition] = append(all, r), append(each[r.Partition], r)
	}
	if err := s.produce(all, kgo.ProducerBatchMaxBytes(1024)); err != nil {
		return err
	}
	for p, mine := range each {
		got, err := s.read(topic, p, 0, len(mine))
		if err != nil {
			return err
		}
		if err := compare(mine, got, 0); err != nil {
			return fmt.Errorf("partition %d: %w", p, err)
		}
	}
	return nil
}

func (s *suite) autoCreate() error {
	return s.roundTrip(records(suiteName+"-auto-"+s.run, suiteName, "auto", s.base, 0, 1))
}

func (s *suite) largeRecord() error {
	topic, err := s.topic("large", 1)
	if err != nil {
		return err
	}
	value := make([]byte, 900_000)
	for i := range value {
		value[i] = byte(i * i)
	}
	return s.roundTrip([]*kgo.Record{
		{Topic: topic, Key: []byte("k"), Value: value, Timestamp: time.UnixMilli(s.base)},
	})
}

func (s *suite) seekByTime() error {
	topic, err := s.topic("time", 1)
	if err != nil {
		return err
	}
	all := records(topic, suiteName, "time", s.base, 0, 30)
	for start := 0; start < 30; start += 10 {
		if err := s.produce(all[start : start+10]); err != nil {
			return err
		}
	}
	// past the last record, this library answers with the end of the log
	want := map[int64]int64{-1: 0, 0: 0, 14_000: 14, 14_001: 15, 29_000: 29, 29_001: 30}
	for ms, offset := range want {
		listed, err := s.admin.ListOffsetsAfterMilli(context.Background(), s.base+ms, topic)
		if err != nil {
			return err
		}
		if found, _ := listed.Lookup(topic, 0); found.Err != nil || found.Offset != offset {
			return fmt.Errorf("at %d ms: offset %d (%v), not %d", ms, found.Offset, found.Err, offset)
		}
	}
	got, err := s.read(topic, 0, 14, 16)
	if err != nil {
		return err
	}
	return compare(all[14:], got, 14)
}
