package link

import (
	"context"
	"crypto/ecdh"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/jmbarzee/dominion/broker/client"
	"github.com/jmbarzee/dominion/identity/signed"
	"github.com/jmbarzee/dominion/internal/passwordfile"
	"github.com/jmbarzee/dominion/topics"
)

// join is a join that a hub granted, and the broker where it was found.
type join struct {
	candidate
	grant topics.Grant
	// keys are those of the MACs; nil: the domain has no key.
	keys *signed.Keys
}

// refusalError is the reason for which a hub refuses the join.
type refusalError struct{ reason string }

func (r refusalError) Error() string { return "the hub refuses this domain: " + r.reason }

// tryCandidates requests the join of the candidates in their order. pause is how
// long to wait before the next try.
func (l *Link) tryCandidates(ctx context.Context, candidates []candidate, attempt int) (granted *join, pause time.Duration) {
	pause = min(maxRetry, client.Backoff(attempt, l.o.Random))
	for i, c := range candidates {
		limit := AnswerTimeout
		if i < len(candidates)-1 {
			limit = shortTimeout
		}
		j, err := l.requestJoin(ctx, c, limit)
		if ctx.Err() != nil {
			return nil, pause
		}
		if err == nil {
			l.refused, l.mustBeAdopted = false, false
			return &j, 0
		}
		l.refused = l.refused || notAdopted(err)
		var strange impostorError
		switch {
		case errors.As(err, &strange):
			l.report(err.Error())
		case c.url == LoopbackURL && c.dominion.ID == "" && !errors.As(err, new(refusalError)) && !errors.As(err, new(wrongDominionError)):
			continue // most machines have no hub
		default:
			l.logOnce(c.url, slog.LevelWarn, err.Error())
		}
		var refusal refusalError
		if _, adopted := l.home(); !adopted && errors.As(err, &refusal) && strings.HasPrefix(refusal.reason, topics.AdoptionRequired) {
			l.mustBeAdopted = true
		}
		if errors.As(err, new(refusalError)) || errors.Is(err, client.ErrNotAuthorized) {
			// the hub answers, and will not decide otherwise within milliseconds
			pause = refusedRetry + l.o.Random(time.Second*time.Duration(min(attempt, 2)+1))
		}
	}
	return nil, pause
}

// notAdopted reports whether a join failed because the hub does not know the domain, which belongs
// to it: by its answer, or in the handshake, where it may have revoked the domain as well.
func notAdopted(err error) bool {
	var refused refusalError
	if errors.As(err, &refused) {
		return strings.HasPrefix(refused.reason, topics.NotAdoptedPrefix)
	}
	return strings.Contains(err.Error(), "tls: bad certificate") // no type is exported
}

// verifyGrant returns an error if the dominion that granted the join is not to be
// joined: its address may have been reassigned to another machine.
func (l *Link) verifyGrant(c candidate, g topics.Grant) error {
	d, policy := Dominion{g.Dominion, g.Name}, l.joinPolicy()
	strange := policy.impostor(d)
	switch {
	case g.Dominion == "":
		return errors.New("the hub granted the join without the id of its dominion: not joined")
	case strange != "":
		return impostorError(fmt.Sprintf("at %s: %s", c.url, strange))
	case c.dominion.ID != "" && c.dominion.ID != d.ID:
		return wrongDominionError(fmt.Sprintf("at %s is dominion %q now, not %q: not joined", c.url, g.Name, c.dominion.Name))
	case policy.allows(d):
		return nil
	case policy.name != "":
		return wrongDominionError(fmt.Sprintf("at %s is dominion %q, domain.toml wants %q: not joined", c.url, g.Name, policy.name))
	}
	return wrongDominionError(fmt.Sprintf("at %s is dominion %q, this domain belongs to %q: not joined (to move there, set dominion = %q in domain.toml)", c.url, g.Name, policy.previous.Name, g.Name))
}

// impostorError is the error of a dominion that has the name of the one joined
// before and another id, wrongDominionError that of any other that must not be
// joined.
type (
	impostorError      string
	wrongDominionError string
)

func (e impostorError) Error() string      { return string(e) }
func (e wrongDominionError) Error() string { return string(e) }

// requestJoin connects to a broker, requests the join and returns what the hub granted. It
// waits no longer than limit for the connection.
func (l *Link) requestJoin(ctx context.Context, c candidate, limit time.Duration) (join, error) {
	e, err := l.newJoin(c)
	if err != nil {
		return join{}, err
	}
	g, err := l.request(ctx, c, limit, e)
	if err != nil {
		l.setUnanswered(e, err)
		return join{}, err
	}
	return l.granted(c, e, g)
}

// maxAgain is how often a request to join that was not answered is made again.
const maxAgain = 10

// setUnanswered notes a signed request to join that was not answered: the next one at the same
// broker is this one again, because a hub that is slow may have granted it, and answers it
// without granting another one.
func (l *Link) setUnanswered(e *exchange, err error) {
	if e.key != nil && e.times < maxAgain && !errors.As(err, new(refusalError)) {
		l.unanswered = e
	}
}

// newJoin returns a request to join. That of an adopted domain has a key for this join alone,
// from which the keys of the MACs are derived.
func (l *Link) newJoin(c candidate) (*exchange, error) {
	if e := l.unanswered; e != nil && e.url == c.url {
		l.unanswered = nil
		e.times++
		e.ask.Response, e.payload = e.own, nil
		return e, nil
	}
	e := l.newExchange()
	e.url = c.url
	if _, adopted := l.home(); !adopted {
		return e, nil
	}
	var err error
	if e.key, err = signed.NewEphemeral(); err != nil {
		return nil, err
	}
	e.ask.Ephemeral = e.key.PublicKey().Bytes()
	if l.o.Services != nil {
		e.ask.Certified = l.o.Services.Certified()
	}
	return e, nil
}

// granted returns the join that was granted, or why it is not taken.
func (l *Link) granted(c candidate, e *exchange, g topics.Grant) (join, error) {
	if err := l.verifyGrant(c, g); err != nil || e.key == nil {
		return join{c, g, nil}, err
	}
	other, err := signed.ParseEphemeral(g.Ephemeral)
	if err != nil {
		return join{}, fmt.Errorf("cannot join at %s: %w: bring hub and agent to the same version", c.url, err)
	}
	keys, err := signed.Exchange{Dominion: g.Dominion, Domain: l.o.ID, Session: l.o.Session, Run: g.Run}.Derive(e.key, other)
	if err != nil {
		return join{}, fmt.Errorf("cannot join at %s: %w", c.url, err)
	}
	return join{c, g, &keys}, nil
}

// request connects to a broker, makes a request and returns the hub's answer.
func (l *Link) request(ctx context.Context, c candidate, limit time.Duration, e *exchange) (topics.Grant, error) {
	connectCtx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	conn, err := l.connectToJoin(connectCtx, c, e.receive)
	if err != nil {
		return topics.Grant{}, err
	}
	defer conn.Close()
	answer := AnswerTimeout
	if c.url == LoopbackURL {
		answer = shortTimeout // a broker without a hub must not delay other candidates
	}
	ctx, cancel = context.WithTimeout(ctx, answer)
	defer cancel()
	return l.exchange(ctx, conn, c, e)
}

// connectToJoin connects to request the join. It does so without a will and with a
// client id of its own, so that a domain which is refused leaves no trace and does
// not take over the connection of another machine that has its name, or, on a
// copied disk, also its id.
func (l *Link) connectToJoin(ctx context.Context, c candidate, onMessage func(topics.Message)) (Conn, error) {
	conn, err := l.connect(ctx, c, "domain-"+l.o.ID+"-join", nil, onMessage)
	if errors.Is(err, client.ErrClientID) {
		// The id is another machine's, according to the broker: the hub, when it is
		// asked with another client id, answers whose it is and what to do.
		conn, err = l.connect(ctx, c, "join-"+l.o.Session, nil, onMessage)
	}
	if errors.Is(err, client.ErrClientID) {
		err = fmt.Errorf("%w%s", err, l.permissionHint())
	}
	return conn, err
}

// exchange is one request to join and its answer.
type exchange struct {
	ask topics.HubRequest
	// request is the topic of the request. The answer comes at own, a topic of this
	// domain alone, or from an older hub at common.
	request, own, common string
	answers              chan answer
	// payload is ask as it is published; nil: it is not encoded.
	payload []byte
	// key is for the exchange of a join; nil: the domain has no key, or it is no join.
	key *ecdh.PrivateKey
	// url is where a join is requested, times how often it was requested again.
	url   string
	times int
}

// answer is an answer to a request: the message, and what it says, which is not verified.
type answer struct {
	message topics.Message
	reply   topics.Reply
}

// maxForged is how many answers that are not believed a request waits through.
const maxForged = 8

// newExchange returns a request with what this domain shows of itself to a hub.
func (l *Link) newExchange() *exchange {
	l.unanswered = nil // its number is too low from now on
	e := &exchange{answers: make(chan answer, maxForged)}
	e.request, e.common = l.o.Tree.Request(topics.VerbJoin)
	e.own = l.o.Tree.Topic(topics.Address{Kind: topics.ResponseTo, Verb: topics.VerbJoin, Domain: l.o.Config.Name})
	e.ask = topics.HubRequest{
		Transaction: topics.NewID(), Response: e.own, ID: l.o.ID, Name: l.o.Config.Name, Session: l.o.Session,
		Protocol: topics.Protocol, Address: l.o.Address(),
	}
	if l.o.Member != nil {
		e.ask.Word, e.ask.Authority = l.o.Member.Word(), l.o.Member.Authority()
	}
	if _, adopted := l.home(); adopted {
		l.requests++
		e.ask.Number = l.requests
	}
	return e
}

// message returns the request as it is published: signed, if a dominion has adopted the domain.
func (l *Link) message(e *exchange) (topics.Message, error) {
	if e.payload == nil {
		var err error
		if e.payload, err = l.encode(e.ask); err != nil {
			return topics.Message{}, err
		}
	}
	return topics.Message{Topic: e.request, QoS: topics.Lookup(topics.Request).QoS, Payload: e.payload}, nil
}

// encode returns a request to join as it is published.
func (l *Link) encode(ask topics.HubRequest) ([]byte, error) {
	if l.o.Member == nil {
		return topics.Encode(ask), nil
	}
	return l.o.Member.SignJoin(ask)
}

// verify returns the grant of an answer. An adopted domain believes its hub alone.
func (l *Link) verify(e *exchange, a answer) (topics.Grant, error) {
	reply := a.reply
	if l.o.Member != nil {
		payload, err := l.o.Member.VerifyAnswer(a.message)
		if err == nil {
			reply, err = topics.Decode[topics.Reply](a.message.Topic, payload)
		}
		if err != nil {
			return topics.Grant{}, err
		}
	}
	return topics.Decode[topics.Grant](e.common, reply.Data)
}

// receive passes on the answer, if a message is it.
func (e *exchange) receive(m topics.Message) {
	if m.Topic != e.common && m.Topic != e.own || m.Retain {
		return
	}
	reply, err := topics.Decode[topics.Reply](m.Topic, m.Payload)
	if err != nil || reply.Transaction != e.ask.Transaction {
		return // of another request
	}
	select {
	case e.answers <- answer{m, reply}:
	default:
	}
}

// exchange publishes the request until the hub answers, and returns its grant.
func (l *Link) exchange(ctx context.Context, conn Conn, c candidate, e *exchange) (topics.Grant, error) {
	requests := 1
	if conn.Subscribe(ctx, e.own) != nil {
		requests = ownTopicRequests + 1 // refused by an older broker; or the connection is dead, and the next packet finds that
	}
	again := time.NewTicker(requestInterval)
	defer again.Stop()
	forged := 0
	for ; ; requests++ {
		if requests == ownTopicRequests+1 { // a hub or access rules that know the common topic alone
			e.ask.Response, e.payload = "", nil
			if err := conn.Subscribe(ctx, e.common); err != nil {
				return topics.Grant{}, err
			}
		}
		m, err := l.message(e)
		if err != nil {
			return topics.Grant{}, err
		}
		conn.Publish(m)
		for waiting := true; waiting; {
			select {
			case a := <-e.answers:
				if a.reply.Status != topics.StatusOK {
					if strings.HasPrefix(a.reply.Error, topics.DeniedPrefix) {
						a.reply.Error += l.permissionHint()
					}
					return topics.Grant{}, refusalError{a.reply.Error}
				}
				g, err := l.verify(e, a)
				if err == nil {
					return g, nil
				}
				if forged++; forged == maxForged {
					return topics.Grant{}, fmt.Errorf("cannot join at %s: the answers are not of the hub of this domain: %w", c.url, err)
				}
				l.logOnce("answer of "+c.url, slog.LevelWarn, fmt.Sprintf("an answer at %s is not believed: %v", c.url, err))
			case <-conn.Done():
				return topics.Grant{}, fmt.Errorf("%s ended the connection before a hub answered%s: %w", c.url, l.permissionHint(), conn.Err())
			case <-ctx.Done():
				return topics.Grant{}, fmt.Errorf("no hub answers at the broker %s%s", c.url, l.permissionHint())
			case <-again.C: // the broker may be up before the hub behind it
				waiting = false
			}
		}
	}
}

// permissionHint returns another possible reason for a request without an answer: a
// publish that the role of a user does not allow is dropped by a broker that is not
// the dominion's own, or ends the connection (MQTT 3.1.1, 3.3.5).
func (l *Link) permissionHint() string {
	if l.o.Config.User == "" {
		return ""
	}
	return fmt.Sprintf(" (or the user %q may not ask: it needs the role domain)", l.o.Config.User)
}

// connect opens a connection to a candidate, with the credentials of the
// configuration.
func (l *Link) connect(ctx context.Context, c candidate, clientID string, will *topics.Message, onMessage func(topics.Message)) (Conn, error) {
	password, err := readPassword(l.o.Config.PasswordFile)
	if err != nil {
		return nil, err
	}
	o := client.Options{
		Interfaces: l.o.Config.Zeroconf.Interfaces,
		URL:        c.url, User: l.o.Config.User, Password: password, CAFile: l.o.Config.CAFile,
		CertFile: l.o.Config.CertFile, KeyFile: l.o.Config.KeyFile,
		TLS: l.secure(c.url), ClientID: clientID, Will: will, OnMessage: onMessage, MaxPacket: maxPacket, Log: l.o.Log,
		OnRefused: client.AnswerRefused(l.o.Tree, l.o.Config.User, false, onMessage),
	}
	return l.open(ctx, o)
}

// open opens a connection.
func (l *Link) open(ctx context.Context, o client.Options) (Conn, error) {
	if l.o.Dial != nil {
		u, err := url.Parse(o.URL)
		if err != nil {
			return nil, fmt.Errorf("cannot read the hub's URL %q: %w", o.URL, err)
		}
		o.Dial = func(ctx context.Context) (net.Conn, error) { return l.o.Dial(ctx, u.Host) }
	}
	return l.o.Connect(ctx, o)
}

func readPassword(file string) (string, error) {
	if file == "" {
		return "", nil
	}
	password, err := passwordfile.Read(file)
	if err != nil {
		return "", fmt.Errorf("cannot read password_file: %w", err)
	}
	return password, nil
}
