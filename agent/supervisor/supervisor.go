// Package supervisor keeps the services of one domain running: it starts them
// in their own process groups, watches them, starts them again, stops them
// with all they left behind, and takes over what the agent before it started.
//
// What to do is decided by a pure step per service (step.go); the rest carries
// out its effects. It refuses to decide which services run: that is the start
// command's. Only package agent may import it.
package supervisor

import (
	"log/slog"
	"time"

	"github.com/jmbarzee/dominion/agent/logs"
	"github.com/jmbarzee/dominion/topics"
)

// Options is what a Supervisor needs of the agent around it.
type Options struct {
	ServicesDir string // holds a directory a service
	DataDir     string // what must survive the agent: ports, records of instances, data of services
	LogDir      string // <LogDir>/<service>/stdout.log and stderr.log
	RunAs       string // user of the services; empty: the agent's

	// Environment gives the DOMINION_* and DOMAIN_* of a service at the moment
	// it starts; nil: none.
	Environment func(service string) map[string]string
	// Address is where this domain's services are reached; nil: unknown.
	Address func() string
	// Version is of the service on this domain's disk; nil: unknown.
	Version func(service string) string
	// Post takes events from any goroutine and never blocks; the loop hands
	// each of them back by Handle.
	Post func(Event)
	// Report tells people what happened; nil: nobody listens.
	Report func(kind topics.EventType, service, message string)

	Logs   *logs.Dir // for the last lines of what failed; nil: none are shown
	Runner Runner    // nil: real processes
	Log    *slog.Logger
}

// Event is something that happened to an instance. Only the Supervisor that
// posted it understands it.
type Event struct {
	service string
}

// Runner starts and signals processes. The real one is NewRunner's.
type Runner interface{}

// Supervisor owns the instances of a domain. It is owned by one loop and not
// for concurrent use.
type Supervisor struct {
	o Options
}

// New returns a Supervisor that has started nothing yet.
func New(o Options) (*Supervisor, error) { return &Supervisor{o: o}, nil }

// Adopt takes over what the agent before this one left running. It is called
// once, before anything else.
func (s *Supervisor) Adopt(now time.Time) {}

// Apply makes specs the whole set of services that should run. The environment
// of an instance is the one at its start; only another revision restarts it.
func (s *Supervisor) Apply(specs map[string]topics.Spec, now time.Time) {}

// Handle takes an event that was posted.
func (s *Supervisor) Handle(e Event, now time.Time) {}

// Tick does what is due at now.
func (s *Supervisor) Tick(now time.Time) {}

// Next tells when Tick is to be called next; false: not before something
// happens.
func (s *Supervisor) Next() (time.Time, bool) { return time.Time{}, false }

// Restart stops a service and starts it again, also one that waits or gave up.
func (s *Supervisor) Restart(service string, now time.Time) error { return nil }

// Instances lists what runs, should run, or stopped a short time ago, by
// service.
func (s *Supervisor) Instances() []topics.Instance { return nil }

// Groups returns the process group of each service that has one.
func (s *Supervisor) Groups() map[string]int { return nil }

// StopAll makes the set of services that should run empty. Idle tells when
// nothing is left.
func (s *Supervisor) StopAll(now time.Time) {}

// Idle tells whether no process of any service is left.
func (s *Supervisor) Idle() bool { return true }

// Close lets go of the services: they live on.
func (s *Supervisor) Close() {}
