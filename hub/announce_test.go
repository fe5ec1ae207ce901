package hub

import (
	"net"
	"slices"
	"testing"

	"github.com/jmbarzee/dominion/broker"
	"github.com/jmbarzee/dominion/config"
)

// Zeroconf tells of MQTT over the network alone.
func TestOnlyMQTTIsAnnounced(t *testing.T) {
	at := &net.TCPAddr{IP: net.IPv4zero, Port: 1883}
	var all []broker.Listener
	for _, scheme := range []string{"mqtt", "mqtts", "ws", "wss"} {
		all = append(all, broker.Listener{Scheme: scheme, Addr: at})
	}
	all = append(all, broker.Listener{Scheme: "unix", Addr: &net.UnixAddr{Name: "/run/mqtt", Net: "unix"}})
	var got []string
	for _, s := range (Service{Config: config.Dominion{Name: "home"}}).announcements("id", all) {
		got = append(got, s.Type+" "+s.Instance)
	}
	want := []string{"_mqtt._tcp home", "_dominion._tcp home", "_dominion._tcp home-tls"}
	if !slices.Equal(got, want) {
		t.Errorf("announced %q, want %q", got, want)
	}
}
