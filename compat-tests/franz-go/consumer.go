package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const consumerPartitions = 12

// groups runs the cases of the consumer protocol (KIP-848).
func (s *suite) groups() {
	s.test("consumer_one_three_one", s.oneThreeOne)
	s.test("consumer_under_load", s.consumerUnderLoad)
}

func (s *suite) settleConsumers(what string, members []*member) error {
	start := time.Now()
	err := wait(func() string { return fmt.Sprintf("%s: one owner each among %d members", what, len(members)) },
		func() bool { return spread(members, consumerPartitions) })
	fmt.Printf("figure franz_go_%s_ms %d\n", what, time.Since(start).Milliseconds())
	return err
}

func (s *suite) joinConsumer(topic, group string, all *seen) (*member, error) {
	return join(s.bootstrap, topic, group, all, kgo.ServerSideBalancer(), kgo.Balancers(kgo.StickyBalancer()),
		kgo.AutoCommitInterval(200*time.Millisecond))
}

func (s *suite) oneThreeOne() error {
	topic, err := s.topic("one-three-one", consumerPartitions)
	if err != nil {
		return err
	}
	return s.consumersComeAndGo(topic, &seen{at: map[string]bool{}})
}

func (s *suite) consumersComeAndGo(topic string, all *seen) error {
	group := topic + "-group"
	var members []*member
	add := func() error {
		m, err := s.joinConsumer(topic, group, all)
		if err == nil {
			members = append(members, m)
		}
		return err
	}
	if err := errors.Join(add(), s.settleConsumers("one_member", members)); err != nil {
		return err
	}
	if err := errors.Join(add(), add(), s.settleConsumers("three_members", members)); err != nil {
		return err
	}
	err := errors.Join(members[0].stop(nil), members[1].stop(nil))
	members = members[2:]
	err = errors.Join(err, s.settleConsumers("one_member_again", members))
	return errors.Join(err, members[0].stop(nil))
}

// consumerUnderLoad checks that members that come and go miss no record.
func (s *suite) consumerUnderLoad() error {
	topic, err := s.topic("consumer-load", consumerPartitions)
	if err != nil {
		return err
	}
	all := &seen{at: map[string]bool{}}
	l := s.startLoad(topic)
	err = s.consumersComeAndGo(topic, all)
	close(l.stop)
	l.done.Wait()
	if err = errors.Join(err, l.err); err != nil {
		return err
	}
	last, err := s.joinConsumer(topic, topic+"-group", all)
	if err != nil {
		return err
	}
	err = wait(func() string { return fmt.Sprintf("%d of %d records consumed", all.missing(l.sent), len(l.sent)) },
		func() bool { return all.missing(l.sent) == 0 })
	return errors.Join(err, last.stop(nil))
}
