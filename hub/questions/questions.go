// Package questions answers questions about a home that is not: plan with another
// configuration, without a domain, with one that drains or rebalanced, and rebalance itself.
// Such a question costs as much as its asker likes, so it is parsed and planned beside the
// hub's loop, on a copy of what the loop knows: one question at a time, and of those that
// wait the one whose asker was charged with the least time.
//
// It does no I/O and knows no other part of the hub. It is the one part with a goroutine,
// which works on a question and which Close ends. Package hub alone imports it, and calls it
// from its loop.
package questions

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jmbarzee/dominion/services"
	"github.com/jmbarzee/dominion/topics"
)

const (
	maxWaiting = 16 // of all askers
	maxOfAsker = 2  // of one asker

	// Timeout is the time from the question to the answer.
	Timeout = 10 * time.Second
)

// Question is one that waits, or is being answered.
type Question struct {
	// Verb is topics.VerbPlan or topics.VerbRebalance.
	Verb string
	Ask  topics.HubRequest
	// Asker is charged with it.
	Asker string
	// Reply is the answer without its payload.
	Reply topics.Message
	// Until is when an answer comes too late.
	Until time.Time
	// Next are the definitions that the question is about, where they are not read from
	// Ask; nil: there are none.
	Next map[string]services.Definition
	// Wrap makes the answer's data of the plan; nil: it is the plan.
	Wrap func(lines []topics.PlanLine) any
	// Publish sends the answer; nil: the caller of Step publishes it.
	Publish func(topics.Message)
}

// Answer is an answer that is to be published.
type Answer struct {
	Reply topics.Message
	// Publish sends it; nil: it is published.
	Publish func(topics.Message)
	// Moves are the domains that copies are to leave, by service; nil: nothing is ordered.
	Moves map[string][]string
}

// Options are what Questions are made of.
type Options struct {
	// Environ is what a configuration is read with, as os.Environ gives it.
	Environ []string
	// Machine returns the addresses of the hub's own machine; nil: they are unknown. It is
	// not called in the loop.
	Machine func() []string
	// Wake has the hub call Step. It is not called in the loop, and must not block.
	Wake func()
}

// Questions holds the questions. Make it with New. The loop owns it; the goroutine that works
// on a question has the options, the channels and done.
type Questions struct {
	options Options
	waiting []Question
	busy    bool
	// spent is the time that was spent on the questions of each asker, since none waited.
	spent   map[string]time.Duration
	homes   chan homeRequest
	answers chan worked
	// done is closed when the loop ends.
	done  chan struct{}
	ended sync.WaitGroup
}

// homeRequest asks the loop for the home of a question.
type homeRequest struct {
	ask topics.HubRequest
	// next are other definitions; nil: they stay as they are.
	next   map[string]services.Definition
	answer chan<- homeReply
}

type homeReply struct {
	home Home
	err  error
}

// worked is the answer to a question, and what it cost whom.
type worked struct {
	Answer
	asker string
	took  time.Duration
}

// New returns Questions of which none waits.
func New(o Options) *Questions {
	return &Questions{
		options: o, spent: make(map[string]time.Duration),
		homes: make(chan homeRequest, 1), answers: make(chan worked, 1), done: make(chan struct{}),
	}
}

// Put adds a question, or returns why it is not taken.
func (q *Questions) Put(one Question) error {
	of := 0
	for _, other := range q.waiting {
		if other.Asker == one.Asker {
			of++
		}
	}
	if of >= maxOfAsker {
		return fmt.Errorf("cannot plan: %d such questions of yours wait already; ask again when they are answered", of)
	}
	if len(q.waiting) >= maxWaiting {
		return errors.New("cannot plan: too many such questions wait; ask again in a few seconds")
	}
	q.waiting = append(q.waiting, one)
	return nil
}

// Take removes the question that is answered next and returns it; false: none waits. Of
// several questions of an asker it is the one that waits longest.
func (q *Questions) Take() (Question, bool) {
	if len(q.waiting) == 0 {
		return Question{}, false
	}
	at := 0
	for i, one := range q.waiting {
		if q.spent[one.Asker] < q.spent[q.waiting[at].Asker] {
			at = i
		}
	}
	one := q.waiting[at]
	q.waiting = slices.Delete(q.waiting, at, at+1)
	return one, true
}

// Step does what the questions need of the loop: it gives the goroutine a copy of the home,
// returns the answers, and begins the next question. home returns the home as a question has
// it, with other definitions where next is not nil.
func (q *Questions) Step(home func(ask topics.HubRequest, next map[string]services.Definition) (Home, error), now time.Time) (all []Answer) {
	select {
	case w := <-q.answers:
		q.busy = false
		q.spent[w.asker] += w.took
		all = append(all, w.Answer)
	case r := <-q.homes:
		one, err := home(r.ask, r.next)
		r.answer <- homeReply{one, err}
	default:
	}
	for !q.busy {
		one, some := q.Take()
		if !some {
			clear(q.spent)
			return all
		}
		if !now.Before(one.Until) {
			all = append(all, Answer{Reply: one.late(), Publish: one.Publish})
			continue
		}
		q.begin(one)
	}
	return all
}

// begin has the goroutine answer a question. It is a function of its own because the
// question would else be allocated in each Step, also where there is none.
func (q *Questions) begin(one Question) {
	q.busy = true
	q.ended.Go(func() { q.work(one) })
}

// Close ends the goroutine, and waits for it. Nothing may be called after it.
func (q *Questions) Close() {
	close(q.done)
	q.ended.Wait()
}

func (one Question) answer(r topics.Reply) topics.Message {
	m := one.Reply
	m.Payload = topics.Encode(r)
	return m
}

func (one Question) refuse(err error) topics.Message {
	return one.answer(topics.Refuse(one.Ask.Transaction, err))
}

func (one Question) late() topics.Message {
	return one.refuse(fmt.Errorf("cannot plan: it took longer than %v; ask again when the hub has less to do", Timeout))
}
