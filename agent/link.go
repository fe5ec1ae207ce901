package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"github.com/jmbarzee/dominion/broker/client"
	"github.com/jmbarzee/dominion/broker/locate"
	"github.com/jmbarzee/dominion/broker/zeroconf"
	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/topics"
)

// The timeouts and pauses of the link.
const (
	answerTimeout    = 3 * time.Second // to connect, and for a hub's answer to a join
	requestInterval  = 500 * time.Millisecond
	ownTopicRequests = 3           // requests that ask for the answer on this domain's own topic, before those for the common one
	shortTimeout     = time.Second // to connect, while there are other candidates
	browseWindow     = 2 * time.Second
	maxRetry         = time.Second     // between attempts to reach a hub
	refusedRetry     = 2 * time.Second // the least after a refusal
	shortConnection  = 5 * time.Second // a connection that ended sooner is not renewed at once
)

// link keeps the connection to the hub: it finds one, requests the join, connects
// with the will, and starts again when the connection is lost. It is a goroutine
// of its own because all of it waits. It sends events to the agent's loop, which
// signals when to search for other hubs than the known one.
type link struct {
	config  config.Domain
	id      string
	session string
	tree    topics.Tree
	// dial opens a connection; nil: that of the operating system.
	dial        func(ctx context.Context, addr string) (net.Conn, error)
	connectMQTT func(context.Context, client.Options) (Conn, error)
	random      func(limit time.Duration) time.Duration
	browse      func(ctx context.Context, names []string, serviceType string, window time.Duration) ([]zeroconf.Found, error)
	// address is where this domain is reached. The loop sets it.
	address *atomic.Pointer[string]
	log     *slog.Logger

	// post sends linkUp, linkReady, linkDown and problem to the loop.
	post func(event any)
	// deliver passes a message of connection n to the loop.
	deliver func(n int, m topics.Message)
	// lonely is from the loop; it holds the latest value.
	lonely chan bool
	// drop is from the loop, which wants a new connection.
	drop chan struct{}

	// Only the link's goroutine uses the rest.

	// previous is the dominion that was joined last.
	previous identity
	// lastURL is the URL of the broker at which it was joined.
	lastURL string
	// connID is the number of the last connection.
	connID int
	// logged is what logOnce logged last, by subject.
	logged   map[string]string
	isLonely bool
	// browsed holds the latest result of browsing; nil: the link does not browse.
	browsed      chan browseResult
	stopBrowsing func()
}

// linkUp is the event that a hub granted the join and the connection with the will
// is open; messages of connection connID may follow. linkReady is sent when it is
// subscribed, linkDown when it is over.
type (
	linkUp struct {
		connID int
		conn   Conn
		url    string
		grant  topics.Grant
	}
	linkReady struct{ connID int }
	linkDown  struct{ connID int }
)

// problem is the event that the link found something that the owner must know.
type problem struct{ text string }

// run keeps the connection until ctx ends. It leaves the last connection
// open: the loop publishes on it that the domain is offline.
func (l *link) run(ctx context.Context) {
	l.logged = make(map[string]string)
	l.setLonely(ctx, true)
	defer l.setLonely(ctx, false)
	var next *join
	for brief := 0; ctx.Err() == nil; {
		if next == nil {
			if brief > 0 && !sleep(ctx, min(maxRetry, client.Backoff(brief, l.random))) {
				return
			}
			if next = l.search(ctx); next == nil {
				return
			}
		}
		began := time.Now()
		next = l.maintain(ctx, *next)
		if brief++; time.Since(began) > shortConnection {
			brief = 0
		}
	}
}

// search asks the candidates until one of them grants the join; nil when ctx
// ended.
func (l *link) search(ctx context.Context) *join {
	var found []zeroconf.Found
	for attempt := 0; ; attempt++ {
		candidates := l.candidates(found)
		granted, pause := l.tryCandidates(ctx, candidates, attempt)
		if granted != nil {
			return granted
		}
		timer := time.NewTimer(pause)
		for waiting := true; waiting; {
			select {
			case <-ctx.Done():
				timer.Stop()
				return nil
			case <-timer.C:
				waiting = false
			case w := <-l.browsed:
				if w.err != nil {
					l.logOnce("browse", slog.LevelWarn, w.err.Error())
				}
				found = w.found
				if w.err == nil && len(found) == 0 && l.config.Hub == "" {
					l.logOnce("found", slog.LevelWarn, "no hub found by zeroconf, still looking (a hub that listens on loopback alone can be joined from its own machine only; where multicast does not get through, set hub = \"host:port\" in domain.toml)")
				}
				if !slices.Equal(candidates, l.candidates(found)) {
					waiting, attempt = false, -1
				}
			case lonely := <-l.lonely:
				l.setLonely(ctx, lonely)
			case <-l.drop: // it is dropped
			}
		}
		timer.Stop()
	}
}

// maintain connects with the will and returns when the connection is over. While
// the broker answers but no hub does, it searches for the hub at other brokers, and
// returns the join of the one where it found it.
func (l *link) maintain(ctx context.Context, j join) (elsewhere *join) {
	l.connID++
	n := l.connID
	offline := l.tree.Message(topics.Address{Kind: topics.DomainAvailability, Domain: l.config.Name}, []byte(topics.Offline))
	conn, err := l.connect(ctx, j.candidate, "domain-"+l.id, &offline, func(m topics.Message) { l.deliver(n, m) })
	if err != nil {
		l.logOnce(j.url, slog.LevelWarn, l.explain(err).Error())
		return nil
	}
	l.previous, l.lastURL = identity{j.grant.Dominion, j.grant.Name}, j.url
	l.post(linkUp{n, conn, j.url, j.grant})
	defer func() {
		if ctx.Err() == nil { // else the connection is the loop's
			l.post(linkDown{n})
		}
	}()
	if err := conn.Subscribe(ctx, l.tree.AgentFilters(l.config.Name)...); err != nil {
		if ctx.Err() == nil {
			l.logOnce(j.url, slog.LevelError, l.explain(err).Error())
			conn.Close()
		}
		return nil
	}
	clear(l.logged)
	l.post(linkReady{n})
	// At the start the loop does not know of this hub yet, and is lonely: at another
	// address that the configuration names is the same hub.
	hubKnown := l.config.Hub == ""
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-l.drop:
			conn.Close()
			return nil
		case <-conn.Done():
			l.log.Warn("lost the connection to the hub", "hub", j.url, "error", conn.Err())
			return nil
		case lonely := <-l.lonely:
			hubKnown = hubKnown || !lonely
			l.setLonely(ctx, lonely)
		case w := <-l.browsed:
			if !hubKnown {
				continue
			}
			// Not at this broker: the domain is connected to it already.
			others := slices.DeleteFunc(l.candidates(w.found), func(c candidate) bool { return c.url == j.url })
			if granted, _ := l.tryCandidates(ctx, others, 0); granted != nil {
				l.post(linkDown{n}) // first: the loop would answer our offline with online
				conn.Publish(offline)
				conn.Close()
				return granted
			}
		}
	}
}

// explain adds the likely reason to a refusal of the domain's own topics: as the
// same user was granted the join, it lacks the permission for these. A broker that
// is not the dominion's own may refuse the connection for its will, where CONNACK
// has no reason but user or password.
func (l *link) explain(err error) error {
	if l.config.User == "" || !errors.Is(err, client.ErrNotAuthorized) && !errors.Is(err, client.ErrRefused) {
		return err
	}
	return fmt.Errorf("%w, or this user may not speak for domain %s: a user of the role domain must have the domain's name (here %q, set name or user)", err, l.config.Name, l.config.User)
}

// browseResult is what was found in one time window of browsing.
type browseResult struct {
	found []zeroconf.Found
	err   error
}

// setLonely begins or ends the search for the hub at other places than the known
// one: at the other addresses of the configuration, or, where that has none, by
// zeroconf.
func (l *link) setLonely(ctx context.Context, lonely bool) {
	l.isLonely = lonely
	if l.browsed != nil && !lonely {
		l.stopBrowsing()
		l.browsed, l.stopBrowsing = nil, nil
	}
	if l.browsed != nil || !lonely {
		return
	}
	browse := l.browse
	switch hubs := len(staticURLs(l.config.Hub)); {
	case hubs == 1:
		return
	case hubs > 1: // the others may be where the hub is now
		browse = func(ctx context.Context, _ []string, _ string, window time.Duration) ([]zeroconf.Found, error) {
			sleep(ctx, window)
			return nil, nil
		}
	case !l.config.Zeroconf.Enabled:
		l.logOnce("found", slog.LevelInfo, "zeroconf is off: a hub is looked for on this machine, and where it was last")
		return
	}
	windows := make(chan browseResult, 1) // holds the latest
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			began := time.Now()
			found, err := browse(ctx, l.config.Zeroconf.Interfaces, zeroconf.TypeDominion, browseWindow)
			select {
			case <-windows:
			default:
			}
			windows <- browseResult{found, err}
			if time.Since(began) < browseWindow/2 { // no interface is up yet
				sleep(ctx, browseWindow/2)
			}
		}
	}()
	l.browsed, l.stopBrowsing = windows, func() {
		cancel()
		<-done
	}
}

// candidates returns the brokers to try, best first: those that the configuration
// names, or else the last one, and while the domain is lonely those that zeroconf
// found, and this machine.
func (l *link) candidates(found []zeroconf.Found) []candidate {
	var all []candidate
	if hubs := staticURLs(l.config.Hub); len(hubs) > 0 {
		if at := slices.Index(hubs, l.lastURL); at > 0 { // where it was last, and then on from there
			hubs = slices.Concat(hubs[at:], hubs[:at])
		}
		for _, url := range hubs {
			all = append(all, candidate{url: url})
		}
		return all
	}
	policy := l.joinPolicy()
	if c := (candidate{l.lastURL, l.previous}); c.url != "" && policy.allows(c.dominion) {
		// No configuration names that address any more, if one ever did.
		if allowed, _ := policy.credentials.Allow([]string{c.url}); len(allowed) > 0 {
			all = append(all, c)
		}
	}
	if !l.isLonely {
		return all
	}
	chosen, problem, impostors := choose(found, policy)
	for _, s := range impostors {
		l.report(s)
	}
	if problem != "" {
		l.logOnce("found", slog.LevelWarn, problem)
	}
	for _, c := range chosen {
		if !slices.ContainsFunc(all, func(known candidate) bool { return known.url == c.url }) {
			all = append(all, c)
		}
	}
	// Any program of this machine may listen there: it gets no password.
	if policy.credentials == (locate.Credentials{}) && !slices.ContainsFunc(all, func(c candidate) bool { return c.url == loopbackURL }) {
		all = append(all, candidate{url: loopbackURL})
	}
	return all
}

// joinPolicy returns what this agent may join.
func (l *link) joinPolicy() joinPolicy {
	return joinPolicy{
		name: l.config.Dominion, previous: l.previous, prefix: l.tree.Prefix(),
		credentials: locate.Credentials{Password: l.config.PasswordFile != "", Pinned: l.config.CAFile != ""},
	}
}

// report logs what the owner of the home must know, once, and has the loop publish
// it at the hub of this domain.
func (l *link) report(text string) {
	if l.logged[text] == "" {
		l.logOnce(text, slog.LevelWarn, text)
		l.post(problem{text})
	}
}

// logOnce logs a text about a subject unless it equals the last one: a retry that
// fails as the one before is not logged.
func (l *link) logOnce(subject string, level slog.Level, text string) {
	if l.logged[subject] != text {
		l.logged[subject] = text
		l.log.Log(context.Background(), level, text)
	}
}

// sleep waits for d, and reports whether ctx has not ended.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
