package adoption

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	protocol "github.com/jmbarzee/dominion/identity/adoption"
	"github.com/jmbarzee/dominion/topics"
)

// order is a request to adopt, by code.
type order struct {
	// name is of the machine; "": the code alone decides which is meant.
	name, user string
	to         any
	replace    bool
	until      time.Time
	// open are the machines that have not refused the code, by hash of the key.
	open map[string]bool
}

// mayOrder returns why no further machine is adopted now.
func (a *Adoption) mayOrder() error {
	if len(a.orders) >= maxOrders {
		return errors.New("cannot adopt: too many machines are being adopted; ask again in a minute")
	}
	return nil
}

// refused takes that an adoption did not go on: by code, the machine that a person means may
// be another one of that name.
func (a *Adoption) refused(o *offer, why error, now time.Time) {
	a.drop(o)
	by := o.order
	if by == nil {
		a.refuse(o.Question, why)
		return
	}
	if delete(by.open, o.key); len(by.open) > 0 {
		return
	}
	if errors.Is(why, protocol.ErrWrongCode) {
		wait := a.wrong.Wrong(by.user, now)
		a.event(topics.AdoptionRefused, by.name, "%s was not adopted: the code is wrong; the next one is taken in %v", by.what(), wait)
		why = fmt.Errorf("%w: `domain code` on %s shows it; the next one is taken in %v", why, by.where(), wait)
	} else {
		a.event(topics.AdoptionRefused, by.name, "%s was not adopted: %v", by.what(), why)
	}
	a.answer(by, nil, why)
}

// what names what an order is about.
func (o *order) what() string { return cmp.Or(o.name, "a machine") }

// where names the machine of an order, after "on".
func (o *order) where() string { return cmp.Or(o.name, "the machine") }

// failed takes that the hub itself cannot go on.
func (a *Adoption) failed(o *offer, why error) {
	a.drop(o)
	a.send(o.key, protocol.ToDomain{Error: why.Error()})
	a.event(topics.AdoptionRefused, o.Question.Name, "%s was not adopted: %v", o.Question.Name, why)
	if o.order != nil {
		a.answer(o.order, nil, why)
	}
}

// answer answers a request to adopt, once, and gives up what else it began.
func (a *Adoption) answer(by *order, data any, err error) {
	for i, other := range a.orders {
		if other == by {
			a.orders = append(a.orders[:i:i], a.orders[i+1:]...)
			a.out.Answers = append(a.out.Answers, Answer{To: by.to, Err: err, Data: data})
			break
		}
	}
	for _, o := range a.offers {
		if o.order == by && !o.Proved() {
			a.drop(o)
		}
	}
}
