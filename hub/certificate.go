package hub

import (
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// certificate is the broker's own, as far as it matters to people: it ends.
type certificate struct {
	ask   func() time.Time // until when it holds; nil: there is none
	until time.Time
	said  time.Duration // the warning that was given of this one
	at    time.Time     // when to look again
}

// certificateLook is how often we look at the certificate, which may have been
// renewed.
const certificateLook = time.Hour

// warnings are how long before its end people are told, again and again: who
// was away does not find a home that nobody gets into.
var warnings = []time.Duration{30 * 24 * time.Hour, 7 * 24 * time.Hour, 24 * time.Hour, 0}

// expireCertificate looks at the certificate now and then.
func (h *Hub) expireCertificate(now time.Time) {
	c := &h.certificate
	if c.ask == nil {
		return
	}
	if now.Before(c.at) {
		h.due(c.at)
		return
	}
	c.at = now.Add(certificateLook)
	h.due(c.at)
	until := c.ask()
	if !until.Equal(c.until) {
		*c = certificate{ask: c.ask, until: until, said: -1, at: c.at}
		h.dirty = true
	}
	if until.IsZero() {
		return
	}
	left := until.Sub(now)
	for n := len(warnings) - 1; n >= 0; n-- {
		if w := warnings[n]; left <= w {
			if c.said < 0 || w < c.said {
				c.said = w
				h.dirty = true
				h.event(topics.Event{Type: topics.CertificateExpires, Message: c.problem(now)})
			}
			return
		}
	}
}

// problem says what is wrong with the certificate, "" while it holds for long.
// It names the day, not how far that is: it is said once, and stays true.
func (c *certificate) problem(now time.Time) string {
	left := c.until.Sub(now)
	if c.until.IsZero() || left > warnings[0] {
		return ""
	}
	ends := "expires on "
	if left <= 0 {
		ends = "has expired on "
	}
	return "the broker's certificate " + ends + c.until.UTC().Format(time.DateOnly) +
		": put a new one at cert_file and key_file, they are read when they change"
}
