package hub_test

import (
	"context"
	"log/slog"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/broker"
	"github.com/jmbarzee/dominion/broker/client"
	"github.com/jmbarzee/dominion/broker/engine"
	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/hub"
	"github.com/jmbarzee/dominion/hub/store"
	"github.com/jmbarzee/dominion/topics"
)

func TestOneHubForADataDir(t *testing.T) {
	cfg := load(t, "[broker]\nlisten = \"127.0.0.1:0\"\nlisten_tls = \"\"\n[zeroconf]\nenabled = false\n[http]\nlisten_tls = \"\"\n")
	cfg.DataDir = t.TempDir()
	log := slog.New(slog.DiscardHandler)
	started := make(chan []broker.Listener, 1)
	first := hub.Service{Config: cfg, Log: log, Started: func(l []broker.Listener) { started <- l }}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- first.Serve(ctx) }()
	select {
	case <-started:
	case err := <-ended:
		t.Fatal(err)
	}
	stopped, stop := context.WithCancel(t.Context())
	stop()
	if err := (hub.Service{Config: cfg, Log: log}).Serve(stopped); err == nil || !strings.Contains(err.Error(), "another hub uses it") {
		t.Errorf("a second hub on the same data_dir: %v", err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if err := (hub.Service{Config: cfg, Log: log}).Serve(stopped); err != nil {
		t.Errorf("after the first has gone: %v", err)
	}
}

// A hub whose port is taken is started again every two seconds, for as long
// as it takes somebody to notice: the epochs must not be used up by that.
func TestTakenPortCostsNoEpoch(t *testing.T) {
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	cfg := load(t, "[broker]\nlisten = \""+other.Addr().String()+"\"\nlisten_tls = \"\"\n")
	cfg.DataDir = t.TempDir()
	log := slog.New(slog.DiscardHandler)
	for range 3 {
		if err := (hub.Service{Config: cfg, Log: log}).Serve(t.Context()); err == nil || !strings.Contains(err.Error(), "already in use") {
			t.Fatalf("on a taken port: %v", err)
		}
	}
	disk, err := store.Open(cfg.DataDir, log)
	if err != nil {
		t.Fatal(err)
	}
	if e := disk.Epoch(); e != 0 {
		t.Errorf("the epoch is %d although no hub ran", e)
	}
}

// The configuration shows defaults that are the engine's own.
func TestDefaultLimitsAreTheEngines(t *testing.T) {
	if got, want := broker.Limits(config.DefaultLimits()), engine.DefaultLimits(); got != want {
		t.Errorf("config has %+v, the engine %+v", got, want)
	}
}

// Where the broker has Home Assistant's topics not written to its disk, they are
// gone at each start, and nobody deleted them.
func TestDiscoveryThatIsNotOnDiskIsPublishedAgain(t *testing.T) {
	t.Parallel()
	cfg := load(t, "[broker]\nlisten = \"127.0.0.1:0\"\nlisten_tls = \"\"\n[broker.persistence]\nexclude = [\"homeassistant/#\"]\n[zeroconf]\nenabled = false\n[http]\nlisten_tls = \"\"\n")
	cfg.DataDir = t.TempDir()
	for run := range 2 {
		started := make(chan []broker.Listener, 1)
		s := hub.Service{Config: cfg, Log: slog.New(slog.DiscardHandler), Started: func(l []broker.Listener) { started <- l }}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Serve(ctx) }()
		received := make(chan string, 100)
		conn, err := client.Connect(ctx, client.Options{
			URL: "mqtt://" + (<-started)[0].Addr.String(), ClientID: "test", OnMessage: func(m topics.Message) { received <- m.Topic },
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.Subscribe(ctx, "homeassistant/#"); err != nil {
			t.Fatal(err)
		}
		select {
		case <-received:
		case <-time.After(20 * time.Second):
			t.Errorf("Home Assistant received nothing in run %d of the hub", run+1)
		}
		if run == 0 { // the count that goes with it
			if err := conn.Subscribe(ctx, "dominion/hub/discovery"); err != nil {
				t.Fatal(err)
			}
			for topic := range received {
				if topic == "dominion/hub/discovery" {
					break
				}
			}
		}
		conn.Close()
		cancel()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
	}
}

// What a reload cannot take over is named.
func TestReloadNamesWhatNeedsARestart(t *testing.T) {
	was := load(t, "[broker]\nlisten = \"127.0.0.1:0\"\nlisten_tls = \"\"\n[zeroconf]\nenabled = false\n[http]\nlisten_tls = \"\"\n")
	was.DataDir = t.TempDir()
	is := was
	is.Broker.Limits.MaxConnections = 5
	is.Broker.UserLimits.Clients = 5 // is taken over
	is.Broker.Persistence.Exclude = []string{"camera/#"}
	hangup, warned := make(chan os.Signal), make(chan string, 8)
	s := hub.Service{
		Config: was, Hangup: hangup, Load: func() (config.Dominion, error) { return is, nil },
		Log: slog.New(warnings{slog.DiscardHandler, warned}), Started: func([]broker.Listener) {},
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx) }()
	hangup <- syscall.SIGHUP
	for _, want := range []string{"broker.persistence", "broker.limits"} {
		if got := <-warned; got != want {
			t.Errorf("warned of %s, want %s", got, want)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}

// warnings hands on the keys that a restart is needed for.
type warnings struct {
	slog.Handler
	keys chan string
}

func (warnings) Enabled(context.Context, slog.Level) bool { return true }

func (w warnings) Handle(_ context.Context, r slog.Record) error {
	if strings.Contains(r.Message, "by a restart only") {
		r.Attrs(func(a slog.Attr) bool { w.keys <- a.Value.String(); return true })
	}
	return nil
}
