package hub

import (
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// certificate is one of ours, as far as it matters to people: it ends.
type certificate struct {
	name     string           // for people
	keys     string           // of the configuration, where its files stand
	ask      func() time.Time // until when it holds; nil: there is none
	until    time.Time
	reported time.Duration // the warning that was given of this one
	at       time.Time     // when to look again
}

// certificateLook is how often we look at the certificate, which may have been
// renewed.
const certificateLook = time.Hour

// warnings are how long before its end people are told, again and again: who
// was away does not find a home that nobody gets into.
var warnings = []time.Duration{30 * 24 * time.Hour, 7 * 24 * time.Hour, 24 * time.Hour, 0}

func newCertificates(o Options) (all []certificate) {
	if o.Certificate != nil {
		all = append(all, certificate{name: "the broker's certificate", keys: "cert_file and key_file", ask: o.Certificate, reported: -1})
	}
	if o.HTTPCertificate != nil {
		all = append(all, certificate{name: "the certificate of HTTPS", keys: "http.cert_file and http.key_file", ask: o.HTTPCertificate, reported: -1})
	}
	return all
}

// certificatesExpire returns until when all certificates are valid; zero without
// any.
func (h *Hub) certificatesExpire() (first time.Time) {
	for _, c := range h.certificates {
		if first.IsZero() || !c.until.IsZero() && c.until.Before(first) {
			first = c.until
		}
	}
	return first
}

// expireCertificates looks at the certificates now and then.
func (h *Hub) expireCertificates(now time.Time) {
	for i := range h.certificates {
		h.expireCertificate(&h.certificates[i], now)
	}
}

func (h *Hub) expireCertificate(c *certificate, now time.Time) {
	if now.Before(c.at) {
		h.due(c.at)
		return
	}
	c.at = now.Add(certificateLook)
	h.due(c.at)
	until := c.ask()
	if !until.Equal(c.until) {
		c.until, c.reported = until, -1
		h.dirty = true
	}
	if until.IsZero() {
		return
	}
	left := until.Sub(now)
	for n := len(warnings) - 1; n >= 0; n-- {
		if w := warnings[n]; left <= w {
			if c.reported < 0 || w < c.reported {
				c.reported = w
				h.dirty = true
				h.events.Add(topics.Event{Type: topics.CertificateExpires, Message: c.problem(now)})
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
		ends = "expired on "
	}
	return c.name + " " + ends + c.until.UTC().Format(time.DateOnly) +
		": put a new one at " + c.keys + ", they are read when they change"
}
