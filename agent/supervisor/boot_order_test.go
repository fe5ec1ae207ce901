package supervisor

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// After a boot, without a hub, a service starts when its dependencies on this machine are
// healthy; if they do not get that, when they have had their time.
func TestDependenciesStartFirstAfterABoot(t *testing.T) {
	dependent := func(on ...string) topics.Spec {
		s := spec("1")
		s.Dependencies = make(map[string]string)
		for _, name := range on {
			s.Dependencies[name] = "192.0.2.7:8080"
		}
		return s
	}
	checked := spec("1")
	checked.Health = &topics.HealthCheck{TCP: true, Interval: topics.Seconds(time.Second), Timeout: topics.Seconds(time.Second), Failures: 3}
	exclusive := spec("1")
	exclusive.Exclusive = true
	for name, tt := range map[string]struct {
		specs map[string]topics.Spec
		// healthy is when the port of what is checked answers.
		healthy time.Duration
		// starts are the services in the order in which they start, and when the last one has.
		starts []string
		within time.Duration
	}{
		"a chain": {
			specs:  map[string]topics.Spec{"a-lamp": dependent("middle"), "middle": dependent("web"), "web": spec("1")},
			starts: []string{"web", "middle", "a-lamp"}, within: 3 * time.Second,
		},
		"a check": {
			specs:   map[string]topics.Spec{"a-lamp": dependent("web"), "web": checked},
			healthy: 4 * time.Second, starts: []string{"web", "a-lamp"}, within: 9 * time.Second,
		},
		"never healthy": {
			specs:   map[string]topics.Spec{"a-lamp": dependent("web"), "web": checked},
			healthy: time.Hour, starts: []string{"web", "a-lamp"}, within: 11 * time.Second,
		},
		"elsewhere": {
			specs:  map[string]topics.Spec{"a-lamp": dependent("web")},
			starts: []string{"a-lamp"}, within: time.Second,
		},
		"exclusive, which needs the hub": {
			specs:  map[string]topics.Spec{"a-lamp": dependent("web"), "web": exclusive},
			starts: []string{"a-lamp"}, within: time.Second,
		},
		"of each other": {
			specs:  map[string]topics.Spec{"a-lamp": dependent("web"), "web": dependent("a-lamp")},
			starts: []string{"a-lamp", "web"}, within: 10 * time.Minute,
		},
	} {
		t.Run(name, func(t *testing.T) {
			var starts []string
			var last, began time.Time
			play(t, func(t *testing.T, h *host, a *actor) {
				h.makefile("a-lamp", "true")
				h.makefile("middle", "true")
				began = time.Now()
				a.onStart = func(c Command) {
					for _, kv := range c.Env {
						if n, is := strings.CutPrefix(kv, "SERVICE_NAME="); is && !slices.Contains(starts, n) {
							starts, last = append(starts, n), time.Now()
						}
					}
				}
				h.s.o.Dial = dialAfter(began.Add(tt.healthy))
				h.s.ApplyFirst(tt.specs, time.Now())
				if len(tt.starts) > 1 {
					if i := h.get(tt.starts[1]); name != "of each other" && (i.State != topics.Pending || i.Message == "") {
						t.Errorf("what waits is %+v", i)
					}
				}
				h.s.Apply(tt.specs, time.Now()) // the hub's command, which comes meanwhile
				h.pass(tt.within)
				if !slices.Equal(starts, tt.starts) || last.Sub(began) > tt.within {
					t.Errorf("started %v, the last after %v; want %v within %v", starts, last.Sub(began), tt.starts, tt.within)
				}
			})
		})
	}
}

// What is not wanted any more waits no longer, and who restarts it has it started at once.
func TestHeldServiceIsReleased(t *testing.T) {
	play(t, func(t *testing.T, h *host, a *actor) {
		h.makefile("lamp", "true")
		lamp := spec("1")
		lamp.Dependencies = map[string]string{"web": "192.0.2.7:8080"}
		all := map[string]topics.Spec{"lamp": lamp, "web": spec("1")}
		h.s.ApplyFirst(all, time.Now())
		if len(a.starts) != 1 || h.get("lamp").State != topics.Pending {
			t.Fatalf("%d starts, lamp is %+v", len(a.starts), h.get("lamp"))
		}
		h.apply(one("web", spec("1")))
		h.pass(5 * time.Second)
		if len(a.starts) != 1 || h.get("lamp").State != "" {
			t.Errorf("%d starts, lamp is %+v", len(a.starts), h.get("lamp"))
		}
		h.apply(nil)
		h.pass(5 * time.Minute)
		h.s.ApplyFirst(all, time.Now())
		if err := h.s.Restart("lamp", time.Now()); err != nil || len(a.starts) != 3 {
			t.Errorf("%v, %d starts", err, len(a.starts))
		}
	})
}

var errNobody = errors.New("nobody listens")

// dialAfter reaches every port from a time on.
func dialAfter(at time.Time) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(context.Context, string, string) (net.Conn, error) {
		if time.Now().Before(at) {
			return nil, errNobody
		}
		ours, theirs := net.Pipe()
		theirs.Close()
		return ours, nil
	}
}
