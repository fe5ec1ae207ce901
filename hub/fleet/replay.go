package fleet

import "errors"

// Why a signed message of a domain is not taken.
var (
	errNoSession = errors.New("it names no session")
	errFormer    = errors.New("it is of a former session: it is replayed, or came late")
	errOld       = errors.New("it was sent before one that was taken: it is replayed, or came late")
)

// CompareStatus returns why a signed status is not taken. Before the session of the domain is
// known, that of any session is: it does not make the domain online, until the heartbeats name it.
func (d *Domain) CompareStatus(session string, seq uint64) error {
	known := d.Session()
	switch {
	case session == "":
		return errNoSession
	case known != "" && session != known:
		return errFormer
	case d.Status != nil && d.Status.Session == session && seq <= d.Status.Seq:
		return errOld
	}
	return nil
}

// CompareEvent returns why a signed event is not taken: events that happened before the session
// of the domain is known are not.
func (d *Domain) CompareEvent(session string, seq uint64) error {
	switch {
	case session == "":
		return errNoSession
	case session != d.Session():
		return errFormer
	case session == d.eventSession && seq <= d.eventSeq:
		return errOld
	}
	return nil
}

// AcceptEvent notes an event that is taken, so that it is not taken again.
func (d *Domain) AcceptEvent(session string, seq uint64) { d.eventSession, d.eventSeq = session, seq }
