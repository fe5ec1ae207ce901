package config

import (
	"fmt"
	"time"
)

// longestSync bounds what a power cut may take.
const longestSync = time.Minute

func (t *table) persistence(p *Persistence) {
	defer t.close()
	t.sync(&p.Sync)
	if !t.list("exclude", &p.Exclude) {
		return
	}
	for _, filter := range p.Exclude {
		checkFilter(filter).report(t, "exclude")
	}
}

// sync reads a duration, or "always", which is none.
func (t *table) sync(to *time.Duration) {
	const key = "sync"
	if v, _, _ := t.take(key); v == "always" {
		*to = 0
		return
	}
	var d time.Duration
	switch {
	case !t.duration(key, &d) || !t.set(key):
	case d == 0:
		t.fault(key, `write "always" to have everything on the disk before it is acknowledged`, "must be longer than nothing")
	case d > longestSync:
		t.fault(key, `the default is "100ms"`, "%v is longer than %v: a power cut would take all of that", d, longestSync)
	default:
		*to = d
	}
}

// limits reads one key for each limit. The least that each may be leaves room
// for what a dominion says itself.
func (t *table) limits(l *Limits, u *UserLimits) {
	defer t.close()
	const optional = 0 // or as much as one likes: no such limit
	for _, k := range []struct {
		key   string
		to    *int
		least int
		most  int // 0: as many as there are numbers
	}{
		{"max_connections", &l.MaxConnections, 1, 0},
		{"max_connecting", &l.MaxConnecting, 16, 0},
		{"connections_per_address", &l.ConnectionsPerAddress, optional, 0},
		{"connections_per_second", &l.ConnectionsPerSecond, optional, 0},
		{"max_packet", &l.MaxPacket, 64 << 10, 268_435_455}, // what MQTT can say, and paho connect to
		{"max_inflight", &l.MaxInflight, 1, 65_535},
		{"max_queued_messages", &l.MaxQueuedMessages, 1, 0},
		{"max_queued_bytes", &l.MaxQueuedBytes, 64 << 10, 0},
		{"max_subscriptions", &l.MaxSubscriptions, 16, 0},
		{"max_wildcard_subscriptions", &l.MaxWildcardSubscriptions, 1, 0},
		{"max_topic_levels", &l.MaxTopicLevels, 16, 65_535},
		{"max_topic_length", &l.MaxTopicLength, 512, 65_535},
		{"messages_per_second", &l.MessagesPerSecond, optional, 0},
		{"bytes_per_second", &l.BytesPerSecond, optional, 0},
		{"max_retained", &l.MaxRetained, 1000, 0},
		{"max_retained_bytes", &l.MaxRetainedBytes, 64 << 10, 0},
		{"max_sessions", &l.MaxSessions, 100, 0},
		{"clients_per_user", &u.Clients, optional, 0},
		{"queued_bytes_per_user", &u.QueuedBytes, optional, 0},
		{"memory", &l.Memory, optional, 0},
		{"memory_per_user", &u.Memory, optional, 0},
		{"written_bytes_per_user", &u.WrittenBytes, optional, 0},
	} {
		t.within(k.key, k.to, k.least, k.most)
	}
	for _, k := range []struct {
		key      string
		to       *time.Duration
		optional bool
	}{
		{"connect_timeout", &l.ConnectTimeout, false},
		{"write_timeout", &l.WriteTimeout, false},
		{"max_keep_alive", &l.MaxKeepAlive, true},
		{"max_session_expiry", &l.MaxSessionExpiry, false},
	} {
		usual, d := *k.to, *k.to
		switch {
		case !t.duration(k.key, &d):
		case d == 0 && k.optional, d >= time.Second:
			*k.to = d
		case k.optional:
			t.fault(k.key, `write "0s" for no such limit`, "must be a second or longer")
		default:
			t.fault(k.key, "the default is "+quote(usual.String()), "must be a second or longer")
		}
	}
	aliases := int(l.TopicAliasMaximum)
	if t.within("topic_alias_maximum", &aliases, 1, 65_535) {
		l.TopicAliasMaximum = uint16(aliases)
	}
	t.holdAPacket(l, u)
}

// within reads a number that must not be below least nor, unless that is 0,
// above most.
func (t *table) within(key string, to *int, least, most int) bool {
	usual, n := *to, *to
	hint := fmt.Sprintf("the default is %d", usual)
	switch {
	case !t.number(key, &n):
		return false
	case least == 0 && n < 0:
		t.fault(key, "write 0 for no such limit", "must not be negative")
		return false
	case n < least:
		t.fault(key, hint, "%d is too small: at least %d", n, least)
		return false
	case most > 0 && n > most:
		t.fault(key, hint, "%d is too large: at most %d", n, most)
		return false
	}
	*to = n
	return true
}

// formerMaxPacket was the default of max_packet once. A file of that time may
// have other limits that are below today's default: they lower it.
const formerMaxPacket = 2 << 20

// holdAPacket checks that what holds messages holds the largest one.
func (t *table) holdAPacket(l *Limits, u *UserLimits) {
	holders := []struct {
		key string
		n   int
	}{
		{"max_queued_bytes", l.MaxQueuedBytes},
		{"max_retained_bytes", l.MaxRetainedBytes},
		{"queued_bytes_per_user", u.QueuedBytes},
		{"memory", l.Memory},
		{"memory_per_user", u.Memory},
	}
	for _, k := range holders {
		if k.n > 0 && t.fine(k.key) && !t.set("max_packet") {
			l.MaxPacket = min(l.MaxPacket, max(k.n, formerMaxPacket))
		}
	}
	for _, k := range holders {
		switch {
		case k.n == 0 || k.n >= l.MaxPacket || !t.fine(k.key) || !t.fine("max_packet"):
		case t.set(k.key):
			t.fault(k.key, "raise it, or lower max_packet", "%d must not be less than max_packet, which is %d", k.n, l.MaxPacket)
		default: // then max_packet is what was changed
			t.fault("max_packet", "raise "+k.key+" too", "%d must not be more than %s, which is %d", l.MaxPacket, k.key, k.n)
			return
		}
	}
}
