package supervisor

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// A service whose port does not answer until it is compiled is starting all that
// time, with the reason, whatever its interval and failures are. Its
// start_timeout, two minutes where none is set, ends that.
func TestVirtualAServiceThatCompilesIsStarting(t *testing.T) {
	for name, health := range map[string]topics.HealthCheck{"tcp": {TCP: true}, "http": {HTTP: "/"}} {
		t.Run(name, func(t *testing.T) {
			listens := false
			dial := func(context.Context, string, string) (net.Conn, error) {
				if !listens {
					return nil, syscall.ECONNREFUSED
				}
				c, other := net.Pipe()
				go func() {
					defer other.Close()
					if _, err := http.ReadRequest(bufio.NewReader(other)); err == nil {
						_, _ = io.WriteString(other, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
					}
				}()
				return c, nil
			}
			play(t, func(t *testing.T, h *host, a *actor) {
				s := spec("r1")
				s.Port, s.StartTimeout = 8080, 0
				s.Health = &health
				s.Health.Interval, s.Health.Failures = topics.Seconds(time.Second), 1
				h.apply(one("web", s))
				for range 11 {
					h.pass(10 * time.Second)
					i := h.get("web")
					if i.State != topics.Starting || i.Health != topics.UnknownHealth || i.Restarts != 0 ||
						i.Message != "not ready yet: nothing listens on port 8080 (start_timeout is 2 min)" {
						t.Fatalf("%+v", i)
					}
				}
				listens = true
				h.pass(time.Second)
				if i := h.get("web"); i.State != topics.Running || i.Health != topics.Healthy || i.Message != "" {
					t.Errorf("%+v", i)
				}

				listens = false
				s.Revision = "r2"
				s.Restart.Delay, s.Restart.MaxDelay = topics.Seconds(time.Hour), topics.Seconds(time.Hour)
				h.apply(one("web", s))
				h.pass(2*time.Minute + 5*time.Second)
				want := "it was not ready within 2 min: nothing listens on port 8080 (raise start_timeout"
				if i := h.get("web"); i.State != topics.Backoff || !strings.Contains(i.Message, want) {
					t.Errorf("%+v, want %q", i, want)
				}
				if n := h.reported(topics.ServiceUnhealthy, "web"); n > 0 {
					t.Errorf("it was unhealthy %d times: %q", n, h.reports)
				}
			}, func(o *Options) { o.Dial = dial })
		})
	}
}
