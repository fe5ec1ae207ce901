package hub

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jmbarzee/dominion/services"
	"github.com/jmbarzee/dominion/services/planner"
	"github.com/jmbarzee/dominion/topics"
)

// A question about a home that is not (plan with config, without, drain or rebalance; and rebalance itself) costs as
// much as its asker likes: it is parsed and planned beside the loop, on a copy
// of what the loop knows.
const (
	maxQuestions = 16               // that wait, of all askers
	maxOfAsker   = 2                // that wait, of one asker
	questionTime = 10 * time.Second // from the asking to the answer
)

// question is one that waits, or is being answered.
type question struct {
	verb  string // topics.VerbPlan or topics.VerbRebalance
	ask   topics.Ask
	asker string // who is charged with it
	reply topics.Message
	until time.Time
}

// questions answers one question at a time. The loop owns it; the one goroutine
// that works on a question has the channels, and done.
type questions struct {
	waiting []question
	busy    bool
	spent   map[string]time.Duration // by asker, since nobody waited
	asks    chan supposition
	answers chan answered
	done    chan struct{} // closed when the loop ends
	ended   sync.WaitGroup
}

// supposition asks the loop for the home of a question.
type supposition struct {
	ask    topics.Ask
	next   map[string]services.Definition // nil: as they are
	answer chan<- supposed
}

type supposed struct {
	one hypothesis
	err error
}

// answered is the answer to a question.
type answered struct {
	asker string
	reply topics.Message
	took  time.Duration
	moves map[string][]string // what is to leave where, by service; nil: nothing is ordered
}

// wake is an event that makes the loop look at what is beside it.
type wake struct{}

func newQuestions() questions {
	return questions{
		spent: make(map[string]time.Duration),
		asks:  make(chan supposition, 1), answers: make(chan answered, 1), done: make(chan struct{}),
	}
}

// asker names who is charged with a message: the user, or the client where
// there is none.
func asker(m topics.Message) string {
	if m.User != "" {
		return "user " + m.User
	}
	return "client " + m.Client
}

// put adds a question, or returns why it is not taken.
func (q *questions) put(one question) error {
	of := 0
	for _, other := range q.waiting {
		if other.asker == one.asker {
			of++
		}
	}
	switch {
	case of >= maxOfAsker:
		return fmt.Errorf("cannot plan: %d such questions of yours wait already; ask again when they are answered", of)
	case len(q.waiting) >= maxQuestions:
		return errors.New("cannot plan: too many such questions wait; ask again in a few seconds")
	}
	q.waiting = append(q.waiting, one)
	return nil
}

// next takes the question whose asker was charged with the least; of several
// the one that waits longest.
func (q *questions) next() (question, bool) {
	if len(q.waiting) == 0 {
		return question{}, false
	}
	at := 0
	for i, one := range q.waiting {
		if q.spent[one.asker] < q.spent[q.waiting[at].asker] {
			at = i
		}
	}
	one := q.waiting[at]
	q.waiting = slices.Delete(q.waiting, at, at+1)
	return one, true
}

// answerQuestions does what the questions need of the loop: it publishes an
// answer, copies the home, begins the next question.
func (h *Hub) answerQuestions(now time.Time) {
	q := &h.questions
	select {
	case a := <-q.answers:
		q.busy = false
		q.spent[a.asker] += a.took
		h.orderMoves(a.moves, now)
		h.pub.Publish(a.reply)
	case s := <-q.asks:
		one, err := h.suppose(s.ask, s.next)
		s.answer <- supposed{one, err}
	default:
	}
	for !q.busy {
		one, some := q.next()
		if !some {
			clear(q.spent)
			return
		}
		if !now.Before(one.until) {
			h.pub.Publish(late(one))
			continue
		}
		h.startWork(one)
	}
}

// startWork answers a question on a goroutine of its own.
func (h *Hub) startWork(one question) {
	h.questions.busy = true
	h.questions.ended.Go(func() { h.work(one) })
}

// endQuestions ends what is beside the loop, and waits for it.
func (h *Hub) endQuestions() {
	close(h.questions.done)
	h.questions.ended.Wait()
}

// work answers a question, on a goroutine of its own: it uses nothing of the
// hub but what never changes.
func (h *Hub) work(one question) {
	began := time.Now()
	reply, moves := h.workOut(one)
	h.questions.answers <- answered{one.asker, reply, time.Since(began), moves}
	h.box.Put(wake{})
}

// workOut returns the answer, and of an order to rebalance the copies that are to
// move.
func (h *Hub) workOut(one question) (topics.Message, map[string][]string) {
	next, err := definitions(one.ask, h.environ)
	if err != nil {
		return one.refuse(err), nil
	}
	answer := make(chan supposed, 1)
	h.questions.asks <- supposition{one.ask, next, answer}
	h.box.Put(wake{})
	var home supposed
	select {
	case home = <-answer:
	case <-h.questions.done:
		return late(one), nil
	}
	if home.err != nil {
		return one.refuse(home.err), nil
	}
	stop := func() bool {
		select {
		case <-h.questions.done:
			return true
		default:
			return !time.Now().Before(one.until)
		}
	}
	if one.verb == topics.VerbRebalance {
		moves, ok := planner.Rebalance(home.one.in, stop)
		if !ok {
			return late(one), nil
		}
		return one.answer(topics.Accept(one.ask.Transaction, nil)), moves
	}
	lines, ok := home.one.plan(stop)
	if !ok {
		return late(one), nil
	}
	if one.ask.Without != "" && h.machine != nil && hostsHub(home.one.addresses, h.machine()) {
		lines = slices.Insert(lines, 0, hubGoesDown(one.ask.Without))
	}
	return one.answer(topics.Accept(one.ask.Transaction, lines)), nil
}

func (one question) answer(r topics.Reply) topics.Message {
	m := one.reply
	m.Payload = topics.Encode(r)
	return m
}

func (one question) refuse(err error) topics.Message {
	return one.answer(topics.Refuse(one.ask.Transaction, err))
}

func late(one question) topics.Message {
	return one.refuse(fmt.Errorf("cannot plan: it took longer than %v; ask again when the hub has less to do", questionTime))
}
