package hub

import (
	"errors"
	"fmt"
	"strings"

	"github.com/jmbarzee/dominion/hub/commands"
	"github.com/jmbarzee/dominion/topics"
)

// signsFor reports whether a domain obeys signed orders alone: it has a key.
func (h *Hub) signsFor(d *domain) bool { return !d.Micro && h.hasKey(d.ID) }

// hasKey reports whether the domain with an id has a key.
func (h *Hub) hasKey(id string) bool { return h.keys != nil && h.keys.Adopted(id) }

// signer returns the hash of the hub's key, which an order to a domain names; "": the
// domain has no key, and its orders are not signed.
func (h *Hub) signer(d *domain) string {
	if !h.signsFor(d) {
		return ""
	}
	return h.keys.KeyHash()
}

// signedFor returns an order to a domain as it is sent: signed, if the domain has a key.
// A payload that cannot be signed is a fault of the program.
func (h *Hub) signedFor(d *domain, k topics.Kind, payload []byte) []byte {
	if !h.signsFor(d) {
		return payload
	}
	message, err := h.keys.SignOrder(k.SignedKind(), d.ID, payload)
	if err != nil {
		h.log.Error("an order could not be signed: its domain will refuse it", "domain", d.Name, "error", err)
		return payload
	}
	return message
}

// commandDomain sends a domain a command of the hub's own, whose refusal is
// reported.
func (h *Hub) commandDomain(d *domain, c topics.Command) {
	c.Transaction = h.pending.commands.Add(commands.Command{Service: c.Service, Domain: d.Name})
	h.sendCommand(d, c)
}

// sendCommand sends a domain a command.
func (h *Hub) sendCommand(d *domain, c topics.Command) {
	if c.Key = h.signer(d); c.Key != "" {
		c.Number = h.pending.commands.Number(h.epoch)
		if c.Session == "" {
			c.Session = d.Session()
		}
	}
	payload := h.signedFor(d, topics.DomainCommand, topics.Encode(c))
	h.pub.Publish(h.tree.Message(topics.Address{Kind: topics.DomainCommand, Domain: d.Name}, payload))
}

// drainSet takes what people and Home Assistant publish for a domain. One without a key
// reads that itself.
func (h *Hub) drainSet(name string, m topics.Message) error {
	d := h.fleet.Get(name)
	if d == nil || !h.signsFor(d) {
		return nil
	}
	switch word := strings.TrimSpace(string(m.Payload)); word { // a person's "ON" often ends its line
	case topics.On, topics.Off:
		h.commandDomain(d, drainCommand(word))
		return nil
	}
	return fmt.Errorf("cannot read %s: want ON or OFF, not %.40q", m.Topic, m.Payload)
}

// drainCommand returns the command of a word of drain/set.
func drainCommand(word string) topics.Command {
	if word == topics.On {
		return topics.Command{Action: topics.ActionDrain}
	}
	return topics.Command{Action: topics.ActionUndrain}
}

// passOn passes the answer of an agent on to who asked the hub.
func passOn(r topics.Reply, to later) {
	switch {
	case r.Status != topics.StatusOK:
		to.reply(nil, errors.New(r.Error))
	case r.Data == nil:
		to.reply(nil, nil)
	default:
		to.reply(r.Data, nil)
	}
}

// hasLogs returns why nobody can be asked for a log.
func (h *Hub) hasLogs(ask topics.HubRequest) error {
	d, err := h.findDomain(ask.Domain)
	switch {
	case err != nil:
		return err
	case ask.Service == "":
		return errors.New(`the request needs "service"`)
	case d.Micro:
		return fmt.Errorf("%s is a microdomain, which keeps no log", d.Name)
	}
	return nil
}

// askLogs has a domain answer with the log of a service. One that is not connected does
// not answer, and then nobody does.
func (h *Hub) askLogs(ask topics.HubRequest, to later) {
	d := h.fleet.Get(ask.Domain)
	c := topics.Command{Action: topics.ActionLogs, Service: ask.Service, Lines: ask.Lines, Follow: ask.Follow}
	c.Transaction = h.pending.commands.Add(commands.Command{Service: ask.Service, Domain: d.Name, Answer: to})
	h.sendCommand(d, c)
}
