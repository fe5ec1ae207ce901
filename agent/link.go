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

// How long the link waits for what.
const (
	answerTimeout  = 3 * time.Second // to connect, and for a hub's answer to a join
	askAgain       = 500 * time.Millisecond
	askedOwn       = 3           // times that an answer is wanted at a topic of our own, where nobody else's come
	hurriedTimeout = time.Second // to connect, while there are other candidates
	browseWindow   = 2 * time.Second
	maxRetry       = time.Second     // between attempts to reach a hub
	refusedRetry   = 2 * time.Second // the least after a refusal
	briefStay      = 5 * time.Second // a connection that ended sooner is not renewed at once
)

// link keeps the connection to the hub: it finds one, asks it for admission,
// connects with the will, and begins again when that is lost. It is a
// goroutine of its own because all of it waits; the agent's loop hears of it
// by events, and tells it when to look beyond the hub that it knows.
type link struct {
	config  config.Domain
	id      string
	session string
	tree    topics.Tree
	dial    func(ctx context.Context, addr string) (net.Conn, error) // nil: the network
	speak   func(context.Context, client.Options) (Conn, error)
	random  func(limit time.Duration) time.Duration
	browse  func(ctx context.Context, names []string, serviceType string, window time.Duration) ([]zeroconf.Found, error)
	address *atomic.Pointer[string] // where this domain is reached, as the loop sees it
	log     *slog.Logger

	post    func(event any)               // linkUp, linkReady, linkDown
	deliver func(n int, m topics.Message) // a message of connection n
	lonely  chan bool                     // from the loop, the latest counts
	drop    chan struct{}                 // from the loop: connect anew

	// The rest is the link's goroutine's own.
	known    identity
	last     string            // URL of the broker we were joined at last
	n        int               // connections so far
	said     map[string]string // what was logged last, by matter: a broker's URL, or a word
	isLonely bool
	windows  chan window // nil while nobody browses
	unbrowse func()
}

// linkUp says that a hub granted the join and the connection with the will
// stands; messages of connection n may follow. linkReady says that it is
// subscribed, linkDown that it is over.
type (
	linkUp struct {
		n     int
		conn  Conn
		url   string
		grant topics.Grant
	}
	linkReady struct{ n int }
	linkDown  struct{ n int }
)

// problem says what the link found wrong.
type problem struct{ text string }

// run keeps the connection until ctx ends. It leaves the last connection
// open: the loop says goodbye on it.
func (l *link) run(ctx context.Context) {
	l.said = make(map[string]string)
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
		next = l.stay(ctx, *next)
		if brief++; time.Since(began) > briefStay {
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
		granted, pause := l.try(ctx, candidates, attempt)
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
			case w := <-l.windows:
				if w.err != nil {
					l.say("browse", slog.LevelWarn, w.err.Error())
				}
				found = w.found
				if w.err == nil && len(found) == 0 && l.config.Hub == "" {
					l.say("found", slog.LevelWarn, "no hub found by zeroconf, still looking (a hub that listens on loopback alone can be joined from its own machine only; where multicast does not get through, set hub = \"host:port\" in domain.toml)")
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

// stay connects with the will and remains until the connection is over. While
// the broker answers but no hub behind it, it looks for the hub at another
// broker, and returns where it was found.
func (l *link) stay(ctx context.Context, j join) (elsewhere *join) {
	l.n++
	n := l.n
	offline := l.tree.Message(topics.Address{Kind: topics.DomainAvailability, Domain: l.config.Name}, []byte(topics.Offline))
	conn, err := l.connect(ctx, j.candidate, "domain-"+l.id, &offline, func(m topics.Message) { l.deliver(n, m) })
	if err != nil {
		l.say(j.url, slog.LevelWarn, l.explain(err).Error())
		return nil
	}
	l.known, l.last = identity{j.grant.Dominion, j.grant.Name}, j.url
	l.post(linkUp{n, conn, j.url, j.grant})
	defer func() {
		if ctx.Err() == nil { // else the connection is the loop's
			l.post(linkDown{n})
		}
	}()
	if err := conn.Subscribe(ctx, l.tree.AgentFilters(l.config.Name)...); err != nil {
		if ctx.Err() == nil {
			l.say(j.url, slog.LevelError, l.explain(err).Error())
			conn.Close()
		}
		return nil
	}
	clear(l.said)
	l.post(linkReady{n})
	// At the start the loop has not heard of this hub yet, and is lonely: at another
	// address that the configuration names is the same hub.
	heard := l.config.Hub == ""
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
			heard = heard || !lonely
			l.setLonely(ctx, lonely)
		case w := <-l.windows:
			if !heard {
				continue
			}
			// Not at this broker: the hub hears of us when it is back.
			others := slices.DeleteFunc(l.candidates(w.found), func(c candidate) bool { return c.url == j.url })
			if granted, _ := l.try(ctx, others, 0); granted != nil {
				l.post(linkDown{n}) // first: the loop would answer our offline with online
				conn.Publish(offline)
				conn.Close()
				return granted
			}
		}
	}
}

// explain says more about a refusal of the domain's own topics than the broker can:
// as the same user asked for the join a moment ago, it is these that it may not
// have. A broker that is not the dominion's own may refuse the connection for its
// will, where CONNACK has no reason but user or password.
func (l *link) explain(err error) error {
	if l.config.User == "" || !errors.Is(err, client.ErrNotAuthorized) && !errors.Is(err, client.ErrRefused) {
		return err
	}
	return fmt.Errorf("%w, or this user may not speak for domain %s: a user of the role domain must have the domain's name (here %q, set name or user)", err, l.config.Name, l.config.User)
}

// window is what one window of browsing found.
type window struct {
	found []zeroconf.Found
	err   error
}

// setLonely begins or ends looking for the hub elsewhere than where it is known:
// at the other addresses that the configuration names, or, where it names none,
// by zeroconf.
func (l *link) setLonely(ctx context.Context, lonely bool) {
	l.isLonely = lonely
	if l.windows != nil && !lonely {
		l.unbrowse()
		l.windows, l.unbrowse = nil, nil
	}
	if l.windows != nil || !lonely {
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
		l.say("found", slog.LevelInfo, "zeroconf is off: a hub is looked for on this machine, and where it was last")
		return
	}
	windows := make(chan window, 1) // holds the latest
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
			windows <- window{found, err}
			if time.Since(began) < browseWindow/2 { // no interface is up yet
				sleep(ctx, browseWindow/2)
			}
		}
	}()
	l.windows, l.unbrowse = windows, func() {
		cancel()
		<-done
	}
}

// candidates returns where to ask, best first: the hub that the configuration
// names, or the one known, and while lonely what zeroconf found, and this
// machine.
func (l *link) candidates(found []zeroconf.Found) []candidate {
	var all []candidate
	if hubs := staticURLs(l.config.Hub); len(hubs) > 0 {
		if at := slices.Index(hubs, l.last); at > 0 { // where it was last, and then on from there
			hubs = slices.Concat(hubs[at:], hubs[:at])
		}
		for _, url := range hubs {
			all = append(all, candidate{url: url})
		}
		return all
	}
	w := l.wish()
	if c := (candidate{l.last, l.known}); c.url != "" && w.wants(c.dominion) {
		// No configuration names that address any more, if one ever did.
		if allowed, _ := w.credentials.Allow([]string{c.url}); len(allowed) > 0 {
			all = append(all, c)
		}
	}
	if !l.isLonely {
		return all
	}
	chosen, problem, strangers := choose(found, w)
	for _, s := range strangers {
		l.report(s)
	}
	if problem != "" {
		l.say("found", slog.LevelWarn, problem)
	}
	for _, c := range chosen {
		if !slices.ContainsFunc(all, func(known candidate) bool { return known.url == c.url }) {
			all = append(all, c)
		}
	}
	// Any program of this machine may listen there: it is shown no password.
	if w.credentials == (locate.Credentials{}) && !slices.ContainsFunc(all, func(c candidate) bool { return c.url == loopbackURL }) {
		all = append(all, candidate{url: loopbackURL})
	}
	return all
}

// wish returns what this agent may join.
func (l *link) wish() wish {
	return wish{
		name: l.config.Dominion, known: l.known, prefix: l.tree.Prefix(),
		credentials: locate.Credentials{Password: l.config.PasswordFile != "", Pinned: l.config.CAFile != ""},
	}
}

// report logs what the owner of the home must know, once, and has the loop tell
// the hub that this domain belongs to.
func (l *link) report(text string) {
	if l.said[text] == "" {
		l.say(text, slog.LevelWarn, text)
		l.post(problem{text})
	}
}

// say logs what is new about a matter: a retry that fails as the one before
// is no news.
func (l *link) say(matter string, level slog.Level, text string) {
	if l.said[matter] != text {
		l.said[matter] = text
		l.log.Log(context.Background(), level, text)
	}
}

// sleep waits, and tells whether ctx is still there.
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
