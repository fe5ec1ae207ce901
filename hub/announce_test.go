package hub

import (
	"net"
	"slices"
	"strings"
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

// A lonely domain that cannot or must not join is shown with the reason.
func TestWhyLonely(t *testing.T) {
	all := lonely([]zeroconf.Found{{Text: map[string]string{"id": "1", "name": "attic", "dominion": "d9", "dominion_name": "home"}}, {Text: map[string]string{"id": "2", "name": "cellar"}}})
	if got := whyLonely(all[0], "d1", true); !strings.Contains(got, `belongs to another dominion, "home" with id "d9": to move it here set dominion = "d1"`) {
		t.Error(got)
	}
	if got := whyLonely(all[1], "d1", false); !strings.Contains(got, "does it reach the broker?") {
		t.Error(got)
	}
	if got := whyLonely(all[1], "d1", true); !strings.Contains(got, `cannot join: no other machine reaches a listener for MQTT (listen = ":1883"`) {
		t.Error(got)
	}
}
