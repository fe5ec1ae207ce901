package conformance

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/jmbarzee/dominion/broker"
	"github.com/jmbarzee/dominion/broker/engine"
	"github.com/jmbarzee/dominion/broker/store"
)

// embedded starts our engine behind listeners of loopback, without a store.
func embedded(t testing.TB) *target { return start(t, "engine", nil, store.State{}) }

// stored is our engine with a store: what it acknowledges is written first.
func stored(t testing.TB) *target {
	s, state, err := store.Open(t.TempDir(), store.Options{Sync: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // after the engine's, which is registered later
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Errorf("the store does not end: %v", err)
		}
	})
	return start(t, "stored", s, state)
}

func start(t testing.TB, name string, s engine.Store, state store.State) *target {
	t.Helper()
	said := &journal{}
	e, err := engine.New(engine.Options{
		Log:   slog.New(slog.NewTextHandler(said, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Store: s,
		State: state,
		Authenticate: func(c engine.Client, user string, hasUser bool, password []byte) error {
			if c.Listener == "guarded" && (user != "ann" || string(password) != "s3cret") {
				return engine.ErrBadCredentials
			}
			return nil
		},
		Limits: engine.Limits{MaxTopicLength: 65535}, // what the standard has
		Allow:  func(_ engine.Client, _ engine.Action, topic string) bool { return !strings.HasPrefix(topic, "denied/") },
	})
	if err != nil {
		t.Fatal(err)
	}
	to := &target{name: name, denies: true, stores: s != nil, deviations: engineDeviations}
	to.address = serve(t, func(c net.Conn) { e.Serve(c, "open") })
	to.guarded = serve(t, func(c net.Conn) { e.Serve(c, "guarded") })
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the engine said: %s", tail(said.all()))
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := e.Close(ctx); err != nil {
			t.Errorf("the engine does not end: %v", err)
		}
	})
	return to
}

// product is the broker as the hub embeds it, with its WebSocket listener and
// its rules of access.
func product(t testing.TB) *target {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte("s3cret"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	b, err := broker.New(broker.Config{
		ListenWS: "127.0.0.1:0", Listen: "127.0.0.1:0", AllowAnonymous: true,
		Users: []broker.User{{Name: "ann", PasswordHash: string(hash), Role: "admin"}},
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Listen(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := b.Stop(ctx); err != nil {
			t.Errorf("the broker does not end: %v", err)
		}
	})
	to := &target{name: "product"}
	for _, l := range b.Listeners() {
		switch l.Scheme {
		case "ws":
			to.websocket = l.Addr.String()
		case "mqtt":
			to.address = l.Addr.String()
		}
	}
	return to
}

// journal is what a server says.
type journal struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.Write(p)
}

func (j *journal) all() []byte {
	j.mu.Lock()
	defer j.mu.Unlock()
	return bytes.Clone(j.b.Bytes())
}

// serve accepts connections until the test ends.
func serve(t testing.TB, take func(net.Conn)) (address string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			take(c)
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-ended })
	return l.Addr().String()
}
