package broker

import (
	"net"
	"strings"
	"sync"
	"time"
)

// A client that is refused comes again every few seconds, for as long as it
// takes somebody to notice: the log, often on an SD card, is not to grow by it.
const (
	refusalsTold  = 5                // of a host, for one reason, are told of at once
	refusalsPause = 10 * time.Minute // then one in so long
	refusalsHosts = 256              // that are remembered, about
	refusalsAll   = 300              // of all hosts and reasons, in one pause
)

// short is what a client said of itself as the log shows it: names, topics and
// headers may have 65,535 bytes.
func short(s string) string {
	const most = 200
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// hostOf returns the host of a remote address.
func hostOf(remote string) string {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		return remote
	}
	return host
}

// refusals remembers what was said of connections that were refused.
type refusals struct {
	mu   sync.Mutex
	told map[string]refusal
	// Who has many addresses or names has many causes: all together are bounded.
	began  time.Time
	all    int // told since then
	silent int // not told for that
}

type refusal struct {
	times int
	last  time.Time
}

// tell says whether to say that a connection was refused.
func (r *refusals) tell(remote, why string, now time.Time) bool {
	host := hostOf(remote)
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.note(host, why, now)
}

// tellTopic says whether to say that a user's publish to a topic was refused:
// once for each, as far as tell allows.
func (r *refusals) tellTopic(remote, user, topic string, now time.Time) bool {
	host := hostOf(remote)
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
	if r.began.IsZero() {
		r.began = now
	}
	if r.all >= refusalsAll {
		r.silent++
		return false
	}
	r.all++
	r.told[key] = refusal{times: seen.times + 1, last: now}
	return true
}

// over ends a pause that is over, and returns how much was not told in it.
func (r *refusals) over(now time.Time) (silent int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.began.IsZero() || now.Sub(r.began) < refusalsPause {
		return 0
	}
	silent = r.silent
	r.began, r.all, r.silent = time.Time{}, 0, 0
	return silent
}
