package engine

import (
	"errors"
	"net/netip"

	"github.com/jmbarzee/dominion/broker/wire"
)

// What applicants may take, all together.
const (
	maxApplicants          = 32
	maxApplicantsOfAddress = 4
	// applicantMessages and applicantBytes are what one may send in a second, on average. An
	// agent asks every few seconds.
	applicantMessages = 8
	applicantBytes    = 16 << 10
	// maxApplicantPacket is 4 KiB of payload, with topic and header.
	maxApplicantPacket = 4<<10 + 256
)

// errNotAnApplicants refuses an applicant that uses the identifier of another client.
var errNotAnApplicants = errors.New("the client id belongs to somebody else")

// applicant is a connection of an applicant.
type applicant struct {
	session *session
	conn    *conn
	// at is when it last sent something, as conn.lastReceived.
	at int64
}

// admitApplicant makes room for an applicant: of all, or of its address, the one that has been
// silent for longest is disconnected. old is the session with its identifier. The caller
// holds Engine.mu.
func (e *Engine) admitApplicant(c *Client, old *session) error {
	if old != nil && !old.client.Load().Applicant {
		return errNotAnApplicants
	}
	address := networkOf(c.Remote)
	all, of := 0, 0
	var oldest, oldestOf applicant
	for _, s := range e.sessions {
		if s == old || !s.client.Load().Applicant {
			continue
		}
		s.mu.Lock()
		one := s.conn
		if one != nil && one.ending {
			one = nil
		}
		s.mu.Unlock()
		if one == nil {
			continue
		}
		a := applicant{s, one, one.lastReceived.Load()}
		if all++; oldest.conn == nil || a.at < oldest.at {
			oldest = a
		}
		if networkOf(one.remote) != address {
			continue
		}
		if of++; oldestOf.conn == nil || a.at < oldestOf.at {
			oldestOf = a
		}
	}
	if of >= maxApplicantsOfAddress {
		oldest = oldestOf
	} else if all < maxApplicants {
		return nil
	}
	oldest.session.mu.Lock()
	defer oldest.session.mu.Unlock()
	if oldest.session.conn == oldest.conn {
		oldest.conn.disconnect(wire.QuotaExceeded, "too many clients without user and certificate: it was silent for longest")
	}
	return nil
}

// networkOf returns the address of a client, of IPv6 the network.
func networkOf(remote string) string {
	at, err := netip.ParseAddrPort(remote)
	if err != nil {
		return remote
	}
	a := at.Addr().Unmap().WithZone("")
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.String()
		}
	}
	return a.String()
}
