package ownproblems

import "time"

// Certificate is one of the hub's certificates.
type Certificate struct {
	// Name is for people.
	Name string
	// Keys are those of the configuration that name its files.
	Keys string
	// Expires returns until when it is valid, zero where there is none. It must not block.
	Expires func() time.Time
}

// certificate is a certificate as it was read last.
type certificate struct {
	Certificate
	until time.Time
	// warned is the last of the warnings that was given; negative: none.
	warned time.Duration
	// readAt is when to read it again.
	readAt time.Time
}

// readInterval is how often a certificate is read, which may have been renewed.
const readInterval = time.Hour

// warnings are how long before its end people are warned, again and again: who was away
// does not find a home that nobody gets into.
var warnings = []time.Duration{30 * 24 * time.Hour, 7 * 24 * time.Hour, 24 * time.Hour, 0}

// CertificatesExpire returns until when all certificates are valid; zero without any.
func (p *Problems) CertificatesExpire() (first time.Time) {
	for _, c := range p.certificates {
		if first.IsZero() || !c.until.IsZero() && c.until.Before(first) {
			first = c.until
		}
	}
	return first
}

// Expire reads the certificates that are due. It returns the warnings that are given
// now, and reports whether anything about them changed.
func (p *Problems) Expire(now time.Time) (warned []string, changed bool) {
	for _, c := range p.certificates {
		if now.Before(c.readAt) {
			continue
		}
		if c.read(now) {
			changed = true
		}
		if c.warn(now) {
			changed = true
			warned = append(warned, c.problem(now))
		}
	}
	return warned, changed
}

// Next returns when Expire has something to do; zero: not by itself.
func (p *Problems) Next() (next time.Time) {
	for _, c := range p.certificates {
		if next.IsZero() || c.readAt.Before(next) {
			next = c.readAt
		}
	}
	return next
}

// read reads until when the certificate is valid, and reports whether that changed.
func (c *certificate) read(now time.Time) (changed bool) {
	c.readAt = now.Add(readInterval)
	until := c.Expires()
	if until.Equal(c.until) {
		return false
	}
	c.until, c.warned = until, -1
	return true
}

// warn reports whether a warning is due that was not given yet.
func (c *certificate) warn(now time.Time) bool {
	if c.until.IsZero() {
		return false
	}
	left := c.until.Sub(now)
	for n := len(warnings) - 1; n >= 0; n-- {
		w := warnings[n]
		if left > w {
			continue
		}
		if c.warned >= 0 && w >= c.warned {
			return false
		}
		c.warned = w
		return true
	}
	return false
}

// problem returns what is wrong with the certificate, "" while it is valid for long. It
// names the day, not how far that is: it is published once, and stays true.
func (c *certificate) problem(now time.Time) string {
	left := c.until.Sub(now)
	if c.until.IsZero() || left > warnings[0] {
		return ""
	}
	ends := "expires on "
	if left <= 0 {
		ends = "expired on "
	}
	return c.Name + " " + ends + c.until.UTC().Format(time.DateOnly) +
		": put a new one at " + c.Keys + ", they are read when they change"
}

// HasCertificates reports whether there are certificates that end.
func (p *Problems) HasCertificates() bool { return len(p.certificates) > 0 }
