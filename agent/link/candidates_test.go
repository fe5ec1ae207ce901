package link

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/jmbarzee/dominion/broker/locate"
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
	secure := found("d1", "home", "192.168.0.1", "tls=1")
	secure.Port = 8883
	known := joinPolicy{previous: Dominion{"d1", "home"}}
	password, pinned := joinPolicy{credentials: locate.Credentials{Password: true}}, joinPolicy{credentials: locate.Credentials{Pinned: true}}
	both := joinPolicy{credentials: locate.Credentials{Password: true, Pinned: true}}
	const uuid = "3f2b8c1e-0000-4000-8000-000000000009"
	for _, c := range []struct {
		name    string
		found   all
		wish    joinPolicy
		want    string
		problem string
	}{
		{"nothing", nil, joinPolicy{}, "", ""},
		{"the only one", all{home}, joinPolicy{}, "mqtt://192.0.2.1:1883", ""},
		{"several", all{home, villa}, joinPolicy{}, "", `several dominions are here, "home", "villa"`},
		{"the named one of several", all{home, villa}, joinPolicy{name: "villa"}, "mqtt://192.0.2.2:1883", ""},
		{"the named one is not here", all{home}, joinPolicy{name: "villa"}, "", `"villa" is not here`},
		{"the named one beats the known", all{home, villa}, joinPolicy{name: "villa", previous: known.previous}, "mqtt://192.0.2.2:1883", ""},
		{"the known one of several", all{villa, home}, known, "mqtt://192.0.2.1:1883", ""},
		{"another than the known", all{villa}, known, "", "belongs to"},
		{"another one of the known one's name", all{found("d9", "home", "192.0.2.9"), villa}, known, "", "belongs to"},
		{"another one of the known and named one's name", all{found("d9", "home", "192.0.2.9")}, joinPolicy{name: "home", previous: known.previous}, "", "belongs to"},
		{"another one that the configuration names by its id", all{found(uuid, "home", "192.0.2.9"), home}, joinPolicy{name: uuid, previous: known.previous}, "mqtt://192.0.2.9:1883", ""},
		{"the known one by its id", all{found("d9", "home", "192.0.2.9"), home}, joinPolicy{name: "d1", previous: known.previous}, "mqtt://192.0.2.1:1883", ""},
		{"one that has an id as its name", all{found("d9", uuid, "192.0.2.9")}, joinPolicy{name: uuid, previous: known.previous}, "", "is not here"},
		{"two of one name", all{home, found("d9", "home", "192.0.2.9")}, joinPolicy{name: "home"}, "", "different names, or set dominion to the id of one, d1 or d9"},
		{"two of one name, one known", all{found("d9", "home", "192.0.2.9"), home}, joinPolicy{name: "home", previous: known.previous}, "mqtt://192.0.2.1:1883", ""},
		{"IPv4 first, no address without its link", all{found("d1", "home", "fe80::1 2001:db8::1 192.0.2.1")}, joinPolicy{}, "mqtt://192.0.2.1:1883 mqtt://[2001:db8::1]:1883", ""},
		{"no TLS unless it can be checked", all{secure, home}, joinPolicy{}, "mqtt://192.0.2.1:1883 mqtts://192.168.0.1:8883", ""},
		{"TLS alone where it can be checked", all{home, secure}, pinned, "mqtts://192.168.0.1:8883", ""},
		{"a password goes encrypted alone", all{home, secure}, both, "mqtts://192.168.0.1:8883", ""},
		{"a password does not go in the clear", all{home}, password, "", "a password is not sent there"},
		{"a password goes to a pinned authority alone", all{home, secure}, password, "", "a password is not sent there"},
		{"an external broker", all{found("d1", "home", "192.0.2.1", "broker=mqtts://hub@broker.lan:8883")}, joinPolicy{}, "mqtts://broker.lan:8883", ""},
		{"an external broker in the clear with a password", all{found("d1", "home", "192.0.2.1", "broker=mqtt://broker.lan")}, both, "", "not sent"},
		{"an external broker of the announcement's choice with a password", all{found("d1", "home", "192.0.2.1", "broker=mqtts://attacker.example.org")}, both, "", "not sent"},
		{"an external broker that is none", all{found("d1", "home", "192.0.2.1", "broker=http://broker.lan")}, joinPolicy{}, "", ""},
		{"another protocol", all{found("d1", "home", "192.0.2.1", "protocol=2.0")}, joinPolicy{}, "", "protocol"},
		{"another prefix", all{found("d1", "home", "192.0.2.1", "prefix=other")}, joinPolicy{}, "", "topic_prefix"},
		{"somebody else's", all{{Instance: "robot", Port: 1883}}, joinPolicy{}, "", ""},
	} {
		c.wish.prefix = "dominion"
		got, problem, _ := choose(c.found, c.wish)
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
