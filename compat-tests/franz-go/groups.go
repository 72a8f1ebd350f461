package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

func (s *suite) commitAndResume() error {
	topic, err := s.topic("resume", 1)
	if err != nil {
		return err
	}
	sent := records(topic, suiteName, "resume", s.base, 0, 40)
	if err := s.produce(sent); err != nil {
		return err
	}
	group := suiteName + "-resume-" + s.run
	all := &seen{at: map[string]bool{}}
	first, err := join(s.bootstrap, topic, group, all, kgo.DisableAutoCommit())
	if err != nil {
		return err
	}
	err = wait(func() string { return "40 records for the first member" }, func() bool { return len(first.read()) >= 40 })
	if err != nil {
		return err
	}
	if err := compare(sent, first.read(), 0); err != nil {
		return err
	}
	if err := first.stop(first.read()[24]); err != nil {
		return err
	}
	offsets, err := s.admin.FetchOffsets(context.Background(), group)
	if err != nil {
		return err
	}
	if at, _ := offsets.Lookup(topic, 0); at.At != 25 {
		return fmt.Errorf("committed %d", at.At)
	}
	second, err := join(s.bootstrap, topic, group, all, kgo.DisableAutoCommit())
	if err != nil {
		return err
	}
	err = wait(func() string { return "15 records for the second member" }, func() bool { return len(second.read()) >= 15 })
	if err != nil {
		return err
	}
	return errors.Join(compare(sent[25:], second.read(), 25), second.stop(nil))
}

// load produces to all partitions until it is stopped, and keeps where each record went.
type load struct {
	stop chan struct{}
	done sync.WaitGroup
	sent []string
	err  error
}

func (s *suite) startLoad(topic string) *load {
	l := &load{stop: make(chan struct{})}
	l.done.Go(func() {
		for l.err == nil {
			var more []*kgo.Record
			for i := range 12 {
				more = append(more, &kgo.Record{Topic: topic, Partition: int32(i % 6), Value: []byte{1}})
			}
			if l.err = s.produce(more); l.err != nil {
				return
			}
			for _, r := range more {
				l.sent = append(l.sent, fmt.Sprintf("%d@%d", r.Partition, r.Offset))
			}
			select {
			case <-l.stop:
				return
			case <-time.After(100 * time.Millisecond):
			}
		}
	})
	return l
}

func (s *suite) groupOfThree() error {
	topic, err := s.topic("group", 6)
	if err != nil {
		return err
	}
	all := &seen{at: map[string]bool{}}
	l := s.startLoad(topic)
	members, err := s.comeAndGo(topic, all)
	close(l.stop)
	l.done.Wait()
	if err = errors.Join(err, l.err); err != nil {
		return err
	}
	if len(l.sent) == 0 {
		return errors.New("nothing was produced")
	}
	err = wait(func() string { return fmt.Sprintf("%d of %d records consumed", all.missing(l.sent), len(l.sent)) },
		func() bool { return all.missing(l.sent) == 0 })
	for _, m := range members {
		err = errors.Join(err, m.stop(nil))
	}
	return err
}

// comeAndGo lets three members join and two leave; after each step every partition must have one owner.
func (s *suite) comeAndGo(topic string, all *seen) ([]*member, error) {
	var members []*member
	settle := func() error {
		return wait(func() string { return fmt.Sprintf("one owner each among %d members", len(members)) },
			func() bool { return spread(members, 6) })
	}
	for range 3 {
		m, err := join(s.bootstrap, topic, suiteName+"-group-"+s.run, all, kgo.AutoCommitInterval(200*time.Millisecond),
			kgo.HeartbeatInterval(500*time.Millisecond), kgo.SessionTimeout(10*time.Second))
		if err != nil {
			return members, err
		}
		members = append(members, m)
		if err := settle(); err != nil {
			return members, err
		}
	}
	for range 2 {
		leaver := members[0]
		members = members[1:]
		if err := leaver.stop(nil); err != nil {
			return members, err
		}
		if err := settle(); err != nil {
			return members, err
		}
	}
	return members, nil
}
