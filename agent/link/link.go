// Package link is the agent's connection to its hub. A Link, in a goroutine of its
// own, finds a hub, requests the join and connects with the will; a Connection is what
// the agent's loop has of it: the connection that is open, its subscriptions, and when
// the hub counts as gone.
//
// It decides which dominion may be joined (candidates.go) and makes the join (join.go).
// It does not know what messages mean. Only package agent imports it.
//
// # Files
//
//	asking.go         asking hubs for adoption: which ones, how often, how many at once
//	candidates.go     which hub may be joined, and which is chosen
//	connection.go     the open connection as the loop sees it: ready, hub silent, closed
//	join.go           the join: request, grant, refusals, opening the connection
//	link.go           the goroutine that finds and joins a hub; its waiting times
//	member.go         the adopted domain at its hub: home, TLS, word, renewal of the certificate
//	rejoin.go         joining again over the open connection, as the hub is another run
//	services.go       asking the hub for the certificates of the domain's services
//	subscriptions.go  subscriptions for traits and health checks
package link

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
	"github.com/jmbarzee/dominion/broker/zeroconf"
	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/identity/signed"
	"github.com/jmbarzee/dominion/topics"
)

// AnswerTimeout is how long the link waits for a connection, and for a hub's answer
// to a join.
const AnswerTimeout = 3 * time.Second

// The other timeouts and pauses of the link.
const (
	requestInterval  = 500 * time.Millisecond
	ownTopicRequests = 3           // requests that ask for the answer on this domain's own topic, before those for the common one
	shortTimeout     = time.Second // to connect, while there are other candidates
	browseWindow     = 2 * time.Second
	maxRetry         = time.Second     // between attempts to reach a hub
	refusedRetry     = 2 * time.Second // the least after a refusal
	shortConnection  = 5 * time.Second // a connection that ended sooner is not renewed at once
)

// maxPacket is above what a dominion's own messages have, which is all that an agent
// subscribes to, and the values that traits are read from.
const maxPacket = 2 << 20

// Dominion is the id and name of a dominion.
type Dominion struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// Conn is a connection to a broker: *client.Conn, whose methods are documented.
type Conn interface {
	Publish(topics.Message)
	Subscribe(ctx context.Context, filters ...string) error
	Unsubscribe(filters ...string)
	Flush(context.Context) error
	Close()
	Done() <-chan struct{}
	Err() error
}

// Options are what a link works with. Its functions are called on its own goroutines.
type Options struct {
	Config config.Domain
	// ID and Session are of this domain and this run of its agent.
	ID, Session string
	Tree        topics.Tree
	Log         *slog.Logger
	// Previous is the dominion that was joined last, LastURL that of the broker at
	// which it was.
	Previous Dominion
	LastURL  string

	// Dial opens a connection; nil: that of the operating system.
	Dial func(ctx context.Context, addr string) (net.Conn, error)
	// Connect speaks MQTT over it, as client.Connect does.
	Connect func(context.Context, client.Options) (Conn, error)
	// Random returns a duration from 0 up to but below a limit.
	Random func(limit time.Duration) time.Duration
	// Browse is that of package zeroconf.
	Browse func(ctx context.Context, names []string, serviceType string, window time.Duration) ([]zeroconf.Found, error)

	// Member is whom the domain belongs to; nil: it has no key, and joins as an agent of
	// an older version.
	Member Member
	// Services are the certificates of the domain's services; nil: they get none.
	Services Services

	// Address returns where this domain is reached.
	Address func() string
	// Post passes an Up, Ready, Down or Problem to the loop.
	Post func(event any)
	// Deliver passes a message of a connection to the loop.
	Deliver func(connID int, m topics.Message)
}

// Link keeps the connection to the hub: it finds one, requests the join, connects
// with the will, and starts again when the connection is lost. It is a goroutine
// of its own because all of it waits. It sends events to the agent's loop, which
// requests the search for other hubs than the one of before. Make it with New.
type Link struct {
	o Options
	// searches is from the loop: whether to search for other hubs. It holds the
	// latest value.
	searches chan bool
	// drops is from the loop, which wants a new connection.
	drops chan struct{}
	// rejoins is from the loop, which wants another join over the open connection.
	rejoins chan struct{}
	// strangers is from the loop: whether other dominions are asked for adoption. It
	// holds the latest value.
	strangers chan bool
	// adoptions holds a value when a dominion has adopted the domain.
	adoptions chan struct{}

	// Only the link's goroutine uses the rest.

	// requests counts the requests to join, which name it once the domain is adopted.
	requests uint64
	// unanswered is the last request to join, if it was not answered; else nil.
	unanswered *exchange
	// asking asks hubs for adoption; nil: the domain does not ask.
	asking *asking
	// upgrade is the hub of the connection while it takes over this domain's key; nil: it
	// does not. No other hub is asked then.
	upgrade *upgrade
	// mustBeAdopted is set when the hub refuses the domain until it is adopted.
	mustBeAdopted bool
	// stranger is set while other dominions are asked, and refused while the own one does
	// not let the domain in and is asked itself.
	stranger, refused bool

	// previous is the dominion that was joined last.
	previous Dominion
	// lastURL is the URL of the broker at which it was joined.
	lastURL string
	// connID is the number of the last connection.
	connID int
	// logged is what logOnce logged last, by subject.
	logged map[string]string
	// searching reports that the hub may be at other places than the one of before.
	searching bool
	// browsed holds the latest result of browsing; nil: the link does not browse.
	browsed      chan browseResult
	stopBrowsing func()
}

// Up is the event that a hub granted the join and the connection with the will
// is open; messages of connection ConnID may follow. Ready is sent when it is
// subscribed, Down when it is over.
type (
	Up struct {
		ConnID int
		Conn   Conn
		URL    string
		Grant  topics.Grant
		// Keys are those of the MACs of this join; nil: the domain has no key.
		Keys *signed.Keys
	}
	Ready struct{ ConnID int }
	Down  struct{ ConnID int }
)

// Adopted is the event that a dominion has adopted the domain.
type Adopted struct{}

// NoHubFound says why zeroconf may have found no hub.
const NoHubFound = "no hub found by zeroconf, still looking (a hub that listens on loopback alone can be joined from its own machine only; where multicast does not get through, as from another VLAN, set hub = \"HOST\" in domain.toml)"

// Problem is the event that the link found something that the owner must know.
type Problem struct{ Text string }

// New returns a link that does nothing before Run.
func New(o Options) *Link {
	return &Link{
		o: o, searches: make(chan bool, 1), drops: make(chan struct{}, 1), rejoins: make(chan struct{}, 1),
		strangers: make(chan bool, 1), adoptions: make(chan struct{}, 1),
		previous: o.Previous, lastURL: o.LastURL, logged: make(map[string]string),
	}
}

// Stranger begins or ends to ask other dominions for adoption, as the domain does not
// hear its own. Only the loop calls it.
func (l *Link) Stranger(on bool) {
	select {
	case <-l.strangers: // an older value
	default:
	}
	l.strangers <- on
}

// Search begins or ends the search for the hub at other places than the one of
// before. Only the loop calls it.
func (l *Link) Search(on bool) {
	select {
	case <-l.searches: // an older value
	default:
	}
	l.searches <- on
}

// Reconnect ends the connection, and joins again.
func (l *Link) Reconnect() {
	select {
	case l.drops <- struct{}{}:
	default:
	}
}

// Run keeps the connection until ctx ends. It leaves the last connection
// open: the loop publishes on it that the domain is offline.
func (l *Link) Run(ctx context.Context) {
	l.setSearching(ctx, true)
	defer l.setSearching(ctx, false)
	l.takeHome(false)
	l.updateAsking(ctx)
	defer l.setAsking(ctx, false)
	var next *join
	for brief := 0; ctx.Err() == nil; {
		if next == nil {
			if brief > 0 && !sleep(ctx, min(maxRetry, client.Backoff(brief, l.o.Random))) {
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
func (l *Link) search(ctx context.Context) *join {
	var found []zeroconf.Found
	for attempt := 0; ; attempt++ {
		l.askAt(l.targets(found))
		candidates := l.candidates(found)
		granted, pause := l.tryCandidates(ctx, candidates, attempt)
		if l.updateAsking(ctx); granted != nil {
			return granted
		}
		l.askAt(l.targets(found))
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
				l.askAt(l.targets(found))
				if w.err == nil && len(found) == 0 && l.o.Config.Hub == "" {
					l.logOnce("found", slog.LevelWarn, NoHubFound)
				}
				if !slices.Equal(candidates, l.candidates(found)) {
					waiting, attempt = false, -1
				}
			case on := <-l.searches:
				l.setSearching(ctx, on)
			case on := <-l.strangers:
				l.stranger = on
				l.updateAsking(ctx)
				l.askAt(l.targets(found))
			case <-l.adoptions:
				l.adopted(ctx)
				waiting, attempt = false, -1
			case <-l.drops: // it is dropped
			}
		}
		timer.Stop()
	}
}

// maintain connects with the will and returns when the connection is over. While
// the broker answers but no hub does, it searches for the hub at other brokers, and
// returns the join of the one where it found it.
func (l *Link) maintain(ctx context.Context, j join) (elsewhere *join) {
	l.connID++
	n := l.connID
	var asked atomic.Pointer[exchange] // over this connection
	offline := l.o.Tree.Message(topics.Address{Kind: topics.DomainAvailability, Domain: l.o.Config.Name}, []byte(topics.Offline))
	conn, err := l.connect(ctx, j.candidate, "domain-"+l.o.ID, &offline, func(m topics.Message) {
		if e := asked.Load(); e != nil {
			e.receive(m)
		}
		l.o.Deliver(n, m)
	})
	if err != nil {
		l.logOnce(j.url, slog.LevelWarn, l.explain(err).Error())
		return nil
	}
	l.previous, l.lastURL = Dominion{j.grant.Dominion, j.grant.Name}, j.url
	l.o.Post(Up{n, conn, j.url, j.grant, j.keys})
	defer func() {
		if ctx.Err() == nil { // else the connection is the loop's
			l.o.Post(Down{n})
		}
	}()
	if err := conn.Subscribe(ctx, l.o.Tree.AgentFilters(l.o.Config.Name)...); err != nil {
		if ctx.Err() == nil {
			l.logOnce(j.url, slog.LevelError, l.explain(err).Error())
			conn.Close()
		}
		return nil
	}
	clear(l.logged)
	select {
	case <-l.rejoins: // of a connection before this one
	default:
	}
	l.o.Post(Ready{n})
	l.storeWord(conn, j.grant)
	l.askToUpgrade(ctx, j)
	defer l.endUpgrade(ctx)
	l.renewNow(j.grant)
	renewal := time.NewTimer(l.untilRenewal())
	defer renewal.Stop()
	var servicesChanged <-chan struct{}
	if l.o.Services != nil {
		servicesChanged = l.o.Services.Changed()
		l.certifyServices(ctx, j.candidate)
	}
	// At the start the loop does not know of this hub yet, and is lonely: at another
	// address that the configuration names is the same hub. confirmed reports that the
	// loop has found the hub of this connection reachable.
	confirmed := l.o.Config.Hub == ""
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-l.drops:
			conn.Close()
			return nil
		case <-l.rejoins:
			if !l.rejoin(ctx, conn, n, j.candidate, &asked) {
				conn.Close()
				return nil
			}
			renewal.Reset(l.untilRenewal())
		case <-conn.Done():
			l.o.Log.Warn("lost the connection to the hub", "hub", j.url, "error", conn.Err())
			return nil
		case on := <-l.searches:
			confirmed = confirmed || !on
			l.setSearching(ctx, on)
		case on := <-l.strangers:
			l.stranger = on
			l.updateAsking(ctx)
			l.askAt(l.targets(nil))
		case <-l.adoptions:
			l.adopted(ctx)
			if home, _ := l.home(); home.ID != j.grant.Dominion || l.upgrade != nil { // the next join is signed
				conn.Close()
				return nil
			}
		case <-renewal.C:
			l.renew(ctx, j.candidate)
			renewal.Reset(l.untilRenewal())
		case <-servicesChanged:
			l.certifyServices(ctx, j.candidate)
		case w := <-l.browsed:
			l.askAt(l.targets(w.found))
			if !confirmed {
				continue
			}
			// Not at this broker: the domain is connected to it already.
			others := slices.DeleteFunc(l.candidates(w.found), func(c candidate) bool { return c.url == j.url })
			if granted, _ := l.tryCandidates(ctx, others, 0); granted != nil {
				l.o.Post(Down{n}) // first: the loop would answer our offline with online
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
func (l *Link) explain(err error) error {
	if l.o.Config.User == "" || !errors.Is(err, client.ErrNotAuthorized) && !errors.Is(err, client.ErrRefused) {
		return err
	}
	return fmt.Errorf("%w, or this user may not speak for domain %s: a user of the role domain must have the domain's name (here %q, set name or user)", err, l.o.Config.Name, l.o.Config.User)
}

// browseResult is what was found in one time window of browsing.
type browseResult struct {
	found []zeroconf.Found
	err   error
}

// setSearching begins or ends the search for the hub at other places than the one
// of before: at the other addresses of the configuration, or, where that has none, by
// zeroconf.
func (l *Link) setSearching(ctx context.Context, on bool) {
	l.searching = on
	if l.browsed != nil && !on {
		l.stopBrowsing()
		l.browsed, l.stopBrowsing = nil, nil
	}
	if l.browsed != nil || !on {
		return
	}
	browse := l.o.Browse
	switch hubs := len(config.HubURLs(l.o.Config.Hub)); {
	case hubs == 1:
		return
	case hubs > 1: // the others may be where the hub is now
		browse = func(ctx context.Context, _ []string, _ string, window time.Duration) ([]zeroconf.Found, error) {
			sleep(ctx, window)
			return nil, nil
		}
	case !l.o.Config.Zeroconf.Enabled:
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
			found, err := browse(ctx, l.o.Config.Zeroconf.Interfaces, zeroconf.TypeDominion, browseWindow)
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

// report logs what the owner of the home must know, once, and has the loop publish
// it at the hub of this domain.
func (l *Link) report(text string) {
	if l.logged[text] == "" {
		l.logOnce(text, slog.LevelWarn, text)
		l.o.Post(Problem{text})
	}
}

// logOnce logs a text about a subject unless it equals the last one: a retry that
// fails as the one before is not logged.
func (l *Link) logOnce(subject string, level slog.Level, text string) {
	if l.logged[subject] != text {
		l.logged[subject] = text
		l.o.Log.Log(context.Background(), level, text)
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
