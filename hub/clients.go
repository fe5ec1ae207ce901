package hub

import (
	"errors"
	"fmt"
	"time"

	"github.com/jmbarzee/dominion/topics"
)

// listClients carries out the verb clients.
func (h *Hub) listClients(ask topics.HubRequest) ([]topics.ClientView, error) {
	if h.broker == nil {
		return nil, errNotOurBroker
	}
	if ask.Client == "" && ask.Action != "" && ask.Action != "list" {
		return nil, errors.New(`the request needs "client"`)
	}
	switch ask.Action {
	case "", "list":
	case "forget":
		if !h.broker.Forget(ask.Client) {
			return nil, fmt.Errorf("no client %.80q is known", ask.Client)
		}
		h.log.Info("a client was forgotten", "client", ask.Client)
	case "kick":
		if !h.broker.Kick(ask.Client) {
			return nil, fmt.Errorf("no client %.80q is connected", ask.Client)
		}
		h.log.Info("a client was kicked", "client", ask.Client)
	default:
		return nil, fmt.Errorf(`"action" is list, kick or forget, not %.40q`, ask.Action)
	}
	all := []topics.ClientView{}
	for _, s := range h.broker.Sessions() {
		v := topics.ClientView{
			Client: s.ID, User: s.User, Address: s.Remote, Listener: s.Listener, Protocol: "3.1.1",
			Connected: s.Connected, Since: topics.Time{Time: s.Since}, Expires: topics.Time{Time: s.Expires},
			Subscriptions: s.Subscriptions, Queued: s.Queued, QueuedBytes: s.QueuedBytes, Dropped: s.Dropped,
			Memory: s.Memory, Refused: s.Refused,
		}
		switch s.Version {
		case 3:
			v.Protocol = "3.1"
		case 5:
			v.Protocol = "5.0"
		}
		all = append(all, v)
	}
	return all, nil
}

// traceTime is what a trace is promised for, as the broker has it.
const traceTime = time.Minute

// beginTrace carries out the verb trace.
func (h *Hub) beginTrace(ask topics.HubRequest) (topics.Traced, error) {
	switch {
	case h.broker == nil:
		return topics.Traced{}, errNotOurBroker
	case ask.Topic == "":
		return topics.Traced{}, errors.New(`the request needs "topic": a client identifier or a topic filter`)
	case !topics.ValidName(ask.Name):
		return topics.Traced{}, errors.New(`the request needs "name": the lines come at response/trace/<name>`)
	}
	at := h.tree.Topic(topics.Address{Kind: topics.ResponseTo, Verb: topics.VerbTrace, Domain: ask.Name})
	if err := h.broker.Trace(ask.Topic, at); err != nil {
		return topics.Traced{}, err
	}
	return topics.Traced{Topic: at, Seconds: topics.Seconds(traceTime)}, nil
}
