package registry

import (
	"maps"

	"github.com/jmbarzee/dominion/bundle"
)

// Client is who sends a request.
type Client struct {
	// Admin is set for one that may read and write everything.
	Admin bool
	// Domain is the id of a domain: it may read what Permit gives it.
	Domain string
}

// Permit sets which manifests each domain may read, by its id, with the blobs that
// these name. It replaces what was set before.
func (r *Registry) Permit(manifests map[string][]bundle.Digest) {
	permits := make(map[string]map[bundle.Digest]bool, len(manifests))
	for domain, all := range manifests {
		permits[domain] = make(map[bundle.Digest]bool)
		for _, d := range all {
			permits[domain][d] = true
			text, err := r.read(d)
			if err != nil {
				continue // it cannot be read at all
			}
			if blobs, _, err := references(text); err == nil {
				for _, b := range blobs {
					permits[domain][b] = true
				}
			}
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.permits = permits
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

// Tags returns the digest of each version of each repository.
func (r *Registry) Tags() map[string]map[string]bundle.Digest {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make(map[string]map[string]bundle.Digest, len(r.tags))
	for repository, tags := range r.tags {
		all[repository] = make(map[string]bundle.Digest, len(tags))
		for tag, t := range maps.All(tags) {
			all[repository][tag] = t.Digest
		}
	}
	return all
}
