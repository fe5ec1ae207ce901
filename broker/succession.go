package broker

import (
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// succession makes a connection wait until the one of the same client id that
// it replaces is over. The engine clears up after a connection by its client
// id: one that ends a moment later would take the subscriptions of its
// successor along, and that would hear nothing more.
type succession struct {
	mqtt.HookBase
	broker *Broker
}

func (s *succession) ID() string { return "succession" }

func (s *succession) Provides(b byte) bool { return b == mqtt.OnSessionEstablish }

// OnSessionEstablish is called after a client was let in and before the engine
// looks for its predecessor.
func (s *succession) OnSessionEstablish(cl *mqtt.Client, _ packets.Packet) {
	old, ok := s.broker.engine.Clients.Get(cl.ID)
	if !ok || old == cl {
		return
	}
	c, ok := old.Net.Conn.(*conn)
	if !ok {
		return
	}
	if !old.Closed() {
		_ = s.broker.engine.DisconnectClient(old, packets.ErrSessionTakenOver)
	}
	timer := time.NewTimer(writeTimeout)
	defer timer.Stop()
	select {
	case <-c.done:
	case <-timer.C:
	}
}
