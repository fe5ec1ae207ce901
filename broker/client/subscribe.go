package client

import (
	"cmp"
	"context"
	"fmt"
	"net"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// Subscribe subscribes to filters at QoS 1, one after the other, and waits for the
// broker's answers. An error names the filter that was refused.
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
	code, err := c.subscribeOnce(ctx, filter, qos)
	if err == nil && lacksReason(code) && qos == 1 && !c.persistent {
		qos = 0
		if code, err = c.subscribeOnce(ctx, filter, qos); err == nil && code < failureCode && !c.qos0.Swap(true) {
			c.log.Warn("the broker refuses subscriptions of QoS 1: this connection subscribes at QoS 0", "broker", c.name, "filter", filter)
		}
	}
	if err != nil {
		return fmt.Errorf("cannot subscribe to %s: %w", filter, err)
	}
	if code >= failureCode {
		return fmt.Errorf("cannot subscribe to %s: refused by %s; %w", filter, c.name, ErrRefused)
	}
	return nil
}

// lacksReason reports whether the code of a SUBACK refuses without a reason.
func lacksReason(code byte) bool { return code == failureCode || code == implementationSpecific }

// subscribeOnce sends a SUBSCRIBE and returns the return code of its SUBACK. It sends
// it again, with another packet identifier, if the broker answers that the identifier
// is in use.
func (c *Conn) subscribeOnce(ctx context.Context, filter string, qos byte) (code byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, 3*c.timeout)
	defer cancel()
	for {
		t := c.paho.Subscribe(filter, qos, nil).(*mqtt.SubscribeToken)
		select {
		case <-t.Done():
		case <-c.failed:
			return 0, cmp.Or(c.err, net.ErrClosed)
		case <-ctx.Done():
			return 0, fmt.Errorf("%s did not answer: %w", c.name, ctx.Err())
		}
		// paho keys the results by the filter without $share/group/, so it cannot be
		// looked up by name
		code = 0
		for _, code = range t.Result() {
		}
		if code == packetIDInUse {
			continue
		}
		if code >= failureCode {
			return code, nil // paho's error has no more information
		}
		return code, t.Error()
	}
}

// Unsubscribe ends subscriptions. Messages may still arrive that were sent before.
func (c *Conn) Unsubscribe(filters ...string) { c.paho.Unsubscribe(filters...) }

// failureCode is the lowest code of a failure (MQTT 3.1.1, 3.9.3; MQTT 5.0, 2.4).
// packetIDInUse is answered by mochi while a delivery of its own has the packet
// identifier that the SUBSCRIBE has, as when it sends retained messages.
const (
	failureCode            = 0x80
	implementationSpecific = 0x83 // implementation specific error, of MQTT 5.0
	packetIDInUse          = 0x91
)
