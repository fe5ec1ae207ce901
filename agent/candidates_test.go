package agent

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/jmbarzee/dominion/broker/zeroconf"
	"github.com/jmbarzee/dominion/topics"
)

// found returns what zeroconf finds of a dominion; more changes its text.
func found(id, name, address string, more ...string) zeroconf.Found {
	f := zeroconf.Found{
		Instance: name, Port: 1883,
		Text: map[string]string{"id": id, "name": name, "version": "1.0.0", "protocol": topics.Protocol, "tls": "0", "prefix": "dominion"},
	}
	for a := range strings.FieldsSeq(address) {
		f.Addresses = append(f.Addresses, netip.MustParseAddr(a))
	}
	for _, kv := range more {
		k, v, _ := strings.Cut(kv, "=")
		f.Text[k] = v
	}
	return f
}

func TestChoose(t *testing.T) {
	type all = []zeroconf.Found
	home, villa := found("d1", "home", "192.0.2.1"), found("d2", "villa", "192.0.2.2")
	secure := found("d1", "home", "192.0.2.1", "tls=1")
	secure.Port = 8883
	known := wish{known: identity{"d1", "home"}}
	for _, c := range []struct {
		name    string
		found   all
		wish    wish
		want    string
		problem string
	}{
		{"nothing", nil, wish{}, "", ""},
		{"the only one", all{home}, wish{}, "mqtt://192.0.2.1:1883", ""},
		{"several", all{home, villa}, wish{}, "", `several dominions are here, "home", "villa"`},
		{"the named one of several", all{home, villa}, wish{name: "villa"}, "mqtt://192.0.2.2:1883", ""},
		{"the named one is not here", all{home}, wish{name: "villa"}, "", `"villa" is not here`},
		{"the named one beats the known", all{home, villa}, wish{name: "villa", known: known.known}, "mqtt://192.0.2.2:1883", ""},
		{"the known one of several", all{villa, home}, known, "mqtt://192.0.2.1:1883", ""},
		{"another than the known", all{villa}, known, "", "belongs to"},
		{"the known one installed anew", all{found("d9", "home", "192.0.2.9"), villa}, known, "mqtt://192.0.2.9:1883", ""},
		{"two of one name", all{home, found("d9", "home", "192.0.2.9")}, wish{name: "home"}, "", "different names"},
		{"two of one name, one known", all{found("d9", "home", "192.0.2.9"), home}, wish{name: "home", known: known.known}, "mqtt://192.0.2.1:1883", ""},
		{"IPv4 first, no address without its link", all{found("d1", "home", "fe80::1 2001:db8::1 192.0.2.1")}, wish{}, "mqtt://192.0.2.1:1883 mqtt://[2001:db8::1]:1883", ""},
		{"no TLS unless it can be checked", all{secure, home}, wish{}, "mqtt://192.0.2.1:1883 mqtts://192.0.2.1:8883", ""},
		{"TLS where it can be checked", all{home, secure}, wish{preferTLS: true}, "mqtts://192.0.2.1:8883 mqtt://192.0.2.1:1883", ""},
		{"a password goes encrypted alone", all{home, secure}, wish{password: true}, "mqtts://192.0.2.1:8883", ""},
		{"a password does not go in the clear", all{home}, wish{password: true}, "", "a password is not sent there"},
		{"an external broker", all{found("d1", "home", "192.0.2.1", "broker=mqtts://hub@broker.lan:8883")}, wish{}, "mqtts://broker.lan:8883", ""},
		{"an external broker in the clear with a password", all{found("d1", "home", "192.0.2.1", "broker=mqtt://broker.lan")}, wish{password: true}, "", "not sent"},
		{"an external broker that is none", all{found("d1", "home", "192.0.2.1", "broker=http://broker.lan")}, wish{}, "", ""},
		{"another protocol", all{found("d1", "home", "192.0.2.1", "protocol=2.0")}, wish{}, "", "protocol"},
		{"another prefix", all{found("d1", "home", "192.0.2.1", "prefix=other")}, wish{}, "", "topic_prefix"},
		{"somebody else's", all{{Instance: "robot", Port: 1883}}, wish{}, "", ""},
	} {
		c.wish.prefix = "dominion"
		got, problem := choose(c.found, c.wish)
		var urls []string
		for _, g := range got {
			urls = append(urls, g.url)
		}
		if s := strings.Join(urls, " "); s != c.want {
			t.Errorf("%s: %q, want %q", c.name, s, c.want)
		}
		if !strings.Contains(problem, c.problem) || (c.problem == "") != (problem == "") {
			t.Errorf("%s: problem %q, want %q", c.name, problem, c.problem)
		}
	}
}
