package hub

import (
	"context"
	"fmt"
	"net"
	"sync"

	"github.com/jmbarzee/dominion/broker"
	"github.com/jmbarzee/dominion/broker/bridge"
	"github.com/jmbarzee/dominion/broker/client"
	"github.com/jmbarzee/dominion/config"
	"github.com/jmbarzee/dominion/hub/metrics"
	"github.com/jmbarzee/dominion/topics"
)

// bridges makes the configured bridges of the embedded broker and runs them
// until ctx ends. around waits for them.
func (s Service) bridges(ctx context.Context, b *broker.Broker, around *sync.WaitGroup) error {
	for _, c := range s.Config.Broker.Bridges {
		password, err := readPassword(c.PasswordFile)
		if err != nil {
			return fmt.Errorf("cannot use the bridge %s: %w", c.Name, err)
		}
		one := bridge.New(bridge.Config{
			Name: c.Name, Client: c.ClientID, Prefix: s.Config.TopicPrefix, Log: s.Log,
			Remote: client.Options{URL: c.URL, Password: password, CAFile: c.CAFile, CertFile: c.CertFile, KeyFile: c.KeyFile, MaxPacket: s.Config.Broker.Limits.MaxPacket},
			Rules:  bridgeRules(c.Topics),
			Local: func(context.Context) (net.Conn, error) {
				ours, theirs := net.Pipe()
				b.ServeAs(theirs, c.User)
				return ours, nil
			},
			Dropped: func(topic, why string) { b.Dropped(bridge.LocalID(c.Name), topic, why) },
			State: func(up bool, _ string) {
				state := "0"
				if up {
					state = "1"
				}
				s.carry.set(c.Name, up)
				b.Publish(topics.Message{Topic: bridgeState(c.Name), Payload: []byte(state), QoS: 1, Retain: true})
			},
		})
		around.Go(func() { one.Run(ctx) })
	}
	return nil
}

// carry knows which bridges carry.
type carry struct {
	mu sync.Mutex
	up map[string]bool
}

func (c *carry) set(bridge string, up bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.up == nil {
		c.up = make(map[string]bool)
	}
	c.up[bridge] = up
}

// ofBridges are the figures of the bridges.
func (s Service) ofBridges(b *broker.Broker) []metrics.Family {
	up := metrics.Family{Name: "dominion_bridge_up", Type: metrics.Gauge, Help: "1 while a bridge carries."}
	dropped := metrics.Family{Name: "dominion_bridge_dropped_total", Type: metrics.Counter, Help: "Messages that a bridge left out: of QoS 0 while it did not carry or was behind, and those beyond the limits of its queue."}
	for _, c := range s.Config.Broker.Bridges {
		of := []string{"bridge", c.Name}
		carries := 0.0
		s.carry.mu.Lock()
		if s.carry.up[c.Name] {
			carries = 1
		}
		s.carry.mu.Unlock()
		up.Samples = append(up.Samples, metrics.Sample{Labels: of, Value: carries})
		dropped.Samples = append(dropped.Samples, metrics.Sample{Labels: of, Value: float64(b.Missed(bridge.LocalID(c.Name)))})
	}
	return []metrics.Family{up, dropped}
}

// bridgeIDs are the client identifiers that the bridges have at our broker.
func bridgeIDs(all []config.Bridge) (ids []string) {
	for _, c := range all {
		ids = append(ids, bridge.LocalID(c.Name))
	}
	return ids
}

// bridgeState is where a bridge says 1 while it carries and 0 while it does
// not, as mosquitto does.
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
