package hub

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jmbarzee/dominion/broker"
	"github.com/jmbarzee/dominion/broker/client"
	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/hub/store"
	"github.com/jmbarzee/dominion/topics"
)

// Two hubs at the same topics of one broker: the second waits, says why, and
// disturbs nothing; it takes over once the first has been away for long.
func TestTwoHubsOnOneBroker(t *testing.T) {
	dirs := []string{t.TempDir(), t.TempDir()}
	synctest.Test(t, func(t *testing.T) {
		log := slog.New(slog.DiscardHandler)
		b, err := broker.New(broker.Config{}, log)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = b.Stop(context.Background()) }()
		var mu sync.Mutex
		published := make(map[string]string)
		if err := b.Subscribe("dominion/#", func(m topics.Message) {
			mu.Lock()
			defer mu.Unlock()
			published[m.Topic] = string(m.Payload)
		}); err != nil {
			t.Fatal(err)
		}
		leads := func() (id string) {
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			s, _ := topics.Decode[topics.Hub]("", []byte(published["dominion/hub/status"]))
			if published["dominion/hub/availability"] != topics.Online {
				return ""
			}
			return s.ID
		}
		words := new(strings.Builder)
		var announced []string // by id, in order
		start := func(dir string, log *slog.Logger) (id string, stop func()) {
			cfg, err := config.LoadDominion("", nil)
			if err != nil {
				t.Fatal(err)
			}
			disk, err := store.Open(dir, log)
			if err != nil {
				t.Fatal(err)
			}
			l := new(line)
			h := New(Options{Config: cfg, Store: disk, Bus: l, Log: log})
			will := h.Will()
			o := client.Options{
				ClientID: "dominion-" + h.ID(), Will: &will, OnMessage: h.Deliver, Log: log,
				Dial: func(context.Context) (net.Conn, error) {
					ours, theirs := net.Pipe()
					b.Serve(theirs)
					return ours, nil
				},
			}
			ctx, cancel := context.WithCancel(context.Background())
			loop, end := context.WithCancel(context.Background())
			var runs, kept2 sync.WaitGroup
			runs.Go(func() { h.Run(loop) })
			kept2.Go(func() {
				Service{Log: log}.stayConnected(ctx, l, newWatcher(), h, o, func() { announced = append(announced, h.ID()) })
			})
			return h.ID(), func() {
				end()
				runs.Wait()
				if c := l.conn.Load(); c != nil {
					_ = c.Flush(context.Background())
				}
				cancel()
				kept2.Wait()
			}
		}
		first, stopFirst := start(dirs[0], log)
		time.Sleep(time.Second)
		if got := leads(); got != first {
			t.Fatalf("the first does not lead: %q", got)
		}
		second, stopSecond := start(dirs[1], slog.New(slog.NewTextHandler(words, nil)))
		time.Sleep(3 * time.Minute)
		if got := leads(); got != first || len(announced) != 1 {
			t.Errorf("the second took over from one that is online, or calls itself a hub: %v", announced)
		}
		stopFirst()
		time.Sleep(30 * time.Second)
		if got := leads(); got != "" {
			t.Errorf("%q took over while the first may just restart", got)
		}
		_, stopFirst = start(dirs[0], log)
		time.Sleep(2 * time.Minute)
		if got := leads(); got != first {
			t.Errorf("the first did not come back, %q leads", got)
		}
		stopFirst()
		time.Sleep(2 * time.Minute)
		if got := leads(); got != second {
			t.Errorf("the second did not take over: %q", got)
		}
		stopSecond()
		if got := words.String(); strings.Count(got, "another hub, ") != 1 || !strings.Contains(got, first) {
			t.Errorf("what the second published:\n%s", got)
		}
	})
}
