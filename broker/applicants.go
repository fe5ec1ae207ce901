package broker

import (
	"slices"
	"strings"

	"github.com/jmbarzee/dominion/broker/engine"
	"github.com/jmbarzee/dominion/topics"
)

// Applicants are clients without user and certificate on a listener for TLS, where such
// clients are not let in: machines that ask to be adopted. The engine bounds what they
// may take, the role applicant what they may do.

// HandleApplicants sets what gets the messages of applicants, with the address of each. It
// must not block. Until then there are none.
func (b *Broker) HandleApplicants(handle func(m topics.Message, address string)) {
	b.applicants.Store(&handle)
}

// isApplicant reports whether a client without user and certificate is an applicant.
func (b *Broker) isApplicant(c engine.Client) bool {
	return c.Listener == "mqtts" && b.config.Identity != nil && b.applicants.Load() != nil && !b.anonymousAt(c.Listener)
}

// admitApplicant decides whether an applicant may use its client identifier: one that is
// nobody's, and that becomes nobody's.
func (b *Broker) admitApplicant(c engine.Client) error {
	if strings.HasPrefix(c.ID, agentIDPrefix) || slices.Contains(b.config.ReservedIDs, c.ID) || b.clientIDs.owned(c.ID) {
		return refusedError{engine.ErrClientIDTaken, "the client id belongs to somebody else"}
	}
	return nil
}
