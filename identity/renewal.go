package identity

import (
	"crypto/x509"
	"time"
)

const (
	// namesInterval is the least time between two certificates that are made because names changed.
	namesInterval = 10 * time.Minute
	// retryInterval is the time after which a renewal that failed is tried again.
	retryInterval = time.Minute
)

// Renewal decides when certificates are made anew: after two thirds of the lifetime of the
// first one that ends, or when names changed. It does no I/O; whoever owns it asks
// Expire at the time of Next.
type Renewal struct {
	renewAt time.Time
	names   Names
	// wanted is what the next certificate names.
	wanted Names
	// changed is when they were last made because names changed; zero: never.
	changed time.Time
	// retry is when it is tried again after a failure; zero: it did not fail.
	retry time.Time
}

// NewRenewal returns the decision about certificates that exist, for names.
func NewRenewal(names Names, certs ...*x509.Certificate) *Renewal {
	return &Renewal{names: names, wanted: names, renewAt: firstRenewal(certs)}
}

// Renewal returns the decision about the hub's certificate and the browsers' leaf, which Renew makes
// anew. SetNames then says how the hub is reached.
func (h *Hub) Renewal() *Renewal { return NewRenewal(h.Names(), h.Chain[0], h.Browser.Leaf) }

// firstRenewal returns when the first one of certificates is renewed.
func firstRenewal(certs []*x509.Certificate) time.Time {
	var first time.Time
	for _, cert := range certs {
		if at := RenewAt(cert); first.IsZero() || at.Before(first) {
			first = at
		}
	}
	return first
}

// SetNames says how the machine is reached now.
func (r *Renewal) SetNames(n Names) { r.wanted = n }

// Names returns what the next certificate must name.
func (r *Renewal) Names() Names { return r.wanted }

// Expire reports whether the certificates must be made anew now.
func (r *Renewal) Expire(now time.Time) bool {
	next := r.Next(now)
	return !next.IsZero() && !now.Before(next)
}

// Next returns when the certificates must be made anew.
func (r *Renewal) Next(now time.Time) time.Time {
	next := r.renewAt
	if !Clock(now).Before(next) {
		next = now // by the build date, whatever the clock says
	}
	if !r.wanted.Equal(r.names) {
		at := now
		if !r.changed.IsZero() {
			at = r.changed.Add(namesInterval)
		}
		if at.Before(next) {
			next = at
		}
	}
	if !r.retry.IsZero() && next.Before(r.retry) {
		next = r.retry
	}
	return next
}

// Done records that the certificates were made anew, for names.
func (r *Renewal) Done(now time.Time, names Names, certs ...*x509.Certificate) {
	if !names.Equal(r.names) {
		r.changed = now
	}
	r.renewAt, r.names, r.retry = firstRenewal(certs), names, time.Time{}
}

// Failed records that the certificates could not be made.
func (r *Renewal) Failed(now time.Time) { r.retry = now.Add(retryInterval) }
