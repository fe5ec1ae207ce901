package hub

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jmbarzee/dominion/hub/events"
	"github.com/jmbarzee/dominion/hub/questions"
	"github.com/jmbarzee/dominion/hub/store"
	"github.com/jmbarzee/dominion/internal/nearest"
	"github.com/jmbarzee/dominion/services"
	"github.com/jmbarzee/dominion/services/planner"
	"github.com/jmbarzee/dominion/topics"
)

// request answers a question or carries out an order, and always replies: by
// the response topic of the verb, or the one that the asker named (MQTT 5).
// publish sends the answer.
func (h *Hub) request(verb string, m topics.Message, publish func(topics.Message), now time.Time) {
	ask, err := topics.Decode[topics.HubRequest](m.Topic, orEmpty(m.Payload))
	var data any
	if err != nil {
		ask.Transaction = topics.TransactionOf(m.Payload)
	}
	if err == nil {
		err = h.mayAsk(verb, ask, m)
	}
	if err == nil {
		data, err = h.answer(verb, asked{ask, m.User}, now)
	}
	if err == nil && verb == topics.VerbAdopt {
		if err = h.adoption.Adopt(ask, asker(m), later{h.replyTo(verb, ask, m), ask.Transaction, publish}, now); err == nil {
			return // answered later
		}
	}
	if err == nil && verb == topics.VerbJoin && h.answersJoinLater(ask, data, m, publish) {
		return
	}
	if err == nil && verb == topics.VerbLogs {
		h.askLogs(ask, later{h.replyTo(verb, ask, m), ask.Transaction, publish})
		return // answered later
	}
	if err == nil && (verb == topics.VerbPlan && supposes(ask) || verb == topics.VerbRebalance) {
		err = h.questions.Put(questions.Question{Verb: verb, Ask: ask, Asker: asker(m), Reply: h.replyTo(verb, ask, m), Until: now.Add(questions.Timeout)})
		if err == nil {
			return // answered later
		}
	}
	reply := topics.Accept(ask.Transaction, data)
	if err != nil {
		reply = topics.Refuse(ask.Transaction, err)
		if h.events.MayReport(m.Topic, events.MaxRefusals, now) {
			h.log.Info("refused a request", "verb", verb, "error", err)
		}
	}
	answer := h.replyTo(verb, ask, m)
	answer.Payload = topics.Encode(reply)
	publish(answer)
}

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

// asked is a request, and the broker's user who sent it; "": unknown.
type asked struct {
	topics.HubRequest
	user string
}

// handler answers a request. Nil data is an order that was accepted.
type handler func(h *Hub, ask asked, now time.Time) (data any, err error)

// handlers has one for each row of topics.Verbs.
var handlers = map[string]handler{
	topics.VerbJoin: func(h *Hub, ask asked, now time.Time) (any, error) {
		if ask.Confirm != "" {
			h.adoption.Confirm(ask.HubRequest, now)
			return nil, nil
		}
		if ask.Renew {
			return nil, nil // goes on beside the loop
		}
		return h.join(ask.HubRequest, ask.user, now)
	},
	topics.VerbStatus: func(h *Hub, _ asked, _ time.Time) (any, error) {
		return topics.Overview{Hub: h.hubStatus(), Domains: h.domainViews(), Services: h.statuses.Sorted(), Bridges: h.viewBridges(), Problems: h.problems()}, nil
	},
	topics.VerbDomains:  func(h *Hub, _ asked, _ time.Time) (any, error) { return h.domainViews(), nil },
	topics.VerbServices: func(h *Hub, _ asked, _ time.Time) (any, error) { return h.statuses.Sorted(), nil },
	topics.VerbDevices:  func(h *Hub, ask asked, now time.Time) (any, error) { return h.tracker.Page(ask.After, now) },
	topics.VerbEvents:   func(h *Hub, ask asked, _ time.Time) (any, error) { return h.events.Last(ask.Limit), nil },
	topics.VerbVersion: func(h *Hub, _ asked, _ time.Time) (any, error) {
		return topics.VersionView{Version: h.presence.Version(), Protocol: topics.Protocol}, nil
	},
	topics.VerbPlan:         (*Hub).answerPlan,
	topics.VerbWhy:          func(h *Hub, ask asked, _ time.Time) (any, error) { return h.why(ask.HubRequest) },
	topics.VerbAccess:       func(h *Hub, ask asked, _ time.Time) (any, error) { return h.mayDo(ask.HubRequest) },
	topics.VerbCertificates: func(h *Hub, ask asked, now time.Time) (any, error) { return h.certificates(ask.HubRequest, now) },
	topics.VerbUser:         func(h *Hub, ask asked, _ time.Time) (any, error) { return h.editUsers(ask.HubRequest) },
	topics.VerbClients:      func(h *Hub, ask asked, _ time.Time) (any, error) { return h.listClients(ask.HubRequest) },
	topics.VerbLogs:         func(h *Hub, ask asked, _ time.Time) (any, error) { return nil, h.hasLogs(ask.HubRequest) },
	topics.VerbTrace:        func(h *Hub, ask asked, _ time.Time) (any, error) { return h.beginTrace(ask.HubRequest) },

	topics.VerbAdopt:      command(func(h *Hub, _ asked, _ time.Time) error { return nil }), // goes on as an order of the part
	topics.VerbPermitJoin: command(func(h *Hub, ask asked, now time.Time) error { return h.adoption.PermitJoin(ask.HubRequest, now) }),
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
	topics.VerbForget:    command(func(h *Hub, ask asked, now time.Time) error { return h.forget(ask.Domain, now) }),
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

// scaleTo carries out the verb scale.
func (h *Hub) scaleTo(ask topics.HubRequest) error {
	if ask.Replicas == nil {
		return errors.New(`scale needs "replicas": a number`)
	}
	return h.scale(ask.Service, *ask.Replicas)
}

// serviceSet takes ON, OFF, RESTART, UPDATE, RESET or {"replicas": N}.
func (h *Hub) serviceSet(name string, payload []byte, now time.Time) error {
	switch word := string(bytes.TrimSpace(payload)); word {
	case topics.On, topics.Off:
		return h.switchService(name, word)
	case topics.Restart:
		return h.restart(name, "", now)
	case topics.Update:
		return h.updateService(name)
	case topics.Reset:
		return h.reset(name)
	default:
		topic := h.tree.Service(topics.ServiceSet, name)
		if len(payload) == 0 || payload[0] != '{' {
			return fmt.Errorf(`cannot obey %s: %.40q is none of ON, OFF, RESTART, UPDATE, RESET and {"replicas": N}`, topic, word)
		}
		s, err := topics.Decode[topics.Scale](topic, payload)
		if err != nil {
			return err
		}
		if s.Replicas == nil {
			return fmt.Errorf(`cannot obey %s: "replicas" is missing`, topic)
		}
		return h.scale(name, *s.Replicas)
	}
}

// checkService returns why a request cannot be carried out for a service: it names none, or
// one that is not configured.
func (h *Hub) checkService(service string) error {
	if service == "" {
		return errors.New(`the request needs "service"`)
	}
	if _, ok := h.defs.Configured()[service]; ok {
		return nil
	}
	if !topics.ValidName(service) {
		return fmt.Errorf("%.80q is not a valid service name: use a-z, 0-9 and \"-\", 63 characters at most", service)
	}
	if best := nearest.Find(service, slices.Collect(maps.Keys(h.defs.Configured())), 3); best != "" {
		return fmt.Errorf("there is no service %q; did you mean %q?", service, best)
	}
	return fmt.Errorf("there is no service %q: define it as [services.%s] in dominion.toml", service, service)
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

// switchService switches a service on or off and persists that over restarts of the hub.
func (h *Hub) switchService(name, to string) error {
	if err := h.checkService(name); err != nil {
		return err
	}
	override := to
	if to == topics.On && h.defs.Configured()[name].Priority == services.Required {
		override = "" // as the configuration says
	}
	h.setOverride(name, func(o *planner.Override) { o.Switch = override }, "switched "+to)
	return nil
}

// maxReplicas is far beyond the domains of a home.
const maxReplicas = 10_000

func (h *Hub) scale(name string, n int) error {
	if err := h.checkService(name); err != nil {
		return err
	}
	if n < 0 || n > maxReplicas {
		return fmt.Errorf("cannot run %s on %d domains: use 1 to %d, or 0 for what the configuration says", name, n, maxReplicas)
	}
	if n > 1 && h.defs.Configured()[name].Exclusive {
		return fmt.Errorf("cannot run %s on %d domains: it is exclusive, never two at once", name, n)
	}
	h.setOverride(name, func(o *planner.Override) { o.Replicas = n }, fmt.Sprintf("replicas set to %d", n))
	return nil
}

// reset ends what was switched or scaled by hand.
func (h *Hub) reset(name string) error {
	if err := h.checkService(name); err != nil {
		return err
	}
	h.setOverride(name, func(o *planner.Override) { *o = planner.Override{} }, "as the configuration says again")
	return nil
}

// setOverride changes what users have set for a service, over restarts of the hub, and
// has it planned again. Nothing happens where it is the same as before.
func (h *Hub) setOverride(name string, change func(*planner.Override), what string) {
	before := h.store.Override(name)
	o := before
	change(&o)
	if o == before {
		return
	}
	h.store.Change(func(s *store.State) {
		if o == (planner.Override{}) {
			delete(s.Overrides, name)
		} else {
			s.Overrides[name] = o
		}
	})
	h.save() // before it is answered, unless such changes come too fast
	h.touchService(name)
	h.events.Add(topics.Event{Type: topics.ServiceWanted, Service: name, Message: name + ": " + what})
}

// forgetOverride drops what users have set for a service that is gone.
func (h *Hub) forgetOverride(name string) {
	if h.store.Override(name) == (planner.Override{}) {
		return
	}
	h.store.Change(func(s *store.State) { delete(s.Overrides, name) })
}

// drain sends an order to drain, or not to, to the domain, which owns the flag.
func (h *Hub) drain(name, word string) error {
	d, err := h.findDomain(name)
	if err != nil {
		return err
	}
	if d.Micro {
		return errMicroDrain(name)
	}
	if d.State != topics.DomainIsOnline {
		return fmt.Errorf("%s is %s: it stores the flag itself, so it must be online", name, d.State)
	}
	if h.signsFor(d) {
		h.commandDomain(d, drainCommand(word))
		return nil
	}
	h.pub.Publish(h.tree.Message(topics.Address{Kind: topics.DomainDrainSet, Domain: name}, []byte(word)))
	return nil
}

func errMicroDrain(name string) error {
	return fmt.Errorf("%s is a microdomain and cannot be drained: it runs what is built into it", name)
}

// maxJudged is of how many copies why reports whether they would be placed elsewhere now.
const maxJudged = 8

// why answers the verb why: the state of a service, and for each domain why the service runs
// there or not, with what the domain itself reports of it.
func (h *Hub) why(ask topics.HubRequest) (topics.Why, error) {
	if err := h.checkService(ask.Service); err != nil {
		return topics.Why{}, err
	}
	if ask.Domain != "" {
		if _, err := h.findDomain(ask.Domain); err != nil {
			return topics.Why{}, err
		}
	}
	view, _ := h.statuses.Get(ask.Service)
	reason, lines, _ := strings.Cut(view.Reason, "\n") // the last lines of what failed
	if p := view.Update.Problem; p != "" && !strings.Contains(reason, p) {
		if _, trouble, of := strings.Cut(reason, ": "); of && strings.Contains(p, trouble) {
			reason = p // which holds it
		} else {
			reason += "; " + p
		}
	}
	if now := h.scaling.FigureNow(ask.Service); now != "" {
		reason += "; now: " + now
	}
	if lines != "" {
		reason += "\n" + lines
	}
	w := topics.Why{Service: ask.Service, State: view.State, Reason: reason, Domains: []topics.WhyLine{}}
	judged := 0 // copies that are compared with each domain
	for _, c := range h.planner.Why(ask.Service) {
		if ask.Domain == "" || c.Domain == ask.Domain {
			better := ""
			if c.Action == topics.ActionKeep && judged < maxJudged {
				judged++
				if better = h.planner.Better(ask.Service, c.Domain); better != "" {
					better = "; it would be placed elsewhere now, as " + better + ": `dominionctl rebalance` moves it"
				}
			}
			w.Domains = append(w.Domains, topics.WhyLine{
				Domain: c.Domain, Runs: c.Runs(), State: h.stateOn(c.Domain, ask.Service),
				Reason:  c.Reason + h.rolloutReason(ask.Service, c.Domain) + h.trouble(ask.Service, c.Domain) + better,
				NextTry: h.nextTry(ask.Service, c.Domain),
			})
		}
	}
	return w, nil
}

// trouble returns what a domain reports of an instance that is not well, as a part of
// the reason for it; "" where all is well or nothing is reported.
func (h *Hub) trouble(service, domain string) string {
	for _, r := range h.directory.Rows(service) {
		if r.Domain != domain || r.State == topics.Running && r.Health == topics.Healthy || r.Done {
			continue
		}
		message, _, _ := strings.Cut(r.Message, "\n") // its last lines are in the log
		if r.State == topics.Running {
			message = strings.TrimSuffix(string(r.Health)+": "+message, ": ")
		}
		if message != "" {
			return "; " + message
		}
	}
	return ""
}

// nextTry returns when an instance is started again; zero: nothing is reported of that.
func (h *Hub) nextTry(service, domain string) topics.Time {
	for _, r := range h.directory.Rows(service) {
		if r.Domain == domain {
			return r.NextTry
		}
	}
	return topics.Time{}
}

// stateOn returns the state of a service that a domain reports; "" where it reports none,
// or is silent.
func (h *Hub) stateOn(domain, service string) topics.State {
	d := h.fleet.Get(domain)
	if d == nil || d.Silent() {
		return ""
	}
	if i := d.Instance(service); i != nil {
		return i.State
	}
	return ""
}
