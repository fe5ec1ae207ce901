package broker

import (
	"net"
	"sync"
	"time"
)

// A refused client tries again every few seconds, until someone notices: the log,
// often on an SD card, must not grow by that.
const (
	// logBurst is the number of entries of a host, for one reason, that are logged at
	// once.
	logBurst = 5
	// logPeriod is the time after which another one is.
	logPeriod = 10 * time.Minute
	// maxLogKeys is about the number of hosts and reasons that are remembered.
	maxLogKeys = 256
	// maxLogged bounds the entries of all hosts and reasons in one period.
	maxLogged = 300
)

// hostOf returns the host of a remote address.
func hostOf(remote string) string {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		return remote
	}
	return host
}

// logLimiter limits the log entries about refused connections.
type logLimiter struct {
	mu      sync.Mutex
	entries map[string]logEntry
	// A client with many addresses or names causes many reasons: all together are
	// bounded within a period, which begins at periodStart.
	periodStart time.Time
	// logged counts the entries of the period, suppressed those beyond the bound.
	logged     int
	suppressed int
}

// logEntry is what was logged of a host and a reason.
type logEntry struct {
	count int
	last  time.Time
}

// allow reports whether the refusal of a connection is to be logged.
func (r *logLimiter) allow(remote, reason string, now time.Time) bool {
	host := hostOf(remote)
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.count(host, reason, now)
}

// allowTopic reports whether the refusal of a user's publish to a topic is to be
// logged: once for each, as far as allow permits.
func (r *logLimiter) allowTopic(remote, user, topic string, now time.Time) bool {
	host := hostOf(remote)
	r.mu.Lock()
	defer r.mu.Unlock()
	key := host + " " + user + " to " + topic
	if last := r.entries[key]; last.count > 0 && now.Sub(last.last) < logPeriod {
		return false
	}
	if !r.count(host, "publish of "+user, now) {
		return false
	}
	r.entries[key] = logEntry{count: 1, last: now}
	return true
}

// count counts an entry, and reports whether it is within the limits. The caller holds
// the mutex.
func (r *logLimiter) count(host, reason string, now time.Time) bool {
	if r.entries == nil || len(r.entries) >= maxLogKeys {
		r.entries = make(map[string]logEntry)
	}
	key := host + " " + reason
	entry := r.entries[key]
	if entry.count >= logBurst && now.Sub(entry.last) < logPeriod {
		return false
	}
	if r.periodStart.IsZero() {
		r.periodStart = now
	}
	if r.logged >= maxLogged {
		r.suppressed++
		return false
	}
	r.logged++
	r.entries[key] = logEntry{count: entry.count + 1, last: now}
	return true
}

// endPeriod ends a period that is over, and returns the number of suppressed entries
// in it.
func (r *logLimiter) endPeriod(now time.Time) (suppressed int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.periodStart.IsZero() || now.Sub(r.periodStart) < logPeriod {
		return 0
	}
	suppressed = r.suppressed
	r.periodStart, r.logged, r.suppressed = time.Time{}, 0, 0
	return suppressed
}
