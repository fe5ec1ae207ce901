package zeroconf

import (
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/grandcat/zeroconf"
)

func TestWanted(t *testing.T) {
	for _, c := range []struct {
		name  string
		flags net.Flags
		names []string
		want  bool
	}{
		{"eth0", 0, nil, true},
		{"end0", 0, nil, true},
		{"wlan0", 0, nil, true},
		{"wlp3s0", 0, nil, true}, // begins as wg does not
		{"br0", 0, nil, true},    // a bridge of the owner's, not of docker
		{"lo", net.FlagLoopback, nil, false},
		{"docker0", 0, nil, false},
		{"docker_gwbridge", 0, nil, false},
		{"br-4f1a", 0, nil, false},
		{"veth12ab", 0, nil, false},
		{"virbr0", 0, nil, false},
		{"tailscale0", 0, nil, false},
		{"wg0", 0, nil, false},
		{"wg0", 0, []string{"wg0"}, true},
		{"lo", net.FlagLoopback, []string{"lo"}, true},
		{"eth0", 0, []string{"eth1"}, false},
	} {
		if got := wanted(c.names, net.Interface{Name: c.name, Flags: c.flags}); got != c.want {
			t.Errorf("interface %s with names %q: wanted is %v", c.name, c.names, got)
		}
	}
}

func TestBestAddresses(t *testing.T) {
	for _, c := range []struct{ all, want string }{
		{"fe80::1 fd00::1 192.168.1.2", "192.168.1.2 fd00::1"},
		{"fe80::1", "fe80::1"},
		{"127.0.0.1 ::1 0.0.0.0 224.0.0.251", ""},
		{"169.254.3.4 192.168.1.2", "192.168.1.2"},
		{"10.0.0.1 10.0.0.1", "10.0.0.1"},
		{"2001:db8::1 10.0.0.1", "10.0.0.1 2001:db8::1"},
	} {
		var all []netip.Addr
		for _, a := range strings.Fields(c.all) {
			all = append(all, netip.MustParseAddr(a))
		}
		var got []string
		for _, a := range reachable(all) {
			got = append(got, a.String())
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("best of %s is %s, want %s", c.all, got, c.want)
		}
	}
}

func TestText(t *testing.T) {
	s := Service{Text: map[string]string{"tls": "1", "id": "a=b", "name": ""}}
	if got := strings.Join(s.text(), " "); got != "id=a=b name= tls=1" {
		t.Errorf("text is %q", got)
	}
	got := parseText([]string{"id=a=b", "flag", "", "=x", "id=later"})
	if len(got) != 2 || got["id"] != "a=b" || got["flag"] != "" {
		t.Errorf("parsed text is %q", got)
	}
}

func TestHostIsALabel(t *testing.T) {
	for _, c := range []struct{ kind, instance, want string }{
		{TypeMQTT, "home", "mqtt-home"},
		{TypeDomain, "pi-kitchen", "dominion-domain-pi-kitchen"},
		{TypeDominion, strings.Repeat("a", 53) + "-" + strings.Repeat("b", 9), "dominion-" + strings.Repeat("a", 53)},
	} {
		if got := (Service{Type: c.kind, Instance: c.instance}).host(); got != c.want {
			t.Errorf("host of %s %s is %s, want %s", c.kind, c.instance, got, c.want)
		}
	}
}

func TestAnnounceRefuses(t *testing.T) {
	for fault, s := range map[string]Service{
		"not a valid DNS label": {Type: TypeMQTT, Instance: "My Hub", Port: 1883},
		"not a valid port":      {Type: TypeMQTT, Instance: "home"},
		"at most 255 bytes":     {Type: TypeMQTT, Instance: "home", Port: 1883, Text: map[string]string{"name": strings.Repeat("x", 251)}},
		"a key without":         {Type: TypeMQTT, Instance: "home", Port: 1883, Text: map[string]string{"a=b": ""}},
	} {
		err := Announce(t.Context(), nil, slog.New(slog.NewTextHandler(io.Discard, nil)), s)
		if err == nil || !strings.Contains(err.Error(), fault) {
			t.Errorf("announcing %+v: %v, want an error with %q", s, err, fault)
		}
	}
}

// A link-local address of IPv6 says nothing without an interface.
func TestFoundLinkLocal(t *testing.T) {
	e := zeroconf.NewServiceEntry("home", TypeDominion, domain)
	e.AddrIPv6 = []net.IP{net.ParseIP("fe80::1")}
	got := toFound(e, []net.Interface{{Name: "eth0"}, {Name: "wlan0"}}).Addresses
	want := []netip.Addr{netip.MustParseAddr("fe80::1%eth0"), netip.MustParseAddr("fe80::1%wlan0")}
	if !slices.Equal(got, want) {
		t.Errorf("found %v, want %v", got, want)
	}
	e.AddrIPv4 = []net.IP{net.ParseIP("10.0.0.1")}
	if got := toFound(e, []net.Interface{{Name: "eth0"}}).Addresses; len(got) != 1 || got[0].String() != "10.0.0.1" {
		t.Errorf("found %v, want the IPv4 address alone", got)
	}
}
