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

	"github.com/jmbarzee/dominion/broker/engine"
)

// embedded starts our engine behind listeners of loopback.
func embedded(t testing.TB) *target {
	t.Helper()
	said := &journal{}
	e, err := engine.New(engine.Options{
		Log: slog.New(slog.NewTextHandler(said, &slog.HandlerOptions{Level: slog.LevelDebug})),
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
	to := &target{name: "engine", deviations: engineDeviations}
	to.address = serve(t, func(c net.Conn) { e.Serve(c, "open") })
	to.guarded = serve(t, func(c net.Conn) { e.Serve(c, "guarded") })
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the engine said: %s", tail(said.all()))
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := e.Close(ctx); err != nil {
			t.Errorf("the engine does not end: %v", err)
		}
	})
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
