package ctl

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/jmbarzee/dominion/broker/client"
	"github.com/jmbarzee/dominion/broker/locate"
	"github.com/jmbarzee/dominion/internal/mailbox"
	"github.com/jmbarzee/dominion/topics"
)

const (
	askTimeout     = 5 * time.Second
	connectTimeout = 3 * time.Second
)

// session is a connection to a broker, used by one goroutine.
type session struct {
	conn  *client.Conn
	tree  topics.Tree
	where string // the address, for people
	user  string

	box        *mailbox.Box[topics.Message]
	taken      []topics.Message // out of the box, not looked at
	held       []topics.Message // looked at while something else was waited for
	heldBytes  int              // of memory that these take up
	subscribed map[string]bool
	hubSays    string // the last word at hub/availability
}

// What may wait while a terminal scrolls: more log lines than that are lost,
// and reported as lost.
const (
	boxLimit = 100_000
	boxBytes = 16 << 20 // of memory; the same for what is held
)

// connect reaches the broker that the user named, or the one of this machine,
// or the one that zeroconf finds.
func (a *app) connect(ctx context.Context) (*session, error) {
	t, err := a.target()
	if err != nil {
		return nil, err
	}
	s, err := a.open(ctx, t.url, t, t.prefix)
	switch {
	case err == nil:
		return s, nil
	case ctx.Err() != nil:
		return nil, err
	case errors.Is(err, client.ErrNotAuthorized):
		return nil, refusedUser(err)
	case t.named:
		return nil, fail(ExitNoAnswer, hintUnreachable(err, locate.Encrypted(t.url)), "%v", err)
	}
	if a.talks && !a.json {
		a.say("nobody answers at %s: looking around …", t.url)
	}
	hub, err := a.find(ctx, t, a.window)
	if err != nil {
		return nil, err
	}
	return a.openFound(ctx, hub, t)
}

// openFound tries the addresses of a hub that zeroconf found.
func (a *app) openFound(ctx context.Context, hub foundHub, t target) (*session, error) {
	var all []error
	for _, url := range hub.urls {
		s, err := a.open(ctx, url, t, hub.prefixOf(t))
		if err == nil {
			return s, nil
		}
		if errors.Is(err, client.ErrNotAuthorized) {
			return nil, refusedUser(err)
		}
		all = append(all, err)
	}
	err := errors.Join(all...)
	hint := hintNobody
	if untrusted(err) {
		hint = hintUnreachable(err, true)
	}
	return nil, fail(ExitNoAnswer, hint, "zeroconf found the hub %s, but: %v", orDash(hub.name), err)
}

// hintUnreachable is what to do about a broker that could not be connected to.
func hintUnreachable(err error, secure bool) string {
	switch {
	case untrusted(err):
		return "trust who signed its certificate: --cafile ca.pem; it must name the host as you do"
	case strings.Contains(err.Error(), "tls: certificate required"): // an alert, of which crypto/tls exports no type
		return "show it a certificate of yours: --cert FILE --key FILE"
	case secure && (errors.As(err, new(tls.RecordHeaderError)) || errors.Is(err, io.EOF)):
		return "does that port speak TLS? else write --hub mqtt://host:port, without --cafile"
	case errors.Is(err, io.EOF):
		return "is that port one for TLS? then write --hub mqtts://host:port"
	default:
		return "is dominion running there? does the address reach it from here?"
	}
}

func untrusted(err error) bool { return errors.As(err, new(*tls.CertificateVerificationError)) }

func refusedUser(err error) error {
	return fail(ExitFailed, "log in with --user NAME --password-file FILE", "%v", err)
}

func (a *app) open(ctx context.Context, url string, t target, prefix string) (*session, error) {
	s := &session{
		tree: topics.NewTree(prefix), where: url, user: t.user,
		box:        mailbox.NewSized(boxLimit, boxBytes, topics.Message.Memory),
		subscribed: make(map[string]bool),
	}
	o := client.Options{
		URL: url, User: t.user, Password: t.password,
		ClientID:  "dominionctl-" + random(6),
		Timeout:   connectTimeout,
		OnMessage: s.box.Put,
		Log:       slog.New(slog.DiscardHandler),
	}
	if locate.Encrypted(url) {
		o.CAFile, o.CertFile, o.KeyFile = a.caFile, a.certFile, a.keyFile
	}
	var err error
	if s.conn, err = client.Connect(ctx, o); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *session) close() { s.conn.Close() }

// random returns so many random bytes as hex.
func random(bytes int) string {
	b := make([]byte, bytes)
	_, _ = rand.Read(b) // never fails, says crypto/rand
	return hex.EncodeToString(b)
}

// subscribe subscribes to what it has not yet.
func (s *session) subscribe(ctx context.Context, filters ...string) error {
	var missing []string
	for _, f := range filters {
		if !s.subscribed[f] {
			missing = append(missing, f)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	if err := s.conn.Subscribe(ctx, missing...); err != nil {
		if ctx.Err() != nil || s.over() {
			return fail(ExitNoAnswer, "", "%v", err)
		}
		return fail(ExitFailed, "the broker must allow user "+cmp.Or(s.user, "(none)")+" to read it", "%v", err)
	}
	for _, f := range missing {
		s.subscribed[f] = true
	}
	return nil
}

func (s *session) over() bool {
	select {
	case <-s.conn.Done():
		return true
	default:
		return false
	}
}

// receive returns the next message off the wire.
func (s *session) receive(ctx context.Context) (topics.Message, error) {
	for len(s.taken) == 0 {
		select {
		case <-ctx.Done():
			return topics.Message{}, ctx.Err()
		case <-s.box.Ready():
			var dropped int
			if s.taken, dropped = s.box.Take(); dropped > 0 {
				return topics.Message{}, fail(ExitFailed, "", "%d messages came faster than they could be shown", dropped)
			}
		case <-s.conn.Done():
			return topics.Message{}, s.ended()
		}
	}
	m := s.taken[0]
	s.taken = s.taken[1:]
	if m.Topic == s.tree.Hub(topics.HubAvailability) {
		s.hubSays = string(m.Payload)
	}
	return m, nil
}

// ended says that the connection is over, and why.
func (s *session) ended() error {
	why := cmp.Or(s.conn.Err(), errors.New("the connection is closed"))
	return fail(ExitNoAnswer, "the broker stopped, or the network broke: try again", "%v", why)
}

// publish sends an order or a question.
func (s *session) publish(m topics.Message) { s.conn.Publish(m) }

// next returns the next message, also one that was held back.
func (s *session) next(ctx context.Context) (topics.Message, error) {
	if len(s.held) > 0 {
		m := s.held[0]
		s.held = s.held[1:]
		s.heldBytes -= m.Memory()
		return m, nil
	}
	return s.receive(ctx)
}

// ask sends a request to the hub and waits for its answer; an answer that
// says error is an error.
func (s *session) ask(ctx context.Context, verb string, ask topics.Ask, timeout time.Duration) (topics.Reply, error) {
	request, response := s.tree.Request(verb)
	availability := s.tree.Hub(topics.HubAvailability)
	waiting, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := s.subscribe(waiting, response, availability); err != nil {
		return topics.Reply{}, err
	}
	ask.Transaction = random(8)
	question := s.tree.Message(topics.Address{Kind: topics.Request, Verb: verb}, topics.Encode(ask))
	question.Topic = request
	s.publish(question)
	var unreadable error
	for {
		m, err := s.receive(waiting)
		switch {
		case err != nil && ctx.Err() != nil:
			return topics.Reply{}, ctx.Err()
		case errors.Is(err, context.DeadlineExceeded):
			return topics.Reply{}, s.silence(timeout, unreadable)
		case err != nil:
			return topics.Reply{}, err
		case m.Topic == availability:
			// A hub that has just started did not hear the question.
			if !m.Retain && s.hubSays == topics.Online {
				s.publish(question)
			}
		case m.Topic == response:
			r, err := topics.DecodeForDisplay[topics.Reply](m.Topic, m.Payload)
			if err != nil {
				unreadable = err // perhaps not ours: everybody's answers come here
				continue
			}
			if r.Transaction != ask.Transaction {
				continue
			}
			return r, refusal(r)
		default:
			if err := s.hold(m); err != nil {
				return topics.Reply{}, err
			}
		}
	}
}

// hold puts a message aside for next, while something else is waited for.
func (s *session) hold(m topics.Message) error {
	if s.heldBytes += m.Memory(); s.heldBytes > boxBytes {
		return fail(ExitFailed, "is that the right broker?", "the broker sends more than %d MB that nothing was asked about", boxBytes>>20)
	}
	s.held = append(s.held, m)
	return nil
}

// dropHeld forgets messages that were put aside, those for which drop says so.
func (s *session) dropHeld(drop func(topics.Message) bool) {
	s.held = slices.DeleteFunc(s.held, func(m topics.Message) bool {
		if !drop(m) {
			return false
		}
		s.heldBytes -= m.Memory()
		return true
	})
}

// refusal is the error of an answer that says error: of the hub or an agent, or of
// the broker where the user may not ask that.
func refusal(r topics.Reply) error {
	if r.Status == topics.StatusOK {
		return nil
	}
	if rest, denied := strings.CutPrefix(r.Error, topics.DeniedPrefix); denied {
		hint := "log in with --user NAME --password-file FILE"
		if topic, user, named := strings.Cut(rest, " of user "); named {
			hint = "its role or a rule does not allow it; an admin sees which: dominionctl access " + commandWord(user) + " publish " + topic
		}
		return fail(ExitFailed, hint, "%s", r.Error)
	}
	return fail(ExitFailed, "", "%s", cmp.Or(r.Error, "refused, without a reason"))
}

// silence says that no answer came, and what there is to see of it.
func (s *session) silence(timeout time.Duration, unreadable error) error {
	hint := ""
	switch {
	case unreadable != nil:
		return fail(ExitNoAnswer, "update dominionctl, or the hub", "the hub's answer cannot be read: %v", unreadable)
	case s.hubSays == topics.Offline:
		hint = "the broker is up, but the hub is offline: start dominion, or see its log why it is not ready"
	case s.hubSays == topics.Online:
		hint = fmt.Sprintf("the hub says that it is online: is user %s allowed to ask it? else try --timeout 30s", cmp.Or(s.user, "(none)"))
	default:
		hint = fmt.Sprintf("a broker is there, but no hub was ever on it at %s/: is it the right one, and the right --prefix?", s.tree.Prefix())
	}
	return fail(ExitNoAnswer, hint, "the hub did not answer at %s within %v", s.where, timeout)
}
