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
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/jmbarzee/dominion/broker/client"
	"github.com/jmbarzee/dominion/broker/locate"
	"github.com/jmbarzee/dominion/identity"
	"github.com/jmbarzee/dominion/internal/mailbox"
	"github.com/jmbarzee/dominion/topics"
)

const (
	askTimeout     = 5 * time.Second
	connectTimeout = 3 * time.Second
)

// session is a connection to a broker, used by one goroutine.
type session struct {
	app  *app
	conn *client.Conn
	tree topics.Tree
	// where is the address, for people.
	where string
	user  string

	box *mailbox.Box[topics.Message]
	// received was taken out of the box and is not examined yet.
	received []topics.Message
	// queue was examined while something else was waited for.
	queue []topics.Message
	// queueBytes is the memory of the queue.
	queueBytes int
	subscribed map[string]bool
	// private is set if nobody else can read what is sent, and the hub knows who sends it.
	private bool
	// hubAvailability is the last payload at hub/availability.
	hubAvailability string
}

// What may wait while a terminal scrolls: more log lines than that are lost,
// and reported as lost.
const (
	boxLimit = 100_000
	boxBytes = 16 << 20 // of memory; the same for the queue
)

// connect reaches the broker that the user named, or the one of this machine,
// or the one that zeroconf finds.
func (a *app) connect(ctx context.Context) (*session, error) {
	t, err := a.target()
	if err != nil {
		return nil, err
	}
	s, err := a.open(ctx, t.url, t, t.prefix)
	if err == nil {
		return s, nil
	}
	switch {
	case ctx.Err() != nil:
		return nil, err
	case errors.Is(err, client.ErrNotAuthorized):
		return nil, refusedUser(err)
	case t.named && strings.HasPrefix(t.url, controlScheme) && errors.Is(err, fs.ErrPermission):
		return nil, socketDenied(err)
	case t.named:
		return nil, fail(ExitNoAnswer, hintUnreachable(err, locate.Encrypted(t.url)), "%v", err)
	}
	if a.interactive && !a.json {
		a.infof("nobody answers at %s: looking around …", t.url)
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
	if untrusted(err) || refusedCertificate(err) {
		hint = hintUnreachable(err, true)
	}
	return nil, fail(ExitNoAnswer, hint, "zeroconf found the hub %s, but: %v", orDash(hub.name), err)
}

// hintUnreachable is what to do about a broker that could not be connected to.
func hintUnreachable(err error, secure bool) string {
	switch {
	case untrusted(err):
		return "trust who signed its certificate: dominionctl ca > ca.pem on the hub's machine writes the file, and --cafile ca.pem here trusts it; the certificate must name the host as you do"
	case strings.Contains(err.Error(), "tls: certificate required"): // an alert, of which crypto/tls exports no type
		return "show it a certificate of yours: --cert FILE --key FILE"
	case refusedCertificate(err):
		return "the hub does not accept the certificate: its key was revoked, it has ended, or the hub has no record of it; `sudo dominionctl user certificate NAME` on the hub's machine makes another one"
	case secure && (errors.As(err, new(tls.RecordHeaderError)) || errors.Is(err, io.EOF)):
		return "does that port speak TLS? else write --hub mqtt://host:port, without --cafile"
	case errors.Is(err, io.EOF):
		return "is that port one for TLS? then write --hub mqtts://host:port"
	default:
		return "is dominion running there? does the address reach it from here?"
	}
}

// untrusted reports whether the certificate of the broker could not be verified.
func untrusted(err error) bool { return errors.As(err, new(*tls.CertificateVerificationError)) }

// refusedCertificate reports whether the broker does not accept the certificate of this client. It says so
// by an alert, of which crypto/tls exports no type.
func refusedCertificate(err error) bool {
	return strings.Contains(err.Error(), "remote error: tls: bad certificate")
}

func refusedUser(err error) error {
	return fail(ExitFailed, "log in with --user NAME --password-file FILE", "%v", err)
}

// open connects to one address.
func (a *app) open(ctx context.Context, url string, t target, prefix string) (*session, error) {
	s := &session{
		app: a, tree: topics.NewTree(prefix), where: url, user: t.user,
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
	path, control := strings.CutPrefix(url, controlScheme)
	if control {
		dialControl(&o, path, t.found)
	}
	s.private = control || locate.Encrypted(url) && (t.user != "" || o.CertFile != "")
	if s.user == "" && o.CertFile != "" {
		s.user = certificateUser(o.CertFile)
	}
	o.OnRefused = client.AnswerRefused(s.tree, s.user, s.private, s.box.Put)
	var err error
	if s.conn, err = client.Connect(ctx, o); err != nil {
		return nil, err
	}
	return s, nil
}

// certificateUser returns the user that a certificate logs in as; "" where the file cannot be
// read, which the connection reports.
func certificateUser(file string) string {
	pem, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	all, err := identity.ParseCertificates(pem)
	if err != nil || len(all) == 0 {
		return ""
	}
	if subject, err := identity.SubjectOf(all[0]); err == nil {
		return subject.Name
	}
	return all[0].Subject.CommonName
}

func (s *session) close() { s.conn.Close() }

// random returns so many random bytes as hex.
func random(bytes int) string {
	b := make([]byte, bytes)
	_, _ = rand.Read(b) // never fails, as crypto/rand documents
	return hex.EncodeToString(b)
}

// holdsSecret reports whether a request holds what nobody else may read. The hub would
// refuse it on a connection that is not private, but only after others could have read it:
// who listens on the wire, and every subscriber of another broker.
func holdsSecret(ask topics.HubRequest) bool {
	return ask.Code != "" || ask.Value != "" || ask.Hash != "" || ask.TOML != ""
}

// subscribe subscribes to those filters that it has not subscribed to.
func (s *session) subscribe(ctx context.Context, filters ...string) error {
	var added []string
	for _, f := range filters {
		if !s.subscribed[f] {
			added = append(added, f)
		}
	}
	if len(added) == 0 {
		return nil
	}
	if err := s.conn.Subscribe(ctx, added...); err != nil {
		if ctx.Err() != nil || s.closed() {
			return fail(ExitNoAnswer, "", "%v", err)
		}
		return fail(ExitFailed, "the broker must allow user "+cmp.Or(s.user, "(none)")+" to read it", "%v", err)
	}
	for _, f := range added {
		s.subscribed[f] = true
	}
	return nil
}

// closed reports whether the connection has ended.
func (s *session) closed() bool {
	select {
	case <-s.conn.Done():
		return true
	default:
		return false
	}
}

// receive returns the next message off the wire.
func (s *session) receive(ctx context.Context) (topics.Message, error) {
	for len(s.received) == 0 {
		select {
		case <-ctx.Done():
			return topics.Message{}, ctx.Err()
		case <-s.box.Ready():
			var dropped int
			if s.received, dropped = s.box.Take(); dropped > 0 {
				return topics.Message{}, fail(ExitFailed, "", "%d messages came faster than they could be shown", dropped)
			}
		case <-s.conn.Done():
			return topics.Message{}, s.closedError()
		}
	}
	m := s.received[0]
	s.received = s.received[1:]
	if m.Topic == s.tree.Hub(topics.HubAvailability) {
		s.hubAvailability = string(m.Payload)
	}
	return m, nil
}

// closedError says that the connection is over, and why.
func (s *session) closedError() error {
	why := cmp.Or(s.conn.Err(), errors.New("the connection is closed"))
	return fail(ExitNoAnswer, "the broker stopped, or the network broke: try again", "%v", why)
}

// publish sends an order or a question.
func (s *session) publish(m topics.Message) { s.conn.Publish(m) }

// next returns the next message: from the queue, or from the network.
func (s *session) next(ctx context.Context) (topics.Message, error) {
	if len(s.queue) > 0 {
		m := s.queue[0]
		s.queue = s.queue[1:]
		s.queueBytes -= m.Memory()
		return m, nil
	}
	return s.receive(ctx)
}

// ask sends a request to the hub and waits for its answer; an answer that
// says error is an error.
func (s *session) ask(ctx context.Context, verb string, ask topics.HubRequest, timeout time.Duration) (topics.Reply, error) {
	request, response := s.tree.Request(verb)
	availability := s.tree.Hub(topics.HubAvailability)
	if !s.private && topics.IsPrivate(verb) && holdsSecret(ask) {
		return topics.Reply{}, fail(ExitFailed, "", "%s", topics.PrivateRefusal(verb))
	}
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
			return topics.Reply{}, s.noAnswer(timeout, unreadable)
		case err != nil:
			return topics.Reply{}, err
		case m.Topic == availability:
			// A hub that has just started did not hear the question.
			if !m.Retain && s.hubAvailability == topics.Online {
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
			if err := s.enqueue(m); err != nil {
				return topics.Reply{}, err
			}
		}
	}
}

// enqueue appends a message to the queue for next, while something else is waited for.
func (s *session) enqueue(m topics.Message) error {
	if s.queueBytes += m.Memory(); s.queueBytes > boxBytes {
		return fail(ExitFailed, "is that the right broker?", "the broker sends more than %d MB that nothing was asked about", boxBytes>>20)
	}
	s.queue = append(s.queue, m)
	return nil
}

// dropQueued removes from the queue the messages for which drop reports true.
func (s *session) dropQueued(drop func(topics.Message) bool) {
	s.queue = slices.DeleteFunc(s.queue, func(m topics.Message) bool {
		if !drop(m) {
			return false
		}
		s.queueBytes -= m.Memory()
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

// noAnswer is the error that the hub did not answer, with the likely cause as hint.
func (s *session) noAnswer(timeout time.Duration, unreadable error) error {
	hint := ""
	switch {
	case unreadable != nil:
		return fail(ExitNoAnswer, "update dominionctl, or the hub", "the hub's answer cannot be read: %v", unreadable)
	case s.hubAvailability == topics.Offline:
		hint = "the broker is up, but the hub is offline: start dominion, or see its log why it is not ready"
	case s.hubAvailability == topics.Online:
		hint = fmt.Sprintf("the hub says that it is online: is user %s allowed to ask it? else try --timeout 30s", cmp.Or(s.user, "(none)"))
	default:
		hint = fmt.Sprintf("a broker is there, but no hub was ever on it at %s/: is it the right one, and the right --prefix?", s.tree.Prefix())
	}
	return fail(ExitNoAnswer, hint, "the hub did not answer at %s within %v", s.where, timeout)
}
