package broker

import (
	"net"
	"time"
)

// LookAtCertificates makes the next handshake look at the files at once.
func (b *Broker) LookAtCertificates() {
	b.certificates.mu.Lock()
	defer b.certificates.mu.Unlock()
	b.certificates.checkedAt = time.Time{}
}

// LetsInAnybody reports whether a listener takes clients without a user.
func (b *Broker) LetsInAnybody(scheme string) bool { return b.anonymousAt(scheme) }

// ServeOutside is Serve for a connection that came by a listener others reach.
func (b *Broker) ServeOutside(c net.Conn) { b.serve("outside", c) }

// WrongPassword counts a wrong password.
func (b *Broker) WrongPassword(remote, user, password string) {
	b.passwords.failed(remote, user, b.wrongDigest(userRecord{}, []byte(password)), time.Now())
}

// RightPassword notes a login from an address.
func (b *Broker) RightPassword(remote string) { b.passwords.succeeded(remote, "ada", time.Now()) }

// RememberedPasswords returns how many pairs and addresses, logins, and wrong passwords
// of one pair are remembered.
func (b *Broker) RememberedPasswords() (pairs, known, stale int) {
	for _, t := range b.passwords.attempts {
		stale = max(stale, len(t.wrongPasswords))
	}
	return len(b.passwords.attempts), len(b.passwords.loggedIn), stale
}

// WithZone is withZone.
var WithZone = withZone
