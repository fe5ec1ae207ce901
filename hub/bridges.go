package hub

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/jmbarzee/dominion/broker"
	"github.com/jmbarzee/dominion/broker/bridge"
	"github.com/jmbarzee/dominion/broker/client"
	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/hub/metrics"
	"github.com/jmbarzee/dominion/topics"
)

// bridges are the bridges of the embedded broker.
type bridges struct {
	broker *broker.Broker
	all    []*bridge.Bridge
}

// newBridges returns the configured bridges; they are run once the broker listens.
func (s Service) newBridges(b *broker.Broker) (*bridges, error) {
	made := &bridges{broker: b}
	for _, c := range s.Config.Broker.Bridges {
		password, err := readPassword(c.PasswordFile)
		if err != nil {
			return nil, fmt.Errorf("cannot use the bridge %s: %w", c.Name, err)
		}
		made.all = append(made.all, bridge.New(bridge.Config{
			Name: c.Name, ClientID: c.ClientID, Prefix: s.Config.TopicPrefix, Log: s.Log,
			Remote: client.Options{URL: c.URL, Interfaces: s.Config.Zeroconf.Interfaces, Password: password, CAFile: c.CAFile, CertFile: c.CertFile, KeyFile: c.KeyFile, MaxPacket: s.Config.Broker.Limits.MaxPacket},
			Rules:  bridgeRules(c.Topics),
			Local: func(context.Context) (net.Conn, error) {
				ours, theirs := net.Pipe()
				b.ServeAs(theirs, c.User)
				return ours, nil
			},
			Dropped: func(topic, why string) { b.CountDropped(bridge.LocalID(c.Name), topic, why) },
			State: func(up bool, _ string) {
				state := "0"
				if up {
					state = "1"
				}
				b.Publish(topics.Message{Topic: bridgeState(c.Name), Payload: []byte(state), QoS: 1, Retain: true})
			},
		}))
	}
	return made, nil
}

const (
	// disconnectedFor is how long a bridge may be without a connection before that is a
	// problem.
	disconnectedFor = 10 * time.Second
	// refusedWithin is how long a refused message is a problem.
	refusedWithin = time.Hour
)

// views returns the state of each bridge, as it is published.
func (all *bridges) views() (views []topics.BridgeView) {
	for _, b := range all.all {
		s := b.Status()
		v := topics.BridgeView{
			Name: b.Name, Connected: s.Connected, Since: topics.At(s.Since), Reason: s.Reason,
			Refused: s.Refused, Dropped: all.broker.DroppedFor(bridge.LocalID(b.Name)),
		}
		if r := s.Last; r != nil {
			v.LastRefusal = &topics.BridgeRefusal{At: topics.At(r.At), Direction: r.Direction, Topic: r.Topic, Reason: r.Reason, Size: r.Size, Limit: r.Limit}
			if time.Since(r.At) < refusedWithin {
				v.Problems = append(v.Problems, fmt.Sprintf("%s refused, the last one %s to %q: %s", count(int(s.Refused), "message"), r.Direction, r.Topic, r))
			}
		}
		if !s.Connected && time.Since(s.Since) > disconnectedFor {
			v.Problems = append(v.Problems, "it is not connected: "+orElse(s.Reason, "it was not yet"))
		}
		for _, f := range s.Filters {
			v.Problems = append(v.Problems, "a subscription is refused, "+f)
		}
		views = append(views, v)
	}
	return views
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// viewBridges returns the bridges of the embedded broker.
func (h *Hub) viewBridges() []topics.BridgeView {
	if h.broker == nil {
		return nil
	}
	return h.broker.Bridges()
}

// figures returns the metrics of the bridges.
func (all *bridges) figures() []metrics.Family {
	up := metrics.Family{Name: "dominion_bridge_up", Type: metrics.Gauge, Help: "1 while a bridge carries."}
	dropped := metrics.Family{Name: "dominion_bridge_dropped_total", Type: metrics.Counter, Help: "Messages that a bridge left out: of QoS 0 while it did not carry or was behind, those beyond the limits of its queue, and those that were refused."}
	refused := metrics.Family{Name: "dominion_bridge_refused_total", Type: metrics.Counter, Help: "Messages that a bridge left out because the broker that they were for refused them."}
	for _, v := range all.views() {
		of := []string{"bridge", v.Name}
		up.Samples = append(up.Samples, metrics.Sample{Labels: of, Value: oneIf(v.Connected)})
		dropped.Samples = append(dropped.Samples, metrics.Sample{Labels: of, Value: float64(v.Dropped)})
		refused.Samples = append(refused.Samples, metrics.Sample{Labels: of, Value: float64(v.Refused)})
	}
	return []metrics.Family{up, dropped, refused}
}

// bridgeIDs returns the client identifiers that the bridges have at our broker.
func bridgeIDs(all []config.Bridge) (ids []string) {
	for _, c := range all {
		ids = append(ids, bridge.LocalID(c.Name))
	}
	return ids
}

// bridgeState returns the topic at which a bridge publishes 1 while it is connected and 0
// while it is not, as mosquitto does.
func bridgeState(name string) string { return "$SYS/broker/connection/" + name + "/state" }

func bridgeRules(all []config.BridgeTopic) []bridge.Rule {
	var rules []bridge.Rule
	for _, t := range all {
		rules = append(rules, bridge.Rule{
			Filter: t.Filter, QoS: byte(t.QoS), LocalPrefix: t.LocalPrefix, RemotePrefix: t.RemotePrefix,
			Out: t.Direction != config.BridgeIn, In: t.Direction != config.BridgeOut,
		})
	}
	return rules
}
