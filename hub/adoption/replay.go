package adoption

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// maxFormer is of how many former sessions of a domain joins are known as old.
const maxFormer = 16

// joins are the requests to join of a domain in this run of the hub.
type joins struct {
	// at is when a join was granted last.
	at time.Time
	// session is that of the last one; number and transaction are its own.
	session, transaction string
	number               uint64
	// former are earlier sessions, oldest first.
	former []string
}

// CompareJoin returns why a signed request to join is not taken: it was sent before one that
// was. again reports that it is the last one, sent once more.
func (a *Adoption) CompareJoin(id, session, transaction string, number uint64) (again bool, err error) {
	last := a.joins[id]
	switch {
	case session == "" || number == 0:
		return false, errors.New("it does not name its session and number")
	case slices.Contains(last.former, session):
		return false, errors.New("it is of a former session: it is replayed, or came late")
	case session != last.session || number > last.number:
		return false, nil
	case number == last.number && transaction == last.transaction:
		return true, nil
	}
	return false, fmt.Errorf("it is number %d of its session, and %d was taken: it is replayed, or came late", number, last.number)
}

// CompareSession returns why a signed request that joins nothing is not taken: it is of another
// session than the last join. Only a join begins a session. Otherwise what was recorded of a
// former one would make that the session of the domain again, and its own joins old.
func (a *Adoption) CompareSession(id, session string) error {
	if last := a.joins[id].session; last != "" && session != last {
		return errors.New("it is of another session than the last join: it is replayed, or came late")
	}
	return nil
}

// AcceptJoin notes a signed request to join that is taken.
func (a *Adoption) AcceptJoin(ask topics.HubRequest) {
	last := a.joins[ask.ID]
	if last.session != ask.Session && last.session != "" {
		last.former = append(slices.Clone(last.former), last.session)
		last.former = last.former[max(0, len(last.former)-maxFormer):]
	}
	last.session, last.transaction, last.number = ask.Session, ask.Transaction, ask.Number
	a.joins[ask.ID] = last
}
