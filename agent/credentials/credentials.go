// Package credentials gives the services of a domain keys and certificates, by which they
// connect to the dominion's broker as SERVICE.DOMAIN.
//
// It makes a key for each service on the domain's disk, before the service is started for
// the first time; the link asks the hub for certificates of them. What there is is stored in
// data_dir/identity/services.json, and given to each service as three files in a directory
// of its own, which only its user and root can enter. A service's user may write anything
// into that directory: it is never written into, but replaced as a whole, and read as
// that user.
//
// One goroutine, Run, owns keys and files. The loop of the agent and the link pass it what
// they know and never wait for it: a start of a service waits neither for a file nor for
// the hub. Only package agent imports it.
//
// # Files
//
//	credentials.go  what is wanted, what is due, what the hub answered
//	entry.go        the key and certificate of one service, as they are stored
//	files.go        the files of a service
package credentials

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/jmbarzee/dominion/agent/foreign"
	"github.com/jmbarzee/dominion/identity"
	"github.com/jmbarzee/dominion/internal/atomicfile"
	"github.com/jmbarzee/dominion/topics"
)

// Options are what Credentials work with.
type Options struct {
	DataDir string
	// Domain is the name of this domain.
	Domain string
	// Verifier returns what verifies the certificates of the dominion that has adopted the
	// domain; nil before an adoption.
	Verifier func() *identity.Verifier
	// CAFile has further authorities, which services trust; "": none.
	CAFile string
	// User returns whom a service runs as; nil is the agent's own user.
	User  func(service string) (*syscall.Credential, error)
	Files *foreign.Files
	// Report tells the owner of the home of a problem; nil: it is logged alone.
	Report func(problem string)
	Log    *slog.Logger
}

const (
	// checkDelay is how long after the start of a service its files are checked: they are
	// there, as a rule, and the start needs the processor.
	checkDelay = time.Second
	// firstRetry is the time after which a certificate is asked for again that the hub did
	// not issue. It doubles up to lastRetry.
	firstRetry = 10 * time.Second
	lastRetry  = time.Hour
	// longestWait bounds how long Run waits: the clock of a machine may be set meanwhile.
	longestWait = time.Hour
)

// Credentials are the keys and certificates of a domain's services. Make them with Open.
type Credentials struct {
	o Options
	// file is where they are stored, dir has a directory for each service.
	file, dir string
	// wake wakes Run; changed wakes who asks for certificates.
	wake, changed chan struct{}

	// Only Run uses these.
	entries map[string]*entry
	// unsaved reports that entries are not on disk.
	unsaved bool
	// reported is the last problem of each service, "" of the file.
	reported map[string]string

	// mu guards what follows. It is never held while a disk is waited for.
	mu sync.Mutex
	// wanted are the services that are to have a certificate; nil: none, as the hub issues
	// none or the connection is not encrypted.
	wanted []string
	// replace reports that keys which were revoked are replaced, afresh that the hub is asked
	// again for what it has refused.
	replace, afresh bool
	// renew reports that all certificates are asked for anew.
	renew bool
	// checks are when the files of services are checked.
	checks  map[string]time.Time
	answers []answer
	// questions are the public keys to ask for, by service.
	questions map[string][]byte
	// certified are the hashes of the keys that have a certificate, sorted.
	certified []string
}

// answer is what came of a question.
type answer struct {
	asked  map[string][]byte
	chains map[string][][]byte
	err    error
	at     time.Time
}

// Open reads the keys and certificates that there are. Keys that were revoked are replaced.
func Open(o Options) (*Credentials, error) {
	if o.Report == nil {
		o.Report = func(string) {}
	}
	data, err := filepath.Abs(o.DataDir)
	if err != nil {
		return nil, fmt.Errorf("cannot find the certificates of services: %w", err)
	}
	c := &Credentials{
		o: o, file: filepath.Join(data, identity.Directory, File), dir: filepath.Join(data, Directory),
		wake: make(chan struct{}, 1), changed: make(chan struct{}, 1),
		entries: make(map[string]*entry), reported: make(map[string]string), checks: make(map[string]time.Time),
		replace: true,
	}
	all, _, err := atomicfile.ReadJSON[map[string]stored](c.file, o.Log)
	if err != nil {
		return nil, err
	}
	for service, s := range all {
		e, err := s.entry()
		if err != nil || !topics.ValidName(service) {
			o.Log.Warn("the key of a service is made anew", "service", service, "file", c.file, "error", err)
			continue
		}
		c.entries[service] = e
		c.checks[service] = time.Time{}
	}
	c.noteCertified(slices.Collect(maps.Keys(c.entries)))
	return c, nil
}

// Want sets which services are to have a certificate; nil: none. afresh is set by a new
// connection to the hub: what it refused before is asked for again.
func (c *Credentials) Want(services []string, afresh bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !afresh && slices.Equal(services, c.wanted) {
		return
	}
	c.wanted, c.afresh = slices.Clone(services), c.afresh || afresh
	if services == nil {
		c.certified = nil
	}
	c.run()
}

// Check has the files of a service checked, which is being started.
func (c *Credentials) Check(service string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, checks := c.checks[service]; !checks {
		c.checks[service] = time.Now().Add(checkDelay)
		c.run()
	}
}

// TrustChanged takes that what the domain has pinned has changed; adopted, that a
// dominion has adopted it: keys that were revoked are replaced then.
func (c *Credentials) TrustChanged(adopted bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.replace = c.replace || adopted
	for _, service := range c.wanted {
		c.checks[service] = time.Now()
	}
	c.run()
}

// RenewNow has all certificates renewed: by the hub's clock they may have ended.
func (c *Credentials) RenewNow() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.renew = true
	c.run()
}

// run wakes Run.
func (c *Credentials) run() { signal(c.wake) }

func signal(to chan struct{}) {
	select {
	case to <- struct{}{}:
	default:
	}
}

// Changed holds a value when Keys may have changed.
func (c *Credentials) Changed() <-chan struct{} { return c.changed }

// Keys returns the public keys that certificates are to be asked for now, by service.
func (c *Credentials) Keys() map[string][]byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.questions
}

// maxCertified bounds Certified: a hub issues certificates to no more keys of a domain.
const maxCertified = 128

// Certified returns the hashes of the keys that have a certificate, of services that are to have one.
// It must not be changed.
func (c *Credentials) Certified() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.certified
}

// noteCertified sets what Certified returns, of services.
func (c *Credentials) noteCertified(services []string) {
	var all []string
	for _, service := range services {
		if e := c.entries[service]; e != nil && e.chain != nil && len(all) < maxCertified {
			all = append(all, e.hash)
		}
	}
	slices.Sort(all)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.certified = all
}

// Answered takes what the hub answered to a question, or why it did not.
func (c *Credentials) Answered(asked map[string][]byte, chains map[string][][]byte, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.questions = nil // until the answer was taken
	c.answers = append(c.answers, answer{asked, chains, err, time.Now()})
	c.run()
}

// Run makes keys, stores certificates and provides the files of services until ctx ends.
func (c *Credentials) Run(ctx context.Context) {
	c.sweep()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.wake:
		case <-timer.C:
		}
		wait := longestWait
		if next := c.step(time.Now()); !next.IsZero() {
			wait = min(wait, time.Until(next))
		}
		timer.Reset(wait)
	}
}

// step does what is due, and returns when the next is; zero: when it is woken.
func (c *Credentials) step(now time.Time) (next time.Time) {
	c.mu.Lock()
	wanted, answers, replace, afresh, renew := c.wanted, c.answers, c.replace, c.afresh, c.renew
	c.answers, c.afresh, c.renew = nil, false, false
	checks := make(map[string]bool)
	for service, at := range c.checks {
		if !now.Before(at) {
			checks[service] = true
			delete(c.checks, service)
		} else if next.IsZero() || at.Before(next) {
			next = at
		}
	}
	verifier := c.o.Verifier()
	if wanted != nil && verifier != nil {
		c.replace = false
	}
	c.mu.Unlock()

	sooner := func(t time.Time) {
		if !t.IsZero() && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	if verifier == nil {
		return next
	}
	for _, e := range c.entries {
		e.renew = e.renew || renew
	}
	for _, a := range answers {
		for service := range c.take(a, verifier) {
			checks[service] = true
		}
	}
	if wanted == nil {
		return next
	}
	c.makeKeys(wanted, replace, verifier)
	c.prune(wanted, now)
	c.save()
	c.noteCertified(wanted)
	for _, service := range wanted {
		if e := c.entries[service]; e != nil && e.chain != nil && (checks[service] || !e.provided) {
			sooner(c.provide(service, e, verifier, now))
		}
	}
	sooner(c.ask(wanted, verifier, afresh, now))
	if c.unsaved {
		sooner(now.Add(firstRetry))
	}
	return next
}

// take takes an answer of the hub, and returns the services that have another certificate.
func (c *Credentials) take(a answer, verifier *identity.Verifier) map[string]bool {
	if a.err != nil {
		c.o.Log.Warn("the hub issued no certificates to services, it is asked again", "error", a.err)
	}
	taken := make(map[string]bool)
	for _, service := range slices.Sorted(maps.Keys(a.asked)) {
		e := c.entries[service]
		if e == nil {
			continue
		}
		if a.err != nil {
			e.failed(a.at)
			continue
		}
		if err := e.take(a.chains[service], service+"."+c.o.Domain, verifier, a.at); err != nil {
			e.failed(a.at)
			c.report(service, fmt.Sprintf("the service %s has no new certificate, it is asked for again: %v", service, err))
			continue
		}
		c.report(service, "")
		taken[service], c.unsaved = true, true
		c.o.Log.Info("a service has a certificate", "service", service, "until", e.chain[0].NotAfter.Format(time.DateTime))
	}
	return taken
}

// makeKeys makes the keys of services that have none. replace is set where those that were revoked
// are replaced.
func (c *Credentials) makeKeys(wanted []string, replace bool, verifier *identity.Verifier) {
	for _, service := range wanted {
		e := c.entries[service]
		if e != nil && !(replace && verifier.Keys != nil && verifier.Keys.IsRevoked(e.hash)) {
			continue
		}
		e, err := newEntry()
		if err != nil {
			c.o.Log.Error("a service has no key", "service", service, "error", err)
			continue
		}
		c.entries[service], c.unsaved = e, true
	}
}

// prune drops the keys of services that are not on the disk any more, once their certificates
// have ended: services_dir may be mounted later.
func (c *Credentials) prune(wanted []string, now time.Time) {
	for service, e := range c.entries {
		if !slices.Contains(wanted, service) && (e.chain == nil || identity.Clock(now).After(e.chain[0].NotAfter)) {
			delete(c.entries, service)
			c.unsaved = true
			c.remove(service)
		}
	}
}

// save stores the keys and certificates, if they have changed.
func (c *Credentials) save() {
	if !c.unsaved {
		return
	}
	all := make(map[string]stored, len(c.entries))
	for service, e := range c.entries {
		s, err := e.stored()
		if err != nil {
			c.o.Log.Error("the key of a service is not stored", "service", service, "error", err)
			continue
		}
		all[service] = s
	}
	err := atomicfile.WriteJSON(c.file, all)
	c.unsaved = err != nil
	if err == nil {
		c.report("", "")
	} else {
		c.report("", fmt.Sprintf("cannot store the certificates of services, it is tried again: %v", err))
	}
}

// ask sets for what keys certificates are to be asked for, and returns when that changes by itself.
func (c *Credentials) ask(wanted []string, verifier *identity.Verifier, afresh bool, now time.Time) (next time.Time) {
	questions := make(map[string][]byte)
	var due time.Time
	for _, service := range wanted {
		e := c.entries[service]
		if e == nil {
			continue
		}
		if verifier.Keys != nil && verifier.Keys.IsRevoked(e.hash) {
			c.report(service, fmt.Sprintf("the key of the service %s was revoked: it gets another one when the agent is restarted", service))
			continue
		}
		if afresh {
			e.failures, e.retry = 0, time.Time{}
		}
		at := e.due(service+"."+c.o.Domain, verifier, now)
		if now.Before(at) {
			if due.IsZero() || at.Before(due) {
				due = at
			}
		} else if len(questions) < topics.MaxServiceKeys {
			questions[service] = e.public
		}
	}
	c.mu.Lock()
	if len(c.answers) > 0 { // one came meanwhile
		questions = nil
	}
	c.questions = questions
	c.mu.Unlock()
	if len(questions) > 0 {
		signal(c.changed)
	}
	return due
}

// report reports a problem of a service unless it is the last one; "": there is none.
func (c *Credentials) report(service, problem string) {
	if c.reported[service] == problem {
		return
	}
	c.reported[service] = problem
	if problem != "" {
		c.o.Log.Warn(problem)
		c.o.Report(problem)
	}
}
