package registry

import (
	"github.com/jmbarzee/dominion/bundle"
)

// Client is who sends a request.
type Client struct {
	// Admin is set for one that may read and write everything.
	Admin bool
	// Domain is the name of a domain: it may read what Permit gives it.
	Domain string
}

// Permit sets what a domain may read. It replaces what was set before; without digests it
// may read nothing.
func (r *Registry) Permit(domain string, digests []bundle.Digest) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(digests) == 0 {
		delete(r.permits, domain)
		return
	}
	permits := make(map[bundle.Digest]bool, len(digests))
	for _, d := range digests {
		permits[d] = true
	}
	r.permits[domain] = permits
}

// maxPulls is how many blobs domains may pull at a time: a home's network and an SD card
// have no more to give.
const maxPulls = 4

// pull notes that a domain begins to pull a blob. It returns false where too many do.
func (r *Registry) pull() (end func(), ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pulls >= maxPulls {
		return nil, false
	}
	r.pulls++
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.pulls--
	}, true
}

// mayRead reports whether a client may read a manifest or blob.
func (r *Registry) mayRead(c Client, d bundle.Digest) bool {
	if c.Admin {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return c.Domain != "" && r.permits[c.Domain][d]
}

// Size returns how many bytes are stored, unfinished uploads included.
func (r *Registry) Size() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.size
}
