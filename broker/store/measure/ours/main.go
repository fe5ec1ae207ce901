// Command ours measures broker/store itself.
package main

import (
	"context"
	"time"

	"github.com/jmbarzee/dominion/broker/store"
	"github.com/jmbarzee/dominion/broker/store/measure"
)

type engine struct {
	s     *store.Store
	state store.State
}

// Commit does without sync: the store syncs by itself.
func (e *engine) Commit(pairs []measure.Pair, _ bool) error {
	records := make([]store.Record, len(pairs))
	for i, p := range pairs {
		m := &store.Message{Topic: string(p.Key), Payload: p.Value}
		records[i] = store.Retain{Topic: m.Topic, Message: m}
	}
	done := make(chan error, 1)
	e.s.Append(records, func(err error) { done <- err })
	return <-done
}

func (e *engine) Each(f func(k, v []byte)) error {
	for _, m := range e.state.Retained {
		f([]byte(m.Topic), m.Payload)
	}
	return nil
}
func (e *engine) Close() error { return e.s.Close(context.Background()) }

func main() {
	measure.Run("ours", func(dir string) (measure.Engine, error) {
		s, state, err := store.Open(dir, store.Options{Sync: 100 * time.Millisecond})
		return &engine{s, state}, err
	})
}
