package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/jmbarzee/dominion/agent/credentials"
	"github.com/jmbarzee/dominion/agent/facts"
	"github.com/jmbarzee/dominion/agent/isolation"
	"github.com/jmbarzee/dominion/agent/link"
	"github.com/jmbarzee/dominion/agent/logs"
	"github.com/jmbarzee/dominion/agent/orders"
	"github.com/jmbarzee/dominion/agent/report"
	"github.com/jmbarzee/dominion/agent/signatures"
	"github.com/jmbarzee/dominion/agent/supervisor"
	"github.com/jmbarzee/dominion/agent/traits"
	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/identity"
	"github.com/jmbarzee/dominion/topics"
)

// run is Run without the bound on the time that a disk takes: it makes the parts
// of the agent, connects them, runs the loop and ends them in the reverse order.
func (a *Agent) run(ctx context.Context, h *report.Heartbeats) error {
	c := a.o.Config
	err := os.MkdirAll(c.DataDir, 0o755)
	if errors.Is(err, syscall.EROFS) {
		return fmt.Errorf("cannot make data_dir %s: its disk is read-only: mount it writable once, or set data_dir to a place on another disk", c.DataDir)
	}
	if err != nil {
		return fmt.Errorf("cannot make data_dir: %w", err)
	}
	lock, err := facts.Lock(c.DataDir)
	if err != nil {
		return err
	}
	defer lock.Close()
	id, err := facts.Identity(c.DataDir, func() string { return supervisor.RunningDomain(c.DataDir, c.RunAs, c.AllowRoot) }, a.o.Log)
	if err != nil {
		return err
	}
	store, err := openStore(c.DataDir, a.files, a.o.Log)
	if err != nil {
		return err
	}
	defer store.flush()
	now := time.Now()
	session := topics.NewID()
	member, keyFault, err := a.openMembership(id, session, store)
	if err != nil {
		return err
	}
	issued, err := a.openCredentials(member)
	if err != nil {
		return err
	}
	l := a.newLoop(id, session, store, member, issued, h, now)
	defer l.traits.Close()
	defer l.deployed.close()
	if l.supervisor, err = a.newSupervisor(l, id); err != nil {
		return err
	}
	l.deployed.build = l.supervisor.Build
	defer l.supervisor.Close()
	if member != nil {
		h.SetSigner(func(k topics.Kind, payload []byte) []byte { return member.signed(a.o.Log, k, payload) })
	}
	h.Begin(id, session, now, l.supervisor.Clock, func(until time.Duration) {
		l.supervisor.Extend(until)
		a.events.Put(leaseRenewed{until})
	})
	l.start(now)
	h.Idle(time.Now())

	linkCtx, cancel := context.WithCancel(context.Background())
	h.OnOffline(cancel)
	var wait sync.WaitGroup
	wait.Go(func() {
		if keyFault != nil {
			waitWithoutKey(linkCtx, a.o.Log, keyFault)
		} else {
			l.link.Run(linkCtx)
		}
	})
	wait.Go(func() { h.Run(linkCtx) })
	if issued != nil {
		wait.Go(func() { issued.Run(linkCtx) })
	}
	a.runLoop(ctx, l)
	h.Busy(time.Now())
	cancel() // the link lets go of its connection, it does not close it
	wait.Wait()
	a.deliver(l)
	l.close()
	l.verifying.Wait()
	if member != nil {
		member.close()
	}
	return nil
}

// openMembership opens whom the domain belongs to; nil: it has no key. fault is why its
// key cannot be used although it needs it.
func (a *Agent) openMembership(id, session string, store *store) (m *membership, fault, err error) {
	if a.o.Keyless {
		return nil, nil, nil
	}
	m, err = openMembership(membershipOptions{
		Config: a.o.Config, ID: id, Session: session, Remembered: store.memory.Dominion, Adopted: store.memory.Adopted,
		IssueFile: a.o.IssueFile, Unit: a.o.Unit, TokenFiles: a.o.TokenFiles, OnceFiles: a.o.OnceFiles, Log: a.o.Log,
	})
	var broken *identity.KeyError
	switch {
	case err == nil:
		a.membership <- m
		return m, nil, nil
	case errors.As(err, &broken) || store.memory.Adopted:
		return nil, err, nil
	case store.memory.Dominion.ID != "": // of before there were keys, such as on a worn SD card
		a.o.Log.Warn("this domain has no key of its own", "error", err)
		return nil, nil, nil
	}
	return nil, nil, err
}

// openCredentials opens the certificates of the services; nil: the domain has no key.
func (a *Agent) openCredentials(member *membership) (*credentials.Credentials, error) {
	if member == nil {
		return nil, nil
	}
	c := a.o.Config
	return credentials.Open(credentials.Options{
		DataDir: c.DataDir, Domain: c.Name, CAFile: c.CAFile, Verifier: member.pinned.Load,
		User: func(service string) (*syscall.Credential, error) {
			return supervisor.UserOf(service, c.RunAs, c.AllowRoot)
		},
		Files: a.files, Report: func(problem string) { a.events.Put(link.Problem{Text: problem}) }, Log: a.o.Log,
	})
}

// newLoop returns the loop with all of its parts but the supervisor.
func (a *Agent) newLoop(id, session string, store *store, member *membership, issued *credentials.Credentials, h *report.Heartbeats, now time.Time) *loop {
	c := a.o.Config
	l := &loop{
		config: c, id: id, platform: facts.Platform(), tree: topics.NewTree(c.TopicPrefix), log: a.o.Log,
		store: store, member: member, credentials: issued, heartbeats: h, timing: config.DefaultTiming(),
		inventory: facts.NewInventory(a.o.Facts, a.o.MinPollInterval, a.o.Log),
		logs:      logs.NewPoller(logs.New(logDir(c)), a.o.MinPollInterval, now),
	}
	o := link.Options{
		Config: c, ID: id, Session: session, Tree: l.tree, Log: a.o.Log,
		Previous: store.memory.Dominion, LastURL: store.memory.Hub,
		Dial: a.o.Dial, Connect: a.o.Connect, Random: a.o.Random, Browse: a.o.Browse,
		Address: l.inventory.Address, Post: a.events.Put,
		Deliver: func(connID int, m topics.Message) {
			address, _ := l.tree.Parse(m.Topic)
			if address.Kind != topics.DomainLease || !h.AcceptLease(connID, m) {
				a.messages.Put(incoming{connID, m, address})
			}
		},
	}
	watch := isolation.Options{
		Timeout: l.timing.Isolation.Duration(), Log: a.o.Log,
		Announcement: a.announcement(id, func() link.Dominion { return store.memory.Dominion }),
	}
	if member != nil {
		member.o.Address = l.inventory.Address
		member.o.Pinned = func() { a.events.Put(pinned{}) }
		member.o.VerifiedHub = func(p identity.Peer) { a.events.Put(p) }
		o.Member = member
		member.setLast(store.command.Dominion, store.signed)
	}
	if issued != nil {
		o.Services = issued
	}
	l.link = link.New(o)
	watch.Search = l.link.Search
	if member != nil {
		watch.Stranger = l.link.Stranger
	}
	l.connection = link.NewConnection(l.tree.AgentFilters(c.Name), a.events.Put)
	l.orders = orders.New(id, session)
	l.signatures, l.post = signatures.New(id), a.events.Put
	l.pin()
	l.isolation = isolation.New(watch)
	l.reports = report.New(report.Options{
		ID: id, Name: c.Name, Session: session, Version: a.o.Version, Started: now, Tree: l.tree, Log: a.o.Log,
		MetricsInterval: max(topics.MetricsInterval, a.o.MinPollInterval), Heartbeats: h,
		Metrics: func(now time.Time) topics.Metrics { return a.o.Facts.Metrics(now, l.supervisor.Groups()) },
	})
	l.traits = traits.New(c.TraitsFrom, a.files, func(ctx context.Context, command []string, most int64) (string, error) {
		return l.supervisor.Output(ctx, command, most)
	}, func(e traits.Event) { a.events.Put(e) }, a.o.Log)
	l.connection.Require(l.traits.Topics(), now)
	l.deployed = a.newDeployed(member)
	l.programs = l.newPrograms()
	return l
}

// newSupervisor returns the supervisor of the services of a loop.
func (a *Agent) newSupervisor(l *loop, id string) (*supervisor.Supervisor, error) {
	c := a.o.Config
	o := supervisor.Options{
		ServicesDir: c.ServicesDir, DataDir: c.DataDir, LogDir: logDir(c), RunAs: c.RunAs, AllowRoot: c.AllowRoot, Accept: c.Accept, Domain: id, Name: c.Name,
		Environment: l.environment, Address: l.inventory.Address, Version: l.inventory.Version,
		Post:          func(e supervisor.Event) { a.events.Put(e) },
		RequireTopics: l.requireTopics, Directory: l.programs.Directory, Refuse: l.programs.Refuse, Done: l.programs.Ended,
		Report: l.reports.Event, Files: a.files, Logs: l.logs.Dir, Runner: a.o.Runner, Guards: a.o.Guards, Log: a.o.Log,
	}
	if l.member != nil {
		o.OpenSecret = l.member.OpenSecret
	}
	return supervisor.New(o)
}

// logDir returns the directory of the services' logs.
func logDir(c config.Domain) string { return filepath.Join(c.DataDir, "logs") }

// runLoop runs the loop until ctx has ended and every service that must stop has
// stopped.
func (a *Agent) runLoop(ctx context.Context, l *loop) {
	done := ctx.Done()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-done: // stop, below
		case <-a.messages.Ready():
		case <-a.events.Ready():
		case <-timer.C:
		}
		l.heartbeats.Busy(time.Now())
		if ctx.Err() != nil && done != nil {
			done = nil
			l.stop(time.Now())
		}
		a.deliver(l)
		l.tick(time.Now())
		l.heartbeats.Idle(time.Now())
		if done == nil && l.stopped(time.Now()) {
			return
		}
		timer.Reset(time.Until(l.next(time.Now())))
	}
}

// deliver passes queued events and messages to the loop. Messages are taken from
// their queue first and handled last, so that the event of the connection that
// they came by has been handled.
func (a *Agent) deliver(l *loop) {
	messages, lost := a.messages.Take()
	events, _ := a.events.Take()
	now := time.Now()
	for _, e := range events {
		l.handle(e, now)
	}
	for _, m := range messages {
		l.message(m, now)
	}
	if lost > 0 { // they are received again: topics of state are retained
		l.log.Error("more messages came than could be handled, connecting again", "lost", lost)
		l.link.Reconnect()
	}
}
