package locate

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/jmbarzee/dominion/broker/zeroconf"
)

func announced(text map[string]string, addresses ...string) zeroconf.Found {
	f := zeroconf.Found{Port: 1883, Text: text}
	for _, a := range addresses {
		f.Addresses = append(f.Addresses, netip.MustParseAddr(a))
	}
	return f
}

func TestURLs(t *testing.T) {
	for _, c := range []struct {
		found zeroconf.Found
		want  string
	}{
		{announced(nil, "fe80::1", "2001:db8::1", "192.0.2.1"), "mqtt://192.0.2.1:1883 mqtt://[2001:db8::1]:1883"},
		{announced(nil, "fe80::1%eth0"), "mqtt://[fe80::1%25eth0]:1883"},
		{announced(map[string]string{"tls": "1"}, "192.0.2.1"), "mqtts://192.0.2.1:1883"},
		{announced(map[string]string{"broker": "mqtts://hub@broker.lan"}, "192.0.2.1"), "mqtts://broker.lan:8883"},
		{announced(map[string]string{"broker": "mqtt://broker.lan:99"}), "mqtt://broker.lan:99"},
		{announced(map[string]string{"broker": "mqtt://a.lan:99", "brokers": "mqtts://b.lan,http://c.lan,mqtt://a.lan:99"}), "mqtt://a.lan:99 mqtts://b.lan:8883"},
		{announced(map[string]string{"broker": "http://broker.lan"}), ""},
		{announced(map[string]string{"broker": "mqtts://broker.lan/x"}), ""},
		{announced(map[string]string{"broker": "mqtts://broker.lan:0"}), ""},
		{announced(map[string]string{"broker": "mqtts://:8883"}), ""},
		{announced(nil, "192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4", "192.0.2.5", "192.0.2.6", "192.0.2.7"), "mqtt://192.0.2.1:1883 mqtt://192.0.2.2:1883 mqtt://192.0.2.3:1883 mqtt://192.0.2.4:1883 mqtt://192.0.2.5:1883 mqtt://192.0.2.6:1883"},
	} {
		if got := strings.Join(URLs(c.found), " "); got != c.want {
			t.Errorf("%v: %q, want %q", c.found, got, c.want)
		}
	}
}

// A password goes by TLS alone, to who has a certificate of a pinned authority
// for a name that the announcement cannot have bought.
func TestAllow(t *testing.T) {
	plain, secure := "mqtt://192.168.1.2:1883", "mqtts://192.168.1.2:8883"
	for _, c := range []struct {
		credentials Credentials
		urls        []string
		want        []string
		reason      string
	}{
		{Credentials{}, []string{secure, plain}, []string{plain, secure}, ""},
		{Credentials{}, []string{"mqtts://attacker.example.org:8883"}, []string{"mqtts://attacker.example.org:8883"}, ""},
		{Credentials{Pinned: true}, []string{plain, secure}, []string{secure}, ""},
		{Credentials{Pinned: true}, []string{plain}, nil, "without TLS: it is not joined"},
		{Credentials{Password: true}, []string{plain}, nil, "without TLS: a password is not sent there"},
		{Credentials{Password: true}, []string{plain, secure}, nil, "without TLS"},
		{Credentials{Password: true}, []string{secure}, nil, "no cafile"},
		{Credentials{Password: true}, []string{"mqtts://attacker.example.org:8883"}, nil, "no cafile"},
		{Credentials{Password: true, Pinned: true}, []string{plain, secure}, []string{secure}, ""},
		{Credentials{Password: true, Pinned: true}, []string{"mqtts://attacker.example.org:8883"}, nil, "anyone can get a certificate"},
		{Credentials{Password: true, Pinned: true}, []string{"mqtts://8.8.8.8:8883"}, nil, "anyone"},
		{Credentials{Password: true, Pinned: true}, []string{"mqtts://[2606:4700::1]:8883"}, nil, "anyone"},
		{Credentials{Password: true, Pinned: true}, []string{"mqtts://notlocal:8883", "mqtts://pi.local.:8883", "mqtts://[fd00::1]:8883", "mqtts://[fe80::1%25eth0]:8883"}, []string{"mqtts://notlocal:8883", "mqtts://pi.local.:8883", "mqtts://[fd00::1]:8883", "mqtts://[fe80::1%25eth0]:8883"}, ""},
		{Credentials{Password: true, Pinned: true}, []string{"mqtts://evillocal.org:8883", "mqtts://xlan.com:8883"}, nil, "anyone"},
		{Credentials{Password: true}, nil, nil, ""},
	} {
		got, reason := c.credentials.Allow(c.urls)
		if !slices.Equal(got, c.want) {
			t.Errorf("%+v %q: %q, want %q", c.credentials, c.urls, got, c.want)
		}
		if (reason == nil) != (c.reason == "") || reason != nil && !strings.Contains(reason.Error(), c.reason) {
			t.Errorf("%+v %q: reason %v, want %q", c.credentials, c.urls, reason, c.reason)
		}
	}
}
