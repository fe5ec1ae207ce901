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

// join is a hub that granted one.
type join struct {
	candidate
	grant topics.Grant
}

// refusal is what a hub said against our joining.
type refusal struct{ reason string }

func (r refusal) Error() string { return "the hub refuses this domain: " + r.reason }

// try asks the candidates in their order. pause is how long to wait before
// trying again.
func (l *link) try(ctx context.Context, candidates []candidate, attempt int) (granted *join, pause time.Duration) {
	pause = min(maxRetry, client.Backoff(attempt, l.random))
	for i, c := range candidates {
		limit := answerTimeout
		if i < len(candidates)-1 {
			limit = hurriedTimeout
		}
		grant, err := l.ask(ctx, c, limit)
		if ctx.Err() != nil {
			return nil, pause
		}
		if err == nil {
			err = l.accept(c, grant)
		}
		if err == nil {
			return &join{c, grant}, 0
		}
		var strange strangerError
		switch {
		case errors.As(err, &strange):
			l.report(err.Error())
		case c.url == loopbackURL && c.dominion.ID == "" && !errors.As(err, new(refusal)) && !errors.As(err, new(otherError)):
			continue // most machines have no hub
		default:
			l.say(c.url, slog.LevelWarn, err.Error())
		}
		if errors.As(err, new(refusal)) || errors.Is(err, client.ErrNotAuthorized) {
			// the hub lives, and nothing changes within milliseconds
			pause = refusedRetry + l.random(time.Second*time.Duration(min(attempt, 2)+1))
		}
	}
	return nil, pause
}

// accept tells whether the hub that granted the join is one to be joined:
// addresses are given to other machines.
func (l *link) accept(c candidate, g topics.Grant) error {
	d, w := identity{g.Dominion, g.Name}, l.wish()
	strange := w.stranger(d)
	switch {
	case g.Dominion == "":
		return errors.New("the hub granted the join without the id of its dominion: not joined")
	case strange != "":
		return strangerError(fmt.Sprintf("at %s: %s", c.url, strange))
	case c.dominion.ID != "" && c.dominion.ID != d.ID:
		return otherError(fmt.Sprintf("at %s is dominion %q now, not %q: not joined", c.url, g.Name, c.dominion.Name))
	case w.wants(d):
		return nil
	case w.name != "":
		return otherError(fmt.Sprintf("at %s is dominion %q, domain.toml wants %q: not joined", c.url, g.Name, w.name))
	}
	return otherError(fmt.Sprintf("at %s is dominion %q, this domain belongs to %q: not joined (to move there, set dominion = %q in domain.toml)", c.url, g.Name, w.known.Name, g.Name))
}

// strangerError is what is wrong with a dominion that has the name of the one
// joined before, otherError with any other that must not be joined.
type (
	strangerError string
	otherError    string
)

func (e strangerError) Error() string { return string(e) }
func (e otherError) Error() string    { return string(e) }

// ask connects and asks the hub for admission. It does so without a will and
// by a client id of its own, so that somebody who is refused leaves no trace
// and pushes nobody out: the name is another machine's then, and on a copied
// disk the id too.
func (l *link) ask(ctx context.Context, c candidate, limit time.Duration) (topics.Grant, error) {
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
			return // somebody else's
		}
		select {
		case answers <- reply:
		default:
		}
	}
	conn, err := l.connect(connectCtx, c, "domain-"+l.id+"-join", nil, onMessage)
	if errors.Is(err, client.ErrClientID) {
		// The broker says that our id is another machine's: the hub, asked by
		// another client id, says whose it is and what to do.
		conn, err = l.connect(connectCtx, c, "join-"+l.session, nil, onMessage)
	}
	if errors.Is(err, client.ErrClientID) {
		err = fmt.Errorf("%w%s", err, l.hint())
	}
	if err != nil {
		return topics.Grant{}, err
	}
	defer conn.Close()
	answer := answerTimeout
	if c.url == loopbackURL {
		answer = hurriedTimeout // a broker without a hub is not to keep us from others
	}
	ctx, cancel = context.WithTimeout(ctx, answer)
	defer cancel()
	asked := 1
	if conn.Subscribe(ctx, own) != nil {
		asked = askedOwn + 1 // refused by an older broker; or the line is dead, and the next to be sent says so
	}
	ask := topics.Ask{
		Transaction: transaction, Response: own, ID: l.id, Name: l.config.Name, Session: l.session,
		Protocol: topics.Protocol, Address: *l.address.Load(),
	}
	again := time.NewTicker(askAgain)
	defer again.Stop()
	for ; ; asked++ {
		if asked == askedOwn+1 { // a hub or access rules that know the common topic alone
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
					reply.Error += l.hint()
				}
				return topics.Grant{}, refusal{reply.Error}
			}
			return topics.Decode[topics.Grant](response, reply.Data)
		case <-conn.Done():
			return topics.Grant{}, fmt.Errorf("%s ended the connection before a hub answered%s: %w", c.url, l.hint(), conn.Err())
		case <-ctx.Done():
			return topics.Grant{}, fmt.Errorf("no hub answers at the broker %s%s", c.url, l.hint())
		case <-again.C: // the broker may be up before the hub behind it
		}
	}
}

// hint says what a question without an answer can mean, too: a publish that
// the role of a user does not allow is dropped by a broker that is not the
// dominion's own, or ends the connection (MQTT 3.1.1, 3.3.5).
func (l *link) hint() string {
	if l.config.User == "" {
		return ""
	}
	return fmt.Sprintf(" (or the user %q may not ask: it needs the role domain)", l.config.User)
}

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
	return l.speak(ctx, o)
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
