package config

import (
	"fmt"
	"time"

	"github.com/jmbarzee/dominion/broker/limits"
)

// Limits is [broker.limits], but for the keys …_per_user.
type Limits = limits.Limits

// UserLimits are the keys …_per_user of [broker.limits], for all clients of one
// user together.
type UserLimits = limits.UserLimits

// DefaultLimits returns the limits of a broker that says nothing about them.
func DefaultLimits() Limits { return limits.Default() }

// DefaultUserLimits returns the limits of users of such a broker.
func DefaultUserLimits() UserLimits { return limits.DefaultUsers() }

// limitsSection returns [broker.limits], a setting for each row of package limits.
func limitsSection() section[*Dominion] {
	s := section[*Dominion]{
		path: "broker.limits", asWhole: true, elsewhere: true, doc: "[limits of the broker](#limits-of-the-broker)",
		judge: func(in tables, d *Dominion) { in["broker.limits"].packetsFit(&d.Broker.Limits, &d.Broker.UserLimits) },
	}
	for _, row := range limits.Rows {
		of := func(d *Dominion) any { return row.Of(&d.Broker.Limits, &d.Broker.UserLimits) }
		k := setting[*Dominion]{
			key: row.Key, of: of, def: row.Default, usual: row.DefaultText, doc: row.Beyond,
			read: func(t *table, _ string, d *Dominion) { t.limit(row, of(d)) },
		}
		if row.Reload {
			k.effect = byReload
		}
		s.settings = append(s.settings, k)
	}
	return s
}

// limit reads one limit.
func (t *table) limit(row limits.Row, to any) {
	switch to := to.(type) {
	case *int:
		t.within(row.Key, to, row.Least, row.Most)
	case *uint16:
		n := int(*to)
		if t.within(row.Key, &n, row.Least, row.Most) {
			*to = uint16(n)
		}
	case *time.Duration:
		d := *to
		if !t.duration(row.Key, &d) {
			return
		}
		switch {
		case d >= limits.LeastTime, d == 0 && row.Optional:
			*to = d
		case row.Optional:
			t.fault(row.Key, `write "0s" for no such limit`, "must be a second or longer")
		default:
			t.fault(row.Key, "the default is "+quote(to.String()), "must be a second or longer")
		}
	}
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

// packetsFit checks that what holds messages holds the largest one.
func (t *table) packetsFit(l *Limits, u *UserLimits) {
	type holder struct {
		key string
		n   int
	}
	var holders []holder
	for _, row := range limits.Rows {
		if n, is := row.Of(l, u).(*int); is && row.HoldsPacket {
			holders = append(holders, holder{row.Key, *n})
		}
	}
	for _, k := range holders {
		if k.n > 0 && t.valid(k.key) && !t.set("max_packet") {
			l.MaxPacket = min(l.MaxPacket, max(k.n, formerMaxPacket))
		}
	}
	for _, k := range holders {
		if k.n == 0 || k.n >= l.MaxPacket || !t.valid(k.key) || !t.valid("max_packet") {
			continue
		}
		if !t.set(k.key) { // then max_packet is what was changed
			t.fault("max_packet", "raise "+k.key+" too", "%d must not be more than %s, which is %d", l.MaxPacket, k.key, k.n)
			return
		}
		t.fault(k.key, "raise it, or lower max_packet", "%d must not be less than max_packet, which is %d", k.n, l.MaxPacket)
	}
}
