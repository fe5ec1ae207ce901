package broker

import (
	"fmt"
	"time"
)

// retryInterval is how often a default address that is in use by others is tried again.
const retryInterval = 30 * time.Second

// retryListen reports that the default address of the TLS listener is in use, and tries
// it again until it is free or the broker stops.
func (b *Broker) retryListen(key, address string, err error) {
	problem := fmt.Sprintf("nobody is served at %s, the default of %s: %v; it is tried again every %v; choose another address, or write %q for none, and restart the hub",
		address, key, err, retryInterval, "")
	b.log.Warn(problem)
	b.listenProblem.Store(&problem)
	b.background.Go(func() {
		ticker := time.NewTicker(retryInterval)
		defer ticker.Stop()
		for {
			select {
			case <-b.quit:
				return
			case <-ticker.C:
			}
			l, err := open("mqtts", address)
			if err != nil {
				continue
			}
			if err := b.addTLS(l); err != nil {
				b.log.Error("cannot listen", "address", address, "error", err)
				_ = l.Close()
				return
			}
			b.mu.Lock()
			defer b.mu.Unlock()
			if b.closed {
				_ = l.Close()
				return
			}
			b.listeners = append(b.listeners, l)
			b.listenProblem.Store(nil)
			b.accepting.Go(func() { b.accept(l) })
			return
		}
	})
}

// ListenProblems returns the addresses that are in use by others, in words.
func (b *Broker) ListenProblems() []string {
	if problem := b.listenProblem.Load(); problem != nil {
		return []string{*problem}
	}
	return nil
}
