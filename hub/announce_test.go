package hub

import (
	"net"
	"slices"
	"testing"

	"github.com/jmbarzee/dominion/broker"
	"github.com/jmbarzee/dominion/broker/zeroconf"
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

// An announcement says which machine it is, and to which dominion it belongs.
func TestAnnouncementsOfMachines(t *testing.T) {
	all := lonely([]zeroconf.Found{{Text: map[string]string{"id": "1", "name": "attic", "dominion": "d9", "dominion_name": "home"}}, {Text: map[string]string{"id": "2", "name": "cellar"}}})
	want := []Lonely{{Name: "attic", ID: "1", Dominion: "d9", DominionName: "home"}, {Name: "cellar", ID: "2"}}
	if !slices.Equal(all, want) {
		t.Errorf("%+v, want %+v", all, want)
	}
}
