package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/jmbarzee/dominion/broker/client"
	"github.com/jmbarzee/dominion/internal/passwordfile"
	"github.com/jmbarzee/dominion/topics"
)

// join is a join that a hub granted, and the broker where it was found.
type join struct {
	candidate
	grant topics.Grant
}

// refusalError is the reason for which a hub refuses the join.
type refusalError struct{ reason string }

func (r refusalError) Error() string { return "the hub refuses this domain: " + r.reason }

// tryCandidates requests the join of the candidates in their order. pause is how
// long to wait before the next try.
func (l *link) tryCandidates(ctx context.Context, candidates []candidate, attempt int) (granted *join, pause time.Duration) {
	pause = min(maxRetry, client.Backoff(attempt, l.random))
	for i, c := range candidates {
		limit := answerTimeout
		if i < len(candidates)-1 {
			limit = shortTimeout
		}
		grant, err := l.requestJoin(ctx, c, limit)
		if ctx.Err() != nil {
			return nil, pause
		}
		if err == nil {
			err = l.verifyGrant(c, grant)
		}
		if err == nil {
			return &join{c, grant}, 0
		}
		var strange impostorError
		switch {
		case errors.As(err, &strange):
			l.report(err.Error())
		case c.url == loopbackURL && c.dominion.ID == "" && !errors.As(err, new(refusalError)) && !errors.As(err, new(wrongDominionError)):
			continue // most machines have no hub
		default:
			l.logOnce(c.url, slog.LevelWarn, err.Error())
		}
		if errors.As(err, new(refusalError)) || errors.Is(err, client.ErrNotAuthorized) {
			// the hub answers, and will not decide otherwise within milliseconds
			pause = refusedRetry + l.random(time.Second*time.Duration(min(attempt, 2)+1))
		}
	}
	return nil, pause
}

// verifyGrant returns an error if the dominion that granted the join is not to be
// joined: its address may have been reassigned to another machine.
func (l *link) verifyGrant(c candidate, g topics.Grant) error {
	d, policy := identity{g.Dominion, g.Name}, l.joinPolicy()
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

// requestJoin connects and requests the join. It does so without a will and with a
// client id of its own, so that a domain which is refused leaves no trace and does
// not take over the connection of another machine that has its name, or, on a
// copied disk, also its id.
func (l *link) requestJoin(ctx context.Context, c candidate, limit time.Duration) (topics.Grant, error) {
	request, response := l.tree.Request(topics.VerbJoin)
	own := l.tree.Topic(topics.Address{Kind: topics.ResponseTo, Verb: topics.VerbJoin, Domain: l.config.Name})
	transaction := topics.NewID()
	answers := make(chan topics.Reply, 1)
	connectCtx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	onMessage := func(m topics.Message) {
		if m.Topic != response && m.Topic != own || m.Retain {
			return
		}
		reply, err := topics.Decode[topics.Reply](m.Topic, m.Payload)
		if err != nil || reply.Transaction != transaction {
			return // of another request
		}
		select {
		case answers <- reply:
		default:
		}
	}
	conn, err := l.connect(connectCtx, c, "domain-"+l.id+"-join", nil, onMessage)
	if errors.Is(err, client.ErrClientID) {
		// The id is another machine's, according to the broker: the hub, when it is
		// asked with another client id, answers whose it is and what to do.
		conn, err = l.connect(connectCtx, c, "join-"+l.session, nil, onMessage)
	}
	if errors.Is(err, client.ErrClientID) {
		err = fmt.Errorf("%w%s", err, l.permissionHint())
	}
	if err != nil {
		return topics.Grant{}, err
	}
	defer conn.Close()
	answer := answerTimeout
	if c.url == loopbackURL {
		answer = shortTimeout // a broker without a hub must not delay other candidates
	}
	ctx, cancel = context.WithTimeout(ctx, answer)
	defer cancel()
	requests := 1
	if conn.Subscribe(ctx, own) != nil {
		requests = ownTopicRequests + 1 // refused by an older broker; or the connection is dead, and the next packet finds that
	}
	ask := topics.Ask{
		Transaction: transaction, Response: own, ID: l.id, Name: l.config.Name, Session: l.session,
		Protocol: topics.Protocol, Address: *l.address.Load(),
	}
	again := time.NewTicker(requestInterval)
	defer again.Stop()
	for ; ; requests++ {
		if requests == ownTopicRequests+1 { // a hub or access rules that know the common topic alone
			ask.Response = ""
			if err := conn.Subscribe(ctx, response); err != nil {
				return topics.Grant{}, err
			}
		}
		conn.Publish(topics.Message{Topic: request, QoS: topics.Lookup(topics.Request).QoS, Payload: topics.Encode(ask)})
		select {
		case reply := <-answers:
			if reply.Status != topics.StatusOK {
				if strings.HasPrefix(reply.Error, topics.DeniedPrefix) {
					reply.Error += l.permissionHint()
				}
				return topics.Grant{}, refusalError{reply.Error}
			}
			return topics.Decode[topics.Grant](response, reply.Data)
		case <-conn.Done():
			return topics.Grant{}, fmt.Errorf("%s ended the connection before a hub answered%s: %w", c.url, l.permissionHint(), conn.Err())
		case <-ctx.Done():
			return topics.Grant{}, fmt.Errorf("no hub answers at the broker %s%s", c.url, l.permissionHint())
		case <-again.C: // the broker may be up before the hub behind it
		}
	}
}

// permissionHint returns another possible reason for a request without an answer: a
// publish that the role of a user does not allow is dropped by a broker that is not
// the dominion's own, or ends the connection (MQTT 3.1.1, 3.3.5).
func (l *link) permissionHint() string {
	if l.config.User == "" {
		return ""
	}
	return fmt.Sprintf(" (or the user %q may not ask: it needs the role domain)", l.config.User)
}

// connect opens a connection to a candidate, with the credentials of the
// configuration.
func (l *link) connect(ctx context.Context, c candidate, clientID string, will *topics.Message, onMessage func(topics.Message)) (Conn, error) {
	password, err := readPassword(l.config.PasswordFile)
	if err != nil {
		return nil, err
	}
	o := client.Options{
		Interfaces: l.config.Zeroconf.Interfaces,
		URL:        c.url, User: l.config.User, Password: password, CAFile: l.config.CAFile,
		CertFile: l.config.CertFile, KeyFile: l.config.KeyFile,
		ClientID: clientID, Will: will, OnMessage: onMessage, MaxPacket: maxPacket, Log: l.log,
	}
	if l.dial != nil {
		u, err := url.Parse(c.url)
		if err != nil {
			return nil, fmt.Errorf("cannot read the hub's URL %q: %w", c.url, err)
		}
		o.Dial = func(ctx context.Context) (net.Conn, error) { return l.dial(ctx, u.Host) }
	}
	return l.connectMQTT(ctx, o)
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
