// Package autoscale decides how many instances of a service there should be,
// by a figure: what its instances use of the processor or of memory, or a number that is
// published at a topic. It is pure: Step takes what is known and the time as values and
// returns the number with a reason. It reads no clock, no topic and no file; time is how
// long the hub has run, so that a clock that is set changes nothing.
//
// hub/scaling calls it when a figure came and when Outcome.Next is due. It imports services
// and topics alone.
package autoscale

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jmbarzee/dominion/services"
	"github.com/jmbarzee/dominion/topics"
)

// Interval is the time between two metrics of a domain.
const Interval = topics.MetricsInterval

// Stale is the age from which metrics do not describe the present: two are missing.
const Stale = 5 * Interval / 2

// band is the hysteresis: by how much the figure may differ from what the instances take
// before their number changes. More than n are started above 1+band of what n take, and n
// are left below 1-band of it, so that noise of up to band moves nothing to and fro.
const band = 0.1

// maxLoad is far beyond the instances of a home.
const maxLoad = 1e6

// Figure is what is known of a service's figure when Step is called.
type Figure struct {
	// Instances are, for cpu and memory, those that run.
	Instances []Instance
	// Sample is, for a topic, its last message.
	Sample Sample
	// Unavailable says why nothing can be known now; "": it can.
	Unavailable string
}

// Instance is what a domain reported of an instance that runs there.
type Instance struct {
	Domain   string
	Reported bool
	// Age is the time since the report.
	Age time.Duration
	// Ran is how long the instance had run then.
	Ran time.Duration
	// Value is in cores or bytes.
	Value float64
}

// Sample is the number that was last published at a topic.
type Sample struct {
	Known bool
	Value float64
	// Age is the time since it was published.
	Age time.Duration
	// Fault says why it is not known; "": nothing was published yet.
	Fault string
}

// State is what has to be kept between two steps. The zero State is of a service of which
// no number was decided.
type State struct {
	// Number is the number of instances; 0: none was decided.
	Number int
	// Changed is when Number changed last, where Moved.
	Changed time.Duration
	// Moved reports that Number has changed since the beginning.
	Moved bool
	// Why is the reason of Number.
	Why string
	// Held reports that Why names a figure that is not known, or only in part.
	Held bool
	Low  Low
}

// Low is the time in which the figure has called for fewer instances without a break.
type Low struct {
	Since time.Duration
	// Most is the highest number that it called for; 0: it does not call for fewer.
	Most int
}

// Outcome is what a step decided.
type Outcome struct {
	Number int
	// Reason changes with Number, or when the figure becomes known or unknown.
	Reason string
	// Now is what the figure says at this moment, and what follows from it.
	Now string
	// Next is when to step again without news; 0: never.
	Next time.Duration
}

// Begin returns the state of a service of which so many instances run already. It begins
// with these, so that a restart of the hub stops nothing.
func Begin(c services.Scale, running int) State {
	n := min(max(running, c.Min), c.Max)
	why := fmt.Sprintf("%d for a start", n)
	if n == running {
		why = fmt.Sprintf("%d, as many as ran", n)
	}
	return State{Number: n, Why: why, Held: true}
}

// Step decides the number of instances. now is the time that the hub has run; it must not
// decrease.
func Step(c services.Scale, s State, f Figure, now time.Duration) (State, Outcome) {
	if s.Number == 0 {
		s = Begin(c, 0)
	}
	if n := min(max(s.Number, c.Min), c.Max); n != s.Number { // min or max is another one now
		s.move(n, now, fmt.Sprintf("scaled to %d: at least %d and at most %d are asked for", n, c.Min, c.Max))
	}
	r := read(c, f)
	if r.missing != "" {
		s.Low = Low{}
		s.Why, s.Held = fmt.Sprintf("stays at %d: %s", s.Number, r.missing), true
		return s, Outcome{s.Number, s.Why, s.Why, r.next(now)}
	}
	if s.Held { // and as long as a part of it is missing: what was known first is soon wrong
		s.Why, s.Held = fmt.Sprintf("stays at %d: %s", s.Number, r.text), r.partial != ""
	}
	up, down := r.bounds(s.Number)
	up, down = min(up, c.Max), max(down, c.Min)
	free := s.Changed + c.Cooldown // when the next change may be
	if !s.Moved {
		free = now
	}
	o := Outcome{Next: r.next(now)}
	switch {
	case up > s.Number && now < free:
		s.Low = Low{}
		o.Now = fmt.Sprintf("%s, which calls for %d: the next change is possible in %s", r.text, up, span(free-now))
		o.due(free)
	case up > s.Number:
		n, why := up, ""
		if n > 2*s.Number { // one wrong figure shall not fill the home
			n, why = 2*s.Number, fmt.Sprintf("; at most double at once, it calls for %d", up)
			o.due(now + c.Cooldown)
		}
		s.move(n, now, fmt.Sprintf("scaled to %d: %s%s%s", n, r.text, why, atMost(c, n, r)))
		o.Now = s.Why
	case down < s.Number && r.partial != "":
		s.Low = Low{}
		o.Now = fmt.Sprintf("%s, which calls for %d: not fewer while %s", r.text, down, r.partial)
	case down < s.Number:
		if s.Low.Most == 0 {
			s.Low.Since = now
		}
		s.Low.Most = max(s.Low.Most, down)
		if at := max(s.Low.Since+patience(c), free); now < at {
			o.Now = fmt.Sprintf("%s, which calls for %d: fewer in %s if it stays so", r.text, down, span(at-now))
			o.due(at)
			break
		}
		why := fmt.Sprintf("scaled to %d: %s", s.Low.Most, r.text)
		if s.Low.Most > down {
			why += fmt.Sprintf("; it called for %d within the last %s", s.Low.Most, span(patience(c)))
		}
		s.move(s.Low.Most, now, why)
		o.Now = s.Why
		if _, down := r.bounds(s.Number); max(down, c.Min) < s.Number { // it called for more in between
			s.Low = Low{now, max(down, c.Min)}
			o.due(now + patience(c))
		}
	default:
		s.Low = Low{}
		o.Now = fmt.Sprintf("%s: %s right%s%s", r.text, are(s.Number), atMost(c, s.Number, r), thresholds(c, s.Number))
	}
	o.Number, o.Reason = s.Number, s.Why
	return s, o
}

// patience returns for how long a figure has to call for fewer instances. What they use is
// reported each Interval, and a report around a change is of the time before: two intervals
// hold one report that is wholly of the time after it.
func patience(c services.Scale) time.Duration {
	if c.Topic() == "" {
		return max(c.Cooldown, 2*Interval)
	}
	return c.Cooldown
}

func (s *State) move(n int, now time.Duration, why string) {
	s.Number, s.Changed, s.Moved, s.Why, s.Held, s.Low = n, now, true, why, false, Low{}
}

func (o *Outcome) due(at time.Duration) {
	if o.Next == 0 || at < o.Next {
		o.Next = at
	}
}

// reading is a figure as it counts.
type reading struct {
	// missing says why there is none; "": there is one.
	missing string
	// partial says why it may be more than that; "": it is all.
	partial string
	// load is for how many instances it is work.
	load float64
	text string
	// stale is in how long a part of it is too old; 0: never.
	stale time.Duration
}

func (r reading) next(now time.Duration) time.Duration {
	if r.stale == 0 {
		return 0
	}
	return now + r.stale
}

// bounds returns the number for more instances and the one for fewer: above n or below it
// where the figure calls for that, else n.
func (r reading) bounds(n int) (up, down int) {
	up, down = n, n
	if r.load > capacity(n) {
		up = int(math.Ceil(r.load))
	}
	if m := int(math.Ceil(r.load / (1 - band))); m < n {
		down = m
	}
	return up, down
}

// capacity returns the work that n instances are left with. What rounding adds to a figure
// that is exactly that does not count.
func capacity(n int) float64 { return float64(n)*(1+band) + 1e-9 }

// thresholds describes at which figures n instances become more or fewer. They are
// those that bounds compares with.
func thresholds(c services.Scale, n int) string {
	var all []string
	if n < c.Max {
		all = append(all, "more above "+amount(c, float64(n)*(1+band)*c.Target))
	}
	if n > c.Min {
		all = append(all, "fewer at "+amount(c, float64(n-1)*(1-band)*c.Target)+" or less")
	}
	if len(all) == 0 {
		return ""
	}
	return "; " + strings.Join(all, ", ")
}

// atMost says that the figure calls for more than there may be.
func atMost(c services.Scale, n int, r reading) string {
	if n == c.Max && r.load > capacity(n) {
		return fmt.Sprintf("; it calls for %d, but max is %d", int(math.Ceil(r.load)), c.Max)
	}
	return ""
}

func read(c services.Scale, f Figure) reading {
	switch {
	case f.Unavailable != "":
		return reading{missing: f.Unavailable}
	case c.Topic() != "":
		return readTopic(c, f.Sample)
	default:
		return readInstances(c, f.Instances)
	}
}

// readTopic returns the load by the last number that was published at the topic. There is
// none as long as nothing valid was published, and when the last one is too old.
func readTopic(c services.Scale, last Sample) reading {
	switch {
	case !last.Known && last.Fault != "":
		return reading{missing: last.Fault}
	case !last.Known:
		return reading{missing: "nothing was published at " + c.Topic() + " yet"}
	case math.IsNaN(last.Value) || math.IsInf(last.Value, 0):
		return reading{missing: "what " + c.Topic() + " says is not a finite number"}
	case c.MaxAge > 0 && last.Age >= c.MaxAge: // its publisher may have failed
		return reading{missing: fmt.Sprintf("%s has said nothing for %s, and %s before that", c.Topic(), duration(c.MaxAge), number(last.Value))}
	}
	r := reading{
		load: load(last.Value, c.Target),
		text: fmt.Sprintf("%s says %s, one takes %s", c.Topic(), number(last.Value), number(c.Target)),
	}
	if c.MaxAge > 0 {
		r.stale = c.MaxAge - last.Age
	}
	return r
}

// readInstances adds up what is known of each instance: the work of all has to be shared,
// by however many. Where something is not known, the sum may be too small: it can call for
// more instances, not for fewer.
func readInstances(c services.Scale, all []Instance) reading {
	if len(all) == 0 {
		return reading{missing: "no instance runs that would use anything"}
	}
	var r reading
	var sum float64
	var counted int
	var silent []string
	for _, i := range all {
		fresh := i.Reported && i.Age < Stale && i.Value >= 0 && !math.IsInf(i.Value, 0)
		// The first metrics of an instance are of its start, or of the one before it.
		if !fresh || i.Ran < Interval-time.Second {
			silent = append(silent, i.Domain)
			continue
		}
		counted++
		sum += i.Value
		if left := Stale - i.Age; r.stale == 0 || left < r.stale {
			r.stale = left
		}
	}
	if len(silent) > 0 {
		slices.Sort(silent)
		const named = 3
		if len(silent) > named {
			silent = append(silent[:named], fmt.Sprintf("%d more", len(silent)-named))
		}
		r.partial = "it is not known what it uses on " + strings.Join(silent, ", ")
	}
	if counted == 0 {
		return reading{missing: r.partial}
	}
	r.load = load(sum, c.Target)
	r.text = fmt.Sprintf("of %d instances %d %s %s, one takes %s", len(all), counted, verb(counted), amount(c, sum), amount(c, c.Target))
	if counted == len(all) {
		r.text = fmt.Sprintf("%s %s %s, one takes %s", plural(counted, "instance"), verb(counted), amount(c, sum), amount(c, c.Target))
	}
	return r
}

// load returns for how many instances a value is work.
func load(value, target float64) float64 {
	return min(max(value, 0)/target, maxLoad)
}

func amount(c services.Scale, v float64) string {
	switch c.Metric {
	case services.ScaleByMemory:
		return strconv.FormatFloat(math.Round(v/1e5)/10, 'f', -1, 64) + " MB"
	case services.ScaleByCPU:
		return number(v) + " cores"
	}
	return number(v)
}

func number(v float64) string {
	if math.Abs(v) >= 1e15 {
		return strconv.FormatFloat(v, 'g', 3, 64)
	}
	return strconv.FormatFloat(math.Round(v*1000)/1000, 'f', -1, 64)
}

// span writes a time to wait in whole seconds, at least one.
func span(d time.Duration) string {
	return max(d.Round(time.Second), time.Second).String()
}

// duration writes a time as a person does: 1h, not 1h0m0s.
func duration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

func plural(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

func are(n int) string {
	if n == 1 {
		return "1 is"
	}
	return fmt.Sprintf("%d are", n)
}

func verb(n int) string {
	if n == 1 {
		return "uses"
	}
	return "use"
}
