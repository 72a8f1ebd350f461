package main

import (
	"context"
	"fmt"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"
)

// seen is what all members of one group have consumed.
type seen struct {
	sync.Mutex
	at map[string]bool
}

func (s *seen) add(r *kgo.Record) {
	s.Lock()
	defer s.Unlock()
	s.at[fmt.Sprintf("%d@%d", r.Partition, r.Offset)] = true
}

func (s *seen) missing(sent []string) int {
	s.Lock()
	defer s.Unlock()
	missing := 0
	for _, at := range sent {
		if !s.at[at] {
			missing++
		}
	}
	return missing
}

// member is a group member that polls and remembers in a goroutine of its own.
type member struct {
	client *kgo.Client
	cancel context.CancelFunc
	done   chan struct{}
	all    *seen

	mu    sync.Mutex
	got   []*kgo.Record
	owned map[int32]bool
}

func join(bootstrap, topic, group string, all *seen, more ...kgo.Opt) (*member, error) {
	ctx, cancel := context.WithCancel(context.Background())
	m := &member{cancel: cancel, done: make(chan struct{}), all: all, owned: map[int32]bool{}}
	own := func(value bool) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, _ *kgo.Client, changed map[string][]int32) {
			m.mu.Lock()
			defer m.mu.Unlock()
			for _, p := range changed[topic] {
				if value {
					m.owned[p] = true
				} else {
					delete(m.owned, p)
				}
			}
		}
	}
	client, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(bootstrap), kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.OnPartitionsAssigned(own(true)), kgo.OnPartitionsRevoked(own(false)), kgo.OnPartitionsLost(own(false)),
	}, more...)...)
	if err != nil {
		cancel()
		return nil, err
	}
	m.client = client
	go m.poll(ctx)
	return m, nil
}

func (m *member) poll(ctx context.Context) {
	defer close(m.done)
	for ctx.Err() == nil {
		m.client.PollFetches(ctx).EachRecord(func(r *kgo.Record) {
			m.all.add(r)
			m.mu.Lock()
			defer m.mu.Unlock()
			m.got = append(m.got, r)
		})
	}
}

func (m *member) read() []*kgo.Record {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]*kgo.Record(nil), m.got...)
}

// stop ends polling, commits up to `through` if it is given, and leaves the group.
func (m *member) stop(through *kgo.Record) error {
	m.cancel()
	<-m.done
	defer m.client.Close()
	if through == nil {
		return nil
	}
	return m.client.CommitRecords(context.Background(), through)
}

// spread tells whether each partition has one owner and each member at least one partition.
func spread(members []*member, partitions int) bool {
	owners := map[int32]int{}
	for _, m := range members {
		m.mu.Lock()
		idle := len(m.owned) == 0
		for p := range m.owned {
			owners[p]++
		}
		m.mu.Unlock()
		if idle {
			return false
		}
	}
	for _, n := range owners {
		if n != 1 {
			return false
		}
	}
	return len(owners) == partitions
}
