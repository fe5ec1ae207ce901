package broker

import (
	"net"
	"time"
)

// LookAtCertificates makes the next handshake look at the files at once.
func (b *Broker) LookAtCertificates() {
	b.certificates.mu.Lock()
	defer b.certificates.mu.Unlock()
	b.certificates.looked = time.Time{}
}

// LetsInAnybody tells whether a listener takes clients without a user.
func (b *Broker) LetsInAnybody(scheme string) bool { return b.anonymousAt(scheme) }

// ServeOutside is Serve for a connection that came by a listener others reach.
func (b *Broker) ServeOutside(c net.Conn) { b.take("outside", c) }
