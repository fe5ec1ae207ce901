package link

import (
	"context"
	"crypto/tls"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jmbarzee/dominion/broker/client"
	"github.com/jmbarzee/dominion/broker/locate"
	"github.com/jmbarzee/dominion/broker/zeroconf"
	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/topics"
)

const (
	// askInterval is the time between two questions to a hub: one that opens its window,
	// or is given the code, answers the next one.
	askInterval = 5 * time.Second
	// maxTargets bounds the hubs that are asked.
	maxTargets = 16
	// maxAnswer bounds the answer of a hub.
	maxAnswer = 64 << 10
)

// target is a hub, or a broker behind which one may be, that is asked for adoption.
type target struct {
	// urls are its addresses, which are tried in turn.
	urls []string
	// configured is set if the configuration names it: it gets the credentials.
	configured bool
	// joined is set if the domain has joined there: it is connected to as for a join.
	joined bool
}

func (t target) equal(o target) bool {
	return t.configured == o.configured && t.joined == o.joined && slices.Equal(t.urls, o.urls)
}

// targets returns the hubs to ask for adoption: those that the configuration names, or
// those that zeroconf found and this machine's own; and those of a token.
func (l *Link) targets(found []zeroconf.Found) []target {
	if l.asking == nil {
		return nil
	}
	if l.upgrade != nil {
		return []target{l.upgrade.target}
	}
	var all []target
	add := func(t target) {
		fresh := slices.ContainsFunc(t.urls, func(u string) bool {
			return !slices.ContainsFunc(all, func(o target) bool { return slices.Contains(o.urls, u) })
		})
		if fresh && len(all) < maxTargets {
			all = append(all, t)
		}
	}
	hubs := config.HubURLs(l.o.Config.Hub)
	for _, u := range hubs {
		add(target{urls: []string{u}, configured: true})
	}
	if _, adopted := l.home(); adopted && !l.stranger { // its own dominion alone
		for _, c := range l.candidates(found) {
			add(target{urls: []string{c.url}, configured: slices.Contains(hubs, c.url)})
		}
		return all
	}
	for _, urls := range l.o.Member.Addresses() {
		add(target{urls: urls})
	}
	if len(hubs) > 0 {
		return all
	}
	policy := l.joinPolicy()
	for _, f := range found {
		if policy.mayAsk(f) {
			if urls := l.askable(locate.URLs(f)); len(urls) > 0 {
				add(target{urls: urls})
			}
		}
	}
	if l.o.Config.CAFile == "" {
		add(target{urls: []string{LoopbackURL}})
	}
	return all
}

// mayAsk reports whether a hub that zeroconf found may adopt the domain.
func (p joinPolicy) mayAsk(f zeroconf.Found) bool {
	id, name := f.Text["id"], f.Text["name"]
	return id != "" && topics.ValidName(name) && topics.SameMajor(f.Text["protocol"]) &&
		(f.Text["prefix"] == "" || f.Text["prefix"] == p.prefix) &&
		(p.name == "" || p.name == name || p.name == id)
}

// askable returns the addresses of an announcement at which a hub is asked, encrypted
// ones first. With a cafile it must be verified by that.
func (l *Link) askable(urls []string) []string {
	urls = slices.DeleteFunc(slices.Clone(urls), func(u string) bool {
		return l.o.Config.CAFile != "" && !locate.Encrypted(u)
	})
	slices.SortStableFunc(urls, func(a, b string) int {
		if locate.Encrypted(a) == locate.Encrypted(b) {
			return 0
		}
		if locate.Encrypted(a) {
			return -1
		}
		return 1
	})
	return urls
}

// updateAsking begins or ends to ask hubs for adoption, as it is needed now: the domain belongs to no
// dominion, does not hear its own, is not known there any more, or must get a key there.
func (l *Link) updateAsking(ctx context.Context) {
	_, adopted := l.home()
	l.setAsking(ctx, l.stranger || l.refused && adopted || l.mustBeAdopted || l.upgrade != nil || !l.mayJoin())
}

// setAsking begins or ends to ask hubs for adoption.
func (l *Link) setAsking(ctx context.Context, on bool) {
	if l.o.Member == nil || on == (l.asking != nil) {
		return
	}
	if !on {
		l.asking.stop()
		l.asking = nil
		l.o.Member.End()
		return
	}
	dominion := ""
	if l.upgrade != nil {
		dominion = l.upgrade.dominion
	}
	if err := l.o.Member.Apply(dominion); err != nil {
		l.logOnce("apply", slog.LevelError, err.Error())
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	a := &asking{
		l: l, updates: make(chan []target, 1), received: make(chan received, maxTargets),
		done: make(chan struct{}), logged: make(map[string]string),
	}
	a.stop = func() {
		cancel()
		<-a.done
	}
	l.asking = a
	go func() {
		defer close(a.done)
		if a.run(ctx) {
			l.adoptions <- struct{}{} // buffered, and there is one asking at a time
		}
	}()
}

// askAt sets which hubs are asked.
func (l *Link) askAt(all []target) {
	if l.asking == nil {
		return
	}
	select {
	case <-l.asking.updates: // an older value
	default:
	}
	l.asking.updates <- all
}

// asking asks hubs for adoption, all at once, by a connection to each. Its goroutine is
// that of run; each asker has one of its own.
type asking struct {
	l *Link
	// updates holds the latest hubs to ask.
	updates chan []target
	// received are answers of hubs, and the results of connecting.
	received chan received
	stop     func()
	done     chan struct{}
	askers   []*asker
	// logged is what was logged last of an address.
	logged map[string]string
}

// received is an answer, or the result of connecting to a URL if it has no topic.
type received struct {
	url     string
	err     error
	message topics.Message
}

// run asks until a hub has adopted the domain, which it reports, or ctx ends.
func (a *asking) run(ctx context.Context) bool {
	var wait sync.WaitGroup
	defer wait.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	member := a.l.o.Member
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case all := <-a.updates:
			a.setTargets(ctx, &wait, all)
		case <-member.Changed():
			a.send(member.Expire())
			for _, asker := range a.askers {
				asker.ask()
			}
		case r := <-a.received:
			if r.message.Topic == "" {
				a.connected(r)
				continue
			}
			out, adopted := member.Receive(r.url, r.message)
			a.send(out)
			if adopted {
				a.flush(out)
				return true
			}
		case <-timer.C:
			a.send(member.Expire())
		}
		wait := farAway
		if at := member.Next(); !at.IsZero() {
			wait = max(0, time.Until(at))
		}
		timer.Reset(wait)
	}
}

// connected notes the result of connecting to an address.
func (a *asking) connected(r received) {
	a.l.o.Member.Asks(r.url, r.err)
	text := "asks the hub at " + r.url + " for adoption"
	level := slog.LevelInfo
	if r.err != nil {
		text, level = "cannot ask for adoption: "+r.err.Error()+certificateHint(r.err), slog.LevelWarn
		if r.url == LoopbackURL {
			return // most machines have no hub
		}
	}
	if a.logged[r.url] != text {
		a.logged[r.url] = text
		a.l.o.Log.Log(context.Background(), level, text)
	}
}

// certificateHint returns what to do where a broker lets nobody in without a certificate.
func certificateHint(err error) string {
	if !strings.Contains(err.Error(), "tls: certificate required") { // no type is exported
		return ""
	}
	return ": it requires a certificate of everybody (require_certificate): write cert_file, key_file and cafile into domain.toml, or adopt this machine before that is set"
}

// setTargets begins and ends askers, so that each target has one.
func (a *asking) setTargets(ctx context.Context, wait *sync.WaitGroup, all []target) {
	a.askers = slices.DeleteFunc(a.askers, func(s *asker) bool {
		gone := !slices.ContainsFunc(all, s.target.equal)
		if gone {
			s.cancel()
		}
		return gone
	})
	for _, t := range all {
		if slices.ContainsFunc(a.askers, func(s *asker) bool { return s.target.equal(t) }) {
			continue
		}
		s := &asker{asking: a, target: t}
		var own context.Context
		own, s.cancel = context.WithCancel(ctx)
		a.askers = append(a.askers, s)
		wait.Go(func() { s.run(own) })
	}
}

// send sends messages to hubs.
func (a *asking) send(out []ToHub) {
	topic, _ := a.l.o.Member.Topics()
	for _, m := range out {
		for _, s := range a.askers {
			s.publish(m.URL, topic, m.Payload)
		}
	}
}

// flush waits until messages have been sent, for a while.
func (a *asking) flush(out []ToHub) {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	for _, m := range out {
		for _, s := range a.askers {
			if conn := s.at(m.URL); conn != nil {
				if err := conn.Flush(ctx); err != nil {
					a.l.o.Log.Debug("the hub may not know yet that its adoption is stored", "error", err)
				}
			}
		}
	}
}

// asker asks at one target.
type asker struct {
	asking *asking
	target target
	cancel context.CancelFunc

	mu sync.Mutex
	// conn is the connection at url; nil: there is none.
	conn Conn
	url  string
}

// at returns the connection if it is to a URL.
func (s *asker) at(url string) Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.url != url {
		return nil
	}
	return s.conn
}

// set notes the connection; nil: it is over.
func (s *asker) set(url string, conn Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.url, s.conn = url, conn
}

// publish publishes a message if the asker is connected to a URL; "": wherever it is.
func (s *asker) publish(url, topic string, payload []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil && (url == "" || url == s.url) {
		s.conn.Publish(topics.Message{Topic: topic, QoS: topics.Lookup(topics.Request).QoS, Payload: payload})
	}
}

// ask publishes the question.
func (s *asker) ask() {
	q, err := s.asking.l.o.Member.Question()
	if err != nil {
		s.asking.l.o.Log.Error("cannot ask for adoption", "error", err)
		return
	}
	topic, _ := s.asking.l.o.Member.Topics()
	s.publish("", topic, q)
}

// run asks at the addresses of the target until ctx ends.
func (s *asker) run(ctx context.Context) {
	l := s.asking.l
	for attempt := 0; ; attempt++ {
		for _, url := range s.target.urls {
			err := s.serve(ctx, url, func() { attempt = 0 })
			if ctx.Err() != nil {
				return
			}
			s.report(ctx, received{url: url, err: err})
		}
		if !sleep(ctx, client.Backoff(attempt, l.o.Random)+l.o.Random(time.Second)) {
			return
		}
	}
}

// report passes something to the asking.
func (s *asker) report(ctx context.Context, r received) {
	select {
	case s.asking.received <- r:
	case <-ctx.Done():
	}
}

// serve connects to one address and asks there until the connection is over.
func (s *asker) serve(ctx context.Context, url string, connected func()) error {
	_, answers := s.asking.l.o.Member.Topics()
	conn, err := s.connect(ctx, url, answers)
	if err != nil {
		return err
	}
	defer conn.Close()
	subscribe, cancel := context.WithTimeout(ctx, AnswerTimeout)
	defer cancel()
	if err := conn.Subscribe(subscribe, answers); err != nil {
		return err
	}
	connected()
	s.set(url, conn)
	defer s.set("", nil)
	s.report(ctx, received{url: url})
	s.ask()
	again := time.NewTicker(askInterval)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-conn.Done():
			return conn.Err()
		case <-again.C:
			s.ask()
		}
	}
}

// connect connects to an address. A hub that only an announcement or a token names is not
// known yet: without a cafile its certificate is not verified, and it gets no
// credentials. What is sent there proves nothing and is no secret, until the hub has
// proved itself.
func (s *asker) connect(ctx context.Context, url, answers string) (Conn, error) {
	l := s.asking.l
	c := l.o.Config
	ctx, cancel := context.WithTimeout(ctx, AnswerTimeout)
	defer cancel()
	o := client.Options{
		URL: url, Interfaces: c.Zeroconf.Interfaces, MaxPacket: maxAnswer, Log: l.o.Log,
		ClientID: "join-" + topics.NewID(), CAFile: c.CAFile,
		OnMessage: func(m topics.Message) {
			if m.Topic != answers || m.Retain {
				return
			}
			select {
			case s.asking.received <- received{url: url, message: m}:
			default: // it is asked again
			}
		},
	}
	if own := c.User != "" || c.CertFile != ""; s.target.joined || own && (s.target.configured || l.verifiableByName(url)) {
		password, err := readPassword(c.PasswordFile)
		if err != nil {
			return nil, err
		}
		o.User, o.Password, o.CertFile, o.KeyFile = c.User, password, c.CertFile, c.KeyFile
	} else if c.CAFile == "" {
		o.TLS = &tls.Config{InsecureSkipVerify: true}
	}
	return l.open(ctx, o)
}
