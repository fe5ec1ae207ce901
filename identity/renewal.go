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

// Renewal decides when the hub's certificate, or another one, is made anew: after two
// thirds of its lifetime, or when names changed. It does no I/O; whoever owns it asks
// Expire at the time of Next.
type Renewal struct {
	renewAt time.Time
	names   Names
	// wanted is what the machine's names are now.
	wanted Names
	// changed is when the certificate was last made because names changed; zero: never.
	changed time.Time
	// retry is when it is tried again after a failure; zero: it did not fail.
	retry time.Time
}

// NewRenewal returns the decision about a certificate that exists, for names.
func NewRenewal(cert *x509.Certificate, names Names) *Renewal {
	r := &Renewal{names: names, wanted: names}
	r.renewAt = RenewAt(cert)
	return r
}

// SetNames says how the machine is reached now.
func (r *Renewal) SetNames(n Names) { r.wanted = n }

// Names returns what the next certificate must name.
func (r *Renewal) Names() Names { return r.wanted }

// Expire reports whether the certificate must be made anew now.
func (r *Renewal) Expire(now time.Time) bool {
	next := r.Next(now)
	return !next.IsZero() && !now.Before(next)
}

// Next returns when the certificate must be made anew.
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

// Done records that the certificate was made anew, for names.
func (r *Renewal) Done(cert *x509.Certificate, names Names, now time.Time) {
	if !names.Equal(r.names) {
		r.changed = now
	}
	r.renewAt, r.names, r.retry = RenewAt(cert), names, time.Time{}
}

// Failed records that the certificate could not be made.
func (r *Renewal) Failed(now time.Time) { r.retry = now.Add(retryInterval) }
