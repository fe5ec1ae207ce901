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
	"github.com/jmbarzee/dominion/hub/stall"
	"github.com/jmbarzee/dominion/hub/store"
	"github.com/jmbarzee/dominion/internal/passwordfile"
	"github.com/jmbarzee/dominion/topics"
)

// line is the bus to an external broker: the connection may break, and is then made
// again. What is published meanwhile is dropped, because the hub publishes everything
// again once it is connected.
type line struct{ conn atomic.Pointer[client.Conn] }

func (l *line) Publish(m topics.Message) {
	if c := l.conn.Load(); c != nil {
		c.Publish(m)
	}
}

// aliveInterval is how often the hub publishes that it is online: a node of a
// clustered broker that is killed publishes no wills.
const aliveInterval = 5 * time.Second

func (s Service) serveExternal(ctx context.Context, state *store.Store) error {
	password, err := readPassword(s.Config.Broker.PasswordFile)
	if err != nil {
		return err
	}
	l := new(line)
	w := newWatcher()
	o := Options{Config: s.Config, Version: s.Version, Store: state, Bus: l, Watch: w.set, Verify: w.verify, Alive: aliveInterval, Environ: s.Environ, Machine: machineAddresses, Figures: stall.Read, Log: s.Log}
	own, err := s.openKeys(state, &o)
	if err != nil {
		return err
	}
	site, err := s.listenHTTP(own)
	if err != nil {
		return err
	}
	control, err := s.externalControl()
	if err != nil {
		return err
	}
	defer s.stopBroker(control)
	o.Problems = site.Problems()
	if s.Config.HTTP.CertFile != "" {
		o.HTTPCertificate = site.CertificateExpires()
	}
	s.openControl(control, &o)
	o.TokenFiles, o.Reach = s.tokenFiles(), s.reachExternal
	bundles := s.openRegistry(own, site, &o)
	h := New(o)
	control.HandlePrivate(h.DeliverPrivate)
	relay := &broker.Relay{Log: s.Log, Dial: s.dialExternal}
	defer relay.Close()
	handlers := s.handlers(h, nil, bundles)
	handlers.MQTT = relay.WebSocket
	defer site.Serve(ctx, handlers)()
	defer s.serveRegistry(bundles)()
	will := h.Will()
	broker := client.Options{
		URL: s.Config.Broker.External, Interfaces: s.Config.Zeroconf.Interfaces, Password: password, CAFile: s.Config.Broker.CAFile,
		ClientID: "dominion-" + h.ID(), Will: &will, OnMessage: h.Deliver, Log: s.Log,
	}
	// The line outlives ctx: offline is published through it.
	alive, cancel := context.WithCancel(context.Background())
	var connecting sync.WaitGroup
	ready := make(chan struct{})
	connecting.Go(func() { s.stayConnected(alive, l, w, h, broker, sync.OnceFunc(func() { close(ready) })) })
	s.run(ctx, h, own, ready, s.announceExternal(h.ID()), func(config.Dominion) error { return nil })
	if c := l.conn.Load(); c != nil {
		flushing, done := context.WithTimeout(context.Background(), stopTime)
		if err := c.Flush(flushing); err != nil {
			s.Log.Warn("cannot publish offline", "error", err)
		}
		done()
	}
	cancel()
	connecting.Wait()
	return nil
}

// dialExternal opens a connection to the first of the broker's addresses that takes
// one.
func (s Service) dialExternal(ctx context.Context) (conn net.Conn, err error) {
	for _, url := range config.Addresses(s.Config.Broker.External) {
		if conn, err = client.Dial(ctx, client.Options{URL: url, Interfaces: s.Config.Zeroconf.Interfaces, CAFile: s.Config.Broker.CAFile}); err == nil {
			break
		}
	}
	return conn, err
}

// stayConnected connects to the external broker, again and again, until ctx ends, and
// calls connected each time. o.URL may hold several addresses: after a failure it tries the
// next, and waits once all were tried.
func (s Service) stayConnected(ctx context.Context, l *line, w *watcher, h *Hub, o client.Options, connected func()) {
	logged := make(map[string]string) // the last error logged, by address
	var rivalAt time.Time             // when another hub was at our topics
	addresses := config.Addresses(o.URL)
	if len(addresses) == 0 {
		addresses = []string{""} // o.Dial has it
	}
	at, tried := 0, 0 // the address, and how many failed in succession
	for attempt := 0; ctx.Err() == nil; {
		o.URL = addresses[at]
		err := findRival(ctx, o, h.tree, h.ID())
		if errors.As(err, new(rival)) {
			rivalAt = time.Now()
		}
		if err == nil && !rivalAt.IsZero() && time.Since(rivalAt) < rivalPatience {
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
			if ctx.Err() == nil && err.Error() != logged[o.URL] {
				logged[o.URL] = err.Error()
				s.Log.Error("no broker", "error", err)
			}
			at = (at + 1) % len(addresses)
			if tried++; tried%len(addresses) == 0 {
				wait(ctx, client.Backoff(attempt, rand.N[time.Duration]))
				attempt++
			}
			continue
		}
		tried, rivalAt = 0, time.Time{}
		clear(logged)
		began := time.Now()
		s.Log.Info("connected", "broker", o.URL)
		l.conn.Store(conn)
		h.Connected()
		connected()
		w.serve(ctx, conn, h, s.Log)
		if ctx.Err() == nil {
			s.Log.Warn("the connection to the broker broke", "error", conn.Err())
		}
		h.Disconnected()
		l.conn.Store(nil)
		conn.Close()
		if time.Since(began) > briefStay {
			attempt = 0
			continue
		}
		at = (at + 1) % len(addresses)
		wait(ctx, client.Backoff(attempt, rand.N[time.Duration]))
		attempt++
	}
}

// briefStay is how long a connection must have lasted to be renewed at once, and at
// the same address.
const briefStay = 5 * time.Second

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
