// Package supervisor keeps the services of one domain running: it starts them
// in their own process groups, watches them, starts them again, stops them
// with all they left behind, and takes over what the agent before it started.
//
// What to do is decided by a pure step per service (step.go, one table); the rest carries
// out its effects. It refuses to decide which services run: that is the start
// command's. Only package agent may import it.
//
// # Files
//
//	adopt.go                taking over processes of an earlier agent
//	boot_order.go           after a boot: dependencies on this machine start first
//	build.go                building a deployed service
//	cgroup_linux.go         control groups of instances
//	checks.go               health checks: HTTP, TCP, command; the answer's bound
//	conditions.go           the conditions in the table of step.go
//	data_dir_linux.go       making a service's data directory and giving it to its user; how long that may take
//	disk.go                 calls to a disk that may hang
//	effects.go              carrying out what step decided
//	expansion.go            values with $, and Makefiles that would expand them
//	guard_client_linux.go   the agent's connection to a guard
//	guard_process_linux.go  the guard process, which ends an exclusive service without a lease
//	guards.go               starting and replacing guards; stopping exclusive services
//	health_topics.go        health by an MQTT topic
//	instance.go             the state of an instance, its time-outs, times of checks and kills
//	lease_term.go           until when leases cover the exclusive services
//	notify.go               sd_notify: the socket and its messages
//	output.go               where the output of a service is
//	plan.go                 how an instance is started: program, arguments, environment, log files
//	ports.go                which port a service gets
//	processes_linux.go      which processes carry the mark of an instance
//	reason.go               the reason that is shown for an end, from the last output
//	records.go              what is on disk of each running instance; how much a day
//	report_limit.go         how often reports of one service are logged and sent
//	restart_delay.go        the delay before a restart; how many crashes make it failed
//	runner.go               what the supervisor needs of the system to run processes
//	runner_linux.go         starting, watching, reaping and signalling processes
//	secrets.go              values of secrets, opened for a start
//	service_user.go         the Unix user of a service, and what it may access
//	step.go                 the table: event and state to transition
//	strays_linux.go         processes that outlive their service, and how long they have to end
//	supervisor.go           start commands in, instances out; service.toml is read
//	transitions.go          what each transition does: start, stop, crash, failed
//	transitions_health.go   the same for readiness, health and watchdog
package supervisor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/jmbarzee/dominion/agent/foreign"
	"github.com/jmbarzee/dominion/agent/logs"
	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/internal/atomicfile"
	"github.com/jmbarzee/dominion/services"
	"github.com/jmbarzee/dominion/topics"
)

// Options are what a Supervisor needs of the agent.
type Options struct {
	// ServicesDir has a directory for each service.
	ServicesDir string
	// Directory returns the directory of a service that runs by a spec, and its version, where
	// that is a bundle; "": it is in ServicesDir, as without this function. An error is why it
	// is not there.
	Directory func(service string, spec topics.Spec) (dir, version string, err error)
	// Refuse returns why this domain refuses a spec; "", as without this function: it does not.
	Refuse func(service string, spec topics.Spec) string
	// Done reports whether a oneshot has ended well by a spec, so that it does not run again where
	// another one was taken back; nil: it is not known.
	Done func(service string, spec topics.Spec) bool
	// DataDir has what must survive the agent: ports, records, data of services.
	DataDir string
	// LogDir has <service>/stdout.log and stderr.log.
	LogDir string
	// RunAs is the user of the services; empty: DefaultUser where the agent is root,
	// else the agent's.
	RunAs string
	// AllowRoot are services that run as root where the agent is root.
	AllowRoot []string
	// Accept may be config.AcceptLocal: a start command then sets only declared
	// variables.
	Accept string
	// Domain is the id of this domain, the DOMAIN_UUID of its services.
	Domain string
	// Name is that of this domain, for <domain> in the topics of health checks.
	Name string

	// Environment gives the DOMINION_* and DOMAIN_* of a service at the moment
	// it starts; nil: none.
	Environment func(service string) map[string]string
	// OpenSecret opens a value that is sealed to this domain; nil: the domain has no key.
	OpenSecret func(service, name, sealed string) (string, error)
	// Address is where this domain's services are reached; nil: unknown.
	Address func() string
	// Version is of the service on this domain's disk; nil: unknown.
	Version func(service string) string
	// Post takes events from any goroutine, never blocks and loses none; the
	// loop hands each of them back by Handle.
	Post func(Event)
	// RequireTopics is called with the sorted topics that health checks need, when
	// these change. Their messages come by TopicMessage, and whether they are
	// subscribed to by TopicSubscribed. nil: topics are not subscribed to.
	RequireTopics func(topics []string)
	// Report publishes an event; nil: events are only logged.
	Report func(kind topics.EventType, service, message string)

	// Files reads what belongs to the services; nil: one of its own.
	Files *foreign.Files

	// Logs are for the last lines of what failed; nil: none are shown.
	Logs *logs.Dir
	// Runner starts processes; nil: a newRunner, which Close closes.
	Runner Runner
	// Guards are those of exclusive services; nil: real ones, or none if Runner is given.
	Guards Guards
	// Dial is how tcp and http checks reach a service; nil: the network.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	Log  *slog.Logger
}

// Event is something that happened to an instance. Only the Supervisor that
// posted it understands it.
type Event struct {
	service string
	// token is of the life that it happened to: events of a former one are void.
	token string
	event event
}

const (
	stoppedListed = time.Minute     // how long a stopped instance is still listed
	diskRetry     = 5 * time.Second // between tries of what could not be written
	quotedLines   = 5               // of a failed service, in its message
)

// Supervisor owns the instances of a domain. It is owned by one loop and not
// for concurrent use.
type Supervisor struct {
	o     Options
	users users
	// chowning is by service, while its data directory changes its owner.
	chowning  map[string]chan error
	ownRunner bool
	services  map[string]*service
	// held are the services that wait for their dependencies after a boot, by name.
	held  map[string]*held
	ports *ports
	lease leaseTerm

	// ctx and cancel are of health checks.
	ctx      context.Context
	cancel   context.CancelFunc
	checking sync.WaitGroup

	// healthTopics are the topics that health checks need, by name.
	healthTopics map[string]*healthTopic
	// topicsChanged reports that these may have changed.
	topicsChanged bool
	// budget bounds what is written of records and ports.
	budget *atomicfile.Budget
	// retryWriteAt is when what could not be written is due; zero: nothing is.
	retryWriteAt time.Time
	reports      reports
	// stale are services whose record could not be removed.
	stale map[string]bool
	// diskReported are problems of the disk that were reported.
	diskReported map[string]bool
}

// service is an instance with the resources of its present life.
type service struct {
	instance
	// commandSpec is as in the start command. Spec is completed by service.toml.
	commandSpec topics.Spec
	life        life
	// dirty reports that its record must be written.
	dirty bool
}

// New returns a Supervisor that has started nothing yet.
func New(o Options) (*Supervisor, error) {
	users := users{o.RunAs, o.AllowRoot}
	remark, err := users.check()
	if err != nil {
		return nil, err
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if remark != "" {
		o.Log.Info(remark)
	}
	if o.Environment == nil {
		o.Environment = func(string) map[string]string { return nil }
	}
	if o.Directory == nil {
		o.Directory = func(string, topics.Spec) (string, string, error) { return "", "", nil }
	}
	if o.Refuse == nil {
		o.Refuse = func(string, topics.Spec) string { return "" }
	}
	if o.Done == nil {
		o.Done = func(string, topics.Spec) bool { return false }
	}
	if o.Address == nil {
		o.Address = func() string { return "" }
	}
	if o.Version == nil {
		o.Version = func(string) string { return "" }
	}
	if o.Report == nil {
		o.Report = func(topics.EventType, string, string) {}
	}
	if o.RequireTopics == nil {
		o.RequireTopics = func([]string) {}
	}
	if o.Files == nil {
		o.Files = foreign.New()
	}
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext
	}
	for _, dir := range []*string{&o.ServicesDir, &o.DataDir, &o.LogDir} {
		if *dir, err = filepath.Abs(*dir); err != nil {
			return nil, fmt.Errorf("cannot supervise services: %w", err)
		}
	}
	s := &Supervisor{o: o, users: users, chowning: make(map[string]chan error), services: make(map[string]*service), diskReported: make(map[string]bool), stale: make(map[string]bool), healthTopics: make(map[string]*healthTopic), budget: atomicfile.NewBudget(recordsDaily)}
	if o.Runner == nil {
		if s.o.Runner, err = newRunner(o.Log, o.Domain); err != nil {
			return nil, err
		}
		s.ownRunner = true
		if o.Guards == nil {
			s.o.Guards = newGuards()
		}
	}
	if s.o.Guards == nil {
		s.o.Guards = noGuards{}
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.makeDirs()
	s.ports = loadPorts(filepath.Join(o.DataDir, "ports.json"), o.Log)
	return s, nil
}

// makeDirs makes the directories that all services share. An error is reported and
// not returned: services that do not need them run.
func (s *Supervisor) makeDirs() {
	err := errors.Join(
		os.MkdirAll(s.instancesDir(), 0o700),
		os.MkdirAll(s.notifyDir(), 0o711),
		os.MkdirAll(filepath.Join(s.o.DataDir, "data"), 0o711),
		os.MkdirAll(s.o.LogDir, 0o755),
		allowTraversal(s.o.DataDir),
	)
	s.reportDisk("directories", err)
}

func (s *Supervisor) instancesDir() string { return filepath.Join(s.o.DataDir, "instances") }
func (s *Supervisor) notifyDir() string    { return filepath.Join(s.o.DataDir, "notify") }

// Apply makes specs the whole set of services that should run. The environment
// of an instance is the one at its start; only another revision restarts it.
func (s *Supervisor) Apply(specs map[string]topics.Spec, now time.Time) {
	for _, name := range s.names() {
		v := s.services[name]
		if _, still := specs[name]; still {
			continue
		}
		if v.State == topics.Stopped {
			delete(s.services, name)
			continue
		}
		s.step(v, unwanted{}, now)
	}
	specs = s.withoutHeld(specs)
	s.updateTopics(specs, now) // first: what is started now may publish before this ends
	for _, name := range slices.Sorted(maps.Keys(specs)) {
		s.apply(name, specs[name], now)
	}
	s.topicsChanged = true
	s.afterStep(now)
}

// apply makes a service one that should run.
func (s *Supervisor) apply(name string, spec topics.Spec, now time.Time) {
	v := s.service(name)
	why := s.refusal(name, spec)
	if why == "" && v.State.Alive() && spec.Revision != v.commandSpec.Revision { // a running instance is not stopped for one that could not start
		why = s.cannotRestart(name, spec)
	}
	if why != "" {
		if !v.State.Alive() {
			v.commandSpec = spec
		}
		s.step(v, refused{spec, why}, now)
		return
	}
	if v.State.Alive() && !reflect.DeepEqual(v.commandSpec, spec) {
		v.dirty = true
	}
	v.commandSpec = spec
	s.step(v, wanted{s.complete(name, spec)}, now)
}

// complete returns a spec with the values of service.toml. A service.toml that
// cannot be read is ignored until the service is to start.
func (s *Supervisor) complete(name string, spec topics.Spec) topics.Spec {
	file, err := s.manifest(name, spec)
	if err != nil {
		return spec
	}
	full, _ := file.Complete(spec)
	return full
}

// manifest reads the service.toml of a service that runs by a spec, as the user that it runs as.
func (s *Supervisor) manifest(name string, spec topics.Spec) (config.Service, error) {
	own, err := s.users.of(name)
	if err != nil {
		return config.Service{}, err
	}
	dir, _, err := s.directory(name, spec)
	if err != nil {
		return config.Service{}, err
	}
	return ReadManifest(s.o.Files, dir, own.credential)
}

// directory returns the directory of a service that runs by a spec, and the version of its bundle;
// "": it runs from services_dir.
func (s *Supervisor) directory(name string, spec topics.Spec) (dir, version string, err error) {
	dir, version, err = s.o.Directory(name, spec)
	if dir == "" && err == nil {
		dir = filepath.Join(s.o.ServicesDir, name)
	}
	return dir, version, err
}

// Alive returns the specs of the services that have processes, as the start command has them.
func (s *Supervisor) Alive() map[string]topics.Spec {
	all := make(map[string]topics.Spec)
	for name, v := range s.services {
		if v.State.Alive() {
			all[name] = v.commandSpec
		}
	}
	return all
}

// StartTimeout returns within which time a service must be ready.
func (s *Supervisor) StartTimeout(name string) time.Duration {
	if v := s.services[name]; v != nil {
		return v.startTimeout()
	}
	return services.DefaultStartTimeout
}

// Bundles returns the bundles that processes run from.
func (s *Supervisor) Bundles() (all []*topics.Bundle) {
	for _, v := range s.services {
		if v.life.bundle != nil {
			all = append(all, v.life.bundle)
		}
	}
	return all
}

// ManifestFile is the optional description of a service in its directory.
const ManifestFile = "service.toml"

// maxManifest is far above any real one.
const maxManifest = 1 << 20

// ReadManifest reads the service.toml of a service's directory as a user; nil is
// the agent's own. One that is not there is the zero Service.
func ReadManifest(files *foreign.Files, dir string, user *syscall.Credential) (config.Service, error) {
	path := filepath.Join(dir, ManifestFile)
	b, err := files.Read(path, user, maxManifest)
	if errors.Is(err, fs.ErrNotExist) {
		return config.Service{}, nil
	}
	if err != nil {
		return config.Service{}, err
	}
	return config.ParseService(path, string(b))
}

// service returns the service of a name, a new one if there was none.
func (s *Supervisor) service(name string) *service {
	v := s.services[name]
	if v == nil {
		v = &service{instance: instance{Service: name, Health: topics.UnknownHealth}}
		v.Jitter.Seed(seed(name))
		s.services[name] = v
	}
	return v
}

// Handle handles an event that was posted.
func (s *Supervisor) Handle(e Event, now time.Time) {
	v := s.services[e.service]
	if v == nil || v.Run.Token != e.token || v.life.end == nil {
		return
	}
	s.refreshLeaseEnd(v, now)
	switch e.event.(type) {
	case notifyPending:
		e.event = v.life.notify.take()
	case guardLost:
		s.replaceGuard(v, now)
		s.afterStep(now)
		return
	}
	s.step(v, e.event, now)
	s.afterStep(now)
}

// Expire does what is due at now.
func (s *Supervisor) Expire(now time.Time) {
	for _, name := range s.names() {
		v := s.services[name]
		if v.State == topics.Stopped && now.Sub(v.Since) >= stoppedListed {
			delete(s.services, name)
			continue
		}
		s.refreshLeaseEnd(v, now)
		if due := v.due(); !due.IsZero() && !now.Before(due) {
			s.step(v, tick{}, now)
		}
	}
	s.afterStep(now)
}

// Next returns when Expire has something to do; zero: not before an event.
func (s *Supervisor) Next() time.Time {
	at := s.nextHeld(s.retryWriteAt)
	for _, v := range s.services {
		due := v.due()
		if v.State == topics.Stopped {
			due = v.Since.Add(stoppedListed)
		}
		if !due.IsZero() && (at.IsZero() || due.Before(at)) {
			at = due
		}
	}
	return at
}

// Restart stops a service and starts it again, also one in backoff or failed.
func (s *Supervisor) Restart(name string, now time.Time) error {
	if s.held[name] != nil { // who asks for it wants it now
		s.release(name, now)
		s.afterStep(now)
		return nil
	}
	v := s.services[name]
	if v == nil || !v.Wanted {
		return fmt.Errorf("cannot restart %s: it does not run here and should not", name)
	}
	if v.State.Alive() { // a running instance is not stopped for one that could not start
		if why := s.cannotRestart(name, v.commandSpec); why != "" {
			return fmt.Errorf("cannot restart %s: %s", name, why)
		}
	}
	s.step(v, restart{}, now)
	s.afterStep(now)
	return nil
}

// afterStep updates topics and writes records that the last steps changed.
func (s *Supervisor) afterStep(now time.Time) {
	s.releaseHeld(now)
	if s.topicsChanged {
		s.topicsChanged = false
		s.updateTopics(nil, now)
	}
	s.write(now)
}

// Instances lists what runs, should run, or stopped a short time ago, by
// service.
func (s *Supervisor) Instances() []topics.Instance {
	all := make([]topics.Instance, 0, len(s.services))
	for _, name := range s.names() {
		v := s.services[name]
		i := topics.Instance{
			Service: name, State: v.State, Health: v.Health, Version: v.Run.Version, Revision: v.Run.Revision,
			Restarts: v.Restarts, Since: topics.At(v.Since), ExitCode: v.ExitCode, Message: v.Message,
		}
		if v.State == topics.Backoff || v.State == topics.Failed {
			i.NextTry = topics.At(v.Retry)
		}
		if v.Refused != "" {
			i.Message = v.Refused
		}
		if v.State.Alive() {
			i.PID, i.Port = v.Run.PID, v.Run.Port
			if i.Port > 0 {
				i.Address = s.o.Address()
			}
		}
		all = append(all, i)
	}
	return s.addHeld(all)
}

// Groups returns the process group of each service that has one.
func (s *Supervisor) Groups() map[string]int {
	groups := make(map[string]int)
	for name, v := range s.services {
		if v.State.Alive() {
			groups[name] = v.Run.PID
		}
	}
	return groups
}

// StopAll makes the set of services that should run empty. Idle reports when
// nothing is left.
func (s *Supervisor) StopAll(now time.Time) { s.Apply(nil, now) }

// Idle reports whether no process of any service is left.
func (s *Supervisor) Idle() bool { return len(s.Groups()) == 0 }

// Close releases the services: their processes run on.
func (s *Supervisor) Close() {
	s.cancel()
	_ = s.writeAll(time.Now()) // the disk's refusal was reported
	for _, v := range s.services {
		v.life.close()
	}
	s.checking.Wait()
	s.o.Guards.Close()
	if s.ownRunner {
		s.o.Runner.Close()
	}
}

func (s *Supervisor) names() []string { return slices.Sorted(maps.Keys(s.services)) }
