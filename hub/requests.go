package hub

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jmbarzee/dominion/broker"
	"github.com/jmbarzee/dominion/hub/events"
	"github.com/jmbarzee/dominion/hub/questions"
	"github.com/jmbarzee/dominion/topics"
)

// request answers a question or carries out an order, and always replies: by
// the response topic of the verb, or the one that the asker named (MQTT 5).
// publish sends the answer.
func (h *Hub) request(verb string, m topics.Message, publish func(topics.Message), now time.Time) {
	ask, err := topics.Decode[topics.HubRequest](m.Topic, orEmpty(m.Payload))
	if err != nil {
		ask.Transaction = topics.TransactionOf(m.Payload)
	}
	h.requested(verb, asked{HubRequest: ask, user: m.User}, err, m, publish, now)
}

// requested answers a request that was read, or that could not be read: err is why.
func (h *Hub) requested(verb string, from asked, err error, m topics.Message, publish func(topics.Message), now time.Time) {
	ask := from.HubRequest
	var data any
	unreadable := err != nil
	if err == nil {
		err = h.mayAsk(verb, ask, m)
	}
	if err == nil {
		data, err = h.answer(verb, from, now)
	}
	if err == nil && verb == topics.VerbAdopt {
		if err = h.adoption.Adopt(ask, m.User, later{answer: h.replyTo(verb, ask, m), transaction: ask.Transaction, publish: publish}, now); err == nil {
			return // answered later
		}
	}
	if err == nil && verb == topics.VerbJoin && h.answersJoinLater(ask, data, m, publish) {
		return
	}
	if err == nil && h.answersAuthorityLater(verb, ask, later{answer: h.replyTo(verb, ask, m), transaction: ask.Transaction, publish: publish}) {
		return
	}
	if err == nil && (verb == topics.VerbApply || verb == topics.VerbRollback) {
		carryOut := h.apply
		if verb == topics.VerbRollback {
			carryOut = h.rollback
		}
		if err = carryOut(ask, m.User, later{answer: h.replyTo(verb, ask, m), transaction: ask.Transaction, publish: publish}, now); err == nil {
			return // answered later, or already
		}
	}
	if err == nil && verb == topics.VerbLogs {
		h.askLogs(ask, later{answer: h.replyTo(verb, ask, m), transaction: ask.Transaction, publish: publish})
		return // answered later
	}
	if err == nil && (verb == topics.VerbPlan && supposes(ask) || verb == topics.VerbRebalance) {
		err = h.pending.questions.Put(questions.Question{Verb: verb, Ask: ask, Asker: asker(m), Reply: h.replyTo(verb, ask, m), Until: now.Add(questions.Timeout)})
		if err == nil {
			return // answered later
		}
	}
	reply := topics.Accept(ask.Transaction, data)
	if err != nil {
		reply = topics.Refuse(ask.Transaction, err)
		loggable := err
		if unreadable && topics.IsPrivate(verb) {
			loggable = errUnreadable // the error may quote a secret
		}
		if h.events.MayReport(m.Topic, events.MaxRefusals, now) {
			h.log.Info("refused a request", "verb", verb, "error", loggable)
		}
	}
	answer := h.replyTo(verb, ask, m)
	answer.Payload = topics.Encode(reply)
	publish(answer)
}

// errUnreadable is logged of a private request that cannot be read.
var errUnreadable = errors.New("its payload cannot be read")

// private answers a private request: its answer goes to the asking connection alone.
// One that came another way could be read by others and is refused.
func (h *Hub) private(verb string, m topics.Message, answer func(topics.Message), now time.Time) {
	if answer != nil {
		h.request(verb, m, answer, now)
		return
	}
	ask, _ := topics.Decode[topics.HubRequest](m.Topic, orEmpty(m.Payload))
	ask.Transaction = topics.TransactionOf(m.Payload)
	refusal := h.replyTo(verb, ask, m)
	refusal.Payload = topics.Encode(topics.Refuse(ask.Transaction, errors.New(topics.PrivateRefusal(verb))))
	h.pub.Publish(refusal)
}

// privateRefused reports a private request that the broker refused for its connection: who
// typed a code in Home Assistant reads no answer.
func (h *Hub) privateRefused(r broker.PrivateRefusal, now time.Time) {
	who := "a client without a user"
	if r.User != "" {
		who = fmt.Sprintf("user %.80s", r.User)
	}
	h.events.Refuse("private requests", topics.Event{Message: fmt.Sprintf("refused a request of %s (client %.80q): %s", who, r.Client, topics.PrivateRefusal(r.Verb))}, now)
}

// replyTo returns the answer to a request, without its payload.
func (h *Hub) replyTo(verb string, ask topics.HubRequest, m topics.Message) topics.Message {
	answer := h.tree.Message(topics.Address{Kind: topics.Response, Verb: verb}, nil)
	if h.mayAnswerAt(verb, m) {
		answer.Topic, answer.Correlation = m.ResponseTopic, m.Correlation
	} else if a, ok := h.tree.Parse(ask.Response); ok && a.Kind == topics.ResponseTo && a.Verb == verb {
		answer.Topic = ask.Response
	}
	return answer
}

// asker names who is charged with a message: the user, or the client where there is none.
func asker(m topics.Message) string {
	if m.User != "" {
		return "user " + m.User
	}
	return "client " + m.Client
}

// orEmpty returns an empty request for an empty payload.
func orEmpty(p []byte) []byte {
	if len(bytes.TrimSpace(p)) == 0 {
		return []byte("{}")
	}
	return p
}

// asked is a request, and the broker's user who sent it; "": unknown. signed reports that the
// domain which it names has signed it; source is then what rate limits are by.
type asked struct {
	topics.HubRequest
	user   string
	signed bool
	source string
}

// handler answers a request. Nil data is an order that was accepted.
type handler func(h *Hub, ask asked, now time.Time) (data any, err error)

// handlers has one for each row of topics.Verbs.
var handlers = map[string]handler{
	topics.VerbJoin: func(h *Hub, ask asked, now time.Time) (any, error) {
		if err := h.mustSign(ask, now); err != nil {
			return nil, err
		}
		if ask.Confirm != "" {
			h.adoption.Confirm(ask.HubRequest, now)
			h.acceptJoin(ask)
			return nil, nil
		}
		if ask.KeyList != "" {
			h.showsKeyList(ask, now)
			return nil, nil
		}
		if acknowledges(ask.HubRequest) {
			h.acknowledged(ask.HubRequest, ask.user, now)
			return nil, nil
		}
		if ask.Renew || ask.ServiceKeys != nil {
			return nil, nil // goes on beside the loop
		}
		grant, err := h.join(ask.HubRequest, ask.user, now)
		if err != nil {
			if ask.signed {
				h.signed.Suspect(ask.source, now)
			}
			return nil, err
		}
		h.acceptJoin(ask)
		return grant, nil
	},
	topics.VerbStatus: func(h *Hub, _ asked, now time.Time) (any, error) {
		return topics.Overview{
			Hub: h.hubStatus(), Domains: h.domainViews(), Services: h.views.statuses.Sorted(),
			Window: h.adoption.JoinWindow(now), Bridges: h.viewBridges(), Problems: h.problems(),
		}, nil
	},
	topics.VerbDomains:  func(h *Hub, _ asked, _ time.Time) (any, error) { return h.domainViews(), nil },
	topics.VerbServices: func(h *Hub, _ asked, _ time.Time) (any, error) { return h.views.statuses.Sorted(), nil },
	topics.VerbDevices:  func(h *Hub, ask asked, now time.Time) (any, error) { return h.views.tracker.Page(ask.After, now) },
	topics.VerbEvents:   func(h *Hub, ask asked, _ time.Time) (any, error) { return h.events.Last(ask.Limit), nil },
	topics.VerbVersion: func(h *Hub, _ asked, _ time.Time) (any, error) {
		return topics.VersionView{Version: h.views.presence.Version(), Protocol: topics.Protocol}, nil
	},
	topics.VerbPlan:         (*Hub).answerPlan,
	topics.VerbWhy:          func(h *Hub, ask asked, _ time.Time) (any, error) { return h.why(ask.HubRequest) },
	topics.VerbAccess:       func(h *Hub, ask asked, _ time.Time) (any, error) { return h.mayDo(ask.HubRequest) },
	topics.VerbCertificates: func(h *Hub, ask asked, now time.Time) (any, error) { return h.certificates(ask, now) },
	topics.VerbAuthority:    func(h *Hub, ask asked, now time.Time) (any, error) { return h.authority(ask, now) },
	topics.VerbUser:         func(h *Hub, ask asked, now time.Time) (any, error) { return h.editUsers(ask, now) },
	topics.VerbSecret:       func(h *Hub, ask asked, now time.Time) (any, error) { return h.secret(ask.HubRequest, now) },
	topics.VerbIdentity:     func(h *Hub, ask asked, _ time.Time) (any, error) { return nil, h.identity(ask.HubRequest) },
	topics.VerbApply:        command(func(*Hub, asked, time.Time) error { return nil }), // goes on beside the loop
	topics.VerbRollback:     command(func(*Hub, asked, time.Time) error { return nil }),
	topics.VerbDefinition:   func(h *Hub, ask asked, _ time.Time) (any, error) { return h.definition(ask.Service) },
	topics.VerbVersions:     func(h *Hub, ask asked, _ time.Time) (any, error) { return h.serviceVersions(ask.Service) },
	topics.VerbForget:       func(h *Hub, ask asked, now time.Time) (any, error) { return h.forget(ask.Domain, now) },
	topics.VerbClients:      func(h *Hub, ask asked, _ time.Time) (any, error) { return h.listClients(ask.HubRequest) },
	topics.VerbLogs:         func(h *Hub, ask asked, _ time.Time) (any, error) { return nil, h.hasLogs(ask.HubRequest) },
	topics.VerbTrace:        func(h *Hub, ask asked, _ time.Time) (any, error) { return h.beginTrace(ask.HubRequest) },

	topics.VerbAdopt: command(func(h *Hub, _ asked, _ time.Time) error { return nil }), // goes on as an order of the part
	topics.VerbPermitJoin: func(h *Hub, ask asked, now time.Time) (any, error) {
		err := h.adoption.PermitJoin(ask.HubRequest, now)
		return h.adoption.JoinWindow(now), err
	},
	topics.VerbToken: func(h *Hub, ask asked, now time.Time) (any, error) {
		_, others := h.whereReached()
		return h.adoption.Token(ask.HubRequest, others, now)
	},

	topics.VerbStart: command(func(h *Hub, ask asked, _ time.Time) error { return h.switchService(ask.Service, topics.On) }),
	topics.VerbStop:  command(func(h *Hub, ask asked, _ time.Time) error { return h.switchService(ask.Service, topics.Off) }),
	topics.VerbScale: command(func(h *Hub, ask asked, _ time.Time) error { return h.scaleTo(ask.HubRequest) }),
	topics.VerbReset: command(func(h *Hub, ask asked, _ time.Time) error { return h.reset(ask.Service) }),
	topics.VerbRestart: command(func(h *Hub, ask asked, now time.Time) error {
		return h.restart(ask.Service, ask.Domain, now)
	}),
	topics.VerbUpdate:    command(func(h *Hub, ask asked, _ time.Time) error { return h.updateService(ask.Service) }),
	topics.VerbDrain:     command(func(h *Hub, ask asked, _ time.Time) error { return h.drain(ask.Domain, topics.On) }),
	topics.VerbUndrain:   command(func(h *Hub, ask asked, _ time.Time) error { return h.drain(ask.Domain, topics.Off) }),
	topics.VerbResync:    command(func(h *Hub, ask asked, now time.Time) error { return h.resync(ask.Domain, now) }),
	topics.VerbRebalance: command(func(h *Hub, _ asked, _ time.Time) error { return h.mayRebalance() }), // goes on as a question
	topics.VerbReplan: command(func(h *Hub, _ asked, _ time.Time) error {
		h.changed.TouchAll()
		h.log.Info("planning anew, as was asked for")
		return nil
	}),
}

// command is the handler of a request without data in its answer.
func command(carryOut func(h *Hub, ask asked, now time.Time) error) handler {
	return func(h *Hub, ask asked, now time.Time) (any, error) { return nil, carryOut(h, ask, now) }
}

// answer answers a request by the handler of its verb.
func (h *Hub) answer(verb string, ask asked, now time.Time) (any, error) {
	handle := handlers[verb]
	if handle == nil {
		return nil, fmt.Errorf("there is no request %q; docs/protocol.md lists them", verb)
	}
	return handle(h, ask, now)
}

// answerPlan answers with what the hub would do now. A request about another home is
// answered later (questions).
func (h *Hub) answerPlan(ask asked, _ time.Time) (any, error) {
	if len(ask.Config) > topics.MaxConfig {
		return nil, fmt.Errorf("the configuration is longer than %d bytes", topics.MaxConfig)
	}
	if supposes(ask.HubRequest) {
		return nil, nil
	}
	return h.planNow(), nil
}

// findDomain returns the domain that a request names, or why there is none, with the names
// that there are.
func (h *Hub) findDomain(name string) (*domain, error) {
	if name == "" {
		return nil, errors.New(`the request needs "domain"`)
	}
	if d := h.fleet.Get(name); d != nil {
		return d, nil
	}
	if !topics.ValidName(name) {
		return nil, fmt.Errorf("%.80q is not a valid domain name: use a-z, 0-9 and \"-\", 63 characters at most", name)
	}
	const shown = 32
	var names []string
	for _, d := range h.fleet.Sorted() {
		names = append(names, d.Name)
	}
	if more := len(names) - shown; more > 0 {
		names = append(names[:shown], fmt.Sprintf("and %d more", more))
	}
	return nil, fmt.Errorf("there is no domain %q; known are: %s", name, cmp.Or(strings.Join(names, ", "), "none"))
}
