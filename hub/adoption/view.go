package adoption

import (
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// viewInterval is the least time between two publications of who waits: strangers decide how
// often that changes.
const viewInterval = time.Second

// TouchView has the next PublishView return what others see, whatever it was before: the
// broker may not have it.
func (a *Adoption) TouchView() { a.viewChanged, a.viewAt = true, time.Time{} }

// PublishView returns what others see of adoptions, if that is to be published now.
func (a *Adoption) PublishView(now time.Time) (v topics.Adoption, due bool) {
	if !a.viewChanged || now.Before(a.viewAt) {
		return topics.Adoption{}, false
	}
	a.viewChanged, a.viewAt = false, now.Add(viewInterval)
	v = topics.Adoption{Window: a.JoinWindow(now), Waiting: []topics.WaitingMachine{}}
	for _, w := range a.waiting.List() {
		v.Waiting = append(v.Waiting, topics.WaitingMachine{
			Name: w.Question.Name, Address: w.Address, Model: w.Question.Model, Key: w.Question.Label(), Since: topics.At(w.Since),
		})
	}
	return v, true
}

// ViewNext returns when PublishView is to be called again; zero: nothing is to be published.
func (a *Adoption) ViewNext() time.Time {
	if !a.viewChanged {
		return time.Time{}
	}
	return a.viewAt
}

// JoinWindow returns whether domains are adopted without a code.
func (a *Adoption) JoinWindow(now time.Time) (v topics.JoinWindow) {
	v.Open = a.window.IsOpen(now)
	if until := a.window.Next(); v.Open && !a.window.Always && !until.IsZero() {
		v.Until, v.Left = topics.At(until), a.window.Left()
	}
	return v
}
