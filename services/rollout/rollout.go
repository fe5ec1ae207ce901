// Package rollout decides how a change of one service reaches its instances:
// a changed definition, or another version in a domain's catalog. One instance
// at a time; the next only when those that were changed are well; and back
// again when the change does not get well.
//
// It is pure, as the planner is: hub hands in what it observes, and what follows from the
// time (that an instance has been well for long enough, or is overdue), and carries out the
// decision. It reads no clock, logs nothing and has no state.
package rollout

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/jmbarzee/dominion/services"
	"github.com/jmbarzee/dominion/topics"
)

// Definition is the definition of its service under which an instance was ordered.
type Definition int

// The definitions.
const (
	None   Definition = iota // nothing of it is there yet
	Other                    // neither of the next two
	Stable                   // the last one that was rolled out
	Next                     // that of the configuration
)

// Input is what is known of one service.
type Input struct {
	// Same reports that the configuration's definition is the stable one: instances under
	// it are Next.
	Same bool
	// HasStable reports that a stable definition is known, so that there is a way back.
	// Without one this is the first of the service.
	HasStable bool
	// Refused is why Next is not to be tried again; "" when it is.
	Refused string
	// RefusedVersions holds the same for each refused version.
	RefusedVersions map[string]string
	// Manual has a new version wait until it is among Approved.
	Manual   bool
	Approved []string
	// Needs are the ranges of versions in which others need the service.
	Needs []Need
	// Instances are those of each domain that is to have one, in any order.
	Instances []Instance
}

// Need is a range of versions in which another service needs this one.
type Need struct {
	By string
	// Service is the one that is needed.
	Service string
	Version services.Range
}

// Instance is one instance, as it was ordered and as its agent reports it.
type Instance struct {
	Domain string
	// Online and Draining are states of the domain.
	Online, Draining bool
	// Runs is the definition under which it was ordered.
	Runs   Definition
	State  topics.State
	Health topics.Health
	// Version is the one that runs; "": unknown.
	Version string
	// Catalog is the version on the domain's disk; "": unknown.
	Catalog string
	// CatalogSettled reports that Catalog has not changed for SettleCatalog.
	CatalogSettled bool
	// RestartedFor is the version for which a rollout restarted it last.
	RestartedFor string

	// Applied reports that it runs under what was ordered.
	Applied bool
	// Changed reports that a rollout changed it, and that it is not Proved since.
	Changed bool
	// Proved reports that it has been well for long enough under what was ordered.
	Proved bool
	// Overdue reports that it is not well, and has had all the time that it may take.
	Overdue bool
	// Rejected reports that its domain does not run what was ordered, as that could not be built,
	// or that it went back by itself.
	Rejected bool
	// Unsuccessful reports that it runs once, was deployed, and has ended otherwise than with 0.
	Unsuccessful bool
	// Crashes is how often it crashed since it was ordered so.
	Crashes int
	// Excused reports that it was in trouble before it was changed: that it is now proves
	// nothing.
	Excused bool
}

// Output is what is to be done.
type Output struct {
	// Orders has one order for each instance, by domain.
	Orders []Order
	// Failure is what is to be refused from now on. The next Input, with that refused,
	// decides what follows.
	Failure *Failure
	// Done reports that Next is the stable definition now.
	Done bool
	// Active reports that a change has not reached all instances, or is still watched.
	Active bool
	// Back reports that the change is back to the stable definition, after Next was
	// refused.
	Back bool
	// Version is the version that is rolled out; "" when it is the definition.
	Version string
	// Updated and Total count the instances that are as they are to be, and all.
	Updated, Total int
	// Waits is what the rollout waits for; "": nothing.
	Waits string
	// Problem is what a person has to do something about; "": nothing.
	Problem string
}

// Order is what one instance is to run under.
type Order struct {
	Domain string
	// Runs is the definition; None: the one that it has.
	Runs Definition
	// Restart is the version of its catalog for which it is to be restarted; "": it is not.
	Restart string
	// Reason is why.
	Reason string
}

// Failure is a change after which an instance did not get well.
type Failure struct {
	// Version is the one that failed; "": the definition did.
	Version string
	Domain  string
	Why     string
}

// crashes is how many crashes of a changed instance are a failure.
const crashes = 3

// Decide returns what each instance is to run under now.
func Decide(in Input) Output {
	d := decision{Input: in, target: Next}
	d.Instances = slices.Clone(in.Instances)
	slices.SortFunc(d.Instances, func(a, b Instance) int { return cmp.Compare(a.Domain, b.Domain) })
	if in.Refused != "" && !in.Same {
		d.target = Stable
		if !in.HasStable {
			d.target = None
		}
	}
	d.changing = slices.ContainsFunc(d.Instances, func(i Instance) bool { return i.Changed || d.trial(&i) })
	if f := d.failure(); f != nil {
		return Output{Failure: f}
	}
	d.decide()
	return d.out
}

// decision is the state of one call of Decide.
type decision struct {
	Input
	// target is the definition to reach; None: all keep what they have.
	target Definition
	// changing reports that anything but the first definition of a service is rolled out.
	changing bool
	out      Output
	// held is why an instance is not restarted that would be.
	held string
}

// decide gives the instances their orders, and counts.
func (d *decision) decide() {
	out := &d.out
	out.Back = d.target == Stable
	out.Orders = make([]Order, len(d.Instances))
	var waiting []int // to be changed, and can be
	for n := range d.Instances {
		i, o := &d.Instances[n], &out.Orders[n]
		o.Domain = i.Domain
		if i.Runs == None {
			o.Runs, o.Reason = d.first()
			continue
		}
		if i.Draining || !d.outdated(i) {
			continue
		}
		switch {
		case d.breaks(i) != "":
			o.Reason = "it is not restarted: " + d.breaks(i)
			d.held = o.Reason
		case i.Online:
			waiting = append(waiting, n)
		default:
			out.Waits = "waits until " + i.Domain + " is back"
		}
	}
	blocked := d.count(len(waiting) > 0)
	if blocked != nil {
		out.Waits = "waits for " + blocked.Domain + ", which is " + blocked.standing()
	}
	d.change(waiting, blocked != nil)
	out.Done = d.target == Next && !d.Same && blocked == nil && d.proved() &&
		!slices.ContainsFunc(waiting, func(n int) bool { return d.wrong(&d.Instances[n]) })
	out.Active = len(waiting) > 0 || blocked != nil && d.changing
	out.Problem = d.problem()
}

// count counts, and returns the first instance that others have to wait for:
// one that has what it is to have, and is not proved. While others are to be
// changed that is every one that is not well, whatever the cause: they shall
// not be down together.
func (d *decision) count(others bool) (blocked *Instance) {
	for n := range d.Instances {
		i := &d.Instances[n]
		if i.Draining {
			continue
		}
		d.out.Total++
		switch {
		case i.Runs != None && d.outdated(i):
			continue
		case i.Runs == None, d.watched(i), others && i.Online && !i.well() && i.Trouble() == "":
			if blocked == nil {
				blocked = i
			}
			if i.Runs != None && d.changing {
				d.out.Orders[n].Reason = "it was changed and is " + i.standing()
			}
			if d.Same && i.Changed && d.out.Version == "" {
				d.out.Version = i.RestartedFor
			}
		case i.Trouble() == "":
			d.out.Updated++
		case i.Changed || d.trial(i):
			d.out.Orders[n].Reason = "it was changed and is in trouble: " + i.Trouble()
		}
	}
	return blocked
}

// change selects the instance that is changed next: those that are not well come first,
// since nothing is lost with them; then by name.
func (d *decision) change(waiting []int, blocked bool) {
	slices.SortStableFunc(waiting, func(a, b int) int {
		return rank(&d.Instances[a]) - rank(&d.Instances[b])
	})
	for k, n := range waiting {
		i, o := &d.Instances[n], &d.out.Orders[n]
		if d.out.Version == "" && !d.wrong(i) {
			d.out.Version = i.Catalog
		}
		switch {
		case d.target == Stable && d.wrong(i) && !i.well():
			d.changeNow(i, o) // what does not work is taken back at once
			if d.out.Waits == "" {
				d.out.Waits = "waits for " + i.Domain + ", which is given it now"
			}
		case k == 0 && !blocked:
			d.changeNow(i, o)
			d.out.Waits = "waits for " + i.Domain + ", which is given it now"
		default:
			o.Reason = "it is changed later; the rollout " + d.out.Waits
		}
	}
}

// changeNow orders the change of an instance.
func (d *decision) changeNow(i *Instance, o *Order) {
	switch {
	case d.wrong(i) && d.target == Stable:
		o.Runs, o.Reason = Stable, "it is given the definition before"
	case d.wrong(i):
		o.Runs, o.Reason = Next, "it is given the changed definition"
	default:
		o.Restart, o.Reason = i.Catalog, "it is restarted as "+i.Catalog
	}
}

func rank(i *Instance) int {
	if i.well() {
		return 1
	}
	return 0
}

// first returns what a new instance begins with: Next as soon as that got well somewhere, or
// where no other instance is left that could be worse for it.
func (d *decision) first() (Definition, string) {
	switch {
	case !d.HasStable || d.Same:
		return Next, ""
	case d.target == Stable:
		return Stable, "it begins with the definition before"
	case !d.proved() && slices.ContainsFunc(d.Instances, func(i Instance) bool {
		return i.Online && (i.Runs == Stable || i.Runs == Other)
	}):
		return Stable, "it begins with the definition before, until the changed one got healthy elsewhere"
	}
	return Next, ""
}

// wrong reports whether an instance was ordered under a definition that it is
// not to have.
func (d *decision) wrong(i *Instance) bool {
	return d.target != None && i.Runs != None && i.Runs != d.target && !(d.Same && i.Runs == Stable)
}

// stale reports whether an instance runs another version than its domain has,
// and that is to be changed. What has finished runs nothing, what stops starts
// as what is there, and what never started has no version.
func (d *decision) stale(i *Instance) bool {
	runs := i.State == topics.Running || i.State == topics.Starting || i.Version != "" && i.State.Listed() && i.State != topics.Stopping
	return runs && i.Runs != None && i.Catalog != "" && i.Catalog != i.Version && i.Catalog != i.RestartedFor && i.CatalogSettled &&
		d.RefusedVersions[i.Catalog] == "" && (!d.Manual || slices.Contains(d.Approved, i.Catalog))
}

// breaks returns which range of versions no instance would be in any more, were this one
// restarted: it would begin as what its domain has on its disk. It is "" where
// another instance that is well is in it, and where it is in none itself. One that
// has just crashed is in the range of what it ran: its agent starts it in no other.
func (d *decision) breaks(i *Instance) string {
	if i.Catalog == "" || i.Catalog == i.Version {
		return ""
	}
	for _, n := range d.Needs {
		if !n.Version.Contains(i.Version) || n.Version.Contains(i.Catalog) {
			continue
		}
		other := slices.ContainsFunc(d.Instances, func(o Instance) bool {
			return o.Domain != i.Domain && !o.Draining && o.well() && n.Version.Contains(o.Version)
		})
		if !other {
			return fmt.Sprintf("%s needs %s %s, %s has %s now, and no other copy is in that range", n.By, n.Service, n.Version, i.Domain, i.Catalog)
		}
	}
	return ""
}

func (d *decision) outdated(i *Instance) bool { return d.wrong(i) || d.stale(i) }

// watched reports whether an instance has what it is to have, and the next one
// has to wait for it. One that is in trouble is no longer waited for: failure decides what
// that means for the rollout.
func (d *decision) watched(i *Instance) bool {
	switch {
	case i.Proved || !i.Changed && !d.trial(i) && (d.HasStable || i.Runs != Next):
		return false
	case !i.Online:
		return !i.Overdue
	case i.Trouble() != "":
		return false
	}
	return true
}

// trial reports whether an instance runs under a definition that has yet to
// prove itself.
func (d *decision) trial(i *Instance) bool {
	return !d.Same && d.HasStable && i.Runs == Next && d.target == Next
}

// proved reports whether Next got well anywhere.
func (d *decision) proved() bool {
	return slices.ContainsFunc(d.Instances, func(i Instance) bool { return i.Runs == Next && i.Proved })
}

// failure finds a changed instance that did not get well, and reports whether
// that is the definition's fault or the version's.
func (d *decision) failure() *Failure {
	for n := range d.Instances {
		i := &d.Instances[n]
		if i.Draining || i.Excused || i.Runs == None {
			continue
		}
		why := i.Trouble()
		if why == "" && !i.Online && i.Overdue && (i.Changed || d.trial(i)) && !d.proved() {
			why = "its domain went away meanwhile"
		}
		if why == "" {
			continue
		}
		if d.target == Next && i.Runs == Next && !d.Same && (i.Changed || d.trial(i)) {
			return &Failure{Domain: i.Domain, Why: why}
		}
		if d.blames(i) {
			return &Failure{Version: i.Version, Domain: i.Domain, Why: why}
		}
	}
	return nil
}

// blames reports whether the version of an instance in trouble is one that is
// being rolled out: it was restarted for it, or others are to be.
func (d *decision) blames(i *Instance) bool {
	definition := d.wrong(i) || d.target == None && i.Runs == Next // that was blamed already
	if definition || i.Version == "" || d.RefusedVersions[i.Version] != "" {
		return false
	}
	wanted, proved := i.Changed && i.RestartedFor == i.Version, false
	for n := range d.Instances {
		other := &d.Instances[n]
		wanted = wanted || other.Catalog == i.Version && d.stale(other)
		proved = proved || other.Version == i.Version && other.Proved
	}
	return wanted && (i.Changed || !proved)
}

// problem describes what was refused.
func (d *decision) problem() string {
	var all []string
	if d.Refused != "" && !d.Same {
		what := "it goes no further, and none before it is known,"
		if d.HasStable {
			what = "the one before is in force"
		}
		all = append(all, "the changed definition did not get healthy: "+d.Refused+"; "+what+" until it is changed again or `update` says so")
	}
	for _, version := range slices.Sorted(keys(d.RefusedVersions)) {
		if slices.ContainsFunc(d.Instances, func(i Instance) bool { return i.Version == version || i.Catalog == version }) {
			all = append(all, fmt.Sprintf("version %s did not get healthy: %s; it goes no further until `update` says so or another version is there; files are not taken back by the dominion", version, d.RefusedVersions[version]))
		}
	}
	if d.held != "" {
		all = append(all, "the new version waits: "+strings.TrimPrefix(d.held, "it is not restarted: ")+"; change that range, or have a version in it on another domain")
	}
	return strings.Join(all, "; ")
}

func keys[V any](m map[string]V) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// well reports whether an instance does what it is for.
func (i *Instance) well() bool {
	return i.Online && (i.State == topics.Running && i.Health == topics.Healthy || i.State == topics.Finished && !i.Unsuccessful)
}

// Trouble returns what is wrong with an instance under what was ordered, beyond that it needs
// time; "": nothing. The first case that fits decides.
func (i *Instance) Trouble() string {
	switch {
	case !i.Online:
		return ""
	case i.Rejected:
		return "its domain went back by itself"
	case i.Overdue && !i.Applied:
		return "it was not restarted in time"
	case !i.Applied:
		return ""
	case i.State == topics.Failed:
		return "it failed"
	case i.Unsuccessful:
		return "it ended without success"
	case i.State == topics.Running && i.Health == topics.Unhealthy:
		return "it is unhealthy"
	case i.Crashes >= crashes && !i.well():
		return fmt.Sprintf("it crashed %d times", i.Crashes)
	case i.Overdue:
		return "it was not healthy in time"
	}
	return ""
}

// standing describes the state of an instance.
func (i *Instance) standing() string {
	switch {
	case !i.Online:
		return "not online"
	case !i.Applied:
		return "given it now"
	case i.well():
		return "healthy and watched for a moment"
	case i.State == topics.Running:
		return string(cmp.Or(i.Health, topics.UnknownHealth))
	case i.State == "":
		return "given it now"
	}
	return string(i.State)
}
