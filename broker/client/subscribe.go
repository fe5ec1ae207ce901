package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"unicode/utf8"

	"github.com/jmbarzee/dominion/broker/wire"
)

// Subscribe subscribes to filters at QoS 1, one after the other, and waits for the
// broker's answers. An error names the filter that was refused, and is a
// SubscribeError.
//
// A refusal without a reason may be temporary: a cluster that lost a node cannot set
// up deliveries of QoS 1 until it has elected new leaders. Such a filter is tried once
// more at QoS 0, which needs no state in the broker, and later filters of this
// connection at QoS 0 at once. A session that ends with the connection loses nothing
// by that; a persistent one is not downgraded.
func (c *Conn) Subscribe(ctx context.Context, filters ...string) error {
	for _, f := range filters {
		if err := c.subscribe(ctx, f); err != nil {
			return err
		}
	}
	return nil
}

// subscribe subscribes to one filter.
func (c *Conn) subscribe(ctx context.Context, filter string) error {
	qos := byte(1)
	if c.qos0.Load() {
		qos = 0
	}
	code, reason, err := c.subscribeOnce(ctx, filter, qos)
	if err == nil && lacksReason(code) && qos == 1 && !c.options.Persistent {
		qos = 0
		if code, reason, err = c.subscribeOnce(ctx, filter, qos); err == nil && code < wire.Unspecified && !c.qos0.Swap(true) {
			c.log.Warn("the broker refuses subscriptions of QoS 1: this connection subscribes at QoS 0", "broker", c.name, "filter", filter)
		}
	}
	if err != nil {
		return fmt.Errorf("cannot subscribe to %s: %w", filter, err)
	}
	if code >= wire.Unspecified {
		return &SubscribeError{Filter: filter, Broker: c.name, Code: code, Text: reason}
	}
	return nil
}

// lacksReason reports whether the code of a SUBACK refuses without a reason.
func lacksReason(code byte) bool {
	return code == wire.Unspecified || code == wire.ImplementationSpecific
}

// subscribeOnce sends a SUBSCRIBE and returns the reason code of its SUBACK. It sends it
// again, with another packet identifier, if the broker answers that the identifier is
// in use, as mochi does while a delivery of its own has the same one.
func (c *Conn) subscribeOnce(ctx context.Context, filter string, qos byte) (code byte, reason string, err error) {
	if !wire.ValidFilter(filter) || !utf8.ValidString(filter) {
		return 0, "", errors.New("it is not a valid topic filter")
	}
	ctx, cancel := context.WithTimeout(ctx, ackTimeouts*c.timeout)
	defer cancel()
	options := qos
	if c.options.Bridge && c.version == wire.V5 {
		options |= wire.NoLocal | wire.RetainAsPublished
	}
	for {
		answer := make(chan wire.ServerAck, 1)
		c.sendRequest(answer, func(b []byte, id uint16) []byte {
			return wire.AppendSubscribe(b, id, filter, options, c.version)
		})
		select {
		case a := <-answer:
			if len(a.Codes) != 1 {
				return 0, "", fmt.Errorf("%s answered with %d reason codes instead of one", c.name, len(a.Codes))
			}
			if a.Codes[0] != wire.PacketIdentifierInUse {
				return a.Codes[0], a.Reason, nil
			}
		case <-c.failed:
			return 0, "", cmp.Or(c.err, net.ErrClosed)
		case <-ctx.Done():
			return 0, "", fmt.Errorf("%s did not answer: %w", c.name, ctx.Err())
		}
	}
}

// sendRequest sends a packet with a packet identifier of its own. answer gets the
// answer; nil: it is not needed.
func (c *Conn) sendRequest(answer chan<- wire.ServerAck, add func(b []byte, id uint16) []byte) {
	c.sendControl(func(b []byte) []byte {
		id := c.nextID()
		c.state.requests[id] = answer
		return add(b, id)
	})
}

// Unsubscribe ends subscriptions. Messages may still arrive that were sent before.
func (c *Conn) Unsubscribe(filters ...string) {
	if len(filters) == 0 {
		return
	}
	c.sendRequest(nil, func(b []byte, id uint16) []byte { return wire.AppendUnsubscribe(b, id, filters, c.version) })
}
