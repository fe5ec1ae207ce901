package hub

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jmbarzee/dominion/broker"
	"github.com/jmbarzee/dominion/broker/client"
	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/hub/store"
	"github.com/jmbarzee/dominion/passwordfile"
	"github.com/jmbarzee/dominion/topics"
)

// line is the bus to a broker that is not ours: it may break, and is then
// made anew. What is published while it is broken is dropped, because the hub
// says everything again once it is connected.
type line struct{ conn atomic.Pointer[client.Conn] }

func (l *line) Publish(m topics.Message) {
	if c := l.conn.Load(); c != nil {
		c.Publish(m)
	}
}

func (s Service) serveExternal(ctx context.Context, state *store.Store) error {
	password, err := readPassword(s.Config.Broker.PasswordFile)
	if err != nil {
		return err
	}
	l := new(line)
	w := newWatcher()
	site, err := s.listenHTTP()
	if err != nil {
		return err
	}
	h := New(Options{Config: s.Config, Version: s.Version, Store: state, Bus: l, Problems: site.Problems(), HTTPCertificate: site.CertificateExpires(), Watch: w.set, Environ: s.Environ, Machine: machineAddresses, Log: s.Log})
	relay := &broker.Relay{Log: s.Log, Dial: func(ctx context.Context) (net.Conn, error) {
		return client.Dial(ctx, client.Options{URL: s.Config.Broker.External, CAFile: s.Config.Broker.CAFile})
	}}
	defer relay.Close()
	handlers := s.handlers(h, nil)
	handlers.MQTT = relay.WebSocket
	defer site.Serve(ctx, handlers)()
	will := h.Will()
	o := client.Options{
		URL: s.Config.Broker.External, Password: password, CAFile: s.Config.Broker.CAFile,
		ClientID: "dominion-" + h.ID(), Will: &will, OnMessage: h.Deliver, Log: s.Log,
	}
	// The line outlives ctx: offline has to be said through it.
	alive, cancel := context.WithCancel(context.Background())
	var kept sync.WaitGroup
	there := make(chan struct{})
	kept.Go(func() { s.keep(alive, l, w, h, o, sync.OnceFunc(func() { close(there) })) })
	s.run(ctx, h, there, s.announceExternal(h.ID()), func(config.Dominion) error { return nil })
	if c := l.conn.Load(); c != nil {
		flushing, done := context.WithTimeout(context.Background(), stopTime)
		if err := c.Flush(flushing); err != nil {
			s.Log.Warn("cannot say offline", "error", err)
		}
		done()
	}
	cancel()
	kept.Wait()
	return nil
}

// keep connects to the external broker, again and again, until ctx ends, and
// tells when it did.
func (s Service) keep(ctx context.Context, l *line, w *watcher, h *Hub, o client.Options, there func()) {
	last := ""
	var seen time.Time // when another hub was at our topics
	for attempt := 0; ctx.Err() == nil; attempt++ {
		err := findRival(ctx, o, h.tree, h.ID())
		if errors.As(err, new(rival)) {
			seen = time.Now()
		}
		if err == nil && !seen.IsZero() && time.Since(seen) < rivalPatience {
			wait(ctx, time.Second)
			continue // it may be back in a moment
		}
		var conn *client.Conn
		if err == nil {
			conn, err = client.Connect(ctx, o)
		}
		if err == nil {
			if err = conn.Subscribe(ctx, h.Filters()...); err != nil {
				conn.Close()
			}
		}
		if err != nil {
			if ctx.Err() == nil && err.Error() != last {
				last = err.Error()
				s.Log.Error("no broker", "error", err)
			}
			wait(ctx, client.Backoff(attempt, rand.N[time.Duration]))
			continue
		}
		attempt, last, seen = 0, "", time.Time{}
		s.Log.Info("connected", "broker", o.URL)
		l.conn.Store(conn)
		h.Connected()
		there()
		w.serve(ctx, conn, h, s.Log)
		if ctx.Err() == nil {
			s.Log.Warn("the connection to the broker broke", "error", conn.Err())
		}
		h.Disconnected()
		l.conn.Store(nil)
		conn.Close()
	}
}

func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// readPassword reads the password in a file; "" without a file.
func readPassword(file string) (string, error) {
	if file == "" {
		return "", nil
	}
	password, err := passwordfile.Read(file)
	if err != nil {
		return "", fmt.Errorf("cannot read password_file: %w", err)
	}
	return password, nil
}
