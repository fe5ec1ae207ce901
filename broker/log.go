package broker

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// quiet lets the engine's warnings through to our log: without the packets it
// adds to them, which hold payloads and passwords, without its complaint about
// a keep alive of 5 s, which our agents want, and without what gate says of who
// may not publish.
type quiet struct{ slog.Handler }

func (q quiet) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelWarn && q.Handler.Enabled(ctx, l)
}

func (q quiet) Handle(ctx context.Context, r slog.Record) error {
	if r.Message == mqtt.ErrMinimumKeepalive.Error() {
		return nil
	}
	clean := slog.NewRecord(r.Time, r.Level, "broker: "+r.Message, r.PC)
	said := false
	r.Attrs(func(a slog.Attr) bool {
		if err, is := a.Value.Any().(error); is && errors.Is(err, packets.ErrNotAuthorized) {
			said = true
		}
		if a.Key != "pk" && a.Key != "packet" {
			clean.AddAttrs(a)
		}
		return true
	})
	if said {
		return nil
	}
	return q.Handler.Handle(ctx, clean)
}

func (q quiet) WithAttrs(attrs []slog.Attr) slog.Handler { return quiet{q.Handler.WithAttrs(attrs)} }

func (q quiet) WithGroup(name string) slog.Handler { return quiet{q.Handler.WithGroup(name)} }

// A client that is refused comes again every few seconds, for as long as it
// takes somebody to notice: the log, often on an SD card, is not to grow by it.
const (
	refusalsTold  = 5                // of a host, for one reason, are told of at once
	refusalsPause = 10 * time.Minute // then one in so long
	refusalsHosts = 256              // that are remembered, about
)

// refusals remembers what was said of connections that were refused.
type refusals struct {
	mu   sync.Mutex
	told map[string]refusal
}

type refusal struct {
	times int
	last  time.Time
}

// tell says whether to say that a connection was refused.
func (r *refusals) tell(remote, why string, now time.Time) bool {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		host = remote
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.note(host, why, now)
}

// tellTopic says whether to say that a user's publish to a topic was refused:
// once for each, as far as tell allows.
func (r *refusals) tellTopic(remote, user, topic string, now time.Time) bool {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		host = remote
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	key := host + " " + user + " to " + topic
	if last := r.told[key]; last.times > 0 && now.Sub(last.last) < refusalsPause {
		return false
	}
	if !r.note(host, "publish of "+user, now) {
		return false
	}
	r.told[key] = refusal{times: 1, last: now}
	return true
}

func (r *refusals) note(host, why string, now time.Time) bool {
	if r.told == nil || len(r.told) >= refusalsHosts {
		r.told = make(map[string]refusal)
	}
	key := host + " " + why
	seen := r.told[key]
	if seen.times >= refusalsTold && now.Sub(seen.last) < refusalsPause {
		return false
	}
	r.told[key] = refusal{times: seen.times + 1, last: now}
	return true
}
